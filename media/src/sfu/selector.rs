//! Which packets of which layer are sent on a slot: of one layer from a keyframe on, and of that all pictures or those of its lower temporal
//! layers.

use std::time::Instant;

use super::member::{Slot, StreamOf, source_id};
use crate::rtp::dependency::Descriptor;
use crate::rtp::payload::{Codec, Vp8};
use crate::rtp::rewriter::{Incoming, Sent, SourceId};
use crate::rtp::ring::Kept;

impl Slot {
    /// Whether this packet is sent, and as what: of the present layer always, of the wanted one from a keyframe on.
    pub(super) fn choose(
        &mut self,
        stream: StreamOf,
        codec: Codec,
        kept: &Kept,
        now: Instant,
    ) -> Option<Sent> {
        if self.paused_at.is_some() {
            return None;
        }
        let (source, present) = (source_id(stream.track, stream.layer), self.rewriter.source());
        let vp8 = if codec == Codec::Vp8 { Vp8::read(&kept.payload) } else { None };
        if present != Some(source) {
            // Late packets of the layer before have nothing to tell any more.
            if stream.layer != self.target || !kept.keyframe {
                return None;
            }
            self.starving = false;
            self.temporal_now = self.temporal;
        } else if self.leaves_out(source, kept, vp8.as_ref()) {
            return None;
        }
        let frame_number = Descriptor::read(&kept.descriptor).map(|descriptor| descriptor.frame_number);
        let (sequence, timestamp) = (kept.sequence, kept.timestamp);
        let incoming = Incoming { source, sequence, timestamp, vp8, frame_number };
        self.rewriter.forward(incoming, now)
    }

    /// Pictures above the temporal layer that is sent are left out. Less is sent from any picture on, more from one that can be gone on with.
    fn leaves_out(&mut self, source: SourceId, kept: &Kept, vp8: Option<&Vp8>) -> bool {
        let Some(part) = kept.part.filter(|_| self.rewriter.is_next(source, kept.sequence)) else {
            return false;
        };
        if part.begins {
            if kept.keyframe || self.temporal < self.temporal_now {
                self.temporal_now = self.temporal;
            } else if let Some(higher) = part.rises(self.temporal_now, self.temporal) {
                self.temporal_now = higher;
            }
        }
        if part.temporal <= self.temporal_now {
            return false;
        }
        self.rewriter.leave_out(source, kept.sequence, vp8.and_then(|vp8| vp8.picture_id));
        true
    }
}
