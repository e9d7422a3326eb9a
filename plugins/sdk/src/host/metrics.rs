//! Numbers for the router's metrics. Register them in `init`; at most 64.

use super::imported::metrics as imported;

/// A number that only grows.
#[derive(Clone, Copy, Debug)]
pub struct Counter(u32);

impl Counter {
    /// Registers it; call this in `init`. The name is `[a-z][a-z0-9_]*`, at most 64 bytes.
    pub fn new(name: &str) -> Counter {
        Counter(imported::counter(name))
    }

    /// Adds to it.
    pub fn add(self, delta: u64) {
        imported::add(self.0, delta);
    }
}

/// A number that goes up and down.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(u32);

impl Gauge {
    /// Registers it; call this in `init`. The name is `[a-z][a-z0-9_]*`, at most 64 bytes.
    pub fn new(name: &str) -> Gauge {
        Gauge(imported::gauge(name))
    }

    /// Sets it.
    pub fn set(self, value: f64) {
        imported::set(self.0, value);
    }
}

/// A distribution of numbers.
#[derive(Clone, Copy, Debug)]
pub struct Histogram(u32);

impl Histogram {
    /// Registers it; call this in `init`. The name is `[a-z][a-z0-9_]*`, at most 64 bytes.
    pub fn new(name: &str) -> Histogram {
        Histogram(imported::histogram(name))
    }

    /// Records one value.
    pub fn observe(self, value: f64) {
        imported::observe(self.0, value);
    }
}
