//! A backup of a node under load, restored: all that was confirmed before it is there, in order,
//! with what its groups had done, and the node that was backed up did not notice.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use waypost_client::{Code, Message};
use waypost_log::RealVfs;
use waypost_log::inspect::check;
use waypost_log::restore::restore;

use crate::harness::{self, Setup, drain, messages, peek_all, publish_all};

const QUEUES: &str = r#"
[[queue]]
name = "q"
from = ["a/#"]
[[queue]]
name = "backlog"
from = ["b/#"]
"#;

fn numbered(topic: &str, number: u64) -> Message {
    // Large enough that files fill, move and are recycled while the backup is made.
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(4096, number as u8);
    Message::new(topic, payload)
}

fn number(message: &Message) -> u64 {
    u64::from_be_bytes(message.payload[..8].try_into().unwrap())
}

#[test]
fn a_restored_backup_has_all_that_was_confirmed_before() {
    harness::run(async {
        let node = Setup::new(QUEUES).start().await;
        let client = node.client().await;
        publish_all(&client, &messages("a/b", 5)).await;
        drain(&client, "q", "g", 5).await;
        publish_all(&client, &messages("a/b", 15)).await;
        // A backlog in segments, beside what is in the WAL.
        let batch: Vec<_> = (0..6000).map(|n| numbered("b/c", n)).collect();
        publish_all(&client, &batch).await;

        // And load that goes on, of which each knows how far it was confirmed.
        let stop = Arc::new(AtomicBool::new(false));
        let load = {
            let (client, stop) = (node.client().await, stop.clone());
            tokio::spawn(async move {
                let mut next = 6000;
                while !stop.load(Relaxed) {
                    let batch: Vec<_> = (next..next + 64).map(|n| numbered("b/c", n)).collect();
                    publish_all(&client, &batch).await;
                    next += 64;
                }
                client.close().await;
                next
            })
        };
        let confirmed_before = harness::queue(&client, "backlog").await.next_offset;
        let done = client.backup("one").await.unwrap();
        assert!(done.files > 5 && done.bytes > 0, "{done:?}");
        let again = client.backup("one").await.unwrap_err();
        assert_eq!(again.code(), Some(Code::Exists), "{again}");
        for name in ["", "..", ".hidden", "a/b"] {
            let error = client.backup(name).await.unwrap_err();
            assert_eq!(error.code(), Some(Code::Invalid), "{name}: {error}");
        }
        stop.store(true, Relaxed);
        let published = load.await.unwrap();
        drain(&client, "q", "g", 15).await;
        client.close().await;
        let (setup, _) = node.stop().await;
        assert!(
            check(&RealVfs, setup.data_dir())
                .unwrap()
                .findings
                .is_empty()
        );

        let restored = Setup::new(QUEUES);
        let mut random = 0x5eed;
        let renamed = restore(
            &RealVfs,
            Path::new(&done.path),
            restored.data_dir(),
            &mut || {
                random += 2;
                random
            },
        )
        .unwrap();
        assert_eq!(renamed.len(), 3);
        let report = check(&RealVfs, restored.data_dir()).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let node = restored.start().await;
        let client = node.client().await;
        // Nothing that was confirmed is missing, and nothing came from nowhere.
        let found = peek_all(&client, "backlog").await;
        let count = found.len() as u64;
        assert!(count >= confirmed_before && count <= published, "{count}");
        for (index, (offset, message)) in found.iter().enumerate() {
            assert_eq!((*offset, number(message)), (index as u64, index as u64));
        }
        // What was acked before the backup stays acked, what was acked after it comes again.
        assert_eq!(harness::group(&client, "q", "g").await.pending, 15);
        let taken = drain(&client, "q", "g", 15).await;
        assert_eq!(taken[0].offset, 5);
        publish_all(&client, &messages("a/b", 3)).await;
        client.close().await;
        node.stop().await;
    });
}
