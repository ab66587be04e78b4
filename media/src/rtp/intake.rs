//! From the packets of a publisher over WebRTC to [`Media`]: H.264 (RFC 6184) and Opus (RFC 7587), on a timeline of its own.
//!
//! When a packet was made is told by its arrival at first, and by the publisher's sender reports as soon as both tracks have theirs
//! (`clock`): sound and picture that took ways of different length are together again.
//!
//! Who shows something too is not heard before something can be shown: what begins with sound alone has its pictures only after a
//! discontinuity, and encoders that ran before they were connected begin in the middle of a GOP.
//!
//! After a loss no picture is passed on before the next keyframe: a recording should not show what a decoder makes of half a GOP. Whoever
//! drives this asks for one when [`Intake::wants_keyframe`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::clock::{Lips, TrackClock};
use super::h264::{Depacketizer, Picture};
use super::reorder::{Next, Reorder};
use super::ring::Kept;
use super::rtcp::SenderTime;
use crate::codec::{Configuration, h264, opus};
use crate::frame::health::{Health, Meter};
use crate::frame::timeline::{SampleClock, Timeline};
use crate::frame::{Frame, Media, Track};
use crate::time::{Timebase, Timestamp};

/// What an Opus decoder is told (RFC 7845 section 5.1): stereo, nothing to skip, 48 kHz.
const OPUS_HEAD: &[u8] = b"OpusHead\x01\x02\x00\x00\x80\xbb\x00\x00\x00\x00\x00";

/// How long sound waits for the first keyframe: as long as most encoders take from one to the next. One is asked for besides.
const PICTURE_WAIT: Duration = Duration::from_secs(3);

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Intake {
    began: Instant,
    timeline: Timeline,
    meter: Meter,
    video: Incoming,
    audio: Incoming,
    lips: Lips,
    depacketizer: Depacketizer,
    configuration: Option<Arc<Configuration>>,
    audio_clock: Option<SampleClock>,
    heard: bool,
    /// Pictures will come, and sound that came before them goes nowhere.
    awaits_picture: bool,
    first_heard_at: Option<Instant>,
    /// Pictures are passed on; before the first keyframe and after a loss they are not.
    sees: bool,
    lost: u64,
}

/// One track, as it comes in.
#[derive(Debug)]
struct Incoming {
    reorder: Reorder,
    clock: TrackClock,
}

impl Incoming {
    fn new(ticks_per_ms: i64) -> Incoming {
        Incoming { reorder: Reorder::default(), clock: TrackClock::new(ticks_per_ms) }
    }
}

impl Intake {
    /// One that has heard nothing.
    pub fn new(now: Instant) -> Intake {
        Intake {
            began: now,
            timeline: Timeline::new(),
            meter: Meter::new(),
            video: Incoming::new(90),
            audio: Incoming::new(48),
            lips: Lips::default(),
            depacketizer: Depacketizer::default(),
            configuration: None,
            audio_clock: None,
            heard: false,
            awaits_picture: false,
            first_heard_at: None,
            sees: false,
            lost: 0,
        }
    }

    /// The same of a publisher who shows something, and may sound too.
    pub fn awaiting_pictures(self) -> Intake {
        Intake { awaits_picture: true, ..self }
    }

    /// How the broadcast does.
    pub fn health(&self, now: Instant) -> Health {
        self.meter.health(now)
    }

    /// Pictures that could not be put together.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether nothing can be shown before the next keyframe.
    pub fn wants_keyframe(&self) -> bool {
        !self.sees
    }

    /// The publisher told when it was by a track's clock. The same may be told again and again.
    pub fn hear(&mut self, track: Track, time: SenderTime) {
        match track {
            Track::Video => self.video.clock.hear(time),
            Track::Audio => self.audio.clock.hear(time),
        }
    }

    /// By how much pictures are moved to where their sound is, in milliseconds: what arrival alone would have got wrong.
    pub fn moved_ms(&self) -> i64 {
        self.lips.moved_ms()
    }

    /// A packet came.
    pub fn push(&mut self, track: Track, kept: Kept, now: Instant, give: impl FnMut(Media)) {
        match track {
            Track::Video => self.video.reorder.push(kept, now),
            Track::Audio => self.audio.reorder.push(kept, now),
        }
        self.poll(now, give);
    }

    /// Time has passed: what was waited for may be given up.
    pub fn poll(&mut self, now: Instant, mut give: impl FnMut(Media)) {
        while let Some(next) = self.audio.reorder.next(now) {
            // What is lost of the sound is a hole, which players hide.
            if let Next::Packet(kept) = next {
                self.take_sound(kept, now, &mut give);
            }
        }
        while let Some(next) = self.video.reorder.next(now) {
            let (picture, lost) = match next {
                Next::Packet(kept) => self.depacketizer.push(&kept.payload, kept.timestamp, kept.marker),
                Next::Lost => {
                    self.depacketizer.lose();
                    self.sees = false;
                    (None, false)
                }
            };
            if lost {
                self.lost += 1;
                self.sees = false;
            }
            if let Some(picture) = picture {
                self.see(picture, now, &mut give);
            }
        }
    }

    fn since_ms(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.began).as_millis() as u32
    }

    fn see(&mut self, picture: Picture, now: Instant, give: &mut impl FnMut(Media)) {
        let since_ms = self.since_ms(now);
        let at_ms = self.video.clock.at_ms(picture.timestamp, since_ms);
        if picture.keyframe {
            if let (Some(sps), Some(pps)) = h264::parameter_sets(&picture.payload, 4)
                && let Ok(found) = h264::Configuration::from_parameter_sets(sps, pps)
            {
                let found = Configuration::H264(found);
                if self.configuration.as_deref() != Some(&found) {
                    let configuration = Arc::new(found);
                    self.configuration = Some(Arc::clone(&configuration));
                    give(Media::Configuration { track: Track::Video, configuration });
                }
            }
            self.sees = self.configuration.is_some();
        }
        if !self.sees {
            return;
        }
        self.lips.compare(&self.audio.clock, &self.video.clock);
        let stamp = self.timeline.stamp(Track::Video, self.lips.place(at_ms));
        if let Some(jump_ms) = stamp.jump_ms {
            give(Media::Discontinuity { jump_ms });
        }
        let at = Timestamp::from_millis(stamp.dts_ms).rescale(Timebase::VIDEO);
        let Picture { keyframe, payload, .. } = picture;
        self.give_frame(Frame { track: Track::Video, dts: at, pts: at, keyframe, payload }, now, give);
    }

    fn take_sound(&mut self, kept: Kept, now: Instant, give: &mut impl FnMut(Media)) {
        let Some(samples) = opus::packet_samples(&kept.payload) else { return };
        if self.awaits_picture {
            let since = *self.first_heard_at.get_or_insert(now);
            self.awaits_picture = !self.sees && now.saturating_duration_since(since) < PICTURE_WAIT;
            if self.awaits_picture {
                return;
            }
        }
        if !self.heard {
            self.heard = true;
            if let Ok(head) = opus::Configuration::parse(&Bytes::from_static(OPUS_HEAD)) {
                let configuration = Arc::new(Configuration::Opus(head));
                give(Media::Configuration { track: Track::Audio, configuration });
            }
        }
        let since_ms = self.since_ms(now);
        let at_ms = self.audio.clock.at_ms(kept.timestamp, since_ms);
        let stamp = self.timeline.stamp(Track::Audio, at_ms);
        let clock = self.audio_clock.get_or_insert_with(|| SampleClock::new(Timebase::OPUS, stamp.dts_ms, 0));
        let (at, set_again) = clock.stamp(stamp.dts_ms, samples);
        if set_again {
            self.timeline.audio_was_set_again();
        }
        let payload = kept.payload;
        self.give_frame(Frame { track: Track::Audio, dts: at, pts: at, keyframe: true, payload }, now, give);
    }

    fn give_frame(&mut self, frame: Frame, now: Instant, give: &mut impl FnMut(Media)) {
        self.meter.observe(now, &frame);
        give(Media::Frame(frame));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::rtp::beginning;

    const SETS: &[u8] = &[
        24, 0, 10, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0xc8, 0, 4, 0x68, 0xce, 0x3c, 0x80,
    ];

    fn kept(sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Kept {
        let payload = Bytes::copy_from_slice(payload);
        Kept {
            sequence,
            timestamp,
            marker,
            keyframe: false,
            payload,
            at: beginning(),
            descriptor: Bytes::new(),
            part: None,
        }
    }

    #[test]
    fn pictures_begin_with_a_keyframe_and_after_a_loss_with_the_next() {
        let now = beginning();
        let (mut intake, mut pictures) = (Intake::new(now), Vec::new());
        let packets = [
            kept(1, 0, true, &[0x41, 1]),
            kept(2, 3_000, false, SETS),
            kept(3, 3_000, true, &[0x65, 1]),
            kept(4, 6_000, true, &[0x41, 2]),
            kept(6, 12_000, true, &[0x41, 3]),
            kept(7, 15_000, false, SETS),
            kept(8, 15_000, true, &[0x65, 2]),
        ];
        for (at, packet) in packets.into_iter().enumerate() {
            let now = now + Duration::from_millis(500 * at as u64);
            intake.push(Track::Video, packet, now, |media| pictures.push(media));
            intake.poll(now + Duration::from_millis(499), |media| pictures.push(media));
        }
        let frames: Vec<(bool, i64)> = pictures
            .iter()
            .filter_map(|media| match media {
                Media::Frame(frame) => Some((frame.keyframe, frame.dts.ticks())),
                _ => None,
            })
            .collect();
        let first = frames[0].1;
        let frames: Vec<_> = frames.into_iter().map(|(keyframe, at)| (keyframe, (at - first) / 90)).collect();
        assert_eq!(frames, [(true, 0), (false, 33), (true, 133)]);
        assert!(matches!(pictures[0], Media::Configuration { track: Track::Video, .. }));
        assert_eq!((intake.lost(), intake.wants_keyframe()), (1, false));
    }

    #[test]
    fn sound_waits_for_the_first_keyframe_and_not_for_ever() {
        let start = beginning();
        let sound = |n: u16| kept(n, u32::from(n) * 960, true, &[0x98, n as u8]);
        let at = |n: u16| start + Duration::from_millis(u64::from(n) * 20);
        let tracks = |given: &[Media]| -> Vec<Track> {
            let frames = given.iter().filter_map(|media| match media {
                Media::Frame(frame) => Some(frame.track),
                _ => None,
            });
            frames.collect()
        };
        // In the middle of a GOP at first; the keyframe comes with the 60th packet of sound.
        let (mut intake, mut given) = (Intake::new(start).awaiting_pictures(), Vec::new());
        for n in 0..62 {
            let payload = if n == 60 { [SETS, &[0, 3, 0x65, 1, 2]].concat() } else { vec![0x41, n as u8] };
            intake.push(Track::Video, kept(n, u32::from(n) * 1_800, true, &payload), at(n), |one| {
                given.push(one)
            });
            intake.push(Track::Audio, sound(n), at(n), |one| given.push(one));
        }
        assert_eq!(tracks(&given), [Track::Video, Track::Audio, Track::Video, Track::Audio]);
        // Pictures that never come, and a publisher who never meant to show any.
        for (mut intake, heard) in [(Intake::new(start).awaiting_pictures(), 50), (Intake::new(start), 200)] {
            let mut given = Vec::new();
            for n in 0..200 {
                intake.push(Track::Audio, sound(n), at(n), |one| given.push(one));
            }
            assert_eq!(tracks(&given), vec![Track::Audio; heard]);
        }
    }

    /// A publisher whose pictures take `late_ms` longer to arrive than its sound: by how much the two are apart in what comes out, at each
    /// picture. Reports say the truth from `told_from_ms` on.
    fn apart_ms(late_ms: u64, told_from_ms: u64, lie_ms: i64) -> Vec<i64> {
        let start = beginning();
        let ntp = |ms: i64| {
            (((3_000_000_000_000 + ms) as u64 / 1_000) << 32) | (((ms as u64 % 1_000) << 32) / 1_000)
        };
        let mut intake = Intake::new(start);
        // Made at `ms` by the publisher's clock; the first of both at once.
        let mut packets: Vec<(u64, Track, u64)> = (0..400).map(|n| (n * 20, Track::Audio, n)).collect();
        packets.extend((0..240).map(|n| (n * 33 + late_ms, Track::Video, n)));
        packets.sort_by_key(|(at_ms, ..)| *at_ms);
        let mut given: Vec<Media> = Vec::new();
        for (at_ms, track, n) in packets {
            let now = start + Duration::from_millis(at_ms);
            let (made_ms, rate, first) = match track {
                Track::Audio => (n * 20, 48, 0xffff_f000_u32),
                Track::Video => (n * 33, 90, 77),
            };
            let timestamp = first.wrapping_add((made_ms * rate) as u32);
            let lie = if track == Track::Video { lie_ms } else { 0 };
            if made_ms >= told_from_ms {
                let told = SenderTime { ntp: ntp(made_ms as i64 + lie), timestamp };
                intake.hear(track, told);
            }
            let payload: Vec<u8> = match track {
                Track::Audio => vec![0x98, n as u8],
                Track::Video if n % 30 == 0 => [SETS, &[0, 3, 0x65, 1, n as u8]].concat(),
                Track::Video => vec![0x41, n as u8],
            };
            intake.push(track, kept(n as u16, timestamp, true, &payload), now, |media| given.push(media));
        }
        let frames = |track| {
            given.iter().filter_map(move |media| match media {
                Media::Frame(frame) if frame.track == track => Some(frame.dts.millis()),
                _ => None,
            })
        };
        let sound = frames(Track::Audio).next().unwrap();
        let pictures: Vec<i64> = frames(Track::Video).collect();
        assert_eq!(pictures.len(), 240);
        assert!(pictures.windows(2).all(|pair| (30..=36).contains(&(pair[1] - pair[0]))), "{pictures:?}");
        assert!(!given.iter().any(|media| matches!(media, Media::Discontinuity { .. })));
        pictures.iter().enumerate().map(|(n, at)| at - sound - n as i64 * 33).collect()
    }

    #[test]
    fn sound_and_picture_go_together_as_sender_reports_say_and_not_as_they_arrive() {
        // As they arrive, pictures are as late as their way was longer.
        let by_arrival = apart_ms(300, u64::MAX, 0);
        assert!(by_arrival.iter().all(|apart| (298..=302).contains(apart)), "{by_arrival:?}");
        // Told at once, they are right from the first picture on.
        let told = apart_ms(300, 0, 0);
        assert!(told.iter().all(|apart| apart.abs() <= 2), "{told:?}");
        // Told after a second, they move there by little steps, and stay.
        let late = apart_ms(300, 1_000, 0);
        assert!((298..=302).contains(&late[20]), "{late:?}");
        assert!(late[200..].iter().all(|apart| apart.abs() <= 2), "{late:?}");
        // Pictures that are early, as those of an encoder without look-ahead beside a slow microphone are.
        let early = apart_ms(0, 1_000, 200);
        assert!(
            early[20].abs() <= 2 && early[200..].iter().all(|apart| (198..=202).contains(apart)),
            "{early:?}"
        );
        // A clock nobody can mean.
        let absurd = apart_ms(100, 0, 3_600_000);
        assert!(absurd.iter().all(|apart| (98..=102).contains(apart)), "{absurd:?}");
    }

    proptest! {
        #[test]
        fn no_packets_end_in_a_panic(
            packets in prop::collection::vec(
                (any::<bool>(), any::<u16>(), any::<u32>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..30)), 0..60,
            ),
            reports in prop::collection::vec((any::<u64>(), any::<u32>()), 60),
        ) {
            let now = beginning();
            let mut intake = Intake::new(now);
            for ((is_video, sequence, timestamp, marker, payload), (ntp, told)) in packets.into_iter().zip(reports) {
                let track = if is_video { Track::Video } else { Track::Audio };
                intake.hear(track, SenderTime { ntp, timestamp: told });
                intake.push(track, kept(sequence, timestamp, marker, &payload), now, |_| {});
            }
        }
    }
}
