//! What is left of a broadcast: the names its segments are kept under, and the playlist made of those names alone.
//!
//! A name says everything the playlist says of a segment, so what is kept needs no index beside it: a recording that was cut off at
//! any moment is the list of the objects that are there.
//!
//! ```text
//! 0000000012.mp4                                   the init segment of what follows from segment 12 on
//! 0000000012-2000000-1795236001007.m4s             segment 12: two seconds long, taken in at that time
//! 0000000013-2000000-1795236003007-d.m4s           segment 13, which does not continue the one before
//! ```
//!
//! In the order of their bytes they are in the order they are played in.

use std::fmt::Write;
use std::time::Duration;

use super::Whole;
use super::playlist::date_time;

/// One kept object of a recording, as its name tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The init segment of this segment and of those after it.
    Init {
        /// The first that needs it.
        msn: u64,
    },
    /// A segment.
    Segment {
        /// Its media sequence number.
        msn: u64,
        /// Its length.
        duration: Duration,
        /// When its first frame was taken in, in milliseconds since 1970.
        at_unix_ms: i64,
        /// What came before does not continue into it.
        discontinuity: bool,
    },
}

impl Kept {
    /// What is kept of a segment, besides its init segment.
    pub fn of(segment: &Whole) -> Kept {
        Kept::Segment {
            msn: segment.msn,
            duration: segment.duration,
            at_unix_ms: segment.at_unix_ms,
            discontinuity: segment.discontinuity,
        }
    }

    /// The name to keep it under.
    pub fn name(&self) -> String {
        match self {
            Kept::Init { msn } => format!("{msn:010}.mp4"),
            Kept::Segment { msn, duration, at_unix_ms, discontinuity } => {
                let mark = if *discontinuity { "-d" } else { "" };
                format!("{msn:010}-{}-{}{mark}.m4s", duration.as_micros(), (*at_unix_ms).max(0))
            }
        }
    }

    /// Reads a name; none when it is not one of these.
    pub fn parse(name: &str) -> Option<Kept> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u64>().ok()).flatten()
        };
        if let Some(msn) = name.strip_suffix(".mp4") {
            return Some(Kept::Init { msn: number(msn)? });
        }
        let mut fields = name.strip_suffix(".m4s")?.split('-');
        let (msn, micros, at) = (fields.next()?, fields.next()?, fields.next()?);
        let discontinuity = match (fields.next(), fields.next()) {
            (None, _) => false,
            (Some("d"), None) => true,
            _ => return None,
        };
        Some(Kept::Segment {
            msn: number(msn)?,
            duration: Duration::from_micros(number(micros)?),
            at_unix_ms: i64::try_from(number(at)?).ok()?,
            discontinuity,
        })
    }
}

/// A recording as a playlist, and what is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vod {
    /// The playlist (RFC 8216, with `EXT-X-PLAYLIST-TYPE:VOD`).
    pub playlist: String,
    /// The sum of its segments.
    pub duration: Duration,
    /// How many there are.
    pub segments: u32,
    /// The names of an init segment and of one it belongs to from the middle of the recording, for a picture of it.
    pub middle: (String, String),
}

/// Makes the playlist of what is kept under these names, `base` put before each. Names of other things are left out, and so is a
/// segment whose init segment is missing. None when nothing is left.
pub fn render<'a>(base: &str, names: impl IntoIterator<Item = &'a str>) -> Option<Vod> {
    let mut names: Vec<&str> = names.into_iter().collect();
    // An init segment (`.`) stands behind the segment of its number (`-`) in the order of bytes; it comes first here.
    names.sort_unstable_by_key(|name| (name.get(..10).unwrap_or(name), !name.ends_with(".mp4"), *name));
    let mut body = String::with_capacity(names.len() * 128);
    let mut line = |text: std::fmt::Arguments<'_>| {
        body.write_fmt(text).expect("a String takes all");
        body.push('\n');
    };
    let (mut init, mut told) = (None, None);
    let mut last: Option<u64> = None;
    let (mut duration, mut longest) = (Duration::ZERO, Duration::ZERO);
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for name in names {
        match Kept::parse(name) {
            Some(Kept::Init { .. }) => init = Some(name),
            Some(Kept::Segment { msn, duration: length, at_unix_ms, discontinuity }) => {
                let Some(init) = init else { continue };
                // The same segment twice is one whose upload was tried twice with an answer that was lost: the name is the same.
                if last == Some(msn) {
                    continue;
                }
                if last.is_some_and(|last| discontinuity || last + 1 != msn) {
                    line(format_args!("#EXT-X-DISCONTINUITY"));
                }
                if told != Some(init) {
                    line(format_args!("#EXT-X-MAP:URI=\"{base}{init}\""));
                    told = Some(init);
                }
                line(format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", date_time(at_unix_ms)));
                line(format_args!("#EXTINF:{:.5},\n{base}{name}", length.as_secs_f64()));
                last = Some(msn);
                duration += length;
                longest = longest.max(length);
                pairs.push((init, name));
            }
            None => {}
        }
    }
    let (init, segment) = *pairs.get(pairs.len() / 2)?;
    // Players round a segment's length to the next whole second and compare it with this (RFC 8216, 4.3.3.1).
    let target_s = (longest.as_secs_f64().round() as u64).max(1);
    let playlist = format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target_s}\n#EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MEDIA-SEQUENCE:0\n{body}#EXT-X-ENDLIST\n"
    );
    let segments = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
    Some(Vod { playlist, duration, segments, middle: (init.to_owned(), segment.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(msn: u64, discontinuity: bool) -> String {
        let duration = Duration::from_millis(2_000);
        Kept::Segment { msn, duration, at_unix_ms: 951_782_400_000, discontinuity }.name()
    }

    #[test]
    fn names_say_what_they_said() {
        for kept in [
            Kept::Init { msn: 7 },
            Kept::Segment {
                msn: 7,
                duration: Duration::from_micros(1_999_999),
                at_unix_ms: 3,
                discontinuity: true,
            },
            Kept::Segment {
                msn: 12_345_678_901,
                duration: Duration::ZERO,
                at_unix_ms: 0,
                discontinuity: false,
            },
        ] {
            assert_eq!(Kept::parse(&kept.name()), Some(kept), "{}", kept.name());
        }
        for odd in [
            "",
            ".mp4",
            "x.mp4",
            "1-2.m4s",
            "1-2-3-e.m4s",
            "1-2-3-d-d.m4s",
            "-1-2-3.m4s",
            "index.m3u8",
            "+1.mp4",
        ] {
            assert_eq!(Kept::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_recording_is_what_is_there() {
        let names = [
            segment(10, true),
            segment(9, false),
            Kept::Init { msn: 9 }.name(),
            "index.m3u8".to_owned(),
            // 11 was lost, and 12 has another init segment.
            segment(12, false),
            Kept::Init { msn: 12 }.name(),
            segment(13, false),
        ];
        let vod = render("f/", names.iter().map(String::as_str)).expect("something is there");
        let pdt = "#EXT-X-PROGRAM-DATE-TIME:2000-02-29T00:00:00.000Z\n#EXTINF:2.00000,\n";
        let wanted = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-MAP:URI=\"f/0000000009.mp4\"\n{pdt}f/{}\n#EXT-X-DISCONTINUITY\n{pdt}f/{}\n\
             #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"f/0000000012.mp4\"\n{pdt}f/{}\n{pdt}f/{}\n#EXT-X-ENDLIST\n",
            segment(9, false),
            segment(10, true),
            segment(12, false),
            segment(13, false),
        );
        assert_eq!(vod.playlist, wanted);
        assert_eq!((vod.duration, vod.segments), (Duration::from_secs(8), 4));
        assert_eq!(vod.middle, (Kept::Init { msn: 12 }.name(), segment(12, false)));
    }

    #[test]
    fn of_nothing_there_is_no_recording() {
        assert_eq!(render("", []), None);
        assert_eq!(
            render("", [segment(1, false).as_str()]),
            None,
            "without its init segment it cannot be played"
        );
    }
}
