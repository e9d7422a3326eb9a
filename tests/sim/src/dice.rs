//! The one source of chance: everything that a run decides is drawn from its seed, in order.

use waypost_log::mem::Rng;

/// A seeded generator with the questions that actors ask.
pub struct Dice(Rng);

impl Dice {
    /// The same seed gives the same answers, everywhere.
    pub fn new(seed: u64) -> Dice {
        Dice(Rng(seed))
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound.max(1))
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Yes, once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of them, if there are any.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        match from.is_empty() {
            true => None,
            false => from.get(self.below(from.len() as u64) as usize),
        }
    }

    /// A seed for something of its own.
    pub fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }
}
