//! What kinds of groups, producers and acks out of order cost a shard, without a network.
//!
//! `cargo bench -p waypost-shard --bench groups -- [directory [case [consumers]]]`
//!
//! A case is `shared`, `exclusive`, `key`, `plain`, `produced` or `states` (memory of messages that
//! were acked and delayed one by one): one form alone, for a profiler.
//!
//! The log lies in the directory; in memory (`/dev/shm`) its syncs cost nothing and the figures are
//! the shard's own. All forms take turns in one run; compare the ratios, not the times.

use std::path::{Path, PathBuf};
use std::time::Instant;

use waypost_core::journal::{GroupKind, GroupOptions};
use waypost_core::queue::Settings;
use waypost_log::{Incarnation, Log, Options as LogOptions, RealVfs};
use waypost_shard::{Attach, Batch, Now, Options, Output, Part, Shard, Stamp, Start};
use waypost_wire::data::{ConsumerFrame, Range};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Message, Slab};

const BATCH: u32 = 256;
const BATCHES: u32 = 1000;
const KEYS: u32 = 1000;
const ROUNDS: usize = 5;

struct Bench {
    shard: Shard<RealVfs>,
    now: Now,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(dir: &Path) -> Bench {
        let dir = tempfile::tempdir_in(dir).expect("a directory for the log");
        let options = LogOptions::default();
        let place = dir.path().join("shard");
        let (log, recovered) = Log::open(RealVfs, &place, options, 0).expect("a new log opens");
        let options = Options {
            cache_bytes: 256 << 20,
            consumer_bytes_max: u64::MAX,
            consumer_messages_max: u64::MAX,
            ack_sync_ms: 0,
        };
        let mut shard = Shard::open(log, recovered, options).shard;
        let incarnation = Incarnation::new(7).expect("7 is not 0");
        let settings = Settings {
            bytes_max: 1 << 40,
            ..Settings::default()
        };
        shard
            .ensure_queue("q", settings, incarnation, "node")
            .expect("a queue is made");
        let now = Now {
            mono_ms: 1,
            wall_ms: 1_700_000_000_000,
        };
        Bench {
            shard,
            now,
            _dir: dir,
        }
    }

    fn commit(&mut self) {
        loop {
            self.shard.write_snapshots();
            self.shard.commit(self.now).expect("the log takes it");
            let Some(job) = self.shard.log_mut().next_job() else {
                return;
            };
            let done = job.run(&RealVfs);
            self.shard
                .log_mut()
                .finish_job(done)
                .expect("a job's result");
        }
    }

    fn publish(&mut self, slab: &Slab, stamp: Option<Stamp>) {
        let batch = Batch {
            count: slab.count(),
            parts: vec![Part::new("q".into(), slab.clone()).timed(false)],
            stamp,
            ..Batch::default()
        };
        self.shard.publish(self.now, &batch).expect("a publish");
        self.commit();
        self.shard.take_outputs();
    }

    fn attach(&mut self, consumer: u64, kind: GroupKind) {
        let attach = Attach {
            consumer,
            queue: "q".into(),
            group: "g".to_owned(),
            start: Start::Beginning,
            options: GroupOptions {
                kind,
                filters: Vec::new(),
            },
            ack_deadline_ms: None,
            batch_bytes_max: 1 << 20,
        };
        self.shard.attach(self.now, attach).expect("a consumer");
        let credit = ConsumerFrame::Credit {
            messages: u64::MAX >> 2,
            bytes: u64::MAX >> 2,
        };
        self.shard.consumer_frame(self.now, consumer, credit);
    }
}

fn slabs() -> Vec<Slab> {
    let mut number = 0;
    (0..KEYS)
        .map(|_| {
            let mut slab = SlabBuilder::new();
            for _ in 0..BATCH {
                let key = format!("key-{:05}", number % KEYS);
                number += 1;
                slab.push_message(&Message::new("bench/0", vec![7; 128]).with_key(key));
            }
            slab.finish()
        })
        .collect()
}

/// Nanoseconds a message: published, delivered and acked, batch by batch.
fn through(dir: &Path, slabs: &[Slab], kind: GroupKind, consumers: u64) -> f64 {
    let mut bench = Bench::new(dir);
    (1..=consumers).for_each(|consumer| bench.attach(consumer, kind));
    let began = Instant::now();
    let mut acked = 0;
    for index in 0..BATCHES {
        let slab = &slabs[index as usize % slabs.len()];
        let batch = Batch {
            count: slab.count(),
            parts: vec![Part::new("q".into(), slab.clone()).timed(false)],
            ..Batch::default()
        };
        bench.shard.publish(bench.now, &batch).expect("a publish");
        bench.commit();
        for output in bench.shard.take_outputs() {
            let Output::Deliver { consumer, deliver } = output else {
                continue;
            };
            acked += u64::from(deliver.slab.count());
            let mut ranges: Vec<Range> = Vec::new();
            for index in 0..deliver.slab.count() {
                let (offset, _) = deliver.position(index);
                match ranges.last_mut() {
                    Some(range) if range.last + 1 == offset => range.last = offset,
                    _ => ranges.push(Range::one(offset)),
                }
            }
            bench
                .shard
                .written(consumer, deliver.slab.bytes().len() as u64);
            let ack = ConsumerFrame::Ack(ranges);
            bench.shard.consumer_frame(bench.now, consumer, ack);
        }
    }
    let took = began.elapsed();
    assert_eq!(acked, u64::from(BATCH * BATCHES), "{kind:?}: all delivered");
    took.as_nanos() as f64 / acked as f64
}

/// Nanoseconds a message: published, by a producer or not.
fn intake(dir: &Path, slabs: &[Slab], is_produced: bool) -> f64 {
    let mut bench = Bench::new(dir);
    let opened = bench.shard.open_producer([7; 16], 0).expect("a producer");
    let began = Instant::now();
    for index in 0..BATCHES {
        let first = u64::from(index * BATCH) + 1;
        let stamp = is_produced.then(|| Stamp {
            producer: [7; 16],
            epoch: opened.epoch,
            session: opened.session,
            sequences: (first..first + u64::from(BATCH)).collect(),
        });
        bench.publish(&slabs[index as usize % slabs.len()], stamp);
    }
    began.elapsed().as_nanos() as f64 / f64::from(BATCH * BATCHES)
}

/// Bytes of memory that the states of 200,000 messages cost, every other one acked and the others
/// delayed, one by one; the messages themselves lie in the log.
fn states(dir: &Path, slabs: &[Slab]) -> f64 {
    const MESSAGES: u32 = 200_000;
    let mut bench = Bench::new(dir);
    for index in 0..MESSAGES.div_ceil(BATCH) {
        bench.publish(&slabs[index as usize % slabs.len()], None);
    }
    bench.attach(1, GroupKind::Shared);
    bench.shard.deliver(bench.now);
    bench.shard.take_outputs();
    let before = resident();
    let ranges = |first: u64| -> Vec<Range> {
        let offsets = (first..first + u64::from(BATCH)).step_by(2);
        offsets.map(Range::one).collect()
    };
    for first in (0..u64::from(MESSAGES)).step_by(BATCH as usize) {
        let ack = ConsumerFrame::Ack(ranges(first));
        bench.shard.consumer_frame(bench.now, 1, ack);
        let nack = ConsumerFrame::Nack {
            delay_ms: 3_600_000,
            ranges: ranges(first + 1),
        };
        bench.shard.consumer_frame(bench.now, 1, nack);
        bench.now.mono_ms += 1;
        bench.commit();
    }
    resident() - before
}

fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<f64>().ok());
    pages.expect("a number of pages") * 4096.0
}

/// Nanoseconds an ack: of single messages, in random order, with `count` in flight at first.
fn acks(dir: &Path, slabs: &[Slab], count: u32) -> f64 {
    let mut bench = Bench::new(dir);
    for index in 0..count.div_ceil(BATCH) {
        bench.publish(&slabs[index as usize % slabs.len()], None);
    }
    bench.attach(1, GroupKind::Shared);
    bench.shard.deliver(bench.now);
    bench.shard.take_outputs();
    let mut offsets: Vec<u64> = (0..u64::from(count)).collect();
    let mut state = 1u64;
    for index in (1..offsets.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        offsets.swap(index, (state >> 33) as usize % (index + 1));
    }
    let began = Instant::now();
    for (index, offset) in offsets.iter().enumerate() {
        let ack = ConsumerFrame::Ack(vec![Range::one(*offset)]);
        bench.shard.consumer_frame(bench.now, 1, ack);
        if index % 256 == 255 {
            bench.commit();
        }
    }
    began.elapsed().as_nanos() as f64 / f64::from(count)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One form alone.
fn one(dir: &Path, slabs: &[Slab], case: &str, consumers: u64) {
    let time = match case {
        "states" => return println!("{:.1} MB", states(dir, slabs) / 1e6),
        "plain" => intake(dir, slabs, false),
        "produced" => intake(dir, slabs, true),
        "exclusive" => through(dir, slabs, GroupKind::Exclusive, consumers),
        "key" => through(dir, slabs, GroupKind::Key, consumers),
        _ => through(dir, slabs, GroupKind::Shared, consumers),
    };
    println!("{case}, {consumers} consumers: {time:.0} ns a message");
}

fn main() {
    let mut given = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'));
    let dir = given.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let slabs = slabs();
    if let Some(case) = given.next() {
        let consumers = given.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        return one(&dir, &slabs, &case, consumers);
    }
    println!("published, delivered and acked, ns a message; and the rate against 'shared'");
    for consumers in [1, 2, 8] {
        for kind in [GroupKind::Exclusive, GroupKind::Key] {
            let (mut times, mut ratios) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let shared = through(&dir, &slabs, GroupKind::Shared, consumers);
                let time = through(&dir, &slabs, kind, consumers);
                times.push(time);
                ratios.push(shared / time);
            }
            let (kind, time, ratio) = (kind.as_str(), median(times), median(ratios));
            println!("  {kind:9} {consumers} consumers  {time:6.0}  {ratio:.2}");
        }
    }
    let (mut times, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let plain = intake(&dir, &slabs, false);
        let time = intake(&dir, &slabs, true);
        times.push(time);
        ratios.push(time / plain);
    }
    let (time, ratio) = (median(times), median(ratios));
    println!("published by a producer, ns a message {time:.0}, {ratio:.2} of one without");
    println!("acks of single messages in random order, ns each, by messages in flight");
    for count in [12_800, 51_200, 102_400, 204_800] {
        let times = (0..3).map(|_| acks(&dir, &slabs, count)).collect();
        println!("  {count:7}  {:6.0}", median(times));
    }
}
