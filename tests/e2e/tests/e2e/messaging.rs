//! Guests of `wasi:messaging` on a node: a route through one, what it sends, and what becomes of
//! messages that it fails on.

use waypost_client::{Code, ExceptionKind, Message};

use crate::harness::{self, Setup, drain, peek_all, publish, publish_all, repository, text};

/// A route from `in/#` through the guest to `q`, and a queue of what it sends.
fn through(more: &str) -> String {
    let file = repository("tests/fixtures/plugins/puppet-messaging.wasm");
    format!(
        "[[queue]]\nname = \"q\"\n[[queue]]\nname = \"other\"\nfrom = [\"other/#\"]\n\
         [[plugin]]\nname = \"p\"\nfile = {file:?}\n{more}\n\
         [[route]]\nname = \"r\"\nfrom = \"in/#\"\nthrough = [\"p\"]\nto = [\"queue:q\"]\n"
    )
}

const GRANTED: &str = "grants = [\"publish\"]\npublish = [\"other/#\"]\n";

fn order(payload: &str, to: &str, orders: &str) -> Message {
    Message::new("in/x", payload.to_owned())
        .with_header("do", orders.to_owned())
        .with_header("to", to.to_owned())
}

async fn texts(client: &waypost_client::Client, queue: &str) -> Vec<String> {
    let kept = peek_all(client, queue).await;
    kept.iter().map(|(_, message)| text(message)).collect()
}

#[test]
fn a_guest_passes_messages_on_and_sends_where_it_may() {
    harness::run(async {
        let node = Setup::new(&through(GRANTED)).start().await;
        let client = node.client().await;
        let batch = [
            order("one", "other/a", "upper"),
            // Its own copy is changed, not what is on the route.
            order("two", "", "data changed"),
            order("three", "elsewhere", "send 1 1"),
        ];
        publish_all(&client, &batch).await;
        assert_eq!(texts(&client, "q").await, ["one", "two", "three"]);
        assert_eq!(texts(&client, "other").await, ["ONE"]);
        let info = client.plugins().info("p").await.unwrap();
        assert_eq!(info.state.unwrap().role, "filter");
        let sending = "wasi:messaging/producer.send".to_owned();
        assert!(info.imports.contains(&sending));
        node.stop().await;
    });
}

#[test]
fn a_message_that_a_guest_fails_on_meets_on_error_and_no_other_does() {
    harness::run(async {
        let node = Setup::new(&through(GRANTED)).start().await;
        let client = node.client().await;
        let cases = [
            ("upper;fail timeout", "error: timeout"),
            ("upper;fail other why", "error: other: why"),
            ("upper;trap", "trap: "),
            ("upper;loop", "deadline: "),
            ("upper;keep 4096 1", "memory: more than 4096 messages"),
            (
                "forward",
                "error: permission-denied: topic 'elsewhere' is not granted",
            ),
        ];
        for (number, (orders, reason)) in cases.into_iter().enumerate() {
            let to = match orders {
                "forward" => "elsewhere",
                _ => "other/guilty",
            };
            let batch = [
                order("first", "other/a", "upper"),
                order("guilty", to, orders),
                order("last", "other/a", "upper"),
            ];
            let confirmed = publish(&client, &batch).await;
            assert_eq!(
                (&confirmed[0].exception, &confirmed[2].exception),
                (&None, &None),
                "{orders}"
            );
            let exception = confirmed[1].exception.clone().unwrap();
            assert_eq!(
                (exception.kind, exception.code),
                (ExceptionKind::DeadLettered, Code::PluginFailed)
            );
            let start = format!("route 'r', plugin 'p': {reason}");
            assert!(exception.text.starts_with(&start), "{}", exception.text);
            let dead = drain(&client, "dead-letter", "desk", 1).await.remove(0);
            assert_eq!(dead.text(), "guilty");
            let said = dead.header("waypost-dead-reason").unwrap_or_default();
            assert!(said.starts_with(reason), "{said}");
            // What was sent for the others is there once, whatever was tried again.
            let sent = texts(&client, "other").await;
            assert_eq!(sent, ["FIRST", "LAST"].repeat(number + 1), "{orders}");
        }
        node.stop().await;
    });
}

#[test]
fn a_guest_that_gives_nothing_but_errors_goes_out_of_service() {
    harness::run(async {
        let breaker = "on_error = \"reject\"\nbreaker = { failures = 3, pause = \"1m\" }";
        let node = Setup::new(&through(breaker)).start().await;
        let client = node.client().await;
        let fails = async |want: &str| {
            let confirmed = publish(&client, &[order("x", "", "fail other why")]).await;
            let exception = confirmed[0].exception.clone().unwrap();
            assert!(exception.text.contains(want), "{exception:?}");
        };
        // Others between are a sign of life, in the same call or in one of their own.
        for _ in 0..4 {
            fails("error: other: why").await;
            let both = [order("good", "", ""), order("x", "", "fail other why")];
            let confirmed = publish(&client, &both).await;
            assert_eq!(confirmed[0].exception, None);
            assert!(confirmed[1].exception.is_some());
        }
        assert_eq!(node.running.alarms(), Vec::<String>::new());
        let info = client.plugins().info("p").await.unwrap();
        assert!(info.errors[0].text.contains("other: why"), "{info:?}");
        for _ in 0..3 {
            fails("error: other: why").await;
        }
        fails("out of service").await;
        assert_eq!(node.running.alarms().len(), 1);
        assert_eq!(texts(&client, "q").await, ["good"; 4]);
        node.stop().await;
    });
}

#[test]
fn on_error_and_grants_are_the_configurations() {
    harness::run(async {
        // Without the grant it runs, and what it sends is refused.
        let lenient = Setup::new(&through("on_error = \"pass\"")).start().await;
        let client = lenient.client().await;
        publish_all(&client, &[order("one", "other/a", "upper")]).await;
        assert_eq!(texts(&client, "q").await, ["one"]);
        assert_eq!(harness::queue(&client, "other").await.messages, 0);
        lenient.stop().await;
        let strict = Setup::new(&through("on_error = \"reject\"")).start().await;
        let client = strict.client().await;
        let confirmed = publish(&client, &[order("one", "other/a", "upper")]).await;
        let exception = confirmed[0].exception.clone().unwrap();
        assert_eq!(
            (exception.kind, exception.code),
            (ExceptionKind::Refused, Code::PluginFailed)
        );
        let wanted = "error: permission-denied: topic 'other/a' is not granted";
        assert!(exception.text.ends_with(wanted), "{}", exception.text);
        strict.stop().await;
        let (_, error) = Setup::new(&through("role = \"route\"")).refused().await;
        let wanted = "which runs in the role filter, and the role route was asked for";
        assert!(error.contains(wanted), "{error}");
    });
}
