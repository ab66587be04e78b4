//! What the deciders need from the world, as traits. Adapters live in the root package; [`memory`](crate::memory) holds one
//! of each for tests and for a node that is alone; `contract` (a cargo feature) is the suite both must pass.

mod bus;
mod message_log;
mod recorder;
mod streams;
mod subscription;
mod transcoder;

pub use bus::{
    Bus, BusError, BusHealth, Lease, LeaseName, NAME_LEN_MAX, NameError, PAYLOAD_BYTES_MAX, Topic,
};
pub use message_log::{LogError, MessageLog, RANGE_LEN_MAX};
pub use recorder::{Recorder, Tap};
pub use streams::{Airing, KeyHash, LifeState, SILENCE_MAX, Standing, StreamRecord, Streams, StreamsError};
pub use subscription::{BusEvent, Inlet, QUEUE_BYTES_MAX, QUEUE_LEN_MAX, Subscription};
pub use transcoder::Transcoder;
