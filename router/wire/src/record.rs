//! A message's body: encoded once, by its publisher, and the same bytes on wire, disk and peer.
//!
//! ```text
//! body  := version u8 (= 1), crc32c u32 little endian over all that follows, field*
//! field := tag varint, length varint, value[length]
//! tag   := field id * 2 + critical
//! ```
//!
//! Fields stand in ascending order of their ids; only `header` may repeat. `topic` is required, so
//! it comes first; `payload` comes last. A reader that does not know a field keeps its bytes and
//! goes on, unless the tag's lowest bit says that the field is critical: then it refuses the
//! record. Field ids, and how their values are written:
//!
//! | id | field | critical | value |
//! |---|---|---|---|
//! | 1 | topic | yes | UTF-8, see [`crate::topic`] |
//! | 2 | namespace | yes | UTF-8 |
//! | 3 | key | no | bytes |
//! | 4 | content type | no | UTF-8 |
//! | 5 | content encoding | no | UTF-8 |
//! | 6 | schema id | no | UTF-8 |
//! | 7 | priority | no | varint, 0 to 7, higher goes first |
//! | 8 | not before | yes | varint, ms that delivery waits after the node received it |
//! | 9 | time to live | no | varint, ms after the node received it |
//! | 10 | message id | no | bytes, at most 64 |
//! | 11 | correlation | no | bytes |
//! | 12 | reply-to | no | UTF-8 topic |
//! | 13 | traceparent | no | UTF-8, W3C trace context |
//! | 14 | producer | no | id 16 bytes, epoch varint, sequence varint |
//! | 20 | header | no | name length varint, name UTF-8, value bytes |
//! | 30 | payload | no | bytes; absent is empty |

use bytes::{BufMut, Bytes};

use crate::error::Code;
use crate::slab::SlabBuilder;
use crate::topic::{TopicError, parse_topic};
use crate::varint::{self, Reader};

/// The version byte that this build writes and reads.
pub const RECORD_VERSION: u8 = 1;
/// Bytes before the first field: version and checksum.
pub const PREFIX_BYTES: usize = 5;
/// The longest message id.
pub const MESSAGE_ID_BYTES_MAX: usize = 64;
/// The most headers of one message.
pub const HEADERS_MAX: usize = 64;
/// All of a body but its payload, as a publisher or a plugin may make it: 64 KiB. It bounds what a
/// message costs in memory beside its payload, leaves a dead letter room for its reasons, and is
/// no rule of reading: what is stored already stays readable.
pub const FIELDS_BYTES_MAX: usize = 64 << 10;

pub(crate) const TOPIC: u64 = 1;
const NAMESPACE: u64 = 2;
pub(crate) const KEY: u64 = 3;
const CONTENT_TYPE: u64 = 4;
const CONTENT_ENCODING: u64 = 5;
const SCHEMA_ID: u64 = 6;
pub(crate) const PRIORITY: u64 = 7;
pub(crate) const NOT_BEFORE: u64 = 8;
pub(crate) const TIME_TO_LIVE: u64 = 9;
pub(crate) const MESSAGE_ID: u64 = 10;
const CORRELATION: u64 = 11;
const REPLY_TO: u64 = 12;
const TRACEPARENT: u64 = 13;
const PRODUCER: u64 = 14;
const HEADER: u64 = 20;
const PAYLOAD: u64 = 30;

const fn tag(id: u64) -> u64 {
    id << 1 | matches!(id, TOPIC | NAMESPACE | NOT_BEFORE) as u64
}

/// Why a record is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Fewer than [`PREFIX_BYTES`].
    #[error("body has {0} bytes, at least {PREFIX_BYTES} expected")]
    Short(usize),
    /// Another version.
    #[error("record version {0}, expected {RECORD_VERSION}")]
    Version(u8),
    /// The checksum does not match.
    #[error("checksum {found:08x}, computed {computed:08x}")]
    Checksum {
        /// What the body says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A field ends after the body does.
    #[error("field at byte {0} is cut off")]
    CutOff(usize),
    /// Ids must ascend and only headers repeat.
    #[error("field {id} at byte {at} is out of order or repeated")]
    Order {
        /// The field id.
        id: u64,
        /// Where it starts in the body.
        at: usize,
    },
    /// A critical field that this version does not know.
    #[error("critical field {0} is unknown to this version")]
    UnknownCritical(u64),
    /// A known field whose value has the wrong form.
    #[error("field '{field}' {what}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A topic that breaks the grammar.
    #[error("{field} {error}")]
    Topic {
        /// `topic` or `reply-to`.
        field: &'static str,
        /// What is wrong with it.
        error: TopicError,
    },
    /// No topic field.
    #[error("no topic")]
    NoTopic,
    /// All but the payload is over [`FIELDS_BYTES_MAX`].
    #[error("its fields have {length} bytes beside the payload, limit {FIELDS_BYTES_MAX}")]
    FieldsTooLarge {
        /// Their length.
        length: usize,
    },
    /// Payload over the limit.
    #[error("payload has {length} bytes, limit {limit}")]
    PayloadTooLarge {
        /// Its length.
        length: usize,
        /// The limit in force.
        limit: usize,
    },
}

impl RecordError {
    /// The code to answer with.
    pub fn code(&self) -> Code {
        match self {
            RecordError::Topic { .. } | RecordError::NoTopic => Code::BadTopic,
            RecordError::UnknownCritical(_) => Code::UnknownField,
            RecordError::PayloadTooLarge { .. } | RecordError::FieldsTooLarge { .. } => {
                Code::TooLarge
            }
            _ => Code::BadRecord,
        }
    }
}

/// Who published a record, for duplicate detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Producer {
    /// Random, chosen once by the application.
    pub id: [u8; 16],
    /// Grows when the same producer starts anew; older ones are fenced.
    pub epoch: u64,
    /// Grows by one for each message.
    pub sequence: u64,
}

/// A record that was walked once: every known field is where it says and has its form.
///
/// It borrows the body; unknown fields stay in the bytes. The checksum is a separate step,
/// [`verify`].
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    body: &'a [u8],
    topic: &'a str,
    namespace: Option<&'a str>,
    key: Option<&'a [u8]>,
    content_type: Option<&'a str>,
    message_id: Option<&'a [u8]>,
    reply_to: Option<&'a str>,
    not_before_ms: Option<u64>,
    time_to_live_ms: Option<u64>,
    /// Where headers begin and end, relative to the body.
    headers: (u32, u32),
    header_count: u32,
    payload: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// Walks a body. Costs a few nanoseconds a field and allocates nothing.
    pub fn parse(body: &'a [u8]) -> Result<RecordRef<'a>, RecordError> {
        check_prefix(body)?;
        let mut record = RecordRef {
            body,
            topic: "",
            namespace: None,
            key: None,
            content_type: None,
            message_id: None,
            reply_to: None,
            not_before_ms: None,
            time_to_live_ms: None,
            headers: (0, 0),
            header_count: 0,
            payload: &[],
        };
        for field in Fields::new(body) {
            record.take(field?)?;
        }
        if record.topic.is_empty() {
            return Err(RecordError::NoTopic);
        }
        Ok(record)
    }

    fn take(&mut self, field: Field<'a>) -> Result<(), RecordError> {
        let Field {
            id,
            critical,
            value,
            start,
            end,
        } = field;
        match id {
            TOPIC => self.topic = topic("topic", value)?,
            NAMESPACE => self.namespace = Some(text("namespace", value)?),
            KEY => self.key = Some(value),
            CONTENT_TYPE => self.content_type = Some(text("content-type", value)?),
            CONTENT_ENCODING => drop(text("content-encoding", value)?),
            SCHEMA_ID => drop(text("schema-id", value)?),
            PRIORITY if number("priority", value)? > 7 => {
                return Err(RecordError::Field {
                    field: "priority",
                    what: "is above 7",
                });
            }
            NOT_BEFORE => self.not_before_ms = Some(number("not-before", value)?),
            TIME_TO_LIVE => self.time_to_live_ms = Some(number("time-to-live", value)?),
            MESSAGE_ID if value.is_empty() || value.len() > MESSAGE_ID_BYTES_MAX => {
                return Err(RecordError::Field {
                    field: "message-id",
                    what: "must have 1 to 64 bytes",
                });
            }
            MESSAGE_ID => self.message_id = Some(value),
            REPLY_TO => self.reply_to = Some(topic("reply-to", value)?),
            TRACEPARENT => drop(text("traceparent", value)?),
            PRODUCER => drop(producer(value)?),
            HEADER => {
                header(value)?;
                if self.header_count == 0 {
                    self.headers.0 = start as u32;
                }
                self.headers.1 = end as u32;
                self.header_count += 1;
                if self.header_count as usize > HEADERS_MAX {
                    return Err(RecordError::Field {
                        field: "header",
                        what: "stands more than 64 times",
                    });
                }
            }
            PAYLOAD => self.payload = value,
            PRIORITY | CORRELATION => {}
            unknown if critical => return Err(RecordError::UnknownCritical(unknown)),
            _ => {}
        }
        Ok(())
    }

    /// Checks the limits that a message has to keep before it is taken: its payload may have
    /// `payload_bytes_max` bytes, and all else of it [`FIELDS_BYTES_MAX`].
    pub fn check_size(&self, payload_bytes_max: usize) -> Result<(), RecordError> {
        let length = self.payload.len();
        if length > payload_bytes_max {
            let limit = payload_bytes_max;
            return Err(RecordError::PayloadTooLarge { length, limit });
        }
        match self.body.len() - length {
            length if length > FIELDS_BYTES_MAX => Err(RecordError::FieldsTooLarge { length }),
            _ => Ok(()),
        }
    }

    /// The whole body.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The topic; a valid one.
    #[inline]
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The namespace, if the record names one.
    pub fn namespace(&self) -> Option<&'a str> {
        self.namespace
    }

    /// The key.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The content type.
    pub fn content_type(&self) -> Option<&'a str> {
        self.content_type
    }

    /// The publisher's id for this message, 1 to 64 bytes.
    pub fn message_id(&self) -> Option<&'a [u8]> {
        self.message_id
    }

    /// Where an answer is expected; a valid topic.
    pub fn reply_to(&self) -> Option<&'a str> {
        self.reply_to
    }

    /// How long after the node received it the message waits, in ms.
    pub fn not_before_ms(&self) -> Option<u64> {
        self.not_before_ms
    }

    /// Whether it waits, or is of use only for a time.
    pub fn is_timed(&self) -> bool {
        self.not_before_ms.is_some() || self.time_to_live_ms.is_some()
    }

    /// How long after the node received it the message is of use, in ms.
    pub fn time_to_live_ms(&self) -> Option<u64> {
        self.time_to_live_ms
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// How many headers there are.
    #[inline]
    pub fn header_count(&self) -> u32 {
        self.header_count
    }

    /// Names and values in the publisher's order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(&self.body[self.headers.0 as usize..self.headers.1 as usize]);
        std::iter::from_fn(move || {
            // Other fields cannot stand between headers, since ids ascend.
            reader.varint()?;
            let mut value = Reader::new(reader.prefixed()?);
            let name = std::str::from_utf8(value.prefixed()?).ok()?;
            Some((name, value.rest()))
        })
    }

    /// The value of the first header with this name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value)
    }

    /// Who published it, where it says so.
    pub fn producer(&self) -> Option<Producer> {
        self.field(PRODUCER).and_then(|value| producer(value).ok())
    }

    fn field(&self, id: u64) -> Option<&'a [u8]> {
        Fields::new(self.body)
            .flatten()
            .find(|f| f.id == id)
            .map(|f| f.value)
    }

    /// An owned copy that can be changed and encoded again; unknown fields are kept.
    pub fn to_message(&self) -> Message {
        let mut message = Message::new(self.topic, Bytes::copy_from_slice(self.payload));
        let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for Field {
            id,
            critical,
            value,
            ..
        } in Fields::new(self.body).flatten()
        {
            match id {
                TOPIC | PAYLOAD => {}
                NAMESPACE => message.namespace = Some(string(value)),
                KEY => message.key = Some(owned(value)),
                CONTENT_TYPE => message.content_type = Some(string(value)),
                CONTENT_ENCODING => message.content_encoding = Some(string(value)),
                SCHEMA_ID => message.schema_id = Some(string(value)),
                PRIORITY => message.priority = number("", value).ok().map(|n| n as u8),
                NOT_BEFORE => message.not_before_ms = number("", value).ok(),
                TIME_TO_LIVE => message.time_to_live_ms = number("", value).ok(),
                MESSAGE_ID => message.message_id = Some(owned(value)),
                CORRELATION => message.correlation = Some(owned(value)),
                REPLY_TO => message.reply_to = Some(string(value)),
                TRACEPARENT => message.traceparent = Some(string(value)),
                PRODUCER => message.producer = producer(value).ok(),
                HEADER => {
                    if let Ok((name, value)) = header(value) {
                        message.headers.push((name.to_owned(), owned(value)));
                    }
                }
                unknown => message
                    .unknown
                    .push((unknown << 1 | u64::from(critical), owned(value))),
            }
        }
        message
    }
}

/// Checks the checksum of a body.
pub fn verify(body: &[u8]) -> Result<(), RecordError> {
    check_prefix(body)?;
    let found = u32::from_le_bytes([body[1], body[2], body[3], body[4]]);
    let computed = crc32c::crc32c(&body[PREFIX_BYTES..]);
    if found == computed {
        Ok(())
    } else {
        Err(RecordError::Checksum { found, computed })
    }
}

/// Appends to a slab a body with this producer, in place of the one that it has: the same bytes
/// but for that field and the checksum. The body must have been parsed once ([`RecordRef`]).
pub fn push_stamped(slab: &mut SlabBuilder, body: &[u8], producer: Producer) {
    let fields = body.get(PREFIX_BYTES..).unwrap_or_default();
    let mut reader = Reader::new(fields);
    // Where the field belongs, and where what comes behind it begins.
    let (mut start, mut end) = (fields.len(), fields.len());
    while let Some(field) = reader.varint() {
        let at = reader.position() - varint::len(field);
        let is_cut = reader.prefixed().is_none();
        if is_cut || field >> 1 < PRODUCER {
            continue;
        }
        start = at;
        end = if field >> 1 == PRODUCER {
            reader.position()
        } else {
            at
        };
        break;
    }
    let numbers = varint::len(producer.epoch) + varint::len(producer.sequence);
    let value = producer.id.len() + numbers;
    let head = varint::len(tag(PRODUCER)) + varint::len(value as u64);
    let length = PREFIX_BYTES + start + head + value + (fields.len() - end);
    slab.push_with(length, |out| {
        let begin = out.len();
        out.put_u8(RECORD_VERSION);
        out.put_u32_le(0);
        out.put_slice(&fields[..start]);
        varint::put(out, tag(PRODUCER));
        varint::put(out, value as u64);
        out.put_slice(&producer.id);
        varint::put(out, producer.epoch);
        varint::put(out, producer.sequence);
        out.put_slice(&fields[end..]);
        let crc = crc32c::crc32c(&out[begin + PREFIX_BYTES..]);
        out[begin + 1..begin + PREFIX_BYTES].copy_from_slice(&crc.to_le_bytes());
    });
}

/// The topic of a body, and nothing else of it. Cheap enough for every message of the hot path.
#[inline]
pub fn peek_topic(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(body.get(PREFIX_BYTES..)?);
    (reader.varint()? == tag(TOPIC)).then(|| reader.prefixed())?
}

fn check_prefix(body: &[u8]) -> Result<(), RecordError> {
    if body.len() < PREFIX_BYTES {
        return Err(RecordError::Short(body.len()));
    }
    if body[0] != RECORD_VERSION {
        return Err(RecordError::Version(body[0]));
    }
    Ok(())
}

struct Field<'a> {
    id: u64,
    critical: bool,
    value: &'a [u8],
    start: usize,
    end: usize,
}

struct Fields<'a> {
    reader: Reader<'a>,
    last: u64,
}

impl<'a> Fields<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(body.get(PREFIX_BYTES..).unwrap_or_default()),
            last: 0,
        }
    }

    fn step(&mut self, start: usize) -> Result<Field<'a>, RecordError> {
        let cut = RecordError::CutOff(start);
        let tag = self.reader.varint().ok_or_else(|| cut.clone())?;
        let value = self.reader.prefixed().ok_or(cut)?;
        let id = tag >> 1;
        if id < self.last || (id == self.last && id != HEADER) {
            return Err(RecordError::Order { id, at: start });
        }
        self.last = id;
        let end = PREFIX_BYTES + self.reader.position();
        Ok(Field {
            id,
            critical: tag & 1 == 1,
            value,
            start,
            end,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.remaining() == 0 {
            return None;
        }
        let field = self.step(PREFIX_BYTES + self.reader.position());
        if field.is_err() {
            self.reader.rest();
        }
        Some(field)
    }
}

fn topic<'a>(field: &'static str, value: &'a [u8]) -> Result<&'a str, RecordError> {
    parse_topic(value).map_err(|error| RecordError::Topic { field, error })
}

fn text<'a>(field: &'static str, value: &'a [u8]) -> Result<&'a str, RecordError> {
    std::str::from_utf8(value).map_err(|_| RecordError::Field {
        field,
        what: "is not UTF-8",
    })
}

fn number(field: &'static str, value: &[u8]) -> Result<u64, RecordError> {
    match varint::get(value) {
        Some((number, length)) if length == value.len() => Ok(number),
        _ => Err(RecordError::Field {
            field,
            what: "is not one varint",
        }),
    }
}

fn producer(value: &[u8]) -> Result<Producer, RecordError> {
    let bad = RecordError::Field {
        field: "producer",
        what: "is not id, epoch, sequence",
    };
    let mut reader = Reader::new(value);
    let read = |reader: &mut Reader<'_>| {
        let id = reader.bytes(16)?.try_into().ok()?;
        let (epoch, sequence) = (reader.varint()?, reader.varint()?);
        (reader.remaining() == 0).then_some(Producer {
            id,
            epoch,
            sequence,
        })
    };
    read(&mut reader).ok_or(bad)
}

fn header(value: &[u8]) -> Result<(&str, &[u8]), RecordError> {
    let mut reader = Reader::new(value);
    let name = reader.prefixed().ok_or(RecordError::Field {
        field: "header",
        what: "has a name longer than itself",
    })?;
    if name.is_empty() {
        return Err(RecordError::Field {
            field: "header",
            what: "has no name",
        });
    }
    Ok((text("header", name)?, reader.rest()))
}

/// A message as an application or a plugin's edit builds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Where it belongs.
    pub topic: String,
    /// The tenant; `default` where none is named.
    pub namespace: Option<String>,
    /// Orders and partitions `key` groups.
    pub key: Option<Bytes>,
    /// MIME type of the payload.
    pub content_type: Option<String>,
    /// For example `gzip`.
    pub content_encoding: Option<String>,
    /// Id of the payload's schema.
    pub schema_id: Option<String>,
    /// 0 to 7, higher goes first.
    pub priority: Option<u8>,
    /// How long delivery waits after the node received it, in ms.
    pub not_before_ms: Option<u64>,
    /// How long after the node received it the message is of use, in ms.
    pub time_to_live_ms: Option<u64>,
    /// The publisher's id for this message, 1 to 64 bytes.
    pub message_id: Option<Bytes>,
    /// Matches an answer to its question.
    pub correlation: Option<Bytes>,
    /// The topic for an answer.
    pub reply_to: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// For duplicate detection.
    pub producer: Option<Producer>,
    /// Names and values, in order; names may repeat.
    pub headers: Vec<(String, Bytes)>,
    /// The payload.
    pub payload: Bytes,
    /// Fields of a later version, as (tag, value); kept when the message is encoded again.
    pub unknown: Vec<(u64, Bytes)>,
}

impl Message {
    /// A message with a topic and a payload.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Message {
        Message {
            topic: topic.into(),
            payload: payload.into(),
            ..Message::default()
        }
    }

    /// Appends a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Message {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the message id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Bytes>) -> Message {
        self.message_id = Some(id.into());
        self
    }

    /// Sets the key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Message {
        self.key = Some(key.into());
        self
    }

    /// Sets the content type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Message {
        self.content_type = Some(content_type.into());
        self
    }

    /// How many bytes [`Message::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        let mut length = PREFIX_BYTES;
        self.for_each_field(|tag, parts| {
            let value: usize = parts.iter().map(|p| p.len()).sum();
            length += varint::len(tag) + varint::len(value as u64) + value;
        });
        length
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut (impl BufMut + AsMut<[u8]> + AsRef<[u8]>)) {
        let start = out.as_ref().len();
        out.put_u8(RECORD_VERSION);
        out.put_u32_le(0);
        self.for_each_field(|tag, parts| {
            varint::put(out, tag);
            varint::put(out, parts.iter().map(|p| p.len() as u64).sum());
            parts.iter().for_each(|part| out.put_slice(part));
        });
        let crc = crc32c::crc32c(&out.as_ref()[start + PREFIX_BYTES..]);
        out.as_mut()[start + 1..start + PREFIX_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// The body as bytes of its own.
    pub fn to_body(&self) -> Bytes {
        let mut out = bytes::BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut out);
        out.freeze()
    }

    fn for_each_field(&self, mut put: impl FnMut(u64, &[&[u8]])) {
        let mut unknown = self.unknown.iter().peekable();
        let mut known = |id: u64, parts: &[&[u8]]| {
            while let Some((tag, value)) = unknown.next_if(|(tag, _)| tag >> 1 < id) {
                put(*tag, &[value]);
            }
            put(tag(id), parts);
        };
        known(TOPIC, &[self.topic.as_bytes()]);
        let texts = |v: &Option<String>| v.as_ref().map(|s| Bytes::copy_from_slice(s.as_bytes()));
        let number = |v: Option<u64>| {
            v.map(|n| {
                let mut out = Vec::with_capacity(8);
                varint::put(&mut out, n);
                Bytes::from(out)
            })
        };
        let fields = [
            (NAMESPACE, texts(&self.namespace)),
            (KEY, self.key.clone()),
            (CONTENT_TYPE, texts(&self.content_type)),
            (CONTENT_ENCODING, texts(&self.content_encoding)),
            (SCHEMA_ID, texts(&self.schema_id)),
            (PRIORITY, number(self.priority.map(u64::from))),
            (NOT_BEFORE, number(self.not_before_ms)),
            (TIME_TO_LIVE, number(self.time_to_live_ms)),
            (MESSAGE_ID, self.message_id.clone()),
            (CORRELATION, self.correlation.clone()),
            (REPLY_TO, texts(&self.reply_to)),
            (TRACEPARENT, texts(&self.traceparent)),
        ];
        for (id, value) in &fields {
            if let Some(value) = value {
                known(*id, &[value]);
            }
        }
        if let Some(producer) = &self.producer {
            let mut numbers = Vec::with_capacity(16);
            varint::put(&mut numbers, producer.epoch);
            varint::put(&mut numbers, producer.sequence);
            known(PRODUCER, &[&producer.id, &numbers]);
        }
        for (name, value) in &self.headers {
            let mut length = Vec::with_capacity(2);
            varint::put(&mut length, name.len() as u64);
            known(HEADER, &[&length, name.as_bytes(), value]);
        }
        if !self.payload.is_empty() {
            known(PAYLOAD, &[&self.payload]);
        }
        for (tag, value) in unknown {
            put(*tag, &[value]);
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
