//! Canned media: packets as an encoder makes them, without an encoder. Each carries the time of its sending.

use std::time::{Duration, Instant};

use nova_media::rtp::packet::Header;

/// Bytes of the payload of a packet of pictures.
pub const PICTURE_BYTES: usize = 1_100;
/// Bytes of the payload of a packet of sound: Opus at 32 kbit/s, 20 ms.
pub const SOUND_BYTES: usize = 80;
/// Ids of header extensions, as [`super::peer::offer`] numbers them.
pub const TRANSPORT_ID: u8 = 3;
/// See [`TRANSPORT_ID`].
pub const MID_ID: u8 = 4;
/// See [`TRANSPORT_ID`].
pub const RID_ID: u8 = 10;
/// See [`TRANSPORT_ID`].
pub const LEVEL_ID: u8 = 14;
/// Names of layers, the lowest first.
pub const RIDS: [&str; 3] = ["q", "h", "f"];
/// What the codecs are called.
pub const OPUS: u8 = 111;
/// See [`OPUS`].
pub const VP8: u8 = 96;
/// See [`OPUS`].
pub const VP8_RTX: u8 = 97;

const FRAMES_PER_S: u32 = 30;
/// The packets of a picture are spread as browsers spread them: at so many times the rate of the camera (libwebrtc's pacing factor).
const PACING: f64 = 2.5;
/// A keyframe has so many times the packets of others.
const KEYFRAME_SIZE: usize = 3;
/// What follows the first byte of a VP8 keyframe (RFC 6386 section 9.1): the rest of its tag, the start code, 640 by 360. Some
/// servers believe in no keyframe without.
const KEYFRAME_START: [u8; 9] = [0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01];
/// Where the time of sending stands in a payload of pictures and of sound.
const PICTURE_STAMP_AT: usize = 16;
const SOUND_STAMP_AT: usize = 1;

/// A microphone.
#[derive(Debug)]
pub struct Voice {
    ssrc: u32,
    sequence: u16,
    every: Duration,
    due: Instant,
    /// -dBov.
    level: u8,
}

impl Voice {
    /// One that says `packets_per_s`, from `due` on.
    pub fn new(ssrc: u32, packets_per_s: u32, level: u8, due: Instant) -> Voice {
        let every = Duration::from_secs(1) / packets_per_s.max(1);
        Voice { ssrc, sequence: ssrc as u16, every, due, level }
    }

    /// Gives every packet that is due to `send`. `number` counts what one transport sends.
    pub fn say(&mut self, now: Instant, number: &mut u16, stamp: u64, mut send: impl FnMut(&[u8])) {
        let mut packet = Vec::with_capacity(160);
        while self.due <= now {
            self.due += self.every;
            packet.clear();
            let transport = number.to_be_bytes();
            *number = number.wrapping_add(1);
            let extensions: &[(u8, &[u8])] =
                &[(TRANSPORT_ID, &transport), (MID_ID, b"0"), (LEVEL_ID, &[self.level])];
            let timestamp = u32::from(self.sequence).wrapping_mul(960);
            let (sequence, ssrc) = (self.sequence, self.ssrc);
            Header { marker: false, payload_type: OPUS, sequence, timestamp, ssrc, extensions }
                .write(&mut packet);
            packet.push(0x78);
            packet.extend_from_slice(&stamp.to_be_bytes());
            packet.resize(packet.len() + SOUND_BYTES - 9, 0x55);
            self.sequence = self.sequence.wrapping_add(1);
            send(&packet);
        }
    }
}

/// One layer of a camera: VP8 with two temporal layers.
#[derive(Debug)]
pub struct Layer {
    rid: Option<&'static str>,
    /// Of its packets.
    pub ssrc: u32,
    sequence: u16,
    timestamp: u32,
    packets_per_frame: f64,
    owed: f64,
    due: Instant,
    /// The picture that is being sent, and when its next packet is.
    frame: Option<Frame>,
    next: Instant,
    spacing: Duration,
    picture: u16,
    tl0: u8,
    key_idx: u8,
    /// The next frame needs none before it.
    pub wants_keyframe: bool,
    /// Whether anybody watches it.
    pub is_on: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    at: usize,
    packets: usize,
    is_key: bool,
    temporal: u8,
}

impl Layer {
    /// A layer of `kbps`, from `due` on.
    pub fn new(rid: Option<&'static str>, ssrc: u32, kbps: u32, due: Instant) -> Layer {
        let bytes = f64::from(kbps) * 125.0 / f64::from(FRAMES_PER_S);
        let packets_per_frame = bytes / PICTURE_BYTES as f64;
        let packets_per_s = packets_per_frame.max(1.0) * f64::from(FRAMES_PER_S);
        Layer {
            rid,
            ssrc,
            sequence: ssrc as u16,
            timestamp: ssrc.wrapping_mul(77),
            packets_per_frame,
            owed: 0.0,
            due,
            frame: None,
            next: due,
            spacing: Duration::from_secs_f64(1.0 / (packets_per_s * PACING)),
            picture: (ssrc as u16) & 0x7FFF,
            tl0: ssrc as u8,
            key_idx: 0,
            wants_keyframe: true,
            is_on: true,
        }
    }

    /// Gives every packet that is due to `send`.
    pub fn show(&mut self, now: Instant, number: &mut u16, stamp: u64, mut send: impl FnMut(&[u8])) {
        let mut packet = Vec::with_capacity(1_200);
        loop {
            if let Some(frame) = self.frame {
                if self.next > now {
                    return;
                }
                self.next += self.spacing;
                packet.clear();
                self.write(frame, number, stamp, &mut packet);
                send(&packet);
                let at = frame.at + 1;
                self.frame = (at < frame.packets).then_some(Frame { at, ..frame });
            } else if self.due <= now {
                self.next = self.next.max(self.due);
                self.due += Duration::from_secs(1) / FRAMES_PER_S;
                self.begin();
            } else {
                return;
            }
        }
    }

    /// The next picture, when anybody watches.
    fn begin(&mut self) {
        self.timestamp = self.timestamp.wrapping_add(90_000 / FRAMES_PER_S);
        if !self.is_on {
            self.wants_keyframe = true;
            return;
        }
        let is_key = std::mem::take(&mut self.wants_keyframe);
        self.picture = self.picture.wrapping_add(1) & 0x7FFF;
        // Frames alternate between the temporal layers; a keyframe is of the lowest.
        let temporal = if is_key { 0 } else { (self.picture & 1) as u8 };
        if temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        if is_key {
            self.key_idx = (self.key_idx + 1) & 0x1F;
        }
        self.owed += self.packets_per_frame;
        let packets = (self.owed as usize).max(1);
        self.owed -= packets as f64;
        let packets = if is_key { packets * KEYFRAME_SIZE } else { packets };
        self.frame = Some(Frame { at: 0, packets, is_key, temporal });
    }

    fn write(&mut self, frame: Frame, number: &mut u16, stamp: u64, packet: &mut Vec<u8>) {
        let Frame { at, packets, is_key, temporal } = frame;
        let transport = number.to_be_bytes();
        *number = number.wrapping_add(1);
        let all: [(u8, &[u8]); 3] =
            [(TRANSPORT_ID, &transport), (MID_ID, b"1"), (RID_ID, self.rid.unwrap_or_default().as_bytes())];
        let extensions = if self.rid.is_some() { &all[..] } else { &all[..2] };
        let marker = at + 1 == packets;
        let (sequence, timestamp, ssrc) = (self.sequence, self.timestamp, self.ssrc);
        Header { marker, payload_type: VP8, sequence, timestamp, ssrc, extensions }.write(packet);
        let [high, low] = (self.picture | 0x8000).to_be_bytes();
        let begins = if at == 0 { 0x90 } else { 0x80 };
        packet.extend_from_slice(&[
            begins,
            0xF0,
            high,
            low,
            self.tl0,
            temporal << 6 | temporal << 5 | self.key_idx,
            u8::from(!is_key),
        ]);
        packet.extend_from_slice(if is_key && at == 0 { &KEYFRAME_START } else { &[0; 9] });
        packet.extend_from_slice(&stamp.to_be_bytes());
        packet.resize(packet.len() + PICTURE_BYTES - PICTURE_STAMP_AT - 8, 0xAA);
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// When a payload was sent.
pub fn stamp_of(payload: &[u8], is_sound: bool) -> Option<u64> {
    let at = if is_sound { SOUND_STAMP_AT } else { PICTURE_STAMP_AT };
    payload.get(at..)?.first_chunk().map(|stamp| u64::from_be_bytes(*stamp))
}

#[cfg(test)]
mod tests {
    use nova_media::rtp::packet::Packet;
    use nova_media::rtp::payload::{Codec, Vp8};

    use super::*;

    #[test]
    fn a_layer_has_the_rate_it_should_and_begins_with_a_keyframe() {
        let start = Instant::now();
        let mut layer = Layer::new(Some("h"), 7, 880, start);
        let (mut number, mut packets) = (0, Vec::new());
        layer.show(start + Duration::from_millis(1_990), &mut number, 42, |packet| {
            packets.push(packet.to_vec());
        });
        let read: Vec<_> = packets.iter().map(|packet| Packet::read(packet).unwrap()).collect();
        assert!((198..=212).contains(&read.len()), "{}", read.len());
        let keys = read.iter().filter(|packet| Codec::Vp8.begins_keyframe(packet.payload)).count();
        assert_eq!((keys, Codec::Vp8.begins_keyframe(read[0].payload)), (1, true));
        assert!(read.iter().all(|packet| stamp_of(packet.payload, false) == Some(42)));
        assert!(read.iter().all(|packet| packet.payload.len() == PICTURE_BYTES));
        assert_eq!(Vp8::read(read[0].payload).unwrap().temporal, Some(0));
        assert_eq!((read.len(), read[0].extension(RID_ID)), (usize::from(number), Some(&b"h"[..])));
    }

    #[test]
    fn the_packets_of_a_picture_are_spread_and_all_there_before_the_next() {
        let start = Instant::now();
        let mut layer = Layer::new(None, 7, 2_000, start);
        let (mut number, mut sent) = (0, Vec::new());
        for ms in 0..500 {
            layer.show(start + Duration::from_millis(ms), &mut number, 1, |packet| {
                sent.push((ms, Packet::read(packet).unwrap().timestamp));
            });
        }
        let at_once = |ms| sent.iter().filter(|(at, _)| *at == ms).count();
        assert!((0..500).all(|ms| at_once(ms) <= 1), "{sent:?}");
        assert!(sent.windows(2).all(|two| two[1].1.wrapping_sub(two[0].1) < 0x8000_0000), "{sent:?}");
        assert!((105..=135).contains(&sent.len()), "{}", sent.len());
    }
}
