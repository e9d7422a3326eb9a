use super::*;
use waypost_plugin::testing::{self, Input};

/// As the router calls it in a role.
fn start(role: &str, settings: &[(&str, &str)]) -> Result<(Jq, Interest), InitError> {
    let text = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    Jq::init(&Config {
        plugin: "test".into(),
        role: role.into(),
        instance: 0,
        settings: settings.iter().map(text).collect(),
        destinations: vec!["queue:a".into(), "queue:b".into()],
    })
}

fn judge(settings: &[(&str, &str)], input: Input) -> (Decision, String) {
    let (mut jq, interest) = start("filter", settings).expect("it starts");
    let batch = testing::batch(&interest, [input]);
    let answer = jq.filter(&batch.get(0).expect("a message"));
    (answer.decision, answer.reason.unwrap_or_default())
}

fn made(settings: &[(&str, &str)], input: Input) -> Outcome {
    let (mut jq, interest) = start("transform", settings).expect("it starts");
    let batch = testing::batch(&interest, [input]);
    jq.transform(&batch.get(0).expect("a message"))
}

fn payload(settings: &[(&str, &str)], input: Input) -> String {
    match made(settings, input) {
        Outcome::Edit(edit) => String::from_utf8(edit.payload.expect("a payload")).expect("UTF-8"),
        Outcome::DeadLetter(reason) => reason,
        _ => panic!("neither"),
    }
}

#[test]
fn as_a_filter() {
    let program = [("program", ".temp > 30")];
    assert_eq!(
        judge(&program, Input::new("t", r#"{"temp":31}"#)).0,
        Decision::Pass
    );
    let cold = judge(&program, Input::new("t", r#"{"temp":29}"#));
    assert_eq!(cold, (Decision::Drop, "the program gives false".into()));
    let empty = judge(&[("program", "empty")], Input::new("t", "1"));
    assert_eq!(empty, (Decision::Drop, "the program gives nothing".into()));
    let failed = judge(&[("program", ".a.b")], Input::new("t", r#"{"a":1}"#));
    assert_eq!(failed.0, Decision::DeadLetter);
    assert!(failed.1.starts_with("jq: cannot index"), "{}", failed.1);
    let invalid = judge(&program, Input::new("t", "{temp: 31}"));
    assert_eq!(invalid.0, Decision::DeadLetter);
    assert!(invalid.1.contains("not JSON"), "{}", invalid.1);
}

#[test]
fn a_filter_stops_at_the_first_value() {
    for (program, expected) in [
        ("true, error(\"x\")", Decision::Pass),
        ("false, error(\"x\")", Decision::Drop),
        ("repeat(1)", Decision::Pass),
        ("range(100000)", Decision::Pass),
        ("halt", Decision::Drop),
        ("error(\"x\"), true", Decision::DeadLetter),
    ] {
        let found = judge(&[("program", program)], Input::new("t", "1"));
        assert_eq!(found.0, expected, "{program}: {}", found.1);
    }
}

#[test]
fn fromjson_nests_as_deep_as_a_payload() {
    let parsed = |text: String| {
        let settings = [("program", "fromjson"), ("input", "text")];
        payload(&settings, Input::new("t", text))
    };
    let deep = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
    assert_eq!(parsed(deep(128)), deep(128));
    for deep in [
        deep(129),
        "[".repeat(500_000),
        "{\"a\":".repeat(500_000),
        format!("#\"\n\"\\\"\"{}", deep(129)),
    ] {
        assert_eq!(
            parsed(deep),
            "jq: \"cannot parse a text as JSON: nested too deep\""
        );
    }
    let flat = format!("[{}]", ["\"[[[\"", "[]", "{}"].repeat(100).join(","));
    assert_eq!(parsed(flat.clone()), flat);
    assert_eq!(parsed("1 # [[[".into()), "1");
    let error = parsed("[1".into());
    assert!(error.contains("as JSON: byte offset 2"), "{error}");
    let one = |program, text| payload(&[("program", program)], Input::new("t", text));
    assert_eq!(one("tonumber", "\"1.50\""), "1.50");
    assert_eq!(one("[fromjson]", "\"1 2\""), "[1,2]");
    assert!(one("fromjson", "{}").starts_with("jq: cannot use {} as string"));
}

#[test]
fn variables_are_what_the_message_has() {
    let program =
        r#"[$topic, $headers.unit, $key, $content_type, $message_id, $received] | tojson"#;
    let input = Input::new("a/b", "null")
        .header("unit", "C")
        .header("unit", "K")
        .key("k");
    let found = payload(
        &[("program", program), ("output", "text")],
        input.message_id("7"),
    );
    assert_eq!(found, r#"["a/b","C","k",null,"7",1000000]"#);
    let (_, interest) = start("filter", &[("program", ".a")]).expect("it starts");
    assert!(
        interest.fields.is_empty()
            && matches!(interest.headers, waypost_plugin::HeaderInterest::Nothing)
    );
}

#[test]
fn as_a_transform() {
    let one = |program, text| payload(&[("program", program)], Input::new("t", text));
    assert_eq!(
        one("{id, c: ((.f - 32) / 1.8)}", r#"{"id":"x","f":212}"#),
        r#"{"id":"x","c":100.0}"#
    );
    assert_eq!(
        one(".", r#"{"b":1,"a":12345678901234567890}"#),
        r#"{"b":1,"a":12345678901234567890}"#
    );
    assert_eq!(
        one("nan", "1"),
        "the program's value is not JSON: a value is expected at byte 0"
    );
    assert_eq!(
        one(".[]", "[1,2]"),
        "the program gives 2 values; with split = true each is a message"
    );
    assert!(matches!(
        made(&[("program", "empty")], Input::new("t", "1")),
        Outcome::Drop(Some(_))
    ));
    let text = [
        ("program", "capture(\"(?<level>[A-Z]+) (?<what>.*)\")"),
        ("input", "text"),
    ];
    assert_eq!(
        payload(&text, Input::new("t", "WARN hot")),
        r#"{"level":"WARN","what":"hot"}"#
    );
    assert_eq!(one("now | type", "1"), "\"number\"");
    assert_eq!(
        one("env, $topic | length", "1"),
        "the program gives 2 values; with split = true each is a message"
    );
    assert_eq!(one("1767225600 | todate", "1"), "\"2026-01-01T00:00:00Z\"");
    assert_eq!(one("1, halt, 2", "1"), "1");
}

#[test]
fn several_values_are_several_messages() {
    let settings = [
        (
            "program",
            ".[] | {payload: ., topic: \"t/\\(.)\", headers: {n: ., old: null}}",
        ),
        ("output", "message"),
        ("split", "true"),
    ];
    let input = Input::new("t", "[1,2]")
        .key("k")
        .header("old", "x")
        .header("kept", "y");
    let Outcome::Emit(all) = made(&settings, input) else {
        panic!("two messages")
    };
    assert_eq!(all.len(), 2);
    let (_, interest) = start("transform", &settings).expect("it starts");
    assert_eq!(interest.max_batch, 1);
    let second = &all[1];
    assert_eq!(
        (second.topic.as_str(), &second.payload[..]),
        ("t/2", &b"2"[..])
    );
    assert_eq!(second.key.as_deref(), Some(&b"k"[..]));
    let headers = [
        ("kept".to_owned(), b"y".to_vec()),
        ("n".to_owned(), b"2".to_vec()),
    ];
    assert_eq!(second.headers, headers);
    for (program, word) in [
        ("1", "is no object"),
        ("{topic: 1}", "topic is no text"),
        ("{topic: \"a/#\"}", "it has a wildcard"),
        ("{body: 1}", "has 'body', expected topic"),
        ("{headers: []}", "headers are no object"),
        ("{ttl_ms: -1}", "no whole number"),
    ] {
        let Outcome::DeadLetter(reason) = made(
            &[("program", program), ("output", "message")],
            Input::new("t", "1"),
        ) else {
            panic!("{program} is taken")
        };
        assert!(reason.contains(word), "{program}: {reason}");
    }
}

#[test]
fn as_a_route() {
    let (mut jq, interest) = start("route", &[("program", ".to")]).expect("it starts");
    let inputs = [
        r#"{"to":"queue:b"}"#,
        r#"{"to":["queue:b","queue:a"]}"#,
        "{}",
        r#"{"to":"queue:z"}"#,
    ];
    let batch = testing::batch(&interest, inputs.map(|text| Input::new("t", text)));
    let mut choices = batch.iter().map(|message| jq.route(&message));
    assert!(matches!(choices.next(), Some(Choice::One(1))));
    assert!(matches!(choices.next(), Some(Choice::To(to)) if to == [0, 1]));
    assert!(matches!(choices.next(), Some(Choice::Drop(Some(_)))));
    let Some(Choice::DeadLetter(reason)) = choices.next() else {
        panic!("no such destination")
    };
    assert_eq!(
        reason,
        "the program names 'queue:z', expected some of queue:a, queue:b"
    );
}

#[test]
fn mistakes_have_their_places() {
    for (program, expected) in [
        ("", "term expected, found the end at line 1, column 1"),
        (".a\n| if . then", "at line 2, column 12"),
        (
            ".a | nothing(1)",
            "there is no filter 'nothing/1' at line 1, column 6",
        ),
        ("$x", "there is no variable '$x' at line 1, column 1"),
        ("\"abc", "closing quote expected"),
        ("import \"m\" as m; .", "no modules here"),
    ] {
        let Err(error) = start("filter", &[("program", program)]) else {
            panic!("{program} is taken")
        };
        assert_eq!(error.setting.as_deref(), Some("program"));
        assert!(
            error.message.contains(expected),
            "{program}: {}",
            error.message
        );
    }
    for (role, settings, setting) in [
        ("filter", &[][..], "program"),
        ("filter", &[("program", "."), ("split", "true")], "split"),
        (
            "transform",
            &[("program", "."), ("output", "xml")],
            "output",
        ),
        (
            "route",
            &[("program", "."), ("otherwise", "drop")],
            "otherwise",
        ),
    ] {
        let Err(error) = start(role, settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), Some(setting));
    }
}
