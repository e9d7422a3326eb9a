//! The stock plugins on earthquakes.

use waypost_host::{Instance, PluginSpec, Verdict};
use waypost_wire::record::Message;

use crate::support::{call, load, stock};

fn feature(mag: &str) -> String {
    format!(
        r#"{{"type":"Feature","properties":{{"mag":{mag},"place":"10km S of Fiji \u00e9","time":1517364015660,"tsunami":0,"net":"us"}},"geometry":{{"type":"Point","coordinates":[-178.5,-20.25,560.5]}},"id":"us1"}}"#
    )
}

fn message(payload: impl Into<String>) -> Message {
    Message::new("quakes/us/raw", payload.into())
}

fn start(name: &str, settings: &[(&str, &str)], destinations: &[&str]) -> Instance {
    let mut spec = PluginSpec::new(name, stock(name));
    spec.settings = settings
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    spec.destinations = destinations.iter().map(|d| d.to_string()).collect();
    load(spec).instantiate(None).expect("an instance")
}

#[test]
fn magnitude_keeps_what_is_strong_and_explains_the_rest() {
    let mut instance = start("quake-magnitude", &[], &[]);
    let messages = [
        message(feature("3")),
        message(feature("2.99")),
        message(feature("null")),
        message("{\"properties\":{\"mag\":3"),
        message("[]"),
    ];
    let verdicts = call(&mut instance, &messages).expect("verdicts");
    assert_eq!(verdicts.get(0), Some(&Verdict::Pass));
    let small = Verdict::Drop(Some("magnitude 2.99 is below 3".into()));
    assert_eq!(verdicts.get(1), Some(&small));
    assert_eq!(
        verdicts.get(2),
        Some(&Verdict::Drop(Some("no magnitude".into())))
    );
    for position in [3, 4] {
        let Some(Verdict::DeadLetter(Some(why))) = verdicts.get(position) else {
            panic!("{verdicts:?}")
        };
        assert!(why.starts_with("not a GeoJSON feature: "), "{why}");
    }
    let mut instance = start("quake-magnitude", &[("min-magnitude", "2.5")], &[]);
    assert!(
        call(&mut instance, &[message(feature("2.99"))])
            .expect("verdicts")
            .all_pass()
    );
}

/// The plugin decides most features at a glance, and leaves what is unusual to a parser: a key with
/// an escape is enough for that. Both must say the same of whatever becomes of a feature.
#[test]
fn magnitude_says_the_same_at_a_glance_and_after_parsing() {
    let mut instance = start("quake-magnitude", &[], &[]);
    let glanced = r#"{"k":0,"properties":{"mag":3.5,"place":"37 km NNE of \"Amboy\"","nst":-7e1,"tz":[null,true]},"id":"u"}"#;
    let bytes = b"\0\x1f \"\\{}[]:,-+.019eaun/\x7f\x80\xff";
    let mut decided = [0; 3];
    for at in 1..glanced.len() {
        let changed = |prefix: &str| {
            let messages = bytes.iter().map(|byte| {
                let mut text = glanced.as_bytes().to_vec();
                text[at] = *byte;
                let rest = text.split_off(1);
                let payload = [&text, prefix.as_bytes(), &rest].concat();
                Message::new("quakes/us/raw", payload)
            });
            messages.collect::<Vec<_>>()
        };
        let at_a_glance = call(&mut instance, &changed("")).expect("verdicts");
        let parsed = call(&mut instance, &changed(r#""\u0061":0,"#)).expect("verdicts");
        for (one, other) in at_a_glance.iter().zip(parsed.iter()) {
            let kind = |verdict: &Verdict| match verdict {
                Verdict::Pass => 0,
                Verdict::Drop(_) => 1,
                Verdict::DeadLetter(_) => 2,
                other => panic!("{other:?}"),
            };
            // The parser's words name a column, which differs; of what is sound there is none.
            if kind(one) < 2 {
                assert_eq!(one, other, "byte {at}");
            }
            assert_eq!(kind(one), kind(other), "byte {at}");
            decided[kind(one)] += 1;
        }
    }
    assert!(decided.iter().all(|count| *count > 20), "{decided:?}");
}

#[test]
fn alert_makes_compact_json_of_a_feature() {
    let mut instance = start("quake-alert", &[("topic", "quakes/{net}/alert")], &[]);
    let verdicts = call(&mut instance, &[message(feature("4.5")), message("x")]);
    let verdicts = verdicts.expect("verdicts");
    let Some(Verdict::Edit(edit)) = verdicts.get(0) else {
        panic!("{verdicts:?}")
    };
    let mut message = message(feature("4.5"));
    edit.clone().apply(&mut message);
    assert_eq!(message.topic, "quakes/us/alert");
    assert_eq!(message.content_type.as_deref(), Some("application/json"));
    assert_eq!(message.key.as_deref(), Some(&b"us"[..]));
    let header = |name| {
        message
            .headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| &v[..])
    };
    assert_eq!(
        (header("magnitude"), header("network")),
        (Some(&b"4.5"[..]), Some(&b"us"[..]))
    );
    assert_eq!(
        std::str::from_utf8(&message.payload).expect("UTF-8"),
        "{\"id\":\"us1\",\"mag\":4.5,\"place\":\"10km S of Fiji é\",\"time\":1517364015660,\
         \"lat\":-20.25,\"lon\":-178.5,\"depth_km\":560.5,\"net\":\"us\"}"
    );
    assert!(matches!(
        verdicts.get(1),
        Some(Verdict::DeadLetter(Some(_)))
    ));
}

#[test]
fn route_follows_its_rules_on_features_and_on_alerts() {
    let settings = [
        ("rule-major", "mag >= 5 -> queue:major"),
        (
            "rule-pacific",
            "box -60 120 60 -70 -> queue:pacific, topic:live",
        ),
        ("otherwise", "queue:all"),
    ];
    let destinations = ["queue:all", "queue:major", "queue:pacific", "topic:live"];
    let mut instance = start("quake-route", &settings, &destinations);
    let alert = r#"{"id":"a","mag":6.1,"lat":10,"lon":10}"#;
    let messages = [
        message(feature("5.5")),
        message(feature("4")),
        message(alert),
        message(alert.replace("6.1", "1")),
        message("?"),
    ];
    let verdicts = call(&mut instance, &messages).expect("verdicts");
    let to: Vec<_> = verdicts
        .iter()
        .map(|verdict| match verdict {
            Verdict::To(to) => to.as_slice().to_vec(),
            _ => vec![],
        })
        .collect();
    assert_eq!(to, [vec![1, 2, 3], vec![2, 3], vec![1], vec![0], vec![]]);
    assert!(matches!(
        verdicts.get(4),
        Some(Verdict::DeadLetter(Some(_)))
    ));
}

#[test]
fn mistakes_in_settings_are_named() {
    for (name, setting, value, wanted) in [
        (
            "quake-magnitude",
            "min-magnitude",
            "big",
            "setting 'min-magnitude': 'big': invalid float",
        ),
        (
            "quake-magnitude",
            "minmag",
            "3",
            "setting 'minmag': unknown setting, expected one of",
        ),
        (
            "quake-route",
            "rule-1",
            "mag >= 5 -> queue:x",
            "'queue:x' is not a destination",
        ),
        (
            "quake-route",
            "rule-1",
            "mag -> queue:x",
            "setting 'rule-1': 'mag -> queue:x' 'mag' is not",
        ),
    ] {
        let mut spec = PluginSpec::new(name, stock(name));
        spec.settings = vec![(setting.into(), value.into())];
        let error = load(spec)
            .instantiate(None)
            .expect_err("a mistake")
            .to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

/// The magnitude as the text has it: an independent way to it, without a JSON parser.
fn magnitude(feature: &str) -> Option<f64> {
    let (_, rest) = feature.split_once(r#""mag":"#)?;
    rest.split_once(',')?.0.parse().ok()
}

#[test]
fn a_week_of_real_events_goes_through_all_three() {
    let path = crate::support::repository("examples/quakes/earthquakes.jsonl");
    let text = std::fs::read_to_string(path).expect("the example's data");
    let features: Vec<&str> = text.lines().collect();
    let strong: Vec<&str> = features
        .iter()
        .copied()
        .filter(|line| magnitude(line) >= Some(3.0))
        .collect();
    assert_eq!((features.len(), strong.len()), (1_707, 217));

    let mut filter = start("quake-magnitude", &[], &[]);
    let messages: Vec<_> = features.iter().map(|line| message(*line)).collect();
    let verdicts = call(&mut filter, &messages).expect("verdicts");
    let kept: Vec<&str> = verdicts
        .iter()
        .zip(&features)
        .filter_map(|(verdict, line)| (*verdict == Verdict::Pass).then_some(*line))
        .collect();
    assert_eq!(kept, strong);
    assert!(
        !verdicts
            .iter()
            .any(|verdict| matches!(verdict, Verdict::DeadLetter(_)))
    );

    let mut alert = start("quake-alert", &[], &[]);
    let mut messages: Vec<_> = kept.iter().map(|line| message(*line)).collect();
    let verdicts = call(&mut alert, &messages).expect("verdicts");
    for (verdict, message) in verdicts.into_iter().zip(&mut messages) {
        let Verdict::Edit(edit) = verdict else {
            panic!("{verdict:?}")
        };
        edit.apply(message);
    }
    let rules = [
        ("rule-1", "mag >= 5 -> queue:major"),
        ("otherwise", "queue:all"),
    ];
    let mut route = start("quake-route", &rules, &["queue:all", "queue:major"]);
    let verdicts = call(&mut route, &messages).expect("verdicts");
    let major = verdicts
        .iter()
        .filter(|verdict| matches!(verdict, Verdict::To(to) if to.as_slice() == [1]))
        .count();
    assert_eq!(
        major,
        strong
            .iter()
            .filter(|line| magnitude(line) >= Some(5.0))
            .count()
    );
    assert!(
        verdicts
            .iter()
            .all(|verdict| matches!(verdict, Verdict::To(_)))
    );
}
