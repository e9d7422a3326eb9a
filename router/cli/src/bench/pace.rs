//! When the messages of an open loop are to leave.
//!
//! Message `n` is meant to leave at `start + n / rate`, whatever became of those before: latencies
//! count from there, so that a stall shows in every message that it held up. tokio's timers tick
//! once a millisecond, ten messages at 10,000 a second; a timerfd is exact to some microseconds.

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// The schedule of one publisher.
pub struct Pace {
    timer: AsyncFd<OwnedFd>,
    schedule: Schedule,
    clock: Instant,
}

/// Due times, in ns of the run's clock.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start_ns: u64,
    interval_ns: f64,
}

impl Schedule {
    /// Message 0 at `start_ns`, then `rate` a second.
    pub fn new(start_ns: u64, rate: f64) -> Schedule {
        Schedule {
            start_ns,
            interval_ns: 1e9 / rate,
        }
    }

    /// When message `sequence` is to leave.
    pub fn due_ns(&self, sequence: u64) -> u64 {
        self.start_ns + (sequence as f64 * self.interval_ns) as u64
    }

    /// How many messages are to have left by `now_ns`.
    pub fn due_by(&self, now_ns: u64) -> u64 {
        match now_ns.checked_sub(self.start_ns) {
            Some(passed) => (passed as f64 / self.interval_ns) as u64 + 1,
            None => 0,
        }
    }
}

impl Pace {
    /// A timer for this schedule; `clock` is the run's. Needs a tokio runtime.
    pub fn new(schedule: Schedule, clock: Instant) -> Result<Pace> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("timerfd_create")?;
        // SAFETY: an `OwnedFd` holds one open descriptor, always the same, until it is dropped; the
        // `AsyncFd` owns it and gives out only shared references to it.
        let timer = unsafe { AsyncFd::register(timer) };
        Ok(Pace {
            timer: timer.map_err(std::io::Error::from).context("timerfd")?,
            schedule,
            clock,
        })
    }

    /// When messages are due.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// Waits until message `sequence` is due.
    pub async fn until(&self, sequence: u64) -> Result<()> {
        let due = self.schedule.due_ns(sequence);
        loop {
            let now = self.clock.elapsed().as_nanos() as u64;
            let Some(left) = due.checked_sub(now).filter(|left| *left > 0) else {
                return Ok(());
            };
            let value = Timespec {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_nsec: (left % 1_000_000_000) as _,
            };
            let spec = Itimerspec {
                it_interval: Timespec::default(),
                it_value: value,
            };
            timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &spec)
                .context("timerfd_settime")?;
            let mut ready = self.timer.readable().await.context("timerfd")?;
            let mut count = [0; 8];
            // Emptied or not yet due: either way the clock decides.
            let _ = rustix::io::read(self.timer.get_ref(), &mut count);
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_what_was_meant_to_leave() {
        let schedule = Schedule::new(1_000, 10_000.0);
        assert_eq!(schedule.due_by(999), 0);
        for sequence in [0, 1, 7, 12_345] {
            let due = schedule.due_ns(sequence);
            assert_eq!(schedule.due_by(due), sequence + 1);
            assert_eq!(schedule.due_by(due - 1), sequence);
        }
    }
}
