//! Messages that are too old: expired ones to the dead letters or away, and what is older than a
//! queue keeps.
//!
//! Invariants: what a consumer holds does not expire until it comes back; the removal and the dead
//! letters are one set of the log; a step is bounded, and a timer brings the next one. A queue's
//! head is swept without anybody asking; behind it, expired messages are found when their turn
//! comes, or when they reach the head.

use waypost_core::group::{Attempted, ConsumerId};
use waypost_core::journal::Entry;
use waypost_core::lastvalue::LastValues;
use waypost_core::queue::Retain;
use waypost_core::settings::Expired;
use waypost_log::Vfs;
use waypost_wire::data::{Outcome, Range};
use waypost_wire::ranges::RangeSet;

use crate::deliver::Found;
use crate::slot::Slot;
use crate::timed::{Fate, Timeline, signed};
use crate::{Now, Shard, SlotId};

/// Messages that one step looks at: a fraction of a millisecond.
const STEP_MESSAGES_MAX: u64 = 256;
/// How long what expired and cannot go yet waits: held elsewhere, or no room for dead letters.
const RETRY_MS: u64 = 1000;

/// Messages that expired, with the attempts that they had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiring {
    pub run: Attempted,
    /// How long they might have lived.
    pub ttl_ms: u64,
}

/// What a step found at the head of a queue.
#[derive(Default)]
struct Head {
    /// Older than the queue keeps.
    aged: Vec<Range>,
    expired: Vec<Expiring>,
    /// Expired, and no group needs them.
    unneeded: Vec<Range>,
    /// When there is more, on the monotonic clock.
    next: Option<i64>,
}

impl Head {
    fn again_at(&mut self, at: i64) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    fn expire(&mut self, offset: u64, ttl_ms: u64) {
        match self.expired.last_mut() {
            Some(last) if last.ttl_ms == ttl_ms && last.run.range.last + 1 == offset => {
                last.run.range.last = offset;
            }
            _ => self.expired.push(Expiring {
                run: Attempted {
                    range: Range::one(offset),
                    attempt: 0,
                },
                ttl_ms,
            }),
        }
    }
}

impl Slot {
    /// Whether something of this queue can become too old, or is to be found.
    fn can_age(&self) -> bool {
        let settings = self.queue.settings();
        let has_unseen = |values: &LastValues| values.unseen().is_some();
        settings.ttl_ms.is_some()
            || settings.age_max_ms.is_some()
            || self.queue.is_timed()
            || self.last_values.as_ref().is_some_and(has_unseen)
    }

    /// Something was appended, of which the first expires after `ttl_ms`.
    pub(crate) fn age_from(&mut self, now: Now, ttl_ms: Option<u64>) {
        let settings = self.queue.settings();
        let first = match self.sweep_at {
            // What came before is older.
            Some(_) => None,
            None => settings.ttl_ms.into_iter().chain(settings.age_max_ms).min(),
        };
        if let Some(wait) = first.into_iter().chain(ttl_ms).min() {
            let at = now.mono_ms.saturating_add(wait);
            self.sweep_at = Some(self.sweep_at.map_or(at, |before| before.min(at)));
        }
    }
}

impl<V: Vfs> Shard<V> {
    /// The head of a queue is looked at as soon as time is told.
    pub(crate) fn sweep_soon(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.can_age()) {
            slot.sweep_at = Some(0);
            self.set_timer(id);
        }
    }

    /// One step over the head of a queue, if it is time.
    pub(crate) fn sweep(&mut self, id: SlotId, now: Now) {
        let is_due = |slot: &&mut Slot| slot.sweep_at.is_some_and(|at| at <= now.mono_ms);
        let Some(slot) = self.slots.get_mut(&id).filter(is_due) else {
            return;
        };
        slot.sweep_at = None;
        if !slot.can_age() {
            return;
        }
        let mut head = self.look_at_head(id, now);
        if !head.aged.is_empty() {
            self.counters.aged += self.drop_messages(id, &head.aged, Outcome::Dropped, now);
        }
        if !head.unneeded.is_empty() {
            self.drop_messages(id, &head.unneeded, Outcome::Expired, now);
        }
        self.know_attempts(id, &mut head.expired);
        if !self
            .expire_all(id, "", std::mem::take(&mut head.expired), now)
            .is_empty()
        {
            head.next = Some(signed(now.mono_ms + RETRY_MS));
        }
        if let Some(wait) = self.find_keys(id, now) {
            head.again_at(signed(now.mono_ms + wait));
        }
        // Never at once: others have their turn between two steps.
        let next = head.next.map(|at| (at.max(0) as u64).max(now.mono_ms + 1));
        if let Some(slot) = self.slots.get_mut(&id) {
            // What is not synced yet is looked at when it is.
            let is_behind = slot.queue.visible() < slot.queue.next();
            slot.sweep_at = next.or(is_behind.then_some(now.mono_ms + RETRY_MS));
        }
    }

    fn look_at_head(&mut self, id: SlotId, now: Now) -> Head {
        let mut head = Head::default();
        let Some(slot) = self.slots.get(&id) else {
            return head;
        };
        let settings = slot.queue.settings();
        let (ttl_ms, age_max_ms) = (settings.ttl_ms, settings.age_max_ms);
        let (mut offset, end) = (slot.queue.first(), slot.queue.visible());
        let mut looked = 0;
        while offset < end && looked < STEP_MESSAGES_MAX {
            looked += 1;
            if let Some(gone) = self
                .slots
                .get(&id)
                .and_then(|s| s.queue.gone().covering(offset))
            {
                offset = gone.last + 1;
                continue;
            }
            let chunk = match self.chunk_at(id, "", offset) {
                Found::Chunk(chunk) => chunk,
                Found::Nothing { until } => {
                    offset = until.max(offset + 1);
                    continue;
                }
                Found::Unreadable => {
                    head.again_at(signed(now.mono_ms + RETRY_MS));
                    break;
                }
            };
            let Some(slot) = self.slots.get(&id) else {
                break;
            };
            let timeline = Timeline::new(&self.clock, &slot.received, ttl_ms, &chunk, now);
            if let Some(age_max) = age_max_ms.map(signed) {
                if timeline.age_ms() >= age_max {
                    let last = chunk.end().min(end) - 1;
                    head.aged.push(Range {
                        first: offset,
                        last,
                    });
                    offset = last + 1;
                    continue;
                }
                head.again_at(signed(now.mono_ms) + age_max - timeline.age_ms());
            }
            if ttl_ms.is_none() && !slot.queue.is_timed() {
                break;
            }
            let is_over = look_at_chunk(slot, &chunk, &timeline, &mut offset, end, &mut head, now);
            looked += u64::from(chunk.slab.count());
            if is_over {
                break;
            }
        }
        self.forget_ahead(id);
        let found = !head.aged.is_empty() || !head.expired.is_empty() || !head.unneeded.is_empty();
        if offset < end && found {
            head.again_at(signed(now.mono_ms));
        }
        head
    }

    /// Fills in how often each was tried in vain.
    fn know_attempts(&self, id: SlotId, expired: &mut Vec<Expiring>) {
        let Some(slot) = self.slots.get(&id).filter(|_| !expired.is_empty()) else {
            return;
        };
        let tried = |offset: u64| {
            let groups = slot.queue.groups().values();
            let attempts = groups.filter_map(|g| g.group.attempt(offset));
            attempts.max().map_or(0, |attempt| attempt - 1)
        };
        let mut known: Vec<Expiring> = Vec::with_capacity(expired.len());
        for expiring in expired.iter() {
            let Range { first, last } = expiring.run.range;
            for offset in first..=last {
                let attempt = tried(offset);
                match known.last_mut() {
                    Some(before) if offset > first && before.run.attempt == attempt => {
                        before.run.range.last = offset;
                    }
                    _ => known.push(Expiring {
                        run: Attempted {
                            range: Range::one(offset),
                            attempt,
                        },
                        ..*expiring
                    }),
                }
            }
        }
        *expired = known;
    }

    /// A run of a group expired before it could be delivered.
    pub(crate) fn expire_run(&mut self, id: SlotId, group: &str, expiring: Expiring, now: Now) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        let Range { first, last } = expiring.run.range;
        let held = (first..=last).find(|offset| slot.queue.is_held(*offset));
        let part = |first, last| Attempted {
            range: Range { first, last },
            ..expiring.run
        };
        let retry = now.mono_ms + RETRY_MS;
        // Another group's consumer has it: it goes when that one is done with it.
        if held == Some(first) {
            let until = slot.queue.held_until(first).unwrap_or(first).min(last);
            let run = part(first, until);
            let attempt = run.attempt + 1;
            return self.set_aside(id, group, Attempted { attempt, ..run }, retry);
        }
        let free = part(first, held.map_or(last, |held| held - 1));
        let expiring = Expiring {
            run: free,
            ..expiring
        };
        for left in self.expire_all(id, group, vec![expiring], now) {
            let attempt = left.attempt + 1;
            self.set_aside(id, group, Attempted { attempt, ..left }, retry);
        }
    }

    /// Takes expired messages away, with their dead letters where the queue wants them. Gives what
    /// had to stay, in order.
    fn expire_all(
        &mut self,
        id: SlotId,
        group: &str,
        expired: Vec<Expiring>,
        now: Now,
    ) -> Vec<Attempted> {
        let mut stayed = Vec::new();
        let Some(slot) = self.slots.get(&id) else {
            return stayed;
        };
        let is_dropped = slot.queue.settings().expired == Expired::Drop
            || slot.queue.name() == waypost_core::DEAD_LETTER;
        if is_dropped {
            let ranges: Vec<Range> = expired.iter().map(|e| e.run.range).collect();
            if !ranges.is_empty() {
                let count = self.drop_messages(id, &ranges, Outcome::Expired, now);
                self.counters.expired += count;
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.expired += count;
                }
            }
            return stayed;
        }
        for Expiring { run, ttl_ms } in expired {
            let reason = format!("expired: not delivered within its time to live of {ttl_ms} ms");
            let mut left = vec![run];
            while !left.is_empty() {
                let sorted = self.sort(id, group, left, &reason);
                let mut ranges: Vec<Range> = sorted.moved.iter().map(|a| a.range).collect();
                ranges.sort_unstable();
                left = sorted.later;
                if ranges.is_empty() {
                    stayed.append(&mut left);
                    break;
                }
                let entry = Entry::Removed {
                    ranges: ranges.clone(),
                };
                let entries = self.with_receipts(id, entry, Outcome::Expired);
                if let Err(error) = self.move_set(now, id, &entries, &sorted.copies) {
                    tracing::warn!(%error, "expired messages cannot be dead letters yet");
                    stayed.extend(sorted.moved);
                    stayed.append(&mut left);
                    break;
                }
                self.sync_soon(id, now);
                self.has_all_receipts(id, &entries);
                let count = self.forget_messages(id, &ranges);
                self.counters.expired += count;
                self.counters.dead_lettered += count;
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.expired += count;
                    slot.dead_lettered += count;
                }
            }
        }
        stayed
    }

    /// Takes messages out of a queue, whoever wants or holds them, and journals it. Gives how many
    /// were there.
    pub(crate) fn drop_messages(
        &mut self,
        id: SlotId,
        ranges: &[Range],
        outcome: Outcome,
        now: Now,
    ) -> u64 {
        let mut set = RangeSet::new();
        ranges.iter().for_each(|range| set.insert(*range));
        let ranges: Vec<Range> = set.iter().collect();
        let entry = Entry::Removed {
            ranges: ranges.clone(),
        };
        let entries = self.with_receipts(id, entry, outcome);
        self.journal_set(id, &entries, now);
        self.has_all_receipts(id, &entries);
        self.forget_messages(id, &ranges)
    }

    /// Takes messages out of a queue after the journal was told. Gives how many were there.
    pub(crate) fn forget_messages(&mut self, id: SlotId, ranges: &[Range]) -> u64 {
        let Some(slot) = self.slots.get_mut(&id) else {
            return 0;
        };
        let groups = slot.queue.groups().values();
        let holders: Vec<(ConsumerId, u64)> = groups
            .flat_map(|g| ranges.iter().flat_map(|r| g.group.holders(*r)))
            .collect();
        let count = slot.queue.remove(ranges).map_or(0, |(_, count)| count);
        self.moved.insert(id);
        for (consumer, held) in holders {
            self.release(consumer, held);
        }
        self.ready.insert(id);
        count
    }
}

/// Looks at the records of a chunk from `offset` on. Says whether nothing behind it can have
/// expired.
fn look_at_chunk(
    slot: &Slot,
    chunk: &crate::slot::Chunk,
    timeline: &Timeline,
    offset: &mut u64,
    end: u64,
    head: &mut Head,
    now: Now,
) -> bool {
    let is_log = slot.queue.settings().retain == Retain::Log;
    let skip = (*offset - chunk.first_offset) as usize;
    let mut is_over = !slot.queue.is_timed();
    for body in chunk.slab.iter().skip(skip) {
        if *offset >= end {
            break;
        }
        let here = *offset;
        *offset += 1;
        let fate = timeline.fate(body);
        match fate {
            Fate::Due { expires } if expires < i64::MAX => head.again_at(expires),
            Fate::Due { .. } => {}
            Fate::Waits { until } => head.again_at(until),
            Fate::Expired { ttl_ms } => {
                is_over = false;
                if slot.queue.is_held(here) {
                    head.again_at(signed(now.mono_ms + RETRY_MS));
                } else if slot.queue.needs(here) {
                    head.expire(here, ttl_ms);
                } else if is_log && !slot.queue.gone().contains(here) {
                    head.unneeded.push(Range::one(here));
                }
            }
        }
    }
    is_over
}
