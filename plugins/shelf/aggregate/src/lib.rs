//! Counts, sums and averages messages over a window of time or of messages, and publishes what came
//! of it. The settings are described in `settings.json`.
//!
//! Each key has one window that is open, in the state: when it began, what its messages gave so far,
//! and the topic of its result. A window of time closes when a message of a later one comes, or by
//! the timer, `delay` after its end; one of messages with its last, or by the timer when its key was
//! silent for `idle`. What is published counts with the batch that closed the window, and so does the
//! state: a batch that is refused or fails closes nothing.
//!
//! A result that the router refuses is lost, and its window is closed all the same: the next would be
//! refused as well, and nothing of its key would be taken any more. The router logs why.
//!
//! Time is when messages were received, so that it does not matter how they are divided into
//! batches, or when they are tried again.

mod measure;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use measure::Measure;
use shelf_kit::key::digest;
use shelf_kit::{By, OnInvalid, Seen, Settings, Subjects, Template, settings};
use waypost_plugin::host::publish::{self, Refusal};
use waypost_plugin::host::{self, state, timer};
use waypost_plugin::{
    Batch, Config, Error, InitError, Interest, Message, Outcome, Outgoing, Plugin, Transform,
};
use window::{Key, Window};

struct Aggregate {
    subjects: Subjects,
    by: By,
    measures: Vec<Measure>,
    until: Until,
    /// Of all that the numbers of a window depend on.
    settings: String,
    topic: Template,
    /// The messages go on; else they end here.
    passes: bool,
    on_invalid: OnInvalid,
    /// Where the timer goes on.
    sweep: Option<Sweep>,
}

/// A look at all windows, over several calls of the timer.
struct Sweep {
    began_ms: u64,
    /// The last key that was looked at.
    after: Vec<u8>,
}

/// When a window closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// It has so many messages, or there was none for so many ms.
    Count { count: u64, idle_ms: u64 },
    /// So many ms have gone by, counted from 1970; and then so many for what is on its way.
    Time { every_ms: u64, delay_ms: u64 },
}

/// Windows that one call of the timer looks at, and may close: a call may publish 1,024 messages, and
/// has 10 ms.
const WINDOWS_MAX: u32 = 512;
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
        let mut meaning = vec![by.words()];
        for entry in settings.table("values") {
            let measure = Measure::parse(entry.name, entry.text, &mut subjects);
            measures.push(measure.map_err(|error| InitError::of(entry.key, error))?);
            meaning.extend([entry.name.to_owned(), entry.text.trim().to_owned()]);
        }
        let until = until(&settings)?;
        meaning.push(match until {
            Until::Count { count, .. } => format!("count {count}"),
            Until::Time { every_ms, .. } => format!("every {every_ms} ms"),
        });
        let aggregate = Aggregate {
            settings: digest(&format!("{meaning:?}")),
            sweep: None,
            by,
            measures,
            until,
            topic,
            passes: settings.choice("messages", &[("drop", false), ("pass", true)])?,
            on_invalid: OnInvalid::of(&settings)?,
            subjects,
        };
        settings.finish()?;
        aggregate.set_timer(host::now_ms());
        let interest = aggregate.subjects.interest();
        Ok((aggregate, interest))
    }

    fn on_timer(&mut self) -> Result<(), Error> {
        let now_ms = host::now_ms();
        let (began_ms, after) = match self.sweep.take() {
            Some(sweep) => (sweep.began_ms, Some(sweep.after)),
            None => (now_ms, None),
        };
        // First, so that there is a next call whatever becomes of this one.
        self.set_timer(began_ms);
        let windows = state::part(Key::PREFIX, after.as_deref(), WINDOWS_MAX);
        let mut after = after;
        let mut published = 0;
        for (key, bytes) in windows {
            // What other settings left is not closed by a message where its key has none.
            let is_done = match Window::read(&bytes, &self.settings) {
                None => true,
                Some(window) if !self.is_over(&window, now_ms) => false,
                Some(window) => match self.close(0, &window, &mut published)? {
                    true => true,
                    // The call has published as much as it may.
                    false => break,
                },
            };
            if is_done {
                state::remove(&key)?;
            }
            after = Some(key);
        }
        if let Some(after) = after
            && !state::part(Key::PREFIX, Some(&after), 1).is_empty()
        {
            self.sweep = Some(Sweep { began_ms, after });
            timer::set(AT_ONCE_MS);
        }
        Ok(())
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

/// How long a key may be silent before its window of messages closes with what it has.
const IDLE: Duration = Duration::from_secs(86_400);
const IDLE_MIN: Duration = Duration::from_secs(1);

fn until(settings: &Settings<'_>) -> Result<Until, InitError> {
    let count = settings.whole("count", 1, 1_000_000_000)?;
    let every = settings.duration("every")?;
    let delay = settings.duration("delay")?;
    let idle = settings.duration("idle")?;
    match (count, every) {
        (None, Some(_)) if idle.is_some() => Err(InitError::of(
            "idle",
            "is for windows of messages, and there is no 'count'",
        )),
        (Some(_), None) if idle.is_some_and(|idle| idle < IDLE_MIN) => Err(settings::wrong(
            "idle",
            settings.text("idle").unwrap_or_default(),
            "a time of at least 1s",
        )),
        (Some(_), None) if delay.is_some() => Err(InitError::of(
            "delay",
            "is for windows of time, and there is no 'every'",
        )),
        (Some(count), None) => Ok(Until::Count {
            count,
            idle_ms: idle.unwrap_or(IDLE).as_millis() as u64,
        }),
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
    /// To be called when the first window may be over that was not at `looked_ms`.
    fn set_timer(&self, looked_ms: u64) {
        let (every_ms, delay_ms) = match self.until {
            Until::Time { every_ms, delay_ms } => (every_ms, delay_ms),
            Until::Count { idle_ms, .. } => (idle_ms / 4, 0),
        };
        let ended = looked_ms.saturating_sub(delay_ms) / every_ms * every_ms;
        let next = ended.saturating_add(every_ms).saturating_add(delay_ms);
        // In parts where it is longer than a timer can be.
        let after = next.saturating_sub(host::now_ms()).clamp(10, 86_400_000);
        timer::set(after as u32);
    }

    /// Whether the timer closes it.
    fn is_over(&self, window: &Window, now_ms: u64) -> bool {
        let end = match self.until {
            Until::Time { every_ms, delay_ms } => {
                let end = window.began_ms.saturating_add(every_ms);
                end.saturating_add(delay_ms)
            }
            Until::Count { idle_ms, .. } => window.last_ms.saturating_add(idle_ms),
        };
        end <= now_ms
    }

    /// Publishes a result; `published` counts those of the call. False where another call has to do
    /// it, since this one has published as much as one may.
    fn close(&self, cause: u32, window: &Window, published: &mut u32) -> Result<bool, Error> {
        match publish::publish(cause, self.result(window)) {
            Ok(()) => {
                *published += 1;
                Ok(true)
            }
            Err(Refusal::Full) if *published > 0 => Ok(false),
            // The same would be refused again, in any call.
            Err(Refusal::Forbidden | Refusal::Invalid | Refusal::Full) => Ok(true),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn result(&self, window: &Window) -> Outgoing {
        let end_ms = match self.until {
            Until::Time { every_ms, .. } => window.began_ms.saturating_add(every_ms),
            Until::Count { .. } => window.last_ms,
        };
        let payload = window.result(&self.by, &self.measures, end_ms);
        let mut result = Outgoing::new(window.topic.as_str(), payload);
        result.content_type = Some("application/json".into());
        result
    }

    /// Takes a message into its window. Gives what is said of it, if it is not taken.
    fn take(&mut self, message: &Message<'_>, open: &mut Open) -> Result<Option<Outcome>, Error> {
        let mut subjects = std::mem::take(&mut self.subjects);
        let taken = match self.on_invalid.look(&mut subjects, message) {
            Ok(seen) => self.take_seen(&seen, open),
            Err(unread) => Ok(Some(unread.outcome())),
        };
        self.subjects = subjects;
        taken
    }

    fn take_seen(&self, seen: &Seen<'_, '_>, open: &mut Open) -> Result<Option<Outcome>, Error> {
        let key = Key::new(&self.by.key(seen).unwrap_or_default());
        let now_ms = seen.message.receive_time_ms();
        let position = seen.message.position();
        let Open { slots, published } = open;
        let slot = slots.of(&key, &self.settings);
        if let Until::Time { every_ms, .. } = self.until
            && let Some(window) = slot
            && window.began_ms.saturating_add(every_ms) <= now_ms
        {
            if !self.close(position, window, published)? {
                return Ok(Some(Outcome::Retry(0)));
            }
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
                    Until::Count { .. } => now_ms,
                };
                let by = self.by.values(seen);
                slot.insert(Window::new(began_ms, topic, by, self.measures.len()))
            }
        };
        let is_last = match self.until {
            Until::Count { count, .. } => window.count + 1 >= count,
            Until::Time { .. } => false,
        };
        let before = is_last.then(|| window.clone());
        window.take(&self.measures, seen);
        if is_last {
            if !self.close(position, window, published)? {
                // As if the message had not been there; one without any began with it.
                *slot = before.filter(|before| before.count > 0);
                return Ok(Some(Outcome::Retry(0)));
            }
            *slot = None;
        }
        Ok(None)
    }
}

/// What a call has at hand.
#[derive(Default)]
struct Open {
    slots: Slots,
    /// Results.
    published: u32,
}

/// The windows of a call's messages: read once, kept once.
#[derive(Default)]
struct Slots(BTreeMap<Vec<u8>, (bool, Option<Window>)>);

impl Slots {
    fn of(&mut self, key: &Key, settings: &str) -> &mut Option<Window> {
        let slot = self.0.entry(key.0.clone()).or_insert_with(|| {
            let kept = state::get(&key.0);
            // What another version left, or other settings, begins anew.
            let window = kept
                .as_deref()
                .and_then(|bytes| Window::read(bytes, settings));
            (kept.is_some(), window)
        });
        &mut slot.1
    }

    fn keep(&self, settings: &str) -> Result<(), Error> {
        for (key, (was_kept, window)) in &self.0 {
            match window {
                Some(window) => state::set(key, window.bytes(settings), 0)?,
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
        open.slots.keep(&self.settings)?;
        Ok(outcomes)
    }
}

waypost_plugin::export!(Aggregate: transform, wakes, schema);

#[cfg(test)]
mod tests;
