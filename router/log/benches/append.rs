//! What the log costs over the disk's own floor, and how many bytes it writes for a byte of record.
//!
//! `cargo bench -p waypost-log --bench append -- [directory] [megabytes]`
//!
//! The floor writes the same bytes with the same checksum into zeroed files of the same size, and
//! syncs as often. Log and floor take turns in one run; compare the ratio, not the rates.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use waypost_log::{Incarnation, Log, Messages, Options, RealVfs};

const BATCH: u32 = 256;
const PAYLOAD_BYTES: usize = 128;
/// A body of 128 B payload with a topic and a message id.
const BODY_BYTES: usize = PAYLOAD_BYTES + 22;
const PAGE: usize = 4096;

fn slab(seed: u64) -> Vec<u8> {
    let mut slab = Vec::with_capacity(BATCH as usize * (BODY_BYTES + 2));
    let mut state = seed;
    for _ in 0..BATCH {
        slab.extend_from_slice(&(BODY_BYTES as u16 | 0x4000).to_be_bytes());
        slab.push(1);
        let at = slab.len();
        slab.extend_from_slice(&[0; 4]);
        for _ in 0..BODY_BYTES - 5 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            slab.push((state >> 56) as u8);
        }
        let crc = crc32c::crc32c(&slab[at + 4..]);
        slab[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    slab
}

/// Raw writes: copy, checksum, pad to a page, pwrite, fdatasync; files were written before.
struct Floor {
    files: Vec<File>,
    file_bytes: u64,
    at: u64,
    buf: Vec<u8>,
}

impl Floor {
    fn new(dir: &Path, file_bytes: u64) -> Self {
        let files = (0..4)
            .map(|n| {
                let file = File::create(dir.join(format!("floor-{n}"))).expect("make a file");
                let zeros = vec![0; 1 << 20];
                for at in (0..file_bytes).step_by(zeros.len()) {
                    file.write_all_at(&zeros, at).expect("write zeros");
                }
                file.sync_all().expect("sync");
                file
            })
            .collect();
        Floor {
            files,
            file_bytes,
            at: 0,
            buf: Vec::new(),
        }
    }

    fn append(&mut self, slab: &[u8]) {
        self.buf.clear();
        self.buf.resize(112, 0);
        self.buf.extend_from_slice(slab);
        let crc = crc32c::crc32c(&self.buf[8..]);
        self.buf[4..8].copy_from_slice(&crc.to_le_bytes());
        self.buf.resize(self.buf.len().div_ceil(PAGE) * PAGE, 0);
        let len = self.buf.len() as u64;
        if self.at % self.file_bytes + len > self.file_bytes {
            self.at = self.at.next_multiple_of(self.file_bytes);
        }
        let n = (self.at / self.file_bytes) as usize % self.files.len();
        let file = &self.files[n];
        file.write_all_at(&self.buf, self.at % self.file_bytes)
            .expect("write");
        file.sync_data().expect("sync");
        self.at += len;
    }
}

struct Bench {
    vfs: RealVfs,
    log: Log<RealVfs>,
    queue: Incarnation,
    next: u64,
    device_bytes: u64,
    encoded_bytes: u64,
    job_time: Duration,
    is_consumed: bool,
}

impl Bench {
    fn append(&mut self, slab: &[u8]) {
        let messages = Messages {
            epoch: 1,
            first_offset: self.next,
            count: BATCH,
            time_ms: 0,
        };
        self.log
            .append_messages(self.queue, messages, &[slab])
            .expect("append");
        self.next += u64::from(BATCH);
        if self.is_consumed {
            // Acks ride with the next group.
            self.log.append_state(self.queue, &[0; 24]).expect("ack");
            if self.next.is_multiple_of(64 * u64::from(BATCH)) {
                self.log.trim(self.queue, self.next - 1024).expect("trim");
            }
        }
        self.device_bytes += self.log.commit(0).expect("commit").bytes;
        self.encoded_bytes += slab.len() as u64;
    }

    /// What another thread would do, between two turns.
    fn jobs(&mut self) {
        let begin = Instant::now();
        loop {
            for queue in self.log.wants_snapshots() {
                self.log.append_snapshot(queue, &[0; 64]).expect("snapshot");
            }
            self.device_bytes += self.log.commit(0).expect("commit").bytes;
            let Some(job) = self.log.next_job() else {
                break;
            };
            let is_prepare = job.kind() == "prepare";
            let report = self.log.finish_job(job.run(&self.vfs)).expect("job");
            self.device_bytes += report.moved_bytes;
            if is_prepare {
                self.device_bytes += Options::default().file_bytes;
            }
        }
        self.job_time += begin.elapsed();
    }
}

fn open(dir: &Path, name: &str, is_consumed: bool) -> Bench {
    let vfs = RealVfs;
    let options = Options::default();
    let (mut log, _) = Log::open(vfs, &dir.join(name), options, 0).expect("open");
    let queue = Incarnation::new(0xbe9c).expect("not zero");
    log.create_queue(queue, "bench", b"").expect("queue");
    let mut bench = Bench {
        vfs,
        log,
        queue,
        next: 0,
        device_bytes: 0,
        encoded_bytes: 0,
        job_time: Duration::ZERO,
        is_consumed,
    };
    bench.jobs();
    bench
}

fn run(dir: &Path, megabytes: u64, is_consumed: bool) {
    let name = if is_consumed { "consumed" } else { "backlog" };
    let mut bench = open(dir, name, is_consumed);
    let mut floor = Floor::new(dir, Options::default().file_bytes);
    let slabs: Vec<_> = (0..16).map(slab).collect();
    // A turn is about 2 MiB, less than a file.
    let turn = 56;
    let turns = (megabytes << 20) / (turn * slabs[0].len() as u64);
    // Once through all files, so that what is measured writes into recycled ones.
    let warm_up = (96 << 20) / (turn * slabs[0].len() as u64);
    let (mut ours, mut raw) = (Duration::ZERO, Duration::ZERO);
    let mut ratios = Vec::new();
    for n in 0..warm_up + turns {
        if n == warm_up {
            (ours, raw) = (Duration::ZERO, Duration::ZERO);
            ratios.clear();
            (bench.device_bytes, bench.encoded_bytes) = (0, 0);
            bench.job_time = Duration::ZERO;
        }
        let mut a = Duration::ZERO;
        let mut b = Duration::ZERO;
        for i in 0..turn as usize {
            let slab = &slabs[i % slabs.len()];
            let begin = Instant::now();
            bench.append(slab);
            a += begin.elapsed();
            let begin = Instant::now();
            floor.append(slab);
            b += begin.elapsed();
        }
        bench.jobs();
        ours += a;
        raw += b;
        ratios.push(b.as_secs_f64() / a.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    let records = (turns * turn * u64::from(BATCH)) as f64;
    let used = bench.log.space_used();
    println!(
        "{name:9} log {:>9.0} rec/s  floor {:>9.0} rec/s  ratio {:.2} (median turn {:.2})  \
         device/encoded {:.2}  jobs {:.2} s of {:.2} s  index {} B, segments {} MiB",
        records / ours.as_secs_f64(),
        records / raw.as_secs_f64(),
        raw.as_secs_f64() / ours.as_secs_f64(),
        ratios[ratios.len() / 2],
        bench.device_bytes as f64 / bench.encoded_bytes as f64,
        bench.job_time.as_secs_f64(),
        ours.as_secs_f64(),
        used.index_bytes,
        used.segment_bytes >> 20,
    );
    drop(bench);
    reopen(dir, name);
}

fn reopen(dir: &Path, name: &str) {
    let begin = Instant::now();
    let (log, found) = Log::open(RealVfs, &dir.join(name), Options::default(), 0).expect("reopen");
    println!(
        "{name:9} reopened in {:.1} ms: {} groups, next offset {}",
        begin.elapsed().as_secs_f64() * 1e3,
        found.report.groups,
        found.queues[0].next_offset
    );
    let begin = Instant::now();
    let mut at = found.queues[0].first_offset;
    let mut records = 0;
    loop {
        let batch = log
            .read(found.queues[0].incarnation, at, 1 << 20)
            .expect("read");
        if batch.chunks.is_empty() {
            break;
        }
        records += batch.chunks.iter().map(|c| u64::from(c.count)).sum::<u64>();
        at = batch.next;
    }
    println!(
        "{name:9} read {records} records, {:.0} rec/s",
        records as f64 / begin.elapsed().as_secs_f64()
    );
}

fn main() {
    // Cargo adds `--bench` of its own.
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let base = args
        .next()
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let megabytes = args.next().and_then(|m| m.parse().ok()).unwrap_or(160);
    let dir = base.join(format!("waypost-log-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("make the directory");
    println!(
        "batches of {BATCH} records of {BODY_BYTES} B in {}",
        dir.display()
    );
    run(&dir, megabytes, true);
    run(&dir, megabytes, false);
    std::fs::remove_dir_all(&dir).expect("remove the directory");
}
