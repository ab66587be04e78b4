//! What one connection may cost, and how long it may take. Nothing a peer sends raises any of these.

use std::time::Duration;

/// Chunk streams one connection may open. Encoders use four to eight; at the end of them the connection ends.
pub const CHUNK_STREAMS_MAX: usize = 64;
/// The longest message. A keyframe of 4K video at 60 Mbit/s has about 2 MiB; a longer message ends the connection.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes of unfinished messages over all chunk streams of a connection; past it the connection ends.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// The largest chunk size that is remembered. It is never allocated for.
pub const CHUNK_BYTES_MAX: usize = 16 << 20;
/// The smallest acknowledgement window that is kept, so that answers stay a small part of what comes in.
pub const ACK_WINDOW_BYTES_MIN: u64 = 4_096;
/// The longest command. Encoders send about 500 bytes; a longer one ends the connection.
pub const COMMAND_BYTES_MAX: usize = 256 << 10;
/// How deep objects and arrays may lie in each other.
pub const AMF_DEPTH_MAX: usize = 32;
/// How many values one command or metadata message may have, whatever their nesting.
pub const AMF_VALUES_MAX: usize = 4_096;
/// What may wait while the stream key is being looked up, in messages. Senders wait for the answer; some send their headers
/// and the first pictures along. When full, the newest are dropped and counted.
pub const HELD_MESSAGES_MAX: usize = 256;
/// The same in bytes.
pub const HELD_BYTES_MAX: usize = 4 << 20;
/// Codings one connection may name that this engine does not take; what comes after is dropped unnamed.
pub const UNSUPPORTED_CODINGS_MAX: usize = 8;

/// From the connection to the end of the handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// From the handshake to the publish command.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
/// From the acceptance to the first frame.
pub const FIRST_MEDIA_TIMEOUT: Duration = Duration::from_secs(20);
/// From the first media that cannot be decoded, because no configuration came with it, to the first that can.
pub const CONFIGURATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Without a byte from a publisher. Life is told by what comes in: encoders do not answer pings while they publish.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
