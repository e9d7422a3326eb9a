//! Groups of queues with priorities: their index is told what each message's priority is.
//!
//! It is told before anything is delivered, step by step after a start, so that nothing of a high
//! level waits behind what happened to be looked at first.

use waypost_core::journal::GroupKind;
use waypost_log::Vfs;
use waypost_wire::data::Range;
use waypost_wire::peek;

use crate::deliver::Found;
use crate::{Shard, SlotId};

/// Messages that one step looks at: a few milliseconds where they are read from the disk.
const STEP_MESSAGES_MAX: u64 = 16_384;

impl<V: Vfs> Shard<V> {
    /// Whether a group knows all that it needs of the messages that it may deliver. Where it does
    /// not yet, the queue has its turn again.
    #[inline]
    pub(crate) fn know_priorities(&mut self, id: SlotId, group: &str) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else {
            return false;
        };
        let levels = slot.queue.settings().priorities;
        let Some(named) = slot.queue.group_mut(group) else {
            return false;
        };
        let has_index = named.group.levels_end().is_some();
        let wants_index = levels > 1 && named.options.kind != GroupKind::Key;
        match (wants_index, has_index) {
            (false, false) => return true,
            (false, true) => {
                named.group.drop_levels();
                return true;
            }
            (true, false) => named.group.use_levels(),
            (true, true) => {}
        }
        self.push_priorities(id, group, levels)
    }

    fn push_priorities(&mut self, id: SlotId, group: &str, levels: u8) -> bool {
        let mut looked = 0;
        loop {
            let Some(slot) = self.slots.get_mut(&id) else {
                return false;
            };
            let visible = slot.queue.visible();
            let Some(end) = slot
                .queue
                .groups()
                .get(group)
                .and_then(|g| g.group.levels_end())
            else {
                return false;
            };
            if end >= visible {
                return true;
            }
            if looked >= STEP_MESSAGES_MAX {
                self.ready.insert(id);
                return false;
            }
            let gone = slot.queue.gone().covering(end).map(|gone| gone.last + 1);
            let found = match gone {
                Some(until) => Found::Nothing { until },
                None => self.chunk_at(id, group, end),
            };
            let slot = self.slots.get_mut(&id);
            let Some(named) = slot.and_then(|s| s.queue.group_mut(group)) else {
                return false;
            };
            match found {
                Found::Chunk(chunk) => {
                    let skip = (end - chunk.first_offset) as usize;
                    let most = (visible - end) as usize;
                    let bodies = chunk.slab.iter().skip(skip).take(most);
                    let highest = levels - 1;
                    named
                        .group
                        .push_levels(bodies.map(|body| peek::priority(body).min(highest)));
                    looked += u64::from(chunk.slab.count());
                }
                Found::Nothing { until } => {
                    let until = until.clamp(end + 1, visible);
                    named.group.skip_levels(until);
                    looked += 1;
                    if gone.is_none() {
                        let (first, last) = (end, until - 1);
                        named.group.remove(&[Range { first, last }]);
                        self.moved.insert(id);
                    }
                }
                Found::Unreadable => return false,
            }
        }
    }
}
