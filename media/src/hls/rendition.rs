//! Another rendition of a stream: other pictures, the same sound, the same segments.
//!
//! A transcoder gives pictures some time after the source's; they are cut where the source was cut. [`Mark`]s of the source's
//! [`Segmenter`](super::Segmenter) say where that is, and bring the sound of each part along; a part is made as soon as its pictures are
//! there. So every rendition has the same segments under the same numbers, the same dates and discontinuities, and players change between
//! them at any segment.
//!
//! What the transcoder does not give becomes a gap: once something of a segment is missing, the rest of it is (EXT-X-GAP, and GAP=YES
//! on its parts: draft-pantos-hls-rfc8216bis, 4.4.4.7 and 4.4.4.9), so a segment is whole or is not there, and the playlist goes on either
//! way. Players take those segments from another rendition.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::segmenter::{AUDIO_ID, VIDEO_ID};
use super::{Begin, Cut, Init, Part};
use crate::codec::Configuration;
use crate::fmp4::{self, Run, Sample, TrackEntry};
use crate::frame::Frame;
use crate::time::{Timebase, Timestamp};

/// Instants that differ by no more are the same, in ticks of 90 kHz: two milliseconds, for transcoders that round.
const SAME: i64 = 180;
/// Pictures that wait for a mark: ten seconds of 60 a second. More come only of a transcoder that invents them; the oldest go.
const FRAMES_MAX: usize = 600;
/// Marks that wait for pictures: a minute of parts. A transcoder that is further behind has lost them.
const MARKS_MAX: usize = 256;

/// What the source has cut.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A segment begins.
    Begin {
        /// As the source tells it.
        begin: Begin,
        /// When its first picture is shown.
        at: Timestamp,
        /// How the sound from here on is decoded.
        audio: Option<Arc<Configuration>>,
    },
    /// A part is finished.
    Part {
        /// When the first picture of the next part is shown.
        end: Timestamp,
        /// Its length.
        duration: Duration,
        /// Its sound.
        sound: Sound,
    },
    /// The segment is whole.
    End,
}

/// The sound of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sound {
    /// When the first sample is decoded, in ticks of the track.
    pub decode_time: i64,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// One rendition; see the [module documentation](self).
#[derive(Debug)]
pub struct Rendition {
    marks: VecDeque<Mark>,
    /// A segment that has begun and of which no part is made yet.
    beginning: Option<Begin>,
    /// Where the next part begins; none before the first segment.
    at: Option<i64>,
    frames: VecDeque<Frame>,
    /// Up to where pictures came.
    seen: Option<i64>,
    outage: Option<Outage>,
    /// Something of the open segment is missing.
    broken: bool,
    /// A segment could be made.
    started: bool,
    /// Discontinuities before the first segment.
    discontinuities: u64,
    video: Option<Arc<Configuration>>,
    audio: Option<Arc<Configuration>>,
    announced: Option<(Arc<Configuration>, Option<Arc<Configuration>>)>,
    inits: u32,
    fragments: u32,
    gaps: u64,
    cuts: Vec<Cut>,
}

/// No pictures come from one instant to the other, both in ticks of 90 kHz.
#[derive(Debug, Clone, Copy)]
struct Outage {
    from: i64,
    until: Option<i64>,
}

/// What becomes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waits,
    Made,
    Lost,
}

impl Rendition {
    /// A rendition without pictures, of a stream that has had so many discontinuities.
    pub fn new(discontinuities: u64) -> Self {
        Self {
            marks: VecDeque::new(),
            beginning: None,
            at: None,
            frames: VecDeque::new(),
            seen: None,
            outage: Some(Outage { from: i64::MIN, until: None }),
            broken: false,
            started: false,
            discontinuities,
            video: None,
            audio: None,
            announced: None,
            inits: 0,
            fragments: 0,
            gaps: 0,
            cuts: Vec::new(),
        }
    }

    /// What the source has cut.
    pub fn mark(&mut self, marks: &[Mark]) -> Vec<Cut> {
        for mark in marks {
            if let (Mark::Begin { at, begin, .. }, Some(Mark::End)) = (mark, self.marks.back())
                && !begin.discontinuity
            {
                // The first picture of a segment belongs to it, even where it is shown a little before its turn.
                let at = *at;
                let last = self.marks.iter_mut().rev().find_map(|mark| match mark {
                    Mark::Part { end, .. } => Some(end),
                    _ => None,
                });
                if let Some(end) = last.filter(|end| **end > at) {
                    *end = at;
                }
            }
            self.marks.push_back(mark.clone());
        }
        self.go_on();
        if self.marks.len() > MARKS_MAX {
            self.lose_all();
        }
        std::mem::take(&mut self.cuts)
    }

    /// How the pictures from here on are decoded.
    pub fn configure(&mut self, configuration: Arc<Configuration>) {
        self.video = Some(configuration);
    }

    /// A picture that lasts for so many ticks. Its timestamps are the source's.
    pub fn push(&mut self, frame: Frame, duration: u32) -> Vec<Cut> {
        let shown = ticks(frame.pts);
        let length = Timestamp::new(duration.into(), frame.pts.timebase()).rescale(Timebase::VIDEO).ticks();
        self.seen = Some(self.seen.map_or(shown + length, |seen| seen.max(shown + length)));
        self.frames.push_back(frame);
        if self.frames.len() > FRAMES_MAX {
            self.frames.pop_front();
        }
        self.go_on();
        std::mem::take(&mut self.cuts)
    }

    /// No pictures come that are shown at `from` or later; without it, none after those that came.
    pub fn stop(&mut self, from: Option<Timestamp>) -> Vec<Cut> {
        let from = from.map(ticks).or(self.seen).unwrap_or(i64::MIN);
        let from = self.outage.map_or(from, |outage| outage.from.min(from));
        self.outage = Some(Outage { from, until: None });
        self.go_on();
        std::mem::take(&mut self.cuts)
    }

    /// Pictures come again, from the one that is shown at `until`.
    pub fn resume(&mut self, until: Timestamp) {
        if let Some(outage) = &mut self.outage {
            outage.until = Some(ticks(until));
        }
    }

    /// What waits is not waited for any longer; pictures of it that still come are left out.
    pub fn give_up(&mut self) -> Vec<Cut> {
        self.lose_all();
        std::mem::take(&mut self.cuts)
    }

    /// Nothing that was waited for comes any more, and what comes next is on another timeline.
    pub fn reset(&mut self) -> Vec<Cut> {
        self.lose_all();
        self.frames.clear();
        self.seen = None;
        self.outage = Some(Outage { from: i64::MIN, until: None });
        std::mem::take(&mut self.cuts)
    }

    /// Whether parts wait for their pictures.
    pub fn is_waiting(&self) -> bool {
        self.marks.iter().any(|mark| matches!(mark, Mark::Part { .. }))
    }

    /// Discontinuities of the stream before the first segment of this rendition.
    pub fn discontinuities(&self) -> u64 {
        self.discontinuities
    }

    /// How the pictures are decoded, and the sound.
    pub fn configurations(&self) -> impl Iterator<Item = &Arc<Configuration>> {
        self.announced.iter().flat_map(|(video, audio)| [video].into_iter().chain(audio))
    }

    /// Parts that could not be made since the first segment.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    fn lose_all(&mut self) {
        let outage = self.outage.replace(Outage { from: i64::MIN, until: None });
        self.go_on();
        self.outage = outage;
    }

    /// Makes all that can be made.
    fn go_on(&mut self) {
        while let Some(mark) = self.marks.front() {
            if let (Mark::Part { end, .. }, Some(at)) = (mark, self.at) {
                let end = ticks(*end);
                let fate = if self.broken { Fate::Lost } else { self.fate(at, end) };
                if fate == Fate::Waits {
                    return;
                }
                if let Some(Mark::Part { duration, sound, .. }) = self.marks.pop_front() {
                    self.part(at, end, duration, &sound, fate);
                }
                continue;
            }
            match self.marks.pop_front() {
                Some(Mark::Begin { begin, at, audio }) => {
                    self.broken = false;
                    self.at = Some(ticks(at));
                    self.audio = audio;
                    self.beginning = Some(begin);
                }
                Some(Mark::End) if self.started && self.beginning.is_none() => self.cuts.push(Cut::End),
                _ => {}
            }
        }
    }

    fn fate(&mut self, at: i64, end: i64) -> Fate {
        if let Some(Outage { from, until }) = self.outage {
            match until {
                Some(until) if until <= at.saturating_add(SAME) => self.outage = None,
                until => {
                    let until = until.unwrap_or(i64::MAX);
                    if from < end.saturating_sub(SAME) && until > at.saturating_add(SAME) {
                        return Fate::Lost;
                    }
                }
            }
        }
        // What belongs to no part: pictures of before an outage was over.
        while self.frames.front().is_some_and(|frame| ticks(frame.pts) < at - SAME) {
            self.frames.pop_front();
        }
        let Some(first) = self.frames.front() else {
            return if self.seen.is_some_and(|seen| seen >= end - SAME) { Fate::Lost } else { Fate::Waits };
        };
        if ticks(first.pts) >= end - SAME {
            return Fate::Lost;
        }
        let complete = self.seen.is_some_and(|seen| seen >= end - SAME);
        if complete && self.video.is_some() { Fate::Made } else { Fate::Waits }
    }

    fn part(&mut self, at: i64, end: i64, duration: Duration, sound: &Sound, fate: Fate) {
        self.at = Some(end.max(at));
        self.broken |= fate == Fate::Lost;
        if self.broken {
            if !self.started {
                // Nothing is told of what came before the first segment that is whole.
                if let Some(begin) = self.beginning.take() {
                    self.discontinuities += u64::from(begin.discontinuity);
                }
                return;
            }
            self.begin();
            self.gaps += 1;
            self.cuts.push(Cut::Part(Part { duration, independent: false, gap: true, bytes: Bytes::new() }));
            return;
        }
        if self.beginning.is_some() {
            self.announce();
        }
        self.started = true;
        self.begin();
        let count = self.frames.iter().take_while(|frame| ticks(frame.pts) < end - SAME).count();
        let frames: Vec<Frame> = self.frames.drain(..count).collect();
        let starts = frames.iter().map(|frame| ticks(frame.dts));
        let ends = starts.clone().skip(1).chain([end]);
        let base = starts.clone().next().unwrap_or(at);
        let samples: Vec<Sample> = frames
            .iter()
            .zip(starts.zip(ends))
            .map(|(frame, (start, end))| Sample {
                duration: u32::try_from(end - start).unwrap_or(1).max(1),
                composition: i32::try_from(ticks(frame.pts) - ticks(frame.dts)).unwrap_or(0),
                keyframe: frame.keyframe,
                payload: frame.payload.clone(),
            })
            .collect();
        self.fragments = self.fragments.wrapping_add(1);
        let time = |ticks: i64| u64::try_from(ticks).unwrap_or(0);
        let bytes = fmp4::fragment(
            self.fragments,
            &[
                Run { track_id: VIDEO_ID, decode_time: time(base), samples: &samples },
                Run { track_id: AUDIO_ID, decode_time: time(sound.decode_time), samples: &sound.samples },
            ],
        );
        let independent = samples.first().is_some_and(|sample| sample.keyframe);
        self.cuts.push(Cut::Part(Part { duration, independent, gap: false, bytes }));
    }

    fn begin(&mut self) {
        if let Some(begin) = self.beginning.take() {
            self.cuts.push(Cut::Begin(begin));
        }
    }

    /// Tells how to decode what follows, where that is news.
    fn announce(&mut self) {
        let Some(video) = self.video.clone() else { return };
        let now = (video, self.audio.clone());
        if self.announced.as_ref() == Some(&now) {
            return;
        }
        let video = [TrackEntry { id: VIDEO_ID, configuration: &now.0 }];
        let audio = now.1.iter().map(|configuration| TrackEntry { id: AUDIO_ID, configuration });
        let entries: Vec<_> = video.into_iter().chain(audio).collect();
        self.cuts.push(Cut::Init(Init { number: self.inits, bytes: fmp4::init(&entries) }));
        self.inits += 1;
        self.announced = Some(now);
    }
}

fn ticks(at: Timestamp) -> i64 {
    at.rescale(Timebase::VIDEO).ticks()
}
