//! Messages to guests, and back; the only user of wasmtime.
//!
//! An [`Engine`] loads a [`Plugin`] from a component: checks it item by item, compiles it in a
//! child process or takes it from a cache that only this node can have written. A plugin makes
//! [`Instance`]s; a thread that owns one calls it with a batch of [`MessageRef`]s and gets
//! [`Verdicts`]. The contract with the guest is `wit/plugin.wit`; guests of `wasi:messaging` run
//! behind an adapter, which has `wit/wasi-messaging`.
//!
//! What a call does beside its answer (writes to its state, messages of its own) goes through
//! [`Effects`], which the caller keeps or throws away; a plugin imports only what its [`Grants`]
//! name.
//!
//! The invariant: a guest can hurt only the messages of its own call. It has no import that waits
//! or reaches outside; memory, CPU time, host calls, output and log are limited ([`Limits`]); whatever it does
//! ends in verdicts, or in a [`CallError`] that says whether the instance is lost. After a trap it
//! is, and a caller makes another.
//!
//! Left out: which plugin takes which messages, splitting a batch that failed, retries, and what
//! becomes of a message (all `core`); where state is kept; when a timer rings; threads other than
//! the one that ticks.

mod answer;
mod bindings;
mod cache;
mod clock;
mod compile;
mod cpu;
mod effects;
mod engine;
mod error;
mod grants;
mod guest;
mod imports;
mod instance;
mod interest;
mod lent;
mod limits;
mod message;
mod messaging;
mod plugin;
mod schema;
mod sink;
mod ticker;
mod verdict;
mod verify;

pub use cache::CacheOptions;
pub use clock::{Clock, SystemClock};
pub use compile::{COMPILE_SUBCOMMAND, CompileLimits, Compiler, compile_child_main};
pub use cpu::CpuSpent;
pub use effects::{
    Effects, Published, STATE_KEY_BYTES_MAX, STATE_SCAN_BYTES_MAX, STATE_SCAN_PAIRS_MAX,
    STATE_VALUE_BYTES_MAX, State, StateFull,
};
pub use engine::{Engine, EngineOptions};
pub use error::{CallError, CallErrorKind, EngineError, InstanceError, LoadError, LoadErrorKind};
pub use grants::Grants;
pub use imports::Level;
pub use instance::Instance;
pub use interest::{Fields, HeaderInterest, Interest, PayloadInterest};
pub use limits::Limits;
pub use message::MessageRef;
pub use plugin::{Plugin, PluginSpec, Role, Source};
pub use schema::{SettingsError, SettingsSchema};
pub use sink::{LOG_LINE_BYTES_MAX, NoSink, Sample, Sink};
pub use verdict::{Destinations, Edit, IntoIter, Outgoing, Rule, Verdict, Verdicts, Violation};
