//! The breaker of a slot's version, shared by all that call it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waypost_core::allowance::{self, Allowance};
use waypost_core::breaker::{Admit, Breaker, Options, State};

use crate::config::BreakerConfig;

/// See [`Breaker`]. While all is well, nobody locks anything.
#[derive(Debug)]
pub(crate) struct Guard {
    breaker: Mutex<Breaker>,
    /// Something went wrong since the last good call.
    is_troubled: AtomicBool,
    allowance: Mutex<Allowance>,
    /// Until when its messages are kept apart, in ms on the monotonic clock.
    apart_until: AtomicU64,
}

impl Guard {
    pub fn new(config: &BreakerConfig) -> Guard {
        let options = Options {
            failures: config.failures,
            pause_ms: config.pause.as_millis() as u64,
            pause_ms_max: config.pause_max.as_millis() as u64,
        };
        Guard {
            breaker: Mutex::new(Breaker::new(options)),
            is_troubled: AtomicBool::new(false),
            allowance: Mutex::new(Allowance::new(allowance::Options::default())),
            apart_until: AtomicU64::new(0),
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_in_service(&self) -> bool {
        !self.is_troubled.load(Relaxed) || self.breaker().state() == State::Closed
    }

    /// For people: its state, failed calls in a row, and how often it tripped.
    pub fn view(&self) -> (State, u32, u64) {
        let breaker = self.breaker();
        (breaker.state(), breaker.in_a_row(), breaker.trips())
    }

    /// A call is to be made.
    #[inline]
    pub fn admit(&self, now: u64) -> Admit {
        match self.is_troubled.load(Relaxed) {
            false => Admit::Call,
            true => self.breaker().admit(now),
        }
    }

    /// The probe that was given is not made now.
    pub fn put_back_probe(&self) {
        self.breaker().put_back();
    }

    /// A call failed. Says whether the slot went out of service with it.
    pub fn failed(&self, now: u64) -> bool {
        self.is_troubled.store(true, Relaxed);
        self.breaker().failed(now)
    }

    /// A call that failed took so long. Says until when its messages are to be kept apart from
    /// others, if they are.
    pub fn took(&self, now: u64, time: Duration) -> Option<u64> {
        let mut allowance = self
            .allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let until = allowance.used(now, time.as_micros() as u64)?;
        self.apart_until.store(until, Relaxed);
        Some(until)
    }

    /// For how many ms yet its messages are kept apart from others; 0 where they are not.
    #[inline]
    pub fn apart_ms(&self, now: u64) -> u64 {
        self.apart_until.load(Relaxed).saturating_sub(now)
    }

    /// A call went well. Says whether the slot came back into service with it.
    #[inline]
    pub fn passed(&self) -> bool {
        if !self.is_troubled.load(Relaxed) {
            return false;
        }
        let is_back = self.breaker().passed();
        self.is_troubled.store(false, Relaxed);
        is_back
    }
}
