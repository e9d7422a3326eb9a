//! No space: publishers are refused or wait, acks go on, and it ends by itself.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use waypost_client::wire::control::QueueSettings;
use waypost_client::{Code, ExceptionKind, Message};

use crate::child::Child;
use crate::harness::{self, Setup, drain, messages, publish, publish_all};

const QUEUE: &str = r#"
[[queue]]
name = "q"
from = ["a/#"]
"#;

#[test]
fn below_the_reserve_publishers_are_refused_and_acks_go_on() {
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/b", 10)).await;
        client.close().await;
        let (mut setup, _) = node.stop().await;
        setup.config.log.disk_reserve_bytes = u64::MAX;
        let node = setup.start().await;
        let client = node.client().await;
        let outcome = publish(&client, &messages("a/b", 1)).await.remove(0);
        let exception = outcome.exception.unwrap();
        assert_eq!(
            (exception.kind, exception.code),
            (ExceptionKind::Refused, Code::DiskFull)
        );
        assert!(exception.code.is_retryable());
        let alarms = node.running.alarms();
        assert!(
            alarms.len() == 1 && alarms[0].contains("are wanted"),
            "{alarms:?}"
        );
        drain(&client, "q", "g", 10).await;
        assert_eq!(harness::queue(&client, "q").await.messages, 0);
        client.close().await;
        let (mut setup, _) = node.stop().await;
        setup.config.log.disk_reserve_bytes = 0;
        let node = setup.start().await;
        let client = node.client().await;
        assert_eq!(harness::group(&client, "q", "g").await.pending, 0);
        publish_all(&client, &messages("a/b", 3)).await;
        drain(&client, "q", "g", 3).await;
        node.stop().await;
    });
}

#[test]
fn a_disk_that_is_really_full_loses_nothing_and_goes_on_when_there_is_room() {
    harness::run(async {
        let home = TempDir::with_prefix("waypost-full-").unwrap();
        let disk = 48 << 20;
        let Some(child) = Child::start_on_small_disk(home.path(), QUEUE, disk).await else {
            harness::skipped(
                "a_disk_that_is_really_full: this user may not mount a tmpfs in a namespace of \
                 its own",
            );
            return;
        };
        let client = child.client().await;
        let payload = vec![7; 64 << 10];
        publish_all(&client, &[Message::new("a/b", payload.clone())]).await;
        let ballast = fill(&child.data_dir);
        // More than the prepared files hold: in the end nothing is confirmed, or it is refused.
        let publisher = client.publisher(Default::default()).await.unwrap();
        let mut sent = 1;
        let mut stored = 1;
        let mut refused = 0;
        let mut tickets = std::collections::VecDeque::new();
        let told = loop {
            while tickets.len() < 32 {
                let message = Message::new("a/b", payload.clone());
                tickets.push_back(publisher.send(&message).await.unwrap());
                sent += 1;
            }
            let next = tickets.front_mut().unwrap();
            tokio::select! {
                biased;
                confirmed = next => {
                    tickets.pop_front();
                    match confirmed.unwrap().exception {
                        None => stored += 1,
                        Some(exception) => {
                            assert_eq!(exception.code, Code::DiskFull, "{exception:?}");
                            refused += 1;
                        }
                    }
                    if refused > 0 {
                        break "refused";
                    }
                }
                // Management answers while publishers wait, and says why they do.
                info = client.node_info() => {
                    if !info.unwrap().alarms.is_empty() {
                        break "waiting";
                    }
                }
            }
            assert!(sent < 2000, "the disk does not become full");
        };
        let alarms = client.node_info().await.unwrap().alarms;
        assert!(!alarms.is_empty(), "{told} without an alarm");
        fs::remove_file(&ballast).unwrap();
        for ticket in tickets {
            match ticket.await.unwrap().exception {
                None => stored += 1,
                Some(exception) => assert_eq!(exception.code, Code::DiskFull, "{exception:?}"),
            }
        }
        publisher.close().await.unwrap();
        drain(&client, "q", "g", stored).await;
        assert_eq!(harness::group(&client, "q", "g").await.pending, 0);
        // The alarm ends by itself, and then publishers may go on.
        while !client.node_info().await.unwrap().alarms.is_empty() {}
        publish_all(&client, &messages("a/b", 3)).await;
        client.close().await;
        child.stop().await;
    });
}

/// Somebody else fills the disk.
fn fill(data_dir: &Path) -> PathBuf {
    let ballast = data_dir.join("ballast");
    let mut size = 64 << 20;
    while size > 4096 {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&ballast)
            .unwrap();
        if std::io::Write::write_all(&mut file, &vec![1; size]).is_err() {
            size /= 2;
        }
    }
    ballast
}

const THREE: &str = r#"
[[queue]]
name = "q"
from = ["a/#"]
[[queue]]
name = "purged"
from = ["p/#"]
"#;

#[test]
fn on_a_full_disk_acks_purges_and_removals_go_on() {
    harness::run(async {
        let home = TempDir::with_prefix("waypost-full-").unwrap();
        let Some(child) = Child::start_on_small_disk(home.path(), THREE, 64 << 20).await else {
            harness::skipped(
                "on_a_full_disk_acks: this user may not mount a tmpfs in a namespace of its own",
            );
            return;
        };
        let client = child.client().await;
        let settings = QueueSettings {
            from: vec!["r/#".to_owned()],
            ..QueueSettings::default()
        };
        client.queue_add("removed", settings).await.unwrap();
        let large = |topic: &str| Message::new(topic, vec![7; 32 << 10]);
        for topic in ["a/b", "p/b", "r/b"] {
            publish_all(&client, &vec![large(topic); 32]).await;
        }
        let ballast = fill(&child.data_dir);
        // Until the log has no room: it gives up what it kept, and publishers are refused.
        let mut stored = 32;
        let refused = loop {
            let outcome = publish(&client, &[large("a/b")]).await.remove(0);
            match outcome.exception {
                None => stored += 1,
                Some(exception) => break exception,
            }
            assert!(stored < 2000, "the disk does not become full");
        };
        assert_eq!(refused.code, Code::DiskFull);
        assert!(refused.text.contains("are free"), "{}", refused.text);
        assert!(!child.data_dir.join("reserve").exists());
        // All that makes room works, and says so.
        drain(&client, "q", "g", stored).await;
        assert_eq!(client.queue_purge("purged").await.unwrap(), 32);
        assert_eq!(client.queue_remove("removed").await.unwrap(), 32);
        fs::remove_file(ballast).unwrap();
        while !child.data_dir.join("reserve").exists() {
            tokio::task::yield_now().await;
        }
        while !client.node_info().await.unwrap().alarms.is_empty() {}
        publish_all(&client, &messages("a/b", 3)).await;
        drain(&client, "q", "g", 3).await;
        client.close().await;
        child.stop().await;
    });
}
