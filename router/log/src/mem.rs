//! A model of a disk, in memory, that keeps the contract of [`crate::vfs`] and nothing beyond it.
//!
//! What was not synced may be lost at a crash, in any part and order: each 512-byte sector keeps
//! one of the versions that it had since the last sync; each name keeps, or loses, the changes
//! made to its directory since that was synced. Faults are injected at the n-th call. All chances
//! are drawn from the seed that the crash is given, so a run can be repeated.
//!
//! Left out: time, permissions, links, and directories deeper than their parents' existence.

mod crash;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use self::crash::{bytes_after_crash, names_after_crash};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// A fault that is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full: the call fails with `ENOSPC` after half of its bytes.
    NoSpace,
    /// The device fails: `EIO`, after half of its bytes.
    Io,
    /// The power goes: this call and all after it fail, and nothing of it is done.
    PowerOff,
    /// A read returns half of what was asked for (as it may); other calls are as usual.
    ShortRead,
}

/// A kind of call, for faults that wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Opening or making a file.
    Open,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Syncing a file or a directory.
    Sync,
    /// Renaming, removing, making directories, changing lengths.
    Change,
}

/// A disk in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemVfs(Arc<Mutex<Disk>>);

/// An open file of a [`MemVfs`].
pub struct MemFile {
    disk: MemVfs,
    id: u64,
    path: PathBuf,
    /// The power cycle in which it was opened: after a crash, old handles fail.
    boot: u64,
}

/// A lock of a [`MemVfs`].
pub struct MemLock {
    disk: MemVfs,
    path: PathBuf,
    boot: u64,
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// For each sector written since the last sync: the versions that it went through.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
}

/// A change to a directory that was not synced yet: the name, and what it meant before.
#[derive(Clone)]
struct NameChange {
    path: PathBuf,
    before: Option<u64>,
    /// Changes of one call (both ends of a rename) happen together.
    call: u64,
}

#[derive(Default)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    unsynced: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    next_id: u64,
    boot: u64,
    calls: u64,
    fault: Option<(Option<Call>, u64, Fault)>,
    is_off: bool,
    bytes_written: u64,
    syncs: u64,
}

/// A small generator (splitmix64): good enough to choose sectors, and the same everywhere.
pub struct Rng(pub u64);

impl Rng {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

impl MemVfs {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Calls made so far, of all kinds.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// Bytes written so far, and syncs asked for.
    pub fn traffic(&self) -> (u64, u64) {
        let disk = self.disk();
        (disk.bytes_written, disk.syncs)
    }

    /// Injects a fault at the `nth` call from now, counting from 0.
    pub fn fail_at(&self, nth: u64, fault: Fault) {
        self.disk().fault = Some((None, nth, fault));
    }

    /// Injects a fault at the `nth` call of a kind from now, counting from 0.
    pub fn fail_at_call(&self, call: Call, nth: u64, fault: Fault) {
        self.disk().fault = Some((Some(call), nth, fault));
    }

    /// Takes back a fault that has not come yet.
    pub fn clear_fault(&self) {
        self.disk().fault = None;
    }

    /// The disk as it is after a power loss and a restart. This one is left as it is.
    pub fn crash(&self, seed: u64) -> MemVfs {
        let disk = self.disk();
        let mut rng = Rng(seed);
        let mut after = Disk {
            next_id: disk.next_id,
            boot: disk.boot + 1,
            dirs: disk.dirs.clone(),
            names: names_after_crash(&disk, &mut rng),
            ..Disk::default()
        };
        for (id, inode) in &disk.inodes {
            let bytes = bytes_after_crash(inode, &mut rng);
            after.inodes.insert(
                *id,
                Inode {
                    durable: bytes.clone(),
                    bytes,
                    dirty: BTreeMap::new(),
                },
            );
        }
        MemVfs(Arc::new(Mutex::new(after)))
    }

    /// The disk as another process finds it when this one was killed: nothing is lost.
    pub fn kill(&self) -> MemVfs {
        let disk = self.disk();
        MemVfs(Arc::new(Mutex::new(Disk {
            inodes: disk.inodes.clone(),
            names: disk.names.clone(),
            dirs: disk.dirs.clone(),
            unsynced: disk.unsynced.clone(),
            next_id: disk.next_id,
            boot: disk.boot + 1,
            ..Disk::default()
        })))
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// A file's bytes.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        let id = disk.names.get(path)?;
        Some(disk.inodes.get(id)?.bytes.clone())
    }

    /// Replaces a file's bytes, durably, as rot does.
    pub fn set_contents(&self, path: &Path, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let Some(id) = disk.names.get(path).copied() else {
            return;
        };
        disk.inodes.insert(
            id,
            Inode {
                durable: bytes.clone(),
                bytes,
                dirty: BTreeMap::new(),
            },
        );
    }

    /// Flips one bit of a file, durably.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        if let Some(mut bytes) = self.contents(path)
            && let Some(byte) = bytes.get_mut(bit / 8)
        {
            *byte ^= 1 << (bit % 8);
            self.set_contents(path, bytes);
        }
    }
}

impl Disk {
    /// Counts a call, and says which fault it meets.
    fn enter(&mut self, call: Call) -> io::Result<Option<Fault>> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        self.calls += 1;
        let due = match &mut self.fault {
            Some((kind, left, fault)) if kind.is_none_or(|k| k == call) => {
                if *left == 0 {
                    Some(*fault)
                } else {
                    *left -= 1;
                    None
                }
            }
            _ => None,
        };
        if due.is_some() {
            self.fault = None;
        }
        if due == Some(Fault::PowerOff) {
            self.is_off = true;
            return Err(io::Error::other("the power is off"));
        }
        Ok(due)
    }

    /// As [`enter`](Self::enter), for calls that do nothing when they fail.
    fn enter_whole(&mut self, call: Call) -> io::Result<()> {
        match self.enter(call)? {
            Some(fault) => fault.to_result(),
            None => Ok(()),
        }
    }

    fn change_name(&mut self, path: &Path, after: Option<u64>) {
        let before = match after {
            Some(id) => self.names.insert(path.to_owned(), id),
            None => self.names.remove(path),
        };
        self.unsynced.push(NameChange {
            path: path.to_owned(),
            before,
            call: self.calls,
        });
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        let is_known = path.parent().is_none_or(|p| {
            p.as_os_str().is_empty() || p == Path::new("/") || self.dirs.contains(p)
        });
        if is_known {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::NotFound))
        }
    }
}

impl Fault {
    fn to_result(self) -> io::Result<()> {
        match self {
            Fault::NoSpace => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Fault::Io => Err(io::Error::other("the device failed")),
            Fault::PowerOff => Err(io::Error::other("the power is off")),
            Fault::ShortRead => Ok(()),
        }
    }
}

impl Inode {
    fn write(&mut self, buf: &[u8], offset: usize) {
        let end = offset + buf.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(buf);
        self.touch(offset, end);
    }

    /// Makes durable what was written since the last sync.
    fn settle(&mut self) {
        self.durable.resize(self.bytes.len(), 0);
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            let at = (sector * SECTOR_BYTES).min(self.bytes.len());
            let end = (at + SECTOR_BYTES).min(self.bytes.len());
            self.durable[at..end].copy_from_slice(&self.bytes[at..end]);
        }
    }

    fn touch(&mut self, start: usize, end: usize) {
        for sector in start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let at = sector * SECTOR_BYTES;
            let until = (at + SECTOR_BYTES).min(self.bytes.len());
            let version = self.bytes.get(at..until).unwrap_or_default().to_vec();
            self.dirty.entry(sector).or_default().push(version);
        }
    }
}

impl Vfs for MemVfs {
    type File = MemFile;
    type Lock = MemLock;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<MemFile> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Open)?;
        let id = match (disk.find(path), mode) {
            (Ok(id), OpenMode::Create) => {
                let inode = disk.inodes.entry(id).or_default();
                let len = inode.bytes.len();
                inode.bytes.clear();
                inode.touch(0, len);
                id
            }
            (Ok(id), _) => id,
            (Err(_), OpenMode::Create) => {
                disk.check_parent(path)?;
                disk.next_id += 1;
                let id = disk.next_id;
                disk.inodes.insert(id, Inode::default());
                disk.change_name(path, Some(id));
                id
            }
            (Err(e), _) => return Err(e),
        };
        Ok(MemFile {
            disk: self.clone(),
            id,
            path: path.to_owned(),
            boot: disk.boot,
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Change)?;
        disk.check_parent(path)?;
        disk.dirs.insert(path.to_owned());
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Read)?;
        if !disk.dirs.contains(path) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let mut names: Vec<String> = disk
            .names
            .keys()
            .chain(&disk.dirs)
            .filter(|p| p.parent() == Some(path))
            .filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Change)?;
        if disk.dirs.contains(from) {
            return disk.rename_dir(from, to);
        }
        let id = disk.find(from)?;
        disk.check_parent(to)?;
        disk.change_name(to, Some(id));
        disk.change_name(from, None);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Change)?;
        let id = disk.find(from)?;
        disk.check_parent(to)?;
        disk.change_name(to, Some(id));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Change)?;
        disk.find(path)?;
        disk.change_name(path, None);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Change)?;
        if disk.names.keys().any(|p| p.parent() == Some(path)) {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        if !disk.dirs.remove(path) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.syncs += 1;
        disk.enter_whole(Call::Sync)?;
        // A rename out of the directory is one change with its other end.
        let synced: BTreeSet<u64> = disk
            .unsynced
            .iter()
            .filter(|c| c.path.parent() == Some(path))
            .map(|c| c.call)
            .collect();
        disk.unsynced.retain(|c| !synced.contains(&c.call));
        Ok(())
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<MemLock> {
        if self.disk().locks.contains(path) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        let file = self.open(path, OpenMode::Create)?;
        file.write_all_at(holder.as_bytes(), 0)?;
        let mut disk = self.disk();
        disk.locks.insert(path.to_owned());
        Ok(MemLock {
            disk: self.clone(),
            path: path.to_owned(),
            boot: disk.boot,
        })
    }
}

impl Disk {
    /// Directories are modelled as durable at once, with what is in them.
    fn rename_dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let moved = |p: &Path| p.strip_prefix(from).map(|rest| to.join(rest));
        self.dirs.remove(from);
        self.dirs.insert(to.to_owned());
        self.names = std::mem::take(&mut self.names)
            .into_iter()
            .map(|(path, id)| (moved(&path).unwrap_or(path), id))
            .collect();
        for change in &mut self.unsynced {
            if let Ok(path) = moved(&change.path) {
                change.path = path;
            }
        }
        Ok(())
    }
}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut disk = self.disk.disk();
        if disk.boot == self.boot {
            disk.locks.remove(&self.path);
        }
    }
}

impl MemFile {
    fn with<T>(
        &self,
        call: Call,
        act: impl FnOnce(&mut Disk, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.disk.disk();
        if disk.boot != self.boot {
            return Err(io::Error::other("the file was opened before the crash"));
        }
        let fault = disk.enter(call)?;
        act(&mut disk, fault)
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl VfsFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(Call::Read, |disk, fault| {
            let want = match fault {
                Some(Fault::ShortRead) => buf.len().div_ceil(2),
                Some(fault) => return fault.to_result().map(|()| 0),
                None => buf.len(),
            };
            let bytes = disk.inodes.get(&self.id).map_or(&[][..], |i| &i.bytes);
            let from = (offset as usize).min(bytes.len());
            let n = want.min(bytes.len() - from);
            buf[..n].copy_from_slice(&bytes[from..from + n]);
            Ok(n)
        })
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.with(Call::Write, |disk, fault| {
            let fault = fault.filter(|f| *f != Fault::ShortRead);
            let n = if fault.is_some() {
                buf.len() / 2
            } else {
                buf.len()
            };
            disk.bytes_written += n as u64;
            if let Some(inode) = disk.inodes.get_mut(&self.id) {
                inode.write(&buf[..n], offset as usize);
            }
            fault.map_or(Ok(()), Fault::to_result)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(Call::Sync, |disk, fault| {
            disk.syncs += 1;
            if let Some(inode) = disk.inodes.get_mut(&self.id) {
                match fault.filter(|f| *f != Fault::ShortRead) {
                    // As Linux does: what failed to be written is marked clean, and is lost.
                    Some(fault) => {
                        inode.dirty.clear();
                        return fault.to_result();
                    }
                    None => {
                        inode.settle();
                    }
                }
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(Call::Read, |disk, fault| {
            fault.map_or(Ok(()), Fault::to_result)?;
            Ok(disk
                .inodes
                .get(&self.id)
                .map_or(0, |i| i.bytes.len() as u64))
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(Call::Change, |disk, fault| {
            if let Some(fault) = fault {
                fault.to_result()?;
            }
            if let Some(inode) = disk.inodes.get_mut(&self.id) {
                let (old, new) = (inode.bytes.len(), len as usize);
                inode.bytes.resize(new, 0);
                inode.touch(old.min(new), old.max(new));
            }
            Ok(())
        })
    }
}
