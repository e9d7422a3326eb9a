//! Keeps, marks or routes messages by where they are. The settings are described in
//! `settings.json`.

pub mod fences;
pub mod shape;

use shape::{Place, Shape};
use shelf_kit::{Fate, Seen, Settings, Subject, Subjects, settings, way};
use waypost_plugin::{
    Answer, Choice, Config, Decision, Edit, Filter, InitError, Interest, Message, Outcome, Plugin,
    Route, Transform,
};

struct Geofence {
    subjects: Subjects,
    lat: Subject,
    lon: Subject,
    /// Areas and their names.
    fences: Vec<(String, Shape)>,
    /// As a filter: which side is kept.
    keeps_inside: bool,
    otherwise: Fate,
    /// As a transform: the header that gets the names.
    header: String,
    /// As a route: for each destination the fences that lead there.
    ways: Vec<(u32, Vec<usize>)>,
    rest: Vec<u32>,
    on_missing: Fate,
}

impl Plugin for Geofence {
    fn init(config: &Config) -> Result<(Geofence, Interest), InitError> {
        let settings = Settings::new(config);
        let mut subjects = Subjects::default();
        let mut subject = |name: &str, default: &str| {
            let text = settings.text(name).unwrap_or(default);
            subjects
                .parse(text)
                .map_err(|error| InitError::of(name, error))
        };
        let lat = subject("lat", "$.geometry.coordinates[1]")?;
        let lon = subject("lon", "$.geometry.coordinates[0]")?;
        let fences = read_fences(&settings)?;
        let (mut ways, mut rest) = (Vec::new(), Vec::new());
        let (mut keeps_inside, mut otherwise) = (true, Fate::Drop);
        let mut header = String::new();
        // What belongs to another role is refused, by `finish`.
        match settings.role() {
            "route" => {
                ways = read_ways(&settings, &fences)?;
                rest = way::otherwise(&settings)?;
            }
            "transform" => header = settings.text("header").unwrap_or("fence").to_owned(),
            _ => {
                keeps_inside = settings.choice("keep", &[("inside", true), ("outside", false)])?;
                otherwise = Fate::of(&settings, "otherwise", Fate::Drop)?;
            }
        }
        let on_missing = Fate::or_pass(&settings, "on-missing", Fate::DeadLetter)?;
        let is_route = settings.role() == "route";
        settings.finish()?;
        if is_route && ways.is_empty() {
            return Err(way::nowhere("the name of a fence"));
        }
        let interest = subjects.interest();
        let geofence = Geofence {
            subjects,
            lat,
            lon,
            fences,
            keeps_inside,
            otherwise,
            header,
            ways,
            rest,
            on_missing,
        };
        Ok((geofence, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

fn read_fences(settings: &Settings<'_>) -> Result<Vec<(String, Shape)>, InitError> {
    let mut fences = Vec::new();
    for entry in settings.table("fences") {
        let shape = fences::shape(entry.text).map_err(|error| InitError::of(entry.key, error))?;
        fences.push((entry.name.to_owned(), shape));
    }
    let property = settings.text("name-property").unwrap_or("name");
    if let Some(text) = settings.text("geojson") {
        let more = fences::collection(text, property);
        let more = more.map_err(|error| InitError::of("geojson", error))?;
        let is_feature = |name: &String| more.iter().any(|(known, _)| known == name);
        if let Some((name, _)) = fences.iter().find(|(name, _)| is_feature(name)) {
            let text = format!("is also the name of a feature of geojson, '{name}'");
            return Err(InitError::of(&format!("fences.{name}"), text));
        }
        fences.extend(more);
    }
    match fences.is_empty() {
        false => Ok(fences),
        true => Err(InitError::new(
            "there is no fence: set fences.NAME to an area such as 'circle 37.77 -122.42 50km', \
             or geojson to a FeatureCollection",
        )),
    }
}

fn read_ways(
    settings: &Settings<'_>,
    fences: &[(String, Shape)],
) -> Result<Vec<(u32, Vec<usize>)>, InitError> {
    let mut ways: Vec<(u32, Vec<usize>)> = Vec::new();
    for (destination, entry) in way::ways(settings)? {
        let fence = fences.iter().position(|(name, _)| name == entry.text);
        let fence = fence.ok_or_else(|| {
            let names: Vec<_> = fences.iter().map(|(name, _)| name.as_str()).collect();
            let expected = format!("the name of a fence: {}", names.join(", "));
            settings::wrong(entry.key, entry.text, &expected)
        })?;
        match ways.iter_mut().find(|(known, _)| *known == destination) {
            Some((_, fences)) => fences.push(fence),
            None => ways.push((destination, vec![fence])),
        }
    }
    Ok(ways)
}

impl Geofence {
    /// Where a message is.
    fn place(&mut self, message: &Message<'_>) -> Result<Place, String> {
        let seen = self.subjects.look(message);
        let seen = seen.map_err(|not_json| not_json.to_string())?;
        let (lat, lon) = (degrees(&seen, &self.lat), degrees(&seen, &self.lon));
        let (Some(lat), Some(lon)) = (lat, lon) else {
            return Err("the message has no place: latitude or longitude is no number".into());
        };
        Place::new(lat, lon)
            .ok_or_else(|| format!("latitude {lat}, longitude {lon} is no place on the earth"))
    }

    fn names(&self, place: Place) -> impl Iterator<Item = &str> {
        let fences = self.fences.iter();
        fences
            .filter(move |(_, shape)| shape.contains(place))
            .map(|(name, _)| name.as_str())
    }
}

/// A number of the payload, or one that a header has as text.
fn degrees(seen: &Seen<'_, '_>, subject: &Subject) -> Option<f64> {
    let datum = seen.first(subject)?;
    let number: f64 = datum.plain().trim().parse().ok()?;
    number.is_finite().then_some(number)
}

impl Filter for Geofence {
    fn filter(&mut self, message: &Message<'_>) -> Answer {
        let place = match self.place(message) {
            Ok(place) => place,
            Err(reason) => return self.on_missing.answer(reason),
        };
        let found = self.names(place).next();
        if found.is_some() == self.keeps_inside {
            return Decision::Pass.into();
        }
        let Place { lat, lon } = place;
        self.otherwise.answer(match found {
            Some(name) => format!("{lat}, {lon} is inside {name}"),
            None => format!("{lat}, {lon} is in no fence"),
        })
    }
}

impl Transform for Geofence {
    fn transform(&mut self, message: &Message<'_>) -> Outcome {
        let place = match self.place(message) {
            Ok(place) => place,
            Err(reason) => return self.on_missing.outcome(reason),
        };
        let names: Vec<_> = self.names(place).collect();
        // One that came with the message must not stand for where it is.
        Outcome::Edit(match names.is_empty() {
            true => Edit::new().without_header(self.header.as_str()),
            false => Edit::new().header(self.header.as_str(), names.join(",")),
        })
    }
}

impl Route for Geofence {
    fn route(&mut self, message: &Message<'_>) -> Choice {
        let place = match self.place(message) {
            Ok(place) => place,
            Err(reason) => return self.on_missing.choice(reason),
        };
        let is_in = |fence: &usize| self.fences[*fence].1.contains(place);
        let ways = self.ways.iter();
        let to: Vec<_> = ways
            .filter(|(_, fences)| fences.iter().any(is_in))
            .map(|(destination, _)| *destination)
            .collect();
        way::choice(to, &self.rest, || {
            let Place { lat, lon } = place;
            format!("{lat}, {lon} is in no fence of a destination")
        })
    }
}

waypost_plugin::export!(Geofence: filter, transform, route, schema);

#[cfg(test)]
mod tests;
