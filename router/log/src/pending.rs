//! The pending group: entries that the next commit makes durable together, or not at all.
//!
//! Everything appended between two commits is one atomic set. A caller that is refused in the
//! middle of a set takes back what it had added with a [`Mark`].

use crate::format::entry::{ENTRY_HEADER_BYTES, EntryHeader};
use crate::format::group::GROUP_HEADER_BYTES;
use crate::ids::Incarnation;

/// A point in the pending group to which it can be taken back. Void after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(crate) commits: u64,
    pub(crate) bytes: usize,
    pub(crate) effects: usize,
}

/// What a pending entry does to its queue: some of it at once (so that the next append sees it;
/// undone by a rollback), the rest when it is synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    Messages {
        first_offset: u64,
        end_offset: u64,
        previous_next_offset: u64,
        previous_epoch: u32,
    },
    State,
    Snapshot {
        listed_end: u64,
    },
    Trimmed {
        up_to: u64,
    },
    Removed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingEntry {
    pub queue: Incarnation,
    /// Where the entry's header is, in bytes from the start of the group.
    pub at: u32,
    pub bytes: u32,
    pub effect: Effect,
}

pub(crate) struct Pending {
    /// Room for the group's header, then the entries.
    pub buf: Vec<u8>,
    pub entries: Vec<PendingEntry>,
    pub commits: u64,
}

impl Pending {
    pub fn new() -> Self {
        Pending {
            buf: vec![0; GROUP_HEADER_BYTES],
            entries: Vec::new(),
            commits: 0,
        }
    }

    /// Bytes of the group so far, its header included.
    pub fn bytes(&self) -> u64 {
        self.buf.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn mark(&self) -> Mark {
        Mark {
            commits: self.commits,
            bytes: self.buf.len(),
            effects: self.entries.len(),
        }
    }

    /// Adds an entry whose payload `fill` appends.
    pub fn push(
        &mut self,
        queue: Incarnation,
        mut header: EntryHeader,
        effect: Effect,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        let at = self.buf.len();
        let from = at + ENTRY_HEADER_BYTES;
        self.buf.resize(from, 0);
        fill(&mut self.buf);
        header.length = (self.buf.len() - from) as u32;
        header.payload_crc = crc32c::crc32c(&self.buf[from..]);
        self.buf[at..from].copy_from_slice(&header.encode());
        self.entries.push(PendingEntry {
            queue,
            at: at as u32,
            bytes: (self.buf.len() - at) as u32,
            effect,
        });
    }

    /// Empties the group for the next one.
    pub fn clear(&mut self) {
        // A large group is rare; its memory is given back.
        const KEPT_BYTES: usize = 1 << 20;
        self.buf.truncate(GROUP_HEADER_BYTES);
        if self.buf.capacity() > KEPT_BYTES {
            self.buf.shrink_to(KEPT_BYTES);
        }
        self.entries.clear();
        self.commits += 1;
    }
}
