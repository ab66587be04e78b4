//! What is shown and heard becomes frames: raw pictures H.264, mixed sound AAC, by a child each, on one timeline.
//!
//! The timeline is counted and not measured: picture n is at n thirtieths of a second, sound at its samples. A child that dies is started
//! again, and its frames go on where the timeline is by then. What waited for a child that was starting is shown when it has started: on a
//! machine that is busy with other things that is seconds later, for one child and for the other.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nova_media::codec::{Configuration, aac, adts};
use nova_media::fmp4::Reader;
use nova_media::fmp4::reader::Event;
use nova_media::frame::{Frame, Media, Track};
use nova_media::mix;
use nova_media::time::{Timebase, Timestamp};
use tokio::time::Instant;

use super::child::{Child, Cut, START};
use super::{PICTURES_PER_S, Size};
use crate::ffmpeg::{Backoff, StartError};
use crate::telemetry::Metrics;

/// Pictures that wait for the child; each is a megabyte. When full a picture is left out.
const PICTURES_MAX: usize = 3;
/// Pieces of sound of 20 ms that wait for the child: as long as it may take to start. When full it is started again.
const SOUNDS_MAX: usize = (START.as_millis() / 20) as usize;
/// Frames that wait to be written. When full the child waits.
const FRAMES_MAX: usize = 64;
/// Sound that waits for the first picture, so that both begin together: as long as that may take. When full it waits no longer: there may be
/// no pictures.
const EARLY_MAX: usize = (START.as_secs() as usize + 1) * mix::RATE_HZ as usize / FRAME_SAMPLES as usize;
/// Sound that is behind the pictures by more than this is left out: its child took long to start.
const LATE_MAX_MS: i64 = 1_000;
/// What AAC-LC of 48 kHz in stereo is described by.
const STEREO: &[u8] = &[0x11, 0x90];
/// Samples of one frame of AAC; so many come out before the first that went in.
const FRAME_SAMPLES: i64 = 1_024;

/// See the [module documentation](self).
pub(super) struct Encoder {
    program: PathBuf,
    size: Size,
    segment_ms: u32,
    pictures: Option<Child<Event>>,
    /// The numbers of the pictures that are in the child.
    numbers: VecDeque<i64>,
    /// Whether the child of pictures has given none yet.
    starts: bool,
    /// The number of the latest picture there was to show.
    latest: i64,
    /// When the first picture is that was given, and the latest.
    shown: Option<(Timestamp, Timestamp)>,
    sounds: Option<Child<Bytes>>,
    /// Where the timeline was when the child of sound began, and frames it has given since.
    heard: (i64, i64),
    video: Option<Arc<Configuration>>,
    audio_told: bool,
    early: Vec<Media>,
    backoff: [Backoff; 2],
    not_before: [Instant; 2],
}

impl Encoder {
    /// Starts both children.
    pub(super) fn start(program: &Path, size: Size, segment_ms: u32) -> Result<Encoder, StartError> {
        let mut encoder = Encoder {
            program: program.to_owned(),
            size,
            segment_ms,
            pictures: None,
            numbers: VecDeque::new(),
            starts: true,
            latest: 0,
            shown: None,
            sounds: None,
            heard: (0, 0),
            video: None,
            audio_told: false,
            early: Vec::new(),
            backoff: [super::backoff(), super::backoff()],
            not_before: [Instant::now(); 2],
        };
        encoder.pictures = Some(pictures(program, size, segment_ms)?);
        encoder.sounds = Some(sounds(program)?);
        Ok(encoder)
    }

    /// The picture of this number.
    pub(super) fn show(&mut self, number: i64, picture: Bytes) {
        self.latest = number;
        if self.pictures.is_none() && Instant::now() >= self.not_before[0] {
            self.pictures = pictures(&self.program, self.size, self.segment_ms).ok();
            self.starts = true;
            self.numbers.clear();
            if self.pictures.is_none() {
                self.not_before[0] = self.next_start(0, Duration::ZERO);
            }
        }
        if let Some(child) = &mut self.pictures
            && child.push(picture)
        {
            self.numbers.push_back(number);
        }
    }

    /// The sound that begins at this sample.
    pub(super) fn say(&mut self, sample: i64, sound: Bytes, metrics: &Metrics) {
        if self.sounds.is_none() && Instant::now() >= self.not_before[1] {
            self.sounds = sounds(&self.program).ok();
            self.heard = (sample, 0);
            if self.sounds.is_none() {
                self.not_before[1] = self.next_start(1, Duration::ZERO);
            }
        }
        if self.sounds.as_mut().is_some_and(|child| !child.push(sound)) {
            self.lose_sounds(metrics);
        }
    }

    /// Gives what has been made since.
    pub(super) fn take(&mut self, metrics: &Metrics, mut give: impl FnMut(Media)) {
        self.take_pictures(metrics, &mut give);
        self.take_sounds(metrics, &mut give);
    }

    fn take_pictures(&mut self, metrics: &Metrics, give: &mut impl FnMut(Media)) {
        let Some(child) = &mut self.pictures else { return };
        while let Some(event) = child.take() {
            match event {
                Event::Track { configuration, .. } => {
                    // A child that was started again describes the same.
                    if self.video.as_deref() != Some(&configuration) {
                        self.video = Some(Arc::clone(&configuration));
                        give(Media::Configuration { track: Track::Video, configuration });
                    }
                }
                Event::Sample { frame, .. } => {
                    if std::mem::take(&mut self.starts) {
                        // What went in first has waited since.
                        let waited = (1 + self.latest - self.numbers.len() as i64..).zip(&mut self.numbers);
                        waited.for_each(|(now, number)| *number = now);
                    }
                    let Some(number) = self.numbers.pop_front() else { continue };
                    let ticks = i64::from(Timebase::VIDEO.ticks_per_second()) / i64::from(PICTURES_PER_S);
                    let at = Timestamp::new(number * ticks, Timebase::VIDEO);
                    let first = self.shown.map_or(at, |(first, _)| first);
                    if self.shown.replace((first, at)).is_none() {
                        self.early.drain(..).filter(|one| !is_before(one, at)).for_each(&mut *give);
                    }
                    give(Media::Frame(Frame { track: Track::Video, dts: at, pts: at, ..frame }));
                }
            }
        }
        if child.is_stuck() || child.has_ended() {
            let age = child.age();
            self.pictures = None;
            self.not_before[0] = self.next_start(0, age);
            metrics.egress_restarts.with_label_values(&["pictures"]).inc();
        }
    }

    fn take_sounds(&mut self, metrics: &Metrics, give: &mut impl FnMut(Media)) {
        let Some(child) = &mut self.sounds else { return };
        let waits = self.shown.is_none() && self.early.len() < EARLY_MAX;
        let mut made = Vec::new();
        while let Some(payload) = child.take() {
            let (from, count) = self.heard;
            self.heard.1 += 1;
            let at = from + (count - 1) * FRAME_SAMPLES;
            // What comes before the first sample is the encoder's run-up.
            if at < from {
                continue;
            }
            if !std::mem::replace(&mut self.audio_told, true)
                && let Ok(stereo) = aac::Configuration::parse(&Bytes::from_static(STEREO))
            {
                let configuration = Arc::new(Configuration::Aac(stereo));
                made.push(Media::Configuration { track: Track::Audio, configuration });
            }
            // The samples of AAC at 48 kHz are counted as those of Opus are.
            let at = Timestamp::new(at, Timebase::OPUS);
            let is_late = |(first, shown): (Timestamp, Timestamp)| {
                at < first || shown.millis() - at.millis() > LATE_MAX_MS
            };
            if self.shown.is_some_and(is_late) {
                continue;
            }
            made.push(Media::Frame(Frame { track: Track::Audio, dts: at, pts: at, keyframe: true, payload }));
        }
        if waits {
            self.early.append(&mut made);
        } else {
            self.early.drain(..).chain(made).for_each(give);
        }
        if child.is_stuck() || child.has_ended() {
            self.lose_sounds(metrics);
        }
    }

    fn lose_sounds(&mut self, metrics: &Metrics) {
        let Some(child) = self.sounds.take() else { return };
        self.not_before[1] = self.next_start(1, child.age());
        metrics.egress_restarts.with_label_values(&["sounds"]).inc();
    }

    fn next_start(&mut self, which: usize, ran: Duration) -> Instant {
        let pause = self.backoff.get_mut(which).map_or(Duration::ZERO, |backoff| backoff.after(ran));
        Instant::now() + pause
    }

    /// What both have used since they were asked last.
    pub(super) fn used(&mut self) -> Duration {
        let pictures = self.pictures.as_mut().map_or(Duration::ZERO, Child::used);
        pictures + self.sounds.as_mut().map_or(Duration::ZERO, Child::used)
    }
}

/// Whether it is a frame of an earlier time.
fn is_before(one: &Media, at: Timestamp) -> bool {
    matches!(one, Media::Frame(frame) if frame.pts < at)
}

fn pictures(program: &Path, size: Size, segment_ms: u32) -> Result<Child<Event>, StartError> {
    let Size { width, height, kbit_s } = size;
    let (frame, rate) = (format!("{width}x{height}"), format!("{kbit_s}k"));
    let (per_s, gop) = (PICTURES_PER_S.to_string(), (PICTURES_PER_S * segment_ms / 1_000).max(1).to_string());
    let arguments = [
        &["-probesize", "32", "-analyzeduration", "0", "-f", "rawvideo", "-pix_fmt", "yuv420p"][..],
        &["-s", &frame, "-r", &per_s, "-i", "pipe:0", "-map", "0:v:0", "-fps_mode", "passthrough"],
        &["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-profile:v", "high"],
        &["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate, "-threads", "1", "-bf", "0"],
        // A segment begins with a keyframe, and nothing else does.
        &["-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0"],
        &["-movflags", "empty_moov+default_base_moof+frag_every_frame", "-flush_packets", "1"],
        &["-f", "mp4", "pipe:1"],
    ];
    let mut reader = Reader::new();
    let cut: Cut<Event> =
        Box::new(move |bytes, pieces| reader.push(bytes).map(|events| pieces.extend(events)).is_ok());
    Child::start(program, &arguments.concat(), (PICTURES_MAX, FRAMES_MAX), cut)
}

fn sounds(program: &Path) -> Result<Child<Bytes>, StartError> {
    let arguments = [
        &["-probesize", "32", "-analyzeduration", "0", "-f", "s16le", "-ar", "48000", "-ac", "2"][..],
        &["-i", "pipe:0", "-map", "0:a:0", "-c:a", "aac", "-b:a", "128k"],
        &["-f", "adts", "-flush_packets", "1", "pipe:1"],
    ];
    let mut frames = adts::Frames::default();
    let cut: Cut<Bytes> = Box::new(move |bytes, pieces| {
        frames.push(bytes);
        loop {
            match frames.take() {
                Ok(Some(frame)) => pieces.push(frame),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    });
    Child::start(program, &arguments.concat(), (SOUNDS_MAX, FRAMES_MAX), cut)
}
