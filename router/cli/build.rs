//! Embeds the templates of `plugins/languages/*/template`, with the contract, and the demo's events
//! into the binary.
//!
//! What a template needs from elsewhere in the repository (an SDK) it does not copy: a file `bring`
//! beside its folder has lines `FROM TO`, the first from the repository's root, the second in the
//! project. `wit/plugin.wit` comes with every template.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What builds leave in a template's folder.
const LEFT_BY_BUILDS: [&str; 6] = [
    "target",
    "build",
    "node_modules",
    "__pycache__",
    ".venv",
    ".zig-cache",
];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../node/pack.rs");
    if env::var_os("CARGO_FEATURE_NODE").is_none() {
        return Ok(());
    }
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = here.join("../..").canonicalize()?;
    let mut code = String::from("&[\n");
    for folder in entries(&root.join("plugins/languages"))? {
        let template = folder.join("template");
        if !template.is_dir() {
            continue;
        }
        let files = files_of(&root, &folder, &template)?;
        let language = folder.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(code, "Template {{ language: {language:?}, files: &[");
        for (to, from) in files {
            let executable = is_executable(&from)?;
            let _ = writeln!(
                code,
                "File {{ path: {to:?}, executable: {executable}, bytes: include_bytes!({from:?}) }},"
            );
        }
        code.push_str("] },\n");
    }
    code.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    #[cfg(feature = "node")]
    pack(
        &root.join("examples/quakes/earthquakes.jsonl"),
        &out.join("week.packed"),
    )?;
    fs::write(out.join("templates.rs"), code)
}

#[cfg(feature = "node")]
include!("../node/pack.rs");

/// The files of a project: where they go, and where they are.
fn files_of(root: &Path, folder: &Path, template: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    gather(template, "", &mut files)?;
    gather(&root.join("wit/plugin.wit"), "wit/plugin.wit", &mut files)?;
    let bring = folder.join("bring");
    if bring.is_file() {
        println!("cargo::rerun-if-changed={}", bring.display());
        for line in fs::read_to_string(&bring)?.lines() {
            if let Some((from, to)) = line.split_once(' ') {
                gather(&root.join(from), to.trim(), &mut files)?;
            }
        }
    }
    files.sort();
    Ok(files)
}

fn gather(from: &Path, to: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", from.display());
    if from.is_file() {
        files.push((to.to_owned(), from.to_owned()));
        return Ok(());
    }
    for path in entries(from)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if LEFT_BY_BUILDS.contains(&name.as_ref()) {
            continue;
        }
        let to = match to {
            "" => name.into_owned(),
            folder => format!("{folder}/{name}"),
        };
        gather(&path, &to, files)?;
    }
    Ok(())
}

/// What is in a folder, by name, so that the same sources give the same binary.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut paths = fs::read_dir(folder)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn is_executable(path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        Ok(fs::metadata(path)?.permissions().mode() & 0o100 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(false)
    }
}
