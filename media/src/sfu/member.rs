//! One participant: transport, what it publishes, what it is sent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::binding::{SILENCE, Want};
use super::{MemberId, RoomKey, Source, TrackKey};
use crate::peer::{Credentials, Peer};
use crate::rtp::payload::Codec;
use crate::rtp::reception::{Arrivals, Stream};
use crate::rtp::rewriter::{Rewriter, SourceId};
use crate::rtp::ring::Ring;
use crate::sdp::{self, Extension, Kind, Offer, Section};

/// A layer that nothing came of for so long is not there.
const SILENT_AFTER: Duration = Duration::from_millis(500);
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
    pub(super) transport_sequence: u16,
    pub(super) answers: u64,
    pub(super) failed: bool,
    /// What has to be added to the publisher's NTP time to be ours, in its units.
    pub(super) ntp_shift: Option<u64>,
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
    pub(super) wanted: Option<Option<usize>>,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) rid: Option<String>,
    pub(super) ssrc: Option<u32>,
    pub(super) ring: Ring,
    pub(super) reception: Option<Stream>,
    pub(super) heard_at: Option<Instant>,
    pub(super) keyframe_asked: Option<Instant>,
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
    pub(super) transport_cc: Option<u8>,
    /// Who publishes what is in it, and what.
    pub(super) bound: Option<(u32, TrackKey)>,
    pub(super) target: usize,
    pub(super) height: u16,
    pub(super) rewriter: Rewriter,
    pub(super) rtx_sequence: u16,
    pub(super) packets: u32,
    pub(super) bytes: u32,
    /// Pictures wait for a keyframe.
    pub(super) starving: bool,
}

/// A layer of a track, as rewriters name it.
pub(super) fn source_id(track: TrackKey, layer: usize) -> SourceId {
    track << 2 | layer as u64 & 3
}

impl Member {
    pub(super) fn new(id: MemberId, room: RoomKey, peer: Peer, offer: &Offer) -> Member {
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
            transport_sequence: 0,
            answers: 0,
            failed: false,
            ntp_shift: None,
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
            transport_cc: section.extension(Extension::TransportCc),
            bound: None,
            target: 0,
            height: 0,
            rewriter: Rewriter::new(clock_rate, sequence),
            rtx_sequence: sequence ^ 0x1234,
            packets: 0,
            bytes: 0,
            starving: false,
        });
    }

    pub(super) fn sdp_slot(&self, mid: &str) -> Option<sdp::Slot> {
        let slot = self.slots.iter().find(|slot| slot.mid == mid)?;
        Some(sdp::Slot { ssrc: slot.ssrc, rtx_ssrc: slot.rtx_ssrc })
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
            keyframe_asked: None,
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
            wanted: None,
        }
    }

    /// The layer to be sent to who wants `target`: it, or the next below that is there, or the lowest that is.
    pub(super) fn available(&self, target: usize, now: Instant) -> usize {
        let there = |layer: &usize| self.layers.get(*layer).is_some_and(|layer| layer.is_there(now));
        let below = (0..=target.min(self.layers.len().saturating_sub(1))).rev().find(there);
        below.or_else(|| (0..self.layers.len()).find(there)).unwrap_or(0)
    }
}

impl Layer {
    pub(super) fn is_there(&self, now: Instant) -> bool {
        self.heard_at.is_some_and(|at| now.saturating_duration_since(at) < SILENT_AFTER)
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
}
