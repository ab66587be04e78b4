//! The bodies of audio and video messages.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nova_media::rtmp::flv::{self, Tag};

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    for tag in [flv::video(&body), flv::audio(&body)].into_iter().flatten() {
        if let Tag::Media { payload, .. } | Tag::Configuration { record: payload, .. } = tag {
            assert!(payload.len() < body.len());
        }
    }
});
