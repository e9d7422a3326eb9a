//! Producers as clients are: numbered units, sent in order, sent again in order.

use std::collections::BTreeMap;

use waypost_shard::{Batch, Part, PublishError, Stamp};
use waypost_wire::Code;
use waypost_wire::data::{ConsumerAcks, Exception, ExceptionKind, Range};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Message, record};

use super::ledger::{Content, Key};
use super::{WORKER, World, stuck};
use crate::invariants::Violation;

/// Units of a producer that is no worker.
const UNITS_MAX: usize = 80;
/// Where a message may go, of those who do not work.
const TARGETS: [&[&str]; 5] = [&["in"], &["in"], &["a"], &["b"], &["a", "b"]];

/// What is taken whole: a message, or a transaction.
pub(super) struct Unit {
    messages: Vec<(Content, &'static [&'static str])>,
    acks: Option<(u64, Vec<u64>)>,
    is_done: bool,
}

/// Units that were sent together.
struct Flight {
    first: usize,
    count: usize,
    session: u64,
}

pub(super) struct Producer {
    index: usize,
    pub epoch: u64,
    session: u64,
    /// A stream that was replaced: its epoch and session.
    old: Option<(u64, u64)>,
    units: Vec<Unit>,
    next_number: u64,
    /// Units below were sent on this stream.
    sent: usize,
    flights: BTreeMap<u64, Flight>,
}

impl Producer {
    pub fn new(index: usize) -> Producer {
        Producer {
            index,
            epoch: 0,
            session: 0,
            old: None,
            units: Vec::new(),
            next_number: 1,
            sent: 0,
            flights: BTreeMap::new(),
        }
    }

    pub fn is_settled(&self) -> bool {
        self.units.iter().all(|unit| unit.is_done)
    }

    pub fn show(&self) -> String {
        let open = self.units.iter().filter(|unit| !unit.is_done).count();
        format!("producer {}: {open} of {}", self.index, self.units.len())
    }

    fn id(&self) -> [u8; 16] {
        [self.index as u8 + 1; 16]
    }

    fn content(&mut self, input: Option<u64>) -> Content {
        let number = self.next_number;
        self.next_number += 1;
        Content {
            key: Key {
                producer: self.index,
                number,
            },
            input,
        }
    }

    /// The units that a batch takes: those that are not done, from the first not sent on.
    fn next_units(&self, max: usize) -> (usize, usize) {
        let open = |unit: &Unit| !unit.is_done;
        let rest = self.units.get(self.sent..).unwrap_or_default();
        let Some(skip) = rest.iter().position(open) else {
            return (self.units.len(), 0);
        };
        let count = rest[skip..]
            .iter()
            .take(max)
            .take_while(|u| open(u))
            .count();
        (self.sent + skip, count)
    }

    fn batch(&self, first: usize, count: usize, ticket: u64) -> Batch {
        let units = &self.units[first..first + count];
        let messages: Vec<_> = units.iter().flat_map(|unit| &unit.messages).collect();
        let mut parts = Vec::new();
        for queue in super::QUEUES {
            let (mut slab, mut inputs) = (SlabBuilder::new(), Vec::new());
            for (input, (content, _)) in (0..)
                .zip(&messages)
                .filter(|(_, (_, to))| to.contains(&queue))
            {
                let producer = record::Producer {
                    id: self.id(),
                    epoch: self.epoch,
                    sequence: content.key.number,
                };
                slab.push_message(&Message {
                    producer: Some(producer),
                    ..Message::new("t", content.payload())
                });
                inputs.push(input);
            }
            if !inputs.is_empty() {
                parts.push(Part {
                    inputs,
                    ..Part::new(queue.into(), slab.finish()).timed(false)
                });
            }
        }
        let acks = units.first().and_then(|unit| unit.acks.as_ref());
        let transaction = acks.map(|(consumer, offsets)| {
            let ranges = offsets.iter().map(|o| Range::one(*o)).collect();
            vec![ConsumerAcks {
                consumer: *consumer,
                ranges,
            }]
        });
        Batch {
            ticket,
            first_sequence: 1,
            count: messages.len() as u32,
            parts,
            is_whole: transaction.is_some(),
            transaction,
            stamp: Some(Stamp {
                producer: self.id(),
                epoch: self.epoch,
                session: self.session,
                sequences: messages.iter().map(|(c, _)| c.key.number).collect(),
            }),
            is_replay: false,
            wants_places: false,
            receipts: false,
        }
    }
}

impl World {
    /// A producer that does not work thinks of something, or sends what it has.
    pub(super) fn produce(&mut self) -> Result<(), Violation> {
        let index = self.dice.below(WORKER as u64) as usize;
        for _ in 0..self.dice.between(1, 5) {
            let to = self.dice.pick(&TARGETS).copied().unwrap_or(TARGETS[0]);
            let producer = &mut self.producers[index];
            if producer.units.len() < UNITS_MAX {
                let content = producer.content(None);
                producer.units.push(Unit {
                    messages: vec![(content, to)],
                    acks: None,
                    is_done: false,
                });
            }
        }
        self.send(index)
    }

    /// The worker makes outputs of some of what it holds.
    pub(super) fn transform(&mut self) -> Result<(), Violation> {
        let count = self.dice.between(1, 3).min(self.held.len() as u64) as usize;
        if let Some(consumer) = self.worker.filter(|_| count > 0) {
            // Not in their order: then only the journal knows what is acked.
            let from = self.dice.below((self.held.len() - count) as u64 + 1) as usize;
            let mut offsets: Vec<u64> = self.held.drain(from..from + count).collect();
            offsets.sort_unstable();
            let producer = &mut self.producers[WORKER];
            let mut messages: Vec<(Content, &'static [&'static str])> = Vec::new();
            for offset in &offsets {
                messages.push((producer.content(Some(*offset)), &["a"]));
                messages.push((producer.content(Some(*offset)), &["b"]));
            }
            producer.units.push(Unit {
                messages,
                acks: Some((consumer, offsets)),
                is_done: false,
            });
        }
        self.send(WORKER)
    }

    /// Sends the next batch of a producer.
    pub(super) fn send(&mut self, index: usize) -> Result<(), Violation> {
        let max = match index {
            WORKER => 1,
            _ => self.dice.between(1, 6) as usize,
        };
        let (first, count) = self.producers[index].next_units(max);
        if count == 0 {
            return Ok(());
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let batch = self.producers[index].batch(first, count, ticket);
        let numbers = batch.stamp.as_ref().map(|s| s.sequences.clone());
        self.trace
            .line(format!("send {index}: {numbers:?} as {ticket}"));
        let producer = &mut self.producers[index];
        producer.sent = first + count;
        let flight = Flight {
            first,
            count,
            session: producer.session,
        };
        producer.flights.insert(ticket, flight);
        let restarts = self.tally.restarts;
        let mut result = self.shard.publish(self.now(), &batch);
        if let Err(PublishError::NoRoom(_)) = result {
            self.tidy()?;
            if self.tally.restarts != restarts {
                return Ok(());
            }
            result = self.shard.publish(self.now(), &batch);
        }
        match result {
            Ok(()) => self.take_outputs(),
            Err(PublishError::Log(error)) => self.failed(error),
            Err(error) => {
                let code = error.code();
                self.shard.refused(&batch, code);
                let refused = |sequence| Exception {
                    sequence,
                    kind: ExceptionKind::Refused,
                    code,
                    text: error.to_string(),
                };
                let all: Vec<_> = (1..=u64::from(batch.count)).map(refused).collect();
                self.confirmed(ticket, &all)
            }
        }
    }

    /// A producer is told what became of a batch, unless its stream is another by now.
    pub(super) fn confirmed(&mut self, ticket: u64, said: &[Exception]) -> Result<(), Violation> {
        let owner = self
            .producers
            .iter()
            .position(|p| p.flights.contains_key(&ticket));
        let Some(index) = owner else {
            return Ok(());
        };
        let producer = &mut self.producers[index];
        let Some(flight) = producer.flights.remove(&ticket) else {
            return Ok(());
        };
        if flight.session != producer.session {
            return Ok(());
        }
        self.trace.line(format!("confirm {ticket}: {said:?}"));
        let mut sequence = 0;
        for at in flight.first..flight.first + flight.count {
            let unit = &self.producers[index].units[at];
            let first = sequence + 1;
            sequence += unit.messages.len() as u64;
            let of_unit = |e: &&Exception| e.sequence >= first && e.sequence <= sequence;
            let mine: Vec<&Exception> = said.iter().filter(of_unit).collect();
            let refused = mine.iter().find(|e| e.kind == ExceptionKind::Refused);
            match refused.map(|e| e.code) {
                None => self.taken(index, at, mine.len() as u64),
                Some(code) if code.is_retryable() => {
                    self.tally.refused += 1;
                    let epoch = self.producers[index].epoch;
                    return self.reopen(index, epoch);
                }
                Some(Code::Conflict) if index == WORKER => self.given_up(at),
                Some(code) => return Err(stuck(format!("producer {index}: {code}: {said:?}"))),
            }
        }
        Ok(())
    }

    fn taken(&mut self, index: usize, at: usize, duplicates: u64) {
        let unit = &mut self.producers[index].units[at];
        unit.is_done = true;
        self.tally.confirmed += unit.messages.len() as u64;
        self.tally.duplicates += duplicates;
        self.tally.transactions += u64::from(unit.acks.is_some());
        for (content, to) in &unit.messages {
            to.iter()
                .for_each(|q| self.ledger.confirmed(q, content.key));
        }
    }

    fn given_up(&mut self, at: usize) {
        let unit = &mut self.producers[WORKER].units[at];
        unit.is_done = true;
        self.tally.conflicts += 1;
        for (content, _) in &unit.messages {
            self.ledger.refused(content.key);
        }
    }

    /// A producer's connection is lost, or its process: what was not confirmed goes again.
    pub(super) fn reopen_one(&mut self) -> Result<(), Violation> {
        let index = self.dice.below(self.producers.len() as u64) as usize;
        let epoch = match self.dice.once_in(2) {
            true => 0,
            false => self.producers[index].epoch,
        };
        self.reopen(index, epoch)
    }

    pub(super) fn reopen(&mut self, index: usize, epoch: u64) -> Result<(), Violation> {
        let producer = &mut self.producers[index];
        let opened = self.shard.open_producer(producer.id(), epoch);
        let opened = opened.map_err(stuck)?;
        if opened.epoch < producer.epoch {
            let what = format!(
                "producer {index}: epoch {} after {}",
                opened.epoch, producer.epoch
            );
            return Err(Violation::new("once", what));
        }
        self.trace
            .line(format!("producer {index} opens: {opened:?}"));
        producer.old = Some((producer.epoch, producer.session));
        (producer.epoch, producer.session) = (opened.epoch, opened.session);
        producer.sent = 0;
        producer.flights.clear();
        Ok(())
    }

    /// A stream that was replaced goes on: nothing of it may be taken.
    pub(super) fn zombie(&mut self) -> Result<(), Violation> {
        let index = self.dice.below(self.producers.len() as u64) as usize;
        let producer = &self.producers[index];
        let (Some((epoch, session)), false) = (producer.old, producer.units.is_empty()) else {
            return Ok(());
        };
        if session == producer.session {
            return Ok(());
        }
        let at = self.dice.below(producer.units.len() as u64) as usize;
        let mut batch = producer.batch(at, 1, 0);
        if let Some(stamp) = &mut batch.stamp {
            (stamp.epoch, stamp.session) = (epoch, session);
        }
        match self.shard.publish(self.now(), &batch) {
            Err(PublishError::Fenced) => {
                self.tally.fenced += 1;
                Ok(())
            }
            other => Err(Violation::new("once", format!("not fenced: {other:?}"))),
        }
    }
}
