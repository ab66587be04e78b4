//! What is listed, what can still be fetched, and the snapshots readers share.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Cut, Part, Settings, playlist};

/// Whole segments that can still be fetched after they left the playlist: who asked for the last one that listed them has this
/// long to download.
const RETIRED_SEGMENTS: usize = 3;

/// A segment, whole or still growing.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) msn: u64,
    pub(super) epoch: Arc<str>,
    pub(super) init: u32,
    pub(super) discontinuity: bool,
    pub(super) at_unix_ms: i64,
    pub(super) parts: Vec<Part>,
    pub(super) whole: bool,
}

impl Segment {
    /// Something of it could not be made.
    pub(super) fn has_gap(&self) -> bool {
        self.parts.iter().any(|part| part.gap)
    }

    /// The sum of its parts.
    pub(super) fn duration(&self) -> Duration {
        self.parts.iter().map(|part| part.duration).sum()
    }
}

/// The segments of one rendition; see the [module documentation](super).
#[derive(Debug)]
pub struct Window {
    settings: Settings,
    epoch: Arc<str>,
    segments: VecDeque<Segment>,
    /// How many at the front are no longer listed.
    retired: usize,
    inits: VecDeque<(u32, Arc<str>, Bytes)>,
    discontinuity_sequence: u64,
    ended: bool,
}

/// Where the live edge is: what a blocking reload is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The segment the next part will belong to.
    pub msn: u64,
    /// The number of that part in it.
    pub part: u32,
    /// Nothing follows.
    pub ended: bool,
}

/// A playlist at one moment, in every form it is asked for. Made once for each part, then shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where the live edge is.
    pub edge: Edge,
    /// The playlist.
    pub plain: Bytes,
    /// The same, gzipped.
    pub gzip: Bytes,
    /// The delta update (`_HLS_skip=YES`); the whole playlist while nothing is old enough to be skipped.
    pub delta_plain: Bytes,
    /// The same, gzipped.
    pub delta_gzip: Bytes,
}

impl Snapshot {
    /// The snapshot with these texts, packed here.
    pub fn of(edge: Edge, plain: String, delta: String) -> Self {
        Self {
            edge,
            gzip: gzipped(&plain),
            delta_gzip: gzipped(&delta),
            plain: plain.into(),
            delta_plain: delta.into(),
        }
    }
}

/// Where another rendition of the same stream stands (EXT-X-RENDITION-REPORT).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its playlist, relative to this one.
    pub uri: String,
    /// Its live edge.
    pub edge: Edge,
}

/// A segment that is whole, with all that is needed to play it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Its media sequence number.
    pub msn: u64,
    /// The number of its init segment.
    pub init: u32,
    /// Its init segment.
    pub init_bytes: Bytes,
    /// What came before does not continue into it.
    pub discontinuity: bool,
    /// When its first frame was taken in, by the media clock, in milliseconds since 1970.
    pub at_unix_ms: i64,
    /// Its length.
    pub duration: Duration,
    /// Its parts, to be put one behind the other.
    pub parts: Vec<Bytes>,
}

impl Window {
    /// An empty window. `epoch` names the publish session in every address, so that no cache ever mixes two; letters,
    /// digits and hyphens.
    pub fn new(settings: Settings, epoch: &str) -> Self {
        Self {
            settings,
            epoch: epoch.into(),
            segments: VecDeque::new(),
            retired: 0,
            inits: VecDeque::new(),
            discontinuity_sequence: 0,
            ended: false,
        }
    }

    /// An empty window that goes on where another ended, of which nothing is left; so many discontinuities came before.
    pub fn going_on(settings: Settings, epoch: &str, discontinuities: u64) -> Self {
        Self { discontinuity_sequence: discontinuities, ..Self::new(settings, epoch) }
    }

    /// Discontinuities so far, those that are not listed any more included.
    pub fn discontinuities(&self) -> u64 {
        let listed = self.segments.iter().skip(self.retired).filter(|segment| segment.discontinuity).count();
        self.discontinuity_sequence + listed as u64
    }

    /// It is cut like this from now on. To be said before the first playlist.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Segments from here on belong to another publish session.
    pub fn set_epoch(&mut self, epoch: &str) {
        self.epoch = epoch.into();
        self.forget_inits();
        // The session's addresses hold its own init segment, which may be the same.
        if let Some((number, _, bytes)) = self.inits.back().cloned() {
            self.inits.push_back((number, Arc::clone(&self.epoch), bytes));
        }
    }

    /// Takes what the segmenter has finished.
    pub fn apply(&mut self, cut: Cut) {
        match cut {
            Cut::Init(init) => self.inits.push_back((init.number, Arc::clone(&self.epoch), init.bytes)),
            Cut::Begin(begin) => self.segments.push_back(Segment {
                msn: begin.msn,
                epoch: Arc::clone(&self.epoch),
                init: self.inits.back().map_or(0, |(number, ..)| *number),
                discontinuity: begin.discontinuity,
                at_unix_ms: begin.at_unix_ms,
                parts: Vec::new(),
                whole: false,
            }),
            Cut::Part(part) => {
                if let Some(segment) = self.segments.back_mut() {
                    segment.parts.push(part);
                }
            }
            Cut::End => {
                if let Some(segment) = self.segments.back_mut() {
                    segment.whole = true;
                }
                self.retire();
            }
        }
    }

    /// The stream is over: the playlist gets its end and never changes again.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether what came last could be made.
    pub fn is_flowing(&self) -> bool {
        let last = self.segments.iter().rev().find_map(|segment| segment.parts.last());
        last.is_some_and(|part| !part.gap)
    }

    /// Where the live edge is.
    pub fn edge(&self) -> Edge {
        let ended = self.ended;
        match self.segments.back() {
            None => Edge { msn: 0, part: 0, ended },
            Some(last) if last.whole => Edge { msn: last.msn + 1, part: 0, ended },
            Some(last) => Edge { msn: last.msn, part: last.parts.len() as u32, ended },
        }
    }

    /// The playlist as it is now. None before there is anything to play.
    pub fn snapshot(&self, reports: &[Report]) -> Option<Snapshot> {
        let listed = self.segments.range(self.retired.min(self.segments.len())..);
        listed.clone().next().filter(|first| !first.parts.is_empty())?;
        let edge = self.edge();
        let text = |skip| {
            playlist::render(
                &self.settings,
                listed.clone(),
                self.discontinuity_sequence,
                edge,
                &self.epoch,
                reports,
                skip,
            )
        };
        let (plain, delta) = (text(false), text(true));
        Some(Snapshot::of(edge, plain, delta))
    }

    /// An init segment.
    pub fn init(&self, epoch: &str, number: u32) -> Option<Bytes> {
        let found = self.inits.iter().find(|(n, e, _)| *n == number && **e == *epoch);
        found.map(|(.., bytes)| bytes.clone())
    }

    /// A part, as soon as it is finished.
    pub fn part(&self, epoch: &str, msn: u64, part: u32) -> Option<Bytes> {
        let segment = self.segment_of(epoch, msn)?;
        segment.parts.get(part as usize).filter(|part| !part.gap).map(|part| part.bytes.clone())
    }

    /// A whole segment as its parts in order, to be sent one behind the other.
    pub fn segment(&self, epoch: &str, msn: u64) -> Option<Vec<Bytes>> {
        let segment = self.segment_of(epoch, msn).filter(|segment| segment.whole && !segment.has_gap())?;
        Some(segment.parts.iter().map(|part| part.bytes.clone()).collect())
    }

    /// The newest segment, when it is whole and not empty.
    pub fn newest_whole(&self) -> Option<Whole> {
        let is_kept = |segment: &&Segment| segment.whole && !segment.parts.is_empty() && !segment.has_gap();
        let segment = self.segments.back().filter(is_kept)?;
        Some(Whole {
            msn: segment.msn,
            init: segment.init,
            init_bytes: self.init(&segment.epoch, segment.init)?,
            discontinuity: segment.discontinuity,
            at_unix_ms: segment.at_unix_ms,
            duration: segment.duration(),
            parts: segment.parts.iter().map(|part| part.bytes.clone()).collect(),
        })
    }

    /// The init segment and the newest part that begins with a keyframe: enough to show a picture.
    pub fn newest_keyframe(&self) -> Option<[Bytes; 2]> {
        self.segments.iter().rev().find_map(|segment| {
            let part = segment.parts.iter().rev().find(|part| part.independent)?;
            Some([self.init(&segment.epoch, segment.init)?, part.bytes.clone()])
        })
    }

    /// Bytes held for this rendition.
    pub fn bytes_held(&self) -> usize {
        self.segments.iter().flat_map(|segment| &segment.parts).map(|part| part.bytes.len()).sum()
    }

    fn segment_of(&self, epoch: &str, msn: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.msn == msn && *segment.epoch == *epoch)
    }

    fn retire(&mut self) {
        let whole = self.segments.iter().skip(self.retired).filter(|segment| segment.whole).count();
        for _ in self.settings.segments_max.max(1)..whole {
            // A discontinuity leaves the playlist with the segment that carried it.
            let leaving = self.segments.get(self.retired).is_some_and(|segment| segment.discontinuity);
            self.discontinuity_sequence += u64::from(leaving);
            self.retired += 1;
        }
        while self.retired > RETIRED_SEGMENTS {
            self.segments.pop_front();
            self.retired -= 1;
        }
        self.forget_inits();
    }

    /// Keeps the init segments that are referred to, and the newest, which the next segment may continue with.
    fn forget_inits(&mut self) {
        let newest = self.inits.pop_back();
        let segments = &self.segments;
        self.inits.retain(|(number, epoch, _)| {
            segments.iter().any(|segment| segment.init == *number && segment.epoch == *epoch)
        });
        self.inits.extend(newest);
    }
}

fn gzipped(text: &str) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("a Vec takes all");
    encoder.finish().expect("a Vec takes all").into()
}
