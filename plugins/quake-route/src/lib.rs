//! Sends earthquakes where their place and strength say.
//!
//! Takes GeoJSON features, or the alerts that `quake-alert` makes of them. The settings hold the
//! rules, in the order in which they are tried, under any names (`rule-1`, `rule-major`, …):
//!
//! ```text
//! rule-major   = "mag >= 5 -> queue:major"
//! rule-pacific = "box -60 120 60 -70 and mag >= 4 -> queue:pacific"
//! rule-alaska  = "place alaska -> queue:alaska, topic:alaska"
//! otherwise    = "queue:all"
//! ```
//!
//! A message goes to the destinations of all rules that apply; where none does, to those of
//! `otherwise`, or nowhere if that is absent. `queue:major` and the others must be destinations of
//! the route. See [`rules`] for the grammar.

pub mod rules;

use rules::{Quake, Rule};
use serde::Deserialize;
use waypost_plugin::{Choice, Config, InitError, Interest, Message, Plugin, Route};

struct Router {
    rules: Vec<Rule>,
    otherwise: Vec<u32>,
}

/// A feature or an alert: each has its own half of these.
#[derive(Deserialize)]
struct Payload {
    properties: Option<Properties>,
    geometry: Option<Geometry>,
    mag: Option<f64>,
    place: Option<String>,
    lat: Option<f64>,
    lon: Option<f64>,
    depth_km: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Properties {
    mag: Option<f64>,
    place: Option<String>,
    tsunami: Option<f64>,
}

/// Longitude, latitude, depth in km.
#[derive(Deserialize)]
struct Geometry {
    coordinates: [Option<f64>; 3],
}

impl From<Payload> for Quake {
    fn from(payload: Payload) -> Quake {
        let properties = payload.properties.unwrap_or_default();
        let [lon, lat, depth] = payload.geometry.map_or([None; 3], |g| g.coordinates);
        let place = properties.place.or(payload.place);
        Quake {
            mag: properties.mag.or(payload.mag),
            depth: depth.or(payload.depth_km),
            lat: lat.or(payload.lat),
            lon: lon.or(payload.lon),
            tsunami: properties.tsunami,
            place: place.map(|place| place.to_lowercase()).unwrap_or_default(),
        }
    }
}

impl Plugin for Router {
    fn init(config: &Config) -> Result<(Router, Interest), InitError> {
        let (mut rules, mut otherwise) = (Vec::new(), Vec::new());
        for (name, value) in &config.settings {
            let wrong = |error: String| InitError::of(name, format!("'{value}' {error}"));
            if name == "otherwise" {
                for destination in value.split(',').map(str::trim) {
                    let index = config.destination(destination).ok_or_else(|| {
                        wrong(format!("'{destination}' is not a destination of the route"))
                    })?;
                    otherwise.push(index);
                }
            } else if name.starts_with("rule-") {
                rules.push(Rule::parse(value, |name| config.destination(name)).map_err(wrong)?);
            } else {
                return Err(wrong(
                    "is of an unknown setting, expected rule-… or otherwise".into(),
                ));
            }
        }
        if rules.is_empty() && otherwise.is_empty() {
            return Err(InitError::new(
                "no rule: set rule-1, rule-2, … or otherwise",
            ));
        }
        otherwise.sort();
        otherwise.dedup();
        Ok((Router { rules, otherwise }, Interest::nothing().payload()))
    }
}

impl Route for Router {
    fn route(&mut self, message: &Message<'_>) -> Choice {
        let quake = match serde_json::from_slice::<Payload>(message.payload()) {
            Ok(payload) => Quake::from(payload),
            Err(error) => return Choice::DeadLetter(format!("not an earthquake: {error}")),
        };
        let mut to = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.applies(&quake)) {
            to.extend(&rule.destinations);
        }
        if to.is_empty() {
            to.extend(&self.otherwise);
        }
        to.sort();
        to.dedup();
        match to[..] {
            [] => Choice::Drop(Some("no rule applies".into())),
            [one] => Choice::One(one),
            _ => Choice::To(to),
        }
    }
}

waypost_plugin::export!(Router: route);
