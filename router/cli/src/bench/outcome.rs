//! What a run measured.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::process::Use;

/// The figures of one run, all of them over the measured time only, except where said.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The measured time.
    pub seconds: f64,
    /// Messages a second.
    pub rates: Rates,
    /// From when a message was to leave to its confirm.
    pub confirm: Latency,
    /// From when a message was to leave to its arrival at a receiver.
    pub end_to_end: Latency,
    /// Messages of the whole run; each was delivered as often as it had to be.
    pub messages: u64,
    /// Messages of the whole run that arrived before an earlier one of the same publisher.
    pub reordered: u64,
    /// The process that served, where it was started for this run.
    pub server: Option<Use>,
}

/// Messages a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    /// Handed to the client library.
    pub published: f64,
    /// Confirmed by the node.
    pub confirmed: f64,
    /// Received.
    pub delivered: f64,
    /// Payload bytes received, in 10^6 a second.
    pub delivered_megabytes: f64,
}

/// Percentiles of a latency, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// How many messages.
    pub count: u64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Latency {
    /// Of a histogram of ns.
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        if histogram.is_empty() {
            return Latency::default();
        }
        let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            count: histogram.len(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}
