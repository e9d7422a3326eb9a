use super::*;
use waypost_plugin::testing::{self, Input};

const DESTINATIONS: [&str; 4] = ["queue:hot", "queue:cold.1", "topic:a/b", "queue:rest"];

fn chosen(settings: &[(&str, &str)], payload: &str) -> Choice {
    let started = testing::init_route::<Switch>(settings, &DESTINATIONS);
    let (mut switch, interest) = started.expect("it starts");
    let batch = testing::batch(&interest, [Input::new("t", payload)]);
    switch.route(&batch.get(0).expect("a message"))
}

const RULES: [(&str, &str); 4] = [
    ("to.queue:hot", "$.t > 30"),
    ("to.queue:cold.1", "$.t < 0"),
    ("to.topic:a/b.0", "$.t > 20"),
    ("to.topic:a/b.1", "$.alarm == true"),
];

#[test]
fn each_rule_that_applies_counts() {
    assert!(matches!(chosen(&RULES, r#"{"t":31}"#), Choice::One(0)));
    assert!(matches!(chosen(&RULES, r#"{"t":-1}"#), Choice::One(1)));
    let Choice::To(to) = chosen(&RULES, r#"{"t":31,"alarm":true}"#) else {
        panic!("two destinations")
    };
    assert_eq!(to, [0, 2]);
    let Choice::Drop(Some(reason)) = chosen(&RULES, "{}") else {
        panic!("nowhere to go")
    };
    assert_eq!(reason, "no condition of a destination holds");
}

#[test]
fn the_first_only_and_the_rest() {
    let mut rules = RULES.to_vec();
    rules.extend([("first", "true"), ("otherwise", "queue:rest")]);
    assert!(matches!(
        chosen(&rules, r#"{"t":31,"alarm":true}"#),
        Choice::One(0)
    ));
    assert!(matches!(chosen(&rules, "{}"), Choice::One(3)));
    rules.push(("otherwise.0", "topic:a/b"));
    let Choice::To(to) = chosen(&rules, "{}") else {
        panic!("two destinations")
    };
    assert_eq!(to, [2, 3]);
}

#[test]
fn payloads_that_are_not_json() {
    let with = |word| {
        [
            RULES.to_vec(),
            vec![("on-invalid", word), ("otherwise", "queue:rest")],
        ]
        .concat()
    };
    assert!(matches!(chosen(&with("ignore"), "x"), Choice::One(3)));
    assert!(matches!(chosen(&with("pass"), "x"), Choice::Pass));
    assert!(matches!(chosen(&RULES, "x"), Choice::DeadLetter(_)));
}

#[test]
fn wrong_settings_are_named() {
    for (settings, setting, word) in [
        (&[][..], None, "set to."),
        (
            &[("to.queue:x", "$.a > 1")],
            Some("to.queue:x"),
            "queue:hot, queue:cold.1",
        ),
        (
            &[("to.queue:hot", "$.a")],
            Some("to.queue:hot"),
            "says nothing",
        ),
        (
            &[("to.queue:hot", "key exists"), ("otherwise", "q")],
            Some("otherwise"),
            "'q', expected",
        ),
        (
            &[("to.queue:hot", "key exists"), ("first", "yes")],
            Some("first"),
            "false, true",
        ),
    ] {
        let Err(error) = testing::init_route::<Switch>(settings, &DESTINATIONS) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), setting);
        assert!(error.message.contains(word), "{}", error.message);
    }
}
