//! The routes in force, with the plugins that they need; replaced as a whole.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use waypost_core::route::{Destination, OnError, PluginEntry, Route, RouteTable};
use waypost_host::{Engine, LoadError, Plugin, PluginSpec, Role, Source};
use waypost_wire::Filter;

use crate::config::{self, Config, PluginConfig, PluginSource};

/// The stock plugins, built from `plugins/`, so that a node needs no file beside itself.
const BUILTIN: [(&str, &[u8]); 3] = [
    (
        "quake-magnitude",
        include_bytes!("../../../plugins/prebuilt/quake-magnitude.wasm"),
    ),
    (
        "quake-alert",
        include_bytes!("../../../plugins/prebuilt/quake-alert.wasm"),
    ),
    (
        "quake-route",
        include_bytes!("../../../plugins/prebuilt/quake-route.wasm"),
    ),
];

/// What a plugin has done, over all routes and workers.
#[derive(Debug, Default)]
pub struct PluginStats {
    /// Calls into the guest.
    pub calls: AtomicU64,
    /// Messages of those calls.
    pub messages: AtomicU64,
    /// Calls that failed.
    pub failures: AtomicU64,
    /// Time inside those calls, in ns.
    pub busy_ns: AtomicU64,
    /// Instances alive.
    pub instances: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl PluginStats {
    /// The last failure.
    pub fn last_error(&self) -> Option<String> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A call failed.
    pub fn failed(&self, why: impl Into<String>) {
        self.failures.fetch_add(1, Relaxed);
        *self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(why.into());
    }
}

/// A plugin of the configuration.
#[derive(Debug)]
pub(crate) struct NamedPlugin {
    pub name: Arc<str>,
    pub role: Role,
    pub digest: String,
    pub source: String,
    pub bytes: u64,
    pub stats: Arc<PluginStats>,
}

/// A plugin as one route uses it: a route plugin knows the destinations of its route.
#[derive(Debug)]
pub(crate) struct Bound {
    pub plugin: Plugin,
    pub stats: Arc<PluginStats>,
}

/// Routes and plugins of one moment. A batch sees one of them from start to end.
#[derive(Debug)]
pub(crate) struct Routing {
    pub version: u64,
    pub table: Arc<RouteTable>,
    /// By the table's plugin index.
    pub bound: Vec<Bound>,
    pub plugins: Vec<Arc<NamedPlugin>>,
}

/// The routing in force.
#[derive(Debug)]
pub(crate) struct CurrentRouting {
    current: ArcSwap<Routing>,
    /// Changes with each replacement; cheaper to look at than the routing itself.
    version: AtomicU64,
    configured: Vec<Route>,
    /// The route of what nothing else takes.
    unroutable: Option<Route>,
    /// What nothing takes is refused, whoever publishes it.
    pub is_mandatory: bool,
    entries: Vec<PluginEntry>,
}

impl CurrentRouting {
    pub fn load(&self) -> Arc<Routing> {
        self.current.load_full()
    }

    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    /// Replaces the routes that queues bring with them; the configured ones come first.
    pub fn set_queue_routes(&self, queues: impl IntoIterator<Item = (String, Vec<Filter>)>) {
        let old = self.load();
        let mut routes = self.configured.clone();
        for (queue, filters) in queues {
            let queue: Arc<str> = queue.into();
            routes.extend(filters.into_iter().map(|from| Route {
                name: format!("queue:{queue}").into(),
                from,
                through: Vec::new(),
                to: vec![Destination::Queue(queue.clone())],
                is_final: false,
            }));
        }
        let table = RouteTable::new(routes, self.entries.clone());
        let table = table.with_unroutable(self.unroutable.clone());
        if old.table.routes() == table.routes() {
            return;
        }
        let bound = |b: &Bound| Bound {
            plugin: b.plugin.clone(),
            stats: b.stats.clone(),
        };
        let version = old.version + 1;
        self.current.store(Arc::new(Routing {
            version,
            table: Arc::new(table),
            bound: old.bound.iter().map(bound).collect(),
            plugins: old.plugins.clone(),
        }));
        self.version.store(version, Relaxed);
    }
}

/// Loads the plugins of a configuration and builds its routes.
pub(crate) fn build(config: &Config, engine: Option<&Engine>) -> Result<CurrentRouting, LoadError> {
    let mut plugins: Vec<Arc<NamedPlugin>> = Vec::new();
    let (mut bound, mut entries, mut routes) = (Vec::new(), Vec::new(), Vec::new());
    // Every plugin is loaded, also one that no route uses: its mistakes show at the start.
    for plugin in &config.plugins {
        if let Some(engine) = engine {
            let loaded = engine.load(spec(plugin, config, Vec::new()))?;
            plugins.push(Arc::new(named(plugin, &loaded)));
        }
    }
    for route in &config.routes {
        let destinations: Vec<String> = route.to.iter().map(|to| to.to_string()).collect();
        let mut through = Vec::new();
        for name in &route.through {
            let known = config
                .plugin(name)
                .zip(plugins.iter().find(|p| *p.name == **name));
            let (Some((plugin, named)), Some(engine)) = (known, engine) else {
                continue;
            };
            let loaded = engine.load(spec(plugin, config, destinations.clone()))?;
            through.push(entries.len() as u16);
            entries.push(PluginEntry {
                name: named.name.clone(),
                on_error: on_error(plugin.on_error),
                batch_max: waypost_wire::BATCH_MESSAGES_MAX,
            });
            bound.push(Bound {
                plugin: loaded,
                stats: named.stats.clone(),
            });
        }
        routes.push(Route {
            name: route.name.as_str().into(),
            from: route.from.clone(),
            through,
            to: route.to.iter().map(destination).collect(),
            is_final: route.is_final,
        });
    }
    let unroutable = unroutable(&config.routing.unroutable);
    let table = RouteTable::new(routes.clone(), entries.clone());
    let table = Arc::new(table.with_unroutable(unroutable.clone()));
    Ok(CurrentRouting {
        current: ArcSwap::from_pointee(Routing {
            version: 1,
            table,
            bound,
            plugins,
        }),
        version: AtomicU64::new(1),
        configured: routes,
        unroutable,
        is_mandatory: config.routing.unroutable == config::Unroutable::Refuse,
        entries,
    })
}

/// The route of what nothing else takes, where a queue does. No route of a file has its name.
fn unroutable(unroutable: &config::Unroutable) -> Option<Route> {
    let config::Unroutable::Queue(queue) = unroutable else {
        return None;
    };
    Some(Route {
        name: "routing:unroutable".into(),
        from: Filter::new("#").ok()?,
        through: Vec::new(),
        to: vec![Destination::Queue(queue.as_str().into())],
        is_final: false,
    })
}

fn named(config: &PluginConfig, loaded: &Plugin) -> NamedPlugin {
    let (source, bytes) = match &config.source {
        PluginSource::File(path) => {
            let bytes = std::fs::read(path).unwrap_or_default();
            (path.display().to_string(), std::borrow::Cow::Owned(bytes))
        }
        PluginSource::Builtin(name) => (
            format!("builtin:{name}"),
            std::borrow::Cow::Borrowed(builtin(name).unwrap_or_default()),
        ),
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    NamedPlugin {
        name: config.name.as_str().into(),
        role: loaded.role(),
        digest: digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        source,
        bytes: bytes.len() as u64,
        stats: Arc::new(PluginStats::default()),
    }
}

/// A stock plugin's component.
pub fn builtin(name: &str) -> Option<&'static [u8]> {
    BUILTIN
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, bytes)| *bytes)
}

fn spec(plugin: &PluginConfig, config: &Config, destinations: Vec<String>) -> PluginSpec {
    let source = match &plugin.source {
        PluginSource::File(path) => Source::File(path.clone()),
        PluginSource::Builtin(name) => {
            Source::Bytes(Bytes::from_static(builtin(name).unwrap_or_default()))
        }
    };
    let limits = &plugin.limits;
    let mut spec = PluginSpec::new(plugin.name.as_str(), source);
    spec.role = plugin.role;
    spec.settings = plugin.settings.clone();
    spec.destinations = destinations;
    spec.limits = waypost_host::Limits {
        memory_bytes: limits.memory_bytes as usize,
        call_cpu: limits.deadline,
        message_cpu: limits.deadline_per_message,
        emitted_bytes: limits.output_bytes as usize,
        payload_bytes: config.limits.payload_bytes as usize,
        log_bytes_per_second: u32::try_from(limits.log_bytes_per_second).unwrap_or(u32::MAX),
        ..waypost_host::Limits::default()
    };
    spec
}

fn on_error(on_error: config::OnError) -> OnError {
    match on_error {
        config::OnError::DeadLetter => OnError::DeadLetter,
        config::OnError::Reject => OnError::Reject,
        config::OnError::Pass => OnError::Pass,
    }
}

fn destination(destination: &config::Destination) -> Destination {
    match destination {
        config::Destination::Queue(name) => Destination::Queue(name.as_str().into()),
        config::Destination::Topic(topic) => Destination::Topic(topic.as_str().into()),
        config::Destination::Drop => Destination::Drop,
    }
}
