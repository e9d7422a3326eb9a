//! Makes JSON of CBOR and MessagePack, and the other way. The settings are described in
//! `settings.json`; what becomes of what one format has and another has not, in `docs/shelf.md`.

pub mod cbor;
pub mod json;
pub mod msgpack;
pub mod node;

use node::{Bytes, Node};
use shelf_kit::{Fate, Settings};
use waypost_plugin::{Config, Edit, InitError, Interest, Message, Outcome, Plugin, Transform};

struct Convert {
    /// By the message's content type where there is none.
    from: Option<Format>,
    to: Format,
    bytes: Bytes,
    on_invalid: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Cbor,
    MessagePack,
}

impl Format {
    const WORDS: [(&'static str, Format); 3] = [
        ("json", Format::Json),
        ("cbor", Format::Cbor),
        ("msgpack", Format::MessagePack),
    ];

    fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Cbor => "application/cbor",
            Format::MessagePack => "application/vnd.msgpack",
        }
    }

    /// `application/json; charset=utf-8`, `application/senml+cbor`, …
    fn of_content_type(text: &str) -> Option<Format> {
        let kind = text.split(';').next()?.trim().to_ascii_lowercase();
        let ends = |suffix: &str| kind.ends_with(suffix);
        match kind.as_str() {
            "application/json" | "text/json" => Some(Format::Json),
            "application/cbor" => Some(Format::Cbor),
            "application/msgpack" | "application/vnd.msgpack" | "application/x-msgpack" => {
                Some(Format::MessagePack)
            }
            _ if ends("+json") => Some(Format::Json),
            _ if ends("+cbor") => Some(Format::Cbor),
            _ if ends("+msgpack") => Some(Format::MessagePack),
            _ => None,
        }
    }

    fn read(self, payload: &[u8]) -> Result<Node, String> {
        match self {
            Format::Json => json::read(payload),
            Format::Cbor => cbor::read(payload),
            Format::MessagePack => msgpack::read(payload),
        }
    }
}

impl Plugin for Convert {
    fn init(config: &Config) -> Result<(Convert, Interest), InitError> {
        let settings = Settings::new(config);
        let expected = "json, cbor or msgpack";
        settings.required("to", expected)?;
        let [json, cbor, msgpack] = Format::WORDS.map(|(word, format)| (word, Some(format)));
        let convert = Convert {
            from: settings.choice("from", &[("content-type", None), json, cbor, msgpack])?,
            to: settings.choice("to", &Format::WORDS)?,
            bytes: settings.choice("bytes", &Bytes::WORDS)?,
            on_invalid: Fate::or_pass(&settings, "on-invalid", Fate::DeadLetter)?,
        };
        settings.finish()?;
        if convert.from == Some(convert.to) {
            let text = "is what 'to' is, expected another format";
            return Err(InitError::of("from", text));
        }
        let interest = Interest::nothing().payload();
        let interest = match convert.from {
            Some(_) => interest,
            None => interest.field("content-type"),
        };
        Ok((convert, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

impl Convert {
    /// The payload in the other format; `None` where it is in it already.
    fn payload(&self, message: &Message<'_>) -> Result<Option<Vec<u8>>, String> {
        let from = match (self.from, message.content_type()) {
            (Some(from), _) => from,
            (None, Some(text)) => Format::of_content_type(text).ok_or_else(|| {
                format!("the content type {text} is none of JSON, CBOR and MessagePack")
            })?,
            (None, None) => {
                return Err("the message has no content type that says what it is".into());
            }
        };
        if from == self.to {
            return Ok(None);
        }
        let node = from.read(message.payload())?;
        let payload = match self.to {
            Format::Json => json::write(&node, self.bytes)?,
            Format::Cbor => cbor::write(&node),
            Format::MessagePack => msgpack::write(&node)?,
        };
        Ok(Some(payload))
    }
}

impl Transform for Convert {
    fn transform(&mut self, message: &Message<'_>) -> Outcome {
        match self.payload(message) {
            Ok(None) => Outcome::Pass,
            Ok(Some(payload)) => Outcome::Edit(
                Edit::new()
                    .payload(payload)
                    .content_type(self.to.content_type()),
            ),
            Err(reason) => self.on_invalid.outcome(reason),
        }
    }
}

waypost_plugin::export!(Convert: transform, schema);

#[cfg(test)]
mod tests;
