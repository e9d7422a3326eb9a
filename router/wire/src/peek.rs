//! Single fields of a body, for those who need nothing else of it: fields stand in ascending order,
//! so a look ends at the first one behind what is asked for.
//!
//! The body must have been parsed once ([`crate::RecordRef`]); of one that was not, a look gives
//! what it finds before the first byte that makes no sense, and never panics.

use crate::record::{KEY, MESSAGE_ID, NOT_BEFORE, PREFIX_BYTES, PRIORITY, TIME_TO_LIVE, TOPIC};
use crate::varint::{self, Reader};

/// When a message may be delivered, and until when, in ms after the node received it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Not before this.
    pub not_before_ms: Option<u64>,
    /// Not at this or later.
    pub time_to_live_ms: Option<u64>,
}

impl Timing {
    /// Whether it says anything.
    pub fn is_any(&self) -> bool {
        *self != Timing::default()
    }
}

/// The timing of a body.
#[inline]
pub fn timing(body: &[u8]) -> Timing {
    let mut timing = Timing::default();
    let mut fields = Fields::new(body);
    while let Some((id, value)) = fields.next(TIME_TO_LIVE) {
        match id {
            NOT_BEFORE => timing.not_before_ms = number(value),
            TIME_TO_LIVE => timing.time_to_live_ms = number(value),
            _ => {}
        }
    }
    timing
}

/// The priority of a body, 0 to 7; 0 where it names none.
#[inline]
pub fn priority(body: &[u8]) -> u8 {
    let value = Fields::new(body).find(PRIORITY).and_then(number);
    value.map_or(0, |level| level.min(7) as u8)
}

/// The topic of a body.
#[inline]
pub fn topic(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(Fields::new(body).find(TOPIC)?).ok()
}

/// The key of a body.
#[inline]
pub fn key(body: &[u8]) -> Option<&[u8]> {
    Fields::new(body).find(KEY)
}

/// The message id of a body.
#[inline]
pub fn message_id(body: &[u8]) -> Option<&[u8]> {
    Fields::new(body).find(MESSAGE_ID)
}

/// What is left of a body's fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    fn new(body: &'a [u8]) -> Fields<'a> {
        Fields(body.get(PREFIX_BYTES..).unwrap_or_default())
    }

    /// The next field, unless it lies behind `last`.
    #[inline]
    fn next(&mut self, last: u64) -> Option<(u64, &'a [u8])> {
        // Most fields have an id and a length of a byte each.
        if let [id @ ..0x40, length @ ..0x40, rest @ ..] = self.0
            && let Some((value, rest)) = rest.split_at_checked(usize::from(*length))
        {
            let id = u64::from(*id >> 1);
            if id > last {
                return None;
            }
            self.0 = rest;
            return Some((id, value));
        }
        let mut reader = Reader::new(self.0);
        let id = reader.varint()? >> 1;
        if id > last {
            return None;
        }
        let value = reader.prefixed()?;
        self.0 = reader.rest();
        Some((id, value))
    }

    #[inline]
    fn find(mut self, wanted: u64) -> Option<&'a [u8]> {
        while let Some((id, value)) = self.next(wanted) {
            if id == wanted {
                return Some(value);
            }
        }
        None
    }
}

fn number(value: &[u8]) -> Option<u64> {
    varint::get(value).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Message, RecordRef};

    proptest! {
        /// A look finds what the parser finds, whatever else the record has.
        #[test]
        fn a_look_agrees_with_the_parser(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            level in proptest::option::of(0u8..8),
            not_before in proptest::option::of(0u64..1 << 40),
            ttl in proptest::option::of(0u64..1 << 40),
            content_type in proptest::option::of("[a-z]{1,9}"),
            id in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..9)),
        ) {
            let mut message = Message::new("a/b", vec![7u8; 40]);
            message.key = key.map(Into::into);
            message.priority = level;
            message.not_before_ms = not_before;
            message.time_to_live_ms = ttl;
            message.content_type = content_type;
            message.message_id = id.map(Into::into);
            let body = message.to_body();
            let record = RecordRef::parse(&body).unwrap();
            prop_assert_eq!(super::key(&body), record.key());
            prop_assert_eq!(message_id(&body), record.message_id());
            prop_assert_eq!(priority(&body), level.unwrap_or(0));
            let found = timing(&body);
            prop_assert_eq!(found.time_to_live_ms, record.time_to_live_ms());
            prop_assert_eq!(found.not_before_ms, record.not_before_ms());
            prop_assert_eq!(found.is_any(), record.is_timed());
            prop_assert_eq!(found.not_before_ms, not_before);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = (timing(&bytes), priority(&bytes), key(&bytes), message_id(&bytes));
        }
    }
}
