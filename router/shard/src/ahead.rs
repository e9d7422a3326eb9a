//! What goes out before a commit: messages of queues that deliver on receipt or are in memory, and
//! when the others are to be synced.
//!
//! Invariant: an offset that was delivered is never given to another message, though a crash may
//! take its message away. So a queue that delivers on receipt gives up, each time it is opened, as
//! many offsets as the lost group can have held; none of its messages goes ahead of a commit before
//! the log holds that.

use waypost_core::queue::{DeliverWhen, Durability, Recovering, Settings};
use waypost_log::{Incarnation, Vfs};

use crate::{Now, Shard, SlotId};

/// Offsets that are given up at least: more than a group of the log (8 MiB, unless messages may be
/// larger) can hold. With its length, a record takes more than [`RECORD_BYTES_MIN`].
const GIVEN_UP_MIN: u64 = 2 << 20;
const RECORD_BYTES_MIN: u64 = 4;

impl<V: Vfs> Shard<V> {
    /// Whether something goes out that need not wait for the commit that is due: call
    /// [`Shard::deliver`] and take the outputs before it.
    pub fn is_ahead(&self) -> bool {
        self.is_ahead
    }

    /// A queue has more messages: when they may be delivered, and when they must be synced.
    pub(crate) fn show(&mut self, id: SlotId, now: Now) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let is_logged = slot.incarnation.is_some();
        let settings = slot.queue.settings();
        let (durability, deliver) = (settings.durability, settings.deliver);
        if !is_logged || (deliver == DeliverWhen::Received && self.is_settled) {
            slot.queue.set_visible();
            self.ready.insert(id);
            self.is_ahead = true;
        }
        if is_logged {
            self.appended.insert(id);
        }
        match durability {
            Durability::Sync => self.is_urgent = true,
            Durability::Interval => self.sync_soon(id, now),
            Durability::Memory => {}
        }
    }

    /// The pending group has something of a queue that nobody waits for: it is synced with the
    /// next group, or when it must not wait longer.
    pub(crate) fn sync_soon(&mut self, id: SlotId, now: Now) {
        let settings = self.slots.get(&id).map(|slot| slot.queue.settings());
        let wait = match settings {
            Some(settings) if settings.durability == Durability::Interval => settings.interval_ms,
            Some(settings) if settings.durability == Durability::Memory => return,
            _ => self.options.ack_sync_ms,
        };
        let due = now.mono_ms.saturating_add(wait);
        self.sync_due = Some(self.sync_due.map_or(due, |other| other.min(due)));
    }

    /// Gives up the offsets that a queue may have delivered before the last crash. Says whether the
    /// log took it; a snapshot must say it otherwise.
    pub(crate) fn give_up(
        &mut self,
        incarnation: Incarnation,
        recovering: &mut Recovering,
        settings: &Settings,
    ) -> bool {
        if settings.deliver != DeliverWhen::Received {
            return true;
        }
        self.is_settled = false;
        self.sync_due = Some(0);
        let in_group = self.log.group_bytes_max() / RECORD_BYTES_MIN;
        let entry = recovering.give_up(GIVEN_UP_MIN.max(in_group));
        let written = self.log.append_state(incarnation, &entry.encode());
        written.is_ok()
    }

    /// What a memory queue's groups are done with goes without a commit.
    pub(crate) fn trim_memory(&mut self, id: SlotId) {
        let slot = self.slots.get(&id);
        if slot.is_some_and(|slot| slot.incarnation.is_none()) && self.moved.remove(&id) {
            self.trim(id);
        }
    }
}
