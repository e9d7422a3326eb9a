//! The end of a run: without further faults every queue is emptied by consumers that ack all they
//! get, and the space must come back.

use waypost_shard::Start;

use crate::invariants::{Violation, progress};
use crate::world::{Faults, World};

/// Rounds after which everything must be empty.
const ROUNDS_MAX: u32 = 400;

impl World {
    pub(crate) fn drain(&mut self) -> Result<(), Violation> {
        self.disk.clear_fault();
        // What a fault caused is told before there are none.
        self.take_outputs()?;
        self.plan.faults = Faults::None;
        // A job that ran into a fault may only tell it now.
        self.finish_job()?;
        self.is_suspect = true;
        self.check_up()?;
        // A sync that failed in the last step may have ended the log with nobody told.
        self.commit()?;
        self.check_up()?;
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        for consumer in ids {
            self.detach_one(consumer)?;
        }
        self.tidy()?;
        for name in self.model.names() {
            self.attach_drain(&name)?;
            self.empty_log(&name)?;
        }
        for _ in 0..ROUNDS_MAX {
            self.drain_round()?;
            if self.shard.queues().iter().all(|q| q.messages == 0) {
                self.tidy()?;
                return self.look_at_the_end();
            }
        }
        Err(progress::stuck(format!(
            "queues do not empty: {:?}",
            self.shard.queues()
        )))
    }

    /// One consumer for each group of a queue, and a group where there is none.
    fn attach_drain(&mut self, name: &str) -> Result<(), Violation> {
        let groups = self.shard.queue(name).map(|v| v.groups).unwrap_or_default();
        let mut names: Vec<String> = groups.into_iter().map(|g| g.name).collect();
        if names.is_empty() {
            names.push("drain".to_owned());
        }
        for group in names {
            let _ = self.attach_to(name, &group, Start::Beginning, None)?;
        }
        Ok(())
    }

    fn drain_round(&mut self) -> Result<(), Violation> {
        let ids: Vec<u64> = self.consumers.keys().copied().collect();
        for consumer in ids {
            self.credit(consumer, 50, 100_000);
            self.written(consumer)?;
            let Some(state) = self.consumers.get(&consumer) else {
                continue;
            };
            let (life, group) = (state.life, state.group.clone());
            let held = self.held(life, &group, consumer);
            if !held.is_empty() {
                self.ack_offsets(consumer, life, &group, &held)?;
            }
        }
        self.commit()?;
        self.move_clock(300)?;
        self.deliver()
    }

    /// Commits, answers every wanted snapshot and runs every job.
    pub(crate) fn tidy(&mut self) -> Result<(), Violation> {
        for _ in 0..ROUNDS_MAX {
            self.commit()?;
            self.snapshots()?;
            self.commit()?;
            self.finish_job()?;
            if !self.take_job() && self.shard.log_mut().wants_snapshots().is_empty() {
                return Ok(());
            }
        }
        Err(progress::stuck("jobs do not come to an end"))
    }

    fn look_at_the_end(&mut self) -> Result<(), Violation> {
        for queue in self.model.queues.values() {
            let left = queue.entries.iter().find(|(_, e)| e.is_confirmed);
            if let Some(left) = left {
                return Err(Violation::new(
                    "nothing_lost",
                    format!("queue '{}' says that it is empty, but {left:?}", queue.name),
                ));
            }
        }
        self.look_at_space()
    }
}
