//! Areas as a configuration writes them: `circle`, `box`, or GeoJSON.

use std::collections::BTreeMap;

use shelf_kit::json::{Value, scan};

use crate::shape::{Place, Ring, Shape};

const EXPECTED: &str = "expected 'circle LAT LON RADIUS' (with m or km), 'box SOUTH WEST NORTH \
                        EAST', or GeoJSON";

/// Reads one area.
pub fn shape(text: &str) -> Result<Shape, String> {
    let text = text.trim();
    if text.starts_with('{') {
        return geojson(checked(text)?);
    }
    let words: Vec<_> = text.split_whitespace().collect();
    let wrong = || format!("'{text}', {EXPECTED}");
    let place = |lat: &str, lon: &str| {
        let place = Place::new(lat.parse().ok()?, lon.parse().ok()?)?;
        (place.lon.abs() <= 180.0).then_some(place)
    };
    match words[..] {
        ["circle", lat, lon, radius] => {
            let middle = place(lat, lon).ok_or_else(wrong)?;
            let radius_m = meters(radius).ok_or_else(wrong)?;
            Ok(Shape::Circle { middle, radius_m })
        }
        ["box", south, west, north, east] => {
            let (from, to) = (place(south, west), place(north, east));
            let (from, to) = from.zip(to).ok_or_else(wrong)?;
            match from.lat < to.lat {
                true => Ok(Shape::Box { from, to }),
                false => Err(format!("'{text}' has its south in the north; {EXPECTED}")),
            }
        }
        _ => Err(wrong()),
    }
}

fn meters(text: &str) -> Option<f64> {
    let (number, unit) = match text.strip_suffix("km") {
        Some(number) => (number, 1_000.0),
        None => (text.strip_suffix('m')?, 1.0),
    };
    let meters = number.parse::<f64>().ok()? * unit;
    (meters > 0.0 && meters.is_finite()).then_some(meters)
}

fn checked(text: &str) -> Result<Value<'_>, String> {
    scan::check(text.as_bytes())
        .map_err(|wrong| format!("it is not JSON: {} at byte {}", wrong.problem, wrong.offset))?;
    Ok(Value(text.as_bytes()))
}

/// The features of a collection, each with the name that `property` gives it, or its id. Those of one
/// name are one area.
pub fn collection(text: &str, property: &str) -> Result<Vec<(String, Shape)>, String> {
    let collection = checked(text.trim())?;
    let kind = kind_of(collection)?;
    if kind != "FeatureCollection" {
        return Err(format!("it is a {kind}, expected a FeatureCollection"));
    }
    let features = collection.member("features");
    let mut all: Vec<(String, Shape)> = Vec::new();
    let mut known = BTreeMap::new();
    for (index, feature) in features.into_iter().flat_map(Value::elements).enumerate() {
        let properties = feature.member("properties");
        let name = properties.and_then(|properties| properties.member(property));
        let name = name.or_else(|| feature.member("id")).ok_or_else(|| {
            format!("feature {index} has neither the property '{property}' nor an id")
        })?;
        let name = name.plain().into_owned();
        let shape = geojson(feature).map_err(|error| format!("feature '{name}': {error}"))?;
        match known.get(&name) {
            Some(at) => {
                let (_, first): &mut (String, Shape) = &mut all[*at];
                first.join(shape);
            }
            None => {
                known.insert(name.clone(), all.len());
                all.push((name, shape));
            }
        }
    }
    match all.is_empty() {
        true => Err("it has no features".into()),
        false => Ok(all),
    }
}

fn kind_of(value: Value<'_>) -> Result<String, String> {
    let kind = value.member("type").and_then(Value::text);
    kind.map(|kind| kind.into_owned())
        .ok_or_else(|| "it has no 'type', so it is not GeoJSON".to_owned())
}

fn geojson(value: Value<'_>) -> Result<Shape, String> {
    let inner = |name: &str| {
        value
            .member(name)
            .ok_or_else(|| format!("it has no '{name}'"))
    };
    let kind = kind_of(value)?;
    match kind.as_str() {
        "Feature" => geojson(inner("geometry")?),
        "Polygon" => polygon(inner("coordinates")?),
        "MultiPolygon" => {
            let polygons = inner("coordinates")?.elements().map(polygon);
            many(polygons.collect::<Result<_, _>>()?)
        }
        "GeometryCollection" => {
            let shapes = inner("geometries")?.elements().map(geojson);
            many(shapes.collect::<Result<_, _>>()?)
        }
        "FeatureCollection" => {
            let shapes = inner("features")?.elements().map(geojson);
            many(shapes.collect::<Result<_, _>>()?)
        }
        other => Err(format!(
            "it is a {other}, which has no inside, expected a Polygon or a MultiPolygon"
        )),
    }
}

fn many(shapes: Vec<Shape>) -> Result<Shape, String> {
    match shapes.is_empty() {
        true => Err("it has no area".into()),
        false => Ok(Shape::Many(shapes)),
    }
}

fn polygon(coordinates: Value<'_>) -> Result<Shape, String> {
    let rings: Vec<_> = coordinates.elements().map(ring).collect::<Result<_, _>>()?;
    match rings.is_empty() {
        true => Err("it has no ring".into()),
        false => Ok(Shape::Polygon(rings)),
    }
}

fn ring(points: Value<'_>) -> Result<Ring, String> {
    let mut corners = Vec::new();
    for point in points.elements() {
        let numbers: Vec<_> = point.elements().take(2).filter_map(Value::number).collect();
        let place = match numbers[..] {
            [lon, lat] => Place::new(lat, lon),
            _ => None,
        };
        corners.push(place.ok_or_else(|| {
            format!(
                "{} is not a place, expected [longitude, latitude]",
                point.raw()
            )
        })?);
    }
    Ring::new(corners).ok_or_else(|| "a ring has fewer than three corners".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read() {
        for text in [
            "circle 37.77 -122.42 50km",
            "circle -33 151 500m",
            "box -60 115 66 -66",
            r#"{"type":"Polygon","coordinates":[[[0,0],[10,0],[10,10,5],[0,0]]]}"#,
            r#"{"type":"Feature","geometry":{"type":"MultiPolygon","coordinates":[[[[0,0],[1,0],[1,1]]]]}}"#,
        ] {
            assert!(shape(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("circle 1 2", "expected 'circle LAT LON RADIUS'"),
            ("circle 91 2 5km", "expected 'circle"),
            ("circle 1 2 5", "with m or km"),
            ("box 10 0 5 5", "its south in the north"),
            ("{", "not JSON"),
            ("{}", "no 'type'"),
            (
                r#"{"type":"Point","coordinates":[1,2]}"#,
                "a Point, which has no inside",
            ),
            (r#"{"type":"Polygon"}"#, "no 'coordinates'"),
            (
                r#"{"type":"Polygon","coordinates":[[[0,0],[1,1]]]}"#,
                "fewer than three corners",
            ),
            (
                r#"{"type":"Polygon","coordinates":[[[0,99],[1,1],[2,2]]]}"#,
                "[0,99] is not a place",
            ),
        ] {
            let error = shape(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn features_of_one_name_are_one_area() {
        let feature = |west: u32| {
            let (east, north) = (west + 1, 1);
            format!(
                r#"{{"type":"Feature","id":"a","geometry":{{"type":"Polygon","coordinates":[[[{west},0],[{east},0],[{east},{north}],[{west},{north}]]]}}}}"#
            )
        };
        let features = [0, 10, 20].map(feature).join(",");
        let text = format!(r#"{{"type":"FeatureCollection","features":[{features}]}}"#);
        let fences = collection(&text, "name").expect("a fence");
        let place = |lon| Place::new(0.5, lon).expect("a place");
        let inside = |lon| fences[0].1.contains(place(lon));
        assert_eq!(fences.len(), 1);
        assert!(inside(0.5) && inside(10.5) && inside(20.5) && !inside(5.0));
    }

    #[test]
    fn features_have_names() {
        let area = r#"{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1]]]}"#;
        let text = format!(
            r#"{{"type":"FeatureCollection","features":[{{"type":"Feature","properties":{{"name":"a"}},"geometry":{area}}},{{"type":"Feature","id":7,"properties":null,"geometry":{area}}}]}}"#
        );
        let names: Vec<_> = collection(&text, "name")
            .expect("fences")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["a", "7"]);
        assert!(
            collection(area, "name")
                .expect_err("a polygon")
                .contains("expected a FeatureCollection")
        );
        assert!(
            collection(&text.replace("\"id\":7,", ""), "name")
                .expect_err("no name")
                .contains("feature 1")
        );
    }
}
