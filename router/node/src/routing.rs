//! The routes in force, with the plugins that they need; replaced as a whole.
//!
//! Invariant: a [`Routing`] never changes, and a batch sees one of them from start to end. What a
//! route uses of a slot is a [`Bound`]; the next routing has the same one where neither the slot nor
//! the route's destinations changed, so that instances stay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use waypost_core::route::{Destination, OnError, PluginEntry, Retry, Route, RouteTable};
use waypost_host::Plugin;
use waypost_wire::Filter;

use crate::config::{self, Config};
use crate::plugins::{Guard, Pause, PluginStats, ShadowPort, Slot};

/// A plugin as some routes use it: a route plugin knows the destinations of its route.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Unique in this process: instances are kept by it.
    pub id: u64,
    pub slot: Arc<str>,
    /// Of the slot, when this was bound.
    pub generation: u64,
    pub destinations: Vec<String>,
    pub service: Service,
    pub stats: Arc<PluginStats>,
    pub guard: Arc<Guard>,
    pub shadow: Arc<ShadowPort>,
}

/// What becomes of messages for a plugin.
#[derive(Debug)]
pub(crate) enum Service {
    /// It is called.
    Running(Plugin),
    /// A person paused it.
    Paused(Pause),
    /// It cannot run: they meet `on_error`, for this reason.
    Down(String),
}

impl Bound {
    pub fn new(slot: &Slot, destinations: Vec<String>, service: Service) -> Bound {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Bound {
            id: NEXT.fetch_add(1, Relaxed),
            slot: slot.name.clone(),
            generation: slot.generation,
            destinations,
            service,
            stats: slot.stats.clone(),
            guard: slot.guard.clone(),
            shadow: slot.shadow.clone(),
        }
    }

    /// Whether its calls have effects, and count whole or not at all.
    pub fn is_serial(&self) -> bool {
        matches!(&self.service, Service::Running(plugin) if plugin.is_serial())
    }

    /// Whether it is what a route with these destinations needs of a slot.
    pub fn is_for(&self, slot: &Slot, destinations: &[String]) -> bool {
        self.slot == slot.name
            && self.generation == slot.generation
            && self.destinations == destinations
    }
}

/// A route, before its plugins are bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedRoute {
    pub name: Arc<str>,
    pub from: Filter,
    pub through: Vec<Arc<str>>,
    pub to: Vec<Destination>,
    pub is_final: bool,
    /// Whether the configuration names it; else the network made it.
    pub is_configured: bool,
}

impl PlannedRoute {
    pub fn of_config(route: &config::RouteConfig) -> PlannedRoute {
        PlannedRoute {
            name: route.name.as_str().into(),
            from: route.from.clone(),
            through: route
                .through
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            to: route.to.iter().map(destination).collect(),
            is_final: route.is_final,
            is_configured: true,
        }
    }

    /// As plugins are told of them.
    pub fn destinations(&self) -> Vec<String> {
        self.to.iter().map(ToString::to_string).collect()
    }
}

/// Routes and plugins of one moment.
#[derive(Debug)]
pub(crate) struct Routing {
    pub version: u64,
    pub table: Arc<RouteTable>,
    /// By the table's plugin index.
    pub bound: Vec<Arc<Bound>>,
    /// All slots, also those that no route uses.
    pub slots: Vec<Arc<Slot>>,
    /// The table's first routes, as they were planned: all but those of queues.
    pub planned: Arc<[PlannedRoute]>,
}

/// A queue, and the filters of topics that reach it without a route.
pub(crate) type QueueRoutes = (String, Vec<Filter>);

/// What a routing is made of.
pub(crate) struct Parts<'a> {
    pub slots: &'a BTreeMap<Arc<str>, Arc<Slot>>,
    /// In the order in which they run.
    pub routes: Vec<PlannedRoute>,
    pub queues: &'a [QueueRoutes],
    /// The route of what nothing else takes.
    pub unroutable: Option<Route>,
}

impl Routing {
    /// Binds plugins to routes: as `old` did where nothing changed, else with `bind`.
    pub fn new(
        version: u64,
        parts: Parts<'_>,
        old: &[Arc<Bound>],
        mut bind: impl FnMut(&Arc<Slot>, Vec<String>) -> Arc<Bound>,
    ) -> Routing {
        let mut bound: Vec<Arc<Bound>> = Vec::new();
        let mut entries = Vec::new();
        let mut routes = Vec::new();
        for route in &parts.routes {
            let destinations = route.destinations();
            let mut through = Vec::new();
            for name in &route.through {
                // Whoever makes a route has seen that its slots are there.
                let Some(slot) = parts.slots.get(name) else {
                    continue;
                };
                let is_it = |b: &&Arc<Bound>| b.is_for(slot, &destinations);
                let known = bound.iter().position(|b| is_it(&b));
                let index = known.unwrap_or_else(|| {
                    let same = old.iter().find(is_it).cloned();
                    bound.push(same.unwrap_or_else(|| bind(slot, destinations.clone())));
                    entries.push(PluginEntry {
                        name: slot.name.clone(),
                        on_error: on_error(slot.config.on_error),
                        batch_max: waypost_wire::BATCH_MESSAGES_MAX,
                        retry: retry(&slot.config.retry),
                        is_serial: bound.last().is_some_and(|b| b.is_serial()),
                    });
                    bound.len() - 1
                });
                through.push(index as u16);
            }
            routes.push(Route {
                name: route.name.clone(),
                from: route.from.clone(),
                through,
                to: route.to.clone(),
                is_final: route.is_final,
            });
        }
        for (queue, filters) in parts.queues {
            routes.extend(of_queue(queue, filters));
        }
        let table = RouteTable::new(routes, entries).with_unroutable(parts.unroutable);
        Routing {
            version,
            table: Arc::new(table),
            bound,
            slots: parts.slots.values().cloned().collect(),
            planned: parts.routes.into(),
        }
    }
}

/// The routes that a queue brings with it.
fn of_queue(queue: &str, filters: &[Filter]) -> impl Iterator<Item = Route> {
    let queue: Arc<str> = queue.into();
    filters.iter().map(move |from| Route {
        name: format!("queue:{queue}").into(),
        from: from.clone(),
        through: Vec::new(),
        to: vec![Destination::Queue(queue.clone())],
        is_final: false,
    })
}

/// The routing in force.
#[derive(Debug)]
pub(crate) struct CurrentRouting {
    current: ArcSwap<Routing>,
    /// Changes with each replacement; cheaper to look at than the routing itself.
    version: AtomicU64,
    /// What nothing takes is refused, whoever publishes it.
    pub is_mandatory: bool,
}

impl CurrentRouting {
    pub fn new(routing: Routing, is_mandatory: bool) -> CurrentRouting {
        CurrentRouting {
            version: AtomicU64::new(routing.version),
            current: ArcSwap::from_pointee(routing),
            is_mandatory,
        }
    }

    pub fn load(&self) -> Arc<Routing> {
        self.current.load_full()
    }

    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    /// Replaces the routing. Only who holds the turn for changes may.
    pub fn replace(&self, routing: Arc<Routing>) {
        let version = routing.version;
        self.current.store(routing);
        self.version.store(version, Relaxed);
    }
}

/// The route of what nothing else takes, where a queue does. No route of a file has its name.
pub(crate) fn unroutable(config: &Config) -> Option<Route> {
    let config::Unroutable::Queue(queue) = &config.routing.unroutable else {
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

fn retry(retry: &config::RetryConfig) -> Retry {
    Retry {
        attempts: retry.attempts,
        pause_ms: retry.pause.as_millis() as u64,
        pause_ms_max: retry.pause_max.as_millis() as u64,
    }
}

fn on_error(on_error: config::OnError) -> OnError {
    match on_error {
        config::OnError::DeadLetter => OnError::DeadLetter,
        config::OnError::Reject => OnError::Reject,
        config::OnError::Pass => OnError::Pass,
    }
}

/// As the pipeline knows a destination.
pub(crate) fn destination(destination: &config::Destination) -> Destination {
    match destination {
        config::Destination::Queue(name) => Destination::Queue(name.as_str().into()),
        config::Destination::Topic(topic) => Destination::Topic(topic.as_str().into()),
        config::Destination::Drop => Destination::Drop,
    }
}
