//! Messages into queues: what is taken of a batch is one set of the log, all of it or nothing.
//! [`crate::intake`] decides what is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use waypost_core::dedup::{Fenced, ProducerId, SequenceRun};
use waypost_core::group::ConsumerId;
use waypost_core::journal::Entry;
use waypost_core::queue::{Durability, Refusal};
use waypost_log::{AppendError, Messages, Vfs};
use waypost_wire::data::{ConsumerAcks, Level, Outcome, Range};
use waypost_wire::{Code, Slab};

use crate::intake::Taken;
use crate::lastvalue::Replaced;
use crate::slot::Slot;
use crate::timed;
use crate::{Accepted, Now, Output, Place, Shard, SlotId, Ticket};

/// Records for one queue.
#[derive(Clone, Debug)]
pub struct Part {
    /// The queue's name.
    pub queue: Arc<str>,
    /// The records.
    pub slab: Slab,
    /// For each record, which input of the batch it comes from, not descending; empty where record
    /// and input have the same number.
    pub inputs: Vec<u32>,
    /// Whether some record may say when it may be delivered, or until when. `true` costs a look at
    /// each.
    pub is_timed: bool,
}

impl Part {
    /// Records of which each is the input with its number.
    pub fn new(queue: Arc<str>, slab: Slab) -> Part {
        Part {
            queue,
            slab,
            inputs: Vec::new(),
            is_timed: true,
        }
    }

    /// The same, where it is known whether some record says when it may be delivered.
    pub fn timed(self, is_timed: bool) -> Part {
        Part { is_timed, ..self }
    }

    /// Which input a record comes from.
    pub fn input(&self, record: u32) -> u32 {
        self.inputs.get(record as usize).copied().unwrap_or(record)
    }

    /// The part with the records that `keep` says yes to; `None` where there are none.
    pub fn keep(&self, keep: impl Fn(u32) -> bool) -> Option<Part> {
        let slab = self.slab.keep(&keep);
        let kept = (0..self.slab.count()).filter(|index| keep(*index));
        (!slab.is_empty()).then(|| Part {
            queue: self.queue.clone(),
            inputs: kept.map(|index| self.input(index)).collect(),
            is_timed: self.is_timed,
            slab,
        })
    }
}

/// What a publisher sent together, with all that it caused.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Comes back in [`Output::Accepted`].
    pub ticket: Ticket,
    /// The publisher's sequence of the first input; exceptions count from it.
    pub first_sequence: u64,
    /// How many inputs.
    pub count: u32,
    /// What goes into queues.
    pub parts: Vec<Part>,
    /// All inputs are taken, or none; those that a producer sends again were taken before.
    pub is_whole: bool,
    /// With a whole batch: it takes part in queues that are synced only, and this is acked in the
    /// same set.
    pub transaction: Option<Vec<ConsumerAcks>>,
    /// Who sent it, where that counts.
    pub stamp: Option<Stamp>,
    /// It is replayed on purpose: message ids are neither looked up nor remembered.
    pub is_replay: bool,
    /// Its producer wants receipts.
    pub receipts: bool,
    /// Somebody wants to know where what is taken will lie.
    pub wants_places: bool,
}

/// Who sent a batch, so that what was stored before is not stored again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer.
    pub producer: ProducerId,
    /// The epoch of its stream.
    pub epoch: u64,
    /// The stream; see [`Shard::open_producer`].
    pub session: u64,
    /// The producer's number of each input.
    pub sequences: Vec<u64>,
}

impl Stamp {
    /// Whether the numbers follow each other, as those of most batches do.
    pub(crate) fn is_consecutive(&self) -> bool {
        let first = self.sequence(0);
        let numbers = self.sequences.iter().zip(0..);
        numbers.fold(0, |other, (number, index)| {
            other | (number ^ (first + index))
        }) == 0
    }

    /// The number of an input.
    pub(crate) fn sequence(&self, input: u32) -> u64 {
        self.sequences.get(input as usize).copied().unwrap_or(0)
    }
}

/// A producer's stream that counts from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedProducer {
    /// For [`Stamp::session`].
    pub session: u64,
    /// The epoch in force.
    pub epoch: u64,
    /// The highest number that some queue has; 0 if there is none.
    pub last_sequence: u64,
}

/// Why nothing of a batch was taken, or an input was not.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A route leads to a queue that is not there.
    #[error("queue '{0}' does not exist")]
    NoQueue(Arc<str>),
    /// A queue is at its limit.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A newer stream of this producer is at work.
    #[error("a newer stream of this producer is at work")]
    Fenced,
    /// An earlier message of this producer was refused.
    #[error("queue '{queue}' waits for message {sequence} of this producer, which it refused")]
    Held {
        /// The queue.
        queue: Arc<str>,
        /// The first that was refused.
        sequence: u64,
        /// Why it was.
        code: Code,
    },
    /// Later messages of this producer are stored, and this one is not.
    #[error("queue '{0}' has later messages of this producer, but not this one")]
    Passed(Arc<str>),
    /// A part of what must be taken whole was stored before.
    #[error("a part of the transaction was stored before")]
    Partly,
    /// A transaction reaches a queue that cannot promise it.
    #[error("queue '{0}' is not synced and takes no part in transactions")]
    NotSynced(Arc<str>),
    /// A transaction acks what its consumer does not hold.
    #[error("consumer {consumer} does not hold offsets {} to {} (any more)", range.first, range.last)]
    NotHeld {
        /// The consumer.
        consumer: ConsumerId,
        /// What it was to hold.
        range: Range,
    },
    /// Too many messages wait for receipts.
    #[error(
        "{whose} has {held} messages and receipts that are not settled, {more} more would pass the limit of {limit}"
    )]
    Receipts {
        /// Whose limit it is.
        whose: &'static str,
        /// Messages that wait for receipts, and receipts that wait to be taken.
        held: u64,
        /// How many would come to them.
        more: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The log has no room now: commit, run its jobs, answer its snapshots, then try again.
    #[error("no room in the log: {0}")]
    NoRoom(AppendError),
    /// The log takes nothing any more, or not this.
    #[error(transparent)]
    Log(AppendError),
}

impl PublishError {
    /// The code to answer with.
    pub fn code(&self) -> Code {
        match self {
            PublishError::NoQueue(_) => Code::NotFound,
            PublishError::Refused(refusal) => refusal.code(),
            PublishError::Fenced => Code::Fenced,
            PublishError::Held { code, .. } => *code,
            PublishError::Passed(_) => Code::OutOfOrder,
            PublishError::Partly | PublishError::NotHeld { .. } => Code::Conflict,
            PublishError::NotSynced(_) => Code::Unsupported,
            PublishError::Receipts { .. } => Code::Busy,
            PublishError::NoRoom(_) => Code::DiskFull,
            PublishError::Log(AppendError::GroupFull { .. }) => Code::TooLarge,
            PublishError::Log(_) => Code::Internal,
        }
    }
}

impl<V: Vfs> Shard<V> {
    /// Appends what the queues take, all parts of each input or none. [`Output::Accepted`] follows
    /// and says what was refused, after the next commit where a part must be synced. After an error
    /// nothing was taken, and nothing follows.
    pub fn publish(&mut self, now: Now, batch: &Batch) -> Result<(), PublishError> {
        self.mono_ms = now.mono_ms;
        self.clock.observe(now.mono_ms, now.wall_ms);
        self.forget_old_ids(now, &batch.parts);
        self.check_acks(now, batch)?;
        self.make_place(now, &batch.parts)?;
        let taken = self.sort_out(now, batch)?;
        let stamp = batch.stamp.as_ref();
        let mut entries = match stamp {
            Some(stamp) => self.produced(&taken, stamp),
            None => Vec::new(),
        };
        if !batch.is_replay {
            entries.extend(self.identified(now, &taken.parts, &taken.ids));
        }
        if let Some(stamp) = stamp.filter(|_| batch.receipts) {
            self.check_receipts(&taken, stamp)?;
            entries.extend(self.asked(&taken, stamp));
        }
        // A repeat has acked what it acks; its consumers are others now.
        let mut acks: &[ConsumerAcks] = &[];
        let transaction = batch.transaction.as_deref();
        if let Some(transaction) = transaction.filter(|_| !taken.is_repeat) {
            self.check_synced(&batch.parts)?;
            self.acked(transaction, &mut entries)?;
            acks = transaction;
        }
        let places = match batch.wants_places {
            true => self.places(&taken),
            false => Vec::new(),
        };
        self.append_all(now, &taken.parts, &taken.ids, &entries)?;
        acks.iter()
            .for_each(|acks| self.ack_transacted(acks.consumer, &acks.ranges));
        self.drop_oldest(&taken.ids);
        self.close_slow(&taken.ids, now);
        if let (Some(stamp), Some(holds)) = (stamp, taken.holds) {
            self.sessions
                .set_holds(&stamp.producer, stamp.session, holds);
        }
        let is_synced = |id: &SlotId| {
            let slot = self.slots.get(id);
            slot.is_some_and(|s| s.queue.settings().durability == Durability::Sync)
        };
        // What is a repeat may lie in the group that is not synced yet.
        let reached = || taken.ids.iter().chain(taken.repeated.keys());
        let level = if reached().all(is_synced) {
            Level::Stored
        } else {
            Level::Received
        };
        let is_waited_for = reached().any(is_synced) || !acks.is_empty();
        for (id, count) in &taken.repeated {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.duplicates += count;
            }
        }
        let accepted = Accepted {
            ticket: batch.ticket,
            level,
            exceptions: taken.exceptions,
            places,
        };
        if is_waited_for {
            self.waiting.push(accepted);
        } else {
            self.is_ahead = true;
            self.outputs.push(Output::Accepted(accepted));
        }
        Ok(())
    }

    /// Nothing makes place for a transaction that cannot be taken. Its acks are looked at once more
    /// when place was made: that may have taken what they are about.
    fn check_acks(&self, now: Now, batch: &Batch) -> Result<(), PublishError> {
        let Some(acks) = &batch.transaction else {
            return Ok(());
        };
        let checked = self.check_synced(&batch.parts);
        let Err(error) = checked.and_then(|()| self.acked(acks, &mut Vec::new())) else {
            return Ok(());
        };
        match self.sort_out(now, batch) {
            Ok(taken) if taken.is_repeat => Ok(()),
            Err(PublishError::Fenced) => Err(PublishError::Fenced),
            _ => Err(error),
        }
    }

    fn check_synced(&self, parts: &[Part]) -> Result<(), PublishError> {
        let is_synced = |part: &&Part| {
            let slot = self.slot_of(&part.queue).and_then(|id| self.slots.get(&id));
            slot.is_none_or(|s| s.queue.settings().durability == Durability::Sync)
        };
        match parts.iter().find(|part| !is_synced(part)) {
            Some(part) => Err(PublishError::NotSynced(part.queue.clone())),
            None => Ok(()),
        }
    }

    /// What the journals are to say of a transaction's acks.
    fn acked(
        &self,
        acks: &[ConsumerAcks],
        entries: &mut Vec<(SlotId, Entry)>,
    ) -> Result<(), PublishError> {
        let mut before: Vec<(SlotId, &str, &[Range])> = Vec::new();
        for ConsumerAcks { consumer, ranges } in acks {
            let not_held = |range: &Range| PublishError::NotHeld {
                consumer: *consumer,
                range: *range,
            };
            let Some(first) = ranges.first() else {
                continue;
            };
            let found = self.consumers.get(consumer).and_then(|state| {
                let slot = self.slots.get(&state.slot)?;
                let (name, named) = slot.queue.groups().get_key_value(&state.group)?;
                Some((state.slot, slot, name, named))
            });
            let (id, slot, name, named) = found.ok_or_else(|| not_held(first))?;
            if slot.queue.settings().durability != Durability::Sync {
                return Err(PublishError::NotSynced(slot.queue.name().into()));
            }
            if let Some(range) = ranges.iter().find(|r| !named.group.holds(*consumer, **r)) {
                return Err(not_held(range));
            }
            entries.push((
                id,
                Entry::Acked {
                    id: named.id,
                    ranges: ranges.clone(),
                },
            ));
            let of_queue = before.iter().filter(|(of, ..)| *of == id);
            let too: Vec<(&str, &[Range])> = of_queue.map(|(_, g, r)| (*g, *r)).collect();
            let outcome = Outcome::Acked;
            let settled = slot.queue.receipts_settled(name, ranges, outcome, &too);
            entries.extend(settled.into_iter().map(|entry| (id, entry)));
            before.push((id, name, ranges));
        }
        Ok(())
    }

    /// A producer opens a stream, under an epoch or the next one (0). Those that it had are fenced.
    pub fn open_producer(&mut self, id: ProducerId, epoch: u64) -> Result<OpenedProducer, Fenced> {
        let known = self
            .slots
            .values()
            .filter_map(|slot| slot.queue.dedup().highest(&id));
        let (stored, last_sequence) = known.fold((0, 0), |(epoch, last), (e, l)| {
            (u64::max(epoch, e), u64::max(last, l))
        });
        let (epoch, session) = self.sessions.open(id, epoch, stored)?;
        Ok(OpenedProducer {
            session,
            epoch,
            last_sequence,
        })
    }

    /// The highest number of a producer that a queue has.
    pub fn highest_of(&self, queue: &str, id: &ProducerId) -> Option<u64> {
        let slot = self.slot_of(queue).and_then(|id| self.slots.get(&id))?;
        let (_, highest) = slot.queue.dedup().highest(id)?;
        Some(highest)
    }

    /// A producer's stream has ended.
    pub fn close_producer(&mut self, id: &ProducerId, session: u64) {
        self.sessions.close(id, session);
        self.close_receipts(id, session);
    }

    /// Appends all parts, in one set; nobody waits for it.
    pub(crate) fn append_parts(
        &mut self,
        now: Now,
        parts: &[Part],
    ) -> Result<Vec<SlotId>, PublishError> {
        self.make_place(now, parts)?;
        self.append_placed(now, parts)
    }

    /// The same where place was made for the parts. Nothing happens on an error, so that a caller
    /// may take back what it wrote before; what made place is not to be taken back.
    pub(crate) fn append_placed(
        &mut self,
        now: Now,
        parts: &[Part],
    ) -> Result<Vec<SlotId>, PublishError> {
        let ids = self.ids_of(parts)?;
        self.admit(parts, &ids)?;
        self.append_all(now, parts, &ids, &[])?;
        self.drop_oldest(&ids);
        self.close_slow(&ids, now);
        Ok(ids)
    }

    /// Appends records and, in the same set, entries of journals. What entries say of a queue's
    /// producers, message ids and receipts is applied; all else of them is the caller's.
    fn append_all(
        &mut self,
        now: Now,
        parts: &[Part],
        ids: &[SlotId],
        entries: &[(SlotId, Entry)],
    ) -> Result<(), PublishError> {
        let mark = self.log.mark();
        let was_empty = self.log.pending_bytes() == 0;
        // For each part, the shortest time to live; nothing where no part is timed.
        let mut ttls: Vec<Option<u64>> = Vec::new();
        if parts.iter().any(|part| part.is_timed) {
            let look = |part: &Part| part.is_timed.then(|| timed::look(&part.slab)).flatten();
            ttls.extend(parts.iter().map(look));
        }
        let mut replaced = Replaced::default();
        if let Err(error) = self.write_all(now, parts, ids, entries, &ttls, &mut replaced) {
            self.log.rollback(mark);
            self.not_replaced(replaced);
            // A set that does not fit an empty group never will.
            let never = matches!(error, AppendError::GroupFull { .. }) && was_empty;
            return Err(match error.is_retryable() && !never {
                true => PublishError::NoRoom(error),
                false => PublishError::Log(error),
            });
        }
        for (id, entry) in entries {
            self.has_receipts(*id, entry);
            let Some(slot) = self.slots.get_mut(id) else {
                continue;
            };
            match entry {
                Entry::Produced { .. } => slot.queue.apply(entry),
                Entry::Identified(ids) => slot.queue.ids_mut().accepted(ids, now.mono_ms),
                _ => {}
            }
        }
        self.clock.observe(now.mono_ms, now.wall_ms);
        self.clock.stamp(now.wall_ms);
        for (index, (part, id)) in parts.iter().zip(ids).enumerate() {
            let ttl_ms = ttls.get(index).copied().flatten();
            if let Some(slot) = self.slots.get_mut(id) {
                let (cache, counters) = (&mut self.cache, &mut self.counters);
                Self::take_in(slot, *id, now, &part.slab, ttl_ms, cache, counters);
            }
            self.show(*id, now);
        }
        self.replaced(replaced);
        self.evict();
        Ok(())
    }

    fn write_all(
        &mut self,
        now: Now,
        parts: &[Part],
        ids: &[SlotId],
        entries: &[(SlotId, Entry)],
        ttls: &[Option<u64>],
        replaced: &mut Replaced,
    ) -> Result<(), AppendError> {
        for (id, entry) in entries {
            if let Some(incarnation) = self.incarnation_of(*id) {
                self.log.append_state(incarnation, &entry.encode())?;
            }
        }
        let first_offsets = self.first_offsets(parts, ids);
        for (index, (part, id)) in parts.iter().zip(ids).enumerate() {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            let is_timed = ttls.get(index).is_some_and(Option::is_some);
            let is_first_timed = is_timed && !slot.queue.is_timed();
            let first_offset = first_offsets[index];
            self.write_part(now, *id, part, first_offset, is_first_timed)?;
            self.replace_older(*id, first_offset, &part.slab, replaced)?;
        }
        Ok(())
    }

    /// Writes the records of a part, where its queue is one of the log.
    fn write_part(
        &mut self,
        now: Now,
        id: SlotId,
        part: &Part,
        first_offset: u64,
        is_first_timed: bool,
    ) -> Result<(), AppendError> {
        let Some(incarnation) = self.incarnation_of(id) else {
            return Ok(());
        };
        if is_first_timed {
            self.log.append_state(incarnation, &Entry::Timed.encode())?;
        }
        let messages = Messages {
            epoch: 0,
            first_offset,
            count: part.slab.count(),
            time_ms: now.wall_ms,
        };
        self.log
            .append_messages(incarnation, messages, &[part.slab.bytes()])
    }

    /// The offset that the first record of each part will have; parts may share a queue.
    pub(crate) fn first_offsets(&self, parts: &[Part], ids: &[SlotId]) -> Vec<u64> {
        let mut first_offsets = Vec::with_capacity(parts.len());
        for (index, id) in ids.iter().enumerate() {
            let before = ids[..index].iter().rposition(|other| other == id);
            first_offsets.push(match before {
                Some(before) => first_offsets[before] + u64::from(parts[before].slab.count()),
                None => self.slots.get(id).map_or(0, |slot| slot.queue.next()),
            });
        }
        first_offsets
    }

    /// Where what is taken will lie.
    fn places(&self, taken: &Taken<'_>) -> Vec<Place> {
        let first_offsets = self.first_offsets(&taken.parts, &taken.ids);
        let place = |(part, first_offset): (&Part, u64)| Place {
            queue: part.queue.clone(),
            first_offset,
            inputs: (0..part.slab.count()).map(|r| part.input(r)).collect(),
        };
        taken.parts.iter().zip(first_offsets).map(place).collect()
    }

    /// What the journals are to say of a producer's messages: one entry a queue.
    fn produced(&self, taken: &Taken<'_>, stamp: &Stamp) -> Vec<(SlotId, Entry)> {
        let (parts, ids) = (&taken.parts, &taken.ids);
        let first_offsets = self.first_offsets(parts, ids);
        if let ([part], [id], [offset]) = (&parts[..], &ids[..], &first_offsets[..])
            && taken.settled.is_empty()
            && let Some(run) = whole_run(part, *offset, stamp)
        {
            let entry = Entry::Produced {
                producer: stamp.producer,
                epoch: stamp.epoch,
                runs: vec![run],
            };
            return vec![(*id, entry)];
        }
        let mut places: BTreeMap<SlotId, Vec<(u64, u64)>> = BTreeMap::new();
        for ((part, id), first) in parts.iter().zip(ids).zip(first_offsets) {
            let place = |record| {
                let number = stamp.sequence(part.input(record));
                (number, first + u64::from(record))
            };
            let places = places.entry(*id).or_default();
            let is_first = places.is_empty();
            places.extend((0..part.slab.count()).map(place));
            if !is_first {
                places.sort_unstable();
            }
        }
        for (id, number, offset) in &taken.settled {
            let places = places.entry(*id).or_default();
            places.push((*number, *offset));
            places.sort_unstable();
        }
        let entry = |(id, places): (SlotId, Vec<(u64, u64)>)| {
            let entry = Entry::Produced {
                producer: stamp.producer,
                epoch: stamp.epoch,
                runs: runs(&places),
            };
            (id, entry)
        };
        places.into_iter().map(entry).collect()
    }

    fn take_in(
        slot: &mut Slot,
        id: SlotId,
        now: Now,
        slab: &Slab,
        ttl_ms: Option<u64>,
        cache: &mut crate::tail::Budget,
        counters: &mut crate::Counters,
    ) {
        let (count, bytes) = (u64::from(slab.count()), slab.bytes().len() as u64);
        let first_offset = slot.queue.append(count, bytes);
        slot.received.append(first_offset, now.mono_ms, now.wall_ms);
        if ttl_ms.is_some() {
            slot.queue.apply(&Entry::Timed);
        }
        slot.age_from(now, ttl_ms);
        slot.tail
            .push(first_offset, now.wall_ms, slab, ttl_ms.is_some(), cache);
        slot.published += count;
        if slot.incarnation.is_some() {
            cache.note(id, first_offset);
            counters.appended += count;
            counters.slab_bytes += bytes;
        }
    }

    /// Drops recent messages over the budget, the oldest first.
    pub(crate) fn evict(&mut self) {
        while let Some((id, first_offset)) = self.cache.over() {
            if let Some(slot) = self.slots.get_mut(&id) {
                // What is not committed can only be read from here.
                if first_offset >= slot.committed {
                    self.cache.note(id, first_offset);
                    return;
                }
                slot.tail.evict(first_offset, &mut self.cache);
            }
        }
    }
}

/// The numbers of a part as one run, where each record is the input with its number and they follow
/// each other.
fn whole_run(part: &Part, offset: u64, stamp: &Stamp) -> Option<SequenceRun> {
    let last = part.slab.count().checked_sub(1)?;
    let is_plain = part.inputs.is_empty() && stamp.sequences.len() > last as usize;
    (is_plain && stamp.is_consecutive()).then(|| SequenceRun {
        first: stamp.sequence(0),
        last: stamp.sequence(last),
        offset,
    })
}

/// Numbers and offsets, ascending, as runs. Of a number that is there several times the first
/// counts.
fn runs(places: &[(u64, u64)]) -> Vec<SequenceRun> {
    let mut runs: Vec<SequenceRun> = Vec::new();
    for (number, offset) in places {
        match runs.last_mut() {
            Some(run) if run.last == *number => {}
            Some(run)
                if run.last + 1 == *number && run.offset + (number - run.first) == *offset =>
            {
                run.last = *number;
            }
            _ => runs.push(SequenceRun {
                first: *number,
                last: *number,
                offset: *offset,
            }),
        }
    }
    runs
}
