//! Standard output: for people, or as JSON for programs.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use serde::Serialize;

/// Where results go. Everything is written through it, so that a closed pipe is an error like any
/// other and not a panic.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    style: Style,
}

impl Output {
    /// For people, or with `json` for programs.
    pub fn new(json: bool) -> Output {
        let color = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let style = Style {
            color: color && !json,
        };
        Output { json, style }
    }

    /// Whether JSON was asked for.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// How text for people is styled.
    pub fn style(self) -> Style {
        self.style
    }

    /// A line for people.
    pub fn line(self, text: impl AsRef<str>) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.as_ref()).context("standard output")
    }

    /// Lines for people.
    pub fn lines<S: AsRef<str>>(self, lines: impl IntoIterator<Item = S>) -> anyhow::Result<()> {
        lines.into_iter().try_for_each(|line| self.line(line))
    }

    /// Bytes as they are, and a line feed.
    pub fn bytes(self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(bytes)
            .and_then(|()| stdout.write_all(b"\n"));
        written.context("standard output")
    }

    /// A value on one line of JSON.
    pub fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        self.bytes(&serde_json::to_vec(value).context("JSON")?)
    }
}

/// A remark for people that is no result.
pub fn note(text: impl AsRef<str>) {
    // Where nobody reads standard error, nobody misses it.
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// ANSI styles, or none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    color: bool,
}

impl Style {
    /// None.
    #[cfg(test)]
    pub fn plain() -> Style {
        Style { color: false }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self.color && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// What matters.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What is beside it.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// What is well.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What is not.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// Names.
    pub fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
}
