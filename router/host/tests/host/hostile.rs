//! What guests may not: each abuse ends in the error that is meant for it, and the next instance
//! works as if nothing had been.

use std::time::Duration;

use waypost_host::{
    CallError, CallErrorKind, InstanceError, Limits, Plugin, PluginSpec, Role, Verdict,
};

use crate::support::{engine, load, puppet, remembering, start, tell};

/// The error of a batch whose second message is the bad one; then the plugin still works.
fn abuse(plugin: &Plugin, order: &str) -> CallError {
    let mut instance = plugin.instantiate(None).expect("an instance");
    let error = tell(&mut instance, &["pass", order, "pass"]).expect_err("an abuse");
    assert_eq!(instance.is_lost(), error.instance_lost, "{error}");
    if error.instance_lost {
        let again = tell(&mut instance, &["pass"]).expect_err("a lost instance");
        assert_eq!(again.kind, CallErrorKind::Internal);
        instance = plugin.instantiate(None).expect("another instance");
    }
    assert!(tell(&mut instance, &["pass"]).expect("verdicts").all_pass());
    error
}

fn quick(spec: PluginSpec) -> PluginSpec {
    let limits = Limits {
        memory_bytes: 4 << 20,
        call_cpu: Duration::from_millis(5),
        message_cpu: Duration::ZERO,
        init_cpu: Duration::from_millis(20),
        ..Limits::default()
    };
    PluginSpec { limits, ..spec }
}

#[test]
fn a_trap_costs_the_instance_and_says_where() {
    for role in Role::ALL {
        let error = abuse(&load(puppet(role, &[])), "trap");
        assert_eq!(error.kind, CallErrorKind::Trap, "{role}: {error}");
        assert!(error.instance_lost && error.is_splittable() && !error.is_retryable());
        let backtrace = error.backtrace.expect("a backtrace");
        assert!(backtrace.contains("wasm backtrace"), "{backtrace}");
    }
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    for role in Role::ALL {
        let error = abuse(&load(quick(puppet(role, &[]))), "loop");
        assert_eq!(error.kind, CallErrorKind::Deadline, "{role}: {error}");
        assert!(error.message.ends_with("limit 5 ms"), "{error}");
    }
}

#[test]
fn endless_recursion_ends_at_the_stack() {
    let error = abuse(&load(puppet(Role::Filter, &[])), "recurse");
    assert_eq!(error.kind, CallErrorKind::Trap, "{error}");
}

#[test]
fn memory_without_end_is_refused() {
    let spec = quick(puppet(Role::Filter, &[]));
    let limits = Limits {
        call_cpu: Duration::from_secs(10),
        ..spec.limits.clone()
    };
    let error = abuse(&load(PluginSpec { limits, ..spec }), "hog");
    assert_eq!(error.kind, CallErrorKind::Memory, "{error}");
    assert!(error.message.ends_with("limit 4194304"), "{error}");
}

#[test]
fn an_answer_of_another_length_is_refused() {
    for role in [Role::Filter, Role::Transform, Role::Route] {
        let plugin = load(puppet(role, &[]));
        let error = abuse(&plugin, "short");
        assert_eq!(
            error.to_string(),
            "bad output: 2 answers for 3 messages",
            "{role}"
        );
        assert!(!error.instance_lost, "{role}");
        let error = abuse(&plugin, "long");
        assert_eq!(
            error.to_string(),
            "bad output: 4 answers for 3 messages",
            "{role}"
        );
    }
}

#[test]
fn output_has_limits_of_number_and_of_bytes() {
    for role in [Role::Transform, Role::Each] {
        // Time enough, so that the limits of output are the first to be reached.
        let spec = puppet(role, &[]);
        let limits = Limits {
            call_cpu: Duration::from_secs(10),
            ..spec.limits.clone()
        };
        let plugin = load(PluginSpec { limits, ..spec });
        let error = abuse(&plugin, "emit 1025 1");
        assert_eq!(error.kind, CallErrorKind::Output, "{role}");
        let rule = "more than 1024 messages emitted, reached at message 1";
        assert_eq!(error.message, rule, "{role}");
        let error = abuse(&plugin, "emit 10 1000000");
        let rule = "more than 8388608 bytes emitted, reached at message 1";
        assert_eq!(error.message, rule, "{role}");
        let error = abuse(&plugin, "emit 30 1000000");
        assert!(
            error.message.contains("fuel"),
            "past what the host lifts: {error}"
        );
        assert!(error.instance_lost, "{role}");
    }
}

#[test]
fn a_violation_costs_its_message_only() {
    let mut instance = start(Role::Transform, &[]);
    let orders = [
        "topic a/#",
        "topic $waypost/x",
        "emit 1 1048577",
        "topic fine",
    ];
    let verdicts = tell(&mut instance, &orders).expect("verdicts");
    let rules: Vec<_> = verdicts
        .iter()
        .filter_map(|verdict| match verdict {
            Verdict::Violation(violation) => Some(violation.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(
        rules,
        [
            "answer for message 0: topic 'a/#' has the wildcard '#' at byte 2, \
             which only a filter may have",
            "answer for message 1: topic '$waypost/x' begins with '$', which is the router's own",
            "answer for message 2: payload of 1048577 bytes, limit 1048576",
        ]
    );
    assert!(matches!(verdicts.get(3), Some(Verdict::Edit(_))));
}

#[test]
fn the_guests_own_errors_keep_their_kinds() {
    let plugin = load(puppet(Role::Filter, &[]));
    for (order, kind, lost) in [
        ("invalid", CallErrorKind::Invalid, false),
        ("unavailable", CallErrorKind::Unavailable, false),
        ("internal", CallErrorKind::Internal, true),
    ] {
        let error = abuse(&plugin, order);
        assert_eq!((error.kind, error.instance_lost), (kind, lost));
        assert_eq!(error.is_retryable(), kind == CallErrorKind::Unavailable);
    }
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    let (engine, memory) = remembering();
    let spec = puppet(Role::Filter, &[]);
    let limits = Limits {
        log_bytes_per_second: 1_000,
        call_cpu: Duration::from_secs(5),
        ..spec.limits.clone()
    };
    let plugin = engine.load(PluginSpec { limits, ..spec }).expect("loads");
    let mut instance = plugin.instantiate(None).expect("an instance");
    assert!(
        tell(&mut instance, &["log 5000"])
            .expect("verdicts")
            .all_pass()
    );
    let lines = memory.lines.lock().expect("no panic");
    assert_eq!(lines[0].1, format!("{:0100}", 0));
    // 7 fit the burst; the machine may be slow enough for some more.
    assert!(
        (7..2_000).contains(&lines.len()),
        "{} lines of 5,000",
        lines.len()
    );
}

#[test]
fn init_has_its_own_errors() {
    let start = |how| load(quick(puppet(Role::Filter, &[("init", how)]))).instantiate(None);
    let error = start("refuse").expect_err("refused").to_string();
    let wanted = "plugin 'puppet' refuses its settings: setting 'init': 'refuse' is not for me";
    assert_eq!(error, wanted);
    for (how, kind) in [
        ("trap", CallErrorKind::Trap),
        ("loop", CallErrorKind::Deadline),
        ("hog", CallErrorKind::Memory),
    ] {
        match start(how) {
            Err(InstanceError::Init { error, .. }) => assert_eq!(error.kind, kind, "{error}"),
            other => panic!("{how}: {other:?}"),
        }
    }
    let field = load(puppet(Role::Filter, &[("field", "colour")])).instantiate(None);
    let error = field.expect_err("no such field").to_string();
    assert!(error.contains("field 'colour', expected key"), "{error}");
}

#[test]
fn instances_are_bounded_and_come_back() {
    let (engine, _) = remembering();
    let plugin = engine.load(puppet(Role::Filter, &[])).expect("loads");
    let held: Vec<_> = (0..4)
        .map(|_| plugin.instantiate(None).expect("room for four"))
        .collect();
    let error = plugin
        .instantiate(None)
        .expect_err("no room for five")
        .to_string();
    assert!(error.contains("cannot be instantiated"), "{error}");
    drop(held);
    assert!(plugin.instantiate(None).is_ok(), "there is room again");
}

#[test]
fn a_memory_limit_over_the_engines_is_refused() {
    let spec = puppet(Role::Filter, &[]);
    let limits = Limits {
        memory_bytes: 1 << 40,
        ..spec.limits.clone()
    };
    let error = engine()
        .load(PluginSpec { limits, ..spec })
        .expect_err("too much")
        .to_string();
    assert!(error.ends_with("memory limit 1099511627776 bytes is over the engine's 536870912"));
}
