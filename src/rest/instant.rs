//! Times as the API writes them: RFC 3339, UTC, milliseconds (`2026-01-02T12:00:00.000Z`).

use serde::Serializer;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

const FORMAT: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// For `#[serde(serialize_with = "instant::serialize")]`.
pub(crate) fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = at.to_offset(UtcOffset::UTC).format(FORMAT).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}

/// The time as text.
pub(crate) fn text(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC).format(FORMAT).expect("a date has all parts the format names")
}

/// For times that may be absent: `#[serde(default, with = "instant::option")]`.
pub(crate) mod option {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use time::OffsetDateTime;

    /// Writes it; absent is `null`.
    pub(crate) fn serialize<S: Serializer>(
        at: &Option<OffsetDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads it.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OffsetDateTime>, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let read = |text: &str| OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
        let at = text.map(|text| read(&text)).transpose();
        at.map_err(|_| serde::de::Error::custom("must be a time as in RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    #[test]
    fn times_are_utc_with_three_digits() {
        let write = |at| super::serialize(&at, serde_json::value::Serializer).unwrap();
        assert_eq!(write(datetime!(2026-01-02 12:00:00 UTC)), "2026-01-02T12:00:00.000Z");
        assert_eq!(write(datetime!(2026-01-02 12:00:00.987654 +1)), "2026-01-02T11:00:00.987Z");
    }
}
