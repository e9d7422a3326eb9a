use super::*;
use waypost_plugin::testing::{self, Input};

const FENCES: [(&str, &str); 4] = [
    ("lat", "$.lat"),
    ("lon", "$.lon"),
    ("fences.harbour", "circle 53.54 9.98 5km"),
    ("fences.north", "box 51 -4 61 12"),
];

/// As the router calls it in a role.
fn start(role: &str, more: &[(&str, &str)]) -> Result<(Geofence, Interest), InitError> {
    let settings = [&FENCES[..], more].concat();
    let text = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    Geofence::init(&Config {
        plugin: "test".into(),
        role: role.into(),
        instance: 0,
        settings: settings.iter().map(text).collect(),
        destinations: vec!["queue:a".into(), "queue:b".into(), "queue:rest".into()],
    })
}

const HARBOUR: &str = r#"{"lat":53.55,"lon":9.99}"#;
const SEA: &str = r#"{"lat":55,"lon":3}"#;
const CAPE: &str = r#"{"lat":-34,"lon":18}"#;

#[test]
fn as_a_filter() {
    let judge = |more: &[(&str, &str)], payload: &str| {
        let (mut geofence, interest) = start("filter", more).expect("it starts");
        let batch = testing::batch(&interest, [Input::new("t", payload)]);
        let answer = geofence.filter(&batch.get(0).expect("a message"));
        (answer.decision, answer.reason.unwrap_or_default())
    };
    assert_eq!(judge(&[], SEA).0, Decision::Pass);
    assert_eq!(
        judge(&[], CAPE),
        (Decision::Drop, "-34, 18 is in no fence".into())
    );
    let outside = [("keep", "outside"), ("otherwise", "reject")];
    assert_eq!(judge(&outside, CAPE).0, Decision::Pass);
    assert_eq!(
        judge(&outside, HARBOUR),
        (Decision::Reject, "53.55, 9.99 is inside harbour".into())
    );
    for (payload, word) in [
        ("{}", "has no place"),
        (r#"{"lat":"north","lon":1}"#, "has no place"),
        (
            r#"{"lat":91,"lon":1}"#,
            "latitude 91, longitude 1 is no place",
        ),
        ("?", "not JSON"),
    ] {
        let (decision, reason) = judge(&[], payload);
        assert_eq!(decision, Decision::DeadLetter);
        assert!(reason.contains(word), "{payload}: {reason}");
    }
}

#[test]
fn as_a_transform() {
    let (mut geofence, interest) = start("transform", &[]).expect("it starts");
    let batch = testing::batch(&interest, [Input::new("t", HARBOUR), Input::new("t", CAPE)]);
    let mut edits = batch
        .iter()
        .map(|message| match geofence.transform(&message) {
            Outcome::Edit(edit) => (edit.set_headers, edit.remove_headers),
            _ => panic!("not edited"),
        });
    let both = ("fence".to_owned(), b"harbour,north".to_vec());
    assert_eq!(edits.next(), Some((vec![both], Vec::new())));
    assert_eq!(edits.next(), Some((Vec::new(), vec!["fence".to_owned()])));
}

#[test]
fn as_a_route() {
    let more = [
        ("to.queue:a", "harbour"),
        ("to.queue:b.0", "north"),
        ("otherwise", "queue:rest"),
    ];
    let (mut geofence, interest) = start("route", &more).expect("it starts");
    let inputs = [HARBOUR, SEA, CAPE].map(|payload| Input::new("t", payload));
    let batch = testing::batch(&interest, inputs);
    let chosen = batch.iter().map(|message| match geofence.route(&message) {
        Choice::One(one) => vec![one],
        Choice::To(to) => to,
        _ => panic!("no destination"),
    });
    assert_eq!(chosen.collect::<Vec<_>>(), [vec![0, 1], vec![1], vec![2]]);
}

#[test]
fn wrong_settings_are_named() {
    for (role, settings, setting, word) in [
        (
            "filter",
            &[("fences.x", "circle")][..],
            "fences.x",
            "expected 'circle",
        ),
        ("filter", &[("geojson", "{}")], "geojson", "no 'type'"),
        (
            "filter",
            &[(
                "geojson",
                r#"{"type":"FeatureCollection","features":[{"id":"north","type":"Feature","geometry":{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1]]]}}]}"#,
            )],
            "fences.north",
            "also the name of a feature",
        ),
        ("filter", &[("keep", "in")], "keep", "inside, outside"),
        ("filter", &[("header", "x")], "header", "is unknown"),
        (
            "route",
            &[("to.queue:x", "north")],
            "to.queue:x",
            "queue:a, queue:b",
        ),
        (
            "route",
            &[("to.queue:a", "south")],
            "to.queue:a",
            "harbour, north",
        ),
        ("route", &[], "", "the name of a fence"),
        (
            "route",
            &[("too.queue:a", "north")],
            "too.queue:a",
            "is unknown",
        ),
        (
            "transform",
            &[("to.queue:a", "north")],
            "to.queue:a",
            "is unknown",
        ),
    ] {
        let Err(error) = start(role, settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref().unwrap_or_default(), setting);
        assert!(error.message.contains(word), "{}", error.message);
    }
}
