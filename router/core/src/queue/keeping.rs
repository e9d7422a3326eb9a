//! What a queue keeps, and what happens at its limits.
//!
//! A queue that refuses asks [`Queue::admit`] before an append; one whose oldest messages make room
//! is told by [`Queue::over`] how much must go, and [`Queue::truncate`] lets it go. Which offset
//! frees how many bytes is the caller's to know.

use std::collections::BTreeSet;

use crate::message_ids::Window;
use crate::queue::{NamedGroup, Queue, Refusal};
use crate::settings::{AtLimit, Retain, SlowGroup};

/// How far a queue is, or would be, above its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// Messages too many.
    pub messages: u64,
    /// Slab bytes too many.
    pub bytes: u64,
}

/// What [`Queue::truncate`] let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Messages that went.
    pub messages: u64,
    /// Of those, how many the group that lost most had not acked; all, if the queue kept them for
    /// its first group.
    pub unacked: u64,
}

impl Queue {
    /// Whether `count` more messages with `bytes` fit. Where the oldest make room, all that a queue
    /// may hold does.
    pub fn admit(&self, count: u64, bytes: u64) -> Result<(), Refusal> {
        let makes_room = self.settings.at_limit == AtLimit::DropOldest;
        let (queue, limit) = (|| self.name.clone(), self.settings.bytes_max);
        if bytes > limit && count == 1 {
            return Err(Refusal::TooLarge {
                queue: queue(),
                bytes,
                limit,
            });
        }
        let held = if makes_room { 0 } else { self.bytes };
        if held + bytes > limit {
            return Err(Refusal::FullBytes {
                queue: queue(),
                held,
                more: bytes,
                limit,
            });
        }
        let held = self.messages();
        match self.settings.messages_max.filter(|_| !makes_room) {
            Some(limit) if held + count > limit => Err(Refusal::FullMessages {
                queue: queue(),
                held,
                more: count,
                limit,
            }),
            _ => self.admit_behind(),
        }
    }

    /// Whether `more` message ids can be remembered.
    pub fn admit_ids(&self, more: u64, now: &Window<'_>) -> Result<(), Refusal> {
        let (known, limit) = (
            self.ids.len() as u64,
            u64::from(self.settings.dedup_ids_max),
        );
        match more > 0 && known + more > limit {
            true => Err(Refusal::Ids {
                queue: self.name.clone(),
                known,
                more,
                limit,
                leaves_in_ms: self.ids.oldest_leaves_in(now),
            }),
            false => Ok(()),
        }
    }

    /// A queue whose publishers are held takes nothing while a group is too far behind.
    fn admit_behind(&self) -> Result<(), Refusal> {
        if self.settings.slow != SlowGroup::Hold {
            return Ok(());
        }
        let limit = self.settings.slow_messages.unwrap_or(u64::MAX);
        let behind = |(name, named): (&String, &NamedGroup)| {
            let behind = named.group.pending(self.next);
            (behind >= limit).then(|| Refusal::Behind {
                queue: self.name.clone(),
                group: name.clone(),
                behind,
                limit,
            })
        };
        self.groups.iter().find_map(behind).map_or(Ok(()), Err)
    }

    /// The groups that are as far behind as the queue allows, or further.
    pub fn slow_groups(&self) -> BTreeSet<String> {
        let limit = self.settings.slow_messages.unwrap_or(u64::MAX);
        let groups = self.groups.iter();
        groups
            .filter(|(_, named)| named.group.pending(self.next) >= limit)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// How far it would be above its limits with `count` more messages of `bytes`.
    pub fn over(&self, count: u64, bytes: u64) -> Over {
        let messages = self.messages().saturating_add(count);
        let limit = self.settings.messages_max.unwrap_or(u64::MAX);
        let bytes = self.bytes.saturating_add(bytes);
        Over {
            messages: messages.saturating_sub(limit),
            bytes: bytes.saturating_sub(self.settings.bytes_max),
        }
    }

    /// One past the offset of the `count`th oldest message.
    pub fn end_of_oldest(&self, count: u64) -> u64 {
        let (mut offset, mut left) = (self.first, count);
        for gone in self.gone.iter() {
            let before = gone.first.saturating_sub(offset);
            if before >= left {
                break;
            }
            left -= before;
            offset = gone.last + 1;
        }
        offset.saturating_add(left).min(self.next)
    }

    /// Lets go of everything below an offset, whoever holds or wants it; for a group it counts as
    /// acked. `None` where nothing lies there.
    pub fn truncate(&mut self, below: u64) -> Option<Truncated> {
        let below = below.min(self.next);
        if below <= self.first {
            return None;
        }
        let (before, next) = (self.messages(), self.next);
        self.first = below;
        self.visible = self.visible.max(below);
        self.gone.remove_below(below);
        let mut unacked = match (self.groups.is_empty(), self.settings.retain) {
            (true, Retain::UntilAcked) => before - self.messages(),
            _ => 0,
        };
        for named in self.groups.values_mut() {
            let pending = named.group.pending(next);
            named.group.advance(below);
            unacked = unacked.max(pending.saturating_sub(named.group.pending(next)));
        }
        Some(Truncated {
            messages: before - self.messages(),
            unacked,
        })
    }

    /// Whether every group is done with an offset, so that nobody misses it.
    pub fn is_done_with(&self, offset: u64) -> bool {
        self.settings.retain == Retain::UntilAcked
            && !self.groups.is_empty()
            && self.groups.values().all(|g| g.group.is_done(offset))
    }

    /// Raises `first` to what the slowest group needs, and says whether it moved. Without groups
    /// everything stays, for the group that is made next; a log keeps what is acked.
    pub fn raise_first(&mut self) -> bool {
        let floor = match self.settings.retain {
            Retain::Log => None,
            Retain::UntilAcked => self.groups.values().map(|g| g.group.floor()).min(),
        };
        let floor = floor.unwrap_or(self.first).max(self.first);
        // What is gone at the front holds nothing.
        let floor = self
            .gone
            .covering(floor)
            .map_or(floor, |gone| gone.last + 1);
        let moved = floor > self.first;
        self.first = floor;
        self.gone.remove_below(floor);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::GroupOptions;
    use crate::settings::Settings;
    use waypost_wire::data::Range;

    fn queue(settings: Settings, messages: u64) -> Queue {
        let mut queue = Queue::new("q", settings);
        queue.append(messages, messages);
        queue.set_visible();
        queue
    }

    fn ack(queue: &mut Queue, group: &str, count: u64) {
        let run = queue.next_run(group, count).unwrap();
        queue.group_mut(group).unwrap().group.lease(1, run, 9);
        queue.ack(group, 1, &[run.range]).unwrap();
    }

    #[test]
    fn a_log_keeps_what_is_acked() {
        let settings = Settings {
            retain: Retain::Log,
            ..Settings::default()
        };
        let mut queue = queue(settings, 10);
        queue.add_group("g", 0, GroupOptions::default());
        ack(&mut queue, "g", 10);
        assert!(!queue.raise_first());
        assert_eq!((queue.first(), queue.messages()), (0, 10));
        queue.remove(&[Range { first: 0, last: 3 }]).unwrap();
        assert!(queue.raise_first());
        assert_eq!((queue.first(), queue.messages()), (4, 6));
        queue.set_settings(Settings::default());
        assert!(queue.raise_first());
        assert_eq!(queue.messages(), 0);
    }

    #[test]
    fn the_oldest_go_whoever_holds_them() {
        let settings = Settings {
            messages_max: Some(6),
            at_limit: AtLimit::DropOldest,
            ..Settings::default()
        };
        let mut queue = queue(settings, 10);
        queue.add_group("done", 0, GroupOptions::default());
        queue.add_group("slow", 0, GroupOptions::default());
        ack(&mut queue, "done", 3);
        let run = queue.next_run("slow", 5).unwrap();
        queue.group_mut("slow").unwrap().group.lease(7, run, 9);
        assert_eq!(queue.admit(1000, 1000), Ok(()));
        assert_eq!(
            queue.admit(2, 2 << 30).unwrap_err().code(),
            waypost_wire::Code::QueueFull
        );
        let over = queue.over(0, 0);
        assert_eq!((over.messages, over.bytes), (4, 0));
        let below = queue.end_of_oldest(over.messages);
        let range = Range {
            first: 0,
            last: below - 1,
        };
        let slow = &queue.group_mut("slow").unwrap().group;
        assert_eq!(slow.holders(range), [(7, 4)]);
        let gone = queue.truncate(below).unwrap();
        assert_eq!((gone.messages, gone.unacked), (4, 4));
        assert_eq!((queue.first(), queue.messages()), (4, 6));
        let acked = queue.ack("slow", 7, &[Range { first: 0, last: 4 }]);
        assert!(acked.is_some(), "the fifth is still its own");
        assert_eq!(queue.next_run("slow", 9).unwrap().range.first, 5);
        assert_eq!(queue.truncate(below), None);
    }

    #[test]
    fn gone_messages_do_not_count_among_the_oldest() {
        let mut queue = queue(Settings::default(), 10);
        queue.remove(&[Range { first: 1, last: 2 }, Range { first: 4, last: 4 }]);
        let ends: Vec<u64> = (0..9).map(|count| queue.end_of_oldest(count)).collect();
        assert_eq!(ends, [0, 1, 4, 6, 7, 8, 9, 10, 10]);
    }

    #[test]
    fn a_message_larger_than_the_queue_never_fits() {
        let settings = Settings {
            bytes_max: 100,
            at_limit: AtLimit::DropOldest,
            ..Settings::default()
        };
        let queue = queue(settings, 0);
        assert_eq!(queue.admit(1, 100), Ok(()));
        let error = queue.admit(1, 101).unwrap_err();
        assert_eq!(error.code(), waypost_wire::Code::TooLarge);
    }
}
