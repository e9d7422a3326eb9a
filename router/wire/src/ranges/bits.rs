//! The offsets of one window, a bit each.

use crate::data::Range;

/// Offsets of a window.
pub(super) const WINDOW: u64 = 256;
const WORDS: usize = (WINDOW / 64) as usize;

/// A window; the lowest offset is the lowest bit of the first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits([u64; WORDS]);

impl Bits {
    pub const NONE: Bits = Bits([0; WORDS]);
    pub const ALL: Bits = Bits([u64::MAX; WORDS]);

    /// The bits from `first` to `last`.
    pub fn span(first: u64, last: u64) -> Bits {
        if first / 64 == last / 64 {
            let mut bits = Bits::NONE;
            bits.0[(first / 64) as usize] = u64::MAX << (first % 64) & u64::MAX >> (63 - last % 64);
            return bits;
        }
        Bits(std::array::from_fn(|word| {
            let low = word as u64 * 64;
            let from = first.saturating_sub(low);
            match last.checked_sub(low) {
                Some(to) if from < 64 => u64::MAX << from & u64::MAX >> (63 - to.min(63)),
                _ => 0,
            }
        }))
    }

    /// What of a range lies in a window that it touches.
    pub fn of(window: u64, range: Range) -> Bits {
        let base = window * WINDOW;
        let first = range.first.saturating_sub(base);
        Bits::span(first, (range.last - base).min(WINDOW - 1))
    }

    /// Adds a range that lies in a window. By words: acks name single offsets by the hundred.
    #[inline]
    pub fn set(&mut self, window: u64, range: Range) {
        let base = window * WINDOW;
        let (first, last) = (range.first - base, range.last - base);
        if first / 64 != last / 64 {
            *self = self.or(Bits::span(first, last));
            return;
        }
        if let Some(word) = self.0.get_mut((first / 64) as usize) {
            *word |= u64::MAX << (first % 64) & u64::MAX >> (63 - last % 64);
        }
    }

    pub fn or(self, other: Bits) -> Bits {
        Bits(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    pub fn without(self, other: Bits) -> Bits {
        Bits(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    pub fn not(self) -> Bits {
        Bits(self.0.map(|word| !word))
    }

    pub fn has(self, at: u64) -> bool {
        self.0[(at / 64) as usize] >> (at % 64) & 1 == 1
    }

    pub fn count(self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many stretches of bits side by side there are.
    pub fn runs(self) -> usize {
        let mut before = 0;
        let begun = self.0.iter().map(|word| {
            let begins = word & !(word << 1 | before);
            before = word >> 63;
            begins.count_ones() as usize
        });
        begun.sum()
    }

    /// The lowest bit from `at` on.
    pub fn first_from(self, at: u64) -> Option<u64> {
        let start = (at / 64) as usize;
        let mut word = self.0[start] & u64::MAX << (at % 64);
        for index in start..WORDS {
            if index > start {
                word = self.0[index];
            }
            if word != 0 {
                return Some(index as u64 * 64 + u64::from(word.trailing_zeros()));
            }
        }
        None
    }

    /// The highest bit up to `at`.
    pub fn last_to(self, at: u64) -> Option<u64> {
        let start = (at / 64) as usize;
        let mut word = self.0[start] & u64::MAX >> (63 - at % 64);
        for index in (0..=start).rev() {
            if index < start {
                word = self.0[index];
            }
            if word != 0 {
                return Some(index as u64 * 64 + 63 - u64::from(word.leading_zeros()));
            }
        }
        None
    }
}
