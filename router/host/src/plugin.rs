//! A loaded plugin: checked and compiled, shared by its instances.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use crate::cpu::{CpuMeter, CpuSpent};
use crate::effects::State;
use crate::engine::Shared;
use crate::error::{InstanceError, LoadErrorKind};
use crate::imports::{HostState, Surroundings};
use crate::instance::{Instance, read_schema};
use crate::messaging;
use crate::schema::{SettingsError, SettingsSchema};
use crate::sink::LogMeter;
use crate::verify::{self, Exports};
use crate::{Grants, Limits};

/// What a plugin does with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Says which go on.
    Filter,
    /// Says what they become.
    Transform,
    /// Says where they go.
    Route,
    /// Any of these, one message a call.
    Each,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::Filter, Role::Transform, Role::Route, Role::Each];

    /// The name in configuration, and of the interface.
    pub fn name(self) -> &'static str {
        match self {
            Role::Filter => "filter",
            Role::Transform => "transform",
            Role::Route => "route",
            Role::Each => "each",
        }
    }

    /// The role with this name.
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The function of the interface.
    pub(crate) fn function(self) -> &'static str {
        match self {
            Role::Each => "on-message",
            other => other.name(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a component comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Bytes that the program holds.
    Bytes(bytes::Bytes),
    /// Bytes that were read from a file, so that what was looked at before is what is loaded.
    Read {
        /// The file.
        path: PathBuf,
        /// What it held.
        bytes: bytes::Bytes,
    },
}

/// A plugin, as the configuration describes it.
#[derive(Clone, Debug)]
pub struct PluginSpec {
    /// Its name.
    pub name: String,
    /// Its component.
    pub source: Source,
    /// The role that is meant; needed only where the component exports several.
    pub role: Option<Role>,
    /// Its settings, in the order of the configuration.
    pub settings: Vec<(String, String)>,
    /// What a route answer's indexes count into.
    pub destinations: Vec<String>,
    /// What it may import.
    pub grants: Grants,
    /// Its limits.
    pub limits: Limits,
}

impl PluginSpec {
    /// A plugin without settings and destinations, with the default grants and limits.
    pub fn new(name: impl Into<String>, source: Source) -> PluginSpec {
        PluginSpec {
            name: name.into(),
            source,
            role: None,
            settings: Vec::new(),
            destinations: Vec::new(),
            grants: Grants::default(),
            limits: Limits::default(),
        }
    }
}

/// A loaded plugin. Cheap to clone; all clones are the same plugin.
#[derive(Clone)]
pub struct Plugin(pub(crate) Arc<Loaded>);

pub(crate) struct Loaded {
    pub(crate) engine: Arc<Shared>,
    pub(crate) spec: PluginSpec,
    pub(crate) around: Arc<Surroundings>,
    pub(crate) role: Role,
    /// A guest of `wasi:messaging`: [`Loaded::call`] is its `handle`, and it has no `init`.
    pub(crate) is_messaging: bool,
    pub(crate) init: Option<ComponentExportIndex>,
    pub(crate) call: ComponentExportIndex,
    pub(crate) wake: Option<ComponentExportIndex>,
    pub(crate) instance_pre: InstancePre<HostState>,
    pub(crate) reads_payloads: bool,
    pub(crate) uses_state: bool,
    pub(crate) living: AtomicU32,
    publishes: bool,
    digest: String,
    imports: Vec<String>,
    exports: Vec<String>,
    schema: Option<SettingsSchema>,
    settings: Result<(), SettingsError>,
    next_instance: AtomicU32,
}

/// A component that was checked against the contract, for one role.
pub(crate) struct Checked {
    pub component: Component,
    pub role: Role,
    pub is_messaging: bool,
    pub digest: String,
    pub exports: Exports,
    pub instance_pre: InstancePre<HostState>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loaded { spec, role, .. } = &*self.0;
        f.debug_struct("Plugin")
            .field("name", &spec.name)
            .field("role", role)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    pub(crate) fn new(
        engine: Arc<Shared>,
        spec: PluginSpec,
        checked: Checked,
    ) -> Result<Plugin, LoadErrorKind> {
        let Checked {
            component,
            role,
            is_messaging,
            digest,
            exports,
            instance_pre,
        } = checked;
        let export = |interface: &str, function: &str| {
            component
                .get_export_index(None, interface)
                .and_then(|instance| component.get_export_index(Some(&instance), function))
                .ok_or_else(|| LoadErrorKind::MissingExport {
                    item: format!("{interface}#{function}"),
                })
        };
        let optional = |interface: &Option<String>, function: &str| {
            let interface = interface.as_deref();
            interface.map(|name| export(name, function)).transpose()
        };
        let imports = verify::imports(&engine.wasm, &component);
        let imports_from =
            |interface: &str| imports.iter().any(|import| import.starts_with(interface));
        let wake = optional(&exports.wakes, "on-timer")?;
        if imports_from("timer.") && wake.is_none() {
            return Err(LoadErrorKind::NeedsExport {
                import: verify::versioned("timer"),
                export: format!("{}#on-timer", verify::versioned("wakes")),
            });
        }
        let around = Arc::new(Surroundings {
            plugin: spec.name.as_str().into(),
            limits: spec.limits.clone(),
            grants: spec.grants.clone(),
            log_meter: LogMeter::new(spec.limits.log_bytes_per_second),
            cpu: CpuMeter::new(spec.limits.cpu_per_second, engine.start),
            clock: engine.options.clock.clone(),
        });
        let schema = optional(&exports.schema, "settings")?
            .map(|settings| read_schema(&engine, &around, &instance_pre, settings))
            .transpose()
            .and_then(|text| text.map(|text| SettingsSchema::parse(&text)).transpose())
            .map_err(|detail| LoadErrorKind::Schema { detail })?;
        let settings = match &schema {
            Some(schema) => schema.check(&spec.settings),
            None if is_messaging => messaging::check_settings(&spec.settings),
            None => Ok(()),
        };
        let sends = imports.iter().any(|import| messaging::is_sending(import));
        Ok(Plugin(Arc::new(Loaded {
            init: optional(&exports.lifecycle, "init")?,
            call: export(&exports.role, exports.function)?,
            wake,
            reads_payloads: imports_from("payload."),
            uses_state: imports_from("state."),
            publishes: imports_from("publish.") || (sends && spec.grants.publish.is_some()),
            living: AtomicU32::new(0),
            next_instance: AtomicU32::new(0),
            engine,
            spec,
            around,
            role,
            is_messaging,
            instance_pre,
            digest,
            imports,
            exports: exports.into_names(),
            schema,
            settings,
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.around.plugin
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// The functions that its component imports, such as `log.log`, or, of a guest of
    /// `wasi:messaging`, `wasi:messaging/producer.send`.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// The interfaces that its component exports and this host calls, with their versions, such as
    /// `waypost:plugin/filter@0.1.1`.
    pub fn exports(&self) -> &[String] {
        &self.0.exports
    }

    /// The version of the contract that its component was built with, or
    /// `wasi:messaging@0.2.0-draft`.
    pub fn contract(&self) -> &str {
        if self.0.is_messaging {
            return messaging::CONTRACT;
        }
        let versions = self
            .0
            .exports
            .iter()
            .filter_map(|name| name.rsplit_once('@'));
        versions
            .map(|(_, version)| version)
            .max()
            .unwrap_or_default()
    }

    /// SHA-256 of its component in hex: what was loaded, whatever its file holds by now.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// How the configuration describes it.
    pub fn spec(&self) -> &PluginSpec {
        &self.0.spec
    }

    /// Whether its calls have effects beside their answers: it was granted `state` or `publish`, and
    /// imports it, or imports what sends. Such a plugin must be called with one batch at a time, and the next only when
    /// what came of the one before was accepted or refused.
    pub fn is_serial(&self) -> bool {
        self.0.uses_state || self.0.publishes
    }

    /// Whether it uses `state`: [`Effects::state`](crate::Effects::state) must be there in calls.
    pub fn uses_state(&self) -> bool {
        self.0.uses_state
    }

    /// Whether it can be called by a timer.
    pub fn wakes(&self) -> bool {
        self.0.wake.is_some()
    }

    /// What settings it takes, if it says so itself.
    pub fn settings_schema(&self) -> Option<&SettingsSchema> {
        self.0.schema.as_ref()
    }

    /// Whether its settings fit its own schema; if they do not, no instance starts.
    pub fn check_settings(&self) -> Result<(), SettingsError> {
        self.0.settings.clone()
    }

    /// Whether a call may begin at `now`, as far as
    /// [`Limits::cpu_per_second`](crate::Limits::cpu_per_second) goes. To be asked before a call:
    /// [`Instance::call`] does not ask. On an error, hold the batch back for
    /// [`CpuSpent::wait`] without blocking the thread, which slows those who publish to this
    /// plugin, or treat its messages as `on_error` says. It costs a few ns.
    #[inline]
    pub fn admit(&self, now: Instant) -> Result<(), CpuSpent> {
        self.0.around.cpu.admit(now)
    }

    /// CPU time that all its instances have used so far, calls that failed and `init` included.
    pub fn cpu_used(&self) -> Duration {
        self.0.around.cpu.used()
    }

    /// Instances that are alive.
    pub fn instances(&self) -> u32 {
        self.0.living.load(Ordering::Relaxed)
    }

    /// Makes an instance and calls `init` on it, which may read `state` where the plugin uses it.
    /// Takes 10 to 30 µs for a Rust guest, up to a millisecond for others.
    pub fn instantiate(
        &self,
        state: Option<&mut (dyn State + '_)>,
    ) -> Result<Instance, InstanceError> {
        self.check_settings()
            .map_err(|error| InstanceError::Settings {
                plugin: self.name().to_owned(),
                error,
            })?;
        let number = self.0.next_instance.fetch_add(1, Ordering::Relaxed);
        Instance::start(self.0.clone(), number, state)
    }
}
