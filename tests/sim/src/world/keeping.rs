//! What queues keep: what their limits let go of, held against what they may.

use std::collections::BTreeSet;

use waypost_core::queue::{AtLimit, DeliverWhen, Durability};
use waypost_shard::Part;

use crate::invariants::{Violation, limits};
use crate::model::Keeps;
use crate::world::World;

/// What a queue of this name keeps.
pub(crate) fn keeps(name: &str) -> Keeps {
    let (is_log, messages_max, at_limit) = match name {
        "last" => (false, 40, AtLimit::DropOldest),
        "last-m" => (false, 25, AtLimit::DropOldest),
        "log" => (true, 60, AtLimit::DropOldest),
        "moves" => (false, 50, AtLimit::DeadLetter),
        _ => (false, 2000, AtLimit::Refuse),
    };
    Keeps {
        is_log,
        messages_max,
        at_limit,
    }
}

/// What a queue of this name that the log has promises, and when it delivers.
pub(crate) fn promise(name: &str) -> (Durability, DeliverWhen) {
    match name {
        "soon" => (Durability::Interval, DeliverWhen::Synced),
        "ahead" => (Durability::Sync, DeliverWhen::Received),
        "both" => (Durability::Interval, DeliverWhen::Received),
        _ => (Durability::Sync, DeliverWhen::Synced),
    }
}

impl World {
    /// After a publish, taken or refused: notes what limits made go, which must be no more than they
    /// had to. One that is refused leaves what a crash may have left above a limit.
    pub(crate) fn note_limits(&mut self, parts: &[Part], is_taken: bool) -> Result<(), Violation> {
        self.note_dead_letters()?;
        let names: BTreeSet<&str> = parts.iter().map(|part| &*part.queue).collect();
        for name in names {
            let Ok(view) = self.shard.queue(name) else {
                continue;
            };
            let life = self.model.live(&view.name);
            let Some(queue) = life.and_then(|life| self.model.queues.get_mut(&life)) else {
                continue;
            };
            if is_taken {
                limits::check(queue, &view)?;
            }
            // Rot takes acks: nobody knows what stands below the first and was done with.
            if !self.model.is_rotten {
                limits::nothing_needless(queue, &view)?;
            }
            let first = view.first_offset;
            match queue.keeps.at_limit {
                AtLimit::Refuse => {}
                AtLimit::DropOldest => queue.dropped(first),
                AtLimit::DeadLetter => {
                    let moved = queue.dead_lettered(first);
                    self.model.spent.extend(moved);
                }
            }
        }
        Ok(())
    }

    /// Acks do not empty a log.
    pub(crate) fn empty_log(&mut self, name: &str) -> Result<(), Violation> {
        match keeps(name).is_log {
            true => self.purge(name),
            false => Ok(()),
        }
    }
}
