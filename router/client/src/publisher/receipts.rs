//! Receipts that have come and that the application has not taken.
//!
//! Invariant: only what was taken is acked to the node, so that what a process did not see comes
//! again on its next stream, or to its successor. The node sends a bounded number ahead.

use std::collections::VecDeque;

use waypost_wire::data::{self, Outcome};

/// A group is done with one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's sequence, as in [`Confirmed`](super::Confirmed); none for a message of an
    /// earlier publisher under this producer's id.
    pub sequence: Option<u64>,
    /// The producer's number of the message.
    pub number: u64,
    /// The queue.
    pub queue: String,
    /// The group; empty where the message went before the queue had one.
    pub group: String,
    /// The message's offset in the queue.
    pub offset: u64,
    /// What the group did.
    pub outcome: Outcome,
    /// No group of the queue is left that is not done with the message.
    pub is_last: bool,
    /// The node of the queue; empty: the one that the client is connected to.
    pub node: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ReceiptInbox {
    /// With how many of each frame were taken.
    runs: VecDeque<data::Receipt>,
    /// The application asked for them.
    pub(super) is_wanted: bool,
    /// What was taken on this stream, and what of that was acked.
    taken: u64,
    acked: u64,
    /// The producer's number before the publisher's first message.
    pub(super) number_before: u64,
    /// The node's last word of how many are to come; those that wait here not among them.
    waiting: Option<u64>,
    /// Receipts that the node had forgotten.
    pub(super) lost: u64,
}

impl ReceiptInbox {
    /// A new stream: what was not acked comes again on it.
    pub(super) fn reopen(&mut self) {
        self.runs.clear();
        (self.taken, self.acked) = (0, 0);
    }

    pub(super) fn put(&mut self, receipts: data::Receipts) {
        self.runs
            .extend(receipts.receipts.into_iter().filter(|r| r.count > 0));
        self.waiting = Some(receipts.waiting);
        self.lost += receipts.lost;
    }

    pub(super) fn take(&mut self) -> Option<Receipt> {
        let run = self.runs.front_mut()?;
        let receipt = Receipt {
            sequence: run
                .sequence
                .checked_sub(self.number_before)
                .filter(|s| *s > 0),
            number: run.sequence,
            queue: run.queue.clone(),
            group: run.group.clone(),
            offset: run.offset,
            outcome: run.outcome,
            is_last: run.is_last,
            node: run.node.clone(),
        };
        run.sequence += 1;
        run.offset += 1;
        run.count -= 1;
        if run.count == 0 {
            self.runs.pop_front();
        }
        self.taken += 1;
        Some(receipt)
    }

    /// What is to be acked, if that is more than before.
    pub(super) fn take_ack(&mut self) -> Option<u64> {
        let is_more = self.taken > self.acked;
        self.acked = self.taken;
        is_more.then_some(self.taken)
    }

    /// How many are to come, as far as the node said.
    pub(super) fn waiting(&self) -> Option<u64> {
        let here: u64 = self.runs.iter().map(|run| run.count).sum();
        Some(self.waiting? + here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_acked_and_the_rest_comes_again() {
        let mut inbox = ReceiptInbox {
            number_before: 10,
            ..ReceiptInbox::default()
        };
        assert_eq!((inbox.take(), inbox.waiting()), (None, None));
        let run = data::Receipt {
            sequence: 10,
            count: 2,
            offset: 7,
            outcome: Outcome::Expired,
            queue: "q".into(),
            group: "g".into(),
            node: String::new(),
            is_last: true,
        };
        inbox.put(data::Receipts {
            number: 2,
            waiting: 1,
            lost: 3,
            receipts: vec![run],
        });
        assert_eq!(inbox.waiting(), Some(3));
        let first = inbox.take().unwrap();
        assert_eq!((first.sequence, first.number, first.offset), (None, 10, 7));
        assert_eq!((inbox.take_ack(), inbox.take_ack()), (Some(1), None));
        let second = inbox.take().unwrap();
        assert_eq!(
            (second.sequence, second.number, second.offset),
            (Some(1), 11, 8)
        );
        assert_eq!((inbox.waiting(), inbox.lost), (Some(1), 3));
        inbox.reopen();
        assert_eq!((inbox.take(), inbox.take_ack()), (None, None));
    }
}
