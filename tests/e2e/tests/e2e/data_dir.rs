//! Data directories and plugins that a node cannot start with, and a log that was damaged.

use std::fs;
use std::path::{Path, PathBuf};

use waypost_client::Message;
use waypost_node::config::{self, PluginSource};

use crate::child::Child;
use crate::harness::{self, Setup, drain, messages, peek_all, publish_all, repository};

const QUEUE: &str = r#"
[[queue]]
name = "q"
from = ["a/#"]
"#;

#[test]
fn a_directory_of_a_newer_version_is_left_alone() {
    harness::run(async {
        let setup = Setup::new("");
        let data = setup.data_dir().to_path_buf();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("format"), "waypost data directory, format 2\n").unwrap();
        let (_setup, error) = setup.refused().await;
        assert_eq!(
            error,
            format!(
                "data directory {} has format 2; this version reads up to 1: use the newer \
                 version that wrote it",
                data.display()
            )
        );
        let files: Vec<_> = fs::read_dir(&data).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");
    });
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    harness::run(async {
        let setup = Setup::new("");
        let data = setup.data_dir().to_path_buf();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("holiday.jpg"), "x").unwrap();
        let (setup, error) = setup.refused().await;
        assert_eq!(
            error,
            format!(
                "{} is not a data directory of waypost: it holds `holiday.jpg` and no file `format`",
                data.display()
            )
        );
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
        fs::write(data.join("format"), "something else\n").unwrap();
        let (_setup, error) = setup.refused().await;
        assert!(error.contains("its file `format` says"), "{error}");
    });
}

#[test]
fn a_directory_in_use_names_the_process() {
    harness::run(async {
        let setup = Setup::new("");
        let home = setup.home.as_ref().unwrap().path().to_path_buf();
        let child = Child::start(&home, "").await;
        let (setup, error) = setup.refused().await;
        assert_eq!(
            error,
            format!(
                "data directory {} is in use by process {}",
                setup.data_dir().display(),
                child.id()
            )
        );
        // A crash leaves no lock behind.
        child.kill().await;
        setup.start().await.stop().await;
    });
}

#[test]
fn a_check_finds_a_queue_that_the_network_made_whether_a_node_runs_or_not() {
    harness::run(async {
        let setup = Setup::new("");
        let home = setup.home.as_ref().unwrap().path().to_path_buf();
        let claims = |names: &[&str]| -> Vec<String> {
            let queue = |name: &&str| format!("[[queue]]\nname = \"{name}\"\n");
            let queues: String = names.iter().map(queue).collect();
            let text = format!("[node]\ndata_dir = \"data\"\n{queues}");
            let file = home.join("other.toml");
            let checked = config::check_text(&file, &text);
            let said = checked.errors.iter().map(ToString::to_string);
            said.map(|e| e.replace(&format!("{}:", file.display()), ""))
                .collect()
        };
        // Before there is a directory, nothing can be wrong with it, and none is made.
        assert_eq!(claims(&["mine"]), [""; 0]);
        assert!(!setup.data_dir().exists());

        let node = setup.start().await;
        let client = node.client().await;
        for name in ["mine", "gone"] {
            let added = client.queue_add(name, Default::default()).await;
            added.unwrap();
        }
        client.queue_remove("gone").await.unwrap();
        let expected = [
            "6:8: [[queue]] \"mine\" name: queue 'mine' was made over the network, and the \
             configuration names it too: rename one, or take it out of the configuration, start, \
             and remove the queue",
        ];
        let others = ["other", "mine", "dead-letter"];
        assert_eq!(claims(&others), expected);
        let (setup, _) = node.stop().await;
        assert_eq!(claims(&others), expected);
        // What was removed is gone, also where its directory could not be deleted yet.
        assert_eq!(claims(&["gone"]), [""; 0]);
        // A file that names it no more leaves nothing to say.
        assert_eq!(claims(&["other"]), [""; 0]);
        let format = setup.data_dir().join("format");
        fs::write(format, "waypost data directory, format 2\n").unwrap();
        let said = claims(&["other"]).concat();
        assert!(said.starts_with("2:12: [node] data_dir: "), "{said}");
        assert!(said.contains("has format 2"), "{said}");
    });
}

#[test]
fn an_address_in_use_is_named() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let address = node.address();
        let second = Setup::new("").change(|config| config.node.listen = address);
        let (_, error) = second.refused().await;
        assert!(
            error.starts_with(&format!("listen address {address}: ")),
            "{error}"
        );
        node.stop().await;
    });
}

/// The files of the write-ahead log, in order.
fn wal(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(data.join("shard-0000/wal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "wal"))
        .collect();
    files.sort();
    files
}

/// A stopped node with 100 messages `marker 0` to `marker 99` in the log.
async fn filled() -> Setup {
    let node = Setup::new(QUEUE).start().await;
    let client = node.client().await;
    for n in 0..100 {
        let message = Message::new("a/b", format!("marker {n:>3}"));
        publish_all(&client, &[message]).await;
    }
    client.close().await;
    node.stop().await.0
}

#[test]
fn rot_in_the_log_is_told_and_the_rest_is_served() {
    harness::run(async {
        let setup = filled().await;
        let mut hit = 0;
        for path in wal(setup.data_dir()) {
            let mut bytes = fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(10).position(|w| w == b"marker  50") {
                bytes[at] ^= 0xff;
                fs::write(&path, bytes).unwrap();
                hit += 1;
            }
        }
        assert_eq!(hit, 1);
        let node = setup.start().await;
        let alarms = node.running.alarms();
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        assert!(alarms[0].contains("damaged log"), "{alarms:?}");
        let quarantine = node.setup.data_dir().join("shard-0000/quarantine");
        assert!(fs::read_dir(quarantine).unwrap().count() > 0);
        let client = node.client().await;
        assert_eq!(client.node_info().await.unwrap().alarms, alarms);
        let kept: Vec<String> = peek_all(&client, "q")
            .await
            .iter()
            .map(|(_, m)| harness::text(m))
            .collect();
        let expected: Vec<String> = (0..100)
            .filter(|n| *n != 50)
            .map(|n| format!("marker {n:>3}"))
            .collect();
        assert_eq!(kept, expected);
        assert_eq!(drain(&client, "q", "g", 99).await.len(), 99);
        publish_all(&client, &messages("a/b", 3)).await;
        drain(&client, "q", "g", 3).await;
        node.stop().await;
    });
}

#[test]
fn a_torn_tail_is_cut_without_a_word_to_the_operator() {
    harness::run(async {
        let setup = filled().await;
        // Half a group after the last that was synced, as a power loss leaves it.
        let path = wal(setup.data_dir()).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
        let end = end.next_multiple_of(4096);
        let group: Vec<u8> = bytes[end - 4096..end - 2048].to_vec();
        bytes[end..end + 2048].copy_from_slice(&group);
        bytes[end + 9000..end + 9100].fill(0x5a);
        fs::write(&path, bytes).unwrap();
        let node = setup.start().await;
        assert_eq!(node.running.alarms(), Vec::<String>::new());
        let client = node.client().await;
        drain(&client, "q", "g", 100).await;
        publish_all(&client, &messages("a/b", 3)).await;
        client.close().await;
        let node = node.restart().await;
        assert_eq!(node.running.alarms(), Vec::<String>::new());
        drain(&node.client().await, "q", "g", 3).await;
        node.stop().await;
    });
}

#[test]
fn a_plugin_that_cannot_be_loaded_is_named_with_its_file() {
    harness::run(async {
        let case = async |name: &str, bytes: &[u8]| {
            let setup = Setup::new("");
            let home = setup.home.as_ref().unwrap().path().to_path_buf();
            let file = home.join(name);
            fs::write(&file, bytes).unwrap();
            // `check` sees the beginning of a file already; here it was replaced after that.
            let good = repository("tests/fixtures/plugins/puppet.wasm");
            let text = format!("[[plugin]]\nname = \"p\"\nfile = {good:?}\n");
            let mut config = harness::parse(&home, &text);
            config.plugins[0].source = PluginSource::File(file.clone());
            let (_, error) = setup.change(|c| *c = config).refused().await;
            let start = format!("plugin 'p' ({}): ", file.display());
            let said = error.strip_prefix(&start);
            said.unwrap_or_else(|| panic!("{error}")).to_owned()
        };
        let puppet = fs::read(repository("tests/fixtures/plugins/puppet.wasm")).unwrap();
        assert_eq!(
            case("text.wasm", b"#!/bin/sh\n").await,
            "is not WebAssembly: it begins with 23 21 2f 62, expected 00 61 73 6d (\"\\0asm\")"
        );
        let module = case("module.wasm", b"\0asm\x01\0\0\0").await;
        assert!(
            module.starts_with("is a core module, not a component"),
            "{module}"
        );
        let empty = case("empty.wasm", b"\0asm\x0d\0\x01\0").await;
        assert!(
            empty.starts_with("exports no role: expected one of "),
            "{empty}"
        );
        let version = case("version.wasm", b"\0asm\x0e\0\x01\0").await;
        assert_eq!(
            version,
            "is a component of binary version 0e 00 01 00, expected 0d 00 01 00"
        );
        let torn = case("torn.wasm", &puppet[..puppet.len() / 2]).await;
        assert!(!torn.is_empty());
        let several = case("several.wasm", &puppet).await;
        assert!(
            several.contains("name the one that is meant with `role`"),
            "{several}"
        );
    });
}
