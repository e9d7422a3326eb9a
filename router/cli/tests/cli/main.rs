//! The binary from outside: what it prints, where, and with which exit code.
//!
//! Each test runs the built `waypost` with an environment of its own, so that neither a node nor a
//! variable of the developer's is found.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

#[cfg(feature = "node")]
mod plugin_tools;
mod pushing;
#[path = "../../../../tests/e2e/tests/e2e/registry.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod registry;
#[cfg(feature = "node")]
mod shelf;
mod signing;
#[cfg(feature = "node")]
mod trials;
#[cfg(feature = "node")]
mod with_a_node;

/// A home of its own for client files, and commands that see nothing else.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(TempDir::new().expect("a temporary directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("waypost runs")
    }

    /// Runs what must succeed; gives its standard output.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        text(&output.stdout)
    }

    /// Runs what must fail with this code; gives its standard error.
    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        text(&output.stderr)
    }
}

/// A file of the repository, from its root.
#[cfg(feature = "node")]
fn component(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(path).display().to_string()
}

/// A test guest's component.
#[cfg(feature = "node")]
fn fixture(name: &str) -> String {
    component(&format!("tests/fixtures/plugins/{name}.wasm"))
}

/// What a command with `--json` says, a document a line.
#[cfg(feature = "node")]
fn json_lines(text: &str) -> Vec<serde_json::Value> {
    let parse = |line: &str| serde_json::from_str(line).expect(line);
    text.lines().map(parse).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const CLIENT_COMMANDS: &[&[&str]] = &[
    &[],
    &["pub"],
    &["sub"],
    &["tap"],
    &["consume"],
    &["queue"],
    &["queue", "add"],
    &["queue", "ls"],
    &["queue", "info"],
    &["queue", "peek"],
    &["queue", "browse"],
    &["queue", "rm-messages"],
    &["queue", "replay"],
    &["queue", "set"],
    &["queue", "seek"],
    &["queue", "group"],
    &["queue", "group", "ls"],
    &["queue", "group", "add"],
    &["queue", "group", "rm"],
    &["queue", "purge"],
    &["queue", "rm"],
    &["dead"],
    &["dead", "ls"],
    &["dead", "show"],
    &["dead", "retry"],
    &["dead", "edit"],
    &["dead", "purge"],
    &["backup"],
    &["plugin"],
    &["plugin", "ls"],
    &["plugin", "show"],
    &["plugin", "push"],
    &["plugin", "pull"],
    &["plugin", "keygen"],
    &["plugin", "sign"],
    &["plugin", "deploy"],
    &["plugin", "rollback"],
    &["plugin", "diff"],
    &["plugin", "promote"],
    &["plugin", "discard"],
    &["plugin", "pause"],
    &["plugin", "resume"],
    &["plugin", "rm"],
    &["plugin", "logs"],
    &["route"],
    &["route", "add"],
    &["route", "ls"],
    &["route", "rm"],
    &["node"],
    &["node", "info"],
    &["completions"],
];

#[test]
fn every_command_has_help_with_an_example() {
    let home = Home::new();
    for command in CLIENT_COMMANDS {
        let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let help = home.ok(&args);
        assert!(help.contains("Usage: waypost"), "{command:?}: {help}");
        assert!(help.contains("Example"), "{command:?}: {help}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_exit_code_2() {
    let home = Home::new();
    for (args, expected) in [
        (&["frobnicate"][..], "unrecognized subcommand"),
        (&["pub", "a/+", "x"], "wildcard '+'"),
        (&["pub", "a", "x"], "start `waypost dev`"),
        (
            &["pub", "a", "x", "--node", "nowhere"],
            "expected HOST:PORT",
        ),
        (&["pub", "a", "x", "--node", "h:1"], "--node needs --ca"),
        (&["pub", "a", "x", "--lines"], "cannot be used with"),
        (&["sub", "a", "--log", "=x="], "--log"),
        (&["pub", "a", "x", "--dry-run"], "--explain"),
        (&["tap"], "required"),
        (&["tap", "a/b", "--sample", "10%"], "such as 0.01"),
        (&["completions", "bash", "--json"], "no --json"),
        (&["queue", "rm-messages", "q"], "say --all"),
        (
            &["queue", "rm-messages", "q", "--all", "--key", "k"],
            "--all",
        ),
        (&["queue", "set", "q"], "which setting"),
        (&["dead", "purge"], "--all"),
        (&["dead", "retry"], "--all"),
    ] {
        let error = home.fails(args, 2);
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}

#[test]
fn a_node_that_is_not_there_is_exit_code_1() {
    let home = Home::new();
    let error = home.fails(
        &[
            "node",
            "info",
            "--node",
            "127.0.0.1:9",
            "--ca",
            "/nowhere/ca.pem",
            "--token",
            "t",
        ],
        1,
    );
    assert!(error.contains("/nowhere/ca.pem"), "{error}");
}

#[test]
fn completions_know_the_commands() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.ok(&["completions", shell]);
        assert!(script.contains("consume"), "{shell}");
    }
}
