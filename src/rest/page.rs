//! Lists: keyset pages and the opaque cursors between them.
//!
//! A list is `{items, next_cursor}`. A cursor holds the sort key of the last item of the page before, so a page
//! costs the same wherever it is and nothing is skipped or repeated when items are added meanwhile. To a client
//! it is an opaque word of base64url:
//!
//! ```text
//! version (1 byte) · JSON of the key · first 16 bytes of HMAC-SHA-256(cursor key, list name · 0 · version · JSON)
//! ```
//!
//! The cursor key is the same on every node ([`super::manner::SharedSecret`]). What was not written by us for this very
//! list is answered 400 `invalid_cursor` before anything of it is parsed, so SQL only ever sees typed keys.

use actix_web::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::error::{ApiError, Code};
use crate::rest::manner::Manner;

/// Items on a page when the request does not say.
pub const LIMIT_DEFAULT: u8 = 25;
/// Items on a page at most.
pub const LIMIT_MAX: u8 = 100;
/// Longer cursors are not ours: keys are a few ids and times.
const CURSOR_CHARS_MAX: usize = 512;
const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;

/// The sort key of one list, as it stands in the `WHERE` of the next page.
pub trait Cursor: Serialize + DeserializeOwned {
    /// The name of the list; a cursor of one list is refused by every other.
    const LIST: &'static str;
}

/// Writes and reads cursors.
#[derive(Debug, Clone)]
pub struct Cursors(hmac::Key);

impl Cursors {
    /// Cursors signed with a key derived from the nodes' common secret.
    pub fn new(key: &[u8]) -> Cursors {
        Cursors(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The word that continues a list after the item with this key.
    pub fn write<C: Cursor>(&self, key: &C) -> String {
        let mut word = vec![VERSION];
        serde_json::to_writer(&mut word, key).expect("a cursor is made of ids, numbers and times");
        let tag = self.tag(C::LIST, &word);
        word.extend(tag.as_ref().iter().take(TAG_BYTES));
        URL_SAFE_NO_PAD.encode(word)
    }

    /// The key in a word made by [`Cursors::write`] for the same list, else `invalid_cursor`.
    pub fn read<C: Cursor>(&self, word: &str) -> Result<C, ApiError> {
        if word.len() > CURSOR_CHARS_MAX {
            return Err(another_list());
        }
        let bytes = URL_SAFE_NO_PAD.decode(word).map_err(|_| another_list())?;
        let split = bytes.len().checked_sub(TAG_BYTES).ok_or_else(another_list)?;
        let (signed, tag) = bytes.split_at_checked(split).ok_or_else(another_list)?;
        let expected = self.tag(C::LIST, signed);
        let same: bool =
            subtle::ConstantTimeEq::ct_eq(expected.as_ref().get(..TAG_BYTES).unwrap_or(&[]), tag).into();
        match (same, signed.split_first()) {
            (true, Some((&VERSION, json))) => serde_json::from_slice(json).map_err(|_| another_list()),
            _ => Err(another_list()),
        }
    }

    fn tag(&self, list: &str, signed: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(list.as_bytes());
        context.update(&[0]);
        context.update(signed);
        context.sign()
    }
}

/// The answer to a cursor that belongs to another list.
pub fn another_list() -> ApiError {
    ApiError::because(Code::InvalidCursor, "begin this list again without a cursor")
}

/// The place a cursor names in a list that is ordered by time, when it was made for `of` and not for another list of its kind.
pub fn place<L: PartialEq, K>(of: L, list: L, at_ns: i128, key: K) -> Result<(OffsetDateTime, K), ApiError> {
    if of != list {
        return Err(another_list());
    }
    Ok((OffsetDateTime::from_unix_timestamp_nanos(at_ns).map_err(ApiError::internal)?, key))
}

/// The query parameters every list takes. A list with more of its own names these two among them.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Where to go on: `next_cursor` of the page before.
    #[param(max_length = 512, nullable = false)]
    pub cursor: Option<String>,
    /// Items on the page, 1 to 100; 25 when left out.
    #[serde(default)]
    #[param(value_type = u8, minimum = 1, maximum = 100, default = 25, required = false)]
    pub limit: Limit,
}

impl PageQuery {
    /// The page asked for: its key, checked, and its size.
    pub fn page<C: Cursor>(&self, request: &HttpRequest) -> Result<Page<C>, ApiError> {
        Page::of(request, self.cursor.as_deref(), self.limit)
    }
}

/// How many items a page may have: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u8);

impl Limit {
    /// The number of items.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Limit {
        Limit(LIMIT_DEFAULT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        let words = || serde::de::Error::custom("must be a number from 1 to 100");
        let number = u8::deserialize(deserializer).map_err(|_| words())?;
        match (1..=LIMIT_MAX).contains(&number) {
            true => Ok(Limit(number)),
            false => Err(words()),
        }
    }
}

/// One page to be read from the store.
#[derive(Debug, Clone)]
pub struct Page<C> {
    /// The key after which it begins; none at the start of the list.
    pub after: Option<C>,
    /// How many items it may have.
    pub limit: Limit,
    cursors: Cursors,
}

impl<C: Cursor> Page<C> {
    /// The page after `cursor`.
    pub fn of(request: &HttpRequest, cursor: Option<&str>, limit: Limit) -> Result<Page<C>, ApiError> {
        let cursors = Manner::of(request)?.cursors.clone();
        let after = cursor.map(|word| cursors.read(word)).transpose()?;
        Ok(Page { after, limit, cursors })
    }

    /// How many rows to ask the store for: one more than the page has tells whether there is a next one.
    pub fn rows(&self) -> i64 {
        i64::from(self.limit.0) + 1
    }

    /// The answer from up to [`Page::rows`] rows: the page's items and, when there were more, the cursor after
    /// the last one.
    pub fn answer<R, T>(&self, mut rows: Vec<R>, key: impl Fn(&R) -> C, item: impl FnMut(R) -> T) -> List<T> {
        let limit = usize::from(self.limit.0);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|last| self.cursors.write(&key(last)));
        List { items: rows.into_iter().map(item).collect(), next_cursor }
    }
}

/// One page of a list. No `next_cursor` means the end; an empty page with a cursor is legal.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct List<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// What to give as `cursor` for the page after this one; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Devices(i64, String);
    impl Cursor for Devices {
        const LIST: &'static str = "devices";
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Followers(i64, String);
    impl Cursor for Followers {
        const LIST: &'static str = "followers";
    }

    fn cursors() -> Cursors {
        Cursors::new(b"one secret for all nodes")
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_went(at: i64, id in ".{0,40}") {
            let key = Devices(at, id);
            let word = cursors().write(&key);
            prop_assert_eq!(cursors().read::<Devices>(&word).expect("ours"), key);
            prop_assert!(cursors().read::<Followers>(&word).is_err(), "another list takes it");
            prop_assert!(Cursors::new(b"another").read::<Devices>(&word).is_err(), "another secret takes it");
        }

        #[test]
        fn a_changed_cursor_is_refused(at: i64, place: prop::sample::Index, bit in 0_u8..8) {
            let word = cursors().write(&Devices(at, "user".to_owned()));
            let mut bytes = URL_SAFE_NO_PAD.decode(&word).expect("base64");
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            prop_assert!(cursors().read::<Devices>(&URL_SAFE_NO_PAD.encode(bytes)).is_err());
        }

        #[test]
        fn garbage_is_refused(word in ".{0,600}") {
            prop_assert_eq!(cursors().read::<Devices>(&word).expect_err("not ours").code(), Code::InvalidCursor);
        }
    }

    #[test]
    fn a_page_ends_where_the_rows_end() {
        let page = Page::<Devices> { after: None, limit: Limit(2), cursors: cursors() };
        let key = |row: &i64| Devices(*row, String::new());
        let list = page.answer(vec![1, 2, 3], key, |row| row);
        assert_eq!(list.items, [1, 2]);
        let next = list.next_cursor.expect("there is more");
        assert_eq!(cursors().read::<Devices>(&next).expect("ours"), Devices(2, String::new()));
        assert_eq!(page.answer(vec![1, 2], key, |row| row).next_cursor, None);
    }

    #[test]
    fn limits_are_one_to_a_hundred() {
        let limit = |query: &str| super::super::query::parse::<PageQuery>(query).map(|page| page.limit.get());
        assert_eq!(limit("").expect("default"), LIMIT_DEFAULT);
        assert_eq!(limit("limit=1").expect("least"), 1);
        assert_eq!(limit("limit=100").expect("most"), 100);
        for query in ["limit=0", "limit=101", "limit=-1", "limit=1e9", "limit=", "limit=%00"] {
            assert_eq!(limit(query).expect_err(query).code(), Code::InvalidQuery);
        }
    }
}
