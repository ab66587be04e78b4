//! How much a participant may publish and say of what arrives: what is forwarded to a hundred others, and what makes work, has to be bounded
//! before it is.
//!
//! A packet costs a shard about the same whatever is in it, so small ones count as more than they are. Sound has a bound of its own: it is
//! made of small packets, and every one of a voice that is let in goes to everybody. Retransmissions count as what they repeat does, and so
//! does what comes once more within a later packet ([`crate::rtp::red`]).
//!
//! What is beyond is not taken for arrived: an honest sender's estimate of its path falls, and it sends less.

use std::time::Instant;

use crate::bucket::Bucket;

/// Thousands of bits a second, unless somebody says otherwise: three layers of 1080p and a screen are a third of it.
pub(super) const KBPS: u32 = 20_000;
/// Bytes a packet counts as at least: 5,000 packets a second by [`KBPS`].
const PACKET_BYTES_MIN: u32 = 500;
/// Bytes of sound a second: 1 Mbit/s, twice what Opus ever makes (RFC 6716 section 2.1.1).
const SOUND_BYTES_PER_S: u32 = 125_000;
/// The same of sound: 500 packets a second, ten times what browsers send of one microphone.
const SOUND_PACKET_BYTES_MIN: u32 = 250;

/// Bytes of RTCP a second: a browser that is sent 20 Mbit/s and tells what arrived of it says 10,000.
const RTCP_BYTES_PER_S: u32 = 100_000;
/// What a compound counts as at least: 2,000 requests a second to send something again.
const RTCP_BYTES_MIN: u32 = 50;
/// Packets a feedback speaks of that count as a byte of it.
const PACKETS_PER_BYTE: usize = 2;

/// What somebody has left. Each holds as much as a second brings.
#[derive(Debug)]
pub(super) struct Allowance {
    all: Bucket,
    sound: Bucket,
    rtcp: Bucket,
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Of everything together.
    Bitrate,
    /// Of sound.
    Sound,
    /// Of reports, and of what is asked for.
    Rtcp,
}

impl Allowance {
    /// All of it, of so many thousand bits a second.
    pub(super) fn new(kbps: u32, now: Instant) -> Allowance {
        let bytes_per_s = kbps.saturating_mul(125);
        let sound = Bucket::new(SOUND_BYTES_PER_S, SOUND_BYTES_PER_S, now);
        let rtcp = Bucket::new(RTCP_BYTES_PER_S, RTCP_BYTES_PER_S, now);
        Allowance { all: Bucket::new(bytes_per_s, bytes_per_s, now), sound, rtcp }
    }

    /// Nothing at all: of who does not publish over the network.
    pub(super) fn none(now: Instant) -> Allowance {
        let nothing = || Bucket::new(0, 0, now);
        Allowance { all: nothing(), sound: nothing(), rtcp: nothing() }
    }

    /// A packet of so many bytes is published, or a piece of one. What is beyond takes nothing.
    pub(super) fn spend(&mut self, bytes: usize, is_sound: bool, now: Instant) -> Result<(), Over> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let (of_all, of_sound) = (bytes.max(PACKET_BYTES_MIN), bytes.max(SOUND_PACKET_BYTES_MIN));
        if is_sound && !self.sound.has(of_sound, now) {
            return Err(Over::Sound);
        }
        if !self.all.has(of_all, now) {
            return Err(Over::Bitrate);
        }
        self.all.take(of_all);
        if is_sound {
            self.sound.take(of_sound);
        }
        Ok(())
    }
}

impl Allowance {
    /// A compound of RTCP of so many bytes came.
    pub(super) fn spend_rtcp(&mut self, bytes: usize, now: Instant) -> Result<(), Over> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(RTCP_BYTES_MIN);
        if !self.rtcp.has(bytes, now) {
            return Err(Over::Rtcp);
        }
        self.rtcp.take(bytes);
        Ok(())
    }

    /// A compound that was paid for speaks of so many packets. In two bytes it can say of thousands that they are lost; what that takes to
    /// hear is paid afterwards, with what comes next.
    pub(super) fn owe_rtcp(&mut self, packets: usize) {
        self.rtcp.take(u32::try_from(packets / PACKETS_PER_BYTE).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packets(allowance: &mut Allowance, bytes: usize, is_sound: bool, now: Instant) -> (usize, Over) {
        let mut count = 0;
        loop {
            match allowance.spend(bytes, is_sound, now) {
                Ok(()) => count += 1,
                Err(over) => return (count, over),
            }
        }
    }

    #[test]
    fn small_packets_count_as_more_than_they_are_and_sound_does_not_use_up_what_pictures_need() {
        let now = crate::rtp::beginning();
        let mut allowance = Allowance::new(KBPS, now);
        assert_eq!(packets(&mut allowance, 60, true, now), (500, Over::Sound));
        // 2.5 MB, of which sound took 500 times 500 bytes.
        assert_eq!(packets(&mut allowance, 1_000, false, now), (2_250, Over::Bitrate));
        let later = now + Duration::from_secs(1);
        assert_eq!(packets(&mut allowance, 1_000, true, later), (125, Over::Sound));
        let latest = later + Duration::from_secs(60);
        assert_eq!(
            packets(&mut allowance, 1, false, latest),
            (5_000, Over::Bitrate),
            "no more than a second's"
        );
        assert_eq!(allowance.spend(1, true, latest), Err(Over::Bitrate), "sound is of everything, too");
    }
}
