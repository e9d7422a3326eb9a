//! Guests of `wasi:messaging`: what they see, what they may send, what ends them, and what of
//! them is refused when they are loaded.

use std::time::Duration;

use waypost_host::{
    CallError, CallErrorKind, Effects, Grants, Instance, MessageRef, Plugin, PluginSpec, Published,
    Role, Source, Verdict, Verdicts,
};
use waypost_wire::Filter;
use waypost_wire::record::{Message, RecordRef};

use crate::support::{self, engine, fixture, order};

fn spec() -> PluginSpec {
    let mut spec = PluginSpec::new("messaging", fixture("puppet-messaging"));
    spec.grants.publish = Some(vec![Filter::new("out/#").expect("a filter")]);
    // A debug build on a busy machine is slow, and few of these tests are about deadlines.
    spec.limits.call_cpu = Duration::from_secs(5);
    spec
}

fn load(spec: PluginSpec) -> Plugin {
    engine().load(spec).expect("a plugin that loads")
}

fn start(spec: PluginSpec) -> Instance {
    load(spec).instantiate(None).expect("an instance")
}

fn call(
    instance: &mut Instance,
    messages: &[Message],
) -> Result<(Verdicts, Vec<Published>), CallError> {
    let bodies: Vec<_> = messages.iter().map(Message::to_body).collect();
    let batch: Vec<_> = bodies
        .iter()
        .map(|body| MessageRef::new(RecordRef::parse(body).expect("a valid body"), 1_000))
        .collect();
    let mut effects = Effects::default();
    let verdicts = instance.call(&batch, &mut effects)?;
    Ok((verdicts, effects.published))
}

fn to(topic: &str, orders: &str) -> Message {
    order(orders).with_header("to", topic.to_owned())
}

/// What the guest tells of its orders, and what it published is gone with that.
fn told(instance: &mut Instance, message: Message) -> String {
    let (verdicts, published) = call(instance, &[message]).expect("verdicts");
    assert_eq!(published, []);
    match verdicts.get(0) {
        Some(Verdict::Failed(text)) => text.strip_prefix("other: ").unwrap_or(text).to_owned(),
        verdict => format!("{verdict:?}"),
    }
}

#[test]
fn a_guest_sees_the_message_as_the_draft_calls_it() {
    let mut instance = start(spec());
    assert_eq!(instance.role(), Role::Filter);
    let message = order("show;tell").with_content_type("text/plain");
    let message = message.with_header("a", "1").with_header("a", "2");
    let message = message.with_header("raw", vec![b'x', 0xff]);
    let wanted = "Some(\"test/topic\") Some(\"text/plain\") \"payload\" \
                  Some(\"a=1,a=2,raw=x\u{fffd}\")";
    assert_eq!(told(&mut instance, message), wanted);
    let wanted = "ok;Some(\"test/topic\") None \"payload\" None";
    assert_eq!(told(&mut instance, order("remove do;show;tell")), wanted);
}

#[test]
fn what_a_guest_changes_is_its_own() {
    let mut instance = start(spec());
    let message = || order("").with_header("a", "1").with_header("b", "2");
    for (change, wanted) in [
        ("data other", "None \"other\" Some(\"a=1,b=2\")"),
        (
            "type text/x",
            "Some(\"text/x\") \"payload\" Some(\"a=1,b=2\")",
        ),
        ("add a 9", "None \"payload\" Some(\"a=9,b=2\")"),
        ("add c 9", "None \"payload\" Some(\"a=1,b=2,c=9\")"),
        ("remove a", "None \"payload\" Some(\"b=2\")"),
        ("meta x 1 x 2", "None \"payload\" Some(\"x=1,x=2\")"),
    ] {
        let mut shown = message();
        shown.headers[0].1 = format!("{change};show;tell").into();
        let wanted = format!("ok;Some(\"test/topic\") {wanted}");
        assert_eq!(told(&mut instance, shown), wanted);
        let mut passed = message();
        passed.headers[0].1 = change.to_owned().into();
        let (verdicts, published) = call(&mut instance, &[passed]).expect("verdicts");
        assert!(verdicts.all_pass() && published.is_empty(), "{change}");
    }
}

#[test]
fn what_a_guest_sends_has_what_the_draft_has_a_word_for() {
    let mut instance = start(spec());
    let mut message = to("out/a", "forward").with_content_type("text/plain");
    message.key = Some("key".into());
    message.time_to_live_ms = Some(7);
    let batch = [order("pass"), to("out/b", "upper"), message];
    let (verdicts, published) = call(&mut instance, &batch).expect("verdicts");
    assert!(verdicts.all_pass());
    let [capitals, forwarded] = &published[..] else {
        panic!("two: {published:?}");
    };
    assert_eq!((capitals.cause, forwarded.cause), (1, 2));
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned().into());
    let wanted = |mut message: Message, topic: &str, payload: &str, verb: &str| {
        message.topic = topic.into();
        message.payload = payload.to_owned().into();
        message.headers = vec![header("do", verb), header("to", topic)];
        message
    };
    let capitals = capitals.message.clone().into_message();
    let plain = Message::default();
    assert_eq!(capitals, wanted(plain.clone(), "out/b", "PAYLOAD", "upper"));
    let forwarded = forwarded.message.clone().into_message();
    let typed = plain.with_content_type("text/plain");
    assert_eq!(forwarded, wanted(typed, "out/a", "payload", "forward"));
}

#[test]
fn what_may_not_be_sent_is_an_error_in_the_drafts_words() {
    let mut small = spec();
    small.limits.emitted_messages = 3;
    small.limits.emitted_bytes = 1_000;
    small.limits.payload_bytes = 500;
    let mut instance = start(small);
    for (topic, send, wanted) in [
        ("out/a", "send 3 1", "ok"),
        (
            "out/a",
            "send 4 1",
            "other: a call may publish 3 messages and 1000 bytes",
        ),
        (
            "out/a",
            "send 3 400",
            "other: a call may publish 3 messages and 1000 bytes",
        ),
        (
            "out/a",
            "send 1 501",
            "other: payload of 501 bytes, limit 500",
        ),
        (
            "in/a",
            "send 1 1",
            "permission-denied: topic 'in/a' is not granted",
        ),
        ("out/#", "send 1 1", "other: topic 'out/#' "),
        (
            "$state/a",
            "send 1 1",
            "other: topic '$state/a' begins with '$', which is the router's own",
        ),
        ("out/a", "closed", "connection: the client has disconnected"),
        (
            "out/a",
            "request",
            "other: request is not supported: a plugin's call never waits",
        ),
    ] {
        let found = told(&mut instance, to(topic, &format!("{send};tell")));
        assert!(found.starts_with(wanted), "{send} to {topic}: {found}");
    }
    let crowded = (0..65).map(|n| format!("k{n} v")).collect::<Vec<_>>();
    let orders = format!("meta {};forward", crowded.join(" "));
    let found = told(&mut instance, to("out/a", &orders));
    assert_eq!(found, "65 headers, limit 64");
    let orders = format!("add long {};forward", "x".repeat(64 << 10));
    let found = told(&mut start(spec()), to("out/a", &orders));
    assert!(
        found.ends_with("bytes beside the payload, limit 65536"),
        "{found}"
    );
}

#[test]
fn without_the_grant_a_guest_loads_and_every_send_is_refused() {
    let mut granted_nothing = spec();
    granted_nothing.grants = Grants::none();
    let plugin = load(granted_nothing);
    assert!(!plugin.is_serial());
    let mut instance = plugin.instantiate(None).expect("an instance");
    for orders in ["upper;tell", "send 1 1;fail permission-denied no"] {
        let (verdicts, _) = call(&mut instance, &[to("out/a", orders)]).expect("verdicts");
        let Some(Verdict::Failed(text)) = verdicts.get(0) else {
            panic!("{orders}: {verdicts:?}");
        };
        assert!(text.starts_with("permission-denied: "), "{text}");
    }
    assert!(load(spec()).is_serial() && !load(spec()).uses_state());
}

#[test]
fn a_reply_goes_where_the_message_wants_it() {
    let mut instance = start(spec());
    let asking = |topic: &str, orders: &str| {
        let mut message = order(orders);
        message.reply_to = Some(topic.into());
        message
    };
    let batch = [asking("out/answers", "reply yes")];
    let (verdicts, published) = call(&mut instance, &batch).expect("verdicts");
    assert!(verdicts.all_pass());
    let wanted = Message::new("out/answers", "yes");
    assert_eq!(published[0].message.clone().into_message(), wanted);
    let found = told(&mut instance, asking("elsewhere", "reply yes;tell"));
    assert_eq!(found, "permission-denied: topic 'elsewhere' is not granted");
    let found = told(&mut instance, order("reply yes;tell"));
    assert_eq!(
        found,
        "other: the message does not say where it wants a reply"
    );
}

#[test]
fn an_error_costs_its_message_and_what_was_sent_for_it() {
    let mut limited = spec();
    limited.limits.emitted_messages = 2;
    let mut instance = start(limited);
    let batch = [
        to("out/a", "upper"),
        to("out/a", "upper;fail timeout"),
        order("fail connection gone"),
        order("fail permission-denied not yours"),
        order("fail other why"),
        to("out/a", "upper"),
        order("pass"),
    ];
    let (verdicts, published) = call(&mut instance, &batch).expect("verdicts");
    let failed = |text: &str| Verdict::Failed(text.into());
    let wanted = [
        Verdict::Pass,
        failed("timeout"),
        failed("connection: gone"),
        failed("permission-denied: not yours"),
        failed("other: why"),
        Verdict::Pass,
        Verdict::Pass,
    ];
    assert!(verdicts.iter().eq(&wanted), "{verdicts:?}");
    // What the failed one sent is not there, and does not count.
    let causes: Vec<u32> = published.iter().map(|published| published.cause).collect();
    assert_eq!(causes, [0, 5]);
    assert!(!instance.is_lost());
    let words = "é".repeat(8 << 10);
    let (verdicts, _) =
        call(&mut instance, &[order(&format!("fail other {words}"))]).expect("verdicts");
    let Some(Verdict::Failed(text)) = verdicts.get(0) else {
        panic!("{verdicts:?}");
    };
    assert!(text.len() <= 8 << 10 && text.starts_with("other: é"));
}

/// How a call with these orders fails on a fresh instance, which it loses.
fn ends(spec: PluginSpec, messages: &[Message]) -> (CallErrorKind, String) {
    let mut instance = start(spec);
    let error = call(&mut instance, messages).expect_err("an error of the call");
    assert!(error.instance_lost && instance.is_lost(), "{error}");
    (error.kind, error.message)
}

#[test]
fn a_trap_ends_the_call_and_the_instance() {
    let (kind, message) = ends(spec(), &[order("pass"), order("trap")]);
    assert_eq!(kind, CallErrorKind::Trap);
    assert!(message.contains("unreachable"), "{message}");
    let mut hurried = spec();
    hurried.limits.call_cpu = Duration::from_millis(10);
    let (kind, _) = ends(hurried, &[order("loop")]);
    assert_eq!(kind, CallErrorKind::Deadline);
    let mut limited = spec();
    limited.limits.host_calls = 100;
    let (kind, message) = ends(limited, &[order("calls 100")]);
    assert_eq!(kind, CallErrorKind::HostCalls);
    let wanted = "more than 100 calls of imports, the last of wasi:messaging/types.message.topic";
    assert_eq!(message, wanted);
    let (kind, _) = ends(spec(), &[order("keep 1 33554432")]);
    assert_eq!(
        kind,
        CallErrorKind::Output,
        "more than is lifted out of a guest"
    );
}

#[test]
fn what_a_guest_holds_is_bounded() {
    for (orders, last) in [
        ("keep 4096 1", "wasi:messaging/types.message"),
        ("clients 4096", "wasi:messaging/types.client.connect"),
        (
            "options 4096",
            "wasi:messaging/request-reply.request-options",
        ),
        (
            "clients 2000;options 2000;keep 96 1",
            "wasi:messaging/types.message",
        ),
    ] {
        let wanted =
            format!("more than 4096 messages, clients and options held, the last by {last}");
        let ended = ends(spec(), &[order(orders)]);
        assert_eq!(ended, (CallErrorKind::Memory, wanted), "{orders}");
    }
    // Over calls as well: the bound is the instance's.
    let mut instance = start(spec());
    for _ in 0..4 {
        call(&mut instance, &[order("keep 1000 1")]).expect("verdicts");
    }
    let error = call(&mut instance, &[order("keep 1000 1")]).expect_err("too many");
    assert_eq!(error.kind, CallErrorKind::Memory);
}

#[test]
fn what_a_guest_lets_go_of_is_free_again() {
    let mut instance = start(spec());
    for _ in 0..3 {
        let (verdicts, _) = call(&mut instance, &[order("drop 5000")]).expect("verdicts");
        assert!(verdicts.all_pass());
        // Given away, with options that go with the request.
        let orders = "send 500 1;".repeat(2) + &"request;".repeat(100) + "tell";
        let found = told(&mut instance, to("out/a", &orders));
        assert!(found.starts_with("ok;ok;other: request"), "{found}");
    }
    let batch: Vec<Message> = (0..256).map(|_| order("pass")).collect();
    for _ in 0..20 {
        let (verdicts, _) = call(&mut instance, &batch).expect("verdicts");
        assert_eq!((verdicts.all_pass(), verdicts.len()), (true, 256));
    }
}

#[test]
fn what_messages_hold_counts_as_memory() {
    let limited = || {
        let mut limited = spec();
        limited.limits.memory_bytes = 4 << 20;
        limited
    };
    let (kind, message) = ends(limited(), &[order("keep 1000 100000")]);
    assert_eq!(kind, CallErrorKind::Memory);
    let wanted = "with what its messages hold, limit 4194304";
    assert!(message.ends_with(wanted), "{message}");
    // What comes in is held as well, before the guest is entered.
    let mut large = order("pass");
    large.payload = vec![0; 5 << 20].into();
    let (kind, message) = ends(limited(), &[large]);
    assert_eq!(kind, CallErrorKind::Memory);
    assert!(message.ends_with(wanted), "{message}");
    let mut instance = start(limited());
    for _ in 0..20 {
        let mut large = order("show");
        large.payload = vec![b'x'; 300 << 10].into();
        call(&mut instance, &[large]).expect("verdicts");
    }
}

#[test]
fn a_guest_is_known_by_what_it_exports() {
    let plugin = load(spec());
    assert_eq!(plugin.role(), Role::Filter);
    assert_eq!(plugin.contract(), "wasi:messaging@0.2.0-draft");
    let exports = ["wasi:messaging/incoming-handler@0.2.0-draft"];
    assert_eq!(plugin.exports(), exports);
    for import in [
        "wasi:messaging/producer.send",
        "wasi:messaging/types.client.connect",
        "wasi:messaging/types.message",
        "wasi:messaging/types.message.data",
        "wasi:messaging/request-reply.request",
    ] {
        assert!(plugin.imports().iter().any(|i| i == import), "{import}");
    }
    let mut filter = spec();
    filter.role = Some(Role::Filter);
    load(filter);
    let mut with_settings = spec();
    with_settings.settings = vec![("limit".into(), "80".into())];
    let error = load(with_settings).instantiate(None).expect_err("settings");
    assert_eq!(
        error.to_string(),
        "plugin 'messaging': setting 'limit' is unknown, expected no settings, which \
         wasi:messaging has no way to tell"
    );
    for role in [Role::Transform, Role::Route, Role::Each] {
        let mut other = spec();
        other.role = Some(role);
        let error = engine().load(other).expect_err("another role").to_string();
        let wanted = format!(
            "exports wasi:messaging/incoming-handler@0.2.0-draft, which runs in the role filter, \
             and the role {role} was asked for"
        );
        assert!(error.ends_with(&wanted), "{error}");
    }
}

fn refusal(text: &str) -> String {
    let bytes = wat::parse_str(text).expect("a component in text form");
    let spec = PluginSpec::new("bad", Source::Bytes(bytes.into()));
    engine().load(spec).expect_err("refused").to_string()
}

/// A component that exports a `handle` of these types, which traps.
fn handler(version: &str, imports: &str, types: &str) -> String {
    format!(
        r#"(component
            {imports}
            (core module $m
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "handle") (param i32) (result i32) unreachable))
            (core instance $i (instantiate $m))
            (func $handle {types}
                (canon lift (core func $i "handle") (memory (core memory $i "memory"))
                    (realloc (core func $i "realloc"))))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:messaging/incoming-handler@{version}" (instance $handler)))"#
    )
}

const TYPES: &str = r#"
    (import "wasi:messaging/types@0.2.0-draft" (instance $types
        (export "message" (type (sub resource)))))
    (alias export $types "message" (type $message))"#;

#[test]
fn another_interface_is_told_apart() {
    let error = refusal(&handler("0.2.0", "", "(param \"m\" u32) (result u32)"));
    let wanted = "exports wasi:messaging/incoming-handler@0.2.0, but this router speaks \
                  wasi:messaging/incoming-handler@0.2.0-draft";
    assert!(error.ends_with(wanted), "{error}");
    let error = refusal("(component)");
    let wanted = "waypost:plugin/each@0.1.1, wasi:messaging/incoming-handler@0.2.0-draft; it \
                  exports nothing";
    assert!(error.ends_with(wanted), "{error}");
    let wrong = "exports wasi:messaging/incoming-handler@0.2.0-draft#handle with other types than \
                 the contract's: expected ";
    let error = refusal(&handler(
        "0.2.0-draft",
        "",
        "(param \"m\" u32) (result u32)",
    ));
    assert!(
        error.contains(&format!("{wrong}one parameter, a message")),
        "{error}"
    );
    let types = "(param \"m\" (own $message)) (result string)";
    let error = refusal(&handler("0.2.0-draft", TYPES, types));
    assert!(
        error.contains(&format!("{wrong}a result without a value")),
        "{error}"
    );
    let empty =
        "(instance $e) (export \"wasi:messaging/incoming-handler@0.2.0-draft\" (instance $e))";
    let error = refusal(&format!("(component {empty})"));
    let wanted = "does not export wasi:messaging/incoming-handler@0.2.0-draft#handle";
    assert!(error.ends_with(wanted), "{error}");
}

#[test]
fn imports_that_are_not_of_the_draft_are_named() {
    let import = |name: &str, items: &str| {
        let imports = format!("(import \"{name}\" (instance {items}))");
        refusal(&handler(
            "0.2.0-draft",
            &imports,
            "(param \"m\" u32) (result u32)",
        ))
    };
    let error = import("wasi:messaging/types@0.2.0", "");
    let wanted = "imports wasi:messaging/types@0.2.0, but this router speaks \
                  wasi:messaging/types@0.2.0-draft";
    assert!(error.ends_with(wanted), "{error}");
    let error = import("wasi:messaging/consumer@0.2.0-draft", "");
    let wanted = "imports wasi:messaging/consumer@0.2.0-draft, which this router does not offer";
    assert!(error.ends_with(wanted), "{error}");
    let error = import(
        "wasi:messaging/producer@0.2.0-draft",
        "(export \"shout\" (func))",
    );
    let wanted =
        "imports wasi:messaging/producer@0.2.0-draft#shout, which this router does not offer";
    assert!(error.ends_with(wanted), "{error}");
    support::no_wasi(import);
    // A function of the draft with the types of an older one.
    let imports = r#"(import "wasi:messaging/types@0.2.0-draft" (instance $types
        (export "message" (type $message (sub resource)))
        (type $cases (variant (case "timeout") (case "connection" string)
            (case "permission-denied" string) (case "other" string)))
        (export "error" (type (eq $cases)))
        (export "[method]message.topic"
            (func (param "self" (borrow $message)) (result string)))))
        (alias export $types "message" (type $message))
        (alias export $types "error" (type $error))"#;
    let types = "(param \"m\" (own $message)) (result (result (error $error)))";
    let error = refusal(&handler("0.2.0-draft", imports, types));
    let wanted = "imports wasi:messaging@0.2.0-draft with other types than the contract's: ";
    assert!(
        error.contains(wanted) && error.contains("message.topic"),
        "{error}"
    );
    let right = imports.replace("(result string)))))", "(result (option string))))))");
    let bytes = wat::parse_str(handler("0.2.0-draft", &right, types)).expect("a component");
    let plugin = load(PluginSpec::new("traps", Source::Bytes(bytes.into())));
    let mut instance = plugin.instantiate(None).expect("an instance");
    let error = call(&mut instance, &[order("")]).expect_err("a trap");
    assert_eq!(error.kind, CallErrorKind::Trap);
    let filter = r#"(component
        (import "wasi:messaging/producer@0.2.0-draft" (instance))
        (instance $i) (export "waypost:plugin/filter@0.1.0" (instance $i)))"#;
    let wanted = "imports wasi:messaging/producer@0.2.0-draft, which this router does not offer; \
                  it does to components that export incoming-handler of the same package";
    let error = refusal(filter);
    assert!(error.ends_with(wanted), "{error}");
}
