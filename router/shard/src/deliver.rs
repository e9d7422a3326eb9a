//! Messages out of queues: to whoever has credit, in turn, from memory or from the log.

use waypost_core::group::{Attempted, ConsumerId};
use waypost_log::{ReadError, Vfs};
use waypost_wire::Slab;
use waypost_wire::data::{Deliver, Range};

use crate::slot::Chunk;
use crate::{Now, Output, Shard, SlotId};

/// Bytes read from the log at once, for one group: as much as fits a few batches.
const READ_BYTES: u64 = 256 << 10;
/// Messages of one delivery at most.
const DELIVER_MESSAGES_MAX: u64 = waypost_wire::BATCH_MESSAGES_MAX as u64;
/// Bytes of one delivery at most, unless it is one message.
const DELIVER_BYTES_MAX: u64 = waypost_wire::BATCH_BYTES_MAX as u64;

/// How much a consumer takes now.
struct Room {
    messages: u64,
    bytes: u64,
    batch_bytes: u64,
    deadline: u64,
}

impl<V: Vfs> Shard<V> {
    pub(crate) fn deliver_queue(&mut self, id: SlotId, now: Now) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        let groups: Vec<String> = slot.members.keys().cloned().collect();
        for group in groups {
            self.deliver_group(id, &group, now);
        }
    }

    fn deliver_group(&mut self, id: SlotId, group: &str, now: Now) {
        loop {
            let Some((consumer, room)) = self.next_consumer(id, group, now) else {
                return;
            };
            let Some(slot) = self.slots.get(&id) else {
                return;
            };
            let Some(run) = slot
                .queue
                .next_run(group, room.messages.min(DELIVER_MESSAGES_MAX))
            else {
                if let Some(members) = self
                    .slots
                    .get_mut(&id)
                    .and_then(|s| s.members.get_mut(group))
                {
                    members.read_ahead = Vec::new();
                }
                return;
            };
            match self.chunk_at(id, group, run.range.first) {
                Found::Chunk(chunk) => {
                    if let Some(run) = self.sift(id, group, run, &chunk, now) {
                        self.hand_over(id, group, consumer, &room, run, &chunk);
                    }
                }
                Found::Nothing { until } => {
                    let last = run
                        .range
                        .last
                        .min(until.saturating_sub(1))
                        .max(run.range.first);
                    self.skip(
                        id,
                        group,
                        Attempted {
                            range: Range { last, ..run.range },
                            ..run
                        },
                    );
                }
                // Told already; the group tries again when something else happens.
                Found::Unreadable => return,
            }
        }
    }

    /// The consumer whose turn it is among those that take something.
    fn next_consumer(&mut self, id: SlotId, group: &str, now: Now) -> Option<(ConsumerId, Room)> {
        let members = self.slots.get_mut(&id)?.members.get_mut(group)?;
        let count = members.consumers.len();
        for step in 0..count {
            let index = (members.turn + step) % count;
            let consumer = members.consumers[index];
            let Some(state) = self.consumers.get(&consumer) else {
                continue;
            };
            let messages = state
                .credit_messages
                .saturating_sub(state.sent_messages)
                .min(
                    self.options
                        .consumer_messages_max
                        .saturating_sub(state.held),
                );
            let bytes = state.credit_bytes.saturating_sub(state.sent_bytes);
            let is_full = state.buffered_bytes >= self.options.consumer_bytes_max;
            if messages == 0 || bytes == 0 || is_full {
                continue;
            }
            members.turn = (index + 1) % count;
            let deadline = now.mono_ms.saturating_add(state.ack_deadline_ms);
            return Some((
                consumer,
                Room {
                    batch_bytes: state.batch_bytes_max.max(1),
                    messages,
                    bytes,
                    deadline,
                },
            ));
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
        let bytes_max = room.bytes.min(DELIVER_BYTES_MAX).min(room.batch_bytes) as usize;
        let count = if part.bytes().len() <= bytes_max {
            there
        } else {
            part.fitting(0, bytes_max)
        };
        let slab = part.slice(0, count);
        let first = run.range.first;
        let leased = Attempted {
            range: Range {
                first,
                last: first + u64::from(count) - 1,
            },
            attempt: run.attempt,
        };
        let detail = match run.attempt {
            1 => Vec::new(),
            attempt => (first..=leased.range.last)
                .map(|offset| (offset, attempt))
                .collect(),
        };
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let Some(named) = slot.queue.group_mut(group) else {
            return;
        };
        named.group.lease(consumer, leased, room.deadline);
        slot.delivered += u64::from(count);
        self.counters.delivered += u64::from(count);
        if run.attempt > 1 {
            self.counters.redelivered += u64::from(count);
        }
        let bytes = slab.bytes().len() as u64;
        self.counters.delivered_bytes += bytes;
        if let Some(state) = self.consumers.get_mut(&consumer) {
            state.sent_messages += u64::from(count);
            state.sent_bytes += bytes;
            state.buffered_bytes += bytes;
            state.held += u64::from(count);
        }
        let deliver = Deliver {
            first_offset: first,
            receive_time_ms: chunk.time_ms,
            detail,
            slab,
        };
        self.outputs.push(Output::Deliver { consumer, deliver });
    }

    /// Passes over offsets that the queue has no message for.
    fn skip(&mut self, id: SlotId, group: &str, run: Attempted) {
        if let Some(named) = self
            .slots
            .get_mut(&id)
            .and_then(|s| s.queue.group_mut(group))
        {
            named.group.skip(run);
            self.moved.insert(id);
        }
    }

    /// Where a message is.
    pub(crate) fn chunk_at(&mut self, id: SlotId, group: &str, offset: u64) -> Found {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Found::Unreadable;
        };
        if let Some(chunk) = slot.tail.find(offset) {
            return Found::Chunk(chunk.clone());
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
        let read = match self.log.read(incarnation, offset, READ_BYTES) {
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
