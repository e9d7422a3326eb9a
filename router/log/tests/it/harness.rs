//! A log, and beside it a model of what it must hold: the oracle of the tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use waypost_log::mem::{MemVfs, Rng};
use waypost_log::{
    AppendError, Incarnation, JobError, Log, Messages, Options, ReadError, Recovered, Replay,
};

pub const NOW_MS: u64 = 1_700_000_000_000;

pub fn dir() -> PathBuf {
    PathBuf::from("/data/shard-0000")
}

/// Files so small that a short run rolls, moves, snapshots and recycles.
pub fn small_options() -> Options {
    Options {
        file_bytes: 16 << 10,
        wal_bytes_max: 96 << 10,
        wal_bytes_low: 32 << 10,
        group_bytes_max: 8 << 10,
        segment_bytes_max: 8 << 10,
        spare_files_max: 1,
        nonce: 0x5eed,
        ..Options::default()
    }
}

pub fn new_disk() -> MemVfs {
    MemVfs::with_dir(Path::new("/data")).unwrap()
}

pub fn queue(n: u64) -> Incarnation {
    Incarnation::new(0x1000 + n).unwrap()
}

/// A body with its own checksum, as the wire has it.
pub fn body(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng(seed);
    let rest: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
    let mut body = vec![1];
    body.extend_from_slice(&crc32c::crc32c(&rest).to_le_bytes());
    body.extend_from_slice(&rest);
    body
}

pub fn slab(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut slab = Vec::new();
    for body in bodies {
        let len = body.len() as u16;
        slab.extend_from_slice(&(len | 0x4000).to_be_bytes());
        slab.extend_from_slice(body);
    }
    slab
}

pub fn messages(first_offset: u64, count: u32) -> Messages {
    Messages {
        epoch: 1,
        first_offset,
        count,
        time_ms: NOW_MS,
    }
}

/// What a queue must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    pub records: BTreeMap<u64, Vec<u8>>,
    /// The states that were journaled; each is the number of those before it.
    pub states: u64,
}

pub type View = BTreeMap<Incarnation, QueueView>;

#[derive(Clone, Debug)]
enum Op {
    Messages(Incarnation, u64, Vec<Vec<u8>>),
    State(Incarnation),
    Trim(Incarnation, u64),
    Remove(Incarnation),
}

fn apply(view: &mut View, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Messages(queue, first, bodies) => {
                let records = &mut view.get_mut(queue).unwrap().records;
                records.extend((*first..).zip(bodies.iter().cloned()));
            }
            Op::State(queue) => view.get_mut(queue).unwrap().states += 1,
            Op::Trim(queue, up_to) => {
                let records = &mut view.get_mut(queue).unwrap().records;
                *records = records.split_off(up_to);
            }
            Op::Remove(queue) => {
                view.remove(queue);
            }
        }
    }
}

/// A log that failed because its disk did.
pub struct Died(String);

impl std::fmt::Debug for Died {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

pub struct Harness {
    pub vfs: MemVfs,
    pub log: Log<MemVfs>,
    /// What was committed.
    pub committed: View,
    pending: Vec<Op>,
    next_offsets: BTreeMap<Incarnation, u64>,
    creating: Option<Incarnation>,
    next_queue: u64,
}

/// What may be found after a crash.
pub struct Expected {
    committed: View,
    with_pending: View,
    creating: Option<Incarnation>,
    next_offsets: BTreeMap<Incarnation, u64>,
    next_queue: u64,
}

impl Expected {
    pub fn committed(&self) -> &View {
        &self.committed
    }
}

impl Harness {
    pub fn new(vfs: MemVfs) -> Result<Self, Died> {
        let (log, found) =
            Log::open(vfs.clone(), &dir(), small_options(), NOW_MS).map_err(|e| died(&e))?;
        assert!(found.queues.is_empty());
        Ok(Harness {
            vfs,
            log,
            committed: View::new(),
            pending: Vec::new(),
            next_offsets: BTreeMap::new(),
            creating: None,
            next_queue: 0,
        })
    }

    pub fn expected(&self) -> Expected {
        let mut with_pending = self.committed.clone();
        apply(&mut with_pending, &self.pending);
        Expected {
            committed: self.committed.clone(),
            with_pending,
            creating: self.creating,
            next_offsets: self.next_offsets.clone(),
            next_queue: self.next_queue,
        }
    }

    /// Opens the disk after a crash; what is found must be what was committed, alone or with all
    /// that was pending.
    pub fn reopen(vfs: MemVfs, mut expected: Expected, what: &str) -> Result<Self, Died> {
        let (log, found) =
            Log::open(vfs.clone(), &dir(), small_options(), NOW_MS).map_err(|e| died(&e))?;
        // A fault that was meant for the opening does not hit the look at what was found.
        vfs.clear_fault();
        assert!(
            !found.report.is_alarming(),
            "{what}: a crash was taken for rot: {:?}",
            found.report
        );
        let view = view_of(&log, &found);
        if let Some(queue) = expected.creating
            && !expected.committed.contains_key(&queue)
            && view.get(&queue) == Some(&QueueView::default())
        {
            expected.committed.insert(queue, QueueView::default());
            expected.with_pending.insert(queue, QueueView::default());
        }
        let committed = if view == expected.committed {
            expected.committed
        } else if view == expected.with_pending {
            expected.with_pending
        } else {
            let lost = difference(&expected.committed, &view);
            panic!("{what}: neither what was committed nor with what was pending: {lost}");
        };
        Ok(Harness {
            vfs,
            log,
            committed,
            pending: Vec::new(),
            next_offsets: expected.next_offsets,
            creating: None,
            next_queue: expected.next_queue,
        })
    }

    pub fn create(&mut self) -> Result<Incarnation, Died> {
        let queue = queue(self.next_queue);
        self.next_queue += 1;
        self.creating = Some(queue);
        self.log
            .create_queue(queue, &format!("q{queue}"), b"settings")
            .map_err(|e| died(&e))?;
        self.creating = None;
        self.committed.insert(queue, QueueView::default());
        Ok(queue)
    }

    pub fn append(&mut self, queue: Incarnation, bodies: Vec<Vec<u8>>) -> Result<(), Died> {
        let slab = slab(&bodies);
        let first = *self.next_offsets.entry(queue).or_default();
        for attempt in 0.. {
            let head = messages(first, bodies.len() as u32);
            match self.log.append_messages(queue, head, &[&slab]) {
                Ok(()) => break,
                Err(e) => self.make_room(e, attempt)?,
            }
        }
        self.next_offsets.insert(queue, first + bodies.len() as u64);
        self.pending.push(Op::Messages(queue, first, bodies));
        Ok(())
    }

    pub fn state(&mut self, queue: Incarnation) -> Result<(), Died> {
        for attempt in 0.. {
            let n = self.states(queue);
            match self.log.append_state(queue, &n.to_le_bytes()) {
                Ok(()) => break,
                Err(e) => self.make_room(e, attempt)?,
            }
        }
        self.pending.push(Op::State(queue));
        Ok(())
    }

    pub fn snapshot(&mut self, queue: Incarnation) -> Result<(), Died> {
        for attempt in 0.. {
            let n = self.states(queue);
            match self.log.append_snapshot(queue, &n.to_le_bytes()) {
                Ok(()) => break,
                Err(e) => self.make_room(e, attempt)?,
            }
        }
        Ok(())
    }

    pub fn trim(&mut self, queue: Incarnation, up_to: u64) -> Result<(), Died> {
        for attempt in 0.. {
            match self.log.trim(queue, up_to) {
                Ok(()) => break,
                Err(e) => self.make_room(e, attempt)?,
            }
        }
        self.pending.push(Op::Trim(queue, up_to));
        Ok(())
    }

    pub fn remove(&mut self, queue: Incarnation) -> Result<(), Died> {
        self.log.remove_queue(queue).map_err(|e| died(&e))?;
        self.pending.push(Op::Remove(queue));
        Ok(())
    }

    pub fn commit(&mut self) -> Result<(), Died> {
        match self.log.commit(NOW_MS) {
            Ok(_) => {
                apply(&mut self.committed, &self.pending);
                self.pending.clear();
                Ok(())
            }
            Err(e) => Err(died(&e)),
        }
    }

    fn make_room(&mut self, error: AppendError, attempt: u32) -> Result<(), Died> {
        if !error.is_retryable() {
            return Err(died(&error));
        }
        assert!(attempt < 20, "no room however often jobs run: {error}");
        self.commit()?;
        if matches!(error, AppendError::WalFull { .. }) {
            self.jobs()?;
        }
        Ok(())
    }

    /// Runs all jobs and answers all wanted snapshots.
    pub fn jobs(&mut self) -> Result<(), Died> {
        loop {
            let wanted = self.log.wants_snapshots();
            let is_idle = wanted.is_empty();
            for queue in wanted {
                let n = self.states(queue);
                if let Err(e) = self.log.append_snapshot(queue, &n.to_le_bytes()) {
                    assert!(
                        e.is_retryable() || matches!(e, AppendError::Poisoned(_)),
                        "{e}"
                    );
                    break;
                }
            }
            self.commit()?;
            match self.job()? {
                false if is_idle => return Ok(()),
                _ => {}
            }
        }
    }

    /// Runs one job, if there is one.
    pub fn job(&mut self) -> Result<bool, Died> {
        let Some(job) = self.log.next_job() else {
            return Ok(false);
        };
        let done = job.run(&self.vfs);
        match self.log.finish_job(done) {
            Ok(report) => {
                assert_eq!(report.damage, vec![]);
                Ok(true)
            }
            Err(JobError::NoSpace(e)) => Err(died(&e)),
            Err(e) => Err(died(&e)),
        }
    }

    fn states(&self, queue: Incarnation) -> u64 {
        let pending = self
            .pending
            .iter()
            .filter(|op| matches!(op, Op::State(q) if *q == queue))
            .count();
        self.committed[&queue].states + pending as u64
    }

    /// One random step.
    pub fn step(&mut self, rng: &mut Rng) -> Result<(), Died> {
        let queues: Vec<_> = self.committed.keys().copied().collect();
        if queues.is_empty() || (queues.len() < 3 && rng.below(8) == 0) {
            return self.create().map(|_| ());
        }
        let queue = queues[rng.below(queues.len() as u64) as usize];
        let is_removed = self
            .pending
            .iter()
            .any(|op| matches!(op, Op::Remove(q) if *q == queue));
        if is_removed {
            return self.commit();
        }
        match rng.below(32) {
            0..=11 => {
                let bodies = (0..=rng.below(6))
                    .map(|_| body(rng.next_u64(), rng.below(300) as usize))
                    .collect();
                self.append(queue, bodies)
            }
            12..=15 => self.state(queue),
            16..=18 => {
                let next = self.next_offsets.get(&queue).copied().unwrap_or(0);
                let keep = rng.below(40);
                self.trim(queue, next.saturating_sub(keep))
            }
            19 => self.snapshot(queue),
            20 if rng.below(4) == 0 => self.remove(queue),
            21..=23 => self.job().map(|_| ()),
            24 => self.jobs(),
            25 => {
                let result = self.log.idle_sync(NOW_MS);
                if result.is_ok() {
                    apply(&mut self.committed, &self.pending);
                    self.pending.clear();
                }
                result.map_err(|e| died(&e))
            }
            26 => {
                let (found, expected) = (view(&self.log, &self.committed), &self.committed);
                match found {
                    Ok(found) => assert!(found == *expected, "{}", difference(expected, &found)),
                    Err(e) => return Err(died(&e)),
                }
                Ok(())
            }
            _ => self.commit(),
        }
    }
}

pub fn died(error: &dyn std::fmt::Display) -> Died {
    Died(error.to_string())
}

/// Reads all records of a queue.
pub fn read_all(
    log: &Log<MemVfs>,
    queue: Incarnation,
    from: u64,
) -> Result<BTreeMap<u64, Vec<u8>>, ReadError> {
    let mut records = BTreeMap::new();
    let mut at = from;
    loop {
        let batch = log.read(queue, at, 1000)?;
        if batch.chunks.is_empty() {
            return Ok(records);
        }
        for chunk in &batch.chunks {
            for (offset, body) in chunk.records() {
                if offset >= from {
                    records.insert(offset, body.to_vec());
                }
            }
        }
        assert!(batch.next > at, "a read did not go on");
        at = batch.next;
    }
}

/// The committed records as the running log serves them.
fn view(log: &Log<MemVfs>, committed: &View) -> Result<View, ReadError> {
    let mut view = View::new();
    for (queue, expected) in committed {
        let from = expected.records.keys().next().copied();
        let records = match (from, log.read(*queue, 0, 1)) {
            (_, Err(ReadError::UnknownQueue(_))) => expected.records.clone(),
            (_, Err(e)) => return Err(e),
            (Some(from), Ok(_)) => read_all(log, *queue, from)?,
            (None, Ok(_)) => BTreeMap::new(),
        };
        let states = expected.states;
        view.insert(*queue, QueueView { records, states });
    }
    Ok(view)
}

/// What a recovery found.
pub fn view_of(log: &Log<MemVfs>, found: &Recovered) -> View {
    let mut view = View::new();
    for queue in &found.queues {
        let mut states = match &queue.snapshot {
            Some(bytes) => u64::from_le_bytes(bytes[..].try_into().unwrap()),
            None => 0,
        };
        for entry in &queue.replay {
            if let Replay::State(bytes) = entry {
                assert_eq!(bytes[..], states.to_le_bytes(), "a state out of order");
                states += 1;
            }
        }
        let records = read_all(log, queue.incarnation, queue.first_offset).unwrap();
        view.insert(queue.incarnation, QueueView { records, states });
    }
    view
}

pub fn difference(expected: &View, found: &View) -> String {
    let mut text = String::new();
    for queue in expected.keys().chain(found.keys()) {
        let (a, b) = (expected.get(queue), found.get(queue));
        if a != b {
            let show = |v: Option<&QueueView>| match v {
                Some(v) => format!(
                    "{} states, {} records {:?}..={:?}",
                    v.states,
                    v.records.len(),
                    v.records.keys().next(),
                    v.records.keys().next_back()
                ),
                None => "nothing".to_owned(),
            };
            text += &format!("\n  {queue}: expected {}, found {}", show(a), show(b));
        }
    }
    text
}
