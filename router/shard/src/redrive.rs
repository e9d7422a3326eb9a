//! Dead letters that go back to where they came from.
//!
//! Invariant: the copies and the removal of the dead letters are one set of the log: a message is
//! in one place, or in the other.

use std::collections::BTreeMap;

use bytes::Bytes;
use waypost_core::journal::Entry;
use waypost_log::Vfs;
use waypost_wire::data::{Outcome, Range};
use waypost_wire::ranges::RangeSet;
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Message, RecordRef};

use crate::publish::Part;
use crate::{ManageError, Now, Peeked, PublishError, Selection, Shard, SlotId};

/// Dead letters that one step moves: a batch, as from a publisher.
const STEP_MESSAGES_MAX: usize = waypost_wire::BATCH_MESSAGES_MAX;
/// What a dead letter has besides the message that it was.
const HEADERS: &str = "waypost-dead-";

/// What one step moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Messages that went back.
    pub count: u64,
    /// Where to go on, if that was not all.
    pub next_offset: Option<u64>,
    /// Messages that stayed, and why the last of them did.
    pub stayed: u64,
    /// In words, with the offset and the queue.
    pub why: String,
}

impl<V: Vfs> Shard<V> {
    /// Moves a step of the selected dead letters to the queues that they came from, or into `to`;
    /// with `record`, that takes the place of the one that is selected. Durable after the next
    /// commit.
    pub fn redrive(
        &mut self,
        now: Now,
        name: &str,
        selection: &Selection,
        to: Option<&str>,
        record: Option<&Bytes>,
    ) -> Result<Redriven, ManageError> {
        let id = self.known(name)?;
        let found = self.scan(id, selection, STEP_MESSAGES_MAX);
        let mut redriven = Redriven {
            next_offset: (!found.is_end).then_some(found.next_offset),
            ..Redriven::default()
        };
        let mut parts: BTreeMap<String, SlabBuilder> = BTreeMap::new();
        let mut moved = RangeSet::new();
        for message in &found.messages {
            let origin = to.map_or_else(|| origin(message), |to| Some(to.to_owned()));
            let known = origin.filter(|queue| queue != name && self.slot_of(queue).is_some());
            let Some(queue) = known else {
                redriven.stayed += 1;
                redriven.why = format!(
                    "offset {}: the queue that it came from is not there; name another",
                    message.offset
                );
                continue;
            };
            let body = record.cloned().unwrap_or_else(|| original(&message.body));
            parts.entry(queue).or_default().push(&body);
            moved.insert(Range::one(message.offset));
        }
        let parts = parts.into_iter();
        let parts: Vec<Part> = parts
            .map(|(queue, mut slab)| Part::new(queue.into(), slab.finish()))
            .collect();
        if parts.is_empty() {
            return Ok(redriven);
        }
        let ranges: Vec<Range> = moved.iter().collect();
        match self.move_back(now, id, &parts, ranges) {
            Ok(count) => redriven.count = count,
            Err(why) => {
                redriven.stayed += moved.offsets();
                redriven.next_offset = None;
                redriven.why = why;
            }
        }
        Ok(redriven)
    }

    /// Appends copies to a queue; nobody is told. Durable after the next commit.
    pub fn replay(&mut self, now: Now, part: Part) -> Result<(), PublishError> {
        self.append_parts(now, &[part]).map(drop)
    }

    fn move_back(
        &mut self,
        now: Now,
        id: SlotId,
        parts: &[Part],
        ranges: Vec<Range>,
    ) -> Result<u64, String> {
        self.make_place(now, parts).map_err(|e| e.to_string())?;
        let mark = self.log.mark();
        let entry = Entry::Removed {
            ranges: ranges.clone(),
        };
        let entries = self.with_receipts(id, entry, Outcome::Removed);
        if let Some(incarnation) = self.incarnation_of(id) {
            let mut each = entries.iter();
            let written = each.try_for_each(|e| self.log.append_state(incarnation, &e.encode()));
            if let Err(error) = written {
                self.log.rollback(mark);
                return Err(error.to_string());
            }
        }
        if let Err(error) = self.append_placed(now, parts) {
            self.log.rollback(mark);
            return Err(error.to_string());
        }
        self.sync_soon(id, now);
        self.has_all_receipts(id, &entries);
        Ok(self.forget_messages(id, &ranges))
    }
}

/// The queue that a dead letter came from.
fn origin(message: &Peeked) -> Option<String> {
    let record = RecordRef::parse(&message.body).ok()?;
    let queue = record.header("waypost-dead-queue")?;
    Some(std::str::from_utf8(queue).ok()?.to_owned())
}

/// The message that a dead letter was. It is a new one for its queue: its producer's sequence would
/// make it a repeat.
fn original(body: &Bytes) -> Bytes {
    let Ok(record) = RecordRef::parse(body) else {
        return body.clone();
    };
    let mut message: Message = record.to_message();
    message
        .headers
        .retain(|(name, _)| !name.starts_with(HEADERS));
    message.producer = None;
    message.to_body()
}
