//! Slots and routes of a running node, and how a change of them takes effect.
//!
//! A change goes in four steps, and an error in any leaves all as it was:
//!
//! 1. **prepare**: the component is verified and compiled (in a process of its own), an instance
//!    made for every worker. No message waits for it.
//! 2. **keep**: the slot's file is replaced, durably. A crash before leaves the old version, a crash
//!    after the new one.
//! 3. **hand over**: every worker gets its instances.
//! 4. **replace**: the routing is replaced. A batch that has begun ends with the old one; its
//!    instances go with the last of these.
//!
//! One change is under way at a time (`turn`). What needs no preparing (`pause`, routes of queues)
//! does not wait for one that compiles: `state` is locked for steps 2 to 4 only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use waypost_core::route::Route;
use waypost_host::{CacheOptions, Compiler, Engine, EngineOptions, Instance, Plugin, StateFull};
use waypost_supply::{KeyId, TrustedKeys};

use super::error::ChangeError;
use super::guard::Guard;
use super::logs::PluginLog;
use super::record::{RouteRecord, SlotRecord};
use super::shadow::ShadowPort;
use super::slot::{Code, Origin, Slot, spec};
use super::stats::PluginStats;
use super::store::{Found, Store, StoreError};
use super::trust::trusted;
use crate::alarms::{AlarmKind, Alarms};
use crate::clock::wall_ms;
use crate::config::{Config, LimitsConfig, PluginConfig, PluginSource, RegistryConfig};
use crate::error::StartError;
use crate::routing::{
    self, Bound, CurrentRouting, Parts, PlannedRoute, QueueRoutes, Routing, Service,
};
use crate::workers::Workers;

/// Components that came and that no slot names yet.
const PENDING_MAX: usize = 8;
/// Components that may arrive at a time.
const UPLOADS_MAX: usize = 4;

/// See the module.
pub(crate) struct Plugins {
    pub(super) data_dir: PathBuf,
    limits: LimitsConfig,
    pub(super) trusted_keys: TrustedKeys,
    pub(super) registries: Vec<RegistryConfig>,
    /// Names in registries that the configuration has.
    pub(super) references: BTreeSet<String>,
    pub(super) pull_timeout: Duration,
    /// See [`Plugins::keeping`].
    pub(super) keeping: Mutex<()>,
    compiler: Compiler,
    engine: OnceLock<Engine>,
    pub(super) store: Store,
    pub(super) logs: Arc<PluginLog>,
    pub(super) alarms: Arc<Alarms>,
    pub(super) workers: Arc<Workers>,
    pub(super) routing: Arc<CurrentRouting>,
    unroutable: Option<Route>,
    pub(super) state: Mutex<State>,
    /// Held while a change is prepared and made.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// Components that may arrive at a time.
    pub uploads: tokio::sync::Semaphore,
}

/// What the routing is made from.
pub(super) struct State {
    pub slots: BTreeMap<Arc<str>, Arc<Slot>>,
    pub configured: Vec<PlannedRoute>,
    pub routes: Vec<RouteRecord>,
    queues: Vec<QueueRoutes>,
    /// The node stops: nothing is kept any more.
    pub is_closed: bool,
    /// Something could not be read at the start, and may name components: none is removed.
    pub is_damaged: bool,
    pub pending: VecDeque<String>,
    next_generation: u64,
}

/// What a trial of a plugin finds in its state: nothing.
pub(super) struct NoState;

impl waypost_host::State for NoState {
    fn get(&mut self, _: &[u8]) -> Option<Bytes> {
        None
    }

    fn set(&mut self, _: &[u8], _: Option<Bytes>, _: u64) -> Result<(), StateFull> {
        Err(StateFull)
    }

    fn scan(&mut self, _: &[u8], _: Option<&[u8]>, _: usize, _: usize) -> Vec<(Bytes, Bytes)> {
        Vec::new()
    }
}

/// A slot's component, loaded for a route, with an instance for each worker that will run it.
pub(super) struct Prepared {
    pub destinations: Vec<String>,
    pub plugin: Plugin,
    pub signed_by: Option<KeyId>,
    pub instances: Vec<Instance>,
}

/// What a node starts with.
pub(crate) struct Opening<'a> {
    pub config: &'a Config,
    pub compiler: Compiler,
    pub alarms: Arc<Alarms>,
    pub workers: Arc<Workers>,
    pub queues: Vec<QueueRoutes>,
}

impl Plugins {
    /// Reads what is kept, loads all plugins, and makes the first routing.
    pub fn open(opening: Opening<'_>) -> Result<(Plugins, Arc<CurrentRouting>), StartError> {
        let Opening {
            config,
            compiler,
            alarms,
            workers,
            queues,
        } = opening;
        let (store, found) = Store::open(&config.node.data_dir)
            .map_err(|error| StartError::Plugins(error.to_string()))?;
        conflicts(config, &found)?;
        let is_mandatory = config.routing.unroutable == crate::config::Unroutable::Refuse;
        let empty = Routing::new(
            0,
            Parts {
                slots: &BTreeMap::new(),
                routes: Vec::new(),
                queues: &[],
                unroutable: None,
            },
            &[],
            |slot, destinations| Arc::new(Bound::new(slot, destinations, down("not loaded"))),
        );
        let routing = Arc::new(CurrentRouting::new(empty, is_mandatory));
        let plugins = Plugins {
            data_dir: config.node.data_dir.clone(),
            limits: config.limits.clone(),
            trusted_keys: config.supply.trusted_keys.clone(),
            registries: config.registries.clone(),
            references: references(config),
            pull_timeout: config.supply.pull_timeout,
            keeping: Mutex::new(()),
            compiler,
            engine: OnceLock::new(),
            store,
            logs: Arc::new(PluginLog::default()),
            alarms,
            workers,
            routing: routing.clone(),
            unroutable: routing::unroutable(config),
            state: Mutex::new(State {
                slots: BTreeMap::new(),
                configured: config.routes.iter().map(PlannedRoute::of_config).collect(),
                routes: Vec::new(),
                queues,
                is_closed: false,
                is_damaged: !found.damaged.is_empty(),
                pending: VecDeque::new(),
                next_generation: 1,
            }),
            turn: Arc::new(tokio::sync::Mutex::new(())),
            uploads: tokio::sync::Semaphore::new(UPLOADS_MAX),
        };
        plugins.begin(config, found)?;
        Ok((plugins, routing))
    }

    /// Fills the state from the configuration and from what was found on disk.
    fn begin(&self, config: &Config, found: Found) -> Result<(), StartError> {
        let mut state = self.state();
        for damaged in &found.damaged {
            let text = format!(
                "{}; what it says is not in force: deploy or add it again",
                damaged.error
            );
            let subject = damaged.slot.as_deref().unwrap_or(damaged.what);
            let kind = AlarmKind::DamagedPlugin;
            self.alarms.raise(kind, subject, text.clone(), wall_ms());
            if let Some(name) = &damaged.slot
                && config.plugin(name).is_none()
            {
                let plugin = PluginConfig::new(name.as_str(), PluginSource::Deployed);
                let slot = self.slot(&mut state, Origin::Network, plugin, Err(text), None);
                state.slots.insert(slot.name.clone(), Arc::new(slot));
            }
        }
        let mut records: BTreeMap<String, SlotRecord> = found
            .slots
            .into_iter()
            .map(|record| (record.name.clone(), record))
            .collect();
        let mut left = config.supply.pull_timeout;
        for plugin in &config.plugins {
            let slot = match plugin.source {
                PluginSource::Deployed => {
                    let record = records.remove(&plugin.name);
                    self.deployed(&mut state, Origin::Deployed, plugin.clone(), record)
                }
                PluginSource::Digest(_) => {
                    let code = self.look(plugin).map_err(|error| error.to_string());
                    self.slot(&mut state, Origin::Config, plugin.clone(), code, None)
                }
                PluginSource::Oci { .. } => self.pulled(&mut state, plugin.clone(), &mut left),
                PluginSource::File(_) | PluginSource::Builtin(_) => {
                    let code = self.look(plugin).map_err(start_error)?;
                    self.slot(&mut state, Origin::Config, plugin.clone(), Ok(code), None)
                }
            };
            state.slots.insert(slot.name.clone(), Arc::new(slot));
        }
        for (name, record) in records {
            let version = record.active().map(|version| version.config(&name));
            let plugin = match version {
                Some(Ok(plugin)) => plugin,
                // Both were looked at when the file was read.
                Some(Err(_)) | None => PluginConfig::new(&name, PluginSource::Deployed),
            };
            let slot = self.deployed(&mut state, Origin::Network, plugin, Some(record));
            state.slots.insert(slot.name.clone(), Arc::new(slot));
        }
        for slot in state.slots.values() {
            self.tell(slot);
        }
        self.begin_routes(&mut state, found.routes);
        self.clean(&mut state);
        self.replace(&mut state, Vec::new());
        Ok(())
    }

    /// Routes whose slots are gone cannot be in force.
    fn begin_routes(&self, state: &mut State, routes: Vec<RouteRecord>) {
        for route in routes {
            let planned = super::routes::planned(&route);
            let missing = route
                .through
                .iter()
                .find(|name| !state.slots.contains_key(name.as_str()));
            let why = match (&planned, missing) {
                (Err(error), _) => Some(error.to_string()),
                (Ok(_), Some(name)) => Some(format!("no plugin '{name}' is there any more")),
                (Ok(_), None) => None,
            };
            if let Some(why) = why {
                let subject = format!("route {}", route.name);
                let text = format!("{why}: the route is not in force");
                self.alarms
                    .raise(AlarmKind::DamagedPlugin, &subject, text, wall_ms());
            }
            state.routes.push(route);
        }
    }

    /// A slot whose code came over the network, or did not.
    fn deployed(
        &self,
        state: &mut State,
        origin: Origin,
        mut plugin: PluginConfig,
        record: Option<SlotRecord>,
    ) -> Slot {
        let code = match record.as_ref().and_then(SlotRecord::active) {
            None => Err("no component was deployed".to_owned()),
            Some(version) => {
                plugin.source = PluginSource::Digest(version.digest.clone());
                self.look(&plugin).map_err(|error| error.to_string())
            }
        };
        self.slot(state, origin, plugin, code, record)
    }

    /// Whether the code can be run, and what it is.
    pub(super) fn look(&self, plugin: &PluginConfig) -> Result<Code, ChangeError> {
        let (loaded, signed_by) = self.load(plugin, Vec::new())?;
        Ok(self.code(plugin, &loaded, signed_by))
    }

    pub(super) fn code(
        &self,
        plugin: &PluginConfig,
        loaded: &Plugin,
        signed_by: Option<KeyId>,
    ) -> Code {
        let bytes = match &plugin.source {
            PluginSource::File(path) => std::fs::metadata(path).map_or(0, |file| file.len()),
            PluginSource::Builtin(name) => {
                crate::shelf::stock(name).map_or(0, |stock| stock.bytes())
            }
            other => other.digest().map_or(0, |digest| {
                let path = self.store.blob_path(digest);
                std::fs::metadata(path).map_or(0, |file| file.len())
            }),
        };
        Code {
            role: loaded.role(),
            digest: loaded.digest().to_owned(),
            bytes,
            imports: loaded.imports().to_vec(),
            signed_by,
            secrets: Code::secrets(plugin, loaded),
        }
    }

    pub(super) fn slot(
        &self,
        state: &mut State,
        origin: Origin,
        config: PluginConfig,
        code: Result<Code, String>,
        record: Option<SlotRecord>,
    ) -> Slot {
        let old = state.slots.get(config.name.as_str());
        let stats = old.map_or_else(Arc::<PluginStats>::default, |old| old.stats.clone());
        let shadow = old.map_or_else(Arc::<ShadowPort>::default, |old| old.shadow.clone());
        let generation = state.next_generation;
        state.next_generation += 1;
        self.logs.of(&config.name);
        Slot {
            name: config.name.as_str().into(),
            generation,
            origin,
            paused: record.as_ref().and_then(|record| record.paused),
            began: stats.snapshot(),
            since_ms: wall_ms(),
            guard: Arc::new(Guard::new(&config.breaker)),
            shadow,
            config,
            code,
            record,
            stats,
        }
    }

    /// The engine, made when the first plugin comes.
    pub(super) fn engine(&self) -> Result<&Engine, ChangeError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let options = EngineOptions {
            compiler: self.compiler.clone(),
            cache: Some(CacheOptions {
                directory: self.data_dir.join("plugin-cache"),
                key_file: self.data_dir.join("plugin-cache.key"),
            }),
            sink: self.logs.clone(),
            ..EngineOptions::default()
        };
        let engine = Engine::new(options)?;
        Ok(self.engine.get_or_init(|| engine))
    }

    pub(super) fn load(
        &self,
        plugin: &PluginConfig,
        to: Vec<String>,
    ) -> Result<(Plugin, Option<KeyId>), ChangeError> {
        if let Some(digest) = plugin.source.digest()
            && !self.store.blob_path(digest).exists()
        {
            let digest = digest.to_owned();
            return Err(StoreError::NoComponent { digest }.into());
        }
        let Some(trusted) = trusted(&self.data_dir, plugin, &self.trusted_keys)? else {
            let text = format!("plugin '{}': no component was deployed", plugin.name);
            return Err(ChangeError::Conflict(text));
        };
        let spec = spec(plugin, &self.limits, trusted.source, to);
        let loaded = self.engine()?.load(spec)?;
        Ok((loaded, trusted.signed_by))
    }

    /// Loads a slot's component for a route, and starts it for every worker that will run it.
    pub(super) fn prepare(
        &self,
        plugin: &PluginConfig,
        destinations: Vec<String>,
    ) -> Result<Prepared, ChangeError> {
        let (loaded, signed_by) = self.load(plugin, destinations.clone())?;
        let mut instances = Vec::new();
        if loaded.uses_state() {
            // Only the worker that has the state can make the one that counts: this is a trial.
            loaded.instantiate(Some(&mut NoState))?;
        } else {
            let count = if loaded.is_serial() {
                1
            } else {
                self.workers.count()
            };
            for _ in 0..count {
                instances.push(loaded.instantiate(None)?);
            }
        }
        Ok(Prepared {
            destinations,
            plugin: loaded,
            signed_by,
            instances,
        })
    }

    /// The destinations of the routes that go through a slot; one set without any where there is
    /// none, so that the component is tried all the same.
    pub(super) fn uses(&self, state: &State, slot: &str) -> Vec<Vec<String>> {
        let routes = super::routes::all(state);
        let through = routes
            .iter()
            .filter(|r| r.through.iter().any(|name| &**name == slot));
        let uses: BTreeSet<Vec<String>> = through.map(PlannedRoute::destinations).collect();
        match uses.is_empty() {
            true => vec![Vec::new()],
            false => uses.into_iter().collect(),
        }
    }

    /// Steps 3 and 4: workers get their instances, and the routing is replaced.
    pub(super) fn replace(&self, state: &mut State, prepared: Vec<(Arc<Slot>, Prepared)>) {
        let old = self.routing.load();
        let mut prepared = prepared;
        let mut handed = Vec::new();
        let parts = Parts {
            slots: &state.slots,
            routes: super::routes::all(state),
            queues: &state.queues,
            unroutable: self.unroutable.clone(),
        };
        let new = Routing::new(old.version + 1, parts, &old.bound, |slot, destinations| {
            let is_it = |(of, prepared): &(Arc<Slot>, Prepared)| {
                of.generation == slot.generation && prepared.destinations == destinations
            };
            let found = prepared.iter().position(is_it);
            let found = found.map(|at| prepared.swap_remove(at).1);
            let (service, instances) = match found {
                Some(found) if slot.paused.is_none() => {
                    (Service::Running(found.plugin), found.instances)
                }
                _ => (self.service(slot, destinations.clone()), Vec::new()),
            };
            let bound = Arc::new(Bound::new(slot, destinations, service));
            handed.push((bound.clone(), instances));
            bound
        });
        let new = Arc::new(new);
        for (bound, instances) in handed {
            self.workers.adopt(&bound, instances);
        }
        self.routing.replace(new.clone());
        self.workers.retire(&new);
    }

    /// What a slot does where nothing was prepared.
    fn service(&self, slot: &Slot, destinations: Vec<String>) -> Service {
        if let Err(why) = &slot.code {
            return Service::Down(why.clone());
        }
        if let Some(pause) = slot.paused {
            return Service::Paused(pause);
        }
        match self.load(&slot.config, destinations) {
            Ok((plugin, _)) => Service::Running(plugin),
            Err(error) => {
                let why = error.to_string();
                self.alarms
                    .raise(AlarmKind::PluginOutOfService, &slot.name, &why, wall_ms());
                Service::Down(why)
            }
        }
    }

    /// Raises an alarm for a slot that cannot run, or ends it.
    pub(super) fn tell(&self, slot: &Slot) {
        match &slot.code {
            Err(why) => {
                let text = format!("{why}; its messages meet on_error");
                let kind = AlarmKind::PluginOutOfService;
                self.alarms.raise(kind, &slot.name, text, wall_ms());
            }
            Ok(_) => {
                for kind in [AlarmKind::PluginOutOfService, AlarmKind::DamagedPlugin] {
                    self.alarms.clear(kind, &slot.name);
                }
            }
        }
    }

    /// Whether a slot is bound to a route with these destinations already.
    pub(super) fn is_bound(&self, slot: &Slot, destinations: &[String]) -> bool {
        let routing = self.routing.load();
        routing
            .bound
            .iter()
            .any(|bound| bound.is_for(slot, destinations))
    }

    /// Ends the alarm for routes that could not be read: others took their place.
    pub(super) fn tell_routes(&self) {
        self.alarms.clear(AlarmKind::DamagedPlugin, "routes");
    }

    /// Removes components that no version of a slot names, and what was compiled from them.
    pub(super) fn clean(&self, state: &mut State) {
        if state.is_damaged {
            return;
        }
        let _keeping = self.keeping();
        let mut named: BTreeSet<String> = state.pending.iter().cloned().collect();
        match self.store.pulled() {
            Ok(pulled) => named.extend(pulled.into_iter().map(|pulled| pulled.component)),
            // It may name components.
            Err(_) => return,
        }
        for slot in state.slots.values() {
            named.extend(slot.config.source.digest().map(str::to_owned));
            named.extend(
                slot.shadow
                    .current()
                    .map(|shadow| shadow.about.digest.clone()),
            );
            let versions = slot.record.iter().flat_map(|record| &record.versions);
            named.extend(versions.map(|version| version.digest.clone()));
        }
        match self.store.keep_only(&named) {
            Ok(gone) => {
                if let Some(engine) = self.engine.get() {
                    gone.iter().for_each(|digest| engine.forget(digest));
                }
            }
            Err(error) => tracing::warn!(%error, "components that nothing names stay"),
        }
    }

    /// A component has come; the oldest of those that no slot names may go.
    pub(super) fn came(&self, digest: &str) {
        let mut state = self.state();
        state.pending.retain(|pending| pending != digest);
        state.pending.push_back(digest.to_owned());
        if state.pending.len() > PENDING_MAX {
            state.pending.pop_front();
            self.clean(&mut state);
        }
    }

    /// Replaces the routes that queues bring with them; those of the configuration and of the
    /// network come first.
    pub fn set_queue_routes(&self, queues: Vec<QueueRoutes>) {
        let mut state = self.state();
        if state.queues != queues {
            state.queues = queues;
            self.replace(&mut state, Vec::new());
        }
    }

    /// Ends all changes: the data directory may be another process's from now on.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let slots = state.slots.values();
        slots.for_each(|slot| slot.shadow.end("the node stops"));
    }

    /// The state, for a change that is kept.
    pub(super) fn open_state(&self) -> Result<MutexGuard<'_, State>, ChangeError> {
        let state = self.state();
        match state.is_closed {
            false => Ok(state),
            true => Err(ChangeError::Closed),
        }
    }

    /// What a panic elsewhere leaves is a whole state: it is changed by single assignments.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn down(why: &str) -> Service {
    Service::Down(why.to_owned())
}

fn start_error(error: ChangeError) -> StartError {
    match error {
        ChangeError::Load(error) => StartError::Plugin(error),
        ChangeError::Engine(error) => StartError::Engine(error),
        ChangeError::Untrusted(error) => StartError::Untrusted(Box::new(error)),
        other => StartError::Plugins(other.to_string()),
    }
}

fn references(config: &Config) -> BTreeSet<String> {
    let names = config
        .plugins
        .iter()
        .filter_map(|plugin| match &plugin.source {
            PluginSource::Oci { reference, .. } => Some(reference.to_string()),
            _ => None,
        });
    names.collect()
}

/// A name may be in the configuration or in what the network made, not in both.
fn conflicts(config: &Config, found: &Found) -> Result<(), StartError> {
    let named = |record: &&SlotRecord| {
        config
            .plugin(&record.name)
            .is_some_and(|plugin| plugin.source != PluginSource::Deployed)
    };
    if let Some(record) = found.slots.iter().find(named) {
        return Err(StartError::Plugins(format!(
            "plugin '{}' is named by the configuration, with its code, and was deployed over the \
             network too: take it out of the file and remove it with `waypost plugin rm`, or use \
             another name, or let the file say deployed = true",
            record.name
        )));
    }
    let same = |route: &&RouteRecord| config.routes.iter().any(|r| r.name == route.name);
    match found.routes.iter().find(same) {
        None => Ok(()),
        Some(route) => Err(StartError::Plugins(format!(
            "route '{}' is named by the configuration and was added over the network too: take it \
             out of the file and remove it with `waypost route rm`, or use another name",
            route.name
        ))),
    }
}

/// What `check` says of names that are in both.
pub fn check_conflicts(config: &Config) -> Vec<String> {
    match Store::new(&config.node.data_dir).find() {
        Ok(found) => conflicts(config, &found)
            .err()
            .map(|error| error.to_string())
            .into_iter()
            .collect(),
        Err(_) => Vec::new(),
    }
}
