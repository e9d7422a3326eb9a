//! `log`, `clock`, `random`, `metrics`, `payload`.

use std::collections::HashMap;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use wasmtime::component::LinkerInstance;

use super::{HostCallError, HostState, Level};
use crate::bindings::offered::{
    AddParams, BytesReturn, LenParams, LogParams, NameParams, ReadParams, ReadReturn, ValueParams,
};
use crate::sink::Sample;

/// The most metrics of one instance.
const METRICS_MAX: usize = 64;
const METRIC_NAME_BYTES_MAX: usize = 64;
/// The most bytes that one `payload.read` gives.
pub(crate) const READ_BYTES_MAX: u32 = 1 << 20;
/// The most bytes that one `random.bytes` gives.
const RANDOM_BYTES_MAX: u32 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The metrics that an instance has registered; a handle is an index.
#[derive(Debug, Default)]
pub(super) struct Metrics {
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
            self.sink.metric(&self.around.plugin, name, sample);
        }
    }
}

type Instance<'a> = LinkerInstance<'a, HostState>;

pub(super) fn log(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("log", |mut store, (level, message): LogParams| {
        store.data_mut().enter("log.log")?;
        // Borrowed from the guest's memory: a line of megabytes is looked at, not copied.
        let message = message.to_str(&store)?;
        store.data().log(level, &message);
        Ok(())
    })
}

pub(super) fn clock(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("now-ms", |mut store, (): ()| {
        store.data_mut().enter("clock.now-ms")?;
        Ok((store.data().around.clock.now_ms(),))
    })?;
    instance.func_wrap("monotonic-ns", |mut store, (): ()| {
        store.data_mut().enter("clock.monotonic-ns")?;
        Ok((store.data().around.clock.monotonic_ns(),))
    })
}

fn random_bytes<const N: usize>(import: &'static str) -> Result<[u8; N], HostCallError> {
    let mut bytes = [0; N];
    fill(import, &mut bytes)?;
    Ok(bytes)
}

fn fill(import: &'static str, bytes: &mut [u8]) -> Result<(), HostCallError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| HostCallError::NoRandomness { import })
}

pub(super) fn random(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("bytes", |mut store, (len,): LenParams| {
        store.data_mut().enter("random.bytes")?;
        let mut bytes = vec![0; len.min(RANDOM_BYTES_MAX) as usize];
        fill("random.bytes", &mut bytes)?;
        let bytes: BytesReturn = (bytes,);
        Ok(bytes)
    })?;
    instance.func_wrap("number", |mut store, (): ()| {
        store.data_mut().enter("random.number")?;
        Ok((u64::from_le_bytes(random_bytes("random.number")?),))
    })
}

pub(super) fn metrics(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    let kinds = [
        ("counter", "metrics.counter", Kind::Counter),
        ("gauge", "metrics.gauge", Kind::Gauge),
        ("histogram", "metrics.histogram", Kind::Histogram),
    ];
    for (function, import, kind) in kinds {
        instance.func_wrap(function, move |mut store, (name,): NameParams| {
            store.data_mut().enter(import)?;
            Ok((store.data_mut().register(kind, &name),))
        })?;
    }
    instance.func_wrap("add", |mut store, (handle, delta): AddParams| {
        store.data_mut().enter("metrics.add")?;
        store
            .data()
            .record(handle, Kind::Counter, Sample::Add(delta));
        Ok(())
    })?;
    instance.func_wrap("set", |mut store, (handle, value): ValueParams| {
        store.data_mut().enter("metrics.set")?;
        store.data().record(handle, Kind::Gauge, Sample::Set(value));
        Ok(())
    })?;
    instance.func_wrap("observe", |mut store, (handle, value): ValueParams| {
        store.data_mut().enter("metrics.observe")?;
        store
            .data()
            .record(handle, Kind::Histogram, Sample::Observe(value));
        Ok(())
    })
}

pub(super) fn payload(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap("read", |mut store, (message, offset, len): ReadParams| {
        store.data_mut().enter("payload.read")?;
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
