//! Routes that are made over the network, and their place among those of the configuration.
//!
//! The configuration's keep their order. A route of the network stands before the one of the
//! configuration that it names, or after all of them; those with the same place keep the order in
//! which they were put there.

use std::sync::Arc;

use waypost_wire::Filter;

use super::error::ChangeError;
use super::live::{Plugins, Prepared, State};
use super::record::RouteRecord;
use super::slot::Slot;
use crate::config;
use crate::routing::{PlannedRoute, destination};

/// Routes that the network may make.
pub(super) const ROUTES_MAX: usize = 4_096;
/// Plugins and destinations of one.
const PARTS_MAX: usize = 64;

/// A kept route as the routing needs it.
pub(super) fn planned(route: &RouteRecord) -> Result<PlannedRoute, ChangeError> {
    let invalid = |text: String| ChangeError::Invalid(format!("route '{}': {text}", route.name));
    if !config::names::is_name(&route.name) {
        let expected = "1 to 128 of a-z, A-Z, 0-9, '.', '_' and '-' expected";
        return Err(invalid(expected.to_owned()));
    }
    let from = Filter::new(route.from.as_str())
        .map_err(|error| invalid(format!("filter {:?} {error}", route.from)))?;
    if route.to.is_empty() {
        return Err(invalid("names no destination".to_owned()));
    }
    if route.to.len() > PARTS_MAX || route.through.len() > PARTS_MAX {
        let text = format!("more than {PARTS_MAX} plugins or destinations");
        return Err(invalid(text));
    }
    let mut to = Vec::new();
    for text in &route.to {
        let parsed =
            config::parse_destination(text).map_err(|problem| invalid(problem.to_string()))?;
        to.push(destination(&parsed));
    }
    Ok(PlannedRoute {
        name: route.name.as_str().into(),
        from,
        through: route
            .through
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        to,
        is_final: route.is_final,
        is_configured: false,
    })
}

/// All routes but those of queues, in the order in which they run. Of the kept ones those that can
/// be in force.
pub(super) fn all(state: &State) -> Vec<PlannedRoute> {
    let is_whole = |route: &PlannedRoute| {
        let mut through = route.through.iter();
        through.all(|name| state.slots.contains_key(name))
    };
    let kept = |before: Option<&str>| {
        let configured = &state.configured;
        let is_there = |name: &str| configured.iter().any(|route| &*route.name == name);
        let here = state.routes.iter().filter(move |route| {
            // What it stood before may have left the file.
            let place = route.before.as_deref().filter(|name| is_there(name));
            place == before
        });
        here.filter_map(|route| planned(route).ok())
            .filter(is_whole)
            .collect::<Vec<_>>()
    };
    let mut routes = Vec::new();
    for route in &state.configured {
        routes.extend(kept(Some(&*route.name)));
        routes.push(route.clone());
    }
    routes.extend(kept(None));
    routes
}

impl Plugins {
    /// Adds a route before another one, or after those that are there. The caller holds the turn,
    /// and has seen that its queues are there.
    pub(super) fn add_route(
        &self,
        mut route: RouteRecord,
        before: Option<&str>,
    ) -> Result<(), ChangeError> {
        let planned = planned(&route)?;
        let slots = self.check_route(&planned, before)?;
        let destinations = planned.destinations();
        let mut prepared: Vec<(Arc<Slot>, Prepared)> = Vec::new();
        for slot in slots {
            // Another route may share it, with all its instances.
            let is_bound = self.is_bound(&slot, &destinations);
            if slot.code.is_ok() && slot.paused.is_none() && !is_bound {
                let made = self.prepare(&slot.config, destinations.clone())?;
                prepared.push((slot, made));
            }
        }
        let mut state = self.open_state()?;
        let mut routes = state.routes.clone();
        let at = routes.iter().position(|r| Some(r.name.as_str()) == before);
        match at {
            Some(at) => {
                route.before.clone_from(&routes[at].before);
                routes.insert(at, route);
            }
            None => {
                route.before = before.map(str::to_owned);
                routes.push(route);
            }
        }
        self.store.put_routes(&routes)?;
        state.routes = routes;
        self.tell_routes();
        self.replace(&mut state, prepared);
        Ok(())
    }

    /// The slots of a new route, in order.
    fn check_route(
        &self,
        route: &PlannedRoute,
        before: Option<&str>,
    ) -> Result<Vec<Arc<Slot>>, ChangeError> {
        let state = self.state();
        let name = &*route.name;
        if state.configured.iter().any(|r| &*r.name == name) {
            let text = format!("route '{name}' is named by the configuration");
            return Err(ChangeError::Exists(text));
        }
        if state.routes.iter().any(|r| r.name == name) {
            return Err(ChangeError::Exists(format!(
                "route '{name}' is there already"
            )));
        }
        if state.routes.len() >= ROUTES_MAX {
            let text = format!("{ROUTES_MAX} routes were added, which is as many as may be");
            return Err(ChangeError::Busy(text));
        }
        if let Some(before) = before
            && !state.configured.iter().any(|r| &*r.name == before)
            && !state.routes.iter().any(|r| r.name == before)
        {
            let name = before.to_owned();
            return Err(ChangeError::NotFound {
                what: "route",
                name,
            });
        }
        let slot = |name: &Arc<str>| match state.slots.get(name) {
            Some(slot) => Ok(slot.clone()),
            None => Err(ChangeError::NotFound {
                what: "plugin",
                name: name.to_string(),
            }),
        };
        route.through.iter().map(slot).collect()
    }

    /// Removes a route.
    pub(super) fn remove_route(&self, name: &str) -> Result<(), ChangeError> {
        let mut state = self.open_state()?;
        if state.configured.iter().any(|route| &*route.name == name) {
            let text =
                format!("route '{name}' is named by the configuration, which is the truth for it");
            return Err(ChangeError::Conflict(text));
        }
        let mut routes = state.routes.clone();
        let before = routes.len();
        routes.retain(|route| route.name != name);
        if routes.len() == before {
            let name = name.to_owned();
            return Err(ChangeError::NotFound {
                what: "route",
                name,
            });
        }
        self.store.put_routes(&routes)?;
        state.routes = routes;
        self.alarms.clear(
            crate::alarms::AlarmKind::DamagedPlugin,
            &format!("route {name}"),
        );
        self.replace(&mut state, Vec::new());
        Ok(())
    }
}
