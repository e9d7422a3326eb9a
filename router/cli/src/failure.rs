//! How a command fails: its exit code and what standard error shows.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// The exit code of a command that could not do its work.
pub const FAILED: u8 = 1;
/// The exit code of a wrong command line or configuration; nothing was done.
pub const USAGE: u8 = 2;

/// A mistake in what the user wrote, on the command line or in a configuration.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The result has been shown already, and it is a failure.
#[derive(Debug)]
pub struct Shown(pub u8);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Shown {}

/// An error for a mistake of the user's.
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// Shows an error and gives its exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(Shown(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    // `waypost sub '#' | head` ends when head has enough: that is no failure.
    let is_broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    let code = match error.downcast_ref::<Usage>() {
        Some(_) => USAGE,
        None => FAILED,
    };
    // Nobody can be told that nobody can be told.
    let _ = writeln!(io::stderr(), "error: {}", text(error));
    ExitCode::from(code)
}

/// An error with its causes, but those that the one before has said already.
fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        let cause = || io::Error::from_raw_os_error(2);
        let said = cause().to_string();
        let twice = anyhow::Error::from(cause()).context(format!("cannot list x: {said}"));
        assert_eq!(text(&twice), format!("cannot list x: {said}"));
        let once = anyhow::Error::from(cause()).context("cannot list x");
        assert_eq!(text(&once), format!("cannot list x: {said}"));
    }

    #[test]
    fn exit_codes() {
        let code = |error: anyhow::Error| format!("{:?}", report(&error));
        let of = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(anyhow::anyhow!("no")), of(1));
        assert_eq!(code(usage("no").context("at the end")), of(2));
        assert_eq!(code(Shown(1).into()), of(1));
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(code(anyhow::Error::from(broken).context("writing")), of(0));
    }
}
