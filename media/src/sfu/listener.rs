//! Subscribers within this process: a room that is made a stream is heard and seen as a participant hears and sees it, with the same
//! choice of voices, layers and keyframes, and nothing is sealed.

use std::time::Instant;

use super::allowance::Allowance;
use super::{Member, MemberId, RoomKey, SPEAKERS_MAX, Sfu, SfuError};
use crate::peer::Peer;
use crate::rtp::payload::Codec;
use crate::sdp::{Kind, Offer, Section};

/// The slot of a listener that holds the picture; those before it hold voices.
pub const PICTURE_SLOT: usize = SPEAKERS_MAX;

impl Sfu {
    /// Somebody within, with a slot for each voice that is heard at a time and one for a picture. What is in them comes out as
    /// [`Taken`](super::Taken). It says what it wants to [see](Sfu::view) and leaves as everybody does.
    pub fn open_listener(&mut self, room: RoomKey, now: Instant) -> Result<MemberId, SfuError> {
        let id = self.next_id(now)?;
        let nobodys = self.credentials(id)?;
        // Nobody is ever told its password, so nothing that comes is its.
        let peer = Peer::new(self.identity.clone(), nobodys.clone(), [0; 32], now);
        let voices = (0..SPEAKERS_MAX).map(|at| Section::within(at.to_string(), Kind::Audio, &[Codec::Opus]));
        let picture = Section::within(PICTURE_SLOT.to_string(), Kind::Video, &[Codec::H264, Codec::Vp8]);
        let sections = voices.chain([picture]).collect();
        let wishes = Offer { sections, fingerprint: [0; 32], ice: nobodys };
        let mut member = Member::new(id, room, peer, &wishes, Allowance::none(now), now);
        member.listens = true;
        self.open_slots(&mut member, &wishes);
        self.members.insert(member);
        let room = self.rooms.entry(room).or_default();
        room.members.push(id.index);
        room.stale = true;
        Ok(id)
    }

    /// What a listener was given of pictures is of no use to it any more: they begin anew with a keyframe.
    pub fn renew_picture(&mut self, listener: MemberId) -> Result<(), SfuError> {
        let member = self.member(listener)?;
        for slot in member.slots.iter_mut().filter(|slot| slot.kind == Kind::Video) {
            slot.rewriter.release();
            slot.starving = slot.bound.is_some();
        }
        Ok(())
    }
}
