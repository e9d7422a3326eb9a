//! One instance of a plugin: a guest with its memory, called by one thread at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{ComponentNamedList, Func, Lift, Lower, TypedFunc};
use wasmtime::{Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::answer::{AnswerError, Checker};
use crate::bindings::signature::{
    BatchParams, EachReturn, FilterReturn, InitParams, InitReturn, MessageParams, RouteReturn,
    TransformReturn,
};
use crate::bindings::{self, EachOutcome};
use crate::error::{CallError, CallErrorKind, InstanceError};
use crate::imports::{HostState, Metrics};
use crate::interest::Interest;
use crate::lent::LentPayloads;
use crate::limits::Accountant;
use crate::message::{ARENA_BYTES_MAX, MessageRef, Packed, one, wanted_headers};
use crate::plugin::{Loaded, Role};
use crate::ticker::{Deadline, DeadlinePassed};
use crate::verdict::{Verdict, Verdicts};

/// What the host lifts out of one call at most, in bytes: answers, log lines, all of it.
const LIFTED_BYTES_MAX: usize = 16 << 20;

/// One instance of a plugin.
pub struct Instance {
    plugin: Arc<Loaded>,
    store: Store<HostState>,
    call: Func,
    interest: Interest,
    packed: Packed,
    lost: bool,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("plugin", &self.plugin.name)
            .field("role", &self.plugin.role)
            .field("interest", &self.interest)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl Instance {
    pub(crate) fn start(plugin: Arc<Loaded>, number: u32) -> Result<Instance, InstanceError> {
        let name = || plugin.spec.name.clone();
        let mut store = store(&plugin);
        let failed = |detail| InstanceError::Instantiate {
            plugin: name(),
            detail,
        };
        begin(&mut store, plugin.spec.limits.init_cpu);
        let instance = {
            let _running = plugin.engine.ticker.run();
            plugin.instance_pre.instantiate(&mut store)
        };
        let instance =
            instance.map_err(|error| failed(classify(&mut store, &error).to_string()))?;
        let (Some(init), Some(call)) = (
            instance.get_func(&mut store, plugin.init),
            instance.get_func(&mut store, plugin.call),
        ) else {
            return Err(failed("its exports are not those of its component".into()));
        };
        let interest = init_guest(&plugin, &mut store, init, number)?;
        Ok(Instance {
            plugin,
            store,
            call,
            interest,
            packed: Packed::default(),
            lost: false,
        })
    }

    /// What the plugin asked for.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.plugin.role
    }

    /// Whether it can be called no more: another must be made.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Bytes of the guest's memories.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().accountant.memory_bytes()
    }

    /// Runs the plugin on a batch: one verdict for each message, in order. More messages than the
    /// plugin takes at once become several calls into it, and one message a call for
    /// [`Role::Each`]; the deadline is that of each call into the guest. If any of them fails, all
    /// of this one has failed.
    ///
    /// It blocks the thread for as long as the guest runs, at most the CPU time that
    /// [`Limits`](crate::Limits) give it.
    pub fn call(&mut self, batch: &[MessageRef<'_>]) -> Result<Verdicts, CallError> {
        if self.lost {
            return Err(internal("the instance was lost in an earlier call", true));
        }
        let bytes: usize = batch
            .iter()
            .map(|message| message.record.body().len())
            .sum();
        if bytes > ARENA_BYTES_MAX {
            return Err(internal("the batch is too large to be packed", false));
        }
        let plugin = self.plugin.clone();
        let _running = plugin.engine.ticker.run();
        let verdicts = self.call_in_parts(&plugin, batch);
        // An error of any call into the guest leaves it in a state that nothing may enter.
        if verdicts.as_ref().is_err_and(|error| error.instance_lost) {
            self.lost = true;
        }
        verdicts
    }

    fn call_in_parts(
        &mut self,
        plugin: &Loaded,
        batch: &[MessageRef<'_>],
    ) -> Result<Verdicts, CallError> {
        if plugin.role == Role::Each {
            return self.call_each(plugin, batch);
        }
        if batch.len() <= self.interest.batch_max {
            return self.call_batch(plugin, batch);
        }
        let mut verdicts = Verdicts::all_passed(0);
        for part in batch.chunks(self.interest.batch_max) {
            verdicts.append(self.call_batch(plugin, part)?);
        }
        Ok(verdicts)
    }

    fn call_batch(
        &mut self,
        plugin: &Loaded,
        batch: &[MessageRef<'_>],
    ) -> Result<Verdicts, CallError> {
        if batch.is_empty() {
            return Ok(Verdicts::all_passed(0));
        }
        let limits = &plugin.spec.limits;
        let checker = Checker::new(limits, plugin.spec.destinations.len(), batch);
        self.packed.pack(batch, &self.interest);
        let verdicts = match plugin.role {
            Role::Filter => {
                self.enter::<BatchParams<'_>, FilterReturn>(plugin, batch, |packed| {
                    (packed.as_batch(),)
                })
                .and_then(|(answer,)| Ok(checker.filter(answer.map_err(refused)?)?))
            }
            Role::Transform => self
                .enter::<BatchParams<'_>, TransformReturn>(plugin, batch, |p| (p.as_batch(),))
                .and_then(|(answer,)| Ok(checker.transform(answer.map_err(refused)?)?)),
            Role::Route | Role::Each => self
                .enter::<BatchParams<'_>, RouteReturn>(plugin, batch, |packed| (packed.as_batch(),))
                .and_then(|(answer,)| Ok(checker.route(answer.map_err(refused)?)?)),
        };
        self.packed.shrink();
        verdicts
    }

    fn call_each(
        &mut self,
        plugin: &Loaded,
        batch: &[MessageRef<'_>],
    ) -> Result<Verdicts, CallError> {
        let limits = &plugin.spec.limits;
        let mut checker = Checker::new(limits, plugin.spec.destinations.len(), batch);
        let mut verdicts = Vec::new();
        for (position, message) in batch.iter().enumerate() {
            let headers = wanted_headers(message, &self.interest);
            let raw = one(message, &self.interest, &headers);
            let (answer,): EachReturn = self.enter::<MessageParams<'_>, EachReturn>(
                plugin,
                &batch[position..=position],
                |_| (raw,),
            )?;
            match answer.map_err(refused)? {
                // While all pass, there is nothing to keep.
                EachOutcome::Pass if verdicts.is_empty() => {}
                outcome => {
                    verdicts.resize(position, Verdict::Pass);
                    verdicts.push(checker.each(position, outcome)?);
                }
            }
        }
        if verdicts.is_empty() {
            return Ok(Verdicts::all_passed(batch.len()));
        }
        verdicts.resize(batch.len(), Verdict::Pass);
        Ok(Verdicts::each(verdicts))
    }

    /// One call into the guest.
    fn enter<'p, P, R>(
        &'p mut self,
        plugin: &Loaded,
        batch: &[MessageRef<'_>],
        params: impl FnOnce(&'p Packed) -> P,
    ) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        // SAFETY: the component's function was compared with these types, for the role that this
        // is, when the plugin was loaded (`verify::check_exports`).
        let function = unsafe { TypedFunc::<P, R>::new_unchecked(self.call) };
        begin(&mut self.store, plugin.spec.limits.cpu_budget(batch.len()));
        if plugin.reads_payloads {
            // SAFETY: `batch` is borrowed until this function returns, the loan ends below, and
            // the guest only runs in between. Should the call unwind, the store is not entered
            // again without passing here, where the loan is replaced.
            unsafe { self.store.data_mut().payloads.lend(batch) };
        }
        let result = function.call(&mut self.store, params(&self.packed));
        self.store.data_mut().payloads.end();
        result.map_err(|error| classify(&mut self.store, &error))
    }
}

fn store(plugin: &Loaded) -> Store<HostState> {
    let state = HostState {
        plugin: plugin.name.clone(),
        accountant: Accountant::new(&plugin.spec.limits),
        deadline: Deadline::default(),
        payloads: LentPayloads::default(),
        log_meter: plugin.log_meter.clone(),
        sink: plugin.engine.options.sink.clone(),
        start: plugin.engine.start,
        metrics: Metrics::default(),
    };
    let mut store = Store::new(&plugin.engine.wasm, state);
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

/// Starts the clock of a call.
#[inline]
fn begin(store: &mut Store<HostState>, budget: Duration) {
    store.data_mut().deadline.begin(budget);
    store.set_epoch_deadline(1);
}

fn init_guest(
    plugin: &Loaded,
    store: &mut Store<HostState>,
    init: Func,
    number: u32,
) -> Result<Interest, InstanceError> {
    let config = bindings::Config {
        plugin: &plugin.name,
        role: plugin.role.name(),
        instance: number,
        settings: &plugin.spec.settings,
        destinations: &plugin.spec.destinations,
    };
    // SAFETY: `verify::check_exports` compared `init` with these types.
    let init = unsafe { TypedFunc::<InitParams<'_>, InitReturn>::new_unchecked(init) };
    begin(store, plugin.spec.limits.init_cpu);
    let answer = {
        let _running = plugin.engine.ticker.run();
        init.call(&mut *store, (config,))
    };
    let plugin = || plugin.spec.name.clone();
    match answer {
        Ok((Ok(interest),)) => {
            Interest::check(interest).map_err(|detail| InstanceError::Interest {
                plugin: plugin(),
                detail,
            })
        }
        Ok((Err(error),)) => Err(InstanceError::Refused {
            plugin: plugin(),
            setting: error.setting.map(cut),
            message: cut(error.message),
        }),
        Err(error) => Err(InstanceError::Init {
            plugin: plugin(),
            error: classify(store, &error),
        }),
    }
}

/// What an error of wasmtime's means to the contract.
fn classify(store: &mut Store<HostState>, error: &wasmtime::Error) -> CallError {
    let refusal = store.data_mut().accountant.take_refusal();
    let (kind, message) = if let Some(passed) = error.downcast_ref::<DeadlinePassed>() {
        (CallErrorKind::Deadline, passed.to_string())
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

/// An error that the guest answered with.
fn refused(error: bindings::Error) -> CallError {
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

fn cut(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(WORDS_BYTES_MAX));
    words
}

/// An error of the host's own.
fn internal(message: &str, instance_lost: bool) -> CallError {
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
