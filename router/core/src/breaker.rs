//! A plugin that keeps failing is taken out of service, and tried again with single messages.
//!
//! Calls count, not messages: a call that failed is split, so that one poisonous message among good
//! ones makes failed calls with good ones between, and never trips the breaker.

/// When it trips, and how long it stays open. Times in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Failed calls in a row. A batch of 256 messages that all fail makes nine by its first message.
    pub failures: u32,
    /// The first pause.
    pub pause_ms: u64,
    /// Each failed attempt doubles the pause, up to this one.
    pub pause_ms_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            failures: 10,
            pause_ms: 5_000,
            pause_ms_max: 300_000,
        }
    }
}

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Call.
    Call,
    /// Call with one message, and tell how it went.
    Probe,
    /// Do not call.
    Refuse,
}

/// Whether a plugin is in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Closed,
    /// It is not, until then.
    Open {
        /// On the monotonic clock, in ms.
        until: u64,
    },
    /// One message is being tried.
    Probing,
}

/// The breaker of one plugin, for all its instances.
#[derive(Debug)]
pub struct Breaker {
    options: Options,
    state: State,
    in_a_row: u32,
    pause_ms: u64,
    /// A probe of which nothing was heard by then counts as failed.
    probe_until: u64,
    trips: u64,
}

impl Breaker {
    /// Closed.
    pub fn new(options: Options) -> Breaker {
        Breaker {
            options,
            state: State::Closed,
            in_a_row: 0,
            pause_ms: options.pause_ms,
            probe_until: 0,
            trips: 0,
        }
    }

    /// Whether the plugin is in service.
    pub fn state(&self) -> State {
        self.state
    }

    /// Failed calls since the last good one.
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// How often it went out of service.
    pub fn trips(&self) -> u64 {
        self.trips
    }

    /// Whether nothing has gone wrong since the last good call: then nothing need be told.
    #[inline]
    pub fn is_calm(&self) -> bool {
        self.state == State::Closed && self.in_a_row == 0
    }

    /// A call is to be made.
    pub fn admit(&mut self, now: u64) -> Admit {
        match self.state {
            State::Closed => Admit::Call,
            State::Open { until } if now < until => Admit::Refuse,
            State::Probing if now < self.probe_until => Admit::Refuse,
            State::Open { .. } | State::Probing => {
                self.state = State::Probing;
                self.probe_until = now.saturating_add(self.pause_ms);
                Admit::Probe
            }
        }
    }

    /// The probe that [`Breaker::admit`] gave is not made: the next who asks gets it.
    pub fn put_back(&mut self) {
        self.probe_until = 0;
    }

    /// A call went well. Says whether that brought the plugin back into service.
    pub fn passed(&mut self) -> bool {
        let was_out = self.state != State::Closed;
        self.in_a_row = 0;
        self.state = State::Closed;
        self.pause_ms = self.options.pause_ms;
        was_out
    }

    /// A call failed. Says whether that took the plugin out of service.
    pub fn failed(&mut self, now: u64) -> bool {
        match self.state {
            State::Closed => {
                self.in_a_row += 1;
                if self.in_a_row < self.options.failures {
                    return false;
                }
                self.open(now);
                true
            }
            State::Probing => {
                self.pause_ms = (self.pause_ms.saturating_mul(2)).min(self.options.pause_ms_max);
                self.open(now);
                false
            }
            // Of a call that began before it went out of service.
            State::Open { .. } => false,
        }
    }

    fn open(&mut self, now: u64) {
        self.trips += u64::from(self.state == State::Closed);
        self.in_a_row = 0;
        self.state = State::Open {
            until: now.saturating_add(self.pause_ms),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(Options {
            failures: 3,
            pause_ms: 100,
            pause_ms_max: 300,
        })
    }

    #[test]
    fn failures_with_a_good_call_between_do_not_count_together() {
        let mut breaker = breaker();
        for _ in 0..10 {
            assert!(!breaker.failed(0));
            assert!(!breaker.failed(0));
            assert!(!breaker.passed());
        }
        assert!(breaker.is_calm());
    }

    #[test]
    fn it_opens_probes_with_growing_pauses_and_closes() {
        let mut breaker = breaker();
        assert!(!breaker.failed(0) && !breaker.failed(0));
        assert!(breaker.failed(0), "the third in a row");
        assert_eq!(breaker.admit(99), Admit::Refuse);
        assert_eq!(breaker.admit(100), Admit::Probe);
        assert_eq!(breaker.admit(101), Admit::Refuse, "one at a time");
        assert!(!breaker.failed(110));
        assert_eq!(breaker.state(), State::Open { until: 310 });
        assert_eq!(breaker.admit(310), Admit::Probe);
        breaker.failed(310);
        assert_eq!(
            breaker.state(),
            State::Open { until: 610 },
            "no longer than 300"
        );
        assert_eq!(breaker.admit(610), Admit::Probe);
        assert!(breaker.passed());
        assert_eq!((breaker.admit(611), breaker.trips()), (Admit::Call, 1));
    }

    #[test]
    fn a_probe_of_which_nothing_is_heard_is_made_again() {
        let mut breaker = breaker();
        for _ in 0..3 {
            breaker.failed(0);
        }
        assert_eq!(breaker.admit(100), Admit::Probe);
        assert_eq!(breaker.admit(199), Admit::Refuse);
        assert_eq!(breaker.admit(200), Admit::Probe);
    }

    #[test]
    fn late_news_of_old_calls_changes_nothing() {
        let mut breaker = breaker();
        for _ in 0..3 {
            breaker.failed(0);
        }
        breaker.failed(50);
        assert_eq!(breaker.state(), State::Open { until: 100 });
    }
}
