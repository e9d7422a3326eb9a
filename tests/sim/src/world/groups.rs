//! Groups are moved and removed while their consumers are at work, on a disk that may fail. After a
//! crash the log on the disk says whether that was synced, and the shard must say the same.

use waypost_core::journal::Entry;
use waypost_log::format::entry::EntryKind;
use waypost_shard::Start;

use crate::invariants::Violation;
use crate::model::{GroupChange, GroupModel, Life};
use crate::world::World;

impl World {
    /// One of the groups of a queue.
    fn some_group(&mut self, name: &str) -> Option<String> {
        let life = self.model.live(name)?;
        let groups = &self.model.queues.get(&life)?.groups;
        let names: Vec<String> = groups.keys().cloned().collect();
        self.dice.pick(&names).cloned()
    }

    /// Commits, so that what was let go of before is judged by the groups that there were. Gives
    /// where the log ends, or nothing if that failed.
    fn before_a_change(&mut self) -> Result<Option<u64>, Violation> {
        self.commit()?;
        if self.is_suspect {
            return Ok(None);
        }
        let mut end = 0;
        self.entries_on_disk(None, 0..u64::MAX, &mut |shown| {
            end = end.max(shown.position.map_or(0, |p| p.0));
        })?;
        Ok(Some(end))
    }

    /// Sometimes more comes before the next sync.
    fn after_a_change(&mut self) -> Result<(), Violation> {
        match self.dice.once_in(3) {
            true => self.commit(),
            false => Ok(()),
        }
    }

    /// Moves a group: what its consumers hold is theirs no more, and all from there on comes.
    pub(crate) fn seek_group(&mut self, name: &str) -> Result<(), Violation> {
        let (Some(life), Some(group)) = (self.model.live(name), self.some_group(name)) else {
            return Ok(());
        };
        let to = match self.dice.below(4) {
            0 => Start::Beginning,
            1 => Start::End,
            2 => Start::Time(self.now().wall_ms - self.dice.below(100_000)),
            _ => Start::Offset(self.dice.below(300)),
        };
        let Some(log_end) = self.before_a_change()? else {
            return Ok(());
        };
        let now = self.now();
        let floor = match self.shard.seek_group(now, name, &group, to) {
            Ok(floor) => floor,
            Err(error) => return self.manage_failed("seek", &error),
        };
        self.tally.seeks += 1;
        self.trace
            .line(format!("seek {name}/{group} to {to:?}: {floor}"));
        self.note_change(life, &group, log_end, |before| {
            Some(GroupModel::moved(floor, before))
        });
        self.after_a_change()
    }

    /// Removes a group; its consumers are closed.
    pub(crate) fn remove_group(&mut self, name: &str) -> Result<(), Violation> {
        let (Some(life), Some(group)) = (self.model.live(name), self.some_group(name)) else {
            return Ok(());
        };
        let Some(log_end) = self.before_a_change()? else {
            return Ok(());
        };
        let now = self.now();
        if let Err(error) = self.shard.remove_group(now, name, &group) {
            return self.manage_failed("remove group", &error);
        }
        self.tally.groups_removed += 1;
        self.trace.line(format!("remove {name}/{group}"));
        self.note_change(life, &group, log_end, |_| None);
        self.take_outputs()?;
        let left = self.consumers.values();
        let left = left.filter(|c| c.life == life && c.group == group).count();
        Violation::unless(left == 0, "progress", || {
            format!("{left} consumers of {name}/{group} are open after its removal")
        })?;
        self.after_a_change()
    }

    fn note_change(
        &mut self,
        life: Life,
        group: &str,
        log_end: u64,
        after: impl FnOnce(&GroupModel) -> Option<GroupModel>,
    ) {
        let Some(queue) = self.model.queues.get_mut(&life) else {
            return;
        };
        let Some(before) = queue.groups.remove(group) else {
            return;
        };
        if let Some(after) = after(&before) {
            queue.groups.insert(group.to_owned(), after);
        }
        queue.moved_groups.insert(group.to_owned());
        queue.change = queue.is_durable.then(|| GroupChange {
            group: group.to_owned(),
            before,
            log_end,
        });
    }

    /// Whether a group's removal waits for a sync: one of its name is made after that.
    pub(crate) fn is_changing(&self, life: Life, group: &str) -> bool {
        let queue = self.model.queues.get(&life);
        queue.is_some_and(|q| q.change.as_ref().is_some_and(|c| c.group == group))
    }

    /// After a crash: whether the change of a group is on the disk, by itself or in a snapshot.
    pub(crate) fn is_change_on_disk(&self, life: Life, log_end: u64) -> Result<bool, Violation> {
        let mut is_there = false;
        self.entries_on_disk(Some(life), 0..u64::MAX, &mut |shown| {
            if shown.position.is_none_or(|p| p.0 <= log_end) {
                return;
            }
            is_there |= match shown.header.kind {
                EntryKind::Snapshot => true,
                EntryKind::State => matches!(
                    Entry::decode(shown.payload),
                    Ok(Entry::GroupMoved { .. } | Entry::GroupRemoved { .. })
                ),
                _ => false,
            };
        })?;
        Ok(is_there)
    }
}
