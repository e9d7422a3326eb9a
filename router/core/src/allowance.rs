//! How long the failed calls of a plugin may hold up the messages of others.
//!
//! A bucket of time: a failed call pours in what it took, and it leaks at a steady rate. While more
//! is in it than a burst may be, the plugin's messages are to be kept apart from those of others.
//! So what others wait for it stays below the rate, whatever it does.

/// The bounds of an [`Allowance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What leaks, in µs of failed calls for each ms that passes: the share of a thread's time, in
    /// thousandths.
    pub leak_us_per_ms: u64,
    /// What may be in the bucket before the plugin is kept apart, in µs.
    pub burst_us: u64,
    /// What the bucket holds at most, in µs: it bounds how long a plugin that has come to its senses
    /// is kept apart.
    pub most_us: u64,
}

impl Default for Options {
    /// Half a percent of a thread, 5 ms at once, nine seconds apart at most: one message in a
    /// hundred may wait longer before the 99th percentile of the others' times shows it.
    fn default() -> Options {
        Options {
            leak_us_per_ms: 5,
            burst_us: 5_000,
            most_us: 50_000,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Allowance {
    options: Options,
    level_us: u64,
    /// When the level was that, in ms on the monotonic clock.
    at: u64,
}

impl Allowance {
    /// One of which nothing was used.
    pub fn new(options: Options) -> Allowance {
        Allowance {
            options,
            level_us: 0,
            at: 0,
        }
    }

    /// A call failed that took so long. Gives until when the plugin is to be kept apart, in ms on
    /// the monotonic clock, if it is.
    pub fn used(&mut self, now: u64, took_us: u64) -> Option<u64> {
        let Options {
            leak_us_per_ms,
            burst_us,
            most_us,
        } = self.options;
        let leaked = now.saturating_sub(self.at).saturating_mul(leak_us_per_ms);
        let level = self.level_us.saturating_sub(leaked).saturating_add(took_us);
        self.level_us = level.min(most_us);
        self.at = now.max(self.at);
        let above = self.level_us.checked_sub(burst_us).filter(|us| *us > 0)?;
        Some(
            self.at
                .saturating_add(above.div_ceil(leak_us_per_ms.max(1))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_failures_keep_nobody_apart() {
        let mut allowance = Allowance::new(Options::default());
        // 20 traps a second that take 200 µs each: 4 ms.
        for n in 0..10_000 {
            assert_eq!(allowance.used(n * 50, 200), None, "{n}");
        }
    }

    #[test]
    fn a_long_one_does_for_as_long_as_it_is_worth() {
        let mut allowance = Allowance::new(Options::default());
        assert_eq!(allowance.used(1000, 20_000), Some(1000 + 3000));
        // It is over, but not forgotten.
        assert_eq!(allowance.used(4000, 0), None);
        assert_eq!(allowance.used(4000, 500), Some(4100));
        assert_eq!(allowance.used(60_000, 5_000), None);
    }

    #[test]
    fn what_it_holds_is_bounded() {
        let mut allowance = Allowance::new(Options::default());
        for _ in 0..100 {
            allowance.used(10, 20_000);
        }
        assert_eq!(allowance.used(10, u64::MAX), Some(10 + 9000));
        // A clock that was read before another was.
        assert_eq!(allowance.used(9, 0), Some(10 + 9000));
    }
}
