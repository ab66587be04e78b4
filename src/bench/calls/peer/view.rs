//! What a peer sees in one of its slots, and what it asks of the server for it.

use std::time::{Duration, Instant};

use nova_media::rtp::packet::Packet;
use nova_media::rtp::payload::Codec;
use nova_media::rtp::reception::Stream;
use nova_media::rtp::rtcp;
use nova_media::rtp::witness::Witness;

/// Nothing could be shown for so long: a keyframe is asked for, and asked for again.
const STUCK: Duration = Duration::from_millis(250);

/// What is in a slot, as a peer sees it.
pub(super) struct View {
    pub(super) mid: String,
    ssrc: u32,
    pub(super) codec: Codec,
    /// The track in it.
    pub(super) bound: Option<u64>,
    pub(super) witness: Witness,
    stream: Option<Stream>,
    begged: Option<Instant>,
}

impl View {
    /// Nothing is in it yet.
    pub(super) fn new(mid: String, ssrc: u32, codec: Codec) -> View {
        View { mid, ssrc, codec, bound: None, witness: Witness::default(), stream: None, begged: None }
    }

    /// A packet of pictures came, whose number and payload are these.
    pub(super) fn hear(&mut self, sequence: u16, packet: &Packet<'_>, payload: &[u8], now: Instant) {
        self.witness.hear(sequence, packet, payload, self.codec, now);
        let stream = self.stream.get_or_insert_with(|| Stream::new(self.codec.clock_rate(), sequence, now));
        stream.receive(sequence, packet.timestamp, now);
    }

    /// What did not arrive, or a keyframe; `None` when nothing is missed.
    pub(super) fn asks(&mut self, now: Instant) -> Option<Vec<u8>> {
        let stream = self.stream.as_mut()?;
        let mut compound = Vec::new();
        match stream.asks(now) {
            Ok(missing) if !missing.is_empty() => {
                rtcp::write_nack(&mut compound, 2, self.ssrc, &missing);
            }
            _ => {}
        }
        let stuck = self.witness.stuck_since().is_some_and(|at| now.duration_since(at) >= STUCK);
        if stuck && self.begged.is_none_or(|at| now.duration_since(at) >= STUCK) {
            self.begged = Some(now);
            rtcp::write_pli(&mut compound, 2, self.ssrc);
        }
        if compound.is_empty() {
            return None;
        }
        // A compound packet begins with a report (RFC 3550 section 6.1).
        let mut whole = Vec::new();
        rtcp::write_receiver_report(&mut whole, 2, &[stream.report(self.ssrc, now)]);
        whole.extend_from_slice(&compound);
        Some(whole)
    }
}
