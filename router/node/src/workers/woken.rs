//! What plugins do when their time has come: a batch without messages.
//!
//! It runs on the first worker, between batches. What it publishes enters routing, and what it
//! writes counts, in one set of the log, as with a batch; nobody waits for its confirm.

use std::collections::VecDeque;
use std::sync::Arc;

use waypost_core::pipeline::{Outcome, Output, Run, Traced};
use waypost_shard::{Part, Stamp};
use waypost_wire::data::{Level, Receipts};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Message, RecordRef};

use super::worker::{Active, Worker};
use super::{Finish, Input, Inputs, Taken, Work};
use crate::clock::wall_ms;
use crate::live::Hub;
use crate::shard_thread::{Command, PublishReply, Settled, ShardHandle};
use crate::submission::{Account, Submission};

/// How long a plugin waits to be woken while what it did the last time is held, in ms.
const PUT_OFF_MS: u64 = 100;
/// Lanes of what is woken count down from here, to [`super::LANES_OF_TIMERS`].
const LANE: u64 = u64::MAX;

/// Where what a woken plugin did goes.
struct Woken {
    slot: Arc<str>,
    shard: ShardHandle,
    hub: Arc<Hub>,
}

impl Finish for Woken {
    fn stamp(&self) -> Option<&Stamp> {
        None
    }

    fn finish(self: Box<Self>, outcome: Outcome, own: Vec<Part>, taken: Option<Taken>) {
        let submission = Submission {
            ticket: 0,
            is_mandatory: false,
            is_replay: false,
            receipts: false,
            wants_places: false,
            stamp: None,
            transaction: None,
        };
        let account = Account {
            first_sequence: 0,
            count: 1,
            exceptions: Vec::new(),
            level: Level::Stored,
        };
        let slab = SlabBuilder::new().finish();
        let (routed, batch) = submission.routed(account, &slab, outcome, own);
        let Some(batch) = batch else {
            self.tell_live(&routed.live);
            return taken.into_iter().for_each(|taken| taken(false));
        };
        let shard = self.shard.clone();
        let reply = Arc::new(Settling {
            woken: *self,
            live: routed.live,
        });
        shard.send(Command::Publish {
            batch,
            reply,
            taken,
        });
    }
}

impl Woken {
    fn tell_live(&self, live: &[Output]) {
        let now = wall_ms();
        for output in live {
            let Ok(record) = RecordRef::parse(&output.body) else {
                continue;
            };
            for subscriber in self.hub.matching(record.topic()) {
                let mut slab = SlabBuilder::new();
                slab.push(&output.body);
                // There is no publisher that could wait for a slow one.
                subscriber.push(now, slab.finish());
            }
        }
    }
}

/// For live subscribers, once the queues have accepted.
struct Settling {
    woken: Woken,
    live: Vec<Output>,
}

impl PublishReply for Settling {
    fn settled(&self, settled: Settled) {
        match settled.result {
            Ok(_) => self.woken.tell_live(&self.live),
            Err((code, text)) => {
                let plugin = &*self.woken.slot;
                tracing::warn!(
                    plugin,
                    ?code,
                    text,
                    "what a timer caused was refused and undone"
                );
            }
        }
    }

    /// A timer is no producer: it cannot have asked.
    fn receipts(&self, _receipts: Receipts) {}
}

impl Worker {
    /// Wakes the plugins whose time has come.
    pub(super) fn wake(&mut self) {
        if self.calls.next_wake().is_none() {
            return;
        }
        let now = self.surroundings.clock.mono_ms();
        while let Some((routing, bound)) = self.calls.due(now) {
            let lane = LANE - bound.id;
            if self.is_held(lane) {
                self.calls.put_off(bound.id, now + PUT_OFF_MS);
                continue;
            }
            let published = match self.calls.wake(&bound) {
                Ok(published) => published,
                Err(why) => {
                    let plugin = &*bound.slot;
                    tracing::warn!(plugin, why, "a plugin failed when its timer called it");
                    continue;
                }
            };
            let mut slab = SlabBuilder::new();
            slab.push(&Message::new(format!("$timer/{}", bound.slot), "").to_body());
            let (table, limits) = (routing.table.clone(), self.surroundings.limits.clone());
            let work = Work {
                lane,
                routing,
                slab: slab.finish(),
                inputs: Inputs::All(Input {
                    routes: Arc::new([]),
                    is_live: true,
                }),
                traced: Traced::None,
                is_dry: false,
                receive_time_ms: wall_ms(),
                done: Box::new(Woken {
                    slot: bound.slot.clone(),
                    shard: self.surroundings.shard.clone(),
                    hub: self.surroundings.hub.clone(),
                }),
            };
            let active = Active::with(work, Run::of_published(table, limits, published));
            self.drive(active, VecDeque::new());
        }
    }
}
