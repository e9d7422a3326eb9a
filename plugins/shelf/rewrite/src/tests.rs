use super::*;
use waypost_plugin::testing::{self, Input};

fn rewritten(settings: &[(&str, &str)], input: Input) -> Outcome {
    let (mut rewrite, interest) = testing::init::<Rewrite>(settings).expect("it starts");
    let batch = testing::batch(&interest, [input]);
    rewrite.transform(&batch.get(0).expect("a message"))
}

fn edit(outcome: Outcome) -> Edit {
    match outcome {
        Outcome::Edit(edit) => edit,
        Outcome::DeadLetter(reason) => panic!("{reason}"),
        _ => panic!("not edited"),
    }
}

#[test]
fn all_that_can_be_changed() {
    let settings = [
        ("topic", "sites/{topic[1]}/{$.id}"),
        ("key", "{$.id}"),
        ("content-type", "application/json"),
        ("headers.site", "{topic[1]}"),
        ("headers.was.in", "{header unit|none}"),
        ("remove-headers", "debug"),
        ("ttl", "90s"),
    ];
    let edit = edit(rewritten(
        &settings,
        Input::new("plant/p1/temp", r#"{"id":"a/7"}"#),
    ));
    assert_eq!(edit.topic.as_deref(), Some("sites/p1/a%2F7"));
    assert_eq!(edit.key.as_deref(), Some(&b"a/7"[..]));
    assert_eq!((edit.ttl_ms, edit.payload), (Some(90_000), None));
    assert_eq!(edit.remove_headers, ["debug"]);
    let headers = [
        ("site".to_owned(), b"p1".to_vec()),
        ("was.in".into(), b"none".to_vec()),
    ];
    assert_eq!(edit.set_headers, headers);
}

#[test]
fn the_first_filter_that_takes_a_topic_renames_it() {
    let settings = [
        ("topics.plant/+/temp", "heat/{topic[1]}"),
        ("topics.plant/#", "other/{topic[1..]}"),
    ];
    let topic = |topic| rewritten(&settings, Input::new(topic, ""));
    assert_eq!(edit(topic("plant/1/temp")).topic.as_deref(), Some("heat/1"));
    assert_eq!(edit(topic("plant/1/x")).topic.as_deref(), Some("other/1/x"));
    assert!(matches!(topic("shop/1"), Outcome::Pass));
}

#[test]
fn what_is_missing_or_no_topic() {
    let settings = [("topic", "a/{header x}")];
    let Outcome::DeadLetter(reason) = rewritten(&settings, Input::new("t", "")) else {
        panic!("no header x")
    };
    assert_eq!(reason, "the message has no header x");
    let passing = [settings[0], ("on-missing", "pass")];
    assert!(matches!(
        rewritten(&passing, Input::new("t", "")),
        Outcome::Pass
    ));
    let Outcome::DeadLetter(reason) = rewritten(
        &settings,
        Input::new("t", "").header("x", "x".repeat(2_000)),
    ) else {
        panic!("too long")
    };
    assert!(reason.contains("longer than 1,024 bytes"), "{reason}");
    let json = [("key", "{$.a}"), ("on-invalid", "ignore")];
    let Outcome::DeadLetter(reason) = rewritten(&json, Input::new("t", "no")) else {
        panic!("nothing there")
    };
    assert_eq!(reason, "the message has no $.a");
}

#[test]
fn wrong_settings_are_named() {
    for (settings, setting, word) in [
        (&[][..], None, "nothing is to be changed"),
        (&[("topic", "a/+")], Some("topic"), "it has a wildcard"),
        (&[("topic", "a/{x}")], Some("topic"), "begins with none of"),
        (
            &[("topics.a/#/b", "x")],
            Some("topics.a/#/b"),
            "not a filter",
        ),
        (&[("ttl", "5")], Some("ttl"), "expected a time"),
        (&[("header.x", "5")], Some("header.x"), "headers.NAME"),
    ] {
        let Err(error) = testing::init::<Rewrite>(settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), setting);
        assert!(error.message.contains(word), "{}", error.message);
    }
}
