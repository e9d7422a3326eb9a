//! The messages of `proto/waypost.proto`, one struct each, with the same names and numbers.

use bytes::Bytes;

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
}

/// MANAGE, first and only frame of a management stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Manage {
    /// What.
    #[prost(oneof = "ManageRequest", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub request: Option<ManageRequest>,
}

/// The alternatives of [`Manage`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ManageRequest {
    /// See [`QueueList`].
    #[prost(message, tag = "1")]
    QueueList(QueueList),
    /// See [`QueueAdd`].
    #[prost(message, tag = "2")]
    QueueAdd(QueueAdd),
    /// See [`QueueName`].
    #[prost(message, tag = "3")]
    QueueInfo(QueueName),
    /// See [`QueuePeek`].
    #[prost(message, tag = "4")]
    QueuePeek(QueuePeek),
    /// See [`QueueName`].
    #[prost(message, tag = "5")]
    QueuePurge(QueueName),
    /// See [`QueueName`].
    #[prost(message, tag = "6")]
    QueueRemove(QueueName),
    /// See [`PluginList`].
    #[prost(message, tag = "7")]
    PluginList(PluginList),
    /// See [`NodeInfo`].
    #[prost(message, tag = "8")]
    NodeInfo(NodeInfo),
    /// See [`Explain`].
    #[prost(message, tag = "9")]
    Explain(Explain),
}

/// See `QueueList` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueueList {}

/// See `NodeInfo` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeInfo {}

/// See `PluginList` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginList {}

/// See `QueueName` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueueName {
    /// The queue's name.
    #[prost(string, tag = "1")]
    pub queue: String,
}

/// See `QueueAdd` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueueAdd {
    /// The queue's name.
    #[prost(string, tag = "1")]
    pub queue: String,
    /// Settings.
    #[prost(message, optional, tag = "2")]
    pub settings: Option<QueueSettings>,
}

/// See `QueuePeek` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueuePeek {
    /// The queue's name.
    #[prost(string, tag = "1")]
    pub queue: String,
    /// From offset.
    #[prost(uint64, tag = "2")]
    pub from_offset: u64,
    /// Count.
    #[prost(uint32, tag = "3")]
    pub count: u32,
}

/// Runs one message through the routes without effects and tells what each did.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Explain {
    /// Record.
    #[prost(bytes = "bytes", tag = "1")]
    pub record: Bytes,
}

/// See `Durability` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Durability {
    /// `SYNC`.
    Sync = 0,
    /// `INTERVAL`.
    Interval = 1,
    /// `MEMORY`.
    Memory = 2,
}

/// See `QueueSettings` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueueSettings {
    /// Durability.
    #[prost(enumeration = "Durability", tag = "1")]
    pub durability: i32,
    /// 0: the node's default.
    #[prost(uint64, tag = "2")]
    pub bytes_max: u64,
    /// 0: no limit.
    #[prost(uint64, tag = "3")]
    pub messages_max: u64,
    /// 0: the default, 30,000.
    #[prost(uint64, tag = "4")]
    pub ack_deadline_ms: u64,
    /// Attempts before the dead letters; 0: the default, 20.
    #[prost(uint32, tag = "5")]
    pub deliver_max: u32,
    /// Filters whose topics reach it without a route.
    #[prost(string, repeated, tag = "6")]
    pub from: Vec<String>,
}

/// MANAGED, the answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Managed {
    /// What.
    #[prost(oneof = "ManagedResponse", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub response: Option<ManagedResponse>,
}

/// The alternatives of [`Managed`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ManagedResponse {
    /// See [`Done`].
    #[prost(message, tag = "1")]
    Done(Done),
    /// See [`QueueListed`].
    #[prost(message, tag = "2")]
    QueueList(QueueListed),
    /// See [`QueueState`].
    #[prost(message, tag = "3")]
    QueueInfo(QueueState),
    /// See [`Peeked`].
    #[prost(message, tag = "4")]
    QueuePeek(Peeked),
    /// See [`PluginListed`].
    #[prost(message, tag = "5")]
    PluginList(PluginListed),
    /// See [`NodeState`].
    #[prost(message, tag = "6")]
    NodeInfo(NodeState),
    /// See [`Explained`].
    #[prost(message, tag = "7")]
    Explain(Explained),
}

/// See `Done` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Done {
    /// Count.
    #[prost(uint64, tag = "1")]
    pub count: u64,
}

/// See `QueueListed` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueueListed {
    /// Queues.
    #[prost(message, repeated, tag = "1")]
    pub queues: Vec<QueueState>,
}

/// See `GroupState` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupState {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Every offset below is acked.
    #[prost(uint64, tag = "2")]
    pub acked_below: u64,
    /// The next that was never delivered.
    #[prost(uint64, tag = "3")]
    pub next_offset: u64,
    /// Not yet acked, delivered or not.
    #[prost(uint64, tag = "4")]
    pub pending: u64,
    /// Delivered, not yet acked.
    #[prost(uint64, tag = "5")]
    pub in_flight: u64,
    /// Consumers.
    #[prost(uint32, tag = "6")]
    pub consumers: u32,
    /// Since the node started.
    #[prost(uint64, tag = "7")]
    pub redelivered: u64,
}

/// See `QueueState` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueueState {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Settings.
    #[prost(message, optional, tag = "2")]
    pub settings: Option<QueueSettings>,
    /// First offset.
    #[prost(uint64, tag = "3")]
    pub first_offset: u64,
    /// Next offset.
    #[prost(uint64, tag = "4")]
    pub next_offset: u64,
    /// Messages.
    #[prost(uint64, tag = "5")]
    pub messages: u64,
    /// Bytes.
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
    /// Groups.
    #[prost(message, repeated, tag = "7")]
    pub groups: Vec<GroupState>,
    /// Config, network or node.
    #[prost(string, tag = "8")]
    pub source: String,
    /// Hex.
    #[prost(string, tag = "9")]
    pub incarnation: String,
    /// Since the node started.
    #[prost(uint64, tag = "10")]
    pub published: u64,
    /// Delivered.
    #[prost(uint64, tag = "11")]
    pub delivered: u64,
    /// Acked.
    #[prost(uint64, tag = "12")]
    pub acked: u64,
}

/// See `PeekedMessage` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeekedMessage {
    /// Offset.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Receive time ms.
    #[prost(uint64, tag = "2")]
    pub receive_time_ms: u64,
    /// Record.
    #[prost(bytes = "bytes", tag = "3")]
    pub record: Bytes,
}

/// See `Peeked` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Peeked {
    /// Messages.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<PeekedMessage>,
    /// Next offset.
    #[prost(uint64, tag = "2")]
    pub next_offset: u64,
}

/// See `PluginState` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginState {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Role.
    #[prost(string, tag = "2")]
    pub role: String,
    /// Sha256, hex.
    #[prost(string, tag = "3")]
    pub digest: String,
    /// File, or builtin:NAME.
    #[prost(string, tag = "4")]
    pub source: String,
    /// Bytes.
    #[prost(uint64, tag = "5")]
    pub bytes: u64,
    /// Calls.
    #[prost(uint64, tag = "6")]
    pub calls: u64,
    /// Messages.
    #[prost(uint64, tag = "7")]
    pub messages: u64,
    /// Failures.
    #[prost(uint64, tag = "8")]
    pub failures: u64,
    /// Thread time inside the guest.
    #[prost(uint64, tag = "9")]
    pub busy_ns: u64,
    /// Instances.
    #[prost(uint32, tag = "10")]
    pub instances: u32,
    /// Ready, or out-of-service and why.
    #[prost(string, tag = "11")]
    pub status: String,
}

/// See `PluginListed` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginListed {
    /// Plugins.
    #[prost(message, repeated, tag = "1")]
    pub plugins: Vec<PluginState>,
}

/// See `NodeState` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeState {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Server.
    #[prost(string, tag = "2")]
    pub server: String,
    /// Uptime ms.
    #[prost(uint64, tag = "3")]
    pub uptime_ms: u64,
    /// Connections.
    #[prost(uint32, tag = "4")]
    pub connections: u32,
    /// Queues.
    #[prost(uint32, tag = "5")]
    pub queues: u32,
    /// Plugins.
    #[prost(uint32, tag = "6")]
    pub plugins: u32,
    /// Routes.
    #[prost(uint32, tag = "7")]
    pub routes: u32,
    /// Data dir.
    #[prost(string, tag = "8")]
    pub data_dir: String,
    /// Alarms.
    #[prost(string, repeated, tag = "9")]
    pub alarms: Vec<String>,
}

/// See `ExplainStep` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExplainStep {
    /// Route.
    #[prost(string, tag = "1")]
    pub route: String,
    /// Plugin.
    #[prost(string, tag = "2")]
    pub plugin: String,
    /// Verdict.
    #[prost(string, tag = "3")]
    pub verdict: String,
    /// Detail.
    #[prost(string, tag = "4")]
    pub detail: String,
    /// Ns.
    #[prost(uint64, tag = "5")]
    pub ns: u64,
}

/// See `Explained` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Explained {
    /// Steps.
    #[prost(message, repeated, tag = "1")]
    pub steps: Vec<ExplainStep>,
    /// Destinations.
    #[prost(string, repeated, tag = "2")]
    pub destinations: Vec<String>,
}
