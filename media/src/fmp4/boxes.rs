//! How boxes are written: length, name, content.

use bytes::BufMut;

/// Appends a box whose content `content` appends.
pub(super) fn boxed(out: &mut Vec<u8>, name: &[u8; 4], content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(name);
    content(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a box with a version and flags.
pub(super) fn full(
    out: &mut Vec<u8>,
    name: &[u8; 4],
    version: u8,
    flags: u32,
    content: impl FnOnce(&mut Vec<u8>),
) {
    boxed(out, name, |out| {
        out.put_u8(version);
        out.put_uint(flags.into(), 3);
        content(out);
    });
}
