//! Randomness that nobody can guess.

use super::imported::random as imported;

/// The most bytes that one call gives.
pub const BYTES_MAX: u32 = 64 << 10;

/// So many random bytes; at most [`BYTES_MAX`].
pub fn bytes(len: u32) -> Vec<u8> {
    imported::bytes(len)
}

/// A random number of 64 bits.
pub fn number() -> u64 {
    imported::number()
}

/// A random number below `end`, each as likely; 0 where `end` is 0.
pub fn below(end: u64) -> u64 {
    if end == 0 {
        return 0;
    }
    // Numbers past the last whole multiple of `end` would make the small ones likelier.
    let whole = u64::MAX - u64::MAX % end;
    loop {
        let number = number();
        if number < whole {
            return number % end;
        }
    }
}

/// True with this probability, from 0 to 1.
pub fn chance(probability: f64) -> bool {
    // The upper 53 bits as a fraction: all that an f64 tells apart.
    let fraction = (number() >> 11) as f64 / (1u64 << 53) as f64;
    fraction < probability
}
