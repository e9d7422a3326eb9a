//! Which files of a project count, and whether they changed: looked at every so often, by time and
//! size. A project has tens of files, and polling is the same on every system and file system.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use super::{MANIFEST, Project};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// What builds and tools make: never a source.
const NEVER: [&str; 7] = [
    "target",
    "node_modules",
    "__pycache__",
    ".git",
    ".venv",
    ".zig-cache",
    ".compiled",
];

/// A project's tests, which count beside its sources.
pub const TESTS: &str = "tests";

/// What the files were at one look.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen(BTreeMap<String, (SystemTime, u64)>);

impl Seen {
    /// Looks at the project's sources and tests.
    pub fn now(project: &Project) -> Seen {
        let mut seen = BTreeMap::new();
        let patterns = &project.manifest.watch;
        let component = project.manifest.component.to_string_lossy().into_owned();
        look(&project.dir, "", &mut |path, entry| {
            let is_source = path != component
                && (path == MANIFEST
                    || patterns.is_empty()
                    || patterns.iter().any(|pattern| covers(pattern, path))
                    || covers(TESTS, path));
            if let (true, Ok(about)) = (is_source, entry.metadata()) {
                let changed = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                seen.insert(path.to_owned(), (changed, about.len()));
            }
        });
        Seen(seen)
    }

    /// Waits until they are others, and have stopped changing; says which one is.
    pub fn wait(&self, project: &Project) -> String {
        loop {
            thread::sleep(INTERVAL);
            let now = Seen::now(project);
            if let Some(path) = self.difference(&now) {
                // An editor writes, renames, writes again.
                let mut last = now;
                loop {
                    thread::sleep(INTERVAL);
                    let now = Seen::now(project);
                    if now == last {
                        return path;
                    }
                    last = now;
                }
            }
        }
    }

    fn difference(&self, now: &Seen) -> Option<String> {
        let changed = now
            .0
            .iter()
            .find(|(path, about)| self.0.get(*path) != Some(about));
        let gone = self.0.keys().find(|path| !now.0.contains_key(*path));
        changed.map(|(path, _)| path).or(gone).cloned()
    }

    /// A source, no test, that is younger than the component.
    pub fn newer_than(&self, component: SystemTime) -> Option<&str> {
        let mut sources = self.0.iter().filter(|(path, _)| !covers(TESTS, path));
        let newer = sources.find(|(_, (changed, _))| *changed > component);
        newer.map(|(path, _)| path.as_str())
    }
}

fn look(folder: &Path, prefix: &str, found: &mut impl FnMut(&str, &fs::DirEntry)) {
    // What cannot be read now, or is gone by now, is looked at again the next time.
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = match prefix {
            "" => name.clone(),
            prefix => format!("{prefix}/{name}"),
        };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !NEVER.contains(&name.as_str()) => {
                look(&entry.path(), &path, found);
            }
            Ok(kind) if !kind.is_dir() => found(&path, &entry),
            _ => {}
        }
    }
}

/// Whether a pattern of `watch` covers a path: each level of the pattern is one of the path's, `*`
/// stands for any characters of a level, `**` for any levels. A pattern that ends at a folder covers
/// all in it.
fn covers(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').filter(|p| !p.is_empty()).collect();
    let path: Vec<&str> = path.split('/').collect();
    covers_levels(&pattern, &path)
}

fn covers_levels(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some((&"**", rest)), Some((_, deeper))) => {
            covers_levels(rest, path) || covers_levels(pattern, deeper)
        }
        (Some((level, rest)), Some((name, deeper))) => {
            covers_level(level, name) && covers_levels(rest, deeper)
        }
    }
}

fn covers_level(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(before) else {
        return false;
    };
    let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.any(|at| covers_level(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_files_and_folders() {
        for (pattern, path) in [
            ("*.go", "main.go"),
            ("src", "src/a/b.rs"),
            ("src/", "src/a.rs"),
            ("src/*.rs", "src/a.rs"),
            ("**/*.c", "a/b/x.c"),
            ("**/*.c", "x.c"),
            ("a*b*c", "aXbYbc"),
            ("*", "anything"),
        ] {
            assert!(covers(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.go", "sub/main.go"),
            ("src", "srcs/a.rs"),
            ("src/*.rs", "src/a.rsx"),
            ("go.mod", "go.sum"),
        ] {
            assert!(!covers(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn what_changed_is_named() {
        let seen = |files: &[(&str, u64)]| {
            let at = SystemTime::UNIX_EPOCH;
            Seen(
                files
                    .iter()
                    .map(|(path, len)| ((*path).to_owned(), (at, *len)))
                    .collect(),
            )
        };
        let before = seen(&[("a", 1), ("b", 1)]);
        assert_eq!(before.difference(&seen(&[("a", 1), ("b", 1)])), None);
        assert_eq!(
            before.difference(&seen(&[("a", 1), ("b", 2)])).as_deref(),
            Some("b")
        );
        assert_eq!(before.difference(&seen(&[("b", 1)])).as_deref(), Some("a"));
        assert_eq!(
            before
                .difference(&seen(&[("a", 1), ("b", 1), ("c", 0)]))
                .as_deref(),
            Some("c")
        );
    }
}
