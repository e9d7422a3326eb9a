//! A shard that can be ended and opened again, and what it says.

use std::path::Path;

use waypost_core::queue::Settings;
use waypost_log::mem::MemVfs;
use waypost_log::{Incarnation, Log, Options as LogOptions};
use waypost_shard::{Accepted, Batch, Now, Options, Output, Part, Shard};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Message, RecordRef, Slab};

/// A shard, its disk and its time.
pub struct World {
    pub disk: MemVfs,
    pub shard: Shard<MemVfs>,
    pub now: Now,
    next_incarnation: u64,
}

fn open(disk: &MemVfs) -> Shard<MemVfs> {
    let options = LogOptions {
        file_bytes: 1 << 20,
        wal_bytes_max: 8 << 20,
        wal_bytes_low: 2 << 20,
        group_bytes_max: 1 << 20,
        ..LogOptions::default()
    };
    let (log, recovered) = Log::open(disk.clone(), Path::new("/data/shard"), options, 0).unwrap();
    let options = Options {
        cache_bytes: 1 << 20,
        consumer_bytes_max: 1 << 20,
        consumer_messages_max: 10_000,
        ack_sync_ms: 10,
    };
    let opened = Shard::open(log, recovered, options);
    assert_eq!(opened.alarms, Vec::<String>::new());
    opened.shard
}

impl World {
    /// A new disk and these queues.
    pub fn new(queues: &[(&str, Settings)]) -> World {
        let disk = MemVfs::with_dir(Path::new("/data")).unwrap();
        let mut world = World {
            shard: open(&disk),
            disk,
            now: Now {
                mono_ms: 1,
                wall_ms: 1_700_000_000_000,
            },
            next_incarnation: 1,
        };
        for (name, settings) in queues {
            world.add(name, settings.clone());
        }
        world
    }

    pub fn add(&mut self, name: &str, settings: Settings) {
        let incarnation = Incarnation::new(self.next_incarnation).unwrap();
        self.next_incarnation += 1;
        self.shard
            .ensure_queue(name, settings, incarnation, "network")
            .unwrap();
        self.commit();
    }

    pub fn commit(&mut self) {
        self.shard.commit(self.now).unwrap();
    }

    /// The process is killed, and another opens what it left.
    pub fn restart(&mut self) {
        self.disk = self.disk.kill();
        self.shard = open(&self.disk);
    }

    /// Publishes, commits, and gives what was said.
    pub fn publish(&mut self, batch: &Batch) -> Accepted {
        self.shard.publish(self.now, batch).unwrap();
        self.commit();
        self.accepted().remove(0)
    }

    pub fn accepted(&mut self) -> Vec<Accepted> {
        let accepted = |output| match output {
            Output::Accepted(accepted) => Some(accepted),
            _ => None,
        };
        let outputs = self.shard.take_outputs();
        outputs.into_iter().filter_map(accepted).collect()
    }

    /// The payloads in a queue.
    pub fn texts(&mut self, queue: &str) -> Vec<String> {
        let (peeked, _) = self.shard.peek(queue, 0, 1000).unwrap();
        let text = |body: &[u8]| {
            let record = RecordRef::parse(body).unwrap();
            String::from_utf8(record.payload().to_vec()).unwrap()
        };
        peeked.iter().map(|message| text(&message.body)).collect()
    }
}

/// Records with these payloads.
pub fn slab(texts: &[&str]) -> Slab {
    let mut slab = SlabBuilder::new();
    for text in texts {
        slab.push(&Message::new("t", text.as_bytes().to_vec()).to_body());
    }
    slab.finish()
}

/// A part: for each record, its payload and the input that it comes from.
pub fn part(queue: &str, records: &[(u32, &str)]) -> Part {
    let texts: Vec<&str> = records.iter().map(|(_, text)| *text).collect();
    Part {
        queue: queue.into(),
        slab: slab(&texts),
        inputs: records.iter().map(|(input, _)| *input).collect(),
        is_timed: true,
    }
}
