//! Stories of publishers, from honest encoders to hostile strangers, over the real instruments.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real encoders need real sockets, files and clocks; only distances from the clock count"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "tests fail this way"
)]

mod clocks;
mod encoder;
mod ffmpeg;
mod fmp4;
mod hls;
mod hostile;
mod opinion;
mod pieces;
mod recorded;
mod renditions;
mod session;
