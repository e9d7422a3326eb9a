//! Lets so many messages of each key through in a time. The settings are described in
//! `settings.json`.
//!
//! Of each key the state holds one number: the time up to which its messages have used what they
//! may (the generic cell rate algorithm, which is a bucket of tokens without a clock of its own). A
//! message moves it on by the time that one message is worth, and is over the limit where it would
//! lie further ahead than a burst is worth. Time is when messages were received, so that a batch
//! that is tried again finds the same.

use std::collections::BTreeMap;

use shelf_kit::{By, Fate, OnInvalid, Settings, Subjects, settings};
use waypost_plugin::host::state;
use waypost_plugin::{
    Answer, Batch, Config, Decision, Decisions, Error, Filter, InitError, Interest, Message, Plugin,
};

struct Limiter {
    subjects: Subjects,
    by: By,
    rate: Rate,
    otherwise: Fate,
    on_invalid: OnInvalid,
}

/// What is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rate {
    /// As the configuration writes it.
    words: String,
    /// What one message is worth.
    message_ns: u64,
    /// How far ahead of now a key may be.
    burst_ns: u64,
}

/// What the messages of a call have used, by key.
#[derive(Default)]
struct Used(BTreeMap<Vec<u8>, Account>);

#[derive(Clone, Copy)]
struct Account {
    until_ns: u64,
    /// When the last of its messages came.
    now_ns: u64,
    is_changed: bool,
}

const EXPECTED: &str = "messages in a time, such as 100/1m or 5/1s";

impl Plugin for Limiter {
    fn init(config: &Config) -> Result<(Limiter, Interest), InitError> {
        let settings = Settings::new(config);
        let mut subjects = Subjects::default();
        let text = settings.required("limit", EXPECTED)?;
        let burst = settings.whole("burst", 1, MESSAGES_MAX)?;
        let rate =
            Rate::parse(text, burst).ok_or_else(|| settings::wrong("limit", text, EXPECTED))?;
        let limiter = Limiter {
            by: By::of(&settings, &mut subjects, &[])?,
            rate,
            otherwise: Fate::of(&settings, "otherwise", Fate::Drop)?,
            on_invalid: OnInvalid::of(&settings)?,
            subjects,
        };
        settings.finish()?;
        let interest = limiter.subjects.interest();
        Ok((limiter, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

/// Messages of a limit and of a burst.
const MESSAGES_MAX: u64 = 1_000_000_000;
/// How far the times of messages may go back: those of several publishers overtake each other by
/// some ms. One minute.
const CLOCK_NS: u64 = 60_000_000_000;
/// Time of a limit: 366 days.
const PER_MS_MAX: u128 = 366 * 86_400_000;

impl Rate {
    fn parse(text: &str, burst: Option<u64>) -> Option<Rate> {
        let (messages, per) = text.split_once('/')?;
        let messages: u64 = messages.trim().parse().ok()?;
        // `100/m` is `100/1m`.
        let per = per.trim();
        let per = match per.starts_with(|c: char| c.is_ascii_digit()) {
            true => settings::duration(per)?,
            false => settings::duration(&format!("1{per}"))?,
        };
        if !(1..=MESSAGES_MAX).contains(&messages) || per.as_millis() > PER_MS_MAX {
            return None;
        }
        // At most 366 days, which are 3.2e16 ns.
        let message_ns = (per.as_nanos() as u64 / messages).max(1);
        Some(Rate {
            words: text.to_owned(),
            message_ns,
            burst_ns: message_ns.saturating_mul(burst.unwrap_or(messages)),
        })
    }

    /// Whether one more message may pass at `now_ns`, and then up to when the key has used it.
    fn admit(&self, until_ns: u64, now_ns: u64) -> Option<u64> {
        let ahead_ns = until_ns.saturating_sub(now_ns);
        let until = match ahead_ns > self.burst_ns.saturating_add(CLOCK_NS) {
            // No message leads so far ahead: the clock was set back, and the key begins anew.
            true => now_ns,
            false => until_ns.max(now_ns),
        };
        let next = until.saturating_add(self.message_ns);
        (next - now_ns <= self.burst_ns).then_some(next)
    }
}

impl Used {
    fn account(&mut self, key: Vec<u8>) -> &mut Account {
        self.0.entry(key).or_insert_with_key(|key| {
            let until = state::number(state_key(key)).unwrap_or(0);
            Account {
                until_ns: until.cast_unsigned(),
                now_ns: 0,
                is_changed: false,
            }
        })
    }

    fn keep(&self) -> Result<(), Error> {
        for (key, account) in &self.0 {
            if account.is_changed {
                let ahead_ns = account.until_ns.saturating_sub(account.now_ns);
                // Afterwards the key is as if it had never been.
                let ttl_ms = ahead_ns.div_ceil(1_000_000).max(1);
                let until = account.until_ns.cast_signed();
                state::set_number(state_key(key), until, ttl_ms)?;
            }
        }
        Ok(())
    }
}

/// The state takes no empty key.
fn state_key(key: &[u8]) -> Vec<u8> {
    [b"k", key].concat()
}

impl Limiter {
    fn judge(&mut self, message: &Message<'_>, used: &mut Used) -> Answer {
        let seen = match self.on_invalid.look(&mut self.subjects, message) {
            Ok(seen) => seen,
            Err(unread) => return unread.answer(),
        };
        // Those without a value share what one key may.
        let account = used.account(self.by.key(&seen).unwrap_or_default());
        let now_ns = message.receive_time_ms().saturating_mul(1_000_000);
        match self.rate.admit(account.until_ns, now_ns) {
            Some(until_ns) => {
                *account = Account {
                    until_ns,
                    now_ns,
                    is_changed: true,
                };
                Decision::Pass.into()
            }
            None => {
                let shown = self.by.shown(&seen);
                let of = if shown.is_empty() { "" } else { " of " };
                self.otherwise
                    .answer(format!("more than {}{of}{shown}", self.rate.words))
            }
        }
    }
}

impl Filter for Limiter {
    /// For [`Filter::filter_batch`], which is overridden.
    fn filter(&mut self, _: &Message<'_>) -> Answer {
        Decision::Retry.into()
    }

    fn filter_batch(&mut self, batch: &Batch) -> Result<Decisions, Error> {
        let mut used = Used::default();
        let mut decisions = Decisions {
            each: Vec::with_capacity(batch.len()),
            reasons: Vec::new(),
        };
        for message in batch {
            let Answer { decision, reason } = self.judge(&message, &mut used);
            decisions.each.push(decision);
            let reason = reason.map(|reason| (message.position(), reason));
            decisions.reasons.extend(reason);
        }
        used.keep()?;
        Ok(decisions)
    }
}

waypost_plugin::export!(Limiter: filter, schema);

#[cfg(test)]
mod tests;
