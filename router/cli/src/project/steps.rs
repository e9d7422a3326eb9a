//! Runs a project's build, one command after the other, in its folder and without a shell.

use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::Context;

use super::{MANIFEST, Project, needs};
use crate::output::note;

/// What `{…}` may stand in a step.
const EXPANSIONS: [&str; 3] = ["dir", "wit", "component"];

/// Builds a project. What the steps print goes to standard error, as they print it.
pub fn run(project: &Project) -> anyhow::Result<()> {
    let missing = needs::missing(&project.manifest.needs);
    if !missing.is_empty() {
        anyhow::bail!("cannot build here:\n  {}", missing.join("\n  "));
    }
    let component = project.component();
    if let Some(folder) = component.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    for step in &project.manifest.steps {
        run_step(project, step)?;
    }
    if !component.is_file() {
        anyhow::bail!(
            "the steps of {MANIFEST} ended well, but there is no {}",
            component.display()
        );
    }
    Ok(())
}

fn run_step(project: &Project, step: &[String]) -> anyhow::Result<()> {
    let words: Vec<String> = step.iter().map(|word| expand(project, word)).collect();
    let (program, args) = words.split_first().context("a step without a command")?;
    note(format!("$ {}", words.join(" ")));
    let env = project.manifest.env.iter();
    let env = env.map(|(name, value)| (name, expand(project, value)));
    // Standard output is for the result of this program.
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let status = Command::new(program)
        .args(args)
        .envs(env)
        .current_dir(&project.dir)
        .stdin(Stdio::null())
        .stdout(stderr.context("standard error")?)
        .status()
        .with_context(|| format!("step `{program}` of {MANIFEST}"))?;
    if !status.success() {
        anyhow::bail!("step `{}` failed: {status}", words.join(" "));
    }
    Ok(())
}

fn expand(project: &Project, word: &str) -> String {
    word.replace("{dir}", &project.dir.display().to_string())
        .replace("{wit}", &project.dir.join("wit").display().to_string())
        .replace("{component}", &project.component().display().to_string())
}

/// The first `{word}` that [`expand`] would leave as it is. Braces around anything but lower-case
/// letters are the command's own.
pub fn unknown_expansion(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        let (inside, _) = after.split_once('}')?;
        let is_word = !inside.is_empty() && inside.bytes().all(|b| b.is_ascii_lowercase());
        if is_word && !EXPANSIONS.contains(&inside) {
            return Some(inside);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_of_commands_are_left_alone() {
        for text in [
            "{dir}/x",
            "{wit}",
            "{component}",
            "{\"a\":1}",
            "${HOME}",
            "{",
            "{}",
            "{{",
        ] {
            assert_eq!(unknown_expansion(text), None, "{text}");
        }
        assert_eq!(unknown_expansion("{dir}/{out}"), Some("out"));
    }
}
