//! What a publisher has accepted and the node has not settled, as a state machine without I/O.
//!
//! Invariant: `settled <= sent <= accepted`, and `batches` plus `open` hold exactly the records
//! `settled+1 ..= accepted` (the first batch may begin earlier). Sequences here count over the
//! publisher's life; on a stream they start at 1, so `base` is taken off: when a stream is opened
//! anew, `base = settled` and everything after it is sent again, in the same order.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use waypost_wire::control::{Explained, Opened};
use waypost_wire::data::{
    Confirm, ConsumerAcks, Exception, ExceptionKind, Level, Publish, Range, Transact,
};
use waypost_wire::record::{self, Producer};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Message, RecordRef, Slab, varint};

use crate::consumer::{TransactionAcks, merge};
use crate::error::Error;

/// Slabs below this are copied together: quinn's send buffer is slow with small pieces.
const COPY_BYTES: usize = 8 << 10;
/// What a range of acks takes in a frame at most.
const RANGE_BYTES_MAX: usize = 16;

/// What the node said of the messages of one ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchConfirmed {
    /// The first message's sequence, counted from 1 over the publisher's life.
    pub first_sequence: u64,
    /// How many messages.
    pub count: u32,
    /// The weakest promise among them.
    pub level: Level,
    /// Messages that need a word, by the same sequences, ascending.
    pub exceptions: Vec<Exception>,
    /// Of messages that asked, by the same sequences, ascending; a node may leave some out.
    pub explained: Vec<Explained>,
}

/// What a publisher did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublisherStats {
    /// Messages accepted from the application.
    pub accepted: u64,
    /// Of these, settled by the node.
    pub settled: u64,
    /// Slab bytes written, with those that were sent again.
    pub sent_bytes: u64,
    /// Messages sent again on a new stream.
    pub resent: u64,
    /// Messages with an exception.
    pub exceptions: u64,
}

pub(crate) type Answer = Result<BatchConfirmed, Error>;

struct Waiter {
    last: u64,
    confirmed: BatchConfirmed,
    answer: oneshot::Sender<Answer>,
}

struct Batch {
    first: u64,
    slab: Slab,
    /// With these it goes as one transaction, never cut.
    acks: Option<Vec<TransactionAcks>>,
}

impl Batch {
    fn new(first: u64, slab: Slab) -> Batch {
        Batch {
            first,
            slab,
            acks: None,
        }
    }

    fn last(&self) -> u64 {
        self.first + u64::from(self.slab.count()) - 1
    }
}

/// How a producer's messages are numbered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbering {
    pub id: [u8; 16],
    pub epoch: u64,
    /// The number of the publisher's first message.
    pub first: u64,
    /// Each record carries its number; else a stream says that of its first.
    pub in_records: bool,
}

impl Numbering {
    /// What a message carries before which so many were accepted.
    fn of(&self, before: u64) -> Producer {
        Producer {
            id: self.id,
            epoch: self.epoch,
            sequence: self.first + before,
        }
    }

    fn stamp(&self, message: &Message, before: u64) -> Bytes {
        let message = message.clone();
        let producer = Some(self.of(before));
        Message {
            producer,
            ..message
        }
        .to_body()
    }
}

#[derive(Default)]
pub(crate) struct Outbox {
    batches: VecDeque<Batch>,
    /// Index of the first batch that is not wholly sent.
    unsent: usize,
    /// Small things that the next frame takes together.
    open: SlabBuilder,
    accepted: u64,
    sent: u64,
    settled: u64,
    /// The highest sequence that ever left.
    sent_ever: u64,
    unsent_bytes: usize,
    base: u64,
    stream_bytes: u64,
    window_sequence: u64,
    window_bytes: u64,
    batch_messages_max: u32,
    batch_bytes_max: usize,
    /// Messages and bytes that a stream's window has when it is opened.
    pub(crate) window: (u64, u64),
    /// The connection of the stream, by its id in this process.
    pub(crate) connection: u64,
    waiters: VecDeque<Waiter>,
    /// What came of messages that are not settled, by sequence.
    explained: BTreeMap<u64, Explained>,
    sent_bytes: u64,
    resent: u64,
    exceptions: u64,
    /// With a producer: how its messages are numbered.
    pub(crate) numbering: Option<Numbering>,
    /// No more will be accepted; the stream is finished once all is sent.
    pub(crate) closing: bool,
    /// Set when the publisher is of no more use.
    pub(crate) ended: Option<Error>,
}

impl Outbox {
    pub(crate) fn new() -> Outbox {
        Outbox {
            batch_messages_max: BATCH_MESSAGES_MAX as u32,
            batch_bytes_max: BATCH_BYTES_MAX,
            ..Outbox::default()
        }
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        PublisherStats {
            accepted: self.accepted,
            settled: self.settled,
            sent_bytes: self.sent_bytes,
            resent: self.resent,
            exceptions: self.exceptions,
        }
    }

    /// Whether another message or batch may be accepted: what waits to be sent is below one
    /// batch. So memory is bounded by the window, a batch, and what is accepted last. An outbox
    /// that has ended has room, so that nobody waits for what [`Outbox::push`] will refuse.
    pub(crate) fn has_room(&self) -> bool {
        if self.ended.is_some() {
            return true;
        }
        let unsent = self.accepted - self.sent;
        unsent < u64::from(self.batch_messages_max) && self.unsent_bytes < self.batch_bytes_max
    }

    /// Whether there is nothing left to send.
    pub(crate) fn all_sent(&self) -> bool {
        self.sent == self.accepted
    }

    /// Whether there is nothing left to settle.
    pub(crate) fn all_settled(&self) -> bool {
        self.settled == self.accepted
    }

    /// How many messages this stream carried that are not settled.
    pub(crate) fn sent_unsettled(&self) -> u64 {
        self.sent - self.settled
    }

    fn check(&self) -> Result<(), Error> {
        match &self.ended {
            Some(error) => Err(error.clone().not_sent()),
            None if self.closing => Err(Error::Closed.not_sent()),
            None => Ok(()),
        }
    }

    /// Accepts a message; `body` is what it is without a producer.
    pub(crate) fn push_message(
        &mut self,
        message: &Message,
        body: &[u8],
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        self.check()?;
        match self.stamping() {
            Some(numbering) => self.push(&numbering.stamp(message, self.accepted)),
            None => self.push(body),
        }
    }

    /// The numbering, where each record carries its own.
    fn stamping(&self) -> Option<Numbering> {
        self.numbering.filter(|numbering| numbering.in_records)
    }

    /// The number of the stream's first message, where the stream says it.
    pub(crate) fn number_from(&self) -> Option<u64> {
        let numbering = self.numbering.filter(|numbering| !numbering.in_records)?;
        Some(numbering.first + self.base)
    }

    /// Accepts one encoded record.
    pub(crate) fn push(&mut self, body: &[u8]) -> Result<oneshot::Receiver<Answer>, Error> {
        self.check()?;
        let before = self.open.len();
        if self.open.count() >= self.batch_messages_max
            || before + body.len() + 8 > self.batch_bytes_max
        {
            self.close_open();
        }
        let before = self.open.len();
        self.open.push(body);
        self.unsent_bytes += self.open.len() - before;
        self.accepted += 1;
        Ok(self.wait(1))
    }

    /// Accepts a batch of encoded records, cut where it is over the limits of a frame.
    pub(crate) fn push_slab(&mut self, slab: &Slab) -> Result<oneshot::Receiver<Answer>, Error> {
        self.check()?;
        let stamped = match self.stamping() {
            Some(numbering) => Some(stamped(numbering, slab, self.accepted)?),
            None => None,
        };
        let slab = stamped.as_ref().unwrap_or(slab);
        self.unsent_bytes += slab.bytes().len();
        let small = slab.bytes().len() < COPY_BYTES / 2
            && self.open.len() + slab.bytes().len() <= COPY_BYTES
            && self.open.count() + slab.count() <= self.batch_messages_max;
        if small {
            self.open.extend(slab);
            self.accepted += u64::from(slab.count());
            return Ok(self.wait(slab.count()));
        }
        self.close_open();
        let mut at = 0;
        while at < slab.count() {
            let whole = at == 0
                && slab.count() <= self.batch_messages_max
                && slab.bytes().len() <= self.batch_bytes_max;
            let count = match whole {
                true => slab.count(),
                false => slab
                    .fitting(at, self.batch_bytes_max)
                    .clamp(1, self.batch_messages_max),
            };
            self.batches
                .push_back(Batch::new(self.accepted + 1, slab.slice(at, count)));
            self.accepted += u64::from(count);
            at += count;
        }
        Ok(self.wait(slab.count()))
    }

    /// Accepts messages that are taken together, with acks. They must fit one batch, and a window.
    pub(crate) fn push_transaction(
        &mut self,
        messages: &[Message],
        acks: &[TransactionAcks],
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        self.check()?;
        if self.numbering.is_none() {
            return Err(Error::Transaction("needs a producer"));
        }
        let mut slab = SlabBuilder::new();
        for (message, before) in messages.iter().zip(self.accepted..) {
            match self.stamping() {
                Some(numbering) => slab.push(&numbering.stamp(message, before)),
                None => slab.push(&message.to_body()),
            }
        }
        let slab = slab.finish();
        let (count, bytes) = (slab.count(), slab.bytes().len());
        let ranges: usize = acks.iter().map(|acks| acks.ranges().len()).sum();
        let bytes_max = self.batch_bytes_max.min(self.window.1 as usize);
        let too_large = (bytes + ranges * RANGE_BYTES_MAX > bytes_max).then_some(Error::TooLarge {
            what: "transaction",
            length: bytes + ranges * RANGE_BYTES_MAX,
            limit: bytes_max,
        });
        let is_long = u64::from(count) > u64::from(self.batch_messages_max).min(self.window.0);
        let too_long = is_long.then_some(Error::Transaction("has more messages than a batch may"));
        let empty = (count == 0).then_some(Error::Transaction("has no message"));
        if let Some(error) = too_large.or(too_long).or(empty) {
            return Err(error);
        }
        self.close_open();
        self.unsent_bytes += bytes;
        self.batches.push_back(Batch {
            acks: Some(acks.to_vec()),
            ..Batch::new(self.accepted + 1, slab)
        });
        self.accepted += u64::from(count);
        Ok(self.wait(count))
    }

    /// An answer once everything accepted so far is settled.
    pub(crate) fn flush(&mut self) -> oneshot::Receiver<Answer> {
        self.wait(0)
    }

    fn wait(&mut self, count: u32) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        let waiter = Waiter {
            last: self.accepted,
            confirmed: BatchConfirmed {
                first_sequence: self.accepted + 1 - u64::from(count),
                count,
                level: Level::Mirrored,
                exceptions: Vec::new(),
                explained: Vec::new(),
            },
            answer,
        };
        match &self.ended {
            Some(error) if waiter.last > self.settled => {
                let _ = waiter.answer.send(Err(error.clone()));
            }
            _ if waiter.last <= self.settled => {
                let _ = waiter.answer.send(Ok(waiter.confirmed));
            }
            _ => self.waiters.push_back(waiter),
        }
        receiver
    }

    fn close_open(&mut self) {
        if !self.open.is_empty() {
            let slab = self.open.finish();
            let first = self.batches.back().map_or(self.settled, Batch::last) + 1;
            self.batches.push_back(Batch::new(first, slab));
        }
    }

    /// A stream was opened: everything unsettled goes again.
    pub(crate) fn reopen(&mut self, opened: &Opened, messages_max: u32, bytes_max: u64) {
        self.resent += self.sent - self.settled;
        self.explained.clear();
        self.base = self.settled;
        self.sent = self.settled;
        self.unsent = 0;
        self.stream_bytes = 0;
        self.window_sequence = opened.window_sequence;
        self.window_bytes = opened.window_bytes;
        self.window = (opened.window_sequence, opened.window_bytes);
        if messages_max > 0 {
            self.batch_messages_max = messages_max.min(BATCH_MESSAGES_MAX as u32);
        }
        if bytes_max > 0 {
            self.batch_bytes_max = BATCH_BYTES_MAX.min(bytes_max as usize);
        }
        if let Some(front) = self.batches.front_mut() {
            let done = (self.settled + 1 - front.first) as u32;
            front.slab = front.slab.slice(done, u32::MAX);
            front.first = self.settled + 1;
        }
        self.unsent_bytes = self.open.len();
        self.unsent_bytes += self
            .batches
            .iter()
            .map(|batch| batch.slab.bytes().len())
            .sum::<usize>();
    }

    /// Appends PUBLISH frames to `out`, as many as the window allows and until they hold
    /// `bytes_max`. Small ones are copied together, large ones shared.
    pub(crate) fn take(&mut self, out: &mut Vec<Bytes>, bytes_max: usize) {
        let mut buffer = BytesMut::new();
        let mut taken = 0;
        while taken < bytes_max {
            let Some((first_sequence, slab, acks)) = self.next_part() else {
                break;
            };
            taken += slab.bytes().len();
            if let Some(acks) = acks {
                let transact = Transact {
                    first_sequence,
                    acks,
                    slab,
                };
                transact.put(&mut buffer);
                continue;
            }
            Publish::put_head(&mut buffer, first_sequence, &slab);
            if slab.bytes().len() < COPY_BYTES {
                buffer.extend_from_slice(slab.bytes());
            } else {
                out.push(buffer.split().freeze());
                out.push(slab.bytes().clone());
            }
        }
        if !buffer.is_empty() {
            out.push(buffer.freeze());
        }
    }

    /// The next records that the window allows, the stream's sequence of the first, and the acks of
    /// a transaction.
    fn next_part(&mut self) -> Option<(u64, Slab, Option<Vec<ConsumerAcks>>)> {
        if self.unsent == self.batches.len() {
            self.close_open();
        }
        let batch = self.batches.get(self.unsent)?;
        let room = self.window_sequence.saturating_sub(self.sent - self.base);
        let room_bytes = self.window_bytes.saturating_sub(self.stream_bytes);
        let done = (self.sent + 1 - batch.first) as u32;
        let mut count = u64::from(batch.slab.count() - done).min(room) as u32;
        if count == 0 || room_bytes == 0 {
            return None;
        }
        let mut part = batch.slab.slice(done, count);
        let is_cut = count < batch.slab.count() || part.bytes().len() as u64 > room_bytes;
        // A node that gives a smaller window than before says so where it would be waited for.
        if batch.acks.is_some() && is_cut && self.sent > self.settled {
            return None;
        }
        if batch.acks.is_some() {
            part = batch.slab.clone();
            count = part.count();
        } else if part.bytes().len() as u64 > room_bytes {
            count = part.fitting(0, room_bytes as usize);
            part = part.slice(0, count);
            // The last record may pass the window's end, but only when it would wait for ever.
            if part.bytes().len() as u64 > room_bytes && self.sent > self.settled {
                return None;
            }
        }
        let acks = batch.acks.as_deref().map(|acks| self.on_stream(acks));
        let first_sequence = self.sent - self.base + 1;
        self.sent += u64::from(count);
        self.sent_ever = self.sent_ever.max(self.sent);
        if self.sent == batch.last() {
            self.unsent += 1;
        }
        let bytes = part.bytes().len();
        self.stream_bytes += bytes as u64;
        self.sent_bytes += bytes as u64;
        self.unsent_bytes = self.unsent_bytes.saturating_sub(bytes);
        Some((first_sequence, part, acks))
    }

    /// Acks as this stream says them. What is held on another connection, or not any more, is named
    /// by a number that is nobody's: the node then tells what was taken before from what was not.
    fn on_stream(&self, acks: &[TransactionAcks]) -> Vec<ConsumerAcks> {
        let mut consumers: BTreeMap<u64, Vec<Range>> = BTreeMap::new();
        for acks in acks {
            let at = acks.at().filter(|at| at.connection == self.connection);
            let consumer = at.map_or(varint::MAX, |at| at.consumer);
            consumers.entry(consumer).or_default().extend(acks.ranges());
        }
        let acks = |(consumer, mut ranges)| {
            merge(&mut ranges);
            ConsumerAcks { consumer, ranges }
        };
        consumers.into_iter().map(acks).collect()
    }

    /// Of a producer's confirm, what comes before the first message that the node refuses for now;
    /// and that refusal. All from there on is to be sent again.
    pub(crate) fn before_refusal(&self, mut confirm: Confirm) -> (Confirm, Option<Exception>) {
        let is_for_now = |e: &Exception| e.kind == ExceptionKind::Refused && e.code.is_retryable();
        let first = confirm.exceptions.iter().position(is_for_now);
        let Some(first) = first.filter(|_| self.numbering.is_some()) else {
            return (confirm, None);
        };
        let refused = confirm.exceptions.drain(first..).next();
        if let Some(refused) = &refused {
            confirm.up_to = refused.sequence.saturating_sub(1);
        }
        (confirm, refused)
    }

    /// Takes in what became of a message that is not settled; says what is wrong with it.
    pub(crate) fn explained(&mut self, mut explained: Explained) -> Result<(), String> {
        let sequence = self.base.saturating_add(explained.sequence);
        if sequence <= self.settled || sequence > self.sent {
            let sequence = explained.sequence;
            return Err(format!("is of message {sequence}, which is not under way"));
        }
        explained.sequence = sequence;
        self.explained.insert(sequence, explained);
        Ok(())
    }

    /// Takes a confirm in; says what is wrong with it.
    pub(crate) fn settle(&mut self, confirm: Confirm) -> Result<(), String> {
        let up_to = self.base.saturating_add(confirm.up_to);
        if up_to > self.sent {
            let last = self.sent - self.base;
            return Err(format!(
                "confirms up to {}, but only {last} were sent",
                confirm.up_to
            ));
        }
        if up_to < self.settled {
            let settled = self.settled - self.base;
            return Err(format!("confirms up to {}, after {settled}", confirm.up_to));
        }
        let mut exceptions = confirm.exceptions;
        let mut last = self.settled;
        for exception in &mut exceptions {
            let sequence = self.base.saturating_add(exception.sequence);
            if sequence <= last || sequence > up_to {
                return Err(format!(
                    "exception for sequence {}, which this frame does not settle",
                    exception.sequence
                ));
            }
            last = sequence;
            exception.sequence = sequence;
        }
        self.window_sequence = self.window_sequence.max(confirm.window_sequence);
        self.window_bytes = self.window_bytes.max(confirm.window_bytes);
        self.exceptions += exceptions.len() as u64;
        self.answer(up_to, confirm.level, &exceptions);
        self.settled = up_to;
        while let Some(batch) = self.batches.pop_front_if(|b| b.last() <= up_to) {
            let is_of = |e: &&Exception| e.sequence >= batch.first && e.sequence <= batch.last();
            let is_refused = |e: &Exception| e.kind == ExceptionKind::Refused;
            if let Some(acks) = &batch.acks
                && !exceptions.iter().filter(is_of).any(is_refused)
            {
                acks.iter().for_each(TransactionAcks::taken);
            }
            self.unsent = self.unsent.saturating_sub(1);
        }
        Ok(())
    }

    fn answer(&mut self, up_to: u64, level: Level, mut exceptions: &[Exception]) {
        let later = self.explained.split_off(&up_to.saturating_add(1));
        let mut told = std::mem::replace(&mut self.explained, later);
        for waiter in &mut self.waiters {
            let confirmed = &mut waiter.confirmed;
            if confirmed.first_sequence > up_to {
                break;
            }
            if confirmed.count > 0 {
                confirmed.level = confirmed.level.min(level);
                let mine = exceptions.partition_point(|e| e.sequence <= waiter.last);
                let (now, rest) = exceptions.split_at(mine);
                confirmed.exceptions.extend_from_slice(now);
                exceptions = rest;
                while let Some(first) = told.first_entry().filter(|e| *e.key() <= waiter.last) {
                    confirmed.explained.push(first.remove());
                }
            }
        }
        while let Some(waiter) = self.waiters.pop_front_if(|w| w.last <= up_to) {
            // A ticket that was dropped is not waited for.
            let _ = waiter.answer.send(Ok(waiter.confirmed));
        }
    }

    /// Ends the publisher: every ticket that is left gets `error`, or that it was never sent.
    pub(crate) fn end(&mut self, error: Error) {
        let sent_ever = self.sent_ever;
        for waiter in self.waiters.drain(..) {
            let error =
                match waiter.confirmed.count > 0 && waiter.confirmed.first_sequence > sent_ever {
                    true => error.clone().not_sent(),
                    false => error.clone(),
                };
            let _ = waiter.answer.send(Err(error));
        }
        self.batches.clear();
        self.open = SlabBuilder::new();
        self.ended = Some(error);
    }
}

fn stamped(numbering: Numbering, slab: &Slab, before: u64) -> Result<Slab, Error> {
    for body in slab.iter() {
        RecordRef::parse(body).map_err(Error::Record)?;
    }
    let mut stamped = SlabBuilder::new();
    for (body, before) in slab.iter().zip(before..) {
        record::push_stamped(&mut stamped, body, numbering.of(before));
    }
    Ok(stamped.finish())
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
