//! The process ends, and another opens what is left: what it finds is held against the model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use waypost_core::queue::{DeliverWhen, Durability};
use waypost_log::mem::{Fault, MemVfs};
use waypost_log::{DataDir, Log, OpenError, Recovered};
use waypost_shard::{Opened, QueueView, Shard};

use crate::dice::Dice;
use crate::invariants::{
    Violation, append_order, groups_stay, nothing_lost, offsets, progress, quiet_recovery,
    settings_stay,
};
use crate::message::identify;
use crate::model::{Content, GroupModel, Life};
use crate::trace::Trace;
use crate::world::disk::is_off;
use crate::world::{DATA, Faults, Tally, WALL_MS, World, log_options, shard_options};

/// A process that has begun.
pub(crate) struct Begun {
    pub disk: MemVfs,
    pub held: DataDir<MemVfs>,
    pub shard: Opened<MemVfs>,
}

/// Opens the data directory and its shard, and again when the opening itself meets a fault.
pub(crate) fn open(
    mut disk: MemVfs,
    dice: &mut Dice,
    trace: &mut Trace,
    tally: &mut Tally,
    faults: Faults,
) -> Result<Begun, Violation> {
    for round in 0..6 {
        if faults != Faults::None && round < 4 && dice.once_in(3) {
            let nth = dice.below(100);
            let fault = match faults {
                Faults::Disk if dice.once_in(2) => Fault::Io,
                Faults::Disk if dice.once_in(4) => Fault::NoSpace,
                _ => Fault::PowerOff,
            };
            trace.line(format!("while opening: {fault:?} at call {nth}"));
            disk.fail_at(nth, fault);
        }
        let error = match open_once(&disk, dice.seed()) {
            Ok((held, log, recovered)) => {
                disk.clear_fault();
                trace.line(format!(
                    "opened: {} queues, {} groups, {} torn",
                    recovered.queues.len(),
                    recovered.report.groups,
                    recovered.report.torn.len()
                ));
                let shard = Shard::open(log, recovered, shard_options());
                return Ok(Begun { disk, held, shard });
            }
            Err(error) => error,
        };
        trace.line(format!("opening failed: {error}"));
        let is_off = is_off(&disk);
        tally.calls += disk.calls();
        disk.clear_fault();
        disk = match is_off {
            true => disk.crash(dice.seed()),
            false => disk.kill(),
        };
    }
    Err(progress::stuck(
        "the shard does not open on a disk that works",
    ))
}

type Held = (DataDir<MemVfs>, Log<MemVfs>, Recovered);

fn open_once(disk: &MemVfs, nonce: u64) -> Result<Held, OpenError> {
    let held = DataDir::open(disk, Path::new(DATA))?;
    let (log, recovered) = Log::open(
        disk.clone(),
        &held.shard_dir(0),
        log_options(nonce),
        WALL_MS,
    )?;
    Ok((held, log, recovered))
}

/// What a peek through a whole queue showed.
struct Found {
    view: QueueView,
    readable: BTreeSet<u64>,
}

impl World {
    /// Ends the process, with the machine or alone, and opens the shard again.
    pub(crate) fn restart(&mut self, is_power_loss: bool) -> Result<(), Violation> {
        self.tally.restarts += 1;
        let what = match is_power_loss {
            true => "POWER LOSS",
            false => "KILLED",
        };
        self.trace.line(what.to_owned());
        self.tally.calls += self.disk.calls();
        self.consumers.clear();
        self.job = None;
        self.job_done = None;
        self.is_suspect = false;
        self.is_poisoned = false;
        // A clock of deadlines begins with its process.
        self.now_ms = self.dice.between(1000, 5000);
        self.model.crashed();
        let disk = match is_power_loss {
            true => self.disk.crash(self.dice.seed()),
            false => self.disk.kill(),
        };
        let faults = self.plan.faults;
        let (dice, trace) = (&mut self.dice, &mut self.trace);
        let begun = open(disk, dice, trace, &mut self.tally, faults)?;
        self.disk = begun.disk;
        self.held = begun.held;
        let opened = begun.shard;
        self.shard = opened.shard;
        match self.model.is_rotten {
            true => self.told.extend(opened.alarms),
            false => quiet_recovery::check(&opened.alarms)?,
        }
        self.resolve()?;
        self.restore_queues()
    }

    /// Ends the process, changes synced bytes, and opens the shard on what is left. A loss must
    /// be told.
    pub(crate) fn rot(&mut self, change: impl FnOnce(&MemVfs) -> u64) -> Result<(), Violation> {
        self.model.is_rotten = true;
        let disk = self.disk.kill();
        let flips = change(&disk);
        self.disk = disk;
        self.trace.line(format!("{flips} bits flipped"));
        self.told.clear();
        self.restart(false)?;
        // What only a read could find is told by the read.
        self.take_outputs()?;
        let is_told = !self.told.is_empty();
        match self.lost.pop() {
            Some(lost) if !is_told => Err(Violation::new(
                "nothing_lost",
                format!("{lost}, and nobody was told"),
            )),
            _ => Ok(()),
        }
    }

    /// Holds everything that was found against what is known.
    pub(crate) fn resolve(&mut self) -> Result<(), Violation> {
        let mut found = BTreeMap::new();
        for view in self.shard.queues() {
            let Some(life) = view.incarnation.map(|i| i.get()) else {
                continue;
            };
            if let Some(queue) = self.model.maybe.remove(&life) {
                self.model.queues.insert(life, queue);
            }
            if let Some(queue) = self.model.returned(life) {
                let what = format!("queue '{}' was removed and is back", queue.name);
                self.lost.push(what);
            }
            if !self.model.queues.contains_key(&life) {
                let what = format!("queue '{}' ({life:x}) was never made", view.name);
                return Err(Violation::new("nothing_foreign", what));
            }
            let readable = self.read_all(life, &view)?;
            found.insert(life, Found { view, readable });
        }
        self.model.maybe.clear();
        let (mut is_there, mut is_gone) = (BTreeMap::new(), BTreeMap::new());
        for (life, queue) in std::mem::take(&mut self.model.queues) {
            let Some(seen) = found.remove(&life) else {
                // Its removal was asked for: it may have been synced.
                let missing = nothing_lost::missing("queue", &queue.name);
                match queue.is_leaving {
                    true => continue,
                    false if self.model.is_rotten => {
                        self.lost.push(missing.to_string());
                        continue;
                    }
                    false => return Err(missing),
                }
            };
            self.model.queues.insert(life, queue);
            self.resolve_queue(life, &seen, &mut is_there, &mut is_gone)?;
        }
        self.model.resolve_redriven(&is_there, &is_gone)?;
        self.model.resolve_waiting(&is_there)
    }

    /// Peeks through a queue; what is shown must be what stands there.
    fn read_all(&mut self, life: Life, view: &QueueView) -> Result<BTreeSet<u64>, Violation> {
        let mut readable = BTreeSet::new();
        let mut from = view.first_offset;
        while from < view.next_offset {
            let (peeked, next) = self
                .shard
                .peek(&view.name, from, 100)
                .map_err(|e| progress::stuck(e.to_string()))?;
            for message in peeked {
                readable.insert(message.offset);
                let found = identify(&message.body);
                let queue = self.model.queues.get(&life);
                let is_released = queue.is_some_and(|q| message.offset < q.released_below);
                // What was done with may be found again as long as nobody gets it.
                if !is_released {
                    self.served(life, message.offset, &found)?;
                }
            }
            if next <= from {
                return match self.model.is_rotten {
                    true => Ok(readable),
                    false => Err(progress::stuck(format!(
                        "queue '{}' cannot be read at offset {from}",
                        view.name
                    ))),
                };
            }
            from = next;
        }
        Ok(readable)
    }

    fn resolve_queue(
        &mut self,
        life: Life,
        seen: &Found,
        is_there: &mut BTreeMap<(Life, u64), bool>,
        is_gone: &mut BTreeMap<(Life, u64), bool>,
    ) -> Result<(), Violation> {
        if self.model.is_rotten {
            self.resolve_rotten(life, seen);
            return Ok(());
        }
        self.resolve_groups(life, &seen.view)?;
        // A group may have let go of them in the set of the log in which they came.
        if let Some(queue) = self.model.queues.get(&life)
            && queue.is_dead_letters
            && let mut below = queue.entries.range(..seen.view.first_offset)
            && let Some((first, _)) = below.find(|(_, e)| e.content == Content::Dead(None))
        {
            self.learn_from_disk(life, *first..seen.view.first_offset)?;
        }
        let Some(queue) = self.model.queues.get_mut(&life) else {
            return Ok(());
        };
        let (view, readable) = (&seen.view, &seen.readable);
        queue.is_leaving = false;
        offsets::recovered(queue, view.next_offset)?;
        nothing_lost::recovered(queue, view.first_offset, readable)?;
        nothing_lost::let_go(queue, view.first_offset)?;
        settings_stay::recovered(queue, &view.settings)?;
        queue.settings = view.settings.clone();
        queue.maybe_settings.clear();
        queue.resolve_purge(view.first_offset);
        let span = (view.first_offset, view.next_offset);
        let gone = queue.resolve_taken_out(span, readable);
        is_gone.extend(
            gone.into_iter()
                .map(|(offset, gone)| ((life, offset), gone)),
        );
        let unconfirmed: Vec<(u64, bool)> = queue
            .entries
            .iter()
            .filter(|(_, e)| !e.is_confirmed)
            .map(|(offset, _)| (*offset, readable.contains(offset)))
            .collect();
        let mut known = Vec::new();
        for (offset, there) in unconfirmed {
            // What lies below the first may have been there, and purged.
            if offset < view.first_offset {
                queue.entries.remove(&offset);
                continue;
            }
            // One that was taken out and is not there may never have been.
            if queue.removed.contains(&offset) {
                queue.confirm(offset);
                continue;
            }
            known.push((offset, there));
            is_there.insert((life, offset), there);
            match there {
                true => queue.confirm(offset),
                false => drop(queue.entries.remove(&offset)),
            }
        }
        append_order::recovered(&queue.name, &known)
    }

    /// After rot the shard's word is taken for what is left; what is missing must have been told.
    fn resolve_rotten(&mut self, life: Life, seen: &Found) {
        let Some(queue) = self.model.queues.get_mut(&life) else {
            return;
        };
        let (view, readable) = (&seen.view, &seen.readable);
        let lost = [
            nothing_lost::recovered(queue, view.first_offset, readable),
            nothing_lost::let_go(queue, view.first_offset),
        ];
        let lost = lost.into_iter().filter_map(Result::err);
        self.lost
            .extend(lost.map(|violation| violation.to_string()));
        // A loss is told once.
        queue.let_go_but(view.first_offset, readable);
        queue.is_leaving = false;
        if queue.name != view.name {
            queue.forget_description(&view.name);
        }
        queue.settings = view.settings.clone();
        queue.change = None;
        queue.removing.clear();
        // With its description it may have lost what it promised.
        queue.is_stored = view.settings.durability == Durability::Sync;
        queue.is_ahead = view.settings.deliver == DeliverWhen::Received;
        queue.released_below = view.first_offset;
        queue.used_below = view.next_offset;
        queue.entries.split_off(&view.next_offset);
        // Acks may be gone with it, but none was added: what had an end may still have it.
        let mut known = std::mem::take(&mut queue.groups);
        for group in &view.groups {
            let mut model = GroupModel::new(group.acked_below, group.options.clone());
            if let Some(known) = known.remove(&group.name) {
                model.start = model.start.max(known.start);
                model.progress = known.progress;
            }
            queue.groups.insert(group.name.clone(), model);
        }
    }

    fn resolve_groups(&mut self, life: Life, view: &QueueView) -> Result<(), Violation> {
        let change = self.model.queues.get(&life).and_then(|q| q.change.as_ref());
        let is_synced = match change.map(|c| c.log_end) {
            Some(log_end) => self.is_change_on_disk(life, log_end)?,
            None => true,
        };
        let Some(queue) = self.model.queues.get_mut(&life) else {
            return Ok(());
        };
        if let Some(change) = &queue.change {
            let (name, is) = (&change.group, if is_synced { "" } else { "not " });
            self.trace
                .line(format!("the change of group '{name}' is {is}on the disk"));
        }
        queue.resolve_change(is_synced);
        groups_stay::recovered(queue, &view.groups)?;
        let mut gone = Vec::new();
        for (name, group) in &mut queue.groups {
            if view.groups.iter().any(|g| g.name == *name) {
                group.is_synced = true;
            } else if group.is_synced {
                return Err(nothing_lost::missing("group", name));
            } else {
                gone.push(name.clone());
            }
        }
        gone.iter().for_each(|name| drop(queue.groups.remove(name)));
        Ok(())
    }
}
