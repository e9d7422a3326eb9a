//! A model of a disk, in memory, that keeps the contract of [`crate::vfs`] and nothing beyond it.
//!
//! What was not synced may be lost at a crash, in any part and order: each 512-byte sector keeps
//! one of the versions that it had since the last sync, a file one of its lengths; each name, of a
//! file or a directory, keeps or loses the changes made to it since its directory was synced
//! (the rules are those of `mem/tree.rs`). So a new file may be there without its bytes, or not be
//! there with all of them synced. Faults are injected at the n-th call. All chances are drawn from
//! the seed that the crash is given, so a run can be repeated.
//!
//! Left out: time, permissions, symbolic links.

mod faults;
mod inode;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use self::faults::Armed;
pub use self::faults::{Call, Fault, Injected};
use self::inode::Inode;
use self::tree::{Node, Tree};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

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

#[derive(Default)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: Tree,
    locks: BTreeSet<PathBuf>,
    next_id: u64,
    boot: u64,
    calls: u64,
    fault: Option<Armed>,
    injected: Injected,
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

    /// A disk with one directory, whose name is durable.
    pub fn with_dir(path: &Path) -> io::Result<Self> {
        let disk = Self::default();
        disk.create_dir(path)?;
        disk.sync_dir(path.parent().unwrap_or(Path::new("/")))?;
        Ok(disk)
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
        self.arm(None, nth, fault, 1);
    }

    /// Injects a fault at the `nth` call of a kind from now, counting from 0.
    pub fn fail_at_call(&self, call: Call, nth: u64, fault: Fault) {
        self.arm(Some(call), nth, fault, 1);
    }

    /// Injects a fault at so many calls of a kind, or of all, from the `nth` on.
    pub fn fail_calls(&self, call: Option<Call>, nth: u64, times: u64, fault: Fault) {
        self.arm(call, nth, fault, times);
    }

    fn arm(&self, call: Option<Call>, left: u64, fault: Fault, times: u64) {
        self.disk().fault = (times > 0).then_some(Armed {
            fault,
            call,
            left,
            times,
        });
    }

    /// The faults that came to pass, here and before the crashes that led here.
    pub fn injected(&self) -> Injected {
        self.disk().injected
    }

    /// Takes back a fault that has not come yet.
    pub fn clear_fault(&self) {
        self.disk().fault = None;
    }

    /// The disk as it is after a power loss and a restart. This one is left as it is.
    pub fn crash(&self, seed: u64) -> MemVfs {
        let disk = self.disk();
        let mut rng = Rng(seed);
        let mut injected = disk.injected;
        injected.crashes += 1;
        let names = disk.names.after_crash(&mut rng, &mut injected);
        let mut inodes = BTreeMap::new();
        let reached: BTreeSet<u64> = names.files().into_values().collect();
        for id in reached {
            let Some(inode) = disk.inodes.get(&id) else {
                continue;
            };
            inodes.insert(id, inode.after_crash(&mut rng, &mut injected));
        }
        MemVfs(Arc::new(Mutex::new(Disk {
            inodes,
            names,
            next_id: disk.next_id,
            boot: disk.boot + 1,
            injected,
            ..Disk::default()
        })))
    }

    /// The disk as another process finds it when this one was killed: nothing is lost.
    pub fn kill(&self) -> MemVfs {
        let disk = self.disk();
        let mut injected = disk.injected;
        injected.kills += 1;
        MemVfs(Arc::new(Mutex::new(Disk {
            inodes: disk.inodes.clone(),
            names: disk.names.clone(),
            next_id: disk.next_id,
            boot: disk.boot + 1,
            injected,
            ..Disk::default()
        })))
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.disk().names.files().into_keys().collect()
    }

    /// A file's bytes.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        let id = disk.names.file(path).ok()?;
        Some(disk.inodes.get(&id)?.bytes.clone())
    }

    /// Replaces a file's bytes, durably, as rot does.
    pub fn set_contents(&self, path: &Path, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let Ok(id) = disk.names.file(path) else {
            return;
        };
        disk.inodes.insert(id, Inode::durable(bytes));
    }

    /// Flips one bit of a file, durably.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        if let Some(mut bytes) = self.contents(path)
            && let Some(byte) = bytes.get_mut(bit / 8)
        {
            *byte ^= 1 << (bit % 8);
            self.set_contents(path, bytes);
            self.disk().injected.bits += 1;
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
        let due = self.due(call);
        if due == Some(Fault::PowerOff) {
            self.is_off = true;
            return Err(io::Error::other("the power is off"));
        }
        Ok(due)
    }

    /// The fault that a call meets.
    fn due(&mut self, call: Call) -> Option<Fault> {
        let armed = self.fault.as_mut()?;
        if armed.call.is_some_and(|kind| kind != call) {
            return None;
        }
        if armed.left > 0 {
            armed.left -= 1;
            return None;
        }
        let fault = armed.fault;
        armed.times -= 1;
        if armed.times == 0 {
            self.fault = None;
        }
        if !fault.is_met_by(call) {
            return None;
        }
        self.injected.add(fault, call);
        Some(fault)
    }

    /// As [`enter`](Self::enter), for calls that do nothing when they fail.
    fn enter_whole(&mut self, call: Call) -> io::Result<()> {
        match self.enter(call)? {
            Some(fault) => fault.to_result(),
            None => Ok(()),
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Vfs for MemVfs {
    type File = MemFile;
    type Lock = MemLock;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<MemFile> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Open)?;
        let id = match (disk.names.file(path), mode) {
            (Ok(id), OpenMode::Create) => {
                let inode = disk.inodes.entry(id).or_default();
                let len = inode.bytes.len();
                inode.bytes.clear();
                inode.touch(0, len);
                id
            }
            (Ok(id), _) => id,
            (Err(e), OpenMode::Create) if e.kind() == io::ErrorKind::NotFound => {
                let place = disk.names.place(path)?;
                let (id, call) = (disk.new_id(), disk.calls);
                disk.inodes.insert(id, Inode::default());
                disk.names.set(place, Some(Node::File(id)), call);
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
        if disk.names.dir(path).is_ok() {
            return Ok(());
        }
        let place = disk.names.place(path)?;
        if disk.names.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (id, call) = (disk.new_id(), disk.calls);
        disk.names.set(place, Some(Node::Dir(id)), call);
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Look)?;
        let dir = disk.names.dir(path)?;
        Ok(disk.names.list(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Change)?;
        let call = disk.calls;
        disk.names.rename(from, to, call)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Change)?;
        let id = disk.names.file(from)?;
        let place = disk.names.place(to)?;
        if disk.names.find(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let call = disk.calls;
        disk.names.set(place, Some(Node::File(id)), call);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Change)?;
        disk.names.file(path)?;
        let (place, call) = (disk.names.place(path)?, disk.calls);
        disk.names.set(place, None, call);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.enter_whole(Call::Change)?;
        let dir = disk.names.dir(path)?;
        if !disk.names.list(dir).is_empty() {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        let (place, call) = (disk.names.place(path)?, disk.calls);
        disk.names.set(place, None, call);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.syncs += 1;
        disk.enter_whole(Call::Sync)?;
        let dir = disk.names.dir(path)?;
        disk.names.sync(dir);
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
                match fault {
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
        self.with(Call::Look, |disk, fault| {
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
