//! What plugins do beside their verdicts, and what the node does with those that cannot go on:
//! messages that are tried later, a breaker, state that counts with what caused it, messages of a
//! plugin's own, timers.

use waypost_client::{Code, ExceptionKind, Message, ProducerOptions, PublisherOptions};

use crate::harness::{self, Setup, drain, peek_all, publish, publish_all, repository, take, text};

/// A route from `in/#` through a test guest to `q`.
fn through(guest: &str, role: &str, more: &str) -> String {
    let file = repository(&format!("tests/fixtures/plugins/{guest}.wasm"));
    format!(
        "[[queue]]\nname = \"q\"\n[[queue]]\nname = \"other\"\nfrom = [\"other/#\"]\n\
         [[plugin]]\nname = \"p\"\nfile = {file:?}\nrole = \"{role}\"\n{more}\n\
         [[route]]\nname = \"r\"\nfrom = \"in/#\"\nthrough = [\"p\"]\nto = [\"queue:q\"]\n"
    )
}

fn order(order: &str) -> Message {
    Message::new("in/x", order.to_owned()).with_header("do", order.to_owned())
}

/// What the guest answered to orders, of all messages in the queue.
async fn answers(client: &waypost_client::Client) -> Vec<String> {
    let messages = peek_all(client, "q").await;
    let answer = |(_, message): &(u64, Message)| {
        let found = message.headers.iter().find(|(name, _)| name == "answers");
        let (_, value) = found.expect("the header 'answers'");
        let said = String::from_utf8(value.to_vec()).unwrap();
        said.replace("Ok(", "").replace(')', "")
    };
    messages.iter().map(answer).collect()
}

#[test]
fn a_message_that_is_tried_later_holds_its_own_publisher_and_is_overtaken_by_none() {
    harness::run(async {
        let retry = "retry = { attempts = 4, pause = \"50ms\", pause_max = \"100ms\" }";
        let node = Setup::new(&through("puppet", "filter", retry))
            .start()
            .await;
        let client = node.client().await;
        let publisher = client.publisher(Default::default()).await.unwrap();
        let mut tickets = Vec::new();
        for what in ["pass", "retry", "pass"] {
            tickets.push(publisher.send(&order(what)).await.unwrap());
        }
        // Others go on meanwhile, also through the same plugin.
        let others = node.client().await;
        publish_all(&others, &harness::messages("other/x", 10)).await;
        publish_all(&others, &[order("pass")]).await;
        let mut confirmed = Vec::new();
        for ticket in tickets {
            confirmed.push(ticket.await.unwrap());
        }
        let exception = confirmed[1].exception.clone().unwrap();
        assert_eq!(exception.kind, ExceptionKind::DeadLettered);
        let wanted = "route 'r', plugin 'p': retry: asked to be called later, 5 times";
        assert_eq!(exception.text, wanted);
        assert_eq!(
            (&confirmed[0].exception, &confirmed[2].exception),
            (&None, &None)
        );
        let dead = drain(&client, "dead-letter", "desk", 1).await.remove(0);
        assert_eq!(dead.text(), "retry");
        assert_eq!(harness::queue(&client, "q").await.messages, 3);
        node.stop().await;
    });
}

#[test]
fn a_plugin_that_keeps_failing_is_out_of_service_until_a_message_passes() {
    harness::run(async {
        let breaker = "breaker = { failures = 3, pause = \"300ms\", pause_max = \"300ms\" }";
        let node = Setup::new(&through("puppet", "filter", breaker))
            .start()
            .await;
        let client = node.client().await;
        for _ in 0..3 {
            let confirmed = publish(&client, &[order("trap")]).await.remove(0);
            let text = confirmed.exception.unwrap().text;
            assert!(text.contains("plugin 'p': trap: "), "{text}");
        }
        let alarms = node.running.alarms();
        assert!(
            alarms
                .iter()
                .any(|a| a.starts_with("p: it failed too often")),
            "{alarms:?}"
        );
        // A good message, which is not tried, beside one that would fail.
        let confirmed = publish(&client, &[order("pass"), order("trap")]).await;
        for confirmed in confirmed {
            let exception = confirmed.exception.unwrap();
            assert_eq!(
                (exception.kind, exception.code),
                (ExceptionKind::DeadLettered, Code::PluginFailed)
            );
            assert!(
                exception.text.contains("out of service: "),
                "{}",
                exception.text
            );
        }
        // Until one passes.
        while publish(&client, &[order("pass")]).await[0]
            .exception
            .is_some()
        {}
        assert_eq!(node.running.alarms(), Vec::<String>::new());
        assert_eq!(publish(&client, &[order("pass")]).await[0].exception, None);
        node.stop().await;
    });
}

/// The guest imports all of them, whatever it is told to do.
const GRANTS: &str = "grants = [\"log\", \"clock\", \"random\", \"state\", \"publish\", \"timer\"]\n\
                      publish = [\"other/#\"]\n";

#[test]
fn state_counts_with_what_caused_it_and_outlives_restarts() {
    harness::run(async {
        let config = through("puppet-effects", "transform", GRANTS);
        let node = Setup::new(&config).start().await;
        let client = node.client().await;
        for _ in 0..3 {
            publish_all(&client, &[order("add n 1"), order("add n 10")]).await;
        }
        publish_all(&client, &[order("set gone x"), order("remove gone")]).await;
        let said = answers(&client).await;
        assert_eq!(said[..6], ["1", "11", "12", "22", "23", "33"]);
        // Nobody else may touch where it lies.
        let own = "$state.p";
        assert_eq!(harness::queue(&client, own).await.messages, 2);
        assert!(client.queue_purge(own).await.is_err());
        assert!(client.queue_remove(own).await.is_err());
        assert!(client.queue_peek(own, 0, 10).await.is_err());
        client.close().await;
        let node = node.restart().await;
        let client = node.client().await;
        publish_all(&client, &[order("add n 1;get gone")]).await;
        let said = answers(&client).await;
        assert_eq!(said.last().unwrap(), "34;none");
        node.stop().await;
    });
}

/// What a queue of state knows of one producer says nothing of another, also where a batch of the
/// first waits.
#[test]
fn one_producers_numbers_are_not_anothers_while_it_waits() {
    harness::run(async {
        let retry = "retry = { attempts = 4, pause = \"100ms\", pause_max = \"100ms\" }\n";
        let config = through("puppet-effects", "transform", &format!("{GRANTS}{retry}"));
        let node = Setup::new(&config).start().await;
        let client = node.client().await;
        let producer = async |name: &str| {
            let options = PublisherOptions {
                producer: Some(ProducerOptions::named(name)),
                ..PublisherOptions::default()
            };
            client.publisher(options).await.unwrap()
        };
        let first = producer("first").await;
        for _ in 0..5 {
            let ticket = first.send(&order("add n 1")).await.unwrap();
            assert_eq!(ticket.await.unwrap().exception, None);
        }
        let waits = first.send(&order("retry")).await.unwrap();
        // Its own worker has it before what comes now, for there is one.
        let mut second = producer("second").await.send(&order("add n 1")).await;
        let stored = second.as_mut().unwrap().await.unwrap();
        assert_eq!(stored.exception, None);
        let given_up = waits.await.unwrap().exception.unwrap();
        assert_eq!(given_up.kind, ExceptionKind::DeadLettered);
        let third = first.send(&order("add n 1")).await.unwrap();
        assert_eq!(third.await.unwrap().exception, None);
        assert_eq!(answers(&client).await, ["1", "2", "3", "4", "5", "6", "7"]);
        node.stop().await;
    });
}

#[test]
fn what_is_refused_or_fails_leaves_no_state() {
    harness::run(async {
        let config = through("puppet-effects", "transform", GRANTS);
        let config = config.replacen("name = \"q\"", "name = \"q\"\nmessages_max = 3", 1);
        let node = Setup::new(&config).start().await;
        let client = node.client().await;
        // The call is split; what the culprit wrote goes with it.
        let batch = [order("add n 1"), order("add n 100;trap"), order("add n 1")];
        let confirmed = publish(&client, &batch).await;
        assert!(confirmed[1].exception.is_some());
        assert_eq!(answers(&client).await, ["1", "2"]);
        publish_all(&client, &[order("add n 1")]).await;
        // Full: the batch is refused whole, and with it what it wrote.
        for _ in 0..3 {
            let refused = publish(&client, &[order("add n 1000")]).await.remove(0);
            let exception = refused.exception.unwrap();
            assert_eq!(
                (exception.kind, exception.code),
                (ExceptionKind::Refused, Code::QueueFull)
            );
        }
        let mut consumer = harness::consumer(&client, "q", "g").await;
        let taken = take(&mut consumer, 3).await;
        harness::ack(&consumer, &taken);
        consumer.close().await.unwrap();
        publish_all(&client, &[order("add n 1")]).await;
        assert_eq!(answers(&client).await, ["4"]);
        node.stop().await;
    });
}

#[test]
fn a_message_that_is_to_be_sent_again_leaves_no_state() {
    harness::run(async {
        let gate = repository("tests/fixtures/plugins/noop.wasm");
        let gate = format!("[[plugin]]\nname = \"gate\"\nfile = {gate:?}\nrole = \"filter\"\n");
        let config = through("puppet-effects", "transform", &format!("{GRANTS}{gate}"));
        let config = config.replacen("through = [\"p\"]", "through = [\"p\", \"gate\"]", 1);
        let node = Setup::new(&config).start().await;
        let client = node.client().await;
        publish_all(&client, &[order("add n 1")]).await;
        client.plugins().pause("gate", true).await.unwrap();
        for _ in 0..3 {
            let refused = publish(&client, &[order("add n 10"), order("add n 10")]).await;
            for refused in refused {
                let exception = refused.exception.unwrap();
                assert_eq!(exception.kind, ExceptionKind::Refused);
                assert_eq!(
                    exception.code,
                    Code::PluginUnavailable,
                    "{}",
                    exception.text
                );
            }
        }
        client.plugins().resume("gate").await.unwrap();
        publish_all(&client, &[order("add n 10")]).await;
        assert_eq!(answers(&client).await, ["1", "11"]);
        node.stop().await;
    });
}

#[test]
fn what_a_plugin_publishes_is_routed_and_what_wakes_it_needs_no_message() {
    harness::run(async {
        let settings =
            "settings = { init = \"timer 20\", wake = \"publish other/tick 1 7;timer 20\" }";
        let more = format!("{GRANTS}{settings}");
        let node = Setup::new(&through("puppet-effects", "transform", &more))
            .start()
            .await;
        let client = node.client().await;
        let ticks = drain(&client, "other", "g", 3).await;
        assert!(ticks.iter().all(|tick| tick.text().len() == 7));
        publish_all(
            &client,
            &[
                order("publish other/own 2 3"),
                order("publish forbidden 1 3"),
            ],
        )
        .await;
        let (mut own, mut consumer) = (0, harness::consumer(&client, "other", "h").await);
        while own < 2 {
            for taken in take(&mut consumer, 1).await {
                own += usize::from(taken.text().len() == 3);
                harness::ack(&consumer, &[taken]);
            }
        }
        let kept = peek_all(&client, "q").await;
        assert_eq!(
            kept.len(),
            2,
            "{:?}",
            kept.iter().map(|(_, m)| text(m)).collect::<Vec<_>>()
        );
        node.stop().await;
    });
}
