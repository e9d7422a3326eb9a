//! State, publish, timer, random and schema: what each gives, what each refuses, and that a call's
//! effects are the caller's to keep or to throw away.

use std::collections::BTreeMap;

use bytes::Bytes;
use waypost_host::{
    CallError, CallErrorKind, Effects, Grants, Instance, Level, Limits, MessageRef, Plugin,
    PluginSpec, Role, State, StateFull, Verdict, Verdicts,
};
use waypost_wire::Filter;
use waypost_wire::record::RecordRef;

use crate::support::{engine, fixture, order, remembering};

/// A state in memory, with a bound.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kept {
    values: BTreeMap<Vec<u8>, (Bytes, u64)>,
    bytes_max: usize,
}

impl Kept {
    fn with_room() -> Kept {
        Kept {
            bytes_max: 1 << 20,
            ..Kept::default()
        }
    }
}

impl State for Kept {
    fn get(&mut self, key: &[u8]) -> Option<Bytes> {
        self.values.get(key).map(|(value, _)| value.clone())
    }

    fn set(&mut self, key: &[u8], value: Option<Bytes>, ttl_ms: u64) -> Result<(), StateFull> {
        let Some(value) = value else {
            self.values.remove(key);
            return Ok(());
        };
        let others = self.values.iter().filter(|(other, _)| *other != key);
        let kept: usize = others
            .map(|(key, (value, _))| key.len() + value.len())
            .sum();
        if kept + key.len() + value.len() > self.bytes_max {
            return Err(StateFull);
        }
        self.values.insert(key.to_vec(), (value, ttl_ms));
        Ok(())
    }

    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        bytes_max: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let mut bytes = 0;
        let found = self.values.iter().filter(|(key, _)| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_slice() > after)
        });
        found
            .take(limit)
            .take_while(|(key, (value, _))| {
                bytes += key.len() + value.len();
                bytes == key.len() + value.len() || bytes <= bytes_max
            })
            .map(|(key, (value, _))| (Bytes::copy_from_slice(key), value.clone()))
            .collect()
    }
}

fn granted(role: Role, settings: &[(&str, &str)]) -> PluginSpec {
    let mut spec = PluginSpec::new("effects", fixture("puppet-effects"));
    spec.role = Some(role);
    spec.settings = settings
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    spec.grants = Grants {
        state: true,
        publish: Some(vec![Filter::new("counts/#").expect("a filter")]),
        timer: true,
        ..Grants::default()
    };
    // A debug build on a busy machine is slow, and nothing here is about deadlines.
    spec.limits.call_cpu = std::time::Duration::from_secs(5);
    spec
}

fn load(spec: PluginSpec) -> Plugin {
    engine().load(spec).expect("a plugin that loads")
}

fn call(
    instance: &mut Instance,
    orders: &[&str],
    effects: &mut Effects<'_>,
) -> Result<Verdicts, CallError> {
    let bodies: Vec<_> = orders.iter().map(|text| order(text).to_body()).collect();
    let batch: Vec<_> = bodies
        .iter()
        .map(|body| MessageRef::new(RecordRef::parse(body).expect("a valid body"), 1_000))
        .collect();
    instance.call(&batch, effects)
}

/// An answer with each refusal as its name alone; the guest shows all that it knows of it.
fn plain(text: &str) -> String {
    let mut parts = text.split("Refusal { code: ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (refusal, rest) = part.split_once(" }").expect("a whole refusal");
        plain += refusal.split('"').nth(1).expect("its name");
        plain += rest;
    }
    plain
}

/// What a transform answered, message by message.
fn answers(verdicts: &Verdicts) -> Vec<String> {
    let answer = |verdict: &Verdict| match verdict {
        Verdict::Edit(edit) => plain(&String::from_utf8_lossy(&edit.set_headers[0].1)),
        other => format!("{other:?}"),
    };
    verdicts.iter().map(answer).collect()
}

/// The answers of one batch, on a state.
fn tell(plugin: &Plugin, state: &mut Kept, orders: &[&str]) -> Vec<String> {
    let mut instance = plugin.instantiate(Some(state)).expect("an instance");
    let verdicts = call(&mut instance, orders, &mut Effects::on(state)).expect("verdicts");
    answers(&verdicts)
}

#[test]
fn state_does_what_the_contract_says() {
    let plugin = load(granted(Role::Transform, &[]));
    assert!(plugin.is_serial() && plugin.uses_state() && plugin.wakes());
    let mut state = Kept::with_room();
    let told = tell(
        &plugin,
        &mut state,
        &[
            "get a;set a one 50;get a",
            "add n 5;add n -7;add a 1;get n",
            "swap a two three;swap a one two;get a;swap b - new;swap b - newer;swap b new -;get b",
            "remove a;remove a;get a;swap c - -",
            "set x/2 2;set x/1 1;set x/3 3;set y 9;scan x/ - 9;scan x/ x/1 1;scan - - 0",
        ],
    );
    assert_eq!(
        told,
        [
            "none;Ok(());one",
            "Ok(5);Ok(-2);Err(not-a-number);-2",
            "Ok(false);Ok(true);two;Ok(true);Ok(false);Ok(true);none",
            "Ok(true);Ok(false);none;Ok(true)",
            "Ok(());Ok(());Ok(());Ok(());x/1=1 x/2=2 x/3=3 ;x/2=2 ;",
        ]
    );
    let number = (-2i64).to_le_bytes();
    assert_eq!(state.get(b"n").as_deref(), Some(&number[..]));
    tell(&plugin, &mut state, &["set t v 1234"]);
    assert_eq!(state.values[&b"t"[..]].1, 1_234, "the time-to-live goes on");
}

#[test]
fn state_refuses_what_is_too_large_or_too_much() {
    let plugin = load(granted(Role::Transform, &[]));
    let mut state = Kept::with_room();
    let told = tell(
        &plugin,
        &mut state,
        &[
            "set @513 v;set @512 v;set @0 v;get @513;remove @513;add @0 1",
            "set k @262145;set k @262144;swap k - @262145;add k 1",
            "fill f/ 100 100000",
            "scan f/ - 4294967295;scan @513 - 9",
        ],
    );
    let too_large = "Err(too-large)";
    assert_eq!(
        told,
        [
            format!("{too_large};Ok(());{too_large};none;{too_large};{too_large}"),
            format!("{too_large};Ok(());Ok(false);Err(not-a-number)"),
            "7".to_owned(),
            "f/00000000=100000 bytes f/00000001=100000 bytes ;".to_owned(),
        ]
    );
}

#[test]
fn a_scan_gives_a_bounded_part() {
    let plugin = load(granted(Role::Transform, &[]));
    let mut state = Kept::with_room();
    for number in 0..9_000u32 {
        let set = state.set(&number.to_be_bytes(), Some(Bytes::from_static(b"v")), 0);
        set.expect("room");
    }
    let told = tell(&plugin, &mut state, &["scan - - 4294967295"]);
    assert_eq!(told, ["8192 of 40960 bytes"]);
}

#[test]
fn a_call_that_fails_publishes_nothing_and_says_so() {
    let plugin = load(granted(Role::Transform, &[]));
    for (order, kind) in [
        ("trap", CallErrorKind::Trap),
        ("invalid", CallErrorKind::Invalid),
        ("unavailable", CallErrorKind::Unavailable),
    ] {
        let mut state = Kept::with_room();
        let mut instance = plugin.instantiate(None).expect("an instance");
        let orders = ["set k v;publish counts/a 1 1", order];
        let mut effects = Effects::on(&mut state);
        let error = call(&mut instance, &orders, &mut effects).expect_err(order);
        assert_eq!((error.kind, effects.published.len()), (kind, 0), "{order}");
        // The caller throws the state away; the next call starts without what was published.
        if instance.is_lost() {
            continue;
        }
        let mut effects = Effects::on(&mut state);
        call(&mut instance, &["get k"], &mut effects).expect("verdicts");
        assert!(effects.published.is_empty(), "{order}");
    }
}

#[test]
fn published_messages_name_their_cause_in_the_callers_batch() {
    let orders = [
        "get a",
        "publish counts/a 2 3",
        "get a",
        "publish counts/b 1 1",
    ];
    for (role, settings) in [
        (Role::Transform, &[][..]),
        (Role::Transform, &[("max-batch", "1")]),
        (Role::Transform, &[("max-batch", "3")]),
        (Role::Each, &[]),
        (Role::Filter, &[]),
    ] {
        let plugin = load(granted(role, settings));
        let mut state = Kept::with_room();
        let mut instance = plugin.instantiate(None).expect("an instance");
        let mut effects = Effects::on(&mut state);
        call(&mut instance, &orders, &mut effects).expect("verdicts");
        let published: Vec<_> = effects
            .published
            .iter()
            .map(|p| (p.cause, &*p.message.topic, p.message.payload.len()))
            .collect();
        let wanted = [(1, "counts/a", 3), (1, "counts/a", 3), (3, "counts/b", 1)];
        assert_eq!(published, wanted, "{role} {settings:?}");
    }
}

#[test]
fn publish_refuses_and_the_log_says_why() {
    let (engine, memory) = remembering();
    let mut spec = granted(Role::Transform, &[("init", "publish counts/a 1 1")]);
    spec.limits.payload_bytes = 1_000;
    let plugin = engine.load(spec).expect("loads");
    let mut state = Kept::with_room();
    let mut instance = plugin.instantiate(Some(&mut state)).expect("an instance");
    let verdicts = call(
        &mut instance,
        &[
            "publish other/a 1 1",
            "publish counts/+ 1 1",
            "publish $waypost/x 1 1",
            "publish counts/a 1 1001",
            "because 5 counts/a;because 4 counts/a",
        ],
        &mut Effects::on(&mut state),
    );
    assert_eq!(
        answers(&verdicts.expect("verdicts")),
        [
            "0 forbidden",
            "0 invalid",
            "0 invalid",
            "0 invalid",
            "Err(invalid);Ok(())",
        ]
    );
    let lines = memory.lines.lock().expect("no panic");
    let lines: Vec<_> = lines
        .iter()
        .map(|(level, line)| (*level, plain(line)))
        .collect();
    let warn = |line: &str| (Level::Warn, line.to_owned());
    assert_eq!(
        lines,
        [
            (Level::Info, "0 not-now".to_owned()),
            warn("refused to publish: topic 'other/a' is not granted"),
            warn(
                "refused to publish: topic 'counts/+' has the wildcard '+' at byte 7, which only a \
                 filter may have"
            ),
            warn(
                "refused to publish: topic '$waypost/x' begins with '$', which is the router's own"
            ),
            warn("refused to publish: payload of 1001 bytes, limit 1000"),
            warn("refused to publish: message 5 as the cause, of 5"),
        ]
    );
}

#[test]
fn what_is_published_and_emitted_shares_one_bound() {
    for role in [Role::Transform, Role::Each] {
        let mut spec = granted(role, &[]);
        spec.limits.emitted_messages = 10;
        spec.limits.emitted_bytes = 10_000;
        let plugin = load(spec);
        let told = |orders: &[&str]| {
            let mut state = Kept::with_room();
            let mut instance = plugin.instantiate(None).expect("an instance");
            let mut effects = Effects::on(&mut state);
            let verdicts = call(&mut instance, orders, &mut effects)?;
            Ok::<_, CallError>((answers(&verdicts)[0].clone(), effects.published.len()))
        };
        let full = |orders: &[&str]| told(orders).expect("verdicts");
        assert_eq!(full(&["publish counts/a 11 1"]), ("10 full".into(), 10));
        assert_eq!(full(&["publish counts/a 9 1500"]), ("6 full".into(), 6));
        let error = told(&["publish counts/a 6 1", "emit 5 1"]).expect_err("11 of 10");
        let rule = "more than 10 messages emitted, reached at message 1";
        assert_eq!((error.kind, &*error.message), (CallErrorKind::Output, rule));
        let error = told(&["publish counts/a 6 1000", "emit 4 1000"]).expect_err("10,120 bytes");
        let rule = "more than 10000 bytes emitted, reached at message 1";
        assert_eq!((error.kind, &*error.message), (CallErrorKind::Output, rule));
        assert!(
            told(&["publish counts/a 5 1", "emit 5 1"]).is_ok(),
            "{role}"
        );
    }
}

#[test]
fn init_reads_its_state_and_does_not_write() {
    let (engine, memory) = remembering();
    let orders = "get k;set k v;remove k;add k 1;swap k old new;scan k - 9";
    let plugin = engine
        .load(granted(Role::Transform, &[("init", orders)]))
        .expect("loads");
    let mut state = Kept::with_room();
    state
        .set(b"k", Some(Bytes::from_static(b"old")), 0)
        .expect("room");
    let before = state.clone();
    drop(plugin.instantiate(Some(&mut state)).expect("an instance"));
    assert_eq!(state, before);
    drop(plugin.instantiate(None).expect("an instance"));
    let read_only = "Err(read-only)";
    let refused = [read_only; 4].join(";");
    let lines = memory.lines.lock().expect("no panic");
    assert_eq!(plain(&lines[0].1), format!("old;{refused};k=old "));
    assert_eq!(
        plain(&lines[1].1),
        format!("none;{refused};"),
        "without a state"
    );
}

#[test]
fn a_call_without_the_state_that_it_needs_fails() {
    let plugin = load(granted(Role::Transform, &[]));
    let mut instance = plugin.instantiate(None).expect("an instance");
    let error = call(&mut instance, &["get k"], &mut Effects::default()).expect_err("no state");
    assert_eq!(error.kind, CallErrorKind::Internal, "{error}");
    let wanted = "state.get has no state to work on: the router lent none";
    assert_eq!(error.message, wanted);
}

#[test]
fn a_timer_is_asked_for_and_wakes() {
    let plugin = load(granted(
        Role::Transform,
        &[
            ("init", "timer 3"),
            ("wake", "add n 1;publish counts/n 1 1"),
        ],
    ));
    let mut state = Kept::with_room();
    let mut instance = plugin.instantiate(None).expect("an instance");
    assert_eq!(
        (instance.take_timer(), instance.take_timer()),
        (Some(10), None)
    );
    let mut effects = Effects::on(&mut state);
    for _ in 0..2 {
        instance.wake(&mut effects).expect("it wakes");
    }
    let causes: Vec<_> = effects.published.iter().map(|p| p.cause).collect();
    assert_eq!(causes, [0, 0]);
    assert_eq!(state.get(b"n").as_deref(), Some(&2i64.to_le_bytes()[..]));
    let orders = ["timer 500;timer 0", "wake trap"];
    call(&mut instance, &orders, &mut Effects::on(&mut state)).expect("verdicts");
    assert_eq!(instance.take_timer(), Some(0));
    let error = instance
        .wake(&mut Effects::on(&mut state))
        .expect_err("told to trap");
    assert_eq!(
        (error.kind, instance.is_lost()),
        (CallErrorKind::Trap, true)
    );
    let again = instance.wake(&mut Effects::default()).expect_err("lost");
    assert_eq!(again.kind, CallErrorKind::Internal);
    let mut other = crate::support::start(Role::Filter, &[]);
    let error = other.wake(&mut Effects::default()).expect_err("no export");
    assert_eq!(error.message, "the plugin does not export wakes");
    assert!(!other.is_lost());
}

#[test]
fn randomness_differs_and_is_bounded() {
    let plugin = load(granted(Role::Transform, &[]));
    let told = tell(
        &plugin,
        &mut Kept::with_room(),
        &["random 0;random 32;random 100000"],
    );
    assert_eq!(told, ["0 true;32 true;65536 true"]);
}

#[test]
fn what_is_not_granted_is_refused_by_name() {
    for (grant, take) in [
        ("log", (|g| g.log = false) as fn(&mut Grants)),
        ("clock", |g| g.clock = false),
        ("random", |g| g.random = false),
        ("state", |g| g.state = false),
        ("publish", |g| g.publish = None),
        ("timer", |g| g.timer = false),
    ] {
        let mut spec = granted(Role::Transform, &[]);
        take(&mut spec.grants);
        let error = engine().load(spec).expect_err(grant).to_string();
        let wanted = format!(
            "imports waypost:plugin/{grant}@0.1.1, which needs the grant '{grant}', \
             and it was not granted that"
        );
        assert!(error.ends_with(&wanted), "{error}");
    }
    let mut spec = crate::support::puppet(Role::Filter, &[]);
    spec.grants.metrics = false;
    let error = engine().load(spec).expect_err("metrics").to_string();
    assert!(error.contains("needs the grant 'metrics'"), "{error}");
}

#[test]
fn settings_are_held_against_the_plugins_own_schema() {
    let plugin = load(granted(Role::Transform, &[("max-batch", "300")]));
    let schema = plugin.settings_schema().expect("it has one");
    assert!(schema.as_str().contains("orders for on-timer"));
    let wanted = "setting 'max-batch': '300', expected a whole number, at least 0, at most 256";
    assert_eq!(
        plugin.check_settings().expect_err("too many").to_string(),
        wanted
    );
    let error = plugin.instantiate(None).expect_err("refused").to_string();
    assert_eq!(error, format!("plugin 'effects': {wanted}"));
    let plugin = load(granted(Role::Transform, &[("windw", "1m")]));
    let error = plugin.check_settings().expect_err("unknown").to_string();
    assert!(
        error.starts_with("setting 'windw' is unknown, expected one of init,"),
        "{error}"
    );
    let plugin = crate::support::load(crate::support::puppet(Role::Filter, &[]));
    assert!(plugin.settings_schema().is_none() && plugin.check_settings().is_ok());
    assert!(!plugin.is_serial() && !plugin.wakes());
}

#[test]
fn host_calls_are_counted() {
    let mut spec = granted(Role::Transform, &[]);
    spec.limits.host_calls = 100;
    let plugin = load(spec);
    let mut instance = plugin.instantiate(None).expect("an instance");
    let told = |instance: &mut Instance, order| {
        call(instance, &[order], &mut Effects::default()).map(|verdicts| answers(&verdicts))
    };
    for _ in 0..2 {
        let answer = told(&mut instance, "calls 100").expect("each call has its own");
        assert_eq!(answer, ["100"]);
    }
    let error = told(&mut instance, "calls 101").expect_err("one too many");
    assert_eq!(
        (error.kind, instance.is_lost()),
        (CallErrorKind::HostCalls, true)
    );
    assert_eq!(
        error.to_string(),
        "too many host calls: more than 100 calls of imports, the last of clock.now-ms"
    );
}

#[test]
fn instances_of_a_plugin_are_bounded() {
    let mut spec = granted(Role::Transform, &[]);
    spec.limits.instances = 2;
    let plugin = load(spec);
    let held = [plugin.instantiate(None), plugin.instantiate(None)];
    assert!(held.iter().all(Result::is_ok));
    let error = plugin.instantiate(None).expect_err("a third").to_string();
    assert_eq!(error, "plugin 'effects' has 2 instances, the limit");
    assert_eq!(plugin.instances(), 2);
    drop(held);
    assert!(plugin.instantiate(None).is_ok() && plugin.instances() == 0);
}

#[test]
fn cpu_time_is_metered_over_all_instances() {
    let mut spec = granted(Role::Transform, &[]);
    spec.limits = Limits {
        call_cpu: std::time::Duration::from_millis(30),
        // So little that a busy machine does not pay it off while the test runs.
        cpu_per_second: std::time::Duration::from_millis(1),
        ..spec.limits
    };
    let plugin = load(spec);
    let now = std::time::Instant::now();
    plugin.admit(now).expect("nothing was used yet");
    for _ in 0..2 {
        let mut instance = plugin.instantiate(None).expect("an instance");
        let error = call(&mut instance, &["loop"], &mut Effects::default()).expect_err("a loop");
        assert_eq!(error.kind, CallErrorKind::Deadline);
    }
    let used = plugin.cpu_used();
    assert!(used >= std::time::Duration::from_millis(60), "{used:?}");
    let spent = plugin
        .admit(std::time::Instant::now())
        .expect_err("60 of 1 ms");
    assert!(spent.wait > std::time::Duration::ZERO, "{spent}");
    let later = std::time::Instant::now() + spent.wait;
    plugin.admit(later).expect("paid by then");
}

#[test]
fn a_component_of_0_1_0_runs_as_it_did() {
    for role in Role::ALL {
        let mut spec = crate::support::puppet(role, &[]);
        spec.source = fixture("old-0.1.0");
        let plugin = load(spec);
        assert!(!plugin.is_serial() && !plugin.wakes() && plugin.settings_schema().is_none());
        let mut instance = plugin.instantiate(None).expect("an instance");
        let verdicts = crate::support::tell(
            &mut instance,
            &["pass", "reject", "log 1", "count", "clock", "edit", "to 1"],
        )
        .expect("verdicts");
        assert_eq!(verdicts.get(0), Some(&Verdict::Pass), "{role}");
        assert_eq!(
            verdicts.get(1),
            Some(&Verdict::Reject(Some("".into()))),
            "{role}"
        );
        assert_eq!(verdicts.get(4), Some(&Verdict::Pass), "{role}");
    }
}
