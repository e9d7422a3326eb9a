//! Management over `waypost/1`, and the admin page.

use std::io::{Read, Write};
use std::net::TcpStream;

use waypost_client::{Code, Error, Message};
use waypost_wire::control::QueueSettings;

use crate::harness::{self, Setup, TestNode, blocking, consumer, drain, messages, publish_all};

fn settings(from: &str) -> QueueSettings {
    QueueSettings {
        from: vec![from.to_owned()],
        ..QueueSettings::default()
    }
}

fn refusal<T>(result: Result<T, Error>) -> (Code, String) {
    match result.err().expect("it is refused") {
        Error::Refused { code, message, .. } => (code, message),
        other => panic!("{other}"),
    }
}

#[test]
fn queues_are_added_looked_at_emptied_and_removed() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let client = node.client().await;
        client.queue_add("q", settings("a/#")).await.unwrap();
        // The same again is no error; other settings are.
        client.queue_add("q", settings("a/#")).await.unwrap();
        assert_eq!(
            refusal(client.queue_add("q", settings("b")).await),
            (
                Code::Exists,
                "queue 'q' exists with other settings".to_owned()
            )
        );
        publish_all(&client, &messages("a/b", 10)).await;
        let listed = client.queue_list().await.unwrap().queues;
        let names: Vec<(&str, u64)> = listed
            .iter()
            .map(|q| (q.name.as_str(), q.messages))
            .collect();
        assert_eq!(names, [("dead-letter", 0), ("q", 10)]);
        assert_eq!(listed[1].source, "network");

        let first = listed[1].first_offset;
        let peeked = client.queue_peek("q", first + 3, 4).await.unwrap();
        let offsets: Vec<u64> = peeked.messages.iter().map(|m| m.offset).collect();
        assert_eq!(offsets, [3, 4, 5, 6].map(|n| first + n));
        assert_eq!(peeked.next_offset, first + 7);
        assert!(peeked.messages[0].receive_time_ms > 1_700_000_000_000);
        // Peeking takes nothing.
        assert_eq!(harness::queue(&client, "q").await.messages, 10);

        let mut holder = consumer(&client, "q", "g").await;
        harness::take(&mut holder, 10).await;
        assert_eq!(client.queue_purge("q").await.unwrap(), 10);
        assert_eq!(harness::queue(&client, "q").await.messages, 0);
        assert_eq!(harness::group(&client, "q", "g").await.pending, 0);
        publish_all(&client, &messages("a/b", 2)).await;
        let taken = harness::take(&mut holder, 2).await;
        assert_eq!(taken[0].offset, first + 10);

        assert_eq!(client.queue_remove("q").await.unwrap(), 2);
        let after = harness::publish(&client, &messages("a/b", 1)).await;
        assert!(after[0].exception.is_some(), "its route is gone with it");
        node.stop().await;
    });
}

#[test]
fn what_cannot_be_done_is_said_precisely() {
    harness::run(async {
        let node = Setup::new("[[queue]]\nname = \"q\"\n").start().await;
        let client = node.client().await;
        for name in ["", "a b", "a/b", &"x".repeat(129)] {
            assert_eq!(
                refusal(client.queue_add(name, QueueSettings::default()).await),
                (
                    Code::Invalid,
                    format!("queue '{name}': 1 to 128 of a-z, A-Z, 0-9, '.', '_' and '-' expected")
                )
            );
        }
        let (code, said) = refusal(client.queue_add("x", settings("a/#/b")).await);
        assert_eq!(code, Code::Invalid);
        assert!(
            said.starts_with("queue 'x': ") && said.contains("a/#/b"),
            "{said}"
        );
        let unknown = QueueSettings {
            durability: 9,
            ..QueueSettings::default()
        };
        let (code, said) = refusal(client.queue_add("x", unknown).await);
        assert_eq!(code, Code::Invalid, "{said}");
        let configured = "queue 'q' is named by the configuration, which is the truth for it";
        assert_eq!(
            refusal(client.queue_add("q", settings("b")).await),
            (Code::Exists, configured.to_owned())
        );
        assert_eq!(
            refusal(client.queue_remove("q").await),
            (Code::Exists, configured.to_owned())
        );
        let (_, said) = refusal(client.queue_remove("dead-letter").await);
        assert!(said.contains("'dead-letter'"), "{said}");
        assert_eq!(harness::queue(&client, "dead-letter").await.messages, 0);
        node.stop().await;
    });
}

const ROUTED: &str = r#"
[[queue]]
name = "major"
[[plugin]]
name = "strong"
builtin = "quake-magnitude"
settings = { min-magnitude = 3 }
[[route]]
name = "strong-quakes"
from = "quakes/+/raw"
through = ["strong"]
to = ["queue:major"]
"#;

#[test]
fn the_node_and_its_plugins_are_described_and_a_message_explained() {
    harness::run(async {
        let node = Setup::new(ROUTED).start().await;
        let client = node.client().await;
        let info = client.node_info().await.unwrap();
        assert_eq!(info.name, "e2e");
        assert_eq!((info.connections, info.queues), (1, 2));
        assert_eq!((info.plugins, info.routes), (1, 1));
        assert_eq!(info.alarms, Vec::<String>::new());
        assert!(info.server.starts_with("waypost/"));

        let quake = |mag: f64| {
            let payload = format!("{{\"properties\":{{\"mag\":{mag}}}}}");
            Message::new("quakes/us/raw", payload)
        };
        publish_all(&client, &[quake(4.5)]).await;
        let plugins = client.plugin_list().await.unwrap().plugins;
        let [plugin] = &plugins[..] else {
            panic!("{plugins:?}")
        };
        assert_eq!(
            (plugin.name.as_str(), plugin.role.as_str()),
            ("strong", "filter")
        );
        assert_eq!(plugin.source, "builtin:quake-magnitude");
        assert_eq!(plugin.digest.len(), 64);
        assert_eq!((plugin.calls, plugin.messages, plugin.failures), (1, 1, 0));

        let explained = client.explain(&quake(4.5)).await.unwrap();
        let steps: Vec<(&str, &str, &str)> = explained
            .steps
            .iter()
            .map(|s| (s.route.as_str(), s.plugin.as_str(), s.verdict.as_str()))
            .collect();
        assert_eq!(
            steps,
            [
                ("strong-quakes", "strong", "pass"),
                ("strong-quakes", "", "to")
            ]
        );
        assert_eq!(explained.destinations, ["queue:major (1)"]);
        let explained = client.explain(&quake(1.0)).await.unwrap();
        assert_eq!(explained.steps[0].verdict, "drop");
        assert!(
            explained.destinations[0]
                .starts_with("dropped: route 'strong-quakes', plugin 'strong'"),
            "{explained:?}"
        );
        // Explaining does nothing.
        assert_eq!(harness::queue(&client, "major").await.messages, 1);
        node.stop().await;
    });
}

/// Status and body of a GET.
async fn get(node: &TestNode, path: &str) -> (u16, String) {
    let address = node.running.admin_addr().unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[test]
fn the_admin_page_tells_health_and_metrics_without_topics() {
    harness::run(async {
        let node = Setup::new(ROUTED).start().await;
        let client = node.client().await;
        client
            .queue_add("q", settings("very/private/topic"))
            .await
            .unwrap();
        publish_all(&client, &messages("very/private/topic", 3)).await;
        drain(&client, "q", "g", 2 + 1).await;
        assert_eq!(get(&node, "/livez").await.0, 200);
        assert_eq!(get(&node, "/readyz").await.0, 200);
        assert_eq!(get(&node, "/nothing").await.0, 404);
        let (status, metrics) = get(&node, "/metrics").await;
        assert_eq!(status, 200);
        assert!(!metrics.contains("private"), "a topic in the metrics");
        let mut samples = 0;
        for line in metrics.lines() {
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(
                name.starts_with("waypost_") || name.starts_with("process_"),
                "{line}"
            );
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(!value.is_nan(), "{line}");
            samples += 1;
        }
        assert!(samples > 20, "{metrics}");
        let sample = |start: &str| {
            let line = metrics.lines().find(|l| l.starts_with(start));
            line.unwrap_or_else(|| panic!("no {start} in\n{metrics}"))
                .rsplit_once(' ')
                .unwrap()
                .1
                .parse::<f64>()
                .unwrap()
        };
        assert_eq!(sample("waypost_received_messages_total"), 3.0);
        assert_eq!(sample("waypost_acked_messages_total"), 3.0);
        assert!(sample("waypost_delivered_bytes_total") > 0.0);
        for path in [
            "/v1/node",
            "/v1/queues",
            "/v1/plugins",
            "/v1/routes",
            "/v1/alarms",
            "/v1/connections",
        ] {
            let (status, body) = get(&node, path).await;
            assert_eq!(status, 200, "{path}");
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert!(json.is_object() || json.is_array(), "{path}");
        }
        node.stop().await;
    });
}
