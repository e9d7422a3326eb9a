//! Who is to be told what became of which messages, and what is still to be told.
//!
//! A producer may ask for receipts of what it publishes. A queue notes where those messages lie
//! (*asked*); when a group is done with one, that is *owed* to the producer until it says that it
//! has it. Both are in the queue's journal, so that neither a crash nor a producer that is away for
//! a while loses a receipt. A queue of which nobody asked has an empty book, and looks no further.
//!
//! Receipts of a queue are numbered, one for each message and group, and the numbers are those of
//! the journal: replaying it gives the same ones. What was numbered since the last sync is not told
//! (`Book::synced`).
//!
//! A receipt names its message by producer and number, which the record itself carries. So a router
//! to which a record went on can ask its own queues for the same producer, and send the answer back.
//!
//! Bounds: see [`ASKED_MAX`], [`ASKED_PER_PRODUCER_MAX`], [`OWED_MAX`], [`ABSENT_MS_MAX`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use waypost_wire::data::{Outcome, Range};

use crate::dedup::ProducerId;

/// Messages of which one producer may wait for receipts, or has some to be told of, counted in each
/// queue that they reach; what asks for more is refused.
pub const ASKED_PER_PRODUCER_MAX: u64 = 16_384;
/// The same of all producers of a node: at most 150 B each in memory and 40 B in snapshots, 20 MB
/// and 5 MB.
pub const ASKED_MAX: u64 = 131_072;
/// Receipts that a queue keeps for a producer, of however many groups: beyond, the oldest are
/// forgotten, and the producer is told how many.
pub const OWED_MAX: u64 = 65_536;
/// A producer that has no stream for so long, by the monotonic clock and counted anew from each
/// start of the node, is forgotten: a day.
pub const ABSENT_MS_MAX: u64 = 86_400_000;

/// Messages at offsets that follow each other, whose numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedRun {
    /// Their offsets.
    pub range: Range,
    /// The producer's number of the first.
    pub sequence: u64,
}

/// Receipts for messages that follow each other, of one group and with one outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedRun {
    /// The first receipt's number.
    pub number: u64,
    /// How many messages.
    pub count: u64,
    /// The producer's number of the first.
    pub sequence: u64,
    /// Its offset.
    pub offset: u64,
    /// What became of them.
    pub outcome: Outcome,
    /// The group; empty where there was none.
    pub group: Arc<str>,
    /// No group is left that is not done with them.
    pub is_last: bool,
}

impl OwedRun {
    fn end(&self) -> u64 {
        self.number + self.count
    }

    /// Cuts off the first `count`.
    fn skip(&mut self, count: u64) {
        self.number += count;
        self.sequence += count;
        self.offset += count;
        self.count -= count;
    }
}

/// What a queue's snapshot says of a producer that asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptSnapshot {
    /// Which.
    pub producer: ProducerId,
    /// Receipts that were forgotten and not told.
    pub lost: u64,
    /// What it waits for; ascending.
    pub asked: Vec<AskedRun>,
    /// What is to be told, by number.
    pub owed: Vec<OwedRun>,
}

#[derive(Clone, Debug)]
struct Asked {
    last: u64,
    producer: ProducerId,
    sequence: u64,
}

#[derive(Clone, Debug, Default)]
struct Account {
    asked: u64,
    owed: VecDeque<OwedRun>,
    owed_messages: u64,
    lost: u64,
}

/// The receipts of one queue.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// By first offset; runs do not overlap.
    asked: BTreeMap<u64, Asked>,
    accounts: BTreeMap<ProducerId, Account>,
    next: u64,
    synced: u64,
}

impl Book {
    /// Whether nobody asked for anything that is still to come or to be told.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Messages of a producer that asks for receipts were appended.
    pub fn ask(&mut self, producer: ProducerId, runs: &[AskedRun]) {
        for AskedRun { range, sequence } in runs {
            let account = self.accounts.entry(producer).or_default();
            account.asked += range.count();
            let asked = Asked {
                last: range.last,
                producer,
                sequence: *sequence,
            };
            self.asked.insert(range.first, asked);
        }
    }

    /// What was asked for of these offsets.
    pub fn asked_in(&self, ranges: &[Range]) -> Vec<Range> {
        let mut found = Vec::new();
        for range in ranges {
            found.extend(self.pieces(*range).map(|(range, ..)| range));
        }
        found
    }

    /// The parts of runs that lie in a range: offsets, producer, number of the first.
    fn pieces(&self, range: Range) -> impl Iterator<Item = (Range, ProducerId, u64)> + '_ {
        let before = self.asked.range(..range.first).next_back();
        let start = before.map_or(range.first, |(first, _)| *first);
        let runs = self.asked.range(start..=range.last);
        runs.filter_map(move |(&run_first, asked)| {
            let first = run_first.max(range.first);
            let last = asked.last.min(range.last);
            let sequence = asked.sequence + (first - run_first);
            (first <= last).then_some((Range { first, last }, asked.producer, sequence))
        })
    }

    /// A group is done with these offsets: what was asked for is owed. With `is_last` nothing more
    /// comes of them.
    pub fn settle(&mut self, group: &Arc<str>, ranges: &[Range], outcome: Outcome, is_last: bool) {
        for range in ranges {
            let pieces: Vec<_> = self.pieces(*range).collect();
            for (range, producer, sequence) in pieces {
                let number = self.next;
                self.next += range.count();
                let account = self.accounts.entry(producer).or_default();
                account.owe(OwedRun {
                    number,
                    count: range.count(),
                    sequence,
                    offset: range.first,
                    outcome,
                    group: group.clone(),
                    is_last,
                });
            }
        }
        if is_last {
            self.close(ranges);
        }
    }

    fn close(&mut self, ranges: &[Range]) {
        for range in ranges {
            let pieces: Vec<_> = self.pieces(*range).collect();
            for (piece, producer, _) in pieces {
                self.cut(piece);
                if let Some(account) = self.accounts.get_mut(&producer) {
                    account.asked -= piece.count();
                }
                self.tidy(&producer);
            }
        }
    }

    /// Takes a piece of one run out.
    fn cut(&mut self, piece: Range) {
        let Some((&first, _)) = self.asked.range(..=piece.first).next_back() else {
            return;
        };
        let Some(run) = self.asked.remove(&first) else {
            return;
        };
        if first < piece.first {
            let last = piece.first - 1;
            self.asked.insert(first, Asked { last, ..run });
        }
        if piece.last < run.last {
            let next = piece.last + 1;
            let sequence = run.sequence + (next - first);
            self.asked.insert(next, Asked { sequence, ..run });
        }
    }

    /// A producer has its receipts below a number.
    pub fn told(&mut self, producer: &ProducerId, below: u64) {
        let Some(account) = self.accounts.get_mut(producer) else {
            return;
        };
        while let Some(run) = account.owed.front_mut()
            && run.number < below
        {
            let count = run.count.min(below - run.number);
            account.owed_messages -= count;
            match count == run.count {
                true => drop(account.owed.pop_front()),
                false => run.skip(count),
            }
        }
        self.tidy(producer);
    }

    /// A producer that is away too long is told nothing more.
    pub fn forget(&mut self, producer: &ProducerId) {
        self.accounts.remove(producer);
        self.asked.retain(|_, asked| asked.producer != *producer);
    }

    fn tidy(&mut self, producer: &ProducerId) {
        let is_done = |a: &Account| a.asked == 0 && a.owed.is_empty() && a.lost == 0;
        if self.accounts.get(producer).is_some_and(is_done) {
            self.accounts.remove(producer);
        }
    }

    /// What a producer waits for, or is to be told of: for each message once, and once for each
    /// receipt.
    pub fn outstanding(&self, producer: &ProducerId) -> u64 {
        let account = self.accounts.get(producer);
        account.map_or(0, |a| a.asked + a.owed_messages)
    }

    /// Messages that a producer waits for.
    pub fn asked(&self, producer: &ProducerId) -> u64 {
        self.accounts.get(producer).map_or(0, |a| a.asked)
    }

    /// The same of all producers.
    pub fn outstanding_all(&self) -> u64 {
        let each = self.accounts.values();
        each.map(|a| a.asked + a.owed_messages).sum()
    }

    /// The producers that asked.
    pub fn producers(&self) -> impl Iterator<Item = &ProducerId> {
        self.accounts.keys()
    }

    /// All that is owed now is as durable as it will be.
    pub fn set_synced(&mut self) {
        self.synced = self.next;
    }

    /// What may be told to a producer from a number on, `max` receipts at most.
    pub fn untold(&self, producer: &ProducerId, from: u64, max: u64) -> Vec<OwedRun> {
        let mut found = Vec::new();
        let mut left = max;
        let Some(account) = self.accounts.get(producer) else {
            return found;
        };
        let at = account.owed.partition_point(|run| run.end() <= from);
        for run in account.owed.iter().skip(at) {
            let mut run = run.clone();
            run.skip(from.saturating_sub(run.number));
            let synced = self.synced.saturating_sub(run.number);
            run.count = run.count.min(left).min(synced);
            if run.count == 0 {
                break;
            }
            left -= run.count;
            found.push(run);
        }
        found
    }

    /// How many receipts of a producer were forgotten since this was last asked.
    pub fn take_lost(&mut self, producer: &ProducerId) -> u64 {
        let account = self.accounts.get_mut(producer);
        let lost = account.map_or(0, |a| std::mem::take(&mut a.lost));
        self.tidy(producer);
        lost
    }

    /// The state, and the next number.
    pub fn snapshot(&self) -> (u64, Vec<ReceiptSnapshot>) {
        let of = |(producer, account): (&ProducerId, &Account)| ReceiptSnapshot {
            producer: *producer,
            lost: account.lost,
            asked: Vec::new(),
            owed: account.owed.iter().cloned().collect(),
        };
        let mut all: BTreeMap<ProducerId, ReceiptSnapshot> = self
            .accounts
            .iter()
            .map(|pair| (*pair.0, of(pair)))
            .collect();
        for (&first, asked) in &self.asked {
            if let Some(snapshot) = all.get_mut(&asked.producer) {
                let last = asked.last;
                snapshot.asked.push(AskedRun {
                    range: Range { first, last },
                    sequence: asked.sequence,
                });
            }
        }
        (self.next, all.into_values().collect())
    }

    /// The state that a snapshot was taken of.
    pub fn recover(next: u64, producers: Vec<ReceiptSnapshot>) -> Book {
        let mut book = Book {
            next,
            ..Book::default()
        };
        for of in producers {
            book.ask(of.producer, &of.asked);
            let account = book.accounts.entry(of.producer).or_default();
            account.owed_messages = of.owed.iter().map(|run| run.count).sum();
            account.owed = of.owed.into();
            account.lost = of.lost;
        }
        book
    }
}

impl Account {
    fn owe(&mut self, run: OwedRun) {
        self.owed_messages += run.count;
        match self.owed.back_mut() {
            Some(last)
                if last.end() == run.number
                    && last.outcome == run.outcome
                    && last.group == run.group
                    && last.is_last == run.is_last
                    && last.sequence + last.count == run.sequence
                    && last.offset + last.count == run.offset =>
            {
                last.count += run.count;
            }
            _ => self.owed.push_back(run),
        }
        while self.owed_messages > OWED_MAX
            && let Some(front) = self.owed.front_mut()
        {
            let count = front.count.min(self.owed_messages - OWED_MAX);
            self.owed_messages -= count;
            self.lost += count;
            match count == front.count {
                true => drop(self.owed.pop_front()),
                false => front.skip(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProducerId = [1; 16];
    const Q: ProducerId = [2; 16];

    fn r(first: u64, last: u64) -> Range {
        Range { first, last }
    }

    fn asked(first: u64, last: u64, sequence: u64) -> AskedRun {
        AskedRun {
            range: r(first, last),
            sequence,
        }
    }

    /// Number, count, sequence, offset.
    fn told(book: &Book, producer: &ProducerId, from: u64) -> Vec<(u64, u64, u64, u64)> {
        let runs = book.untold(producer, from, u64::MAX);
        let each = runs.iter();
        each.map(|o| (o.number, o.count, o.sequence, o.offset))
            .collect()
    }

    #[test]
    fn what_was_asked_for_is_owed_once_synced_and_until_it_was_told() {
        let group: Arc<str> = "g".into();
        let mut book = Book::default();
        book.ask(P, &[asked(10, 19, 1)]);
        book.ask(Q, &[asked(20, 21, 7)]);
        book.settle(&group, &[r(0, 11), r(18, 30)], Outcome::Acked, false);
        assert_eq!(told(&book, &P, 0), []);
        book.set_synced();
        assert_eq!(told(&book, &P, 0), [(0, 2, 1, 10), (2, 2, 9, 18)]);
        assert_eq!(told(&book, &Q, 0), [(4, 2, 7, 20)]);
        assert_eq!(told(&book, &P, 1), [(1, 1, 2, 11), (2, 2, 9, 18)]);
        assert_eq!(book.untold(&P, 0, 3).last().unwrap().count, 1);
        book.close(&[r(10, 11), r(18, 21)]);
        assert_eq!(book.asked_in(&[r(0, 99)]), [r(12, 17)]);
        assert_eq!((book.outstanding(&P), book.outstanding_all()), (10, 12));
        let (next, snapshot) = book.snapshot();
        let mut again = Book::recover(next, snapshot.clone());
        assert_eq!(again.snapshot(), (next, snapshot));
        assert_eq!(told(&again, &P, 0), [], "not before a sync is known");
        again.set_synced();
        again.told(&P, 3);
        assert_eq!(told(&again, &P, 0), [(3, 1, 10, 19)]);
        again.told(&Q, 99);
        assert_eq!(again.producers().collect::<Vec<_>>(), [&P]);
        // In order and in a row they are one.
        again.settle(&group, &[r(12, 13)], Outcome::Acked, true);
        again.settle(&group, &[r(14, 14)], Outcome::Acked, true);
        again.settle(&group, &[r(15, 15)], Outcome::Expired, true);
        assert_eq!(again.asked(&P), 2);
        again.set_synced();
        let rest = [(3, 1, 10, 19), (6, 3, 3, 12), (9, 1, 6, 15)];
        assert_eq!(told(&again, &P, 0), rest);
        again.forget(&P);
        assert!(again.is_empty() && again.asked.is_empty());
    }

    #[test]
    fn what_is_owed_is_bounded_and_what_is_forgotten_is_counted() {
        let mut book = Book::default();
        book.ask(P, &[asked(0, 999, 1)]);
        for n in 0..OWED_MAX / 1000 + 2 {
            let group: Arc<str> = n.to_string().into();
            book.settle(&group, &[r(0, 999)], Outcome::Acked, false);
        }
        book.set_synced();
        assert_eq!(book.outstanding(&P), OWED_MAX + 1000);
        let lost = book.untold(&P, 0, 1)[0].number;
        assert_eq!(book.take_lost(&P), lost);
        assert_eq!(book.take_lost(&P), 0);
    }
}
