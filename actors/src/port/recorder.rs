//! Who keeps what is broadcast.

use nova_media::hls::Whole;

use crate::id::StreamId;

/// Keeps broadcasts.
pub trait Recorder: Send + Sync + 'static {
    /// A broadcast opens, or goes on here: what is told of its segments from now on. Whether it is to be kept at all is the
    /// recorder's business.
    fn tap(&self, stream: StreamId, broadcast: &str) -> Box<dyn Tap>;
}

/// Hears of one broadcast while its publisher writes, so it neither waits nor fails. Dropped without [`end`](Tap::end), the broadcast
/// is not over: this node has only stopped, and another may go on with it.
pub trait Tap: Send + std::fmt::Debug {
    /// A segment is whole.
    fn whole(&mut self, segment: Whole);

    /// The broadcast is over.
    fn end(&mut self);
}
