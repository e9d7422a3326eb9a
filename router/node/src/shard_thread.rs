//! The shard's thread: takes what connections ask for, commits, and hands out what follows.
//!
//! A group forms by itself: whatever arrived while the last one was being synced goes on together,
//! and no timer delays a lone message. The log's long work (moving, recycling) runs on a thread of
//! its own beside it.

mod command;
mod upkeep;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use waypost_core::group::ConsumerId;
use waypost_log::{CommitError, Incarnation, Job, JobDone, RealVfs};
use waypost_shard::{Accepted, Batch, Counters, ManageError, Output, PublishError, Shard, Ticket};
use waypost_wire::Code;

use crate::alarms::{AlarmKind, Alarms};
use crate::backup::{BackupError, Backups};
use crate::clock::{Clock, wall_ms};
use crate::disk::Disk;
use crate::mailbox::{Inbox, Mailbox};
use crate::memory::{AtRest, REST};
use crate::metrics::Metrics;
use crate::plugins::Plugins;

pub(crate) use command::{Command, ConsumerEvent, PublishReply, Settled, ShardHandle, Taken};

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
            let mut memory = AtRest::default();
            let mut was_busy = false;
            loop {
                // Once after each spell of work; an idle node is not woken.
                let next = match was_busy {
                    true => jobs_in.recv_timeout(REST),
                    false => jobs_in.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                was_busy = next.is_ok();
                match next {
                    Ok(job) => {
                        if done.send(job.run(&RealVfs)).is_err() {
                            return;
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => memory.give_back(),
                    Err(RecvTimeoutError::Disconnected) => return,
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
}

/// A queue's identity: random, never 0.
pub(crate) fn new_incarnation() -> Incarnation {
    let random = crate::random_u64() | 1;
    match Incarnation::new(random) {
        Some(incarnation) => incarnation,
        None => unreachable!("an odd number is not 0"),
    }
}
