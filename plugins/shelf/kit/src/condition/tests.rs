use super::*;
use waypost_plugin::testing::{self, Input};

const QUAKE: &str = r#"{"mag":4.5,"place":"12 km N of Alaska","net":"ak","tags":["a",2,null],
    "big":9007199254740993,"ok":true,"none":null,"list":[{"x":1},{"x":5}],"o":{}}"#;

#[track_caller]
fn holds(condition: &str) -> bool {
    let mut subjects = Subjects::default();
    let condition =
        Condition::parse(condition, &mut subjects).unwrap_or_else(|error| panic!("{error}"));
    let input = Input::new("quakes/ak/raw", QUAKE)
        .header("unit", "C")
        .header("level", "12.5")
        .key("k-1");
    let batch = testing::batch(&subjects.interest(), [input]);
    let message = batch.get(0).expect("a message");
    condition.holds(&subjects.look(&message).expect("JSON"))
}

#[test]
fn what_holds() {
    for condition in [
        "$.mag > 4",
        "$.mag>=4.5",
        "$.mag == 4.50",
        "$.mag < 1e2",
        "$.place contains Alaska",
        "$.place starts-with \"12 km\"",
        "$.place ends-with 'Alaska'",
        "$.place like '* N of *'",
        "$.net == ak",
        "$.net in [us, ak]",
        "$.net in us, 'ak'",
        "$.tags contains 2",
        "$.tags contains null",
        "$.tags contains a",
        "$.big == 9007199254740993",
        "$.big > 9007199254740992",
        "$.big > 9007199254740992.9",
        "$.big < 1e400",
        "size is number",
        "header unit is text",
        "$.ok == true",
        "$.none == null",
        "$.none exists",
        "$.list[*].x == 5",
        "$.list[*].x > 4",
        "$.zz absent",
        "$.zz != 3",
        "$.net != us",
        "not $.mag > 5",
        "not $.zz exists",
        "$.o is object",
        "$.tags is array",
        "$.net >= aj",
        "header unit == C",
        "header level > 12",
        "header level is number",
        "header 'unit' in [C, K]",
        "topic like quakes/+/raw",
        "topic like quakes/#",
        "topic[1] == ak",
        "topic == quakes/ak/raw",
        "key like k-?",
        "size > 10",
        "received == 1000000",
    ] {
        assert!(holds(condition), "{condition}");
    }
}

#[test]
fn what_does_not_hold() {
    for condition in [
        "$.mag > 4.5",
        "$.zz == null",
        "$.zz > 0",
        "$.zz < 0",
        "$.zz exists",
        "$.net > 5",
        "$.mag == \"4.5\"",
        "$.ok == \"true\"",
        "$.big == 9007199254740992",
        "$.big == 9007199254740994",
        "$.tags contains \"2\"",
        "$.list[*].x != 5",
        "$.o == {}",
        "$.none is text",
        "$.net == AK",
        "header level > 13",
        "header unit > 1",
        "header zz exists",
        "header unit absent",
        "topic like quakes/+",
        "topic like +",
        "key == k",
        "not size > 10",
        "content-type exists",
    ] {
        assert!(!holds(condition), "{condition}");
    }
}

#[test]
fn texts_in_quotes_are_texts() {
    let mut subjects = Subjects::default();
    let mut check = |condition: &str, payload: &str| {
        let condition = Condition::parse(condition, &mut subjects).expect("a condition");
        let batch = testing::batch(&subjects.interest(), [Input::new("a", payload)]);
        let message = batch.get(0).expect("a message");
        condition.holds(&subjects.look(&message).expect("JSON"))
    };
    assert!(check("$ == \"5\"", "\"5\"") && !check("$ == 5", "\"5\""));
    assert!(check("$ == 5", "5.0") && !check("$ == \"5\"", "5"));
    assert!(check("$ == true", "true") && !check("$ == true", "\"true\""));
}

#[test]
fn mistakes_are_named() {
    for (text, word) in [
        ("$.a", "says nothing, expected ==, !="),
        ("$.a =", "has '=', expected ==, !="),
        ("$.a >", "nothing after >"),
        ("$.a exists now", "goes on with 'now'"),
        ("$.a is nice", "expected one of null, boolean"),
        ("$.a == \"x", "is not one text in quotes"),
        ("$.a in []", "has no values"),
        ("$.a in [a", "has no ']'"),
        ("$.a in ['a' b]", "where a ',' is expected"),
        ("topic like a/#/b", "is not a filter of topics"),
        ("size > big", "compares a number with the text 'big'"),
        ("received == \"5\"", "compares a number with the text '5'"),
        ("size in [1, x]", "compares a number with the text 'x'"),
        ("not size is text", "never holds: it is a number"),
        ("header x is object", "never holds: it is a text"),
        ("topic is null", "never holds: it is a text"),
        ("$.a > 1e99999999999999", "an exponent that is too large"),
        ("temp > 3", "begins with none of"),
        ("", "begins with none of"),
    ] {
        let error = Condition::parse(text, &mut Subjects::default()).expect_err(text);
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn wildcards_end() {
    let text: Vec<char> = "a".repeat(2_000).chars().collect();
    let pattern: Vec<char> = "*a*a*a*a*b".chars().collect();
    assert!(!fits(&pattern, &text));
    assert!(fits(&['*'], &[]) && fits(&[], &[]) && !fits(&['?'], &[]));
}
