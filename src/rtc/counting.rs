//! What a shard adds to the node's metrics once a second, and what it does less of when there is too much to do.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nova_media::sfu::{self, Sfu};
use prometheus::IntGauge;

use super::demux::{self, Demux};
use super::shard::Shard;

/// What was counted when it was added last.
#[derive(Debug)]
pub(super) struct Counting {
    sfu: sfu::Counts,
    demux: demux::Counts,
    participants: Part,
    paused: Part,
    claimed: Part,
}

/// What one shard has of a number the shards have together.
#[derive(Debug, Default)]
struct Part(i64);

impl Part {
    fn set(&mut self, whole: &IntGauge, now: usize) {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        whole.add(now - std::mem::replace(&mut self.0, now));
    }
}

impl Counting {
    /// From now on.
    pub(super) fn new(sfu: &Sfu, demux: &Demux) -> Counting {
        Counting {
            sfu: sfu.counts(),
            demux: demux.counts(),
            participants: Part::default(),
            paused: Part::default(),
            claimed: Part::default(),
        }
    }
}

impl Shard {
    /// Does less when there is too much to do.
    pub(super) fn shed(&mut self, passed: Duration, now: Instant) {
        let busy = std::mem::take(&mut self.busy).as_secs_f64() / passed.as_secs_f64();
        let before = self.shedding.level();
        let level = self.shedding.note(busy, now);
        self.sfu.limit_faces(self.shedding.faces_max());
        self.overloaded.store(self.shedding.refuses_rooms(), Ordering::Relaxed);
        let shard = self.demux.shard().to_string();
        self.metrics.rtc_shed_level.with_label_values(&[&shard]).set(level as i64);
        self.metrics.rtc_busy.with_label_values(&[&shard]).set(busy);
        if level != before {
            tracing::warn!(shard, level, busy, "a media shard sheds load");
        }
    }

    /// Adds what was counted.
    pub(super) fn count(&mut self) {
        let unsent = self.egress.count();
        let (now, before) = (self.sfu.counts(), self.counting.sfu);
        let metrics = &self.metrics;
        let packets = |direction, count| metrics.rtc_packets.with_label_values(&[direction]).inc_by(count);
        packets("in", now.packets_in - before.packets_in);
        packets("out", now.packets_out - before.packets_out);
        packets("again", now.repeated - before.repeated);
        packets("unsent", unsent);
        packets("silent", now.silent - before.silent);
        let refused = |reason, count| metrics.rtc_refused.with_label_values(&[reason]).inc_by(count);
        refused("bitrate", now.refused_bitrate - before.refused_bitrate);
        refused("sound", now.refused_sound - before.refused_sound);
        refused("rtcp", now.refused_rtcp - before.refused_rtcp);
        let bytes = |direction, count| metrics.rtc_bytes.with_label_values(&[direction]).inc_by(count);
        bytes("in", now.bytes_in - before.bytes_in);
        bytes("out", now.bytes_out - before.bytes_out);
        metrics.rtc_nacks.inc_by(now.asked_again - before.asked_again);
        metrics.rtc_keyframes.inc_by(now.keyframes_asked - before.keyframes_asked);
        metrics.rtc_panics.inc_by(now.panics - before.panics);
        metrics.rtc_unknown.inc_by(now.unknown - before.unknown);
        metrics.rtc_probes.inc_by(now.probes - before.probes);
        let wishes = |kind, count| metrics.rtc_wishes.with_label_values(&[kind]).inc_by(count);
        wishes("nack", now.nacked - before.nacked);
        wishes("pli", now.keyframes_wished - before.keyframes_wished);
        let messages = |direction, count| metrics.rtc_messages.with_label_values(&[direction]).inc_by(count);
        messages("in", now.messages_in - before.messages_in);
        messages("out", now.messages_out - before.messages_out);
        let lost = |reason, count| metrics.rtc_messages_lost.with_label_values(&[reason]).inc_by(count);
        lost("too_fast", now.messages_too_fast - before.messages_too_fast);
        lost("too_slow", now.messages_too_slow - before.messages_too_slow);
        lost("role", now.messages_refused - before.messages_refused);
        let survey = self.sfu.survey();
        for (bps, loss) in survey.estimates_bps.iter().zip(&survey.losses) {
            metrics.rtc_estimate.observe(*bps as f64 / 1_000.0);
            metrics.rtc_loss.observe(loss * 100.0);
        }
        let handed = self.demux.counts();
        let handed_over = |result, count| metrics.rtc_handed_over.with_label_values(&[result]).inc_by(count);
        handed_over("taken", handed.handed - self.counting.demux.handed);
        handed_over("lost", handed.lost - self.counting.demux.lost);
        let counting = &mut self.counting;
        counting.participants.set(&metrics.rtc_participants, self.sfu.len().0);
        counting.paused.set(&metrics.rtc_paused, survey.paused);
        counting.claimed.set(&metrics.rtc_claimed_addresses, self.demux.claimed());
        (counting.sfu, counting.demux) = (now, handed);
    }
}
