//! Views into a packed batch. The layout is drawn in `wit/plugin.wit`, at `record batch`.
//!
//! Nothing here panics, whatever the words say: an offset outside the arena reads as an empty
//! field. The router fills batches correctly; the checks keep a mistake there from becoming a
//! mistake here.

use std::borrow::Cow;

use crate::Error;
use crate::raw::types;

const STRIDE_MIN: usize = 20;

const REDELIVERED: u32 = 1;
const FROM_PEER: u32 = 2;
const PAYLOAD_CUT: u32 = 4;
const HAS_TTL: u32 = 8;
const HAS_KEY: u32 = 16;
const HAS_CONTENT_TYPE: u32 = 32;
const HAS_MESSAGE_ID: u32 = 64;
const HAS_REPLY_TO: u32 = 128;

/// The messages of one call.
pub struct Batch {
    count: usize,
    stride: usize,
    index: Vec<u32>,
    arena: Vec<u8>,
}

/// One message of a batch; reads its fields when asked for them.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    position: u32,
    words: &'a [u32; STRIDE_MIN],
    arena: &'a [u8],
}

/// The messages of a batch, in order.
#[derive(Clone)]
pub struct Messages<'a> {
    batch: &'a Batch,
    next: usize,
}

impl Batch {
    /// Takes over what the router passed.
    #[doc(hidden)]
    pub fn new(raw: types::Batch) -> Result<Batch, Error> {
        let batch = Batch {
            count: raw.count as usize,
            stride: raw.stride as usize,
            index: raw.index,
            arena: raw.arena,
        };
        let words = batch.count.checked_mul(batch.stride);
        if batch.stride < STRIDE_MIN || words.is_none_or(|words| words > batch.index.len()) {
            return Err(Error::Internal(
                "the batch's index does not hold its messages".into(),
            ));
        }
        Ok(batch)
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The message at `position`, from 0.
    #[inline]
    pub fn get(&self, position: usize) -> Option<Message<'_>> {
        if position >= self.count {
            return None;
        }
        let words = self.index.get(position * self.stride..)?.first_chunk()?;
        Some(Message {
            position: position as u32,
            words,
            arena: &self.arena,
        })
    }

    /// All messages, in order.
    pub fn iter(&self) -> Messages<'_> {
        Messages {
            batch: self,
            next: 0,
        }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Message<'a>;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        self.iter()
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    #[inline]
    fn next(&mut self) -> Option<Message<'a>> {
        let message = self.batch.get(self.next)?;
        self.next += 1;
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batch.count - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Messages<'_> {}

impl<'a> Message<'a> {
    /// The place in the batch, from 0.
    #[inline]
    pub fn position(&self) -> u32 {
        self.position
    }

    #[inline]
    fn bytes(&self, word: usize) -> &'a [u8] {
        let start = self.words[word] as usize;
        let end = start.saturating_add(self.words[word + 1] as usize);
        self.arena.get(start..end).unwrap_or_default()
    }

    #[inline]
    fn marked(&self, bit: u32) -> bool {
        self.words[0] & bit != 0
    }

    #[inline]
    fn wide(&self, word: usize) -> u64 {
        u64::from(self.words[word]) | u64::from(self.words[word + 1]) << 32
    }

    /// The topic.
    #[inline]
    pub fn topic(&self) -> &'a str {
        std::str::from_utf8(self.bytes(1)).unwrap_or_default()
    }

    /// The headers that were asked for, in the publisher's order; names may repeat.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut rest = self.bytes(3);
        std::iter::from_fn(move || {
            let (name, value) = next_header(&mut rest)?;
            Some((std::str::from_utf8(name).unwrap_or_default(), value))
        })
    }

    /// The value of the first header with this name, if that header was asked for.
    #[inline]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let mut rest = self.bytes(3);
        while let Some((found, value)) = next_header(&mut rest) {
            if found == name.as_bytes() {
                return Some(value);
            }
        }
        None
    }

    /// The same as text; `None` also where it is not UTF-8.
    pub fn header_str(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    /// The payload, or the part of it that was asked for.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes(5)
    }

    /// Bytes of the whole payload.
    pub fn payload_len(&self) -> usize {
        self.words[7] as usize
    }

    /// The whole payload; what is not here is pulled from the router.
    pub fn whole_payload(&self) -> Result<Cow<'a, [u8]>, Error> {
        let here = self.payload();
        if !self.marked(PAYLOAD_CUT) {
            return Ok(Cow::Borrowed(here));
        }
        let mut whole = Vec::with_capacity(self.payload_len());
        whole.extend_from_slice(here);
        while whole.len() < self.payload_len() {
            let wanted = (self.payload_len() - whole.len()).min(PULL_BYTES_MAX) as u32;
            let part = crate::host::read_payload(self.position, whole.len() as u32, wanted)
                .map_err(Error::Internal)?;
            if part.is_empty() {
                return Err(Error::Internal("the payload ended early".into()));
            }
            whole.extend_from_slice(&part);
        }
        Ok(Cow::Owned(whole))
    }

    /// When the router received it, in ms since 1970.
    pub fn receive_time_ms(&self) -> u64 {
        self.wide(8)
    }

    /// The key, if there is one and `key` was asked for.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.marked(HAS_KEY).then(|| self.bytes(10))
    }

    /// The content type, if there is one and `content-type` was asked for.
    pub fn content_type(&self) -> Option<&'a str> {
        self.marked(HAS_CONTENT_TYPE)
            .then(|| std::str::from_utf8(self.bytes(12)).unwrap_or_default())
    }

    /// The message id, if there is one and `message-id` was asked for.
    pub fn message_id(&self) -> Option<&'a [u8]> {
        self.marked(HAS_MESSAGE_ID).then(|| self.bytes(14))
    }

    /// The topic for an answer, if there is one and `reply-to` was asked for.
    pub fn reply_to(&self) -> Option<&'a str> {
        self.marked(HAS_REPLY_TO)
            .then(|| std::str::from_utf8(self.bytes(16)).unwrap_or_default())
    }

    /// What is left of the time-to-live in ms, if there is one and `ttl` was asked for.
    pub fn ttl_ms(&self) -> Option<u64> {
        self.marked(HAS_TTL).then(|| self.wide(18))
    }

    /// Whether the message was delivered to this route before.
    pub fn redelivered(&self) -> bool {
        self.marked(REDELIVERED)
    }

    /// Whether it came from a peer router.
    pub fn from_peer(&self) -> bool {
        self.marked(FROM_PEER)
    }
}

/// What `payload.read` gives at most in one call: 1 MiB.
const PULL_BYTES_MAX: usize = 1 << 20;

/// Cuts the next header off a run of them.
#[inline]
fn next_header<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (name_len, tail) = rest.split_first_chunk::<4>()?;
    let (value_len, tail) = tail.split_first_chunk::<4>()?;
    let (name, tail) = tail.split_at_checked(u32::from_le_bytes(*name_len) as usize)?;
    let (value, tail) = tail.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
    *rest = tail;
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(words: [u32; STRIDE_MIN], arena: &[u8]) -> types::Batch {
        types::Batch {
            count: 1,
            stride: STRIDE_MIN as u32,
            index: words.to_vec(),
            arena: arena.to_vec(),
        }
    }

    #[test]
    fn offsets_outside_the_arena_read_as_empty() {
        let mut words = [0; STRIDE_MIN];
        words[1..7].copy_from_slice(&[9, 9, 0, u32::MAX, u32::MAX, u32::MAX]);
        let Ok(batch) = Batch::new(raw(words, b"abc")) else {
            panic!("a valid index")
        };
        let Some(message) = batch.get(0) else {
            panic!("one message")
        };
        assert_eq!((message.topic(), message.payload()), ("", &b""[..]));
        assert_eq!(message.headers().count(), 0);
    }

    #[test]
    fn an_index_that_is_too_short_is_refused() {
        let mut short = raw([0; STRIDE_MIN], b"");
        short.count = 2;
        assert!(Batch::new(short).is_err());
    }

    #[test]
    fn headers_are_found_by_their_names() {
        let arena = b"\x01\0\0\0\x02\0\0\0axy\x01\0\0\0\x01\0\0\0bz";
        let mut words = [0; STRIDE_MIN];
        words[4] = arena.len() as u32;
        let Ok(batch) = Batch::new(raw(words, arena)) else {
            panic!("a valid index")
        };
        let Some(message) = batch.get(0) else {
            panic!("one message")
        };
        assert_eq!(message.header("b"), Some(&b"z"[..]));
        assert_eq!(message.header_str("a"), Some("xy"));
        assert_eq!(message.header("c"), None);
    }
}
