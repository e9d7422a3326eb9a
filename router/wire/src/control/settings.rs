//! A queue's settings as the network and the log have them.

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
    /// Message ids that are remembered at most; 0: the default, 65,536.
    #[prost(uint32, tag = "22")]
    pub dedup_ids_max: u32,
}
