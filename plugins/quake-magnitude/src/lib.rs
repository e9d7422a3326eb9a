//! Keeps the earthquakes that are strong enough.
//!
//! Takes GeoJSON features as the United States Geological Survey publishes them. A message passes
//! if `properties.mag` is at least the setting `min-magnitude` (default 3); one without a magnitude
//! is dropped; one that is not such a feature goes to dead-letter with the parser's words.

mod glance;

use serde::Deserialize;
use waypost_plugin::{Answer, Config, Decision, Filter, InitError, Interest, Message, Plugin};

struct Magnitude {
    min: f64,
}

/// The one value that is looked at, for all that was not decided at a glance. The parser checks all
/// of the text, and skips the rest of it.
#[derive(Deserialize)]
struct Feature {
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    mag: Option<f64>,
}

impl Plugin for Magnitude {
    fn init(config: &Config) -> Result<(Magnitude, Interest), InitError> {
        config.allow(&["min-magnitude"])?;
        let min = config.parsed("min-magnitude")?.unwrap_or(3.0);
        if !f64::is_finite(min) {
            return Err(InitError::of(
                "min-magnitude",
                "must be a number such as 3 or 4.5",
            ));
        }
        Ok((Magnitude { min }, Interest::nothing().payload()))
    }
}

impl Filter for Magnitude {
    fn filter(&mut self, message: &Message<'_>) -> Answer {
        match magnitude(message.payload()) {
            Ok(Some(mag)) if mag >= self.min => Decision::Pass.into(),
            Ok(Some(mag)) => {
                Decision::Drop.because(format!("magnitude {mag} is below {}", self.min))
            }
            Ok(None) => Decision::Drop.because("no magnitude"),
            Err(error) => Decision::DeadLetter.because(format!("not a GeoJSON feature: {error}")),
        }
    }
}

fn magnitude(feature: &[u8]) -> Result<Option<f64>, serde_json::Error> {
    let number = glance::number(feature, "properties", "mag");
    if let Some(mag) = number.and_then(|number| serde_json::from_slice(number).ok()) {
        return Ok(Some(mag));
    }
    let feature: Feature = serde_json::from_slice(feature)?;
    Ok(feature.properties.mag)
}

waypost_plugin::export!(Magnitude: filter);
