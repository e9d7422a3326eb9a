//! Many queues, many consumers of all sorts, and a message that nobody wants beside good ones.
//!
//! The short forms are part of every test run; the long ones, with ten thousand, are `--ignored`.
//! What a crowd costs is measured by `waypost bench suite --only many`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use waypost_client::wire::control::QueueSettings;
use waypost_client::{Client, Consumer, ConsumerOptions, GroupKind, Message, Range};
use waypost_wire::data::ConsumerFrame;

use crate::child::Child;
use crate::harness::{
    self, Setup, Taken, ack, drain, group, messages, peek_all, publish_all, take,
};
use crate::raw::{Raw, consumer_frame};

#[test]
fn many_queues_short() {
    harness::run(many_queues(200));
}

/// `cargo test --workspace --test e2e many_queues_long -- --ignored`: a minute or two.
#[test]
#[ignore = "takes minutes"]
fn many_queues_long() {
    harness::run(many_queues(10_000));
}

/// Each gets its own messages; a third is emptied before the kill, the rest after it.
async fn many_queues(count: usize) {
    let home = TempDir::with_prefix("waypost-crowd-").unwrap();
    let child = Child::start(home.path(), "").await;
    let client = child.client().await;
    for n in 0..count {
        let settings = QueueSettings {
            from: vec![format!("many/{n}/#")],
            ..QueueSettings::default()
        };
        client.queue_add(format!("q{n}"), settings).await.unwrap();
    }
    let batch: Vec<Message> = (0..2 * count)
        .map(|n| Message::new(format!("many/{}/x", n % count), n.to_string()))
        .collect();
    publish_all(&client, &batch).await;
    let drained = async |client: &Client, numbers: Vec<usize>| {
        for n in numbers {
            let taken = drain(client, &format!("q{n}"), "g", 2).await;
            let texts: Vec<String> = taken.iter().map(Taken::text).collect();
            assert_eq!(texts, [n.to_string(), (n + count).to_string()]);
        }
    };
    drained(&client, (0..count).filter(|n| n % 3 == 0).collect()).await;
    child.kill().await;

    let child = Child::start(home.path(), "").await;
    let client = child.client().await;
    let queues = client.queue_list().await.unwrap().queues;
    assert_eq!(queues.len(), count + 1, "with the dead letters");
    for queue in queues.iter().filter(|q| q.name != "dead-letter") {
        let n: usize = queue.name[1..].parse().unwrap();
        let held = if n.is_multiple_of(3) { 0 } else { 2 };
        assert_eq!((queue.messages, queue.next_offset), (held, 2), "q{n}");
    }
    drained(&client, (0..count).filter(|n| n % 3 != 0).collect()).await;
    // Removed, they leave no routes.
    for n in 0..count {
        client.queue_remove(format!("q{n}")).await.unwrap();
    }
    let after = harness::publish(&client, &batch[..1]).await;
    assert!(after[0].exception.is_some(), "its route is gone with it");
    child.stop().await;
}

#[test]
fn many_consumers_short() {
    harness::run(many_consumers(40));
}

/// `cargo test --workspace --test e2e many_consumers_long -- --ignored`: a minute or two.
#[test]
#[ignore = "takes minutes"]
fn many_consumers_long() {
    harness::run(many_consumers(2_500));
}

/// So many consumers of each sort in one group: some take what they get and say nothing, some are
/// gone with their connection, some speak of what they do not hold, and some do their work. The
/// last must get all messages, however the others behave.
async fn many_consumers(each: usize) {
    let queue = "[[queue]]\nname = \"q\"\nfrom = [\"a/#\"]\nack_deadline = \"500ms\"\n\
                 deliver_max = 0\n";
    let setup = Setup::new(queue).change(|config| {
        config.limits.streams_per_connection = 10_000;
    });
    let node = setup.start().await;
    let client = node.client().await;
    let (stalled, vanishing) = (Raw::connect(&node).await, Raw::connect(&node).await);
    let hostile = Raw::connect(&node).await;
    let mut held = Vec::new();
    let mut liars = Vec::new();
    for _ in 0..each {
        for raw in [&stalled, &vanishing] {
            let mut consumer = raw.consumer("q", "g").await;
            consumer.credit(1, 1 << 20).await;
            held.push(consumer);
        }
        liars.push(hostile.consumer("q", "g").await);
    }
    let count = 10 * each;
    publish_all(&client, &messages("a/x", count)).await;
    // Each of them has its message before anything else happens.
    for consumer in &mut held {
        consumer.deliver().await;
    }
    let all = Range {
        first: 0,
        last: u64::MAX >> 3,
    };
    for liar in &mut liars {
        for frame in [
            ConsumerFrame::Ack(vec![all]),
            ConsumerFrame::AckUpTo(u64::MAX >> 3),
            ConsumerFrame::Nack {
                delay_ms: u64::MAX >> 3,
                ranges: vec![all],
            },
            ConsumerFrame::Reject {
                reason: "lies".into(),
                ranges: vec![all],
            },
        ] {
            liar.send(&consumer_frame(&frame)).await;
        }
    }
    assert_eq!(group(&client, "q", "g").await.consumers as usize, 3 * each);
    vanishing.quic.close(0u32.into(), b"");

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..each {
        let options = ConsumerOptions {
            window_messages: 4,
            ..ConsumerOptions::new("q", "g")
        };
        let consumer = client.consumer(options).await.unwrap();
        tasks.spawn(work(consumer));
    }
    while group(&client, "q", "g").await.pending > 0 {
        tokio::task::yield_now().await;
    }
    client.close().await;
    let (mut seen, mut again) = (HashSet::new(), 0);
    while let Some(taken) = tasks.join_next().await {
        for (text, attempt) in taken.unwrap() {
            again += usize::from(attempt > 1);
            seen.insert(text);
        }
    }
    assert_eq!(seen.len(), count);
    assert!(
        again >= 2 * each,
        "{again} of those that were held came again"
    );
    let client = node.client().await;
    assert_eq!(harness::queue(&client, "dead-letter").await.messages, 0);
    node.stop().await;
}

/// Acks all that comes until the client is closed; texts and attempts.
async fn work(mut consumer: Consumer) -> Vec<(String, u32)> {
    let mut taken = Vec::new();
    while let Ok(Some(batch)) = consumer.next().await {
        for delivery in batch.iter() {
            let message = delivery.record().unwrap().to_message();
            taken.push((harness::text(&message), delivery.attempt));
        }
        let _ = consumer.ack(&batch);
    }
    taken
}

#[test]
fn a_message_that_is_always_nacked_holds_back_no_others() {
    for kind in [GroupKind::Shared, GroupKind::Key] {
        harness::run(nacked(kind));
    }
}

/// The bad message stands first, with a key of its own; behind it stand many others.
async fn nacked(kind: GroupKind) {
    const ATTEMPTS: u32 = 200;
    const GOOD: usize = 500;
    let queue = format!("[[queue]]\nname = \"q\"\nfrom = [\"a/#\"]\ndeliver_max = {ATTEMPTS}\n");
    let node = Setup::new(&queue).start().await;
    let client = node.client().await;
    let keyed =
        |text: &str, key: &str| Message::new("a/x", text.to_owned()).with_key(key.to_owned());
    let mut batch = vec![keyed("bad", "k")];
    batch.extend((0..GOOD).map(|n| keyed(&n.to_string(), &format!("k{}", n % 10))));
    publish_all(&client, &batch).await;
    let options = ConsumerOptions {
        kind,
        window_messages: 8,
        ..ConsumerOptions::new("q", "g")
    };
    let mut consumer = client.consumer(options).await.unwrap();
    let (mut attempts, mut good, mut before_end) = (0, 0, 0);
    while good < GOOD {
        for taken in take(&mut consumer, 1).await {
            if taken.text() == "bad" {
                attempts += 1;
                assert_eq!(taken.attempt, attempts, "each attempt is counted once");
                let ranges = vec![taken.range()];
                consumer
                    .nack(taken.session, ranges, Duration::ZERO)
                    .unwrap();
                continue;
            }
            assert_eq!(taken.attempt, 1, "{}", taken.text());
            before_end += usize::from(attempts < ATTEMPTS);
            ack(&consumer, std::slice::from_ref(&taken));
            good += 1;
        }
    }
    assert!(
        before_end > GOOD / 2,
        "{before_end} came before it was given up"
    );
    while attempts < ATTEMPTS {
        let taken = take(&mut consumer, 1).await.remove(0);
        attempts += 1;
        assert_eq!((taken.text().as_str(), taken.attempt), ("bad", attempts));
        let ranges = vec![taken.range()];
        consumer
            .nack(taken.session, ranges, Duration::ZERO)
            .unwrap();
    }
    consumer.close().await.unwrap();
    let dead = peek_all(&client, "dead-letter").await;
    let [(_, dead)] = &dead[..] else {
        panic!("{} dead letters", dead.len());
    };
    let header = |name: &str| {
        let (_, value) = dead.headers.iter().find(|(n, _)| n == name).unwrap();
        String::from_utf8_lossy(value).into_owned()
    };
    assert_eq!(header("waypost-dead-attempts"), ATTEMPTS.to_string());
    assert_eq!(group(&client, "q", "g").await.pending, 0);
    node.stop().await;
}

#[test]
fn a_nacked_message_waits_longer_each_time_and_others_do_not() {
    harness::run(async {
        let queue = "[[queue]]\nname = \"q\"\nfrom = [\"a/#\"]\nbackoff = \"50ms\"\n\
                     backoff_max = \"100ms\"\ndeliver_max = 5\n";
        let node = Setup::new(queue).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/x", 1)).await;
        let mut consumer = harness::consumer(&client, "q", "g").await;
        let mut waits = Vec::new();
        let mut since = Instant::now();
        for attempt in 1..=5 {
            let taken = take(&mut consumer, 1).await.remove(0);
            assert_eq!((taken.attempt, taken.text().as_str()), (attempt, "0"));
            waits.push(since.elapsed());
            // Another is not held back by it, in the meantime or after.
            publish_all(&client, &[Message::new("a/x", "good")]).await;
            let good = take(&mut consumer, 1).await.remove(0);
            assert_eq!((good.attempt, good.text().as_str()), (1, "good"));
            ack(&consumer, &[good]);
            since = Instant::now();
            let ranges = vec![taken.range()];
            consumer
                .nack(taken.session, ranges, Duration::ZERO)
                .unwrap();
        }
        let at_least = [0, 0, 50, 100, 100].map(Duration::from_millis);
        for (waited, least) in waits.iter().zip(at_least) {
            assert!(*waited >= least, "{waits:?}");
        }
        consumer.close().await.unwrap();
        assert_eq!(harness::queue(&client, "dead-letter").await.messages, 1);
        node.stop().await;
    });
}
