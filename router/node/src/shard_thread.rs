//! The shard's thread: takes what connections ask for, commits, and hands out what follows.
//!
//! A group forms by itself: whatever arrived while the last one was being synced goes on together,
//! and no timer delays a lone message. The log's long work (moving, recycling) runs on a thread of
//! its own beside it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use waypost_core::dedup::{Fenced, ProducerId};
use waypost_core::group::ConsumerId;
use waypost_core::journal::GroupOptions;
use waypost_core::queue::Settings;
use waypost_log::{CommitError, Incarnation, Job, JobDone, JobError, RealVfs};
use waypost_shard::{
    Accepted, Attach, Batch, Counters, ManageError, Now, OpenedProducer, Output, Peeked, Place,
    PublishError, QueueView, Shard, Start, Ticket,
};
use waypost_wire::Code;
use waypost_wire::data::{ConsumerFrame, Deliver, Exception, Level, Receipts};

use crate::alarms::{AlarmKind, Alarms};
use crate::backup::{BackupError, BackupReply, Backups};
use crate::clock::{Clock, wall_ms};
use crate::disk::Disk;
use crate::mailbox::{Inbox, Mailbox};
use crate::metrics::Metrics;
use crate::plugins::Plugins;

/// Bytes of publishes that are taken into one group at most; what is left waits for the next.
const GROUP_BYTES: u64 = 1 << 20;
/// An idle log proves its last group after this time.
const IDLE_SYNC: Duration = Duration::from_millis(200);
/// How often it is asked which queues must write a snapshot, which looks at every queue.
const SNAPSHOT_CHECK_MS: u64 = 50;
/// How long the alarm of a queue lasts that has dropped messages, in ms.
const DROPPING_MS: u64 = 60_000;
/// How long a job that failed for want of space waits.
const JOB_RETRY: Duration = Duration::from_millis(500);

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
    inbox: Arc<Inbox<Command>>,
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

struct Thread {
    shard: Shard<RealVfs>,
    clock: Clock,
    alarms: Arc<Alarms>,
    metrics: Arc<Metrics>,
    counted: Counters,
    disk: Arc<Disk>,
    publishers: HashMap<Ticket, (Ticket, Arc<dyn PublishReply>)>,
    consumers: HashMap<ConsumerId, Arc<Mailbox<ConsumerEvent>>>,
    /// Streams that want receipts, by session.
    receipts: HashMap<u64, Arc<dyn PublishReply>>,
    next_ticket: Ticket,
    jobs: mpsc::Sender<Job<RealVfs>>,
    jobs_done: mpsc::Receiver<JobDone<RealVfs>>,
    is_job_out: bool,
    backups: Backups,
    /// A job failed, and none has succeeded since.
    is_job_stuck: bool,
    job_not_before: u64,
    last_work: u64,
    is_proven: bool,
    snapshots_not_before: u64,
    /// The pending group cannot be written for want of space.
    is_blocked: bool,
    /// Queues that dropped messages, and until when their alarms last.
    dropping: HashMap<String, u64>,
}

/// What the shard's thread shares with the node.
pub(crate) struct Around {
    pub clock: Clock,
    pub alarms: Arc<Alarms>,
    pub metrics: Arc<Metrics>,
    pub disk: Arc<Disk>,
    pub plugins: Arc<Plugins>,
}

/// Starts the shard's thread. `fatal` is called when nothing can be confirmed any more. `held` is
/// dropped when the last write is done: the data directory's lock.
pub(crate) fn start(
    handle: ShardHandle,
    shard: Shard<RealVfs>,
    around: Around,
    held: impl Send + 'static,
    fatal: impl FnOnce(String) + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let inbox = handle.inbox;
    let Around {
        clock,
        alarms,
        metrics,
        disk,
        plugins,
    } = around;
    let (jobs, jobs_in) = mpsc::channel::<Job<RealVfs>>();
    let (done, jobs_done) = mpsc::channel();
    let jobs_join = std::thread::Builder::new()
        .name("waypost-log-jobs".into())
        .spawn(move || {
            while let Ok(job) = jobs_in.recv() {
                if done.send(job.run(&RealVfs)).is_err() {
                    return;
                }
            }
        })?;
    let mut thread = Thread {
        shard,
        clock,
        alarms,
        metrics,
        counted: Counters::default(),
        backups: Backups::new(disk.dir(), plugins),
        disk,
        publishers: HashMap::new(),
        consumers: HashMap::new(),
        receipts: HashMap::new(),
        next_ticket: 1,
        jobs,
        jobs_done,
        is_job_out: false,
        is_job_stuck: false,
        job_not_before: 0,
        last_work: 0,
        // Not yet: so that the first turn comes by itself and prepares files.
        is_proven: false,
        snapshots_not_before: 0,
        is_blocked: false,
        dropping: HashMap::new(),
    };
    let join = std::thread::Builder::new()
        .name("waypost-shard-0".into())
        .spawn(move || {
            let run = AssertUnwindSafe(|| thread.run(&inbox));
            let ended = std::panic::catch_unwind(run);
            inbox.close();
            // Ends the jobs, of which one may be writing.
            drop(thread);
            let _ = jobs_join.join();
            drop(held);
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => fatal(error.to_string()),
                Err(_) => fatal("the shard's thread panicked".to_owned()),
            }
        })?;
    Ok(join)
}

impl Thread {
    fn run(&mut self, inbox: &Inbox<Command>) -> Result<(), CommitError> {
        let mut commands = Vec::new();
        loop {
            inbox.take(&mut commands, self.patience());
            let now = self.clock.now();
            if !commands.is_empty() {
                self.last_work = now.mono_ms;
            }
            let mut stop = false;
            let mut group_bytes = 0;
            for command in commands.drain(..) {
                stop |= matches!(command, Command::Stop);
                group_bytes += self.handle(command)?;
                if group_bytes >= GROUP_BYTES {
                    group_bytes = 0;
                    self.commit()?;
                }
            }
            self.shard.on_time(now);
            let waits = self.is_blocked && now.mono_ms < self.job_not_before;
            if stop || (self.shard.wants_commit(now) && !waits) {
                self.commit()?;
            } else {
                self.shard.deliver(now);
            }
            self.dispatch();
            self.run_jobs()?;
            self.end_dropping(now.mono_ms);
            self.prove_when_idle(now.mono_ms)?;
            if stop {
                return Ok(());
            }
        }
    }

    /// How long to wait for commands.
    fn patience(&self) -> Option<Duration> {
        let now = self.clock.mono_ms();
        // While nothing can be written, the retry is what wakes.
        let next = self.shard.next_timeout().filter(|_| !self.is_blocked);
        let timeout = next.map(|at| at.saturating_sub(now));
        let idle = (!self.is_proven).then_some(IDLE_SYNC.as_millis() as u64);
        let job = (self.is_job_out || self.backups.is_busy()).then_some(20);
        let retry = (self.job_not_before > now).then(|| self.job_not_before - now);
        let dropping = self.dropping.values().min();
        let dropping = dropping.map(|until| until.saturating_sub(now));
        let all = [timeout, idle, job, retry, dropping];
        let ms = all.into_iter().flatten().min()?;
        match next {
            // There is more to deliver.
            Some(0) => Some(Duration::ZERO),
            _ => Some(Duration::from_millis(ms.max(1))),
        }
    }

    /// Gives the slab bytes that the command added to the pending group.
    fn handle(&mut self, command: Command) -> Result<u64, CommitError> {
        let now = self.clock.now();
        match command {
            Command::Publish {
                batch,
                reply,
                taken,
            } => {
                let (bytes, is_taken) = self.publish(batch, reply)?;
                taken.into_iter().for_each(|taken| taken(is_taken));
                return Ok(bytes);
            }
            Command::OpenProducer { id, epoch, reply } => {
                let _ = reply.send(self.shard.open_producer(id, epoch));
            }
            Command::CloseProducer { id, session } => {
                self.receipts.remove(&session);
                self.shard.close_producer(&id, session);
            }
            Command::OpenReceipts { id, session, reply } => {
                self.receipts.insert(session, reply);
                self.shard.open_receipts(id, session);
            }
            Command::ReceiptsTaken {
                id,
                session,
                number,
            } => self.shard.receipts_taken(now, &id, session, number),
            Command::Attach {
                attach,
                mailbox,
                reply,
            } => {
                let consumer = attach.consumer;
                let attached = self.shard.attach(now, attach);
                if attached.is_ok() {
                    self.consumers.insert(consumer, mailbox);
                }
                let _ = reply.send(attached);
            }
            Command::Frame { consumer, frame } => self.shard.consumer_frame(now, consumer, frame),
            Command::Written { consumer, bytes } => self.shard.written(consumer, bytes),
            Command::Detach { consumer, is_clean } => self.shard.detach(now, consumer, is_clean),
            Command::Reach { reply } => drop(reply.send(())),
            Command::QueueAdd {
                name,
                settings,
                reply,
            } => {
                let added = self
                    .shard
                    .ensure_queue(&name, settings, new_incarnation(), "network")
                    .and_then(|()| self.shard.queue(&name));
                let _ = reply.send(added);
            }
            Command::QueueRemove { name, reply } => {
                let removed = self.shard.remove_queue(&name);
                self.commit()?;
                let _ = reply.send(self.if_durable(&name, removed));
            }
            Command::QueuePurge { name, reply } => {
                let purged = self.shard.purge_queue(now, &name);
                self.commit()?;
                let _ = reply.send(self.if_durable(&name, purged));
            }
            Command::QueueInfo { name, reply } => {
                let _ = reply.send(self.shard.queue_and_oldest(&name));
            }
            Command::QueueList { reply } => drop(reply.send(Ok(self.shard.queues()))),
            Command::QueuePeek {
                name,
                from,
                count,
                reply,
            } => {
                let _ = reply.send(self.shard.peek(&name, from, count));
            }
            Command::Backup { name, reply } => {
                // All that was confirmed is in it, and acks that came before.
                self.commit()?;
                match self.is_blocked {
                    true => drop(reply.send(Err(BackupError::Blocked))),
                    false => self.backups.begin(self.shard.log_mut(), &name, reply),
                }
            }
            Command::Look { look } => look(&mut self.shard),
            Command::Step { step } => {
                let answer = step(&mut self.shard, now);
                self.commit()?;
                answer();
            }
            Command::GroupAdd {
                queue,
                group,
                start,
                options,
                reply,
            } => {
                let added = self.shard.add_group(now, &queue, &group, start, options);
                self.commit()?;
                let _ = reply.send(added);
            }
            Command::GroupSeek {
                queue,
                group,
                to,
                reply,
            } => {
                let moved = self.shard.seek_group(now, &queue, &group, to);
                self.commit()?;
                let _ = reply.send(moved);
            }
            Command::GroupRemove {
                queue,
                group,
                reply,
            } => {
                let removed = self.shard.remove_group(now, &queue, &group);
                self.commit()?;
                let _ = reply.send(removed);
            }
            Command::Stop => {}
        }
        Ok(0)
    }

    /// What was done is done, but a crash may undo it while the disk is full.
    fn if_durable<T>(&self, name: &str, done: Result<T, ManageError>) -> Result<T, ManageError> {
        match done {
            Ok(_) if self.is_blocked => Err(ManageError::NotDurable(name.into())),
            done => done,
        }
    }

    /// Gives the slab bytes that are in the pending group now, and whether something was taken.
    fn publish(
        &mut self,
        mut batch: Batch,
        reply: Arc<dyn PublishReply>,
    ) -> Result<(u64, bool), CommitError> {
        let outer = batch.ticket;
        let refuse = |code, text| {
            reply.settled(Settled {
                ticket: outer,
                result: Err((code, text)),
                places: Vec::new(),
            })
        };
        if let Some(text) = self.disk.refusal() {
            self.shard.refused(&batch, Code::DiskFull);
            refuse(Code::DiskFull, text);
            return Ok((0, false));
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        batch.ticket = ticket;
        let bytes = batch
            .parts
            .iter()
            .map(|part| part.slab.bytes().len() as u64)
            .sum();
        let mut result = self.shard.publish(self.clock.now(), &batch);
        if let Err(PublishError::NoRoom(_)) = result {
            self.make_room()?;
            result = self.shard.publish(self.clock.now(), &batch);
        }
        let is_taken = result.is_ok();
        match result {
            Ok(()) => drop(self.publishers.insert(ticket, (outer, reply))),
            Err(error) => {
                self.shard.refused(&batch, error.code());
                refuse(error.code(), error.to_string());
            }
        }
        Ok((bytes, is_taken))
    }

    /// The log is full: commits, then does its work here and now until there is room.
    fn make_room(&mut self) -> Result<(), CommitError> {
        self.commit()?;
        for _ in 0..64 {
            if self.shard.log_mut().has_room_for(GROUP_BYTES) {
                return Ok(());
            }
            self.shard.write_snapshots();
            self.commit()?;
            let done = if self.is_job_out {
                self.jobs_done.recv().ok()
            } else {
                self.shard.log_mut().next_job().map(|job| job.run(&RealVfs))
            };
            let Some(done) = done else { return Ok(()) };
            if !self.finish_job(done)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        if self.shard.is_ahead() {
            self.shard.deliver(self.clock.now());
            self.dispatch();
        }
        let before = std::time::Instant::now();
        let mut committed = self.shard.commit(self.clock.now());
        // With the room that is kept for this, what frees space goes on.
        if matches!(committed, Err(CommitError::NoSpace(_))) && self.disk.give_up() {
            self.disk.tell(&self.alarms);
            committed = self.shard.commit(self.clock.now());
        }
        match committed {
            Ok(()) => {
                self.count_commit(before.elapsed());
                if std::mem::take(&mut self.is_blocked) {
                    self.alarms.clear(AlarmKind::DiskFull, "log");
                }
            }
            Err(CommitError::NoSpace(error)) => {
                self.alarms.raise(
                    AlarmKind::DiskFull,
                    "log",
                    format!("the log cannot grow: {error}; publishers wait"),
                    wall_ms(),
                );
                self.is_blocked = true;
                self.job_not_before = self.clock.mono_ms() + JOB_RETRY.as_millis() as u64;
                // What is stored goes on to its consumers.
                self.shard.deliver(self.clock.now());
            }
            Err(error) => return Err(error),
        }
        self.is_proven = false;
        self.dispatch();
        Ok(())
    }

    fn count_commit(&mut self, took: Duration) {
        let counters = self.shard.counters();
        let before = std::mem::replace(&mut self.counted, counters);
        if counters.groups > before.groups {
            let messages = counters.appended - before.appended;
            self.metrics
                .wal
                .committed(messages, counters.group_bytes - before.group_bytes, took);
        }
        self.metrics
            .deliver
            .delivered
            .add(counters.delivered - before.delivered);
        self.metrics
            .deliver
            .bytes
            .add(counters.delivered_bytes - before.delivered_bytes);
        self.metrics
            .deliver
            .acked
            .add(counters.acked - before.acked);
        self.metrics
            .deliver
            .redelivered
            .add(counters.redelivered - before.redelivered);
        self.metrics
            .deliver
            .stale
            .add(counters.stale.saturating_sub(before.stale));
        let gone = &self.metrics.deliver;
        gone.expired.add(counters.expired - before.expired);
        gone.aged.add(counters.aged - before.aged);
        gone.replaced.add(counters.replaced - before.replaced);
        self.metrics
            .publish
            .dead_lettered
            .add(counters.dead_lettered - before.dead_lettered);
        self.metrics
            .cache_bytes
            .set(self.shard.cached_bytes() as u64);
    }

    /// Hands out what the shard says.
    fn dispatch(&mut self) {
        for output in self.shard.take_outputs() {
            match output {
                Output::Accepted(Accepted {
                    ticket,
                    level,
                    exceptions,
                    places,
                }) => {
                    if let Some((ticket, reply)) = self.publishers.remove(&ticket) {
                        reply.settled(Settled {
                            ticket,
                            result: Ok((level, exceptions)),
                            places,
                        });
                    }
                }
                Output::Deliver { consumer, deliver } => {
                    if let Some(mailbox) = self.consumers.get(&consumer) {
                        mailbox.push(ConsumerEvent::Deliver(deliver));
                    }
                }
                Output::ConsumerClosed {
                    consumer,
                    code,
                    text,
                } => {
                    if let Some(mailbox) = self.consumers.remove(&consumer) {
                        mailbox.push(ConsumerEvent::Closed(code, text));
                    }
                }
                Output::Detached { consumer } => {
                    if let Some(mailbox) = self.consumers.remove(&consumer) {
                        mailbox.push(ConsumerEvent::Detached);
                    }
                }
                Output::Receipts {
                    session, receipts, ..
                } => {
                    if let Some(reply) = self.receipts.get(&session) {
                        reply.receipts(receipts);
                    }
                }
                Output::Dropped { queue, messages } => self.dropped(queue, messages),
                Output::Alarm { queue, text } => {
                    self.alarms
                        .raise(AlarmKind::QuarantinedData, &queue, text, wall_ms());
                }
            }
        }
    }

    /// A queue let go of messages at its limit: an alarm, until that has not happened for a while.
    fn dropped(&mut self, queue: String, messages: u64) {
        let text = format!(
            "{messages} messages that a group had not acked made room at the queue's limit since the node started"
        );
        self.alarms
            .raise(AlarmKind::QueueDropping, &queue, text, wall_ms());
        let until = self.clock.mono_ms() + DROPPING_MS;
        self.dropping.insert(queue, until);
    }

    fn end_dropping(&mut self, now: u64) {
        let alarms = &self.alarms;
        self.dropping.retain(|queue, until| {
            let lasts = *until > now;
            if !lasts {
                alarms.clear(AlarmKind::QueueDropping, queue);
            }
            lasts
        });
    }

    fn run_jobs(&mut self) -> Result<(), CommitError> {
        while let Ok(done) = self.jobs_done.try_recv() {
            self.finish_job(done)?;
        }
        self.backups.poll(self.shard.log_mut());
        if self.is_job_out || self.clock.mono_ms() < self.job_not_before {
            return Ok(());
        }
        if let Some(job) = self.shard.log_mut().next_job() {
            self.is_job_out = self.jobs.send(job).is_ok();
            return Ok(());
        }
        // What could not be done need not be done any more.
        if std::mem::take(&mut self.is_job_stuck) && !self.is_blocked {
            self.alarms.clear(AlarmKind::DiskFull, "log");
        }
        let now = self.clock.mono_ms();
        if now >= self.snapshots_not_before {
            self.snapshots_not_before = now + SNAPSHOT_CHECK_MS;
            self.shard.write_snapshots();
        }
        Ok(())
    }

    /// Says whether the job did its work.
    fn finish_job(&mut self, done: JobDone<RealVfs>) -> Result<bool, CommitError> {
        self.is_job_out = false;
        match self.shard.log_mut().finish_job(done) {
            Ok(report) => {
                tracing::debug!(kind = report.kind, "log job done");
                if let Some(linked) = report.backup {
                    self.backups.linked(linked);
                }
                for damage in report.damage {
                    let text = format!("{damage:?}");
                    self.alarms
                        .raise(AlarmKind::QuarantinedData, "log", text, wall_ms());
                }
                self.is_job_stuck = false;
                self.alarms.clear(AlarmKind::DiskFull, "log");
                Ok(true)
            }
            Err(JobError::Poisoned(why)) => Err(CommitError::Poisoned(why)),
            // Offered again at once: there is room now.
            Err(JobError::NoSpace(_)) if self.disk.give_up() => {
                self.disk.tell(&self.alarms);
                Ok(true)
            }
            Err(error) => {
                self.alarms.raise(
                    AlarmKind::DiskFull,
                    "log",
                    format!("the log's work cannot go on: {error}"),
                    wall_ms(),
                );
                self.is_job_stuck = true;
                self.job_not_before = self.clock.mono_ms() + JOB_RETRY.as_millis() as u64;
                Ok(false)
            }
        }
    }

    fn prove_when_idle(&mut self, now: u64) -> Result<(), CommitError> {
        let is_idle = now.saturating_sub(self.last_work) >= IDLE_SYNC.as_millis() as u64;
        if self.is_proven || !is_idle || self.shard.log_mut().pending_bytes() > 0 {
            return Ok(());
        }
        self.is_proven = true;
        match self.shard.log_mut().idle_sync(self.clock.now().wall_ms) {
            Ok(()) | Err(CommitError::NoSpace(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A queue's identity: random, never 0.
pub(crate) fn new_incarnation() -> Incarnation {
    let random = crate::random_u64() | 1;
    match Incarnation::new(random) {
        Some(incarnation) => incarnation,
        None => unreachable!("an odd number is not 0"),
    }
}
