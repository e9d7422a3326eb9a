//! Bytes that the program carries packed: their length (u32, little-endian), then DEFLATE.

use miniz_oxide::inflate;

/// How many they are.
pub fn length(packed: &[u8]) -> u64 {
    packed
        .first_chunk()
        .map_or(0, |length| u64::from(u32::from_le_bytes(*length)))
}

/// The bytes themselves; none where they are not packed so.
pub fn unpacked(packed: &[u8]) -> Vec<u8> {
    let body = packed.get(4..).unwrap_or_default();
    inflate::decompress_to_vec_with_limit(body, length(packed) as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_gives_nothing() {
        let mut packed = 4u32.to_le_bytes().to_vec();
        packed.extend(miniz_oxide::deflate::compress_to_vec(b"text", 9));
        assert_eq!((length(&packed), unpacked(&packed)), (4, b"text".to_vec()));
        for cut in 0..packed.len() - 1 {
            assert_eq!(unpacked(&packed[..cut]), b"", "{cut}");
        }
        packed[0] = 3;
        assert_eq!(unpacked(&packed), b"", "it is longer");
    }
}
