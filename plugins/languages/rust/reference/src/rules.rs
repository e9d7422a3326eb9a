//! Which magnitude goes to which destination.

use waypost_plugin::{Choice, Config, InitError};

use crate::quake::Magnitude;
use crate::settings;

/// The rules of the route.
pub struct Rules {
    /// Least magnitudes and their destinations, in the order of the settings.
    least: Vec<(f64, u32)>,
    otherwise: Option<u32>,
    all: bool,
}

impl Rules {
    /// Reads them from the settings.
    pub fn read(config: &Config) -> Result<Rules, InitError> {
        let mut rules = Rules {
            least: Vec::new(),
            otherwise: None,
            all: false,
        };
        for (name, value) in &config.settings {
            match name.as_str() {
                "otherwise" => {
                    let index = config.destination(value).ok_or_else(|| {
                        InitError::of(name, format!("'{value}' is not a destination of the route"))
                    })?;
                    rules.otherwise = Some(index);
                }
                "all" => {
                    rules.all = match value.as_str() {
                        "true" => true,
                        "false" => false,
                        _ => {
                            let message = format!("'{value}' is not true or false");
                            return Err(InitError::of(name, message));
                        }
                    }
                }
                _ => {
                    let index = config.destination(name).ok_or_else(|| {
                        InitError::of(name, "not a destination of the route, otherwise or all")
                    })?;
                    if let Some(least) = settings::number(config, name)? {
                        rules.least.push((least, index));
                    }
                }
            }
        }
        if rules.least.is_empty() && rules.otherwise.is_none() {
            return Err(InitError::new("no rule: set a destination or otherwise"));
        }
        Ok(rules)
    }

    /// Where an earthquake goes.
    pub fn choose(&self, magnitude: Magnitude) -> Choice {
        let mut to = Vec::new();
        if let Magnitude::Is(mag) = magnitude {
            let mut highest = f64::NEG_INFINITY;
            for &(least, index) in self.least.iter().filter(|(least, _)| mag >= *least) {
                if self.all {
                    to.push(index);
                } else if least > highest {
                    highest = least;
                    to = vec![index];
                }
            }
        }
        match (&to[..], self.otherwise, magnitude) {
            ([], Some(otherwise), _) => Choice::One(otherwise),
            ([], None, Magnitude::Is(mag)) => {
                Choice::Drop(Some(format!("no rule for magnitude {mag}")))
            }
            ([], None, Magnitude::Missing) => Choice::Drop(Some("no magnitude".into())),
            (&[one], ..) => Choice::One(one),
            _ => Choice::To(to),
        }
    }
}
