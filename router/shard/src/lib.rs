//! Waypost shard.
