//! What queues can do beside passing messages on: kinds of groups, filters, places, limits, expiry
//! and dead letters, and groups that the configuration makes.

use std::collections::HashMap;

use waypost_client::wire::control::{GroupAdd, GroupSeek, QueueSettings, Select};
use waypost_client::{Client, Code, Consumer, ConsumerOptions, Filter, GroupKind, Message, Start};

use crate::harness::{
    self, Setup, Taken, ack, consumer, drain, group, messages, peek_all, publish_all, queue, take,
    text,
};

const QUEUE: &str = r##"
[[queue]]
name = "q"
from = ["a/#"]
"##;

async fn of_kind(client: &Client, kind: GroupKind, filters: &[&str]) -> Consumer {
    let mut options = ConsumerOptions::new("q", "g");
    options.kind = kind;
    options.filters = filters.iter().map(|f| Filter::new(*f).unwrap()).collect();
    client.consumer(options).await.unwrap()
}

fn texts(taken: &[Taken]) -> Vec<String> {
    taken.iter().map(Taken::text).collect()
}

/// Messages `0`, `1`, … as text.
fn numbers(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|n| n.to_string()).collect()
}

#[test]
fn an_exclusive_group_hands_over_what_was_not_acked_in_order() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        let mut first = of_kind(&client, GroupKind::Exclusive, &[]).await;
        let mut second = of_kind(&client, GroupKind::Exclusive, &[]).await;
        publish_all(&client, &messages("a", 10)).await;
        let taken = take(&mut first, 10).await;
        assert_eq!(texts(&taken), numbers(0..10));
        ack(&first, &taken[..4]);
        // The second one had nothing so far, or its first would not be 4.
        first.close().await.unwrap();
        let taken = take(&mut second, 6).await;
        assert_eq!(texts(&taken), numbers(4..10));
        ack(&second, &taken);
        second.close().await.unwrap();
        assert_eq!(group(&client, "q", "g").await.pending, 0);

        let refused = client.consumer(ConsumerOptions::new("q", "g")).await;
        let error = refused.err().expect("the group is of another kind");
        assert_eq!(error.code(), Some(Code::Exists), "{error}");
        node.stop().await;
    });
}

#[test]
fn a_key_group_keeps_each_key_in_order_with_one_consumer() {
    const KEYS: usize = 16;
    const EACH: usize = 10;
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        let mut consumers = [
            of_kind(&client, GroupKind::Key, &[]).await,
            of_kind(&client, GroupKind::Key, &[]).await,
        ];
        let mut batch = messages("a", KEYS * EACH);
        for (number, message) in batch.iter_mut().enumerate() {
            message.key = Some((number % KEYS).to_string().into());
        }
        publish_all(&client, &batch).await;
        let mut seen: HashMap<String, (usize, Vec<usize>)> = HashMap::new();
        let mut left = KEYS * EACH;
        while left > 0 {
            let [one, two] = &mut consumers;
            // Whichever has something.
            let (which, taken) = tokio::select! {
                taken = take(one, 1) => (0, taken),
                taken = take(two, 1) => (1, taken),
            };
            left -= taken.len();
            for message in &taken {
                let key = message.message.key.clone().unwrap();
                let key = String::from_utf8_lossy(&key).into_owned();
                let (owner, numbers) = seen.entry(key).or_insert((which, Vec::new()));
                assert_eq!(*owner, which, "a key moved");
                numbers.push(message.text().parse().unwrap());
            }
            ack(&consumers[which], &taken);
        }
        assert_eq!(seen.len(), KEYS);
        for (key, (_, numbers)) in &seen {
            let first: usize = key.parse().unwrap();
            let expected: Vec<usize> = (0..EACH).map(|n| first + n * KEYS).collect();
            assert_eq!(*numbers, expected, "key {key}");
        }
        let owners = seen.values().filter(|(owner, _)| *owner == 0).count();
        assert!(
            (1..KEYS).contains(&owners),
            "{owners} of {KEYS} keys with one"
        );
        for consumer in consumers {
            consumer.close().await.unwrap();
        }
        assert_eq!(group(&client, "q", "g").await.pending, 0);
        node.stop().await;
    });
}

#[test]
fn a_group_with_filters_takes_those_and_is_done_with_the_others() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        let topics = ["a/eu/1", "a/us/1", "a/eu/2", "a/us/2", "a/us/3"];
        let batch: Vec<Message> = topics.iter().map(|t| Message::new(*t, *t)).collect();
        publish_all(&client, &batch).await;
        let mut consumer = of_kind(&client, GroupKind::Shared, &["a/eu/+", "a/us/3"]).await;
        let taken = take(&mut consumer, 3).await;
        assert_eq!(texts(&taken), ["a/eu/1", "a/eu/2", "a/us/3"]);
        ack(&consumer, &taken);
        consumer.close().await.unwrap();
        let state = group(&client, "q", "g").await;
        assert_eq!((state.pending, state.acked_below), (0, 5));
        assert_eq!(state.filters, ["a/eu/+", "a/us/3"]);
        node.stop().await;
    });
}

#[test]
fn what_expires_is_a_dead_letter_and_can_be_put_back() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let client = node.client().await;
        let settings = QueueSettings {
            from: vec!["a/#".into()],
            ttl_ms: 1,
            ..QueueSettings::default()
        };
        client.queue_add("q", settings.clone()).await.unwrap();
        publish_all(&client, &messages("a", 3)).await;
        let mut dead = consumer(&client, "dead-letter", "look").await;
        let taken = take(&mut dead, 3).await;
        assert_eq!(texts(&taken), numbers(0..3));
        assert_eq!(taken[1].header("waypost-dead-queue").as_deref(), Some("q"));
        assert_eq!(taken[1].header("waypost-dead-offset").as_deref(), Some("1"));
        dead.close().await.unwrap();
        let state = harness::queue(&client, "q").await;
        let seen = (state.expired, state.dead_lettered, state.first_time_ms);
        assert_eq!(seen, (3, 3, 0), "{state:?}");
        let state = harness::queue(&client, "dead-letter").await;
        assert!(state.first_time_ms > 1_700_000_000_000, "{state:?}");

        let forever = QueueSettings {
            ttl_ms: 0,
            ..settings
        };
        client.queue_set("q", forever).await.unwrap();
        let one = Select {
            from_offset: 1,
            to_offset: 2,
            ..Select::default()
        };
        let put_back = client
            .redrive("dead-letter", one, None, None)
            .await
            .unwrap();
        assert_eq!((put_back.count, put_back.skipped), (1, 0));
        let again = drain(&client, "q", "g", 1).await;
        assert_eq!(again[0].text(), "1");
        assert_eq!(again[0].header("waypost-dead-reason"), None);
        let left = peek_all(&client, "dead-letter").await;
        let left: Vec<String> = left.iter().map(|(_, m)| text(m)).collect();
        assert_eq!(left, ["0", "2"]);
        node.stop().await;
    });
}

#[test]
fn the_oldest_make_room_and_a_group_goes_on_behind_them() {
    harness::run(async {
        let limited = r##"
[[queue]]
name = "q"
from = ["a/#"]
messages_max = 5
at_limit = "drop-oldest"
"##;
        let node = Setup::new(limited).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a", 2)).await;
        let mut consumer = consumer(&client, "q", "g").await;
        assert_eq!(texts(&take(&mut consumer, 2).await), ["0", "1"]);
        publish_all(&client, &messages("a", 12)).await;
        let state = queue(&client, "q").await;
        assert_eq!((state.messages, state.next_offset), (5, 14));
        assert_eq!(state.dropped, 9);
        consumer.close().await.unwrap();
        assert_eq!(texts(&drain(&client, "q", "g", 5).await), numbers(7..12));
        node.stop().await;
    });
}

#[test]
fn a_group_is_moved_and_what_its_consumer_held_is_taken_back() {
    harness::run(async {
        let kept = r##"
[[queue]]
name = "q"
from = ["a/#"]
retain = "log"
"##;
        let node = Setup::new(kept).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a", 10)).await;
        drain(&client, "q", "g", 10).await;
        let seek = |start: Start, offset: u64| GroupSeek {
            queue: "q".into(),
            group: "g".into(),
            start: start as i32,
            start_offset: offset,
            ..GroupSeek::default()
        };
        assert_eq!(client.group_seek(seek(Start::Offset, 7)).await.unwrap(), 7);
        let mut consumer = consumer(&client, "q", "g").await;
        let held = take(&mut consumer, 3).await;
        assert_eq!(texts(&held), numbers(7..10));
        assert!(held.iter().all(|taken| taken.attempt == 1));
        let begin = seek(Start::Beginning, 0);
        assert_eq!(client.group_seek(begin).await.unwrap(), 0);
        assert_eq!(texts(&take(&mut consumer, 10).await), numbers(0..10));
        consumer.close().await.unwrap();
        assert_eq!(client.group_seek(seek(Start::End, 0)).await.unwrap(), 10);
        assert_eq!(group(&client, "q", "g").await.pending, 0);
        let nobody = GroupSeek {
            group: "nobody".into(),
            ..seek(Start::End, 0)
        };
        let error = client.group_seek(nobody).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::NotFound));
        node.stop().await;
    });
}

#[test]
fn groups_of_the_configuration_are_there_before_their_consumers() {
    harness::run(async {
        let sections = |kind: &str| {
            format!(
                r##"
[[queue]]
name = "q"
from = ["a/#"]
[[queue.group]]
name = "g"
kind = "{kind}"
filters = ["a/1"]
[[queue.group]]
name = "late"
start = "end"
"##
            )
        };
        let node = Setup::new(&sections("exclusive")).start().await;
        let client = node.client().await;
        let batch = [Message::new("a/1", "one"), Message::new("a/2", "two")];
        publish_all(&client, &batch).await;
        assert_eq!(group(&client, "q", "late").await.pending, 2);
        drain(&client, "q", "late", 2).await;
        let mut consumer = of_kind(&client, GroupKind::Exclusive, &["a/1"]).await;
        assert_eq!(texts(&take(&mut consumer, 1).await), ["one"]);
        consumer.close().await.unwrap();

        // Started again with another word in the file, the group stays what it is, and so do its
        // messages; an alarm says so.
        let (mut setup, _) = node.stop().await;
        let home = setup.data_dir().parent().unwrap().to_path_buf();
        setup.config.queues = harness::parse(&home, &sections("shared")).queues;
        let node = setup.start().await;
        let client = node.client().await;
        let state = group(&client, "q", "g").await;
        assert_eq!((state.kind(), state.pending), (GroupKind::Exclusive, 2));
        assert_eq!(group(&client, "q", "late").await.pending, 0);
        let alarms = client.node_info().await.unwrap().alarms;
        assert!(alarms.iter().any(|a| a.contains("q/g")), "{alarms:?}");
        node.stop().await;
    });
}

#[test]
fn a_group_ordered_by_key_and_priorities_exclude_each_other_whichever_comes_first() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let client = node.client().await;
        let levels = QueueSettings {
            priorities: 3,
            ..QueueSettings::default()
        };
        let keyed = |queue: &str| GroupAdd {
            queue: queue.into(),
            group: "g".into(),
            kind: GroupKind::Key as i32,
            ..GroupAdd::default()
        };
        client.queue_add("levels", levels.clone()).await.unwrap();
        let error = client.group_add(keyed("levels")).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Unsupported), "{error}");
        client
            .queue_add("keys", QueueSettings::default())
            .await
            .unwrap();
        client.group_add(keyed("keys")).await.unwrap();
        let error = client.queue_set("keys", levels).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Unsupported), "{error}");
        node.stop().await;
    });
}
