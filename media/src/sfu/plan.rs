//! What each participant is sent of what is in its slots: as much as is of use and as its path carries.

use std::time::{Duration, Instant};

use super::binding::layer_for;
use super::member::{Member, Slot, Track, source_id};
use super::{Event, Out, Sfu, Source, TrackKey};
use crate::bandwidth::allocate::{Rank, Snapshot, Step, Wish, allocate};
use crate::rtp::packet::PACKET_BYTES_MAX;
use crate::sdp::Kind;

/// What a voice is taken to cost, bits a second, with what the network adds.
const VOICE_BPS: u64 = 50_000;
/// What layers are taken to cost before anything of them was seen, bits a second.
const UNSEEN_BPS: [u64; 3] = [150_000, 500_000, 1_700_000];
/// What the network adds to each payload: IP, UDP, SRTP and the header, of about a thousand bytes.
const OVERHEAD_PERCENT: u64 = 7;
/// A slot that was paused comes back only after so long, or it would flutter.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Packets that are sent again, and packets of nothing, at a time to see what a path carries.
const PROBE_PACKETS_MAX: usize = 64;

/// What a subscriber's slot could show.
struct Choice {
    slot: usize,
    publisher: u32,
    key: TrackKey,
}

impl Sfu {
    /// Chooses layers for everybody in a room.
    pub(super) fn plan(&mut self, members: &[u32], now: Instant, out: &mut Out) {
        for index in members {
            self.work_on(*index);
            let Some(member) = self.members.get(*index as usize).filter(|member| member.is_reached()) else {
                continue;
            };
            let (choices, snapshot) = self.snapshot(member, now);
            let plan = allocate(&snapshot);
            let Some(member) = self.members.get_mut(*index as usize) else { continue };
            let voices = member.voices_bps();
            let padding = member.estimator.padding_due(plan.wanted_bps + voices, now);
            for ((choice, wish), step) in choices.iter().zip(&snapshot.wishes).zip(&plan.steps) {
                let Some(slot) = member.slots.get_mut(choice.slot) else { continue };
                let was_paused = slot.paused_at.is_some();
                slot.heed(wish, *step, choice.key, now);
                if slot.paused_at.is_some() != was_paused {
                    out.events.push(Event::Paused(member.id, choice.key, !was_paused));
                }
            }
            if padding > 0 {
                self.probe(*index, padding, now, out);
            }
            for choice in choices {
                self.catch_up(*index, &choice, now, out);
            }
        }
        self.work_on_all();
        self.tell_publishers(members, out);
    }

    fn snapshot(&self, member: &Member, now: Instant) -> (Vec<Choice>, Snapshot) {
        let bound = |slot: &&Slot| slot.kind == Kind::Video && slot.bound.is_some();
        let highest = member.slots.iter().filter(bound).map(|slot| slot.height).max().unwrap_or(0);
        let alone = member.slots.iter().filter(bound).filter(|slot| slot.height == highest).count() == 1;
        let (mut choices, mut wishes) = (Vec::new(), Vec::new());
        let mut slots: Vec<(usize, &Slot)> =
            member.slots.iter().enumerate().filter(|(_, slot)| bound(slot)).collect();
        slots.sort_by_key(|(_, slot)| slot.place);
        for (at, slot) in slots {
            let Some((publisher, key)) = slot.bound else { continue };
            let track = self.members.get(publisher as usize).and_then(|from| from.track_of(key));
            let Some(track) = track else { continue };
            let rank = match track.source {
                Source::Screen => Rank::Screen,
                _ if alone && slot.height == highest => Rank::Stage,
                _ => Rank::Tile,
            };
            let steps = track.steps(slot.height, slot.fps, now);
            let shown = slot.paused_at.is_none().then_some((slot.target, slot.temporal));
            let place = |(layer, temporal): (usize, u8)| {
                steps.iter().rposition(|step| step.layer == layer && step.temporal <= temporal)
            };
            wishes.push(Wish { rank, priority: slot.priority, now: shown.and_then(place), steps });
            choices.push(Choice { slot: at, publisher, key });
        }
        let budget = member.estimator.budget_bps(now);
        let budget_bps = budget.map(|budget| budget.saturating_sub(member.voices_bps()));
        (choices, Snapshot { budget_bps, wishes })
    }

    /// Publishers are asked for the keyframes that somebody waits for, and told what nobody watches.
    fn tell_publishers(&mut self, members: &[u32], out: &mut Out) {
        for index in members {
            let Some(publisher) = self.members.get_mut(*index as usize) else { continue };
            let publisher_id = publisher.id;
            let mut tracks = std::mem::take(&mut publisher.tracks);
            for track in tracks.iter_mut().filter(|track| track.source.kind() == Kind::Video) {
                let mut wanted = None;
                for (subscriber, at) in &track.subscribers {
                    let member = self.members.get(*subscriber as usize);
                    let Some(slot) = member.and_then(|it| it.slots.get(*at)) else { continue };
                    wanted = wanted.max(Some(layer_for(slot.height, track.layers.len())));
                    if let (true, Some(layer)) = (slot.waits(track.key), track.layers.get_mut(slot.target)) {
                        layer.keyframe_wanted = true;
                    }
                }
                if track.wanted != Some(wanted) {
                    track.wanted = Some(wanted);
                    out.events.push(Event::Wanted(publisher_id, track.key, wanted));
                }
            }
            if let Some(publisher) = self.members.get_mut(*index as usize) {
                publisher.tracks = tracks;
            }
        }
    }

    /// Who waits for a keyframe that has just passed is sent it from what is kept, and what followed it.
    fn catch_up(&mut self, to: u32, choice: &Choice, now: Instant, out: &mut Out) {
        let member = self.members.get(to as usize);
        let Some(slot) = member.and_then(|member| member.slots.get(choice.slot)) else { return };
        if !slot.waits(choice.key) {
            return;
        }
        let target = slot.target;
        let track = self.members.get(choice.publisher as usize).and_then(|from| from.track_of(choice.key));
        let Some((track, layer)) = track.and_then(|track| Some((track, track.layers.get(target)?))) else {
            return;
        };
        let codec = track.codec;
        let kept = layer.since_keyframe(now);
        let stream = super::member::StreamOf { track: choice.key, layer: target, repairs: false };
        for kept in kept {
            self.send(to, choice.slot, stream, codec, &kept, now, out);
        }
    }

    /// Sends as much as is due to see what the path carries: what was just sent once more, since that may be of use, and packets of nothing
    /// where nothing was. Who is sent no picture at all because the path seemed too narrow would never see one again without them.
    fn probe(&mut self, to: u32, bytes: usize, now: Instant, out: &mut Out) {
        let Some(member) = self.members.get(to as usize) else { return };
        // On the slot that was sent most lately and knows retransmissions: a receiver drops what it has already.
        let fits = |slot: &&Slot| {
            slot.kind == Kind::Video && slot.bound.is_some() && slot.rewriter.source().is_some()
        };
        let busiest = member.slots.iter().filter(fits).max_by_key(|slot| slot.bytes);
        let busiest = busiest.map(|slot| (slot.ssrc, slot.rewriter.next_sequence()));
        let repeats = busiest.into_iter().flat_map(|(ssrc, newest)| {
            (1..=PROBE_PACKETS_MAX as u16).map(move |back| (ssrc, newest.wrapping_sub(back)))
        });
        let mut left = bytes;
        for (ssrc, sequence) in repeats {
            if left == 0 {
                return;
            }
            let sent = self.send_again(to, ssrc, sequence, None, now, out);
            self.counts.probes += u64::from(sent.is_some());
            left = left.saturating_sub(sent.unwrap_or(0).min(PACKET_BYTES_MAX));
        }
        for _ in 0..PROBE_PACKETS_MAX {
            if left == 0 {
                return;
            }
            let Some(sent) = self.send_padding(to, now, out) else { return };
            self.counts.probes += 1;
            left = left.saturating_sub(sent);
        }
    }
}

impl Member {
    /// What voices are taken to cost.
    fn voices_bps(&self) -> u64 {
        let voices = self.slots.iter().filter(|slot| slot.kind == Kind::Audio && slot.bound.is_some());
        voices.count() as u64 * VOICE_BPS
    }
}

impl Track {
    /// Qualities that would fit a tile of so many lines and pictures a second, the cheapest first.
    fn steps(&self, height: u16, fps: Option<u8>, now: Instant) -> Vec<Step> {
        let fitting = layer_for(height, self.layers.len());
        let there = |at: &usize| self.layers.get(*at).is_some_and(|layer| layer.is_there(now));
        let mut usable: Vec<usize> = (0..=fitting).filter(there).collect();
        if usable.is_empty() {
            // A larger one is better than nothing; and where nothing comes at all, the lowest may be the first that does.
            usable.extend((fitting + 1..self.layers.len()).find(there));
        }
        if usable.is_empty() && !self.layers.is_empty() {
            usable.push(0);
        }
        let mut steps: Vec<Step> = Vec::with_capacity(usable.len() * 2);
        for at in usable {
            let Some(layer) = self.layers.get(at) else { continue };
            let unseen = UNSEEN_BPS.get(at).copied().unwrap_or(0);
            let gross = |bps: u64| bps + bps * OVERHEAD_PERCENT / 100;
            let most = layer.rate.temporal_for(fps);
            let (base, whole) = (layer.rate.bps(0, unseen), layer.rate.bps(most, unseen));
            if layer.rate.has_temporal() && most > 0 && base < whole {
                steps.push(Step { layer: at, temporal: 0, bps: gross(base) });
            }
            steps.push(Step { layer: at, temporal: most, bps: gross(whole) });
        }
        // A publisher whose higher layer is the cheaper one just now.
        let mut most = 0;
        for step in &mut steps {
            most = step.bps.max(most);
            step.bps = most;
        }
        steps
    }
}

impl Slot {
    /// Whether it needs a keyframe of its target.
    pub(super) fn waits(&self, key: TrackKey) -> bool {
        self.kind == Kind::Video
            && self.paused_at.is_none()
            && (self.starving || self.rewriter.source() != Some(source_id(key, self.target)))
    }

    fn heed(&mut self, wish: &Wish, step: Option<usize>, key: TrackKey, now: Instant) {
        let Some(step) = step.and_then(|step| wish.steps.get(step)) else {
            if self.paused_at.is_none() {
                self.paused_at = Some(now);
                self.rewriter.release();
            }
            return;
        };
        if self.paused_at.is_some_and(|at| now.saturating_duration_since(at) < PAUSE_MIN) {
            return;
        }
        if self.paused_at.take().is_some() {
            self.starving = true;
        }
        // Where the path does not carry what is sent now, nothing more of it is sent until the smaller one begins.
        let present = self.rewriter.source().filter(|source| source >> 2 == key);
        let falls = present.is_some_and(|source| (source & 3) as usize > step.layer);
        let before = wish.now.and_then(|now| wish.steps.get(now));
        if falls && before.is_some_and(|before| before.bps > step.bps) {
            self.rewriter.release();
            self.starving = true;
        }
        (self.target, self.temporal) = (step.layer, step.temporal);
    }
}
