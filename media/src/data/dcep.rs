//! How a client opens a channel: the Data Channel Establishment Protocol (RFC 8832).

use crate::bits::ByteReader;

/// Bytes of a topic.
pub const TOPIC_BYTES_MAX: usize = 64;

const OPEN: u8 = 3;
const ACK: u8 = 2;
/// What an [`Message::Open`] is answered with (section 5.2).
pub const ACKNOWLEDGEMENT: &[u8] = &[ACK];

/// What is done about a message that was lost (section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reliability {
    /// It is repeated until it is there.
    Reliable,
    /// It is repeated so many times.
    Repeats(u32),
    /// It is repeated for so many milliseconds.
    Lives(u32),
}

/// A message of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A channel is opened.
    Open {
        /// Its label.
        topic: String,
        /// Whether its messages come in the order they were sent.
        ordered: bool,
        /// Whether all of them come.
        reliability: Reliability,
    },
    /// A channel of ours was taken; we open none.
    Ack,
}

/// The message is none of this protocol, or its topic is none: 1 to 64 bytes of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this opens no channel: a topic of 1 to {TOPIC_BYTES_MAX} bytes is wanted")]
pub struct Malformed;

/// Reads a message.
pub fn read(message: &[u8]) -> Result<Message, Malformed> {
    let mut reader = ByteReader::new(message);
    match reader.u8().map_err(|_| Malformed)? {
        ACK => Ok(Message::Ack),
        OPEN => open(&mut reader).ok_or(Malformed),
        _ => Err(Malformed),
    }
}

fn open(reader: &mut ByteReader<'_>) -> Option<Message> {
    let kind = reader.u8().ok()?;
    // Priority: all channels of one client are alike.
    reader.skip(2).ok()?;
    let parameter = reader.u32().ok()?;
    let (topic_len, protocol_len) = (usize::from(reader.u16().ok()?), usize::from(reader.u16().ok()?));
    let topic = std::str::from_utf8(reader.take(topic_len).ok()?).ok()?;
    reader.skip(protocol_len).ok()?;
    if !(1..=TOPIC_BYTES_MAX).contains(&topic.len()) || topic.chars().any(char::is_control) {
        return None;
    }
    let reliability = match kind & 0x7F {
        0 => Reliability::Reliable,
        1 => Reliability::Repeats(parameter),
        2 => Reliability::Lives(parameter),
        _ => return None,
    };
    Some(Message::Open { topic: topic.to_owned(), ordered: kind & 0x80 == 0, reliability })
}

/// What opens a channel, for clients in this process.
pub fn write_open(topic: &str, ordered: bool, reliability: Reliability) -> Vec<u8> {
    let (kind, parameter) = match reliability {
        Reliability::Reliable => (0, 0),
        Reliability::Repeats(times) => (1, times),
        Reliability::Lives(ms) => (2, ms),
    };
    let mut message = vec![OPEN, kind | if ordered { 0 } else { 0x80 }, 0, 0];
    message.extend_from_slice(&u32::to_be_bytes(parameter));
    message.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(topic.as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_channel_is_opened_as_chromium_opens_one() {
        // `createDataChannel("chat", { ordered: false, maxRetransmits: 2 })`
        let message = b"\x03\x81\x01\x00\x00\x00\x00\x02\x00\x04\x00\x00chat";
        let open =
            Message::Open { topic: "chat".to_owned(), ordered: false, reliability: Reliability::Repeats(2) };
        assert_eq!(read(message), Ok(open));
        assert_eq!(read(ACKNOWLEDGEMENT), Ok(Message::Ack));
    }

    #[test]
    fn what_opens_no_channel_is_refused() {
        let open = |topic: &str| write_open(topic, true, Reliability::Reliable);
        assert!(read(&open(&"x".repeat(TOPIC_BYTES_MAX))).is_ok());
        for topic in [String::new(), "x".repeat(TOPIC_BYTES_MAX + 1), "a\nb".to_owned()] {
            assert_eq!(read(&open(&topic)), Err(Malformed), "{topic:?}");
        }
        let mut whole = open("chat");
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len]), Err(Malformed), "{len} bytes");
        }
        whole[13] = 0xFF;
        assert_eq!(read(&whole), Err(Malformed), "no text");
        whole[1] = 3;
        assert_eq!(read(&whole), Err(Malformed), "a kind nobody knows");
        assert_eq!(read(&[9]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(topic in "[a-zé]{1,30}", ordered: bool, times: u32, kind in 0..3) {
            let reliability =
                [Reliability::Reliable, Reliability::Repeats(times), Reliability::Lives(times)][kind as usize];
            let read = read(&write_open(&topic, ordered, reliability));
            prop_assert_eq!(read, Ok(Message::Open { topic, ordered, reliability }));
        }

        #[test]
        fn no_bytes_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
        }
    }
}
