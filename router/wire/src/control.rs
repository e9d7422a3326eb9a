//! Control frames: protobuf messages, so that clients in other languages need no hand-written
//! reader for them. `proto/waypost.proto` is the normative text; the types here carry the same
//! names and numbers, and a test compares the two.

use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::error::{Code, WireError};
use crate::frame::{self, Frame, FrameType};

mod explain;
mod manage;
mod plugins;
mod settings;
mod shadow;
mod streams;
mod tap;
pub use explain::*;
pub use manage::*;
pub use plugins::*;
pub use settings::*;
pub use shadow::*;
pub use streams::*;
pub use tap::*;

/// Appends a control frame.
pub fn put(out: &mut BytesMut, kind: FrameType, message: &impl Message) {
    frame::put_head(out, kind, message.encoded_len());
    if message.encode(out).is_err() {
        unreachable!("a BytesMut grows as needed");
    }
}

/// The bytes of a control frame.
pub fn bytes_of(kind: FrameType, message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(message.encoded_len() + 8);
    put(&mut out, kind, message);
    out.freeze()
}

/// Bytes of a control frame's payload.
pub fn length_of(message: &impl Message) -> usize {
    message.encoded_len()
}

/// Reads a control frame's payload.
pub fn parse<M: Message + Default>(frame: &Frame) -> Result<M, WireError> {
    M::decode(frame.payload.clone()).map_err(|error| frame.malformed(error.to_string()))
}

impl Error {
    /// The frame for a code and what a person needs to know.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error {
            code: code as u32,
            message: message.into(),
            retryable: code.is_retryable(),
        }
    }

    /// The code as a type.
    pub fn kind(&self) -> Code {
        Code::from_number(u64::from(self.code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes: they stand in docs/protocol.md too.
    #[test]
    fn golden_hello() {
        let hello = Hello {
            versions: vec![1],
            client: "x".into(),
            token: "t".into(),
            frame_bytes_max: 0,
        };
        let bytes = bytes_of(FrameType::Hello, &hello);
        assert_eq!(&bytes[..], b"\x01\x09\x0a\x01\x01\x12\x01x\x1a\x01t");
        let frame = crate::data::frame_of(&bytes).unwrap();
        assert_eq!(parse::<Hello>(&frame).unwrap(), hello);
    }

    #[test]
    fn bad_payload_is_a_precise_error() {
        let frame = Frame {
            kind: FrameType::Hello,
            offset: 9,
            payload: Bytes::from_static(&[0x0a, 5]),
        };
        let error = parse::<Hello>(&frame).unwrap_err().to_string();
        assert!(
            error.starts_with("HELLO frame at stream offset 9: "),
            "{error}"
        );
    }

    /// Every field of the normative text has its number here, and the other way round.
    #[test]
    fn the_proto_file_says_the_same() {
        let proto = fields_of_proto(include_str!("../proto/waypost.proto"));
        let mut rust: Vec<_> = [
            include_str!("control/streams.rs"),
            include_str!("control/settings.rs"),
            include_str!("control/manage.rs"),
            include_str!("control/plugins.rs"),
            include_str!("control/explain.rs"),
            include_str!("control/tap.rs"),
            include_str!("control/shadow.rs"),
        ]
        .into_iter()
        .flat_map(fields_of_rust)
        .collect();
        rust.sort();
        assert_eq!(proto, rust);
        assert!(
            proto.len() > 90,
            "the reader of this test found only {}",
            proto.len()
        );
    }

    fn fields_of_proto(text: &str) -> Vec<(String, String, u32)> {
        let mut found = Vec::new();
        let mut message = String::new();
        let text: String = text
            .lines()
            .map(|l| l.split("//").next().unwrap_or(""))
            .fold(String::new(), |all, line| all + line + "\n");
        for statement in text.split_inclusive(['{', '}', ';']) {
            let words: Vec<&str> = statement.split_whitespace().collect();
            match words.as_slice() {
                ["message", name, ..] => message = (*name).to_owned(),
                ["enum", ..] => message.clear(),
                [.., name, "=", number] if !message.is_empty() => {
                    if let Ok(number) = number.trim_end_matches(';').parse() {
                        found.push((message.clone(), (*name).to_owned(), number));
                    }
                }
                _ => {}
            }
        }
        found.sort();
        found
    }

    fn fields_of_rust(text: &str) -> Vec<(String, String, u32)> {
        let mut found = Vec::new();
        let (mut message, mut tag) = (String::new(), None);
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line
                .strip_prefix("pub struct ")
                .or(line.strip_prefix("pub enum "))
            {
                message = rest.split([' ', '{']).next().unwrap_or("").to_owned();
                message = message
                    .replace("ManageRequest", "Manage")
                    .replace("ManagedResponse", "Managed");
            }
            if line.starts_with("#[prost(") && !line.contains("oneof") {
                let number = line
                    .split("tag = \"")
                    .nth(1)
                    .and_then(|t| t.split('"').next());
                tag = number.and_then(|n| n.parse().ok());
            } else if let Some(number) = tag.take() {
                let name = line
                    .trim_start_matches("pub ")
                    .split([':', '('])
                    .next()
                    .unwrap_or("");
                let mut snake = String::new();
                for (i, c) in name.char_indices() {
                    if c.is_uppercase() && i > 0 {
                        snake.push('_');
                    }
                    snake.push(c.to_ascii_lowercase());
                }
                found.push((message.clone(), snake, number));
            }
        }
        found.sort();
        found
    }
}
