//! Data frames: written by hand, because they carry every message. Integers are varints.
//!
//! ```text
//! PUBLISH := first sequence, count, slab
//! TRANSACT := first sequence, ack count, acks*, count, slab
//! acks    := consumer number, range count, range*
//! CONFIRM := up to sequence, level u8, window end sequence, window end bytes,
//!            exception count, exception*
//! exception := sequence, kind u8, code, text length, text
//! DELIVER := flags, count, first offset, receive time ms, [attempt detail], slab
//!            flags 1: detail = per message: offset delta after the one before, attempt
//!            without it offsets follow each other and every attempt is 1
//! RECEIPT := number after, waiting, lost, receipt count, receipt*
//! receipt := first sequence, count, first offset, outcome u8, flags u8, queue length, queue,
//!            group length, group, node length, node          flags 1: no group is left
//! RECEIPT_ACK := number
//! NUMBER_FROM := number
//! CREDIT  := messages in all, bytes in all          (totals since the stream was opened)
//! ACK     := range count, range*                    range := gap after the last range's end, length - 1
//! NACK    := delay ms, range count, range*
//! REJECT  := reason length, reason, range count, range*
//! EXTEND  := ms from now, range count, range*
//! ACK_UP_TO := last offset                          all that the consumer holds up to it
//! LIVE    := receive time ms, count, slab
//! LOST    := count
//! ```
//!
//! Sequences start at 1 and follow each other without gaps, batch by batch. Windows and credit are
//! totals since the stream was opened, so that a repeated frame changes nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{Code, WireError};
use crate::frame::{self, Frame, FrameType};
use crate::slab::Slab;
use crate::varint::{self, Reader};

/// A range of offsets, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// The first offset.
    pub first: u64,
    /// The last offset; not below `first`.
    pub last: u64,
}

impl Range {
    /// The range of one offset.
    pub fn one(offset: u64) -> Range {
        Range {
            first: offset,
            last: offset,
        }
    }

    /// How many offsets.
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// What a confirm promises; a higher one includes the lower ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// The node has it in memory.
    #[default]
    Received = 0,
    /// Synced to this node's disk.
    Stored = 1,
    /// Synced on the in-sync mirrors too.
    Mirrored = 2,
}

impl Level {
    /// The level with this number.
    pub fn from_number(number: u8) -> Option<Level> {
        [Level::Received, Level::Stored, Level::Mirrored]
            .get(number as usize)
            .copied()
    }

    /// The word for people and for `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Received => "received",
            Level::Stored => "stored",
            Level::Mirrored => "mirrored",
        }
    }
}

/// What became of a message that did not simply reach its destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExceptionKind {
    /// A route or plugin said so; this is a success.
    Dropped = 0,
    /// It lies in the dead letters.
    DeadLettered = 1,
    /// Nothing takes this topic.
    Unroutable = 2,
    /// Not accepted; the publisher still owns it.
    Refused = 3,
    /// It was stored before; this is a success.
    Duplicate = 4,
}

impl ExceptionKind {
    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<ExceptionKind> {
        use ExceptionKind::*;
        [Dropped, DeadLettered, Unroutable, Refused, Duplicate]
            .get(number as usize)
            .copied()
    }

    /// The word for people and for `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            ExceptionKind::Dropped => "dropped",
            ExceptionKind::DeadLettered => "dead-lettered",
            ExceptionKind::Unroutable => "unroutable",
            ExceptionKind::Refused => "refused",
            ExceptionKind::Duplicate => "duplicate",
        }
    }
}

/// One message of a confirm that needs a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Which message.
    pub sequence: u64,
    /// What became of it.
    pub kind: ExceptionKind,
    /// Why.
    pub code: Code,
    /// The rule, plugin or limit, for people.
    pub text: String,
}

/// A confirm: everything up to `up_to` is settled, at `level`, but for the exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirm {
    /// The last settled sequence.
    pub up_to: u64,
    /// The weakest promise among those that this frame settles.
    pub level: Level,
    /// The publisher may send up to this sequence.
    pub window_sequence: u64,
    /// The publisher may send slab bytes up to this total.
    pub window_bytes: u64,
    /// Messages that need a word, in ascending order, none repeated.
    pub exceptions: Vec<Exception>,
}

impl Confirm {
    /// Appends the frame.
    pub fn put(&self, out: &mut BytesMut) {
        let mut payload = BytesMut::with_capacity(32);
        varint::put(&mut payload, self.up_to);
        payload.put_u8(self.level as u8);
        varint::put(&mut payload, self.window_sequence);
        varint::put(&mut payload, self.window_bytes);
        varint::put(&mut payload, self.exceptions.len() as u64);
        for exception in &self.exceptions {
            varint::put(&mut payload, exception.sequence);
            payload.put_u8(exception.kind as u8);
            varint::put(&mut payload, exception.code as u64);
            varint::put_prefixed(&mut payload, exception.text.as_bytes());
        }
        frame::put(out, FrameType::Confirm, &payload);
    }

    /// Reads the frame.
    pub fn parse(frame: &Frame) -> Result<Confirm, WireError> {
        let mut reader = Reader::new(&frame.payload);
        let confirm = Self::read(&mut reader)
            .ok_or_else(|| frame.malformed("cut off, or an unknown level"))?;
        end(frame, &reader)?;
        Ok(confirm)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Confirm> {
        let mut confirm = Confirm {
            up_to: reader.varint()?,
            level: Level::from_number(reader.u8()?)?,
            window_sequence: reader.varint()?,
            window_bytes: reader.varint()?,
            exceptions: Vec::new(),
        };
        for _ in 0..reader.varint()? {
            confirm.exceptions.push(Exception {
                sequence: reader.varint()?,
                kind: ExceptionKind::from_number(reader.u8()?)?,
                code: Code::from_number(reader.varint()?),
                text: String::from_utf8_lossy(reader.prefixed()?).into_owned(),
            });
        }
        Some(confirm)
    }
}

/// What a group did with a message, as its publisher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// A consumer acked it.
    Acked = 0,
    /// It went to the dead letters: rejected, tried too often, or the oldest of a full queue.
    DeadLettered = 1,
    /// It lived longer than it was meant to.
    Expired = 2,
    /// It made room: at a limit, for its age, or for a newer value of its key.
    Dropped = 3,
    /// A person took it away, or the group, or the queue.
    Removed = 4,
    /// The group does not take it: its filters, or it was moved past it.
    Passed = 5,
}

impl Outcome {
    /// The outcome with this number.
    pub fn from_number(number: u8) -> Option<Outcome> {
        use Outcome::*;
        [Acked, DeadLettered, Expired, Dropped, Removed, Passed]
            .get(number as usize)
            .copied()
    }

    /// The word for people and for `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Acked => "acked",
            Outcome::DeadLettered => "dead-lettered",
            Outcome::Expired => "expired",
            Outcome::Dropped => "dropped",
            Outcome::Removed => "removed",
            Outcome::Passed => "passed",
        }
    }
}

/// A group is done with messages that follow each other, by number and by offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The producer's number of the first.
    pub sequence: u64,
    /// How many.
    pub count: u64,
    /// The offset of the first.
    pub offset: u64,
    /// How.
    pub outcome: Outcome,
    /// The queue.
    pub queue: String,
    /// The group; empty where the queue had none.
    pub group: String,
    /// The node of the queue; empty: the one that says it.
    pub node: String,
    /// No group of the queue is left that is not done with them.
    pub is_last: bool,
}

/// RECEIPT: what groups did with a producer's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipts {
    /// Receipts that were sent on this stream, one for each message, with these.
    pub number: u64,
    /// How many messages and receipts are still to come, as far as the node knows.
    pub waiting: u64,
    /// How many more there were that the node has forgotten.
    pub lost: u64,
    /// The receipts.
    pub receipts: Vec<Receipt>,
}

impl Receipts {
    /// Appends the frame.
    pub fn put(&self, out: &mut BytesMut) {
        let mut payload = BytesMut::with_capacity(64);
        varint::put(&mut payload, self.number);
        varint::put(&mut payload, self.waiting);
        varint::put(&mut payload, self.lost);
        varint::put(&mut payload, self.receipts.len() as u64);
        for receipt in &self.receipts {
            varint::put(&mut payload, receipt.sequence);
            varint::put(&mut payload, receipt.count);
            varint::put(&mut payload, receipt.offset);
            payload.put_u8(receipt.outcome as u8);
            payload.put_u8(u8::from(receipt.is_last));
            for text in [&receipt.queue, &receipt.group, &receipt.node] {
                varint::put_prefixed(&mut payload, text.as_bytes());
            }
        }
        frame::put(out, FrameType::Receipt, &payload);
    }

    /// Reads the frame.
    pub fn parse(frame: &Frame) -> Result<Receipts, WireError> {
        let mut reader = Reader::new(&frame.payload);
        let receipts = Self::read(&mut reader)
            .ok_or_else(|| frame.malformed("cut off, or an unknown outcome"))?;
        end(frame, &reader)?;
        Ok(receipts)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Receipts> {
        let mut receipts = Receipts {
            number: reader.varint()?,
            waiting: reader.varint()?,
            lost: reader.varint()?,
            receipts: Vec::new(),
        };
        for _ in 0..reader.varint()? {
            let text = |reader: &mut Reader<'_>| {
                Some(String::from_utf8_lossy(reader.prefixed()?).into_owned())
            };
            receipts.receipts.push(Receipt {
                sequence: reader.varint()?,
                count: reader.varint()?,
                offset: reader.varint()?,
                outcome: Outcome::from_number(reader.u8()?)?,
                // Other flags may come, and mean nothing here.
                is_last: reader.u8()? & 1 == 1,
                queue: text(reader)?,
                group: text(reader)?,
                node: text(reader)?,
            });
        }
        Some(receipts)
    }
}

/// Appends a NUMBER_FROM frame.
pub fn put_number_from(out: &mut BytesMut, number: u64) {
    frame::put_head(out, FrameType::NumberFrom, varint::len(number));
    varint::put(out, number);
}

/// Reads a NUMBER_FROM frame.
pub fn parse_number_from(frame: &Frame) -> Result<u64, WireError> {
    a_number(frame)
}

/// Appends a RECEIPT_ACK frame.
pub fn put_receipt_ack(out: &mut BytesMut, number: u64) {
    frame::put_head(out, FrameType::ReceiptAck, varint::len(number));
    varint::put(out, number);
}

/// Reads a RECEIPT_ACK frame.
pub fn parse_receipt_ack(frame: &Frame) -> Result<u64, WireError> {
    a_number(frame)
}

fn a_number(frame: &Frame) -> Result<u64, WireError> {
    let mut reader = Reader::new(&frame.payload);
    let number = reader
        .varint()
        .ok_or_else(|| frame.malformed("no number"))?;
    end(frame, &reader)?;
    Ok(number)
}

/// A batch from a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The sequence of the first record.
    pub first_sequence: u64,
    /// The records.
    pub slab: Slab,
}

impl Publish {
    /// Appends everything of the frame but the slab's bytes, which must follow.
    pub fn put_head(out: &mut BytesMut, first_sequence: u64, slab: &Slab) {
        let count = u64::from(slab.count());
        let length = varint::len(first_sequence) + varint::len(count) + slab.bytes().len();
        frame::put_head(out, FrameType::Publish, length);
        varint::put(out, first_sequence);
        varint::put(out, count);
    }

    /// Appends the whole frame.
    pub fn put(out: &mut BytesMut, first_sequence: u64, slab: &Slab) {
        Self::put_head(out, first_sequence, slab);
        out.extend_from_slice(slab.bytes());
    }

    /// Reads the frame; the slab shares its bytes. Records are not looked into.
    pub fn parse(frame: &Frame) -> Result<Publish, WireError> {
        let mut reader = Reader::new(&frame.payload);
        let head = (|| Some((reader.varint()?, reader.varint()?)))();
        let (first_sequence, count) =
            head.ok_or_else(|| frame.malformed("cut off before its slab"))?;
        let slab = slab(frame, reader.position(), count)?;
        Ok(Publish {
            first_sequence,
            slab,
        })
    }
}

/// What a transaction acks for one consumer of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerAcks {
    /// The consumer, as OPENED numbered it.
    pub consumer: u64,
    /// What it holds and is done with; ascending.
    pub ranges: Vec<Range>,
}

/// A batch that is taken whole or not at all, with acks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transact {
    /// The sequence of the first record.
    pub first_sequence: u64,
    /// What is acked with it.
    pub acks: Vec<ConsumerAcks>,
    /// The records.
    pub slab: Slab,
}

impl Transact {
    /// Appends the frame. Ranges must ascend and not overlap.
    pub fn put(&self, out: &mut BytesMut) {
        let mut head = BytesMut::with_capacity(32);
        varint::put(&mut head, self.first_sequence);
        varint::put(&mut head, self.acks.len() as u64);
        for acks in &self.acks {
            varint::put(&mut head, acks.consumer);
            put_ranges(&mut head, &acks.ranges);
        }
        varint::put(&mut head, u64::from(self.slab.count()));
        let length = head.len() + self.slab.bytes().len();
        frame::put_head(out, FrameType::Transact, length);
        out.extend_from_slice(&head);
        out.extend_from_slice(self.slab.bytes());
    }

    /// Reads the frame; the slab shares its bytes. Records are not looked into.
    pub fn parse(frame: &Frame) -> Result<Transact, WireError> {
        let mut reader = Reader::new(&frame.payload);
        let cut = || frame.malformed("cut off before its slab");
        let first_sequence = reader.varint().ok_or_else(cut)?;
        let mut acks = Vec::new();
        for _ in 0..reader.varint().ok_or_else(cut)? {
            acks.push(ConsumerAcks {
                consumer: reader.varint().ok_or_else(cut)?,
                ranges: ranges(frame, &mut reader)?,
            });
        }
        let count = reader.varint().ok_or_else(cut)?;
        Ok(Transact {
            first_sequence,
            acks,
            slab: slab(frame, reader.position(), count)?,
        })
    }
}

/// A batch for a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// Offset of the first record.
    pub first_offset: u64,
    /// When the node received them, in ms since 1970.
    pub receive_time_ms: u64,
    /// For each record: its offset and attempt; empty where offsets follow each other and every
    /// attempt is the first.
    pub detail: Vec<(u64, u32)>,
    /// The records.
    pub slab: Slab,
}

impl Deliver {
    /// Appends everything of the frame but the slab's bytes, which must follow.
    pub fn put_head(&self, out: &mut BytesMut) {
        let mut head: Vec<u8> = Vec::with_capacity(24 + self.detail.len() * 3);
        head.push(u8::from(!self.detail.is_empty()));
        varint::put(&mut head, u64::from(self.slab.count()));
        varint::put(&mut head, self.first_offset);
        varint::put(&mut head, self.receive_time_ms);
        let mut expected = self.first_offset;
        for (offset, attempt) in &self.detail {
            varint::put(&mut head, offset.saturating_sub(expected));
            varint::put(&mut head, u64::from(*attempt));
            expected = offset + 1;
        }
        frame::put_head(
            out,
            FrameType::Deliver,
            head.len() + self.slab.bytes().len(),
        );
        out.extend_from_slice(&head);
    }

    /// Reads the frame; the slab shares its bytes.
    pub fn parse(frame: &Frame) -> Result<Deliver, WireError> {
        let mut reader = Reader::new(&frame.payload);
        let (count, mut deliver) =
            Self::read(&mut reader).ok_or_else(|| frame.malformed("cut off, or unknown flags"))?;
        deliver.slab = slab(frame, reader.position(), count)?;
        Ok(deliver)
    }

    fn read(reader: &mut Reader<'_>) -> Option<(u64, Deliver)> {
        let flags = reader.u8().filter(|flags| *flags <= 1)?;
        let count = reader.varint()?;
        let (first_offset, receive_time_ms) = (reader.varint()?, reader.varint()?);
        let mut detail = Vec::new();
        if flags & 1 == 1 {
            let mut expected = first_offset;
            detail.reserve((count as usize).min(reader.remaining()));
            for _ in 0..count {
                let offset = expected.checked_add(reader.varint()?)?;
                detail.push((offset, u32::try_from(reader.varint()?).ok()?));
                expected = offset.checked_add(1)?;
            }
        }
        Some((
            count,
            Deliver {
                first_offset,
                receive_time_ms,
                detail,
                slab: Slab::default(),
            },
        ))
    }

    /// The offset and attempt of record `index`.
    pub fn position(&self, index: u32) -> (u64, u32) {
        match self.detail.get(index as usize) {
            Some(position) => *position,
            None => (self.first_offset + u64::from(index), 1),
        }
    }
}

/// A batch for a live subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// When the node received them, in ms since 1970.
    pub receive_time_ms: u64,
    /// The records.
    pub slab: Slab,
}

impl Live {
    /// Appends everything of the frame but the slab's bytes, which must follow.
    pub fn put_head(out: &mut BytesMut, receive_time_ms: u64, slab: &Slab) {
        let count = u64::from(slab.count());
        let length = varint::len(receive_time_ms) + varint::len(count) + slab.bytes().len();
        frame::put_head(out, FrameType::Live, length);
        varint::put(out, receive_time_ms);
        varint::put(out, count);
    }

    /// Reads the frame; the slab shares its bytes.
    pub fn parse(frame: &Frame) -> Result<Live, WireError> {
        let mut reader = Reader::new(&frame.payload);
        let head = (|| Some((reader.varint()?, reader.varint()?)))();
        let (receive_time_ms, count) =
            head.ok_or_else(|| frame.malformed("cut off before its slab"))?;
        Ok(Live {
            receive_time_ms,
            slab: slab(frame, reader.position(), count)?,
        })
    }
}

/// What a consumer says of deliveries, and how much more it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerFrame {
    /// Totals that may be delivered since the stream was opened.
    Credit {
        /// Messages in all.
        messages: u64,
        /// Slab bytes in all.
        bytes: u64,
    },
    /// Done with these.
    Ack(Vec<Range>),
    /// Done with all that the consumer holds up to this offset, itself included.
    AckUpTo(u64),
    /// Deliver these again, after the delay.
    Nack {
        /// How long to wait, in ms.
        delay_ms: u64,
        /// Which.
        ranges: Vec<Range>,
    },
    /// Never deliver these again; they go to the dead letters.
    Reject {
        /// For the dead letter.
        reason: String,
        /// Which.
        ranges: Vec<Range>,
    },
    /// These take longer: their deadline is so far from now.
    Extend {
        /// From now, in ms.
        ms: u64,
        /// Which.
        ranges: Vec<Range>,
    },
}

impl ConsumerFrame {
    /// Appends the frame. Ranges must ascend and not overlap.
    pub fn put(&self, out: &mut BytesMut) {
        let mut payload = BytesMut::with_capacity(32);
        let kind = match self {
            ConsumerFrame::Credit { messages, bytes } => {
                varint::put(&mut payload, *messages);
                varint::put(&mut payload, *bytes);
                FrameType::Credit
            }
            ConsumerFrame::Ack(ranges) => {
                put_ranges(&mut payload, ranges);
                FrameType::Ack
            }
            ConsumerFrame::AckUpTo(last) => {
                varint::put(&mut payload, *last);
                FrameType::AckUpTo
            }
            ConsumerFrame::Nack { delay_ms, ranges } => {
                varint::put(&mut payload, *delay_ms);
                put_ranges(&mut payload, ranges);
                FrameType::Nack
            }
            ConsumerFrame::Reject { reason, ranges } => {
                varint::put_prefixed(&mut payload, reason.as_bytes());
                put_ranges(&mut payload, ranges);
                FrameType::Reject
            }
            ConsumerFrame::Extend { ms, ranges } => {
                varint::put(&mut payload, *ms);
                put_ranges(&mut payload, ranges);
                FrameType::Extend
            }
        };
        frame::put(out, kind, &payload);
    }

    /// Reads the frame, which must be one of these kinds.
    pub fn parse(frame: &Frame) -> Result<ConsumerFrame, WireError> {
        let mut reader = Reader::new(&frame.payload);
        let cut = || frame.malformed("cut off");
        let parsed = match frame.kind {
            FrameType::Credit => ConsumerFrame::Credit {
                messages: reader.varint().ok_or_else(cut)?,
                bytes: reader.varint().ok_or_else(cut)?,
            },
            FrameType::Ack => ConsumerFrame::Ack(ranges(frame, &mut reader)?),
            FrameType::AckUpTo => ConsumerFrame::AckUpTo(reader.varint().ok_or_else(cut)?),
            FrameType::Nack => ConsumerFrame::Nack {
                delay_ms: reader.varint().ok_or_else(cut)?,
                ranges: ranges(frame, &mut reader)?,
            },
            FrameType::Reject => ConsumerFrame::Reject {
                reason: String::from_utf8_lossy(reader.prefixed().ok_or_else(cut)?).into_owned(),
                ranges: ranges(frame, &mut reader)?,
            },
            FrameType::Extend => ConsumerFrame::Extend {
                ms: reader.varint().ok_or_else(cut)?,
                ranges: ranges(frame, &mut reader)?,
            },
            _ => return Err(frame.unexpected("CREDIT, ACK, ACK_UP_TO, NACK, REJECT or EXTEND")),
        };
        end(frame, &reader)?;
        Ok(parsed)
    }
}

/// Appends a LOST frame.
pub fn put_lost(out: &mut BytesMut, count: u64) {
    frame::put_head(out, FrameType::Lost, varint::len(count));
    varint::put(out, count);
}

/// Reads a LOST frame.
pub fn parse_lost(frame: &Frame) -> Result<u64, WireError> {
    let mut reader = Reader::new(&frame.payload);
    let count = reader.varint().ok_or_else(|| frame.malformed("no count"))?;
    end(frame, &reader)?;
    Ok(count)
}

fn put_ranges(out: &mut BytesMut, ranges: &[Range]) {
    varint::put(out, ranges.len() as u64);
    let mut expected = 0;
    for range in ranges {
        varint::put(out, range.first - expected);
        varint::put(out, range.last - range.first);
        expected = range.last + 1;
    }
}

fn ranges(frame: &Frame, reader: &mut Reader<'_>) -> Result<Vec<Range>, WireError> {
    let read = |reader: &mut Reader<'_>| {
        let count = reader.varint()?;
        let mut ranges = Vec::with_capacity((count as usize).min(reader.remaining()));
        let mut expected = 0u64;
        for _ in 0..count {
            let first = expected.checked_add(reader.varint()?)?;
            let last = first.checked_add(reader.varint()?)?;
            ranges.push(Range { first, last });
            expected = last.checked_add(1)?;
        }
        Some(ranges)
    };
    read(reader).ok_or_else(|| frame.malformed("ranges are cut off or overflow"))
}

fn slab(frame: &Frame, start: usize, count: u64) -> Result<Slab, WireError> {
    let slab = Slab::parse(frame.payload.slice(start..))
        .map_err(|error| frame.malformed(error.to_string()))?;
    if u64::from(slab.count()) != count {
        return Err(frame.malformed(format!("says {count} records and holds {}", slab.count())));
    }
    Ok(slab)
}

fn end(frame: &Frame, reader: &Reader<'_>) -> Result<(), WireError> {
    match reader.remaining() {
        0 => Ok(()),
        left => Err(frame.malformed(format!("{left} bytes after its end"))),
    }
}

/// Reads the bytes of one frame that is known to be whole; for tests and tools.
pub fn frame_of(bytes: &[u8]) -> Option<Frame> {
    let mut decoder = frame::FrameDecoder::new(bytes.len());
    decoder.buffer().put_slice(bytes);
    let frame = decoder.next_frame().ok()??;
    (!decoder.buffer().has_remaining()).then_some(frame)
}

/// The bytes of a whole frame with this kind and payload.
pub fn bytes_of(kind: FrameType, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    frame::put(&mut out, kind, payload);
    out.freeze()
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
