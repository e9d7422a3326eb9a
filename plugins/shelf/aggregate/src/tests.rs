use super::*;
use waypost_plugin::testing::{self, Input};

mod timer;

type Setting = (&'static str, &'static str);

const MINUTES: [Setting; 5] = [
    ("every", "1m"),
    ("by", "topic[1]"),
    ("topic", "minutes/{topic[1]}"),
    ("values.mean", "mean $.t"),
    ("values.last", "last $.s"),
];

const START: u64 = 1_767_225_600_000;

fn input(plant: u32, at_ms: u64, t: &str) -> Input {
    let payload = format!(r#"{{"t":{t},"s":"x{t}"}}"#);
    Input::new(format!("plant/{plant}"), payload).received_at_ms(START + at_ms)
}

/// Messages in one call; a fresh instance each time, as after a restart.
fn call(settings: &[Setting], inputs: Vec<Input>) -> Vec<Outcome> {
    let (mut aggregate, interest) = testing::init::<Aggregate>(settings).expect("it starts");
    let batch = testing::batch(&interest, inputs);
    aggregate.transform_batch(&batch).expect("outcomes")
}

/// Causes, topics and payloads of what was published.
fn published() -> Vec<(u32, String, String)> {
    let all = testing::take_published().into_iter();
    all.map(|(cause, message)| {
        let payload = String::from_utf8(message.payload).expect("UTF-8");
        (cause, message.topic, payload)
    })
    .collect()
}

fn result(plant: u32, from_ms: u64, count: u32, values: &str) -> String {
    let (from, to) = (START + from_ms, START + from_ms + 60_000);
    format!(
        r#"{{"from":{from},"to":{to},"count":{count},"by":{{"topic[1]":"{plant}"}},"values":{values}}}"#
    )
}

#[test]
fn a_later_message_closes_a_window_of_time() {
    let outcomes = call(
        &MINUTES,
        vec![input(1, 0, "1"), input(2, 1, "9"), input(1, 59_999, "2")],
    );
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Drop(Some(_))))
    );
    assert_eq!(published(), []);
    call(&MINUTES, vec![input(1, 60_000, "5")]);
    let expected = result(1, 0, 2, r#"{"mean":1.5,"last":"x2"}"#);
    assert_eq!(published(), [(0, "minutes/1".to_owned(), expected)]);
    // In one call several may close.
    call(
        &MINUTES,
        vec![
            input(2, 60_000, "1"),
            input(1, 130_000, "6"),
            input(1, 120_000, "null"),
        ],
    );
    let found = published();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].0, &found[0].2),
        (0, &result(2, 0, 1, r#"{"mean":9,"last":"x9"}"#))
    );
    assert_eq!(
        (found[1].0, &found[1].2),
        (1, &result(1, 60_000, 1, r#"{"mean":5,"last":"x5"}"#))
    );
}

#[test]
fn a_late_message_counts_in_the_window_that_is_open() {
    call(&MINUTES, vec![input(1, 60_000, "1"), input(1, 59_000, "3")]);
    assert_eq!(published(), []);
    call(&MINUTES, vec![input(1, 120_000, "1")]);
    assert_eq!(
        published()[0].2,
        result(1, 60_000, 2, r#"{"mean":2,"last":"x3"}"#)
    );
}

#[test]
fn windows_of_messages() {
    let settings: [Setting; 8] = [
        ("count", "3"),
        ("topic", "threes"),
        ("messages", "pass"),
        ("values.n", "count $.t"),
        ("values.sum", "sum $.t"),
        ("values.min", "min $.t"),
        ("values.max", "max $.t"),
        ("values.first", "first $.s"),
    ];
    let outcomes = call(&settings, vec![input(1, 0, "0.1"), input(2, 5, "0.2")]);
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Pass))
    );
    call(&settings, vec![input(3, 9, "-0.3"), input(3, 10, "7")]);
    let found = published();
    assert_eq!(
        (found.len(), found[0].0, found[0].1.as_str()),
        (1, 0, "threes")
    );
    let result = &found[0].2;
    let head = format!(
        r#"{{"from":{START},"to":{},"count":3,"by":{{}},"values":{{"n":3,"sum":"#,
        START + 9
    );
    assert!(result.starts_with(&head), "{result}");
    assert!(
        result.ends_with(r#","min":-0.3,"max":0.2,"first":"x0.1"}}"#),
        "{result}"
    );
    // What 0.1 + 0.2 is more than 0.3 in binary.
    let sum = result
        .split("\"sum\":")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let sum: f64 = sum.and_then(|sum| sum.parse().ok()).expect("a number");
    assert!(sum.abs() < 1e-16, "{result}");
    assert_eq!(testing::state().len(), 1, "the fourth waits for two more");
}

#[test]
fn values_that_are_no_numbers_do_not_count() {
    let settings: [Setting; 4] = [
        ("count", "2"),
        ("topic", "x"),
        ("values.mean", "mean $.t"),
        ("values.h", "max header h"),
    ];
    let with = |t: &str, h: &str| {
        Input::new("plant/1", format!(r#"{{"t":{t}}}"#)).header("h", h.to_owned())
    };
    call(&settings, vec![with("\"a\"", "hot"), with("null", "-3")]);
    assert!(
        published()[0]
            .2
            .ends_with(r#""values":{"mean":null,"h":-3}}"#)
    );
}

#[test]
fn what_cannot_be_taken() {
    let settings: [Setting; 2] = [("count", "2"), ("topic", "x/{header h}")];
    let Some(Outcome::DeadLetter(reason)) = call(&settings, vec![input(1, 0, "1")]).pop() else {
        panic!("no header")
    };
    assert_eq!(reason, "the message has no header h");
    let Some(Outcome::DeadLetter(reason)) = call(&MINUTES, vec![Input::new("plant/1", "x")]).pop()
    else {
        panic!("no JSON")
    };
    assert!(reason.contains("not JSON"));
    assert!(testing::state().is_empty());
}

#[test]
fn what_another_version_left_begins_anew() {
    state::set([Key::PREFIX, b""].concat(), "[2,\"?\"]", 0).expect("room");
    let settings: [Setting; 2] = [("count", "1"), ("topic", "x")];
    call(&settings, vec![input(1, 0, "1")]);
    assert_eq!((published().len(), testing::state().len()), (1, 0));
}

#[test]
fn a_window_is_read_back_as_it_was() {
    let sum = |number: f64| measure::Sum {
        count: 3,
        number,
        lost: -1e-300,
        json: "\"é\\n\"".into(),
    };
    let mut window = Window::new(5, "a/\"b\"".into(), vec!["\"x\"".into(), "null".into()], 0);
    window.set_sums(vec![sum(0.1), sum(f64::MAX), sum(-0.0)]);
    assert_eq!(
        Window::read(&window.bytes("d"), "d").as_ref(),
        Some(&window)
    );
    assert_eq!(Window::read(&window.bytes("d"), "e"), None);
    for wrong in [
        "",
        "[]",
        "[1]",
        "{}",
        "[2,\"d\",1,1,1,1,[]]",
        "[2,\"d\",1,1,1,\"t\",[],[]]",
        "[1,1,1,1,\"t\",[]]",
    ] {
        assert_eq!(Window::read(wrong.as_bytes(), "d"), None, "{wrong}");
    }
}

#[test]
fn wrong_settings_are_named() {
    for (settings, setting, word) in [
        (&[][..], "topic", "is missing"),
        (&[("topic", "a/+"), ("count", "1")], "topic", "a wildcard"),
        (&[("topic", "a")], "", "nothing says when a window closes"),
        (
            &[("topic", "a"), ("count", "1"), ("every", "1s")],
            "count",
            "expected one of them",
        ),
        (&[("topic", "a"), ("count", "0")], "count", "a whole number"),
        (
            &[("topic", "a"), ("every", "1ms")],
            "every",
            "at least 100ms",
        ),
        (
            &[("topic", "a"), ("count", "1"), ("delay", "1s")],
            "delay",
            "for windows of time",
        ),
        (
            &[("topic", "a"), ("every", "1m"), ("idle", "1h")],
            "idle",
            "for windows of messages",
        ),
        (
            &[("topic", "a"), ("count", "1"), ("idle", "10ms")],
            "idle",
            "at least 1s",
        ),
        (
            &[("topic", "a"), ("count", "1"), ("values.x", "avg $.t")],
            "values.x",
            "one of count, sum",
        ),
        (
            &[("topic", "a"), ("count", "1"), ("values.x", "mean")],
            "values.x",
            "does not say what of",
        ),
        (
            &[("topic", "a"), ("count", "1"), ("values.x", "mean t")],
            "values.x",
            "begins with none of",
        ),
    ] {
        let Err(error) = testing::init::<Aggregate>(settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.unwrap_or_default(), setting);
        assert!(error.message.contains(word), "{}", error.message);
    }
}
