//! The node's clock: the one place where time is read for decisions.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use waypost_shard::Now;

/// Reads both clocks. The monotonic one counts from the node's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub fn new() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    pub fn now(&self) -> Now {
        Now {
            mono_ms: self.mono_ms(),
            wall_ms: wall_ms(),
        }
    }

    pub fn mono_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// Since 1970, in ms; 0 before that.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

/// CPU time of this thread, in ns.
pub(crate) fn thread_cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, ns) = (now.tv_sec as u64, now.tv_nsec as u64);
    seconds.saturating_mul(1_000_000_000).saturating_add(ns)
}

/// Whole seconds of a clock that never goes back, since the first call.
pub(crate) fn mono_s() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs()
}
