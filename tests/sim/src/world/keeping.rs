//! What queues keep: what their limits let go of, held against what they may.

use std::collections::BTreeSet;

use waypost_core::queue::{AtLimit, DeliverWhen, Durability, Retain, Settings};
use waypost_shard::Part;

use crate::invariants::{Violation, limits};
use crate::world::World;

/// Attempts before a message is a dead letter, to begin with.
const DELIVER_MAX: u32 = 3;

/// The settings that a queue of this name is made with.
pub(crate) fn settings_of(name: &str, is_durable: bool) -> Settings {
    let (is_log, messages_max, at_limit) = match name {
        "last" => (false, 40, AtLimit::DropOldest),
        "last-m" => (false, 25, AtLimit::DropOldest),
        "log" => (true, 60, AtLimit::DropOldest),
        "moves" => (false, 50, AtLimit::DeadLetter),
        _ => (false, 2000, AtLimit::Refuse),
    };
    let (durability, deliver) = match (is_durable, name) {
        (false, _) => (Durability::Memory, DeliverWhen::Synced),
        (_, "soon") => (Durability::Interval, DeliverWhen::Synced),
        (_, "ahead") => (Durability::Sync, DeliverWhen::Received),
        (_, "both") => (Durability::Interval, DeliverWhen::Received),
        _ => (Durability::Sync, DeliverWhen::Synced),
    };
    let backoff_ms = match name {
        "b" | "m" => 300,
        _ => 0,
    };
    Settings {
        durability,
        deliver,
        interval_ms: 50,
        bytes_max: 300 << 10,
        messages_max: Some(messages_max),
        at_limit,
        retain: [Retain::UntilAcked, Retain::Log][usize::from(is_log)],
        ack_deadline_ms: 2000,
        deliver_max: DELIVER_MAX,
        backoff_ms,
        ..Settings::default()
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
            match queue.keeps().at_limit {
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
        let live = self
            .model
            .live(name)
            .and_then(|life| self.model.queues.get(&life));
        match live.is_some_and(|queue| queue.keeps().is_log) {
            true => self.purge(name),
            false => Ok(()),
        }
    }

    /// An operator gives a queue other settings; they are durable when that returns.
    pub(crate) fn change_settings(&mut self, name: &str) -> Result<(), Violation> {
        let live = self.model.live(name);
        let Some(life) = live else {
            return Ok(());
        };
        let Some(mut settings) = self.model.queues.get(&life).map(|q| q.settings.clone()) else {
            return Ok(());
        };
        match self.dice.below(3) {
            0 => settings.backoff_ms = self.dice.below(3) * 300,
            // One that has had more attempts than a lower limit may be on its way.
            1 => settings.deliver_max = (settings.deliver_max + 1).min(2 * DELIVER_MAX),
            _ if settings.at_limit != AtLimit::Refuse => {
                settings.messages_max = Some(self.dice.between(20, 80));
            }
            _ => settings.bytes_max += 1024,
        }
        let (backoff, most) = (settings.backoff_ms, settings.deliver_max);
        let limit = settings.messages_max.unwrap_or_default();
        let what = format!("'{name}': backoff {backoff} ms, {most} attempts, {limit} messages");
        self.trace.line(what);
        let done = self.shard.set_queue(name, settings.clone());
        let Some(queue) = self.model.queues.get_mut(&life) else {
            return Ok(());
        };
        match done {
            Ok(()) => {
                queue.settings = settings;
                queue.maybe_settings.clear();
                self.tally.settings += 1;
                Ok(())
            }
            Err(error) => {
                queue.maybe_settings.push(settings);
                self.manage_failed("settings", &error)
            }
        }
    }
}
