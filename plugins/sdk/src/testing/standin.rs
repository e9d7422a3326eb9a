//! The imports, on a router in memory, one for each thread. Same names and types as the generated
//! ones.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::Outgoing;
use crate::raw;

type Bytes = Vec<u8>;

pub(super) struct Router {
    pub in_init: bool,
    pub now_ms: u64,
    pub log: Vec<(raw::log::Level, String)>,
    pub published: Vec<(u32, Outgoing)>,
    /// After so many messages more, publishing is refused so.
    pub publish_refusal: Option<(usize, raw::publish::Refusal)>,
    pub timer: Option<u32>,
    pub state_bytes_max: usize,
    pub payloads: Vec<Bytes>,
    /// Values, and when they expire.
    values: BTreeMap<Bytes, (Bytes, u64)>,
    metrics: Vec<Metric>,
    random: u64,
}

pub(super) struct Metric {
    kind: &'static str,
    name: String,
    pub sum: u64,
    pub values: Vec<f64>,
}

impl Router {
    pub(super) fn new() -> Router {
        Router {
            in_init: false,
            now_ms: 1_000_000,
            log: Vec::new(),
            published: Vec::new(),
            publish_refusal: None,
            timer: None,
            state_bytes_max: 16 << 20,
            payloads: Vec::new(),
            values: BTreeMap::new(),
            metrics: Vec::new(),
            random: 0,
        }
    }

    pub(super) fn living(&self) -> BTreeMap<Bytes, Bytes> {
        let living = self.values.iter().filter(|(_, v)| v.1 > self.now_ms);
        living.map(|(k, v)| (k.clone(), v.0.clone())).collect()
    }

    pub(super) fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    fn register(&mut self, kind: &'static str, name: &str) -> u32 {
        let mut known = self.metrics.iter();
        if let Some(handle) = known.position(|m| m.kind == kind && m.name == name) {
            return handle as u32;
        }
        self.metrics.push(Metric {
            kind,
            name: name.into(),
            sum: 0,
            values: Vec::new(),
        });
        self.metrics.len() as u32 - 1
    }

    fn record(&mut self, handle: u32, kind: &str, apply: impl FnOnce(&mut Metric)) {
        if let Some(metric) = self
            .metrics
            .get_mut(handle as usize)
            .filter(|m| m.kind == kind)
        {
            apply(metric);
        }
    }

    fn get(&self, key: &[u8]) -> Option<Bytes> {
        let (value, expires) = self.values.get(key)?;
        (*expires > self.now_ms).then(|| value.clone())
    }

    fn put(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        ttl_ms: u64,
    ) -> Result<(), raw::state::Refusal> {
        use raw::state::Refusal;
        if self.in_init {
            return Err(Refusal::ReadOnly);
        }
        if !(1..=512).contains(&key.len()) || value.is_some_and(|value| value.len() > 256 << 10) {
            return Err(Refusal::TooLarge);
        }
        let Some(value) = value else {
            self.values.remove(key);
            return Ok(());
        };
        let others = self.living().into_iter().filter(|(other, _)| other != key);
        let kept: usize = others.map(|(key, value)| key.len() + value.len()).sum();
        if kept + key.len() + value.len() > self.state_bytes_max {
            return Err(Refusal::Full);
        }
        let expires = match ttl_ms {
            0 => u64::MAX,
            ttl_ms => self.now_ms.saturating_add(ttl_ms),
        };
        self.values.insert(key.to_vec(), (value.to_vec(), expires));
        Ok(())
    }
}

thread_local! {
    static ROUTER: RefCell<Router> = RefCell::new(Router::new());
}

pub(super) fn with<T>(work: impl FnOnce(&mut Router) -> T) -> T {
    ROUTER.with_borrow_mut(work)
}

pub(crate) mod log {
    pub(crate) use crate::raw::log::Level;

    pub(crate) fn log(level: Level, message: &str) {
        super::with(|router| router.log.push((level, message.into())));
    }
}

pub(crate) mod clock {
    pub(crate) fn now_ms() -> u64 {
        super::with(|router| router.now_ms)
    }

    pub(crate) fn monotonic_ns() -> u64 {
        super::with(|router| router.now_ms * 1_000_000)
    }
}

pub(crate) mod random {
    /// SplitMix64: the same numbers in every run.
    pub(crate) fn number() -> u64 {
        super::with(|router| {
            router.random = router.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = router.random;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }

    pub(crate) fn bytes(len: u32) -> Vec<u8> {
        let numbers = std::iter::repeat_with(number).flat_map(u64::to_le_bytes);
        numbers.take(len.min(64 << 10) as usize).collect()
    }
}

pub(crate) mod metrics {
    use super::with;

    pub(crate) fn counter(name: &str) -> u32 {
        with(|router| router.register("counter", name))
    }

    pub(crate) fn gauge(name: &str) -> u32 {
        with(|router| router.register("gauge", name))
    }

    pub(crate) fn histogram(name: &str) -> u32 {
        with(|router| router.register("histogram", name))
    }

    pub(crate) fn add(handle: u32, delta: u64) {
        with(|router| router.record(handle, "counter", |metric| metric.sum += delta));
    }

    pub(crate) fn set(handle: u32, value: f64) {
        with(|router| router.record(handle, "gauge", |metric| metric.values = vec![value]));
    }

    pub(crate) fn observe(handle: u32, value: f64) {
        with(|router| router.record(handle, "histogram", |metric| metric.values.push(value)));
    }
}

pub(crate) mod payload {
    pub(crate) fn read(message: u32, offset: u32, len: u32) -> Result<Vec<u8>, String> {
        super::with(|router| {
            let payload = router.payloads.get(message as usize);
            let payload = payload.ok_or("no such message in the present call")?;
            let start = payload.len().min(offset as usize);
            let end = payload.len().min(start.saturating_add(len as usize));
            Ok(payload[start..end].to_vec())
        })
    }
}

pub(crate) mod state {
    use super::{Bytes, with};
    use crate::raw::state::Refusal;

    pub(crate) fn get(key: &[u8]) -> Option<Bytes> {
        with(|router| router.get(key))
    }

    pub(crate) fn set(key: &[u8], value: &[u8], ttl_ms: u64) -> Result<(), Refusal> {
        with(|router| router.put(key, Some(value), ttl_ms))
    }

    pub(crate) fn remove(key: &[u8]) -> Result<bool, Refusal> {
        with(|router| {
            let was_there = router.get(key).is_some();
            router.put(key, None, 0).map(|()| was_there)
        })
    }

    pub(crate) fn add(key: &[u8], delta: i64, ttl_ms: u64) -> Result<i64, Refusal> {
        with(|router| {
            let before = match router.get(key) {
                None => 0,
                Some(value) => {
                    i64::from_le_bytes(value.try_into().map_err(|_| Refusal::NotANumber)?)
                }
            };
            let sum = before.checked_add(delta).ok_or(Refusal::NotANumber)?;
            router.put(key, Some(&sum.to_le_bytes()), ttl_ms)?;
            Ok(sum)
        })
    }

    pub(crate) fn swap(
        key: &[u8],
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
        ttl_ms: u64,
    ) -> Result<bool, Refusal> {
        with(|router| {
            if router.get(key).as_deref() != expected {
                return Ok(false);
            }
            router.put(key, value, ttl_ms).map(|()| true)
        })
    }

    pub(crate) fn scan(prefix: &[u8], after: Option<&[u8]>, limit: u32) -> Vec<(Bytes, Bytes)> {
        let is_next = |key: &Bytes| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_slice() > after)
        };
        let found = with(|router| router.living()).into_iter();
        found
            .filter(|(key, _)| is_next(key))
            .take(limit as usize)
            .collect()
    }
}

pub(crate) mod publish {
    use super::with;
    use crate::Outgoing;
    use crate::raw::publish::Refusal;

    pub(crate) fn publish(cause: u32, message: &Outgoing) -> Result<(), Refusal> {
        with(|router| {
            if router.in_init {
                return Err(Refusal::NotNow);
            }
            match &mut router.publish_refusal {
                Some((0, refusal)) => return Err(*refusal),
                Some((left, _)) => *left -= 1,
                None => {}
            }
            router.published.push((cause, message.clone()));
            Ok(())
        })
    }
}

pub(crate) mod timer {
    pub(crate) fn set(after_ms: u32) {
        super::with(|router| {
            router.timer = Some(match after_ms {
                0 => 0,
                after_ms => after_ms.max(10),
            });
        });
    }
}
