//! No space: publishers are refused or wait, acks go on, and it ends by itself.

use std::fs;

use tempfile::TempDir;
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
        // The node looks once a second; what it takes until then is stored.
        let mut taken = 10;
        let exception = loop {
            match publish(&client, &messages("a/b", 1))
                .await
                .remove(0)
                .exception
            {
                None => taken += 1,
                Some(exception) => break exception,
            }
        };
        assert_eq!(
            (exception.kind, exception.code),
            (ExceptionKind::Refused, Code::DiskFull)
        );
        assert!(exception.code.is_retryable());
        let alarms = node.running.alarms();
        assert!(
            alarms.len() == 1 && alarms[0].contains("reserve"),
            "{alarms:?}"
        );
        drain(&client, "q", "g", taken).await;
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
        // Somebody else fills the disk.
        let ballast = child.data_dir.join("ballast");
        let mut size = disk;
        while size > 4096 {
            let mut file = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&ballast)
                .unwrap();
            if std::io::Write::write_all(&mut file, &vec![1; size as usize]).is_err() {
                size /= 2;
            }
        }
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
        publish_all(&client, &messages("a/b", 3)).await;
        // The alarm ends by itself, with the first work of the log that succeeds.
        while !client.node_info().await.unwrap().alarms.is_empty() {}
        client.close().await;
        child.stop().await;
    });
}
