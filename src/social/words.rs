//! What a text says beyond its letters: tags (`#Lighthouse`), people (`@ann`), and what must not be in it.
//!
//! Words are Unicode's: letters and digits of every script, marks, and `_`. A tag is compared in NFKC without case, so `#Straße`,
//! `#STRASSE` and `＃strasse` are one. A sign begins a tag or a name only where no word is under way: `ann@example.org` names nobody.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::{MENTIONS_MAX, TAGS_MAX};
use crate::error::{ApiError, FieldError};
use crate::identity::names::{USERNAME_CHARS, login_key};

/// Characters of a tag at most; what is longer is no tag.
const TAG_CHARS_MAX: usize = 64;
/// Marks on one letter at most; text that climbs out of its line has more.
const MARKS_IN_A_ROW_MAX: usize = 8;

/// The tags and names in a text, each once, in the form they are compared by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Without the sign, in the order they first stand in.
    pub tags: Vec<String>,
    /// Usernames as they are looked up, without the sign.
    pub names: Vec<String>,
}

/// Reads a text.
pub fn find(text: &str) -> Found {
    let mut found = Found::default();
    let (mut tags, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut rest = text;
    let mut in_word = false;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        let sign = match c {
            '#' | '＃' if !in_word => Some('#'),
            '@' | '＠' if !in_word => Some('@'),
            _ => None,
        };
        let word: &str = match sign {
            Some('#') => prefix(after, is_word),
            Some(_) => {
                prefix(after, |c| is_word(c) || matches!(c, '.' | '-')).trim_end_matches(['.', '-', '_'])
            }
            None => "",
        };
        match sign {
            Some('#') => {
                if let Some(tag) = tag(word)
                    && tags.insert(tag.clone())
                {
                    found.tags.push(tag);
                }
            }
            Some(_) if USERNAME_CHARS.contains(&word.chars().count()) => {
                let name = login_key(word);
                if names.insert(name.clone()) {
                    found.names.push(name);
                }
            }
            _ => {}
        }
        in_word = is_word(c) || !word.is_empty();
        rest = after.get(word.len()..).unwrap_or_default();
    }
    found
}

/// A tag as it is compared; `None` when it is none: empty, too long, or digits alone (`#1`).
pub fn tag(typed: &str) -> Option<String> {
    let word: String =
        typed.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect();
    let fits = (1..=TAG_CHARS_MAX).contains(&word.chars().count());
    (fits && word.chars().all(is_word) && word.chars().any(char::is_alphabetic)).then_some(word)
}

/// The text as it is kept, with what was found in it, or what is wrong with it.
///
/// # Errors
/// `invalid_fields` for `text`: nothing to read, too long, characters that cannot be shown, too many tags or names.
pub fn read(text: &str, chars_max: usize) -> Result<(String, Found), ApiError> {
    let wrong = |message: String| Err(ApiError::field("text", message));
    // Normalisation shrinks a text by less than this; nothing longer is worth the work.
    if text.len() > chars_max * 16 || text.chars().count() > chars_max * 4 {
        return wrong(format!("must have at most {chars_max} characters"));
    }
    let text: String = text.nfc().collect::<String>().replace("\r\n", "\n");
    let text = text.trim().to_owned();
    if text.chars().all(|c| c.is_whitespace() || is_combining_mark(c) || is_invisible(c)) {
        return wrong("must not be empty".to_owned());
    }
    if text.chars().count() > chars_max {
        return wrong(format!("must have at most {chars_max} characters"));
    }
    if let Some(why) = unshowable(&text) {
        return wrong(why.to_owned());
    }
    let found = find(&text);
    if found.tags.len() > TAGS_MAX {
        return wrong(format!("must have at most {TAGS_MAX} different tags"));
    }
    if found.names.len() > MENTIONS_MAX {
        return wrong(format!("must name at most {MENTIONS_MAX} different people"));
    }
    Ok((text, found))
}

/// Tags given beside the text, joined with those found in it.
///
/// # Errors
/// `invalid_fields` for `tags`.
pub fn join_tags(found: Vec<String>, given: &[String]) -> Result<Vec<String>, ApiError> {
    let mut tags = found;
    if given.len() > TAGS_MAX {
        return Err(ApiError::field("tags", format!("must be at most {TAGS_MAX}")));
    }
    let mut wrong = Vec::new();
    for (nth, typed) in given.iter().enumerate() {
        let typed = typed.trim();
        // Nothing of an absurd length is normalised.
        let short = typed.len() <= TAG_CHARS_MAX * 4;
        match tag(if short { typed.strip_prefix(['#', '＃']).unwrap_or(typed) } else { "" }) {
            Some(tag) if tags.contains(&tag) => {}
            Some(tag) => tags.push(tag),
            None => wrong.push(FieldError {
                field: format!("tags.{nth}"),
                message: format!(
                    "must be one word of at most {TAG_CHARS_MAX} letters, digits and _, not of digits alone"
                ),
            }),
        }
    }
    if !wrong.is_empty() {
        return Err(ApiError::fields(wrong));
    }
    if tags.len() > TAGS_MAX {
        return Err(ApiError::field("tags", format!("must be at most {TAGS_MAX} with those in the text")));
    }
    Ok(tags)
}

fn prefix(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || is_combining_mark(c) || c == '\u{200c}'
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
}

/// Why a text cannot be shown among those of others. Languages written from right to left need direction marks, so these are allowed where
/// they end within their line: one that does not would turn what follows the text.
fn unshowable(text: &str) -> Option<&'static str> {
    let (mut marks, mut open) = (0_usize, Vec::new());
    for c in text.chars() {
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        if marks > MARKS_IN_A_ROW_MAX {
            return Some("has too many marks on one letter");
        }
        match c {
            '\n' | '\u{2028}' | '\u{2029}' if !open.is_empty() => {
                return Some("has a direction mark that does not end in its line");
            }
            '\n' | '\t' => {}
            '\u{202a}' | '\u{202b}' | '\u{202d}' | '\u{202e}' => open.push('\u{202c}'),
            '\u{2066}'..='\u{2068}' => open.push('\u{2069}'),
            '\u{202c}' | '\u{2069}' if open.pop() != Some(c) => {
                return Some("has a direction mark that ends without having begun");
            }
            c if c.is_control() => return Some("has a character that cannot be shown"),
            '\u{fff9}'..='\u{fffb}' => return Some("has a character that cannot be shown"),
            _ => {}
        }
        if open.len() > 16 {
            return Some("has too many direction marks in each other");
        }
    }
    if open.is_empty() { None } else { Some("has a direction mark that does not end in its line") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(text: &str) -> Vec<String> {
        find(text).tags
    }

    fn names(text: &str) -> Vec<String> {
        find(text).names
    }

    #[test]
    fn tags_are_words_of_every_script_and_compared_without_case() {
        assert_eq!(tags("#Lighthouse and #lightHOUSE, #nova_2"), ["lighthouse", "nova_2"]);
        assert_eq!(tags("#灯台 ＃海 #Straße #STRASSE #Ελλάς"), ["灯台", "海", "strasse", "ελλάσ"]);
        assert_eq!(tags("#हिन्दी!"), ["हिन्दी"], "marks belong to the word");
        assert!(tags("#1 # ## a#b http://x/#").is_empty());
        assert!(tags(&format!("#{}", "x".repeat(65))).is_empty());
        assert_eq!(tags("(#a)(#b)#c"), ["a", "b", "c"]);
    }

    #[test]
    fn names_end_where_names_end_and_addresses_name_nobody() {
        assert_eq!(names("hello @ann, @Bo.Berg. and @ANN!"), ["ann", "bo.berg"]);
        assert!(names("ann@example.org @a @").is_empty());
        assert_eq!(names("＠さくら様 さん"), ["さくら様"]);
        assert!(names(&format!("@{}", "a".repeat(31))).is_empty());
    }

    #[test]
    fn a_text_is_bounded_and_turns_nothing_round() {
        let read = |text: &str| read(text, 10).map(|(text, _)| text);
        assert_eq!(read("  hello\r\nyou ").expect("fits"), "hello\nyou");
        assert_eq!(read(&"é".repeat(10)).expect("fits").chars().count(), 10);
        for odd in [
            "",
            "  \n ",
            "\u{200b}",
            "a\0",
            "a\u{7}",
            "\u{202e}abc",
            "a\u{202c}",
            "\u{2066}a\nb\u{2069}",
            "elevenchars",
        ] {
            let error = read(odd).expect_err(odd);
            assert_eq!(error.problem("").errors[0].field, "text", "{odd:?}");
        }
        assert!(read("\u{2067}שלום\u{2069}").is_ok(), "a mark that ends is what Hebrew needs");
        assert!(read(&format!("x{}", "\u{330}".repeat(9))).is_err());
    }

    #[test]
    fn ten_thousand_names_are_refused_and_not_looked_up() {
        let text: String = (0..10_000).map(|n| format!("@user{n} ")).collect();
        assert!(read(&text, 200_000).is_err());
        let text: String = (0..31).map(|n| format!("#tag{n} ")).collect();
        assert!(read(&text, 5_000).is_err());
    }

    #[test]
    fn tags_beside_the_text_join_those_in_it() {
        let given = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        let joined = join_tags(vec!["sea".to_owned()], &given(&["#Sea", "Ship"])).expect("fit");
        assert_eq!(joined, ["sea", "ship"]);
        for odd in [&["two words"][..], &[""], &["7"], &["a"; 31]] {
            assert!(join_tags(Vec::new(), &given(odd)).is_err(), "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_read_or_refused(text in "\\PC{0,200}") {
            let found = find(&text);
            prop_assert!(found.tags.iter().all(|tag| super::tag(tag).as_deref() == Some(tag)));
            let _ = read(&text, 100);
        }
    }
}
