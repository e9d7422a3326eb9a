//! The rules of the router, and their grammar.
//!
//! ```text
//! rule      := condition ("and" condition)* "->" name ("," name)*
//! condition := field comparison number
//!            | "box" number number number number     south, west, north, east, in degrees
//!            | "place" word                           the place contains the word, in any case
//! field     := "mag" | "depth" | "lat" | "lon" | "tsunami"
//! comparison:= ">=" | "<=" | ">" | "<" | "="
//! ```
//!
//! A box whose west is greater than its east crosses the date line. A field that the message does
//! not have fulfils no condition. Words are divided by spaces.

/// What conditions look at.
#[derive(Clone, Debug, Default)]
pub struct Quake {
    /// Magnitude.
    pub mag: Option<f64>,
    /// Depth in km.
    pub depth: Option<f64>,
    /// Latitude in degrees.
    pub lat: Option<f64>,
    /// Longitude in degrees.
    pub lon: Option<f64>,
    /// 1 where the sea may rise.
    pub tsunami: Option<f64>,
    /// The place in words, in lower case.
    pub place: String,
}

/// A rule: where messages go that fulfil all its conditions.
#[derive(Debug)]
pub struct Rule {
    conditions: Vec<Condition>,
    /// Indexes of destinations.
    pub destinations: Vec<u32>,
}

#[derive(Debug)]
enum Condition {
    Compare(Field, Comparison, f64),
    Box {
        south: f64,
        west: f64,
        north: f64,
        east: f64,
    },
    Place(String),
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Mag,
    Depth,
    Lat,
    Lon,
    Tsunami,
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
}

impl Rule {
    /// Parses a rule; `destination` finds the index of a name.
    pub fn parse(text: &str, destination: impl Fn(&str) -> Option<u32>) -> Result<Rule, String> {
        let (conditions, names) = text.split_once("->").ok_or("has no '->'")?;
        let words: Vec<&str> = conditions.split_whitespace().collect();
        let conditions = words
            .split(|word| *word == "and")
            .map(condition)
            .collect::<Result<_, String>>()?;
        let index = |name: &str| {
            let name = name.trim();
            destination(name).ok_or_else(|| format!("'{name}' is not a destination of the route"))
        };
        let mut destinations = Vec::new();
        for name in names.split(',') {
            let index = index(name)?;
            if !destinations.contains(&index) {
                destinations.push(index);
            }
        }
        Ok(Rule {
            conditions,
            destinations,
        })
    }

    /// Whether a message fulfils all conditions.
    pub fn applies(&self, quake: &Quake) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.holds(quake))
    }
}

fn condition(words: &[&str]) -> Result<Condition, String> {
    match words {
        ["place", word] => Ok(Condition::Place(word.to_lowercase())),
        ["box", south, west, north, east] => {
            let (south, north) = (number(south)?, number(north)?);
            if south > north {
                return Err(format!("box: south {south} lies north of {north}"));
            }
            Ok(Condition::Box {
                south,
                west: number(west)?,
                north,
                east: number(east)?,
            })
        }
        [name, comparison, value] => Ok(Condition::Compare(
            field(name)?,
            compare(comparison)?,
            number(value)?,
        )),
        [] => Err("has an empty condition".into()),
        other => Err(format!(
            "'{}' is not a condition, expected 'FIELD >= NUMBER', 'box S W N E' or 'place WORD'",
            other.join(" ")
        )),
    }
}

fn field(name: &str) -> Result<Field, String> {
    Ok(match name {
        "mag" => Field::Mag,
        "depth" => Field::Depth,
        "lat" => Field::Lat,
        "lon" => Field::Lon,
        "tsunami" => Field::Tsunami,
        _ => {
            return Err(format!(
                "'{name}' is not one of mag, depth, lat, lon, tsunami"
            ));
        }
    })
}

fn compare(text: &str) -> Result<Comparison, String> {
    Ok(match text {
        ">=" => Comparison::AtLeast,
        "<=" => Comparison::AtMost,
        ">" => Comparison::Above,
        "<" => Comparison::Below,
        "=" => Comparison::Equal,
        _ => return Err(format!("'{text}' is not one of >=, <=, >, <, =")),
    })
}

fn number(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("'{text}' is not a number"))
}

impl Condition {
    fn holds(&self, quake: &Quake) -> bool {
        match self {
            Condition::Place(word) => quake.place.contains(word),
            Condition::Compare(field, comparison, limit) => field
                .of(quake)
                .is_some_and(|value| comparison.holds(value, *limit)),
            Condition::Box {
                south,
                west,
                north,
                east,
            } => {
                let (Some(lat), Some(lon)) = (quake.lat, quake.lon) else {
                    return false;
                };
                let across = if west <= east {
                    (*west..=*east).contains(&lon)
                } else {
                    lon >= *west || lon <= *east
                };
                (*south..=*north).contains(&lat) && across
            }
        }
    }
}

impl Field {
    fn of(self, quake: &Quake) -> Option<f64> {
        match self {
            Field::Mag => quake.mag,
            Field::Depth => quake.depth,
            Field::Lat => quake.lat,
            Field::Lon => quake.lon,
            Field::Tsunami => quake.tsunami,
        }
    }
}

impl Comparison {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Comparison::AtLeast => value >= limit,
            Comparison::AtMost => value <= limit,
            Comparison::Above => value > limit,
            Comparison::Below => value < limit,
            Comparison::Equal => value == limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Rule, String> {
        Rule::parse(text, |name| {
            ["queue:major", "queue:pacific"]
                .iter()
                .position(|d| *d == name)
                .map(|i| i as u32)
        })
    }

    fn quake() -> Quake {
        Quake {
            mag: Some(5.0),
            lat: Some(-20.0),
            lon: Some(-178.0),
            place: "south of the fiji islands".into(),
            ..Quake::default()
        }
    }

    #[test]
    fn rules_apply_where_all_conditions_hold() {
        for (text, applies) in [
            ("mag >= 5 -> queue:major", true),
            ("mag > 5 -> queue:major", false),
            ("tsunami = 1 -> queue:major", false),
            ("place Fiji -> queue:major", true),
            ("box -60 120 60 -70 -> queue:pacific", true),
            ("box -60 -70 60 120 -> queue:pacific", false),
            (
                "mag >= 5 and box -60 120 60 -70 and place fiji -> queue:major, queue:pacific",
                true,
            ),
            ("mag >= 5 and lat > 0 -> queue:major", false),
        ] {
            let rule = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(rule.applies(&quake()), applies, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, error) in [
            ("mag >= 5", "has no '->'"),
            ("mag >= five -> queue:major", "'five' is not a number"),
            ("mag >= NaN -> queue:major", "'NaN' is not a number"),
            ("size >= 5 -> queue:major", "'size' is not one of mag"),
            ("mag => 5 -> queue:major", "'=>' is not one of >="),
            (
                "mag >= 5 -> queue:minor",
                "'queue:minor' is not a destination of the route",
            ),
            ("-> queue:major", "has an empty condition"),
            ("mag >= 5 and -> queue:major", "has an empty condition"),
            ("box 1 2 3 -> queue:major", "'box 1 2 3' is not a condition"),
            ("box 9 0 1 0 -> queue:major", "box: south 9 lies north of 1"),
        ] {
            let found = parse(text).err().unwrap_or_default();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }
}
