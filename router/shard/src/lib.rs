//! One shard: what `core` decides about queues and groups, carried out on the log.
//!
//! No threads, no sockets, no clock: the node drives it from the shard's thread, the simulator in
//! virtual time on a disk of its own. Facts come in as calls ([`Shard::publish`],
//! [`Shard::consumer_frame`], …), what follows from them goes out as [`Output`]s, and
//! [`Shard::commit`] is the one place where anything becomes durable.
//!
//! Invariants:
//! - [`Output::Accepted`] with level `stored` leaves after the commit that holds every part of
//!   that publish; consumers get only what was committed, except of queues that are in memory or
//!   deliver on receipt;
//! - only what a `sync` queue waits for makes a commit due at once; an `interval` queue waits
//!   until something else syncs, or its interval is over;
//! - what one input causes is in one group of the log: all of it, or nothing;
//! - memory is bounded: recent messages by [`Options::cache_bytes`], each consumer's undelivered
//!   bytes by [`Options::consumer_bytes_max`], everything else by ranges.

mod ahead;
mod browse;
mod consumers;
mod dead;
mod deliver;
mod expiry;
mod groups;
mod intake;
mod keyed;
mod lastvalue;
mod limits;
mod manage;
mod open;
mod priority;
mod publish;
mod receipts;
mod redrive;
mod select;
mod settings;
mod slot;
mod slow;
mod tail;
mod timed;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use waypost_core::age::Clock;
use waypost_core::dedup::{ProducerId, Sessions};
use waypost_core::group::ConsumerId;
use waypost_core::journal::Entry;
use waypost_core::limits::Limits;
use waypost_log::{CommitError, Incarnation, Log, Vfs};
use waypost_wire::Code;
use waypost_wire::data::{Deliver, Exception, Level, Receipts};

pub use browse::{Browsed, Selection};
pub use consumers::{Attach, GROUPS_MAX, Start};
pub use manage::{GroupView, ManageError, Peeked, QueueView};
pub use open::{Opened, Recovered};
pub use publish::{Batch, OpenedProducer, Part, PublishError, Stamp};
pub use redrive::Redriven;
pub use settings::{
    GROUP_FILTERS_MAX, SettingsError, check as check_settings, decode_settings, encode_settings,
    from_message, group_kind, group_options, is_made_over_network, to_message,
};

use consumers::Consumer;
use slot::Slot;

/// The time, as the caller knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Of a monotonic clock, in ms: leases and delays.
    pub mono_ms: u64,
    /// Since 1970, in ms: receive times, and nothing that order or leases depend on.
    pub wall_ms: u64,
}

/// Names a publish for its caller; it comes back in the outcome.
pub type Ticket = u64;

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Which.
    pub ticket: Ticket,
    /// The level of the weakest queue that it reached.
    pub level: Level,
    /// What is to be said of inputs that were not simply taken, in their order.
    pub exceptions: Vec<Exception>,
    /// Where what was taken lies, for a [`Batch::wants_places`].
    pub places: Vec<Place>,
}

/// Records of a batch that follow each other in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The queue.
    pub queue: Arc<str>,
    /// The offset of the first.
    pub first_offset: u64,
    /// For each, the input that it came from.
    pub inputs: Vec<u32>,
}

/// What the shard's owner must do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// What became of a batch is known, and as durable as it says.
    Accepted(Accepted),
    /// Messages for a consumer.
    Deliver {
        /// Which.
        consumer: ConsumerId,
        /// The batch.
        deliver: Deliver,
    },
    /// A consumer has nothing more to expect.
    ConsumerClosed {
        /// Which.
        consumer: ConsumerId,
        /// Why.
        code: Code,
        /// For people.
        text: String,
    },
    /// All that a consumer said before it left is as durable as its queue promises.
    Detached {
        /// Which.
        consumer: ConsumerId,
    },
    /// A queue at its limit let go of messages that some group had not acked.
    Dropped {
        /// Which.
        queue: String,
        /// How many, since the shard was opened.
        messages: u64,
    },
    /// What groups did with messages of a producer that asked for it; as durable as the queue
    /// promises of acks.
    Receipts {
        /// The producer.
        producer: ProducerId,
        /// Its stream; see [`Shard::open_producer`].
        session: u64,
        /// The frame.
        receipts: Receipts,
    },
    /// Something that a person must see.
    Alarm {
        /// The queue that it is about.
        queue: String,
        /// What, where, and what was done about it.
        text: String,
    },
}

/// Bounds of a shard.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of recent messages kept in memory for consumers at the tail.
    pub cache_bytes: usize,
    /// Bytes that may wait to be written to one consumer's stream.
    pub consumer_bytes_max: u64,
    /// Messages that one consumer may hold unacked, whatever credit it gives.
    pub consumer_messages_max: u64,
    /// How long acks may wait for a group that is synced anyway, in ms.
    pub ack_sync_ms: u64,
}

impl Options {
    /// The shard's part of the node's limits.
    pub fn from_limits(limits: &Limits) -> Options {
        Options {
            cache_bytes: limits.cache_bytes,
            consumer_bytes_max: limits.consumer_bytes_max,
            consumer_messages_max: limits.consumer_messages_max,
            ack_sync_ms: 10,
        }
    }
}

/// Counters since the shard was opened, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Groups committed.
    pub groups: u64,
    /// Bytes committed, padding included.
    pub group_bytes: u64,
    /// Messages appended to durable queues.
    pub appended: u64,
    /// Slab bytes appended to durable queues.
    pub slab_bytes: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Slab bytes delivered.
    pub delivered_bytes: u64,
    /// Of those, deliveries that were not the first of their message.
    pub redelivered: u64,
    /// Messages acked.
    pub acked: u64,
    /// Messages that went to the dead letters from consumers.
    pub dead_lettered: u64,
    /// Messages that expired.
    pub expired: u64,
    /// Messages that were older than their queue keeps them.
    pub aged: u64,
    /// Messages that a newer one of their key replaced.
    pub replaced: u64,
    /// Messages that made room for newer ones at a queue's limit.
    pub dropped: u64,
    /// Acks and the like for messages that the consumer did not hold.
    pub stale: u64,
}

/// A shard of queues.
pub struct Shard<V: Vfs> {
    log: Log<V>,
    options: Options,
    slots: HashMap<SlotId, Slot>,
    names: HashMap<Arc<str>, SlotId>,
    next_slot: SlotId,
    consumers: HashMap<ConsumerId, Consumer>,
    /// How many consumers ever joined.
    joined: u64,
    /// Queues that may have something to deliver.
    ready: BTreeSet<SlotId>,
    /// Queues whose groups moved since the last commit.
    moved: BTreeSet<SlotId>,
    /// Queues whose journal lacks an entry: a snapshot must say it before the next commit counts
    /// for them, and before anything of them is freed.
    behind: BTreeSet<SlotId>,
    /// Durable queues that were removed since the last commit.
    removed: BTreeSet<Arc<str>>,
    timers: BTreeSet<(u64, SlotId)>,
    /// Queues that let go of messages which a group had not acked, since the last commit.
    dropping: BTreeSet<SlotId>,
    /// The oldest messages of a full queue are being moved to the dead letters.
    is_making_room: bool,
    /// Publishes in the pending group, and queues that show their messages after it.
    waiting: Vec<Accepted>,
    appended: BTreeSet<SlotId>,
    leaving: Vec<ConsumerId>,
    /// The pending group has messages of a `sync` queue.
    is_urgent: bool,
    /// Something goes out that needs no commit before it.
    is_ahead: bool,
    /// When the pending group is to be synced though nobody waits for it.
    sync_due: Option<u64>,
    /// The disk says what each queue gave up when it was opened; see [`crate::ahead`].
    is_settled: bool,
    /// The wall clock at the last commit.
    wall_ms: u64,
    /// The monotonic clock, as of the last time that was told.
    mono_ms: u64,
    clock: Clock,
    cache: tail::Budget,
    sessions: Sessions,
    /// Whom to tell what became of messages.
    told: receipts::Told,
    counters: Counters,
    outputs: Vec<Output>,
}

/// Names a queue within the shard; never used again.
type SlotId = u32;

impl<V: Vfs> Shard<V> {
    /// Takes what must be done.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Counters for metrics.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes of recent messages in memory.
    pub fn cached_bytes(&self) -> usize {
        self.cache.used()
    }

    /// The log, for its jobs.
    pub fn log_mut(&mut self) -> &mut Log<V> {
        &mut self.log
    }

    /// Whether a commit is due now: something waits for a sync that must not wait longer.
    pub fn wants_commit(&self, now: Now) -> bool {
        !self.waiting.is_empty()
            || !self.leaving.is_empty()
            || self.is_urgent
            || self.sync_due.is_some_and(|due| due <= now.mono_ms)
    }

    /// When [`Shard::on_time`], [`Shard::deliver`] or a commit has something to do next, on the
    /// monotonic clock; 0 is at once.
    pub fn next_timeout(&self) -> Option<u64> {
        if !self.ready.is_empty() {
            return Some(0);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.sync_due).min()
    }

    /// Time has passed: deadlines, delays, expiry.
    pub fn on_time(&mut self, now: Now) {
        self.mono_ms = now.mono_ms;
        self.forget_absent(now);
        self.clock.observe(now.mono_ms, now.wall_ms);
        while let Some(&(at, id)) = self.timers.first()
            && at <= now.mono_ms
        {
            self.timers.pop_first();
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.timer = None;
            }
            self.expire(id, now);
            self.sweep(id, now);
            self.ready.insert(id);
            self.set_timer(id);
        }
    }

    /// Writes and syncs the pending group, then says what that released, and delivers.
    ///
    /// After an error nothing may be confirmed any more and the process must end, except after
    /// [`CommitError::NoSpace`]: then everything waits, and a later call may succeed.
    pub fn commit(&mut self, now: Now) -> Result<(), CommitError> {
        self.wall_ms = now.wall_ms;
        self.mono_ms = now.mono_ms;
        self.clock.observe(now.mono_ms, now.wall_ms);
        self.catch_up();
        self.trim_moved();
        self.write_group(now)?;
        // A group that was full could not take them: now they have one of their own.
        if !self.behind.is_empty() {
            self.catch_up();
            self.write_group(now)?;
        }
        self.removed.clear();
        self.sync_due = None;
        self.is_urgent = false;
        self.is_settled |= self.behind.is_empty();
        for id in std::mem::take(&mut self.appended) {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.queue.set_visible();
                slot.committed = slot.queue.next();
                self.ready.insert(id);
            }
        }
        self.outputs
            .extend(self.waiting.drain(..).map(Output::Accepted));
        self.tell_dropped();
        self.receipts_synced();
        // What a consumer said may be among the entries that are still missing.
        if self.behind.is_empty() {
            for consumer in self.leaving.drain(..) {
                self.outputs.push(Output::Detached { consumer });
            }
        }
        self.deliver(now);
        // What had to stay because nothing else held it is in the log now.
        self.evict();
        Ok(())
    }

    /// Asks the log even where nothing is pending: one that has ended must not seem to have synced
    /// what it did not take.
    fn write_group(&mut self, now: Now) -> Result<(), CommitError> {
        let committed = self.log.commit(now.wall_ms)?;
        if committed.bytes > 0 {
            self.counters.groups += 1;
            self.counters.group_bytes += committed.bytes;
        }
        Ok(())
    }

    /// Delivers what may be delivered now without a sync: after credit, a nack, a new consumer.
    /// What takes long is done in steps; [`Shard::next_timeout`] says when there is more.
    pub fn deliver(&mut self, now: Now) {
        self.clock.observe(now.mono_ms, now.wall_ms);
        self.is_ahead = false;
        for id in std::mem::take(&mut self.ready) {
            self.deliver_queue(id, now);
            self.trim_memory(id);
            self.set_timer(id);
        }
        self.receipts_in_memory();
        self.tell_receipts();
    }

    /// Writes the snapshots that the log needs in order to recycle its files. Call it when the log
    /// is short of room and from time to time; commit afterwards.
    pub fn write_snapshots(&mut self) {
        let wanted = self.log.wants_snapshots();
        if wanted.is_empty() {
            return;
        }
        // All at once: ten thousand queues may be wanted together.
        let place = |(id, slot): (&SlotId, &Slot)| Some((slot.incarnation?, *id));
        let ids: HashMap<Incarnation, SlotId> = self.slots.iter().filter_map(place).collect();
        for id in wanted.iter().filter_map(|incarnation| ids.get(incarnation)) {
            self.write_snapshot(*id);
        }
    }

    /// Writes a queue's snapshot, if there is room; says whether its journal is complete.
    fn write_snapshot(&mut self, id: SlotId) -> bool {
        self.forget_ids_of(id, self.mono_ms);
        let Some(slot) = self.slots.get(&id) else {
            return self.behind.remove(&id);
        };
        let Some(incarnation) = slot.incarnation else {
            return true;
        };
        let mut snapshot = slot.queue.snapshot();
        snapshot.newest_ms = self.clock.newest_ms();
        let is_written = self
            .log
            .append_snapshot(incarnation, &snapshot.encode())
            .is_ok();
        if is_written {
            self.behind.remove(&id);
        }
        is_written
    }

    /// Writes the snapshots of queues whose journal lacks an entry.
    fn catch_up(&mut self) {
        for id in self.behind.clone() {
            self.write_snapshot(id);
        }
    }

    /// Writes a queue's journal entry. Where the log has no room, the queue's next snapshot says
    /// it instead: the state in memory is what counts until then.
    fn journal(&mut self, id: SlotId, entry: &Entry, now: Now) {
        self.journal_set(id, std::slice::from_ref(entry), now);
    }

    /// The same for entries of which the log has all or none.
    fn journal_set(&mut self, id: SlotId, entries: &[Entry], now: Now) {
        let Some(incarnation) = self.incarnation_of(id) else {
            return;
        };
        let mark = self.log.mark();
        let mut each = entries.iter();
        if each.any(|e| self.log.append_state(incarnation, &e.encode()).is_err()) {
            self.log.rollback(mark);
            self.behind.insert(id);
        }
        self.sync_soon(id, now);
    }

    /// Lets go of what no group needs any more.
    fn trim_moved(&mut self) {
        for id in std::mem::take(&mut self.moved) {
            // An ack that is not in the log must not free what it acks.
            if self.behind.contains(&id) {
                self.moved.insert(id);
            } else {
                self.trim(id);
            }
        }
    }

    /// Lets go of what no group of a queue needs any more.
    fn trim(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let is_new_head = slot.queue.raise_first() && slot.queue.is_timed();
        self.receipts_below_first(id);
        self.let_go(id);
        if is_new_head {
            self.sweep_soon(id);
        }
    }

    /// Gives back what lies below a queue's first offset, in memory and in the log; what the log
    /// does not take now is told again before the next commit.
    fn let_go(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let first = slot.queue.first();
        if let Some(incarnation) = slot.incarnation
            && slot.trimmed < first
        {
            match self.log.trim(incarnation, first) {
                Ok(()) => slot.trimmed = first,
                // Until then the snapshot says it: what a filter passed over is said by nothing else.
                Err(_) => {
                    self.moved.insert(id);
                    self.behind.insert(id);
                }
            }
        }
        let freed = slot.tail.trim(first, &mut self.cache);
        slot.queue.freed(freed);
        slot.received.trim(first);
    }

    fn set_timer(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let times = slot.queue.next_timeout().into_iter().chain(slot.sweep_at);
        let next = times.min();
        if slot.timer == next {
            return;
        }
        if let Some(old) = slot.timer.take() {
            self.timers.remove(&(old, id));
        }
        if let Some(at) = next {
            self.timers.insert((at, id));
        }
        slot.timer = next;
    }

    fn slot_of(&self, name: &str) -> Option<SlotId> {
        self.names.get(name).copied()
    }

    fn incarnation_of(&self, id: SlotId) -> Option<Incarnation> {
        self.slots.get(&id)?.incarnation
    }
}
