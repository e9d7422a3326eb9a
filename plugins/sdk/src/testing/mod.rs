//! Unit tests of plugins, on the machine that builds: a stand-in for the router, and batches.
//!
//! ```
//! use waypost_plugin::testing::{self, Input};
//! use waypost_plugin::{host, Config, Filter, InitError, Interest, Message, Plugin};
//! # use waypost_plugin::{Answer, Decision};
//!
//! struct Once;
//!
//! impl Plugin for Once {
//!     fn init(_: &Config) -> Result<(Once, Interest), InitError> {
//!         Ok((Once, Interest::nothing().field("message-id")))
//!     }
//! }
//!
//! impl Filter for Once {
//!     fn filter(&mut self, message: &Message<'_>) -> Answer {
//!         match host::state::insert(message.message_id().unwrap_or_default(), "", 1_000) {
//!             Ok(true) => Decision::Pass.into(),
//!             Ok(false) => Decision::Drop.into(),
//!             Err(_) => Decision::Retry.into(),
//!         }
//!     }
//! }
//!
//! let (mut once, interest) = testing::init::<Once>(&[]).expect("starts");
//! let message = || Input::new("a/b", "payload").message_id("7");
//! let batch = testing::batch(&interest, [message(), message()]);
//! let each = once.filter_batch(&batch).expect("decisions").each;
//! assert_eq!(each, [Decision::Pass, Decision::Drop]);
//! testing::advance_ms(1_000);
//! let batch = testing::batch(&interest, [message()]);
//! assert_eq!(once.filter_batch(&batch).expect("decisions").each, [Decision::Pass]);
//! ```
//!
//! The stand-in keeps to the contract's rules (sizes of keys and values, expiry, `init` may not
//! write), but knows no grants, and does not take back what a failed call did. It belongs to the
//! thread, so tests do not see each other's. It is not in a component.

mod input;
pub(crate) mod standin;

use std::collections::BTreeMap;

use crate::raw::log::Level;
use crate::{Config, InitError, Interest, Outgoing, Plugin, host};

pub use input::{Input, batch};

use standin::{Router, with};

/// Forgets all: state, messages, log lines, metrics, the timer, the time.
pub fn reset() {
    with(|router| *router = Router::new());
}

/// Calls `init` with settings, as the router does.
pub fn init<P: Plugin>(settings: &[(&str, &str)]) -> Result<(P, Interest), InitError> {
    init_route(settings, &[])
}

/// The same for a plugin that has destinations to choose from.
pub fn init_route<P: Plugin>(
    settings: &[(&str, &str)],
    destinations: &[&str],
) -> Result<(P, Interest), InitError> {
    let text = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let config = Config {
        plugin: "test".into(),
        role: "test".into(),
        instance: 0,
        settings: settings.iter().map(text).collect(),
        destinations: destinations.iter().map(|name| name.to_string()).collect(),
    };
    with(|router| router.in_init = true);
    let started = P::init(&config);
    with(|router| router.in_init = false);
    started
}

/// Lets time go by, on both clocks: values of the state expire. The clock stands at 1,000,000 ms
/// at first, and still otherwise.
pub fn advance_ms(ms: u64) {
    with(|router| router.now_ms += ms);
}

/// What was published since the last look: causes and messages.
pub fn take_published() -> Vec<(u32, Outgoing)> {
    with(|router| std::mem::take(&mut router.published))
}

/// From now on, `left` messages can be published, and then each is refused so; with `None`, all can.
pub fn refuse_publish(left: usize, refusal: Option<host::publish::Refusal>) {
    with(|router| router.publish_refusal = refusal.map(|refusal| (left, refusal)));
}

/// Lines that were logged since the last look.
pub fn take_log() -> Vec<(Level, String)> {
    with(|router| std::mem::take(&mut router.log))
}

/// What the timer was last set to, in ms, and forgets it; 0 if it was stopped.
pub fn take_timer() -> Option<u32> {
    with(|router| router.timer.take())
}

/// All keys and values of the state that have not expired.
pub fn state() -> BTreeMap<Vec<u8>, Vec<u8>> {
    with(|router| router.living())
}

/// The most bytes of keys and values that the state takes from now on.
pub fn limit_state(bytes: usize) {
    with(|router| router.state_bytes_max = bytes);
}

/// The value of a counter; 0 if it is not there.
pub fn counter(name: &str) -> u64 {
    with(|router| router.metric(name).map_or(0, |metric| metric.sum))
}

/// What a gauge was last set to.
pub fn gauge(name: &str) -> Option<f64> {
    with(|router| router.metric(name)?.values.last().copied())
}

/// What a histogram has observed.
pub fn observed(name: &str) -> Vec<f64> {
    with(|router| {
        router
            .metric(name)
            .map(|metric| metric.values.clone())
            .unwrap_or_default()
    })
}

#[cfg(test)]
mod tests;
