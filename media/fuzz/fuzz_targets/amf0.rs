//! AMF0: whatever can be read can be written, and reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nova_media::rtmp::amf0;

fuzz_target!(|data: &[u8]| {
    if let Ok(values) = amf0::decode(data) {
        // Text that was not UTF-8 has grown, and names have their limit: only what was written by us has to come back.
        let written = amf0::encode(&values);
        if let Ok(again) = amf0::decode(&written) {
            assert_eq!(amf0::encode(&again), written);
        }
    }
});
