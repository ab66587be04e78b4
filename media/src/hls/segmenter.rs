//! From frames to parts and segments.
//!
//! One track leads: video, or sound where there is no video. Its decoding times cut parts and segments; the other
//! track's frames go into whatever part is open. Every listed length is the sum of what the part holds, so a segment is
//! exactly its parts.

use std::sync::Arc;

use super::rendition::{Mark, Sound};
use super::{Begin, Cut, Init, Part, Settings};
use crate::codec::Configuration;
use crate::fmp4::{self, Run, Sample, TrackEntry};
use crate::frame::{Frame, Media, Track};
use crate::time::Timestamp;

/// The tracks' numbers in every init segment.
pub(super) const VIDEO_ID: u32 = 1;
pub(super) const AUDIO_ID: u32 = 2;
/// How long a stream waits for its second track before it begins with one, in milliseconds of its own time.
const PROBE_MS: i64 = 1_000;
/// Frames kept while it waits; more of them begin it.
const PROBE_FRAMES_MAX: usize = 256;
/// A segment that is this much short of its target at a keyframe ends there all the same, in milliseconds: encoders round.
const SEGMENT_TOLERANCE_MS: i64 = 50;
/// Where more than this is missing between two frames of the leading track, the next keyframe begins a discontinuity, in
/// milliseconds: players step over less.
const HOLE_MS_MAX: i64 = 500;
/// The length assumed for a frame nobody came after, in milliseconds.
const STEP_MS_DEFAULT: i64 = 33;

/// Cuts a stream; see the [module documentation](super).
#[derive(Debug)]
pub struct Segmenter {
    settings: Settings,
    /// What was last configured, and what the current init segment announces.
    configured: Tracks<Option<Arc<Configuration>>>,
    announced: Tracks<Option<Arc<Configuration>>>,
    inits: u32,
    /// Frames kept until it is clear which tracks there are.
    probe: Option<Vec<(i64, Frame)>>,
    lanes: Tracks<Lane>,
    lead: Track,
    /// Where the open part and the open segment begin, by the leading track.
    part_start: Timestamp,
    segment_start: Timestamp,
    open: bool,
    next_msn: u64,
    fragments: u32,
    /// The next segment does not continue the last.
    discontinuity: bool,
    /// Stream time minus wall-clock time, both in milliseconds.
    anchor_ms: Option<i64>,
    forced_cuts: u64,
    cuts: Vec<Cut>,
    /// What other renditions are cut by; none when there are none.
    marks: Option<Vec<Mark>>,
    /// Ticks from decoding to showing at the first picture of the open segment.
    composition: i64,
}

#[derive(Debug, Default)]
struct Tracks<T> {
    video: T,
    audio: T,
}

impl<T> Tracks<T> {
    fn of(&mut self, track: Track) -> &mut T {
        match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        }
    }
}

/// One track's share of the open part.
#[derive(Debug, Default)]
struct Lane {
    /// The last frame, whose length is not known yet.
    held: Option<Frame>,
    /// The length of the frame before it, in ticks.
    step: i64,
    /// When the first of the samples is decoded.
    base: i64,
    samples: Vec<Sample>,
}

impl Segmenter {
    /// A segmenter that has seen nothing. Its first segment will have this media sequence number.
    pub fn new(settings: Settings, first_msn: u64) -> Self {
        let zero = Timestamp::from_millis(0);
        Self {
            settings,
            configured: Tracks::default(),
            announced: Tracks::default(),
            inits: 0,
            probe: Some(Vec::new()),
            lanes: Tracks::default(),
            lead: Track::Video,
            part_start: zero,
            segment_start: zero,
            open: false,
            next_msn: first_msn,
            fragments: 0,
            discontinuity: false,
            anchor_ms: None,
            forced_cuts: 0,
            cuts: Vec::new(),
            marks: None,
            composition: 0,
        }
    }

    /// It is cut like this from now on. To be said before the first playlist.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// From now on [`marks`](Self::marks) says how other renditions are to be cut.
    pub fn mark(&mut self) {
        self.marks.get_or_insert_default();
    }

    /// The marks of what was cut since they were last taken. Sound alone has none.
    pub fn marks(&mut self) -> Vec<Mark> {
        self.marks.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Segments that had to end without a keyframe, because none came within the target duration.
    pub fn forced_cuts(&self) -> u64 {
        self.forced_cuts
    }

    /// Takes media that came at `unix_ms`.
    pub fn push(&mut self, unix_ms: i64, media: &Media) -> Vec<Cut> {
        match media {
            Media::Configuration { track, configuration } => {
                *self.configured.of(*track) = Some(Arc::clone(configuration));
            }
            Media::Discontinuity { .. } => self.break_off(),
            Media::Frame(frame) => self.take(unix_ms, frame.clone()),
            Media::Unsupported { .. } => {}
        }
        std::mem::take(&mut self.cuts)
    }

    /// The publisher is gone: what is open is closed. When one comes back, its first segment will be a discontinuity, with a new init
    /// segment if its configuration differs.
    pub fn interrupt(&mut self) -> Vec<Cut> {
        self.close_segment();
        self.lanes = Tracks::default();
        self.configured = Tracks::default();
        self.probe = Some(Vec::new());
        self.break_off();
        std::mem::take(&mut self.cuts)
    }

    /// The next segment starts anew, by the wall clock too.
    fn break_off(&mut self) {
        self.discontinuity = self.next_msn > 0;
        self.anchor_ms = None;
    }

    fn take(&mut self, unix_ms: i64, frame: Frame) {
        let Some(probe) = &mut self.probe else {
            self.follow(unix_ms, frame);
            return;
        };
        // A picture nothing can be decoded from is of no use at the start.
        let is_picture = |(_, kept): &(i64, Frame)| kept.track == Track::Video;
        let pictures = probe.iter().any(is_picture);
        if frame.track == Track::Video && !frame.keyframe && !pictures {
            return;
        }
        let pictures = pictures || frame.track == Track::Video;
        probe.push((unix_ms, frame));
        let waited_ms = match (probe.first(), probe.last()) {
            (Some((_, first)), Some((_, last))) => last.dts.millis() - first.dts.millis(),
            _ => 0,
        };
        let complete = pictures && self.configured.audio.is_some();
        if complete || waited_ms >= PROBE_MS || probe.len() >= PROBE_FRAMES_MAX {
            let kept = std::mem::take(probe);
            self.probe = None;
            self.lead = if pictures { Track::Video } else { Track::Audio };
            // Sound from before the first picture would be a segment of its own.
            let lead = self.lead;
            let mut kept = kept.into_iter().skip_while(|(_, kept)| kept.track != lead);
            if let Some((unix_ms, first)) = kept.next() {
                self.begin(unix_ms, first);
                kept.for_each(|(unix_ms, frame)| self.follow(unix_ms, frame));
            }
        }
    }

    /// Takes a frame of a stream that has begun.
    fn follow(&mut self, unix_ms: i64, frame: Frame) {
        if frame.track != self.lead {
            let first_picture = frame.track == Track::Video && frame.keyframe;
            if first_picture && self.announced.video.is_none() && self.configured.video.is_some() {
                // Pictures that begin late take the lead.
                self.close_segment();
                self.lead = Track::Video;
                self.discontinuity = true;
                self.begin(unix_ms, frame);
            } else if self.announced.of(frame.track).is_some() {
                self.admit(frame, i64::MAX);
            }
            return;
        }
        let changed = self.configured.of(self.lead) != self.announced.of(self.lead);
        if !self.open {
            if frame.keyframe {
                self.begin(unix_ms, frame);
            }
            return;
        }
        if changed && !frame.keyframe {
            // Nothing can be made of it until the next keyframe.
            return;
        }
        let at = frame.dts;
        let timebase = at.timebase();
        let ticks = |ms: i64| Timestamp::from_millis(ms).rescale(timebase).ticks();
        let part_max = ticks(self.settings.part_target_ms.into());
        let room = part_max - self.lanes.of(self.lead).held.as_ref().map_or(0, |held| held.dts.ticks())
            + self.part_start.rescale(timebase).ticks();
        if self.lanes.of(self.lead).held.as_ref().is_some_and(|held| held.dts.timebase() == timebase) {
            self.settle(self.lead, Some(at), room);
        }
        let step = self.lanes.of(self.lead).step.max(1);
        let segment = at.ticks() - self.segment_start.rescale(timebase).ticks();
        let part = at.ticks() - self.part_start.rescale(timebase).ticks();
        let other_changed = match self.lead {
            Track::Video => self.configured.audio != self.announced.audio,
            Track::Audio => false,
        };
        let due = segment >= ticks(i64::from(self.settings.segment_target_ms) - SEGMENT_TOLERANCE_MS);
        let overdue = segment + step > ticks(i64::from(self.settings.target_duration_s) * 1_000);
        if changed || frame.keyframe && (due || other_changed || self.discontinuity) || overdue {
            self.forced_cuts += u64::from(!frame.keyframe);
            self.discontinuity |= changed || other_changed;
            self.close_segment();
            self.begin(unix_ms, frame);
            return;
        }
        // Clocks that count in milliseconds make the next frame one longer now and then.
        if part + step + ticks(1) > part_max {
            self.close_part();
            self.part_start = at;
        }
        self.lanes.of(self.lead).held = Some(frame);
    }

    /// Begins a segment with this frame of the leading track.
    fn begin(&mut self, unix_ms: i64, frame: Frame) {
        if self.configured.video != self.announced.video || self.configured.audio != self.announced.audio {
            self.announce();
        }
        if self.announced.of(self.lead).is_none() {
            return;
        }
        let at_ms = frame.dts.millis();
        let anchor_ms = *self.anchor_ms.get_or_insert(at_ms - unix_ms);
        let begin = Begin {
            msn: self.next_msn,
            discontinuity: std::mem::take(&mut self.discontinuity),
            at_unix_ms: at_ms - anchor_ms,
        };
        if let (Some(marks), Track::Video) = (&mut self.marks, self.lead) {
            let audio = self.announced.audio.clone();
            marks.push(Mark::Begin { begin: begin.clone(), at: frame.pts, audio });
        }
        self.composition = frame.pts.ticks() - frame.dts.ticks();
        self.cuts.push(Cut::Begin(begin));
        self.next_msn += 1;
        self.open = true;
        self.segment_start = frame.dts;
        self.part_start = frame.dts;
        self.lanes.of(self.lead).held = Some(frame);
    }

    fn announce(&mut self) {
        self.announced.video.clone_from(&self.configured.video);
        self.announced.audio.clone_from(&self.configured.audio);
        let entries: Vec<_> = [(VIDEO_ID, &self.announced.video), (AUDIO_ID, &self.announced.audio)]
            .into_iter()
            .filter_map(|(id, configuration)| {
                configuration.as_deref().map(|configuration| TrackEntry { id, configuration })
            })
            .collect();
        self.cuts.push(Cut::Init(Init { number: self.inits, bytes: fmp4::init(&entries) }));
        self.inits += 1;
        // What is held was coded for the old one.
        self.lanes = Tracks::default();
    }

    /// Takes a frame of the track that does not lead.
    fn admit(&mut self, frame: Frame, room: i64) {
        let track = frame.track;
        self.settle(track, Some(frame.dts), room);
        self.lanes.of(track).held = Some(frame);
    }

    /// Moves the held frame of a track into the open part, with a length up to `next` but not over `room`.
    fn settle(&mut self, track: Track, next: Option<Timestamp>, room: i64) {
        let lane = self.lanes.of(track);
        let Some(held) = lane.held.take() else { return };
        let assumed = match lane.step {
            0 => Timestamp::from_millis(STEP_MS_DEFAULT).rescale(held.dts.timebase()).ticks(),
            step => step,
        };
        let length =
            next.map_or(assumed, |next| next.rescale(held.dts.timebase()).ticks() - held.dts.ticks());
        let kept = length.min(room).clamp(1, i64::from(u32::MAX));
        let hole = Timestamp::new(length - kept, held.dts.timebase()).millis() > HOLE_MS_MAX;
        let length = kept;
        lane.step = length;
        if lane.samples.is_empty() {
            lane.base = held.dts.ticks();
        }
        lane.samples.push(Sample {
            duration: length as u32,
            composition: i32::try_from(held.pts.ticks() - held.dts.ticks()).unwrap_or(0),
            keyframe: held.keyframe,
            payload: held.payload,
        });
        self.discontinuity |= hole;
    }

    fn close_part(&mut self) {
        let lead = self.lead;
        let Some(configuration) = self.announced.of(lead).clone() else { return };
        let lane = self.lanes.of(lead);
        let Some(first) = lane.samples.first() else { return };
        let independent = first.keyframe;
        let ticks = lane.samples.iter().map(|sample| i64::from(sample.duration)).sum();
        let zero = Timestamp::new(0, configuration.timebase());
        let duration = zero.offset(ticks).since(zero);
        self.fragments = self.fragments.wrapping_add(1);
        let Tracks { video, audio } = &self.lanes;
        let runs = [(VIDEO_ID, video), (AUDIO_ID, audio)].map(|(track_id, lane)| Run {
            track_id,
            decode_time: u64::try_from(lane.base).unwrap_or(0),
            samples: &lane.samples,
        });
        let bytes = fmp4::fragment(self.fragments, &runs);
        if let (Some(marks), Track::Video) = (&mut self.marks, lead) {
            let end = Timestamp::new(video.base + ticks + self.composition, configuration.timebase());
            let base = audio.base;
            let sound = Sound { decode_time: base, samples: std::mem::take(&mut self.lanes.audio.samples) };
            marks.push(Mark::Part { end, duration, sound });
        }
        self.lanes.video.samples.clear();
        self.lanes.audio.samples.clear();
        self.cuts.push(Cut::Part(Part { duration, independent, gap: false, bytes }));
    }

    fn close_segment(&mut self) {
        if !self.open {
            return;
        }
        // The last frame of an interrupted stream has nobody after it to tell its length.
        let part_max = Timestamp::from_millis(self.settings.part_target_ms.into());
        if let Some(held) = &self.lanes.of(self.lead).held {
            let timebase = held.dts.timebase();
            let room = part_max.rescale(timebase).ticks() + self.part_start.rescale(timebase).ticks()
                - held.dts.ticks();
            self.settle(self.lead, None, room);
        }
        self.close_part();
        self.cuts.push(Cut::End);
        if let (Some(marks), Track::Video) = (&mut self.marks, self.lead) {
            marks.push(Mark::End);
        }
        self.open = false;
    }
}
