//! Stock plugins on a week of real events, and guests that do what a guest must not: only the
//! guilty message is hurt, and its dead letter explains.

use std::collections::BTreeMap;

use waypost_client::{Code, Confirmed, ExceptionKind, Level, Message};
use waypost_node::config::{Config, RoleConfig};

use crate::harness::{
    self, Setup, TestNode, drain, messages, peek_all, publish, publish_all, repository, text,
};

/// Three routes through the puppet in its three roles, one for each `on_error`.
fn puppets() -> String {
    let file = repository("tests/fixtures/plugins/puppet.wasm");
    let plugin = |name: &str, role: &str, on_error: &str| {
        format!(
            "[[plugin]]\nname = \"{name}\"\nfile = {file:?}\nrole = \"{role}\"\n\
             on_error = \"{on_error}\"\n\
             limits = {{ memory_bytes = \"8MiB\", output_bytes = \"1MiB\", deadline = \"20ms\" }}\n\
             retry = {{ attempts = 1, pause = \"10ms\", pause_max = \"10ms\" }}\n"
        )
    };
    let route = |name: &str, to: &str| {
        format!(
            "[[route]]\nname = \"by-{name}\"\nfrom = \"{name}/#\"\nthrough = [\"{name}\"]\n\
             to = [{to}]\n"
        )
    };
    [
        "[[queue]]\nname = \"q\"\n[[queue]]\nname = \"r\"\n".to_owned(),
        plugin("transform", "transform", "dead-letter"),
        plugin("route", "route", "dead-letter"),
        plugin("strict", "filter", "reject"),
        plugin("lenient", "filter", "pass"),
        route("transform", "\"queue:q\""),
        route("route", "\"queue:q\", \"queue:r\""),
        route("strict", "\"queue:q\""),
        route("lenient", "\"queue:q\""),
    ]
    .concat()
}

fn order(topic: &str, order: &str) -> Message {
    Message::new(topic, order.to_owned()).with_header("do", order.to_owned())
}

/// Publishes the guilty message in one batch between innocent ones; gives what became of it.
async fn guilty(client: &waypost_client::Client, topic: &str, what: &str) -> Confirmed {
    let batch: Vec<Message> = ["pass", "pass", what, "pass"]
        .map(|what| order(topic, what))
        .to_vec();
    let mut confirmed = publish(client, &batch).await;
    for innocent in [0, 1, 3] {
        assert_eq!(confirmed[innocent].exception, None, "beside {what}");
        assert_eq!(confirmed[innocent].level, Level::Stored);
    }
    confirmed.remove(2)
}

async fn start() -> TestNode {
    Setup::new(&puppets()).start().await
}

#[test]
fn a_guest_that_fails_hurts_its_own_message_and_the_dead_letter_says_why() {
    harness::run(async {
        let node = start().await;
        let client = node.client().await;
        // What the guest is told to do, the word for it, and what the reason must hold.
        let cases = [
            ("trap", "trap", "unreachable"),
            ("loop", "deadline", ""),
            ("hog", "memory", ""),
            ("recurse", "trap", ""),
            ("emit 20 100000", "output", ""),
            ("short", "output", ""),
            ("long", "output", ""),
            ("topic a/+/b", "output", ""),
            ("topic $sys/x", "output", ""),
            ("invalid", "invalid", ""),
            ("unavailable", "unavailable", "2 times"),
            ("internal", "internal", ""),
        ];
        let mut innocent = 0;
        for (what, kind, holds) in cases {
            let confirmed = guilty(&client, "transform/x", what).await;
            innocent += 3;
            let exception = confirmed
                .exception
                .unwrap_or_else(|| panic!("{what} passes"));
            println!("{what}: {}", exception.text);
            assert_eq!(
                (exception.kind, exception.code, confirmed.level),
                (
                    ExceptionKind::DeadLettered,
                    Code::PluginFailed,
                    Level::Stored
                ),
                "{what}: {exception:?}"
            );
            let start = format!("route 'by-transform', plugin 'transform': {kind}: ");
            assert!(
                exception.text.starts_with(&start),
                "{what}: {}",
                exception.text
            );
            assert!(exception.text.contains(holds), "{what}: {}", exception.text);
            let dead = drain(&client, "dead-letter", "desk", 1).await.remove(0);
            assert_eq!(dead.text(), what);
            let header = |name| dead.header(name).unwrap_or_default();
            assert_eq!(header("waypost-dead-plugin"), "transform");
            assert_eq!(header("waypost-dead-route"), "by-transform");
            assert!(
                header("waypost-dead-reason").starts_with(&format!("{kind}: ")),
                "{what}: {}",
                header("waypost-dead-reason")
            );
            if kind == "trap" {
                let backtrace = header("waypost-dead-backtrace");
                assert!(backtrace.contains("wasm function"), "{what}: {backtrace:?}");
            }
        }
        let kept = harness::queue(&client, "q").await.messages;
        assert_eq!(kept, innocent);
        let plugins = client.plugin_list().await.unwrap().plugins;
        let plugin = plugins.iter().find(|p| p.name == "transform").unwrap();
        assert!(plugin.failures >= cases.len() as u64, "{plugin:?}");
        node.stop().await;
    });
}

#[test]
fn a_route_plugin_cannot_choose_what_its_route_does_not_lead_to() {
    harness::run(async {
        let node = start().await;
        let client = node.client().await;
        let confirmed = guilty(&client, "route/x", "to 1,9").await;
        let exception = confirmed.exception.unwrap();
        assert_eq!(exception.kind, ExceptionKind::DeadLettered);
        let start = "route 'by-route', plugin 'route': output: ";
        assert!(exception.text.starts_with(start), "{}", exception.text);
        // `pass` leads to all destinations of the route, `to` to those chosen.
        assert_eq!(harness::queue(&client, "q").await.messages, 3);
        publish_all(&client, &[order("route/x", "to 1")]).await;
        assert_eq!(harness::queue(&client, "q").await.messages, 3);
        assert_eq!(harness::queue(&client, "r").await.messages, 4);
        node.stop().await;
    });
}

#[test]
fn on_error_decides_where_the_guilty_message_goes() {
    harness::run(async {
        let node = start().await;
        let client = node.client().await;
        for what in ["trap", "loop", "short"] {
            let exception = guilty(&client, "strict/x", what).await.exception.unwrap();
            assert_eq!(
                (exception.kind, exception.code),
                (ExceptionKind::Refused, Code::PluginFailed)
            );
            let start = "route 'by-strict', plugin 'strict': ";
            assert!(exception.text.starts_with(start), "{}", exception.text);
            let confirmed = guilty(&client, "lenient/x", what).await;
            assert_eq!(confirmed.exception, None, "{what}");
        }
        // Three innocent of each batch, and the guilty one where it passes.
        assert_eq!(harness::queue(&client, "q").await.messages, 3 * 3 + 3 * 4);
        assert_eq!(harness::queue(&client, "dead-letter").await.messages, 0);
        node.stop().await;
    });
}

#[test]
fn what_a_plugin_says_of_a_message_reaches_its_publisher() {
    harness::run(async {
        let node = start().await;
        let client = node.client().await;
        let say =
            |what: &str, why: &str| order("transform/x", what).with_header("why", why.to_owned());
        let batch = [
            say("drop", "noise"),
            say("reject", "bad unit"),
            say("dead-letter", "odd"),
            say("emit 3 10", ""),
            say("edit", ""),
            say("log 2000", ""),
        ];
        let confirmed = publish(&client, &batch).await;
        let said = |index: usize| {
            let exception = confirmed[index].exception.clone().unwrap();
            (exception.kind, exception.code, exception.text)
        };
        let blame = "route 'by-transform', plugin 'transform'";
        assert_eq!(
            said(0),
            (
                ExceptionKind::Dropped,
                Code::Closed,
                format!("{blame}: noise")
            )
        );
        assert_eq!(
            said(1),
            (
                ExceptionKind::Refused,
                Code::PluginRejected,
                format!("{blame}: bad unit")
            )
        );
        assert_eq!(said(2).0, ExceptionKind::DeadLettered);
        assert_eq!(said(2).2, format!("{blame}: odd"));
        for passed in &confirmed[3..] {
            assert_eq!(passed.exception, None);
        }
        // The edited message lives for 7 ms: it is as it was edited, or gone.
        let kept = peek_all(&client, "q").await;
        let (edited, others): (Vec<_>, Vec<_>) =
            kept.iter().partition(|(_, m)| m.topic == "edited/topic");
        let topics: Vec<&str> = others.iter().map(|(_, m)| m.topic.as_str()).collect();
        assert_eq!(
            topics,
            ["made/here", "made/here", "made/here", "transform/x"]
        );
        for (_, edited) in edited {
            assert_eq!(text(edited), "new payload");
            assert_eq!(edited.content_type.as_deref(), Some("text/new"));
        }
        node.stop().await;
    });
}

#[test]
fn order_holds_when_only_some_messages_meet_a_plugin() {
    harness::run(async {
        let both = format!(
            "{}[[route]]\nname = \"direct\"\nfrom = \"direct\"\nto = [\"queue:q\"]\n",
            puppets()
        );
        let node = Setup::new(&both).start().await;
        let client = node.client().await;
        let batch: Vec<Message> = (0..2000)
            .map(|n| {
                let topic = ["direct", "transform/x"][usize::from(n % 7 == 0)];
                Message::new(topic, n.to_string())
            })
            .collect();
        publish_all(&client, &batch).await;
        for (n, (_, message)) in peek_all(&client, "q").await.iter().enumerate() {
            assert_eq!(text(message), n.to_string());
        }
        assert_eq!(harness::queue(&client, "q").await.messages, 2000);
        node.stop().await;
    });
}

#[test]
fn a_slow_plugin_slows_its_own_publishers_alone() {
    harness::run(async {
        let node = start().await;
        let slow = node.client().await;
        let publisher = slow.publisher(Default::default()).await.unwrap();
        let mut tickets = Vec::new();
        for _ in 0..40 {
            tickets.push(publisher.send(&order("strict/x", "loop")).await.unwrap());
        }
        let quick = node.client().await;
        let settings = waypost_wire::control::QueueSettings {
            from: vec!["quick".to_owned()],
            ..Default::default()
        };
        quick.queue_add("quick", settings).await.unwrap();
        publish_all(&quick, &messages("quick", 1000)).await;
        drain(&quick, "quick", "g", 1000).await;
        for ticket in tickets {
            let exception = ticket.await.unwrap().exception.unwrap();
            assert!(exception.text.contains("deadline"), "{}", exception.text);
        }
        node.stop().await;
    });
}

/// The example's configuration on ephemeral ports, with all rights for the client.
fn quakes() -> Setup {
    let mut setup = Setup::new("");
    let mut config = Config::load(&repository("examples/config/quakes.toml")).unwrap();
    config.node.data_dir = setup.config.node.data_dir.clone();
    config.node.listen = setup.config.node.listen;
    config.node.admin = setup.config.node.admin;
    config.roles.push(RoleConfig::everything("all"));
    config.certificates[0].roles.push("all".to_owned());
    setup.config = config;
    setup
}

/// What one event is to the rules of the example, counted without the plugins.
fn queues_of(event: &serde_json::Value) -> Vec<&'static str> {
    let Some(mag) = event["properties"]["mag"].as_f64() else {
        return Vec::new();
    };
    let at = |index: usize| event["geometry"]["coordinates"][index].as_f64().unwrap();
    let (lon, lat) = (at(0), at(1));
    if mag < 3.0 {
        return Vec::new();
    }
    let is_pacific = (-60.0..=60.0).contains(&lat) && !(-70.0 < lon && lon < 120.0) && mag >= 4.0;
    let mut queues = Vec::new();
    queues.extend((mag >= 5.0).then_some("major"));
    queues.extend(is_pacific.then_some("pacific"));
    if queues.is_empty() {
        queues.push("alerts");
    }
    queues
}

#[test]
fn a_week_of_earthquakes_goes_where_an_independent_count_says() {
    harness::run(async {
        let node = quakes().start().await;
        let client = node.client().await;
        let lines = std::fs::read_to_string(repository("examples/quakes/earthquakes.jsonl"));
        let lines = lines.unwrap();
        let (mut batch, mut expected, mut kept) = (Vec::new(), BTreeMap::new(), 0);
        for line in lines.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let net = event["properties"]["net"].as_str().unwrap();
            let id = event["id"].as_str().unwrap().to_owned();
            batch.push(Message::new(format!("quakes/{net}/raw"), line.to_owned()).with_id(id));
            let queues = queues_of(&event);
            kept += usize::from(!queues.is_empty());
            for queue in queues {
                *expected.entry(queue).or_insert(0) += 1;
            }
        }
        assert_eq!((batch.len(), kept), (1707, 217));
        let confirmed = publish(&client, &batch).await;
        let dropped = confirmed
            .iter()
            .filter_map(|c| c.exception.as_ref())
            .inspect(|e| assert_eq!(e.kind, ExceptionKind::Dropped, "{e:?}"))
            .count();
        assert_eq!(dropped, 1707 - 217);
        for (queue, count) in expected {
            let state = harness::queue(&client, queue).await;
            assert_eq!(state.messages, count, "queue {queue}");
            for (_, message) in peek_all(&client, queue).await {
                assert!(message.message_id.is_some());
                assert!(message.payload.len() < 700, "an alert is compact");
            }
        }
        assert_eq!(harness::queue(&client, "dead-letter").await.messages, 0);
        // Something that is no earthquake does not stop the others.
        let odd = publish(
            &client,
            &[Message::new("quakes/x/raw", "{"), batch.remove(0)],
        )
        .await;
        let exception = odd[0].exception.clone().unwrap();
        assert_eq!(exception.kind, ExceptionKind::DeadLettered, "{exception:?}");
        assert_eq!(
            odd[1].exception.clone().unwrap().kind,
            ExceptionKind::Dropped
        );
        node.stop().await;
    });
}
