//! Batches that go to a thread of their own, so that those of others need not wait for them.
//!
//! A plugin whose calls run into their limits takes the time of its worker, and so that of every
//! publisher whose batches run there. When its failed calls have taken more than an
//! [`Allowance`](waypost_core::allowance::Allowance), the batches that come to it move to one more
//! worker, which yields to all others; also the one in which that shows, from where it stands.
//!
//! Invariants: a lane's batches leave in the order in which they came: while one of them is away,
//! those behind it go after it, by the worker that the lane belongs to, and nobody else. What a
//! serial plugin may see stays with the first worker.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use waypost_core::route::RouteIndex;

use super::worker::Active;
use super::{Inputs, Surroundings, Task, Work};
use crate::mailbox::Inbox;
use crate::routing::{Bound, Service};

/// How much the worker apart yields to others.
const NICE: i32 = 10;
/// When a lane that waits for its batches that are away looks again, in ms.
const LOOK_AGAIN_MS: u64 = 2;
/// So many lanes are remembered before those that are back are looked for.
const LANES_MAX: usize = 256;

/// A batch that is away; dropped when it is done.
pub(super) struct Away(Arc<AtomicU32>);

impl Away {
    fn new(count: &Arc<AtomicU32>) -> Away {
        count.fetch_add(1, Ordering::Relaxed);
        Away(count.clone())
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        // Whoever sees that none is away sees what they did as well.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Where a batch runs.
#[derive(Debug)]
pub(super) enum Where {
    Here,
    Apart,
    /// Here, but others of its lane must be back first: look again in so many ms.
    Later(u64),
}

/// Which of the two kinds a worker is.
pub(super) enum Place {
    /// The one apart.
    Apart,
    /// One that batches are given to.
    Beside {
        apart: Arc<Inbox<Task>>,
        /// How many workers of this kind there are.
        count: usize,
        /// As [`Surroundings::troubled`].
        troubled: Arc<AtomicU64>,
        /// By lane, how many of its batches are away.
        away: HashMap<u64, Arc<AtomicU32>>,
    },
}

impl Place {
    pub fn apart() -> Place {
        Place::Apart
    }

    pub fn beside(apart: Arc<Inbox<Task>>, count: usize, surroundings: &Surroundings) -> Place {
        Place::Beside {
            apart,
            count,
            troubled: surroundings.troubled.clone(),
            away: HashMap::new(),
        }
    }

    pub fn is_apart(&self) -> bool {
        matches!(self, Place::Apart)
    }

    /// The worker's thread begins.
    pub fn enter(&self) {
        if self.is_apart() {
            // On Linux that is the thread's alone. Where it is not allowed, it shares as others do.
            let _ = rustix::process::nice(NICE);
        }
    }
}

impl Place {
    /// Where a batch goes whose turn in its lane it is.
    pub fn of(&mut self, work: &Work, now: impl Fn() -> u64) -> Where {
        let Place::Beside {
            count,
            troubled,
            away,
            ..
        } = self
        else {
            return Where::Here;
        };
        let is_calm = || {
            let until = troubled.load(Ordering::Relaxed);
            until == 0 || until <= now()
        };
        if away.is_empty() && is_calm() {
            return Where::Here;
        }
        let is_away = match away.get(&work.lane) {
            Some(others) if others.load(Ordering::Acquire) > 0 => true,
            Some(_) => {
                away.remove(&work.lane);
                false
            }
            None => false,
        };
        match (is_away, may_leave(work)) {
            (true, true) => Where::Apart,
            (true, false) => Where::Later(LOOK_AGAIN_MS),
            (false, true) if !is_calm() && comes_to_troubled(work, *count, now()) => Where::Apart,
            (false, _) => Where::Here,
        }
    }

    /// Whether a batch in which a call of this plugin just failed goes on apart.
    pub fn leaves(&self, work: &Work, bound: &Bound, now: u64) -> bool {
        match self {
            Place::Apart => false,
            Place::Beside { count, .. } => may_leave(work) && is_troubled(bound, *count, now),
        }
    }

    /// Gives a batch to the worker apart.
    pub fn send(&mut self, active: Active) {
        let Place::Beside { apart, away, .. } = self else {
            debug_assert!(false, "the worker apart has none beside it");
            return;
        };
        if away.len() >= LANES_MAX {
            away.retain(|_, others| others.load(Ordering::Acquire) > 0);
        }
        let ticket = Away::new(away.entry(active.work.lane).or_default());
        apart.push(Task::Apart(Box::new(active), ticket));
    }
}

/// Whether a batch may run elsewhere than on its own worker.
fn may_leave(work: &Work) -> bool {
    let is_a_publishers = work.lane != 0 && work.lane < super::LANES_OF_TIMERS;
    is_a_publishers && !work.is_dry && !any_route(work, |route| work.routing.table.is_serial(route))
}

/// Whether a batch comes to a plugin that is to be apart.
fn comes_to_troubled(work: &Work, count: usize, now: u64) -> bool {
    let routing = &work.routing;
    any_route(work, |route| {
        let route = routing.table.routes().get(route as usize);
        let through = route.into_iter().flat_map(|route| &route.through);
        let mut bound = through.filter_map(|plugin| routing.bound.get(*plugin as usize));
        bound.any(|bound| is_troubled(bound, count, now))
    })
}

fn any_route(work: &Work, is_it: impl Fn(RouteIndex) -> bool) -> bool {
    match &work.inputs {
        Inputs::All(input) => input.routes.iter().any(|route| is_it(*route)),
        Inputs::Each(inputs) => inputs.iter().flat_map(|i| &*i.routes).any(|r| is_it(*r)),
    }
}

/// Whether a plugin's messages are to be apart, and it may have one more instance for that.
fn is_troubled(bound: &Bound, count: usize, now: u64) -> bool {
    let Service::Running(plugin) = &bound.service else {
        return false;
    };
    bound.guard.apart_ms(now) > 0 && plugin.spec().limits.instances as usize > count
}
