//! What every adapter of a port must do, as suites that any of them can be given to.
//!
//! The suites run in real time, because a real adapter does; they wait for conditions with a deadline, never for a time.

mod bus;
mod streams;

pub use bus::bus;
pub use streams::streams;
