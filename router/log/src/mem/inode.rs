//! A file's bytes: as they read, and what a crash may leave of them.
//!
//! Each sector has one of the versions that it went through since the last sync, the length is the
//! old one, the new one, or between. A file that was never synced may have no byte at all.

use std::collections::BTreeMap;

use super::faults::Injected;
use super::{Rng, SECTOR_BYTES};

#[derive(Clone, Default)]
pub(super) struct Inode {
    pub bytes: Vec<u8>,
    durable: Vec<u8>,
    /// For each sector written since the last sync: the versions that it went through.
    pub dirty: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl Inode {
    /// A file whose bytes are all on the disk.
    pub fn durable(bytes: Vec<u8>) -> Inode {
        Inode {
            durable: bytes.clone(),
            bytes,
            dirty: BTreeMap::new(),
        }
    }

    pub fn write(&mut self, buf: &[u8], offset: usize) {
        let end = offset + buf.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(buf);
        self.touch(offset, end);
    }

    /// Makes durable what was written since the last sync.
    pub fn settle(&mut self) {
        self.durable.resize(self.bytes.len(), 0);
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            let at = (sector * SECTOR_BYTES).min(self.bytes.len());
            let end = (at + SECTOR_BYTES).min(self.bytes.len());
            self.durable[at..end].copy_from_slice(&self.bytes[at..end]);
        }
    }

    pub fn touch(&mut self, start: usize, end: usize) {
        for sector in start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let at = sector * SECTOR_BYTES;
            let until = (at + SECTOR_BYTES).min(self.bytes.len());
            let version = self.bytes.get(at..until).unwrap_or_default().to_vec();
            self.dirty.entry(sector).or_default().push(version);
        }
    }

    /// Gives each sector one of the versions that it had since the last sync.
    pub fn after_crash(&self, rng: &mut Rng, injected: &mut Injected) -> Inode {
        // The length is metadata: it is the old one, the new one, or between.
        let (old, new) = (self.durable.len(), self.bytes.len());
        let len = match rng.below(3) {
            0 => old,
            1 => new,
            _ => {
                let span = old.abs_diff(new) as u64;
                old.min(new) + rng.below(span + 1) as usize
            }
        };
        let mut bytes = self.durable.clone();
        bytes.resize(old.max(new), 0);
        for (sector, versions) in &self.dirty {
            // One of the versions, or what was there before.
            let choice = rng.below(versions.len() as u64 + 1) as usize;
            if let Some(version) = versions.get(choice) {
                let at = sector * SECTOR_BYTES;
                let end = (at + version.len()).min(bytes.len());
                if at < end {
                    bytes[at..end].copy_from_slice(&version[..end - at]);
                }
            }
        }
        bytes.truncate(len);
        injected.files_torn += u64::from(bytes != self.bytes);
        injected.files_short += u64::from(bytes.len() < self.bytes.len());
        Inode::durable(bytes)
    }
}
