//! What a plugin asked for in `init`, checked.

use std::sync::Arc;

use crate::bindings;

/// The fields of a message that a plugin reads. Topic and receive time are always there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Which headers.
    pub headers: HeaderInterest,
    /// How much of the payload.
    pub payload: PayloadInterest,
    /// Which of the other fields.
    pub fields: Fields,
    /// The most messages of one call; at most [`waypost_wire::BATCH_MESSAGES_MAX`] where 0.
    pub batch_max: usize,
}

/// Which headers a plugin reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeaderInterest {
    /// None.
    #[default]
    Nothing,
    /// Those with one of these names.
    Only(Arc<[String]>),
    /// All.
    Everything,
}

impl HeaderInterest {
    #[inline]
    pub(crate) fn covers(&self, name: &str) -> bool {
        match self {
            HeaderInterest::Nothing => false,
            HeaderInterest::Only(names) => names.iter().any(|wanted| wanted == name),
            HeaderInterest::Everything => true,
        }
    }
}

/// How much of the payload a plugin reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PayloadInterest {
    /// Nothing.
    #[default]
    Nothing,
    /// So many bytes at its start.
    Prefix(u32),
    /// All of it.
    Everything,
}

/// Which of the fields that few plugins read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// `key`
    pub key: bool,
    /// `content-type`
    pub content_type: bool,
    /// `message-id`
    pub message_id: bool,
    /// `reply-to`
    pub reply_to: bool,
    /// `ttl`
    pub ttl: bool,
}

impl Fields {
    #[inline]
    pub(crate) fn any(self) -> bool {
        self != Fields::default()
    }
}

/// Names of headers that may be asked for; with more, ask for everything.
const HEADER_NAMES_MAX: usize = 64;

impl Interest {
    /// Checks what a guest said; the error is a sentence about it.
    pub(crate) fn check(raw: bindings::Interest) -> Result<Interest, String> {
        let headers = match raw.headers {
            bindings::HeaderInterest::Nothing => HeaderInterest::Nothing,
            bindings::HeaderInterest::Everything => HeaderInterest::Everything,
            bindings::HeaderInterest::Only(names) if names.len() > HEADER_NAMES_MAX => {
                return Err(format!(
                    "{} header names, limit {HEADER_NAMES_MAX}",
                    names.len()
                ));
            }
            bindings::HeaderInterest::Only(names) if names.is_empty() => HeaderInterest::Nothing,
            bindings::HeaderInterest::Only(names) => HeaderInterest::Only(names.into()),
        };
        let payload = match raw.payload {
            bindings::PayloadInterest::Nothing => PayloadInterest::Nothing,
            bindings::PayloadInterest::Prefix(bytes) => PayloadInterest::Prefix(bytes),
            bindings::PayloadInterest::Everything => PayloadInterest::Everything,
        };
        let mut fields = Fields::default();
        for name in &raw.fields {
            let field = match name.as_str() {
                "key" => &mut fields.key,
                "content-type" => &mut fields.content_type,
                "message-id" => &mut fields.message_id,
                "reply-to" => &mut fields.reply_to,
                "ttl" => &mut fields.ttl,
                _ => {
                    return Err(format!(
                        "field '{}', expected key, content-type, message-id, reply-to or ttl",
                        name.chars().take(64).collect::<String>()
                    ));
                }
            };
            *field = true;
        }
        let batch_max = match raw.max_batch as usize {
            0 => waypost_wire::BATCH_MESSAGES_MAX,
            asked => asked.min(waypost_wire::BATCH_MESSAGES_MAX),
        };
        Ok(Interest {
            headers,
            payload,
            fields,
            batch_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(fields: &[&str], max_batch: u32) -> bindings::Interest {
        bindings::Interest {
            headers: bindings::HeaderInterest::Nothing,
            payload: bindings::PayloadInterest::Nothing,
            fields: fields.iter().map(|f| f.to_string()).collect(),
            max_batch,
        }
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let error = Interest::check(raw(&["key", "colour"], 0)).expect_err("unknown");
        assert!(error.starts_with("field 'colour', expected key"), "{error}");
    }

    #[test]
    fn batches_are_never_larger_than_the_routers() {
        assert_eq!(Interest::check(raw(&[], 0)).expect("valid").batch_max, 256);
        assert_eq!(
            Interest::check(raw(&[], 1_000)).expect("valid").batch_max,
            256
        );
        assert_eq!(
            Interest::check(raw(&["ttl"], 8)).expect("valid").batch_max,
            8
        );
    }
}
