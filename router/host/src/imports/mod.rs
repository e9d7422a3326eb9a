//! What a component may import.
//!
//! Each function is small, synchronous and never waits; nothing else is in the linker, WASI least of
//! all. All of them count against [`Limits::host_calls`], none is there for `schema.settings`, and
//! what each gives or takes is bounded, so that a guest that does nothing but call them is ended by
//! its deadline as any other: between two calls it looks at the tick.
//!
//! This part holds what a store carries; `basics` has what is granted by default, `state` and
//! `publish` (with `timer`) what is not. What guests of `wasi:messaging` import is in `messaging`.

mod basics;
mod publish;
mod state;

use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::Limits;
use crate::answer::Output;
use crate::clock::Clock;
use crate::cpu::CpuMeter;
use crate::effects::Published;
use crate::grants::Grants;
use crate::lent::{LentPayloads, LentState};
use crate::limits::Accountant;
use crate::messaging;
use crate::sink::{LOG_LINE_BYTES_MAX, LogMeter, Sink};
use crate::ticker::Deadline;
use crate::verify::versioned;

pub(crate) use basics::READ_BYTES_MAX;
pub(crate) use publish::Refused;

/// How much a log line matters.
#[derive(ComponentType, Lift, Lower, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[component(enum)]
#[repr(u8)]
pub enum Level {
    /// For whoever debugs the plugin, in the finest grain.
    #[component(name = "trace")]
    Trace,
    /// For whoever debugs the plugin.
    #[component(name = "debug")]
    Debug,
    /// Worth knowing.
    #[component(name = "info")]
    Info,
    /// Something is wrong, and was dealt with.
    #[component(name = "warn")]
    Warn,
    /// Something is wrong.
    #[component(name = "error")]
    Error,
}

/// What all instances of a plugin share, and every import may need.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub plugin: Arc<str>,
    pub limits: Limits,
    pub grants: Grants,
    pub log_meter: LogMeter,
    pub cpu: CpuMeter,
    pub clock: Arc<dyn Clock>,
}

/// What the guest is being called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `schema.settings`, for which nothing is there.
    Schema,
    /// Instantiation, and `init`: effects may be looked at, not made.
    Init,
    /// A batch of so many messages, of which the first has this place in the caller's.
    Call { first: u32, messages: u32 },
    /// `on-timer`.
    Wake,
}

/// What a store carries: everything that the imports, the limiter and the deadline need.
pub(crate) struct HostState {
    pub around: Arc<Surroundings>,
    pub sink: Arc<dyn Sink>,
    pub accountant: Accountant,
    pub deadline: Deadline,
    pub phase: Phase,
    pub payloads: LentPayloads,
    pub state: LentState,
    /// What the present call has published.
    pub published: Vec<Published>,
    /// How much of it there is, over all calls into the guest that share one limit.
    pub published_output: Output,
    /// What a guest of `wasi:messaging` holds.
    pub held: messaging::Held,
    /// What the guest last asked `timer` for, until someone looks.
    pub timer: Option<u32>,
    metrics: basics::Metrics,
    host_calls_left: u32,
}

/// A host call that ends the call into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostCallError {
    #[error("more than {limit} calls of imports, the last of {import}")]
    TooMany { limit: u32, import: &'static str },
    #[error("schema.settings calls {import}; it may not use any import")]
    InSchema { import: &'static str },
    #[error("{import} has no state to work on: the router lent none")]
    NoState { import: &'static str },
    #[error("{import}: the system gives no randomness")]
    NoRandomness { import: &'static str },
    #[error("more than {limit} messages, clients and options held, the last by {import}")]
    TooManyHeld { limit: usize, import: &'static str },
    #[error("memory of {bytes} bytes, with what its messages hold, limit {limit}")]
    HeldBytes { bytes: usize, limit: usize },
    #[error("{import}: the handle is of something else")]
    NotHeld { import: &'static str },
}

impl HostState {
    pub(crate) fn new(around: Arc<Surroundings>, sink: Arc<dyn Sink>) -> HostState {
        HostState {
            sink,
            accountant: Accountant::new(&around.limits),
            deadline: Deadline::default(),
            phase: Phase::Init,
            payloads: LentPayloads::default(),
            state: LentState::default(),
            published: Vec::new(),
            published_output: Output::default(),
            held: messaging::Held::default(),
            timer: None,
            metrics: basics::Metrics::default(),
            host_calls_left: 0,
            around,
        }
    }

    /// Gets ready for a call into the guest.
    #[inline]
    pub(crate) fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.host_calls_left = self.around.limits.host_calls;
    }

    /// Counts a call of an import; every one of them begins with this.
    #[inline]
    pub(crate) fn enter(&mut self, import: &'static str) -> Result<(), HostCallError> {
        if self.phase == Phase::Schema {
            return Err(HostCallError::InSchema { import });
        }
        let limit = self.around.limits.host_calls;
        let left = self.host_calls_left.checked_sub(1);
        self.host_calls_left = left.ok_or(HostCallError::TooMany { limit, import })?;
        Ok(())
    }

    fn log(&self, level: Level, mut line: &str) {
        if line.len() > LOG_LINE_BYTES_MAX {
            line = &line[..line.floor_char_boundary(LOG_LINE_BYTES_MAX)];
        }
        let around = &*self.around;
        let Some(dropped) = around.log_meter.admit(line.len()) else {
            return;
        };
        if dropped > 0 {
            self.sink.log_dropped(&around.plugin, dropped);
        }
        self.sink.log(&around.plugin, level, line);
    }
}

/// Puts all imports into a linker; which of them a component may use was checked when it was
/// loaded.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    basics::log(&mut linker.instance(&versioned("log"))?)?;
    basics::clock(&mut linker.instance(&versioned("clock"))?)?;
    basics::random(&mut linker.instance(&versioned("random"))?)?;
    basics::metrics(&mut linker.instance(&versioned("metrics"))?)?;
    basics::payload(&mut linker.instance(&versioned("payload"))?)?;
    state::link(&mut linker.instance(&versioned("state"))?)?;
    publish::link(&mut linker.instance(&versioned("publish"))?)?;
    publish::link_timer(&mut linker.instance(&versioned("timer"))?)?;
    messaging::link(linker)
}
