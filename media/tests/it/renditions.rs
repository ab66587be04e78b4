//! Renditions beside the source: cut where it is cut, whole or told to be missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use nova_media::codec::{Configuration, aac, h264};
use nova_media::frame::{Frame, Media, Track};
use nova_media::hls::{Cut, Rendition, Segmenter, Settings, Window};
use nova_media::time::{Timebase, Timestamp};
use proptest::prelude::*;

use crate::encoder::{ASC_48K, AVCC_480I, AVCC_720P};

/// The wall clock of these tests.
const NOON_MS: i64 = 1_795_262_400_000;
/// 25 pictures a second.
const STEP: i64 = 3_600;
/// From decoding to showing, of a source that reorders.
const LATER: i64 = 2 * STEP;

fn configuration(track: Track, record: &'static [u8]) -> Arc<Configuration> {
    let record = Bytes::from_static(record);
    Arc::new(match track {
        Track::Video => Configuration::H264(h264::Configuration::parse(&record).unwrap()),
        Track::Audio => Configuration::Aac(aac::Configuration::parse(&record).unwrap()),
    })
}

/// A source, and a rendition of it by a transcoder the test decides about.
struct Stage {
    segmenter: Segmenter,
    source: Window,
    rendition: Rendition,
    other: Option<Window>,
    settings: Settings,
}

impl Stage {
    fn new() -> Stage {
        let settings = Settings { segments_max: 100, ..Settings::default() };
        let mut segmenter = Segmenter::new(settings, 40);
        segmenter.mark();
        let mut stage = Stage {
            segmenter,
            source: Window::going_on(settings, "1", 3),
            rendition: Rendition::new(3),
            other: None,
            settings,
        };
        for (track, record) in [(Track::Video, AVCC_720P), (Track::Audio, ASC_48K)] {
            let configuration = configuration(track, record);
            stage.write(0, &Media::Configuration { track, configuration });
        }
        stage
    }

    fn write(&mut self, ms: i64, media: &Media) {
        let cuts = self.segmenter.push(NOON_MS + ms, media);
        self.cut(cuts);
    }

    fn cut(&mut self, cuts: Vec<Cut>) {
        cuts.into_iter().for_each(|cut| self.source.apply(cut));
        let marks = self.segmenter.marks();
        let cuts = self.rendition.mark(&marks);
        self.shelve(cuts);
    }

    fn shelve(&mut self, cuts: Vec<Cut>) {
        for cut in cuts {
            let discontinuities = self.rendition.discontinuities();
            let window = || Window::going_on(self.settings, "1-480p", discontinuities);
            self.other.get_or_insert_with(window).apply(cut);
        }
    }

    /// The n-th picture of the source and its sound.
    fn source(&mut self, n: i64) {
        let dts = Timestamp::new(90_000 + n * STEP, Timebase::VIDEO);
        let keyframe = n % 50 == 0;
        let payload = Bytes::from(vec![0, 0, 0, 2, if keyframe { 0x65 } else { 0x41 }, 0x88]);
        let frame = Frame { track: Track::Video, dts, pts: dts.offset(LATER), keyframe, payload };
        self.write(n * 40, &Media::Frame(frame));
        let dts = Timestamp::new(48_000 + n * 1_920, Timebase::OPUS);
        let payload = Bytes::from_static(&[1, 2, 3]);
        self.write(
            n * 40,
            &Media::Frame(Frame { track: Track::Audio, dts, pts: dts, keyframe: true, payload }),
        );
    }

    /// What a transcoder makes of the n-th picture.
    fn transcoded(&mut self, n: i64) {
        let pts = Timestamp::new(90_000 + LATER + n * STEP, Timebase::VIDEO);
        let payload = Bytes::from(vec![0, 0, 0, 1, 7]);
        let frame = Frame { track: Track::Video, dts: pts, pts, keyframe: n % 50 == 0, payload };
        let cuts = self.rendition.push(frame, STEP as u32);
        self.shelve(cuts);
    }

    fn begins(&mut self, n: i64) {
        self.rendition.configure(configuration(Track::Video, AVCC_480I));
        self.rendition.resume(Timestamp::new(90_000 + LATER + n * STEP, Timebase::VIDEO));
    }

    fn stops(&mut self) {
        let cuts = self.rendition.stop(None);
        self.shelve(cuts);
    }

    fn text(&self) -> String {
        let snapshot =
            self.other.as_ref().expect("something was made").snapshot(&[]).expect("it can be played");
        String::from_utf8(snapshot.plain.to_vec()).unwrap()
    }

    fn source_text(&self) -> String {
        String::from_utf8(self.source.snapshot(&[]).expect("it plays").plain.to_vec()).unwrap()
    }
}

/// Whole segments by number: length, date, discontinuity, gap.
fn segments(playlist: &str) -> BTreeMap<u64, (String, String, bool, bool)> {
    let mut told = BTreeMap::new();
    let (mut length, mut date, mut discontinuity, mut gap) = (String::new(), String::new(), false, false);
    for line in playlist.lines() {
        if let Some(value) = line.strip_prefix("#EXTINF:") {
            length = value.to_owned();
        } else if let Some(value) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            date = value.to_owned();
        } else if line == "#EXT-X-DISCONTINUITY" {
            discontinuity = true;
        } else if line == "#EXT-X-GAP" {
            gap = true;
        } else if let Some(name) = line.strip_suffix(".m4s") {
            let msn = name.rsplit('/').next().unwrap().parse().unwrap();
            told.insert(msn, (length.clone(), date.clone(), discontinuity, gap));
            (discontinuity, gap) = (false, false);
        }
    }
    told
}

#[test]
fn a_rendition_has_the_segments_of_its_source_however_late_it_is() {
    let mut stage = Stage::new();
    stage.begins(0);
    for n in 0..500 {
        stage.source(n);
        if n >= 17 {
            stage.transcoded(n - 17);
        }
    }
    let (source, other) = (segments(&stage.source_text()), segments(&stage.text()));
    assert_eq!(source.len(), 9);
    assert_eq!(other.keys().collect::<Vec<_>>(), (40..49).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    for (msn, segment) in &other {
        assert_eq!(source[msn], *segment, "segment {msn}");
    }
    let window = stage.other.as_ref().unwrap();
    for msn in 40..48 {
        let segment = window.segment("1-480p", msn).expect("it is whole").concat();
        let samples = segment.windows(5).filter(|five| *five == [0, 0, 0, 1, 7]).count();
        assert_eq!(samples, 50, "all pictures of segment {msn}, each once");
        let whole = stage.source.segment("1", msn).unwrap().concat();
        let sounds = |segment: &[u8]| segment.windows(3).filter(|three| *three == [1, 2, 3]).count();
        assert_eq!(sounds(&segment), sounds(&whole), "the same sound");
    }
    assert!(window.init("1-480p", 0).is_some());
    assert_eq!(window.discontinuities(), stage.source.discontinuities());
    assert!(!stage.text().contains("GAP"), "{}", stage.text());
}

#[test]
fn what_the_transcoder_loses_is_a_gap_up_to_the_next_segment_and_numbers_go_on() {
    let mut stage = Stage::new();
    // Nothing is told of what came before it was there.
    for n in 0..70 {
        stage.source(n);
    }
    assert!(stage.other.is_none());
    stage.begins(100);
    for n in 70..200 {
        stage.source(n);
        if n >= 105 {
            stage.transcoded(n - 5);
        }
    }
    assert!(stage.rendition.is_waiting() || stage.text().contains("42.0.m4s"));
    stage.stops();
    for n in 200..260 {
        stage.source(n);
    }
    assert!(!stage.rendition.is_waiting(), "nobody waits for a transcoder that is dead");
    assert!(stage.text().contains("GAP=YES") && !stage.text().contains("PRELOAD-HINT"), "{}", stage.text());
    stage.begins(300);
    for n in 260..420 {
        stage.source(n);
        if n >= 305 {
            stage.transcoded(n - 5);
        }
    }
    let (source, other) = (segments(&stage.source_text()), segments(&stage.text()));
    let gaps: Vec<_> = other.iter().filter(|(_, segment)| segment.3).map(|(msn, _)| *msn).collect();
    assert_eq!(other.keys().next(), Some(&42));
    assert_eq!(gaps, [43, 44, 45]);
    for (msn, segment) in &other {
        let whole = &source[msn];
        assert_eq!((&whole.0, &whole.1, whole.2), (&segment.0, &segment.1, segment.2), "segment {msn}");
    }
    let window = stage.other.as_ref().unwrap();
    assert_eq!(window.segment("1-480p", 44), None);
    assert_eq!(window.part("1-480p", 44, 0), None);
    assert!(window.segment("1-480p", 46).is_some() && window.is_flowing());
    assert!(stage.rendition.gaps() > 3);
}

#[test]
fn a_transcoder_that_is_given_up_and_comes_back_has_lost_what_was_waited_for() {
    let mut stage = Stage::new();
    stage.begins(0);
    for n in 0..60 {
        stage.source(n);
        stage.transcoded(n);
    }
    for n in 60..120 {
        stage.source(n);
    }
    assert!(stage.rendition.is_waiting());
    let cuts = stage.rendition.give_up();
    stage.shelve(cuts);
    assert!(!stage.rendition.is_waiting());
    // It had only been slow.
    for n in 60..120 {
        stage.transcoded(n);
    }
    for n in 120..220 {
        stage.source(n);
        stage.transcoded(n);
    }
    let gaps: Vec<_> = segments(&stage.text()).iter().map(|(msn, segment)| (*msn, segment.3)).collect();
    assert_eq!(gaps, [(40, false), (41, true), (42, true), (43, false)]);
}

#[test]
fn discontinuities_and_the_end_of_a_publisher_are_those_of_the_source() {
    let mut stage = Stage::new();
    stage.begins(0);
    for n in 0..130 {
        stage.source(n);
        stage.transcoded(n);
    }
    let cuts = stage.segmenter.interrupt();
    stage.cut(cuts);
    let cuts = stage.rendition.reset();
    stage.shelve(cuts);
    for (track, record) in [(Track::Video, AVCC_720P), (Track::Audio, ASC_48K)] {
        let configuration = configuration(track, record);
        stage.write(9_000, &Media::Configuration { track, configuration });
    }
    stage.begins(0);
    for n in 0..130 {
        stage.source(n);
        stage.transcoded(n);
    }
    let (source, other) = (segments(&stage.source_text()), segments(&stage.text()));
    assert_eq!(source.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    assert!(source.values().any(|segment| segment.2));
    for (msn, segment) in &other {
        assert_eq!(source[msn].2, segment.2, "segment {msn}");
    }
    assert_eq!(stage.other.as_ref().unwrap().discontinuities(), stage.source.discontinuities());
}

proptest! {
    /// Whatever a transcoder does and when, the playlist has no hole in its numbers and agrees with the source, and every segment is all
    /// there or a gap.
    #[test]
    fn nothing_a_transcoder_does_breaks_the_playlist(
        steps in proptest::collection::vec((0_u8..5, 1_i64..60), 1..40),
    ) {
        let mut stage = Stage::new();
        let (mut n, mut next) = (0, 0);
        for (what, count) in steps {
            match what {
                0 | 1 => (0..count).for_each(|_| { stage.source(n); n += 1; }),
                2 => (0..count).for_each(|_| {
                    if next < n { stage.transcoded(next); next += 1; }
                }),
                3 => stage.stops(),
                _ => {
                    next = n + count % 7;
                    stage.begins(next);
                }
            }
        }
        if let Some(window) = &stage.other {
            let (source, other) = (segments(&stage.source_text()), segments(&stage.text()));
            let numbers: Vec<_> = other.keys().copied().collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
            for (msn, segment) in &other {
                prop_assert_eq!(&source[msn].0, &segment.0);
                prop_assert_eq!(window.segment("1-480p", *msn).is_none(), segment.3);
            }
        }
        prop_assert!(stage.rendition.gaps() < 10_000);
    }
}
