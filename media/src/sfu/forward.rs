//! From a publisher's packet to the subscribers'.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::allowance::Over;
use super::copy::{Extensions, write};
use super::member::{Slot, StreamOf, source_id};
use super::silence::Heard;
use super::{Member, Out, Sfu, Taken};
use crate::rtp::dependency::Descriptor;
use crate::rtp::packet::{Header, Packet};
use crate::rtp::payload::{Codec, Vp8};
use crate::rtp::reception::Stream;
use crate::rtp::red::{self, Red};
use crate::rtp::ring::Kept;
use crate::rtp::rtcp::SenderTime;
use crate::rtp::temporal::Part;
use crate::sdp::{Direction, Extension, Kind, Section};

/// A packet that is asked for again within this was asked for twice, not lost twice.
const REPEAT_PAUSE: Duration = Duration::from_millis(100);

/// What a packet of nothing is filled with, as many bytes as its last can count.
const PADDING: u8 = u8::MAX;

/// What a packet has beside its payload: IP, UDP, header, extension, seal.
const HEADER_BYTES: usize = 68;

/// What came, once it is known where it belongs.
pub(super) struct Arrived {
    pub(super) codec: Codec,
    pub(super) stream: StreamOf,
    pub(super) kept: Kept,
    pub(super) heard: Heard,
    pub(super) subscribers: Vec<(u32, usize)>,
}

impl Sfu {
    pub(super) fn forward(&mut self, from: u32, bytes: &BytesMut, now: Instant, out: &mut Out) {
        let Ok(mut packet) = Packet::read(bytes) else { return };
        self.counts.packets_in += 1;
        self.counts.bytes_in += packet.payload.len() as u64;
        let Some(member) = self.members.get_mut(from as usize) else { return };
        let stream = member.stream_of(&packet);
        let is_sound = stream.is_some_and(|stream| member.is_sound(stream));
        if let Err(over) = member.allowance.spend(bytes.len(), is_sound, now) {
            return self.refuse(over);
        }
        member.note_arrival(&packet, now);
        let Some(stream) = stream else { return };
        if member.is_red(packet.payload_type) {
            let Some(red) = Red::read(packet.payload) else { return };
            self.recover(from, stream, &packet, &red, now, out);
            packet.payload = red.newest;
        }
        let Some(member) = self.members.get_mut(from as usize) else { return };
        if let Some(arrived) = member.arrive(stream, &packet, bytes, now) {
            self.pass_arrived(from, arrived, now, out);
        }
    }

    pub(super) fn refuse(&mut self, over: Over) {
        match over {
            Over::Bitrate => self.counts.refused_bitrate += 1,
            Over::Sound => self.counts.refused_sound += 1,
            Over::Rtcp => self.counts.refused_rtcp += 1,
        }
    }

    /// What of sound was lost and comes once more with what followed it goes on as if it had come.
    fn recover(
        &mut self,
        from: u32,
        stream: StreamOf,
        packet: &Packet<'_>,
        red: &Red<'_>,
        now: Instant,
        out: &mut Out,
    ) {
        let count = red.before.len();
        for (at, (kind, offset, piece)) in red.before.iter().enumerate() {
            let Some(member) = self.members.get_mut(from as usize) else { return };
            let sequence = packet.sequence.wrapping_sub((count - at) as u16);
            if *kind != red.payload_type || piece.is_empty() || !member.lacks(stream, sequence) {
                continue;
            }
            // One packet with nine pieces is ten for everybody else.
            if let Err(over) = member.allowance.spend(piece.len(), true, now) {
                return self.refuse(over);
            }
            let timestamp = packet.timestamp.wrapping_sub(u32::from(*offset));
            if let Some(arrived) = member.arrive_late(stream, sequence, timestamp, piece, now) {
                self.pass_arrived(from, arrived, now, out);
            }
        }
    }

    fn pass_arrived(&mut self, from: u32, mut arrived: Arrived, now: Instant, out: &mut Out) {
        let Some(member) = self.members.get(from as usize) else { return };
        if member.taps.contains(&arrived.stream.track) {
            let StreamOf { track, layer, .. } = arrived.stream;
            let report = member.track_of(track).and_then(|track| track.layers.get(layer)?.report);
            let told = report.map(|(ntp, timestamp, _)| SenderTime { ntp, timestamp });
            let (codec, kept) = (arrived.codec, arrived.kept.clone());
            out.taken.push(Taken { member: member.id, slot: 0, track, codec, kept, told });
        }
        // What follows a pause says so (RFC 3551 section 4.1).
        arrived.kept.marker |= arrived.heard == Heard::Resumed;
        match arrived.heard {
            Heard::Nothing => self.leave_out(from, arrived),
            Heard::Sound | Heard::Resumed => self.deliver(from, arrived, now, out),
        }
    }

    /// Sound as it is sent to who knows how to read what was said before once more.
    fn redundant(
        &self,
        to: u32,
        at: usize,
        stream: StreamOf,
        codec: Codec,
        kept: &Kept,
    ) -> Option<(u8, Kept)> {
        let slot = self.members.get(to as usize)?.slots.get(at).filter(|_| codec.is_audio())?;
        let (red, (plain, _), (publisher, key)) = (slot.red?, slot.format(codec)?, slot.bound?);
        let track = self.members.get(publisher as usize)?.track_of(key)?;
        let before = track.layers.get(stream.layer)?.ring.get(kept.sequence.wrapping_sub(1))?;
        let offset = kept.timestamp.wrapping_sub(before.timestamp);
        let payload = red::write(plain, offset, &before.payload, &kept.payload)?;
        Some((red, Kept { payload, ..kept.clone() }))
    }

    /// Sends what came to all who have it in a slot.
    pub(super) fn deliver(&mut self, from: u32, arrived: Arrived, now: Instant, out: &mut Out) {
        let Arrived { codec, stream, kept, subscribers, .. } = arrived;
        let source = source_id(stream.track, stream.layer);
        // What follows a keyframe's beginning may have come before it, on another way or because it was lost at first, and was nothing to
        // begin with then. Who begins with it is sent all of it, from what is kept.
        let is_late = kept.keyframe && !codec.is_audio() && {
            let track = self.members.get(from as usize).and_then(|member| member.track_of(stream.track));
            let newest = track.and_then(|track| track.layers.get(stream.layer)?.ring.newest());
            newest != Some(kept.sequence)
        };
        for (to, at) in &subscribers {
            let slot = self.members.get(*to as usize).and_then(|subscriber| subscriber.slots.get(*at));
            let begins = |slot: &Slot| slot.rewriter.source() != Some(source);
            // Who catches up gets it in its turn.
            if slot.is_some_and(|slot| slot.catching_up.is_none() && !(is_late && begins(slot))) {
                self.send(*to, *at, stream, codec, &kept, now, out);
            }
        }
        self.work_on(from);
        let track = self.members.get_mut(from as usize).and_then(|member| member.track(stream.track));
        if let Some(track) = track {
            track.subscribers = subscribers;
        }
    }

    /// Sends a packet on a slot, if it is one for it.
    #[expect(clippy::too_many_arguments, reason = "one packet and one place, on the hot path")]
    pub(super) fn send(
        &mut self,
        to: u32,
        at: usize,
        stream: StreamOf,
        codec: Codec,
        kept: &Kept,
        now: Instant,
        out: &mut Out,
    ) {
        self.work_on(to);
        let redundant = self.redundant(to, at, stream, codec, kept);
        let Some(subscriber) = self.members.get_mut(to as usize) else { return };
        let Some(slot) = subscriber.slots.get_mut(at) else { return };
        let Some(sent) = slot.choose(stream, codec, kept, now) else { return };
        let Some((plain, _)) = slot.format(codec) else { return };
        let (payload_type, kept) =
            redundant.as_ref().map_or((plain, kept), |(payload_type, kept)| (*payload_type, kept));
        let (ssrc, transport_cc, dependency) = (slot.ssrc, slot.transport_cc, slot.dependency);
        slot.packets = slot.packets.wrapping_add(1);
        slot.bytes = slot.bytes.wrapping_add(kept.payload.len() as u32);
        if subscriber.listens {
            let (member, track, mut kept) = (subscriber.id, stream.track, kept.clone());
            (kept.sequence, kept.timestamp) = (sent.sequence, sent.shift.timestamp(kept.timestamp));
            return out.taken.push(Taken { member, slot: at, track, codec, kept, told: None });
        }
        let number = transport_cc
            .map(|id| (id, subscriber.estimator.send(kept.payload.len() + HEADER_BYTES, now).to_be_bytes()));
        let extensions = Extensions { number, dependency };
        write(&mut self.packet, kept, sent, codec, ssrc, payload_type, None, extensions);
        if let Some(transmit) = subscriber.peer.write_rtp(&self.packet) {
            self.counts.packets_out += 1;
            self.counts.bytes_out += kept.payload.len() as u64;
            out.transmits.push(transmit);
        }
    }

    /// A subscriber asks for packets again.
    pub(super) fn repeat(&mut self, to: u32, ssrc: u32, sequences: &[u16], now: Instant, out: &mut Out) {
        for sequence in sequences {
            if self.send_again(to, ssrc, *sequence, Some(REPEAT_PAUSE), now, out).is_some() {
                self.counts.repeated += 1;
            }
        }
    }

    /// Sends a packet once more, as a retransmission; its bytes. With a `pause` it is what was asked for, and not too often; without one
    /// it is to fill the path.
    pub(super) fn send_again(
        &mut self,
        to: u32,
        ssrc: u32,
        sequence: u16,
        pause: Option<Duration>,
        now: Instant,
        out: &mut Out,
    ) -> Option<usize> {
        let subscriber = self.members.get_mut(to as usize)?;
        let slot = subscriber.slots.iter_mut().find(|slot| slot.ssrc == ssrc)?;
        let (publisher, key) = slot.bound?;
        let sent = match pause {
            Some(pause) => slot.rewriter.again(sequence, now, pause)?,
            None => slot.rewriter.look_up(sequence)?,
        };
        if sent.source >> 2 != key {
            return None;
        }
        let track = self.members.get(publisher as usize).and_then(|member| member.track_of(key))?;
        let layer = track.layers.get((sent.source & 3) as usize)?;
        let mut kept = layer.ring.get(sent.source_sequence)?.clone();
        let codec = track.codec;
        let subscriber = self.members.get_mut(to as usize)?;
        let slot = subscriber.slots.iter_mut().find(|slot| slot.ssrc == ssrc)?;
        kept.timestamp = slot.joined.map_or(kept.timestamp, |joined| joined.shown(kept.timestamp));
        // On a stream of its own (RFC 4588), and not at all to a client that knows none: under its old number it would be sealed a second
        // time with the same nonce, which AES-GCM does not forgive (RFC 7714 section 10).
        let (_, rtx) = slot.format(codec)?;
        let rtx = rtx?;
        let repeat = slot.rtx_sequence;
        slot.rtx_sequence = repeat.wrapping_add(1);
        let (ssrc, transport_cc, dependency) = (slot.rtx_ssrc, slot.transport_cc, slot.dependency);
        let bytes = kept.payload.len() + HEADER_BYTES;
        let number = transport_cc.map(|id| (id, subscriber.estimator.send(bytes, now).to_be_bytes()));
        let original = Some(sent.sequence);
        let extensions = Extensions { number, dependency };
        write(&mut self.packet, &kept, sent.numbered(repeat), codec, ssrc, rtx, original, extensions);
        out.transmits.push(subscriber.peer.write_rtp(&self.packet)?);
        Some(bytes)
    }

    /// Sends a packet with nothing in it, to fill the path where there is nothing to repeat; its bytes. It is numbered among the repeats,
    /// where it tells no picture from another; to a client that knows none among the pictures of a slot that shows none.
    pub(super) fn send_padding(&mut self, to: u32, now: Instant, out: &mut Out) -> Option<usize> {
        let subscriber = self.members.get_mut(to as usize)?;
        // Without a number nobody tells whether it arrived.
        let fits = |slot: &&Slot| slot.kind == Kind::Video && slot.transport_cc.is_some();
        let pictures = || subscriber.slots.iter().filter(fits);
        let slot = pictures().find(|slot| slot.repeats().is_some());
        let slot = slot.or_else(|| pictures().find(|slot| slot.rewriter.source().is_none()))?;
        let (id, ssrc) = (slot.transport_cc?, slot.ssrc);
        let slot = subscriber.slots.iter_mut().find(|slot| slot.ssrc == ssrc)?;
        let (payload_type, ssrc, sequence, timestamp) = match slot.repeats() {
            Some(rtx) => {
                let sequence = slot.rtx_sequence;
                slot.rtx_sequence = sequence.wrapping_add(1);
                (rtx, slot.rtx_ssrc, sequence, slot.rewriter.timestamp())
            }
            None => {
                let (_, payload_type, _) = *slot.formats.first()?;
                let (sequence, timestamp) = slot.rewriter.pad();
                (payload_type, slot.ssrc, sequence, timestamp)
            }
        };
        let bytes = usize::from(PADDING) + HEADER_BYTES;
        let number = subscriber.estimator.send(bytes, now).to_be_bytes();
        let extensions: &[(u8, &[u8])] = &[(id, &number)];
        self.packet.clear();
        Header { marker: false, payload_type, sequence, timestamp, ssrc, extensions }
            .write_padding(PADDING, &mut self.packet);
        out.transmits.push(subscriber.peer.write_rtp(&self.packet)?);
        Some(bytes)
    }
}

impl Member {
    /// Whether the client numbers sound with what was said before so.
    fn is_red(&self, payload_type: u8) -> bool {
        let mut formats = self.sections.iter().flat_map(|section| &section.formats);
        formats.any(|format| format.red == Some(payload_type))
    }

    /// Whether what comes is sound, whatever its number says.
    fn is_sound(&self, stream: StreamOf) -> bool {
        self.track_of(stream.track).is_some_and(|track| track.codec.is_audio())
    }

    /// Whether a piece of sound has not come yet.
    fn lacks(&self, stream: StreamOf, sequence: u16) -> bool {
        let layer = self.track_of(stream.track).and_then(|track| track.layers.get(stream.layer));
        // What was said before the first packet that came is nobody's loss.
        let heard = layer.filter(|layer| layer.reception.is_some() && !stream.repairs);
        heard.is_some_and(|layer| layer.ring.get(sequence).is_none())
    }

    /// A piece of sound that [lacked](Self::lacks) came within a later packet. `None` when it is not to be forwarded.
    fn arrive_late(
        &mut self,
        stream: StreamOf,
        sequence: u16,
        timestamp: u32,
        piece: &[u8],
        now: Instant,
    ) -> Option<Arrived> {
        let track = self.track(stream.track)?;
        let codec = track.codec;
        let layer = track.layers.get_mut(stream.layer)?;
        let payload = Bytes::copy_from_slice(piece);
        let descriptor = Bytes::new();
        let kept = Kept {
            sequence,
            timestamp,
            marker: false,
            keyframe: true,
            at: now,
            payload,
            descriptor,
            part: None,
        };
        if !layer.ring.put(kept.clone()) || track.muted {
            return None;
        }
        let subscribers = std::mem::take(&mut track.subscribers);
        Some(Arrived { codec, stream, kept, heard: Heard::Sound, subscribers })
    }

    /// Keeps a packet of a stream. `None` when it is not to be forwarded.
    fn arrive(
        &mut self,
        stream: StreamOf,
        packet: &Packet<'_>,
        bytes: &BytesMut,
        now: Instant,
    ) -> Option<Arrived> {
        let mid = self.track(stream.track)?.mid.clone();
        let section = self.section(&mid);
        let extension = |which| packet.extension(section?.extension(which)?);
        let level = extension(Extension::AudioLevel).and_then(|value| value.first().copied());
        let described = extension(Extension::DependencyDescriptor)
            .and_then(|bytes| Some((bytes, Descriptor::read(bytes)?)));
        let track = self.track(stream.track)?;
        let codec = track.codec;
        // Padding alone: a probe of the publisher's.
        if packet.payload.is_empty() {
            return None;
        }
        let offset = (packet.payload.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize)?;
        let (sequence, payload_at) = if stream.repairs {
            // RFC 4588 section 4: the number of what is repaired stands before its payload.
            let number = packet.payload.first_chunk::<2>()?;
            (u16::from_be_bytes(*number), offset + 2)
        } else {
            (packet.sequence, offset)
        };
        let end = offset + packet.payload.len();
        let payload =
            Bytes::copy_from_slice(bytes.get(payload_at..end).filter(|payload| !payload.is_empty())?);
        let vp8 = if codec == Codec::Vp8 { Vp8::read(&payload) } else { None };
        let layer = track.layers.get_mut(stream.layer)?;
        // Where a descriptor says it, Chromium leaves it out of the payload's.
        let part = described.and_then(|(bytes, _)| layer.part_of(bytes));
        let part = part.or_else(|| Part::of_vp8(&vp8?));
        let reception = layer.reception.get_or_insert_with(|| Stream::new(codec.clock_rate(), sequence, now));
        reception.receive(sequence, packet.timestamp, now);
        let kept = Kept {
            sequence,
            timestamp: packet.timestamp,
            marker: packet.marker,
            // What a payload says may be encrypted.
            keyframe: described.map_or_else(
                || codec.begins_keyframe(&payload),
                |(_, descriptor)| descriptor.begins_keyframe,
            ),
            at: now,
            payload,
            descriptor: described.map(|(bytes, _)| Bytes::copy_from_slice(bytes)).unwrap_or_default(),
            part,
        };
        layer.hear(&kept, now);
        if !layer.ring.put(kept.clone()) || track.muted {
            return None;
        }
        let heard = level.map_or(Heard::Sound, |level| track.hear(level & 0x7F, now));
        Some(Arrived { codec, stream, kept, heard, subscribers: std::mem::take(&mut track.subscribers) })
    }

    fn note_arrival(&mut self, packet: &Packet<'_>, now: Instant) {
        // One number for all m-lines of a bundle (RFC 9143 section 7.1.3 asks for equal ids).
        let id = self.sections.iter().find_map(|section| section.extension(Extension::TransportCc));
        let number = id.and_then(|id| packet.extension(id)?.first_chunk::<2>().copied());
        if let Some(number) = number {
            self.arrivals.note(u16::from_be_bytes(number), now);
        }
    }

    fn section(&self, mid: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.mid == mid)
    }

    /// By its SSRC when it is known, else by the names it carries.
    pub(super) fn stream_of(&mut self, packet: &Packet<'_>) -> Option<StreamOf> {
        if let Some(stream) = self.streams.get(&packet.ssrc) {
            return Some(*stream);
        }
        if self.streams.len() >= crate::peer::STREAMS_MAX {
            return None;
        }
        let text = |extension: Extension| {
            let mut sections = self.sections.iter();
            let id = sections.find_map(|section| section.extension(extension))?;
            std::str::from_utf8(packet.extension(id)?).ok()
        };
        // Encoders that are no browsers often write no name; where only one m-line has the payload type it is that one (RFC 9143
        // section 9.2).
        let mid = match text(Extension::Mid) {
            Some(mid) => mid,
            None => {
                let has = |section: &&Section| {
                    let mut formats = section.formats.iter();
                    section.direction == Direction::Sends
                        && formats.any(|format| format.is_of(packet.payload_type))
                };
                let mut sections = self.sections.iter().filter(has);
                let section = sections.next()?;
                sections.next().is_none().then_some(section.mid.as_str())?
            }
        };
        let (rid, repaired) = (text(Extension::Rid), text(Extension::RepairedRid));
        let section = self.section(mid)?;
        let format = section.formats.first()?;
        let repairs = format.rtx == Some(packet.payload_type);
        if !repairs && !format.is_of(packet.payload_type) {
            return None;
        }
        let track = self.tracks.iter_mut().find(|track| track.mid == mid)?;
        let name = if repairs { repaired } else { rid };
        let at = match (name, track.layers.len()) {
            (Some(name), _) => track.layers.iter().position(|layer| layer.rid.as_deref() == Some(name))?,
            (None, 1) => 0,
            (None, _) => return None,
        };
        if !repairs {
            let layer = track.layers.get_mut(at)?;
            if let Some(before) = layer.ssrc.replace(packet.ssrc) {
                // The sender began anew.
                layer.reception = None;
                layer.ring = crate::rtp::ring::Ring::default();
                (layer.keyframe, layer.templates) = (None, None);
                self.streams.remove(&before);
            }
        }
        let stream = StreamOf { track: track.key, layer: at, repairs };
        self.streams.insert(packet.ssrc, stream);
        Some(stream)
    }
}
