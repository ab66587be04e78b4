//! From frames to playlists: what a player relies on, checked at every part.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;
use nova_media::codec::{Configuration, aac, h264};
use nova_media::frame::{Frame, Media, Track};
use nova_media::hls::{Cut, Edge, Init, Segmenter, Settings, Snapshot, Window};
use nova_media::rtmp::Output;
use nova_media::time::{Timebase, Timestamp};
use tempfile::TempDir;

use crate::encoder::{ASC_48K, AVCC_480I, AVCC_720P, frames};
use crate::ffmpeg::{probe, published};

/// The wall clock of these tests.
const NOON_MS: i64 = 1_795_262_400_000;

/// A stream being packaged, and everything its viewers could have fetched.
struct Stage {
    segmenter: Segmenter,
    window: Window,
    settings: Settings,
    epoch: String,
    playlists: Vec<Snapshot>,
    files: HashMap<String, Bytes>,
    order: Vec<String>,
    msn: u64,
}

impl Stage {
    fn new(settings: Settings) -> Self {
        Self {
            segmenter: Segmenter::new(settings, 0),
            window: Window::new(settings, "e1"),
            settings,
            epoch: "e1".into(),
            playlists: Vec::new(),
            files: HashMap::new(),
            order: Vec::new(),
            msn: 0,
        }
    }

    fn push(&mut self, unix_ms: i64, media: &Media) {
        let cuts = self.segmenter.push(unix_ms, media);
        self.apply(cuts);
    }

    fn apply(&mut self, cuts: Vec<Cut>) {
        for cut in cuts {
            let expected = self.window.edge();
            match &cut {
                Cut::Init(init) => {
                    let name = format!("{}/init{}.mp4", self.epoch, init.number);
                    self.files.insert(name, init.bytes.clone());
                }
                Cut::Begin(begin) => self.msn = begin.msn,
                Cut::Part(part) => {
                    assert_eq!(expected.msn, self.msn, "the edge is where the part went");
                    let name = format!("{}/{}.{}.m4s", self.epoch, self.msn, expected.part);
                    if let Some(last) = self.playlists.last()
                        && expected.part > 0
                    {
                        let hint = format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{name}\"");
                        assert!(text(&last.plain).contains(&hint), "{hint} was promised");
                    }
                    self.files.insert(name, part.bytes.clone());
                }
                Cut::End => {
                    let name = format!("{}/{}.m4s", self.epoch, self.msn);
                    self.order.push(name);
                }
            }
            let ended = cut == Cut::End;
            self.window.apply(cut);
            if ended {
                let whole = self.window.segment(&self.epoch, self.msn).unwrap().concat();
                self.files.insert(format!("{}/{}.m4s", self.epoch, self.msn), whole.into());
            }
            if let Some(snapshot) = self.window.snapshot(&[]) {
                assert_playlist(&self.settings, &snapshot, &self.files);
                self.playlists.push(snapshot);
            }
        }
    }

    fn last(&self) -> String {
        text(&self.playlists.last().unwrap().plain).to_owned()
    }

    fn ends(&mut self) {
        let cuts = self.segmenter.interrupt();
        self.apply(cuts);
        self.window.end();
        self.playlists.extend(self.window.snapshot(&[]));
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let start = line.find(&format!("{name}="))? + name.len() + 1;
    let rest = &line[start..];
    Some(match rest.strip_prefix('"') {
        Some(quoted) => &quoted[..quoted.find('"')?],
        None => &rest[..rest.find(',').unwrap_or(rest.len())],
    })
}

/// What has to hold of every playlist (draft-pantos-hls-rfc8216bis and Apple's authoring rules).
fn assert_playlist(settings: &Settings, snapshot: &Snapshot, files: &HashMap<String, Bytes>) {
    let playlist = text(&snapshot.plain);
    let mut unzipped = String::new();
    GzDecoder::new(&snapshot.gzip[..]).read_to_string(&mut unzipped).unwrap();
    assert_eq!(unzipped, playlist);
    let target = f64::from(settings.part_target_ms) / 1_000.0;
    assert!(playlist.contains(&format!("\n#EXT-X-PART-INF:PART-TARGET={target:.3}\n")));
    assert!(playlist.contains(&format!("\n#EXT-X-TARGETDURATION:{}\n", settings.target_duration_s)));

    let (mut parts, mut date, mut expected_date, mut whole) = (Vec::new(), None, None, 0);
    for line in playlist.lines() {
        if let Some(uri) = value(line, "URI").filter(|_| !line.starts_with("#EXT-X-PRELOAD-HINT")) {
            assert!(files.contains_key(uri), "{uri} is listed and cannot be fetched");
        }
        if line.starts_with("#EXT-X-DISCONTINUITY") && !line.contains("SEQUENCE") {
            expected_date = None;
        } else if let Some(told) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            let minutes: f64 = told[14..16].parse().unwrap();
            let seconds: f64 = told[17..23].parse().unwrap();
            date = Some(minutes * 60.0 + seconds);
            if let (Some(date), Some(expected)) = (date, expected_date) {
                let off: f64 = date - expected;
                assert!(off.abs() < 0.0011, "dates are {off} s apart from the media");
            }
        } else if line.starts_with("#EXT-X-PART:") {
            let duration: f64 = value(line, "DURATION").unwrap().parse().unwrap();
            assert!(duration <= target + 1e-9, "{line}");
            parts.push((duration, line.contains("INDEPENDENT=YES")));
        } else if let Some(told) = line.strip_prefix("#EXTINF:") {
            let duration: f64 = told.trim_end_matches(',').parse().unwrap();
            assert!(duration.round() <= f64::from(settings.target_duration_s), "{line}");
            if !parts.is_empty() {
                let sum: f64 = parts.iter().map(|(duration, _)| duration).sum();
                assert!((sum - duration).abs() < 1e-3, "parts last {sum}, the segment {duration}");
                for (duration, _) in &parts[..parts.len() - 1] {
                    assert!(*duration >= target * 0.85, "a part of {duration} s in the middle of a segment");
                }
            }
            parts.clear();
            expected_date = date.map(|date| date + duration);
            whole += 1;
        }
    }
    assert!(whole <= settings.segments_max, "{whole} segments are listed");
    if !snapshot.edge.ended {
        let Edge { msn, part, .. } = snapshot.edge;
        assert!(playlist.contains(&format!("/{msn}.{part}.m4s\"\n")), "the hint names the next part");
    }
}

fn configuration(track: Track, record: &'static [u8]) -> Media {
    let record = Bytes::from_static(record);
    let configuration = Arc::new(match track {
        Track::Video => Configuration::H264(h264::Configuration::parse(&record).unwrap()),
        Track::Audio => Configuration::Aac(aac::Configuration::parse(&record).unwrap()),
    });
    Media::Configuration { track, configuration }
}

fn picture(ms: i64, keyframe: bool) -> Media {
    let dts = Timestamp::from_millis(10_000 + ms).rescale(Timebase::VIDEO);
    let payload = Bytes::from(vec![0, 0, 0, 2, if keyframe { 0x65 } else { 0x41 }, 0x88]);
    Media::Frame(Frame { track: Track::Video, dts, pts: dts, keyframe, payload })
}

fn sound(n: i64) -> Media {
    let dts = Timestamp::new(480_000 + n * 1_024, Timebase::OPUS);
    Media::Frame(Frame {
        track: Track::Audio,
        dts,
        pts: dts,
        keyframe: true,
        payload: Bytes::from_static(&[1, 2, 3]),
    })
}

/// Pictures every 40 ms with a keyframe every `gop_ms`, between these times.
fn pictures(stage: &mut Stage, from_ms: i64, to_ms: i64, gop_ms: i64) {
    for ms in (from_ms..to_ms).step_by(40) {
        stage.push(NOON_MS + ms, &picture(ms, ms % gop_ms == 0));
    }
}

#[test]
fn a_real_broadcast_plays_from_its_playlist_with_every_packet() {
    let (outputs, _source) = published();
    let mut stage = Stage::new(Settings::default());
    for output in &outputs {
        if let Output::Media(media) = output {
            let at_ms = match media {
                Media::Frame(frame) => frame.dts.millis() - 10_000,
                _ => 0,
            };
            stage.push(NOON_MS + at_ms, media);
        }
    }
    stage.ends();
    let playlist = stage.last();
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n"), "{playlist}");
    assert!(
        !playlist.contains("PRELOAD-HINT") && !playlist.contains("EXT-X-PART:"),
        "nothing follows the end"
    );
    assert_eq!(playlist.matches("#EXTINF").count(), 2, "{playlist}");
    assert!(playlist.contains("#EXT-X-PROGRAM-DATE-TIME:2026-11-21T12:00:00.0"), "{playlist}");

    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("e1")).unwrap();
    for (name, bytes) in &stage.files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let path = folder.path().join("index.m3u8");
    std::fs::write(&path, playlist).unwrap();
    let packets = probe(&path);
    for track in [Track::Video, Track::Audio] {
        let found: Vec<_> = packets.iter().filter(|packet| packet.video == (track == Track::Video)).collect();
        // The last piece of sound waits for one after it to tell its length.
        let sent = frames(&outputs, track).len();
        assert!(
            found.len() == sent || track == Track::Audio && found.len() + 1 == sent,
            "{track:?}: {} of {sent}",
            found.len()
        );
        assert!(found.windows(2).all(|pair| pair[1].dts > pair[0].dts), "{track:?}");
    }
    let first_of_each = stage.order.iter().map(|name| stage.files[name].clone());
    for segment in first_of_each {
        let at = segment.windows(5).position(|five| five[4] == 0x65 && five[..2] == [0, 0]);
        assert!(at.is_some(), "a segment without an IDR picture");
    }
}

#[test]
fn segments_end_at_keyframes_and_parts_before_their_target() {
    let mut stage = Stage::new(Settings::default());
    stage.push(NOON_MS, &configuration(Track::Video, AVCC_720P));
    stage.push(NOON_MS, &configuration(Track::Audio, ASC_48K));
    let mut sounds = 0;
    for ms in (0..30_000).step_by(40) {
        stage.push(NOON_MS + ms, &picture(ms, ms % 1_000 == 0));
        while sounds * 1_024 / 48 < ms {
            stage.push(NOON_MS + ms, &sound(sounds));
            sounds += 1;
        }
    }
    let playlist = stage.last();
    assert_eq!(playlist.matches("#EXTINF:2.00000,").count(), 6, "{playlist}");
    assert_eq!(stage.segmenter.forced_cuts(), 0);
    // Of a segment's seven parts those begin with a keyframe that happen to; the first always does.
    for line in playlist.lines().filter(|line| line.contains(".0.m4s") && line.starts_with("#EXT-X-PART")) {
        assert!(line.ends_with("INDEPENDENT=YES"), "{line}");
    }
    assert!(stage.window.part("e1", 0, 0).is_none(), "what left long ago is gone");
    let first_msn: u64 = playlist
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(stage.window.segment("e1", first_msn - 1).is_some(), "what just left can still be fetched");
    assert!(stage.window.segment("other", first_msn).is_none(), "addresses of another session lead nowhere");
    assert_eq!(playlist.matches("#EXT-X-MAP").count(), 1);
}

#[test]
fn parts_are_full_at_every_frame_rate() {
    for rate in [5.0, 10.0, 12.5, 15.0, 23.976, 24.0, 25.0, 29.97, 30.0, 48.0, 50.0, 59.94, 60.0, 120.0] {
        // Checked at every part: none over the target, none under 85 % of it but the last of a segment.
        let mut stage = Stage::new(Settings::default().for_rate(Some(rate)));
        stage.push(NOON_MS, &configuration(Track::Video, AVCC_720P));
        for n in 0..(20.0 * rate) as i64 {
            let ms = (n as f64 * 1_000.0 / rate).round() as i64;
            stage.push(NOON_MS + ms, &picture(ms, n % (2.0 * rate).round() as i64 == 0));
        }
        assert!(stage.last().matches("#EXTINF").count() >= 5, "{rate}");
        assert_eq!(stage.segmenter.forced_cuts(), 0, "{rate}");
    }
    let settings = Settings::default();
    assert_eq!(settings.for_rate(Some(25.0)), settings, "what fits stays");
    assert_eq!(settings.for_rate(None), settings);
    assert_eq!(settings.for_rate(Some(f64::NAN)), settings);
}

#[test]
fn a_publisher_that_comes_back_again_and_again_leaves_nothing_behind() {
    let mut window = Window::new(Settings::default(), "e0");
    window.apply(Cut::Init(Init { number: 0, bytes: Bytes::from_static(b"init") }));
    for n in 0..100 {
        window.set_epoch(&format!("e{n}"));
    }
    let found = (0..100).filter(|n| window.init(&format!("e{n}"), 0).is_some()).count();
    assert!(found <= 2, "{found} init segments are kept");
    assert!(window.init("e99", 0).is_some());
}

#[test]
fn a_gop_of_ten_seconds_is_cut_at_the_target_duration_and_counted() {
    let mut stage = Stage::new(Settings::default());
    stage.push(NOON_MS, &configuration(Track::Video, AVCC_720P));
    pictures(&mut stage, 0, 30_000, 10_000);
    assert_eq!(stage.segmenter.forced_cuts(), 6, "4, 8, 14, 18, 24 and 28 seconds in");
    assert!(stage.last().contains("#EXTINF:4.00000,"));
}

#[test]
fn sound_alone_begins_after_a_second_and_pictures_that_join_take_the_lead() {
    let mut stage = Stage::new(Settings::default());
    stage.push(NOON_MS, &configuration(Track::Audio, ASC_48K));
    for n in 0..46 {
        stage.push(NOON_MS + n * 21, &sound(n));
    }
    assert_eq!(stage.playlists.len(), 0);
    for n in 46..400 {
        stage.push(NOON_MS + n * 21, &sound(n));
    }
    let alone = stage.last();
    assert!(alone.matches("#EXTINF").count() >= 3, "{alone}");

    stage.push(NOON_MS + 8_600, &configuration(Track::Video, AVCC_720P));
    pictures(&mut stage, 8_560, 14_000, 40 * 25);
    let playlist = stage.last();
    assert_eq!(playlist.matches("\n#EXT-X-DISCONTINUITY\n").count(), 1, "{playlist}");
    assert!(playlist.contains("#EXT-X-MAP:URI=\"e1/init1.mp4\""), "{playlist}");
}

#[test]
fn sound_that_joins_late_gets_a_new_init_segment_at_the_next_keyframe() {
    let mut stage = Stage::new(Settings::default());
    stage.push(NOON_MS, &configuration(Track::Video, AVCC_720P));
    pictures(&mut stage, 0, 5_000, 1_000);
    stage.push(NOON_MS, &configuration(Track::Audio, ASC_48K));
    pictures(&mut stage, 5_000, 9_000, 1_000);
    let playlist = stage.last();
    assert!(playlist.contains("\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"e1/init1.mp4\"\n"), "{playlist}");
}

#[test]
fn a_new_picture_size_is_a_discontinuity_with_its_own_init_segment() {
    let mut stage = Stage::new(Settings::default());
    stage.push(NOON_MS, &configuration(Track::Video, AVCC_720P));
    pictures(&mut stage, 0, 5_000, 1_000);
    stage.push(NOON_MS + 5_000, &configuration(Track::Video, AVCC_480I));
    pictures(&mut stage, 5_000, 60_000, 1_000);
    assert!(stage.playlists.iter().any(|one| {
        text(&one.plain).contains("\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"e1/init1.mp4\"\n")
    }));
    let last = stage.last();
    assert!(!last.contains("#EXT-X-DISCONTINUITY\n"), "it has left the window");
    assert!(last.contains("#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{last}");
}

#[test]
fn a_publisher_that_drops_and_returns_costs_one_discontinuity_and_no_segment_number() {
    let mut stage = Stage::new(Settings::default());
    stage.push(NOON_MS, &configuration(Track::Video, AVCC_720P));
    pictures(&mut stage, 0, 4_600, 1_000);
    let cuts = stage.segmenter.interrupt();
    stage.apply(cuts);
    let dropped = stage.last();
    assert!(!dropped.contains("ENDLIST"), "a drop is not an end");

    stage.epoch = "e2".into();
    stage.window.set_epoch("e2");
    let init = stage.files["e1/init0.mp4"].clone();
    stage.files.insert("e2/init0.mp4".into(), init.clone());
    assert_eq!(stage.window.init("e2", 0), Some(init));
    stage.push(NOON_MS + 12_000, &configuration(Track::Video, AVCC_720P));
    for ms in (0..4_000).step_by(40) {
        stage.push(NOON_MS + 12_000 + ms, &picture(ms, ms % 1_000 == 0));
    }
    let playlist = stage.last();
    assert_eq!(playlist.matches("\n#EXT-X-DISCONTINUITY\n").count(), 1, "{playlist}");
    assert!(playlist.contains("#EXT-X-PROGRAM-DATE-TIME:2026-11-21T12:00:12"), "{playlist}");
    let numbers: Vec<u64> = playlist
        .lines()
        .filter(|line| line.ends_with(".m4s"))
        .map(|line| line.split(['/', '.']).nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

#[test]
fn a_hole_in_the_media_makes_no_part_longer_than_its_target() {
    let mut stage = Stage::new(Settings::default());
    stage.push(NOON_MS, &configuration(Track::Video, AVCC_720P));
    pictures(&mut stage, 0, 3_000, 1_000);
    for ms in (6_000..9_000).step_by(40) {
        stage.push(NOON_MS + ms, &picture(ms, ms == 6_000));
    }
    // Checked at every part; the dates take the hole in.
    let dates: Vec<_> = stage
        .last()
        .lines()
        .filter(|line| line.contains("DATE-TIME"))
        .map(|line| line[41..48].to_owned())
        .collect();
    assert!(dates.contains(&":06.000".to_owned()), "{dates:?}");
    assert_eq!(stage.last().matches("\n#EXT-X-DISCONTINUITY\n").count(), 1);
}

#[test]
fn a_long_window_is_told_shorter_to_who_has_it_already() {
    let settings = Settings { segments_max: 60, ..Settings::default() };
    let mut stage = Stage::new(settings);
    stage.push(NOON_MS, &configuration(Track::Video, AVCC_720P));
    pictures(&mut stage, 0, 100_000, 1_000);
    let last = stage.playlists.last().unwrap();
    let delta = text(&last.delta_plain);
    let skipped: usize = delta
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-SKIP:SKIPPED-SEGMENTS="))
        .unwrap_or_else(|| panic!("{delta}"))
        .parse()
        .unwrap();
    let whole = text(&last.plain).matches("#EXTINF").count();
    assert_eq!(delta.matches("#EXTINF").count() + skipped, whole);
    // Six target durations of four seconds, in segments of two seconds, and what reaches over both ends.
    assert!((12..=13).contains(&(whole - skipped)), "{skipped} of {whole}");
    assert!(
        delta
            .lines()
            .skip_while(|line| !line.starts_with("#EXT-X-SKIP"))
            .any(|line| line.contains("PRELOAD"))
    );
    let few = Stage::new(Settings::default());
    assert!(few.window.snapshot(&[]).is_none(), "nothing to play, nothing told");
}
