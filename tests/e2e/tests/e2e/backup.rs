//! A backup of a node under load, restored: all that was confirmed before it is there, in order,
//! with what its groups had done, and the node that was backed up did not notice.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use waypost_client::{Code, Message};
use waypost_log::RealVfs;
use waypost_log::inspect::check;
use waypost_log::restore::restore;
use waypost_wire::control::{PluginDeploy, Setting};

use crate::harness::{self, Setup, drain, messages, peek_all, publish_all, route};

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

#[test]
fn a_restored_backup_has_the_plugins_their_state_and_their_routes() {
    harness::run(async {
        let node = Setup::new(QUEUES).start().await;
        let client = node.client().await;
        let component = std::fs::read(harness::repository("tests/fixtures/plugins/noop.wasm"));
        let component = bytes::Bytes::from(component.unwrap());
        let digest = ring::digest::digest(&ring::digest::SHA256, &component);
        let digest: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let plugins = client.plugins();
        plugins.upload(digest.as_str(), component).await.unwrap();
        let deploy = |answer: &str| PluginDeploy {
            plugin: "p".to_owned(),
            digest: digest.clone(),
            role: "transform".to_owned(),
            settings: vec![Setting {
                name: "answer".to_owned(),
                value: answer.to_owned(),
            }],
            ..PluginDeploy::default()
        };
        plugins.deploy(deploy("pass")).await.unwrap();
        plugins.deploy(deploy("edit")).await.unwrap();
        let route = route("r", "in/#", &["p"]);
        client.routes().add(route, None).await.unwrap();
        // One that keeps state: three messages were counted.
        let counts = std::fs::read(harness::repository(
            "tests/fixtures/plugins/puppet-effects.wasm",
        ));
        let counts = bytes::Bytes::from(counts.unwrap());
        let counted = ring::digest::digest(&ring::digest::SHA256, &counts);
        let counted: String = counted
            .as_ref()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        plugins.upload(counted.as_str(), counts).await.unwrap();
        let grants = ["log", "clock", "random", "state", "publish", "timer"];
        let deploy_counts = PluginDeploy {
            plugin: "counts".to_owned(),
            digest: counted,
            role: "transform".to_owned(),
            set_grants: true,
            grants: grants.map(str::to_owned).into(),
            publish: vec!["none".to_owned()],
            ..PluginDeploy::default()
        };
        plugins.deploy(deploy_counts).await.unwrap();
        let route = super::harness::route("c", "count/#", &["counts"]);
        client.routes().add(route, None).await.unwrap();
        let count = Message::new("count/x", "").with_header("do", "add n 1".to_owned());
        publish_all(&client, &[count.clone(), count.clone(), count.clone()]).await;
        let done = client.backup("one").await.unwrap();
        publish_all(&client, std::slice::from_ref(&count)).await;
        // What comes afterwards is not in it, and what goes is.
        client.routes().remove("r").await.unwrap();
        client.plugins().remove("p").await.unwrap();
        client.close().await;
        // Keeps the directory.
        let (_setup, _) = node.stop().await;

        let restored = Setup::new(QUEUES);
        let backup = Path::new(&done.path);
        let mut random = 0x5eed;
        restore(&RealVfs, backup, restored.data_dir(), &mut || {
            random += 2;
            random
        })
        .unwrap();
        let found = waypost_node::restore_plugins(backup, restored.data_dir()).unwrap();
        assert_eq!(
            (found.slots, found.routes, found.faults.len()),
            (2, 2, 0),
            "{found:?}"
        );
        // The backup itself is not the node's: a second restore finds the same.
        let node = restored.start().await;
        let client = node.client().await;
        let detail = client.plugins().info("p").await.unwrap();
        assert_eq!(detail.state.unwrap().status, "ready");
        assert_eq!(detail.versions.len(), 2);
        publish_all(&client, &[count]).await;
        publish_all(&client, &messages("in/x", 2)).await;
        let held = peek_all(&client, "q").await;
        let header = |at: usize, wanted: &str| {
            let found = held[at].1.headers.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        // Three before the backup; what came between it and the end is not there.
        assert_eq!(held.len(), 6);
        assert_eq!(header(3, "answers").as_deref(), Some("Ok(4)"));
        for at in [4, 5] {
            assert!(header(at, "seen").is_some(), "it was edited");
        }
        let back = client.plugins().rollback("p", None).await.unwrap();
        assert_eq!(back.version, 1);
        client.close().await;
        node.stop().await;

        // A component that rots in the backup is named.
        let blob = backup.join(format!("plugins/blobs/sha256-{digest}.wasm"));
        let mut bytes = std::fs::read(&blob).unwrap();
        bytes[200] ^= 1;
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(&blob, bytes).unwrap();
        let home = tempfile::TempDir::new().unwrap();
        let found = waypost_node::restore_plugins(backup, home.path()).unwrap();
        assert!(
            found.faults[0].contains("holds other bytes than its name says"),
            "{found:?}"
        );
    });
}
