//! Packs the components of the shelf, which the program carries in itself.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| PathBuf::from(env::var_os(name).unwrap_or_default());
    let plugins = variable("CARGO_MANIFEST_DIR").join("../../plugins");
    let out = variable("OUT_DIR");
    for folder in sorted(&plugins.join("shelf"))? {
        // What several of them share is none itself.
        if folder.join("waypost-plugin.toml").exists() {
            let name = folder.file_name().unwrap_or_default().to_os_string();
            pack(&folder.join(name).with_extension("wasm"), &out)?;
        }
    }
    for component in sorted(&plugins.join("prebuilt"))? {
        pack(&component, &out)?;
    }
    Ok(())
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Writes `NAME.packed`: see `packed.rs`.
fn pack(component: &Path, out: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", component.display());
    let bytes = fs::read(component).map_err(|error| {
        let path = component.display();
        io::Error::new(
            error.kind(),
            format!("{path}: {error}; plugins/build makes it"),
        )
    })?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    // A build to try something need not wait for the smallest.
    let is_release = env::var_os("PROFILE").is_some_and(|profile| profile == "release");
    let level = if is_release { 9 } else { 1 };
    let mut packed = length.to_le_bytes().to_vec();
    packed.extend(miniz_oxide::deflate::compress_to_vec(&bytes, level));
    let name = component.file_stem().unwrap_or_default();
    fs::write(out.join(name).with_extension("packed"), packed)
}
