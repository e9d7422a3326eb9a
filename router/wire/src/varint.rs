//! Variable-length integers as in RFC 9000, section 16: the two highest bits of the first byte
//! give the length (1, 2, 4 or 8 bytes), the rest is the value, most significant byte first.
//! Values reach 2^62 - 1. A longer encoding than needed is accepted, as in the RFC.

use bytes::BufMut;

/// The largest value that can be encoded: 2^62 - 1.
pub const MAX: u64 = (1 << 62) - 1;

/// The encoded length of `value` in bytes: 1, 2, 4 or 8.
#[inline]
pub const fn len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Appends `value`. Values above [`MAX`] are a caller's error and are cut to 62 bits; every
/// counter in the protocol starts at zero and cannot reach that many.
#[inline]
pub fn put(out: &mut impl BufMut, value: u64) {
    debug_assert!(value <= MAX, "varint {value} above 2^62 - 1");
    match len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(value as u16 | 0x4000),
        4 => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64((value & MAX) | 0xc000_0000_0000_0000),
    }
}

/// Reads one integer at the start of `bytes`; gives it and its encoded length, or `None` where
/// `bytes` ends before it does.
#[inline]
pub fn get(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1usize << (first >> 6);
    if length == 1 {
        return Some((u64::from(first), 1));
    }
    let raw = bytes.get(..length)?;
    let mut value = u64::from(first & 0x3f);
    if let [_, second] = raw {
        return Some((value << 8 | u64::from(*second), 2));
    }
    for byte in &raw[1..] {
        value = value << 8 | u64::from(*byte);
    }
    Some((value, length))
}

/// A cursor over bytes that reads integers and byte strings, or says that they end too early.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next integer; `None` at the end.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let (value, length) = get(&self.bytes[self.at..])?;
        self.at += length;
        Some(value)
    }

    /// The next byte; `None` at the end.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// The next `length` bytes; `None` where fewer are left.
    #[inline]
    pub fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let length = usize::try_from(length).ok()?;
        let end = self.at.checked_add(length)?;
        let out = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(out)
    }

    /// A byte string with its length before it.
    #[inline]
    pub fn prefixed(&mut self) -> Option<&'a [u8]> {
        let length = self.varint()?;
        self.bytes(length)
    }

    /// All that is left.
    #[inline]
    pub fn rest(&mut self) -> &'a [u8] {
        let out = &self.bytes[self.at..];
        self.at = self.bytes.len();
        out
    }
}

/// Appends a byte string with its length before it.
#[inline]
pub fn put_prefixed(out: &mut impl BufMut, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 9000, appendix A.1.
    #[test]
    fn rfc_9000_examples() {
        for (bytes, value) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(get(bytes), Some((value, bytes.len())));
        }
    }

    #[test]
    fn round_trip_at_every_edge() {
        for value in [0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, MAX] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), len(value));
            assert_eq!(get(&out), Some((value, out.len())));
            assert_eq!(get(&out[..out.len() - 1]), None);
        }
    }
}
