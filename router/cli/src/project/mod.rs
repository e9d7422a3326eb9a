//! A plugin's project: a folder with `waypost-plugin.toml`, what it is made from and what it makes.
//!
//! `template` writes one, `manifest` reads its file, `setup` what its tests are run with, `needs` looks for the tools that it names,
//! `steps` runs its build, `watch` says when its sources changed. Nothing here knows wasmtime: what
//! becomes of the component is the commands' work.

pub mod manifest;
pub mod needs;
pub mod setup;
pub mod steps;
pub mod template;
pub mod watch;

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::failure::usage;
use manifest::Manifest;

/// The project's file.
pub const MANIFEST: &str = "waypost-plugin.toml";

/// A folder with a manifest.
#[derive(Debug)]
pub struct Project {
    /// The folder, absolute.
    pub dir: PathBuf,
    /// What its file says.
    pub manifest: Manifest,
}

impl Project {
    /// The project in `dir`; without it, in the present folder or the nearest one above that has a
    /// manifest.
    pub fn open(dir: Option<&Path>) -> anyhow::Result<Project> {
        let dir = match dir {
            Some(dir) => dir
                .canonicalize()
                .with_context(|| dir.display().to_string())?,
            None => {
                let here = std::env::current_dir().context("the present folder")?;
                let above = here.ancestors().find(|dir| dir.join(MANIFEST).is_file());
                above.map(Path::to_path_buf).unwrap_or(here)
            }
        };
        let file = dir.join(MANIFEST);
        if !file.is_file() {
            return Err(usage(format!(
                "no {MANIFEST} in {}: `waypost plugin new NAME --lang LANGUAGE` makes a project, \
                 --dir says where one is",
                dir.display()
            )));
        }
        let manifest = Manifest::read(&file)?;
        Ok(Project { dir, manifest })
    }

    /// The component that a build makes.
    pub fn component(&self) -> PathBuf {
        self.dir.join(&self.manifest.component)
    }
}

fn read_text(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}
