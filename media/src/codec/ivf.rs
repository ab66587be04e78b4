//! VP8 in IVF, the container of a header and lengths in which decoders take it over a pipe (the `ivfdec.c` of libvpx is its definition).

use bytes::{BufMut as _, Bytes, BytesMut};

/// What stands before everything else. Sizes are 0: each keyframe says its own (RFC 6386 section 9.1).
pub fn header() -> Bytes {
    let mut bytes = BytesMut::with_capacity(32);
    bytes.extend_from_slice(b"DKIF\0\0\x20\0VP80");
    bytes.put_u16_le(0);
    bytes.put_u16_le(0);
    // Ticks a second, as a fraction, and pictures, which nobody knows.
    bytes.put_u32_le(90_000);
    bytes.put_u32_le(1);
    bytes.put_u64_le(0);
    bytes.freeze()
}

/// A picture with what stands before it; `at` in ticks of 90 kHz.
pub fn picture(bytes: &[u8], at: u64) -> Bytes {
    let mut framed = BytesMut::with_capacity(12 + bytes.len());
    framed.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    framed.put_u64_le(at);
    framed.extend_from_slice(bytes);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_long_as_they_say() {
        assert_eq!(header().len(), 32);
        assert_eq!(&picture(&[1, 2], 3)[..], &[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }
}
