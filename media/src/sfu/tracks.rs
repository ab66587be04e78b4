//! What a participant publishes: tracks come, are muted, handed out, asked for keyframes, and go.

use super::binding::SILENCE;
use super::member::Track;
use super::{MemberId, Sfu, SfuError};
use crate::sdp::{Direction, Kind};

/// Tracks one participant may publish: microphone, camera, screen and its sound.
pub const TRACKS_MAX: usize = 4;

/// A track, as its decider names it; unique in this shard, below 2^60.
pub type TrackKey = u64;

/// What a track shows or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A voice.
    Microphone,
    /// A face.
    Camera,
    /// A screen that is shared.
    Screen,
    /// The sound of what is shared.
    ScreenAudio,
}

impl Source {
    /// Sound or pictures.
    pub fn kind(self) -> Kind {
        match self {
            Source::Microphone | Source::ScreenAudio => Kind::Audio,
            Source::Camera | Source::Screen => Kind::Video,
        }
    }
}

impl Sfu {
    /// A participant publishes what it sends on an m-line.
    pub fn publish(
        &mut self,
        id: MemberId,
        key: TrackKey,
        mid: &str,
        source: Source,
        muted: bool,
    ) -> Result<(), SfuError> {
        let member = self.member(id)?;
        let section = member.sections.iter().find(|section| section.mid == mid).ok_or(SfuError::NoSuchMid)?;
        let format = section.formats.first().ok_or(SfuError::NoSuchMid)?;
        if section.kind != Some(source.kind()) || section.direction == Direction::Receives {
            return Err(SfuError::NoSuchMid);
        }
        if member.tracks.iter().any(|track| track.mid == mid) {
            return Err(SfuError::NoSuchMid);
        }
        if member.tracks.len() >= TRACKS_MAX {
            return Err(SfuError::TooManyTracks);
        }
        let track = Track::new(key, mid, source, muted, format.codec, &section.rids);
        member.tracks.push(track);
        let room = member.room;
        self.mark_stale(room);
        Ok(())
    }

    /// A participant publishes a track no more.
    pub fn unpublish(&mut self, id: MemberId, key: TrackKey) -> Result<(), SfuError> {
        let member = self.member(id)?;
        member.streams.retain(|_, stream| stream.track != key);
        member.taps.retain(|tapped| *tapped != key);
        member.tracks.retain(|track| track.key != key);
        let room = member.room;
        self.mark_stale(room);
        Ok(())
    }

    /// Hands out the packets of a track too, in [`Out::taken`](super::Out::taken).
    pub fn take(&mut self, id: MemberId, key: TrackKey) -> Result<(), SfuError> {
        let member = self.member(id)?;
        if !member.taps.contains(&key) {
            member.taps.push(key);
        }
        Ok(())
    }

    /// Asks the publisher of a track for a keyframe; it is asked at most every half second.
    pub fn ask_keyframe(&mut self, id: MemberId, key: TrackKey) -> Result<(), SfuError> {
        let track = self.member(id)?.track(key).ok_or(SfuError::Gone)?;
        for layer in &mut track.layers {
            layer.keyframe_wanted = true;
        }
        Ok(())
    }

    /// A track is muted or not.
    pub fn mute(&mut self, id: MemberId, key: TrackKey, muted: bool) -> Result<(), SfuError> {
        let member = self.member(id)?;
        if let Some(track) = member.tracks.iter_mut().find(|track| track.key == key) {
            track.muted = muted;
            track.level = SILENCE;
        }
        let room = member.room;
        self.mark_stale(room);
        Ok(())
    }
}
