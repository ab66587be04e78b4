//! RTP and RTCP: what is in a packet, what is kept of it, and how it becomes another subscriber's packet.

mod clock;
pub mod dependency;
pub mod h264;
pub mod intake;
pub mod packet;
pub mod payload;
pub mod reception;
pub mod red;
pub mod reorder;
pub mod rewriter;
pub mod ring;
pub mod rtcp;
pub mod temporal;
pub mod vp8;
pub mod witness;

/// Whether sequence number `a` comes after `b`, across the wrap (RFC 3550 appendix A.1).
pub fn is_newer(a: u16, b: u16) -> bool {
    a != b && a.wrapping_sub(b) < 0x8000
}

/// Where the time of a test begins.
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's time has to begin somewhere; from there on it is an argument"
)]
pub(crate) fn beginning() -> std::time::Instant {
    std::time::Instant::now()
}
