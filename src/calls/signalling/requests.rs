//! What requests about calls are made of, and how much of it.

use nova_actors::room::{self, ParticipantId, Role, Source, TrackId};
use serde::Deserialize;
use serde_json::Value;

use super::invalid;
use crate::chat::seam::Refusal;

/// Characters of what somebody calls themselves in a room.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// Tracks somebody wants to see; a screen shows fewer.
pub(crate) const WANTS_MAX: usize = 50;
/// Pixels of a wish.
pub(crate) const HEIGHT_MAX: u16 = 4_320;

/// The types of all requests about calls, in the order of the document.
pub(crate) const KINDS: &[&str] = &[
    "call.start",
    "call.accept",
    "call.decline",
    "call.cancel",
    "room.join",
    "room.offer",
    "room.candidate",
    "room.publish",
    "room.unpublish",
    "room.mute",
    "room.view",
    "room.hand",
    "room.kick",
    "room.role",
    "room.lock",
    "room.lobby",
    "room.admit",
    "room.stream",
    "room.unstream",
    "room.leave",
];

/// `room.offer {offer}`: another network, or more to send.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reoffer {
    pub(super) offer: String,
}

/// `room.candidate {candidate}`. An ICE-lite server finds its clients by their requests; candidates are taken and not needed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Candidate {
    #[serde(default)]
    #[expect(dead_code, reason = "any value is right")]
    pub(super) candidate: Value,
}

/// `room.publish {tracks: [{mid, source, muted?}]}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    pub(super) tracks: Vec<Publication>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publication {
    pub(super) mid: String,
    pub(super) source: SourceName,
    #[serde(default)]
    pub(super) muted: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SourceName {
    Microphone,
    Camera,
    Screen,
    ScreenAudio,
}

/// `room.unpublish {track}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unpublish {
    pub(super) track: TrackId,
}

/// `room.mute {track, muted}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mute {
    pub(super) track: TrackId,
    pub(super) muted: bool,
}

/// `room.view {want: [{track, height, fps?, priority?}]}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct View {
    pub(super) want: Vec<Wanted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    pub(super) track: TrackId,
    pub(super) height: u16,
    pub(super) fps: Option<u8>,
    #[serde(default)]
    pub(super) priority: u8,
}

/// `room.kick {participant}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kick {
    pub(super) participant: ParticipantId,
}

/// `room.lock {locked}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    pub(super) locked: bool,
}

/// `room.role {participant, role}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetRole {
    pub(super) participant: ParticipantId,
    pub(super) role: RoleName,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RoleName {
    Listener,
    Speaker,
    Host,
}

/// `room.hand {up}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hand {
    pub(super) up: bool,
}

impl Publish {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        match self.tracks.len() > room::TRACKS_MAX {
            true => Err(invalid("tracks", format!("at most {} are published at once", room::TRACKS_MAX))),
            false => Ok(()),
        }
    }
}

impl View {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.want.len() > WANTS_MAX {
            return Err(invalid("want", format!("at most {WANTS_MAX} are wanted")));
        }
        if self.want.iter().any(|want| want.height > HEIGHT_MAX) {
            return Err(invalid("want.height", format!("at most {HEIGHT_MAX} pixels are wanted")));
        }
        if self.want.iter().any(|want| want.fps == Some(0)) {
            return Err(invalid(
                "want.fps",
                "at least one picture a second is wanted; what is not is left out",
            ));
        }
        Ok(())
    }
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Role {
        match name {
            RoleName::Listener => Role::Listener,
            RoleName::Speaker => Role::Speaker,
            RoleName::Host => Role::Host,
        }
    }
}

impl From<SourceName> for Source {
    fn from(name: SourceName) -> Source {
        match name {
            SourceName::Microphone => Source::Microphone,
            SourceName::Camera => Source::Camera,
            SourceName::Screen => Source::Screen,
            SourceName::ScreenAudio => Source::ScreenAudio,
        }
    }
}
