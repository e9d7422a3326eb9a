//! How long ago a message was received, whatever the wall clock does.
//!
//! A stored message has the wall clock's time of its receipt; leases, delays and expiry run on the
//! monotonic clock. While the node lives, a queue remembers by how much the two differed when its
//! messages came ([`Received`]), so that a wall clock that is set forwards or backwards moves
//! nothing. For what was there when the node started ([`Clock`]) the wall clock is asked once: as
//! soon as it is not behind the newest receive time that the log has. Until then a message counts
//! as received when the node started, which can only make it younger than it is.

use std::collections::VecDeque;

/// Wall clocks before this time (2020-01-01) were never set, and say nothing.
const CREDIBLE_MS: u64 = 1_577_836_800_000;
/// Differences of the clocks that one queue remembers, 16 B each. A clock that is slewed makes one
/// every few seconds; the oldest messages go by the oldest difference that is left.
const MARKS_MAX: usize = 1024;

/// The two clocks since the node started.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The newest receive time that the log had.
    seen_ms: u64,
    /// The newest that was seen or given since.
    newest_ms: u64,
    started_ms: Option<i64>,
    /// By how much the wall clock is ahead of the monotonic one, for messages from before.
    ahead_ms: Option<i64>,
}

impl Clock {
    /// For a log whose newest message was received at `seen_ms` (ms since 1970); 0 if it has none.
    pub fn new(seen_ms: u64) -> Clock {
        Clock {
            seen_ms,
            newest_ms: seen_ms,
            started_ms: None,
            ahead_ms: None,
        }
    }

    /// Both clocks as they are now. Must be told before anything is asked.
    pub fn observe(&mut self, mono_ms: u64, wall_ms: u64) {
        if self.ahead_ms.is_some() {
            return;
        }
        self.started_ms.get_or_insert(mono_ms as i64);
        if wall_ms >= self.seen_ms.max(CREDIBLE_MS) {
            self.ahead_ms = Some(wall_ms as i64 - mono_ms as i64);
        }
    }

    /// A message is received at this time of the wall clock.
    pub fn stamp(&mut self, wall_ms: u64) {
        self.newest_ms = self.newest_ms.max(wall_ms);
    }

    /// The newest receive time that was seen or given.
    pub fn newest_ms(&self) -> u64 {
        self.newest_ms
    }

    /// When what came before the node started happened, that carries this time of the wall clock:
    /// in ms of the monotonic clock, not above the start.
    pub(crate) fn before_start(&self, time_ms: u64) -> i64 {
        let started = self.started_ms.unwrap_or(0);
        match self.ahead_ms {
            Some(ahead) if time_ms >= CREDIBLE_MS => (time_ms as i64 - ahead).min(started),
            _ => started,
        }
    }
}

/// When the messages of one queue were received, on the monotonic clock.
#[derive(Clone, Debug)]
pub struct Received {
    /// Offsets below were there when the node started.
    start: u64,
    /// From which offset on the wall clock was ahead by how much.
    marks: VecDeque<(u64, i64)>,
}

impl Received {
    /// For a queue whose next offset is `start`.
    pub fn new(start: u64) -> Received {
        Received {
            start,
            marks: VecDeque::new(),
        }
    }

    /// Messages are appended from this offset on.
    #[inline]
    pub fn append(&mut self, first_offset: u64, mono_ms: u64, wall_ms: u64) {
        let ahead = wall_ms as i64 - mono_ms as i64;
        if self.marks.back().is_none_or(|(_, last)| *last != ahead) {
            self.marks.push_back((first_offset, ahead));
            if self.marks.len() > MARKS_MAX {
                self.marks.pop_front();
            }
        }
    }

    /// When a message was received that carries this time: in ms of the monotonic clock, below 0
    /// where that was before it began.
    pub fn at(&self, clock: &Clock, offset: u64, time_ms: u64) -> i64 {
        if offset < self.start {
            return clock.before_start(time_ms);
        }
        let after = self.marks.partition_point(|(first, _)| *first <= offset);
        let mark = self
            .marks
            .get(after.saturating_sub(1))
            .or(self.marks.front());
        let ahead = mark.map_or(0, |(_, ahead)| *ahead);
        time_ms as i64 - ahead
    }

    /// Messages below `first` are gone.
    pub fn trim(&mut self, first: u64) {
        while self.marks.get(1).is_some_and(|(next, _)| *next <= first) {
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_700_000_000_000;

    #[test]
    fn jumps_of_the_wall_clock_move_nothing_while_the_node_lives() {
        let mut clock = Clock::new(0);
        let mut received = Received::new(0);
        let wall = [T, T + 9, T - 5_000_000, T + 1_000_000_000, 40];
        for (offset, wall) in wall.into_iter().enumerate() {
            let mono = 100 + offset as u64 * 10;
            clock.observe(mono, wall);
            received.append(offset as u64, mono, wall);
        }
        for (offset, wall) in wall.into_iter().enumerate() {
            let at = received.at(&clock, offset as u64, wall);
            assert_eq!(at, 100 + offset as i64 * 10);
        }
        received.trim(3);
        assert_eq!(received.at(&clock, 4, 40), 140);
    }

    #[test]
    fn what_is_older_than_the_node_goes_by_the_wall_clock() {
        let mut clock = Clock::new(T);
        let received = Received::new(9);
        clock.observe(500, T + 3000);
        assert_eq!(received.at(&clock, 3, T - 1000), 500 - 4000);
        // A receive time of the future is now.
        assert_eq!(received.at(&clock, 3, T + 9000), 500);
        // Later jumps are not asked.
        clock.observe(600, T + 1_000_000);
        assert_eq!(received.at(&clock, 3, T - 1000), 500 - 4000);
    }

    #[test]
    fn a_clock_behind_the_log_is_not_believed() {
        let mut clock = Clock::new(T);
        let received = Received::new(9);
        clock.observe(500, T - 1);
        assert_eq!(received.at(&clock, 3, T - 10_000), 500);
        clock.observe(700, T);
        assert_eq!(received.at(&clock, 3, T - 10_000), 700 - 10_000);
        // Nor is a time that was stamped by a clock that was never set.
        assert_eq!(received.at(&clock, 3, 1234), 500);
        let mut unset = Clock::new(0);
        unset.observe(5, 99);
        assert_eq!(received.at(&unset, 3, 50), 5);
    }

    #[test]
    fn the_marks_are_bounded() {
        let clock = Clock::new(0);
        let mut received = Received::new(0);
        for offset in 0..5000 {
            received.append(offset, offset, T + 2 * offset);
        }
        assert_eq!(received.marks.len(), MARKS_MAX);
        assert_eq!(received.at(&clock, 4999, T + 9998), 4999);
        // The oldest goes by the oldest mark.
        assert!(received.at(&clock, 0, T) <= 0);
    }
}
