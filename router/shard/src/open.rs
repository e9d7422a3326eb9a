//! A shard from what its log recovered.

use std::collections::{BTreeSet, HashMap};

use waypost_core::age::Clock;
use waypost_core::dedup::Sessions;
use waypost_core::journal::{Entry, Snapshot};
use waypost_core::queue::{Recovering, Settings};
use waypost_log::{Log, RecoveredQueue, Replay, Vfs};

use crate::settings::{decode_settings, made_by};
use crate::slot::Slot;
use crate::tail::Budget;
use crate::{Counters, Options, Shard};

/// What the log found; see [`waypost_log::Recovered`].
pub use waypost_log::Recovered;

/// A shard and what a person should know of its opening.
pub struct Opened<V: Vfs> {
    /// The shard.
    pub shard: Shard<V>,
    /// What was found wrong, one sentence each.
    pub alarms: Vec<String>,
}

impl<V: Vfs> Shard<V> {
    /// Takes over a log and the queues that it recovered.
    pub fn open(log: Log<V>, recovered: Recovered, options: Options) -> Opened<V> {
        let mut alarms = report_alarms(&recovered);
        let mut shard = Shard {
            log,
            cache: Budget::new(options.cache_bytes),
            options,
            slots: HashMap::new(),
            names: HashMap::new(),
            next_slot: 1,
            consumers: HashMap::new(),
            joined: 0,
            ready: BTreeSet::new(),
            moved: BTreeSet::new(),
            behind: BTreeSet::new(),
            removed: BTreeSet::new(),
            timers: BTreeSet::new(),
            dropping: BTreeSet::new(),
            is_making_room: false,
            waiting: Vec::new(),
            appended: BTreeSet::new(),
            leaving: Vec::new(),
            is_urgent: false,
            is_ahead: false,
            sync_due: None,
            is_settled: true,
            wall_ms: 0,
            mono_ms: 0,
            clock: Clock::new(newest_ms(&recovered)),
            sessions: Sessions::default(),
            told: crate::receipts::Told::default(),
            counters: Counters::default(),
            outputs: Vec::new(),
        };
        let problems = &recovered.report.segments;
        let spoiled: BTreeSet<_> = problems.iter().map(|p| p.queue).collect();
        for queue in recovered.queues {
            // The log lost its journal: with a snapshot it has one again.
            let is_lost = queue.snapshot.is_none() && spoiled.contains(&queue.incarnation);
            let id = shard.recover_queue(queue, &mut alarms);
            if is_lost {
                shard.behind.insert(id);
            }
        }
        Opened { shard, alarms }
    }

    fn recover_queue(&mut self, found: RecoveredQueue, alarms: &mut Vec<String>) -> crate::SlotId {
        let name = match self.names.contains_key(found.name.as_str()) {
            false => found.name.clone(),
            // Two directories of one name: both are served, nothing is lost.
            true => format!("{}-{}", found.name, found.incarnation.hex()),
        };
        if name != found.name {
            alarms.push(format!(
                "queue '{}' exists twice; one is now '{name}'",
                found.name
            ));
        }
        let settings = decode_settings(&found.settings).unwrap_or_else(|error| {
            alarms.push(format!(
                "queue '{name}': {error}; it has the default settings now"
            ));
            Settings::default()
        });
        let mut recovering = Recovering::new(name.as_str(), settings.clone());
        let mut misread = |error: &dyn std::fmt::Display| {
            alarms.push(format!(
                "queue '{name}': {error}; messages may be delivered again"
            ));
        };
        match found.snapshot.as_deref().map(Snapshot::decode) {
            Some(Ok(snapshot)) => recovering.snapshot(snapshot),
            Some(Err(error)) => misread(&error),
            None => {}
        }
        for replay in &found.replay {
            match replay {
                Replay::Messages {
                    first_offset,
                    count,
                    ..
                } => {
                    recovering.messages(*first_offset, u64::from(*count));
                }
                Replay::State(bytes) => match Entry::decode(bytes) {
                    Ok(entry) => recovering.entry(entry),
                    Err(error) => misread(&error),
                },
                Replay::Trimmed(below) => recovering.trimmed(*below),
            }
        }
        recovering.trimmed(found.first_offset);
        recovering.at_least(found.next_offset);
        let is_told = self.give_up(found.incarnation, &mut recovering, &settings);
        let mut slot = Slot::new(recovering.finish(), Some(found.incarnation), "network");
        slot.made_by = made_by(&found.settings);
        for (first, end, bytes) in self.log.extents(found.incarnation) {
            slot.tail.mark(first, end, bytes);
        }
        slot.tail.trim(slot.queue.first(), &mut self.cache);
        slot.queue.set_bytes(slot.tail.marked_bytes());
        let id = self.add_slot(slot);
        self.receipts_recovered(id);
        if !is_told {
            self.behind.insert(id);
        }
        // The crash may have come between an ack and what it frees.
        self.moved.insert(id);
        self.sweep_soon(id);
        id
    }

    pub(crate) fn add_slot(&mut self, slot: Slot) -> crate::SlotId {
        let id = self.next_slot;
        self.next_slot += 1;
        self.names.insert(slot.queue.name().into(), id);
        self.slots.insert(id, slot);
        self.ready.insert(id);
        id
    }
}

/// The newest receive time that the log knows, in ms since 1970.
fn newest_ms(recovered: &Recovered) -> u64 {
    let of_queue = |queue: &RecoveredQueue| {
        let snapshot = queue.snapshot.as_deref().map(Snapshot::decode);
        let snapshot = snapshot.and_then(Result::ok).map_or(0, |s| s.newest_ms);
        let replay = queue.replay.iter().map(|entry| match entry {
            Replay::Messages { time_ms, .. } => *time_ms,
            _ => 0,
        });
        replay.max().unwrap_or(0).max(snapshot)
    };
    recovered.queues.iter().map(of_queue).max().unwrap_or(0)
}

fn report_alarms(recovered: &Recovered) -> Vec<String> {
    let report = &recovered.report;
    let rot = report
        .rot
        .iter()
        .map(|damage| format!("damaged log: {damage:?}"));
    let orphans = report
        .orphans
        .iter()
        .map(|o| format!("queue {o} has no readable description"));
    let segments = report
        .segments
        .iter()
        .map(|s| format!("segment {}: {}", s.path.display(), s.problem));
    rot.chain(orphans).chain(segments).collect()
}
