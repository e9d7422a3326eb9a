//! Messages looked at, and removed, by what they are: offsets, times, topics, keys, headers.
//!
//! Invariant: one step reads a bounded stretch, whatever the queue holds and however few messages
//! are wanted; the answer says where to go on.

use bytes::Bytes;
use waypost_log::Vfs;
use waypost_wire::control;
use waypost_wire::data::{Outcome, Range};
use waypost_wire::ranges::RangeSet;
use waypost_wire::{Filter, RecordRef};

use crate::deliver::Found;
use crate::{ManageError, Now, Peeked, SettingsError, Shard, SlotId, Start};

/// Messages that one step looks at.
const STEP_MESSAGES_MAX: u64 = 4096;
/// Bytes that one step looks at, unless it is one message: about a millisecond.
const STEP_BYTES_MAX: usize = 1 << 20;

/// Which messages of a queue: all conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The first offset.
    pub from_offset: u64,
    /// Offsets below this one.
    pub to_offset: Option<u64>,
    /// Received at this time (ms since 1970) or later.
    pub from_time_ms: Option<u64>,
    /// Received before this time.
    pub to_time_ms: Option<u64>,
    /// Topics that match one of these; none: all.
    pub filters: Vec<Filter>,
    /// Those with this key.
    pub key: Option<Bytes>,
    /// Those with these headers.
    pub headers: Vec<(String, String)>,
    /// Dead letters of this queue.
    pub dead_queue: Option<String>,
}

impl Selection {
    /// A selection from a request.
    pub fn from_message(message: &control::Select) -> Result<Selection, SettingsError> {
        let some = |value: u64| (value > 0).then_some(value);
        let filter = |text: &String| {
            Filter::new(text.as_str()).map_err(|error| SettingsError::Filter {
                filter: text.clone(),
                reason: error.to_string(),
            })
        };
        let headers = message.headers.iter();
        Ok(Selection {
            from_offset: message.from_offset,
            to_offset: some(message.to_offset),
            from_time_ms: some(message.from_time_ms),
            to_time_ms: some(message.to_time_ms),
            filters: message
                .filters
                .iter()
                .map(filter)
                .collect::<Result<_, _>>()?,
            key: (!message.key.is_empty()).then(|| message.key.clone()),
            headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
            dead_queue: (!message.dead_queue.is_empty()).then(|| message.dead_queue.clone()),
        })
    }

    /// Whether only offsets matter.
    fn is_plain(&self) -> bool {
        let Selection {
            from_offset,
            to_offset,
            ..
        } = *self;
        let plain = Selection {
            from_offset,
            to_offset,
            ..Selection::default()
        };
        *self == plain
    }

    fn takes_time(&self, time_ms: u64) -> bool {
        self.from_time_ms.is_none_or(|from| time_ms >= from)
            && self.to_time_ms.is_none_or(|to| time_ms < to)
    }

    /// Whether a record's fields are as asked.
    fn takes(&self, body: &[u8]) -> bool {
        let reads = !self.filters.is_empty()
            || self.key.is_some()
            || !self.headers.is_empty()
            || self.dead_queue.is_some();
        if !reads {
            return true;
        }
        let Ok(record) = RecordRef::parse(body) else {
            return false;
        };
        let has = |name: &str, value: &str| record.header(name) == Some(value.as_bytes());
        let topic = record.topic();
        (self.filters.is_empty() || self.filters.iter().any(|f| f.matches(topic)))
            && self
                .key
                .as_deref()
                .is_none_or(|key| record.key() == Some(key))
            && self.headers.iter().all(|(name, value)| has(name, value))
            && self
                .dead_queue
                .as_deref()
                .is_none_or(|queue| has("waypost-dead-queue", queue))
    }
}

/// What one step found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Browsed {
    /// The messages, by offset.
    pub messages: Vec<Peeked>,
    /// Where the next step begins.
    pub next_offset: u64,
    /// Nothing behind it is selected.
    pub is_end: bool,
}

impl<V: Vfs> Shard<V> {
    /// Looks at the selected messages without taking them, `count` and 1 MiB at most.
    pub fn browse(
        &mut self,
        name: &str,
        selection: &Selection,
        count: u32,
    ) -> Result<Browsed, ManageError> {
        let id = self.known(name)?;
        Ok(self.scan(id, selection, count as usize))
    }

    /// Removes selected messages, whoever wants or holds them; a step of them. Gives how many went,
    /// and where to go on if that was not all. Durable after the next commit.
    pub fn remove_messages(
        &mut self,
        now: Now,
        name: &str,
        selection: &Selection,
    ) -> Result<(u64, Option<u64>), ManageError> {
        let id = self.known(name)?;
        let Some(slot) = self.slots.get(&id) else {
            return Ok((0, None));
        };
        if selection.is_plain() {
            let first = selection.from_offset.max(slot.queue.first());
            let end = slot.queue.visible();
            let end = selection.to_offset.map_or(end, |to| to.min(end));
            let last = end.saturating_sub(1);
            let ranges = (first < end).then_some(Range { first, last });
            let count = ranges.map_or(0, |range| {
                self.drop_messages(id, &[range], Outcome::Removed, now)
            });
            return Ok((count, None));
        }
        let found = self.scan(id, selection, usize::MAX);
        let mut set = RangeSet::new();
        for message in &found.messages {
            set.insert(Range::one(message.offset));
        }
        let ranges: Vec<Range> = set.iter().collect();
        let count = match ranges.is_empty() {
            true => 0,
            false => self.drop_messages(id, &ranges, Outcome::Removed, now),
        };
        Ok((count, (!found.is_end).then_some(found.next_offset)))
    }

    pub(crate) fn known(&self, name: &str) -> Result<SlotId, ManageError> {
        self.slot_of(name)
            .ok_or_else(|| ManageError::NoQueue(name.into()))
    }

    /// One step over a queue.
    pub(crate) fn scan(&mut self, id: SlotId, selection: &Selection, count: usize) -> Browsed {
        let mut found = Browsed::default();
        let Some(slot) = self.slots.get(&id) else {
            return found;
        };
        let end = slot.queue.visible();
        let end = selection.to_offset.map_or(end, |to| to.min(end));
        let mut offset = selection.from_offset.max(slot.queue.first());
        if let Some(time) = selection.from_time_ms {
            offset = offset.max(self.place(id, Start::Time(time)));
        }
        let (mut looked, mut bytes) = (0, 0);
        while offset < end
            && found.messages.len() < count
            && looked < STEP_MESSAGES_MAX
            && bytes < STEP_BYTES_MAX
        {
            let gone = self
                .slots
                .get(&id)
                .and_then(|s| s.queue.gone().covering(offset));
            if let Some(gone) = gone {
                offset = gone.last + 1;
                continue;
            }
            let chunk = match self.chunk_at(id, "", offset) {
                Found::Chunk(chunk) => chunk,
                Found::Nothing { until } => {
                    offset = until.max(offset + 1);
                    continue;
                }
                Found::Unreadable => break,
            };
            if !selection.takes_time(chunk.time_ms) {
                looked += chunk.end() - offset;
                offset = chunk.end();
                continue;
            }
            let skip = (offset - chunk.first_offset) as usize;
            for body in chunk.slab.bodies().skip(skip) {
                let is_full = found.messages.len() >= count || bytes >= STEP_BYTES_MAX;
                let is_gone = self
                    .slots
                    .get(&id)
                    .is_none_or(|s| s.queue.gone().contains(offset));
                if is_full || is_gone || offset >= end {
                    break;
                }
                looked += 1;
                bytes += body.len();
                if selection.takes(&body) {
                    found.messages.push(Peeked {
                        offset,
                        receive_time_ms: chunk.time_ms,
                        body,
                    });
                }
                offset += 1;
            }
        }
        self.forget_ahead(id);
        found.next_offset = offset;
        found.is_end = offset >= end;
        found
    }
}
