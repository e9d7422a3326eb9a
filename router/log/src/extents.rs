//! How many bytes of a queue lie up to which offset.

use crate::ids::Incarnation;
use crate::log::Log;
use crate::vfs::Vfs;

impl<V: Vfs> Log<V> {
    /// The queue's stretches in order, as (first offset, one past the last, bytes): a segment is one, and
    /// so is what an append left in the WAL. For a caller that counts what its queues hold.
    pub fn extents(&self, queue: Incarnation) -> Vec<(u64, u64, u64)> {
        let Some(queue) = self.queues.get(&queue) else {
            return Vec::new();
        };
        let segments = queue.segments.iter();
        let segments = segments.map(|s| (s.first_offset, s.end_offset, s.bytes));
        let runs = queue.unmoved();
        let runs = runs.map(|r| (r.first_offset, r.end_offset, u64::from(r.bytes)));
        segments.chain(runs).collect()
    }
}
