//! Messages that say when they may be delivered, or until when.
//!
//! A batch in which nothing says so is never looked at: its publisher's side knows that
//! ([`crate::Part::is_timed`]), chunks carry it, and what is read back from the log is looked at
//! only in a queue that had such a message before.

use waypost_core::age::{Clock, Received};
use waypost_core::group::Attempted;
use waypost_log::Vfs;
use waypost_wire::data::Range;
use waypost_wire::{Slab, peek};

use crate::expiry::Expiring;
use crate::slot::Chunk;
use crate::{Now, Shard, SlotId};

/// The shortest time to live in a slab, if one of its records is timed at all; `u64::MAX` where
/// records only wait.
pub(crate) fn look(slab: &Slab) -> Option<u64> {
    let timings = slab.iter().map(peek::timing).filter(|t| t.is_any());
    timings.map(|t| t.time_to_live_ms.unwrap_or(u64::MAX)).min()
}

/// What the time says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It may be delivered now, until this time.
    Due { expires: i64 },
    /// Not before this time, of the monotonic clock.
    Waits { until: i64 },
    /// It lived longer than it may: so many ms.
    Expired { ttl_ms: u64 },
}

/// What a chunk's messages share.
pub(crate) struct Timeline {
    received: i64,
    queue_ttl_ms: Option<u64>,
    is_timed: bool,
    now: i64,
}

impl Timeline {
    pub fn new(
        clock: &Clock,
        received: &Received,
        queue_ttl_ms: Option<u64>,
        chunk: &Chunk,
        now: Now,
    ) -> Timeline {
        Timeline {
            received: received.at(clock, chunk.first_offset, chunk.time_ms),
            queue_ttl_ms,
            is_timed: chunk.is_timed,
            now: signed(now.mono_ms),
        }
    }

    /// Of one record of the chunk.
    pub fn fate(&self, body: &[u8]) -> Fate {
        let timing = match self.is_timed {
            true => peek::timing(body),
            false => peek::Timing::default(),
        };
        let ttls = [self.queue_ttl_ms, timing.time_to_live_ms];
        let ttl_ms = ttls.into_iter().flatten().min();
        let expires = ttl_ms.map_or(i64::MAX, |ttl| self.received.saturating_add(signed(ttl)));
        if let Some(ttl_ms) = ttl_ms
            && expires <= self.now
        {
            return Fate::Expired { ttl_ms };
        }
        let wait = timing.not_before_ms.unwrap_or(0);
        let due = self.received.saturating_add(signed(wait));
        match due <= self.now {
            true => Fate::Due { expires },
            // One that expires while it waits is seen to when it does.
            false => Fate::Waits {
                until: due.min(expires),
            },
        }
    }

    /// How long ago the chunk was received, in ms.
    pub fn age_ms(&self) -> i64 {
        self.now.saturating_sub(self.received)
    }
}

pub(crate) fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

impl<V: Vfs> Shard<V> {
    /// What of a run may be delivered now: its start, as long as it may. What may not is set aside
    /// or taken away, and then it is `None`: the group has another run next.
    #[inline]
    pub(crate) fn sift(
        &mut self,
        id: SlotId,
        group: &str,
        run: Attempted,
        chunk: &Chunk,
        now: Now,
    ) -> Option<Attempted> {
        match self.is_sifted(id, chunk) {
            true => self.sift_timed(id, group, run, chunk, now),
            false => Some(run),
        }
    }

    /// Whether some record of a chunk may wait or expire.
    pub(crate) fn is_sifted(&self, id: SlotId, chunk: &Chunk) -> bool {
        let slot = self.slots.get(&id);
        chunk.is_timed || slot.is_some_and(|s| s.queue.settings().ttl_ms.is_some())
    }

    fn sift_timed(
        &mut self,
        id: SlotId,
        group: &str,
        run: Attempted,
        chunk: &Chunk,
        now: Now,
    ) -> Option<Attempted> {
        let slot = self.slots.get(&id)?;
        let ttl_ms = slot.queue.settings().ttl_ms;
        let timeline = Timeline::new(&self.clock, &slot.received, ttl_ms, chunk, now);
        let skip = (run.range.first - chunk.first_offset) as usize;
        let most = run.range.count();
        let mut fates = chunk.slab.iter().skip(skip).map(|body| {
            let fate = timeline.fate(body);
            // Until when does not part what can go together.
            match fate {
                Fate::Due { .. } => Fate::Due { expires: i64::MAX },
                other => other,
            }
        });
        let fate = fates.next()?;
        let same = 1 + fates.take_while(|other| *other == fate).count() as u64;
        let run = Attempted {
            range: Range {
                first: run.range.first,
                last: run.range.first + same.min(most) - 1,
            },
            ..run
        };
        match fate {
            Fate::Due { .. } => return Some(run),
            Fate::Waits { until } => self.set_aside(id, group, run, until.max(0) as u64),
            Fate::Expired { ttl_ms } => {
                let expiring = Expiring {
                    run: Attempted {
                        attempt: run.attempt.saturating_sub(1),
                        ..run
                    },
                    ttl_ms,
                };
                self.expire_run(id, group, expiring, now);
            }
        }
        None
    }

    /// Lets a group pass over a run until its time has come.
    pub(crate) fn set_aside(&mut self, id: SlotId, group: &str, run: Attempted, until: u64) {
        let slot = self.slots.get_mut(&id);
        if let Some(named) = slot.and_then(|s| s.queue.group_mut(group)) {
            named.group.set_aside(run, until);
        }
        self.set_timer(id);
    }
}
