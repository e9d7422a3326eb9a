//! scrypt (RFC 7914), which minisign hides its keys with. ring has PBKDF2, on which it stands; the
//! rest is here, and held against the RFC's own vectors. It runs once for a key that a person opens.

use std::num::NonZeroU32;

use ring::pbkdf2;

/// Words of a block of Salsa20.
const BLOCK: usize = 16;

/// How much work and memory: `N` as its logarithm, `r` and `p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub log_n: u8,
    pub r: usize,
    pub p: usize,
}

/// Fills `out` from a password.
pub(crate) fn scrypt(password: &[u8], salt: &[u8], cost: Cost, out: &mut [u8]) {
    let derive = |salt: &[u8], out: &mut [u8]| {
        let once = NonZeroU32::MIN;
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, once, salt, password, out);
    };
    let lane_bytes = 128 * cost.r;
    let mut lanes = vec![0; lane_bytes * cost.p];
    derive(salt, &mut lanes);
    let mut kept = vec![0_u32; (lane_bytes / 4) << cost.log_n];
    for lane in lanes.chunks_exact_mut(lane_bytes) {
        let words = lane.as_chunks::<4>().0.iter();
        let mut mixed: Vec<u32> = words.map(|word| u32::from_le_bytes(*word)).collect();
        mix(&mut mixed, &mut kept);
        for (bytes, word) in lane.as_chunks_mut::<4>().0.iter_mut().zip(mixed) {
            *bytes = word.to_le_bytes();
        }
    }
    derive(&lanes, out);
}

/// ROMix: fills `kept`, then walks it in an order that only the lane itself tells.
fn mix(lane: &mut [u32], kept: &mut [u32]) {
    let mut other = vec![0; lane.len()];
    for place in kept.chunks_exact_mut(lane.len()) {
        place.copy_from_slice(lane);
        mix_blocks(lane, &mut other);
    }
    let places = kept.len() / lane.len();
    for _ in 0..places {
        // A power of two, and never more than 32 bits of them.
        let place = lane[lane.len() - BLOCK] as usize & (places - 1);
        let start = place * lane.len();
        for (word, kept) in lane.iter_mut().zip(&kept[start..]) {
            *word ^= kept;
        }
        mix_blocks(lane, &mut other);
    }
}

/// BlockMix: blocks at even places come first, then those at odd ones.
fn mix_blocks(lane: &mut [u32], other: &mut [u32]) {
    let blocks = lane.len() / BLOCK;
    let mut running = [0; BLOCK];
    running.copy_from_slice(&lane[lane.len() - BLOCK..]);
    for (index, block) in lane.chunks_exact(BLOCK).enumerate() {
        for (word, with) in running.iter_mut().zip(block) {
            *word ^= with;
        }
        salsa(&mut running);
        let to = (index / 2 + index % 2 * blocks / 2) * BLOCK;
        other[to..to + BLOCK].copy_from_slice(&running);
    }
    lane.copy_from_slice(other);
}

/// Salsa20/8.
fn salsa(block: &mut [u32; BLOCK]) {
    let mut x = *block;
    let mut quarter = |a: usize, b: usize, c: usize, d: usize| {
        x[b] ^= x[a].wrapping_add(x[d]).rotate_left(7);
        x[c] ^= x[b].wrapping_add(x[a]).rotate_left(9);
        x[d] ^= x[c].wrapping_add(x[b]).rotate_left(13);
        x[a] ^= x[d].wrapping_add(x[c]).rotate_left(18);
    };
    for _ in 0..4 {
        quarter(0, 4, 8, 12);
        quarter(5, 9, 13, 1);
        quarter(10, 14, 2, 6);
        quarter(15, 3, 7, 11);
        quarter(0, 1, 2, 3);
        quarter(5, 6, 7, 4);
        quarter(10, 11, 8, 9);
        quarter(15, 12, 13, 14);
    }
    for (word, with) in block.iter_mut().zip(x) {
        *word = word.wrapping_add(with);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        for (password, salt, log_n, r, p, want) in [
            ("", "", 4, 1, 1, "77d6576238657b203b19ca42c18a0497"),
            (
                "password",
                "NaCl",
                10,
                8,
                16,
                "fdbabe1c9d3472007856e7190d01e9fe",
            ),
            (
                "pleaseletmein",
                "SodiumChloride",
                14,
                8,
                1,
                "7023bdcb3afd7348461c06cd81fd38eb",
            ),
        ] {
            let mut out = [0; 64];
            let cost = Cost { log_n, r, p };
            scrypt(password.as_bytes(), salt.as_bytes(), cost, &mut out);
            let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(hex.starts_with(want), "{password:?}: {hex}");
        }
    }
}
