//! One participant: transport, what it publishes, what it is sent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::allowance::Allowance;
use super::binding::{SILENCE, Want};
use super::fed::{CatchUp, Fed, Squeeze};
use super::rate::Rate;
use super::silence::Silence;
use super::topics::Talk;
use super::{MemberId, RoomKey, Source, TrackKey};
use crate::bandwidth::Estimator;
use crate::peer::{Credentials, Peer};
use crate::rtp::dependency::Templates;
use crate::rtp::is_newer;
use crate::rtp::payload::Codec;
use crate::rtp::reception::{Arrivals, Stream};
use crate::rtp::rewriter::{Rewriter, SourceId};
use crate::rtp::ring::{Kept, Ring};
use crate::rtp::temporal::Part;
use crate::sdp::{self, Extension, Kind, Offer, Section};

/// A layer that nothing came of for so long is not there, and after that not before it came for [`BACK_AFTER`].
const SILENT_AFTER: Duration = Duration::from_millis(250);
const BACK_AFTER: Duration = Duration::from_millis(300);
/// A keyframe that passed within this, and so many packets since, is sent to who comes later.
const KEYFRAME_AGE_MAX: Duration = Duration::from_millis(400);
const KEYFRAME_PACKETS_MAX: usize = 96;
/// A publisher is asked for a keyframe of one layer at most so often.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) room: RoomKey,
    pub(super) peer: Peer,
    pub(super) remote_ice: Credentials,
    pub(super) sections: Vec<Section>,
    pub(super) tracks: Vec<Track>,
    pub(super) streams: HashMap<u32, StreamOf>,
    pub(super) slots: Vec<Slot>,
    pub(super) wants: Option<Vec<Want>>,
    pub(super) arrivals: Arrivals,
    pub(super) arrivals_told: Option<Instant>,
    pub(super) reported: Option<Instant>,
    pub(super) estimator: Estimator,
    /// What it may still publish.
    pub(super) allowance: Allowance,
    pub(super) answers: u64,
    pub(super) failed: bool,
    /// What has to be added to the publisher's NTP time to be ours, in its units.
    pub(super) ntp_shift: Option<u64>,
    /// Tracks whose packets are handed out, too.
    pub(super) taps: Vec<TrackKey>,
    /// Its data channels, while it may have some.
    pub(super) data: Option<Box<Talk>>,
    /// What it publishes comes from within this process, and there is no peer.
    pub(super) fed: Option<Fed>,
    /// It is within this process: what is in its slots is handed out, and there is no peer.
    pub(super) listens: bool,
}

/// Which layer of which track a stream is.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamOf {
    pub(super) track: TrackKey,
    pub(super) layer: usize,
    pub(super) repairs: bool,
}

#[derive(Debug)]
pub(super) struct Track {
    pub(super) key: TrackKey,
    pub(super) mid: String,
    pub(super) source: Source,
    pub(super) muted: bool,
    pub(super) codec: Codec,
    /// The lowest first.
    pub(super) layers: Vec<Layer>,
    /// Member and slot, by place.
    pub(super) subscribers: Vec<(u32, usize)>,
    /// Loudness, smoothed: 127 is silence.
    pub(super) level: f32,
    pub(super) spoke_at: Option<Instant>,
    pub(super) silence: Silence,
    pub(super) wanted: Option<Option<usize>>,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) rid: Option<String>,
    pub(super) ssrc: Option<u32>,
    pub(super) ring: Ring,
    pub(super) reception: Option<Stream>,
    pub(super) heard_at: Option<Instant>,
    /// When it came back after a pause.
    pub(super) resumed_at: Option<Instant>,
    pub(super) rate: Rate,
    /// The number of the last keyframe's first packet, and when it came.
    pub(super) keyframe: Option<(u16, Instant)>,
    pub(super) keyframe_asked: Option<Instant>,
    /// What its dependency descriptors refer to.
    pub(super) templates: Option<Templates>,
    pub(super) keyframe_wanted: bool,
    /// NTP time, timestamp, and when they came.
    pub(super) report: Option<(u64, u32, Instant)>,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) mid: String,
    pub(super) kind: Kind,
    pub(super) ssrc: u32,
    pub(super) rtx_ssrc: u32,
    /// The client's numbers: codec, payload type, retransmissions.
    pub(super) formats: Vec<(Codec, u8, Option<u8>)>,
    /// The client's number for sound with what was said before once more.
    pub(super) red: Option<u8>,
    pub(super) transport_cc: Option<u8>,
    /// The client's number for dependency descriptors.
    pub(super) dependency: Option<u8>,
    /// Who publishes what is in it, and what.
    pub(super) bound: Option<(u32, TrackKey)>,
    pub(super) target: usize,
    /// The highest temporal layer that may be sent, and that is sent now.
    pub(super) temporal: u8,
    pub(super) temporal_now: u8,
    /// The path does not carry even the least of it.
    pub(super) paused_at: Option<Instant>,
    /// What is wished of it, and its place among the wishes.
    pub(super) height: u16,
    pub(super) fps: Option<u8>,
    pub(super) priority: u8,
    pub(super) place: usize,
    pub(super) rewriter: Rewriter,
    pub(super) rtx_sequence: u16,
    pub(super) packets: u32,
    pub(super) bytes: u32,
    /// Pictures wait for a keyframe.
    pub(super) starving: bool,
    /// It is being sent what came before it was there.
    pub(super) catching_up: Option<CatchUp>,
    /// When what came before is shown.
    pub(super) joined: Option<Squeeze>,
    /// When it last began to be sent what came before.
    pub(super) joined_at: Option<Instant>,
}

/// A layer of a track, as rewriters name it.
pub(super) fn source_id(track: TrackKey, layer: usize) -> SourceId {
    track << 2 | layer as u64 & 3
}

impl Member {
    pub(super) fn new(
        id: MemberId,
        room: RoomKey,
        peer: Peer,
        offer: &Offer,
        allowance: Allowance,
        now: Instant,
    ) -> Member {
        Member {
            id,
            room,
            peer,
            remote_ice: offer.ice.clone(),
            sections: offer.sections.clone(),
            tracks: Vec::new(),
            streams: HashMap::new(),
            slots: Vec::new(),
            wants: None,
            arrivals: Arrivals::default(),
            arrivals_told: None,
            reported: None,
            estimator: Estimator::new(now),
            allowance,
            answers: 0,
            failed: false,
            ntp_shift: None,
            taps: Vec::new(),
            data: None,
            fed: None,
            listens: false,
        }
    }

    pub(super) fn open_slot(&mut self, section: &Section, kind: Kind, ssrc: u32, sequence: u16) {
        let clock_rate = section.formats.first().map_or(90_000, |format| format.codec.clock_rate());
        let formats = section.formats.iter().map(|format| (format.codec, format.payload_type, format.rtx));
        self.slots.push(Slot {
            mid: section.mid.clone(),
            kind,
            ssrc,
            rtx_ssrc: ssrc + 1,
            formats: formats.collect(),
            red: section.formats.iter().find_map(|format| format.red),
            transport_cc: section.extension(Extension::TransportCc),
            dependency: section.extension(Extension::DependencyDescriptor),
            bound: None,
            target: 0,
            temporal: u8::MAX,
            temporal_now: u8::MAX,
            paused_at: None,
            height: 0,
            fps: None,
            priority: 0,
            place: 0,
            rewriter: match kind {
                Kind::Audio => Rewriter::new(clock_rate, sequence).without_memory(),
                Kind::Video => Rewriter::new(clock_rate, sequence),
            },
            // Small for the reason `Rewriter::new` gives.
            rtx_sequence: (sequence ^ 0x1234) & 0x7FFF,
            packets: 0,
            bytes: 0,
            starving: false,
            catching_up: None,
            joined: None,
            joined_at: None,
        });
    }

    pub(super) fn sdp_slot(&self, mid: &str) -> Option<sdp::Slot> {
        let slot = self.slots.iter().find(|slot| slot.mid == mid)?;
        Some(sdp::Slot { ssrc: slot.ssrc, rtx_ssrc: slot.rtx_ssrc })
    }

    /// Whether it can be sent anything.
    pub(super) fn is_reached(&self) -> bool {
        self.listens || self.peer.is_connected()
    }

    pub(super) fn track_of(&self, key: TrackKey) -> Option<&Track> {
        self.tracks.iter().find(|track| track.key == key)
    }

    pub(super) fn track(&mut self, key: TrackKey) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.key == key)
    }
}

impl Track {
    pub(super) fn new(
        key: TrackKey,
        mid: &str,
        source: Source,
        muted: bool,
        codec: Codec,
        rids: &[String],
    ) -> Track {
        let layer = |rid: Option<String>| Layer {
            rid,
            ssrc: None,
            ring: Ring::default(),
            reception: None,
            heard_at: None,
            resumed_at: None,
            rate: Rate::default(),
            keyframe: None,
            keyframe_asked: None,
            templates: None,
            keyframe_wanted: false,
            report: None,
        };
        let layers = match rids {
            [] => vec![layer(None)],
            rids => rids.iter().map(|rid| layer(Some(rid.clone()))).collect(),
        };
        Track {
            key,
            mid: mid.to_owned(),
            source,
            muted,
            codec,
            layers,
            subscribers: Vec::new(),
            level: SILENCE,
            spoke_at: None,
            silence: Silence::default(),
            wanted: None,
        }
    }
}

impl Layer {
    pub(super) fn is_there(&self, now: Instant) -> bool {
        self.heard_at.is_some_and(|at| now.saturating_duration_since(at) < SILENT_AFTER)
            && self.resumed_at.is_none_or(|at| now.saturating_duration_since(at) >= BACK_AFTER)
    }

    /// A packet came.
    pub(super) fn hear(&mut self, kept: &Kept, now: Instant) {
        let before = self.heard_at.replace(now);
        if before.is_some_and(|at| now.saturating_duration_since(at) >= SILENT_AFTER) {
            self.resumed_at = Some(now);
        }
        // One that comes again, or late, is not the last. After longer than packets are kept numbers tell nothing of it.
        let is_last = |(before, at): (u16, Instant)| {
            is_newer(kept.sequence, before) || now.saturating_duration_since(at) > Ring::AGE_MAX
        };
        if kept.keyframe && self.keyframe.is_none_or(is_last) {
            self.keyframe = Some((kept.sequence, now));
        }
        self.rate.count(kept.payload.len(), kept.marker, kept.part, now);
    }

    /// The last keyframe and what followed it, when that is little and fresh.
    pub(super) fn since_keyframe(&self, now: Instant) -> Vec<Kept> {
        let Some((sequence, at)) = self.keyframe else { return Vec::new() };
        let newest = self.ring.newest().unwrap_or(sequence);
        let is_fresh = now.saturating_duration_since(at) <= KEYFRAME_AGE_MAX
            && usize::from(newest.wrapping_sub(sequence)) < KEYFRAME_PACKETS_MAX
            && self.ring.get(sequence).is_some();
        if is_fresh { self.ring.from(sequence).cloned().collect() } else { Vec::new() }
    }

    /// What the picture of a dependency descriptor is to who is not sent all, as its templates say, which come with keyframes.
    pub(super) fn part_of(&mut self, descriptor: &[u8]) -> Option<Part> {
        if let Some(templates) = Templates::read(descriptor) {
            self.templates = Some(templates);
        }
        self.templates.as_ref()?.part(descriptor)
    }

    /// Whether the publisher is to be asked for a keyframe now.
    pub(super) fn take_keyframe_wish(&mut self, now: Instant) -> bool {
        let early = self.keyframe_asked.is_some_and(|at| now.saturating_duration_since(at) < KEYFRAME_PAUSE);
        if !self.keyframe_wanted || early || self.ssrc.is_none() {
            return false;
        }
        self.keyframe_wanted = false;
        self.keyframe_asked = Some(now);
        true
    }
}

impl Slot {
    pub(super) fn format(&self, codec: Codec) -> Option<(u8, Option<u8>)> {
        let format = self.formats.iter().find(|(known, ..)| *known == codec);
        format.map(|(_, payload_type, rtx)| (*payload_type, *rtx))
    }

    /// The client's number for what is sent again, whatever it is.
    pub(super) fn repeats(&self) -> Option<u8> {
        self.formats.iter().find_map(|(_, _, rtx)| *rtx)
    }
}
