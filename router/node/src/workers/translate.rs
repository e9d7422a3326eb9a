//! What a guest says, as the pipeline understands it.

use bytes::Bytes;
use waypost_core::pipeline::{Failure, Verdict};
use waypost_host::{CallErrorKind, MessageRef, Published};
use waypost_wire::Message;
use waypost_wire::record::RecordError;

pub(super) fn kind(kind: CallErrorKind) -> &'static str {
    match kind {
        CallErrorKind::Trap => "trap",
        CallErrorKind::Deadline => "deadline",
        CallErrorKind::Memory => "memory",
        CallErrorKind::HostCalls => "host-calls",
        CallErrorKind::Output => "output",
        CallErrorKind::Invalid => "invalid",
        CallErrorKind::Unavailable => "unavailable",
        CallErrorKind::Internal => "internal",
    }
}

/// A guest's verdict as the pipeline's.
pub(super) fn translate(verdict: waypost_host::Verdict, of: &MessageRef<'_>) -> Verdict {
    use waypost_host::Verdict as Guest;
    let text = |reason: Option<Box<str>>| reason.map(String::from).unwrap_or_default();
    match verdict {
        Guest::Pass => Verdict::Pass,
        Guest::Drop(reason) => Verdict::Drop(text(reason)),
        Guest::Edit(edit) => {
            let mut message = of.record.to_message();
            edit.apply(&mut message);
            match bounded(&message) {
                Ok(body) => Verdict::Replace(body),
                Err(failure) => Verdict::Failed(failure),
            }
        }
        Guest::Emit(outgoing) => {
            let emitted = outgoing
                .into_iter()
                .map(|out| bounded(&inherit(out.into_message(), of)));
            match emitted.collect() {
                Ok(emitted) => Verdict::Emit(emitted),
                Err(failure) => Verdict::Failed(failure),
            }
        }
        Guest::To(destinations) => Verdict::To(destinations.as_slice().to_vec()),
        Guest::Reject(reason) => Verdict::Reject(text(reason)),
        Guest::Retry { delay_ms } => Verdict::Retry(delay_ms.map_or(0, u64::from)),
        Guest::DeadLetter(reason) => Verdict::DeadLetter(text(reason)),
        Guest::Failed(text) => Verdict::Failed(Failure {
            kind: "error",
            text: text.into(),
            backtrace: None,
        }),
        Guest::Violation(violation) => Verdict::Failed(Failure {
            kind: "output",
            text: violation.to_string(),
            backtrace: None,
        }),
    }
}

/// What a call published, as bodies with the positions of their causes.
pub(super) fn published(
    published: Vec<Published>,
    batch: &[MessageRef<'_>],
) -> Result<Vec<(u32, Bytes)>, Failure> {
    let body = |Published { cause, message }: Published| {
        let message = message.into_message();
        let message = match batch.get(cause as usize) {
            Some(of) => inherit(message, of),
            None => message,
        };
        Ok((cause, bounded(&message)?))
    };
    published.into_iter().map(body).collect()
}

/// The body of a message that a plugin made or changed. The host has checked its payload; what it
/// has beside that has the bound that a publisher's has.
fn bounded(message: &Message) -> Result<Bytes, Failure> {
    let length = message.encoded_len() - message.payload.len();
    if length <= waypost_wire::record::FIELDS_BYTES_MAX {
        return Ok(message.to_body());
    }
    Err(Failure {
        kind: "output",
        text: RecordError::FieldsTooLarge { length }.to_string(),
        backtrace: None,
    })
}

/// What a message that a plugin made takes over from the one that it was made from.
fn inherit(mut made: Message, of: &MessageRef<'_>) -> Message {
    let from = of.record.to_message();
    made.namespace = from.namespace;
    made.traceparent = from.traceparent;
    made.correlation = from.correlation;
    made.message_id = made.message_id.or(from.message_id);
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_wire::RecordRef;
    use waypost_wire::record::FIELDS_BYTES_MAX;

    #[test]
    fn what_a_plugin_makes_has_the_bound_of_what_is_published() {
        let message = |bytes| Message::new("a", "payload").with_header("h", vec![0; bytes]);
        let fits = bounded(&message(FIELDS_BYTES_MAX - 100)).unwrap();
        assert!(RecordRef::parse(&fits).unwrap().check_size(7).is_ok());
        let failure = bounded(&message(FIELDS_BYTES_MAX)).unwrap_err();
        assert_eq!(failure.kind, "output");
        assert!(failure.text.contains("limit 65536"), "{failure:?}");
    }
}
