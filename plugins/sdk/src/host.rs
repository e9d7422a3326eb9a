//! What a plugin may ask of the router: log lines, the time, metrics.
//!
//! Only what is called becomes an import of the component.

use crate::raw;

pub use raw::log::Level;

/// Writes a line to the router's log. Past the plugin's limit of bytes a second, lines are counted
/// and thrown away.
pub fn log(level: Level, message: &str) {
    raw::log::log(level, message);
}

/// The wall clock, in ms since 1970; it may jump.
pub fn now_ms() -> u64 {
    raw::clock::now_ms()
}

/// A clock that never goes back, in ns from an arbitrary start.
pub fn monotonic_ns() -> u64 {
    raw::clock::monotonic_ns()
}

/// A number that only grows.
#[derive(Clone, Copy, Debug)]
pub struct Counter(u32);

impl Counter {
    /// Registers it; call this in `init`. The name is `[a-z][a-z0-9_]*`, at most 64 bytes.
    pub fn new(name: &str) -> Counter {
        Counter(raw::metrics::counter(name))
    }

    /// Adds to it.
    pub fn add(self, delta: u64) {
        raw::metrics::add(self.0, delta);
    }
}

/// A number that goes up and down.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(u32);

impl Gauge {
    /// Registers it; call this in `init`. The name is `[a-z][a-z0-9_]*`, at most 64 bytes.
    pub fn new(name: &str) -> Gauge {
        Gauge(raw::metrics::gauge(name))
    }

    /// Sets it.
    pub fn set(self, value: f64) {
        raw::metrics::set(self.0, value);
    }
}

/// A distribution of numbers.
#[derive(Clone, Copy, Debug)]
pub struct Histogram(u32);

impl Histogram {
    /// Registers it; call this in `init`. The name is `[a-z][a-z0-9_]*`, at most 64 bytes.
    pub fn new(name: &str) -> Histogram {
        Histogram(raw::metrics::histogram(name))
    }

    /// Records one value.
    pub fn observe(self, value: f64) {
        raw::metrics::observe(self.0, value);
    }
}
