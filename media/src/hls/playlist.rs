//! How a window is told (draft-pantos-hls-rfc8216bis, section 4.4).

use std::fmt::Write;

use super::Settings;
use super::window::{Edge, Report, Segment};

/// How far from the live edge players stay, in part targets: three is the least allowed, and the least with which AVPlayer stalls.
const PART_HOLD_BACK: f64 = 3.5;
/// How far they stay without parts, in target durations: the least allowed.
const HOLD_BACK: u32 = 3;
/// What is further from the edge may be skipped, in target durations: the least allowed.
pub(super) const SKIP_UNTIL: u32 = 6;
/// Parts are listed this far from the edge, in target durations (6.2.2).
const PARTS_WITHIN: u32 = 3;

/// The media playlist of these segments, or its delta update. `epoch` is that of the next part.
pub(super) fn render<'a>(
    settings: &Settings,
    segments: impl Iterator<Item = &'a Segment> + Clone,
    discontinuity_sequence: u64,
    edge: Edge,
    epoch: &str,
    reports: &[Report],
    skip: bool,
) -> String {
    let target_s = settings.target_duration_s;
    let part_target_s = f64::from(settings.part_target_ms) / 1_000.0;
    let mut out = String::with_capacity(4_096);
    let mut line = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a String takes all");
        out.push('\n');
    };
    line(format_args!("#EXTM3U"));
    line(format_args!("#EXT-X-VERSION:9"));
    line(format_args!("#EXT-X-TARGETDURATION:{target_s}"));
    line(format_args!(
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={:.1},HOLD-BACK={:.1},PART-HOLD-BACK={:.4}",
        f64::from(target_s * SKIP_UNTIL),
        f64::from(target_s * HOLD_BACK),
        part_target_s * PART_HOLD_BACK,
    ));
    line(format_args!("#EXT-X-PART-INF:PART-TARGET={part_target_s:.3}"));
    let first_msn = segments.clone().next().map_or(0, |segment| segment.msn);
    line(format_args!("#EXT-X-MEDIA-SEQUENCE:{first_msn}"));
    if discontinuity_sequence > 0 {
        line(format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity_sequence}"));
    }

    // Where one part could not be made, the next may not come either: nothing is promised.
    let last = segments.clone().filter_map(|segment| segment.parts.last()).last();
    let in_gap = last.is_some_and(|part| part.gap);
    // How far each segment's end is from the edge tells what may be skipped and which parts are listed.
    let total: f64 = segments.clone().map(|segment| segment.duration().as_secs_f64()).sum();
    let mut told = 0.0;
    let mut skipped = 0;
    let mut map = None;
    for segment in segments {
        told += segment.duration().as_secs_f64();
        let from_edge = total - told;
        if skip && segment.whole && from_edge > f64::from(target_s * SKIP_UNTIL) {
            skipped += 1;
            map = Some((&segment.epoch, segment.init));
            continue;
        }
        if skipped > 0 {
            line(format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
            skipped = 0;
        }
        if segment.discontinuity {
            line(format_args!("#EXT-X-DISCONTINUITY"));
        }
        if map != Some((&segment.epoch, segment.init)) {
            line(format_args!("#EXT-X-MAP:URI=\"{}/init{}.mp4\"", segment.epoch, segment.init));
            map = Some((&segment.epoch, segment.init));
        }
        line(format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", date_time(segment.at_unix_ms)));
        // Of a stream that is over nobody needs the pieces, and hls.js reads a segment by its parts again and again.
        if !edge.ended && from_edge <= f64::from(target_s * PARTS_WITHIN) {
            for (n, part) in segment.parts.iter().enumerate() {
                line(format_args!(
                    "#EXT-X-PART:DURATION={:.5},URI=\"{}/{}.{n}.m4s\"{}{}",
                    part.duration.as_secs_f64(),
                    segment.epoch,
                    segment.msn,
                    if part.independent { ",INDEPENDENT=YES" } else { "" },
                    if part.gap { ",GAP=YES" } else { "" },
                ));
            }
        }
        if segment.whole {
            if segment.has_gap() {
                line(format_args!("#EXT-X-GAP"));
            }
            line(format_args!("#EXTINF:{:.5},", segment.duration().as_secs_f64()));
            line(format_args!("{}/{}.m4s", segment.epoch, segment.msn));
        }
    }
    if edge.ended {
        line(format_args!("#EXT-X-ENDLIST"));
    } else {
        if !in_gap {
            line(format_args!(
                "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{epoch}/{}.{}.m4s\"",
                edge.msn, edge.part
            ));
        }
        for report in reports {
            // The last part that is there, not the next.
            let (msn, part) = match report.edge {
                Edge { msn, part: 0, .. } => (msn.saturating_sub(1), None),
                Edge { msn, part, .. } => (msn, Some(part - 1)),
            };
            match part {
                Some(part) => line(format_args!(
                    "#EXT-X-RENDITION-REPORT:URI=\"{}\",LAST-MSN={msn},LAST-PART={part}",
                    report.uri
                )),
                None => line(format_args!("#EXT-X-RENDITION-REPORT:URI=\"{}\",LAST-MSN={msn}", report.uri)),
            }
        }
    }
    out
}

/// Milliseconds since 1970 as a date of RFC 3339 in UTC (days to dates after H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
pub(super) fn date_time(unix_ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let (days, of_day) = (unix_ms.div_euclid(DAY_MS), unix_ms.rem_euclid(DAY_MS));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, millis) = (of_day / 1_000, of_day % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_ms, told) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_236_001_007, "2026-11-21T04:40:01.007Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(date_time(unix_ms), told);
        }
    }
}
