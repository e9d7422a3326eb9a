//! One small data directory, and everything that one fault can do to a file of it: every bit
//! flipped, every length, every file gone. Each damage is found or costs nothing; what is not
//! damaged is served, what is served is right, and opening once more finds the same.
//!
//! The short form tries one fault in [`STRIDE`]; `cargo test --release -p waypost-log every_ --
//! --ignored` tries all, in about two minutes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use waypost_log::format::entry::{EntryKind, entries};
use waypost_log::format::segment::SEGMENT_HEADER_BYTES;
use waypost_log::inspect;
use waypost_log::mem::{Call, Fault, MemVfs};
use waypost_log::scan;
use waypost_log::{
    DataDir, Incarnation, Log, OpenError, Options, Position, ReadError, Recovered, Replay, Vfs,
};

use crate::harness::{NOW_MS, body, messages, queue, slab};

/// The short form's distance between two faults, in bits or bytes; prime, so that it meets all
/// bits of a byte and all places of a page.
const STRIDE: usize = 127;

pub type Records = BTreeMap<u64, Vec<u8>>;

fn options() -> Options {
    Options {
        file_bytes: 8 << 10,
        wal_bytes_max: 64 << 10,
        wal_bytes_low: 24 << 10,
        group_bytes_max: 4 << 10,
        segment_bytes_max: 4 << 10,
        spare_files_max: 1,
        nonce: 0x5eed,
        ..Options::default()
    }
}

/// The directory as it should be.
pub struct Pristine {
    pub disk: MemVfs,
    /// All records that were ever appended.
    pub appended: BTreeMap<Incarnation, Records>,
    /// Offsets below were trimmed.
    trimmed: BTreeMap<Incarnation, u64>,
    /// States journaled; each is the number of those before it.
    states: BTreeMap<Incarnation, u64>,
    /// Where message entries that count lie: file, bytes, queue, offsets.
    entries: Vec<Placed>,
}

pub struct Placed {
    file: PathBuf,
    bytes: Range<usize>,
    /// The bytes of each record: its length, then its body.
    records: Vec<(Range<usize>, Range<usize>)>,
    queue: Incarnation,
    offsets: Range<u64>,
}

/// What a damaged directory gave.
pub struct Served {
    pub records: BTreeMap<Incarnation, Records>,
    states: BTreeMap<Incarnation, u64>,
    /// Offsets that a read named as damaged.
    pub named: u64,
    pub found: Recovered,
}

impl Served {
    pub fn is_alarming(&self) -> bool {
        self.found.report.is_alarming()
    }
}

/// Three queues, of which one has two segments and a tail in the WAL, one is in the WAL alone, and
/// one was trimmed; two generations; the last group proven.
pub fn pristine() -> Pristine {
    let disk = MemVfs::new();
    disk.create_dir(Path::new("/")).unwrap();
    let mut made = Pristine {
        disk: disk.clone(),
        appended: BTreeMap::new(),
        trimmed: BTreeMap::from([(queue(2), 9)]),
        states: BTreeMap::new(),
        entries: Vec::new(),
    };
    for generation in 0..2u64 {
        let held = DataDir::open(&disk, Path::new("/data")).unwrap();
        let (mut log, _) = Log::open(disk.clone(), &held.shard_dir(0), options(), NOW_MS).unwrap();
        for n in 0..3 {
            if generation == 0 {
                log.create_queue(queue(n), &format!("q{n}"), b"settings")
                    .unwrap();
            }
        }
        for group in generation * 12..generation * 12 + 12 {
            // The second queue writes in the second generation only.
            for n in if generation == 0 { 0..1 } else { 0..3 } {
                let first = made.next(n);
                let bodies: Vec<_> = (0..4).map(|i| body(n << 32 | group << 8 | i, 90)).collect();
                log.append_messages(queue(n), messages(first, 4), &[slab(&bodies)])
                    .unwrap();
                made.appended
                    .entry(queue(n))
                    .or_default()
                    .extend((first..).zip(bodies));
                let states = made.states.entry(queue(n)).or_default();
                log.append_state(queue(n), &states.to_le_bytes()).unwrap();
                *states += 1;
            }
            if group == 20 {
                log.trim(queue(2), 9).unwrap();
            }
            log.commit(NOW_MS).unwrap();
            settle(&mut log, &disk, &made.states);
        }
        log.idle_sync(NOW_MS).unwrap();
        settle(&mut log, &disk, &made.states);
    }
    made.place();
    made
}

/// Runs all jobs and answers all wanted snapshots.
fn settle(log: &mut Log<MemVfs>, disk: &MemVfs, states: &BTreeMap<Incarnation, u64>) {
    loop {
        while let Some(job) = log.next_job() {
            let done = job.run(disk);
            log.finish_job(done).unwrap();
        }
        let wanted = log.wants_snapshots();
        if wanted.is_empty() {
            return;
        }
        for queue in wanted {
            let states = states.get(&queue).copied().unwrap_or(0);
            log.append_snapshot(queue, &states.to_le_bytes()).unwrap();
        }
        log.commit(NOW_MS).unwrap();
    }
}

impl Pristine {
    fn next(&self, n: u64) -> u64 {
        let records = self.appended.get(&queue(n));
        records.map_or(0, |r| r.len() as u64)
    }

    /// Finds the entries, with the format's own decoders.
    fn place(&mut self) {
        for file in self.disk.files() {
            let bytes = self.disk.contents(&file).unwrap();
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let mut add = |base: usize, entry: &waypost_log::format::entry::Entry<'_>| {
                if entry.header.kind == EntryKind::Messages {
                    let start = base + entry.at;
                    let end = start + entry.header.total_bytes() as usize;
                    self.entries.push(Placed {
                        file: file.clone(),
                        bytes: start..end,
                        records: records_at(entry.payload, end - entry.payload.len()),
                        queue: Incarnation::new(entry.header.incarnation).unwrap(),
                        offsets: entry.header.first_offset..entry.header.end_offset(),
                    });
                }
            };
            if let Some(seq) = name.strip_suffix(".wal") {
                let seq = u64::from_str_radix(seq, 16).unwrap();
                let base = Position::of(seq, 0, options().file_bytes);
                for group in scan::groups(&bytes, base) {
                    let at = (group.header.position.0 - base.0) as usize;
                    scan::group_entries(&bytes[at..], &group.header).for_each(|e| add(at, &e));
                }
            } else if name.ends_with(".seg") {
                entries(&bytes, SEGMENT_HEADER_BYTES, bytes.len()).for_each(|e| add(0, &e));
            }
        }
    }

    /// The records that must be served if `is_hit` says which of an entry's records the damage
    /// touched: all that were not trimmed and have a place that is whole.
    pub fn required(
        &self,
        is_hit: impl Fn(&Placed, usize) -> bool,
    ) -> BTreeMap<Incarnation, Records> {
        let mut required: BTreeMap<Incarnation, Records> = BTreeMap::new();
        for placed in &self.entries {
            for (index, offset) in placed.offsets.clone().enumerate() {
                if is_hit(placed, index) {
                    continue;
                }
                if offset >= self.trimmed.get(&placed.queue).copied().unwrap_or(0) {
                    let body = self.appended[&placed.queue][&offset].clone();
                    let of_queue = required.entry(placed.queue).or_default();
                    of_queue.insert(offset, body);
                }
            }
        }
        required
    }
}

/// Where each record's length and body lie, if the slab begins at `at` in its file.
fn records_at(slab: &[u8], mut at: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let mut records = Vec::new();
    for body in waypost_log::format::slab::bodies(slab) {
        let from = at + 2;
        records.push((at..from, from..from + body.len()));
        at = from + body.len();
    }
    records
}

/// Opens the directory and reads all that it serves.
pub fn serve(disk: &MemVfs) -> Result<Served, OpenError> {
    serve_at(disk, "/data")
}

pub fn serve_at(disk: &MemVfs, dir: &str) -> Result<Served, OpenError> {
    let held = DataDir::open(disk, Path::new(dir))?;
    let (log, found) = Log::open(disk.clone(), &held.shard_dir(0), options(), NOW_MS)?;
    let (mut records, mut states, mut named) = (BTreeMap::new(), BTreeMap::new(), 0);
    for queue in &found.queues {
        let served: &mut Records = records.entry(queue.incarnation).or_default();
        let mut at = queue.first_offset;
        loop {
            match log.read(queue.incarnation, at, 4096) {
                Ok(batch) if batch.chunks.is_empty() => break,
                Ok(batch) => {
                    for chunk in &batch.chunks {
                        let of_chunk = chunk.records().map(|(o, b)| (o, b.to_vec()));
                        served.extend(of_chunk.filter(|(o, _)| *o >= queue.first_offset));
                    }
                    at = batch.next;
                }
                Err(ReadError::Damaged {
                    first_offset,
                    end_offset,
                    ..
                }) => {
                    assert!(end_offset > at, "no way on from {at}");
                    named += end_offset - first_offset;
                    at = end_offset;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let snapshot = queue.snapshot.as_deref();
        let base = snapshot.map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap()));
        let journaled = queue.replay.iter().filter_map(|r| match r {
            Replay::State(bytes) => Some(u64::from_le_bytes(bytes[..].try_into().unwrap())),
            _ => None,
        });
        let last = journaled.map(|n| n + 1).max();
        states.insert(queue.incarnation, last.unwrap_or(0).max(base));
    }
    Ok(Served {
        records,
        states,
        named,
        found,
    })
}

/// What must hold whatever was damaged.
fn check(made: &Pristine, disk: &MemVfs, required: &BTreeMap<Incarnation, Records>, what: &str) {
    let looked = inspect::check(disk, Path::new("/data"));
    let served = serve(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    for (queue, records) in &served.records {
        for (offset, body) in records {
            let appended = &made.appended[queue];
            assert_eq!(appended.get(offset), Some(body), "{what}: {queue} {offset}");
        }
    }
    let mut missing = 0;
    for (queue, records) in &made.required(|_, _| false) {
        for offset in records.keys() {
            let is_served = served
                .records
                .get(queue)
                .is_some_and(|r| r.contains_key(offset));
            let is_required = required.get(queue).is_some_and(|r| r.contains_key(offset));
            assert!(
                is_served || !is_required,
                "{what}: {queue} {offset} is whole and is not served: {:?}",
                served.found.report
            );
            missing += u64::from(!is_served);
        }
    }
    let is_told = served.is_alarming() || served.named > 0;
    assert!(
        missing == 0 || is_told,
        "{what}: {missing} are gone, silently"
    );
    for (queue, states) in &made.states {
        let found = served.states.get(queue).copied().unwrap_or(0);
        assert!(found <= *states, "{what}: a state from nowhere");
        assert!(
            found == *states || served.is_alarming(),
            "{what}: states of {queue} are gone, silently"
        );
    }
    assert!(
        served.found.report.torn.iter().all(|d| d.bytes <= 4096),
        "{what}: synced bytes were cut: {:?}",
        served.found.report
    );
    let looked = looked.unwrap_or_else(|e| panic!("{what}, looked at: {e}"));
    assert_eq!(
        looked.has_loss(),
        is_told,
        "{what}: an opening and a check differ: {:?} {:?}",
        served.found.report,
        looked.findings
    );
    let again = serve(&disk.kill()).unwrap_or_else(|e| panic!("{what}, opened again: {e}"));
    assert_eq!(again.records, served.records, "{what}, opened again");
    assert_eq!(again.states, served.states, "{what}, opened again");
}

/// The files in which a fault can cost something.
fn files(made: &Pristine) -> Vec<PathBuf> {
    let files = made.disk.files();
    assert!(files.iter().filter(|f| f.ends_with("queue.meta")).count() == 3);
    let ends = |end: &str| {
        let has = |f: &&PathBuf| f.to_string_lossy().ends_with(end);
        files.iter().filter(has).count()
    };
    assert!(ends(".wal") >= 3 && ends(".seg") >= 2, "{files:?}");
    files
}

fn is_format(file: &Path) -> bool {
    file.ends_with("format")
}

/// The directory's own description decides whether anything is touched at all.
fn check_format(disk: &MemVfs, what: &str) {
    let before: Vec<_> = disk.files();
    match serve(disk) {
        Ok(served) => assert!(!served.is_alarming(), "{what}"),
        Err(OpenError::Foreign { .. } | OpenError::NewerFormat { .. }) => {
            assert_eq!(disk.files(), before, "{what}: it was touched");
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

fn flip_bits(stride: usize) {
    let made = pristine();
    let mut flips = 0;
    for file in files(&made) {
        let bits = made.disk.contents(&file).unwrap().len() * 8;
        for bit in (0..bits).step_by(stride) {
            let what = format!("{} bit {bit}", file.display());
            let disk = made.disk.kill();
            disk.flip_bit(&file, bit);
            flips += 1;
            if is_format(&file) {
                check_format(&disk, &what);
                continue;
            }
            // A header of which one bit flips is mended. A flip in a body costs that record; one in
            // a length misplaces those after it.
            let is_hit = |p: &Placed, record: usize| {
                let (_, body) = &p.records[record];
                let before = &p.records[..=record];
                p.file == file
                    && (body.contains(&(bit / 8))
                        || before.iter().any(|(length, _)| length.contains(&(bit / 8))))
            };
            check(&made, &disk, &made.required(is_hit), &what);
        }
    }
    println!("{flips} bits flipped, one at a time");
}

fn cut_lengths(stride: usize) {
    let made = pristine();
    let mut cuts = 0;
    for file in files(&made) {
        let bytes = made.disk.contents(&file).unwrap();
        for len in (0..bytes.len()).step_by(stride) {
            let what = format!("{} cut to {len} of {} bytes", file.display(), bytes.len());
            let disk = made.disk.kill();
            disk.set_contents(&file, bytes[..len].to_vec());
            cuts += 1;
            if is_format(&file) {
                check_format(&disk, &what);
                continue;
            }
            let is_hit = |p: &Placed, _| p.file == file && p.bytes.end > len;
            check(&made, &disk, &made.required(is_hit), &what);
        }
    }
    println!("{cuts} lengths");
}

#[test]
fn one_bit_in_many_flips() {
    flip_bits(STRIDE);
}

#[test]
fn one_length_in_many_is_cut() {
    cut_lengths(STRIDE);
}

#[test]
#[ignore = "the long form: minutes, in a release build"]
fn every_bit_flips() {
    flip_bits(1);
}

#[test]
#[ignore = "the long form: minutes, in a release build"]
fn every_length_is_cut() {
    cut_lengths(1);
}

/// The oldest and the newest WAL file are the exceptions that `docs/log-format.md` names.
#[test]
fn any_file_is_gone() {
    let made = pristine();
    let files = files(&made);
    let is_wal = |f: &&PathBuf| f.extension().is_some_and(|e| e == "wal");
    let wal: Vec<_> = files.iter().filter(is_wal).collect();
    for file in &files {
        if wal.first() == Some(&file) || wal.last() == Some(&file) {
            continue;
        }
        let what = format!("{} is gone", file.display());
        let disk = made.disk.kill();
        disk.remove_file(file).unwrap();
        if is_format(file) {
            check_format(&disk, &what);
            continue;
        }
        let is_hit = |p: &Placed, _| p.file == *file;
        check(&made, &disk, &made.required(is_hit), &what);
    }
}

/// A read that comes short is read on; one that fails is an error, and no evidence of damage: the
/// next opening finds everything.
#[test]
fn any_read_of_an_opening_fails_or_comes_short() {
    let made = pristine();
    let sound = serve(&made.disk.kill()).unwrap();
    let open = |disk: &MemVfs| {
        let held = DataDir::open(disk, Path::new("/data"))?;
        Log::open(disk.clone(), &held.shard_dir(0), options(), NOW_MS)
    };
    let mut failed = 0;
    for nth in 0.. {
        let what = format!("read {nth}");
        let disk = made.disk.kill();
        disk.fail_at_call(Call::Read, nth, Fault::Io);
        match open(&disk).map(drop) {
            Ok(()) => break,
            Err(OpenError::Io(_)) => failed += 1,
            Err(error) => panic!("{what}: {error}"),
        }
        disk.clear_fault();
        let after = serve(&disk.kill()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(!after.is_alarming(), "{what}: {:?}", after.found.report);
        assert_eq!(after.records, sound.records, "{what}");
        assert_eq!(after.states, sound.states, "{what}");

        let disk = made.disk.kill();
        disk.fail_at_call(Call::Read, nth, Fault::ShortRead);
        let (_, found) = open(&disk).unwrap_or_else(|e| panic!("{what} short: {e}"));
        assert!(!found.report.is_alarming(), "{what} short");
    }
    assert!(failed > 20, "an opening reads only {failed} times");
}
