//! Queues come, are emptied and go; time passes; the log's jobs are taken, run and finished, each
//! whenever it happens.

use waypost_core::DEAD_LETTER;
use waypost_log::{CommitError, Incarnation, JobError, QueueError};
use waypost_shard::ManageError;

use crate::invariants::{Violation, progress};
use crate::message::Place;
use crate::model::{End, QueueModel};
use crate::world::{World, keeping};

/// Queues that a run may have besides the dead letters, and whether each is durable.
const QUEUES: [(&str, bool); 12] = [
    ("a", true),
    ("b", true),
    ("c", true),
    ("d", true),
    ("m", false),
    ("last", true),
    ("last-m", false),
    ("log", true),
    ("moves", true),
    ("soon", true),
    ("ahead", true),
    ("both", true),
];

impl World {
    /// Makes the queues that the run begins with, or that a restart took away.
    pub(crate) fn restore_queues(&mut self) -> Result<(), Violation> {
        let names =
            ["a", "b", "last", "log", "moves", "soon", "ahead", "both"].map(|name| (name, true));
        for (name, is_durable) in [(DEAD_LETTER, true), ("m", false)].into_iter().chain(names) {
            for round in 0.. {
                if self.model.live(name).is_some() {
                    break;
                }
                if round == 40 {
                    return Err(progress::stuck(format!("queue '{name}' cannot be made")));
                }
                self.create(name, is_durable)?;
                self.check_up()?;
            }
        }
        let view = self.shard.queue(DEAD_LETTER);
        self.dead_next = view.map_or(0, |v| v.next_offset);
        Ok(())
    }

    pub(crate) fn manage(&mut self) -> Result<(), Violation> {
        let Some((name, is_durable)) = self.dice.pick(&QUEUES).copied() else {
            return Ok(());
        };
        if self.dice.once_in(4) {
            return self.manage_dead_letters();
        }
        match (self.model.live(name).is_some(), self.dice.below(16)) {
            (false, _) => self.create(name, is_durable),
            (true, 0 | 1) => self.remove(name),
            (true, 2..=5) => self.seek_group(name),
            (true, 6 | 7) => self.remove_group(name),
            (true, 8 | 9) => self.change_settings(name),
            (true, 10 | 11) => self.replay(name),
            (true, 12) => self.browse(name),
            (true, 13) => self.take_out(name),
            (true, _) => self.purge(name),
        }
    }

    /// What an operator does with dead letters.
    fn manage_dead_letters(&mut self) -> Result<(), Violation> {
        match self.dice.below(8) {
            0 => self.purge(DEAD_LETTER),
            1 => self.browse(DEAD_LETTER),
            2 => self.take_out(DEAD_LETTER),
            3 => self.seek_group(DEAD_LETTER),
            _ => self.redrive(),
        }
    }

    /// Notes that something asked of the shard failed.
    pub(crate) fn manage_failed(
        &mut self,
        what: &str,
        error: &ManageError,
    ) -> Result<(), Violation> {
        self.is_poisoned |= matches!(
            error,
            ManageError::Log(QueueError::Poisoned(_))
                | ManageError::Commit(CommitError::Poisoned(_))
        );
        self.failed(what, error)
    }

    fn create(&mut self, name: &str, is_durable: bool) -> Result<(), Violation> {
        let life = self.dice.seed() | 1;
        let Some(incarnation) = Incarnation::new(life) else {
            return Ok(());
        };
        let settings = keeping::settings_of(name, is_durable);
        let model = QueueModel::new(name, settings.clone());
        self.trace.line(format!("create '{name}' {life:x}"));
        match self.shard.ensure_queue(name, settings, incarnation, "node") {
            Ok(()) => {
                self.model.queues.insert(life, model);
                Ok(())
            }
            Err(error) => {
                self.model.maybe.insert(life, model);
                self.manage_failed("create", &error)
            }
        }
    }

    fn remove(&mut self, name: &str) -> Result<(), Violation> {
        let Some(life) = self.model.live(name) else {
            return Ok(());
        };
        match self.shard.remove_queue(name) {
            Ok(messages) => {
                self.trace
                    .line(format!("remove '{name}', {messages} messages"));
                if let Some(queue) = self.model.queues.get_mut(&life) {
                    queue.is_leaving = true;
                    if !queue.is_durable {
                        self.model.queues.remove(&life);
                    }
                }
                self.take_outputs()?;
                // Sometimes its namesake comes before anything is synced.
                if self.dice.once_in(2) {
                    return self.create(name, true);
                }
                Ok(())
            }
            Err(error) => self.failed("remove", &error),
        }
    }

    pub(crate) fn purge(&mut self, name: &str) -> Result<(), Violation> {
        let now = self.now();
        match self.shard.purge_queue(now, name) {
            Ok(messages) => {
                self.trace
                    .line(format!("purge '{name}', {messages} messages"));
                let next = self.shard.queue(name).map_or(0, |v| v.next_offset);
                if let Some(life) = self.model.live(name)
                    && let Some(queue) = self.model.queues.get_mut(&life)
                {
                    queue.purge(next);
                }
                Ok(())
            }
            Err(error) => self.failed("purge", &error),
        }
    }

    /// The wall clock is set, by minutes or by days; the other clock runs on. Nothing of what a
    /// consumer, a group or a lease is owed may change.
    pub(crate) fn set_wall_clock(&mut self) {
        let far = [60_000, 3_600_000, 72 * 3_600_000];
        let far = *self.dice.pick(&far).unwrap_or(&60_000);
        let by = self.dice.between(1, far);
        self.tally.jumps += 1;
        match self.dice.once_in(2) {
            true => self.wall_ms += by,
            false => self.wall_ms -= by,
        }
        self.trace
            .line(format!("the wall clock says {}", self.wall_ms));
    }

    /// The clock moves: a little, or to the next thing that is due.
    pub(crate) fn pass_time(&mut self) -> Result<(), Violation> {
        let step = match self.dice.below(6) {
            0 => self.dice.between(500, 2500),
            1 => {
                let due = self.shard.next_timeout().unwrap_or(0);
                due.saturating_sub(self.now_ms)
            }
            _ => self.dice.below(50),
        };
        self.move_clock(step)
    }

    pub(crate) fn move_clock(&mut self, step_ms: u64) -> Result<(), Violation> {
        self.now_ms += step_ms;
        self.wall_ms += step_ms;
        let now_ms = self.now_ms;
        let mut expired = Vec::new();
        for (life, queue) in &self.model.queues {
            if queue.is_leaving {
                continue;
            }
            for (group, model) in &queue.groups {
                for (offset, consumer) in model.expired(now_ms) {
                    expired.push((*life, group.clone(), consumer, offset));
                }
            }
        }
        self.trace
            .line(format!("now {now_ms} ms, {} expired", expired.len()));
        for (life, group, consumer, offset) in expired {
            self.fail(life, &group, consumer, offset, None);
        }
        let now = self.now();
        self.shard.on_time(now);
        self.note_dead_letters()
    }

    /// An attempt failed: the message comes again, or is spent.
    pub(crate) fn fail(
        &mut self,
        life: u64,
        group: &str,
        consumer: u64,
        offset: u64,
        due: Option<u64>,
    ) {
        let Some(queue) = self.model.queues.get_mut(&life) else {
            return;
        };
        let deliver_max = queue.settings.deliver_max;
        let due = (due, self.now_ms + queue.settings.backoff_ms);
        let is_spent = queue
            .groups
            .get_mut(group)
            .is_some_and(|g| g.fail(consumer, offset, due, deliver_max));
        if is_spent {
            self.spent(life, group, offset);
        }
    }

    /// A message is to be a dead letter; one that is a dead letter already is done with.
    pub(crate) fn spent(&mut self, life: u64, group: &str, offset: u64) {
        let Some(queue) = self.model.queues.get_mut(&life) else {
            return;
        };
        let entry = queue.entries.get(&offset);
        if queue.is_dead_letters {
            let progress = queue
                .groups
                .get_mut(group)
                .and_then(|g| g.progress.get_mut(&offset));
            if let Some(progress) = progress {
                progress.end = Some(End::Acked);
            }
        } else if let Some(tag) = entry.and_then(|e| e.content.tag()) {
            let place = Place {
                queue: queue.name.clone(),
                group: group.to_owned(),
                offset,
            };
            self.model.spent.insert((place, tag));
        }
    }

    /// Takes a job, runs the one that was taken, or finishes the one that ran.
    pub(crate) fn job_moves(&mut self) -> Result<(), Violation> {
        if self.job_done.is_some() {
            return self.finish_job();
        }
        match self.job.take() {
            Some(job) => {
                self.trace.line(format!("run job {}", job.kind()));
                self.job_done = Some(job.run(&self.disk));
                match self.dice.once_in(2) {
                    true => self.finish_job(),
                    false => Ok(()),
                }
            }
            None => {
                self.take_job();
                Ok(())
            }
        }
    }

    /// Takes a job if none is out.
    pub(crate) fn take_job(&mut self) -> bool {
        if self.job.is_none() && self.job_done.is_none() {
            self.job = self.shard.log_mut().next_job();
        }
        self.job.is_some()
    }

    /// Runs and finishes the job that is out.
    pub(crate) fn finish_job(&mut self) -> Result<(), Violation> {
        if let Some(job) = self.job.take() {
            self.trace.line(format!("run job {}", job.kind()));
            self.job_done = Some(job.run(&self.disk));
        }
        let Some(done) = self.job_done.take() else {
            return Ok(());
        };
        match self.shard.log_mut().finish_job(done) {
            Ok(report) => {
                self.tally.jobs += 1;
                self.trace.line(format!("job done: {}", report.kind));
                match report.damage.is_empty() || self.model.is_rotten {
                    true => Ok(()),
                    false => Err(progress::stuck(format!("a move met damage: {report:?}"))),
                }
            }
            Err(error) => {
                self.is_poisoned |= matches!(error, JobError::Poisoned(_));
                self.failed("job", &error)
            }
        }
    }

    pub(crate) fn snapshots(&mut self) -> Result<(), Violation> {
        self.trace.line("snapshots".to_owned());
        self.shard.write_snapshots();
        Ok(())
    }

    /// An idle writer proves that its last group was synced.
    pub(crate) fn idle_sync(&mut self) -> Result<(), Violation> {
        self.commit()?;
        if self.is_suspect {
            return Ok(());
        }
        let now = self.now();
        self.trace.line("idle sync".to_owned());
        match self.shard.log_mut().idle_sync(now.wall_ms) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.is_poisoned |= matches!(error, waypost_log::CommitError::Poisoned(_));
                self.failed("idle sync", &error)
            }
        }
    }
}
