//! Second factors: codes of an authenticator (RFC 6238) and the recovery codes for the day it is lost.
//!
//! Codes have six digits, 30 seconds and SHA-1, because that is what every authenticator understands. One step back and one ahead are
//! accepted. A step is accepted once: the store keeps the newest accepted one and refuses it and all before it. Guessing is bounded by
//! the store too, over all nodes: see [`wait_after`].

use std::time::Duration;

use time::OffsetDateTime;
use totp_rs::{Algorithm, Builder, Secret, Totp};

use super::refresh::{Hash, hash};

/// 160 bits, as RFC 4226 section 4 recommends.
const SECRET_LEN: usize = 20;
const DIGITS: u8 = 6;
const STEP_S: u64 = 30;
const STEPS_OFF_MAX: u16 = 1;
/// How many recovery codes are given.
pub const RECOVERY_CODES: usize = 10;
/// Random characters of a recovery code, five bits each.
const RECOVERY_CHARS: usize = 16;
/// Crockford's: nothing in it is mistaken for something else.
const RECOVERY_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Wrong codes that cost nothing: one mistypes.
const FREE_FAILURES: u32 = 5;

/// What was given in the place of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// Six digits of an authenticator.
    Totp(String),
    /// A recovery code, hashed.
    Recovery(Hash),
}

impl Code {
    /// Reads a code as typed, with or without spaces and dashes; `None` when it cannot be one.
    pub fn read(typed: &str) -> Option<Code> {
        if typed.len() > 64 {
            return None;
        }
        let plain: String =
            typed.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_ascii_lowercase()).collect();
        if plain.len() == usize::from(DIGITS) && plain.bytes().all(|b| b.is_ascii_digit()) {
            return Some(Code::Totp(plain));
        }
        let is_recovery =
            plain.len() == RECOVERY_CHARS && plain.bytes().all(|b| RECOVERY_ALPHABET.contains(&b));
        is_recovery.then(|| Code::Recovery(hash(plain.as_bytes())))
    }
}

/// A new secret.
pub fn generate_secret() -> Vec<u8> {
    let mut secret = vec![0; SECRET_LEN];
    getrandom::fill(&mut secret).expect("an operating system without randomness can run nothing of this");
    secret
}

/// The secret as authenticators take it when typed: base32 (RFC 4648).
pub fn secret_text(secret: &[u8]) -> String {
    Secret::from(secret).to_base32()
}

/// The `otpauth://` address to show as a QR code.
pub fn url(secret: &[u8], issuer: &str, account: &str) -> String {
    // Colons separate the two in the address; neither may have one.
    let [issuer, account] = [issuer, account].map(|text| text.replace(':', " "));
    let builder = builder(secret).with_issuer(Some(issuer)).with_account_name(account);
    builder.build_noncompliant().to_url().unwrap_or_default()
}

/// The time step whose code `digits` is at `now`, if it is one.
pub fn step_of(secret: &[u8], digits: &str, now: OffsetDateTime) -> Option<i64> {
    let now_s = u64::try_from(now.unix_timestamp()).ok()?;
    builder(secret).build_noncompliant().check(digits, now_s).and_then(|step| i64::try_from(step).ok())
}

fn builder(secret: &[u8]) -> Builder {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_step_duration(STEP_S)
        .with_skew(STEPS_OFF_MAX)
        .with_secret(secret)
}

/// The code an authenticator with `secret` shows at `now`; for tests and for nothing else.
#[doc(hidden)]
pub fn code_at(secret: &[u8], now: OffsetDateTime) -> String {
    let totp: Totp = builder(secret).build_noncompliant();
    totp.generate(u64::try_from(now.unix_timestamp()).unwrap_or(0)).to_string()
}

/// New recovery codes as shown (`7k3m-…`), each with what is stored of it. 80 random bits each.
pub fn recovery_codes() -> Vec<(String, Hash)> {
    let code = |_| {
        let mut bytes = [0_u8; RECOVERY_CHARS];
        getrandom::fill(&mut bytes).expect("an operating system without randomness can run nothing of this");
        let letter =
            |byte: &u8| char::from(RECOVERY_ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or(b'0'));
        let plain: String = bytes.iter().map(letter).collect();
        let mut shown = String::new();
        for (at, c) in plain.chars().enumerate() {
            if at > 0 && at % 4 == 0 {
                shown.push('-');
            }
            shown.push(c);
        }
        (shown, hash(plain.as_bytes()))
    };
    (0..RECOVERY_CODES).map(code).collect()
}

/// How long no further code is looked at after so many wrong ones in a row: nothing for five, then a minute, doubling up to an hour.
/// Guessing three valid codes of a million at that pace takes some forty years.
pub fn wait_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None => Duration::ZERO,
        Some(more) => Duration::from_secs(60 << more.min(6)).min(Duration::from_secs(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::Duration as Span;
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-01-02 12:00:10 UTC);

    #[test]
    fn the_codes_are_those_of_the_rfc() {
        // RFC 6238 appendix B, SHA-1, the last six of eight digits.
        for (at, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000_i64, "353130")] {
            let at = OffsetDateTime::from_unix_timestamp(at).unwrap();
            assert_eq!(code_at(b"12345678901234567890", at), code);
            assert!(step_of(b"12345678901234567890", code, at).is_some());
        }
    }

    #[test]
    fn a_code_is_good_one_step_around_its_own() {
        let secret = generate_secret();
        let code = code_at(&secret, NOON);
        let step = NOON.unix_timestamp() / 30;
        for (off, found) in [(-60, None), (-30, Some(step)), (0, Some(step)), (30, Some(step)), (60, None)] {
            assert_eq!(step_of(&secret, &code, NOON + Span::seconds(off)), found, "{off}");
        }
        assert_eq!(step_of(&generate_secret(), &code, datetime!(1969-01-01 0:00 UTC)), None);
    }

    #[test]
    fn the_address_is_what_authenticators_read() {
        let url = url(b"12345678901234567890", "Nova: here", "ann");
        assert!(url.starts_with("otpauth://totp/"), "{url}");
        assert!(url.contains("secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"), "{url}");
        assert!(url.contains("issuer=Nova"), "{url}");
        assert_eq!(secret_text(b"12345678901234567890"), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    }

    #[test]
    fn recovery_codes_are_read_as_people_type_them() {
        let codes = recovery_codes();
        assert_eq!(codes.len(), RECOVERY_CODES);
        for (shown, hash) in &codes {
            assert_eq!(shown.len(), 19, "{shown}");
            let spaced = shown.replace('-', " ").to_uppercase();
            for typed in [shown, &spaced, &shown.replace('-', "")] {
                assert_eq!(Code::read(typed), Some(Code::Recovery(*hash)));
            }
        }
        assert_eq!(Code::read("123 456"), Some(Code::Totp("123456".to_owned())));
        for typed in ["", "12345", "1234567", "abcdef", "ilou-ilou-ilou-ilou", &"1".repeat(1 << 20)] {
            assert_eq!(Code::read(typed), None);
        }
    }

    #[test]
    fn guessing_becomes_slow() {
        assert_eq!(wait_after(4), Duration::ZERO);
        assert_eq!(wait_after(5), Duration::from_secs(60));
        assert_eq!(wait_after(6), Duration::from_secs(120));
        assert_eq!(wait_after(11), Duration::from_secs(3_600));
        assert_eq!(wait_after(u32::MAX), Duration::from_secs(3_600));
    }

    proptest! {
        #[test]
        fn nothing_typed_panics(typed in any::<String>(), seconds in any::<i32>()) {
            let now = OffsetDateTime::from_unix_timestamp(i64::from(seconds)).unwrap();
            if let Some(Code::Totp(digits)) = Code::read(&typed) {
                step_of(b"12345678901234567890", &digits, now);
            }
            step_of(b"12345678901234567890", &typed, now);
        }
    }
}
