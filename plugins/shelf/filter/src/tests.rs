use super::*;
use waypost_plugin::testing::{self, Input};
use waypost_plugin::{HeaderInterest, PayloadInterest};

fn judge(settings: &[(&str, &str)], input: Input) -> (Decision, String) {
    let (mut sieve, interest) = testing::init::<Sieve>(settings).expect("it starts");
    let batch = testing::batch(&interest, [input]);
    let answer = sieve.filter(&batch.get(0).expect("a message"));
    (answer.decision, answer.reason.unwrap_or_default())
}

#[test]
fn keep_and_drop_together() {
    let settings = [
        ("keep.0", "$.temp > 30"),
        ("keep.1", "header unit == C"),
        ("drop", "topic like plant/+/test"),
    ];
    let hot = |topic: &str| Input::new(topic, r#"{"temp":31}"#).header("unit", "C");
    assert_eq!(judge(&settings, hot("plant/1/t")).0, Decision::Pass);
    assert_eq!(
        judge(&settings, hot("plant/1/test")),
        (
            Decision::Drop,
            "dropped by topic like plant/+/test (found plant/1/test)".into()
        )
    );
    assert_eq!(
        judge(&settings, Input::new("plant/1/t", r#"{"temp":31}"#)),
        (
            Decision::Drop,
            "kept is header unit == C (found nothing)".into()
        )
    );
}

#[test]
fn one_of_several() {
    let settings = [
        ("keep-any.0", "key == a"),
        ("keep-any.1", "key == b"),
        ("otherwise", "reject"),
    ];
    assert_eq!(
        judge(&settings, Input::new("t", "").key("b")).0,
        Decision::Pass
    );
    assert_eq!(
        judge(&settings, Input::new("t", "").key("c")),
        (
            Decision::Reject,
            "kept is key == a (found c) or key == b (found c)".into()
        )
    );
}

#[test]
fn payloads_that_are_not_json() {
    for (word, decision) in [
        ("dead-letter", Decision::DeadLetter),
        ("reject", Decision::Reject),
        ("drop", Decision::Drop),
        ("pass", Decision::Pass),
        ("ignore", Decision::Drop),
    ] {
        let settings = [("keep", "$.temp > 30"), ("on-invalid", word)];
        assert_eq!(
            judge(&settings, Input::new("t", "31 C")).0,
            decision,
            "{word}"
        );
    }
    let (decision, reason) = judge(&[("keep", "$.temp > 30")], Input::new("t", "31 C"));
    assert_eq!(decision, Decision::DeadLetter);
    assert_eq!(
        reason,
        "the payload is not JSON: more text after the value at byte 3"
    );
}

#[test]
fn only_what_conditions_name_is_asked_for() {
    let (_, interest) = testing::init::<Sieve>(&[("keep", "topic[1] == a")]).expect("it starts");
    assert!(matches!(interest.headers, HeaderInterest::Nothing));
    assert!(matches!(interest.payload, PayloadInterest::Nothing));
    let (_, interest) = testing::init::<Sieve>(&[("keep", "$.a exists")]).expect("it starts");
    assert!(matches!(interest.payload, PayloadInterest::Everything));
}

#[test]
fn wrong_settings_are_named() {
    for (settings, setting, word) in [
        (&[][..], None, "set keep, keep-any or drop"),
        (&[("keep.1", "$.a >")], Some("keep.1"), "nothing after >"),
        (
            &[("kept", "$.a > 1")],
            Some("kept"),
            "expected one of drop, keep",
        ),
        (
            &[("keep", "key exists"), ("otherwise", "pass")],
            Some("otherwise"),
            "dead-letter, reject, drop",
        ),
        (
            &[("keep", "key exists"), ("on-invalid", "x")],
            Some("on-invalid"),
            "ignore",
        ),
    ] {
        let Err(error) = testing::init::<Sieve>(settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), setting);
        assert!(error.message.contains(word), "{}", error.message);
    }
}
