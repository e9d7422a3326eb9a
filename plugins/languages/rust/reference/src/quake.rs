//! An earthquake, as a GeoJSON feature says it.

use serde_json::{Value, json};
use waypost_plugin::Message;

/// How strong it was, if that is known.
#[derive(Clone, Copy)]
pub enum Magnitude {
    /// It has a number.
    Is(f64),
    /// It has none, or null.
    Missing,
}

/// What the reference plugin reads of a feature.
pub struct Quake {
    /// How strong it was.
    pub magnitude: Magnitude,
    feature: Value,
}

impl Quake {
    /// Reads a message's payload; the error is the reason for its dead letter.
    pub fn read(message: &Message<'_>) -> Result<Quake, String> {
        let payload = message.whole_payload().map_err(|error| error.to_string())?;
        let feature: Value =
            serde_json::from_slice(&payload).map_err(|error| format!("not JSON: {error}"))?;
        if !feature["properties"].is_object() {
            return Err("not an earthquake: no properties".into());
        }
        let magnitude = match &feature["properties"]["mag"] {
            Value::Null => Magnitude::Missing,
            mag => Magnitude::Is(
                mag.as_f64()
                    .ok_or("not an earthquake: mag is not a number")?,
            ),
        };
        Ok(Quake { magnitude, feature })
    }

    /// The compact JSON of it.
    pub fn compact(&self) -> String {
        let feature = &self.feature;
        let of = |value: &Value, fits: fn(&Value) -> bool| match fits(value) {
            true => value.clone(),
            false => Value::Null,
        };
        let properties = &feature["properties"];
        json!({
            "id": of(&feature["id"], Value::is_string),
            "mag": of(&properties["mag"], Value::is_number),
            "place": of(&properties["place"], Value::is_string),
            "time": of(&properties["time"], Value::is_number),
            "depth": of(&feature["geometry"]["coordinates"][2], Value::is_number),
        })
        .to_string()
    }
}

/// The magnitude that a header holds, written as a JSON number.
pub fn magnitude_of_header(message: &Message<'_>, name: &str) -> Result<Magnitude, String> {
    let Some(value) = message.header(name) else {
        return Ok(Magnitude::Missing);
    };
    match crate::settings::json_number(value) {
        Some(mag) => Ok(Magnitude::Is(mag)),
        None => Err(format!("header '{name}' is not a number")),
    }
}
