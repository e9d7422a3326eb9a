//! A message as the host takes it, and the batch that guests get of many.

use waypost_wire::record::RecordRef;

use crate::bindings;
use crate::interest::{HeaderInterest, Interest, PayloadInterest};

/// A message for a plugin: a record, and what the node knows of it.
#[derive(Clone, Copy, Debug)]
pub struct MessageRef<'a> {
    /// The parsed body.
    pub record: RecordRef<'a>,
    /// When the node received it, in ms since 1970.
    pub receive_time_ms: u64,
    /// What is left of its time-to-live, in ms, where it has one.
    pub ttl_ms: Option<u64>,
    /// It was delivered to this route before.
    pub redelivered: bool,
    /// It came from a peer router.
    pub from_peer: bool,
}

impl<'a> MessageRef<'a> {
    /// A message that the node has just received: its whole time-to-live is left.
    pub fn new(record: RecordRef<'a>, receive_time_ms: u64) -> MessageRef<'a> {
        MessageRef {
            record,
            receive_time_ms,
            ttl_ms: record.time_to_live_ms(),
            redelivered: false,
            from_peer: false,
        }
    }

    fn marks(&self) -> u32 {
        mark::when(self.redelivered, mark::REDELIVERED)
            | mark::when(self.from_peer, mark::FROM_PEER)
    }
}

/// Words that a message has in a packed batch. The layout is drawn in `wit/plugin.wit`.
pub(crate) const STRIDE: usize = 20;

mod mark {
    pub(super) const REDELIVERED: u32 = 1;
    pub(super) const FROM_PEER: u32 = 2;
    pub(super) const PAYLOAD_CUT: u32 = 4;
    pub(super) const HAS_TTL: u32 = 8;
    pub(super) const HAS_KEY: u32 = 16;
    pub(super) const HAS_CONTENT_TYPE: u32 = 32;
    pub(super) const HAS_MESSAGE_ID: u32 = 64;
    pub(super) const HAS_REPLY_TO: u32 = 128;

    #[inline]
    pub(super) fn when(condition: bool, mark: u32) -> u32 {
        if condition { mark } else { 0 }
    }
}

/// Buffers that a batch is packed into, kept from call to call.
///
/// Offsets are 32 bits wide: a batch larger than [`ARENA_BYTES_MAX`] is refused before packing.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    index: Vec<u32>,
    arena: Vec<u8>,
}

/// Bytes of a batch at most, packed; the largest payload is 64 MiB. 1 GiB.
pub(crate) const ARENA_BYTES_MAX: usize = 1 << 30;
/// What buffers may keep between calls: 4 MiB, four batches' worth.
const KEPT_BYTES_MAX: usize = 4 << 20;

impl Packed {
    /// Packs what `interest` asks for of `batch`.
    pub(crate) fn pack(&mut self, batch: &[MessageRef<'_>], interest: &Interest) {
        self.index.clear();
        self.arena.clear();
        self.index.reserve(batch.len() * STRIDE);
        for message in batch {
            let words = self.pack_one(message, interest);
            self.index.extend_from_slice(&words);
        }
    }

    #[inline]
    fn pack_one(&mut self, message: &MessageRef<'_>, interest: &Interest) -> [u32; STRIDE] {
        let record = &message.record;
        let mut words = [0u32; STRIDE];
        let mut marks = message.marks();
        (words[1], words[2]) = self.put(record.topic().as_bytes());
        (words[3], words[4]) = self.put_headers(message, &interest.headers);
        let payload = record.payload();
        let inlined = match interest.payload {
            PayloadInterest::Nothing => 0,
            PayloadInterest::Prefix(bytes) => payload.len().min(bytes as usize),
            PayloadInterest::Everything => payload.len(),
        };
        if inlined < payload.len() {
            marks |= mark::PAYLOAD_CUT;
        }
        if inlined > 0 {
            (words[5], words[6]) = self.put(&payload[..inlined]);
        }
        words[7] = payload.len() as u32;
        (words[8], words[9]) = halves(message.receive_time_ms);
        if interest.fields.any() {
            marks |= self.put_fields(message, interest, &mut words);
        }
        words[0] = marks;
        words
    }

    /// The fields that few plugins ask for.
    fn put_fields(
        &mut self,
        message: &MessageRef<'_>,
        interest: &Interest,
        words: &mut [u32; STRIDE],
    ) -> u32 {
        let (record, wanted) = (&message.record, interest.fields);
        let mut marks = 0;
        if let Some(key) = record.key().filter(|_| wanted.key) {
            (words[10], words[11]) = self.put(key);
            marks |= mark::HAS_KEY;
        }
        if let Some(content_type) = record.content_type().filter(|_| wanted.content_type) {
            (words[12], words[13]) = self.put(content_type.as_bytes());
            marks |= mark::HAS_CONTENT_TYPE;
        }
        if let Some(message_id) = record.message_id().filter(|_| wanted.message_id) {
            (words[14], words[15]) = self.put(message_id);
            marks |= mark::HAS_MESSAGE_ID;
        }
        if let Some(reply_to) = record.reply_to().filter(|_| wanted.reply_to) {
            (words[16], words[17]) = self.put(reply_to.as_bytes());
            marks |= mark::HAS_REPLY_TO;
        }
        if let Some(ttl_ms) = message.ttl_ms.filter(|_| wanted.ttl) {
            (words[18], words[19]) = halves(ttl_ms);
            marks |= mark::HAS_TTL;
        }
        marks
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) -> (u32, u32) {
        let offset = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        (offset, bytes.len() as u32)
    }

    #[inline]
    fn put_headers(&mut self, message: &MessageRef<'_>, wanted: &HeaderInterest) -> (u32, u32) {
        if matches!(wanted, HeaderInterest::Nothing) || message.record.header_count() == 0 {
            return (0, 0);
        }
        let start = self.arena.len();
        for (name, value) in message.record.headers() {
            if wanted.covers(name) {
                self.arena
                    .extend_from_slice(&(name.len() as u32).to_le_bytes());
                self.arena
                    .extend_from_slice(&(value.len() as u32).to_le_bytes());
                self.arena.extend_from_slice(name.as_bytes());
                self.arena.extend_from_slice(value);
            }
        }
        (start as u32, (self.arena.len() - start) as u32)
    }

    /// The batch, borrowed for a call.
    pub(crate) fn as_batch(&self) -> bindings::Batch<'_> {
        bindings::Batch {
            count: (self.index.len() / STRIDE) as u32,
            stride: STRIDE as u32,
            index: &self.index,
            arena: &self.arena,
        }
    }

    /// The parameters of a call with the batch.
    pub(crate) fn params(&self) -> (bindings::Batch<'_>,) {
        (self.as_batch(),)
    }

    /// Gives back what one unusually large batch took.
    pub(crate) fn shrink(&mut self) {
        if self.arena.capacity() > KEPT_BYTES_MAX {
            self.arena = Vec::new();
        }
    }
}

fn halves(wide: u64) -> (u32, u32) {
    (wide as u32, (wide >> 32) as u32)
}

/// The headers that `interest` asks for, for the one-message interface.
pub(crate) fn wanted_headers<'a>(
    message: &MessageRef<'a>,
    interest: &Interest,
) -> Vec<(&'a str, &'a [u8])> {
    if matches!(interest.headers, HeaderInterest::Nothing) {
        return Vec::new();
    }
    message
        .record
        .headers()
        .filter(|(name, _)| interest.headers.covers(name))
        .collect()
}

/// A message for the one-message interface.
pub(crate) fn one<'a>(
    message: &MessageRef<'a>,
    interest: &Interest,
    headers: &'a [(&'a str, &'a [u8])],
) -> bindings::Message<'a> {
    let (record, wanted) = (&message.record, interest.fields);
    let payload = match interest.payload {
        PayloadInterest::Nothing => &[],
        PayloadInterest::Prefix(n) => &record.payload()[..record.payload().len().min(n as usize)],
        PayloadInterest::Everything => record.payload(),
    };
    let cut = mark::when(payload.len() < record.payload().len(), mark::PAYLOAD_CUT);
    let key = record.key().filter(|_| wanted.key);
    let content_type = record.content_type().filter(|_| wanted.content_type);
    let message_id = record.message_id().filter(|_| wanted.message_id);
    let reply_to = record.reply_to().filter(|_| wanted.reply_to);
    let ttl_ms = message.ttl_ms.filter(|_| wanted.ttl);
    let has = mark::when(key.is_some(), mark::HAS_KEY)
        | mark::when(content_type.is_some(), mark::HAS_CONTENT_TYPE)
        | mark::when(message_id.is_some(), mark::HAS_MESSAGE_ID)
        | mark::when(reply_to.is_some(), mark::HAS_REPLY_TO)
        | mark::when(ttl_ms.is_some(), mark::HAS_TTL);
    bindings::Message {
        position: 0,
        marks: message.marks() | cut | has,
        topic: record.topic(),
        headers,
        payload,
        receive_time_ms: message.receive_time_ms,
        key,
        content_type,
        message_id,
        reply_to,
        ttl_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interest::Fields;
    use waypost_wire::record::Message;

    fn body() -> bytes::Bytes {
        let mut message = Message::new("a/b", "payload")
            .with_header("x", "1")
            .with_header("y", "22");
        message.key = Some("k".into());
        message.time_to_live_ms = Some(1 << 33);
        message.to_body()
    }

    fn packed(interest: &Interest) -> Packed {
        let body = body();
        let message = MessageRef::new(RecordRef::parse(&body).expect("valid"), 7 << 32 | 9);
        let mut packed = Packed::default();
        packed.pack(&[message, message], interest);
        packed
    }

    #[test]
    fn only_the_interest_is_packed() {
        let packed = packed(&Interest::default());
        assert_eq!(packed.arena, b"a/ba/b");
        assert_eq!(
            packed.index[..10],
            [mark::PAYLOAD_CUT, 0, 3, 0, 0, 0, 0, 7, 9, 7]
        );
        assert_eq!(packed.index[10..STRIDE], [0; 10]);
        assert_eq!(packed.index[STRIDE + 1], 3);
        assert_eq!((packed.as_batch().count, packed.as_batch().stride), (2, 20));
    }

    #[test]
    fn everything_is_packed_as_drawn() {
        let fields = Fields {
            key: true,
            ttl: true,
            ..Fields::default()
        };
        let headers = HeaderInterest::Only(["y".into()].into());
        let interest = Interest {
            headers,
            payload: PayloadInterest::Prefix(3),
            fields,
            ..Interest::default()
        };
        let packed = packed(&interest);
        assert_eq!(
            &packed.arena[..18],
            b"a/b\x01\0\0\0\x02\0\0\0y22payk".split_at(18).0
        );
        let marks = mark::PAYLOAD_CUT | mark::HAS_KEY | mark::HAS_TTL;
        assert_eq!(
            packed.index[..12],
            [marks, 0, 3, 3, 11, 14, 3, 7, 9, 7, 17, 1]
        );
        assert_eq!(packed.index[18..20], [0, 2]);
    }
}
