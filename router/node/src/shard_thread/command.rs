//! What others ask of the shard's thread, and how it answers.

use std::sync::{Arc, mpsc};

use waypost_core::dedup::{Fenced, ProducerId};
use waypost_core::group::ConsumerId;
use waypost_core::journal::GroupOptions;
use waypost_core::queue::Settings;
use waypost_log::RealVfs;
use waypost_shard::{
    Attach, Batch, ManageError, Now, OpenedProducer, Peeked, Place, QueueView, Shard, Start, Ticket,
};
use waypost_wire::Code;
use waypost_wire::data::{ConsumerFrame, Deliver, Exception, Level, Receipts};

use crate::backup::BackupReply;
use crate::mailbox::{Inbox, Mailbox};

/// What became of a batch: how durable what was taken is, and what is to be said of single
/// messages; or why nothing was taken.
#[derive(Debug)]
pub(crate) struct Settled {
    pub ticket: Ticket,
    pub result: Result<(Level, Vec<Exception>), (Code, String)>,
    /// Where what was taken lies, where that was asked for.
    pub places: Vec<Place>,
}

/// Where a publisher's outcomes go.
pub(crate) trait PublishReply: Send + Sync {
    fn settled(&self, settled: Settled);
    /// What groups did with messages of its producer.
    fn receipts(&self, receipts: Receipts);
}

/// For a consumer's stream.
#[derive(Debug)]
pub(crate) enum ConsumerEvent {
    Deliver(Deliver),
    Closed(Code, String),
    Detached,
}

type Reply<T> = tokio::sync::oneshot::Sender<Result<T, ManageError>>;

/// See [`Command::Publish`].
pub(crate) type Taken = Box<dyn FnOnce(bool) + Send>;

/// Work on the shard, and how to answer.
type Step = Box<dyn FnOnce(&mut Shard<RealVfs>, Now) -> Box<dyn FnOnce() + Send> + Send>;

/// See [`Command::Look`].
type Look = Box<dyn FnOnce(&mut Shard<RealVfs>) + Send>;

/// What others ask of the shard.
pub(crate) enum Command {
    Publish {
        batch: Batch,
        reply: Arc<dyn PublishReply>,
        /// Is told whether it was taken, as soon as that is known and before it is synced.
        taken: Option<Taken>,
    },
    OpenProducer {
        id: ProducerId,
        /// 0: the next one.
        epoch: u64,
        reply: tokio::sync::oneshot::Sender<Result<OpenedProducer, Fenced>>,
    },
    CloseProducer {
        id: ProducerId,
        session: u64,
    },
    /// The producer's stream wants receipts.
    OpenReceipts {
        id: ProducerId,
        session: u64,
        reply: Arc<dyn PublishReply>,
    },
    /// It has them, up to this number.
    ReceiptsTaken {
        id: ProducerId,
        session: u64,
        number: u64,
    },
    Attach {
        attach: Attach,
        mailbox: Arc<Mailbox<ConsumerEvent>>,
        reply: Reply<u64>,
    },
    Frame {
        consumer: ConsumerId,
        frame: ConsumerFrame,
    },
    Written {
        consumer: ConsumerId,
        bytes: u64,
    },
    Detach {
        consumer: ConsumerId,
        is_clean: bool,
    },
    /// Says that everything before it was taken.
    Reach {
        reply: tokio::sync::oneshot::Sender<()>,
    },
    QueueAdd {
        name: String,
        settings: Settings,
        reply: Reply<QueueView>,
    },
    QueueRemove {
        name: String,
        reply: Reply<u64>,
    },
    QueuePurge {
        name: String,
        reply: Reply<u64>,
    },
    QueueInfo {
        name: String,
        reply: Reply<QueueView>,
    },
    QueueList {
        reply: Reply<Vec<QueueView>>,
    },
    QueuePeek {
        name: String,
        from: u64,
        count: u32,
        reply: Reply<(Vec<Peeked>, u64)>,
    },
    Backup {
        name: String,
        reply: BackupReply,
    },
    /// A bounded step of work; what it gives is called when what it did is durable.
    Step {
        step: Step,
    },
    /// A bounded step that changes nothing which has to be durable.
    Look {
        look: Look,
    },
    GroupAdd {
        queue: String,
        group: String,
        start: Start,
        options: GroupOptions,
        reply: Reply<()>,
    },
    GroupSeek {
        queue: String,
        group: String,
        to: Start,
        reply: Reply<u64>,
    },
    GroupRemove {
        queue: String,
        group: String,
        reply: Reply<u64>,
    },
    /// Commit what is there, then end.
    Stop,
}

/// Sends commands to the shard. What is sent before its thread has started is kept for it.
#[derive(Clone, Default)]
pub(crate) struct ShardHandle {
    pub(super) inbox: Arc<Inbox<Command>>,
}

impl ShardHandle {
    pub fn send(&self, command: Command) {
        self.inbox.push(command);
    }

    /// Waits until the shard has taken everything that was sent before.
    pub async fn reached(&self) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.send(Command::Reach { reply });
        let _ = answer.await;
    }

    /// Asks from a thread that may wait. `None` when the shard has ended.
    pub fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Shard<RealVfs>) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        // A shard that has ended drops what comes, and the reply with it.
        self.send(Command::Look {
            look: Box::new(move |shard| drop(reply.send(look(shard)))),
        });
        answer.recv().ok()
    }

    /// Asks and waits. `None` when the shard has ended.
    pub async fn ask<T>(
        &self,
        make: impl FnOnce(Reply<T>) -> Command,
    ) -> Option<Result<T, ManageError>> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.send(make(reply));
        answer.await.ok()
    }
}
