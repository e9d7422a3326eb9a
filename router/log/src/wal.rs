//! The writer's side of the WAL: the files, which of them is written, and the sync.
//!
//! Invariant: a group is written where nothing was synced before, in a file that has a durable name,
//! and everything before it is durable. So at most one group can be torn.
//!
//! A spare becomes the next file without any work on its directory, which would hold up the group
//! that begins it for the time of a journal commit: it keeps its spare's name until a job gives it
//! its own. Recovery knows such a file by the positions in its groups.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{CommitError, IoError};
use crate::format::group::{GroupHeader, padded};
use crate::ids::Position;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// A file that is ready to become a WAL file: written once, so that its blocks exist.
pub(crate) struct Spare<V: Vfs> {
    pub path: PathBuf,
    pub file: Arc<V::File>,
}

pub(crate) struct Wal<V: Vfs> {
    vfs: V,
    dir: PathBuf,
    shard: u16,
    file_bytes: u64,
    /// Live files, by sequence; the last is written.
    pub files: BTreeMap<u64, Arc<V::File>>,
    pub spares: Vec<Spare<V>>,
    /// Live files that still have a spare's name, by sequence.
    pub unnamed: BTreeMap<u64, PathBuf>,
    next_spare: u64,
    /// The sequence that the next file gets.
    next_seq: u64,
    offset: u64,
    generation: u64,
    chain: u32,
}

pub(crate) fn wal_file_name(seq: u64) -> String {
    format!("{seq:016x}.wal")
}

pub(crate) fn parse_wal_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 16)
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
        .filter(|seq| *seq > 0)
}

pub(crate) fn spare_file_name(n: u64) -> String {
    format!("spare-{n:016x}")
}

/// Makes a file of zeros whose blocks are on disk, so that later syncs write data only.
pub(crate) fn make_zeroed<V: Vfs>(
    vfs: &V,
    path: &Path,
    bytes: u64,
) -> Result<Arc<V::File>, IoError> {
    const STEP: usize = 1 << 20;
    let write = || -> Result<V::File, IoError> {
        let file = vfs
            .open(path, OpenMode::Create)
            .map_err(IoError::at("make", path))?;
        let zeros = vec![0; STEP.min(bytes as usize)];
        let mut at = 0;
        while at < bytes {
            let n = (bytes - at).min(zeros.len() as u64);
            file.write_all_at(&zeros[..n as usize], at)
                .map_err(IoError::at("write zeros to", path))?;
            at += n;
        }
        file.sync_data().map_err(IoError::at("sync", path))?;
        Ok(file)
    };
    write().map(Arc::new).inspect_err(|_| {
        // Best effort: a leftover is found, and made use of or removed, at the next open.
        let _ = vfs.remove_file(path);
    })
}

impl<V: Vfs> Wal<V> {
    pub fn new(vfs: V, dir: PathBuf, shard: u16, file_bytes: u64, next_seq: u64) -> Self {
        Wal {
            vfs,
            dir,
            shard,
            file_bytes,
            files: BTreeMap::new(),
            spares: Vec::new(),
            unnamed: BTreeMap::new(),
            next_spare: 0,
            next_seq,
            // As if a file before were full, so that the first group begins one.
            offset: file_bytes,
            generation: 0,
            chain: 0,
        }
    }

    /// Begins a generation: the next group is the first of a new file.
    pub fn begin_generation(&mut self, generation: u64, chain: u32) {
        self.generation = generation;
        self.chain = chain;
        self.offset = self.file_bytes;
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Where a live file is now.
    pub fn path(&self, seq: u64) -> PathBuf {
        let unnamed = self.unnamed.get(&seq).cloned();
        unnamed.unwrap_or_else(|| self.own_path(seq))
    }

    /// Where a live file belongs.
    pub fn own_path(&self, seq: u64) -> PathBuf {
        self.dir.join(wal_file_name(seq))
    }

    pub fn new_spare_path(&mut self) -> PathBuf {
        self.next_spare += 1;
        self.dir.join(spare_file_name(self.next_spare))
    }

    /// Takes over a spare that an earlier process left.
    pub fn adopt_spare(&mut self, n: u64, file: V::File) {
        self.next_spare = self.next_spare.max(n);
        self.spares.push(Spare {
            path: self.dir.join(spare_file_name(n)),
            file: Arc::new(file),
        });
    }

    /// Whether a group of `bytes` fits the current file.
    pub fn fits_current(&self, bytes: u64) -> bool {
        self.offset + padded(bytes) <= self.file_bytes
    }

    /// Where the next group goes if it fits the current file.
    pub fn position(&self) -> Position {
        Position::of(
            self.next_seq.saturating_sub(1),
            self.offset,
            self.file_bytes,
        )
    }

    /// Writes and syncs one group: `buf` is 64 bytes of room and the entries. On success the
    /// buffer holds the group as written. After `NoSpace` it is as it was and nothing counts.
    pub fn write_group(
        &mut self,
        buf: &mut Vec<u8>,
        count: u32,
        time_ms: u64,
    ) -> Result<Position, CommitError> {
        let length = buf.len();
        if !self.fits_current(length as u64) {
            self.roll()?;
        }
        let seq = self.next_seq - 1;
        let position = self.position();
        let header = GroupHeader {
            crc: 0,
            length: 0,
            count,
            position,
            generation: self.generation,
            synced: position,
            chain: self.chain,
            shard: self.shard,
            time_ms,
        };
        let crc = header.seal(buf);
        let Some(file) = self.files.get(&seq) else {
            return Err(CommitError::Poisoned(format!("WAL file {seq} is not open")));
        };
        if let Err(source) = file.write_all_at(buf, self.offset) {
            let error = IoError::at("write", &self.path(seq))(source);
            buf.truncate(length);
            // A full disk: whatever landed is not synced and is written over by the next attempt,
            // which begins on the same page. Anything else may come from a device that fails.
            return Err(if error.is_no_space() {
                CommitError::NoSpace(error)
            } else {
                CommitError::Poisoned(error.to_string())
            });
        }
        if let Err(source) = file.sync_data() {
            let error = IoError::at("sync", &self.path(seq))(source);
            return Err(CommitError::Poisoned(error.to_string()));
        }
        self.offset += buf.len() as u64;
        self.chain = crc;
        Ok(position)
    }

    /// Begins the next file, from a spare if there is one. Its name is a spare's for now; that one
    /// is durable, so the groups in it are too.
    fn roll(&mut self) -> Result<(), CommitError> {
        let spare = match self.spares.pop() {
            Some(spare) => spare,
            None => self.make_spare()?,
        };
        self.unnamed.insert(self.next_seq, spare.path);
        self.files.insert(self.next_seq, spare.file);
        self.next_seq += 1;
        self.offset = 0;
        Ok(())
    }

    /// Names every live file here and now, as an opening log has time to.
    pub fn name_all(&mut self) -> Result<(), IoError> {
        while let Some((seq, from)) = self.unnamed.first_key_value() {
            let seq = *seq;
            name_file(&self.vfs, from, &self.own_path(seq))?;
            self.unnamed.remove(&seq);
        }
        Ok(())
    }

    /// Makes a spare here and now, with a durable name.
    fn make_spare(&mut self) -> Result<Spare<V>, CommitError> {
        let path = self.new_spare_path();
        let file = make_zeroed(&self.vfs, &path, self.file_bytes).map_err(commit_error)?;
        self.vfs
            .sync_dir(&self.dir)
            .map_err(IoError::at("sync", &self.dir))
            .map_err(|e| CommitError::Poisoned(e.to_string()))?;
        Ok(Spare { path, file })
    }
}

/// Gives a file its own name, durably. It may have it already, from an attempt that failed later.
pub(crate) fn name_file<V: Vfs>(vfs: &V, from: &Path, to: &Path) -> Result<(), IoError> {
    match vfs.rename(from, to) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        other => other.map_err(IoError::at("rename", from))?,
    }
    match to.parent() {
        Some(dir) => vfs.sync_dir(dir).map_err(IoError::at("sync", dir)),
        None => Ok(()),
    }
}

fn commit_error(error: IoError) -> CommitError {
    if error.is_no_space() {
        CommitError::NoSpace(error)
    } else {
        CommitError::Poisoned(error.to_string())
    }
}
