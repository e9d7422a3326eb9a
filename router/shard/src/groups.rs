//! Groups are made, moved and removed by request; and where a place in a queue is.
//!
//! Moving takes back what the group's consumers hold: what they say of it later counts for nothing.
//! Removing closes them.

use waypost_core::group::ConsumerId;
use waypost_core::journal::{GroupKind, GroupOptions};
use waypost_log::Vfs;
use waypost_wire::Code;
use waypost_wire::data::Outcome;

use crate::consumers::{GROUPS_MAX, Start};
use crate::{ManageError, Now, Shard, SlotId};

impl<V: Vfs> Shard<V> {
    /// Makes a group. One that is there with the same options is no error, and stays where it is.
    /// Durable after the next commit.
    pub fn add_group(
        &mut self,
        now: Now,
        queue: &str,
        group: &str,
        start: Start,
        options: GroupOptions,
    ) -> Result<(), ManageError> {
        let id = self.named(queue)?;
        let start = self.place(id, start);
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        if options.kind == GroupKind::Key && slot.queue.settings().priorities > 1 {
            return Err(ManageError::KeyPriorities(queue.into()));
        }
        let groups = slot.queue.groups();
        match groups.get(group) {
            Some(there) if there.options != options => {
                return Err(ManageError::OtherGroup {
                    queue: queue.into(),
                    group: group.to_owned(),
                    kind: there.options.kind,
                });
            }
            Some(_) => return Ok(()),
            None if groups.len() >= GROUPS_MAX => {
                return Err(ManageError::Groups(queue.into(), GROUPS_MAX));
            }
            None => {}
        }
        if let Some(entry) = slot.queue.add_group(group, start, options) {
            self.journal(id, &entry, now);
            // The only group of a queue may begin above what it holds.
            self.moved.insert(id);
        }
        Ok(())
    }

    /// Moves a group: what is below the place is done for it, all from there on comes (again), at
    /// its first attempt. Gives the offset. Durable after the next commit.
    pub fn seek_group(
        &mut self,
        now: Now,
        queue: &str,
        group: &str,
        to: Start,
    ) -> Result<u64, ManageError> {
        let id = self.named(queue)?;
        self.check_group(id, queue, group)?;
        let to = self.place(id, to);
        let receipts = self.receipts_of_left(id, group, to, Outcome::Passed);
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(to);
        };
        let Some(entry) = slot.queue.seek_group(group, to) else {
            return Ok(to);
        };
        let members = slot.members.get_mut(group);
        let consumers: Vec<ConsumerId> = members.map_or_else(Vec::new, |members| {
            members.read_ahead = Vec::new();
            members.consumers.values().copied().collect()
        });
        let mut floor = to;
        if let Some(named) = slot.queue.group_mut(group) {
            consumers.iter().for_each(|c| named.group.join(*c));
            floor = named.group.floor();
        }
        self.holds_nothing(id, Some(group));
        self.journal_with(id, entry, receipts, now);
        self.moved.insert(id);
        self.ready.insert(id);
        self.set_timer(id);
        Ok(floor)
    }

    /// Removes a group; its consumers are closed. Gives how many messages it had not acked.
    /// Durable after the next commit.
    pub fn remove_group(&mut self, now: Now, queue: &str, group: &str) -> Result<u64, ManageError> {
        let id = self.named(queue)?;
        self.check_group(id, queue, group)?;
        let text = format!("group '{group}' of queue '{queue}' was removed");
        self.close_consumers(id, Some(group), Code::Gone, &text);
        let receipts = self.receipts_of_left(id, group, u64::MAX, Outcome::Removed);
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(0);
        };
        slot.members.remove(group);
        let next = slot.queue.next();
        let named = slot.queue.groups().get(group);
        let pending = named.map_or(0, |named| named.group.pending(next));
        if let Some(entry) = slot.queue.remove_group(group) {
            self.journal_with(id, entry, receipts, now);
            // What only this group needed goes.
            self.moved.insert(id);
        }
        self.set_timer(id);
        Ok(pending)
    }

    fn named(&self, queue: &str) -> Result<SlotId, ManageError> {
        let id = self.slot_of(queue);
        id.ok_or_else(|| ManageError::NoQueue(queue.into()))
    }

    fn check_group(&self, id: SlotId, queue: &str, group: &str) -> Result<(), ManageError> {
        let slot = self.slots.get(&id);
        match slot.is_some_and(|slot| slot.queue.groups().contains_key(group)) {
            true => Ok(()),
            false => Err(ManageError::NoGroup {
                queue: queue.into(),
                group: group.to_owned(),
            }),
        }
    }
}
