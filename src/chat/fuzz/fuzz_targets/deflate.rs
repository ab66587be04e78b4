//! Compression: nothing is inflated beyond its bound, what was packed unpacks, and offers are taken or left.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nova_chat_fuzz::chat::deflate::{accepts, deflate, inflate};

const BYTES_MAX: usize = 4 << 10;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = inflate(data, BYTES_MAX) {
        assert!(message.len() <= BYTES_MAX);
    }
    if let Some(packed) = deflate(data) {
        assert!(packed.len() < data.len());
        assert_eq!(inflate(&packed, data.len()).as_deref(), Ok(data));
    }
    if let Ok(offers) = std::str::from_utf8(data) {
        accepts(offers);
    }
});
