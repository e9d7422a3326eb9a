//! The two numbers that the log's files name: which queue, and where in the WAL.

use std::fmt;
use std::num::NonZeroU64;

/// A queue's identity since it was created: random, never zero, never used again.
///
/// It is in every entry on disk, so that an entry of a queue that was removed is never taken for
/// one of its namesake. The caller draws it; this crate has no randomness.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(NonZeroU64);

impl Incarnation {
    /// `None` for zero, which on disk means "no queue".
    pub fn new(value: u64) -> Option<Self> {
        NonZeroU64::new(value).map(Self)
    }

    /// The number itself.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The name of the queue's directory: 16 hexadecimal digits.
    pub fn hex(self) -> String {
        format!("{:016x}", self.get())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.get())
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

/// A byte's place in the life of a shard's WAL: `file sequence × file size + offset in the file`.
///
/// Files are numbered from 1 and numbers are never used again, so positions only grow and 0 means
/// "nowhere".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The place `offset` bytes into file `seq`.
    pub fn of(seq: u64, offset: u64, file_size: u64) -> Self {
        Position(seq.wrapping_mul(file_size).wrapping_add(offset))
    }

    /// The number of the file that holds this byte.
    pub fn seq(self, file_size: u64) -> u64 {
        self.0 / file_size
    }

    /// The byte's offset in that file.
    pub fn offset(self, file_size: u64) -> u64 {
        self.0 % file_size
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}
