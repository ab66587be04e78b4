//! Queries of playlist requests, against any live edge. Four bytes are the edge, the rest is the query.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nova_media::hls::reload::{Decision, Directives, decide};
use nova_media::hls::{Edge, Settings};

fuzz_target!(|data: &[u8]| {
    let [msn, part, ended, target, query @ ..] = data else { return };
    let Ok(query) = std::str::from_utf8(query) else { return };
    let Ok(directives) = Directives::parse(query) else { return };
    let settings = Settings { part_target_ms: u32::from(*target) * 8, ..Settings::default() };
    let edge = Edge { msn: (*msn).into(), part: (*part).into(), ended: ended & 1 == 1 };
    if let Ok(decision) = decide(&settings, edge, &directives) {
        // Whoever waits is answered once the segment after the one waited for is whole.
        if decision == Decision::Wait {
            let later = Edge { msn: directives.msn.unwrap_or(0) + 1, part: 1, ended: false };
            assert_eq!(decide(&settings, later, &directives), Ok(Decision::Answer));
        }
    }
});
