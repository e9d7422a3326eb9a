//! Plugins and routes that come to a running node over the network, and how they take effect.
//!
//! ```text
//! requests ── changes ─┬─ live ──────► routing   (a batch sees one of them)
//!  (who may) (a slot)  │  (prepare,    workers   (instances, before and after)
//!            routes ───┘   keep, swap)
//!                          store ────► <data dir>/plugins
//! ```
//!
//! What a guest does with a batch is for `workers`; who may do what, for `requests`.

mod changes;
mod copy;
mod error;
mod guard;
mod live;
mod logs;
mod pull;
mod record;
pub(crate) mod requests;
mod routes;
pub(crate) mod shadow;
mod slot;
mod stats;
mod store;
mod trust;

pub use copy::{CopyError, RestoredPlugins, restore_plugins};
pub(crate) use guard::Guard;
pub use live::check_conflicts;
pub(crate) use live::{Opening, Plugins};
pub(crate) use pull::pull_again;
pub(crate) use record::Pause;
pub(crate) use shadow::{Job, Shadow, ShadowPort};
pub(crate) use slot::Slot;
pub use slot::plugin_spec;
pub use stats::PluginStats;
pub use trust::{Untrusted, check_deployed_trust};
