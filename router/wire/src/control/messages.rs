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
    /// 16 bytes: its records carry this producer;.
    #[prost(bytes = "bytes", tag = "3")]
    pub producer: Bytes,
    /// Of the producer;.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// A message that nothing takes is refused as `unroutable`.
    #[prost(bool, tag = "5")]
    pub mandatory: bool,
    /// Send RECEIPT when groups are done with its messages.
    #[prost(bool, tag = "6")]
    pub receipts: bool,
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
}

/// MANAGE, first and only frame of a management stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Manage {
    /// What.
    #[prost(
        oneof = "ManageRequest",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18"
    )]
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
    /// See [`GroupAdd`].
    #[prost(message, tag = "10")]
    GroupAdd(GroupAdd),
    /// See [`GroupSeek`].
    #[prost(message, tag = "11")]
    GroupSeek(GroupSeek),
    /// See [`GroupName`].
    #[prost(message, tag = "12")]
    GroupRemove(GroupName),
    /// See [`QueueAdd`].
    #[prost(message, tag = "13")]
    QueueSet(QueueAdd),
    /// See [`Browse`].
    #[prost(message, tag = "14")]
    Browse(Browse),
    /// See [`Replay`].
    #[prost(message, tag = "15")]
    Replay(Replay),
    /// See [`Redrive`].
    #[prost(message, tag = "16")]
    Redrive(Redrive),
    /// See [`Remove`].
    #[prost(message, tag = "17")]
    Remove(Remove),
    /// See [`Backup`].
    #[prost(message, tag = "18")]
    Backup(Backup),
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
    /// Retain.
    #[prost(enumeration = "Retain", tag = "7")]
    pub retain: i32,
    /// Messages older than this go;.
    #[prost(uint64, tag = "8")]
    pub age_max_ms: u64,
    /// What happens at bytes_max and messages_max.
    #[prost(enumeration = "AtLimit", tag = "9")]
    pub at_limit: i32,
    /// Messages expire after so long;.
    #[prost(uint64, tag = "10")]
    pub ttl_ms: u64,
    /// Expired.
    #[prost(enumeration = "Expired", tag = "11")]
    pub expired: i32,
    /// Levels, 2 to 8;.
    #[prost(uint32, tag = "12")]
    pub priorities: u32,
    /// Only the newest message of each key is kept.
    #[prost(bool, tag = "13")]
    pub last_value: bool,
    /// Wait before the third attempt, doubled each time;.
    #[prost(uint64, tag = "14")]
    pub backoff_ms: u64,
    /// 0: the default, 60,000.
    #[prost(uint64, tag = "15")]
    pub backoff_max_ms: u64,
    /// Message ids are remembered so long;.
    #[prost(uint64, tag = "16")]
    pub dedup_window_ms: u64,
    /// Deliver.
    #[prost(enumeration = "DeliverWhen", tag = "17")]
    pub deliver: i32,
    /// With INTERVAL: synced at least so often;.
    #[prost(uint64, tag = "18")]
    pub interval_ms: u64,
    /// Where its dead letters go;.
    #[prost(string, tag = "19")]
    pub dead_letter: String,
    /// What happens when a group falls behind.
    #[prost(enumeration = "SlowGroup", tag = "20")]
    pub slow: i32,
    /// So far;.
    #[prost(uint64, tag = "21")]
    pub slow_messages: u64,
}

/// MANAGED, the answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Managed {
    /// What.
    #[prost(oneof = "ManagedResponse", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub response: Option<ManagedResponse>,
}

/// The alternatives of [`Managed`].
#[derive(Clone, PartialEq, prost::Oneof)]
#[expect(
    clippy::large_enum_variant,
    reason = "one answer at a time, and the largest is a queue's state"
)]
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
    /// See [`BackedUp`].
    #[prost(message, tag = "8")]
    Backup(BackedUp),
}

/// See `Done` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Done {
    /// Count.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// That was not all: ask again from this offset; 0: it was.
    #[prost(uint64, tag = "2")]
    pub next_offset: u64,
    /// Messages that could not be taken.
    #[prost(uint64, tag = "3")]
    pub skipped: u64,
    /// Why the last of them could not.
    #[prost(string, tag = "4")]
    pub why: String,
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
    /// Kind.
    #[prost(enumeration = "GroupKind", tag = "8")]
    pub kind: i32,
    /// Filters.
    #[prost(string, repeated, tag = "9")]
    pub filters: Vec<String>,
    /// Waiting for their time.
    #[prost(uint64, tag = "10")]
    pub delayed: u64,
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
    /// Since the node started.
    #[prost(uint64, tag = "13")]
    pub expired: u64,
    /// By a limit or a newer value, since the node started.
    #[prost(uint64, tag = "14")]
    pub dropped: u64,
    /// Since the node started.
    #[prost(uint64, tag = "15")]
    pub dead_lettered: u64,
    /// When the oldest message was received;.
    #[prost(uint64, tag = "16")]
    pub first_time_ms: u64,
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

/// See `Slow` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Slow {
    /// `LOSE`.
    Lose = 0,
    /// `DISCONNECT`.
    Disconnect = 1,
    /// `PAUSE`.
    Pause = 2,
}

/// See `Retain` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Retain {
    /// `UNTIL_ACKED`.
    UntilAcked = 0,
    /// `LOG`.
    Log = 1,
}

/// See `AtLimit` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AtLimit {
    /// `REFUSE`.
    Refuse = 0,
    /// `DROP_OLDEST`.
    DropOldest = 1,
    /// `DEAD_LETTER`.
    DeadLetter = 2,
}

/// See `Expired` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Expired {
    /// `TO_DEAD_LETTER`.
    ToDeadLetter = 0,
    /// `DROPPED`.
    Dropped = 1,
}

/// See `DeliverWhen` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DeliverWhen {
    /// `SYNCED`.
    Synced = 0,
    /// `ON_RECEIPT`.
    OnReceipt = 1,
}

/// See `SlowGroup` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum SlowGroup {
    /// `SPILL`.
    Spill = 0,
    /// `HOLD`.
    Hold = 1,
    /// `CLOSE`.
    Close = 2,
}

/// See `GroupName` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupName {
    /// Queue.
    #[prost(string, tag = "1")]
    pub queue: String,
    /// Group.
    #[prost(string, tag = "2")]
    pub group: String,
}

/// See `GroupAdd` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupAdd {
    /// Queue.
    #[prost(string, tag = "1")]
    pub queue: String,
    /// Group.
    #[prost(string, tag = "2")]
    pub group: String,
    /// Kind.
    #[prost(enumeration = "GroupKind", tag = "3")]
    pub kind: i32,
    /// Filters.
    #[prost(string, repeated, tag = "4")]
    pub filters: Vec<String>,
    /// Start.
    #[prost(enumeration = "Start", tag = "5")]
    pub start: i32,
    /// Start offset.
    #[prost(uint64, tag = "6")]
    pub start_offset: u64,
    /// Start time ms.
    #[prost(uint64, tag = "7")]
    pub start_time_ms: u64,
}

/// See `GroupSeek` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupSeek {
    /// Queue.
    #[prost(string, tag = "1")]
    pub queue: String,
    /// Group.
    #[prost(string, tag = "2")]
    pub group: String,
    /// Start.
    #[prost(enumeration = "Start", tag = "3")]
    pub start: i32,
    /// Start offset.
    #[prost(uint64, tag = "4")]
    pub start_offset: u64,
    /// Start time ms.
    #[prost(uint64, tag = "5")]
    pub start_time_ms: u64,
}

/// See `Select` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Select {
    /// From offset.
    #[prost(uint64, tag = "1")]
    pub from_offset: u64,
    /// Exclusive.
    #[prost(uint64, tag = "2")]
    pub to_offset: u64,
    /// From time ms.
    #[prost(uint64, tag = "3")]
    pub from_time_ms: u64,
    /// Exclusive.
    #[prost(uint64, tag = "4")]
    pub to_time_ms: u64,
    /// Topics.
    #[prost(string, repeated, tag = "5")]
    pub filters: Vec<String>,
    /// Key.
    #[prost(bytes = "bytes", tag = "6")]
    pub key: Bytes,
    /// Headers.
    #[prost(message, repeated, tag = "7")]
    pub headers: Vec<HeaderIs>,
    /// Dead letters of this queue.
    #[prost(string, tag = "8")]
    pub dead_queue: String,
}

/// See `HeaderIs` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderIs {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// See `Browse` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Browse {
    /// Queue.
    #[prost(string, tag = "1")]
    pub queue: String,
    /// Select.
    #[prost(message, optional, tag = "2")]
    pub select: Option<Select>,
    /// Count.
    #[prost(uint32, tag = "3")]
    pub count: u32,
}

/// See `Replay` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Replay {
    /// Queue.
    #[prost(string, tag = "1")]
    pub queue: String,
    /// Select.
    #[prost(message, optional, tag = "2")]
    pub select: Option<Select>,
    /// To queue.
    #[prost(string, tag = "3")]
    pub to_queue: String,
    /// To topic.
    #[prost(bool, tag = "4")]
    pub to_topic: bool,
    /// Topic.
    #[prost(string, tag = "5")]
    pub topic: String,
}

/// See `Redrive` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Redrive {
    /// Queue.
    #[prost(string, tag = "1")]
    pub queue: String,
    /// Select.
    #[prost(message, optional, tag = "2")]
    pub select: Option<Select>,
    /// To queue.
    #[prost(string, tag = "3")]
    pub to_queue: String,
    /// Record.
    #[prost(bytes = "bytes", tag = "4")]
    pub record: Bytes,
}

/// See `Remove` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Remove {
    /// Queue.
    #[prost(string, tag = "1")]
    pub queue: String,
    /// Select.
    #[prost(message, optional, tag = "2")]
    pub select: Option<Select>,
}

/// See `Backup` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Backup {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// See `BackedUp` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BackedUp {
    /// Path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Bytes.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// Files.
    #[prost(uint64, tag = "3")]
    pub files: u64,
}
