//! Frames: what every stream of a connection consists of.
//!
//! ```text
//! frame := type varint, length varint, payload[length]
//! ```
//!
//! Types below 0x10 are control frames with a protobuf payload ([`crate::control`]), 0x10 to 0x1f
//! are data frames ([`crate::data`]), 0x20 to 0x3f are set aside for extensions and skipped by
//! whoever does not know them; any other type is an error.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::WireError;
use crate::varint;

macro_rules! frame_types {
    ($($(#[doc = $doc:literal])* $name:ident = $value:literal, $text:literal;)*) => {
        /// What a frame is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FrameType {
            $($(#[doc = $doc])* $name = $value,)*
        }

        impl FrameType {
            /// The type with this number.
            pub fn from_number(number: u64) -> Option<FrameType> {
                match number { $($value => Some(FrameType::$name),)* _ => None }
            }

            /// Its name in the protocol's document.
            pub fn as_str(self) -> &'static str {
                match self { $(FrameType::$name => $text,)* }
            }
        }
    };
}

frame_types! {
    /// First frame of a connection, client to node, on the control stream.
    Hello = 0x01, "HELLO";
    /// The node's answer.
    Welcome = 0x02, "WELCOME";
    /// Ends a stream or a connection, either way; says why.
    Error = 0x03, "ERROR";
    /// First frame of a publisher stream.
    OpenPublisher = 0x04, "OPEN_PUBLISHER";
    /// First frame of a consumer stream.
    OpenConsumer = 0x05, "OPEN_CONSUMER";
    /// First frame of a live subscription's stream.
    OpenSubscriber = 0x06, "OPEN_SUBSCRIBER";
    /// The node's answer to any of the three.
    Opened = 0x07, "OPENED";
    /// First frame of a management stream: a request.
    Manage = 0x08, "MANAGE";
    /// Its answer.
    Managed = 0x09, "MANAGED";
    /// The node drains: open nothing new, finish and go elsewhere.
    GoAway = 0x0a, "GOAWAY";
    /// Last frame of a stream that ended well; all that came before is settled and synced.
    Closed = 0x0b, "CLOSED";
    /// Node to publisher: what became of a message, step by step.
    Explained = 0x0c, "EXPLAINED";
    /// Publisher to node: a batch.
    Publish = 0x10, "PUBLISH";
    /// Node to publisher: cumulative confirm and the window.
    Confirm = 0x11, "CONFIRM";
    /// Node to consumer: a batch.
    Deliver = 0x12, "DELIVER";
    /// Consumer to node: how much it takes.
    Credit = 0x13, "CREDIT";
    /// Consumer to node: done.
    Ack = 0x14, "ACK";
    /// Consumer to node: again, after a delay.
    Nack = 0x15, "NACK";
    /// Consumer to node: never again; to the dead letters.
    Reject = 0x16, "REJECT";
    /// Consumer to node: more time.
    Extend = 0x17, "EXTEND";
    /// Node to subscriber: a batch.
    Live = 0x18, "LIVE";
    /// Node to subscriber: so many messages were left out here.
    Lost = 0x19, "LOST";
    /// Publisher to node: a batch that is taken whole or not at all, with acks.
    Transact = 0x1a, "TRANSACT";
    /// Node to publisher: groups are done with its messages.
    Receipt = 0x1b, "RECEIPT";
    /// Consumer to node: done with all up to an offset.
    AckUpTo = 0x1c, "ACK_UP_TO";
    /// Client to node: a part of a component.
    Chunk = 0x1d, "CHUNK";
    /// Publisher to node: it has receipts, up to a number.
    ReceiptAck = 0x1e, "RECEIPT_ACK";
    /// Publisher to node: the number of the stream's first message.
    NumberFrom = 0x1f, "NUMBER_FROM";
}

impl std::fmt::Display for FrameType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameType,
    /// Where it started in its stream, in bytes.
    pub offset: u64,
    /// Its payload.
    pub payload: Bytes,
}

impl Frame {
    /// The error for a payload that does not parse.
    pub fn malformed(&self, what: impl Into<String>) -> WireError {
        WireError::Malformed {
            frame: self.kind,
            offset: self.offset,
            what: what.into(),
        }
    }

    /// The error for a frame in the wrong place.
    pub fn unexpected(&self, expected: &'static str) -> WireError {
        WireError::UnexpectedFrame {
            got: self.kind,
            offset: self.offset,
            expected,
        }
    }
}

/// Appends a frame's head; its payload of `length` bytes must follow.
#[inline]
pub fn put_head(out: &mut BytesMut, kind: FrameType, length: usize) {
    out.reserve(length.min(64 << 10) + 9);
    varint::put(out, kind as u64);
    varint::put(out, length as u64);
}

/// Appends a whole frame.
pub fn put(out: &mut BytesMut, kind: FrameType, payload: &[u8]) {
    put_head(out, kind, payload.len());
    out.extend_from_slice(payload);
}

/// Cuts a stream of bytes into frames. Give it bytes with [`FrameDecoder::buffer`], then take
/// frames until there is none.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    /// Stream offset of the buffer's first byte.
    offset: u64,
    length_max: u64,
    /// Bytes of a skipped extension frame that have not arrived yet.
    skip: u64,
}

impl FrameDecoder {
    /// A decoder that refuses frames with more than `length_max` bytes of payload.
    pub fn new(length_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            offset: 0,
            length_max: length_max as u64,
            skip: 0,
        }
    }

    /// Where received bytes are to be appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Changes the limit, after a handshake agreed on another.
    pub fn set_length_max(&mut self, length_max: usize) {
        self.length_max = length_max as u64;
    }

    /// The next whole frame; `None` until more bytes arrive. After an error the stream is lost.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            if !self.skipped() {
                return Ok(None);
            }
            let Some((number, a)) = varint::get(&self.buffer) else {
                return Ok(None);
            };
            let Some((length, b)) = varint::get(&self.buffer[a..]) else {
                return Ok(None);
            };
            if length > self.length_max {
                let (offset, limit) = (self.offset, self.length_max);
                return Err(WireError::FrameTooLarge {
                    frame_type: number,
                    offset,
                    length,
                    limit,
                });
            }
            let head = a + b;
            let Some(kind) = FrameType::from_number(number) else {
                if !(0x20..0x40).contains(&number) {
                    return Err(WireError::UnknownFrame {
                        frame_type: number,
                        offset: self.offset,
                    });
                }
                self.buffer.advance(head);
                self.offset += head as u64;
                self.skip = length;
                continue;
            };
            // `length` is at most `length_max`, which came from a usize.
            let whole = head + length as usize;
            if self.buffer.len() < whole {
                // Room for the rest of this frame at once, so that it is not moved again and again.
                self.buffer.reserve(whole - self.buffer.len());
                return Ok(None);
            }
            let offset = self.offset;
            let mut payload = self.buffer.split_to(whole);
            payload.advance(head);
            self.offset += whole as u64;
            return Ok(Some(Frame {
                kind,
                offset,
                payload: payload.freeze(),
            }));
        }
    }

    fn skipped(&mut self) -> bool {
        let now = self.skip.min(self.buffer.len() as u64);
        self.buffer.advance(now as usize);
        self.offset += now;
        self.skip -= now;
        self.skip == 0
    }

    /// Call it when the stream ended: an error if it ended inside a frame.
    pub fn finish(&self) -> Result<(), WireError> {
        let mut missing = self.skip;
        if !self.buffer.is_empty() {
            let head = varint::get(&self.buffer)
                .and_then(|(_, a)| varint::get(&self.buffer[a..]).map(|(l, b)| l + (a + b) as u64));
            missing = head.map_or(1, |whole| whole.saturating_sub(self.buffer.len() as u64));
        }
        match missing {
            0 => Ok(()),
            _ => Err(WireError::Truncated {
                offset: self.offset + self.buffer.len() as u64,
                missing,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn byte_by_byte() {
        let mut stream = BytesMut::new();
        put(&mut stream, FrameType::Credit, b"abc");
        varint::put(&mut stream, 0x2a);
        varint::put(&mut stream, 70);
        stream.extend_from_slice(&[0; 70]);
        put(&mut stream, FrameType::Lost, b"");
        let mut decoder = FrameDecoder::new(100);
        let mut frames = Vec::new();
        for byte in &stream {
            decoder.buffer().extend_from_slice(&[*byte]);
            frames.extend(decoder.next_frame().unwrap());
        }
        decoder.finish().unwrap();
        let offsets: Vec<_> = frames.iter().map(|f| (f.kind, f.offset)).collect();
        assert_eq!(offsets, [(FrameType::Credit, 0), (FrameType::Lost, 78)]);
    }

    #[test]
    fn errors_say_where() {
        let mut decoder = FrameDecoder::new(10);
        put(decoder.buffer(), FrameType::Ack, b"1");
        put_head(decoder.buffer(), FrameType::Ack, 11);
        decoder.next_frame().unwrap();
        assert_eq!(
            decoder.next_frame(),
            Err(WireError::FrameTooLarge {
                frame_type: 0x14,
                offset: 3,
                length: 11,
                limit: 10
            })
        );
        let mut decoder = FrameDecoder::new(10);
        decoder.buffer().extend_from_slice(&[0x40, 0x50, 0]);
        assert_eq!(
            decoder.next_frame(),
            Err(WireError::UnknownFrame {
                frame_type: 0x50,
                offset: 0
            })
        );
        let mut decoder = FrameDecoder::new(10);
        decoder.buffer().extend_from_slice(&[0x14, 5, 0]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(
            decoder.finish(),
            Err(WireError::Truncated {
                offset: 3,
                missing: 4
            })
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(chunks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let mut decoder = FrameDecoder::new(64);
            for chunk in chunks {
                decoder.buffer().extend_from_slice(&chunk);
                while let Ok(Some(_)) = decoder.next_frame() {}
            }
            let _ = decoder.finish();
        }
    }
}
