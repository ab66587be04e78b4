//! The messages of `nova.v1`: one JSON object per text message, typed by direction.
//!
//! What devices say is read in [`read`]: bounded before it is parsed, every field checked, and refused with the `ref` it came
//! with wherever one could be read. What is said to devices is made in [`ToDevice`] and encoded once.

mod from_device;
mod requests;
pub mod rfc3339_ms;
mod to_device;

pub use from_device::{FromDevice, Refused, RoomRequest, read};
pub(super) use requests::{
    ATTACHMENTS_MAX, CLIENT_BYTES_MAX, CLIENT_MSG_ID_LEN_MAX, COUNTED_MAX, EMOJI_BYTES_MAX, FOCUS_MAX,
    KIND_BYTES_MAX, MENTIONS_MAX, PULL_LIMIT_MAX, SEQUENCE_MAX, TOKEN_BYTES_MAX, WATCHED_MAX,
    WAVEFORM_BYTES_MAX,
};
pub use requests::{
    Ack, Attachment, Connect, Delete, Draft, Edit, Location, LocationScope, Ping, Presence, Pull, React,
    Read, Refresh, Typing, Unwatch, Watch,
};
pub(super) use to_device::goodbye;
pub use to_device::{
    Answer, Counted, Entry, Limits, PresenceOf, PresenceState, Push, ToDevice, answer, push, refuse,
};

/// The subprotocol, as the handshake names it.
pub const SUBPROTOCOL: &str = "nova.v1";

#[cfg(test)]
mod tests;
