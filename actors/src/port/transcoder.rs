//! Who makes other renditions of what is broadcast.

use std::sync::Arc;

use crate::live_stream::Broadcast;

/// Makes renditions of broadcasts.
pub trait Transcoder: Send + Sync + 'static {
    /// A broadcast opens, or goes on here. What is made of it goes to its [`ladder`](Broadcast::ladder), for as long as it is on the air;
    /// whether anything is to be made is the transcoder's business.
    fn attend(&self, broadcast: &Arc<Broadcast>);
}
