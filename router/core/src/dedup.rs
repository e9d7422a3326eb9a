//! Who published what: so that a message that is sent again is not stored again.
//!
//! A producer numbers its messages; a queue remembers the highest number of each producer, and
//! where the newest ones lie. Numbers of one producer rise in a queue, with gaps, because its
//! messages go to several queues: what is above the highest is new, what is below was stored or
//! was never meant for this queue. That holds as long as nothing is taken behind what was refused:
//! [`Sessions`] sees to it.
//!
//! Bounds: a queue knows [`PRODUCERS_MAX`] producers and forgets the one that was silent longest;
//! of each it knows the places of the last [`SEQUENCES_KNOWN`] numbers, in at most [`RUNS_MAX`]
//! runs. With all of that a queue's memory is 1.6 MiB and its snapshot 0.7 MiB larger.

use std::collections::{BTreeMap, HashMap, VecDeque};

use waypost_wire::Code;

/// Producers that a queue remembers.
pub const PRODUCERS_MAX: usize = 1024;
/// Numbers whose places are known, counted back from the highest.
pub const SEQUENCES_KNOWN: u64 = 4096;
/// Runs of numbers and offsets that are kept for it.
pub const RUNS_MAX: usize = 64;

/// Names a producer: random, chosen once by the application.
pub type ProducerId = [u8; 16];

/// Numbers that follow each other, at offsets that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRun {
    /// The first number.
    pub first: u64,
    /// The last; not below `first`.
    pub last: u64,
    /// Where the first lies.
    pub offset: u64,
}

/// What a queue knows of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was never here.
    New,
    /// It was stored, at this offset where that is still known.
    Repeat(Option<u64>),
    /// Later ones are here and it is not: to store it now would break the order.
    Passed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    epoch: u64,
    /// Of numbers up to here nothing is known but that they are below the highest.
    floor: u64,
    runs: VecDeque<SequenceRun>,
    /// When it was last heard of, in the order of [`Dedup::order`].
    turn: u64,
}

impl Known {
    fn highest(&self) -> u64 {
        self.runs.back().map_or(self.floor, |run| run.last)
    }

    fn push(&mut self, run: SequenceRun) {
        if run.first <= self.highest() {
            return;
        }
        match self.runs.back_mut() {
            Some(last)
                if last.last + 1 == run.first
                    && last.offset + (run.first - last.first) == run.offset =>
            {
                last.last = run.last;
            }
            _ => self.runs.push_back(run),
        }
        let highest = self.highest();
        while let Some(front) = self.runs.front()
            && (self.runs.len() > RUNS_MAX || front.last + SEQUENCES_KNOWN <= highest)
        {
            self.floor = front.last;
            self.runs.pop_front();
        }
    }
}

/// What a producer's part of a snapshot says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerSnapshot {
    /// Which.
    pub id: ProducerId,
    /// The highest epoch that stored something here.
    pub epoch: u64,
    /// Of numbers up to here nothing is known but that they are below the highest.
    pub floor: u64,
    /// Where the newest lie; ascending.
    pub runs: Vec<SequenceRun>,
}

/// What a queue remembers of its producers.
#[derive(Clone, Debug, Default)]
pub struct Dedup {
    producers: HashMap<ProducerId, Known>,
    /// The one that was silent longest first.
    order: BTreeMap<u64, ProducerId>,
    next_turn: u64,
}

impl Dedup {
    /// What is known of a producer's number.
    pub fn seen(&self, id: &ProducerId, sequence: u64) -> Seen {
        let Some(known) = self.producers.get(id) else {
            return Seen::New;
        };
        if sequence > known.highest() {
            return Seen::New;
        }
        let at = known.runs.partition_point(|run| run.last < sequence);
        match known.runs.get(at) {
            Some(run) if run.first <= sequence => {
                Seen::Repeat(Some(run.offset + (sequence - run.first)))
            }
            _ if sequence <= known.floor => Seen::Repeat(None),
            _ => Seen::Passed,
        }
    }

    /// The highest epoch and number of a producer.
    pub fn highest(&self, id: &ProducerId) -> Option<(u64, u64)> {
        let known = self.producers.get(id)?;
        Some((known.epoch, known.highest()))
    }

    /// Messages of a producer were appended. Runs ascend.
    pub fn stored(&mut self, id: ProducerId, epoch: u64, runs: &[SequenceRun]) {
        let Some(first) = runs.first() else {
            return;
        };
        let turn = self.next_turn;
        self.next_turn += 1;
        let known = self.producers.entry(id).or_insert_with(|| Known {
            floor: first.first.saturating_sub(1),
            turn,
            ..Known::default()
        });
        self.order.remove(&known.turn);
        self.order.insert(turn, id);
        known.turn = turn;
        known.epoch = known.epoch.max(epoch);
        runs.iter().for_each(|run| known.push(*run));
        while self.producers.len() > PRODUCERS_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.producers.remove(&oldest);
        }
    }

    /// Everything, the producer that was silent longest first.
    pub fn snapshot(&self) -> Vec<ProducerSnapshot> {
        let of = |id: &ProducerId| {
            let known = self.producers.get(id)?;
            Some(ProducerSnapshot {
                id: *id,
                epoch: known.epoch,
                floor: known.floor,
                runs: known.runs.iter().copied().collect(),
            })
        };
        self.order.values().filter_map(of).collect()
    }

    /// The state that a snapshot was taken of.
    pub fn recover(producers: Vec<ProducerSnapshot>) -> Dedup {
        let mut dedup = Dedup::default();
        for producer in producers {
            let turn = dedup.next_turn;
            dedup.next_turn += 1;
            dedup.order.insert(turn, producer.id);
            let known = Known {
                epoch: producer.epoch,
                floor: producer.floor,
                runs: producer.runs.into(),
                turn,
            };
            dedup.producers.insert(producer.id, known);
        }
        dedup
    }
}

/// A producer's stream was asked for under an epoch that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this producer's epoch {asked} is over: {current} is at work")]
pub struct Fenced {
    /// The epoch that was asked for.
    pub asked: u64,
    /// The one that holds.
    pub current: u64,
}

/// Where a producer has to begin again in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The first number that was refused.
    pub sequence: u64,
    /// Why it was.
    pub code: Code,
}

/// What a producer's stream has to make good: by queue, the first number that was refused. Later
/// ones are refused too until it comes again, so that what comes again is never taken for a repeat.
pub type Holds = BTreeMap<u32, Hold>;

#[derive(Debug, Default)]
struct Session {
    number: u64,
    epoch: u64,
    holds: Holds,
}

/// The streams that producers have open: one for each, the newest. Those before it are fenced, so
/// that what they still had under way cannot come between.
#[derive(Debug, Default)]
pub struct Sessions {
    by_id: HashMap<ProducerId, Session>,
    next: u64,
}

impl Sessions {
    /// A producer opens a stream under an epoch, or under the next one (0). `stored` is the highest
    /// epoch under which something was stored. Gives the epoch in force and the session's number.
    pub fn open(&mut self, id: ProducerId, asked: u64, stored: u64) -> Result<(u64, u64), Fenced> {
        let session = self.by_id.entry(id).or_default();
        let current = session.epoch.max(stored);
        let epoch = match asked {
            0 => current + 1,
            asked if asked < current => return Err(Fenced { asked, current }),
            asked => asked,
        };
        self.next += 1;
        *session = Session {
            number: self.next,
            epoch,
            holds: Holds::new(),
        };
        Ok((epoch, self.next))
    }

    /// A stream has ended.
    pub fn close(&mut self, id: &ProducerId, number: u64) {
        if self.by_id.get(id).is_some_and(|s| s.number == number) {
            self.by_id.remove(id);
        }
    }

    /// The epoch of the producer's newest stream; 0 if it has none.
    pub fn epoch(&self, id: &ProducerId) -> u64 {
        self.by_id.get(id).map_or(0, |s| s.epoch)
    }

    /// What a stream has to make good; `None` if it is fenced.
    pub fn holds(&self, id: &ProducerId, number: u64) -> Option<&Holds> {
        let session = self.by_id.get(id).filter(|s| s.number == number)?;
        Some(&session.holds)
    }

    /// Changes what a stream has to make good.
    pub fn set_holds(&mut self, id: &ProducerId, number: u64, holds: Holds) {
        if let Some(session) = self.by_id.get_mut(id).filter(|s| s.number == number) {
            session.holds = holds;
        }
    }
}

/// Holds a queue at a number, unless it is held at an earlier one.
pub fn hold(holds: &mut Holds, queue: u32, sequence: u64, code: Code) {
    let hold = holds.entry(queue).or_insert(Hold { sequence, code });
    if sequence < hold.sequence {
        *hold = Hold { sequence, code };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProducerId = [7; 16];

    fn run(first: u64, last: u64, offset: u64) -> SequenceRun {
        SequenceRun {
            first,
            last,
            offset,
        }
    }

    #[test]
    fn what_is_stored_is_known_with_its_place() {
        let mut dedup = Dedup::default();
        assert_eq!(dedup.seen(&P, 5), Seen::New);
        dedup.stored(P, 1, &[run(5, 8, 100), run(11, 12, 104)]);
        dedup.stored(P, 1, &[run(13, 20, 106)]);
        assert_eq!(dedup.seen(&P, 4), Seen::Repeat(None));
        assert_eq!(dedup.seen(&P, 7), Seen::Repeat(Some(102)));
        assert_eq!(dedup.seen(&P, 9), Seen::Passed);
        assert_eq!(dedup.seen(&P, 20), Seen::Repeat(Some(113)));
        assert_eq!(dedup.seen(&P, 21), Seen::New);
        assert_eq!(dedup.seen(&[8; 16], 7), Seen::New);
        assert_eq!(dedup.snapshot()[0].runs.len(), 2, "runs that touch are one");
        let recovered = Dedup::recover(dedup.snapshot());
        assert_eq!(recovered.snapshot(), dedup.snapshot());
        assert_eq!(recovered.highest(&P), Some((1, 20)));
    }

    #[test]
    fn places_are_forgotten_and_numbers_are_not() {
        let mut dedup = Dedup::default();
        (0..200).for_each(|n| dedup.stored(P, 1, &[run(n * 2 + 1, n * 2 + 1, n)]));
        assert_eq!(dedup.snapshot()[0].runs.len(), RUNS_MAX);
        assert_eq!(dedup.seen(&P, 1), Seen::Repeat(None));
        assert_eq!(dedup.seen(&P, 2), Seen::Repeat(None));
        assert_eq!(dedup.seen(&P, 398), Seen::Passed);
        assert_eq!(dedup.seen(&P, 399), Seen::Repeat(Some(199)));
        dedup.stored(P, 1, &[run(400, 399 + SEQUENCES_KNOWN, 1000)]);
        assert_eq!(dedup.snapshot()[0].runs.len(), 1);
        assert_eq!(dedup.seen(&P, 399), Seen::Repeat(None));
    }

    #[test]
    fn the_producer_that_was_silent_longest_is_forgotten() {
        let mut dedup = Dedup::default();
        let id = |n: u64| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_le_bytes());
            id
        };
        for n in 0..PRODUCERS_MAX as u64 {
            dedup.stored(id(n), 1, &[run(1, 1, n)]);
        }
        dedup.stored(id(0), 1, &[run(2, 2, 5000)]);
        dedup.stored(id(9999), 1, &[run(1, 1, 5001)]);
        assert_eq!(dedup.seen(&id(0), 1), Seen::Repeat(Some(0)));
        assert_eq!(dedup.seen(&id(1), 1), Seen::New);
        assert_eq!(dedup.snapshot().len(), PRODUCERS_MAX);
        assert_eq!(
            dedup.snapshot(),
            Dedup::recover(dedup.snapshot()).snapshot()
        );
    }

    #[test]
    fn the_newest_stream_of_a_producer_is_the_only_one() {
        let mut sessions = Sessions::default();
        let (epoch, first) = sessions.open(P, 0, 3).unwrap();
        assert_eq!(epoch, 4);
        let fenced = sessions.open(P, 3, 3).unwrap_err();
        assert_eq!((fenced.asked, fenced.current), (3, 4));
        let mut holds = Holds::new();
        hold(&mut holds, 1, 9, Code::QueueFull);
        hold(&mut holds, 1, 11, Code::DiskFull);
        sessions.set_holds(&P, first, holds);
        assert_eq!(sessions.holds(&P, first).unwrap()[&1].sequence, 9);
        let (epoch, second) = sessions.open(P, 4, 3).unwrap();
        assert_eq!((epoch, sessions.epoch(&P)), (4, 4));
        assert!(sessions.holds(&P, first).is_none());
        assert!(sessions.holds(&P, second).unwrap().is_empty());
        sessions.close(&P, first);
        assert!(sessions.holds(&P, second).is_some());
        sessions.close(&P, second);
        assert_eq!(sessions.epoch(&P), 0);
    }
}
