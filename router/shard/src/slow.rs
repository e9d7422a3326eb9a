//! Groups that fall too far behind: their consumers are closed.
//!
//! Once each time that a group falls behind: whoever comes back may catch up. Queues whose
//! publishers are held instead are refused in [`waypost_core::queue::Queue::admit`].

use waypost_core::group::ConsumerId;
use waypost_core::queue::SlowGroup;
use waypost_log::Vfs;
use waypost_wire::Code;

use crate::{Now, Output, Shard, SlotId};

impl<V: Vfs> Shard<V> {
    /// After an append: closes the consumers of groups that have fallen behind with it.
    pub(crate) fn close_slow(&mut self, ids: &[SlotId], now: Now) {
        for id in ids {
            let Some(slot) = self.slots.get_mut(id) else {
                continue;
            };
            if slot.queue.settings().slow != SlowGroup::Close {
                continue;
            }
            let behind = slot.queue.slow_groups();
            let is_new = |name: &&String| !slot.slow_groups.contains(*name);
            let fallen: Vec<String> = behind.iter().filter(is_new).cloned().collect();
            slot.slow_groups = behind;
            for group in fallen {
                self.close_group(*id, &group, now);
            }
        }
    }

    fn close_group(&mut self, id: SlotId, group: &str, now: Now) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        let limit = slot.queue.settings().slow_messages.unwrap_or(0);
        let text = format!(
            "group '{group}' of queue '{}' has fallen {limit} messages behind",
            slot.queue.name()
        );
        let members = slot.members.get(group).map(|m| m.consumers.values());
        let members: Vec<ConsumerId> = members.into_iter().flatten().copied().collect();
        for consumer in members {
            self.part(now, consumer, false);
            self.outputs.push(Output::ConsumerClosed {
                consumer,
                code: Code::Slow,
                text: text.clone(),
            });
        }
    }
}
