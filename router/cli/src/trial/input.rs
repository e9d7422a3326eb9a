//! Messages from a file: the lines of `pub --json-lines`, as `consume --json` and `sub --json`
//! write them.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use waypost_client::{Message, RecordRef};

use crate::failure::usage;
use crate::messages::{self, Recorded};

/// When a message came that does not say so: 2026-01-01T00:00:00Z, and 1 ms later for each line, so
/// that two runs see the same times.
pub const START_MS: u64 = 1_767_225_600_000;

/// A message to try a plugin on.
#[derive(Debug)]
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

/// Reads the messages of a file; `-` is standard input. Empty lines count, but say nothing.
pub fn read(file: &Path) -> anyhow::Result<Vec<Input>> {
    let lines: Box<dyn BufRead> = match file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => {
            let opened = File::open(file).with_context(|| file.display().to_string())?;
            Box::new(BufReader::new(opened))
        }
    };
    let mut inputs = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        let line = line.with_context(|| format!("{}:{}", file.display(), index + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        let input = parse(&line, index + 1)
            .map_err(|error| usage(format!("{}:{}: {error}", file.display(), index + 1)))?;
        inputs.push(input);
    }
    if inputs.is_empty() {
        return Err(usage(format!("{}: no message in it", file.display())));
    }
    Ok(inputs)
}

/// Messages that a program made, as lines.
pub fn from_lines(lines: &[String]) -> anyhow::Result<Vec<Input>> {
    let parse = |(index, line): (usize, &String)| parse(line, index + 1).map_err(usage);
    lines.iter().enumerate().map(parse).collect()
}

fn parse(text: &str, line: usize) -> Result<Input, String> {
    let Recorded {
        message,
        receive_time_ms,
        redelivered,
    } = messages::recorded(text, &Message::default())?;
    waypost_wire::topic::parse_topic(message.topic.as_bytes())
        .map_err(|error| format!("\"topic\": {error}"))?;
    let body = message.to_body();
    RecordRef::parse(&body).map_err(|error| error.to_string())?;
    Ok(Input {
        line,
        message,
        body,
        receive_time_ms: receive_time_ms.unwrap_or(START_MS + line as u64 - 1),
        redelivered,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_consume_writes_is_read_with_its_time_and_its_attempt() {
        let line = r#"{"queue":"q","offset":3,"attempt":2,"receive_time_ms":7,"topic":"a/b","payload":{"x":1}}"#;
        let input = parse(line, 1).unwrap();
        assert_eq!((input.receive_time_ms, input.redelivered), (7, true));
        assert_eq!(&input.message.payload[..], br#"{"x":1}"#);
        let input = parse(r#"{"topic":"a"}"#, 3).unwrap();
        assert_eq!(
            (input.receive_time_ms, input.redelivered),
            (START_MS + 2, false)
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
            let error = parse(line, 1).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
