//! What time asks of a group: messages that wait for their time, and who holds what.

use super::{Attempted, ConsumerId, Group, Range};

impl Group {
    /// Sets a range aside until `due` without its having been tried: its attempt stays. It must be
    /// (the start of) the one that [`Group::next_run`] gave. Later messages pass it.
    pub fn set_aside(&mut self, run: Attempted, due: u64) {
        self.claim(run.range);
        self.put_waiting(run, Some(due));
    }

    /// The queue has so many stretches whose messages are gone: they are no exceptions of this group.
    pub fn set_holes(&mut self, holes: usize) {
        self.holes = holes;
    }

    /// Whether this group is done with an offset.
    pub fn is_done(&self, offset: u64) -> bool {
        offset < self.floor || self.acked.contains(offset)
    }

    /// Whether a consumer holds a message.
    pub fn is_held(&self, offset: u64) -> bool {
        self.leases.is_held(offset)
    }

    /// The last offset of those from `offset` on that one consumer holds, as far as they lie
    /// together.
    pub fn held_until(&self, offset: u64) -> Option<u64> {
        self.leases.held_until(offset)
    }

    /// Who holds how many messages of a range.
    pub fn holders(&self, range: Range) -> Vec<(ConsumerId, u64)> {
        self.leases.holders(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::GroupKind;

    fn r(first: u64, last: u64) -> Range {
        Range { first, last }
    }

    #[test]
    fn what_is_set_aside_keeps_its_attempt_and_lets_others_pass() {
        let mut group = Group::new(GroupKind::Shared, 0);
        let run = group.next_run(10, 3).unwrap();
        group.set_aside(run, 50);
        let later = group.next_run(10, 9).unwrap();
        assert_eq!((later.range, later.attempt), (r(3, 9), 1));
        assert_eq!((group.in_flight(), group.next_timeout()), (0, Some(50)));
        group.wake_delayed(49);
        assert_eq!(group.next_run(3, 9), None);
        group.wake_delayed(50);
        let due = group.next_run(3, 9).unwrap();
        assert_eq!((due.range, due.attempt), (r(0, 2), 1));
        group.lease(7, due, 90);
        assert_eq!(group.redelivered(), 0);
        let taken = group.take(7, &[r(1, 1)]);
        let again = group.put_back(taken, |_| None);
        assert_eq!(again[0].attempt, 2);
        // What comes again can be set aside too, and is no further attempt for it.
        group.set_aside(again[0], 100);
        group.wake_delayed(100);
        assert_eq!(group.next_run(3, 9).unwrap().attempt, 2);
    }

    #[test]
    fn holders_are_counted_by_range() {
        let mut group = Group::new(GroupKind::Shared, 0);
        for (consumer, count) in [(1, 4), (2, 3)] {
            let run = group.next_run(10, count).unwrap();
            group.lease(consumer, run, 90);
        }
        assert_eq!(group.holders(r(2, 20)), [(1, 2), (2, 3)]);
        assert_eq!((group.held_until(2), group.held_until(7)), (Some(3), None));
        group.ack(1, &[r(0, 1)]);
        assert!(group.is_done(1) && !group.is_done(2));
    }
}
