//! The messages of `nova.v1`: one JSON object per text message, typed by direction.
//!
//! What devices say is read in [`read`]: bounded before it is parsed, every field checked, and refused with the `ref` it came
//! with wherever one could be read. What is said to devices is made in [`ToDevice`] and encoded once.

mod from_device;
mod to_device;

pub use from_device::{
    Ack, Attachment, Connect, Delete, Draft, Edit, FromDevice, Location, LocationScope, Presence, Pull,
    React, Read, Refresh, Refused, RoomRequest, Typing, Unwatch, Watch, read,
};
pub(super) use to_device::goodbye;
pub use to_device::{
    Answer, Counted, Entry, Limits, PresenceOf, PresenceState, Push, ToDevice, answer, push, refuse,
};

/// The subprotocol, as the handshake names it.
pub const SUBPROTOCOL: &str = "nova.v1";

/// Times on the wire: RFC 3339 in UTC with milliseconds.
pub mod rfc3339_ms {
    use serde::{Deserializer, Serializer, de::Deserialize, ser::Error as _};
    use time::OffsetDateTime;
    use time::format_description::BorrowedFormatItem;
    use time::format_description::well_known::Rfc3339;
    use time::macros::format_description;

    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

    /// Writes it.
    pub fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        let text = at.to_offset(time::UtcOffset::UTC).format(FORMAT).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }

    /// Reads any RFC 3339 time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        OffsetDateTime::parse(&text, &Rfc3339).map_err(serde::de::Error::custom)
    }

    /// The same for a time that may be absent.
    pub mod option {
        use super::{Deserializer, OffsetDateTime, Serializer};

        /// Writes it; absent is `null`.
        pub fn serialize<S: Serializer>(
            at: &Option<OffsetDateTime>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// Reads it.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<OffsetDateTime>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

#[cfg(test)]
mod tests;
