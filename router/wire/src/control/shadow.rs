//! Versions in the shadow: `proto/waypost.proto`, one struct each, with the same names and numbers.

use bytes::Bytes;

use super::{ExplainChange, PluginDeploy, PluginFailure};

/// Runs a component that was uploaded beside the version that serves, without effects.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginShadow {
    /// What is to run.
    #[prost(message, optional, tag = "1")]
    pub deploy: Option<PluginDeploy>,
    /// Of so many calls in a million; 0: all.
    #[prost(uint32, tag = "2")]
    pub sample_ppm: u32,
}

/// What the shadow and the serving version said of the same messages.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginDiff {
    /// The slot.
    #[prost(string, tag = "1")]
    pub plugin: String,
    /// That serves; 0: the configuration names its code.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Of the shadow; sha256, hex.
    #[prost(string, tag = "3")]
    pub digest: String,
    /// When it began.
    #[prost(uint64, tag = "4")]
    pub since_ms: u64,
    /// Who began it.
    #[prost(string, tag = "5")]
    pub by: String,
    /// Of so many calls in a million; 0: all.
    #[prost(uint32, tag = "6")]
    pub sample_ppm: u32,
    /// Why it judges no more; empty: it does.
    #[prost(string, tag = "7")]
    pub ended: String,
    /// Messages of calls that were chosen.
    #[prost(uint64, tag = "8")]
    pub offered: u64,
    /// Messages that both judged.
    #[prost(uint64, tag = "9")]
    pub compared: u64,
    /// Of these, those on which they differ in something.
    #[prost(uint64, tag = "10")]
    pub different: u64,
    /// Offered, but it was behind, or had used its CPU time.
    #[prost(uint64, tag = "11")]
    pub dropped: u64,
    /// By pairs of verdicts.
    #[prost(message, repeated, tag = "12")]
    pub rows: Vec<DiffRow>,
    /// Of each pair of verdicts the newest.
    #[prost(message, repeated, tag = "13")]
    pub examples: Vec<DiffExample>,
    /// Examples of topics that the client may not subscribe to.
    #[prost(uint64, tag = "14")]
    pub hidden: u64,
    /// CPU time for what was compared.
    #[prost(uint64, tag = "15")]
    pub serving_ns: u64,
    /// The same of the shadow.
    #[prost(uint64, tag = "16")]
    pub shadow_ns: u64,
    /// Calls of the shadow that failed.
    #[prost(uint64, tag = "17")]
    pub failures: u64,
    /// Of these, those that cost an instance.
    #[prost(uint64, tag = "18")]
    pub traps: u64,
    /// Of these, those that passed their deadline.
    #[prost(uint64, tag = "19")]
    pub deadlines: u64,
    /// Memories of its instances.
    #[prost(uint64, tag = "20")]
    pub memory_bytes: u64,
    /// CPU time of a call of the shadow.
    #[prost(uint64, tag = "21")]
    pub call_p50_ns: u64,
    /// The same.
    #[prost(uint64, tag = "22")]
    pub call_p99_ns: u64,
    /// Of the shadow, oldest first.
    #[prost(message, repeated, tag = "23")]
    pub errors: Vec<PluginFailure>,
}

/// See `DiffRow` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiffRow {
    /// A kind of verdict.
    #[prost(string, tag = "1")]
    pub serving: String,
    /// What the shadow did.
    #[prost(string, tag = "2")]
    pub shadow: String,
    /// How many.
    #[prost(uint64, tag = "3")]
    pub messages: u64,
    /// Of these, those that differ in something.
    #[prost(uint64, tag = "4")]
    pub different: u64,
}

/// See `DiffExample` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiffExample {
    /// The message.
    #[prost(bytes = "bytes", tag = "1")]
    pub record: Bytes,
    /// When it was judged.
    #[prost(uint64, tag = "2")]
    pub time_ms: u64,
    /// On which route.
    #[prost(string, tag = "3")]
    pub route: String,
    /// They differ in: verdict, content, published or reason.
    #[prost(string, tag = "4")]
    pub what: String,
    /// What the serving version did.
    #[prost(message, optional, tag = "5")]
    pub serving: Option<DiffSide>,
    /// What the shadow did.
    #[prost(message, optional, tag = "6")]
    pub shadow: Option<DiffSide>,
    /// Where both edited it: from the serving one's to the shadow's.
    #[prost(message, repeated, tag = "7")]
    pub between: Vec<ExplainChange>,
    /// `record` has only the first bytes of so many; 0: all.
    #[prost(uint64, tag = "8")]
    pub payload_bytes: u64,
}

/// See `DiffSide` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiffSide {
    /// Its kind.
    #[prost(string, tag = "1")]
    pub verdict: String,
    /// Why, or where to.
    #[prost(string, tag = "2")]
    pub detail: String,
    /// What an edit changed.
    #[prost(message, repeated, tag = "3")]
    pub changes: Vec<ExplainChange>,
    /// Topics of those that go on instead.
    #[prost(string, repeated, tag = "4")]
    pub messages: Vec<String>,
    /// Topics of those that are published.
    #[prost(string, repeated, tag = "5")]
    pub published: Vec<String>,
}
