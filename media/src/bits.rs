//! Readers for bytes and bits that came from a stranger.
//!
//! Every read says whether it could be done; none of them panics, loops or allocates by a length the
//! data claims. Byte order is big-endian unless the name ends in `_le`.

/// The data ended before the field did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data ends before the field does")]
pub struct Truncated;

/// What a read gives.
pub type Read<T> = Result<T, Truncated>;

/// Reads whole bytes from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct ByteReader<'a> {
    rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    /// Starts at the first byte of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// How many bytes are still unread.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is still unread, without reading it.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte, without reading it.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Reads `count` bytes.
    pub fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, count: usize) -> Read<()> {
        self.take(count).map(|_| ())
    }

    /// Reads `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads one byte.
    pub fn u8(&mut self) -> Read<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Reads an unsigned 16-bit number.
    pub fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Reads an unsigned 24-bit number.
    pub fn u24(&mut self) -> Read<u32> {
        self.array().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Reads a signed 24-bit number (two's complement), as FLV writes composition offsets.
    pub fn i24(&mut self) -> Read<i32> {
        self.array().map(|[a, b, c]| i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    /// Reads an unsigned 32-bit number.
    pub fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads a 64-bit floating-point number.
    pub fn f64(&mut self) -> Read<f64> {
        self.array().map(f64::from_be_bytes)
    }

    /// Reads an unsigned little-endian 16-bit number.
    pub fn u16_le(&mut self) -> Read<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Reads an unsigned little-endian 32-bit number.
    pub fn u32_le(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }
}

/// Reads single bits, most significant first, as the MPEG and AV1 headers are written.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    /// Starts at the top bit of the first byte of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0 }
    }

    /// How many bits are still unread.
    pub fn len(&self) -> usize {
        (self.data.len() * 8).saturating_sub(self.position)
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads one bit.
    pub fn flag(&mut self) -> Read<bool> {
        let byte = self.data.get(self.position / 8).ok_or(Truncated)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Ok(bit == 1)
    }

    /// Reads `count` bits, at most 32, as an unsigned number.
    pub fn bits(&mut self, count: u32) -> Read<u32> {
        if count > 32 {
            return Err(Truncated);
        }
        let mut value: u32 = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Ok(value)
    }

    /// Passes over `count` bits.
    pub fn skip(&mut self, count: usize) -> Read<()> {
        if count > self.len() {
            return Err(Truncated);
        }
        self.position += count;
        Ok(())
    }

    /// Passes over what is left of the current byte.
    pub fn align(&mut self) {
        self.position = self.position.div_ceil(8) * 8;
    }

    /// Reads an unsigned Exp-Golomb number (ITU-T H.264, 9.1). A prefix of more than 31 zeros cannot
    /// be a 32-bit number and counts as truncated.
    pub fn ue(&mut self) -> Read<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(Truncated);
            }
        }
        let low = self.bits(zeros)?;
        Ok(((1u64 << zeros) - 1 + u64::from(low)) as u32)
    }

    /// Reads a signed Exp-Golomb number (ITU-T H.264, 9.1.1).
    pub fn se(&mut self) -> Read<i32> {
        let code = i64::from(self.ue()?);
        let magnitude = (code + 1) / 2;
        Ok(if code % 2 == 0 { -magnitude } else { magnitude } as i32)
    }

    /// Reads an unsigned number of AV1's variable length (AV1 specification, 4.10.3).
    pub fn uvlc(&mut self) -> Read<u32> {
        self.ue()
    }
}

/// A NAL unit without its emulation prevention bytes (ITU-T H.264, 7.4.1): every `00 00 03` becomes
/// `00 00`. Meant for parameter sets, which are short; the copy is never longer than `nal`.
pub fn unescaped(nal: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        plain.push(byte);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_order_and_their_end_is_an_error() {
        let mut reader = ByteReader::new(&[1, 0, 2, 0, 0, 3, 0, 0, 0, 4, 9]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(2));
        assert_eq!(reader.u24(), Ok(3));
        assert_eq!(reader.u32(), Ok(4));
        assert_eq!(reader.u16(), Err(Truncated));
        assert_eq!(reader.rest(), &[9], "a failed read takes nothing");
        assert_eq!(reader.skip(usize::MAX), Err(Truncated));
    }

    #[test]
    fn a_24_bit_number_keeps_its_sign() {
        for (bytes, value) in [
            ([0xff, 0xff, 0xff], -1),
            ([0x80, 0, 0], -(1 << 23)),
            ([0x7f, 0xff, 0xff], (1 << 23) - 1),
            ([0, 0, 80], 80),
        ] {
            assert_eq!(ByteReader::new(&bytes).i24(), Ok(value));
        }
    }

    #[test]
    fn exp_golomb_numbers_follow_the_table_of_the_standard() {
        // ITU-T H.264, table 9-2 and 9-3: 1 | 010 | 011 | 00100 | 00101 …
        let data = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut reader = BitReader::new(&data);
        let codes: Vec<u32> = (0..5).map(|_| reader.ue().unwrap()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4]);
        let mut reader = BitReader::new(&data);
        let signed: Vec<i32> = (0..5).map(|_| reader.se().unwrap()).collect();
        assert_eq!(signed, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn the_longest_exp_golomb_number_is_read_and_a_longer_one_refused() {
        let mut longest = vec![0, 0, 0, 1];
        longest.extend([0xff, 0xff, 0xff, 0xff]);
        assert_eq!(BitReader::new(&longest).ue(), Ok(u32::MAX - 1));
        assert_eq!(BitReader::new(&[0; 16]).ue(), Err(Truncated));
    }

    #[test]
    fn emulation_prevention_is_taken_out() {
        assert_eq!(unescaped(&[0x67, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3]), [0x67, 0, 0, 1, 0, 0, 0, 0]);
    }
}
