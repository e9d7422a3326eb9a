//! Drops messages that were there before, within a window of time. The settings are described in
//! `settings.json`.
//!
//! The state has an entry for each key of the window: the key, and when the window began. It counts
//! with the batch, so a batch that is tried again finds none of its own. Time is when messages were
//! received, so that it does not matter how they are divided into batches; the router's clock only
//! says when an entry goes.

use shelf_kit::{By, Fate, OnInvalid, Settings, Subjects};
use waypost_plugin::host::state;
use waypost_plugin::{
    Answer, Batch, Config, Decision, Decisions, Error, Filter, InitError, Interest, Message, Plugin,
};

struct Dedup {
    subjects: Subjects,
    by: By,
    window_ms: u64,
    /// Each duplicate begins the window anew.
    extend: bool,
    otherwise: Fate,
    on_missing: Fate,
    on_invalid: OnInvalid,
}

impl Plugin for Dedup {
    fn init(config: &Config) -> Result<(Dedup, Interest), InitError> {
        let settings = Settings::new(config);
        let mut subjects = Subjects::default();
        let by = By::of(&settings, &mut subjects, &["message-id"])?;
        let window = settings.duration("window")?;
        let dedup = Dedup {
            by,
            window_ms: window.map_or(600_000, |window| window.as_millis() as u64),
            extend: settings.flag("extend")?,
            otherwise: Fate::of(&settings, "otherwise", Fate::Drop)?,
            on_missing: Fate::or_pass(&settings, "on-missing", Fate::Pass)?,
            on_invalid: OnInvalid::of(&settings)?,
            subjects,
        };
        settings.finish()?;
        let interest = dedup.subjects.interest();
        Ok((dedup, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

impl Dedup {
    fn judge(&mut self, message: &Message<'_>) -> Result<Answer, Error> {
        let seen = match self.on_invalid.look(&mut self.subjects, message) {
            Ok(seen) => seen,
            Err(unread) => return Ok(unread.answer()),
        };
        let Some(key) = self.by.key(&seen) else {
            return Ok(self.on_missing.answer(format!("no {}", self.by.words())));
        };
        let now = message.receive_time_ms().cast_signed();
        let after = state::number(&key).map(|began| now.saturating_sub(began).max(0));
        let after = after.filter(|after| after.cast_unsigned() < self.window_ms);
        if after.is_none() || self.extend {
            state::set_number(&key, now, self.window_ms)?;
        }
        let Some(after) = after else {
            return Ok(Decision::Pass.into());
        };
        let reason = format!("{} came before, {after} ms ago", self.by.shown(&seen));
        Ok(self.otherwise.answer(reason))
    }
}

impl Filter for Dedup {
    /// For [`Filter::filter_batch`], which is overridden.
    fn filter(&mut self, _: &Message<'_>) -> Answer {
        Decision::Retry.into()
    }

    fn filter_batch(&mut self, batch: &Batch) -> Result<Decisions, Error> {
        let mut decisions = Decisions {
            each: Vec::with_capacity(batch.len()),
            reasons: Vec::new(),
        };
        for message in batch {
            let Answer { decision, reason } = self.judge(&message)?;
            decisions.each.push(decision);
            let reason = reason.map(|reason| (message.position(), reason));
            decisions.reasons.extend(reason);
        }
        Ok(decisions)
    }
}

waypost_plugin::export!(Dedup: filter, schema);

#[cfg(test)]
mod tests;
