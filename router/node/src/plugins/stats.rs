//! What a slot has done, over all routes, workers and versions: counted where it happens, read by
//! whoever asks.
//!
//! Left out: what a plugin counts of itself (its own metrics).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{mono_s, wall_ms};

/// Failures that are kept with their words.
const ERRORS_MAX: usize = 16;
/// Of the words of one.
const ERROR_BYTES_MAX: usize = 2 << 10;
/// Seconds that the rate is taken over.
const RATE_SECONDS: u64 = 10;

/// Counters of a slot.
#[derive(Debug, Default)]
pub struct PluginStats {
    /// Calls into the guest.
    pub calls: AtomicU64,
    /// Messages of those calls.
    pub messages: AtomicU64,
    /// Calls that failed.
    pub failures: AtomicU64,
    /// Of these, those that cost the instance: traps, deadlines, memory.
    pub traps: AtomicU64,
    /// Time inside those calls, in ns.
    pub busy_ns: AtomicU64,
    /// Instances alive.
    pub instances: AtomicU64,
    /// Calls by their time.
    pub times: Times,
    rate: Rate,
    errors: Mutex<VecDeque<Failed>>,
}

/// A failure, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Milliseconds since 1970, the last time.
    pub time_ms: u64,
    /// What happened.
    pub text: String,
    /// How often in a row with the same words.
    pub times: u64,
}

impl PluginStats {
    /// A call of so many messages has ended, however it ended.
    pub fn called(&self, took: Duration, messages: u64) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Relaxed);
        self.messages.fetch_add(messages, Relaxed);
        self.busy_ns.fetch_add(ns, Relaxed);
        self.times.count(ns);
        self.rate.add(mono_s(), messages);
    }

    /// A call failed, or an instance does not start.
    pub fn failed(&self, why: impl Into<String>, cost_the_instance: bool) {
        self.failures.fetch_add(1, Relaxed);
        self.traps.fetch_add(u64::from(cost_the_instance), Relaxed);
        let (mut text, time_ms) = (why.into(), wall_ms());
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        let mut errors = self.errors();
        if let Some(last) = errors.back_mut().filter(|last| last.text == text) {
            last.times += 1;
            last.time_ms = time_ms;
            return;
        }
        if errors.len() >= ERRORS_MAX {
            errors.pop_front();
        }
        errors.push_back(Failed {
            time_ms,
            text,
            times: 1,
        });
    }

    /// The last failures, oldest first.
    pub fn last_errors(&self) -> Vec<Failed> {
        self.errors().iter().cloned().collect()
    }

    /// The last failure.
    pub fn last_error(&self) -> Option<String> {
        self.errors().back().map(|failed| failed.text.clone())
    }

    /// Messages a second, over the last seconds.
    pub fn messages_per_second(&self) -> u64 {
        self.rate.get(mono_s())
    }

    /// The counters now, for a difference later.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            calls: self.calls.load(Relaxed),
            messages: self.messages.load(Relaxed),
            failures: self.failures.load(Relaxed),
            traps: self.traps.load(Relaxed),
            busy_ns: self.busy_ns.load(Relaxed),
            times: self.times.snapshot(),
        }
    }

    /// Each push or pop leaves a whole list, so that a panic elsewhere does not spoil it.
    fn errors(&self) -> MutexGuard<'_, VecDeque<Failed>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters of one moment, or between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// See [`PluginStats::calls`].
    pub calls: u64,
    /// See [`PluginStats::messages`].
    pub messages: u64,
    /// See [`PluginStats::failures`].
    pub failures: u64,
    /// See [`PluginStats::traps`].
    pub traps: u64,
    /// See [`PluginStats::busy_ns`].
    pub busy_ns: u64,
    times: Vec<u64>,
}

impl Snapshot {
    /// What happened since `earlier`.
    pub fn since(&self, earlier: &Snapshot) -> Snapshot {
        let before = |bucket: usize| earlier.times.get(bucket).copied().unwrap_or(0);
        let times = self.times.iter().enumerate();
        Snapshot {
            calls: self.calls.saturating_sub(earlier.calls),
            messages: self.messages.saturating_sub(earlier.messages),
            failures: self.failures.saturating_sub(earlier.failures),
            traps: self.traps.saturating_sub(earlier.traps),
            busy_ns: self.busy_ns.saturating_sub(earlier.busy_ns),
            times: times
                .map(|(bucket, count)| count.saturating_sub(before(bucket)))
                .collect(),
        }
    }

    /// The time in ns below which this share of the calls was, at most a fifth too high; 0 where
    /// there was no call.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let total: u64 = self.times.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.times.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return bound(bucket);
            }
        }
        0
    }
}

/// The first bucket ends at 2^10 ns; each octave has four.
const OCTAVE_FIRST: u32 = 10;
/// The last octave ends at 2^36 ns, 69 s: longer than any deadline.
const OCTAVES: usize = 26;
const BUCKETS: usize = OCTAVES * 4 + 1;

/// Calls by their time, in buckets that grow by a quarter of an octave.
#[derive(Debug)]
pub struct Times([AtomicU64; BUCKETS]);

impl Default for Times {
    fn default() -> Times {
        Times(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

fn bucket(ns: u64) -> usize {
    if ns < 1 << OCTAVE_FIRST {
        return 0;
    }
    let octave = ns.ilog2();
    let quarter = (ns >> (octave - 2)) & 3;
    let bucket = 1 + (octave - OCTAVE_FIRST) as usize * 4 + quarter as usize;
    bucket.min(BUCKETS - 1)
}

/// The upper end of a bucket in ns.
fn bound(bucket: usize) -> u64 {
    if bucket == 0 {
        return 1 << OCTAVE_FIRST;
    }
    let (octave, quarter) = ((bucket - 1) / 4, (bucket - 1) % 4);
    (5 + quarter as u64) << (octave as u32 + OCTAVE_FIRST - 2)
}

impl Times {
    fn count(&self, ns: u64) {
        self.0[bucket(ns)].fetch_add(1, Relaxed);
    }

    fn snapshot(&self) -> Vec<u64> {
        self.0.iter().map(|count| count.load(Relaxed)).collect()
    }

    /// Bounds in seconds and counts up to them, one bound an octave of octaves, for metrics.
    pub fn cumulative(&self) -> (Vec<(f64, u64)>, u64) {
        let counts = self.snapshot();
        let mut total = 0;
        let mut bounds = Vec::new();
        for (bucket, count) in counts.iter().enumerate() {
            total += count;
            // Each second octave.
            if bucket % 8 == 0 && bucket + 1 < BUCKETS {
                bounds.push((bound(bucket) as f64 / 1e9, total));
            }
        }
        (bounds, total)
    }
}

/// Counts by second, in a ring. A cell is the second's low half and a count.
#[derive(Debug, Default)]
struct Rate([AtomicU64; 16]);

impl Rate {
    fn cell(&self, second: u64) -> &AtomicU64 {
        &self.0[(second % self.0.len() as u64) as usize]
    }

    fn add(&self, second: u64, count: u64) {
        let mark = (second & 0xffff_ffff) << 32;
        let grown = |cell: u64| {
            let before = if cell & !0xffff_ffff == mark {
                cell & 0xffff_ffff
            } else {
                0
            };
            Some(mark | (before + count).min(0xffff_ffff))
        };
        // It is always some.
        let _ = self.cell(second).fetch_update(Relaxed, Relaxed, grown);
    }

    /// A second that is not over counts for nothing.
    fn get(&self, now: u64) -> u64 {
        let seconds = now.saturating_sub(RATE_SECONDS)..now;
        let count = |second: u64| {
            let cell = self.cell(second).load(Relaxed);
            let is_it = cell >> 32 == second & 0xffff_ffff;
            if is_it { cell & 0xffff_ffff } else { 0 }
        };
        let length = (seconds.end - seconds.start).max(1);
        seconds.map(count).sum::<u64>() / length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_their_bounds_hold() {
        let mut last = 0;
        for ns in (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + (1 << bit) / 3])
        {
            let bucket = bucket(ns);
            assert!(bucket < BUCKETS);
            if ns < 1 << 36 {
                assert!(ns <= bound(bucket), "{ns}");
                assert!(
                    ns < 1024 || bound(bucket) - ns <= ns / 4 + 1,
                    "{ns} {}",
                    bound(bucket)
                );
            }
            assert!(bucket >= last || ns == 0, "{ns}");
            last = bucket;
        }
    }

    #[test]
    fn quantiles_are_those_of_what_came_between() {
        let stats = PluginStats::default();
        assert_eq!(stats.snapshot().quantile_ns(0.5), 0);
        for _ in 0..100 {
            stats.called(Duration::from_millis(50), 1);
        }
        let before = stats.snapshot();
        for _ in 0..99 {
            stats.called(Duration::from_micros(100), 10);
        }
        stats.called(Duration::from_millis(20), 10);
        let since = stats.snapshot().since(&before);
        assert_eq!((since.calls, since.messages), (100, 1000));
        let (p50, p99) = (since.quantile_ns(0.5), since.quantile_ns(0.995));
        assert!((100_000..130_000).contains(&p50), "{p50}");
        assert!((20_000_000..26_000_000).contains(&p99), "{p99}");
        let (bounds, total) = stats.times.cumulative();
        assert_eq!(total, 200);
        assert!(
            bounds
                .windows(2)
                .all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1)
        );
    }

    #[test]
    fn the_rate_forgets() {
        let rate = Rate::default();
        rate.add(100, 5_000);
        rate.add(100, 5_000);
        assert_eq!(rate.get(100), 0, "the second is not over");
        assert_eq!(rate.get(101), 1_000);
        assert_eq!(rate.get(110), 1_000);
        assert_eq!(rate.get(111), 0);
        rate.add(116, 20);
        assert_eq!(rate.get(117), 2, "its cell was that of second 100");
    }

    #[test]
    fn failures_are_kept_with_a_bound() {
        let stats = PluginStats::default();
        for n in 0..100 {
            stats.failed(format!("trap {}", n / 2), n % 2 == 0);
        }
        assert_eq!(stats.failures.load(Relaxed), 100);
        assert_eq!(stats.traps.load(Relaxed), 50);
        let errors = stats.last_errors();
        assert_eq!(errors.len(), ERRORS_MAX);
        assert_eq!((errors[15].text.as_str(), errors[15].times), ("trap 49", 2));
        stats.failed("ü".repeat(5_000), false);
        assert!(stats.last_error().unwrap().len() <= ERROR_BYTES_MAX);
    }
}
