//! What serial plugins keep, and when it counts.
//!
//! A slot's state lives in a queue of the router's own, `$state.NAME`, with the last value of each
//! key; this holds the same in memory. What a batch writes goes to that queue in the set of the log
//! that holds the batch's messages, and counts here when the shard has taken the set. Only the first
//! worker has any of this, and it has one batch at a time.
//!
//! A key in the queue is `k` and the plugin's key, or `p` and a producer: a record that says no
//! more than that a batch of this producer was here, so that the queue knows it when it comes again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use waypost_core::dedup::ProducerId;
use waypost_core::queue::Settings;
use waypost_core::settings::Retain;
use waypost_core::state::{Mark, Pending, Table, View, Write};
use waypost_host::{State, StateFull};
use waypost_shard::{Part, Selection};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Message, RecordRef};

use crate::clock::{Clock, wall_ms};
use crate::shard_thread::{ShardHandle, new_incarnation};

/// The header of a record that says that its key is gone. It expires soon, and the key with it.
const REMOVED: &str = "waypost-removed";
const REMOVED_TTL_MS: u64 = 1_000;
/// Values that move to the end of the queue with each set, where they hold up too much of it.
const MOVED_MAX: usize = 8;
/// Messages of one step of reading a queue.
const STEP_MESSAGES: u32 = 4_096;

/// The queue of a slot's state.
pub(crate) fn queue_name(slot: &str) -> String {
    format!("$state.{slot}")
}

/// How that queue is kept: values do not expire into the dead letters, and the bound is the
/// table's.
pub(crate) fn queue_settings() -> Settings {
    Settings {
        last_value: true,
        retain: Retain::Log,
        bytes_max: u64::MAX,
        ..Settings::default()
    }
}

/// One slot's.
pub(super) struct SlotState {
    table: Table,
    pending: Pending,
    /// What its queue has of the producer of the batch at work; asked for once a batch.
    known: Option<(ProducerId, Option<u64>)>,
    /// The plugin was called with messages of the batch at work.
    is_touched: bool,
}

/// A slot's state as a guest has it during a call.
pub(super) struct Lent<'a>(View<'a>);

impl State for Lent<'_> {
    fn get(&mut self, key: &[u8]) -> Option<Bytes> {
        self.0.get(key)
    }

    fn set(&mut self, key: &[u8], value: Option<Bytes>, ttl_ms: u64) -> Result<(), StateFull> {
        self.0.set(key, value, ttl_ms).map_err(|_| StateFull)
    }

    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        bytes_max: usize,
    ) -> Vec<(Bytes, Bytes)> {
        self.0.scan(prefix, after, limit, bytes_max)
    }
}

/// All slots' of this worker.
pub(super) struct States {
    shard: ShardHandle,
    clock: Clock,
    slots: HashMap<Arc<str>, SlotState>,
    /// On their way to the shard.
    sent: BTreeMap<Arc<str>, Vec<Write>>,
}

impl SlotState {
    fn of(table: Table) -> SlotState {
        SlotState {
            table,
            pending: Pending::default(),
            known: None,
            is_touched: false,
        }
    }

    /// What was written since counts, for this copy alone.
    pub fn keep(&mut self) {
        let writes = self.pending.take();
        self.table.apply(writes);
    }

    /// What was written since is as if it had never been.
    pub fn undo(&mut self, mark: Mark) {
        self.pending.rollback(mark);
    }

    /// The same for a call with messages: whatever it does, its batch was here.
    pub fn begin_batch(&mut self, clock: &Clock) -> (Lent<'_>, Mark) {
        self.is_touched = true;
        self.begin(clock)
    }

    /// What a call sees, and where to go back to if it fails.
    pub fn begin(&mut self, clock: &Clock) -> (Lent<'_>, Mark) {
        let now = clock.mono_ms();
        self.table.expire(now);
        let mark = self.pending.mark();
        let view = View {
            table: &self.table,
            pending: &mut self.pending,
            now,
        };
        (Lent(view), mark)
    }
}

impl States {
    pub fn new(shard: ShardHandle, clock: Clock) -> States {
        States {
            shard,
            clock,
            slots: HashMap::new(),
            sent: BTreeMap::new(),
        }
    }

    /// A slot's state, which is read from its queue the first time.
    pub fn of(&mut self, slot: &Arc<str>, bytes_max: u64) -> Result<&mut SlotState, String> {
        if !self.slots.contains_key(slot) {
            let table = self.read(slot, bytes_max)?;
            self.slots.insert(slot.clone(), SlotState::of(table));
        }
        let state = self.slots.get_mut(slot).ok_or("no state")?;
        state.table.set_limit(bytes_max);
        Ok(state)
    }

    /// The producer's highest number of which the slot has seen the effects.
    pub fn known(&mut self, slot: &Arc<str>, producer: ProducerId) -> Option<u64> {
        let state = self.slots.get_mut(slot)?;
        if let Some((_, known)) = state.known.filter(|(of, _)| *of == producer) {
            return known;
        }
        let queue = queue_name(slot);
        let look = move |shard: &mut waypost_shard::Shard<_>| shard.highest_of(&queue, &producer);
        let known = self.shard.look(look).flatten();
        state.known = Some((producer, known));
        known
    }

    /// The batch at work waits, and others come before it goes on; it wrote nothing. Gives the slots
    /// that it came to, for [`States::resume`].
    pub fn pause(&mut self) -> Vec<Arc<str>> {
        let mut touched = Vec::new();
        for (slot, state) in &mut self.slots {
            state.known = None;
            if std::mem::take(&mut state.is_touched) {
                touched.push(slot.clone());
            }
        }
        touched
    }

    /// A batch goes on that came to these slots before.
    pub fn resume(&mut self, touched: Vec<Arc<str>>) {
        for slot in touched {
            if let Some(state) = self.slots.get_mut(&slot) {
                state.is_touched = true;
            }
        }
    }

    /// What a slot wrote since is as if it had never been.
    pub fn rollback(&mut self, slot: &str, mark: Mark) {
        if let Some(state) = self.slots.get_mut(slot) {
            state.pending.rollback(mark);
        }
    }

    /// Whether the batch at work wrote something.
    pub fn is_dirty(&self) -> bool {
        self.slots.values().any(|state| !state.pending.is_empty())
    }

    /// What the batch at work wrote, for its set; all of it as caused by the message `input`. Then
    /// [`States::settle`] must follow.
    pub fn parts(&mut self, input: u32, producer: Option<ProducerId>) -> Vec<Part> {
        let now = self.clock.mono_ms();
        let mut parts = Vec::new();
        for (slot, state) in &mut self.slots {
            let mut writes = state.pending.take();
            let is_touched = std::mem::take(&mut state.is_touched);
            state.known = None;
            let mut slab = SlabBuilder::new();
            if !writes.is_empty() {
                let is_new = |old: &Write| writes.iter().all(|new| new.key != old.key);
                let old: Vec<Write> = state.table.oldest(MOVED_MAX);
                let old: Vec<Write> = old.into_iter().filter(is_new).collect();
                writes.extend(old);
            } else if let Some(producer) = producer.filter(|_| is_touched) {
                slab.push(&record(slot, &marker(producer), None, None, now));
            }
            for write in &writes {
                let key = [b"k", &write.key[..]].concat();
                slab.push(&record(
                    slot,
                    &key,
                    write.value.as_ref(),
                    write.expires,
                    now,
                ));
            }
            if slab.count() == 0 {
                continue;
            }
            let slab = slab.finish();
            parts.push(Part {
                queue: queue_name(slot).into(),
                inputs: vec![input; slab.count() as usize],
                slab,
                is_timed: true,
            });
            self.sent.insert(slot.clone(), writes);
        }
        parts
    }

    /// Whether what was sent counts.
    pub fn settle(&mut self, is_taken: bool) {
        for (slot, writes) in std::mem::take(&mut self.sent) {
            if let Some(state) = self.slots.get_mut(&slot).filter(|_| is_taken) {
                state.table.apply(writes);
            }
        }
    }

    /// The batch at work comes to nothing.
    pub fn discard(&mut self) {
        self.sent.clear();
        for state in self.slots.values_mut() {
            state.pending = Pending::default();
            state.known = None;
            state.is_touched = false;
        }
    }

    /// A copy of what a slot's queue holds; nothing where there is none.
    pub fn copy(&self, slot: &str, bytes_max: u64) -> Result<SlotState, String> {
        let (queue, name) = (queue_name(slot), queue_name(slot));
        let is_there = self.shard.look(move |shard| {
            let queues = shard.queues();
            queues.iter().any(|queue| queue.name == name)
        });
        match is_there {
            None => Err("the node stops".to_owned()),
            Some(false) => Ok(SlotState::of(Table::new(bytes_max))),
            Some(true) => self.read_queue(&queue, bytes_max).map(SlotState::of),
        }
    }

    /// Reads a slot's queue, which is made where it is missing.
    fn read(&self, slot: &str, bytes_max: u64) -> Result<Table, String> {
        let queue = queue_name(slot);
        let gone = || "the node stops".to_owned();
        let name = queue.clone();
        let made = self.shard.look(move |shard| {
            shard.ensure_queue(&name, queue_settings(), new_incarnation(), "node")
        });
        made.ok_or_else(gone)?.map_err(|error| error.to_string())?;
        self.read_queue(&queue, bytes_max)
    }

    fn read_queue(&self, queue: &str, bytes_max: u64) -> Result<Table, String> {
        let gone = || "the node stops".to_owned();
        let mut table = Table::new(bytes_max);
        let mut selection = Selection::default();
        loop {
            let (name, select) = (queue.to_owned(), selection.clone());
            let found = self
                .shard
                .look(move |shard| shard.browse(&name, &select, STEP_MESSAGES));
            let found = found.ok_or_else(gone)?.map_err(|error| error.to_string())?;
            let (mono, wall) = (self.clock.mono_ms(), wall_ms());
            let writes = found.messages.iter().filter_map(|message| {
                let age = wall.saturating_sub(message.receive_time_ms);
                written(&message.body, mono, age)
            });
            table.apply(writes);
            if found.is_end {
                return Ok(table);
            }
            if found.next_offset <= selection.from_offset {
                return Err(format!(
                    "queue '{queue}' cannot be read at offset {}",
                    found.next_offset
                ));
            }
            selection.from_offset = found.next_offset;
        }
    }
}

fn marker(producer: ProducerId) -> Vec<u8> {
    [b"p", &producer[..]].concat()
}

/// A write as its queue has it. Without a value the key is gone.
fn record(slot: &str, key: &[u8], value: Option<&Bytes>, expires: Option<u64>, now: u64) -> Bytes {
    let mut message = Message::new(format!("$state/{slot}"), value.cloned().unwrap_or_default());
    message.key = Some(Bytes::copy_from_slice(key));
    let is_key = key.first() == Some(&b'k');
    if value.is_none() && is_key {
        message = message.with_header(REMOVED, "1");
        message.time_to_live_ms = Some(REMOVED_TTL_MS);
    } else if let Some(at) = expires {
        message.time_to_live_ms = Some(at.saturating_sub(now).max(1));
    }
    message.to_body()
}

/// What a record of such a queue says, `age_ms` after it was written.
fn written(body: &Bytes, now: u64, age_ms: u64) -> Option<Write> {
    let record = RecordRef::parse(body).ok()?;
    let (kind, key) = record.key()?.split_first()?;
    if *kind != b'k' {
        return None;
    }
    let message = record.to_message();
    let is_removed = record.header(REMOVED).is_some();
    let left = message
        .time_to_live_ms
        .filter(|_| !is_removed)
        .map(|ttl| ttl.saturating_sub(age_ms));
    let is_there = !is_removed && left != Some(0);
    Some(Write {
        key: Bytes::copy_from_slice(key),
        value: is_there.then_some(message.payload),
        expires: left.map(|left| now.saturating_add(left)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_what_was_written() {
        let read = |record: &Bytes, age| written(record, 1_000, age).expect("a write");
        let value = Bytes::from_static(b"v");
        let stays = record("s", b"kkey", Some(&value), None, 500);
        let wanted = Write {
            key: "key".into(),
            value: Some(value.clone()),
            expires: None,
        };
        assert_eq!(read(&stays, 1 << 40), wanted);
        let goes = record("s", b"kkey", Some(&value), Some(800), 500);
        assert_eq!(
            read(&goes, 100).expires,
            Some(1_200),
            "of 300 ms, 200 are left"
        );
        assert_eq!(read(&goes, 300).value, None);
        assert_eq!(read(&record("s", b"kkey", None, None, 500), 0).value, None);
        let empty = record("s", b"k", Some(&Bytes::new()), None, 0);
        assert_eq!(
            read(&empty, 0).value,
            Some(Bytes::new()),
            "empty is not gone"
        );
        let mark = record("s", &marker([7; 16]), None, None, 0);
        assert_eq!(written(&mark, 0, 0), None);
    }
}
