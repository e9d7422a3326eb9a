//! Whether the tools of a build are on this machine. Looked at before anything runs, so that a
//! missing compiler is one sentence and not the last of a hundred lines.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::manifest::Need;

/// What is missing, each with how it is had.
pub fn missing(needs: &[Need]) -> Vec<String> {
    needs.iter().filter_map(complaint).collect()
}

fn complaint(need: &Need) -> Option<String> {
    let Need {
        command, install, ..
    } = need;
    let Some(path) = find(command) else {
        return Some(format!("{command} is not on this machine: {install}"));
    };
    if let Some(minimum) = &need.minimum {
        let said = said(&need.version);
        let Some(found) = said.as_deref().and_then(version_in) else {
            return Some(format!(
                "{} does not say its version with `{}`: {install}",
                path.display(),
                need.version.join(" ")
            ));
        };
        if numbers(&found) < numbers(minimum) {
            return Some(format!(
                "{command} is {found}, needed is {minimum} or newer: {install}"
            ));
        }
    }
    if !need.probe.is_empty() && !succeeds(&need.probe) {
        return Some(format!(
            "{command} cannot do what is needed (`{}` fails): {install}",
            need.probe.join(" ")
        ));
    }
    None
}

/// A command on PATH.
fn find(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(command))
        .find(|file| is_executable(file))
}

fn is_executable(file: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// What a command prints; some print their version to standard error.
fn said(command: &[String]) -> Option<String> {
    let (program, args) = command.split_first()?;
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    let output = output.ok().filter(|output| output.status.success())?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn succeeds(command: &[String]) -> bool {
    said(command).is_some()
}

/// The first version in a text: `go version go1.26.8 linux/amd64` has 1.26.8.
fn version_in(text: &str) -> Option<String> {
    let word = |word: &str| -> Option<String> {
        let start = word.find(|c: char| c.is_ascii_digit())?;
        let version: String = word[start..]
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        let version = version.trim_end_matches('.');
        version.contains('.').then(|| version.to_owned())
    };
    text.split_whitespace().find_map(word)
}

/// A version as numbers, which compare as versions do.
pub fn numbers(version: &str) -> Option<Vec<u64>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_compared() {
        for (text, version) in [
            ("go version go1.26.8 linux/amd64", "1.26.8"),
            ("rustc 1.95.0 (59807616e 2026-04-14)", "1.95.0"),
            ("v20.20.2\n", "20.20.2"),
            ("Python 3.11.7", "3.11.7"),
            ("Debian clang version 14.0.6.", "14.0.6"),
        ] {
            assert_eq!(version_in(text).as_deref(), Some(version), "{text}");
        }
        assert_eq!(version_in("unknown, 2026"), None);
        assert!(numbers("1.9") < numbers("1.24"));
        assert!(numbers("1.24") < numbers("1.24.1"));
        assert_eq!(numbers("1.x"), None);
    }

    fn need(text: &str) -> Option<String> {
        complaint(&toml::from_str(text).unwrap())
    }

    #[test]
    fn what_is_missing_says_how_it_is_had() {
        let ok = "command = 'sh'\ninstall = 'x'";
        assert_eq!(need(ok), None);
        let complaint = need("command = 'no-such-tool'\ninstall = 'apt-get install it'");
        let complaint = complaint.expect("missing");
        assert!(complaint.contains("no-such-tool is not on this machine: apt-get install it"));
        let old = format!("{ok}\nversion = ['echo', 'sh 1.2.3']\nminimum = '1.3'");
        let complaint = need(&old).expect("too old");
        assert!(complaint.contains("sh is 1.2.3, needed is 1.3 or newer: x"));
        let mute = format!("{ok}\nversion = ['true']\nminimum = '1.3'");
        assert!(
            need(&mute)
                .expect("mute")
                .contains("does not say its version")
        );
        let probe = format!("{ok}\nprobe = ['sh', '-c', 'exit 3']");
        assert!(
            need(&probe)
                .expect("fails")
                .contains("`sh -c exit 3` fails")
        );
        let probe = format!("{ok}\nprobe = ['true']");
        assert_eq!(need(&probe), None);
    }
}
