//! Requests of a management stream and their answers: `proto/waypost.proto`, one struct each, with
//! the same names and numbers.

use bytes::Bytes;

use super::{
    Explained, GroupKind, PluginDeploy, PluginDeployed, PluginDetail, PluginDiff, PluginListed,
    PluginLogged, PluginLogs, PluginName, PluginPause, PluginRollback, PluginShadow, PluginUpload,
    QueueSettings, RouteAdd, RouteList, RouteListed, RouteName, Start, Tap, Tapped,
};

/// MANAGE, first frame of a management stream, and the only one but for an upload.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Manage {
    /// What.
    #[prost(
        oneof = "ManageRequest",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 40, 41, 42, 43, 44"
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
    /// See [`PluginUpload`].
    #[prost(message, tag = "19")]
    PluginUpload(PluginUpload),
    /// See [`PluginDeploy`].
    #[prost(message, tag = "20")]
    PluginDeploy(PluginDeploy),
    /// See [`PluginName`].
    #[prost(message, tag = "21")]
    PluginInfo(PluginName),
    /// See [`PluginPause`].
    #[prost(message, tag = "22")]
    PluginPause(PluginPause),
    /// See [`PluginName`].
    #[prost(message, tag = "23")]
    PluginResume(PluginName),
    /// See [`PluginRollback`].
    #[prost(message, tag = "24")]
    PluginRollback(PluginRollback),
    /// See [`PluginName`].
    #[prost(message, tag = "25")]
    PluginRemove(PluginName),
    /// See [`PluginLogs`].
    #[prost(message, tag = "26")]
    PluginLogs(PluginLogs),
    /// See [`RouteList`].
    #[prost(message, tag = "27")]
    RouteList(RouteList),
    /// See [`RouteAdd`].
    #[prost(message, tag = "28")]
    RouteAdd(RouteAdd),
    /// See [`RouteName`].
    #[prost(message, tag = "29")]
    RouteRemove(RouteName),
    /// See [`Tap`].
    #[prost(message, tag = "40")]
    Tap(Tap),
    /// See [`PluginShadow`].
    #[prost(message, tag = "41")]
    PluginShadow(PluginShadow),
    /// See [`PluginName`].
    #[prost(message, tag = "42")]
    PluginDiff(PluginName),
    /// See [`PluginName`].
    #[prost(message, tag = "43")]
    PluginPromote(PluginName),
    /// See [`PluginName`].
    #[prost(message, tag = "44")]
    PluginDiscard(PluginName),
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

/// MANAGED, the answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Managed {
    /// What.
    #[prost(
        oneof = "ManagedResponse",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20, 21"
    )]
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
    /// See [`BackedUp`].
    #[prost(message, tag = "8")]
    Backup(BackedUp),
    /// See [`PluginDetail`].
    #[prost(message, tag = "9")]
    PluginInfo(Box<PluginDetail>),
    /// See [`PluginDeployed`].
    #[prost(message, tag = "10")]
    PluginDeploy(PluginDeployed),
    /// See [`PluginLogged`].
    #[prost(message, tag = "11")]
    PluginLogs(PluginLogged),
    /// See [`RouteListed`].
    #[prost(message, tag = "12")]
    RouteList(RouteListed),
    /// See [`Tapped`].
    #[prost(message, tag = "20")]
    Tap(Tapped),
    /// See [`PluginDiff`].
    #[prost(message, tag = "21")]
    PluginDiff(Box<PluginDiff>),
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
    /// Of a replay to a topic: a route or plugin dropped them.
    #[prost(uint64, tag = "5")]
    pub dropped: u64,
    /// They lie in the dead letters.
    #[prost(uint64, tag = "6")]
    pub dead_lettered: u64,
    /// Nothing took them.
    #[prost(uint64, tag = "7")]
    pub unroutable: u64,
    /// They were refused.
    #[prost(uint64, tag = "8")]
    pub refused: u64,
    /// A queue has them already.
    #[prost(uint64, tag = "9")]
    pub duplicates: u64,
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
    /// When the oldest message was received; 0: there is none, or it is one of a list.
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
