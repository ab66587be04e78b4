//! Delivery directives: what a playlist request asks for, and whether it is answered, waits or is refused
//! (draft-pantos-hls-rfc8216bis, 6.2.5).

use std::time::Duration;

use super::{Edge, Settings};

/// What the query of a playlist request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    /// `_HLS_msn`: the segment to wait for.
    pub msn: Option<u64>,
    /// `_HLS_part`: the part of it to wait for.
    pub part: Option<u32>,
    /// `_HLS_skip`: a delta update will do.
    pub skip: bool,
}

/// A query that is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// `_HLS_part` needs `_HLS_msn`.
    #[error("_HLS_part without _HLS_msn")]
    PartAlone,
    /// A number that is none.
    #[error("a delivery directive is not a number")]
    NotANumber,
    /// `_HLS_skip` is neither `YES` nor `v2`.
    #[error("_HLS_skip is neither YES nor v2")]
    Skip,
    /// A directive that came twice.
    #[error("a delivery directive came twice")]
    Twice,
    /// Too far in the future to wait for.
    #[error("the segment or part asked for lies too far ahead")]
    TooFarAhead,
}

impl Directives {
    /// Reads the directives of a query; everything else in it is not looked at.
    pub fn parse(query: &str) -> Result<Self, BadRequest> {
        let mut directives = Self::default();
        let mut skip = None;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_HLS_msn" => put(&mut directives.msn, number(value)?)?,
                "_HLS_part" => {
                    let part = u32::try_from(number(value)?).map_err(|_| BadRequest::TooFarAhead)?;
                    put(&mut directives.part, part)?;
                }
                "_HLS_skip" if matches!(value, "YES" | "v2") => put(&mut skip, true)?,
                "_HLS_skip" => return Err(BadRequest::Skip),
                _ => {}
            }
        }
        if directives.part.is_some() && directives.msn.is_none() {
            return Err(BadRequest::PartAlone);
        }
        directives.skip = skip.is_some();
        Ok(directives)
    }
}

fn number(text: &str) -> Result<u64, BadRequest> {
    // `parse` would take a sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadRequest::NotANumber);
    }
    text.parse().map_err(|_| BadRequest::TooFarAhead)
}

fn put<T>(place: &mut Option<T>, value: T) -> Result<(), BadRequest> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadRequest::Twice),
    }
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Answer with the playlist there is.
    Answer,
    /// Wait for the next snapshot and decide again, up to [`patience`]; then 503.
    Wait,
}

/// Decides on a request against the live edge.
pub fn decide(settings: &Settings, edge: Edge, directives: &Directives) -> Result<Decision, BadRequest> {
    let Some(msn) = directives.msn else { return Ok(Decision::Answer) };
    if edge.ended {
        return Ok(Decision::Answer);
    }
    // The segment whose part comes next is the last of the playlist, or the one after a last that is whole.
    let last_msn = if edge.part == 0 { edge.msn.saturating_sub(1) } else { edge.msn };
    if msn > last_msn.saturating_add(2) {
        return Err(BadRequest::TooFarAhead);
    }
    let Some(part) = directives.part else {
        // Without a part it is the whole segment that is waited for.
        return Ok(if msn < edge.msn { Decision::Answer } else { Decision::Wait });
    };
    // A part past the end of a segment is the first of the next; whatever an older segment had, it is there.
    if (msn, part) < (edge.msn, edge.part) {
        return Ok(Decision::Answer);
    }
    let already = if msn == edge.msn { edge.part } else { 0 };
    if part >= already.saturating_add(advance_part_limit(settings)) {
        return Err(BadRequest::TooFarAhead);
    }
    Ok(Decision::Wait)
}

/// How many parts ahead of the last one may be asked for: three seconds' worth, or three.
fn advance_part_limit(settings: &Settings) -> u32 {
    match settings.part_target_ms {
        part_ms @ 1..1_000 => 3_000_u32.div_ceil(part_ms),
        _ => 3,
    }
}

/// How long a request may wait before it is answered with 503.
pub fn patience(settings: &Settings) -> Duration {
    Duration::from_secs(u64::from(settings.target_duration_s) * 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_bad_ones_refused() {
        let read = Directives::parse;
        assert_eq!(read(""), Ok(Directives::default()));
        assert_eq!(
            read("token=x&_HLS_msn=5&_HLS_part=2&_HLS_skip=YES"),
            Ok(Directives { msn: Some(5), part: Some(2), skip: true })
        );
        assert_eq!(read("_HLS_skip=v2"), Ok(Directives { skip: true, ..Directives::default() }));
        for (query, error) in [
            ("_HLS_part=1", BadRequest::PartAlone),
            ("_HLS_msn=", BadRequest::NotANumber),
            ("_HLS_msn=-1", BadRequest::NotANumber),
            ("_HLS_msn=+1", BadRequest::NotANumber),
            ("_HLS_msn=1.5", BadRequest::NotANumber),
            ("_HLS_msn=99999999999999999999", BadRequest::TooFarAhead),
            ("_HLS_msn=1&_HLS_part=99999999999", BadRequest::TooFarAhead),
            ("_HLS_msn=1&_HLS_msn=2", BadRequest::Twice),
            ("_HLS_skip=NO", BadRequest::Skip),
        ] {
            assert_eq!(read(query), Err(error), "{query}");
        }
    }

    #[test]
    fn every_rule_of_the_draft_has_its_answer() {
        let settings = Settings::default();
        // Segments up to 9 are whole; of 10 there are parts 0, 1 and 2.
        let edge = Edge { msn: 10, part: 3, ended: false };
        let ask = |msn, part| decide(&settings, edge, &Directives { msn, part, skip: false });
        assert_eq!(ask(None, None), Ok(Decision::Answer));
        assert_eq!(ask(Some(0), None), Ok(Decision::Answer), "a segment long gone");
        assert_eq!(ask(Some(3), Some(7)), Ok(Decision::Answer));
        assert_eq!(ask(Some(9), None), Ok(Decision::Answer));
        assert_eq!(
            ask(Some(9), Some(40)),
            Ok(Decision::Answer),
            "past its end: part 0 of 10, which is there"
        );
        assert_eq!(ask(Some(10), Some(2)), Ok(Decision::Answer));
        assert_eq!(ask(Some(10), Some(3)), Ok(Decision::Wait));
        assert_eq!(ask(Some(10), None), Ok(Decision::Wait));
        assert_eq!(ask(Some(11), Some(0)), Ok(Decision::Wait));
        assert_eq!(ask(Some(12), None), Ok(Decision::Wait));
        assert_eq!(ask(Some(13), None), Err(BadRequest::TooFarAhead), "more than two segments ahead");
        // Three seconds at 333 ms are ten parts: 2 is the last that is there, 12 the last that may be asked for.
        assert_eq!(ask(Some(10), Some(12)), Ok(Decision::Wait));
        assert_eq!(ask(Some(10), Some(13)), Err(BadRequest::TooFarAhead));
        assert_eq!(ask(Some(u64::MAX), Some(u32::MAX)), Err(BadRequest::TooFarAhead));

        let over = Edge { ended: true, ..edge };
        let late = Directives { msn: Some(99), part: Some(1), skip: false };
        assert_eq!(
            decide(&settings, over, &late),
            Ok(Decision::Answer),
            "after the end directives are ignored"
        );
        assert_eq!(patience(&settings), Duration::from_secs(12));
    }

    #[test]
    fn a_part_past_the_end_of_the_last_whole_segment_waits_for_the_first_of_the_next() {
        let settings = Settings::default();
        let edge = Edge { msn: 11, part: 0, ended: false };
        let ask = |msn, part| decide(&settings, edge, &Directives { msn: Some(msn), part, skip: false });
        assert_eq!(ask(11, Some(0)), Ok(Decision::Wait));
        assert_eq!(ask(12, None), Ok(Decision::Wait));
        assert_eq!(ask(13, None), Err(BadRequest::TooFarAhead));
    }
}
