//! One call into a guest: its clock, its bounds, and what its failure means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::{ComponentNamedList, Func, Lift, Lower, TypedFunc};
use wasmtime::{Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::answer::AnswerError;
use crate::bindings;
use crate::engine::Shared;
use crate::error::{CallError, CallErrorKind};
use crate::imports::{HostCallError, HostState, Phase, Surroundings};
use crate::ticker::DeadlinePassed;

/// What the host lifts out of one call at most, in bytes: an answer, or the parameters of an import.
const LIFTED_BYTES_MAX: usize = 16 << 20;

/// A store for one guest.
pub(crate) fn store(engine: &Shared, around: &Arc<Surroundings>) -> Store<HostState> {
    let state = HostState::new(around.clone(), engine.options.sink.clone());
    let mut store = Store::new(&engine.wasm, state);
    store.limiter(|state| &mut state.accountant);
    store.set_hostcall_fuel(LIFTED_BYTES_MAX);
    store.epoch_deadline_callback(|mut store| {
        store
            .data_mut()
            .deadline
            .on_tick()
            .map_err(wasmtime::Error::new)?;
        Ok(UpdateDeadline::Continue(1))
    });
    store
}

/// Runs the guest in `store`, within `budget` of CPU time, and charges what it used. The engine's
/// ticker must be running.
#[inline]
pub(crate) fn run<T>(
    store: &mut Store<HostState>,
    budget: Duration,
    phase: Phase,
    work: impl FnOnce(&mut Store<HostState>) -> wasmtime::Result<T>,
) -> Result<T, CallError> {
    let state = store.data_mut();
    state.begin(phase);
    state.deadline.begin(budget);
    store.set_epoch_deadline(1);
    let result = work(store);
    let state = store.data();
    let now = Instant::now();
    state.around.cpu.charge(state.deadline.used(now), now);
    result.map_err(|error| classify(store, &error))
}

/// The same for one exported function.
///
/// # Safety
/// The component's function must have these parameters and results (`verify::check_exports`).
#[inline]
pub(crate) unsafe fn enter<P, R>(
    store: &mut Store<HostState>,
    function: Func,
    budget: Duration,
    phase: Phase,
    params: P,
) -> Result<R, CallError>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    // SAFETY: the caller's promise.
    let function = unsafe { TypedFunc::<P, R>::new_unchecked(function) };
    run(store, budget, phase, |store| function.call(store, params))
}

/// What an error of wasmtime's means to the contract.
fn classify(store: &mut Store<HostState>, error: &wasmtime::Error) -> CallError {
    let refusal = store.data_mut().accountant.take_refusal();
    let (kind, message) = if let Some(passed) = error.downcast_ref::<DeadlinePassed>() {
        (CallErrorKind::Deadline, passed.to_string())
    } else if let Some(error) = error.downcast_ref::<HostCallError>() {
        (kind(error), error.to_string())
    } else if let Some(refusal) = refusal {
        (CallErrorKind::Memory, refusal)
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        (CallErrorKind::Trap, trap.to_string())
    } else {
        (CallErrorKind::Output, format!("{:#}", error.root_cause()))
    };
    let backtrace = error
        .downcast_ref::<WasmBacktrace>()
        .map(WasmBacktrace::to_string);
    CallError {
        kind,
        message,
        backtrace,
        instance_lost: true,
    }
}

fn kind(error: &HostCallError) -> CallErrorKind {
    match error {
        HostCallError::TooMany { .. } => CallErrorKind::HostCalls,
        HostCallError::InSchema { .. } => CallErrorKind::Trap,
        HostCallError::TooManyHeld { .. } | HostCallError::HeldBytes { .. } => {
            CallErrorKind::Memory
        }
        HostCallError::NoState { .. }
        | HostCallError::NoRandomness { .. }
        | HostCallError::NotHeld { .. } => CallErrorKind::Internal,
    }
}

/// One that the host met before it entered the guest: what the guest holds leaves no room.
impl From<HostCallError> for CallError {
    fn from(error: HostCallError) -> CallError {
        CallError {
            kind: kind(&error),
            message: error.to_string(),
            backtrace: None,
            instance_lost: true,
        }
    }
}

/// An error that the guest answered with.
pub(crate) fn refused(error: bindings::Error) -> CallError {
    let (kind, message, instance_lost) = match error {
        bindings::Error::Invalid(message) => (CallErrorKind::Invalid, message, false),
        bindings::Error::Unavailable(message) => (CallErrorKind::Unavailable, message, false),
        bindings::Error::Internal(message) => (CallErrorKind::Internal, message, true),
    };
    CallError {
        kind,
        message: cut(message),
        backtrace: None,
        instance_lost,
    }
}

/// The longest text of a guest that an error carries: 8 KiB.
const WORDS_BYTES_MAX: usize = 8 << 10;

/// Words of a guest, no longer than an error carries.
pub(crate) fn cut(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(WORDS_BYTES_MAX));
    words
}

/// An error of the host's own.
pub(crate) fn internal(message: &str, instance_lost: bool) -> CallError {
    CallError {
        kind: CallErrorKind::Internal,
        message: message.into(),
        backtrace: None,
        instance_lost,
    }
}

impl From<AnswerError> for CallError {
    fn from(error: AnswerError) -> CallError {
        CallError {
            kind: CallErrorKind::Output,
            message: error.to_string(),
            backtrace: None,
            instance_lost: false,
        }
    }
}
