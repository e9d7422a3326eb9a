//! A loaded plugin: checked and compiled, shared by its instances.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use crate::Limits;
use crate::engine::Shared;
use crate::error::{InstanceError, LoadErrorKind};
use crate::imports::HostState;
use crate::instance::Instance;
use crate::sink::LogMeter;
use crate::verify;

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
    /// Its limits.
    pub limits: Limits,
}

impl PluginSpec {
    /// A plugin without settings and destinations, with the default limits.
    pub fn new(name: impl Into<String>, source: Source) -> PluginSpec {
        PluginSpec {
            name: name.into(),
            source,
            role: None,
            settings: Vec::new(),
            destinations: Vec::new(),
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
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    digest: String,
    pub(crate) init: ComponentExportIndex,
    pub(crate) call: ComponentExportIndex,
    pub(crate) instance_pre: InstancePre<HostState>,
    pub(crate) log_meter: Arc<LogMeter>,
    pub(crate) reads_payloads: bool,
    imports: Vec<String>,
    next_instance: AtomicU32,
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
    /// `exports` are the names of the two interfaces, which were checked.
    pub(crate) fn new(
        engine: Arc<Shared>,
        spec: PluginSpec,
        role: Role,
        component: &Component,
        digest: String,
        exports: (String, String),
        instance_pre: InstancePre<HostState>,
    ) -> Result<Plugin, LoadErrorKind> {
        let export = |interface: &str, function: &str| {
            component
                .get_export_index(None, interface)
                .and_then(|instance| component.get_export_index(Some(&instance), function))
                .ok_or_else(|| LoadErrorKind::MissingExport {
                    item: format!("{interface}#{function}"),
                })
        };
        let (init, call) = (
            export(&exports.0, "init")?,
            export(&exports.1, role.function())?,
        );
        let imports = verify::imports(&engine.wasm, component);
        let reads_payloads = imports.iter().any(|import| import == "payload.read");
        Ok(Plugin(Arc::new(Loaded {
            name: spec.name.as_str().into(),
            log_meter: Arc::new(LogMeter::new(spec.limits.log_bytes_per_second)),
            next_instance: AtomicU32::new(0),
            engine,
            spec,
            role,
            digest,
            init,
            call,
            instance_pre,
            reads_payloads,
            imports,
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// The functions that its component imports, such as `log.log`; all are of the contract.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// SHA-256 of its component in hex: what was loaded, whatever its file holds by now.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// How the configuration describes it.
    pub fn spec(&self) -> &PluginSpec {
        &self.0.spec
    }

    /// Makes an instance and calls `init` on it. Takes 10 to 30 µs for a Rust guest, up to a
    /// millisecond for others.
    pub fn instantiate(&self) -> Result<Instance, InstanceError> {
        let number = self.0.next_instance.fetch_add(1, Ordering::Relaxed);
        Instance::start(self.0.clone(), number)
    }
}
