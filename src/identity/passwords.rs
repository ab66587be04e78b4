//! Which passwords are taken, and how they are hashed.
//!
//! A password is prepared as an OpaqueString (RFC 8265 section 4.2): other spaces become spaces, then NFC, case kept; so the same keys
//! give the same password on every keyboard. It has at least eight characters, is none of the commonest, and is hashed with Argon2id
//! (RFC 9106) into a PHC string. [`Passwords`] is the bounded pool of threads that hash; nothing else in the engine does.

mod pool;

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;

pub use pool::{Passwords, PoolFull};

/// Fewest characters of a password.
pub const CHARS_MIN: usize = 8;
/// Most bytes of a password: no passphrase is longer, and hashing costs nobody more than it should.
pub const BYTES_MAX: usize = 256;
/// 19 MiB, two passes, one lane: the least OWASP advises for Argon2id, and about 25 ms of a core.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const HASH_LEN: usize = 32;
/// What a stored hash may ask for at most: a row that was tampered with must not take the machine.
const STORED_MEMORY_KIB_MAX: u32 = 4 * MEMORY_KIB;
const STORED_PASSES_MAX: u32 = 16;

/// The passwords people try first, lowercase, eight characters and longer; one a line.
const COMMONEST: &str = include_str!("passwords/commonest.txt");

/// A password ready to be hashed or compared; prints masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<str>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// Why a password is not taken; prints as what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRefused {
    /// Fewer than [`CHARS_MIN`] characters.
    #[error("use at least {CHARS_MIN} characters")]
    TooShort,
    /// More than [`BYTES_MAX`] bytes.
    #[error("use at most {BYTES_MAX} bytes")]
    TooLong,
    /// A control character: not typed, but pasted or smuggled.
    #[error("it has a character that cannot be typed")]
    Control,
    /// One of the first anybody tries.
    #[error("this is one of the first passwords anybody would try; take another")]
    TooCommon,
}

impl Password {
    /// Prepares a password somebody wants to have. `known` are the words everybody knows of them: their name, their address.
    pub fn choose(typed: &str, known: &[&str]) -> Result<Password, PasswordRefused> {
        let password = Password::prepare(typed).ok_or(PasswordRefused::TooLong)?;
        if password.0.chars().count() < CHARS_MIN {
            return Err(PasswordRefused::TooShort);
        }
        if password.0.chars().any(char::is_control) {
            return Err(PasswordRefused::Control);
        }
        let lower = password.0.to_lowercase();
        let is_known = known.iter().any(|word| word.to_lowercase() == lower);
        if is_known || COMMONEST.lines().any(|common| common == lower) || is_run(&lower) {
            return Err(PasswordRefused::TooCommon);
        }
        Ok(password)
    }

    /// Prepares what was typed to get in. Nothing about it is told; what no password can be becomes `None` and is wrong.
    pub fn attempt(typed: &str) -> Option<Password> {
        Password::prepare(typed).filter(|password| !password.0.is_empty())
    }

    fn prepare(typed: &str) -> Option<Password> {
        // NFC may shrink a text, never by as much as this; nothing larger is worth the work.
        if typed.len() > 4 * BYTES_MAX {
            return None;
        }
        let spaces = |c: char| if c.is_whitespace() && !c.is_control() { ' ' } else { c };
        let prepared: String = typed.chars().map(spaces).nfc().collect();
        (prepared.len() <= BYTES_MAX).then(|| Password(prepared.into_boxed_str()))
    }
}

/// Whether every character follows from the one before it: `aaaaaaaa`, `abcdefgh`, `98765432`.
fn is_run(text: &str) -> bool {
    let codes: Vec<i64> = text.chars().map(|c| i64::from(u32::from(c))).collect();
    let mut steps = codes.iter().zip(codes.iter().skip(1)).map(|(a, b)| b - a);
    let first = steps.next().unwrap_or(0);
    first.abs() <= 1 && steps.all(|step| step == first)
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The password is right. The hash to store instead, if the stored one was made with less than we ask for now.
    Right {
        /// PHC string.
        better_hash: Option<String>,
    },
    /// The password is wrong, or nobody has one.
    Wrong,
}

/// The memory of one hash in the making, kept by a thread from one to the next.
#[derive(Default)]
struct Scratch(Vec<Block>);

impl Scratch {
    fn hash(&mut self, params: &Params, password: &Password, salt: &[u8]) -> Option<[u8; HASH_LEN]> {
        let blocks = params.block_count();
        if self.0.len() < blocks {
            self.0.resize(blocks, Block::new());
        }
        let mut out = [0; HASH_LEN];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        argon2.hash_password_into_with_memory(password.0.as_bytes(), salt, &mut out, &mut self.0[..]).ok()?;
        Some(out)
    }
}

fn params() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_LEN)).expect("the parameters are within Argon2's bounds")
}

/// The PHC string of `password` under a fresh salt.
fn hash(scratch: &mut Scratch, password: &Password) -> String {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).expect("an operating system without randomness can run nothing of this");
    hash_with_salt(scratch, password, &salt)
}

fn hash_with_salt(scratch: &mut Scratch, password: &Password, salt: &[u8]) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD as B64;

    let out = scratch
        .hash(&params(), password, salt)
        .expect("password, salt and memory are within Argon2's bounds");
    format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}", B64.encode(salt), B64.encode(out))
}

/// Compares with a stored PHC string. Without one, the same work is done for nothing, so that time does not tell who has an account.
fn verify(scratch: &mut Scratch, password: Option<&Password>, stored: Option<&str>) -> Verdict {
    let nobody = Password("nobody".into());
    let readable = stored.and_then(Stored::read);
    let (Some(stored), Some(password)) = (readable, password) else {
        scratch.hash(&params(), password.unwrap_or(&nobody), b"salt of nobody!!");
        return Verdict::Wrong;
    };
    let found = scratch.hash(&stored.params, password, &stored.salt);
    let is_right = found.is_some_and(|found| bool::from(found[..].ct_eq(&stored.hash)));
    if !is_right {
        return Verdict::Wrong;
    }
    let is_weak = stored.params.m_cost() < MEMORY_KIB || stored.params.t_cost() < PASSES;
    Verdict::Right { better_hash: is_weak.then(|| hash(scratch, password)) }
}

/// A stored hash, read.
struct Stored {
    params: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Stored {
    fn read(text: &str) -> Option<Stored> {
        let phc = PasswordHash::new(text).ok()?;
        let params = Params::try_from(&phc).ok()?;
        let bounded = params.m_cost() <= STORED_MEMORY_KIB_MAX && params.t_cost() <= STORED_PASSES_MAX;
        if phc.algorithm.as_str() != "argon2id" || phc.version != Some(19) || !bounded {
            return None;
        }
        let hash = phc.hash?.as_bytes().to_vec();
        (hash.len() == HASH_LEN).then_some(Stored { params, salt: phc.salt?.to_vec(), hash })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn password(typed: &str) -> Password {
        Password::choose(typed, &[]).unwrap()
    }

    #[test]
    fn a_password_is_verified_by_its_hash_alone() {
        let mut scratch = Scratch::default();
        let stored = hash(&mut scratch, &password("correct horse"));
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_ne!(stored, hash(&mut scratch, &password("correct horse")), "every hash has its own salt");
        let right = verify(&mut scratch, Some(&password("correct horse")), Some(&stored));
        assert_eq!(right, Verdict::Right { better_hash: None });
        for wrong in ["correct horsf", "Correct horse", "correct horse "] {
            assert_eq!(verify(&mut scratch, Some(&password(wrong)), Some(&stored)), Verdict::Wrong);
        }
        assert_eq!(verify(&mut scratch, Some(&password("correct horse")), None), Verdict::Wrong);
        assert_eq!(verify(&mut scratch, None, Some(&stored)), Verdict::Wrong);
    }

    #[test]
    fn our_hash_is_the_one_of_the_reference_implementation() {
        use argon2::PasswordVerifier;
        let stored = hash(&mut Scratch::default(), &password("correct horse"));
        assert_eq!(Argon2::default().verify_password(b"correct horse", stored.as_str()), Ok(()));
    }

    #[test]
    fn a_hash_made_with_less_is_replaced() {
        let mut scratch = Scratch::default();
        // argon2 command line, `-id -m 10 -t 1 -p 1`, made here with the crate's own hasher.
        let weak = {
            use argon2::PasswordHasher;
            let params = Params::new(1_024, 1, 1, Some(32)).unwrap();
            let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            hasher.hash_password_with_salt(b"correct horse", b"sixteen bytes ok").unwrap().to_string()
        };
        let Verdict::Right { better_hash: Some(better) } =
            verify(&mut scratch, Some(&password("correct horse")), Some(&weak))
        else {
            panic!("the weak hash is right and weak");
        };
        let again = verify(&mut scratch, Some(&password("correct horse")), Some(&better));
        assert_eq!(again, Verdict::Right { better_hash: None });
    }

    #[test]
    fn a_stored_hash_cannot_ask_for_the_whole_machine() {
        let mut scratch = Scratch::default();
        let greedy = "$argon2id$v=19$m=4000000,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(verify(&mut scratch, Some(&password("correct horse")), Some(greedy)), Verdict::Wrong);
        assert!(scratch.0.len() <= MEMORY_KIB as usize);
    }

    #[test]
    fn the_same_keys_are_the_same_password() {
        assert_eq!(password("cafe\u{301} au lait"), password("caf\u{e9} au lait"));
        assert_eq!(password("full\u{3000}width"), password("full width"));
        assert_ne!(password("Full Width"), password("full width"));
    }

    #[test]
    fn what_anybody_would_try_is_refused() {
        for common in [
            "password",
            "PassWord1",
            "12345678",
            "aaaaaaaa",
            "abcdefgh",
            "qwertyuiop",
            "iloveyou",
            "ann@example.org",
        ] {
            let refused = Password::choose(common, &["ann", "Ann@example.org"]);
            assert_eq!(refused, Err(PasswordRefused::TooCommon), "{common}");
        }
        assert_eq!(Password::choose("seven77", &[]), Err(PasswordRefused::TooShort));
        assert_eq!(
            Password::choose("七七七", &[]),
            Err(PasswordRefused::TooShort),
            "characters count, not bytes"
        );
        assert_eq!(Password::choose(&"x7".repeat(129), &[]), Err(PasswordRefused::TooLong));
        assert_eq!(Password::choose(&"x".repeat(1 << 20), &[]), Err(PasswordRefused::TooLong));
        assert_eq!(Password::choose("with\u{0}null byte", &[]), Err(PasswordRefused::Control));
        assert!(Password::choose(&"x7".repeat(128), &[]).is_ok());
    }

    #[test]
    fn the_list_of_the_commonest_can_match() {
        for line in COMMONEST.lines() {
            assert!(line.chars().count() >= CHARS_MIN && line == line.to_lowercase(), "{line}");
        }
        assert!(COMMONEST.lines().count() > 100);
    }

    #[test]
    fn a_password_prints_masked() {
        assert_eq!(format!("{:?}", password("correct horse")), "Password(***)");
    }

    proptest! {
        #[test]
        fn nothing_typed_or_stored_panics(typed in any::<String>(), stored in any::<String>()) {
            let _: Result<_, _> = Password::choose(&typed, &[]);
            let _: Option<_> = Password::attempt(&typed);
            prop_assert!(Stored::read(&stored).is_none_or(|stored| stored.hash.len() == HASH_LEN));
        }
    }
}
