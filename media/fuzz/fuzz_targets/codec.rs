//! Decoder configurations, and frames under them. The first byte picks the coding, the second the length of the record.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nova_media::codec::{aac, av1, h264, hevc, opus};

fuzz_target!(|data: &[u8]| {
    let [coding, length, data @ ..] = data else { return };
    let (record, frame) = data.split_at_checked(usize::from(*length)).unwrap_or((data, &[]));
    let record = Bytes::copy_from_slice(record);
    match coding % 5 {
        0 => {
            if let Ok(configuration) = h264::Configuration::parse(&record) {
                assert!(configuration.picture.width > 0 && configuration.picture.height > 0);
                let _ = configuration.look(frame);
                if let Some(changed) = configuration.changed_by(frame) {
                    assert_eq!(h264::Configuration::parse(&changed.record), Ok(changed.clone()));
                }
                let _ = configuration.codecs();
            }
        }
        1 => {
            if let Ok(configuration) = hevc::Configuration::parse(&record) {
                let _ = (configuration.look(frame), configuration.codecs());
            }
        }
        2 => {
            if let Ok(configuration) = av1::Configuration::parse(&record) {
                let _ = (configuration.look(frame), configuration.codecs());
            }
        }
        3 => {
            if let Ok(configuration) = aac::Configuration::parse(&record) {
                assert!(configuration.sample_rate_hz > 0 && configuration.frame_samples > 0);
                let _ = configuration.codecs();
            }
        }
        _ => {
            let _ = opus::Configuration::parse(&record);
            let _ = opus::packet_samples(frame);
        }
    }
});
