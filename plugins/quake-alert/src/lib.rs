//! Turns a GeoJSON earthquake into a compact alert.
//!
//! In: a feature as the United States Geological Survey publishes it. Out: JSON with `id`, `mag`,
//! `place`, `time` (ms since 1970), `lat`, `lon`, `depth_km` and `net`; content type
//! `application/json`; headers `magnitude` and `network`; the network as key, so that its alerts
//! stay in order. With the setting `topic`, the alert gets that topic, in which `{net}` stands for
//! the network: `quakes/{net}/alert`. Without it the topic stays.

use serde::{Deserialize, Serialize};
use waypost_plugin::{Config, Edit, InitError, Interest, Message, Outcome, Plugin, Transform};

struct Alert {
    topic: Option<String>,
}

#[derive(Deserialize)]
struct Feature<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    properties: Properties<'a>,
    geometry: Option<Geometry>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    mag: Option<f64>,
    #[serde(borrow)]
    place: Option<Text<'a>>,
    time: i64,
    #[serde(borrow)]
    net: Text<'a>,
}

/// Longitude, latitude, depth in km.
#[derive(Deserialize)]
struct Geometry {
    coordinates: [Option<f64>; 3],
}

/// Text that is borrowed where it holds no escapes.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

#[derive(Serialize)]
struct Compact<'a> {
    id: &'a Text<'a>,
    mag: Option<f64>,
    place: Option<&'a Text<'a>>,
    time: i64,
    lat: Option<f64>,
    lon: Option<f64>,
    depth_km: Option<f64>,
    net: &'a Text<'a>,
}

impl Plugin for Alert {
    fn init(config: &Config) -> Result<(Alert, Interest), InitError> {
        config.allow(&["topic"])?;
        let topic = config.get("topic").map(str::to_owned);
        Ok((Alert { topic }, Interest::nothing().payload()))
    }
}

impl Transform for Alert {
    fn transform(&mut self, message: &Message<'_>) -> Outcome {
        match self.alert(message.payload()) {
            Ok(edit) => Outcome::Edit(edit),
            Err(error) => Outcome::DeadLetter(format!("not an earthquake: {error}")),
        }
    }
}

impl Alert {
    fn alert(&self, payload: &[u8]) -> Result<Edit, serde_json::Error> {
        let feature: Feature<'_> = serde_json::from_slice(payload)?;
        let properties = &feature.properties;
        let [lon, lat, depth_km] = feature.geometry.map_or([None; 3], |g| g.coordinates);
        let compact = Compact {
            id: &feature.id,
            mag: properties.mag,
            place: properties.place.as_ref(),
            time: properties.time,
            lat,
            lon,
            depth_km,
            net: &properties.net,
        };
        let network = &*properties.net.0;
        let mut edit = Edit::new()
            .payload(serde_json::to_vec(&compact)?)
            .content_type("application/json")
            .header("network", network)
            .key(network);
        if let Some(mag) = properties.mag {
            edit = edit.header("magnitude", mag.to_string());
        }
        if let Some(topic) = &self.topic {
            edit = edit.topic(topic.replace("{net}", network));
        }
        Ok(edit)
    }
}

waypost_plugin::export!(Alert: transform);
