//! The log's limits, each with its default and the arithmetic behind it.

use crate::error::OpenError;

/// A synced page is never written again, so groups start and end on pages of this size.
pub const PAGE_BYTES: u64 = 4096;

/// How a shard's log is laid out and bounded.
///
/// Disk: at most `wal_bytes_max + spare_files_max × file_bytes` of WAL (more only if wanted
/// snapshots are not answered), beside the queues' own segments. Memory: one group
/// (`group_bytes_max`), 40 B for each run of entries in the live WAL (at most one a queue and
/// group where a queue's entries stand together), and `segment_index_bytes_max`.
#[derive(Clone, Debug)]
pub struct Options {
    /// The shard's number; every group carries it.
    pub shard: u16,
    /// Bytes of a WAL file, a multiple of 4,096. Fixed when the shard is made: an existing shard
    /// keeps its own. Default 16 MiB: zeroing one takes about 10 ms. Recovery holds one in memory.
    pub file_bytes: u64,
    /// Bytes of WAL that may be live, at least four files. Default 64 MiB: recovery reads them.
    pub wal_bytes_max: u64,
    /// Bytes of live WAL above which the oldest files are emptied by jobs and snapshots, so that
    /// what is consumed soon is never moved. Default 16 MiB: while one file is emptied, two more
    /// can be filled.
    pub wal_bytes_low: u64,
    /// Bytes of one group, header included; at most one file. An atomic set must fit. Default 8 MiB.
    pub group_bytes_max: u64,
    /// Bytes after which a segment is not appended to any more. Default 16 MiB: space comes back
    /// in steps of this size.
    pub segment_bytes_max: u64,
    /// Zeroed or recycled files kept ready. Default 2: one is taken, the other covers the time in
    /// which its successor is made.
    pub spare_files_max: usize,
    /// Bytes of memory for the sparse indexes of segments, all queues together. Default 1 MiB:
    /// at 16 B a mark and a mark for 64 KiB that covers 4 GiB of segments.
    pub segment_index_bytes_max: usize,
    /// Any unpredictable number, new at each open. Part of it is in each group's header, so that a
    /// payload cannot forge one.
    pub nonce: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            shard: 0,
            file_bytes: 16 << 20,
            wal_bytes_max: 64 << 20,
            wal_bytes_low: 16 << 20,
            group_bytes_max: 8 << 20,
            segment_bytes_max: 16 << 20,
            spare_files_max: 2,
            segment_index_bytes_max: 1 << 20,
            nonce: 0,
        }
    }
}

impl Options {
    /// For tools that open a shard as it is: bounds that fit files of this size.
    pub(crate) fn of_shard(shard: u16, file_bytes: u64, nonce: u64) -> Options {
        let default = Options::default();
        let file_bytes = file_bytes.min(1 << 30);
        Options {
            shard,
            file_bytes,
            wal_bytes_max: default.wal_bytes_max.max(8 * file_bytes),
            wal_bytes_low: default.wal_bytes_low.max(4 * file_bytes),
            group_bytes_max: file_bytes.min(default.group_bytes_max),
            nonce,
            ..default
        }
    }

    pub(crate) fn validate(&self) -> Result<(), OpenError> {
        let fail = |option, reason: String| Err(OpenError::Options { option, reason });
        if self.file_bytes < PAGE_BYTES
            || !self.file_bytes.is_multiple_of(PAGE_BYTES)
            || self.file_bytes > 1 << 30
        {
            return fail(
                "file_bytes",
                format!("{} is not a multiple of 4096 up to 1 GiB", self.file_bytes),
            );
        }
        if self.wal_bytes_max < 4 * self.file_bytes {
            return fail(
                "wal_bytes_max",
                format!("{} is less than four files", self.wal_bytes_max),
            );
        }
        if self.wal_bytes_low > self.wal_bytes_max - 2 * self.file_bytes {
            return fail(
                "wal_bytes_low",
                format!("{} leaves less than two files", self.wal_bytes_low),
            );
        }
        if self.group_bytes_max < PAGE_BYTES || self.group_bytes_max > self.file_bytes {
            return fail(
                "group_bytes_max",
                format!(
                    "{} is not between a page and a file of {}",
                    self.group_bytes_max, self.file_bytes
                ),
            );
        }
        if self.segment_bytes_max < PAGE_BYTES {
            return fail(
                "segment_bytes_max",
                format!("{} is less than a page", self.segment_bytes_max),
            );
        }
        Ok(())
    }

    pub(crate) fn files_max(&self) -> u64 {
        self.wal_bytes_max / self.file_bytes
    }

    pub(crate) fn files_low(&self) -> u64 {
        (self.wal_bytes_low / self.file_bytes).max(1)
    }
}
