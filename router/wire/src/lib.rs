//! Bytes to messages and frames, and back.
//!
//! This crate holds every format that crosses a process boundary: the record body ([`record`]),
//! a run of records ([`slab`]), frames ([`frame`], [`data`], [`control`]), topics and filters
//! ([`topic`]), sets of offsets ([`ranges`]), and the error codes that both sides know ([`error`]). It has no clock, no sockets
//! and no tasks; all input is taken as hostile and no input makes it panic.
//!
//! The prose of the formats is in `docs/protocol.md`; each layout is drawn once, in the module
//! that encodes it.

pub mod control;
pub mod data;
pub mod error;
pub mod frame;
pub mod peek;
pub mod ranges;
pub mod record;
pub mod slab;
pub mod topic;
pub mod varint;

pub use error::{Code, WireError};
pub use frame::{Frame, FrameDecoder, FrameType};
pub use record::{Message, RecordError, RecordRef};
pub use slab::Slab;
pub use topic::{Filter, TopicError};

/// ALPN protocol id of version 1.
pub const ALPN: &[u8] = b"waypost/1";
/// Default port, UDP for QUIC.
pub const PORT: u16 = 9297;
/// Highest protocol version this build speaks.
pub const VERSION: u32 = 1;
/// UDP payload of a datagram on the loopback interface at most, found by MTU discovery as on any
/// path. Ten of them fit one system call with segmentation offload (64 KiB), and QUIC sends up to
/// ten at once.
pub const LOOPBACK_UDP_PAYLOAD_MAX: u16 = 6_400;
/// Payload limit where the configuration names none: 1 MiB.
pub const PAYLOAD_BYTES_DEFAULT: usize = 1 << 20;
/// The largest payload limit that can be configured: 64 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// Messages in one batch at most.
pub const BATCH_MESSAGES_MAX: usize = 256;
/// Bytes of a component in one CHUNK at most.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Bytes in one batch at most, unless it holds a single larger message.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
