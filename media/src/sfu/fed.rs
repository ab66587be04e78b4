//! Publishers within this process: what a stream's encoder sent over another door is sent to many viewers on the same path as what
//! participants send each other.
//!
//! Such a publisher cannot be asked for a keyframe, so who comes in the middle of a GOP is sent what it has missed of it: at a pace its
//! path can take, with timestamps drawn together, so that it is decoded at once and not played late. Where the ring does not reach back
//! to the keyframe any more the next one is waited for. So is it with who has lost the thread, as a browser has whose keys were not made yet
//! when the first packets came: it asks for a keyframe, and is sent the present GOP once more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::allowance::Allowance;
use super::feedback::ntp_of;
use super::forward::Arrived;
use super::member::{StreamOf, Track, source_id};
use super::silence::Heard;
use super::{Member, MemberId, Out, RoomKey, Sfu, SfuError, Source, TrackKey};
use crate::peer::Peer;
use crate::rtp::payload::Codec;
use crate::rtp::ring::{Kept, Ring};
use crate::sdp::{Kind, Offer};

/// Packets of what was missed that are sent to one viewer in a turn of 25 ms, beside what is new: about 15 Mbit/s.
const CATCH_UP_PACKETS: usize = 40;
/// By how much the time of what was missed is drawn together: a GOP of two seconds passes in a tenth of one.
const SQUEEZE: u32 = 20;

/// Who asks for a keyframe has begun anew at most so often: a browser asks several times for one.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What is kept of a feed: nobody can ask it for a keyframe, so who comes is sent its present GOP from here. Four seconds at 4 Mbit/s.
const KEPT_PACKETS: usize = 2_048;
/// For how long: the longest GOP who comes in its middle need not wait through, and the longest that encoders make unless they are told
/// otherwise.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// A packet of a publisher within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What the codec made.
    pub payload: Bytes,
    /// In the codec's clock.
    pub timestamp: u32,
    /// Ends a picture.
    pub marker: bool,
}

/// What is known of a publisher within.
#[derive(Debug, Default)]
pub(super) struct Fed {
    /// The number of the next packet of each track.
    next: HashMap<TrackKey, u16>,
    /// Where the present GOP of a track began: number and timestamp.
    gop: HashMap<TrackKey, (u16, u32)>,
}

/// What a viewer is still to be sent of what came before.
#[derive(Debug, Clone, Copy)]
pub(super) struct CatchUp {
    next: u16,
}

/// Draws together the time before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Squeeze {
    until: u32,
}

impl Squeeze {
    /// The timestamp under which a packet is shown.
    pub(super) fn shown(self, timestamp: u32) -> u32 {
        match self.until.wrapping_sub(timestamp) {
            before @ 1..0x8000_0000 => self.until.wrapping_sub(before / SQUEEZE),
            _ => timestamp,
        }
    }
}

impl Sfu {
    /// A publisher within, and its tracks. It leaves as everybody does.
    pub fn open_feed(
        &mut self,
        room: RoomKey,
        tracks: &[(TrackKey, Source, Codec)],
        now: Instant,
    ) -> Result<MemberId, SfuError> {
        let id = self.next_id(now)?;
        let nobodys = self.credentials(id)?;
        // Nobody is ever told its password, so nothing that comes is its.
        let peer = Peer::new(self.identity.clone(), nobodys.clone(), [0; 32], now);
        let nothing = Offer { sections: Vec::new(), fingerprint: [0; 32], ice: nobodys };
        let mut member = Member::new(id, room, peer, &nothing, Allowance::none(now), now);
        let track = |(key, source, codec): &(TrackKey, Source, Codec)| {
            let mut track = Track::new(*key, "", *source, false, *codec, &[]);
            for layer in &mut track.layers {
                layer.ring = Ring::keeping(KEPT_PACKETS, KEPT_FOR);
            }
            track
        };
        member.tracks = tracks.iter().map(track).collect();
        member.fed = Some(Fed::default());
        self.members.insert(member);
        let room = self.rooms.entry(room).or_default();
        room.members.push(id.index);
        room.stale = true;
        Ok(id)
    }

    /// Packets of one picture, or of one piece of sound, in order. `at_us` is their time on the stream's own clock, the same for all its
    /// tracks, in microseconds. They came at `came`, which is `now` unless they are what was kept of the time before somebody watched.
    #[expect(clippy::too_many_arguments, reason = "two clocks of the packets, and ours")]
    pub fn feed(
        &mut self,
        id: MemberId,
        key: TrackKey,
        at_us: u64,
        came: Instant,
        packets: &[Packet],
        now: Instant,
        out: &mut Out,
    ) -> Result<(), SfuError> {
        let epoch = self.epoch;
        for packet in packets {
            let member = self.member(id)?;
            let Some(fed) = &mut member.fed else { return Err(SfuError::Gone) };
            let next = fed.next.entry(key).or_insert(0);
            let sequence = *next;
            *next = next.wrapping_add(1);
            let Some(track) = member.tracks.iter_mut().find(|track| track.key == key) else {
                return Err(SfuError::Gone);
            };
            let codec = track.codec;
            let kept = Kept {
                sequence,
                timestamp: packet.timestamp,
                marker: packet.marker,
                keyframe: codec.begins_keyframe(&packet.payload),
                payload: packet.payload.clone(),
                at: came,
                descriptor: Bytes::new(),
                part: None,
            };
            let is_new = fed.gop.get(&key).is_none_or(|(_, timestamp)| *timestamp != packet.timestamp);
            if kept.keyframe && is_new {
                fed.gop.insert(key, (sequence, packet.timestamp));
            }
            let ntp = ((at_us / 1_000_000) << 32) | (((at_us % 1_000_000) << 32) / 1_000_000);
            let shift = ntp_of(came.saturating_duration_since(epoch)).wrapping_sub(ntp);
            member.ntp_shift.get_or_insert(shift);
            let Some(layer) = track.layers.first_mut() else { return Err(SfuError::Gone) };
            layer.hear(&kept, came);
            layer.report = Some((ntp, packet.timestamp, came));
            layer.ring.put(kept.clone());
            let subscribers = std::mem::take(&mut track.subscribers);
            let stream = StreamOf { track: key, layer: 0, repairs: false };
            self.counts.packets_in += 1;
            self.counts.bytes_in += kept.payload.len() as u64;
            self.deliver(
                id.index,
                Arrived { codec, stream, kept, heard: Heard::Sound, subscribers },
                now,
                out,
            );
        }
        Ok(())
    }

    /// Sends viewers what they have missed of the present GOP.
    pub(super) fn bring_up_to_date(&mut self, now: Instant, out: &mut Out) {
        let feeds: Vec<u32> = self
            .members
            .iter()
            .filter(|(_, member)| member.fed.is_some())
            .map(|(_, member)| member.id.index)
            .collect();
        for from in feeds {
            let Some(member) = self.members.get(from as usize) else { continue };
            let pictures = member.tracks.iter().filter(|track| track.source.kind() == Kind::Video);
            let waiting: Vec<(TrackKey, u32, usize)> = pictures
                .flat_map(|track| track.subscribers.iter().map(|(to, at)| (track.key, *to, *at)))
                .collect();
            for (key, to, at) in waiting {
                self.contain(Some(to), now, out, |sfu, out| {
                    sfu.bring_one_up_to_date(from, key, to, at, now, out);
                });
            }
        }
    }

    /// A viewer asks for a keyframe of a feed: it begins anew with the present GOP, where that is kept. `false` when the publisher is none
    /// of ours, and can be asked.
    pub(super) fn begin_anew(&mut self, to: u32, at: usize, from: u32, key: TrackKey, now: Instant) -> bool {
        if self.members.get(from as usize).is_none_or(|member| member.fed.is_none()) {
            return false;
        }
        if self.present_gop(from, key).is_some()
            && let Some(slot) = self.members.get_mut(to as usize).and_then(|member| member.slots.get_mut(at))
            && slot.catching_up.is_none()
            && slot.joined_at.is_none_or(|at| now.saturating_duration_since(at) >= AGAIN_AFTER)
        {
            slot.rewriter.release();
            slot.starving = true;
        }
        true
    }

    fn bring_one_up_to_date(
        &mut self,
        from: u32,
        key: TrackKey,
        to: u32,
        at: usize,
        now: Instant,
        out: &mut Out,
    ) {
        let Some(slot) = self.members.get(to as usize).and_then(|member| member.slots.get(at)) else {
            return;
        };
        let mut catching_up = slot.catching_up;
        if slot.starving && catching_up.is_none() && slot.rewriter.source() != Some(source_id(key, 0)) {
            let Some((first, until)) = self.present_gop(from, key) else { return };
            catching_up = Some(CatchUp { next: first });
            self.set_catching_up(to, at, catching_up, Some(Squeeze { until }));
            let slot = self.members.get_mut(to as usize).and_then(|member| member.slots.get_mut(at));
            slot.into_iter().for_each(|slot| slot.joined_at = Some(now));
        }
        let Some(mut place) = catching_up else { return };
        let stream = StreamOf { track: key, layer: 0, repairs: false };
        for _ in 0..CATCH_UP_PACKETS {
            let track = self.members.get(from as usize);
            let Some(track) = track.and_then(|it| it.tracks.iter().find(|track| track.key == key)) else {
                return;
            };
            let codec = track.codec;
            let Some(ring) = track.layers.first().map(|layer| &layer.ring) else { return };
            let Some(mut kept) = ring.get(place.next).cloned() else {
                // All is sent; or it was overtaken by what is new, and the next keyframe has to do.
                self.set_catching_up(to, at, None, None);
                return;
            };
            let slot = self.members.get(to as usize).and_then(|member| member.slots.get(at));
            let joined = slot.and_then(|slot| slot.joined);
            kept.timestamp = joined.map_or(kept.timestamp, |joined| joined.shown(kept.timestamp));
            self.send(to, at, stream, codec, &kept, now, out);
            place.next = place.next.wrapping_add(1);
        }
        self.set_catching_up(to, at, Some(place), None);
    }

    /// Where the present GOP of a track begins, and the latest time of it; none when the ring does not reach back so far.
    fn present_gop(&self, from: u32, key: TrackKey) -> Option<(u16, u32)> {
        let member = self.members.get(from as usize)?;
        let (first, _) = *member.fed.as_ref()?.gop.get(&key)?;
        let track = member.tracks.iter().find(|track| track.key == key)?;
        let ring = &track.layers.first()?.ring;
        ring.get(first)?;
        Some((first, ring.get(ring.newest()?)?.timestamp))
    }

    fn set_catching_up(&mut self, to: u32, at: usize, place: Option<CatchUp>, joined: Option<Squeeze>) {
        let slot = self.members.get_mut(to as usize).and_then(|member| member.slots.get_mut(at));
        if let Some(slot) = slot {
            slot.catching_up = place;
            slot.joined = joined.or(slot.joined);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_passes_quickly_and_in_order() {
        let squeeze = Squeeze { until: 100 };
        let times = [100_u32.wrapping_sub(180_000), 100_u32.wrapping_sub(3_000), 100, 3_100];
        assert_eq!(
            times.map(|time| squeeze.shown(time)),
            [100_u32.wrapping_sub(9_000), 100_u32.wrapping_sub(150), 100, 3_100]
        );
    }
}
