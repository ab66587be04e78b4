//! RTCP in both directions, and what is due when.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::member::{Member, Track};
use super::{Event, Out, Sfu};
use crate::rtp::rtcp::{self, Rtcp};
use crate::sdp::Kind;

/// Publishers hear so often when their packets arrived: their estimate of the path lives on it.
const ARRIVALS_EVERY: Duration = Duration::from_millis(50);
/// Reports in both directions.
const REPORTS_EVERY: Duration = Duration::from_secs(1);
/// Our SSRC as a receiver; it sends nothing.
const RECEIVER: u32 = 1;

impl Sfu {
    pub(super) fn hear_rtcp(&mut self, from: u32, compound: &BytesMut, now: Instant, out: &mut Out) {
        let epoch = self.epoch;
        let Some(member) = self.members.get_mut(from as usize) else { return };
        if let Err(over) = member.allowance.spend_rtcp(compound.len(), now) {
            return self.refuse(over);
        }
        let mut heard = Vec::new();
        // What came before something broken is as good.
        let _ = rtcp::read(compound, |one| heard.push(one));
        for one in heard {
            match one {
                Rtcp::SenderReport { ssrc, ntp, timestamp } => {
                    let Some(member) = self.members.get_mut(from as usize) else { return };
                    member.hear_report(ssrc, ntp, timestamp, epoch, now);
                }
                Rtcp::Nack { ssrc, sequences } => {
                    self.counts.nacked += sequences.len() as u64;
                    self.repeat(from, ssrc, &sequences, now, out);
                }
                Rtcp::KeyframeRequest { ssrc } => {
                    self.counts.keyframes_wished += 1;
                    self.want_keyframe(from, ssrc, now);
                }
                Rtcp::Feedback(feedback) => {
                    let Some(member) = self.members.get_mut(from as usize) else { return };
                    member.allowance.owe_rtcp(feedback.arrivals.len());
                    member.estimator.hear(&feedback, now);
                }
                Rtcp::Remb { bitrate_bps } => {
                    let Some(member) = self.members.get_mut(from as usize) else { return };
                    member.estimator.hear_remb(bitrate_bps);
                }
                Rtcp::Reception(report) => {
                    let Some(member) = self.members.get_mut(from as usize) else { return };
                    if member.slots.iter().any(|slot| slot.kind == Kind::Video && slot.ssrc == report.ssrc) {
                        member.estimator.hear_loss(report.fraction_lost, now);
                    }
                }
                Rtcp::Goodbye { .. } => {}
            }
        }
    }

    fn want_keyframe(&mut self, of: u32, ssrc: u32, now: Instant) {
        let Some(member) = self.members.get(of as usize) else { return };
        let found = member.slots.iter().enumerate().find(|(_, slot)| slot.ssrc == ssrc);
        let Some((at, slot)) = found else { return };
        let (Some((publisher, key)), target) = (slot.bound, slot.target) else { return };
        if self.begin_anew(of, at, publisher, key, now) {
            return;
        }
        let track = self.members.get_mut(publisher as usize).and_then(|member| member.track(key));
        if let Some(layer) = track.and_then(|track| track.layers.get_mut(target)) {
            layer.keyframe_wanted = true;
        }
    }

    /// A subscriber has lost what was sent while its network changed: its pictures wait for a keyframe, which it would ask for only seconds later.
    fn begin_pictures_anew(&mut self, of: u32, now: Instant) {
        let Some(member) = self.members.get(of as usize) else { return };
        let pictures = member.slots.iter().filter(|slot| slot.kind == Kind::Video && slot.bound.is_some());
        let ssrcs: Vec<u32> = pictures.map(|slot| slot.ssrc).collect();
        for ssrc in ssrcs {
            self.want_keyframe(of, ssrc, now);
        }
    }

    /// Everything that is due.
    pub(super) fn report(&mut self, now: Instant, out: &mut Out) {
        let indexes: Vec<usize> = self.members.iter().map(|(index, _)| index).collect();
        for index in indexes {
            self.contain(Some(index as u32), now, out, |sfu, out| sfu.report_one(index, now, out));
        }
    }

    fn report_one(&mut self, index: usize, now: Instant, out: &mut Out) {
        let Some(member) = self.members.get_mut(index) else { return };
        if member.failed || member.fed.is_some() || member.listens {
            return;
        }
        if let Err(failure) = member.peer.poll(now, &mut out.transmits) {
            member.failed = true;
            out.events.push(Event::Failed(member.id, failure));
            let room = member.room;
            return self.mark_stale(room);
        }
        if !member.peer.is_connected() {
            return;
        }
        if member.peer.take_moved() {
            self.begin_pictures_anew(index as u32, now);
        }
        let Some(member) = self.members.get_mut(index) else { return };
        let mut compound = Vec::new();
        let (asked, keyframes) = member.write_wishes(&mut compound, now);
        self.counts.asked_again += asked;
        self.counts.keyframes_asked += keyframes;
        let due = member.reported.is_none_or(|at| now.saturating_duration_since(at) >= REPORTS_EVERY);
        if due {
            member.reported = Some(now);
            for layer in member.tracks.iter_mut().flat_map(|track| &mut track.layers) {
                layer.ring.age(now);
            }
            member.write_receiver_report(&mut compound, now);
        }
        let transmit = (!compound.is_empty()).then(|| member.peer.write_rtcp(&compound)).flatten();
        out.transmits.extend(transmit);
        if due {
            self.report_to_subscriber(index, now, out);
        }
    }

    /// Tells a subscriber when the timestamps of its slots are, so that lips and voices go together.
    fn report_to_subscriber(&mut self, index: usize, now: Instant, out: &mut Out) {
        let Some(member) = self.members.get(index) else { return };
        let mut compound = Vec::new();
        for slot in &member.slots {
            let (Some((publisher, key)), Some(source), Some(shift)) =
                (slot.bound, slot.rewriter.source(), slot.rewriter.shift())
            else {
                continue;
            };
            let Some(publisher) = self.members.get(publisher as usize) else { continue };
            let track = publisher.tracks.iter().find(|track| track.key == key && source >> 2 == key);
            let layer = track.and_then(|track| Some((track, track.layers.get((source & 3) as usize)?)));
            let Some((track, layer)) = layer else { continue };
            let (Some((ntp, timestamp, at)), Some(to_ours)) = (layer.report, publisher.ntp_shift) else {
                continue;
            };
            // What the publisher said, brought forward to now.
            let passed = now.saturating_duration_since(at);
            let ticks = passed.as_micros() * u128::from(track.codec.clock_rate()) / 1_000_000;
            let ntp = ntp.wrapping_add(to_ours).wrapping_add(ntp_of(passed));
            let timestamp = shift.timestamp(timestamp.wrapping_add(ticks as u32));
            rtcp::write_sender_report(&mut compound, slot.ssrc, ntp, timestamp, slot.packets, slot.bytes);
            if compound.len() > 1_000 {
                break;
            }
        }
        if compound.is_empty() {
            return;
        }
        let transmit = self.members.get_mut(index).and_then(|member| member.peer.write_rtcp(&compound));
        out.transmits.extend(transmit);
    }
}

/// A duration in units of NTP: 2^-32 s.
pub(super) fn ntp_of(duration: Duration) -> u64 {
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}

impl Member {
    fn hear_report(&mut self, ssrc: u32, ntp: u64, timestamp: u32, epoch: Instant, now: Instant) {
        let Some(stream) = self.streams.get(&ssrc).copied().filter(|stream| !stream.repairs) else { return };
        // One shift for all streams of a publisher: what it says of voice and face at one time stays one time.
        self.ntp_shift.get_or_insert_with(|| ntp_of(now.saturating_duration_since(epoch)).wrapping_sub(ntp));
        let layer = self.track(stream.track).and_then(|track| track.layers.get_mut(stream.layer));
        if let Some(layer) = layer {
            layer.report = Some((ntp, timestamp, now));
            if let Some(reception) = &mut layer.reception {
                reception.hear_report(ntp, now);
            }
        }
    }

    /// What this publisher is asked for. Says how many packets and keyframes.
    fn write_wishes(&mut self, compound: &mut Vec<u8>, now: Instant) -> (u64, u64) {
        let (mut asked, mut keyframes) = (0, 0);
        for track in &mut self.tracks {
            let Track { layers, source, .. } = track;
            for layer in layers {
                let (Some(ssrc), Some(reception)) = (layer.ssrc, &mut layer.reception) else { continue };
                match reception.asks(now) {
                    Ok(missing) if source.kind() == Kind::Video && !missing.is_empty() => {
                        asked += missing.len() as u64;
                        rtcp::write_nack(compound, RECEIVER, ssrc, &missing);
                    }
                    Ok(_) => {}
                    Err(_) => layer.keyframe_wanted = true,
                }
                if source.kind() == Kind::Video && layer.take_keyframe_wish(now) {
                    keyframes += 1;
                    rtcp::write_pli(compound, RECEIVER, ssrc);
                }
            }
        }
        if self.arrivals_told.is_none_or(|at| now.saturating_duration_since(at) >= ARRIVALS_EVERY)
            && let Some((count, base, arrivals)) = self.arrivals.take()
        {
            self.arrivals_told = Some(now);
            let ssrc = self.streams.keys().next().copied().unwrap_or(0);
            // One feedback speaks of at most what fits into a datagram beside the rest.
            let mut base = base;
            for part in arrivals.chunks(256) {
                if part.iter().any(Option::is_some) {
                    rtcp::write_feedback(compound, RECEIVER, ssrc, count, base, part);
                }
                base = base.wrapping_add(256);
                if compound.len() > 1_000 {
                    break;
                }
            }
        }
        (asked, keyframes)
    }

    fn write_receiver_report(&mut self, compound: &mut Vec<u8>, now: Instant) {
        let mut blocks = Vec::new();
        for layer in self.tracks.iter_mut().flat_map(|track| &mut track.layers) {
            if let (Some(ssrc), Some(reception)) = (layer.ssrc, &mut layer.reception) {
                blocks.push(reception.report(ssrc, now));
            }
        }
        rtcp::write_receiver_report(compound, RECEIVER, &blocks);
    }
}
