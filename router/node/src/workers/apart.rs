//! Batches that go to a thread of their own, so that those of others need not wait for them.
//!
//! A plugin whose calls run into their limits takes the time of its worker, and so that of every
//! publisher whose batches run there. When its failed calls have taken more than an
//! [`Allowance`](waypost_core::allowance::Allowance), the batches that come to it move to one more
//! worker, which yields to all others: each from the call that it would make next.
//!
//! Invariants: a lane's batches leave in the order in which they came: while one of them is away,
//! those behind it go after it or wait for it, and none overtakes. What a serial plugin may see
//! stays with the first worker. A lane whose batches come to no such plugin any more is back when
//! those that are away are done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use waypost_core::route::RouteIndex;

use super::worker::Active;
use super::{Inputs, Surroundings, Task, Work};
use crate::mailbox::Inbox;
use crate::routing::{Bound, Service};

/// When a lane that waits for its batches that are away looks again, in ms; it is told before.
const LOOK_AGAIN_MS: u64 = 100;

/// A batch that is away; dropped when it is done.
pub(super) struct Away {
    lane: u64,
    count: Arc<AtomicU32>,
    home: Arc<Inbox<Task>>,
}

impl Drop for Away {
    fn drop(&mut self) {
        // Whoever sees that none is away sees what they did as well.
        if self.count.fetch_sub(1, Ordering::Release) == 1 {
            self.home.push(Task::Back(self.lane));
        }
    }
}

/// The worker apart ends when all that could send it something have ended.
pub(super) struct Ending(pub Arc<Inbox<Task>>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.push(Task::Stop);
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
        /// Its own inbox.
        home: Arc<Inbox<Task>>,
        apart: Arc<Ending>,
        /// How many workers of this kind there are.
        count: usize,
        /// As [`Surroundings::troubled`].
        troubled: Arc<AtomicU64>,
        /// By lane, how many of its batches are away. Without those of which none is.
        away: HashMap<u64, Arc<AtomicU32>>,
    },
}

impl Place {
    pub fn beside(
        home: Arc<Inbox<Task>>,
        apart: Arc<Ending>,
        count: usize,
        surroundings: &Surroundings,
    ) -> Place {
        Place::Beside {
            home,
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
            yield_to_others();
        }
    }

    /// Where a batch goes whose turn in its lane it is.
    pub fn of(&mut self, work: &Work, now: impl Fn() -> u64) -> Where {
        let Place::Beside { count, away, .. } = self else {
            return Where::Here;
        };
        let Some(others) = away.get(&work.lane) else {
            return Where::Here;
        };
        if others.load(Ordering::Acquire) == 0 {
            away.remove(&work.lane);
            return Where::Here;
        }
        match may_leave(work) && comes_to_troubled(work, *count, now()) {
            true => Where::Apart,
            false => Where::Later(LOOK_AGAIN_MS),
        }
    }

    /// Whether a batch that would call this plugin now goes on apart.
    #[inline]
    pub fn leaves(&self, work: &Work, bound: &Bound, now: impl Fn() -> u64) -> bool {
        match self {
            Place::Apart => false,
            Place::Beside {
                count, troubled, ..
            } => {
                let until = troubled.load(Ordering::Relaxed);
                until > 0 && {
                    let now = now();
                    until > now && is_troubled(bound, *count, now) && may_leave(work)
                }
            }
        }
    }

    /// Gives a batch to the worker apart.
    pub fn send(&mut self, active: Active) {
        let Place::Beside {
            home, apart, away, ..
        } = self
        else {
            debug_assert!(false, "the worker apart has none beside it");
            return;
        };
        let lane = active.work.lane;
        let count = away.entry(lane).or_default().clone();
        count.fetch_add(1, Ordering::Relaxed);
        let home = home.clone();
        let ticket = Away { lane, count, home };
        apart.0.push(Task::Apart(Box::new(active), ticket));
    }

    /// All of a lane that were away are done; since then more may have gone.
    pub fn back(&mut self, lane: u64) {
        if let Place::Beside { away, .. } = self
            && let Some(others) = away.get(&lane)
            && others.load(Ordering::Acquire) == 0
        {
            away.remove(&lane);
        }
    }
}

/// Whatever else wants to run takes the core from this thread at once; a nice one would keep it for
/// some ms. Where others want the core all the time, the kernel weighs it as 3 to the 1,024 of each.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "rustix has no name for it")]
    // SAFETY: the parameter lives through the call, which reads it and keeps no pointer. 0 is the
    // calling thread. Where it is not allowed, the thread shares as others do.
    unsafe {
        let parameter = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter);
    }
}

/// Whether a batch may run elsewhere than on its own worker.
fn may_leave(work: &Work) -> bool {
    let is_a_publishers = work.lane != 0 && work.lane < super::LANES_OF_TIMERS;
    is_a_publishers && !work.is_dry && !any_route(work, |route| work.routing.table.is_serial(route))
}

/// Whether a batch comes to a plugin that is to be apart, as far as its first routes say.
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
