//! Publishing: a stream for each publisher, batches up, cumulative confirms down.
//!
//! [`Publisher`] hands messages to an [`outbox`] under one short lock; a task, the driver, takes
//! whatever has been queued, writes it, and reads confirms. No timer delays a lone message, and
//! what is queued while the driver writes goes together.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::sync::{Notify, oneshot};
use waypost_wire::control::Explained;
use waypost_wire::data::{Exception, Level};
use waypost_wire::{Message, RecordError, RecordRef, Slab};

use crate::client::{Client, Handle, random};
use crate::consumer::TransactionAcks;
use crate::error::Error;

mod driver;
mod outbox;
mod receipts;

use outbox::{Answer, Numbering, Outbox};
pub use outbox::{BatchConfirmed, PublisherStats};
pub use receipts::Receipt;
use receipts::ReceiptInbox;

/// How a publisher is opened.
#[derive(Clone, Debug, Default)]
pub struct PublisherOptions {
    /// For people; the node shows it.
    pub name: String,
    /// Unconfirmed messages to ask the node for; 0: the node's default. The node decides.
    pub window_messages: u32,
    /// Who publishes, so that what is sent again is stored once. None: nobody that the node knows.
    pub producer: Option<ProducerOptions>,
    /// A message that nothing takes is refused, with the code `unroutable`.
    pub mandatory: bool,
    /// Groups' words about its messages come by [`Publisher::receipt`]; needs a producer.
    pub receipts: bool,
    /// What each route and plugin did comes with the tickets of these messages; needs the right
    /// `read`. Each is watched by itself all the way, so it is for single ones.
    pub explain: Explain,
}

/// Messages of which a publisher wants to know what each route and plugin did with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Explain {
    /// None.
    #[default]
    Nothing,
    /// Those with the header `waypost-explain`, whatever its value.
    Marked,
    /// All; the node explains 64 at a time.
    Everything,
}

/// A producer: its messages are numbered, and each queue takes each number once, whatever happens
/// to connections, to the node, and to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerOptions {
    /// Random, chosen once by the application.
    pub id: [u8; 16],
    /// 0: the next one, which fences whoever published under this id before.
    pub epoch: u64,
    /// Each message carries producer, epoch and number, 20 to 34 bytes, so that who consumes it
    /// sees them. Otherwise the stream says them once.
    pub in_records: bool,
}

impl ProducerOptions {
    /// A producer that nobody was before.
    pub fn random() -> ProducerOptions {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&random().to_le_bytes());
        id[8..].copy_from_slice(&random().to_le_bytes());
        ProducerOptions {
            id,
            epoch: 0,
            in_records: false,
        }
    }

    /// The producer that is always meant by a name, under its next epoch. Names that differ have
    /// ids that differ for all practical purposes: the id is the 128-bit FNV-1a hash, most
    /// significant byte first.
    pub fn named(name: &str) -> ProducerOptions {
        const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let step = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        ProducerOptions {
            id: name.as_bytes().iter().fold(OFFSET, step).to_be_bytes(),
            epoch: 0,
            in_records: false,
        }
    }
}

/// Sends messages to a node, in order.
///
/// **At least once.** What is not confirmed when a connection is lost is sent again on the next
/// one, in order, and may then be stored twice, but not with [`PublisherOptions::producer`]: then a
/// repeat is confirmed as [`Duplicate`](waypost_wire::data::ExceptionKind::Duplicate). Such a
/// publisher also sends again by itself, from the first that was refused on, what the node refuses
/// for now (a full queue), because nothing behind it would be taken; its tickets wait meanwhile.
/// Confirmations come in order.
///
/// Dropping a publisher finishes in the background what was accepted, as long as the runtime and
/// the [`Client`] or another user of it live; [`Publisher::close`] waits for it.
pub struct Publisher {
    shared: Arc<Shared>,
    payload_bytes_max: usize,
}

pub(crate) struct Shared {
    outbox: Mutex<Outbox>,
    /// Wakes the driver: something was queued, or closing began.
    work: Notify,
    /// Wakes those who wait to queue.
    room: Notify,
    closed: tokio::sync::watch::Sender<bool>,
    receipts: Mutex<ReceiptInbox>,
    /// Wakes those who wait for a receipt.
    told: Notify,
    /// The node was asked for explanations.
    explains: bool,
}

impl Shared {
    fn receipts(&self) -> MutexGuard<'_, ReceiptInbox> {
        self.receipts
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        match self.outbox.lock() {
            Ok(outbox) => outbox,
            // No code under this lock panics but on a broken invariant; the driver sees it too.
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl Client {
    /// Opens a publisher. An error that the node has against it comes from here; later ones come
    /// with the tickets.
    pub async fn publisher(&self, mut options: PublisherOptions) -> Result<Publisher, Error> {
        let shared = Arc::new(Shared {
            outbox: Mutex::new(Outbox::new()),
            work: Notify::new(),
            room: Notify::new(),
            closed: tokio::sync::watch::Sender::new(false),
            receipts: Mutex::default(),
            told: Notify::new(),
            explains: options.explain != Explain::Nothing,
        });
        let payload_bytes_max = self.welcome().await?.payload_bytes_max as usize;
        let handle: Arc<Handle> = self.inner.clone();
        shared.receipts().is_wanted = options.receipts;
        let first = driver::open(&handle, &options).await?;
        if let Some(producer) = &mut options.producer {
            // It stays the same over all streams: records that are sent again carry it.
            let opened = first.opened();
            producer.epoch = opened.epoch;
            // Before the driver does, which the first transaction may overtake.
            shared.outbox().window = (opened.window_sequence, opened.window_bytes);
            shared.receipts().number_before = opened.last_sequence;
            shared.outbox().numbering = Some(Numbering {
                id: producer.id,
                epoch: opened.epoch,
                first: opened.last_sequence + 1,
                in_records: producer.in_records || !opened.numbers,
            });
        }
        tokio::spawn(driver::drive(handle, shared.clone(), options, first));
        Ok(Publisher {
            shared,
            payload_bytes_max: match payload_bytes_max {
                0 => waypost_wire::PAYLOAD_BYTES_DEFAULT,
                limit => limit,
            },
        })
    }
}

impl Publisher {
    /// Queues a message as soon as the window has room for it, and gives its ticket. Dropping the
    /// ticket does not take the message back. A refusal of the node comes with the ticket.
    pub async fn send(&self, message: &Message) -> Result<Ticket, Error> {
        let body = self.encode(message)?;
        let push = |outbox: &mut Outbox| outbox.push_message(message, &body);
        let receiver = self.queued(push).await?;
        Ok(Ticket(BatchTicket(receiver)))
    }

    /// As [`Publisher::send`], but [`Error::WindowFull`] instead of waiting.
    pub fn try_send(&self, message: &Message) -> Result<Ticket, Error> {
        let body = self.encode(message)?;
        let receiver = self.queue_now(|outbox| outbox.push_message(message, &body))?;
        Ok(Ticket(BatchTicket(receiver)))
    }

    /// Queues records that the caller encoded, with one ticket for all of them; the way to high
    /// rates. Their bytes are shared, not copied, and not looked into: the node refuses what is
    /// wrong with them. More than a frame may hold is cut into several. With
    /// [`ProducerOptions::in_records`] they are encoded anew.
    pub async fn send_slab(&self, slab: &Slab) -> Result<BatchTicket, Error> {
        Ok(BatchTicket(
            self.queued(|outbox| outbox.push_slab(slab)).await?,
        ))
    }

    /// As [`Publisher::send_slab`], but [`Error::WindowFull`] instead of waiting.
    pub fn try_send_slab(&self, slab: &Slab) -> Result<BatchTicket, Error> {
        Ok(BatchTicket(
            self.queue_now(|outbox| outbox.push_slab(slab))?,
        ))
    }

    /// Queues messages that are taken together, whatever queues they reach, or not at all; and with
    /// them, acks of what consumers of the same [`Client`] hold: all of it is one record of the
    /// node's log. The publisher must be a producer, the queues `sync`, and all must fit one batch
    /// ([`Error::TooLarge`], [`Error::Transaction`]).
    ///
    /// If one message is refused, all are; if a consumer does not hold something any more, all are
    /// refused with [`Code::Conflict`](waypost_wire::Code::Conflict): what it acks comes again, or
    /// went to another. Over a lost connection it is sent again: what was taken is confirmed as
    /// [`Duplicate`](waypost_wire::data::ExceptionKind::Duplicate), anything else as a conflict. So
    /// each delivery has its results once.
    pub async fn transact(
        &self,
        messages: &[Message],
        acks: &[TransactionAcks],
    ) -> Result<BatchTicket, Error> {
        for message in messages {
            self.encode(message)?;
        }
        let push = |outbox: &mut Outbox| outbox.push_transaction(messages, acks);
        Ok(BatchTicket(self.queued(push).await?))
    }

    /// Waits until everything accepted so far is settled. Exceptions come with the tickets.
    pub async fn flush(&self) -> Result<(), Error> {
        let receiver = self.shared.outbox().flush();
        BatchTicket(receiver).await.map(drop)
    }

    /// The next receipt: a group is done with a message. Needs [`PublisherOptions::receipts`].
    ///
    /// A message that reaches a queue has a receipt of each of its groups, as soon as the group is
    /// done with it and that is synced; those of several queues and groups come in any order. What
    /// was taken from here is not told again once the node knows that; what was not comes again
    /// after a reconnect, or to the next publisher under the producer's id, for at least a day. So
    /// some may come twice.
    ///
    /// An error says that none will come any more: the publisher has ended.
    pub async fn receipt(&self) -> Result<Receipt, Error> {
        loop {
            let told = self.shared.told.notified();
            let mut told = std::pin::pin!(told);
            told.as_mut().enable();
            if let Some(receipt) = self.shared.receipts().take() {
                self.shared.work.notify_one();
                return Ok(receipt);
            }
            if let Some(error) = &self.shared.outbox().ended {
                return Err(error.clone());
            }
            told.await;
        }
    }

    /// How many receipts are to come, as of the last that came: messages that some group is not
    /// done with count once in each queue. `None` until one came.
    pub fn receipts_waiting(&self) -> Option<u64> {
        self.shared.receipts().waiting()
    }

    /// Receipts that the node forgot because too many waited for this producer.
    pub fn receipts_lost(&self) -> u64 {
        self.shared.receipts().lost
    }

    /// What was done so far.
    pub fn stats(&self) -> PublisherStats {
        self.shared.outbox().stats()
    }

    /// Settles everything, and waits for the node's CLOSED.
    pub async fn close(self) -> Result<(), Error> {
        let mut closed = self.shared.closed.subscribe();
        self.begin_close();
        let _ = closed.wait_for(|closed| *closed).await;
        match &self.shared.outbox().ended {
            None | Some(Error::Closed) => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    fn begin_close(&self) {
        self.shared.outbox().closing = true;
        self.shared.work.notify_one();
    }

    fn encode(&self, message: &Message) -> Result<bytes::Bytes, Error> {
        let length = message.payload.len();
        if length > self.payload_bytes_max {
            return Err(Error::Record(RecordError::PayloadTooLarge {
                length,
                limit: self.payload_bytes_max,
            }));
        }
        let body = message.to_body();
        RecordRef::parse(&body).map_err(Error::Record)?;
        Ok(body)
    }

    fn queue_now(
        &self,
        push: impl FnOnce(&mut Outbox) -> Result<oneshot::Receiver<Answer>, Error>,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        let mut outbox = self.shared.outbox();
        if !outbox.has_room() {
            return Err(Error::WindowFull);
        }
        let receiver = push(&mut outbox)?;
        drop(outbox);
        self.shared.work.notify_one();
        Ok(receiver)
    }

    async fn queued(
        &self,
        push: impl Fn(&mut Outbox) -> Result<oneshot::Receiver<Answer>, Error>,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        loop {
            match self.queue_now(&push) {
                Err(Error::WindowFull) => {}
                other => return other,
            }
            let room = self.shared.room.notified();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            // Between the two there may have come room.
            if !self.shared.outbox().has_room() {
                room.await;
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.begin_close();
    }
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The message's sequence, counted from 1 over the publisher's life.
    pub sequence: u64,
    /// What the node promises.
    pub level: Level,
    /// What else there is to say; with [`waypost_wire::data::ExceptionKind::Refused`] the node
    /// did not accept the message.
    pub exception: Option<Exception>,
    /// What each route and plugin did with it, where [`PublisherOptions::explain`] asks for that.
    pub explained: Option<Box<Explained>>,
}

/// Resolves to what became of one message.
#[derive(Debug)]
#[must_use = "without awaiting it nobody learns whether the message was accepted"]
pub struct Ticket(BatchTicket);

impl Future for Ticket {
    type Output = Result<Confirmed, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(|batch| Confirmed {
            sequence: batch.first_sequence,
            level: batch.level,
            exception: batch.exceptions.into_iter().next(),
            explained: batch.explained.into_iter().next().map(Box::new),
        })
    }
}

/// Resolves to what became of the messages of one [`Publisher::send_slab`].
#[derive(Debug)]
#[must_use = "without awaiting it nobody learns whether the messages were accepted"]
pub struct BatchTicket(oneshot::Receiver<Answer>);

impl Future for BatchTicket {
    type Output = Result<BatchConfirmed, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            // The driver is gone with the runtime that it ran on.
            .map(|answer| answer.unwrap_or(Err(Error::Closed)))
    }
}
