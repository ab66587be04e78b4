//! From FLV tags to frames: the last stage of the ingest, where a publisher's habits end.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::flv::{self, Coding, Tag};
use super::limits::UNSUPPORTED_CODINGS_MAX;
use crate::codec::{Configuration, Error, Sight, aac, av1, h264, hevc, opus};
use crate::frame::health::{Health, Meter};
use crate::frame::timeline::{SampleClock, Sanitised, Timeline};
use crate::frame::{Frame, Media, Track};
use crate::time::{Timebase, Timestamp};

/// Media that was not passed on, by reason, in messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// It came before the configuration that would tell how to decode it.
    pub unconfigured: u64,
    /// Its lengths did not add up, or its configuration could not be read.
    pub broken: u64,
    /// It is in a coding this engine does not take.
    pub unsupported: u64,
    /// It belongs to a second track of its kind.
    pub other_track: u64,
    /// There was nothing to show or hear in it.
    pub empty: u64,
    /// It came before the stream key was accepted, and more of it than can wait.
    pub early: u64,
}

/// What is known of a publisher's media at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Report {
    /// How the broadcast is doing.
    pub health: Health,
    /// What was mended in its timestamps.
    pub sanitised: Sanitised,
    /// What was not passed on.
    pub dropped: Dropped,
    /// Pictures labelled as keyframes that were none.
    pub false_keyframes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tracks {
    timeline: Timeline,
    meter: Meter,
    video: Option<Arc<Configuration>>,
    audio: Option<Arc<Configuration>>,
    /// The last video header, as it came.
    video_header: Option<Bytes>,
    audio_clock: Option<SampleClock>,
    unsupported: Vec<(Track, String)>,
    dropped: Dropped,
    false_keyframes: u64,
    frames: u64,
}

impl Tracks {
    /// Whether a frame has been passed on.
    pub(super) fn has_begun(&self) -> bool {
        self.frames > 0
    }

    /// Whether media came that could not be passed on.
    pub(super) fn has_refused(&self) -> bool {
        self.dropped.unconfigured + self.dropped.broken + self.dropped.unsupported > 0
    }

    pub(super) fn report(&self, now: Instant) -> Report {
        Report {
            health: self.meter.health(now),
            sanitised: self.timeline.sanitised(),
            dropped: self.dropped,
            false_keyframes: self.false_keyframes,
        }
    }

    /// Notes a message that could not wait for the acceptance.
    pub(super) fn drop_early(&mut self) {
        self.dropped.early += 1;
    }

    /// Takes an audio or video message and gives what it stands for to `give`.
    pub(super) fn take(
        &mut self,
        now: Instant,
        track: Track,
        timestamp_ms: u32,
        body: &Bytes,
        mut give: impl FnMut(Media),
    ) {
        let tag = match track {
            Track::Video => flv::video(body),
            Track::Audio => flv::audio(body),
        };
        match tag {
            Err(_) if body.is_empty() => self.dropped.empty += 1,
            Err(_) => self.dropped.broken += 1,
            Ok(Tag::Nothing) => {}
            Ok(Tag::OtherTrack) => self.dropped.other_track += 1,
            Ok(Tag::Unsupported(coding)) => self.refuse(track, coding, give),
            Ok(Tag::Configuration { coding, record }) => match configuration(coding, &record) {
                // A header sent again says nothing new, even if parameter sets inside the stream have said more since: those come
                // again too, and the two would take turns.
                Ok(_) if track == Track::Video && self.video_header.as_ref() == Some(&record) => {}
                Ok(configuration) => {
                    if track == Track::Video {
                        self.video_header = Some(record);
                    }
                    self.configure(track, configuration, &mut give);
                }
                Err(_) => self.dropped.broken += 1,
            },
            Ok(Tag::Media { coding, composition_ms, keyframe, payload }) => match track {
                Track::Video => {
                    let picture =
                        Picture { coding, timestamp_ms, composition_ms, labelled: keyframe, payload };
                    self.take_picture(now, picture, &mut give);
                }
                Track::Audio => self.take_sound(now, coding, timestamp_ms, payload, &mut give),
            },
        }
    }

    fn refuse(&mut self, track: Track, coding: String, mut give: impl FnMut(Media)) {
        self.dropped.unsupported += 1;
        let known = self.unsupported.iter().any(|(on, name)| *on == track && *name == coding);
        if !known && self.unsupported.len() < UNSUPPORTED_CODINGS_MAX {
            self.unsupported.push((track, coding.clone()));
            give(Media::Unsupported { track, coding });
        }
    }

    fn configure(&mut self, track: Track, configuration: Configuration, give: &mut impl FnMut(Media)) {
        let place = match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        };
        // Many encoders send their configuration again with every keyframe, or after every reconnection.
        if place.as_deref() == Some(&configuration) {
            return;
        }
        let configuration = Arc::new(configuration);
        *place = Some(Arc::clone(&configuration));
        give(Media::Configuration { track, configuration });
    }

    fn take_picture(&mut self, now: Instant, picture: Picture, give: &mut impl FnMut(Media)) {
        if picture.coding == Coding::H264 {
            self.configure_from_inside(&picture.payload, give);
        }
        let sight = match (picture.coding, self.video.as_deref()) {
            (Coding::H264, Some(Configuration::H264(configuration))) => configuration.look(&picture.payload),
            (Coding::Hevc, Some(Configuration::Hevc(configuration))) => configuration.look(&picture.payload),
            (Coding::Av1, Some(Configuration::Av1(configuration))) => configuration.look(&picture.payload),
            _ => {
                self.dropped.unconfigured += 1;
                return;
            }
        };
        let keyframe = match sight {
            Ok(Sight { picture: true, keyframe }) => keyframe,
            Ok(Sight { picture: false, .. }) => {
                self.dropped.empty += 1;
                return;
            }
            Err(_) => {
                self.dropped.broken += 1;
                return;
            }
        };
        if picture.labelled && !keyframe {
            self.false_keyframes += 1;
        }
        let stamp = self.timeline.stamp(Track::Video, picture.timestamp_ms);
        if let Some(jump_ms) = stamp.jump_ms {
            give(Media::Discontinuity { jump_ms });
        }
        let shown_ms = stamp.dts_ms + self.timeline.composition(picture.composition_ms);
        let frame = Frame {
            track: Track::Video,
            dts: Timestamp::from_millis(stamp.dts_ms).rescale(Timebase::VIDEO),
            pts: Timestamp::from_millis(shown_ms).rescale(Timebase::VIDEO),
            keyframe,
            payload: picture.payload,
        };
        self.give_frame(now, frame, give);
    }

    /// Some cameras send their parameter sets only inside the stream, and some change them there.
    fn configure_from_inside(&mut self, payload: &[u8], give: &mut impl FnMut(Media)) {
        let found = match self.video.as_deref() {
            Some(Configuration::H264(configuration)) => configuration.changed_by(payload),
            _ => match h264::parameter_sets(payload, 4) {
                (Some(sps), Some(pps)) => h264::Configuration::from_parameter_sets(sps, pps).ok(),
                _ => None,
            },
        };
        if let Some(configuration) = found {
            self.configure(Track::Video, Configuration::H264(configuration), give);
        }
    }

    fn take_sound(
        &mut self,
        now: Instant,
        coding: Coding,
        timestamp_ms: u32,
        payload: Bytes,
        give: &mut impl FnMut(Media),
    ) {
        if payload.is_empty() {
            self.dropped.empty += 1;
            return;
        }
        let (samples, rate_hz) = match (coding, self.audio.as_deref()) {
            (Coding::Aac, Some(Configuration::Aac(configuration))) => {
                (configuration.frame_samples, configuration.sample_rate_hz)
            }
            (Coding::Opus, Some(Configuration::Opus(_))) => match opus::packet_samples(&payload) {
                Some(samples) => (samples, Timebase::OPUS.ticks_per_second()),
                None => {
                    self.dropped.broken += 1;
                    return;
                }
            },
            _ => {
                self.dropped.unconfigured += 1;
                return;
            }
        };
        let Some(timebase) = Timebase::new(rate_hz) else { return };
        let stamp = self.timeline.stamp(Track::Audio, timestamp_ms);
        if let Some(jump_ms) = stamp.jump_ms {
            give(Media::Discontinuity { jump_ms });
        }
        let clock = match &mut self.audio_clock {
            Some(clock) if clock.timebase() == timebase => clock,
            other => {
                // A new rate goes on where the old one ended.
                let not_before = other.as_ref().map_or(0, |clock| clock.next().rescale(timebase).ticks() + 1);
                other.insert(SampleClock::new(timebase, stamp.dts_ms, not_before))
            }
        };
        let (dts, set_again) = clock.stamp(stamp.dts_ms, samples);
        if set_again {
            self.timeline.audio_was_set_again();
        }
        let frame = Frame { track: Track::Audio, dts, pts: dts, keyframe: true, payload };
        self.give_frame(now, frame, give);
    }

    fn give_frame(&mut self, now: Instant, frame: Frame, give: &mut impl FnMut(Media)) {
        self.frames += 1;
        self.meter.observe(now, &frame);
        give(Media::Frame(frame));
    }
}

struct Picture {
    coding: Coding,
    timestamp_ms: u32,
    composition_ms: i32,
    labelled: bool,
    payload: Bytes,
}

fn configuration(coding: Coding, record: &Bytes) -> Result<Configuration, Error> {
    Ok(match coding {
        Coding::H264 => Configuration::H264(h264::Configuration::parse(record)?),
        Coding::Hevc => Configuration::Hevc(hevc::Configuration::parse(record)?),
        Coding::Av1 => Configuration::Av1(av1::Configuration::parse(record)?),
        Coding::Aac => Configuration::Aac(aac::Configuration::parse(record)?),
        Coding::Opus => Configuration::Opus(opus::Configuration::parse(record)?),
    })
}
