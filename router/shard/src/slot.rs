//! A queue with everything that belongs to it in this shard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use waypost_core::age::Received;
use waypost_core::group::ConsumerId;
use waypost_core::lastvalue::LastValues;
use waypost_core::queue::Queue;
use waypost_log::Incarnation;
use waypost_wire::Slab;

use crate::tail::Tail;

/// Records that were appended together, wherever they were found.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub first_offset: u64,
    pub time_ms: u64,
    pub slab: Slab,
    /// Some record may wait or expire: each is looked at.
    pub is_timed: bool,
}

impl Chunk {
    pub fn end(&self) -> u64 {
        self.first_offset + u64::from(self.slab.count())
    }
}

/// The consumers of a group, and where its next delivery begins.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// In the order in which they came, by number.
    pub consumers: BTreeMap<u64, ConsumerId>,
    /// Those that may have room, in turn: whoever finds none takes them out, and whatever makes
    /// room puts them back. So a turn costs the same however many consumers there are.
    pub open: VecDeque<ConsumerId>,
    /// Read from the log for this group and not delivered yet.
    pub read_ahead: Vec<Chunk>,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub queue: Queue,
    /// None for a memory queue, which the log does not know.
    pub incarnation: Option<Incarnation>,
    pub tail: Tail,
    /// By name: groups are served in the same order each time.
    pub members: BTreeMap<String, Members>,
    /// What was read from the log for a reader without a group, while it reads.
    pub read_ahead: Vec<Chunk>,
    /// Offsets below are in the log, and can be read from there.
    pub committed: u64,
    /// The log was told that offsets below are not needed.
    pub trimmed: u64,
    pub timer: Option<u64>,
    /// When its messages were received.
    pub received: Received,
    /// The newest message of each key, where the queue keeps only those.
    pub last_values: Option<LastValues>,
    /// When its head is looked at for what is too old.
    pub sweep_at: Option<u64>,
    /// Groups that were too far behind at the last publish, where that closes their consumers.
    pub slow_groups: BTreeSet<String>,
    /// Who named it: `config`, `network` or `node`.
    pub source: &'static str,
    /// Who named it first, as the log has it; unknown of queues that are older than that.
    pub made_by: Option<&'static str>,
    pub published: u64,
    pub delivered: u64,
    pub acked: u64,
    /// Messages that made room at a limit, and of those the ones that a group had not acked.
    pub dropped: u64,
    pub dropped_unacked: u64,
    /// Messages that went from here to the dead letters.
    pub dead_lettered: u64,
    /// Messages that expired, since the node started.
    pub expired: u64,
    /// Messages that it had already.
    pub duplicates: u64,
}

impl Slot {
    pub fn new(queue: Queue, incarnation: Option<Incarnation>, source: &'static str) -> Slot {
        Slot {
            tail: Tail::new(incarnation.is_none()),
            received: Received::new(queue.next()),
            sweep_at: None,
            last_values: last_values(&queue),
            committed: queue.next(),
            queue,
            incarnation,
            members: BTreeMap::new(),
            read_ahead: Vec::new(),
            trimmed: 0,
            timer: None,
            slow_groups: BTreeSet::new(),
            source,
            made_by: None,
            published: 0,
            delivered: 0,
            acked: 0,
            dropped: 0,
            dropped_unacked: 0,
            dead_lettered: 0,
            expired: 0,
            duplicates: 0,
        }
    }
}

/// The index of a queue that keeps only the newest message of each key.
pub(crate) fn last_values(queue: &Queue) -> Option<LastValues> {
    let is_kept = queue.settings().last_value;
    is_kept.then(|| LastValues::new(queue.first(), queue.next()))
}

/// A slab that does not keep a much larger buffer alive: small ones are copied.
pub(crate) fn detached(slab: &Slab) -> Slab {
    const COPIED_BELOW: usize = 2048;
    if slab.bytes().len() >= COPIED_BELOW {
        return slab.clone();
    }
    Slab::from_checked(Bytes::copy_from_slice(slab.bytes()), slab.count())
}
