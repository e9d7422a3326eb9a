//! One instance of a plugin: a guest with its memory, called by one thread at a time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Func, InstancePre};
use wasmtime::component::{Lift, Lower};

use crate::answer::{Checker, Output};
use crate::bindings::signature::{
    BatchParams, EachReturn, FilterReturn, InitParams, InitReturn, MessageParams, RouteReturn,
    SettingsReturn, TimerReturn, TransformReturn,
};
use crate::bindings::{self, EachOutcome};
use crate::effects::{Effects, State};
use crate::engine::Shared;
use crate::error::{CallError, InstanceError};
use crate::guest::{cut, enter, internal, refused, run, store};
use crate::imports::{HostState, Phase, Surroundings};
use crate::interest::Interest;
use crate::message::{ARENA_BYTES_MAX, MessageRef, Packed, one, wanted_headers};
use crate::messaging::{self, HandleParams, HandleReturn};
use crate::plugin::{Loaded, Role};
use crate::verdict::{Verdict, Verdicts};

/// One instance of a plugin.
pub struct Instance {
    plugin: Arc<Loaded>,
    store: Store<HostState>,
    call: Func,
    wake: Option<Func>,
    interest: Interest,
    packed: Packed,
    lost: bool,
    _living: Living,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("plugin", &self.plugin.around.plugin)
            .field("role", &self.plugin.role)
            .field("interest", &self.interest)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

/// One of the instances that a plugin may have.
struct Living(Arc<Loaded>);

impl Living {
    fn begin(plugin: &Arc<Loaded>) -> Result<Living, InstanceError> {
        let limit = plugin.spec.limits.instances;
        let more = |living: u32| (living < limit).then_some(living + 1);
        plugin
            .living
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map(|_| Living(plugin.clone()))
            .map_err(|_| InstanceError::Instances {
                plugin: plugin.spec.name.clone(),
                limit,
            })
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.living.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Instance {
    pub(crate) fn start(
        plugin: Arc<Loaded>,
        number: u32,
        state: Option<&mut (dyn State + '_)>,
    ) -> Result<Instance, InstanceError> {
        let living = Living::begin(&plugin)?;
        let failed = |detail: String| InstanceError::Instantiate {
            plugin: plugin.spec.name.clone(),
            detail,
        };
        let mut store = store(&plugin.engine, &plugin.around);
        if plugin.uses_state {
            // SAFETY: `state` is borrowed until this function returns; the loan ends below, and with
            // the store where it returns early.
            unsafe { store.data_mut().state.lend(state) };
        }
        let _running = plugin.engine.ticker.run();
        let budget = plugin.spec.limits.init_cpu;
        let instance = run(&mut store, budget, Phase::Init, |store| {
            plugin.instance_pre.instantiate(store)
        })
        .map_err(|error| failed(error.to_string()))?;
        let mut function = |index: ComponentExportIndex| {
            instance
                .get_func(&mut store, index)
                .ok_or_else(|| failed("its exports are not those of its component".into()))
        };
        let init = plugin.init.map(&mut function).transpose()?;
        let call = function(plugin.call)?;
        let wake = plugin.wake.map(function).transpose()?;
        let interest = match init {
            Some(init) => init_guest(&plugin, &mut store, init, number)?,
            None => messaging::interest(),
        };
        if plugin.is_messaging {
            // Only an instance knows which of its resources are the host's.
            call.typed::<HandleParams, HandleReturn>(&store)
                .map_err(|error| failed(format!("{}: {error:#}", messaging::HANDLE)))?;
        }
        store.data_mut().state.end();
        Ok(Instance {
            plugin: plugin.clone(),
            store,
            call,
            wake,
            interest,
            packed: Packed::default(),
            lost: false,
            _living: living,
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
    /// [`Role::Each`] and guests of `wasi:messaging`; the deadline is that of each call into the
    /// guest. If any of them fails, all of this one has failed, and the caller throws `effects` away.
    ///
    /// It blocks the thread for as long as the guest runs, at most the CPU time that
    /// [`Limits`](crate::Limits) give it.
    pub fn call(
        &mut self,
        batch: &[MessageRef<'_>],
        effects: &mut Effects<'_>,
    ) -> Result<Verdicts, CallError> {
        let bytes: usize = batch
            .iter()
            .map(|message| message.record.body().len())
            .sum();
        if bytes > ARENA_BYTES_MAX {
            return Err(internal("the batch is too large to be packed", false));
        }
        self.with(effects, |instance, plugin| {
            instance.call_in_parts(plugin, batch)
        })
    }

    /// Calls `on-timer`, within the CPU time of a call without messages.
    pub fn wake(&mut self, effects: &mut Effects<'_>) -> Result<(), CallError> {
        let Some(wake) = self.wake else {
            return Err(internal("the plugin does not export wakes", false));
        };
        self.with(effects, |instance, plugin| {
            let store = &mut instance.store;
            let budget = plugin.spec.limits.cpu_budget(0);
            // SAFETY: `verify::check_exports` compared `on-timer` with these types.
            let (answer,) =
                unsafe { enter::<(), TimerReturn>(store, wake, budget, Phase::Wake, ()) }?;
            answer.map_err(refused)
        })
    }

    /// What the guest asked `timer` for since the last look: so many ms from the end of that call,
    /// or 0 to stop it. To be looked at after `init`, and after every call.
    #[inline]
    pub fn take_timer(&mut self) -> Option<u32> {
        self.store.data_mut().timer.take()
    }

    /// Does `work` with what it may touch; if it fails, what it did is gone here.
    fn with<T>(
        &mut self,
        effects: &mut Effects<'_>,
        work: impl FnOnce(&mut Instance, &Loaded) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        if self.lost {
            return Err(internal("the instance was lost in an earlier call", true));
        }
        let plugin = self.plugin.clone();
        let state = self.store.data_mut();
        state.published.clear();
        state.published_output = Output::default();
        if plugin.uses_state {
            // SAFETY: the state is borrowed until this function returns, the loan ends below, and
            // the guest only runs in between. Should the call unwind, the store is not entered
            // again without passing here, where the loan is replaced.
            unsafe { state.state.lend(effects.state.as_deref_mut()) };
        }
        let _running = plugin.engine.ticker.run();
        let result = work(self, &plugin);
        let state = self.store.data_mut();
        state.state.end();
        match &result {
            Ok(_) => effects.published.append(&mut state.published),
            // An error of any call into the guest leaves it in a state that nothing may enter.
            Err(error) => self.lost = error.instance_lost,
        }
        result
    }

    fn call_in_parts(
        &mut self,
        plugin: &Loaded,
        batch: &[MessageRef<'_>],
    ) -> Result<Verdicts, CallError> {
        if plugin.is_messaging {
            return self.call_handler(plugin, batch);
        }
        if plugin.role == Role::Each {
            return self.call_each(plugin, batch);
        }
        if batch.len() <= self.interest.batch_max {
            return self.call_batch(plugin, 0, batch);
        }
        let mut verdicts = Verdicts::all_passed(0);
        for part in batch.chunks(self.interest.batch_max) {
            verdicts.append(self.call_batch(plugin, verdicts.len(), part)?);
        }
        Ok(verdicts)
    }

    fn call_batch(
        &mut self,
        plugin: &Loaded,
        first: usize,
        batch: &[MessageRef<'_>],
    ) -> Result<Verdicts, CallError> {
        if batch.is_empty() {
            return Ok(Verdicts::all_passed(0));
        }
        let limits = &plugin.spec.limits;
        let mut checker = Checker::new(limits, plugin.spec.destinations.len(), batch);
        self.store.data_mut().published_output = Output::default();
        self.packed.pack(batch, &self.interest);
        let verdicts = match plugin.role {
            Role::Filter => self
                .enter::<BatchParams<'_>, FilterReturn>(plugin, first, batch, Packed::params)
                .and_then(|(answer,)| Ok(checker.filter(answer.map_err(refused)?)?)),
            Role::Transform => self
                .enter::<BatchParams<'_>, TransformReturn>(plugin, first, batch, Packed::params)
                .and_then(|(answer,)| {
                    checker.published(self.store.data().published_output);
                    Ok(checker.transform(answer.map_err(refused)?)?)
                }),
            Role::Route | Role::Each => self
                .enter::<BatchParams<'_>, RouteReturn>(plugin, first, batch, Packed::params)
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
                position,
                &batch[position..=position],
                |_| (raw,),
            )?;
            checker.published(self.store.data().published_output);
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

    /// One call for each message; one that the guest fails on costs that message only.
    fn call_handler(
        &mut self,
        plugin: &Loaded,
        batch: &[MessageRef<'_>],
    ) -> Result<Verdicts, CallError> {
        let mut verdicts = Vec::new();
        for (position, message) in batch.iter().enumerate() {
            let state = self.store.data_mut();
            let before = (state.published.len(), state.published_output);
            let received = messaging::Message::received(message);
            let received = state.hold_message("a call", received)?;
            let (answer,): HandleReturn = self.enter::<HandleParams, HandleReturn>(
                plugin,
                position,
                &batch[position..=position],
                |_| (received,),
            )?;
            if let Err(error) = answer {
                let state = self.store.data_mut();
                state.published.truncate(before.0);
                state.published_output = before.1;
                verdicts.resize(position, Verdict::Pass);
                verdicts.push(Verdict::Failed(cut(error.to_string()).into()));
            }
        }
        if verdicts.is_empty() {
            return Ok(Verdicts::all_passed(batch.len()));
        }
        verdicts.resize(batch.len(), Verdict::Pass);
        Ok(Verdicts::each(verdicts))
    }

    /// One call into the guest, with messages of which the first is number `first` of the caller's.
    fn enter<'p, P, R>(
        &'p mut self,
        plugin: &Loaded,
        first: usize,
        batch: &[MessageRef<'_>],
        params: impl FnOnce(&'p Packed) -> P,
    ) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let budget = plugin.spec.limits.cpu_budget(batch.len());
        let phase = Phase::Call {
            first: first as u32,
            messages: batch.len() as u32,
        };
        if plugin.reads_payloads {
            // SAFETY: `batch` is borrowed until this function returns, the loan ends below, and
            // the guest only runs in between. Should the call unwind, the store is not entered
            // again without passing here, where the loan is replaced.
            unsafe { self.store.data_mut().payloads.lend(batch) };
        }
        let params = params(&self.packed);
        // SAFETY: the component's function was compared with these types, for the role that this
        // is, when the plugin was loaded (`verify::check_exports`), or when this instance was made
        // (`handle` of a guest of `wasi:messaging`).
        let result = unsafe { enter::<P, R>(&mut self.store, self.call, budget, phase, params) };
        self.store.data_mut().payloads.end();
        result
    }
}

fn init_guest(
    plugin: &Loaded,
    store: &mut Store<HostState>,
    init: Func,
    number: u32,
) -> Result<Interest, InstanceError> {
    let config = bindings::Config {
        plugin: &plugin.around.plugin,
        role: plugin.role.name(),
        instance: number,
        settings: &plugin.spec.settings,
        destinations: &plugin.spec.destinations,
    };
    let budget = plugin.spec.limits.init_cpu;
    // SAFETY: `verify::check_exports` compared `init` with these types.
    let answer =
        unsafe { enter::<InitParams<'_>, InitReturn>(store, init, budget, Phase::Init, (config,)) };
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
            error,
        }),
    }
}

/// What `schema.settings` of a component gives, on an instance for this alone, within the limits of
/// `init`. The error is a sentence.
pub(crate) fn read_schema(
    engine: &Shared,
    around: &Arc<Surroundings>,
    instance_pre: &InstancePre<HostState>,
    settings: ComponentExportIndex,
) -> Result<String, String> {
    let failed = |error: CallError| error.to_string();
    let mut store = store(engine, around);
    let budget = around.limits.init_cpu;
    let _running = engine.ticker.run();
    let instance = run(&mut store, budget, Phase::Init, |store| {
        instance_pre.instantiate(store)
    })
    .map_err(failed)?;
    let settings = instance
        .get_func(&mut store, settings)
        .ok_or("its exports are not those of its component")?;
    // SAFETY: `verify::check_exports` compared `settings` with these types.
    let answer =
        unsafe { enter::<(), SettingsReturn>(&mut store, settings, budget, Phase::Schema, ()) };
    answer.map(|(text,)| text).map_err(failed)
}
