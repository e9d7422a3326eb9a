//! Messages that can be counted: each payload carries who published it, its sequence and when it
//! was meant to leave. [`Source`] makes slabs of them, [`Tally`] reads them again and knows whether
//! all arrived, once each.
//!
//! A slab is made by copying one encoded message and changing stamp and checksum. The stamp stands
//! last, so that the checksum of all before it is computed once: making load must cost little
//! beside carrying it.
//!
//! ```text
//! binary payload := filler, stamp
//! json payload   := {"type":…,"stamp":" stamp as 40 hexadecimal digits "}
//! stamp          := publisher u32, sequence u64, meant ns u64     little endian
//! ```

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use waypost_client::wire::record::PREFIX_BYTES;
use waypost_client::wire::varint;
use waypost_client::{Message, Slab};

const STAMP_BYTES: usize = 20;
/// The place is filled up to the wanted length. A plugin that reads the magnitude of an earthquake
/// finds one that it lets pass.
const JSON_START: &str = "{\"type\":\"Feature\",\"id\":\"us7000pn9s\",\"properties\":{\"mag\":5.4,\
    \"place\":\"98 km SSW of Adak, Alaska\",\"time\":1742860800123,\"updated\":1742947200456,\
    \"tz\":null,\"felt\":12,\"cdi\":3.1,\"mmi\":4.006,\"alert\":\"green\",\"status\":\"reviewed\",\
    \"tsunami\":1,\"sig\":449,\"net\":\"us\",\"code\":\"7000pn9s\",\"nst\":102,\"dmin\":0.871,\
    \"rms\":0.73,\"gap\":139,\"magType\":\"mww\",\"type\":\"earthquake\"},\"geometry\":{\"type\":\
    \"Point\",\"coordinates\":[-177.0412,51.0127,24.3]},\"note\":\"";
const JSON_STAMP: &str = "\",\"stamp\":\"";
const JSON_END: &str = "\"}";

/// What a payload looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Stamp and filler.
    Binary,
    /// An earthquake as GeoJSON.
    Json,
}

/// The shortest payload that holds a stamp.
pub fn payload_bytes_min(shape: Shape) -> usize {
    match shape {
        Shape::Binary => STAMP_BYTES,
        Shape::Json => JSON_START.len() + JSON_STAMP.len() + tail_bytes(shape),
    }
}

/// How many bytes at the end of a payload are stamp or follow it.
fn tail_bytes(shape: Shape) -> usize {
    match shape {
        Shape::Binary => STAMP_BYTES,
        Shape::Json => 2 * STAMP_BYTES + JSON_END.len(),
    }
}

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Index of the publisher.
    pub publisher: u32,
    /// Counted by the publisher, from 0.
    pub sequence: u64,
    /// When it was to leave, in ns of the run's clock.
    pub meant_ns: u64,
}

impl Stamp {
    fn bytes(&self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..4].copy_from_slice(&self.publisher.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[12..].copy_from_slice(&self.meant_ns.to_le_bytes());
        bytes
    }

    /// Writes the stamp to the start of a payload's tail.
    fn write(&self, shape: Shape, tail: &mut [u8]) {
        let bytes = self.bytes();
        match shape {
            Shape::Binary => tail.copy_from_slice(&bytes),
            Shape::Json => {
                for (pair, byte) in tail.chunks_exact_mut(2).zip(bytes) {
                    pair[0] = hex(byte >> 4);
                    pair[1] = hex(byte & 15);
                }
            }
        }
    }

    /// Reads the stamp of a body whose payload has this shape; `None` where there is none.
    #[inline]
    pub fn read(shape: Shape, body: &[u8]) -> Option<Stamp> {
        // The payload is a record's last field.
        let tail = &body[body.len().checked_sub(tail_bytes(shape))?..];
        let mut bytes = [0; STAMP_BYTES];
        match shape {
            Shape::Binary => bytes.copy_from_slice(tail),
            Shape::Json => {
                for (byte, pair) in bytes.iter_mut().zip(tail.chunks_exact(2)) {
                    *byte = unhex(pair[0])? << 4 | unhex(pair[1])?;
                }
            }
        }
        let (publisher, rest) = bytes.split_first_chunk::<4>()?;
        let (sequence, meant) = rest.split_first_chunk::<8>()?;
        Some(Stamp {
            publisher: u32::from_le_bytes(*publisher),
            sequence: u64::from_le_bytes(*sequence),
            meant_ns: u64::from_le_bytes(meant.try_into().ok()?),
        })
    }
}

fn hex(nibble: u8) -> u8 {
    b"0123456789abcdef"[usize::from(nibble)]
}

fn unhex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Makes the slabs of one publisher.
pub struct Source {
    shape: Shape,
    publisher: u32,
    sequence: u64,
    /// Used in turn.
    templates: Vec<Template>,
    buffer: BytesMut,
}

/// One encoded message.
struct Template {
    /// The record with its length before it.
    record: Vec<u8>,
    /// Where in `record` the body and the payload's tail begin.
    body: usize,
    tail: usize,
    /// Checksum of what lies between the body's prefix and the tail.
    crc: u32,
}

impl Template {
    fn new(shape: Shape, message: &Message) -> Template {
        let body = message.to_body();
        let mut record = Vec::with_capacity(body.len() + 8);
        varint::put_prefixed(&mut record, &body);
        let tail = tail_bytes(shape);
        Template {
            body: record.len() - body.len(),
            tail: record.len() - tail,
            crc: crc32c::crc32c(&body[PREFIX_BYTES..body.len() - tail]),
            record,
        }
    }
}

impl Source {
    /// A source of messages to `topic`; `payload_bytes` is at least [`payload_bytes_min`].
    pub fn new(shape: Shape, topic: &str, publisher: u32, payload_bytes: usize) -> Source {
        let message = Message::new(topic, filler(shape, payload_bytes));
        Source::of(shape, publisher, &[message])
    }

    /// The same with `keys` different keys in turn.
    pub fn keyed(
        shape: Shape,
        topic: &str,
        publisher: u32,
        payload_bytes: usize,
        keys: u32,
    ) -> Source {
        let message = |key: u32| {
            Message::new(topic, filler(shape, payload_bytes)).with_key(format!("key-{key:07}"))
        };
        let messages: Vec<Message> = (0..keys).map(message).collect();
        Source::of(shape, publisher, &messages)
    }

    fn of(shape: Shape, publisher: u32, messages: &[Message]) -> Source {
        Source {
            shape,
            publisher,
            sequence: 0,
            templates: messages
                .iter()
                .map(|message| Template::new(shape, message))
                .collect(),
            buffer: BytesMut::new(),
        }
    }

    /// Messages made so far.
    pub fn made(&self) -> u64 {
        self.sequence
    }

    /// Bytes of one record with its length prefix.
    pub fn record_bytes(&self) -> usize {
        self.templates[0].record.len()
    }

    /// The next `count` messages; `meant_ns` tells when each was to leave.
    pub fn slab(&mut self, count: u32, meant_ns: impl Fn(u64) -> u64) -> Slab {
        self.buffer.reserve(self.record_bytes() * count as usize);
        for _ in 0..count {
            let stamp = Stamp {
                publisher: self.publisher,
                sequence: self.sequence,
                meant_ns: meant_ns(self.sequence),
            };
            let template = match self.templates.len() {
                1 => 0,
                many => (self.sequence % many as u64) as usize,
            };
            self.sequence += 1;
            let template = &mut self.templates[template];
            let tail = &mut template.record[template.tail..];
            stamp.write(self.shape, tail);
            let crc = crc32c::crc32c_append(template.crc, tail).to_le_bytes();
            let body = template.body;
            template.record[body + 1..body + PREFIX_BYTES].copy_from_slice(&crc);
            self.buffer.put_slice(&template.record);
        }
        Slab::from_checked(self.buffer.split().freeze(), count)
    }
}

fn filler(shape: Shape, bytes: usize) -> Vec<u8> {
    let missing = bytes.saturating_sub(payload_bytes_min(shape));
    match shape {
        Shape::Binary => (0..bytes).map(|i| (i * 37 + 11) as u8).collect(),
        Shape::Json => {
            let stamp = "0".repeat(2 * STAMP_BYTES);
            let fill = "x".repeat(missing);
            format!("{JSON_START}{fill}{JSON_STAMP}{stamp}{JSON_END}").into_bytes()
        }
    }
}

/// What was received of one publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages.
    pub count: u64,
    /// Sum over all sequences, each scrambled first: it tells apart sets of the same size.
    sum: u64,
    /// Messages that came before one that was published earlier.
    pub reordered: u64,
    next: u64,
}

impl Tally {
    /// Counts one message in.
    #[inline]
    pub fn add(&mut self, sequence: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(scramble(sequence));
        self.reordered += u64::from(sequence < self.next);
        self.next = self.next.max(sequence + 1);
    }

    /// Joins what two receivers of a group have.
    pub fn merge(&mut self, other: &Tally) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.reordered += other.reordered;
        self.next = self.next.max(other.next);
    }

    /// What is wrong if the publisher made `made` messages and `copies` receivers were to get each;
    /// `None` if they are all here.
    pub fn fault(&self, made: u64, copies: u64) -> Option<String> {
        let wanted = made * copies;
        if self.count != wanted {
            let count = self.count;
            return Some(format!(
                "{made} were published for {copies} receivers, {count} of {wanted} delivered"
            ));
        }
        let sum = (0..made).fold(0u64, |sum, sequence| sum.wrapping_add(scramble(sequence)));
        (sum.wrapping_mul(copies) != self.sum)
            .then(|| format!("{wanted} were delivered, but some twice and others not at all"))
    }
}

/// splitmix64's last step.
#[inline]
fn scramble(sequence: u64) -> u64 {
    let mut z = sequence.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_client::RecordRef;
    use waypost_client::wire::record;

    #[test]
    fn slabs_are_valid_records_with_readable_stamps() {
        for (shape, bytes) in [
            (Shape::Binary, 20),
            (Shape::Binary, 128),
            (Shape::Json, 700),
        ] {
            let mut source = Source::new(shape, "bench/3", 3, bytes);
            source.slab(2, |_| 0);
            let slab = source.slab(3, |sequence| 100 * sequence);
            assert_eq!(source.made(), 5);
            for (index, body) in slab.iter().enumerate() {
                record::verify(body).unwrap();
                let record = RecordRef::parse(body).unwrap();
                assert_eq!((record.topic(), record.payload().len()), ("bench/3", bytes));
                let sequence = index as u64 + 2;
                let stamp = Stamp {
                    publisher: 3,
                    sequence,
                    meant_ns: 100 * sequence,
                };
                assert_eq!(Stamp::read(shape, body), Some(stamp));
                if shape == Shape::Json {
                    let json: serde_json::Value = serde_json::from_slice(record.payload()).unwrap();
                    assert_eq!(json["properties"]["mag"], 5.4);
                }
            }
        }
    }

    #[test]
    fn a_tally_sees_loss_repetition_and_disorder() {
        let tally = |sequences: &[u64]| {
            let mut tally = Tally::default();
            sequences.iter().for_each(|s| tally.add(*s));
            tally
        };
        assert_eq!(tally(&[0, 1, 2]).fault(3, 1), None);
        assert_eq!(tally(&[0, 2, 1]).fault(3, 1), None);
        assert_eq!(tally(&[0, 2, 1]).reordered, 1);
        assert!(tally(&[0, 1]).fault(3, 1).is_some());
        assert!(tally(&[0, 1, 1]).fault(3, 1).is_some());
        let mut both = tally(&[1]);
        both.merge(&tally(&[0, 2]));
        assert_eq!(both.fault(3, 1), None);
        both.merge(&tally(&[0, 1, 2]));
        assert_eq!(both.fault(3, 2), None);
    }
}
