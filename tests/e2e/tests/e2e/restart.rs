//! What must be there after a clean stop, and what a start refuses.

use std::time::Duration;

use waypost_client::Message;
use waypost_wire::control::QueueSettings;

use crate::harness::{self, Setup, ack, drain, messages, parse, publish_all, take};

const QUEUE: &str = r#"
[[queue]]
name = "q"
from = ["a/#"]
"#;

#[test]
fn messages_positions_and_attempts_are_there_again() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/b", 20)).await;
        let idle = harness::consumer(&client, "q", "idle").await;
        let mut consumer = harness::consumer(&client, "q", "g").await;
        let taken = take(&mut consumer, 20).await;
        ack(&consumer, &taken[..5]);
        // A hole, and one that was delivered twice.
        ack(&consumer, &taken[7..8]);
        consumer
            .nack(taken[5].session, vec![taken[5].range()], Duration::ZERO)
            .unwrap();
        let again = take(&mut consumer, 1).await.remove(0);
        assert_eq!((again.offset, again.attempt), (taken[5].offset, 2));
        consumer.close().await.unwrap();
        idle.close().await.unwrap();
        client.close().await;

        let node = node.restart().await;
        assert_eq!(node.running.alarms(), Vec::<String>::new());
        let client = node.client().await;
        let group = harness::group(&client, "q", "g").await;
        assert_eq!((group.acked_below, group.pending), (taken[5].offset, 14));
        assert_eq!(harness::group(&client, "q", "idle").await.pending, 20);
        assert_eq!(harness::queue(&client, "q").await.messages, 20);
        let mut left: Vec<(u64, u32, String)> = drain(&client, "q", "g", 14)
            .await
            .iter()
            .map(|t| (t.offset, t.attempt, t.text()))
            .collect();
        left.sort();
        assert_eq!(left[0], (taken[5].offset, 2, "5".to_owned()));
        assert_eq!(left[1], (taken[6].offset, 1, "6".to_owned()));
        assert_eq!(left[2], (taken[8].offset, 1, "8".to_owned()));
        assert_eq!(left.len(), 14);
        // Offsets go on and are never used again.
        publish_all(&client, &messages("a/b", 1)).await;
        let next = drain(&client, "q", "g", 1).await.remove(0);
        assert_eq!(next.offset, taken[19].offset + 1);
        node.stop().await;
    });
}

#[test]
fn a_queue_added_over_the_network_stays_with_its_settings_and_routes() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let client = node.client().await;
        let settings = QueueSettings {
            bytes_max: 1 << 20,
            messages_max: 7,
            ack_deadline_ms: 1234,
            deliver_max: 4,
            from: vec!["net/+".to_owned()],
            backoff_max_ms: 60_000,
            interval_ms: 100,
            ..QueueSettings::default()
        };
        client.queue_add("added", settings.clone()).await.unwrap();
        publish_all(&client, &messages("net/1", 2)).await;
        client.close().await;
        let node = node.restart().await;
        let client = node.client().await;
        let state = harness::queue(&client, "added").await;
        assert_eq!(state.settings, Some(settings));
        assert_eq!((state.messages, state.source.as_str()), (2, "network"));
        publish_all(&client, &messages("net/2", 3)).await;
        assert_eq!(drain(&client, "added", "g", 5).await.len(), 5);
        node.stop().await;
    });
}

#[test]
fn a_removed_queue_stays_away_and_its_name_can_be_used_again() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let client = node.client().await;
        let settings = QueueSettings {
            from: vec!["a".to_owned()],
            ..QueueSettings::default()
        };
        client.queue_add("gone", settings.clone()).await.unwrap();
        publish_all(&client, &messages("a", 3)).await;
        assert_eq!(client.queue_remove("gone").await.unwrap(), 3);
        client.queue_add("again", settings).await.unwrap();
        publish_all(&client, &messages("a", 1)).await;
        client.close().await;
        let node = node.restart().await;
        let client = node.client().await;
        let names: Vec<String> = client
            .queue_list()
            .await
            .unwrap()
            .queues
            .into_iter()
            .map(|q| q.name)
            .collect();
        assert_eq!(names, ["again", "dead-letter"]);
        client
            .queue_add("gone", QueueSettings::default())
            .await
            .unwrap();
        assert_eq!(harness::queue(&client, "gone").await.messages, 0);
        node.stop().await;
    });
}

#[test]
fn settings_of_the_file_are_taken_over_and_another_durability_is_refused() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/b", 3)).await;
        client.close().await;
        let (mut setup, _) = node.stop().await;
        let home = setup.home.take().unwrap();

        let memory = format!("{QUEUE}durability = \"memory\"\n");
        setup.config = parse(home.path(), &memory);
        let (mut setup, error) = setup.refused().await;
        assert_eq!(
            error,
            "queue 'q': queue 'q' cannot change its durability; remove it first"
        );

        // The refusal changed nothing, and other settings are the file's to change.
        setup.config = parse(home.path(), &format!("{QUEUE}messages_max = 3\n"));
        let node = setup.start().await;
        let client = node.client().await;
        let state = harness::queue(&client, "q").await;
        assert_eq!((state.messages, state.source.as_str()), (3, "config"));
        assert_eq!(state.settings.unwrap().messages_max, 3);
        let more = harness::publish(&client, &[Message::new("a/b", "x")]).await;
        assert!(more[0].exception.is_some());
        node.stop().await;
    });
}

#[test]
fn a_restart_after_many_files_of_the_log_has_everything() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        // 24 MB through a write-ahead log of 16 MiB: it is recycled, and segments are made.
        let batch: Vec<Message> = (0..6000)
            .map(|n| Message::new("a/b", format!("{n:04000}")))
            .collect();
        publish_all(&client, &batch).await;
        let half = {
            let mut consumer = harness::consumer(&client, "q", "g").await;
            let taken = take(&mut consumer, 3000).await;
            ack(&consumer, &taken);
            consumer.close().await.unwrap();
            taken.len()
        };
        client.close().await;
        let node = node.restart().await;
        assert_eq!(node.running.alarms(), Vec::<String>::new());
        let client = node.client().await;
        let mut rest: Vec<u64> = drain(&client, "q", "g", 6000 - half)
            .await
            .iter()
            .map(|t| t.text().parse().unwrap())
            .collect();
        rest.sort();
        assert_eq!(rest, (half as u64..6000).collect::<Vec<_>>());
        node.stop().await;
    });
}

#[test]
fn a_node_that_is_dropped_lets_go_of_its_data_once_the_last_write_is_done() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/b", 100)).await;
        drop(client);
        drop(node.running);
        let mut setup = node.setup;
        let node = loop {
            match setup.try_start().await {
                Ok(node) => break node,
                // Its shard still writes; nobody else may meanwhile.
                Err((again, error)) => {
                    assert!(
                        error.to_string().contains("is in use by process"),
                        "{error}"
                    );
                    setup = again;
                }
            }
        };
        assert_eq!(node.running.alarms(), Vec::<String>::new());
        let client = node.client().await;
        assert_eq!(drain(&client, "q", "g", 100).await.len(), 100);
        node.stop().await;
    });
}
