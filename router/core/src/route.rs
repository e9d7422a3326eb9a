//! The route table: which routes a topic takes, and where they lead.
//!
//! All routes whose filter matches run, in the order of the configuration, until one that is
//! `final` matched. A table never changes; a new configuration is a new table, and a batch sees
//! one of them from start to end.

use std::sync::Arc;

use waypost_wire::Filter;

use crate::trie::FilterTrie;

/// Index of a plugin in the table's list.
pub type PluginIndex = u16;
/// Index of a route in the table's list.
pub type RouteIndex = u16;

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A queue of this node.
    Queue(Arc<str>),
    /// Back into routing under another topic, and to its live subscribers.
    Topic(Arc<str>),
    /// Nowhere.
    Drop,
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Queue(name) => write!(f, "queue:{name}"),
            Destination::Topic(name) => write!(f, "topic:{name}"),
            Destination::Drop => f.write_str("drop"),
        }
    }
}

/// What happens to a message on which a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It goes to the dead letters, with the plugin's name and error.
    #[default]
    DeadLetter,
    /// Its publisher gets it back.
    Reject,
    /// It goes on as if the plugin had passed it.
    Pass,
}

/// A plugin as the pipeline needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginEntry {
    /// Its name.
    pub name: Arc<str>,
    /// What its failures mean.
    pub on_error: OnError,
    /// Messages that it takes in one call at most.
    pub batch_max: usize,
    /// How often what it cannot do now is tried again.
    pub retry: Retry,
    /// It has effects beside its verdicts, which count as a whole for each call or not at all.
    pub is_serial: bool,
}

/// How often a message is tried again that a plugin cannot take now, and with which pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// So often; then `on_error` decides.
    pub attempts: u32,
    /// The first pause in ms, where the plugin names none; each further one is twice as long.
    pub pause_ms: u64,
    /// The longest pause in ms, also of those that a plugin names.
    pub pause_ms_max: u64,
}

impl Default for Retry {
    /// 20 attempts over about eight minutes: a publisher's window waits as long.
    fn default() -> Retry {
        Retry {
            attempts: 20,
            pause_ms: 100,
            pause_ms_max: 30_000,
        }
    }
}

impl Retry {
    /// The pause before attempt `attempt` + 1, for which the plugin asked for so many ms (0: none).
    pub fn pause(&self, attempt: u32, asked_ms: u64) -> u64 {
        let doubled = self
            .pause_ms
            .saturating_mul(1 << attempt.saturating_sub(1).min(32));
        let pause = if asked_ms > 0 { asked_ms } else { doubled };
        pause.min(self.pause_ms_max).max(1)
    }
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// What it takes.
    pub from: Filter,
    /// The plugins, in order.
    pub through: Vec<PluginIndex>,
    /// Where what comes out goes: all of these, unless a route plugin chooses among them.
    pub to: Vec<Destination>,
    /// Whether later routes are left out for what it takes.
    pub is_final: bool,
}

/// The routes in force.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    plugins: Vec<PluginEntry>,
    trie: FilterTrie<RouteIndex>,
    /// For each route, whether it may lead through a serial plugin.
    serial: Vec<bool>,
    unroutable: Option<RouteIndex>,
}

impl RouteTable {
    /// A table of routes in the order in which they run. Plugin indexes must be in `plugins`.
    pub fn new(routes: Vec<Route>, plugins: Vec<PluginEntry>) -> RouteTable {
        let mut trie = FilterTrie::new();
        for (index, route) in routes.iter().enumerate() {
            debug_assert!(route.through.iter().all(|p| (*p as usize) < plugins.len()));
            trie.insert(&route.from, index as RouteIndex);
        }
        let has_serial = plugins.iter().any(|plugin| plugin.is_serial);
        let is_serial = |route: &Route| {
            // What goes to a topic may come to any route.
            let is_open = route
                .to
                .iter()
                .any(|to| matches!(to, Destination::Topic(_)));
            let mut through = route.through.iter();
            has_serial && (is_open || through.any(|p| plugins[*p as usize].is_serial))
        };
        RouteTable {
            serial: routes.iter().map(is_serial).collect(),
            routes,
            plugins,
            trie,
            unroutable: None,
        }
    }

    /// Whether what takes this route may come to a plugin that is serial.
    pub fn is_serial(&self, route: RouteIndex) -> bool {
        self.serial.get(route as usize).copied().unwrap_or(false)
    }

    /// The same with one more route, which no topic matches: a caller chooses it for what nothing
    /// else takes.
    pub fn with_unroutable(mut self, route: Option<Route>) -> RouteTable {
        if let Some(route) = route {
            self.unroutable = Some(self.routes.len() as RouteIndex);
            self.routes.push(route);
        }
        self
    }

    /// See [`RouteTable::with_unroutable`].
    pub fn unroutable(&self) -> Option<RouteIndex> {
        self.unroutable
    }

    /// All routes.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// All plugins.
    pub fn plugins(&self) -> &[PluginEntry] {
        &self.plugins
    }

    /// The routes that `topic` takes, in order.
    pub fn matching(&self, topic: &str) -> Vec<RouteIndex> {
        let mut found = Vec::new();
        self.trie.matches(topic, |index| found.push(*index));
        found.sort_unstable();
        // A queue that brings several filters is one route, whose parts stand together.
        found.dedup_by(|b, a| self.routes[*a as usize].name == self.routes[*b as usize].name);
        if let Some(last) = found.iter().position(|i| self.routes[*i as usize].is_final) {
            found.truncate(last + 1);
        }
        found
    }

    /// Where a topic leads if no plugin and no re-entry stands between: the queues in order, or
    /// `None` where the pipeline is needed.
    pub fn direct(&self, matching: &[RouteIndex]) -> Option<Vec<Arc<str>>> {
        let mut queues = Vec::new();
        for index in matching {
            let route = &self.routes[*index as usize];
            if !route.through.is_empty() {
                return None;
            }
            for to in &route.to {
                match to {
                    Destination::Queue(name) => queues.push(name.clone()),
                    Destination::Topic(_) => return None,
                    Destination::Drop => {}
                }
            }
        }
        Some(queues)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(from: &str, to: &[&str], is_final: bool) -> Route {
        let to = to.iter().map(|q| Destination::Queue((*q).into())).collect();
        Route {
            name: from.into(),
            from: Filter::new(from).unwrap(),
            through: vec![],
            to,
            is_final,
        }
    }

    #[test]
    fn filters_of_one_queue_give_one_copy() {
        let named = |from| Route {
            name: "queue:x".into(),
            ..route(from, &["x"], false)
        };
        let routes = vec![named("a/#"), named("a/b"), route("a/+", &["x"], false)];
        let table = RouteTable::new(routes, vec![]);
        assert_eq!(table.matching("a/b"), [0, 2]);
    }

    #[test]
    fn what_nothing_takes_has_a_route_that_nothing_matches() {
        let routes = vec![route("a", &["x"], false)];
        let table = RouteTable::new(routes, vec![]);
        assert_eq!(table.unroutable(), None);
        let table = table.with_unroutable(Some(route("#", &["rest"], false)));
        assert_eq!(table.matching("b"), [0u16; 0]);
        assert_eq!(table.matching("a"), [0]);
        let queues = table.direct(&[table.unroutable().unwrap()]);
        assert_eq!(queues, Some(vec!["rest".into()]));
    }

    #[test]
    fn order_and_final() {
        let table = RouteTable::new(
            vec![
                route("a/#", &["x"], false),
                route("a/b", &["y"], true),
                route("+/b", &["z"], false),
            ],
            vec![],
        );
        assert_eq!(table.matching("a/b"), [0, 1]);
        assert_eq!(table.matching("c/b"), [2]);
        assert_eq!(table.matching("c"), [0u16; 0]);
        let queues = table.direct(&[0, 1]).unwrap();
        assert_eq!(queues, ["x".into(), Arc::<str>::from("y")]);
    }
}
