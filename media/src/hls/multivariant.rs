//! The multivariant playlist: which renditions there are.

use std::fmt::Write;

/// One rendition.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its media playlist, relative to the multivariant one.
    pub uri: String,
    /// The highest rate of any segment, in bits a second, as measured.
    pub bandwidth_bps: u64,
    /// The rate over the window, in bits a second, as measured.
    pub average_bandwidth_bps: u64,
    /// Codecs of all its tracks (RFC 6381).
    pub codecs: Vec<String>,
    /// Width and height in pixels, unless it is sound alone.
    pub resolution: Option<(u32, u32)>,
    /// Pictures a second, where known.
    pub frames_per_s: Option<f64>,
}

/// Writes the playlist of these renditions, best first: players that cannot measure begin with the first.
pub fn render(variants: &[Variant]) -> String {
    let mut out = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned();
    for variant in variants {
        let mut attributes = format!(
            "BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"",
            variant.bandwidth_bps,
            variant.average_bandwidth_bps,
            variant.codecs.join(","),
        );
        if let Some((width, height)) = variant.resolution {
            write!(attributes, ",RESOLUTION={width}x{height}").expect("a String takes all");
        }
        if let Some(rate) = variant.frames_per_s {
            write!(attributes, ",FRAME-RATE={rate:.3}").expect("a String takes all");
        }
        writeln!(out, "#EXT-X-STREAM-INF:{attributes},CLOSED-CAPTIONS=NONE\n{}", variant.uri)
            .expect("a String takes all");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_says_everything_players_choose_by() {
        let variant = Variant {
            uri: "source.m3u8".into(),
            bandwidth_bps: 2_500_000,
            average_bandwidth_bps: 2_100_000,
            codecs: vec!["avc1.64001f".into(), "mp4a.40.2".into()],
            resolution: Some((1_280, 720)),
            frames_per_s: Some(30_000.0 / 1_001.0),
        };
        let told = render(&[variant]);
        let wanted = "#EXT-X-STREAM-INF:BANDWIDTH=2500000,AVERAGE-BANDWIDTH=2100000,\
            CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970,CLOSED-CAPTIONS=NONE\nsource.m3u8\n";
        assert!(told.ends_with(wanted), "{told}");
    }
}
