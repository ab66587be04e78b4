//! What comes out of a transcoder's pipe: a child that reads a stranger's bitstream is a stranger too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nova_media::fmp4::Reader;

fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::new();
    let whole = reader.push(data);
    let mut reader = Reader::new();
    let pieces: Result<Vec<_>, _> = data.chunks(7).map(|piece| reader.push(piece)).collect();
    // However it is cut, it is read the same.
    if let (Ok(whole), Ok(pieces)) = (&whole, &pieces) {
        assert_eq!(*whole, pieces.concat());
    }
    assert_eq!(whole.is_err(), pieces.is_err());
});
