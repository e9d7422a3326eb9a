//! The events of the week, and what must become of them: counted here from the file alone, in
//! plain words, so that the router's counts have something to be wrong against.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::Value;
use waypost_client::Message;

/// `examples/quakes/earthquakes.jsonl`: one GeoJSON feature a line, oldest first.
const WEEK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/week.packed"));

/// An earthquake, as the network reported it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id, such as `us1000chhc`.
    pub id: String,
    /// The network, such as `us`.
    pub network: String,
    /// In words.
    pub place: String,
    /// `None` where it was not determined.
    pub magnitude: Option<f64>,
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
    /// When, in ms since 1970.
    pub time_ms: i64,
    /// The line itself.
    pub json: String,
}

impl Event {
    fn parse(line: &str) -> anyhow::Result<Event> {
        let feature: Value = serde_json::from_str(line)?;
        let properties = &feature["properties"];
        let text = |value: &Value, name: &str| {
            let text = value.as_str().map(str::to_owned);
            text.with_context(|| format!("no {name}"))
        };
        let coordinate = |index: usize| {
            let number = feature["geometry"]["coordinates"][index].as_f64();
            number.with_context(|| format!("no coordinate {index}"))
        };
        Ok(Event {
            id: text(&feature["id"], "id")?,
            network: text(&properties["net"], "net")?,
            place: text(&properties["place"], "place")?,
            magnitude: properties["mag"].as_f64(),
            longitude: coordinate(0)?,
            latitude: coordinate(1)?,
            time_ms: properties["time"].as_i64().context("no time")?,
            json: line.to_owned(),
        })
    }

    /// As the network publishes it.
    pub fn message(&self) -> Message {
        Message::new(format!("quakes/{}/raw", self.network), self.json.clone())
            .with_id(self.id.clone())
            .with_content_type("application/geo+json")
    }
}

/// All events of the week.
pub fn week() -> anyhow::Result<Vec<Event>> {
    let week = String::from_utf8(waypost_node::packed::unpacked(WEEK))?;
    week.lines()
        .enumerate()
        .map(|(index, line)| {
            Event::parse(line).with_context(|| format!("earthquakes.jsonl:{}", index + 1))
        })
        .collect()
}

/// What must become of a run of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// How many there are.
    pub published: u64,
    /// Strong enough.
    pub kept: u64,
    /// How many reach each queue, by its name.
    pub queues: BTreeMap<&'static str, u64>,
    /// How many live subscribers see on each topic.
    pub live: BTreeMap<&'static str, u64>,
}

impl Expected {
    /// Counts. The rules are those of `quakes.toml`, said again.
    pub fn count(events: &[Event]) -> Expected {
        let mut expected = Expected {
            published: events.len() as u64,
            ..Expected::default()
        };
        for event in events {
            let Some(magnitude) = event.magnitude.filter(|magnitude| *magnitude >= 3.0) else {
                continue;
            };
            expected.kept += 1;
            let is_east_of_asia = event.longitude >= 115.0 || event.longitude <= -66.0;
            let is_pacific = is_east_of_asia && (-60.0..=66.0).contains(&event.latitude);
            let is_alaska = event.place.to_lowercase().contains("alaska");
            let is_major = magnitude >= 5.0;
            for (applies, name, topic) in [
                (is_pacific, "pacific", "alerts/pacific"),
                (is_alaska, "alaska", "alerts/alaska"),
                (is_major, "major", "alerts/major"),
            ] {
                *expected.queues.entry(name).or_default() += u64::from(applies);
                *expected.live.entry(topic).or_default() += u64::from(applies);
            }
            let applies = is_pacific || is_alaska || is_major;
            *expected.queues.entry("elsewhere").or_default() += u64::from(!applies);
        }
        expected
    }

    /// Too weak.
    pub fn dropped(&self) -> u64 {
        self.published - self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_week_is_whole() {
        let week = week().unwrap();
        let expected = Expected::count(&week);
        assert_eq!((expected.published, expected.kept), (1707, 217));
        assert!(week.is_sorted_by_key(|event| event.time_ms));
        let queued: u64 = expected.queues.values().sum();
        assert!(queued >= expected.kept, "each strong event is in a queue");
    }
}
