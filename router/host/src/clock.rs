//! What the import `clock` says.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The time, for whoever tries a plugin in a time of its own. A node leaves it to [`SystemClock`].
pub trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
    /// Nanoseconds since some moment, never fewer than before.
    fn monotonic_ns(&self) -> u64;
}

/// The machine's.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// Monotonic time begins now.
    pub fn new() -> SystemClock {
        SystemClock(Instant::now())
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
