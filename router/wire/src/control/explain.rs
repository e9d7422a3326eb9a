//! What became of single messages, and who asks: `proto/waypost.proto`, one struct each, with the
//! same names and numbers.

/// The header that asks for an explanation, on a stream that was opened with [`Explains::Marked`].
pub const EXPLAIN_HEADER: &str = "waypost-explain";

/// See `Explains` in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Explains {
    /// `NOTHING`.
    Nothing = 0,
    /// `MARKED`: messages with the header [`EXPLAIN_HEADER`].
    Marked = 1,
    /// `EVERYTHING`.
    Everything = 2,
}

/// See `Explained` in the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Explained {
    /// In the order in which they were made.
    #[prost(message, repeated, tag = "1")]
    pub steps: Vec<ExplainStep>,
    /// Of a request: where it would end.
    #[prost(string, repeated, tag = "2")]
    pub destinations: Vec<String>,
    /// The first was published, others came of it.
    #[prost(message, repeated, tag = "3")]
    pub messages: Vec<ExplainedMessage>,
    /// Routes that messages met.
    #[prost(message, repeated, tag = "4")]
    pub routes: Vec<ExplainedRoute>,
    /// Of the message, on its stream.
    #[prost(uint64, tag = "5")]
    pub sequence: u64,
    /// `received`, `stored`, or an exception's name.
    #[prost(string, tag = "6")]
    pub outcome: String,
    /// Of the exception.
    #[prost(uint32, tag = "7")]
    pub code: u32,
    /// Of the exception.
    #[prost(string, tag = "8")]
    pub text: String,
    /// When it came, in ms since 1970.
    #[prost(uint64, tag = "9")]
    pub receive_time_ms: u64,
    /// From its arrival until it was settled.
    #[prost(uint64, tag = "10")]
    pub took_ns: u64,
    /// It was too long: later steps are missing.
    #[prost(bool, tag = "11")]
    pub is_cut: bool,
    /// Messages of its batch that asked and are not explained.
    #[prost(uint32, tag = "12")]
    pub left_out: u32,
}

/// See `ExplainedMessage` in the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExplainedMessage {
    /// Its topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Bytes of its payload.
    #[prost(uint64, tag = "2")]
    pub payload_bytes: u64,
    /// Re-entries into routing.
    #[prost(uint32, tag = "3")]
    pub depth: u32,
    /// The message that it came of; of the first, nothing.
    #[prost(uint32, tag = "4")]
    pub parent: u32,
    /// On which route it came of that.
    #[prost(string, tag = "5")]
    pub route: String,
    /// By which plugin; empty: a `topic:` destination.
    #[prost(string, tag = "6")]
    pub plugin: String,
    /// It entered routing; else it goes on along its route.
    #[prost(bool, tag = "7")]
    pub is_new: bool,
    /// Live subscribers that it was handed to.
    #[prost(uint32, tag = "8")]
    pub subscribers: u32,
}

/// See `ExplainedRoute` in the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExplainedRoute {
    /// Index of the message that met it.
    #[prost(uint32, tag = "1")]
    pub message: u32,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its filter.
    #[prost(string, tag = "3")]
    pub from: String,
    /// Whether it takes the message.
    #[prost(bool, tag = "4")]
    pub matched: bool,
    /// It would match, but an earlier route is final.
    #[prost(bool, tag = "5")]
    pub hidden: bool,
}

/// See `ExplainStep` in the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExplainStep {
    /// The route.
    #[prost(string, tag = "1")]
    pub route: String,
    /// The plugin; empty: the route's own destination.
    #[prost(string, tag = "2")]
    pub plugin: String,
    /// A word such as `pass`.
    #[prost(string, tag = "3")]
    pub verdict: String,
    /// Why, or where to.
    #[prost(string, tag = "4")]
    pub detail: String,
    /// CPU time of the call.
    #[prost(uint64, tag = "5")]
    pub ns: u64,
    /// Index of the message.
    #[prost(uint32, tag = "6")]
    pub message: u32,
    /// Of the plugin; 0: the configuration names its code.
    #[prost(uint64, tag = "7")]
    pub version: u64,
    /// Messages of the call.
    #[prost(uint32, tag = "8")]
    pub batch: u32,
    /// What an edit changed.
    #[prost(message, repeated, tag = "9")]
    pub changes: Vec<ExplainChange>,
    /// `queue` has it at `offset`.
    #[prost(bool, tag = "10")]
    pub is_stored: bool,
    /// Where it was stored.
    #[prost(string, tag = "11")]
    pub queue: String,
    /// And at which offset.
    #[prost(uint64, tag = "12")]
    pub offset: u64,
}

/// See `ExplainChange` in the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExplainChange {
    /// `topic`, `key`, `ttl`, `payload`, `header NAME` and the like.
    #[prost(string, tag = "1")]
    pub field: String,
    /// What it was.
    #[prost(string, tag = "2")]
    pub before: String,
    /// What it is.
    #[prost(string, tag = "3")]
    pub after: String,
    /// There was none.
    #[prost(bool, tag = "4")]
    pub was_absent: bool,
    /// There is none.
    #[prost(bool, tag = "5")]
    pub is_absent: bool,
}
