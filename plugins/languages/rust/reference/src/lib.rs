//! The reference plugin, in Rust: what it does is written in `plugins/languages/README.md`, and
//! held by `plugins/languages/conformance`.
//!
//! All roles are in one component; the router's configuration says which is meant.

mod quake;
mod rules;
mod settings;

use quake::{Magnitude, Quake};
use rules::Rules;
use waypost_plugin::{
    Answer, Choice, Config, Decision, Edit, Filter, InitError, Interest, Message, Outcome, Plugin,
    Route, Transform,
};

/// Most features are shorter; what is longer is pulled.
const PAYLOAD_PREFIX: u32 = 4096;

enum Reference {
    Filter { min: f64, header: Option<String> },
    Transform { topic: Option<String> },
    Route(Rules),
}

impl Plugin for Reference {
    fn init(config: &Config) -> Result<(Reference, Interest), InitError> {
        let whole = Interest::nothing().payload_prefix(PAYLOAD_PREFIX);
        match config.role.as_str() {
            "filter" => {
                config.allow(&["min-magnitude", "header"])?;
                let min = settings::number(config, "min-magnitude")?.unwrap_or(3.0);
                let header = config.get("header").map(str::to_owned);
                let interest = match &header {
                    Some(name) => Interest::nothing().header(name),
                    None => whole,
                };
                Ok((Reference::Filter { min, header }, interest))
            }
            "transform" => {
                config.allow(&["topic"])?;
                let topic = config.get("topic").map(str::to_owned);
                Ok((Reference::Transform { topic }, whole))
            }
            _ => Ok((Reference::Route(Rules::read(config)?), whole)),
        }
    }
}

impl Filter for Reference {
    fn filter(&mut self, message: &Message<'_>) -> Answer {
        let Reference::Filter { min, header } = self else {
            return Decision::DeadLetter.because("not started as a filter");
        };
        let magnitude = match header {
            Some(name) => quake::magnitude_of_header(message, name),
            None => Quake::read(message).map(|quake| quake.magnitude),
        };
        match magnitude {
            Ok(Magnitude::Is(mag)) if mag >= *min => Decision::Pass.into(),
            Ok(Magnitude::Is(mag)) => {
                Decision::Drop.because(format!("magnitude {mag} is below {min}"))
            }
            Ok(Magnitude::Missing) => Decision::Drop.because("no magnitude"),
            Err(error) => Decision::DeadLetter.because(error),
        }
    }
}

impl Transform for Reference {
    fn transform(&mut self, message: &Message<'_>) -> Outcome {
        let Reference::Transform { topic } = self else {
            return Outcome::DeadLetter("not started as a transform".into());
        };
        let quake = match Quake::read(message) {
            Ok(quake) => quake,
            Err(error) => return Outcome::DeadLetter(error),
        };
        let edit = Edit::new()
            .payload(quake.compact())
            .content_type("application/json");
        let edit = match topic {
            Some(pattern) => edit.topic(pattern.replace("{topic}", message.topic())),
            None => edit,
        };
        Outcome::Edit(match quake.magnitude {
            Magnitude::Is(mag) => edit.header("magnitude", mag.to_string()),
            Magnitude::Missing => edit.without_header("magnitude"),
        })
    }
}

impl Route for Reference {
    fn route(&mut self, message: &Message<'_>) -> Choice {
        let Reference::Route(rules) = self else {
            return Choice::DeadLetter("not started as a route".into());
        };
        match Quake::read(message) {
            Ok(quake) => rules.choose(quake.magnitude),
            Err(error) => Choice::DeadLetter(error),
        }
    }
}

waypost_plugin::export!(Reference: filter, transform, route);
