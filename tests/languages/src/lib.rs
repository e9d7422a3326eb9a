//! The reference plugin of every language, held to one suite (`tests/languages`), and what it costs
//! (`examples/cost`). This file finds the components; what they do is written in
//! `plugins/languages/README.md`.

use std::path::PathBuf;

/// `plugins/languages`.
pub fn languages() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../plugins/languages")
}

/// The component of a language that is small enough to be committed.
pub fn committed(language: &str) -> PathBuf {
    languages().join(language).join("prebuilt/reference.wasm")
}
