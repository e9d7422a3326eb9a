//! Counts, sums and averages messages over a window of time or of messages, and publishes what came
//! of it. The settings are described in `settings.json`.
//!
//! Each key has one window that is open, in the state: when it began, what its messages gave so far,
//! and the topic of its result. A window of time closes when a message of a later one comes, or by
//! the timer, `delay` after its end. What is published counts with the batch that closed the window,
//! and so does the state: a batch that is refused or fails closes nothing.
//!
//! Time is when messages were received, so that it does not matter how they are divided into
//! batches, or when they are tried again.

mod measure;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use measure::Measure;
use shelf_kit::{By, OnInvalid, Seen, Settings, Subjects, Template, settings};
use waypost_plugin::host::{self, publish, state, timer};
use waypost_plugin::{
    Batch, Config, Error, InitError, Interest, Message, Outcome, Outgoing, Plugin, Transform,
};
use window::{Key, Window};

struct Aggregate {
    subjects: Subjects,
    by: By,
    measures: Vec<Measure>,
    until: Until,
    topic: Template,
    /// The messages go on; else they end here.
    passes: bool,
    on_invalid: OnInvalid,
}

/// When a window closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// It has so many messages.
    Count(u64),
    /// So many ms have gone by, counted from 1970; and then so many for what is on its way.
    Time { every_ms: u64, delay_ms: u64 },
}

/// Windows that one call of the timer closes: a call may publish 1,024 messages.
const CLOSED_MAX: usize = 512;
/// Until the timer is called again where there are more.
const AT_ONCE_MS: u32 = 10;

impl Plugin for Aggregate {
    fn init(config: &Config) -> Result<(Aggregate, Interest), InitError> {
        let settings = Settings::new(config);
        let mut subjects = Subjects::default();
        let by = By::of(&settings, &mut subjects, &[])?;
        let text = settings.required("topic", "the topic of results, such as means/{topic[1]}")?;
        let topic =
            Template::parse(text, &mut subjects).map_err(|error| InitError::of("topic", error))?;
        if let Some(problem) = topic.fixed().and_then(shelf_kit::topic::wrong_topic) {
            return Err(InitError::of(
                "topic",
                format!("'{text}' is no topic: {problem}"),
            ));
        }
        let mut measures = Vec::new();
        for entry in settings.table("values") {
            let measure = Measure::parse(entry.name, entry.text, &mut subjects);
            measures.push(measure.map_err(|error| InitError::of(entry.key, error))?);
        }
        let until = until(&settings)?;
        let aggregate = Aggregate {
            by,
            measures,
            until,
            topic,
            passes: settings.choice("messages", &[("drop", false), ("pass", true)])?,
            on_invalid: OnInvalid::of(&settings)?,
            subjects,
        };
        settings.finish()?;
        aggregate.set_timer();
        let interest = aggregate.subjects.interest();
        Ok((aggregate, interest))
    }

    fn on_timer(&mut self) -> Result<(), Error> {
        let Until::Time { every_ms, delay_ms } = self.until else {
            return Ok(());
        };
        let now_ms = host::now_ms();
        let is_over = |window: &Window| {
            let end = window.began_ms.saturating_add(every_ms);
            end.saturating_add(delay_ms) <= now_ms
        };
        let all = state::scan(Key::PREFIX);
        let windows = all.filter_map(|(key, bytes)| Some((key, Window::read(&bytes)?)));
        let over = windows.filter(|(_, window)| is_over(window));
        for (closed, (key, window)) in over.enumerate() {
            if closed == CLOSED_MAX {
                timer::set(AT_ONCE_MS);
                return Ok(());
            }
            self.publish(0, &window)?;
            state::remove(&key)?;
        }
        self.set_timer();
        Ok(())
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

fn until(settings: &Settings<'_>) -> Result<Until, InitError> {
    let count = settings.whole("count", 1, 1_000_000_000)?;
    let every = settings.duration("every")?;
    let delay = settings.duration("delay")?;
    match (count, every) {
        (Some(_), None) if delay.is_some() => Err(InitError::of(
            "delay",
            "is for windows of time, and there is no 'every'",
        )),
        (Some(count), None) => Ok(Until::Count(count)),
        (None, Some(every)) if every < Duration::from_millis(100) => Err(settings::wrong(
            "every",
            settings.text("every").unwrap_or_default(),
            "a time of at least 100ms",
        )),
        (None, Some(every)) => Ok(Until::Time {
            every_ms: every.as_millis() as u64,
            delay_ms: delay.map_or(1_000, |delay| delay.as_millis() as u64),
        }),
        (Some(_), Some(_)) => Err(InitError::of(
            "count",
            "stands beside 'every', expected one of them",
        )),
        (None, None) => Err(InitError::new(
            "nothing says when a window closes: set every to a time such as 1m, or count to a \
             number of messages",
        )),
    }
}

impl Aggregate {
    /// To be called when the next window is over.
    fn set_timer(&self) {
        if let Until::Time { every_ms, delay_ms } = self.until {
            let now_ms = host::now_ms();
            let ended = now_ms.saturating_sub(delay_ms) / every_ms * every_ms;
            let next = ended.saturating_add(every_ms).saturating_add(delay_ms);
            // In parts where it is longer than a timer can be.
            let after = next.saturating_sub(now_ms).clamp(10, 86_400_000);
            timer::set(after as u32);
        }
    }

    /// Takes a message into its window. Gives what is said of it, if it is not taken.
    fn take(&mut self, message: &Message<'_>, open: &mut Open) -> Result<Option<Outcome>, Error> {
        let mut subjects = std::mem::take(&mut self.subjects);
        let seen = match (subjects.look(message), self.on_invalid) {
            (Ok(seen), _) => Ok(seen),
            (Err(not_json), OnInvalid::Fate(fate)) => Err(fate.outcome(not_json.to_string())),
            (Err(_), OnInvalid::Ignore) => Ok(subjects.look_beside(message)),
        };
        let taken = match seen {
            Ok(seen) => self.take_seen(&seen, open),
            Err(outcome) => Ok(Some(outcome)),
        };
        self.subjects = subjects;
        taken
    }

    fn take_seen(&self, seen: &Seen<'_, '_>, open: &mut Open) -> Result<Option<Outcome>, Error> {
        let key = Key::new(&self.by.key(seen).unwrap_or_default());
        let now_ms = seen.message.receive_time_ms();
        let position = seen.message.position();
        let slot = open.slot(&key);
        if let Until::Time { every_ms, .. } = self.until
            && let Some(window) = slot
            && window.began_ms.saturating_add(every_ms) <= now_ms
        {
            self.publish(position, window)?;
            *slot = None;
        }
        let window = match slot {
            Some(window) => window,
            None => {
                let topic = match self.topic.fill_topic(seen) {
                    Ok(topic) => topic,
                    Err(missing) => return Ok(Some(Outcome::DeadLetter(missing.to_string()))),
                };
                if let Some(problem) = shelf_kit::topic::wrong_topic(&topic) {
                    let text = format!("the result's topic '{topic}' is none: {problem}");
                    return Ok(Some(Outcome::DeadLetter(text)));
                }
                let began_ms = match self.until {
                    Until::Time { every_ms, .. } => now_ms / every_ms * every_ms,
                    Until::Count(_) => now_ms,
                };
                let by = self.by.values(seen);
                slot.insert(Window::new(began_ms, topic, by, self.measures.len()))
            }
        };
        window.take(&self.measures, seen);
        if let Until::Count(count) = self.until
            && window.count >= count
        {
            self.publish(position, window)?;
            *slot = None;
        }
        Ok(None)
    }

    fn publish(&self, cause: u32, window: &Window) -> Result<(), Error> {
        let end_ms = match self.until {
            Until::Time { every_ms, .. } => window.began_ms.saturating_add(every_ms),
            Until::Count(_) => window.last_ms,
        };
        let payload = window.result(&self.by, &self.measures, end_ms);
        let mut result = Outgoing::new(window.topic.as_str(), payload);
        result.content_type = Some("application/json".into());
        publish::publish(cause, result)?;
        Ok(())
    }
}

/// The windows of a call's messages: read once, kept once.
#[derive(Default)]
struct Open(BTreeMap<Vec<u8>, (bool, Option<Window>)>);

impl Open {
    fn slot(&mut self, key: &Key) -> &mut Option<Window> {
        let slot = self.0.entry(key.0.clone()).or_insert_with(|| {
            let kept = state::get(&key.0);
            // What another version left and this one cannot read begins anew.
            let window = kept.as_deref().and_then(Window::read);
            (kept.is_some(), window)
        });
        &mut slot.1
    }

    fn keep(&self) -> Result<(), Error> {
        for (key, (was_kept, window)) in &self.0 {
            match window {
                Some(window) => state::set(key, window.bytes(), 0)?,
                None if *was_kept => drop(state::remove(key)?),
                None => {}
            }
        }
        Ok(())
    }
}

impl Transform for Aggregate {
    /// For [`Transform::transform_batch`], which is overridden.
    fn transform(&mut self, _: &Message<'_>) -> Outcome {
        Outcome::Retry(0)
    }

    fn transform_batch(&mut self, batch: &Batch) -> Result<Vec<Outcome>, Error> {
        let mut open = Open::default();
        let mut outcomes = Vec::with_capacity(batch.len());
        for message in batch {
            outcomes.push(match self.take(&message, &mut open)? {
                Some(outcome) => outcome,
                None if self.passes => Outcome::Pass,
                None => Outcome::Drop(Some("taken into its window".into())),
            });
        }
        open.keep()?;
        Ok(outcomes)
    }
}

waypost_plugin::export!(Aggregate: transform, wakes, schema);

#[cfg(test)]
mod tests;
