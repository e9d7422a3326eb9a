//! Packs the components of the shelf, which the program carries in itself.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

include!("pack.rs");

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=pack.rs");
    let variable = |name| PathBuf::from(env::var_os(name).unwrap_or_default());
    let plugins = variable("CARGO_MANIFEST_DIR").join("../../plugins");
    let out = variable("OUT_DIR");
    for folder in sorted(&plugins.join("shelf"))? {
        // What several of them share is none itself.
        if folder.join("waypost-plugin.toml").exists() {
            let name = folder.file_name().unwrap_or_default().to_os_string();
            pack_component(&folder.join(name).with_extension("wasm"), &out)?;
        }
    }
    for component in sorted(&plugins.join("prebuilt"))? {
        pack_component(&component, &out)?;
    }
    Ok(())
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Writes `NAME.packed`. `plugins/build` makes the components.
fn pack_component(component: &Path, out: &Path) -> io::Result<()> {
    let name = component.file_stem().unwrap_or_default();
    pack(component, &out.join(name).with_extension("packed"))
}
