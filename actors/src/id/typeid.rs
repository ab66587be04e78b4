//! The text form of ids and the making of new ones.
//!
//! Text: [TypeID 0.3](https://github.com/jetify-com/typeid/tree/main/spec). Value: UUIDv7, RFC 9562 section 5.7, made monotonic
//! by a counter as in its section 6.2, method 1.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use serde::{Deserializer, de};
use time::OffsetDateTime;
use uuid::{Timestamp, Uuid};

/// The longest text that is looked at, in bytes: TypeID's longest prefix (63), the underscore, the value.
pub const TEXT_LEN_MAX: usize = 63 + 1 + VALUE_LEN;

/// 128 bits in characters of five bits each.
const VALUE_LEN: usize = 26;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Why a text is not an id of the wanted noun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Longer than any id, in bytes; nothing of it was read.
    #[error("an id has at most {TEXT_LEN_MAX} bytes, this has {len}")]
    TooLong {
        /// Bytes of the text.
        len: usize,
    },
    /// Has no prefix, or the prefix of another noun.
    #[error("an id that begins with `{expected}_` is wanted here")]
    WrongPrefix {
        /// The wanted prefix, without the underscore.
        expected: &'static str,
    },
    /// What follows the prefix is not as long as a value.
    #[error("{VALUE_LEN} characters follow an id's prefix, here are {len} bytes")]
    ValueLength {
        /// Bytes after the prefix.
        len: usize,
    },
    /// A character outside the lowercase Crockford alphabet.
    #[error("byte {at} of the id's value is none of 0-9 and a-z without i, l, o, u")]
    Character {
        /// Place in the value, from 0.
        at: usize,
    },
    /// More than 128 bits: the value's first character is above 7.
    #[error("the id's value exceeds 128 bits")]
    Overflow,
}

/// Writes `prefix_value` without allocating.
pub(super) fn write(prefix: &str, uuid: Uuid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = encode(uuid.as_u128());
    f.write_str(prefix)?;
    f.write_str("_")?;
    f.write_str(std::str::from_utf8(&value).expect("the alphabet is ASCII"))
}

/// Reads what [`write`] wrote; the length is bounded before anything else is looked at.
pub(super) fn read(prefix: &'static str, text: &str) -> Result<Uuid, IdError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(IdError::TooLong { len: text.len() });
    }
    match text.rsplit_once('_') {
        Some((found, value)) if found == prefix => decode(value.as_bytes()).map(Uuid::from_u128),
        _ => Err(IdError::WrongPrefix { expected: prefix }),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    prefix: &'static str,
    deserializer: D,
) -> Result<Uuid, D::Error> {
    struct Text(&'static str);

    impl de::Visitor<'_> for Text {
        type Value = Uuid;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an id that begins with `{}_`", self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Uuid, E> {
            read(self.0, text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(prefix))
}

fn encode(value: u128) -> [u8; VALUE_LEN] {
    let mut text = [b'0'; VALUE_LEN];
    let mut rest = value;
    for place in text.iter_mut().rev() {
        let digit = (rest & 31) as usize;
        *place = ALPHABET.get(digit).copied().unwrap_or(b'0');
        rest >>= 5;
    }
    text
}

fn decode(text: &[u8]) -> Result<u128, IdError> {
    if text.len() != VALUE_LEN {
        return Err(IdError::ValueLength { len: text.len() });
    }
    let mut value = 0_u128;
    for (at, &character) in text.iter().enumerate() {
        let digit = digit(character).ok_or(IdError::Character { at })?;
        if at == 0 && digit > 7 {
            return Err(IdError::Overflow);
        }
        value = (value << 5) | u128::from(digit);
    }
    Ok(value)
}

const fn digit(character: u8) -> Option<u8> {
    Some(match character {
        b'0'..=b'9' => character - b'0',
        b'a'..=b'h' => character - b'a' + 10,
        b'j' | b'k' => character - b'j' + 18,
        b'm' | b'n' => character - b'm' + 20,
        b'p'..=b't' => character - b'p' + 22,
        b'v'..=b'z' => character - b'v' + 27,
        _ => return None,
    })
}

/// A UUIDv7 that carries `now` and is above every one made before in this process.
pub(super) fn next(now: OffsetDateTime) -> Uuid {
    static SEQUENCE: Mutex<Sequence> = Mutex::new(Sequence { at_ms: 0, counter: 0 });

    let now_ms = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    let seed = getrandom::u64().expect("an operating system without randomness can run nothing of this");
    let (at_ms, counter) =
        SEQUENCE.lock().unwrap_or_else(PoisonError::into_inner).next(now_ms.min(TIME_MS_MAX), seed);
    let nanos = u32::try_from(at_ms % 1000 * 1_000_000).unwrap_or(0);
    // What the counter leaves free is filled with fresh random bits.
    Uuid::new_v7(Timestamp::from_unix_time(at_ms / 1000, nanos, u128::from(counter), COUNTER_BITS))
}

/// UUIDv7 has 48 bits for milliseconds.
const TIME_MS_MAX: u64 = (1 << 48) - 1;

/// No machine makes 2^41 ids in a millisecond; 32 random bits remain beside the counter, so nodes do not collide.
const COUNTER_BITS: u8 = 42;

/// A clock that steps back by less than this is being corrected, and ids go on growing; one that steps back further is another
/// clock (a test's, or an operator's hand), and ids follow it.
const STEP_BACK_MS_MAX: u64 = 10_000;

/// The time and counter of the newest id.
struct Sequence {
    at_ms: u64,
    counter: u64,
}

impl Sequence {
    fn next(&mut self, now_ms: u64, seed: u64) -> (u64, u64) {
        let same_time = now_ms <= self.at_ms && self.at_ms - now_ms < STEP_BACK_MS_MAX;
        if !same_time {
            self.restart(now_ms, seed);
        } else if (self.counter + 1) >> COUNTER_BITS == 0 {
            self.counter += 1;
        } else {
            self.restart(self.at_ms + 1, seed);
        }
        (self.at_ms, self.counter)
    }

    /// The highest bit starts unset, so that at least 2^41 ids follow within the millisecond.
    fn restart(&mut self, at_ms: u64, seed: u64) {
        self.at_ms = at_ms;
        self.counter = seed >> (64 - COUNTER_BITS + 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    /// `valid.json` of the specification.
    const VALID: [(&str, u128); 4] = [
        ("00000000000000000000000000", 0),
        ("00000000000000000000000001", 1),
        ("0000000000000000000000000z", 31),
        ("01h455vb4pex5vsknk084sn02q", 0x01890a5d_ac96_774b_bcce_b302099a8057),
    ];

    fn text(prefix: &str, uuid: Uuid) -> String {
        struct Text<'a>(&'a str, Uuid);
        impl fmt::Display for Text<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(self.0, self.1, f)
            }
        }
        Text(prefix, uuid).to_string()
    }

    #[test]
    fn the_specification_is_followed() {
        for (value, uuid) in VALID {
            assert_eq!(encode(uuid), value.as_bytes());
            assert_eq!(decode(value.as_bytes()), Ok(uuid));
        }
        assert_eq!(decode(b"7zzzzzzzzzzzzzzzzzzzzzzzzz"), Ok(u128::MAX));
        assert_eq!(decode(b"8zzzzzzzzzzzzzzzzzzzzzzzzz"), Err(IdError::Overflow));
        assert_eq!(decode(b"01H455VB4PEX5VSKNK084SN02Q"), Err(IdError::Character { at: 2 }));
        for character in *b"ilou-_ \xff" {
            let mut value = *b"00000000000000000000000000";
            value[25] = character;
            assert_eq!(decode(&value), Err(IdError::Character { at: 25 }));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let id = text("user", Uuid::nil());
        assert_eq!(read("user", &id), Ok(Uuid::nil()));
        assert_eq!(read("room", &id), Err(IdError::WrongPrefix { expected: "room" }));
        assert_eq!(read("user", &id[5..]), Err(IdError::WrongPrefix { expected: "user" }));
        assert_eq!(read("user", &id[..30]), Err(IdError::ValueLength { len: 25 }));
        assert_eq!(read("user", &format!("a_{id}")), Err(IdError::WrongPrefix { expected: "user" }));
        assert_eq!(read("user", &"u".repeat(1 << 20)), Err(IdError::TooLong { len: 1 << 20 }));
    }

    #[test]
    fn ids_grow_within_a_millisecond_and_while_the_clock_is_corrected() {
        let mut sequence = Sequence { at_ms: 0, counter: 0 };
        let mut newest = (0, 0);
        for now_ms in [50_000, 50_000, 50_001, 49_000, 41_000, 50_001, 60_000] {
            let next = sequence.next(now_ms, u64::MAX);
            assert!(next > newest, "{next:?} after {newest:?}");
            newest = next;
        }
        assert_eq!(sequence.next(49_000, 0).0, 49_000, "ids follow a clock that was set back far");
    }

    #[test]
    fn a_full_counter_moves_on_to_the_next_millisecond() {
        let mut sequence = Sequence { at_ms: 7_000, counter: (1 << COUNTER_BITS) - 2 };
        assert_eq!(sequence.next(7_000, 0), (7_000, (1 << COUNTER_BITS) - 1));
        assert_eq!(sequence.next(7_000, u64::MAX), (7_001, (1 << (COUNTER_BITS - 1)) - 1));
    }

    #[test]
    fn an_id_is_a_version_seven_uuid_of_its_time() {
        let now = datetime!(2035-04-05 06:07:08.009 UTC);
        let uuid = next(now);
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
        let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
        assert_eq!(OffsetDateTime::UNIX_EPOCH + Duration::new(seconds, nanos), now);
        assert_eq!(next(datetime!(1901-01-01 00:00 UTC)).as_u128() >> 80, 0, "there is nothing before 1970");
    }

    #[test]
    fn threads_never_make_the_same_id() {
        let now = datetime!(2030-01-01 00:00 UTC);
        let makers: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(move || (0..2_000).map(|_| next(now)).collect::<Vec<_>>()))
            .collect();
        let made: Vec<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
        let all: std::collections::HashSet<_> = made.iter().flatten().collect();
        assert_eq!(all.len(), 8_000);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in any::<u128>()) {
            let uuid = Uuid::from_u128(value);
            prop_assert_eq!(read("conv", &text("conv", uuid)), Ok(uuid));
        }

        #[test]
        fn text_sorts_as_the_value_does(one in any::<u128>(), other in any::<u128>()) {
            prop_assert_eq!(encode(one).cmp(&encode(other)), one.cmp(&other));
        }

        #[test]
        fn no_text_ends_in_a_panic(noise in any::<String>(), tail in "[0-9a-zA-Z_é]{0,40}") {
            let _: Result<Uuid, IdError> = read("user", &noise);
            if let Ok(uuid) = read("user", &format!("user_{tail}")) {
                prop_assert_eq!(text("user", uuid), format!("user_{tail}"), "one id has one spelling");
            }
        }

        #[test]
        fn another_nouns_id_is_refused_as_such(value in any::<u128>(), prefix in "[a-z_]{1,20}") {
            prop_assume!(prefix != "user");
            let refused = read("user", &text(&prefix, Uuid::from_u128(value)));
            prop_assert_eq!(refused, Err(IdError::WrongPrefix { expected: "user" }));
        }
    }
}
