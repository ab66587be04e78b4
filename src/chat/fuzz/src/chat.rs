//! The files of the door that are fuzzed, where they lie.

#[path = "../../deflate.rs"]
pub mod deflate;
#[path = "../../frame.rs"]
pub mod frame;

pub mod wire;
