//! How much disk and memory a log takes.

use crate::log::Log;
use crate::queue::Run;
use crate::vfs::Vfs;

/// Live WAL files, spares, segments and the index of the live WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceUsed {
    /// WAL files that hold entries that may be needed, the one being written included.
    pub wal_files: u64,
    /// Files that are ready to be written.
    pub spare_files: u64,
    /// Bytes of all segments.
    pub segment_bytes: u64,
    /// Bytes of memory that the index of the live WAL takes.
    pub index_bytes: u64,
}

impl<V: Vfs> Log<V> {
    /// Counts files, segments and index memory. Walks over all queues.
    pub fn space_used(&self) -> SpaceUsed {
        let queues = &self.queues;
        SpaceUsed {
            wal_files: self.wal.files.len() as u64,
            spare_files: self.wal.spares.len() as u64,
            segment_bytes: queues
                .values()
                .flat_map(|q| &q.segments)
                .map(|s| s.bytes)
                .sum(),
            index_bytes: queues
                .values()
                .map(|q| (q.runs.capacity() * size_of::<Run>()) as u64)
                .sum(),
        }
    }
}
