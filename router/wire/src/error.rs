//! Error codes that node and client both know, and the error of a malformed frame.

use crate::record::RecordError;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $value:literal, $text:literal, $retry:literal;)*) => {
        /// What went wrong, as a number on the wire and a word for people. `docs/protocol.md`
        /// lists them with what the other side may do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[doc = $doc])* $name = $value,)*
        }

        impl Code {
            /// Every code, in ascending order.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The code with this number; an unknown number is [`Code::Internal`], so that a newer
            /// node's error is still an error.
            pub fn from_number(number: u64) -> Code {
                match number {
                    $($value => Code::$name,)*
                    _ => Code::Internal,
                }
            }

            /// The word for people and for `--json`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// Whether the same request can succeed later without a change.
            pub fn is_retryable(self) -> bool {
                match self { $(Code::$name => $retry,)* }
            }
        }
    };
}

codes! {
    /// Not an error: closed on purpose.
    Closed = 0, "closed", false;
    /// A fault of the node; its log says more.
    Internal = 1, "internal", true;
    /// Bytes that the protocol does not allow here.
    Protocol = 2, "protocol", false;
    /// No common protocol version.
    Version = 3, "version", false;
    /// No or a wrong certificate or token.
    Unauthenticated = 4, "unauthenticated", false;
    /// The role does not allow it.
    Forbidden = 5, "forbidden", false;
    /// No such queue, group, plugin.
    NotFound = 6, "not-found", false;
    /// A name that exists already with other settings.
    Exists = 7, "exists", false;
    /// An argument out of its range; the text names it.
    Invalid = 8, "invalid", false;
    /// A frame, batch, payload, topic or header over its limit.
    TooLarge = 9, "too-large", false;
    /// A topic or filter that breaks the grammar, or begins with `$`.
    BadTopic = 10, "bad-topic", false;
    /// A record whose bytes do not match their checksum or layout.
    BadRecord = 11, "bad-record", false;
    /// More messages or bytes than the window allows.
    OverWindow = 12, "over-window", false;
    /// A sequence number that does not follow the last.
    OutOfOrder = 13, "out-of-order", false;
    /// A queue is at its limit and refuses publishers.
    QueueFull = 14, "queue-full", true;
    /// No disk space; acks still work.
    DiskFull = 15, "disk-full", true;
    /// The node is draining and stops.
    Draining = 16, "draining", true;
    /// Too many connections, streams, consumers or subscriptions.
    Busy = 17, "busy", true;
    /// A plugin failed on this message and `on_error` says reject.
    PluginFailed = 18, "plugin-failed", false;
    /// A plugin rejected this message.
    PluginRejected = 19, "plugin-rejected", false;
    /// No route, queue or subscriber takes this topic.
    Unroutable = 20, "unroutable", false;
    /// Re-entered routing too often, or came back to a router that it had passed.
    Loop = 21, "loop", false;
    /// The queue was removed, purged or moved away under the consumer.
    Gone = 22, "gone", false;
    /// A record has a critical field that this node does not know.
    UnknownField = 23, "unknown-field", false;
    /// A plugin is out of service for now.
    PluginUnavailable = 24, "plugin-unavailable", true;
    /// The data of this queue is damaged here; the node's log says where.
    Damaged = 25, "damaged", false;
    /// The other side did not answer or read in time.
    Timeout = 26, "timeout", true;
    /// The queue cannot do this: a memory queue has no history, for example.
    Unsupported = 27, "unsupported", false;
    /// A newer epoch of this producer is at work.
    Fenced = 28, "fenced", false;
    /// A transaction acks what its consumer does not hold (any more); or what is there, or what the
    /// configuration says, does not allow a change.
    Conflict = 29, "conflict", false;
    /// It fell too far behind.
    Slow = 30, "slow", true;
    /// It lived longer than it was meant to.
    Expired = 31, "expired", false;
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why bytes could not be read as frames.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame's length is above what was agreed.
    #[error(
        "frame type {frame_type:#x} at stream offset {offset} has {length} bytes, limit {limit}"
    )]
    FrameTooLarge {
        /// The frame's type.
        frame_type: u64,
        /// Where the frame starts in its stream.
        offset: u64,
        /// The length it claims.
        length: u64,
        /// The limit in force.
        limit: u64,
    },
    /// A type that this version does not know and may not skip.
    #[error("unknown frame type {frame_type:#x} at stream offset {offset}")]
    UnknownFrame {
        /// The frame's type.
        frame_type: u64,
        /// Where the frame starts in its stream.
        offset: u64,
    },
    /// A known type in a place where it may not stand.
    #[error("frame {got} at stream offset {offset}, expected {expected}")]
    UnexpectedFrame {
        /// What came.
        got: crate::frame::FrameType,
        /// Where the frame starts in its stream.
        offset: u64,
        /// What may come here.
        expected: &'static str,
    },
    /// A frame whose payload does not parse.
    #[error("{frame} frame at stream offset {offset}: {what}")]
    Malformed {
        /// The frame's type.
        frame: crate::frame::FrameType,
        /// Where the frame starts in its stream.
        offset: u64,
        /// Which part, and what was expected.
        what: String,
    },
    /// The stream ended inside a frame.
    #[error("stream ended at offset {offset} inside a frame ({missing} more bytes expected)")]
    Truncated {
        /// Where the stream ended.
        offset: u64,
        /// How many bytes are missing at least.
        missing: u64,
    },
    /// A record in a batch is bad.
    #[error("record {index} of the batch at stream offset {offset}: {error}")]
    Record {
        /// Which record of the batch, from 0.
        index: u32,
        /// Where the frame starts in its stream.
        offset: u64,
        /// What is wrong with it.
        error: RecordError,
    },
}

impl WireError {
    /// The code to answer with.
    pub fn code(&self) -> Code {
        match self {
            WireError::FrameTooLarge { .. } => Code::TooLarge,
            WireError::Record { error, .. } => error.code(),
            _ => Code::Protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_unique() {
        for (number, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, number);
            assert_eq!(Code::from_number(number as u64), *code);
        }
        assert_eq!(Code::from_number(u64::MAX), Code::Internal);
    }
}
