//! Answers of guests, checked and turned into verdicts.
//!
//! What is wrong with the answer for one message costs that message only
//! ([`Verdict::Violation`]); what is wrong with the answer as a whole fails the call.

use bytes::Bytes;
use waypost_wire::TopicError;
use waypost_wire::record::HEADERS_MAX;
use waypost_wire::topic::{is_reserved, parse_topic};

use crate::Limits;
use crate::MessageRef;
use crate::bindings::{self, Choice, Decision, Decisions, EachOutcome, Outcome};
use crate::verdict::{Destinations, Edit, Outgoing, Rule, Verdict, Verdicts, Violation};

/// What is wrong with an answer as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("{found} answers for {expected} messages")]
    Length { found: usize, expected: usize },
    #[error("a reason for message {position} of {count}")]
    ReasonPosition { position: u32, count: usize },
    #[error("more than {limit} messages emitted, reached at message {position}")]
    EmittedMessages { position: usize, limit: usize },
    #[error("more than {limit} bytes emitted, reached at message {position}")]
    EmittedBytes { position: usize, limit: usize },
}

/// Checks the answer of one call, which had `batch` as input and `destinations` to choose from.
pub(crate) struct Checker<'a> {
    limits: &'a Limits,
    destinations: usize,
    batch: &'a [MessageRef<'a>],
    messages: usize,
    bytes: usize,
    published: Output,
}

/// How much a call has put out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub messages: usize,
    pub bytes: usize,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(
        limits: &'a Limits,
        destinations: usize,
        batch: &'a [MessageRef<'a>],
    ) -> Checker<'a> {
        Checker {
            limits,
            destinations,
            batch,
            messages: 0,
            bytes: 0,
            published: Output::default(),
        }
    }

    /// Counts what the call has published; it shares its limits with what the answer emits.
    pub(crate) fn published(&mut self, published: Output) {
        self.published = published;
    }

    fn length(&self, found: usize) -> Result<(), AnswerError> {
        if found == self.batch.len() {
            return Ok(());
        }
        Err(AnswerError::Length {
            found,
            expected: self.batch.len(),
        })
    }

    pub(crate) fn filter(self, answer: Decisions) -> Result<Verdicts, AnswerError> {
        self.length(answer.each.len())?;
        if answer.reasons.is_empty() && answer.each.iter().all(|d| *d == Decision::Pass) {
            return Ok(Verdicts::all_passed(self.batch.len()));
        }
        let mut verdicts: Vec<Verdict> = answer.each.into_iter().map(decided).collect();
        for (position, reason) in answer.reasons {
            match verdicts.get_mut(position as usize) {
                Some(Verdict::Drop(why) | Verdict::Reject(why) | Verdict::DeadLetter(why)) => {
                    *why = Some(cut(reason.into()));
                }
                Some(_) => {}
                None => {
                    return Err(AnswerError::ReasonPosition {
                        position,
                        count: self.batch.len(),
                    });
                }
            }
        }
        Ok(Verdicts::each(verdicts))
    }

    pub(crate) fn transform(mut self, answer: Vec<Outcome>) -> Result<Verdicts, AnswerError> {
        self.length(answer.len())?;
        if answer
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Pass))
        {
            return Ok(Verdicts::all_passed(self.batch.len()));
        }
        let mut verdicts = Vec::with_capacity(answer.len());
        for (position, outcome) in answer.into_iter().enumerate() {
            verdicts.push(match outcome {
                Outcome::Pass => Verdict::Pass,
                Outcome::Drop(reason) => Verdict::Drop(reason.map(cut)),
                Outcome::Edit(edit) => self.edit(position, edit)?,
                Outcome::Emit(messages) => self.emit(position, messages)?,
                Outcome::Reject(reason) => Verdict::Reject(Some(cut(reason))),
                Outcome::Retry(delay) => retry(delay),
                Outcome::DeadLetter(reason) => Verdict::DeadLetter(Some(cut(reason))),
            });
        }
        Ok(Verdicts::each(verdicts))
    }

    pub(crate) fn route(self, answer: Vec<Choice>) -> Result<Verdicts, AnswerError> {
        self.length(answer.len())?;
        if answer.iter().all(|choice| matches!(choice, Choice::Pass)) {
            return Ok(Verdicts::all_passed(self.batch.len()));
        }
        let verdicts = answer
            .into_iter()
            .enumerate()
            .map(|(position, choice)| match choice {
                Choice::Pass => Verdict::Pass,
                Choice::Drop(reason) => Verdict::Drop(reason.map(cut)),
                Choice::One(index) => self.to(position, Destinations::One(index)),
                Choice::To(indexes) => self.to(position, Destinations::Several(indexes)),
                Choice::Reject(reason) => Verdict::Reject(Some(cut(reason))),
                Choice::Retry(delay) => retry(delay),
                Choice::DeadLetter(reason) => Verdict::DeadLetter(Some(cut(reason))),
            });
        Ok(Verdicts::each(verdicts.collect()))
    }

    pub(crate) fn each(
        &mut self,
        position: usize,
        outcome: EachOutcome,
    ) -> Result<Verdict, AnswerError> {
        Ok(match outcome {
            EachOutcome::Pass => Verdict::Pass,
            EachOutcome::Drop(reason) => Verdict::Drop(reason.map(cut)),
            EachOutcome::Edit(edit) => self.edit(position, edit)?,
            EachOutcome::Emit(messages) => self.emit(position, messages)?,
            EachOutcome::To(indexes) => self.to(position, Destinations::Several(indexes)),
            EachOutcome::Reject(reason) => Verdict::Reject(Some(cut(reason))),
            EachOutcome::Retry(delay) => retry(delay),
            EachOutcome::DeadLetter(reason) => Verdict::DeadLetter(Some(cut(reason))),
        })
    }

    fn to(&self, position: usize, to: Destinations) -> Verdict {
        let indexes = to.as_slice();
        let count = self.destinations;
        let broken = if indexes.is_empty() {
            Some(Rule::NoDestination)
        } else if let Some(index) = indexes.iter().find(|index| **index as usize >= count) {
            Some(Rule::Destination {
                index: *index,
                count,
            })
        } else {
            // In range and of limited number, so the square of a short list at most.
            let repeated = |(i, index)| indexes[..i].contains(index);
            let twice = indexes
                .iter()
                .enumerate()
                .take(count + 1)
                .find(|pair| repeated(*pair));
            twice.map(|(_, index)| Rule::DestinationTwice(*index))
        };
        broken.map_or(Verdict::To(to), |rule| violation(position, rule))
    }

    fn edit(&mut self, position: usize, edit: bindings::Edit) -> Result<Verdict, AnswerError> {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |t| t.len());
        let data = |data: &Option<Box<[u8]>>| data.as_ref().map_or(0, |d| d.len());
        let payload = data(&edit.payload);
        let names: usize = edit.remove_headers.iter().map(|name| name.len()).sum();
        let fixed = text(&edit.topic) + text(&edit.content_type) + data(&edit.key);
        self.charge_bytes(
            position,
            fixed + payload + names + headers_len(&edit.set_headers),
        )?;
        let checked = fits(self.limits, payload)
            .and_then(|()| headers(&edit.set_headers))
            .and_then(|()| self.headers_after(position, &edit))
            .and_then(|()| edit.topic.as_deref().map_or(Ok(()), own_topic));
        if let Err(rule) = checked {
            return Ok(violation(position, rule));
        }
        Ok(Verdict::Edit(Box::new(Edit {
            topic: edit.topic,
            key: edit.key.map(Bytes::from),
            content_type: edit.content_type,
            remove_headers: edit.remove_headers,
            set_headers: owned_headers(edit.set_headers),
            payload: edit.payload.map(Bytes::from),
            ttl_ms: edit.ttl_ms,
        })))
    }

    /// A message may not have more headers after an edit than a record can hold.
    fn headers_after(&self, position: usize, edit: &bindings::Edit) -> Result<(), Rule> {
        let Some(message) = self.batch.get(position) else {
            return Ok(());
        };
        let set = edit.set_headers.len();
        if message.record.header_count() as usize + set <= HEADERS_MAX {
            return Ok(());
        }
        let replaced = |name: &str| {
            edit.remove_headers.iter().any(|removed| **removed == *name)
                || edit.set_headers.iter().any(|(set, _)| **set == *name)
        };
        let count = message
            .record
            .headers()
            .filter(|(name, _)| !replaced(name))
            .count()
            + set;
        if count > HEADERS_MAX {
            return Err(Rule::TooManyHeaders {
                count,
                limit: HEADERS_MAX,
            });
        }
        Ok(())
    }

    fn emit(
        &mut self,
        position: usize,
        messages: Vec<bindings::Outgoing>,
    ) -> Result<Verdict, AnswerError> {
        self.messages += messages.len();
        let limit = self.limits.emitted_messages;
        if self.messages + self.published.messages > limit {
            return Err(AnswerError::EmittedMessages { position, limit });
        }
        let mut emitted = Vec::with_capacity(messages.len());
        for message in messages {
            self.charge_bytes(position, outgoing_len(&message))?;
            match outgoing(self.limits, message) {
                Ok(message) => emitted.push(message),
                Err(rule) => return Ok(violation(position, rule)),
            }
        }
        Ok(Verdict::Emit(emitted))
    }

    fn charge_bytes(&mut self, position: usize, bytes: usize) -> Result<(), AnswerError> {
        self.bytes += bytes;
        let limit = self.limits.emitted_bytes;
        if self.bytes + self.published.bytes > limit {
            return Err(AnswerError::EmittedBytes { position, limit });
        }
        Ok(())
    }
}

/// Bytes that a message of a plugin's counts.
pub(crate) fn outgoing_len(message: &bindings::Outgoing) -> usize {
    let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |t| t.len());
    let key = message.key.as_ref().map_or(0, |key| key.len());
    let fixed = message.topic.len() + text(&message.content_type) + text(&message.reply_to);
    fixed + key + headers_len(&message.headers) + message.payload.len()
}

/// Checks a message that a plugin made.
pub(crate) fn outgoing(limits: &Limits, message: bindings::Outgoing) -> Result<Outgoing, Rule> {
    fits(limits, message.payload.len())?;
    headers(&message.headers)?;
    own_topic(&message.topic)?;
    if let Some(reply_to) = &message.reply_to {
        valid_topic("reply-to", reply_to)?;
    }
    Ok(Outgoing {
        topic: message.topic,
        key: message.key.map(Bytes::from),
        content_type: message.content_type,
        reply_to: message.reply_to,
        headers: owned_headers(message.headers),
        payload: Bytes::from(message.payload),
        ttl_ms: message.ttl_ms,
    })
}

fn fits(limits: &Limits, payload_bytes: usize) -> Result<(), Rule> {
    let limit = limits.payload_bytes;
    if payload_bytes > limit {
        return Err(Rule::PayloadTooLarge {
            bytes: payload_bytes,
            limit,
        });
    }
    Ok(())
}

/// The longest reason that is kept; what is longer is cut at a character.
const REASON_BYTES_MAX: usize = 1 << 10;

fn cut(reason: Box<str>) -> Box<str> {
    if reason.len() <= REASON_BYTES_MAX {
        return reason;
    }
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into()
}

fn decided(decision: Decision) -> Verdict {
    match decision {
        Decision::Pass => Verdict::Pass,
        Decision::Drop => Verdict::Drop(None),
        Decision::Reject => Verdict::Reject(None),
        Decision::Retry => Verdict::Retry { delay_ms: None },
        Decision::DeadLetter => Verdict::DeadLetter(None),
    }
}

fn retry(delay_ms: u32) -> Verdict {
    Verdict::Retry {
        delay_ms: Some(delay_ms).filter(|delay_ms| *delay_ms > 0),
    }
}

fn violation(position: usize, rule: Rule) -> Verdict {
    Verdict::Violation(Box::new(Violation { position, rule }))
}

fn own_topic(topic: &str) -> Result<(), Rule> {
    valid_topic("topic", topic)?;
    if is_reserved(topic) {
        Err(Rule::ReservedTopic(shortened(topic)))
    } else {
        Ok(())
    }
}

fn valid_topic(field: &'static str, topic: &str) -> Result<(), Rule> {
    let refuse = |error: TopicError| Rule::Topic {
        field,
        value: shortened(topic),
        error,
    };
    parse_topic(topic.as_bytes()).map(|_| ()).map_err(refuse)
}

fn shortened(text: &str) -> Box<str> {
    text.chars().take(128).collect::<String>().into()
}

fn headers(headers: &[bindings::Header]) -> Result<(), Rule> {
    if headers.len() > HEADERS_MAX {
        return Err(Rule::TooManyHeaders {
            count: headers.len(),
            limit: HEADERS_MAX,
        });
    }
    if headers.iter().any(|(name, _)| name.is_empty()) {
        Err(Rule::HeaderName)
    } else {
        Ok(())
    }
}

fn headers_len(headers: &[bindings::Header]) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

fn owned_headers(headers: bindings::Headers) -> Vec<(String, Bytes)> {
    headers
        .into_iter()
        .map(|(name, value)| (String::from(name), Bytes::from(value)))
        .collect()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
