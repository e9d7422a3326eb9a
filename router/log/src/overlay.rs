//! A file system that is looked at and left as it is: what is written to an [`Overlay`] is kept in
//! memory, and reads see it. So a check runs the very recovery that an opening runs, and a repair
//! can be tried before it is done.
//!
//! Memory: each 4 KiB page that is written. Left out: renaming directories, and durability, for
//! there is nothing to make durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::options::PAGE_BYTES;
use crate::vfs::{OpenMode, Vfs, VfsFile};

const PAGE: usize = PAGE_BYTES as usize;

/// A file system over another one, which it never changes.
#[derive(Clone)]
pub struct Overlay<V: Vfs> {
    base: V,
    changes: Arc<Mutex<Changes>>,
}

#[derive(Default)]
struct Changes {
    /// What a name means, where that is not what it means below; `None` is removed.
    names: BTreeMap<PathBuf, Option<Node>>,
    made_dirs: BTreeSet<PathBuf>,
    removed_dirs: BTreeSet<PathBuf>,
}

/// A file: where its unchanged bytes are, and the changed ones.
#[derive(Clone)]
struct Node {
    base: Option<PathBuf>,
    edits: Arc<Mutex<Edits>>,
}

struct Edits {
    len: u64,
    /// Bytes at and beyond this length are not taken from the file below.
    base_len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

/// An open file of an [`Overlay`].
pub struct OverlayFile<V: Vfs> {
    base: Option<V::File>,
    edits: Arc<Mutex<Edits>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl<V: Vfs> Overlay<V> {
    /// Looks at `base`.
    pub fn new(base: V) -> Self {
        Overlay {
            base,
            changes: Arc::default(),
        }
    }

    /// The file that a name means now.
    fn node(&self, changes: &mut Changes, path: &Path) -> io::Result<Node> {
        if let Some(node) = changes.names.get(path) {
            return node.clone().ok_or_else(not_found);
        }
        let len = self.base.open(path, OpenMode::Read)?.len()?;
        let node = Node {
            base: Some(path.to_owned()),
            edits: Arc::new(Mutex::new(Edits {
                len,
                base_len: len,
                pages: BTreeMap::new(),
            })),
        };
        changes.names.insert(path.to_owned(), Some(node.clone()));
        Ok(node)
    }
}

impl<V: Vfs> Vfs for Overlay<V> {
    type File = OverlayFile<V>;
    type Lock = ();

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File> {
        let mut changes = lock(&self.changes);
        let node = match mode {
            OpenMode::Read | OpenMode::ReadWrite => self.node(&mut changes, path)?,
            OpenMode::Create => {
                let node = Node {
                    base: None,
                    edits: Arc::new(Mutex::new(Edits {
                        len: 0,
                        base_len: 0,
                        pages: BTreeMap::new(),
                    })),
                };
                changes.names.insert(path.to_owned(), Some(node.clone()));
                node
            }
        };
        let base = match &node.base {
            Some(path) => Some(self.base.open(path, OpenMode::Read)?),
            None => None,
        };
        Ok(OverlayFile {
            base,
            edits: node.edits,
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut changes = lock(&self.changes);
        changes.removed_dirs.remove(path);
        changes.made_dirs.insert(path.to_owned());
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let changes = lock(&self.changes);
        if changes.removed_dirs.contains(path) {
            return Err(not_found());
        }
        let mut names: BTreeSet<String> = match self.base.read_dir(path) {
            Ok(names) => names.into_iter().collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound && changes.made_dirs.contains(path) => {
                BTreeSet::new()
            }
            Err(e) => return Err(e),
        };
        let here = |p: &Path| {
            let name = p.file_name()?.to_string_lossy().into_owned();
            (p.parent() == Some(path)).then_some(name)
        };
        for (file, node) in &changes.names {
            match (here(file), node) {
                (Some(name), Some(_)) => drop(names.insert(name)),
                (Some(name), None) => drop(names.remove(&name)),
                (None, _) => {}
            }
        }
        names.extend(changes.made_dirs.iter().filter_map(|d| here(d)));
        for gone in changes.removed_dirs.iter().filter_map(|d| here(d)) {
            names.remove(&gone);
        }
        Ok(names.into_iter().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut changes = lock(&self.changes);
        let node = self.node(&mut changes, from)?;
        changes.names.insert(to.to_owned(), Some(node));
        changes.names.insert(from.to_owned(), None);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut changes = lock(&self.changes);
        let node = self.node(&mut changes, from)?;
        changes.names.insert(to.to_owned(), Some(node));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut changes = lock(&self.changes);
        self.node(&mut changes, path)?;
        changes.names.insert(path.to_owned(), None);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut changes = lock(&self.changes);
        changes.made_dirs.remove(path);
        changes.removed_dirs.insert(path.to_owned());
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path, _: &str) -> io::Result<()> {
        Ok(())
    }
}

impl<V: Vfs> OverlayFile<V> {
    /// The bytes of a page as they are now, as far as the file goes.
    fn page(&self, edits: &Edits, page: u64) -> io::Result<Box<[u8]>> {
        if let Some(bytes) = edits.pages.get(&page) {
            return Ok(bytes.clone());
        }
        let mut bytes = vec![0; PAGE].into_boxed_slice();
        let at = page * PAGE_BYTES;
        let want = edits.base_len.saturating_sub(at).min(PAGE_BYTES) as usize;
        if let Some(base) = self.base.as_ref().filter(|_| want > 0) {
            base.read_full_at(&mut bytes[..want], at)?;
        }
        Ok(bytes)
    }
}

impl<V: Vfs> VfsFile for OverlayFile<V> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let edits = lock(&self.edits);
        let want = edits.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let is_unchanged = edits.pages.is_empty() && offset + want as u64 <= edits.base_len;
        if let Some(base) = self.base.as_ref().filter(|_| is_unchanged) {
            return base.read_full_at(&mut buf[..want], offset);
        }
        let mut done = 0;
        while done < want {
            let at = offset + done as u64;
            let page = self.page(&edits, at / PAGE_BYTES)?;
            let from = (at % PAGE_BYTES) as usize;
            let n = (PAGE - from).min(want - done);
            buf[done..done + n].copy_from_slice(&page[from..from + n]);
            done += n;
        }
        Ok(done)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut edits = lock(&self.edits);
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let from = (at % PAGE_BYTES) as usize;
            let n = (PAGE - from).min(buf.len() - done);
            let mut page = self.page(&edits, at / PAGE_BYTES)?;
            page[from..from + n].copy_from_slice(&buf[done..done + n]);
            edits.pages.insert(at / PAGE_BYTES, page);
            done += n;
        }
        edits.len = edits.len.max(offset + buf.len() as u64);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.edits).len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut edits = lock(&self.edits);
        if len < edits.len {
            // What is cut reads as zeros if the file grows again.
            let page = len / PAGE_BYTES;
            let mut last = self.page(&edits, page)?;
            last[(len % PAGE_BYTES) as usize..].fill(0);
            edits.pages.split_off(&page);
            edits.base_len = edits.base_len.min(len);
            if !len.is_multiple_of(PAGE_BYTES) {
                edits.pages.insert(page, last);
            }
        }
        edits.len = len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::MemVfs;

    fn read<V: Vfs>(vfs: &V, path: &str) -> Vec<u8> {
        let file = vfs.open(Path::new(path), OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_full_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    #[test]
    fn changes_are_seen_above_and_nowhere_else() {
        let base = MemVfs::new();
        base.create_dir(Path::new("/d")).unwrap();
        for name in ["/d/a", "/d/b"] {
            let file = base.open(Path::new(name), OpenMode::Create).unwrap();
            file.write_all_at(&[7; 10_000], 0).unwrap();
        }
        let before: Vec<_> = base.files().iter().map(|f| base.contents(f)).collect();
        let over = Overlay::new(base.clone());
        let file = over.open(Path::new("/d/a"), OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[1; 5000], 3000).unwrap();
        file.set_len(6000).unwrap();
        file.set_len(12_000).unwrap();
        over.rename(Path::new("/d/a"), Path::new("/d/c")).unwrap();
        over.remove_file(Path::new("/d/b")).unwrap();
        over.create_dir(Path::new("/d/e")).unwrap();
        let made = over.open(Path::new("/d/e/f"), OpenMode::Create).unwrap();
        made.write_all_at(b"new", 4096).unwrap();

        let mut expected = vec![7; 3000];
        expected.extend([1; 3000]);
        expected.extend([0; 6000]);
        assert_eq!(read(&over, "/d/c"), expected);
        assert_eq!(read(&over, "/d/e/f")[4095..], *b"\0new");
        assert_eq!(over.read_dir(Path::new("/d")).unwrap(), ["c", "e"]);
        assert_eq!(over.read_dir(Path::new("/d/e")).unwrap(), ["f"]);
        assert!(over.open(Path::new("/d/a"), OpenMode::Read).is_err());
        assert!(over.open(Path::new("/d/b"), OpenMode::Read).is_err());
        let after: Vec<_> = base.files().iter().map(|f| base.contents(f)).collect();
        assert_eq!(before, after);
    }
}
