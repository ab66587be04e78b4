//! Messages on their way out: encoded once, shared by everybody they go to.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::deflate;
use super::frame::{self, Opcode};

/// What is shed first when a device is too far behind; a later one is worth more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody is writing. Says itself again.
    Typing,
    /// Who is there, viewer counts. The next one replaces it.
    Presence,
    /// Chat beside a live stream: a sample is enough.
    Live,
    /// How far others have read. Cursors: the latest holds all before.
    Receipt,
    /// Entries, answers, notifications: never dropped. What does not fit ends the connection with 4001.
    Durable,
}

impl Class {
    /// Every class, the first to be shed first.
    pub const ALL: [Class; 5] = [Class::Typing, Class::Presence, Class::Live, Class::Receipt, Class::Durable];

    /// As metrics label it.
    pub const fn label(self) -> &'static str {
        match self {
            Class::Typing => "typing",
            Class::Presence => "presence",
            Class::Live => "live",
            Class::Receipt => "receipt",
            Class::Durable => "durable",
        }
    }
}

/// One message as a complete frame, and compressed once if anybody asks for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Encoded(Arc<Frames>);

#[derive(Debug)]
struct Frames {
    /// How long a message is on its way is counted from here.
    made: Instant,
    plain: Bytes,
    payload_start: usize,
    /// Made by the first socket that agreed on compression; `None` when it would not be smaller.
    compressed: OnceLock<Option<Bytes>>,
}

impl Encoded {
    /// A text message whose payload `write` appends; it must be UTF-8.
    pub fn text(len_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Encoded {
        let mut payload_len = 0;
        let plain = frame::encode_with(Opcode::Text, len_hint, |frame| {
            let before = frame.len();
            write(frame);
            payload_len = frame.len() - before;
        });
        Encoded::new(plain, payload_len)
    }

    fn new(plain: Bytes, payload_len: usize) -> Encoded {
        let payload_start = plain.len() - payload_len;
        let made = Instant::now();
        Encoded(Arc::new(Frames { made, plain, payload_start, compressed: OnceLock::new() }))
    }

    /// The frame for a socket.
    pub fn bytes(&self, deflate: bool) -> &Bytes {
        if !deflate {
            return &self.0.plain;
        }
        let compressed = self.0.compressed.get_or_init(|| {
            let small = deflate::deflate(self.payload())?;
            Some(frame::encode_compressed(Opcode::Text, &small))
        });
        compressed.as_ref().unwrap_or(&self.0.plain)
    }

    /// How long ago it was encoded.
    pub fn age(&self) -> Duration {
        self.0.made.elapsed()
    }

    /// The text itself.
    pub fn payload(&self) -> &[u8] {
        self.0.plain.get(self.0.payload_start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_is_encoded_and_compressed_once() {
        let text = "all the same. ".repeat(100);
        let encoded = Encoded::text(text.len(), |frame| frame.extend_from_slice(text.as_bytes()));
        assert_eq!(encoded.payload(), text.as_bytes());
        assert_eq!(encoded.bytes(false), &frame::encode(Opcode::Text, text.as_bytes()));
        let compressed = encoded.bytes(true).clone();
        assert_eq!(compressed[0], 0xC1);
        assert!(compressed.len() < 100, "{}", compressed.len());
        assert_eq!(encoded.bytes(true).as_ptr(), compressed.as_ptr(), "shared, not made again");
        let small = Encoded::text(2, |frame| frame.extend_from_slice(b"{}"));
        assert_eq!(small.bytes(true), small.bytes(false));
    }

    #[test]
    fn classes_are_shed_in_the_order_of_their_worth() {
        assert!(Class::ALL.is_sorted());
        assert_eq!(Class::ALL.map(Class::label), ["typing", "presence", "live", "receipt", "durable"]);
    }
}
