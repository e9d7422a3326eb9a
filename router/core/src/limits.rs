//! Every bound of the data path that is not a plugin's, with its default and its arithmetic.

/// Limits of one node. Worst case in memory, per connection:
/// `streams_per_connection * (frame + window_bytes)` for publishers, and `subscriber_buffer_bytes`
/// or `consumer_bytes_max` for each stream that is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload of one message, in bytes.
    pub payload_bytes: usize,
    /// Messages a publisher may have unconfirmed. 4,096 at 1 KiB are 4 MiB, a third of a second
    /// at 12 MB/s.
    pub window_messages: u32,
    /// Slab bytes a publisher may have unconfirmed: four full batches.
    pub window_bytes: u64,
    /// Bytes a live subscriber may have waiting at the node before its publishers are slowed.
    pub subscriber_buffer_bytes: usize,
    /// How long publishers wait for such a subscriber before it loses messages, in ms.
    pub subscriber_patience_ms: u64,
    /// Messages that may be in flight to one consumer, whatever credit it gives.
    pub consumer_messages_max: u64,
    /// Bytes that may be in flight to one consumer, whatever credit it gives.
    pub consumer_bytes_max: u64,
    /// Bytes of recent messages that a shard keeps in memory for consumers at the tail.
    pub cache_bytes: usize,
    /// Bytes of a queue where its settings name none: 1 GiB.
    pub queue_bytes: u64,
    /// How often a message may re-enter routing.
    pub reentries: u8,
    /// Messages that one input may become.
    pub emissions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes: waypost_wire::PAYLOAD_BYTES_DEFAULT,
            window_messages: 4096,
            window_bytes: 4 << 20,
            subscriber_buffer_bytes: 4 << 20,
            subscriber_patience_ms: 1000,
            consumer_messages_max: 16_384,
            consumer_bytes_max: 16 << 20,
            cache_bytes: 32 << 20,
            queue_bytes: 1 << 30,
            reentries: 8,
            emissions: 1024,
        }
    }
}
