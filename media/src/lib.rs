//! Nova's instruments: bytes and time in, values out.
//!
//! Nothing here knows users, sockets, clocks or an async runtime. What comes from outside is bounded before it
//! is parsed, and no input, however hostile, makes anything here panic or wait.

pub mod bandwidth;
pub mod bits;
mod bucket;
pub mod codec;
pub mod data;
pub mod fmp4;
pub mod frame;
pub mod framing;
pub mod hls;
pub mod mix;
#[cfg(test)]
mod network;
pub mod peer;
pub mod rtmp;
pub mod rtp;
pub mod sdp;
pub mod sfu;
pub mod stun;
pub mod time;
