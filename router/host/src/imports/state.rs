//! `state`: keys and values that the caller keeps; see [`State`](crate::State).

use bytes::Bytes;
use wasmtime::component::LinkerInstance;

use super::{HostCallError, HostState, Phase};
use crate::bindings::StateRefusal;
use crate::bindings::offered::{
    FoundReturn, GetReturn, Key, ScanParams, ScanReturn, SetParams, SetReturn, SumParams,
    SumReturn, SwapParams,
};
use crate::effects::{
    STATE_KEY_BYTES_MAX, STATE_SCAN_BYTES_MAX, STATE_SCAN_PAIRS_MAX, STATE_VALUE_BYTES_MAX, State,
};

fn is_key(key: &[u8]) -> bool {
    (1..=STATE_KEY_BYTES_MAX).contains(&key.len())
}

/// What one function answers: a refusal is the guest's to deal with, an error ends the call.
type Answer<T> = Result<Result<T, StateRefusal>, HostCallError>;

impl HostState {
    /// The state to read. `init` may be called without one, and then finds nothing.
    fn readable(&mut self, import: &'static str) -> Result<Option<&mut dyn State>, HostCallError> {
        self.enter(import)?;
        let is_init = self.phase == Phase::Init;
        match self.state.get() {
            Some(state) => Ok(Some(state)),
            None if is_init => Ok(None),
            None => Err(HostCallError::NoState { import }),
        }
    }

    /// The state to write, for a key that is one.
    fn writable(&mut self, import: &'static str, key: &[u8]) -> Answer<&mut dyn State> {
        self.enter(import)?;
        if self.phase == Phase::Init {
            return Ok(Err(StateRefusal::ReadOnly));
        }
        if !is_key(key) {
            return Ok(Err(StateRefusal::TooLarge));
        }
        match self.state.get() {
            Some(state) => Ok(Ok(state)),
            None => Err(HostCallError::NoState { import }),
        }
    }

    fn state_get(&mut self, key: &[u8]) -> Result<Option<Bytes>, HostCallError> {
        let state = self.readable("state.get")?;
        Ok(state
            .filter(|_| is_key(key))
            .and_then(|state| state.get(key)))
    }

    fn state_set(&mut self, key: &[u8], value: Vec<u8>, ttl_ms: u64) -> Answer<()> {
        Ok(self
            .writable("state.set", key)?
            .and_then(|state| put(state, key, Some(value), ttl_ms)))
    }

    fn state_remove(&mut self, key: &[u8]) -> Answer<bool> {
        Ok(self.writable("state.remove", key)?.and_then(|state| {
            let was_there = state.get(key).is_some();
            if was_there {
                put(state, key, None, 0)?;
            }
            Ok(was_there)
        }))
    }

    fn state_add(&mut self, key: &[u8], delta: i64, ttl_ms: u64) -> Answer<i64> {
        Ok(self.writable("state.add", key)?.and_then(|state| {
            let before = match state.get(key) {
                None => 0,
                Some(value) => match <[u8; 8]>::try_from(&value[..]) {
                    Ok(number) => i64::from_le_bytes(number),
                    Err(_) => return Err(StateRefusal::NotANumber),
                },
            };
            let sum = before.checked_add(delta).ok_or(StateRefusal::NotANumber)?;
            put(state, key, Some(sum.to_le_bytes().to_vec()), ttl_ms)?;
            Ok(sum)
        }))
    }

    fn state_swap(&mut self, (key, expected, value, ttl_ms): SwapParams) -> Answer<bool> {
        Ok(self.writable("state.swap", &key)?.and_then(|state| {
            if state.get(&key).as_deref() != expected.as_deref() {
                return Ok(false);
            }
            // There is nothing to remove where nothing was, as expected.
            if value.is_some() || expected.is_some() {
                put(state, &key, value, ttl_ms)?;
            }
            Ok(true)
        }))
    }

    fn state_scan(
        &mut self,
        (prefix, after, limit): ScanParams,
    ) -> Result<Vec<(Bytes, Bytes)>, HostCallError> {
        let limit = (limit as usize).min(STATE_SCAN_PAIRS_MAX);
        let Some(state) = self.readable("state.scan")? else {
            return Ok(Vec::new());
        };
        if prefix.len() > STATE_KEY_BYTES_MAX || limit == 0 {
            return Ok(Vec::new());
        }
        Ok(state.scan(&prefix, after.as_deref(), limit, STATE_SCAN_BYTES_MAX))
    }
}

fn put(
    state: &mut dyn State,
    key: &[u8],
    value: Option<Vec<u8>>,
    ttl_ms: u64,
) -> Result<(), StateRefusal> {
    if value
        .as_ref()
        .is_some_and(|value| value.len() > STATE_VALUE_BYTES_MAX)
    {
        return Err(StateRefusal::TooLarge);
    }
    state
        .set(key, value.map(Bytes::from), ttl_ms)
        .map_err(|_| StateRefusal::Full)
}

pub(super) fn link(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("get", |mut store, (key,): (Key,)| {
        let value: GetReturn = (store.data_mut().state_get(&key)?,);
        Ok(value)
    })?;
    instance.func_wrap("set", |mut store, (key, value, ttl_ms): SetParams| {
        let set: SetReturn = (store.data_mut().state_set(&key, value, ttl_ms)?,);
        Ok(set)
    })?;
    instance.func_wrap("remove", |mut store, (key,): (Key,)| {
        let removed: FoundReturn = (store.data_mut().state_remove(&key)?,);
        Ok(removed)
    })?;
    instance.func_wrap("add", |mut store, (key, delta, ttl_ms): SumParams| {
        let sum: SumReturn = (store.data_mut().state_add(&key, delta, ttl_ms)?,);
        Ok(sum)
    })?;
    instance.func_wrap("swap", |mut store, params: SwapParams| {
        let swapped: FoundReturn = (store.data_mut().state_swap(params)?,);
        Ok(swapped)
    })?;
    instance.func_wrap("scan", |mut store, params: ScanParams| {
        let found: ScanReturn = (store.data_mut().state_scan(params)?,);
        Ok(found)
    })
}
