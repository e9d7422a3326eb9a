//! The 1 ms tick, and the deadline that counts a thread's CPU time by it.
//!
//! The ticking thread sleeps while no guest runs, so that an idle node does not wake a thousand
//! times a second. A stalled machine blames nobody: a tick only makes the calling thread look at
//! its own CPU clock, and that one stands still while the thread does not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::EngineWeak;

/// Wall time between two looks at a running guest.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a guest after which the thread sleeps until it is woken.
const IDLE_TICKS: u32 = 50;

/// Advances the engine's epoch while guests run.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// While it lives, the ticker ticks.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engine: EngineWeak) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("waypost-tick".into()).spawn({
            let shared = shared.clone();
            move || tick(&shared, &engine)
        })?;
        Ok(Ticker {
            shared,
            thread: Some(thread),
        })
    }

    /// Says that a guest is about to run.
    #[inline]
    pub(crate) fn run(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        // The thread sets `asleep` before its last look at `running`: one of both sees the other.
        if self.shared.asleep.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Running<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread only fails by panicking, which it has no cause for.
            drop(thread.join());
        }
    }
}

fn tick(shared: &Shared, engine: &EngineWeak) {
    let mut idle = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > IDLE_TICKS {
            shared.asleep.store(true, Ordering::SeqCst);
            if shared.running.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle = 0;
            continue;
        }
        thread::sleep(TICK);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}

/// The CPU time that the present call may use.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    budget: Duration,
    /// The thread's CPU time at the first tick of the call; reading that clock is a system call,
    /// which most calls are too short to need.
    since: Option<Duration>,
    began: Option<Instant>,
}

/// A guest used more CPU time than it may.
#[derive(Debug, thiserror::Error)]
#[error("used {used_ms} ms of CPU time, limit {limit_ms} ms")]
pub(crate) struct DeadlinePassed {
    used_ms: u128,
    limit_ms: u128,
}

impl Deadline {
    pub(crate) fn begin(&mut self, budget: Duration) {
        *self = Deadline {
            budget,
            since: None,
            began: Some(Instant::now()),
        };
    }

    /// The CPU time that the call has used, at most one tick too much: what came before the first
    /// look is taken as wall time, and is no more than a tick where that clock ran on alone.
    #[inline]
    pub(crate) fn used(&self, now: Instant) -> Duration {
        let wall = self
            .began
            .map(|began| now.saturating_duration_since(began))
            .unwrap_or_default();
        let seen = self
            .since
            .map(|since| thread_cpu_time().saturating_sub(since))
            .unwrap_or_default();
        wall.saturating_sub(seen).min(TICK) + seen
    }

    /// Looks at the clock, at a tick.
    pub(crate) fn on_tick(&mut self) -> Result<(), DeadlinePassed> {
        self.check(thread_cpu_time())
    }

    fn check(&mut self, now: Duration) -> Result<(), DeadlinePassed> {
        let used = now.saturating_sub(*self.since.get_or_insert(now));
        if used <= self.budget {
            return Ok(());
        }
        Err(DeadlinePassed {
            used_ms: used.as_millis(),
            limit_ms: self.budget.as_millis(),
        })
    }
}

fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_from_the_first_tick() {
        let ms = Duration::from_millis;
        let mut deadline = Deadline::default();
        deadline.begin(ms(10));
        assert!(deadline.check(ms(500)).is_ok());
        assert!(deadline.check(ms(510)).is_ok());
        let passed = deadline.check(ms(511)).expect_err("11 ms used");
        assert_eq!(passed.to_string(), "used 11 ms of CPU time, limit 10 ms");
        deadline.begin(ms(10));
        assert!(deadline.check(ms(900)).is_ok(), "a new call starts anew");
    }

    /// Waits for something that another thread does; gives up after a minute.
    fn until(condition: impl Fn() -> bool) {
        let start = std::time::Instant::now();
        while !condition() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "it never happened"
            );
            thread::yield_now();
        }
    }

    #[test]
    fn it_falls_asleep_wakes_for_a_guest_and_ends_with_its_owner() {
        let engine = wasmtime::Engine::default();
        let ticker = Ticker::start(engine.weak()).expect("a thread");
        let is_asleep = || ticker.shared.asleep.load(Ordering::SeqCst);
        for _ in 0..3 {
            until(is_asleep);
            let _running = ticker.run();
            until(|| !is_asleep());
        }
        let shared = ticker.shared.clone();
        drop(ticker);
        assert_eq!(Arc::strong_count(&shared), 1, "the thread is gone");
    }
}
