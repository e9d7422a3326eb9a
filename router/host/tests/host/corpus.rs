//! The hostile corpus: guests that mean harm, in ways that no compiler of a guest language gives.
//! What one can do in Rust stands in `hostile`, with the puppet.
//!
//! Each ends in the error that is meant for it, soon after its limit, and the next instance works.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use waypost_host::{CallError, CallErrorKind, InstanceError, Limits, Plugin, PluginSpec, Source};

use crate::support::{engine, tell};
use crate::written::Written;

const DEADLINE: Duration = Duration::from_millis(20);
/// Between two looks at a guest; the promise is that it ends two of them past its deadline.
const TICK: Duration = Duration::from_millis(1);
/// Looks for one run in which the machine let the ticking thread tick.
const TRIES: usize = 40;

fn limits() -> Limits {
    Limits {
        memory_bytes: 32 << 20,
        call_cpu: DEADLINE,
        message_cpu: Duration::ZERO,
        init_cpu: DEADLINE,
        host_calls: u32::MAX,
        cpu_per_second: Duration::from_secs(1_000),
        ..Limits::default()
    }
}

fn load(guest: &Written<'_>) -> Plugin {
    let source = Source::Bytes(guest.component().into());
    let mut spec = PluginSpec::new("hostile", source);
    spec.limits = limits();
    engine().load(spec).expect("it looks harmless")
}

/// The error of one call.
fn call(plugin: &Plugin) -> CallError {
    let mut instance = plugin.instantiate(None).expect("an instance");
    let error = tell(&mut instance, &["x"]).expect_err("an abuse");
    assert_eq!(instance.is_lost(), error.instance_lost, "{error}");
    error
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Whether `work`, which gives the CPU time of this thread that a guest took and how it ended, ends
/// at the deadline and no more than two ticks later. Where other work keeps the ticking thread from
/// its core, a run says nothing: one of several must do. `beside` is what is measured beside the
/// guest: a call that traps at once.
fn ends_in_time(what: &str, beside: Duration, mut work: impl FnMut() -> (Duration, String)) {
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let (used, error) = work();
        assert!(error.contains("deadline passed: used"), "{what}: {error}");
        assert!(used >= DEADLINE, "{what}: ended after {used:?}");
        best = best.min(used);
        if best <= DEADLINE + 2 * TICK + beside {
            return;
        }
    }
    panic!("{what}: took {best:?} at best, of {DEADLINE:?} and {beside:?} beside it");
}

/// One call on a fresh instance.
fn timed_call(plugin: &Plugin) -> (Duration, String) {
    let mut instance = plugin.instantiate(None).expect("an instance");
    let start = cpu_time();
    let error = tell(&mut instance, &["x"]).expect_err("an abuse");
    (cpu_time() - start, error.to_string())
}

/// One start that fails.
fn timed_start(plugin: &Plugin) -> (Duration, String) {
    let start = cpu_time();
    let error = plugin.instantiate(None).expect_err("an abuse");
    (cpu_time() - start, error.to_string())
}

/// What a failing call costs beside the guest.
fn beside(plugin: &Plugin, timed: fn(&Plugin) -> (Duration, String)) -> Duration {
    (0..10).map(|_| timed(plugin).0).max().unwrap_or_default()
}

#[test]
fn loops_end_two_ticks_past_their_deadline() {
    let at_once = load(&Written {
        filter: "unreachable",
        ..Written::default()
    });
    let beside = beside(&at_once, timed_call);
    let endless = "(loop $l (br $l)) unreachable";
    let calls = "(loop $l (drop (call $now)) (br $l)) unreachable";
    let logs = "(loop $l (call $log (i32.const 2) (i32.const 16384) (i32.const 8192)) (br $l)) unreachable";
    let fills =
        "(loop $l (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536)) (br $l)) unreachable";
    for (what, filter) in [
        ("a loop", endless),
        ("a loop of host calls", calls),
        ("a loop of log lines", logs),
        ("a loop of bulk writes", fills),
    ] {
        let plugin = load(&Written {
            filter,
            ..Written::default()
        });
        ends_in_time(what, beside, || timed_call(&plugin));
    }
}

#[test]
fn an_allocator_that_loops_or_traps_is_ended() {
    // The host calls it for the arguments: first for those of `init`, where it is good.
    let after_init = |then: &str| {
        format!(
            "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (if (i32.gt_u (global.get $calls) (i32.const 64)) (then {then}))
             (if (i32.eq (local.get $len) (i32.const 80)) (then {then}))
             i32.const 4096"
        )
    };
    let items = "(global $calls (mut i32) (i32.const 0))";
    let looping = after_init("(loop $l (br $l))");
    let plugin = load(&Written {
        realloc: &looping,
        items,
        ..Written::default()
    });
    let error = call(&plugin);
    assert_eq!(error.kind, CallErrorKind::Deadline, "{error}");
    let trapping = after_init("unreachable");
    let plugin = load(&Written {
        realloc: &trapping,
        items,
        ..Written::default()
    });
    assert_eq!(call(&plugin).kind, CallErrorKind::Trap);
}

#[test]
fn a_start_function_that_loops_or_traps_starts_no_instance() {
    let start = |body: &str| {
        load(&Written {
            items: &format!("(func $s {body}) (start $s)"),
            ..Written::default()
        })
    };
    let beside = beside(&start("unreachable"), timed_start);
    let plugin = start("(loop $l (br $l))");
    ends_in_time("a start function", beside, || timed_start(&plugin));
    match start("unreachable").instantiate(None) {
        Err(InstanceError::Instantiate { detail, .. }) => {
            assert!(
                detail.starts_with("trap: wasm trap: wasm `unreachable`"),
                "{detail}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tables_and_memories_grow_to_their_limit_and_no_further() {
    let grow_table = "(loop $l (br_if $l
        (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable";
    let plugin = load(&Written {
        filter: grow_table,
        items: "(table $t 1 funcref)",
        ..Written::default()
    });
    let error = call(&plugin);
    assert_eq!(error.kind, CallErrorKind::Memory, "{error}");
    assert_eq!(error.message, "tables of 20001 elements, limit 20000");
    let grow_memory = "(loop $l (br_if $l
        (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let plugin = load(&Written {
        filter: grow_memory,
        items: "",
        ..Written::default()
    });
    let error = call(&plugin);
    assert_eq!(error.kind, CallErrorKind::Memory, "{error}");
    assert!(error.message.ends_with("limit 33554432"), "{error}");
}

#[test]
fn a_slow_leak_ends_at_the_memory_limit_and_a_new_instance_begins_small() {
    // 64 pages of 512 a call, and a good answer while they are to be had.
    let filter = "(if (i32.eq (memory.grow (i32.const 64)) (i32.const -1)) (then unreachable))
        i32.const 256";
    let plugin = load(&Written {
        filter,
        ..Written::default()
    });
    let mut instance = plugin.instantiate(None).expect("an instance");
    let mut calls = 0;
    let error = loop {
        match tell(&mut instance, &["x"]) {
            Ok(verdicts) => assert!(verdicts.all_pass()),
            Err(error) => break error,
        }
        calls += 1;
        assert!(calls < 100, "it leaks on");
    };
    assert_eq!((calls, error.kind), (7, CallErrorKind::Memory), "{error}");
    assert!(instance.memory_bytes() <= 32 << 20);
    let fresh = plugin.instantiate(None).expect("an instance");
    assert_eq!(fresh.memory_bytes(), 64 << 10);
}

#[test]
fn a_memory_that_begins_over_the_limit_starts_no_instance() {
    let plugin = load(&Written {
        pages: 513,
        ..Written::default()
    });
    let error = plugin.instantiate(None).expect_err("33 MiB").to_string();
    assert!(
        error.contains("memory of 33619968 bytes, limit 33554432"),
        "{error}"
    );
}

#[test]
fn log_lines_that_lie_or_are_huge_are_dealt_with() {
    for (what, pages, log, kind) in [
        (
            "outside the memory",
            1,
            "(i32.const 65000) (i32.const 4096)",
            CallErrorKind::Output,
        ),
        (
            "a length that wraps",
            1,
            "(i32.const 16) (i32.const -1)",
            CallErrorKind::Output,
        ),
        (
            "not UTF-8",
            1,
            "(i32.const 8) (i32.const 4)",
            CallErrorKind::Output,
        ),
        (
            "over what is lifted",
            300,
            "(i32.const 64) (i32.const 16777217)",
            CallErrorKind::Output,
        ),
    ] {
        let filter = format!("(call $log (i32.const 2) {log}) i32.const 256");
        let plugin = load(&Written {
            filter: &filter,
            items: r#"(data (i32.const 8) "\ff\fe\ff\fe")"#,
            pages,
            ..Written::default()
        });
        let error = call(&plugin);
        assert_eq!(
            (error.kind, error.instance_lost),
            (kind, true),
            "{what}: {error}"
        );
    }
    // 16 MiB less a bit is cut, not refused.
    let plugin = load(&Written {
        filter: "(call $log (i32.const 2) (i32.const 65536) (i32.const 16000000)) i32.const 256",
        pages: 300,
        ..Written::default()
    });
    let mut instance = plugin.instantiate(None).expect("an instance");
    assert!(tell(&mut instance, &["x"]).expect("verdicts").all_pass());
    let no_level = load(&Written {
        filter: "(call $log (i32.const 9) (i32.const 0) (i32.const 0)) i32.const 256",
        ..Written::default()
    });
    assert_eq!(
        call(&no_level).kind,
        CallErrorKind::Output,
        "a level that there is not"
    );
}

#[test]
fn deep_recursion_ends_at_the_stack_with_or_without_locals() {
    for body in [
        "(call $r) (drop (i32.const 1))",
        "(local i64 i64 i64 i64 i64 i64 i64 i64) (call $r) (local.set 0 (i64.const 1))",
    ] {
        let plugin = load(&Written {
            filter: "(call $r) i32.const 256",
            items: &format!("(func $r {body})"),
            ..Written::default()
        });
        let error = call(&plugin);
        assert_eq!(error.kind, CallErrorKind::Trap, "{error}");
        assert!(error.message.contains("call stack exhausted"), "{error}");
    }
}

#[test]
fn traps_of_every_kind_are_traps() {
    for (filter, words) in [
        ("unreachable", "unreachable"),
        (
            "(i32.div_u (i32.const 1) (i32.const 0))",
            "integer divide by zero",
        ),
        ("(i32.load (i32.const -8))", "out of bounds memory access"),
        (
            "(call_indirect (result i32) (i32.const 3))",
            "undefined element",
        ),
        (
            "(i32.trunc_f32_s (f32.const nan))",
            "invalid conversion to integer",
        ),
    ] {
        let plugin = load(&Written {
            filter,
            items: "(table 1 funcref)",
            ..Written::default()
        });
        let error = call(&plugin);
        assert_eq!(error.kind, CallErrorKind::Trap, "{filter}: {error}");
        assert!(error.message.contains(words), "{filter}: {error}");
    }
}
