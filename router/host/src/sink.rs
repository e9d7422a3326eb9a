//! Where log lines and metrics of plugins go, and how much of the log there may be.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::Level;

/// Takes what plugins log and count. The node passes one that goes on to `tracing` and to its
/// metrics. Calls come from any thread that runs a plugin and must not block.
pub trait Sink: Send + Sync {
    /// A line, already within the plugin's rate. At most [`LOG_LINE_BYTES_MAX`] bytes.
    fn log(&self, plugin: &str, level: Level, line: &str);

    /// Lines that were thrown away since the last one that was let through.
    fn log_dropped(&self, plugin: &str, lines: u64);

    /// One metric changed. `name` is valid for Prometheus, without any prefix.
    fn metric(&self, plugin: &str, name: &str, sample: Sample);
}

/// A change of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// A counter grew by this.
    Add(u64),
    /// A gauge has this value now.
    Set(f64),
    /// A histogram saw this value.
    Observe(f64),
}

/// Forgets everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl Sink for NoSink {
    fn log(&self, _: &str, _: Level, _: &str) {}
    fn log_dropped(&self, _: &str, _: u64) {}
    fn metric(&self, _: &str, _: &str, _: Sample) {}
}

/// The longest line that reaches the log; what is longer is cut at a character. 8 KiB.
pub const LOG_LINE_BYTES_MAX: usize = 8 << 10;

/// A bucket of log bytes for all instances of a plugin: it holds one second's worth.
#[derive(Debug)]
pub(crate) struct LogMeter {
    bytes_per_second: u32,
    start: Instant,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    bytes: f64,
    at: Duration,
    dropped: u64,
}

impl LogMeter {
    pub(crate) fn new(bytes_per_second: u32) -> LogMeter {
        let bucket = Bucket {
            bytes: f64::from(bytes_per_second),
            at: Duration::ZERO,
            dropped: 0,
        };
        LogMeter {
            bytes_per_second,
            start: Instant::now(),
            bucket: Mutex::new(bucket),
        }
    }

    /// Whether a line of so many bytes may go on; if so, how many did not before it.
    pub(crate) fn admit(&self, bytes: usize) -> Option<u64> {
        self.admit_at(bytes, self.start.elapsed())
    }

    fn admit_at(&self, bytes: usize, now: Duration) -> Option<u64> {
        let mut bucket = self
            .bucket
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let rate = f64::from(self.bytes_per_second);
        let grown = bucket.bytes + now.saturating_sub(bucket.at).as_secs_f64() * rate;
        bucket.bytes = grown.min(rate);
        bucket.at = now;
        // The overhead of a line counts too, or empty ones would be free.
        let cost = (bytes + 32) as f64;
        if bucket.bytes < cost {
            bucket.dropped += 1;
            return None;
        }
        bucket.bytes -= cost;
        Some(std::mem::take(&mut bucket.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let meter = LogMeter::new(1_000);
        assert_eq!(meter.admit_at(468, Duration::ZERO), Some(0));
        assert_eq!(meter.admit_at(468, Duration::ZERO), Some(0));
        assert_eq!(meter.admit_at(0, Duration::ZERO), None);
        assert_eq!(meter.admit_at(0, Duration::ZERO), None);
        assert_eq!(meter.admit_at(468, Duration::from_millis(500)), Some(2));
        assert_eq!(
            meter.admit_at(469, Duration::from_secs(1)),
            None,
            "a second refills 1,000"
        );
    }
}
