//! What every file keeps to, beyond what the compiler and clippy see.

use std::path::{Path, PathBuf};

/// Lines of a source file outside of tests; above, it holds more than one thing.
const LINES_MAX: usize = 800;
/// Folders with Rust sources of ours.
const FOLDERS: &[&str] = &["router", "plugins", "tests", "examples"];
/// Text that ties the project to one machine.
const MACHINES: &[&str] = &["/home/", "/Users/", "/root/"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Files below the folders, without what is built or fetched.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo: Vec<PathBuf> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a folder can be read to its end").path();
            let name = path.file_name().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            if path.is_dir() {
                let built = ["target", "node_modules", "prebuilt"].contains(&name.as_str());
                if !built && !name.starts_with('.') {
                    todo.push(path);
                }
            } else if extensions.iter().any(|ext| name.ends_with(ext)) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name == "tests" || name.ends_with("_tests") || path.iter().any(|part| part == "tests")
}

/// A broken rule of each of these files, or nothing.
fn check(files: &[PathBuf], rule: impl Fn(&Path, &str) -> Option<String>) {
    let broken: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(path).expect("a source file is text");
            let shown = path.strip_prefix(root()).unwrap_or(path).display();
            rule(path, &text).map(|rule| format!("{shown}: {rule}"))
        })
        .collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn files_hold_one_thing() {
    check(&files(&[".rs"]), |path, text| {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code.lines().count();
        (!is_test(path) && lines > LINES_MAX).then(|| format!("{lines} lines, limit {LINES_MAX}"))
    });
}

#[test]
fn modules_say_what_they_hold() {
    check(&files(&[".rs"]), |path, text| {
        let first = text.lines().find(|line| !line.starts_with("#!["));
        let documented = first.is_none_or(|line| line.starts_with("//!"));
        (!documented && !is_test(path)).then(|| "does not begin with //!".to_owned())
    });
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let left = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!("));
    check(&files(&[".rs"]), |_, text| {
        let found = left.iter().find(|word| text.contains(word.as_str()));
        found.map(|word| format!("has {word}…)"))
    });
}

#[test]
fn no_machine_is_named() {
    let mut all = files(&[".rs", ".toml", ".md", ".py", ".sh"]);
    for extra in ["README.md", "Cargo.toml", "deny.toml", ".ci/run"] {
        all.extend(Some(root().join(extra)).filter(|path| path.exists()));
    }
    check(&all, |path, text| {
        if path.ends_with("tests/tidy.rs") {
            return None;
        }
        let found = MACHINES.iter().find(|machine| text.contains(**machine));
        found.map(|machine| format!("names a place of one machine: {machine}"))
    });
}
