//! Data directories that earlier versions wrote: `tests/fixtures/data` says what is in each. They
//! open, what was delivered and acked stays so, and they are used and opened again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use waypost_core::queue::Settings;
use waypost_log::mem::MemVfs;
use waypost_log::vfs::{OpenMode, VfsFile};
use waypost_log::{DataDir, Incarnation, Log, OpenError, Options, Vfs};
use waypost_shard::{Attach, Now, Output, Shard, Start};
use waypost_wire::data::{ConsumerFrame, Range};
use waypost_wire::{Filter, RecordRef};

const NOW: Now = Now {
    mono_ms: 1000,
    wall_ms: 1_790_000_000_000,
};

/// Offset, attempt, payload.
type Delivered = BTreeMap<u64, (u32, String)>;

/// The fixture's files, on a disk in memory.
fn load(version: &str) -> MemVfs {
    let disk = MemVfs::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/data")
        .join(version)
        .join("data");
    let mut dirs = vec![(fixture, PathBuf::from("/data"))];
    while let Some((from, to)) = dirs.pop() {
        disk.create_dir(&to).unwrap();
        for entry in std::fs::read_dir(&from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                dirs.push((entry.path(), to));
            } else {
                let file = disk.open(&to, OpenMode::Create).unwrap();
                let bytes = std::fs::read(entry.path()).unwrap();
                file.write_all_at(&bytes, 0).unwrap();
                file.sync_data().unwrap();
            }
        }
        disk.sync_dir(&to).unwrap();
    }
    disk
}

fn open(disk: &MemVfs) -> Shard<MemVfs> {
    let held = DataDir::open(disk, Path::new("/data")).unwrap();
    let options = Options {
        group_bytes_max: 8 << 10,
        nonce: 1,
        ..Options::default()
    };
    let dir = held.shard_dir(0);
    let (log, found) = Log::open(disk.clone(), &dir, options, NOW.wall_ms).unwrap();
    assert!(found.report.torn.is_empty(), "{:?}", found.report);
    let limits = waypost_core::limits::Limits::default();
    let opened = Shard::open(log, found, waypost_shard::Options::from_limits(&limits));
    assert_eq!(opened.alarms, Vec::<String>::new());
    opened.shard
}

fn attach(shard: &mut Shard<MemVfs>, consumer: u64, queue: &str, group: &str) {
    let attach = Attach {
        consumer,
        queue: queue.into(),
        group: group.to_owned(),
        start: Start::Beginning,
        options: Default::default(),
        ack_deadline_ms: None,
        batch_bytes_max: 1 << 20,
    };
    shard.attach(NOW, attach).unwrap();
    let credit = ConsumerFrame::Credit {
        messages: 1000,
        bytes: 1 << 20,
    };
    shard.consumer_frame(NOW, consumer, credit);
}

/// Commits, and gives what a consumer gets.
fn deliveries(shard: &mut Shard<MemVfs>, consumer: u64) -> Delivered {
    shard.commit(NOW).unwrap();
    let mut delivered = Delivered::new();
    for output in shard.take_outputs() {
        let Output::Deliver {
            consumer: to,
            deliver,
        } = output
        else {
            continue;
        };
        assert_eq!(to, consumer);
        for (index, body) in deliver.slab.iter().enumerate() {
            let record = RecordRef::parse(body).unwrap();
            let (offset, attempt) = match deliver.detail.get(index) {
                Some(detail) => *detail,
                None => (deliver.first_offset + index as u64, 1),
            };
            let payload = String::from_utf8(record.payload().to_vec()).unwrap();
            delivered.insert(offset, (attempt, payload));
        }
    }
    delivered
}

fn orders(offsets: impl IntoIterator<Item = u64>, attempt: u32) -> Delivered {
    let order = |n| (n, (attempt, format!("orders {n}")));
    offsets.into_iter().map(order).collect()
}

#[test]
fn format_1_is_read_used_and_read_again() {
    let disk = load("v1");
    let mut shard = open(&disk);
    let names: Vec<String> = shard.queues().into_iter().map(|q| q.name).collect();
    assert_eq!(names, ["dead-letter", "history", "orders"]);
    let view = shard.queue("orders").unwrap();
    assert_eq!(view.incarnation, Incarnation::new(0xa002));
    let settings = Settings {
        messages_max: Some(1000),
        ack_deadline_ms: 5000,
        deliver_max: 3,
        from: vec![Filter::new("orders/#").unwrap()],
        ..Settings::default()
    };
    assert_eq!(view.settings, settings);
    assert_eq!(shard.queue("history").unwrap().messages, 48);

    // What the consumer that vanished held comes for the second time, the rest for the first.
    attach(&mut shard, 1, "orders", "packers");
    let mut expected = orders([6], 2);
    expected.extend(orders(9..20, 2));
    expected.extend(orders(20..64, 1));
    assert_eq!(deliveries(&mut shard, 1), expected);
    attach(&mut shard, 2, "orders", "audit");
    assert_eq!(deliveries(&mut shard, 2), orders(0..64, 1));
    attach(&mut shard, 3, "dead-letter", "look");
    let dead = deliveries(&mut shard, 3);
    assert_eq!(dead[&0].1, "orders 8");

    // All of it can be worked with: acks, and snapshots in this version's form.
    let ack = |first, last| ConsumerFrame::Ack(vec![Range { first, last }]);
    shard.consumer_frame(NOW, 1, ack(6, 29));
    for consumer in 1..4 {
        shard.detach(NOW, consumer, true);
    }
    shard.commit(NOW).unwrap();
    shard.write_snapshots();
    shard.commit(NOW).unwrap();
    drop(shard);
    for disk in [disk.kill(), disk.crash(3)] {
        let mut shard = open(&disk);
        attach(&mut shard, 1, "orders", "packers");
        assert_eq!(deliveries(&mut shard, 1), orders(30..64, 1));
        attach(&mut shard, 2, "orders", "audit");
        assert_eq!(deliveries(&mut shard, 2), orders(0..64, 1));
    }
}

/// What a newer version wrote is refused before anything is touched.
#[test]
fn a_newer_format_is_refused() {
    let disk = load("v1");
    let newer = b"waypost data directory, format 2\n".to_vec();
    disk.set_contents(Path::new("/data/format"), newer);
    let before = disk.files();
    let Err(error) = DataDir::open(&disk, Path::new("/data")) else {
        panic!("a directory of a newer version was opened");
    };
    assert!(matches!(error, OpenError::NewerFormat { found: 2, .. }));
    assert_eq!(
        error.to_string(),
        "data directory /data has format 2; this version reads up to 1: use the newer version that \
         wrote it"
    );
    assert_eq!(disk.files(), before);
}
