//! The names on a disk: which directory means what by them, and which changes were not synced.
//!
//! A change is durable when its directory was synced. Until then a crash may undo it, in any
//! combination with others, but for what every file system with a journal keeps:
//!
//! - changes of one name reach the disk in their order;
//! - a rename within a directory happens or does not;
//! - a rename into another directory has the new name before it loses the old one: a crash may
//!   leave both, never neither. Syncing the directory that it left makes all of it durable.
//!
//! A directory that loses its name takes along all that is in it, synced or not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::Rng;
use super::faults::Injected;

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(u64),
    Dir(u64),
}

/// A name and the directory that it is in.
pub(super) type Place = (u64, String);

const ROOT: u64 = 0;

/// A change that was not synced yet.
#[derive(Clone)]
struct Change {
    place: Place,
    before: Option<Node>,
    call: u64,
    /// The old name of a rename into another directory: what comes after the rest of its call.
    is_second: bool,
}

#[derive(Clone, Default)]
pub(super) struct Tree {
    names: BTreeMap<Place, Node>,
    unsynced: Vec<Change>,
}

impl Tree {
    /// The directory at a path.
    pub fn dir(&self, path: &Path) -> io::Result<u64> {
        let mut dir = ROOT;
        for part in path.components() {
            let Component::Normal(name) = part else {
                continue;
            };
            let place = (dir, name.to_string_lossy().into_owned());
            dir = match self.names.get(&place) {
                Some(Node::Dir(id)) => *id,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            };
        }
        Ok(dir)
    }

    /// Where a path's last name is or would be; its directory must exist.
    pub fn place(&self, path: &Path) -> io::Result<Place> {
        let dir = self.dir(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((dir, name.to_string_lossy().into_owned()))
    }

    /// What a path means.
    pub fn find(&self, path: &Path) -> io::Result<Node> {
        let node = self.names.get(&self.place(path)?);
        node.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The file at a path.
    pub fn file(&self, path: &Path) -> io::Result<u64> {
        match self.find(path)? {
            Node::File(id) => Ok(id),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The names in a directory, sorted.
    pub fn list(&self, dir: u64) -> Vec<String> {
        let names = self.names.range((dir, String::new())..);
        let names = names.take_while(|((of, _), _)| *of == dir);
        names.map(|((_, name), _)| name.clone()).collect()
    }

    /// The paths of all files.
    pub fn files(&self) -> BTreeMap<PathBuf, u64> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![(ROOT, PathBuf::from("/"))];
        while let Some((dir, path)) = dirs.pop() {
            for name in self.list(dir) {
                let path = path.join(&name);
                match self.names.get(&(dir, name)) {
                    Some(Node::File(id)) => drop(files.insert(path, *id)),
                    Some(Node::Dir(id)) => dirs.push((*id, path)),
                    None => {}
                }
            }
        }
        files
    }

    /// Gives a name another meaning, or none.
    pub fn set(&mut self, place: Place, after: Option<Node>, call: u64) {
        self.change(place, after, call, false);
    }

    fn change(&mut self, place: Place, after: Option<Node>, call: u64, is_second: bool) {
        let before = match after {
            Some(node) => self.names.insert(place.clone(), node),
            None => self.names.remove(&place),
        };
        self.unsynced.push(Change {
            place,
            before,
            call,
            is_second,
        });
    }

    /// Renames a file, or a directory, over a file or an empty directory or nothing.
    pub fn rename(&mut self, from: &Path, to: &Path, call: u64) -> io::Result<()> {
        let node = self.find(from)?;
        let (from, to) = (self.place(from)?, self.place(to)?);
        match (node, self.names.get(&to)) {
            // Two names of one file stay what they are, as POSIX has it.
            (node, Some(there)) if *there == node => return Ok(()),
            (Node::File(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::IsADirectory.into()),
            (Node::Dir(_), Some(Node::File(_))) => return Err(io::ErrorKind::NotADirectory.into()),
            (Node::Dir(_), Some(Node::Dir(id))) if !self.list(*id).is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        let is_second = from.0 != to.0;
        self.change(to, Some(node), call, false);
        self.change(from, None, call, is_second);
        Ok(())
    }

    /// Makes the changes of a directory durable, with all that they follow from.
    pub fn sync(&mut self, dir: u64) {
        let mut settled: BTreeSet<usize> = BTreeSet::new();
        let in_dir = |c: &Change| c.place.0 == dir;
        let all = 0..self.unsynced.len();
        let mut open: Vec<usize> = all.filter(|at| in_dir(&self.unsynced[*at])).collect();
        while let Some(at) = open.pop() {
            if !settled.insert(at) {
                continue;
            }
            let change = &self.unsynced[at];
            let before = |other: &Change| other.call < change.call && other.place == change.place;
            // A rename that lost its old name has the new one; not the other way round.
            let first = |other: &Change| other.call == change.call && !other.is_second;
            let others = self.unsynced.iter().enumerate();
            open.extend(
                others
                    .filter(|(_, other)| before(other) || first(other))
                    .map(|(at, _)| at),
            );
        }
        let mut at = 0;
        self.unsynced.retain(|_| {
            at += 1;
            !settled.contains(&(at - 1))
        });
    }

    /// The names after a crash: each change that was not synced is there or undone.
    pub fn after_crash(&self, rng: &mut Rng, injected: &mut Injected) -> Tree {
        // A name's changes reach the disk in their order: if one is lost, so are those after it.
        let mut cut: BTreeSet<&Place> = BTreeSet::new();
        let mut lost: BTreeMap<(u64, bool), bool> = BTreeMap::new();
        for change in &self.unsynced {
            let key = (change.call, change.is_second);
            if lost.contains_key(&key) {
                continue;
            }
            let is_first_lost = *lost.get(&(change.call, false)).unwrap_or(&false);
            let of_key = |c: &&Change| (c.call, c.is_second) == key;
            let parts = || self.unsynced.iter().filter(of_key);
            let is_cut = parts().any(|c| cut.contains(&c.place));
            let is_lost = rng.below(2) == 0 || is_cut || is_first_lost;
            if is_lost {
                cut.extend(parts().map(|c| &c.place));
            }
            lost.insert(key, is_lost);
        }
        let mut names = self.names.clone();
        for change in self.unsynced.iter().rev() {
            if !lost[&(change.call, change.is_second)] {
                injected.names_kept += 1;
                continue;
            }
            injected.names_lost += 1;
            match change.before {
                Some(node) => names.insert(change.place.clone(), node),
                None => names.remove(&change.place),
            };
        }
        let mut tree = Tree {
            names,
            unsynced: Vec::new(),
        };
        tree.forget_unreachable();
        tree
    }

    /// What was in directories that lost their names is gone with them.
    fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::new();
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            reached.insert(dir);
            let names = self.names.range((dir, String::new())..);
            let names = names.take_while(|((of, _), _)| *of == dir);
            dirs.extend(names.filter_map(|(_, node)| match node {
                Node::Dir(id) => Some(*id),
                Node::File(_) => None,
            }));
        }
        self.names.retain(|(dir, _), _| reached.contains(dir));
    }
}
