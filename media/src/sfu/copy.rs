//! A packet as one subscriber is sent it: under its numbers, with what stands in its headers. Of what the codec made only counters are changed that
//! stand before it.

use crate::rtp::dependency::{self, DESCRIPTOR_BYTES_MAX, Descriptor};
use crate::rtp::packet::Header;
use crate::rtp::payload::{Codec, Vp8};
use crate::rtp::rewriter::Sent;
use crate::rtp::ring::Kept;

/// What stands in the header of a packet besides what every packet has: the client's ids, and the transport's number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extensions {
    pub(super) number: Option<(u8, [u8; 2])>,
    pub(super) dependency: Option<u8>,
}

/// The dependency descriptor of a packet as a subscriber sees it.
fn renumbered<'a>(kept: &Kept, sent: Sent, place: &'a mut [u8; DESCRIPTOR_BYTES_MAX]) -> Option<&'a [u8]> {
    let of_source = Descriptor::read(&kept.descriptor)?.frame_number;
    let descriptor = place.get_mut(..kept.descriptor.len())?;
    descriptor.copy_from_slice(&kept.descriptor);
    dependency::renumber(descriptor, sent.shift.frame_number(of_source));
    Some(descriptor)
}

/// Writes it, as a retransmission of `original` if there is one.
#[expect(clippy::too_many_arguments, reason = "they are the fields of one packet, from four places")]
pub(super) fn write(
    packet: &mut Vec<u8>,
    kept: &Kept,
    sent: Sent,
    codec: Codec,
    ssrc: u32,
    payload_type: u8,
    original: Option<u16>,
    extensions: Extensions,
) {
    packet.clear();
    let mut place;
    let descriptor = match extensions.dependency {
        Some(id) if !kept.descriptor.is_empty() => {
            place = [0; DESCRIPTOR_BYTES_MAX];
            renumbered(kept, sent, &mut place).map(|descriptor| (id, descriptor))
        }
        _ => None,
    };
    let number = extensions.number.as_ref().map(|(id, number)| (*id, number.as_slice()));
    let (both, one);
    let extensions: &[(u8, &[u8])] = match (number, descriptor) {
        (Some(number), Some(descriptor)) => {
            both = [number, descriptor];
            &both
        }
        (Some(extension), None) | (None, Some(extension)) => {
            one = [extension];
            &one
        }
        (None, None) => &[],
    };
    let header = Header {
        marker: kept.marker,
        payload_type,
        sequence: sent.sequence,
        timestamp: sent.shift.timestamp(kept.timestamp),
        ssrc,
        extensions,
    };
    header.write(packet);
    if let Some(original) = original {
        packet.extend_from_slice(&original.to_be_bytes());
    }
    let begin = packet.len();
    packet.extend_from_slice(&kept.payload);
    if codec == Codec::Vp8
        && let Some(vp8) = Vp8::read(&kept.payload)
        && let Some(payload) = packet.get_mut(begin..)
    {
        sent.shift.rewrite(vp8, payload);
    }
}
