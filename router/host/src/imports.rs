//! What a component may import: `log`, `clock`, `metrics`, `payload`.
//!
//! Each is small, synchronous and never waits; nothing else is in the linker, WASI least of all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower};

use crate::bindings::offered::{
    AddParams, LogParams, NameParams, ReadParams, ReadReturn, ValueParams,
};
use crate::lent::LentPayloads;
use crate::limits::Accountant;
use crate::sink::{LOG_LINE_BYTES_MAX, LogMeter, Sample, Sink};
use crate::ticker::Deadline;

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

/// The most metrics of one instance.
pub(crate) const METRICS_MAX: usize = 64;
const METRIC_NAME_BYTES_MAX: usize = 64;
/// The most bytes that one `payload.read` gives.
pub(crate) const READ_BYTES_MAX: u32 = 1 << 20;

/// What a store carries: everything that the imports, the limiter and the deadline need.
pub(crate) struct HostState {
    pub plugin: Arc<str>,
    pub accountant: Accountant,
    pub deadline: Deadline,
    pub payloads: LentPayloads,
    pub log_meter: Arc<LogMeter>,
    pub sink: Arc<dyn Sink>,
    pub start: Instant,
    pub metrics: Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The metrics that an instance has registered; a handle is an index.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    registered: Vec<(Kind, Arc<str>)>,
    handles: HashMap<(Kind, Arc<str>), u32>,
}

impl Metrics {
    fn register(&mut self, kind: Kind, name: &str) -> Result<u32, &'static str> {
        if !is_metric_name(name) {
            return Err("its name is not [a-z][a-z0-9_]* of at most 64 bytes");
        }
        let key = (kind, Arc::<str>::from(name));
        if let Some(handle) = self.handles.get(&key) {
            return Ok(*handle);
        }
        if self.registered.len() >= METRICS_MAX {
            return Err("there are 64 already");
        }
        let handle = self.registered.len() as u32;
        self.registered.push(key.clone());
        self.handles.insert(key, handle);
        Ok(handle)
    }
}

fn is_metric_name(name: &str) -> bool {
    name.len() <= METRIC_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl HostState {
    fn log(&self, level: Level, mut line: &str) {
        if line.len() > LOG_LINE_BYTES_MAX {
            line = &line[..line.floor_char_boundary(LOG_LINE_BYTES_MAX)];
        }
        let Some(dropped) = self.log_meter.admit(line.len()) else {
            return;
        };
        if dropped > 0 {
            self.sink.log_dropped(&self.plugin, dropped);
        }
        self.sink.log(&self.plugin, level, line);
    }

    fn register(&mut self, kind: Kind, name: &str) -> u32 {
        self.metrics.register(kind, name).unwrap_or_else(|why| {
            let name: String = name.chars().take(METRIC_NAME_BYTES_MAX).collect();
            self.log(
                Level::Warn,
                &format!("metric '{name}' is not recorded: {why}"),
            );
            u32::MAX
        })
    }

    fn record(&self, handle: u32, kind: Kind, sample: Sample) {
        if let Some((registered, name)) = self.metrics.registered.get(handle as usize)
            && *registered == kind
        {
            self.sink.metric(&self.plugin, name, sample);
        }
    }
}

/// Puts all imports into a linker.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    log(&mut linker.instance("waypost:plugin/log@0.1.0")?)?;
    clock(&mut linker.instance("waypost:plugin/clock@0.1.0")?)?;
    metrics(&mut linker.instance("waypost:plugin/metrics@0.1.0")?)?;
    payload(&mut linker.instance("waypost:plugin/payload@0.1.0")?)
}

fn log(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("log", |store, (level, message): LogParams| {
        store.data().log(level, &message);
        Ok(())
    })
}

fn clock(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("now-ms", |_, (): ()| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok((u64::try_from(now.as_millis()).unwrap_or(u64::MAX),))
    })?;
    instance.func_wrap("monotonic-ns", |store, (): ()| {
        let elapsed = store.data().start.elapsed();
        Ok((u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),))
    })
}

fn metrics(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    let kinds = [
        ("counter", Kind::Counter),
        ("gauge", Kind::Gauge),
        ("histogram", Kind::Histogram),
    ];
    for (function, kind) in kinds {
        instance.func_wrap(function, move |mut store, (name,): NameParams| {
            Ok((store.data_mut().register(kind, &name),))
        })?;
    }
    instance.func_wrap("add", |store, (handle, delta): AddParams| {
        store
            .data()
            .record(handle, Kind::Counter, Sample::Add(delta));
        Ok(())
    })?;
    instance.func_wrap("set", |store, (handle, value): ValueParams| {
        store.data().record(handle, Kind::Gauge, Sample::Set(value));
        Ok(())
    })?;
    instance.func_wrap("observe", |store, (handle, value): ValueParams| {
        store
            .data()
            .record(handle, Kind::Histogram, Sample::Observe(value));
        Ok(())
    })
}

fn payload(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("read", |store, (message, offset, len): ReadParams| {
        let read: ReadReturn = (store.data().payloads.read(message, offset, len),);
        Ok(read)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_metric_has_the_same_handle_and_there_is_a_limit() {
        let mut metrics = Metrics::default();
        assert_eq!(metrics.register(Kind::Counter, "seen"), Ok(0));
        assert_eq!(metrics.register(Kind::Gauge, "seen"), Ok(1));
        assert_eq!(metrics.register(Kind::Counter, "seen"), Ok(0));
        assert!(metrics.register(Kind::Counter, "Seen").is_err());
        assert!(metrics.register(Kind::Counter, "").is_err());
        assert!(metrics.register(Kind::Counter, &"x".repeat(65)).is_err());
        for i in 2..METRICS_MAX {
            assert_eq!(
                metrics.register(Kind::Counter, &format!("m{i}")),
                Ok(i as u32)
            );
        }
        assert!(metrics.register(Kind::Counter, "one_more").is_err());
    }
}
