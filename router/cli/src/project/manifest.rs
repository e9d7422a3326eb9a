//! `waypost-plugin.toml`: what a project is, how it is built, what its tests are run with.
//!
//! The format is documented in docs/plugins.md. Every mistake is told with its line and column, and
//! nothing of the file is used before all of it was found right.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use waypost_host::Role;

use super::setup::{RawTest, TestSetup};
use crate::failure::usage;

/// A manifest, checked.
#[derive(Debug)]
pub struct Manifest {
    /// The plugin's name: lower case, digits and dashes.
    pub name: String,
    /// For people; the build knows only `steps`.
    pub language: String,
    /// The role that it is built for.
    pub role: Role,
    /// What a build makes, from the project's folder.
    pub component: PathBuf,
    /// Commands, in order.
    pub steps: Vec<Vec<String>>,
    /// Added to the environment of each.
    pub env: BTreeMap<String, String>,
    /// What changes the component.
    pub watch: Vec<String>,
    /// What has to be on the machine.
    pub needs: Vec<Need>,
    /// What tests are run with.
    pub test: TestSetup,
}

/// A tool that the build uses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// Looked up on PATH.
    pub command: String,
    /// Prints its version; compared with `minimum`.
    #[serde(default)]
    pub version: Vec<String>,
    /// The oldest that will do, such as `1.24`.
    pub minimum: Option<String>,
    /// Must succeed: for what is no command of its own, such as a compiler's target.
    #[serde(default)]
    pub probe: Vec<String>,
    /// How it is had, in words.
    pub install: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    plugin: RawPlugin,
    build: RawBuild,
    #[serde(default)]
    test: RawTest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlugin {
    name: Spanned<String>,
    language: String,
    role: Spanned<String>,
    component: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBuild {
    steps: Spanned<Vec<Spanned<Vec<String>>>>,
    #[serde(default)]
    env: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    watch: Vec<String>,
    #[serde(default)]
    needs: Vec<Spanned<Need>>,
}

impl Manifest {
    /// Reads and checks a file.
    pub fn read(file: &Path) -> anyhow::Result<Manifest> {
        let text = super::read_text(file)?;
        Manifest::parse(&text).map_err(|mistake| mistake.in_file(file, &text))
    }

    fn parse(text: &str) -> Result<Manifest, Mistake> {
        let Raw {
            plugin,
            build,
            test,
        } = toml::from_str(text)?;
        if !is_plugin_name(plugin.name.get_ref()) {
            let problem = format!(
                "plugin.name: found {:?}, expected {NAME_RULE}",
                plugin.name.get_ref()
            );
            return Err(Mistake::at(plugin.name.span(), problem));
        }
        let role = Role::from_name(plugin.role.get_ref()).ok_or_else(|| {
            let problem = format!(
                "plugin.role: found {:?}, expected filter, transform, route or each",
                plugin.role.get_ref()
            );
            Mistake::at(plugin.role.span(), problem)
        })?;
        if build.steps.get_ref().is_empty() {
            let problem = "build.steps is empty, expected a command such as [\"make\"]";
            return Err(Mistake::at(build.steps.span(), problem));
        }
        let mut steps = Vec::new();
        for step in build.steps.into_inner() {
            check_step(&step)?;
            steps.push(step.into_inner());
        }
        for value in build.env.values() {
            check_word("build.env", value.get_ref(), value.span())?;
        }
        for need in &build.needs {
            check_need(need)?;
        }
        let env = build.env.into_iter();
        let env = env
            .map(|(name, value)| (name, value.into_inner()))
            .collect();
        Ok(Manifest {
            component: component(&plugin.component)?,
            name: plugin.name.into_inner(),
            language: plugin.language,
            role,
            steps,
            env,
            watch: build.watch,
            needs: build.needs.into_iter().map(Spanned::into_inner).collect(),
            test: test.checked()?,
        })
    }
}

/// What [`is_plugin_name`] holds to.
pub const NAME_RULE: &str =
    "a name of a-z, 0-9 and dashes that begins with a letter, at most 64 long";

/// Whether a project may have this name: what all languages can make a module's name of.
pub fn is_plugin_name(name: &str) -> bool {
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(rest)
}

fn component(path: &Spanned<String>) -> Result<PathBuf, Mistake> {
    let parts = Path::new(path.get_ref());
    let is_inside = parts
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !is_inside || path.get_ref().is_empty() {
        let problem = format!(
            "plugin.component: found {:?}, expected a path inside the project's folder",
            path.get_ref()
        );
        return Err(Mistake::at(path.span(), problem));
    }
    Ok(parts.to_owned())
}

fn check_step(step: &Spanned<Vec<String>>) -> Result<(), Mistake> {
    if step.get_ref().first().is_none_or(String::is_empty) {
        let problem = "a step of build.steps has no command";
        return Err(Mistake::at(step.span(), problem));
    }
    let mut words = step.get_ref().iter();
    words.try_for_each(|word| check_word("build.steps", word, step.span()))
}

fn check_word(key: &str, word: &str, span: Range<usize>) -> Result<(), Mistake> {
    match super::steps::unknown_expansion(word) {
        None => Ok(()),
        Some(unknown) => {
            let problem = format!(
                "{key}: unknown {{{unknown}}} in {word:?}, expected {{dir}}, {{wit}} or \
                 {{component}}"
            );
            Err(Mistake::at(span, problem))
        }
    }
}

fn check_need(need: &Spanned<Need>) -> Result<(), Mistake> {
    let Need {
        command,
        version,
        minimum,
        install,
        ..
    } = need.get_ref();
    let problem = if command.is_empty() || command.contains('/') {
        format!("build.needs: command {command:?}, expected a name to be looked up on PATH")
    } else if install.trim().is_empty() {
        format!("build.needs {command:?}: install is empty, expected how it is had")
    } else if version.is_empty() != minimum.is_none() {
        format!("build.needs {command:?}: version and minimum go together")
    } else if minimum
        .as_deref()
        .is_some_and(|m| super::needs::numbers(m).is_none())
    {
        format!("build.needs {command:?}: minimum is no version such as 1.24")
    } else {
        return Ok(());
    };
    Err(Mistake::at(need.span(), problem))
}

/// What is wrong, and where in the text.
#[derive(Debug)]
pub struct Mistake {
    at: usize,
    problem: String,
}

impl Mistake {
    /// At the beginning of what toml read there.
    pub fn at(span: Range<usize>, problem: impl Into<String>) -> Mistake {
        Mistake {
            at: span.start,
            problem: problem.into(),
        }
    }

    /// As an error of the user's.
    pub fn in_file(self, file: &Path, text: &str) -> anyhow::Error {
        let before = text.get(..self.at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        usage(format!(
            "{}:{line}:{column}: {}",
            file.display(),
            self.problem
        ))
    }
}

impl From<toml::de::Error> for Mistake {
    fn from(error: toml::de::Error) -> Mistake {
        Mistake {
            at: error.span().map_or(0, |span| span.start),
            problem: error.message().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
[plugin]
name = "loud"
language = "go"
role = "filter"
component = "build/loud.wasm"

[build]
steps = [["go", "build", "-o", "{component}"]]
env = { GOOS = "wasip1" }
watch = ["*.go", "wit"]

[[build.needs]]
command = "go"
version = ["go", "version"]
minimum = "1.24"
install = "apt-get install golang"

[test]
settings = { z = 1, a = { b = true, c = ["x"] } }
destinations = ["queue:a"]
batch = 4
"#;

    fn error(from: &str, to: &str) -> String {
        let text = WHOLE.replacen(from, to, 1);
        assert_ne!(text, WHOLE, "{from} is not there");
        let mistake = Manifest::parse(&text).expect_err(to);
        format!("{:#}", mistake.in_file(Path::new("m"), &text))
    }

    #[test]
    fn all_of_it_is_read() {
        let manifest = Manifest::parse(WHOLE).unwrap();
        assert_eq!(
            (manifest.name.as_str(), manifest.role),
            ("loud", Role::Filter)
        );
        assert_eq!(manifest.component, Path::new("build/loud.wasm"));
        assert_eq!(manifest.env["GOOS"], "wasip1");
        assert_eq!(manifest.needs[0].minimum.as_deref(), Some("1.24"));
        // In the order of the file: a plugin may give that a meaning.
        let settings = &manifest.test.settings;
        let text = |(name, value): &(String, String)| format!("{name}={value}");
        let flat: Vec<_> = settings.iter().map(text).collect();
        assert_eq!(flat, ["z=1", "a.b=true", "a.c.0=x"]);
        assert_eq!(manifest.test.batch, Some(4));
    }

    #[test]
    fn mistakes_have_a_line_and_say_what_was_expected() {
        for (from, to, expected) in [
            (
                "name = \"loud\"",
                "name = \"Loud\"",
                "m:3:8: plugin.name: found \"Loud\"",
            ),
            ("name = \"loud\"\n", "", "missing field `name`"),
            (
                "role = \"filter\"",
                "role = \"f\"",
                "m:5:8: plugin.role: found \"f\"",
            ),
            (
                "build/loud.wasm",
                "../loud.wasm",
                "inside the project's folder",
            ),
            (
                "build/loud.wasm",
                "/loud.wasm",
                "inside the project's folder",
            ),
            ("\"wasip1\"", "\"{os}\"", "m:10:16: build.env: unknown {os}"),
            ("{component}", "{out}", "unknown {out} in \"{out}\""),
            (
                "[[\"go\", \"build\", \"-o\", \"{component}\"]]",
                "[]",
                "m:9:9: build.steps is empty",
            ),
            (
                "[[\"go\", \"build\", \"-o\", \"{component}\"]]",
                "[[]]",
                "has no command",
            ),
            (
                "[[\"go\", \"build\", \"-o\", \"{component}\"]]",
                "\"go\"",
                "expected a sequence",
            ),
            ("steps =", "stesp =", "unknown field `stesp`"),
            (
                "minimum = \"1.24\"\n",
                "",
                "version and minimum go together",
            ),
            (
                "minimum = \"1.24\"",
                "minimum = \"new\"",
                "minimum is no version",
            ),
            (
                "command = \"go\"",
                "command = \"/bin/go\"",
                "looked up on PATH",
            ),
            ("apt-get install golang", " ", "install is empty"),
            (
                "batch = 4",
                "batch = 0",
                "m:22:9: batch: found 0, expected 1 to 256",
            ),
            ("[build]", "[build", "m:8:"),
        ] {
            let error = error(from, to);
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn names_suit_every_language() {
        for good in ["a", "quake-filter", "x2"] {
            assert!(is_plugin_name(good), "{good}");
        }
        for bad in [
            "",
            "2x",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "../a",
            &"a".repeat(65),
        ] {
            assert!(!is_plugin_name(bad), "{bad}");
        }
    }
}
