use super::*;
use waypost_plugin::PayloadInterest;
use waypost_plugin::testing::{self, Input};

fn redacted(settings: &[(&str, &str)], payload: &str) -> Outcome {
    let (mut redact, interest) = testing::init::<Redact>(settings).expect("it starts");
    let batch = testing::batch(&interest, [Input::new("t", payload)]);
    redact.transform(&batch.get(0).expect("a message"))
}

fn payload(outcome: Outcome) -> String {
    let Outcome::Edit(edit) = outcome else {
        panic!("not edited")
    };
    String::from_utf8(edit.payload.expect("a payload")).expect("UTF-8")
}

#[test]
fn values_are_removed_masked_and_hashed() {
    let settings = [
        ("remove.0", "$..password"),
        ("mask.0", "$.card"),
        ("mask.1", "$.pin"),
        ("keep-last", "4"),
        ("hash", "$.user.id"),
        ("hash-key", "0123456789abcdef"),
    ];
    let text = r#"{ "user":{"id":17,"password":"x"}, "card": "4111 1111 1111 1234", "pin": 9876, "n":1.10 }"#;
    let hash = hmac_sha256::HMAC::mac(b"17", b"0123456789abcdef");
    let hex: String = hash[..16].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        payload(redacted(&settings, text)),
        format!(r#"{{ "user":{{"id":"{hex}"}}, "card": "***1234", "pin": "***", "n":1.10 }}"#)
    );
}

#[test]
fn nothing_there_is_nothing_changed() {
    assert!(matches!(
        redacted(&[("remove", "$.a")], r#"{"b":1}"#),
        Outcome::Pass
    ));
}

#[test]
fn a_name_that_stands_twice_goes_twice() {
    let text = r#"{"a":"x","b":1,"\u0061":"y"}"#;
    assert_eq!(payload(redacted(&[("remove", "$.a")], text)), r#"{"b":1}"#);
    assert_eq!(
        payload(redacted(&[("mask", "$.a")], text)),
        r#"{"a":"***","b":1,"\u0061":"***"}"#
    );
}

#[test]
fn headers_alone_need_no_payload() {
    let settings = [("remove-headers", "authorization")];
    let (_, interest) = testing::init::<Redact>(&settings).expect("it starts");
    assert!(matches!(interest.payload, PayloadInterest::Nothing));
    let Outcome::Edit(edit) = redacted(&settings, "not JSON") else {
        panic!("a header goes")
    };
    assert_eq!(
        (edit.remove_headers, edit.payload),
        (vec!["authorization".into()], None)
    );
}

#[test]
fn what_is_not_json_does_not_go_on() {
    let Outcome::DeadLetter(reason) = redacted(&[("remove", "$.a")], "{\"a\":1") else {
        panic!("it is cut off")
    };
    assert_eq!(
        reason,
        "the payload is not JSON: ',' or '}' is expected at byte 6"
    );
}

#[test]
fn wrong_settings_are_named() {
    for (settings, setting, word) in [
        (&[][..], None, "nothing is to be redacted"),
        (&[("remove", "a")], Some("remove"), "is not a path"),
        (&[("remove", "$")], Some("remove"), "a part of the payload"),
        (
            &[("remove", "$.a"), ("mask.0", "$.a")],
            Some("mask.0"),
            "twice",
        ),
        (
            &[("hash", "$.a")],
            Some("hash-key"),
            "a secret of at least 16 bytes",
        ),
        (
            &[("mask", "$.a"), ("keep-last", "0")],
            Some("keep-last"),
            "from 1 to 64",
        ),
        (
            &[("mask", "$.a"), ("on-invalid", "pass")],
            Some("on-invalid"),
            "dead-letter, reject, drop",
        ),
    ] {
        let Err(error) = testing::init::<Redact>(settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), setting);
        assert!(error.message.contains(word), "{}", error.message);
    }
}

#[test]
fn the_key_is_a_secret() {
    let text = Redact::settings_schema();
    let schema = shelf_kit::json::Tree::read(text.as_bytes()).expect("JSON");
    let key = schema
        .member("properties")
        .and_then(|all| all.member("hash-key"));
    let is_secret = key.and_then(|key| key.member("writeOnly"));
    assert_eq!(is_secret, Some(&shelf_kit::json::Tree::Boolean(true)));
}
