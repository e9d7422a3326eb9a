use waypost_wire::record::{Message, RecordRef};

use super::*;

/// A batch of messages with so many headers each.
fn batch(count: usize, headers: usize) -> Vec<MessageRef<'static>> {
    let mut message = Message::new("a/b", "payload");
    for i in 0..headers {
        message = message.with_header(format!("h{i}"), "x");
    }
    let body = Vec::leak(message.to_body().to_vec());
    vec![MessageRef::new(RecordRef::parse(body).expect("valid"), 0); count]
}

fn limits() -> Limits {
    Limits {
        emitted_messages: 3,
        emitted_bytes: 100,
        payload_bytes: 10,
        ..Limits::default()
    }
}

fn edit() -> bindings::Edit {
    bindings::Edit {
        topic: None,
        key: None,
        content_type: None,
        remove_headers: [].into(),
        set_headers: [].into(),
        payload: None,
        ttl_ms: None,
    }
}

fn outgoing(topic: &str, payload: usize) -> bindings::Outgoing {
    bindings::Outgoing {
        topic: topic.into(),
        key: None,
        content_type: None,
        reply_to: None,
        headers: [].into(),
        payload: vec![0; payload].into(),
        ttl_ms: None,
    }
}

fn transform(answer: Vec<Outcome>) -> Result<Verdicts, AnswerError> {
    let limits = limits();
    let count = answer.len();
    Checker::new(&limits, 2, &batch(count, 0)).transform(answer)
}

/// The rule that the answer for the last message breaks.
fn broken(verdicts: Result<Verdicts, AnswerError>) -> String {
    let verdicts = verdicts.expect("the answer as a whole is right");
    match verdicts.iter().last() {
        Some(Verdict::Violation(violation)) => violation.to_string(),
        other => panic!("expected a violation, got {other:?}"),
    }
}

#[test]
fn a_list_of_another_length_fails_the_call() {
    let limits = limits();
    let answer = Decisions {
        each: vec![Decision::Pass; 2],
        reasons: vec![],
    };
    let error = Checker::new(&limits, 0, &batch(3, 0))
        .filter(answer)
        .expect_err("two for three");
    assert_eq!(error.to_string(), "2 answers for 3 messages");
}

#[test]
fn reasons_find_their_messages() {
    let limits = limits();
    let each = vec![Decision::Pass, Decision::Drop, Decision::DeadLetter];
    let answer = Decisions {
        each,
        reasons: vec![(1, "small".into())],
    };
    let verdicts = Checker::new(&limits, 0, &batch(3, 0))
        .filter(answer)
        .expect("valid");
    let wanted = [
        Verdict::Pass,
        Verdict::Drop(Some("small".into())),
        Verdict::DeadLetter(None),
    ];
    assert!(verdicts.iter().eq(&wanted));
    let answer = Decisions {
        each: vec![Decision::Drop],
        reasons: vec![(1, "x".into())],
    };
    let error = Checker::new(&limits, 0, &batch(1, 0))
        .filter(answer)
        .expect_err("out of range");
    assert_eq!(error.to_string(), "a reason for message 1 of 1");
}

#[test]
fn answers_that_all_pass_are_known_as_such() {
    let limits = limits();
    let answer = Decisions {
        each: vec![Decision::Pass; 4],
        reasons: vec![],
    };
    assert!(
        Checker::new(&limits, 0, &batch(4, 0))
            .filter(answer)
            .expect("valid")
            .all_pass()
    );
    assert!(
        transform(vec![Outcome::Pass, Outcome::Pass])
            .expect("valid")
            .all_pass()
    );
    let choices = vec![Choice::Pass];
    assert!(
        Checker::new(&limits, 0, &batch(1, 0))
            .route(choices)
            .expect("valid")
            .all_pass()
    );
}

#[test]
fn a_violation_costs_its_message_only() {
    let bad = bindings::Edit {
        topic: Some("a/+/b".into()),
        ..edit()
    };
    let verdicts = transform(vec![Outcome::Pass, Outcome::Edit(bad)]).expect("valid");
    assert_eq!(verdicts.get(0), Some(&Verdict::Pass));
    assert_eq!(
        broken(Ok(verdicts)),
        "answer for message 1: topic 'a/+/b' has the wildcard '+' at byte 2, \
         which only a filter may have"
    );
}

#[test]
fn each_rule_is_checked() {
    let long = bindings::Edit {
        payload: Some(vec![0; 11].into()),
        ..edit()
    };
    let nameless = bindings::Edit {
        set_headers: [("".into(), [].into())].into(),
        ..edit()
    };
    let many = bindings::Edit {
        set_headers: vec![("a".into(), [].into()); 65].into(),
        ..edit()
    };
    let reply = bindings::Outgoing {
        reply_to: Some("#".into()),
        ..outgoing("a", 0)
    };
    for (outcome, rule) in [
        (Outcome::Edit(long), "payload of 11 bytes, limit 10"),
        (Outcome::Edit(nameless), "a header without a name"),
        (Outcome::Edit(many), "65 headers, limit 64"),
        (Outcome::Emit(vec![outgoing("", 0)]), "topic '' is empty"),
        (
            Outcome::Emit(vec![outgoing("$own/x", 0)]),
            "begins with '$'",
        ),
        (
            Outcome::Emit(vec![outgoing("a", 0), reply]),
            "reply-to '#' has the wildcard",
        ),
    ] {
        let found = broken(transform(vec![outcome]));
        assert!(found.contains(rule), "{found}");
    }
}

#[test]
fn destinations_are_in_range_and_there_once() {
    let limits = limits();
    let route = |choice| Checker::new(&limits, 2, &batch(1, 0)).route(vec![choice]);
    let verdicts = route(Choice::To(vec![1, 0])).expect("valid");
    assert_eq!(
        verdicts.get(0),
        Some(&Verdict::To(Destinations::Several(vec![1, 0])))
    );
    for (choice, rule) in [
        (Choice::One(2), "destination 2, but there are 2"),
        (Choice::To(vec![0, 9]), "destination 9, but there are 2"),
        (Choice::To(vec![1, 1]), "destination 1 is there twice"),
        (
            Choice::To(vec![0; 1_000_000]),
            "destination 0 is there twice",
        ),
        (Choice::To(vec![]), "no destination; 'drop' says so"),
    ] {
        let found = broken(route(choice));
        assert!(found.ends_with(rule), "{found}");
    }
}

#[test]
fn what_a_call_emits_is_limited() {
    let emit = |n, bytes| Outcome::Emit((0..n).map(|_| outgoing("a", bytes)).collect());
    let error = transform(vec![emit(3, 0), emit(1, 0)]).expect_err("four messages");
    assert_eq!(
        error.to_string(),
        "more than 3 messages emitted, reached at message 1"
    );
    let payloads = bindings::Edit {
        payload: Some(vec![0; 10].into()),
        ..edit()
    };
    let edits = |n| {
        (0..n)
            .map(|_| {
                Outcome::Edit(bindings::Edit {
                    payload: payloads.payload.clone(),
                    ..edit()
                })
            })
            .collect()
    };
    assert!(transform(edits(10)).is_ok());
    let error = transform(edits(11)).expect_err("110 bytes");
    assert_eq!(
        error.to_string(),
        "more than 100 bytes emitted, reached at message 10"
    );
}

#[test]
fn an_edited_message_has_no_more_headers_than_a_record_can_hold() {
    let limits = Limits::default();
    let full = batch(1, HEADERS_MAX);
    let set = |name: &str, removed: &[&str]| {
        let edit = bindings::Edit {
            set_headers: [(name.into(), [].into())].into(),
            remove_headers: removed.iter().map(|name| (*name).into()).collect(),
            ..edit()
        };
        Checker::new(&limits, 0, &full).transform(vec![Outcome::Edit(edit)])
    };
    assert_eq!(
        broken(set("one-more", &[])),
        "answer for message 0: 65 headers, limit 64"
    );
    for fits in [set("h0", &[]), set("one-more", &["h1"])] {
        assert!(matches!(
            fits.expect("valid").get(0),
            Some(Verdict::Edit(_))
        ));
    }
}

#[test]
fn long_reasons_are_cut_at_a_character() {
    let verdicts = transform(vec![Outcome::Reject("é".repeat(1_000).into())]).expect("valid");
    assert_eq!(
        verdicts.get(0),
        Some(&Verdict::Reject(Some("é".repeat(512).into())))
    );
    let odd = format!("x{}", "é".repeat(1_000));
    let verdicts = transform(vec![Outcome::Reject(odd.into())]).expect("valid");
    let Some(Verdict::Reject(Some(reason))) = verdicts.get(0) else {
        panic!("{verdicts:?}")
    };
    assert_eq!(reason.len(), 1_023);
}
