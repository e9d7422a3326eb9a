//! Messages that open streams and answer that: `proto/waypost.proto`, one struct each, with the same
//! names and numbers.

use bytes::Bytes;

use super::Explains;

/// HELLO, client to node, first frame on the control stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Protocol versions the client speaks.
    #[prost(uint32, repeated, tag = "1")]
    pub versions: Vec<u32>,
    /// Name and version of the client, for people.
    #[prost(string, tag = "2")]
    pub client: String,
    /// Where the client shows no certificate.
    #[prost(string, tag = "3")]
    pub token: String,
    /// Longest frame payload it takes; 0: the default, 2 MiB.
    #[prost(uint64, tag = "4")]
    pub frame_bytes_max: u64,
}

/// WELCOME, the node's answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// The version spoken from here on.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The node's name.
    #[prost(string, tag = "2")]
    pub node: String,
    /// Name and version of the software.
    #[prost(string, tag = "3")]
    pub server: String,
    /// Whom the node takes the client for.
    #[prost(string, tag = "4")]
    pub principal: String,
    /// And the roles that it has.
    #[prost(string, repeated, tag = "5")]
    pub roles: Vec<String>,
    /// Payload bytes max.
    #[prost(uint64, tag = "6")]
    pub payload_bytes_max: u64,
    /// Batch messages max.
    #[prost(uint32, tag = "7")]
    pub batch_messages_max: u32,
    /// A single larger message is a batch too.
    #[prost(uint64, tag = "8")]
    pub batch_bytes_max: u64,
    /// Longest frame payload the node takes.
    #[prost(uint64, tag = "9")]
    pub frame_bytes_max: u64,
    /// Streams a connection may have open.
    #[prost(uint32, tag = "10")]
    pub streams_max: u32,
}

/// ERROR, either way: ends the stream, or on the control stream the connection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Error {
    /// Code.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// What, where, what was expected.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Retryable.
    #[prost(bool, tag = "3")]
    pub retryable: bool,
}

/// GOAWAY, node to client, on the control stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GoAway {
    /// Reason.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// Grace ms.
    #[prost(uint64, tag = "2")]
    pub grace_ms: u64,
}

/// See `Level` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Level {
    /// `RECEIVED`.
    Received = 0,
    /// `STORED`.
    Stored = 1,
    /// `MIRRORED`.
    Mirrored = 2,
}

/// OPEN_PUBLISHER, first frame of a publisher stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenPublisher {
    /// For people: shown by the admin page.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The window it would like; 0: the node's default.
    #[prost(uint32, tag = "2")]
    pub window_messages: u32,
    /// 16 bytes: its records carry this producer;.
    #[prost(bytes = "bytes", tag = "3")]
    pub producer: Bytes,
    /// Of the producer;.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// A message that nothing takes is refused as `unroutable`.
    #[prost(bool, tag = "5")]
    pub mandatory: bool,
    /// Send RECEIPT when groups are done with its messages; needs a producer.
    #[prost(bool, tag = "6")]
    pub receipts: bool,
    /// Send EXPLAINED for these messages; needs the right `read`.
    #[prost(enumeration = "Explains", tag = "7")]
    pub explains: i32,
}

/// See `Start` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Start {
    /// `BEGINNING`.
    Beginning = 0,
    /// `END`.
    End = 1,
    /// `OFFSET`.
    Offset = 2,
    /// `TIME`.
    Time = 3,
}

/// See `GroupKind` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum GroupKind {
    /// `SHARED`.
    Shared = 0,
    /// `EXCLUSIVE`.
    Exclusive = 1,
    /// `KEY`.
    Key = 2,
}

/// OPEN_CONSUMER, first frame of a consumer stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenConsumer {
    /// The queue's name.
    #[prost(string, tag = "1")]
    pub queue: String,
    /// Made when it is not there.
    #[prost(string, tag = "2")]
    pub group: String,
    /// Of this consumer, for people.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Only for a group that is made now.
    #[prost(enumeration = "Start", tag = "4")]
    pub start: i32,
    /// Start offset.
    #[prost(uint64, tag = "5")]
    pub start_offset: u64,
    /// 0: the queue's default.
    #[prost(uint64, tag = "6")]
    pub ack_deadline_ms: u64,
    /// Of a group that is made now;.
    #[prost(enumeration = "GroupKind", tag = "7")]
    pub kind: i32,
    /// Topics that the group takes;.
    #[prost(string, repeated, tag = "8")]
    pub filters: Vec<String>,
    /// With TIME: the first message received then or later.
    #[prost(uint64, tag = "9")]
    pub start_time_ms: u64,
}

/// OPEN_SUBSCRIBER, first frame of a live subscription.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenSubscriber {
    /// Filters.
    #[prost(string, repeated, tag = "1")]
    pub filters: Vec<String>,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What happens when it reads too slowly.
    #[prost(enumeration = "Slow", tag = "3")]
    pub slow: i32,
}

/// See `Slow` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Slow {
    /// `LOSE`.
    Lose = 0,
    /// `DISCONNECT`.
    Disconnect = 1,
}

/// OPENED, the node's answer to the three.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Opened {
    /// Publisher: may send up to this sequence.
    #[prost(uint64, tag = "1")]
    pub window_sequence: u64,
    /// Publisher: and so many slab bytes in all.
    #[prost(uint64, tag = "2")]
    pub window_bytes: u64,
    /// Reserved.
    #[prost(enumeration = "Level", tag = "3")]
    pub level: i32,
    /// Consumer: the one in force.
    #[prost(uint64, tag = "4")]
    pub ack_deadline_ms: u64,
    /// Consumer.
    #[prost(string, tag = "5")]
    pub group: String,
    /// Consumer: its number, for TRANSACT.
    #[prost(uint64, tag = "6")]
    pub consumer: u64,
    /// Publisher with a producer: the epoch in force.
    #[prost(uint64, tag = "7")]
    pub epoch: u64,
    /// Publisher with a producer: its highest sequence that is stored.
    #[prost(uint64, tag = "8")]
    pub last_sequence: u64,
    /// Publisher with a producer: NUMBER_FROM may come.
    #[prost(bool, tag = "9")]
    pub numbers: bool,
}
