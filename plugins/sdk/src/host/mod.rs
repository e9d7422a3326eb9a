//! What a plugin may ask of the router.
//!
//! | module | gives | granted |
//! |---|---|---|
//! | here | [`log()`], [`now_ms`], [`monotonic_ns`] | unless the configuration says otherwise |
//! | [`random`] | randomness | unless the configuration says otherwise |
//! | [`metrics`] | [`Counter`], [`Gauge`], [`Histogram`] | unless the configuration says otherwise |
//! | [`state`] | keys and values that the router keeps | with `state` |
//! | [`publish`] | messages beside the answer | with `publish`, for its topics |
//! | [`timer`] | a call of [`Plugin::on_timer`](crate::Plugin::on_timer) | with `timer` |
//!
//! Only what is called becomes an import of the component. In unit tests all of it works on the
//! stand-in of [`testing`](crate::testing).

pub mod metrics;
pub mod publish;
pub mod random;
pub mod state;
pub mod timer;

pub use crate::raw::log::Level;
pub use metrics::{Counter, Gauge, Histogram};

#[cfg(target_arch = "wasm32")]
use crate::raw as imported;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::standin as imported;

/// Writes a line to the router's log. Past the plugin's limit of bytes a second, lines are counted
/// and thrown away.
pub fn log(level: Level, message: &str) {
    imported::log::log(level, message);
}

/// The wall clock, in ms since 1970; it may jump.
pub fn now_ms() -> u64 {
    imported::clock::now_ms()
}

/// A clock that never goes back, in ns from an arbitrary start.
pub fn monotonic_ns() -> u64 {
    imported::clock::monotonic_ns()
}

/// Bytes that the payload of a message of the present call has from `offset`; at most 1 MiB at once.
pub(crate) fn read_payload(message: u32, offset: u32, len: u32) -> Result<Vec<u8>, String> {
    imported::payload::read(message, offset, len)
}
