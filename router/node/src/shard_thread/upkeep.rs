//! What the thread does beside commands: the log's work, counters, alarms that end by themselves.

use std::time::Duration;

use waypost_log::{CommitError, JobDone, JobError, RealVfs};

use crate::alarms::AlarmKind;
use crate::clock::wall_ms;

use super::{DROPPING_MS, GROUP_BYTES, IDLE_SYNC, JOB_RETRY, SNAPSHOT_CHECK_MS, Thread};

impl Thread {
    /// The log is full: commits, then does its work here and now until there is room.
    pub(super) fn make_room(&mut self) -> Result<(), CommitError> {
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

    pub(super) fn count_commit(&mut self, took: Duration) {
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

    /// A queue let go of messages at its limit: an alarm, until that has not happened for a while.
    pub(super) fn dropped(&mut self, queue: String, messages: u64) {
        let text = format!(
            "{messages} messages that a group had not acked made room at the queue's limit since the node started"
        );
        self.alarms
            .raise(AlarmKind::QueueDropping, &queue, text, wall_ms());
        let until = self.clock.mono_ms() + DROPPING_MS;
        self.dropping.insert(queue, until);
    }

    pub(super) fn end_dropping(&mut self, now: u64) {
        let alarms = &self.alarms;
        self.dropping.retain(|queue, until| {
            let lasts = *until > now;
            if !lasts {
                alarms.clear(AlarmKind::QueueDropping, queue);
            }
            lasts
        });
    }

    pub(super) fn run_jobs(&mut self) -> Result<(), CommitError> {
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
    pub(super) fn finish_job(&mut self, done: JobDone<RealVfs>) -> Result<bool, CommitError> {
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

    pub(super) fn prove_when_idle(&mut self, now: u64) -> Result<(), CommitError> {
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
