//! Messages from a file: the lines of `pub --json-lines`, as `consume --json` and `sub --json`
//! write them.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use serde::Deserialize;
use waypost_client::{Message, RecordRef};

use crate::failure::usage;
use crate::messages::{self, Recorded};

/// When a message came that does not say so: 2026-01-01T00:00:00Z, and 1 ms later for each line, so
/// that two runs see the same times.
pub const START_MS: u64 = 1_767_225_600_000;

/// A message to try a plugin on.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its line in the file, from 1.
    pub line: usize,
    /// The message.
    pub message: Message,
    /// Its record, which parses.
    pub body: Bytes,
    /// When a node received it, in ms since 1970.
    pub receive_time_ms: u64,
    /// It was delivered before.
    pub redelivered: bool,
}

/// The messages of a file.
#[derive(Debug)]
pub struct Inputs {
    /// In order.
    pub messages: Vec<Input>,
    /// The time after the last line, in ms since 1970.
    pub end_ms: u64,
}

/// A line that is no message: so much time passes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    wait_ms: u64,
}

/// Reads the messages of a file; `-` is standard input. Empty lines count, but say nothing; a line
/// `{"wait_ms":60000}` lets time pass for the lines after it that do not say when they came.
pub fn read(file: &Path) -> anyhow::Result<Inputs> {
    let lines: Box<dyn BufRead> = match file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => {
            let opened = File::open(file).with_context(|| file.display().to_string())?;
            Box::new(BufReader::new(opened))
        }
    };
    let mut inputs: Vec<Input> = Vec::new();
    let (mut waited_ms, mut end_ms) = (0_u64, 0_u64);
    for (index, line) in lines.lines().enumerate() {
        let line = line.with_context(|| format!("{}:{}", file.display(), index + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        if let Ok(Wait { wait_ms }) = serde_json::from_str(&line) {
            // Far longer than anybody's window, and no time overflows.
            let wait_ms = wait_ms.min(WAIT_MS_MAX);
            waited_ms = (waited_ms + wait_ms).min(WAIT_MS_MAX);
            end_ms = end_ms.saturating_add(wait_ms);
            continue;
        }
        let input = parse(&line, index + 1, waited_ms)
            .map_err(|error| usage(format!("{}:{}: {error}", file.display(), index + 1)))?;
        end_ms = end_ms.max(input.receive_time_ms);
        inputs.push(input);
    }
    if inputs.is_empty() {
        return Err(usage(format!("{}: no message in it", file.display())));
    }
    Ok(Inputs {
        messages: inputs,
        end_ms,
    })
}

/// The longest that lines let pass: 100 years.
const WAIT_MS_MAX: u64 = 100 * 366 * 86_400_000;

/// Messages that a program made, as lines.
pub fn from_lines(lines: &[String]) -> anyhow::Result<Vec<Input>> {
    let parse = |(index, line): (usize, &String)| parse(line, index + 1, 0).map_err(usage);
    lines.iter().enumerate().map(parse).collect()
}

fn parse(text: &str, line: usize, waited_ms: u64) -> Result<Input, String> {
    let Recorded {
        message,
        receive_time_ms,
        redelivered,
    } = messages::recorded(text, &Message::default())?;
    waypost_wire::topic::parse_topic(message.topic.as_bytes())
        .map_err(|error| format!("\"topic\": {error}"))?;
    from_message(
        message,
        line,
        redelivered,
        receive_time_ms.unwrap_or(START_MS + waited_ms + line as u64 - 1),
    )
}

/// A message as a plugin gets it.
pub fn from_message(
    message: Message,
    line: usize,
    redelivered: bool,
    receive_time_ms: u64,
) -> Result<Input, String> {
    let body = message.to_body();
    RecordRef::parse(&body).map_err(|error| error.to_string())?;
    Ok(Input {
        line,
        message,
        body,
        receive_time_ms,
        redelivered,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_consume_writes_is_read_with_its_time_and_its_attempt() {
        let line = r#"{"queue":"q","offset":3,"attempt":2,"receive_time_ms":7,"topic":"a/b","payload":{"x":1}}"#;
        let input = parse(line, 1, 0).unwrap();
        assert_eq!((input.receive_time_ms, input.redelivered), (7, true));
        assert_eq!(&input.message.payload[..], br#"{"x":1}"#);
        let input = parse(r#"{"topic":"a"}"#, 3, 0).unwrap();
        assert_eq!(
            (input.receive_time_ms, input.redelivered),
            (START_MS + 2, false)
        );
    }

    #[test]
    fn time_passes_where_a_line_says_so() {
        let home = tempfile::TempDir::new().unwrap();
        let file = home.path().join("in.jsonl");
        let text = "{\"topic\":\"a\"}\n{\"wait_ms\":1000}\n{\"topic\":\"a\"}\n\
                    {\"topic\":\"a\",\"receive_time_ms\":5}\n{\"wait_ms\":18446744073709551615}\n";
        std::fs::write(&file, text).unwrap();
        let inputs = read(&file).unwrap();
        let times: Vec<u64> = inputs.messages.iter().map(|i| i.receive_time_ms).collect();
        assert_eq!(times, [START_MS, START_MS + 1002, 5]);
        assert_eq!(inputs.end_ms, START_MS + 1002 + WAIT_MS_MAX);
        std::fs::write(&file, "{\"wait_ms\":1,\"topic\":\"a\"}\n").unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(
            error.contains("in.jsonl:1: unknown field `wait_ms`"),
            "{error}"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (line, expected) in [
            ("{}", "no \"topic\""),
            (r#"{"topic":"a/+"}"#, "wildcard"),
            (r#"{"topic":"a","ttl":5}"#, "unknown field `ttl`"),
            (r#"{"topic":"a","attempt":"x"}"#, "invalid type"),
        ] {
            let error = parse(line, 1, 0).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
