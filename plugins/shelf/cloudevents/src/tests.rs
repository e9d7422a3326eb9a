use super::*;
use waypost_plugin::Edit;
use waypost_plugin::testing::{self, Input};

fn made(settings: &[(&str, &str)], input: Input) -> Result<Edit, String> {
    let (mut events, interest) = testing::init::<CloudEvents>(settings).expect("it starts");
    let batch = testing::batch(&interest, [input.received_at_ms(1_767_225_600_007)]);
    match events.transform(&batch.get(0).expect("a message")) {
        Outcome::Edit(edit) => Ok(edit),
        Outcome::DeadLetter(reason) => Err(reason),
        Outcome::Pass => Err("passed".into()),
        _ => Err("neither".into()),
    }
}

fn payload(edit: &Edit) -> &str {
    std::str::from_utf8(edit.payload.as_deref().expect("a payload")).expect("UTF-8")
}

const WRAP: [(&str, &str); 4] = [
    ("do", "wrap"),
    ("source", "/plants/{topic[1]}"),
    ("type", "org.example.{topic[2]}"),
    ("extensions.site", "{topic[1]}"),
];

#[test]
fn an_event_in_json() {
    let input = Input::new("plant/7/temp", r#" {"t": 1.50} "#).message_id("m-1");
    let edit = made(&WRAP, input.content_type("application/json")).expect("an event");
    assert_eq!(
        payload(&edit),
        r#"{"specversion":"1.0","id":"m-1","source":"/plants/7","type":"org.example.temp","time":"2026-01-01T00:00:00.007Z","site":"7","datacontenttype":"application/json","data":{"t": 1.50}}"#
    );
    assert_eq!(edit.content_type.as_deref(), Some(STRUCTURED));
}

#[test]
fn data_of_other_kinds() {
    let data = |input: Input| {
        let edit = made(&WRAP, input.message_id("m")).expect("an event");
        payload(&edit)
            .split_once(r#""site":"7","#)
            .map(|(_, rest)| rest.to_owned())
    };
    let topic = "plant/7/temp";
    let text = data(Input::new(topic, "12").content_type("text/plain"));
    assert_eq!(
        text.as_deref(),
        Some(r#""datacontenttype":"text/plain","data":"12"}"#)
    );
    assert_eq!(
        data(Input::new(topic, "12")).as_deref(),
        Some(r#""data":12}"#)
    );
    assert_eq!(
        data(Input::new(topic, "a\"b")).as_deref(),
        Some(r#""data":"a\"b"}"#)
    );
    assert_eq!(
        data(Input::new(topic, [0xff])).as_deref(),
        Some(r#""data_base64":"/w=="}"#)
    );
    assert_eq!(data(Input::new(topic, "")), None);
}

#[test]
fn what_should_be_json_by_its_content_type() {
    let input = |payload: &[u8]| {
        let input = Input::new("plant/7/temp", payload).message_id("m");
        input.content_type("application/json")
    };
    for payload in [&b"{t: 1}"[..], b"\xff", b"NaN"] {
        let error = made(&WRAP, input(payload)).expect_err("no JSON");
        assert!(error.starts_with("the payload is not JSON"), "{error}");
        let ignore = [&WRAP[..], &[("on-invalid", "ignore")]].concat();
        let event = made(&ignore, input(payload)).expect("an event");
        assert!(crate::tests::payload(&event).contains(r#""data_base64":""#));
        let edit = made(&UNWRAP, Input::new("t", event.payload.expect("a payload")));
        assert_eq!(edit.expect("a message").payload.as_deref(), Some(payload));
    }
    // Headers say nothing of the payload.
    let binary = [&WRAP[..], &[("mode", "binary")]].concat();
    assert!(made(&binary, input(b"{t: 1}")).is_ok());
}

#[test]
fn an_event_in_headers() {
    let settings = [&WRAP[..], &[("mode", "binary"), ("subject", "{key}")]].concat();
    let edit = made(&settings, Input::new("plant/7/temp", "x").key("k")).expect("an event");
    assert_eq!(edit.payload, None);
    let names: Vec<_> = edit
        .set_headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let expected = [
        "ce-specversion",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-subject",
        "ce-time",
        "ce-site",
    ];
    assert_eq!(names, expected);
    assert_eq!(edit.set_headers[1].1.len(), 32, "a random id");
    let error = made(&settings, Input::new("plant/7/temp", "x")).expect_err("no key");
    assert_eq!(error, "the message has no key");
}

const UNWRAP: [(&str, &str); 1] = [("do", "unwrap")];

#[test]
fn there_and_back_is_the_same() {
    for (content_type, text) in [
        ("application/json", r#"{"t": 1.50}"#),
        ("application/json", "\"text\""),
        ("application/json", "null"),
        ("text/plain", "é\n\"x\""),
        ("text/plain", "12"),
    ] {
        let input = Input::new("plant/7/temp", text).content_type(content_type);
        let event = made(&WRAP, input)
            .expect("an event")
            .payload
            .expect("a payload");
        let edit = made(&UNWRAP, Input::new("t", event)).expect("a message");
        assert_eq!(
            (payload(&edit), edit.content_type.as_deref()),
            (text, Some(content_type))
        );
        let header = |name: &str| {
            let found = edit.set_headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(header("ce-type").as_deref(), Some("org.example.temp"));
        assert_eq!(header("ce-site").as_deref(), Some("7"));
    }
    let bytes = made(&WRAP, Input::new("plant/7/temp", [1, 0xff])).expect("an event");
    let edit = made(&UNWRAP, Input::new("t", payload(&bytes))).expect("a message");
    assert_eq!(edit.payload.as_deref(), Some(&[1, 0xff][..]));
}

#[test]
fn data_that_is_null() {
    let data = |more: &str| {
        let event = format!(r#"{{"specversion":"1.0","id":"1","source":"/","type":"t"{more}}}"#);
        let edit = made(&UNWRAP, Input::new("t", event)).expect("a message");
        payload(&edit).to_owned()
    };
    assert_eq!(data(r#","data":null"#), "null");
    assert_eq!(data(r#","data":null,"datacontenttype":null"#), "null");
    assert_eq!(data(r#","data":null,"datacontenttype":"text/plain""#), "");
    assert_eq!(data(r#","data":null,"data_base64":"Zg==""#), "f");
    assert_eq!(data(r#","data":"x","data_base64":null"#), "\"x\"");
    assert_eq!(data(""), "");
}

#[test]
fn many_attributes_are_not_compared_with_each_other() {
    let many: Vec<_> = (0..30_000).map(|n| format!(r#""a{n}":1"#)).collect();
    let event = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/","type":"t",{}}}"#,
        many.join(",")
    );
    // Each against all others would be 450,000,000 comparisons, and take minutes.
    assert!(made(&UNWRAP, Input::new("t", event)).is_ok());
}

#[test]
fn what_is_no_event_is_told() {
    let with =
        |more: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"/","type":"t"{more}}}"#);
    for (event, word) in [
        ("x".to_owned(), "not JSON"),
        ("[]".to_owned(), "it is not an object"),
        (r#"{"id":"1"}"#.to_owned(), "it has no 'specversion'"),
        (with("").replace("1.0", "0.3"), "'0.3', expected 1.0"),
        (with("").replace("\"/\"", "\"\""), "it has no 'source'"),
        (with(r#","x":[1]"#), "'x' is no scalar"),
        (with(r#","X":1"#), "'X' is not of lower-case"),
        (with(r#","id":"2""#), "'id' twice"),
        (with(r#","data_base64":"?""#), "not base64"),
        (with(r#","data":1,"data_base64":"Zg==""#), "both data and"),
        (with(r#","x":null,"x":1"#), "'x' twice"),
    ] {
        let error = made(&UNWRAP, Input::new("t", event.as_str())).expect_err(&event);
        assert!(error.contains(word), "{event}: {error}");
    }
    let binary = Input::new("t", "x").header("ce-specversion", "1.0");
    assert_eq!(made(&UNWRAP, binary).err().as_deref(), Some("passed"));
}

#[test]
fn wrong_settings_are_named() {
    for (settings, setting) in [
        (&[][..], "do"),
        (&[("do", "open")], "do"),
        (&[("do", "wrap"), ("type", "x")], "source"),
        (&[("do", "wrap"), ("source", "x"), ("type", "")], "type"),
        (&[("do", "wrap"), ("source", "x"), ("type", "{x}")], "type"),
        (
            &[
                ("do", "wrap"),
                ("source", "x"),
                ("type", "x"),
                ("extensions.id", "x"),
            ],
            "extensions.id",
        ),
        (&[("do", "unwrap"), ("source", "x")], "source"),
        (&[("do", "unwrap"), ("on-invalid", "ignore")], "on-invalid"),
    ] {
        let Err(error) = testing::init::<CloudEvents>(settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), Some(setting));
    }
}
