//! One call of a plugin: its instance, its breaker, what it costs.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use waypost_core::breaker::Admit;
use waypost_core::pipeline::{Failure, Item, Verdict};
use waypost_core::route::PluginIndex;
use waypost_host::{CallErrorKind, Instance, MessageRef, Plugin};
use waypost_wire::{Code, RecordRef};

use super::translate::{kind, translate};
use super::{Surroundings, Work};
use crate::alarms::{AlarmKind, Alarms};
use crate::clock::{Clock, wall_ms};
use crate::plugins::{Pause, PluginStats};
use crate::routing::{Bound, Routing, Service};

/// What came of a call.
pub(super) enum Answer {
    AllPassed,
    Verdicts(Vec<Verdict>),
    Failed(Failure),
    /// Not now.
    Unavailable(String),
    /// It was not made: the messages meet `on_error`, or are refused.
    NotCalled(Failure),
    Refused(Code, &'static str),
    /// Ask again with a single message.
    OneByOne,
}

impl Answer {
    fn not_called(kind: &'static str, why: &str) -> Answer {
        Answer::NotCalled(Failure {
            kind,
            text: why.to_owned(),
            backtrace: None,
        })
    }

    fn failed(kind: &'static str, text: String) -> Answer {
        Answer::Failed(Failure {
            kind,
            text,
            backtrace: None,
        })
    }
}

/// An instance that is counted.
pub(super) struct Kept {
    instance: Instance,
    stats: Arc<PluginStats>,
}

impl Kept {
    pub fn new(instance: Instance, bound: &Bound) -> Kept {
        let stats = bound.stats.clone();
        stats.instances.fetch_add(1, Relaxed);
        Kept { instance, stats }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stats.instances.fetch_sub(1, Relaxed);
    }
}

/// The instances of one worker.
pub(super) struct Calls {
    /// What the newest routing binds, and its version.
    current: HashSet<u64>,
    version: u64,
    /// By the id of what is bound.
    instances: HashMap<u64, Kept>,
    clock: Clock,
    alarms: Arc<Alarms>,
}

impl Calls {
    pub fn new(surroundings: &Surroundings) -> Calls {
        Calls {
            current: HashSet::new(),
            version: 0,
            instances: HashMap::new(),
            clock: surroundings.clock,
            alarms: surroundings.alarms.clone(),
        }
    }

    /// What a guest was in the middle of is not to be gone on with.
    pub fn forget_instances(&mut self) {
        self.instances.clear();
    }

    pub fn adopt(&mut self, id: u64, kept: Kept) {
        self.instances.insert(id, kept);
    }

    pub fn retire(&mut self, routing: &Routing) {
        self.version = routing.version;
        self.current = routing.bound.iter().map(|bound| bound.id).collect();
        self.instances.retain(|id, _| self.current.contains(id));
    }

    /// A batch that was on its way when its routing was replaced may have made an instance that
    /// nothing needs any more.
    pub fn forget_old(&mut self, routing: &Routing) {
        if routing.version < self.version {
            for bound in &routing.bound {
                if !self.current.contains(&bound.id) {
                    self.instances.remove(&bound.id);
                }
            }
        }
    }

    pub fn measure(&self, reply: &mpsc::Sender<(u64, u64)>) {
        for (id, kept) in &self.instances {
            // Nobody waits any more, perhaps.
            let _ = reply.send((*id, kept.instance.memory_bytes() as u64));
        }
    }

    /// Calls a plugin with messages of a batch, of which `original` is how it came.
    pub fn call(
        &mut self,
        work: &Work,
        original: &[MessageRef<'_>],
        index: PluginIndex,
        items: &[Item],
    ) -> Answer {
        let Some(bound) = work.routing.bound.get(index as usize) else {
            return Answer::failed("internal", "the plugin is not loaded".to_owned());
        };
        let plugin = match &bound.service {
            Service::Running(plugin) => plugin,
            Service::Paused(Pause::OnError) => return Answer::not_called("paused", "by a person"),
            Service::Paused(Pause::Hold) => {
                return Answer::Refused(Code::PluginUnavailable, "paused by a person");
            }
            Service::Down(why) => return Answer::not_called("down", why),
        };
        match bound.guard.admit(self.clock.mono_ms()) {
            Admit::Call => {}
            Admit::Probe if items.len() > 1 => {
                // The breaker gives one probe: it is for the single message that follows.
                bound.guard.put_back_probe();
                return Answer::OneByOne;
            }
            Admit::Probe => {}
            Admit::Refuse => {
                let why = bound.stats.last_error().unwrap_or_default();
                return Answer::not_called("out of service", &why);
            }
        }
        let answer = self.call_instance(bound, plugin, work, original, items);
        self.tell(bound, &answer);
        answer
    }

    /// Keeps the breaker, and what people see of it.
    fn tell(&self, bound: &Bound, answer: &Answer) {
        let kind = AlarmKind::PluginOutOfService;
        match answer {
            Answer::Failed(failure) if bound.guard.failed(self.clock.mono_ms()) => {
                let text = format!(
                    "it failed too often, last with {}: {}; its messages meet on_error until one \
                     that is tried passes",
                    failure.kind, failure.text
                );
                self.alarms.raise(kind, &bound.slot, text, wall_ms());
            }
            Answer::AllPassed | Answer::Verdicts(_) if bound.guard.passed() => {
                self.alarms.clear(kind, &bound.slot);
            }
            _ => {}
        }
    }

    fn call_instance(
        &mut self,
        bound: &Bound,
        plugin: &Plugin,
        work: &Work,
        original: &[MessageRef<'_>],
        items: &[Item],
    ) -> Answer {
        let stats = &bound.stats;
        let kept = match self.instances.entry(bound.id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => match plugin.instantiate() {
                Ok(instance) => entry.insert(Kept::new(instance, bound)),
                Err(error) => {
                    stats.failed(error.to_string(), false);
                    return Answer::failed("start", error.to_string());
                }
            },
        };
        let parsed: Vec<MessageRef<'_>>;
        let batch = match unchanged(items, original) {
            Some(batch) => batch,
            None => {
                let bodies = items.iter().map(|item| &*item.body);
                parsed = parse(bodies, work.receive_time_ms);
                &parsed
            }
        };
        if batch.len() != items.len() {
            return Answer::failed("record", "a record of the batch does not parse".to_owned());
        }
        let before = Instant::now();
        let result = kept.instance.call(batch);
        stats.called(before.elapsed(), items.len() as u64);
        match result {
            Ok(verdicts) if verdicts.all_pass() => Answer::AllPassed,
            Ok(verdicts) => {
                let each = verdicts.into_iter().zip(batch);
                Answer::Verdicts(
                    each.map(|(verdict, message)| translate(verdict, message))
                        .collect(),
                )
            }
            Err(error) => {
                if error.kind != CallErrorKind::Unavailable {
                    stats.failed(error.to_string(), error.instance_lost);
                }
                if error.instance_lost {
                    self.instances.remove(&bound.id);
                }
                match error.kind {
                    CallErrorKind::Unavailable => Answer::Unavailable(error.message),
                    other => Answer::Failed(Failure {
                        kind: kind(other),
                        text: error.message,
                        backtrace: error.backtrace,
                    }),
                }
            }
        }
    }
}

/// Parses bodies up to the first that is no record; admission and the host let none through.
pub(super) fn parse<'a>(
    bodies: impl Iterator<Item = &'a [u8]>,
    received: u64,
) -> Vec<MessageRef<'a>> {
    bodies
        .map_while(|body| RecordRef::parse(body).ok())
        .map(|record| MessageRef::new(record, received))
        .collect()
}

/// The part of the batch as it came that these items are, if they are one and nothing changed them.
fn unchanged<'a, 'b>(
    items: &[Item],
    original: &'a [MessageRef<'b>],
) -> Option<&'a [MessageRef<'b>]> {
    let first = items.first()?.input as usize;
    let part = original.get(first..first + items.len())?;
    let is_same = |(index, (item, message)): (usize, (&Item, &MessageRef<'_>))| {
        item.input as usize == first + index && std::ptr::eq(&*item.body, message.record.body())
    };
    let mut pairs = items.iter().zip(part).enumerate();
    pairs.all(is_same).then_some(part)
}
