//! What people may call themselves, and when two names are one.
//!
//! A username is compared by its [fold](Username::fold) (NFKC, then case), so `Ann` and `ann` are one person. It is *claimed* by
//! how it looks: [`Username::looks`] gives the skeletons of UTS #39 section 4 of the name as written and of its fold, and the store
//! lets nobody else have a name that shares one. `paypaI` (capital i) therefore cannot stand beside `paypal`, nor `0le` beside `Ole`,
//! nor a Cyrillic `аnn` beside a Latin one; the last is refused already because it mixes scripts (UTS #39 section 5.2, Highly
//! Restrictive).
//!
//! E-mail addresses are compared by [`EmailAddress::key`]. Two different ASCII addresses are two mailboxes even where they look alike
//! (`mary@` and `rnary@`), so looks decide only beyond ASCII: an address that looks like an ASCII one without being it is refused.

use std::fmt;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::{RestrictionLevel, RestrictionLevelDetection, skeleton};

/// Fewest and most characters of a username, in NFKC.
pub const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 3..=30;
/// Most bytes of a username: 30 characters of up to four bytes.
const USERNAME_BYTES_MAX: usize = 120;
/// Most bytes of an e-mail address (RFC 5321 section 4.5.3.1.3, less the brackets).
const EMAIL_BYTES_MAX: usize = 254;
/// Most bytes before the `@` (RFC 5321 section 4.5.3.1.1).
const EMAIL_LOCAL_BYTES_MAX: usize = 64;
/// Most characters and bytes of a display name.
const DISPLAY_CHARS_MAX: usize = 50;
const DISPLAY_BYTES_MAX: usize = 200;
/// Most characters and bytes of what a user tells about themself.
const BIO_CHARS_MAX: usize = 500;
const BIO_BYTES_MAX: usize = 2_000;
/// Most combining marks on one character: written languages stay below, text that climbs out of its line does not.
const MARKS_IN_A_ROW_MAX: usize = 2;

/// Names that would speak for the engine or for whoever runs it, by their looks.
const RESERVED: &[&str] = &[
    "about",
    "abuse",
    "account",
    "accounts",
    "admin",
    "administrator",
    "all",
    "anonymous",
    "api",
    "billing",
    "channel",
    "console",
    "contact",
    "deleted",
    "docs",
    "everyone",
    "guest",
    "help",
    "here",
    "host",
    "hostmaster",
    "info",
    "livez",
    "login",
    "logout",
    "mail",
    "me",
    "metrics",
    "moderator",
    "moderators",
    "news",
    "nobody",
    "noreply",
    "no-reply",
    "nova",
    "null",
    "official",
    "operator",
    "owner",
    "postmaster",
    "readyz",
    "register",
    "root",
    "security",
    "service",
    "settings",
    "signup",
    "staff",
    "status",
    "support",
    "sysadmin",
    "system",
    "team",
    "test-admin",
    "undefined",
    "unknown",
    "user",
    "users",
    "verified",
    "webmaster",
    "www",
];

/// Why a name cannot be had; prints as what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Too short or too long.
    #[error("it must have 3 to 30 characters")]
    UsernameLength,
    /// A character no name has.
    #[error("use letters and digits, and single . _ - between them")]
    UsernameCharacter,
    /// Letters of several scripts.
    #[error("use the letters of one script")]
    MixedScripts,
    /// The engine or its operators speak under this name.
    #[error("this name is reserved")]
    Reserved,
    /// Not an address mail can be sent to.
    #[error("it must be an e-mail address such as ann@example.org")]
    Email,
    /// Looks like another address.
    #[error("this address looks like another one; use the letters of one script")]
    EmailLooks,
    /// A text with nothing to read in it.
    #[error("it must not be empty")]
    Empty,
    /// A text beyond its bounds.
    #[error("it must have at most {chars_max} characters")]
    TextLength {
        /// The bound.
        chars_max: usize,
    },
    /// Controls, or marks that change the direction of what follows.
    #[error("it has a character that cannot be shown")]
    TextCharacter,
}

/// A name somebody may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username {
    text: String,
    fold: String,
}

impl Username {
    /// Reads a name as typed.
    pub fn parse(typed: &str) -> Result<Username, NameError> {
        if typed.len() > USERNAME_BYTES_MAX {
            return Err(NameError::UsernameLength);
        }
        let text: String = typed.nfkc().collect();
        if !USERNAME_CHARS.contains(&text.chars().count()) {
            return Err(NameError::UsernameLength);
        }
        check_username_characters(&text)?;
        let plain: String = text.chars().filter(|c| !is_separator(*c)).collect();
        if !plain.as_str().check_restriction_level(RestrictionLevel::HighlyRestrictive) {
            return Err(NameError::MixedScripts);
        }
        let name = Username { fold: fold(&text), text };
        if name.is_reserved() {
            return Err(NameError::Reserved);
        }
        Ok(name)
    }

    /// As typed, in NFKC.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What names are compared and found by.
    pub fn fold(&self) -> &str {
        &self.fold
    }

    /// What nobody else's name may look like, one or two texts.
    pub fn looks(&self) -> Vec<String> {
        let mut looks = vec![look(&self.text), look(&self.fold)];
        looks.dedup();
        looks
    }

    fn is_reserved(&self) -> bool {
        let looks = self.looks();
        RESERVED.iter().any(|reserved| *reserved == self.fold || looks.contains(&look(reserved)))
    }
}

/// What a typed name or e-mail is looked up by; total, because it is asked with whatever strangers send.
pub fn login_key(typed: &str) -> String {
    // Nobody is found by controls, and PostgreSQL takes no zero byte.
    let text: String = typed.chars().filter(|c| !c.is_control()).take(EMAIL_BYTES_MAX).collect();
    match text.contains('@') {
        true => EmailAddress::parse(&text).map_or_else(|_| fold(&text), |email| email.key),
        false => fold(&text.nfkc().collect::<String>()),
    }
}

fn check_username_characters(text: &str) -> Result<(), NameError> {
    let mut marks = 0;
    let mut before = '.';
    for c in text.chars() {
        if is_combining_mark(c) {
            marks += 1;
            if marks > MARKS_IN_A_ROW_MAX || is_separator(before) {
                return Err(NameError::UsernameCharacter);
            }
            continue;
        }
        marks = 0;
        // A separator stands between two characters, so one at the start or after another is refused alike.
        if is_separator(c) && is_separator(before) || !is_separator(c) && !c.is_alphanumeric() {
            return Err(NameError::UsernameCharacter);
        }
        before = c;
    }
    if is_separator(before) { Err(NameError::UsernameCharacter) } else { Ok(()) }
}

fn is_separator(c: char) -> bool {
    matches!(c, '.' | '_' | '-')
}

/// Folds case without regard to language or place in the word: at least as coarse as Unicode's full case folding, so `ß` is `ss`, and
/// both small sigmas are one.
fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

fn look(text: &str) -> String {
    fold(&skeleton(text).collect::<String>())
}

/// An address mail can be sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct EmailAddress {
    text: String,
    key: String,
}

impl EmailAddress {
    /// Reads an address as typed: `local@domain`, the local part a dot-atom (RFC 5321 section 4.1.2, RFC 6531), the domain a name with
    /// at least one dot. Quoted local parts, comments and address literals are refused: nobody has them.
    pub fn parse(typed: &str) -> Result<EmailAddress, NameError> {
        let typed = typed.trim();
        if typed.len() > EMAIL_BYTES_MAX {
            return Err(NameError::Email);
        }
        let (local, domain) = typed.rsplit_once('@').ok_or(NameError::Email)?;
        let local: String = local.nfkc().collect();
        if local.is_empty() || local.len() > EMAIL_LOCAL_BYTES_MAX || !local.split('.').all(is_atom) {
            return Err(NameError::Email);
        }
        let domain = domain_ascii(domain)?;
        let folded = fold(&local);
        let local_key = if local.is_ascii() {
            folded
        } else {
            let plain: String = local.chars().filter(|c| c.is_alphanumeric()).collect();
            let looks = look(&folded);
            if looks.is_ascii()
                || !plain.as_str().check_restriction_level(RestrictionLevel::HighlyRestrictive)
            {
                return Err(NameError::EmailLooks);
            }
            looks
        };
        let (text, key) = (format!("{local}@{domain}"), format!("{local_key}@{domain}"));
        if text.len() > EMAIL_BYTES_MAX { Err(NameError::Email) } else { Ok(EmailAddress { text, key }) }
    }

    /// As typed, the domain in its ASCII form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What addresses are compared by.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Personal data prints masked.
impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(***)")
    }
}

fn is_atom(atom: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || is_combining_mark(c) || "!#$%&'*+-/=?^_`{|}~".contains(c);
    !atom.is_empty() && atom.chars().all(fits)
}

fn domain_ascii(domain: &str) -> Result<String, NameError> {
    let Ok(url::Host::Domain(ascii)) = url::Host::parse(domain) else { return Err(NameError::Email) };
    let labels: Vec<&str> = ascii.split('.').collect();
    let is_label = |label: &&str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = labels.last().copied().unwrap_or_default();
    if labels.len() < 2 || !labels.iter().all(is_label) || last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NameError::Email);
    }
    if domain.is_ascii() {
        return Ok(ascii);
    }
    for label in domain.nfkc().collect::<String>().split('.').filter(|label| !label.is_ascii()) {
        let plain: String = label.chars().filter(|c| *c != '-').collect();
        if look(label).is_ascii()
            || !plain.as_str().check_restriction_level(RestrictionLevel::HighlyRestrictive)
        {
            return Err(NameError::EmailLooks);
        }
    }
    Ok(ascii)
}

/// Reads a display name as typed: one line, spaces collapsed, in NFC.
pub fn display_name(typed: &str) -> Result<String, NameError> {
    let name = text(typed, false, DISPLAY_CHARS_MAX, DISPLAY_BYTES_MAX)?;
    if name.is_empty() { Err(NameError::Empty) } else { Ok(name) }
}

/// Reads what a user tells about themself: lines of text, in NFC; may be empty.
pub fn bio(typed: &str) -> Result<String, NameError> {
    text(typed, true, BIO_CHARS_MAX, BIO_BYTES_MAX)
}

/// Reads the name a device was given; the same bounds as a display name, and a name for those without.
pub fn device_name(typed: Option<&str>) -> Result<String, NameError> {
    let name = text(typed.unwrap_or_default(), false, DISPLAY_CHARS_MAX, DISPLAY_BYTES_MAX)?;
    Ok(if name.is_empty() { "Unnamed device".to_owned() } else { name })
}

fn text(typed: &str, lines: bool, chars_max: usize, bytes_max: usize) -> Result<String, NameError> {
    let too_long = NameError::TextLength { chars_max };
    // Normalisation may shrink a text, never by as much as this; nothing larger is worth the work.
    if typed.len() > 4 * bytes_max {
        return Err(too_long);
    }
    let typed: String = typed.nfc().collect();
    let clean = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = if lines {
        typed.lines().map(clean).collect::<Vec<_>>().join("\n").trim().to_owned()
    } else {
        clean(&typed)
    };
    let mut marks = 0;
    for c in text.chars() {
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        if marks > MARKS_IN_A_ROW_MAX || is_unshowable(c) && !(lines && c == '\n') {
            return Err(NameError::TextCharacter);
        }
    }
    if text.chars().count() > chars_max || text.len() > bytes_max { Err(too_long) } else { Ok(text) }
}

/// Controls, direction overrides and isolates, invisible operators, private use, tags and non-characters. The joiners stay: Persian
/// needs the one, families of emoji the other.
fn is_unshowable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}'
            | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}')
        || u32::from(c) & 0xfffe == 0xfffe
        || ('\u{fdd0}'..='\u{fdef}').contains(&c)
}

#[cfg(test)]
mod tests;
