use super::*;
use waypost_plugin::testing::{self, Input};
use waypost_plugin::{HeaderInterest, PayloadInterest};

#[test]
fn levels_of_a_topic() {
    for (from, to, expected) in [
        (0, Some(1), Some("a")),
        (2, Some(3), Some("c")),
        (3, Some(4), None),
        (1, None, Some("b/c")),
        (0, Some(2), Some("a/b")),
        (1, Some(3), Some("b/c")),
        (1, Some(4), None),
        (3, None, None),
    ] {
        assert_eq!(cut("a/b/c", from, to), expected, "{from}..{to:?}");
    }
}

#[test]
fn only_what_is_named_is_asked_for() {
    let mut subjects = Subjects::default();
    for text in ["topic[1]", "header unit", "header unit", "key", "size"] {
        subjects.parse(text).expect(text);
    }
    let interest = subjects.interest();
    let HeaderInterest::Only(names) = interest.headers else {
        panic!("one header")
    };
    assert_eq!(
        (names, interest.fields),
        (vec!["unit".into()], vec!["key".into()])
    );
    assert!(matches!(interest.payload, PayloadInterest::Nothing));
    subjects.parse("$.a").expect("a path");
    assert!(matches!(
        subjects.interest().payload,
        PayloadInterest::Everything
    ));
}

#[test]
fn mistakes_are_named() {
    let mut subjects = Subjects::default();
    for (text, word) in [
        ("temp", "begins with none of $.path, topic"),
        ("header", "without a name"),
        ("topic[x]", "expected topic[N]"),
        ("topic[2..1]", "expected topic[N]"),
        ("key x", "goes on with 'x'"),
        ("$.a[", "has a bracket"),
    ] {
        let error = subjects.parse(text).expect_err(text);
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn values_of_a_message() {
    let mut subjects = Subjects::default();
    let texts = [
        "topic",
        "header h",
        "key",
        "$.a[*]",
        "size",
        "message-id",
        "received",
    ];
    let all: Vec<_> = texts.map(|text| subjects.parse(text).expect(text)).into();
    let input = Input::new("a/b", r#"{"a":["x",2]}"#)
        .header("h", "1")
        .header("h", "2");
    let batch = testing::batch(&subjects.interest(), [input.key([0x6b, 0xff])]);
    let message = batch.get(0).expect("a message");
    let seen = subjects.look(&message).expect("JSON");
    let values = |subject: &Subject| {
        let mut values = Vec::new();
        seen.any(subject, |datum| {
            values.push(datum.plain().into_owned());
            false
        });
        values.join(",")
    };
    let json = |at: usize| seen.first(&all[at]).map(|datum| datum.json());
    assert_eq!(json(0).as_deref(), Some("\"a/b\""));
    assert_eq!(json(3).as_deref(), Some("\"x\""));
    assert_eq!(json(4).as_deref(), Some("13"));
    let found: Vec<_> = all.iter().map(values).collect();
    assert_eq!(
        found,
        ["a/b", "1,2", "k\u{fffd}", "x,2", "13", "", "1000000"]
    );
}
