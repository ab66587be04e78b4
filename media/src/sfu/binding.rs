//! Which track is in which slot, which layer of it, and who speaks.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::member::{Slot, Track};
use super::silence::Heard;
use super::{Event, MemberId, Out, RoomKey, Sfu, Source, TrackKey};
use crate::sdp::Kind;

/// Voices that are heard at a time, where more would like to be; slots for sound of a participant.
pub const SPEAKERS_MAX: usize = 3;
/// Slots for pictures of a participant.
pub const PICTURES_MAX: usize = 25;
/// The level of silence (RFC 6464: -127 dBov).
pub(super) const SILENCE: f32 = 127.0;
/// Louder than this is speech, in -dBov.
const SPEECH: f32 = 50.0;
/// Who spoke within this still speaks.
const SPEECH_PAUSE: Duration = Duration::from_millis(1_500);
/// A voice that is heard is replaced only by one that is louder by this much, in dB.
const HYSTERESIS: f32 = 6.0;
/// The height of a camera's picture in its highest layer, where nothing else is known; each lower layer has half.
const FULL_HEIGHT: u16 = 720;

/// What a participant wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Of which track.
    pub track: TrackKey,
    /// How high it is shown, in pixels.
    pub height: u16,
    /// Pictures a second that are enough; `None`: all there are. Fewer are sent where the stream has temporal layers, and never fewer than
    /// this if there are so many.
    pub fps: Option<u8>,
    /// Of two wishes the one with the higher number is let in first, sent better pictures first, and paused last. Of equal ones the first
    /// is let in first and paused last, and they get better in turns.
    pub priority: u8,
}

impl Want {
    /// A track so high, with all its pictures and no precedence.
    pub fn new(track: TrackKey, height: u16) -> Want {
        Want { track, height, fps: None, priority: 0 }
    }
}

/// What could be in a slot.
struct Candidate {
    member: u32,
    key: TrackKey,
    kind: Kind,
    source: Source,
    codec: crate::rtp::payload::Codec,
    level: f32,
    spoke_at: Option<Instant>,
}

impl Track {
    /// A packet of this loudness came, in -dBov.
    pub(super) fn hear(&mut self, level: u8, now: Instant) -> Heard {
        let heard = self.silence.hear(level, now);
        // Quick to rise, slow to fall: a word's pause is not a silence. At 50 packets a second this is about 100 ms and 1 s.
        let level = f32::from(level);
        let share = if level < self.level { 0.2 } else { 0.02 };
        self.level += (level - self.level) * share;
        if self.level < SPEECH {
            self.spoke_at = Some(now);
        }
        heard
    }
}

impl Sfu {
    /// Brings slots, layers and speakers up to date.
    pub(super) fn bind(&mut self, now: Instant, out: &mut Out) {
        let keys: Vec<RoomKey> = self.rooms.keys().copied().collect();
        for key in keys {
            self.contain_in(key, now, out, |sfu, out| sfu.bind_room(key, now, out));
        }
    }

    fn bind_room(&mut self, key: RoomKey, now: Instant, out: &mut Out) {
        let Some(room) = self.rooms.get(&key) else { return };
        let members = room.members.clone();
        let mut candidates = self.candidates(&members);
        // Who speaks: the loudest first, and nobody overtakes by a breath.
        let before = room.speakers.clone();
        let speaks = |candidate: &&Candidate| {
            candidate.source == Source::Microphone
                && candidate.spoke_at.is_some_and(|at| now.saturating_duration_since(at) < SPEECH_PAUSE)
        };
        let mut speakers: Vec<&Candidate> = candidates.iter().filter(speaks).collect();
        let loudness = |candidate: &Candidate| {
            candidate.level - if before.contains(&candidate.member) { HYSTERESIS } else { 0.0 }
        };
        speakers.sort_by(|a, b| loudness(a).total_cmp(&loudness(b)));
        let speakers: Vec<u32> =
            speakers.iter().take(SPEAKERS_MAX).map(|candidate| candidate.member).collect();
        let changed = speakers.iter().collect::<HashSet<_>>() != before.iter().collect::<HashSet<_>>();
        let Some(room) = self.rooms.get_mut(&key) else { return };
        let stale = std::mem::take(&mut room.stale) || changed;
        if changed {
            room.speakers.clone_from(&speakers);
            let ids: Vec<MemberId> = speakers
                .iter()
                .filter_map(|index| self.members.get(*index as usize))
                .map(|it| it.id)
                .collect();
            out.events.push(Event::Speakers(key, ids));
        }
        if stale {
            // The order in which voices and faces are let in. The sound of what is shared comes after whoever speaks loudest: who hears
            // only one hears a voice, and nobody is shown something they cannot hear because others have said a word.
            let sounds = candidates.iter().filter(|candidate| candidate.source == Source::ScreenAudio);
            let shared = sounds.map(|candidate| candidate.key).min();
            candidates.sort_by_key(|candidate| {
                let place = speakers.iter().position(|speaker| *speaker == candidate.member);
                let rank = match candidate.source {
                    Source::ScreenAudio if shared == Some(candidate.key) => Some(1),
                    Source::ScreenAudio => None,
                    _ => place.map(|place| 2 * place),
                };
                (
                    candidate.source != Source::Screen,
                    rank.unwrap_or(usize::MAX),
                    Reverse(candidate.spoke_at),
                    candidate.key,
                )
            });
            for member in &members {
                self.fill_slots(*member, &candidates, out);
            }
            self.subscribe(&members);
        }
        self.plan(&members, now, out);
    }

    fn candidates(&self, members: &[u32]) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for index in members {
            let Some(member) = self.members.get(*index as usize).filter(|member| !member.failed) else {
                continue;
            };
            candidates.extend(member.tracks.iter().filter(|track| !track.muted).map(|track| Candidate {
                member: *index,
                key: track.key,
                kind: track.source.kind(),
                source: track.source,
                codec: track.codec,
                level: track.level,
                spoke_at: track.spoke_at,
            }));
        }
        candidates
    }

    fn fill_slots(&mut self, index: u32, candidates: &[Candidate], out: &mut Out) {
        // Before it is connected nothing can be sent, and whoever ordered it may not know its id yet.
        let member = self.members.get_mut(index as usize).filter(|member| member.is_reached());
        let Some(member) = member else { return };
        let wants = member.wants.clone();
        let faces_max = self.faces_max;
        let mut changed = false;
        for kind in [Kind::Audio, Kind::Video] {
            let others =
                candidates.iter().filter(|candidate| candidate.kind == kind && candidate.member != index);
            let room = member.slots.iter().filter(|slot| slot.kind == kind).count();
            let room = if kind == Kind::Video { room.min(faces_max) } else { room };
            let chosen: Vec<(&Candidate, Want)> = match (&wants, kind) {
                (Some(wants), Kind::Video) => wants
                    .iter()
                    .filter_map(|want| Some((others.clone().find(|one| one.key == want.track)?, *want)))
                    .take(room)
                    .collect(),
                _ => others
                    .map(|candidate| (candidate, Want::new(candidate.key, FULL_HEIGHT)))
                    .take(room)
                    .collect(),
            };
            let is_chosen = |key: TrackKey| chosen.iter().any(|(candidate, _)| candidate.key == key);
            let of_kind = |slot: &&mut Slot| slot.kind == kind;
            for slot in member.slots.iter_mut().filter(of_kind) {
                if slot.bound.is_some_and(|(_, key)| !is_chosen(key)) {
                    slot.empty();
                    changed = true;
                }
            }
            for (place, (candidate, want)) in chosen.into_iter().enumerate() {
                let there = member
                    .slots
                    .iter_mut()
                    .find(|slot| slot.bound == Some((candidate.member, candidate.key)));
                let free = |slot: &&mut Slot| {
                    slot.kind == kind && slot.bound.is_none() && slot.format(candidate.codec).is_some()
                };
                let slot = match there {
                    Some(slot) => slot,
                    None => {
                        let Some(slot) = member.slots.iter_mut().find(free) else { continue };
                        slot.bound = Some((candidate.member, candidate.key));
                        slot.starving = kind == Kind::Video;
                        changed = true;
                        slot
                    }
                };
                (slot.height, slot.fps, slot.priority, slot.place) =
                    (want.height, want.fps, want.priority, place);
            }
        }
        if changed {
            let slots = member.slots.iter().map(|slot| (slot.mid.clone(), slot.bound.map(|(_, key)| key)));
            out.events.push(Event::Slots(member.id, slots.collect()));
        }
    }

    /// Tells tracks who has them in a slot.
    fn subscribe(&mut self, members: &[u32]) {
        for index in members {
            let Some(member) = self.members.get_mut(*index as usize) else { continue };
            for track in &mut member.tracks {
                track.subscribers.clear();
            }
        }
        for index in members {
            let Some(member) = self.members.get(*index as usize) else { continue };
            let bound: Vec<(usize, u32, TrackKey)> = member
                .slots
                .iter()
                .enumerate()
                .filter_map(|(at, slot)| slot.bound.map(|(publisher, key)| (at, publisher, key)))
                .collect();
            for (at, publisher, key) in bound {
                let track = self.members.get_mut(publisher as usize).and_then(|member| member.track(key));
                if let Some(track) = track {
                    track.subscribers.push((*index, at));
                }
            }
        }
    }
}

impl Slot {
    fn empty(&mut self) {
        self.bound = None;
        self.rewriter.release();
        self.starving = false;
        self.paused_at = None;
        self.catching_up = None;
        self.joined = None;
    }
}

/// The lowest layer that is not smaller than what is shown.
pub(super) fn layer_for(height: u16, layers: usize) -> usize {
    let highest = layers.saturating_sub(1);
    let fits = |layer: &usize| FULL_HEIGHT >> (highest - layer) >= height;
    (0..layers).find(fits).unwrap_or(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_tile_gets_a_small_layer() {
        let heights = [90, 180, 181, 360, 361, 720, 2_000];
        assert_eq!(heights.map(|height| layer_for(height, 3)), [0, 0, 1, 1, 2, 2, 2]);
        assert_eq!(heights.map(|height| layer_for(height, 1)), [0; 7]);
        assert_eq!(layer_for(100, 0), 0);
    }
}
