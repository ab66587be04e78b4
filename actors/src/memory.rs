//! Every port of this crate in memory: for tests, and for a node that is alone.

mod bus;
mod streams;

pub use bus::Bus;
pub use streams::Streams;
