//! Publish, confirm, deliver, and every word that a consumer can say.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use waypost_client::{Code, ConsumerOptions, ExceptionKind, Level, Message};

use crate::harness::{self, Setup, Taken, ack, drain, messages, publish, publish_all, take};
use crate::raw::{self, Raw};

const QUEUE: &str = r#"
[[queue]]
name = "q"
from = ["a/#"]
"#;

#[test]
fn stored_consumed_acked_and_its_space_given_back() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        for (index, confirmed) in publish(&client, &messages("a/b", 10))
            .await
            .into_iter()
            .enumerate()
        {
            assert_eq!(confirmed.sequence, index as u64 + 1);
            assert_eq!(confirmed.level, Level::Stored);
            assert_eq!(confirmed.exception, None);
        }
        let state = harness::queue(&client, "q").await;
        assert_eq!(
            (state.messages, state.next_offset - state.first_offset),
            (10, 10)
        );
        assert!(state.bytes > 0);

        let mut consumer = harness::consumer(&client, "q", "g").await;
        let taken = take(&mut consumer, 10).await;
        let texts: Vec<String> = taken.iter().map(Taken::text).collect();
        assert_eq!(texts, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        assert!(taken.iter().all(|t| t.attempt == 1));
        assert!(taken.windows(2).all(|w| w[1].offset == w[0].offset + 1));
        let group = harness::group(&client, "q", "g").await;
        assert_eq!(
            (group.pending, group.in_flight, group.consumers),
            (10, 10, 1)
        );

        ack(&consumer, &taken);
        consumer.close().await.unwrap();
        let group = harness::group(&client, "q", "g").await;
        assert_eq!((group.pending, group.in_flight, group.consumers), (0, 0, 0));
        assert_eq!(group.acked_below, taken[9].offset + 1);
        let state = harness::queue(&client, "q").await;
        assert_eq!((state.messages, state.first_offset), (0, state.next_offset));
        assert_eq!(state.acked, 10);
        node.stop().await;
    });
}

#[test]
fn order_holds_for_each_producer() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let producer = |name: &'static str| {
            let node = &node;
            async move {
                let client = node.client().await;
                publish_all(&client, &messages(&format!("a/{name}"), 500)).await;
            }
        };
        tokio::join!(producer("x"), producer("y"), producer("z"));
        let client = node.client().await;
        let mut next: HashMap<String, usize> = HashMap::new();
        for taken in drain(&client, "q", "g", 1500).await {
            let expected = next.entry(taken.message.topic.clone()).or_default();
            assert_eq!(
                taken.text(),
                expected.to_string(),
                "{}",
                taken.message.topic
            );
            *expected += 1;
        }
        assert_eq!(next.len(), 3);
        node.stop().await;
    });
}

#[test]
fn a_group_shares_and_another_has_everything_of_its_own() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        let raw = Raw::connect(&node).await;
        let (mut one, mut two) = (raw.consumer("q", "g").await, raw.consumer("q", "g").await);
        one.credit(10, 1 << 20).await;
        two.credit(10, 1 << 20).await;
        publish_all(&client, &messages("a", 20)).await;
        let mut seen = BTreeSet::new();
        for consumer in [&mut one, &mut two] {
            for deliver in consumer.deliveries(10).await {
                for index in 0..deliver.slab.count() {
                    assert!(seen.insert(deliver.position(index).0), "delivered twice");
                }
            }
        }
        assert_eq!(seen.len(), 20);
        assert_eq!(drain(&client, "q", "other", 20).await.len(), 20);
        assert_eq!(harness::group(&client, "q", "g").await.in_flight, 20);
        one.close().await;
        two.close().await;
        node.stop().await;
    });
}

#[test]
fn credit_is_kept_in_messages_and_in_bytes() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a", 10)).await;
        let raw = Raw::connect(&node).await;
        let mut consumer = raw.consumer("q", "g").await;
        // Nothing comes before credit: the queue says so after the node has seen the stream.
        assert_eq!(harness::group(&client, "q", "g").await.in_flight, 0);
        consumer.credit(3, 1 << 20).await;
        consumer.deliveries(3).await;
        assert_eq!(harness::group(&client, "q", "g").await.in_flight, 3);
        // A repeated or smaller total changes nothing; a larger one counts from the beginning.
        consumer.credit(3, 1 << 20).await;
        consumer.credit(1, 1).await;
        consumer.credit(5, 1 << 20).await;
        consumer.deliveries(2).await;
        assert_eq!(harness::group(&client, "q", "g").await.in_flight, 5);
        consumer.close().await;

        let mut consumer = raw.consumer("q", "bytes").await;
        consumer.credit(100, 1).await;
        // One message passes a credit of one byte; the next does not.
        consumer.deliveries(1).await;
        assert_eq!(harness::group(&client, "q", "bytes").await.in_flight, 1);
        consumer.close().await;
        node.stop().await;
    });
}

#[test]
fn what_is_not_acked_comes_again_and_ends_in_the_dead_letters() {
    harness::run(async {
        let queue = r#"
[[queue]]
name = "q"
from = ["a/#"]
ack_deadline = "100ms"
deliver_max = 3
"#;
        let node = Setup::new(queue).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/b", 1)).await;
        let mut consumer = harness::consumer(&client, "q", "g").await;
        for attempt in 1..=3 {
            let taken = take(&mut consumer, 1).await;
            assert_eq!((taken.len(), taken[0].attempt), (1, attempt));
        }
        let dead = drain(&client, "dead-letter", "desk", 1).await.remove(0);
        assert_eq!(
            (dead.text().as_str(), dead.message.topic.as_str()),
            ("0", "a/b")
        );
        let header = |name| dead.header(name).unwrap();
        assert_eq!(
            header("waypost-dead-reason"),
            "3 attempts, the last not acked before its deadline"
        );
        assert_eq!(header("waypost-dead-queue"), "q");
        assert_eq!(header("waypost-dead-group"), "g");
        assert_eq!(header("waypost-dead-attempts"), "3");
        assert_eq!(harness::group(&client, "q", "g").await.pending, 0);
        node.stop().await;
    });
}

#[test]
fn nack_brings_it_again_now_or_later() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a", 3)).await;
        let mut consumer = harness::consumer(&client, "q", "g").await;
        let taken = take(&mut consumer, 3).await;
        let nack = |index: usize, delay| {
            let one = &taken[index];
            consumer
                .nack(one.session, vec![one.range()], delay)
                .unwrap();
        };
        nack(0, Duration::from_millis(150));
        nack(1, Duration::ZERO);
        ack(&consumer, &taken[2..]);
        // The delayed one is overtaken by the one that was given back at once.
        let again = take(&mut consumer, 2).await;
        let seen: Vec<(String, u32)> = again.iter().map(|t| (t.text(), t.attempt)).collect();
        assert_eq!(seen, [("1".to_owned(), 2), ("0".to_owned(), 2)]);
        ack(&consumer, &again);
        consumer.close().await.unwrap();
        assert_eq!(harness::queue(&client, "q").await.messages, 0);
        node.stop().await;
    });
}

#[test]
fn a_reject_goes_to_the_dead_letters_with_its_reason() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        let message = Message::new("a/b", "no").with_header("kind", "odd");
        publish_all(&client, &[message]).await;
        let mut consumer = harness::consumer(&client, "q", "g").await;
        let taken = take(&mut consumer, 1).await.remove(0);
        consumer
            .reject(taken.session, vec![taken.range()], "cannot be read")
            .unwrap();
        consumer.close().await.unwrap();
        let dead = drain(&client, "dead-letter", "desk", 1).await.remove(0);
        assert_eq!(
            dead.header("waypost-dead-reason").unwrap(),
            "rejected by its consumer: cannot be read"
        );
        assert_eq!(dead.header("kind").unwrap(), "odd");
        assert_eq!(
            dead.header("waypost-dead-offset").unwrap(),
            taken.offset.to_string()
        );
        assert_eq!(harness::queue(&client, "q").await.messages, 0);
        node.stop().await;
    });
}

#[test]
fn extend_moves_the_deadline_of_what_it_names_alone() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a", 2)).await;
        let options = ConsumerOptions {
            ack_deadline_ms: 2000,
            ..ConsumerOptions::new("q", "g")
        };
        let mut consumer = client.consumer(options).await.unwrap();
        let taken = take(&mut consumer, 2).await;
        consumer
            .extend(
                taken[0].session,
                vec![taken[0].range()],
                Duration::from_secs(600),
            )
            .unwrap();
        let again = take(&mut consumer, 1).await;
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].text().as_str(), again[0].attempt), ("1", 2));
        ack(&consumer, &taken[..1]);
        ack(&consumer, &again);
        consumer.close().await.unwrap();
        let state = harness::queue(&client, "q").await;
        assert_eq!((state.messages, state.acked), (0, 2));
        node.stop().await;
    });
}

#[test]
fn a_memory_queue_confirms_received_and_is_empty_after_a_restart() {
    harness::run(async {
        let queue = r#"
[[queue]]
name = "m"
durability = "memory"
from = ["m/#"]
"#;
        let node = Setup::new(queue).start().await;
        let client = node.client().await;
        for confirmed in publish(&client, &messages("m/1", 5)).await {
            assert_eq!(
                (confirmed.level, confirmed.exception),
                (Level::Received, None)
            );
        }
        drain(&client, "m", "g", 5).await;
        publish_all(&client, &messages("m/1", 2)).await;
        client.close().await;
        let node = node.restart().await;
        let client = node.client().await;
        let state = harness::queue(&client, "m").await;
        assert_eq!((state.messages, state.groups.len()), (0, 0));
        node.stop().await;
    });
}

#[test]
fn a_message_for_a_memory_and_a_durable_queue_has_the_weaker_level() {
    harness::run(async {
        let queues = r#"
[[queue]]
name = "m"
durability = "memory"
from = ["both"]
[[queue]]
name = "q"
from = ["both", "one"]
"#;
        let node = Setup::new(queues).start().await;
        let client = node.client().await;
        let both = publish(&client, &messages("both", 1)).await;
        assert_eq!(both[0].level, Level::Received);
        let one = publish(&client, &messages("one", 1)).await;
        assert_eq!(one[0].level, Level::Stored);
        assert_eq!(harness::queue(&client, "q").await.messages, 2);
        assert_eq!(harness::queue(&client, "m").await.messages, 1);
        node.stop().await;
    });
}

#[test]
fn nowhere_to_go_is_said_of_each_message() {
    harness::run(async {
        let sections = r#"
[[queue]]
name = "q"
from = ["a/#"]
[[route]]
name = "bin"
from = "bin/#"
to = ["drop"]
"#;
        let node = Setup::new(sections).start().await;
        let client = node.client().await;
        let topics = ["a/1", "b/1", "bin/1", "a/2"];
        let batch: Vec<Message> = topics.iter().map(|t| Message::new(*t, "x")).collect();
        let confirmed = publish(&client, &batch).await;
        let said = |index: usize| {
            let exception = confirmed[index].exception.clone().unwrap();
            (exception.kind, exception.code, exception.text)
        };
        assert_eq!(confirmed[0].exception, None);
        assert_eq!(
            said(1),
            (
                ExceptionKind::Unroutable,
                Code::Unroutable,
                "no route, queue or subscriber takes this topic".to_owned()
            )
        );
        assert_eq!(
            (said(2).0, said(2).1),
            (ExceptionKind::Dropped, Code::Closed)
        );
        assert_eq!(confirmed[3].exception, None);
        assert_eq!(harness::queue(&client, "q").await.messages, 2);
        node.stop().await;
    });
}

#[test]
fn a_full_queue_refuses_and_takes_again_once_there_is_room() {
    harness::run(async {
        let queue = r#"
[[queue]]
name = "q"
from = ["a"]
messages_max = 5
"#;
        let node = Setup::new(queue).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a", 5)).await;
        let refused = publish(&client, &messages("a", 1)).await.remove(0);
        let exception = refused.exception.unwrap();
        assert_eq!(
            (exception.kind, exception.code),
            (ExceptionKind::Refused, Code::QueueFull)
        );
        assert!(exception.text.contains("'q'"), "{}", exception.text);
        drain(&client, "q", "g", 5).await;
        // In one batch or in several: as many as there is room for.
        let confirmed = publish(&client, &messages("a", 9)).await;
        let taken: Vec<bool> = confirmed.iter().map(|c| c.exception.is_none()).collect();
        assert_eq!(
            taken,
            [true, true, true, true, true, false, false, false, false]
        );
        node.stop().await;
    });
}

/// One queue, two filters that overlap, two routes to it, and batches of several topics with a
/// refused message among them: each message is there as often as routes lead it there, in order.
#[test]
fn overlapping_ways_to_one_queue_lose_nothing() {
    harness::run(async {
        let config = "[[queue]]\nname = \"q\"\nfrom = [\"a/#\", \"a/b\"]\n\
             [[queue]]\nname = \"r\"\n\
             [[route]]\nname = \"one\"\nfrom = \"a/#\"\nto = [\"queue:r\"]\n\
             [[route]]\nname = \"two\"\nfrom = \"a/b\"\nto = [\"queue:r\"]\n";
        let node = Setup::new(config).start().await;
        let client = node.client().await;
        let raw = Raw::connect(&node).await;
        let mut publisher = raw.publisher(0).await;
        let topics = ["a/b", "a/c", "a/b", "$no", "a/b"];
        let message = |(n, topic): (usize, &&str)| Message::new(*topic, n.to_string());
        let batch: Vec<Message> = topics.iter().enumerate().map(message).collect();
        publisher.send(&raw::publish(1, &batch)).await;
        let confirm = publisher.confirm().await;
        assert_eq!((confirm.up_to, confirm.level), (5, Level::Stored));
        assert_eq!(confirm.exceptions.len(), 1);
        let texts = |taken: Vec<Taken>| taken.iter().map(|t| t.text()).collect::<Vec<_>>();
        assert_eq!(
            texts(drain(&client, "q", "g", 4).await),
            ["0", "1", "2", "4"]
        );
        let twice = ["0", "0", "1", "2", "2", "4", "4"];
        assert_eq!(texts(drain(&client, "r", "g", 7).await), twice);
        assert_eq!(harness::queue(&client, "q").await.next_offset, 4);
        client.close().await;
        node.stop().await;
    });
}

/// A purge takes what consumers hold; they are not counted as full afterwards.
#[test]
fn a_purge_frees_those_who_held_what_it_took() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/b", 20)).await;
        let mut consumer = harness::consumer(&client, "q", "g").await;
        let held = take(&mut consumer, 20).await;
        assert_eq!(client.queue_purge("q").await.unwrap(), 20);
        ack(&consumer, &held);
        publish_all(&client, &messages("a/b", 30)).await;
        let taken = take(&mut consumer, 30).await;
        assert_eq!(taken[0].offset, 20);
        ack(&consumer, &taken);
        consumer.close().await.unwrap();
        assert_eq!(harness::queue(&client, "q").await.messages, 0);
        client.close().await;
        node.stop().await;
    });
}
