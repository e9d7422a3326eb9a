//! Taps: `proto/waypost.proto`, one struct each, with the same names and numbers.

use bytes::Bytes;

/// Copies of sampled messages, from now on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tap {
    /// Where messages enter this route, or its calls of `plugin`.
    #[prost(string, tag = "1")]
    pub route: String,
    /// At its calls.
    #[prost(string, tag = "2")]
    pub plugin: String,
    /// Behind them, with what it said.
    #[prost(bool, tag = "3")]
    pub after: bool,
    /// Only these topics.
    #[prost(string, tag = "4")]
    pub filter: String,
    /// Of so many in a million; 0: all.
    #[prost(uint32, tag = "5")]
    pub sample_ppm: u32,
    /// At most so many a second; 0: as many as a tap may.
    #[prost(uint32, tag = "6")]
    pub per_second: u32,
    /// End after so long; 0: when the client goes.
    #[prost(uint64, tag = "7")]
    pub for_ms: u64,
    /// End after so many messages; 0: as above.
    #[prost(uint64, tag = "8")]
    pub count: u64,
}

/// See `Tapped` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tapped {
    /// In the order in which they were seen.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<TappedMessage>,
    /// Copies that were lost since the beginning.
    #[prost(uint64, tag = "2")]
    pub dropped: u64,
    /// Messages of topics that the client may not subscribe to.
    #[prost(uint64, tag = "3")]
    pub hidden: u64,
}

/// See `TappedMessage` in the protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TappedMessage {
    /// The message.
    #[prost(bytes = "bytes", tag = "1")]
    pub record: Bytes,
    /// When it was seen.
    #[prost(uint64, tag = "2")]
    pub time_ms: u64,
    /// On which route.
    #[prost(string, tag = "3")]
    pub route: String,
    /// At which plugin.
    #[prost(string, tag = "4")]
    pub plugin: String,
    /// Behind a plugin: what it said.
    #[prost(string, tag = "5")]
    pub verdict: String,
    /// Why, or where to.
    #[prost(string, tag = "6")]
    pub detail: String,
    /// The records that it made of it.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub after: Vec<Bytes>,
    /// `record` has only the first bytes of so many; 0: all.
    #[prost(uint64, tag = "8")]
    pub payload_bytes: u64,
    /// The same for each of `after`.
    #[prost(uint64, repeated, tag = "9")]
    pub after_payload_bytes: Vec<u64>,
    /// How many more it made of it.
    #[prost(uint32, tag = "10")]
    pub after_left_out: u32,
}
