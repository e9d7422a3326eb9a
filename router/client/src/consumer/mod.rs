//! Consuming: deliveries of a queue's group, by credit, with a word said of each.
//!
//! A task, the driver, reads deliveries into an [`inbox`] that credit bounds, and writes what the
//! application says of them: all that was said since the driver last wrote goes as a few ranges.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use waypost_wire::control::{GroupKind, Start};
use waypost_wire::data::{ConsumerFrame, Deliver, Range};
use waypost_wire::{Filter, RecordError, RecordRef, record};

use crate::client::Client;
use crate::error::Error;

mod driver;
mod inbox;

pub(crate) use inbox::{At, merge};
pub use inbox::{ConsumerStats, SessionId};
use inbox::{Inbox, ms};

/// How a consumer is opened.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// The queue's name.
    pub queue: String,
    /// The group's name; the group is made when it is not there.
    pub group: String,
    /// For people; the node shows it.
    pub name: String,
    /// Where a group that is made now begins.
    pub start: Start,
    /// With [`Start::Offset`]: that offset.
    pub start_offset: u64,
    /// With [`Start::Time`]: ms since 1970.
    pub start_time_ms: u64,
    /// How a group that is made now shares its messages out; one that is there must be of this kind.
    pub kind: GroupKind,
    /// The topics that the group takes; none: all. As for `kind`.
    pub filters: Vec<Filter>,
    /// How long the application may take for a delivery before the message goes to another, in
    /// ms; 0: the queue's default.
    pub ack_deadline_ms: u64,
    /// Messages that may wait here for [`Consumer::next`]; 1,024.
    pub window_messages: u64,
    /// Bytes of records that may wait here; 4 MiB. One larger message comes nevertheless.
    pub window_bytes: u64,
}

impl ConsumerOptions {
    /// A consumer of `group` on `queue`; a new group begins at the queue's oldest message.
    pub fn new(queue: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            queue: queue.into(),
            group: group.into(),
            name: String::new(),
            start: Start::Beginning,
            start_offset: 0,
            start_time_ms: 0,
            kind: GroupKind::Shared,
            filters: Vec::new(),
            ack_deadline_ms: 0,
            window_messages: 1024,
            window_bytes: 4 << 20,
        }
    }
}

/// Takes messages from a queue's group.
///
/// Each delivery wants a word within its deadline: [`ack`](Consumer::ack),
/// [`nack`](Consumer::nack), [`reject`](Consumer::reject), or [`extend`](Consumer::extend) for more
/// time. Without one, or when the connection is lost, the message comes again, to this consumer or
/// another of the group, with a higher attempt.
///
/// Credit is renewed as batches are taken with [`next`](Consumer::next), not as they are acked; a
/// node bounds what is in flight to one consumer besides.
///
/// Dropping a consumer gives its unacked messages back; words said before may be lost with it.
/// [`Consumer::close`] makes sure of them.
pub struct Consumer {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    inbox: Mutex<Inbox>,
    /// Wakes the driver: something was said, or credit is due.
    work: Notify,
    /// Wakes [`Consumer::next`].
    ready: Notify,
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        match self.inbox.lock() {
            Ok(inbox) => inbox,
            // No code under this lock panics but on a broken invariant; the driver sees it too.
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl Client {
    /// Opens a consumer.
    pub async fn consumer(&self, options: ConsumerOptions) -> Result<Consumer, Error> {
        let inbox = Inbox::new(options.window_messages, options.window_bytes);
        let shared = Arc::new(Shared {
            inbox: Mutex::new(inbox),
            work: Notify::new(),
            ready: Notify::new(),
        });
        let first = driver::open(&self.inner, &options).await?;
        let driver = driver::drive(self.inner.clone(), shared.clone(), options, first);
        tokio::spawn(driver);
        Ok(Consumer { shared })
    }
}

impl Consumer {
    /// The next batch; `None` once the consumer is closed. Nothing is lost when the future is
    /// dropped.
    pub async fn next(&mut self) -> Result<Option<Batch>, Error> {
        loop {
            let ready = self.shared.ready.notified();
            {
                let mut inbox = self.shared.inbox();
                if let Some(batch) = inbox.take() {
                    if inbox.credit_is_due() {
                        self.shared.work.notify_one();
                    }
                    return Ok(Some(batch));
                }
                match &inbox.ended {
                    Some(Error::Closed) => return Ok(None),
                    Some(error) => return Err(error.clone()),
                    None => {}
                }
            }
            ready.await;
        }
    }

    /// A whole batch is done.
    pub fn ack(&self, batch: &Batch) -> Result<(), Error> {
        self.ack_ranges(batch.session(), batch.ranges())
    }

    /// These are done.
    pub fn ack_ranges(&self, session: SessionId, ranges: Vec<Range>) -> Result<(), Error> {
        self.say(session, ConsumerFrame::Ack(ranges))
    }

    /// Everything delivered up to this offset, itself included, is done.
    pub fn ack_up_to(&self, session: SessionId, offset: u64) -> Result<(), Error> {
        self.say(session, ConsumerFrame::AckUpTo(offset))
    }

    /// The acks of a whole batch, for [`Publisher::transact`](crate::Publisher::transact).
    pub fn transaction_acks(&self, batch: &Batch) -> TransactionAcks {
        self.transaction_acks_ranges(batch.session(), batch.ranges())
    }

    /// The acks of these, for [`Publisher::transact`](crate::Publisher::transact).
    pub fn transaction_acks_ranges(
        &self,
        session: SessionId,
        mut ranges: Vec<Range>,
    ) -> TransactionAcks {
        merge(&mut ranges);
        TransactionAcks {
            at: self.shared.inbox().at(session),
            shared: self.shared.clone(),
            session,
            ranges,
        }
    }

    /// Deliver these again, after a delay.
    pub fn nack(
        &self,
        session: SessionId,
        ranges: Vec<Range>,
        delay: Duration,
    ) -> Result<(), Error> {
        let delay_ms = ms(delay);
        self.say(session, ConsumerFrame::Nack { delay_ms, ranges })
    }

    /// Never deliver these again; they go to the dead letters with this reason.
    pub fn reject(
        &self,
        session: SessionId,
        ranges: Vec<Range>,
        reason: impl Into<String>,
    ) -> Result<(), Error> {
        let reason = reason.into();
        self.say(session, ConsumerFrame::Reject { reason, ranges })
    }

    /// These take longer: their deadline is so far from now.
    pub fn extend(
        &self,
        session: SessionId,
        ranges: Vec<Range>,
        time: Duration,
    ) -> Result<(), Error> {
        let ms = ms(time);
        self.say(session, ConsumerFrame::Extend { ms, ranges })
    }

    /// What was done so far.
    pub fn stats(&self) -> ConsumerStats {
        self.shared.inbox().stats()
    }

    /// Sends what was said, gives unacked messages back to the group, and waits until the node has
    /// synced it and said CLOSED.
    pub async fn close(self) -> Result<(), Error> {
        let (sender, closed) = oneshot::channel();
        {
            let mut inbox = self.shared.inbox();
            inbox.closing = true;
            inbox.closed = Some(sender);
        }
        self.shared.work.notify_one();
        if self.shared.inbox().ended.is_none() {
            // Dropped by the driver when it ends.
            let _ = closed.await;
        }
        match &self.shared.inbox().ended {
            None | Some(Error::Closed) => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    fn say(&self, session: SessionId, word: ConsumerFrame) -> Result<(), Error> {
        if !self.shared.inbox().say(session, word)? {
            tracing::debug!("said something of a delivery that the node has taken back");
            return Ok(());
        }
        self.shared.work.notify_one();
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.inbox().closing = true;
        self.shared.work.notify_one();
    }
}

/// Deliveries that a transaction acks. Nothing is said of them until it is taken.
#[derive(Clone)]
pub struct TransactionAcks {
    shared: Arc<Shared>,
    /// None where the node had taken the deliveries back already.
    at: Option<At>,
    session: SessionId,
    ranges: Vec<Range>,
}

impl TransactionAcks {
    pub(crate) fn at(&self) -> Option<At> {
        self.at
    }

    /// Ascending, with a gap between any two.
    pub(crate) fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The transaction was taken: nothing is left to say of these.
    pub(crate) fn taken(&self) {
        self.shared.inbox().acked(self.session, &self.ranges);
        self.shared.work.notify_one();
    }
}

impl std::fmt::Debug for TransactionAcks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionAcks")
            .field("at", &self.at)
            .field("ranges", &self.ranges)
            .finish_non_exhaustive()
    }
}

/// Deliveries that came together. Cheap to clone; the bytes are shared.
#[derive(Clone, Debug)]
pub struct Batch {
    session: SessionId,
    deliver: Arc<Deliver>,
}

impl Batch {
    fn new(session: SessionId, deliver: Deliver) -> Batch {
        Batch {
            session,
            deliver: Arc::new(deliver),
        }
    }

    /// Which opening of the stream it belongs to; every word about its deliveries names it.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// How many deliveries.
    pub fn len(&self) -> u32 {
        self.deliver.slab.count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.deliver.slab.is_empty()
    }

    /// The records' bytes, with their length prefixes.
    pub fn bytes(&self) -> usize {
        self.deliver.slab.bytes().len()
    }

    /// The offsets as ranges, ascending.
    pub fn ranges(&self) -> Vec<Range> {
        ranges(&self.deliver)
    }

    /// The deliveries in order.
    pub fn iter(&self) -> impl Iterator<Item = Delivery<'_>> {
        self.deliver.slab.iter().enumerate().map(|(index, body)| {
            let (offset, attempt) = self.deliver.position(index as u32);
            Delivery {
                offset,
                attempt,
                receive_time_ms: self.deliver.receive_time_ms,
                body,
            }
        })
    }
}

/// The offsets of a delivery as ranges, ascending.
fn ranges(deliver: &Deliver) -> Vec<Range> {
    let (first, count) = (deliver.first_offset, u64::from(deliver.slab.count()));
    if count == 0 {
        return Vec::new();
    }
    if deliver.detail.is_empty() {
        let last = first + count - 1;
        return vec![Range { first, last }];
    }
    let mut ranges: Vec<Range> = Vec::with_capacity(deliver.detail.len());
    for (offset, _) in &deliver.detail {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == *offset => range.last = *offset,
            _ => ranges.push(Range::one(*offset)),
        }
    }
    ranges
}

/// One message of a batch, still in its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Its offset in the queue.
    pub offset: u64,
    /// 1 for the first time.
    pub attempt: u32,
    /// When the node received it, in ms since 1970.
    pub receive_time_ms: u64,
    /// The record's body.
    pub body: &'a [u8],
}

impl<'a> Delivery<'a> {
    /// The record, its checksum verified.
    pub fn record(&self) -> Result<RecordRef<'a>, RecordError> {
        record::verify(self.body)?;
        RecordRef::parse(self.body)
    }
}
