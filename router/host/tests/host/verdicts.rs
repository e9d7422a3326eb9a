//! What guests get, and what their answers become.

use bytes::Bytes;
use waypost_host::{Destinations, Edit, Effects, MessageRef, Role, Sample, Verdict};
use waypost_wire::record::{Message, RecordRef};

use crate::support::{call, load, order, puppet, remembering, start, tell};

fn dead(reason: &str) -> Verdict {
    Verdict::DeadLetter(Some(reason.into()))
}

#[test]
fn a_filter_decides_message_by_message() {
    let mut instance = start(Role::Filter, &[]);
    let messages = [
        order("pass"),
        order("drop"),
        order("drop").with_header("why", "too small"),
        order("reject").with_header("why", "not yours"),
        order("retry"),
        order("dead-letter").with_header("why", "garbled"),
    ];
    let verdicts = call(&mut instance, &messages).expect("verdicts");
    let wanted = [
        Verdict::Pass,
        Verdict::Drop(None),
        Verdict::Drop(Some("too small".into())),
        Verdict::Reject(Some("not yours".into())),
        Verdict::Retry { delay_ms: None },
        dead("garbled"),
    ];
    assert!(verdicts.iter().eq(&wanted), "{verdicts:?}");
}

#[test]
fn messages_that_all_pass_are_known_as_such_in_every_role() {
    for role in Role::ALL {
        let mut instance = start(role, &[]);
        let verdicts = tell(&mut instance, &["pass", "pass", "pass"]).expect("verdicts");
        assert!(verdicts.all_pass(), "{role}");
        assert_eq!(verdicts.len(), 3, "{role}");
        assert!(
            tell(&mut instance, &[]).expect("nothing to do").is_empty(),
            "{role}"
        );
    }
}

#[test]
fn an_edit_carries_each_change_and_applies() {
    for role in [Role::Transform, Role::Each] {
        let mut instance = start(role, &[]);
        let mut message = order("edit")
            .with_header("gone", "1")
            .with_header("added", "no");
        message.traceparent = Some("kept".into());
        let verdicts = call(&mut instance, &[order("pass"), message.clone()]).expect("verdicts");
        assert_eq!(verdicts.get(0), Some(&Verdict::Pass));
        let Some(Verdict::Edit(edit)) = verdicts.get(1) else {
            panic!("{verdicts:?}")
        };
        let wanted = Edit {
            topic: Some("edited/topic".into()),
            key: Some(Bytes::from("new-key")),
            content_type: Some("text/new".into()),
            remove_headers: ["gone".into()].into(),
            set_headers: vec![("added".into(), Bytes::from("yes"))],
            payload: Some(Bytes::from("new payload")),
            ttl_ms: Some(7),
        };
        assert_eq!(**edit, wanted);
        edit.clone().apply(&mut message);
        assert_eq!(message.topic, "edited/topic");
        assert_eq!(message.traceparent.as_deref(), Some("kept"));
        let names: Vec<_> = message
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["do", "added"]);
    }
}

#[test]
fn emitted_messages_come_in_order() {
    let mut instance = start(Role::Transform, &[]);
    let verdicts = tell(&mut instance, &["emit 2 3", "emit 0 0"]).expect("verdicts");
    let Some(Verdict::Emit(messages)) = verdicts.get(0) else {
        panic!("{verdicts:?}")
    };
    assert_eq!(messages.len(), 2);
    let message = messages[0].clone().into_message();
    assert_eq!(
        (message.topic.as_str(), &message.payload[..]),
        ("made/here", &b"xxx"[..])
    );
    assert_eq!(verdicts.get(1), Some(&Verdict::Emit(vec![])));
}

#[test]
fn routes_answer_with_indexes() {
    for role in [Role::Route, Role::Each] {
        let mut instance = start(role, &[]);
        let verdicts = tell(&mut instance, &["to 2,0", "pass", "to 1", "to 3"]).expect("verdicts");
        let Some(Verdict::To(to)) = verdicts.get(0) else {
            panic!("{verdicts:?}")
        };
        assert_eq!(to, &Destinations::Several(vec![2, 0]), "{role}");
        assert_eq!(verdicts.get(1), Some(&Verdict::Pass), "{role}");
        let Some(Verdict::To(to)) = verdicts.get(2) else {
            panic!("{verdicts:?}")
        };
        assert_eq!(to.as_slice(), [1], "{role}");
        let Some(Verdict::Violation(violation)) = verdicts.get(3) else {
            panic!("{verdicts:?}")
        };
        assert_eq!(
            violation.to_string(),
            "answer for message 3: destination 3, but there are 3"
        );
    }
}

/// A message that has every field.
fn full() -> Message {
    let mut message = order("fields")
        .with_id("id-1")
        .with_key("k")
        .with_content_type("t/x");
    message.reply_to = Some("answers/here".into());
    message.time_to_live_ms = Some(5_000);
    message
}

#[test]
fn every_field_arrives_as_it_was_sent() {
    let body = full().to_body();
    let mut message = MessageRef::new(RecordRef::parse(&body).expect("valid"), (1 << 40) + 5);
    message.redelivered = true;
    message.from_peer = true;
    let fields = r#"test/topic Some("k") Some("t/x") Some("id-1") Some("answers/here") Some(5000)"#;
    for role in [Role::Filter, Role::Transform, Role::Route] {
        let mut instance = start(role, &[]);
        let verdicts = instance
            .call(&[message], &mut Effects::default())
            .expect("verdicts");
        let wanted = dead(&format!("{fields} 1099511627781 true true payload"));
        assert_eq!(verdicts.get(0), Some(&wanted), "{role}");
    }
    let mut instance = start(Role::Each, &[]);
    let verdicts = instance
        .call(&[message], &mut Effects::default())
        .expect("verdicts");
    assert_eq!(
        verdicts.get(0),
        Some(&dead(&format!("{fields} 1099511627781 251 payload")))
    );
}

#[test]
fn what_was_not_asked_for_does_not_arrive() {
    let mut instance = start(Role::Filter, &[("interest", "none")]);
    let verdicts = call(&mut instance, &[full()]).expect("verdicts");
    assert_eq!(
        verdicts.get(0),
        Some(&dead(
            "test/topic None None None None None 1000 false false "
        ))
    );
    let mut instance = start(Role::Each, &[("interest", "none")]);
    let verdicts = call(&mut instance, &[full()]).expect("verdicts");
    assert_eq!(
        verdicts.get(0),
        Some(&dead("test/topic None None None None None 1000 4 "))
    );
}

#[test]
fn a_payload_that_is_not_inlined_can_be_pulled() {
    let mut spec = puppet(Role::Filter, &[("interest", "none")]);
    // A debug build on a busy machine is slow, and this is not about deadlines.
    spec.limits.call_cpu = std::time::Duration::from_secs(5);
    let mut instance = load(spec).instantiate(None).expect("an instance");
    let mut long = order("read");
    long.payload = Bytes::from("0123456789".repeat(150_001));
    let verdicts = call(&mut instance, &[order("pass"), order("read"), long.clone()]);
    let verdicts = verdicts.expect("verdicts");
    let wanted = |payload: &[u8]| {
        let sum: u64 = payload.iter().map(|byte| u64::from(*byte)).sum();
        dead(&format!("{} bytes, sum {sum}", payload.len()))
    };
    assert_eq!(verdicts.get(1), Some(&wanted(b"payload")));
    assert_eq!(
        verdicts.get(2),
        Some(&wanted(&long.payload)),
        "in two pulls"
    );
}

#[test]
fn large_batches_are_cut_to_what_the_plugin_takes() {
    let mut instance = start(Role::Filter, &[("max-batch", "2")]);
    assert_eq!(instance.interest().batch_max, 2);
    let orders = ["pass", "pass", "pass", "drop", "pass"];
    let verdicts = tell(&mut instance, &orders).expect("verdicts");
    let dropped: Vec<_> = verdicts.iter().map(|v| *v == Verdict::Drop(None)).collect();
    assert_eq!(dropped, [false, false, false, true, false]);
}

#[test]
fn an_instance_is_used_again_without_growing() {
    let mut instance = start(Role::Transform, &[]);
    tell(&mut instance, &["edit"; 256]).expect("verdicts");
    let before = instance.memory_bytes();
    for _ in 0..100 {
        tell(&mut instance, &["edit"; 256]).expect("verdicts");
    }
    assert_eq!(instance.memory_bytes(), before);
}

#[test]
fn metrics_and_clocks_reach_their_places() {
    let (engine, memory) = remembering();
    let plugin = engine.load(puppet(Role::Filter, &[])).expect("loads");
    let mut instance = plugin.instantiate(None).expect("an instance");
    assert!(
        tell(&mut instance, &["count", "clock"])
            .expect("verdicts")
            .all_pass()
    );
    let samples = memory.samples.lock().expect("no panic");
    let wanted = [
        ("seen".into(), Sample::Add(2)),
        ("level".into(), Sample::Set(0.5)),
        ("size".into(), Sample::Observe(1.5)),
    ];
    assert_eq!(*samples, wanted);
}

#[test]
fn several_instances_work_at_once() {
    let plugin = load(puppet(Role::Filter, &[]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut instance = plugin.instantiate(None).expect("an instance");
                for _ in 0..50 {
                    let verdicts = tell(&mut instance, &["pass", "drop"]).expect("verdicts");
                    assert_eq!(verdicts.get(1), Some(&Verdict::Drop(None)));
                }
            });
        }
    });
}
