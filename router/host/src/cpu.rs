//! How much CPU time a plugin may use in a second, over all its instances.
//!
//! The meter refuses nothing by itself: a call that has begun may end, and what it used is charged
//! afterwards. Whoever is about to call asks [`CpuMeter::admit`] first and, when the answer is no,
//! does something better than to run the guest or to wait on its thread: it holds the batch back
//! for as long as the answer says, which slows the publishers that feed this plugin and nobody
//! else, or treats the messages as `on_error` says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A plugin has used its share of the present second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("used {} ms of CPU time a second, its limit; free again in {} ms",
    limit.as_millis(), wait.as_millis())]
pub struct CpuSpent {
    /// [`Limits::cpu_per_second`](crate::Limits::cpu_per_second).
    pub limit: Duration,
    /// When the next call may begin, from the time that was asked about; at least 1 ms.
    pub wait: Duration,
}

/// What was used, as the time until which it takes to be paid for.
///
/// The invariant: over any span of n seconds, no more than n + 1 seconds' worth is admitted, and
/// what the calls that were running then go over.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    per_second: Duration,
    start: Instant,
    /// ns from `start`.
    paid_at: AtomicU64,
    /// ns that were ever used.
    used: AtomicU64,
}

/// What may be used at once: the share of one second.
const BURST: Duration = Duration::from_secs(1);

impl CpuMeter {
    pub(crate) fn new(per_second: Duration, start: Instant) -> CpuMeter {
        CpuMeter {
            per_second,
            start,
            paid_at: AtomicU64::new(0),
            used: AtomicU64::new(0),
        }
    }

    fn at(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.start))
    }

    /// Whether a call may begin.
    #[inline]
    pub(crate) fn admit(&self, now: Instant) -> Result<(), CpuSpent> {
        let free_at = self
            .paid_at
            .load(Ordering::Relaxed)
            .saturating_sub(nanos(BURST));
        match free_at.checked_sub(self.at(now)) {
            None | Some(0) => Ok(()),
            Some(wait) => Err(CpuSpent {
                limit: self.per_second,
                wait: Duration::from_nanos(wait).max(Duration::from_millis(1)),
            }),
        }
    }

    /// Charges what a call has used.
    #[inline]
    pub(crate) fn charge(&self, used: Duration, now: Instant) {
        let used = nanos(used);
        self.used.fetch_add(used, Ordering::Relaxed);
        let share = nanos(self.per_second).max(1);
        let takes = u128::from(used) * u128::from(nanos(BURST)) / u128::from(share);
        let takes = u64::try_from(takes).unwrap_or(u64::MAX);
        let now = self.at(now);
        let pay = |paid_at: u64| Some(paid_at.max(now).saturating_add(takes));
        // It fails only where the closure gives nothing, and this one always does.
        let _paid = self
            .paid_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
    }

    /// All that was ever used.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_over_a_seconds_share_waits_and_is_paid_off() {
        let start = Instant::now();
        let meter = CpuMeter::new(MS * 100, start);
        assert_eq!(meter.admit(start), Ok(()));
        meter.charge(MS * 100, start);
        assert_eq!(meter.admit(start), Ok(()), "just its share");
        meter.charge(MS * 10, start);
        let spent = meter.admit(start).expect_err("110 of 100 ms");
        assert_eq!((spent.limit, spent.wait), (MS * 100, MS * 100));
        let text = "used 100 ms of CPU time a second, its limit; free again in 100 ms";
        assert_eq!(spent.to_string(), text);
        assert!(meter.admit(start + MS * 99).is_err());
        assert_eq!(meter.admit(start + MS * 100), Ok(()));
        assert_eq!(meter.used(), MS * 110);
    }

    #[test]
    fn idle_seconds_are_not_saved_up() {
        let start = Instant::now();
        let meter = CpuMeter::new(MS * 100, start);
        let later = start + MS * 60_000;
        meter.charge(MS * 200, later);
        assert_eq!(
            meter.admit(later).expect_err("200 of 100 ms").wait,
            MS * 1_000
        );
    }

    #[test]
    fn several_cores_may_be_granted_and_nothing_may() {
        let start = Instant::now();
        let meter = CpuMeter::new(MS * 4_000, start);
        meter.charge(MS * 3_999, start);
        assert_eq!(meter.admit(start), Ok(()));
        let none = CpuMeter::new(Duration::ZERO, start);
        assert_eq!(none.admit(start), Ok(()), "it has not run yet");
        none.charge(MS, start);
        assert!(none.admit(start + MS * 60_000).is_err());
    }
}
