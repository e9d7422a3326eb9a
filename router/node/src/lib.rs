//! A running router: sockets, clock, tasks, disk, configuration, admin, metrics.
//!
//! The rooms below decide (`core`), keep (`log`), carry out (`shard`) and run guests (`host`); this
//! one connects them to the world. A datagram's way:
//!
//! ```text
//! lanes ─ connection ─┬ publisher ─ admission ─┬─────────────── shard_thread ─ log
//!  (QUIC, one         │                        └ workers (wasm) ─┘   │
//!   thread a core)    ├ consumer  <────────────────────────────────── ┘
//!                     ├ subscriber <── live
//!                     └ manage
//! ```
//!
//! Threads: one *lane* a core for connections, one for the shard, one for the log's long work, one
//! a core for plugins, one for the admin page. What passes between them is bounded by the windows
//! of publishers and the credit of consumers.

pub mod admin;
mod admission;
pub mod alarms;
mod backup;
mod clock;
pub mod config;
mod connection;
mod consumer;
mod disk;
mod error;
mod explain;
pub mod identity;
mod keeping;
mod lanes;
mod live;
mod mailbox;
mod manage;
mod memory;
pub mod metrics;
mod node;
pub mod packed;
mod plugins;
mod publisher;
mod replay;
mod routing;
mod shard_thread;
pub mod shelf;
mod stream_io;
mod submission;
mod subscriber;
mod tap;
mod tapping;
pub mod tls;
mod transport;
mod view;
mod workers;

pub use error::StartError;
pub use node::{Node, Running, StartOptions};
pub use plugins::{
    CopyError, RestoredPlugins, Untrusted, check_conflicts, check_deployed_trust, plugin_spec,
    restore_plugins,
};

/// Unpredictable bits from the operating system.
fn random_u64() -> u64 {
    match getrandom::u64() {
        Ok(random) => random,
        // Without randomness no TLS session could be made either.
        Err(error) => unreachable!("the operating system gives no randomness: {error}"),
    }
}
