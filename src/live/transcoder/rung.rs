//! Which renditions a source gets, and how FFmpeg is told to make them.

use std::fmt;
use std::str::FromStr;

use nova_actors::live_stream::Step;
use nova_media::codec::Picture;

/// Rungs of one ladder.
pub const RUNGS_MAX: usize = 6;
/// Assumed of a source that does not say how many pictures a second it has.
const FRAMES_PER_S_DEFAULT: f64 = 30.0;
/// From so many pictures a second on a rendition gets half as much again.
const FAST_FRAMES_PER_S: f64 = 45.0;
/// Rates that look decent for H.264 at 30 pictures a second, by the shorter side in pixels, in kbit/s.
const RATES_KBIT_S: [(u32, u32); 6] =
    [(1_080, 4_500), (720, 2_500), (540, 1_600), (480, 1_200), (360, 700), (240, 350)];
/// What anything smaller gets, in kbit/s.
const RATE_LEAST_KBIT_S: u32 = 200;

/// A rendition of the configured ladder: `720p`, or `720p:2800` with its rate in kbit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// The shorter side of its pictures in pixels.
    pub lines: u32,
    /// Its rate in kbit/s; none for what is usual.
    pub kbit_s: Option<u32>,
}

impl FromStr for Rung {
    type Err = String;

    fn from_str(text: &str) -> Result<Rung, String> {
        let wrong = || {
            format!("'{text}' is no rendition: `720p`, or `720p:2800` with its rate in kbit/s, 144p to 1440p")
        };
        let (size, rate) = match text.trim().split_once(':') {
            Some((size, rate)) => (size, Some(rate.parse().map_err(|_| wrong())?)),
            None => (text.trim(), None),
        };
        let lines = size.strip_suffix('p').and_then(|lines| lines.parse().ok()).ok_or_else(wrong)?;
        let fits = (144..=1_440).contains(&lines) && rate.is_none_or(|rate| (50..=50_000).contains(&rate));
        fits.then_some(Rung { lines, kbit_s: rate }).ok_or_else(wrong)
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}p", self.lines)?;
        self.kbit_s.map_or(Ok(()), |rate| write!(f, ":{rate}"))
    }
}

/// A rendition of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// What it is called and how large it is.
    pub step: Step,
    /// Its rate in kbit/s.
    pub kbit_s: u32,
    /// Millions of pixels a second.
    pub megapixels_s: f64,
}

/// What a source has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Source {
    /// Its picture.
    pub picture: Picture,
}

impl Source {
    /// Pictures a second.
    pub fn frames_per_s(&self) -> f64 {
        self.picture.frames_per_s.unwrap_or(FRAMES_PER_S_DEFAULT)
    }

    /// Millions of pixels a second.
    pub fn megapixels_s(&self) -> f64 {
        f64::from(self.picture.width) * f64::from(self.picture.height) * self.frames_per_s() / 1e6
    }

    /// Those rungs that are smaller than the source, largest first; never the same size twice.
    pub fn targets(&self, ladder: &[Rung]) -> Vec<Target> {
        let Picture { width, height, .. } = self.picture;
        let short = width.min(height);
        let mut rungs: Vec<Rung> = ladder.iter().copied().filter(|rung| rung.lines < short).collect();
        rungs.sort_by_key(|rung| std::cmp::Reverse(rung.lines));
        rungs.dedup_by_key(|rung| rung.lines);
        let even = |side: u32, lines: u32| {
            let scaled = f64::from(side) * f64::from(lines) / f64::from(short.max(1));
            // H.264 in 4:2:0 has even sides only.
            ((scaled / 2.0).round() as u32 * 2).max(2)
        };
        let fast = self.frames_per_s() >= FAST_FRAMES_PER_S;
        let target = |rung: &Rung| {
            let (width, height) = (even(width, rung.lines), even(height, rung.lines));
            let usual = RATES_KBIT_S.iter().find(|(lines, _)| rung.lines >= *lines);
            let usual = usual.map_or(RATE_LEAST_KBIT_S, |(_, rate)| *rate);
            let usual = if fast { usual * 3 / 2 } else { usual };
            Target {
                step: Step { name: format!("{}p", rung.lines), width, height },
                kbit_s: rung.kbit_s.unwrap_or(usual),
                megapixels_s: f64::from(width) * f64::from(height) * self.frames_per_s() / 1e6,
            }
        };
        rungs.iter().take(RUNGS_MAX).map(target).collect()
    }
}

/// The arguments of one child: fragmented MP4 with pictures alone comes in, the same with one track for each target goes out.
///
/// Timestamps pass through untouched and every picture gives one picture; keyframes are where the source has them and nowhere else, so
/// that the renditions can be cut where the source is cut. Encoding waits for no later pictures (`zerolatency`): what a rendition is
/// behind the source is what viewers of it are behind. One output with all tracks and not one for each: the child has one thread of
/// its own for all of them anyway, and standard output is a pipe that needs no further file descriptors to be passed on.
pub fn arguments(source: &Source, targets: &[Target]) -> Vec<String> {
    /// A keyframe comes when the source has one, however long that takes.
    const KEYFRAME_FRAMES_MAX: &str = "100000";
    let mut all: Vec<String> = Vec::new();
    let mut put = |words: &[&str]| all.extend(words.iter().map(|word| (*word).to_owned()));
    // What the probe reads to guess a rate would be the first pictures of the stream; nothing has to be guessed.
    put(&[
        "-threads",
        "1",
        "-probesize",
        "32",
        "-analyzeduration",
        "0",
        "-f",
        "mp4",
        "-i",
        "pipe:0",
        "-copyts",
    ]);
    for (place, target) in targets.iter().enumerate() {
        let Step { width, height, .. } = target.step;
        let rate = format!("{}k", target.kbit_s);
        put(&["-map", "0:v:0"]);
        put(&[&format!("-filter:v:{place}"), &format!("scale={width}:{height}:flags=bilinear,setsar=1")]);
        put(&[&format!("-b:v:{place}"), &rate, &format!("-maxrate:v:{place}"), &rate]);
        put(&[&format!("-bufsize:v:{place}"), &rate]);
    }
    put(&[
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-tune",
        "zerolatency",
        "-profile:v",
        "high",
        "-pix_fmt",
        "yuv420p",
    ]);
    // Of a source that does not say its rate the encoder would believe its clock: 90,000 pictures a second, each with next to no bits.
    let rate = format!("fps={}/1000", (source.frames_per_s() * 1_000.0).round());
    put(&["-x264-params", &rate]);
    put(&["-threads", "1", "-bf", "0", "-sc_threshold", "0", "-g", KEYFRAME_FRAMES_MAX]);
    put(&["-force_key_frames", "source", "-fps_mode", "passthrough", "-enc_time_base", "1/90000"]);
    put(&["-video_track_timescale", "90000", "-use_editlist", "0", "-avoid_negative_ts", "disabled"]);
    put(&["-movflags", "empty_moov+default_base_moof+frag_every_frame+frag_discont", "-flush_packets", "1"]);
    put(&["-f", "mp4", "pipe:1"]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(width: u32, height: u32, frames_per_s: f64) -> Source {
        Source { picture: Picture { width, height, frames_per_s: Some(frames_per_s) } }
    }

    fn ladder(text: &str) -> Vec<Rung> {
        text.split(',').map(|rung| rung.parse().expect("a rung")).collect()
    }

    #[test]
    fn rungs_are_read_and_nothing_else() {
        assert_eq!("720p".parse(), Ok(Rung { lines: 720, kbit_s: None }));
        assert_eq!(" 480p:900".parse(), Ok(Rung { lines: 480, kbit_s: Some(900) }));
        for odd in ["", "720", "p", "100p", "2160p", "720p:", "720p:1", "720p:x", "-720p", "720p:900:1"] {
            assert!(odd.parse::<Rung>().is_err(), "{odd}");
        }
        for text in ["720p", "360p:600"] {
            assert_eq!(text.parse::<Rung>().expect("a rung").to_string(), text);
        }
    }

    #[test]
    fn a_source_gets_what_is_smaller_than_itself_in_its_own_shape() {
        let sizes = |width, height, text: &str| -> Vec<_> {
            let targets = source(width, height, 30.0).targets(&ladder(text));
            targets
                .iter()
                .map(|target| (target.step.name.clone(), target.step.width, target.step.height))
                .collect()
        };
        let told = |lines: u32, width, height| (format!("{lines}p"), width, height);
        assert_eq!(
            sizes(1_920, 1_080, "360p,720p,480p,720p:9".replace(":9", ":900").as_str()),
            [told(720, 1_280, 720), told(480, 854, 480), told(360, 640, 360)]
        );
        assert_eq!(sizes(1_280, 720, "720p,480p"), [told(480, 854, 480)], "not its own size again");
        assert_eq!(sizes(720, 1_280, "480p"), [told(480, 480, 854)], "upright");
        assert_eq!(sizes(320, 180, "720p,480p,360p"), []);
    }

    #[test]
    fn rates_are_the_usual_unless_said() {
        let rates = |frames_per_s, text: &str| -> Vec<u32> {
            source(1_920, 1_080, frames_per_s)
                .targets(&ladder(text))
                .iter()
                .map(|target| target.kbit_s)
                .collect()
        };
        assert_eq!(rates(30.0, "720p,480p,360p,144p"), [2_500, 1_200, 700, 200]);
        assert_eq!(rates(60.0, "720p,480p:500"), [3_750, 500]);
    }
}
