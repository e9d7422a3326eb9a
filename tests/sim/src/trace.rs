//! What happened, line by line: for a person after a failure, and as bytes that a second run with
//! the same seed must repeat.

use std::collections::VecDeque;

/// The lines of a run; old ones may be dropped, their hash stays.
pub struct Trace {
    lines: VecDeque<String>,
    kept_max: usize,
    count: u64,
    hash: u64,
}

impl Trace {
    /// A trace that keeps so many of its last lines.
    pub fn keeping(kept_max: usize) -> Trace {
        Trace {
            lines: VecDeque::new(),
            kept_max,
            count: 0,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Adds a line.
    pub fn line(&mut self, line: String) {
        // FNV-1a: no protection is needed, only the same number for the same bytes.
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.count += 1;
        if self.kept_max == 0 {
            return;
        }
        if self.lines.len() == self.kept_max {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// A hash of all lines and how many there were.
    pub fn digest(&self) -> (u64, u64) {
        (self.hash, self.count)
    }

    /// The lines that were kept.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
