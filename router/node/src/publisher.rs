//! A publisher's stream: batches in, confirms out.
//!
//! Batches go straight to the shard where no plugin stands between, and through a plugin worker
//! otherwise; while one is with the worker, later ones go there too, so that they leave in the
//! order in which they came. The publisher's own task keeps what is outstanding and confirms it.

mod asked;
mod republish;
mod shares;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use quinn::SendStream;
use waypost_core::dedup::ProducerId;
use waypost_core::pipeline::{Outcome, Traced};
use waypost_core::session::{BatchId, PublisherSession};
use waypost_shard::{OpenedProducer, Part, Stamp};
use waypost_wire::control::{self, OpenPublisher, Opened};
use waypost_wire::data::{
    ConsumerAcks, Exception, ExceptionKind, Level, Publish, Receipts, Transact, parse_number_from,
    parse_receipt_ack,
};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Code, FrameType, RecordRef, Slab, varint};

use crate::admission::{self, Admitted, Numbers, PlanOf, Plans};
use crate::clock::wall_ms;
use crate::connection::Conn;
use crate::explain::Explaining;
use crate::live::Subscriber;
use crate::mailbox::Mailbox;
use crate::routing::Routing;
use crate::shard_thread::{Command, PublishReply, Settled, ShardHandle};
use crate::stream_io::{FrameReader, Outgoing, StreamError, end_well};
use crate::submission::{Account, Routed, Submission};
use crate::workers::{Finish, SERIAL, Taken, Work};

use asked::Asked;
pub(crate) use republish::Republisher;
use shares::{ForLive, gather_direct, gather_live, inputs, needs_pipeline, needs_serial};

/// A number that no consumer has.
const NOBODY: u64 = u64::MAX;

enum Event {
    Settled(Settled),
    Receipts(Receipts),
    Routed(BatchId, Routed),
    /// A batch has left the plugins, and the shard has it: what comes now may go there directly.
    Left,
}

struct Events(Mailbox<Event>);

impl PublishReply for Events {
    fn settled(&self, settled: Settled) {
        self.0.push(Event::Settled(settled));
    }

    fn receipts(&self, receipts: Receipts) {
        self.0.push(Event::Receipts(receipts));
    }
}

/// A batch that is not settled.
struct Pending {
    /// Empty while the plugins have it.
    account: Account,
    /// For live subscribers, once the queues have accepted.
    live: Vec<ForLive>,
    /// How it came, while the plugins have it.
    routed: Option<Admitted>,
    /// Somebody asked what becomes of some of its messages.
    explaining: Option<Box<Explaining>>,
}

/// A batch that comes out of its plugins: from the worker's thread straight to the shard.
struct ToShard {
    submission: Submission,
    account: Account,
    slab: Slab,
    events: Arc<Events>,
    shard: ShardHandle,
}

impl Finish for ToShard {
    fn stamp(&self) -> Option<&Stamp> {
        self.submission.stamp.as_ref()
    }

    fn finish(self: Box<Self>, outcome: Outcome, own: Vec<Part>, taken: Option<Taken>) {
        let Self {
            submission,
            account,
            slab,
            events,
            shard,
        } = *self;
        let ticket = submission.ticket;
        let (routed, batch) = submission.routed(account, &slab, outcome, own);
        // Before the shard answers.
        events.0.push(Event::Routed(ticket, routed));
        let left = events.clone();
        match batch {
            Some(batch) => shard.send(Command::Publish {
                batch,
                reply: events,
                taken,
            }),
            // Nothing of it is stored: what the plugins did beside does not count.
            None => taken.into_iter().for_each(|taken| taken(false)),
        }
        left.0.push(Event::Left);
    }
}

/// The producer whose stream this is. The shard is told when it ends.
struct Identity {
    id: ProducerId,
    opened: OpenedProducer,
    shard: ShardHandle,
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.shard.send(Command::CloseProducer {
            id: self.id,
            session: self.opened.session,
        });
    }
}

struct Publisher<'a> {
    conn: &'a Arc<Conn>,
    /// Names this stream to the plugin workers.
    lane: u64,
    producer: Option<Identity>,
    /// The producer's number of the stream's first message; else each record has its own.
    number_from: Option<u64>,
    /// What nothing takes is refused.
    is_mandatory: bool,
    /// What it publishes is replayed on purpose.
    is_replay: bool,
    /// Groups' words are told.
    wants_receipts: bool,
    /// Those that are to be written.
    receipts: Vec<Receipts>,
    /// What it wants to know of single messages.
    asked: Asked,
    session: PublisherSession,
    plans: Plans,
    events: Arc<Events>,
    pending: HashMap<BatchId, Pending>,
    /// Batches that are with a plugin worker.
    routing_out: usize,
    /// They go to the worker of serial plugins, for good once one had to.
    is_serial: bool,
    /// Batches that wait until what is with another worker is done.
    switching: Vec<Work>,
    /// For live subscribers, by batch: handed over when all before it is settled, so that each
    /// subscriber gets a publisher's messages in their order.
    live: BTreeMap<BatchId, Vec<ForLive>>,
    /// Subscribers that are full because of this publisher.
    pressed: Vec<Arc<Subscriber>>,
}

pub(crate) async fn serve(
    conn: &Arc<Conn>,
    open: OpenPublisher,
    send: &mut SendStream,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    if open.receipts && open.producer.is_empty() {
        let text = "receipts need a producer: they outlive the stream".to_owned();
        return Err(StreamError::Refused(Code::Invalid, text));
    }
    let asked = Asked::new(conn, open.explains)?;
    let limits = &conn.node.limits;
    let window = match open.window_messages {
        0 => limits.window_messages,
        wanted => wanted.min(limits.window_messages),
    };
    let producer = identify(conn, &open).await?;
    let last_sequence = producer.as_ref().map_or(0, |p| p.opened.last_sequence);
    let epoch = producer.as_ref().map_or(0, |p| p.opened.epoch);
    let is_mandatory = open.mandatory || conn.node.routing.is_mandatory;
    let window = (window, limits.window_bytes);
    let numbers = producer.is_some();
    let mut publisher = Publisher::new(conn, producer, is_mandatory, window);
    publisher.wants_receipts = open.receipts;
    publisher.asked = asked;
    let (window_sequence, window_bytes) = publisher.session.window();
    let opened = Opened {
        window_sequence,
        window_bytes,
        epoch,
        last_sequence,
        numbers,
        ..Opened::default()
    };
    send.write_all(&control::bytes_of(FrameType::Opened, &opened))
        .await?;
    publisher.open_receipts();
    publisher.run(send, reader).await?;
    end_well(send).await
}

/// The producer that a client says it is, if it does.
async fn identify(conn: &Conn, open: &OpenPublisher) -> Result<Option<Identity>, StreamError> {
    if open.producer.is_empty() {
        return Ok(None);
    }
    let refused = |code, text| StreamError::Refused(code, text);
    let id: ProducerId = open.producer[..].try_into().map_err(|_| {
        let length = open.producer.len();
        refused(
            Code::Invalid,
            format!("a producer id of {length} bytes, 16 expected"),
        )
    })?;
    let shard = conn.node.shard.clone();
    let (reply, answer) = tokio::sync::oneshot::channel();
    let epoch = open.epoch;
    shard.send(Command::OpenProducer { id, epoch, reply });
    let opened = answer
        .await
        .map_err(|_| refused(Code::Draining, "the node stops".to_owned()))?
        .map_err(|fenced| refused(Code::Fenced, fenced.to_string()))?;
    Ok(Some(Identity { id, opened, shard }))
}

impl<'a> Publisher<'a> {
    fn new(
        conn: &'a Arc<Conn>,
        producer: Option<Identity>,
        is_mandatory: bool,
        (window_messages, window_bytes): (u32, u64),
    ) -> Publisher<'a> {
        Publisher {
            conn,
            lane: conn.node.next_lane.fetch_add(1, Relaxed),
            producer,
            number_from: None,
            is_mandatory,
            is_replay: false,
            wants_receipts: false,
            receipts: Vec::new(),
            asked: Asked::default(),
            session: PublisherSession::new(window_messages, window_bytes),
            plans: Plans::default(),
            events: Arc::new(Events(Mailbox::default())),
            pending: HashMap::new(),
            routing_out: 0,
            is_serial: false,
            switching: Vec::new(),
            live: BTreeMap::new(),
            pressed: Vec::new(),
        }
    }

    /// From now on the shard tells what groups did, and what is owed from before.
    fn open_receipts(&self) {
        if let (true, Some(producer)) = (self.wants_receipts, &self.producer) {
            producer.shard.send(Command::OpenReceipts {
                id: producer.id,
                session: producer.opened.session,
                reply: self.events.clone(),
            });
        }
    }

    async fn run(
        &mut self,
        send: &mut SendStream,
        reader: &mut FrameReader,
    ) -> Result<(), StreamError> {
        let events = self.events.clone();
        let mut taken = Vec::new();
        let mut out = Outgoing::default();
        // What was good before a mistake is settled and confirmed before the stream ends with it.
        // Batches may have come together with the stream's first frame.
        let mut failure = self.read(reader).err();
        let mut is_open = failure.is_none();
        while is_open || self.session.outstanding() > 0 {
            tokio::select! {
                biased;
                () = events.0.take(&mut taken) => {
                    for event in taken.drain(..) {
                        self.on_event(event);
                    }
                }
                filled = reader.fill(), if is_open => {
                    is_open = filled?;
                    failure = self.read(reader).err();
                    is_open &= failure.is_none();
                }
            }
            self.relieve().await;
            // Before the confirms that settle the messages.
            let mut is_due = self.asked.put(out.buffer());
            while let Some(confirm) = self.session.poll_confirm() {
                confirm.put(out.buffer());
                is_due = true;
            }
            for receipts in self.receipts.drain(..) {
                receipts.put(out.buffer());
                is_due = true;
            }
            if is_due {
                out.write(send).await?;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Takes every batch that has arrived.
    fn read(&mut self, reader: &mut FrameReader) -> Result<(), StreamError> {
        while let Some(frame) = reader.buffered()? {
            match frame.kind {
                FrameType::Publish => {
                    let publish = Publish::parse(&frame)?;
                    self.on_batch(frame.offset, publish, None)?;
                }
                FrameType::Transact => {
                    let Transact {
                        first_sequence,
                        acks,
                        slab,
                    } = Transact::parse(&frame)?;
                    let publish = Publish {
                        first_sequence,
                        slab,
                    };
                    self.on_batch(frame.offset, publish, Some(acks))?;
                }
                FrameType::ReceiptAck if self.wants_receipts => {
                    let number = parse_receipt_ack(&frame)?;
                    self.receipts_taken(number);
                }
                FrameType::NumberFrom if self.producer.is_some() && self.is_fresh() => {
                    self.number_from = Some(parse_number_from(&frame)?);
                }
                _ => return Err(frame.unexpected(self.expected()).into()),
            }
        }
        Ok(())
    }

    fn expected(&self) -> &'static str {
        match self.producer.is_some() && self.is_fresh() {
            true => "NUMBER_FROM, PUBLISH or TRANSACT",
            false => "PUBLISH or TRANSACT",
        }
    }

    /// No batch has come on the stream yet.
    fn is_fresh(&self) -> bool {
        self.number_from.is_none() && self.session.next_sequence() == 1
    }

    /// The producer's numbers of a batch in the frame at stream offset `at`.
    fn numbers(&self, at: u64, first_sequence: u64, count: u32) -> Result<Numbers, StreamError> {
        let Some(producer) = &self.producer else {
            return Ok(Numbers::None);
        };
        let Some(from) = self.number_from else {
            return Ok(Numbers::InRecords(producer.id, producer.opened.epoch));
        };
        let first = from.saturating_add(first_sequence.saturating_sub(1));
        match first.checked_add(u64::from(count)) {
            Some(end) if first > 0 && end <= varint::MAX => Ok(Numbers::From(first)),
            _ => {
                let text = format!(
                    "numbers from {first} on, in the frame at stream offset {at}, expected 1 to 2^62-1"
                );
                Err(StreamError::Refused(Code::Invalid, text))
            }
        }
    }

    fn receipts_taken(&self, number: u64) {
        if let Some(producer) = &self.producer {
            producer.shard.send(Command::ReceiptsTaken {
                id: producer.id,
                session: producer.opened.session,
                number,
            });
        }
    }

    /// `at` is the stream offset of the frame that it came in.
    fn on_batch(
        &mut self,
        at: u64,
        publish: Publish,
        transaction: Option<Vec<ConsumerAcks>>,
    ) -> Result<(), StreamError> {
        let Publish {
            first_sequence,
            slab,
        } = publish;
        let (count, bytes) = (slab.count(), slab.bytes().len() as u64);
        if count as usize > waypost_wire::BATCH_MESSAGES_MAX {
            let limit = waypost_wire::BATCH_MESSAGES_MAX;
            let text = format!(
                "batch of {count} messages, limit {limit}, in the frame at stream offset {at}"
            );
            return Err(StreamError::Refused(Code::TooLarge, text));
        }
        let routing = self.plans.refresh(self.conn);
        let numbers = self.numbers(at, first_sequence, count)?;
        let mut admitted =
            admission::admit(self.conn, &mut self.plans, &routing, at, slab, numbers)?;
        let id = self
            .session
            .on_batch(first_sequence, count, bytes)
            .map_err(|error| {
                let text = format!("{error}, in the frame at stream offset {at}");
                StreamError::Refused(error.code(), text)
            })?;
        let metrics = &self.conn.node.metrics.publish;
        metrics.messages.add(u64::from(count));
        metrics.bytes.add(bytes);
        let refused = std::mem::take(&mut admitted.refused);
        let stamp = self.producer.as_ref().map(|producer| Stamp {
            producer: producer.id,
            epoch: producer.opened.epoch,
            session: producer.opened.session,
            sequences: std::mem::take(&mut admitted.sequences),
        });
        if self.conn.node.taps.is_active() {
            self.tap(&routing, &admitted, &refused);
        }
        let foreign = self.foreign(transaction.as_deref().unwrap_or_default());
        let mut account = Account {
            first_sequence,
            count: admitted.slab.count(),
            exceptions: admission::refusals(first_sequence, refused),
            level: Level::Stored,
        };
        let mut submission = Submission {
            ticket: id,
            is_mandatory: self.is_mandatory,
            is_replay: self.is_replay,
            receipts: self.wants_receipts,
            wants_places: false,
            stamp,
            transaction,
        };
        // What was stored before is known by its producer alone; all else is a conflict.
        if let (Some(_), Some(_)) = (foreign, &submission.stamp) {
            let not_own = |acks: &&mut ConsumerAcks| !self.conn.own_consumers.has(acks.consumer);
            let acks = submission.transaction.iter_mut().flatten();
            acks.filter(not_own).for_each(|a| a.consumer = NOBODY);
        } else if let Some(consumer) = foreign {
            let text = format!("consumer {consumer} is none of this connection");
            account.refuse_all(Code::Conflict, &text);
            self.settle(id, Pending::new(account));
            return Ok(());
        }
        let traced = self.asked.of(&admitted.slab);
        submission.wants_places = !traced.is_none();
        if self.routing_out > 0 || needs_pipeline(&admitted) || !traced.is_none() {
            self.send_to_worker(submission, account, (admitted, traced), routing);
        } else {
            self.send_direct(submission, account, &admitted);
        }
        Ok(())
    }

    /// Somebody looks at messages: all that were admitted.
    fn tap(&self, routing: &Routing, admitted: &Admitted, refused: &[(u32, Code, String)]) {
        let routes = |index: usize| {
            let is_refused = refused.binary_search_by_key(&(index as u32), |(at, ..)| *at);
            is_refused
                .is_err()
                .then(|| &*admitted.plans.get(index).routes)
        };
        self.conn
            .node
            .taps
            .published(routing, &admitted.slab, routes);
    }

    /// A consumer that is acked for and is none of this connection.
    fn foreign(&self, acks: &[ConsumerAcks]) -> Option<u64> {
        let is_own = |acks: &&ConsumerAcks| self.conn.own_consumers.has(acks.consumer);
        acks.iter().find(|acks| !is_own(acks)).map(|a| a.consumer)
    }

    fn send_to_worker(
        &mut self,
        submission: Submission,
        account: Account,
        (admitted, traced): (Admitted, Traced),
        routing: Arc<Routing>,
    ) {
        let id = submission.ticket;
        let explaining = Explaining::of(&traced, &routing).map(Box::new);
        let was_serial = self.is_serial;
        self.is_serial |= needs_serial(&routing, &admitted);
        let empty = Account {
            exceptions: Vec::new(),
            ..account
        };
        let work = Work {
            lane: self.lane,
            routing,
            slab: admitted.slab.clone(),
            inputs: inputs(&account, &admitted),
            traced,
            is_dry: false,
            receive_time_ms: wall_ms(),
            done: Box::new(ToShard {
                submission,
                account,
                slab: admitted.slab.clone(),
                events: self.events.clone(),
                shard: self.conn.node.shard.clone(),
            }),
        };
        let pending = Pending {
            routed: Some(admitted),
            explaining,
            ..Pending::new(empty)
        };
        self.pending.insert(id, pending);
        let is_other_worker = self.is_serial && !was_serial && self.routing_out > 0;
        self.routing_out += 1;
        if is_other_worker || !self.switching.is_empty() {
            self.switching.push(work);
        } else {
            self.send_work(work);
        }
    }

    fn send_work(&self, work: Work) {
        let key = if self.is_serial { SERIAL } else { self.conn.id };
        self.conn.node.workers.send(key, work);
    }

    /// No plugin stands between.
    fn send_direct(&mut self, submission: Submission, account: Account, admitted: &Admitted) {
        let mut pending = Pending::new(account);
        let account = &mut pending.account;
        let mut parts = Vec::new();
        match &admitted.plans {
            PlanOf::All(plan) if account.exceptions.is_empty() => {
                let queues = plan.direct.iter().flatten();
                let part = |q: &Arc<str>| Part::new(q.clone(), admitted.slab.clone());
                parts.extend(queues.map(|q| part(q).timed(admitted.is_timed)));
                pending.live.extend(plan.live.iter().map(|s| ForLive {
                    subscriber: s.clone(),
                    slab: admitted.slab.clone(),
                    inputs: Vec::new(),
                }));
                if parts.is_empty() {
                    account.level = Level::Received;
                }
                if parts.is_empty() && plan.live.is_empty() {
                    account.except_all(plan.nowhere());
                }
            }
            _ => {
                gather_direct(account, admitted, &mut parts);
                pending.live = gather_live(account, admitted);
            }
        }
        let id = submission.ticket;
        let Some(batch) = submission.batch(&mut pending.account, parts, false) else {
            pending.leave_out_refused();
            return self.settle(id, pending);
        };
        self.pending.insert(id, pending);
        self.conn.node.shard.send(Command::Publish {
            batch,
            reply: self.events.clone(),
            taken: None,
        });
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Settled(Settled {
                ticket,
                result,
                places,
            }) => {
                let Some(mut pending) = self.pending.remove(&ticket) else {
                    return;
                };
                if let Some(explaining) = &mut pending.explaining {
                    explaining.places = places;
                }
                match result {
                    Ok((level, exceptions)) => {
                        pending.account.level = pending.account.level.min(level);
                        pending.except(exceptions);
                    }
                    Err((code, text)) => {
                        pending.live.clear();
                        pending.account.refuse_all(code, &text);
                    }
                }
                self.settle(ticket, pending);
            }
            Event::Receipts(receipts) => self.receipts.push(receipts),
            Event::Routed(id, routed) => self.on_routed(id, routed),
            Event::Left => self.on_left(),
        }
    }

    /// A batch is with a plugin worker no more, and behind it nothing is overtaken.
    fn on_left(&mut self) {
        self.routing_out -= 1;
        if self.routing_out == self.switching.len() {
            for work in std::mem::take(&mut self.switching) {
                self.send_work(work);
            }
        }
    }

    /// The plugins are done with a batch.
    fn on_routed(&mut self, id: BatchId, routed: Routed) {
        let Some(mut pending) = self.pending.remove(&id) else {
            return;
        };
        let Some(admitted) = pending.routed.take() else {
            return;
        };
        pending.account = routed.account;
        pending.live = gather_live(&pending.account, &admitted);
        let routing = self.plans.refresh(self.conn);
        for output in &routed.live {
            let Ok(record) = RecordRef::parse(&output.body) else {
                continue;
            };
            let plan = self.plans.get(self.conn, &routing, record.topic());
            let mut slab = SlabBuilder::new();
            slab.push(&output.body);
            let slab = slab.finish();
            pending.live.extend(plan.live.iter().map(|s| ForLive {
                subscriber: s.clone(),
                slab: slab.clone(),
                inputs: vec![output.input],
            }));
        }
        if let Some(explaining) = &mut pending.explaining {
            let mut live = |topic: &str| {
                let plan = self.plans.get(self.conn, &routing, topic);
                plan.live.len()
            };
            explaining.routed(routed.traces, &mut live);
        }
        if routed.is_submitted {
            self.pending.insert(id, pending);
        } else {
            pending.leave_out_refused();
            self.settle(id, pending);
        }
    }

    fn settle(&mut self, id: BatchId, pending: Pending) {
        if !pending.live.is_empty() {
            self.live.insert(id, pending.live);
        }
        if let Some(explaining) = pending.explaining {
            let bytes_max = self.conn.client_frame_bytes_max;
            self.asked.settled(*explaining, &pending.account, bytes_max);
        }
        let metrics = &self.conn.node.metrics.publish;
        let Account {
            exceptions, level, ..
        } = pending.account;
        for exception in &exceptions {
            match exception.kind {
                ExceptionKind::Dropped => metrics.dropped.add(1),
                ExceptionKind::DeadLettered => metrics.dead_lettered.add(1),
                ExceptionKind::Unroutable => metrics.unroutable.add(1),
                ExceptionKind::Refused => metrics.refused.add(1),
                ExceptionKind::Duplicate => metrics.duplicates.add(1),
            }
        }
        self.session.settle(id, level, exceptions);
    }

    /// Hands over to live subscribers what is in turn, and waits for those that this publisher has
    /// filled, for as long as they are given.
    async fn relieve(&mut self) {
        let (now, below) = (wall_ms(), self.session.settled_below());
        while let Some(entry) = self.live.first_entry()
            && *entry.key() < below
        {
            for live in entry.remove().into_iter().filter(|l| !l.slab.is_empty()) {
                if live.subscriber.push(now, live.slab).1 {
                    self.pressed.push(live.subscriber);
                }
            }
        }
        let patience =
            std::time::Duration::from_millis(self.conn.node.limits.subscriber_patience_ms);
        for subscriber in std::mem::take(&mut self.pressed) {
            subscriber.relief(patience).await;
        }
    }
}

impl Pending {
    fn new(account: Account) -> Pending {
        Pending {
            account,
            live: Vec::new(),
            routed: None,
            explaining: None,
        }
    }

    /// The queues' words for single messages. Live subscribers get only what was taken now.
    fn except(&mut self, words: Vec<Exception>) {
        if words.is_empty() {
            return;
        }
        let first = self.account.first_sequence;
        let left_out: Vec<u32> = words.iter().map(|w| (w.sequence - first) as u32).collect();
        self.live.iter_mut().for_each(|l| l.without(&left_out));
        self.account.except(words);
    }

    /// Live subscribers get nothing of what was refused.
    fn leave_out_refused(&mut self) {
        let refused: Vec<u32> = self.account.refused().map(|input| input as u32).collect();
        if !refused.is_empty() {
            self.live.iter_mut().for_each(|l| l.without(&refused));
        }
    }
}
