//! The time of a trial: that of its messages, so that timers and windows can be tried without waiting.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use waypost_host::{Clock, SystemClock};

/// The shortest timer, as in a router.
const TIMER_MS_MIN: u64 = 10;
/// Rings in one trial: far more than a test looks at, and few enough to come to an end.
const RINGS_MAX: u64 = 100_000;

/// What `clock` says in a trial: the machine's time, or one that the trial sets.
#[derive(Debug, Default)]
pub struct TrialClock {
    /// 0: the machine's.
    now_ms: AtomicU64,
    machine: SystemClock,
}

impl TrialClock {
    /// From now on it is this time.
    pub fn set(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Relaxed);
    }

    /// From now on it is the machine's time.
    pub fn clear(&self) {
        self.set(0);
    }
}

impl Clock for TrialClock {
    fn now_ms(&self) -> u64 {
        match self.now_ms.load(Relaxed) {
            0 => self.machine.now_ms(),
            now_ms => now_ms,
        }
    }

    fn monotonic_ns(&self) -> u64 {
        match self.now_ms.load(Relaxed) {
            0 => self.machine.monotonic_ns(),
            now_ms => now_ms.saturating_mul(1_000_000),
        }
    }
}

/// Where a trial is in its own time, and when the plugin wants to be woken.
#[derive(Debug)]
pub struct Course {
    now_ms: u64,
    due_ms: Option<u64>,
    rings: u64,
}

impl Course {
    /// Begins at this time.
    pub fn new(now_ms: u64) -> Course {
        Course {
            now_ms,
            due_ms: None,
            rings: 0,
        }
    }

    /// What time it is.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Time goes on to `to_ms`, never back.
    pub fn go_to(&mut self, to_ms: u64) {
        self.now_ms = self.now_ms.max(to_ms);
    }

    /// The plugin asked for a timer, or stopped it with 0.
    pub fn ask(&mut self, timer_ms: Option<u32>) {
        match timer_ms {
            None => {}
            Some(0) => self.due_ms = None,
            Some(ms) => {
                let ms = u64::from(ms).max(TIMER_MS_MIN);
                self.due_ms = Some(self.now_ms.saturating_add(ms));
            }
        }
    }

    /// Goes to the next ring, if it is not after `to_ms`; an error where there were too many.
    pub fn ring(&mut self, to_ms: u64) -> Result<bool, String> {
        let Some(due_ms) = self.due_ms.filter(|due_ms| *due_ms <= to_ms) else {
            return Ok(false);
        };
        self.rings += 1;
        if self.rings > RINGS_MAX {
            return Err(format!(
                "the timer rang {RINGS_MAX} times: the messages are too far apart for it"
            ));
        }
        self.due_ms = None;
        self.go_to(due_ms);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_rings_once_and_when_it_is_due() {
        let mut course = Course::new(1_000);
        assert_eq!(course.ring(5_000), Ok(false));
        course.ask(Some(1));
        course.ask(None);
        assert_eq!(course.ring(1_009), Ok(false));
        assert_eq!((course.ring(5_000), course.now_ms()), (Ok(true), 1_010));
        assert_eq!(course.ring(5_000), Ok(false));
        course.ask(Some(100));
        course.ask(Some(0));
        assert_eq!(course.ring(5_000), Ok(false));
        course.go_to(900);
        assert_eq!(course.now_ms(), 1_010, "never back");
    }

    #[test]
    fn there_is_an_end_of_it() {
        let mut course = Course::new(0);
        let mut rings = 0;
        let error = loop {
            course.ask(Some(10));
            match course.ring(u64::MAX) {
                Ok(_) => rings += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(rings, RINGS_MAX);
        assert!(error.contains("too far apart"), "{error}");
    }
}
