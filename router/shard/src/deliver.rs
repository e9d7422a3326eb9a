//! Messages out of queues: to whoever has credit, in turn, from memory or from the log.

use waypost_core::group::{Attempted, ConsumerId};
use waypost_core::journal::GroupKind;
use waypost_log::{ReadError, Vfs};
use waypost_wire::Slab;
use waypost_wire::data::{Deliver, Outcome, Range};

use crate::consumers::Consumer;
use crate::slot::Chunk;
use crate::{Now, Options, Output, Shard, SlotId};

/// Bytes read from the log at once, for one group: as much as fits a few batches.
const READ_BYTES: u64 = 256 << 10;
/// The same where priorities lead from place to place.
const PRIORITY_READ_BYTES: u64 = 32 << 10;
/// Messages of one delivery at most.
const DELIVER_MESSAGES_MAX: u64 = waypost_wire::BATCH_MESSAGES_MAX as u64;
/// Bytes of one delivery at most, unless it is one message.
const DELIVER_BYTES_MAX: u64 = waypost_wire::BATCH_BYTES_MAX as u64;

/// Messages that a group may pass over before others have their turn: a few milliseconds.
const PASSED_MAX: u64 = 16_384;

/// How much a consumer takes now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub messages: u64,
    /// Slab bytes of one delivery, unless it is one message.
    pub bytes: usize,
    pub deadline: u64,
}

/// What goes to a consumer in one frame.
pub(crate) struct Picked<'a> {
    /// When the node received them.
    pub time_ms: u64,
    /// In ascending order.
    pub runs: &'a [Attempted],
    /// As many records as there are offsets in `runs`.
    pub slab: Slab,
}

/// What a group did in its turn without delivering.
#[derive(Default)]
pub(crate) struct Work {
    pub passed: u64,
}

impl Work {
    pub fn is_enough(&self) -> bool {
        self.passed >= PASSED_MAX
    }
}

impl Consumer {
    /// What it takes now, if it takes anything.
    pub fn room(&self, options: &Options, now: Now) -> Option<Room> {
        let credit = self.credit_messages.saturating_sub(self.sent_messages);
        let messages = credit.min(options.consumer_messages_max.saturating_sub(self.held));
        let bytes = self.credit_bytes.saturating_sub(self.sent_bytes);
        let is_full = self.buffered_bytes >= options.consumer_bytes_max;
        if messages == 0 || bytes == 0 || is_full {
            return None;
        }
        let bytes = bytes
            .min(DELIVER_BYTES_MAX)
            .min(self.batch_bytes_max.max(1));
        Some(Room {
            messages,
            bytes: bytes as usize,
            deadline: now.mono_ms.saturating_add(self.ack_deadline_ms),
        })
    }
}

impl<V: Vfs> Shard<V> {
    pub(crate) fn deliver_queue(&mut self, id: SlotId, now: Now) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        let groups: Vec<String> = slot.members.keys().cloned().collect();
        for group in groups {
            match self.kind_of(id, &group) {
                Some(GroupKind::Key) => self.deliver_keyed(id, &group, now),
                _ => self.deliver_group(id, &group, now),
            }
        }
    }

    fn kind_of(&self, id: SlotId, group: &str) -> Option<GroupKind> {
        let named = self.slots.get(&id)?.queue.groups().get(group)?;
        Some(named.options.kind)
    }

    fn deliver_group(&mut self, id: SlotId, group: &str, now: Now) {
        if !self.know_priorities(id, group) {
            return;
        }
        let mut work = Work::default();
        loop {
            let Some((consumer, room)) = self.next_consumer(id, group, now) else {
                return;
            };
            let Some(named) = self
                .slots
                .get(&id)
                .and_then(|s| s.queue.groups().get(group))
            else {
                return;
            };
            let is_choosy = !named.options.filters.is_empty();
            let messages_max = match is_choosy {
                true => DELIVER_MESSAGES_MAX,
                false => room.messages.min(DELIVER_MESSAGES_MAX),
            };
            let Some(slot) = self.slots.get_mut(&id) else {
                return;
            };
            let Some(run) = slot.queue.next_run(group, messages_max) else {
                if let Some(members) = slot.members.get_mut(group) {
                    members.read_ahead = Vec::new();
                }
                return;
            };
            match self.chunk_at(id, group, run.range.first) {
                Found::Chunk(chunk) => {
                    let Some(run) = self.sift(id, group, run, &chunk, now) else {
                        continue;
                    };
                    match is_choosy {
                        true => {
                            work.passed +=
                                self.hand_over_chosen(now, id, group, consumer, &room, run, &chunk);
                        }
                        false => self.hand_over(id, group, consumer, &room, run, &chunk),
                    }
                }
                Found::Nothing { until } => {
                    let (first, last) = (run.range.first, run.range.last);
                    let last = last.min(until.saturating_sub(1)).max(first);
                    self.skip(id, group, Range { first, last });
                }
                // Told already; the group tries again when something else happens.
                Found::Unreadable => return,
            }
            if work.is_enough() {
                // The others come first; then it goes on.
                self.ready.insert(id);
                return;
            }
        }
    }

    /// The consumer whose turn it is among those that take something.
    pub(crate) fn next_consumer(
        &mut self,
        id: SlotId,
        group: &str,
        now: Now,
    ) -> Option<(ConsumerId, Room)> {
        let slot = self.slots.get_mut(&id)?;
        let kind = slot.queue.groups().get(group)?.options.kind;
        let members = slot.members.get_mut(group)?;
        if kind == GroupKind::Exclusive {
            let (_, active) = members.consumers.first_key_value()?;
            let room = self.consumers.get(active)?.room(&self.options, now)?;
            return Some((*active, room));
        }
        while let Some(consumer) = members.open.pop_front() {
            let Some(state) = self.consumers.get_mut(&consumer) else {
                continue;
            };
            if let Some(room) = state.room(&self.options, now) {
                members.open.push_back(consumer);
                return Some((consumer, room));
            }
            state.is_open = false;
        }
        None
    }

    fn hand_over(
        &mut self,
        id: SlotId,
        group: &str,
        consumer: ConsumerId,
        room: &Room,
        run: Attempted,
        chunk: &Chunk,
    ) {
        let skip = (run.range.first - chunk.first_offset) as u32;
        let there = u64::from(chunk.slab.count() - skip).min(run.range.count()) as u32;
        let part = chunk.slab.slice(skip, there);
        // One message may pass the credit in bytes: otherwise a large one would never go.
        let count = if part.bytes().len() <= room.bytes {
            there
        } else {
            part.fitting(0, room.bytes)
        };
        let first = run.range.first;
        let last = first + u64::from(count) - 1;
        let leased = Attempted {
            range: Range { first, last },
            ..run
        };
        let picked = Picked {
            time_ms: chunk.time_ms,
            runs: &[leased],
            slab: part.slice(0, count),
        };
        let slot = self.slots.get_mut(&id);
        if let Some(named) = slot.and_then(|s| s.queue.group_mut(group)) {
            named.group.lease(consumer, leased, room.deadline);
        }
        self.send(id, consumer, picked);
    }

    /// Sends to a consumer what was picked and leased to it.
    pub(crate) fn send(&mut self, id: SlotId, consumer: ConsumerId, picked: Picked<'_>) {
        let Picked {
            time_ms,
            runs,
            slab,
        } = picked;
        let Some(first) = runs.first() else {
            return;
        };
        let is_plain = runs.len() == 1 && first.attempt == 1;
        let detail = match is_plain {
            true => Vec::new(),
            false => {
                let mut detail = Vec::with_capacity(slab.count() as usize);
                for run in runs {
                    let offsets = run.range.first..=run.range.last;
                    detail.extend(offsets.map(|at| (at, run.attempt)));
                }
                detail
            }
        };
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let again = runs.iter().filter(|run| run.attempt > 1);
        self.counters.redelivered += again.map(|run| run.range.count()).sum::<u64>();
        let count = u64::from(slab.count());
        slot.delivered += count;
        self.counters.delivered += count;
        let bytes = slab.bytes().len() as u64;
        self.counters.delivered_bytes += bytes;
        if let Some(state) = self.consumers.get_mut(&consumer) {
            state.sent_messages += count;
            state.sent_bytes += bytes;
            state.buffered_bytes += bytes;
            state.held += count;
        }
        let deliver = Deliver {
            first_offset: first.range.first,
            receive_time_ms: time_ms,
            detail,
            slab,
        };
        self.outputs.push(Output::Deliver { consumer, deliver });
    }

    /// Passes over offsets that the queue has no message for.
    pub(crate) fn skip(&mut self, id: SlotId, group: &str, range: Range) {
        if let Some(named) = self
            .slots
            .get_mut(&id)
            .and_then(|s| s.queue.group_mut(group))
        {
            named.group.remove(&[range]);
            self.moved.insert(id);
        }
        self.receipt(id, group, &[range], Outcome::Passed);
    }

    /// Where a message is.
    pub(crate) fn chunk_at(&mut self, id: SlotId, group: &str, offset: u64) -> Found {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Found::Unreadable;
        };
        if let Some(chunk) = slot.tail.find(offset) {
            return Found::Chunk(chunk.clone());
        }
        if let Some(gone) = slot.queue.gone().covering(offset) {
            let until = gone.last + 1;
            return Found::Nothing { until };
        }
        let Some(incarnation) = slot.incarnation else {
            let until = slot
                .tail
                .first_from(offset)
                .map_or(slot.queue.next(), |c| c.first_offset);
            return Found::Nothing { until };
        };
        let is_timed = slot.queue.is_timed();
        let ahead = match slot.members.get(group) {
            Some(members) => &members.read_ahead,
            None => &slot.read_ahead,
        };
        if let Some(chunk) = ahead
            .iter()
            .find(|c| c.first_offset <= offset && offset < c.end())
        {
            return Found::Chunk(chunk.clone());
        }
        let read_bytes = match slot.queue.settings().priorities {
            1 => READ_BYTES,
            _ => PRIORITY_READ_BYTES,
        };
        let read = match self.log.read(incarnation, offset, read_bytes) {
            Ok(read) => read,
            Err(ReadError::Damaged { end_offset, .. }) if end_offset <= offset => {
                return Found::Unreadable;
            }
            Err(error) => return self.unreadable(id, offset, error),
        };
        let chunk = |c: waypost_log::Chunk| Chunk {
            first_offset: c.first_offset,
            time_ms: c.time_ms,
            slab: Slab::from_checked(c.slab, c.count),
            is_timed,
        };
        let chunks: Vec<Chunk> = read.chunks.into_iter().map(chunk).collect();
        let Some(slot) = self.slots.get_mut(&id) else {
            return Found::Unreadable;
        };
        let found = match chunks.iter().find(|c| c.end() > offset) {
            Some(chunk) if chunk.first_offset <= offset => Found::Chunk(chunk.clone()),
            Some(chunk) => Found::Nothing {
                until: chunk.first_offset,
            },
            None => {
                let (queue, until) = (slot.queue.name().to_owned(), slot.queue.visible());
                let text =
                    format!("queue '{queue}': the log has nothing from offset {offset} to {until}");
                self.outputs.push(Output::Alarm { queue, text });
                Found::Nothing { until }
            }
        };
        match slot.members.get_mut(group) {
            Some(members) => members.read_ahead = chunks,
            None => slot.read_ahead = chunks,
        }
        found
    }

    /// A reader without a group is done: what was read for it is not kept.
    pub(crate) fn forget_ahead(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.read_ahead = Vec::new();
        }
    }

    fn unreadable(&mut self, id: SlotId, offset: u64, error: ReadError) -> Found {
        let queue = self
            .slots
            .get(&id)
            .map(|s| s.queue.name().to_owned())
            .unwrap_or_default();
        let text = format!("queue '{queue}', offset {offset}: {error}");
        tracing::error!(queue, offset, %error, "messages cannot be read");
        self.outputs.push(Output::Alarm { queue, text });
        match error {
            ReadError::Damaged { end_offset, .. } => Found::Nothing { until: end_offset },
            _ => Found::Unreadable,
        }
    }
}

/// What [`Shard::chunk_at`] found.
pub(crate) enum Found {
    /// A chunk that holds the offset.
    Chunk(Chunk),
    /// No message from the offset up to here: a gap, or damage that was told.
    Nothing { until: u64 },
    /// The disk does not answer; it may later.
    Unreadable,
}
