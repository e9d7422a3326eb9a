//! Calls that fail, or that are to be made later.
//!
//! A failed call is split until the message at fault stands alone; that one meets the plugin's
//! `on_error`. What is only not possible now is tried again, as often as the plugin's settings say.

use bytes::Bytes;
use waypost_wire::{Code, RecordRef};

use super::{DeadLetter, Failure, Fate, Item, Run, Stage};
use crate::route::OnError;

/// Failed calls of one stage after which messages go one by one: twice what it takes to find one
/// culprit among 256, so that many culprits do not cost a split each.
const SPLITS_MAX: u32 = 16;

impl Run {
    /// The first message that waits is to be tried again, or meets `on_error` when it was tried too
    /// often.
    pub(super) fn retry(&mut self, mut stage: Stage, asked_ms: u64) {
        if self.tries_again(&mut stage, asked_ms) {
            self.stage = Some(stage);
            return;
        }
        let failure = Failure {
            kind: "retry",
            text: format!("asked to be called later, {} times", stage.tries),
            backtrace: None,
        };
        stage.tries = 0;
        if let Some(mut items) = stage.parts.pop_front() {
            let rest = items.split_off(1.min(items.len()));
            if !rest.is_empty() {
                stage.parts.push_front(rest);
            }
            for item in items {
                self.fail_one(&mut stage, item, &failure);
            }
        }
        self.stage = Some(stage);
    }

    /// Whether there is one more attempt; then the run is held.
    fn tries_again(&mut self, stage: &mut Stage, asked_ms: u64) -> bool {
        let retry = self.plugin_of(stage).retry;
        stage.tries += 1;
        let is_left = stage.tries <= retry.attempts;
        if is_left {
            self.hold = Some(retry.pause(stage.tries, asked_ms));
        }
        is_left
    }

    /// The plugin lacks something that may be there later: the same call is to be made again. When
    /// that was done too often, the call has failed and is split: some messages may not need it.
    pub fn unavailable(&mut self, why: &str) {
        let Some(mut stage) = self.stage.take() else {
            return;
        };
        if !stage.gave_up && self.tries_again(&mut stage, 0) {
            if !self.traces.is_empty() {
                for item in stage.parts.front().into_iter().flatten() {
                    let (route, at) = (stage.route, Some(stage.plugin));
                    self.trace(item.at(), route, at, "unavailable", |_| why.to_owned());
                }
            }
            self.stage = Some(stage);
            return;
        }
        stage.gave_up = true;
        let times = self.plugin_of(&stage).retry.attempts + 1;
        self.stage = Some(stage);
        let why = if why.is_empty() {
            "something is missing"
        } else {
            why
        };
        self.failed(Failure {
            kind: "unavailable",
            text: format!("{why}, {times} times"),
            backtrace: None,
        });
    }

    /// Only the first message of the next call is wanted; the others make a call of their own.
    pub fn one_by_one(&mut self) {
        if let Some(stage) = &mut self.stage
            && let Some(first) = stage.parts.front_mut()
            && first.len() > 1
        {
            let rest = first.split_off(1);
            stage.parts.insert(1, rest);
        }
    }

    /// The call failed. It is split, or its only message meets the plugin's `on_error`.
    pub fn failed(&mut self, failure: Failure) {
        let Some(mut stage) = self.stage.take() else {
            return;
        };
        let Some(mut items) = stage.parts.pop_front() else {
            return;
        };
        stage.tries = 0;
        if items.len() > 1 {
            stage.splits += 1;
            if stage.splits > SPLITS_MAX {
                let alone = items.into_iter().rev().map(|item| vec![item]);
                alone.for_each(|part| stage.parts.push_front(part));
            } else {
                let second = items.split_off(items.len() / 2);
                stage.parts.push_front(second);
                stage.parts.push_front(items);
            }
            self.stage = Some(stage);
            return;
        }
        for item in items {
            self.fail_one(&mut stage, item, &failure);
        }
        self.stage = Some(stage);
    }

    /// The call is not made now, for no fault of a message: it is made after so many ms.
    pub fn wait(&mut self, ms: u64) {
        self.hold = Some(ms.max(1));
    }

    /// The plugin is not called: each message of the call meets `on_error`.
    pub fn not_called(&mut self, failure: &Failure) {
        let Some(mut stage) = self.stage.take() else {
            return;
        };
        for item in stage.parts.pop_front().unwrap_or_default() {
            self.fail_one(&mut stage, item, failure);
        }
        self.stage = Some(stage);
    }

    /// The plugin is not called: each message of the call is refused.
    pub fn refused(&mut self, code: Code, why: &str) {
        let Some(mut stage) = self.stage.take() else {
            return;
        };
        let text = self.blame(&stage, why);
        for item in stage.parts.pop_front().unwrap_or_default() {
            let (route, at) = (stage.route, Some(stage.plugin));
            self.trace(item.at(), route, at, "refused", |_| why.to_owned());
            self.fate(item.input, Fate::Refused, code, text.clone());
        }
        self.stage = Some(stage);
    }

    /// What `on_error` says of a message on which the plugin failed.
    pub(super) fn fail_one(&mut self, stage: &mut Stage, item: Item, failure: &Failure) {
        let plugin = self.table.routes()[stage.route as usize].through[stage.plugin];
        let reason = format!("{}: {}", failure.kind, failure.text);
        let (route, at) = (stage.route, Some(stage.plugin));
        let on_error = self.table.plugins()[plugin as usize].on_error;
        let word = match on_error {
            OnError::DeadLetter => "failed",
            OnError::Pass => "failed, passed",
            OnError::Reject => "failed, rejected",
        };
        self.trace(item.at(), route, at, word, |_| reason.clone());
        match on_error {
            OnError::DeadLetter => {
                self.dead_letter(stage, item, &reason, failure.backtrace.as_deref())
            }
            OnError::Pass => stage.done.push(item),
            OnError::Reject => {
                let text = self.blame(stage, &reason);
                self.fate(item.input, Fate::Refused, Code::PluginFailed, text);
            }
        }
    }

    pub(super) fn dead_letter(
        &mut self,
        stage: &Stage,
        item: Item,
        reason: &str,
        backtrace: Option<&str>,
    ) {
        let route = self.route_name(stage.route);
        let plugin = self.plugin_name(stage.route, stage.plugin);
        let text = self.blame(stage, reason);
        let mut reasons = vec![
            ("waypost-dead-route", &*route),
            ("waypost-dead-reason", reason),
        ];
        reasons.push(("waypost-dead-plugin", &plugin));
        reasons.extend(backtrace.map(|b| ("waypost-dead-backtrace", b)));
        let body = with_reasons(&item.body, &reasons);
        let (at, text_of) = (item.at(), |_: &Run| reason.to_owned());
        self.trace(at, stage.route, None, "dead-letter", text_of);
        self.fate(item.input, Fate::Dead, Code::PluginFailed, text.clone());
        self.outcome.dead.push(DeadLetter {
            input: item.input,
            body,
            reason: text,
        });
    }
}

/// Bytes of one reason that a dead letter keeps.
const REASON_BYTES_MAX: usize = 4096;

/// A body with headers added that say why it is in the dead letters. A body that does not parse
/// (which admission rules out) is kept as it is.
pub fn with_reasons(body: &Bytes, reasons: &[(&'static str, &str)]) -> Bytes {
    let Ok(record) = RecordRef::parse(body) else {
        return body.clone();
    };
    let mut message = record.to_message();
    // It stays until somebody looks at it.
    message.not_before_ms = None;
    message.time_to_live_ms = None;
    message
        .headers
        .retain(|(name, _)| !name.starts_with("waypost-dead-"));
    // Room is made for the reasons: a dead letter must stay a valid record.
    message
        .headers
        .truncate(waypost_wire::record::HEADERS_MAX - reasons.len().min(16));
    for (name, value) in reasons.iter().filter(|(_, value)| !value.is_empty()) {
        let value = &value[..value.floor_char_boundary(REASON_BYTES_MAX)];
        message
            .headers
            .push(((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes())));
    }
    message.to_body()
}
