//! Areas on the earth, and whether a place is in one.
//!
//! Borders of polygons and boxes are straight in degrees, as in GeoJSON (RFC 7946, section 3.1.1);
//! a place on a border may count as in or out.

/// A place in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// South is below 0.
    pub lat: f64,
    /// West is below 0.
    pub lon: f64,
}

/// An area.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Around a place.
    Circle {
        /// The middle.
        middle: Place,
        /// How far, in m.
        radius_m: f64,
    },
    /// Between parallels and meridians; across 180° where it begins east of where it ends.
    Box {
        /// Its corner in the south and west.
        from: Place,
        /// Its corner in the north and east.
        to: Place,
    },
    /// Within the first ring, and in none of the others.
    Polygon(Vec<Ring>),
    /// Any of these.
    Many(Vec<Shape>),
}

/// A closed line, and the box around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ring {
    corners: Vec<Place>,
    low: Place,
    high: Place,
}

/// Mean radius of the earth.
const EARTH_M: f64 = 6_371_008.8;

impl Place {
    /// A place, if there is one there.
    pub fn new(lat: f64, lon: f64) -> Option<Place> {
        let is_one = (-90.0..=90.0).contains(&lat) && (-360.0..=360.0).contains(&lon);
        is_one.then_some(Place { lat, lon })
    }

    /// Along the surface of a sphere, in m (the haversine formula).
    pub fn distance_m(self, other: Place) -> f64 {
        let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
        let cosines = self.lat.to_radians().cos() * other.lat.to_radians().cos();
        let square = half(other.lat - self.lat) + cosines * half(other.lon - self.lon);
        2.0 * EARTH_M * square.clamp(0.0, 1.0).sqrt().asin()
    }

    /// The same longitude from -180 to 180.
    fn west_or_east(self) -> f64 {
        (self.lon + 540.0).rem_euclid(360.0) - 180.0
    }
}

impl Ring {
    /// A ring of at least three corners; the last may be the first again.
    pub fn new(mut corners: Vec<Place>) -> Option<Ring> {
        if corners.len() > 1 && corners.first() == corners.last() {
            corners.pop();
        }
        let first = *corners.first().filter(|_| corners.len() >= 3)?;
        let (mut low, mut high) = (first, first);
        for corner in &corners {
            low.lat = low.lat.min(corner.lat);
            low.lon = low.lon.min(corner.lon);
            high.lat = high.lat.max(corner.lat);
            high.lon = high.lon.max(corner.lon);
        }
        Some(Ring { corners, low, high })
    }

    /// A ring may be written across 180°, as 170 to 190.
    fn contains(&self, place: Place) -> bool {
        [0.0, 360.0, -360.0].into_iter().any(|turn| {
            let lon = place.lon + turn;
            self.contains_exactly(Place { lon, ..place })
        })
    }

    /// Counts the sides that a line to the east crosses.
    fn contains_exactly(&self, place: Place) -> bool {
        let is_near = (self.low.lat..=self.high.lat).contains(&place.lat)
            && (self.low.lon..=self.high.lon).contains(&place.lon);
        if !is_near {
            return false;
        }
        let mut is_in = false;
        let mut before = self.corners[self.corners.len() - 1];
        for corner in &self.corners {
            if (corner.lat > place.lat) != (before.lat > place.lat) {
                let share = (place.lat - corner.lat) / (before.lat - corner.lat);
                if place.lon < corner.lon + share * (before.lon - corner.lon) {
                    is_in = !is_in;
                }
            }
            before = *corner;
        }
        is_in
    }
}

impl Shape {
    /// Makes it all of both.
    pub fn join(&mut self, other: Shape) {
        match self {
            Shape::Many(all) => all.push(other),
            one => {
                let first = std::mem::replace(one, Shape::Many(Vec::new()));
                *one = Shape::Many(vec![first, other]);
            }
        }
    }

    /// Whether a place is in it.
    pub fn contains(&self, place: Place) -> bool {
        match self {
            Shape::Circle { middle, radius_m } => middle.distance_m(place) <= *radius_m,
            Shape::Box { from, to } => {
                let lon = place.west_or_east();
                let is_between = match from.lon <= to.lon {
                    true => (from.lon..=to.lon).contains(&lon),
                    false => lon >= from.lon || lon <= to.lon,
                };
                is_between && (from.lat..=to.lat).contains(&place.lat)
            }
            Shape::Polygon(rings) => match rings.split_first() {
                Some((outer, holes)) => {
                    outer.contains(place) && !holes.iter().any(|hole| hole.contains(place))
                }
                None => false,
            },
            Shape::Many(shapes) => shapes.iter().any(|shape| shape.contains(place)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(lat: f64, lon: f64) -> Place {
        Place::new(lat, lon).expect("a place")
    }

    fn ring(corners: &[(f64, f64)]) -> Ring {
        Ring::new(corners.iter().map(|(lat, lon)| place(*lat, *lon)).collect()).expect("a ring")
    }

    #[test]
    fn distances() {
        let (paris, london) = (place(48.8566, 2.3522), place(51.5074, -0.1278));
        assert!((paris.distance_m(london) - 343_556.0).abs() < 100.0);
        assert!((place(0.0, 179.5).distance_m(place(0.0, -179.5)) - 111_195.0).abs() < 1.0);
        let half = place(0.0, 0.0).distance_m(place(0.0, 180.0));
        assert!((half - EARTH_M * std::f64::consts::PI).abs() < 1.0);
    }

    #[test]
    fn boxes_across_the_date_line() {
        let shape = Shape::Box {
            from: place(-60.0, 115.0),
            to: place(66.0, -66.0),
        };
        for (lat, lon, is_in) in [
            (0.0, 180.0, true),
            (0.0, -180.0, true),
            (0.0, 150.0, true),
            (0.0, -100.0, true),
            (0.0, 0.0, false),
            (70.0, 150.0, false),
            (0.0, 260.0, true),
        ] {
            assert_eq!(shape.contains(place(lat, lon)), is_in, "{lat} {lon}");
        }
    }

    #[test]
    fn polygons_with_a_hole_and_across_the_date_line() {
        let outer = ring(&[
            (0.0, 0.0),
            (0.0, 10.0),
            (10.0, 10.0),
            (10.0, 0.0),
            (0.0, 0.0),
        ]);
        let hole = ring(&[(4.0, 4.0), (4.0, 6.0), (6.0, 6.0), (6.0, 4.0)]);
        let shape = Shape::Polygon(vec![outer, hole]);
        assert!(shape.contains(place(1.0, 1.0)) && shape.contains(place(5.0, 7.0)));
        assert!(!shape.contains(place(5.0, 5.0)) && !shape.contains(place(5.0, 11.0)));
        let across = Shape::Polygon(vec![ring(&[(0.0, 170.0), (0.0, 190.0), (10.0, 180.0)])]);
        assert!(across.contains(place(1.0, -179.0)) && across.contains(place(1.0, 179.0)));
        assert!(!across.contains(place(1.0, 0.0)));
    }

    /// In a shape like a star, where many sides cross one line.
    #[test]
    fn a_star() {
        let corner = |at: usize| {
            let radius = if at.is_multiple_of(2) { 10.0 } else { 4.0 };
            let angle = (at as f64) * std::f64::consts::PI / 5.0;
            place(radius * angle.sin(), radius * angle.cos())
        };
        let star = Shape::Polygon(vec![
            Ring::new((0..10).map(corner).collect()).expect("a ring"),
        ]);
        assert!(star.contains(place(0.0, 0.0)) && star.contains(place(0.0, 9.0)));
        assert!(!star.contains(place(0.0, -9.0)) && star.contains(place(0.0, -3.9)));
    }

    #[test]
    fn what_is_no_place_or_ring() {
        assert_eq!(Place::new(91.0, 0.0), None);
        assert_eq!(Place::new(0.0, f64::NAN), None);
        assert_eq!(
            Ring::new(vec![place(0.0, 0.0), place(1.0, 1.0), place(0.0, 0.0)]),
            None
        );
    }
}
