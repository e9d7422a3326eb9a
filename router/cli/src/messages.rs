//! Messages as lines: for people, and as the JSON that `sub`, `consume` and `peek` write and that
//! `pub --json-lines` reads.
//!
//! ```json
//! {"topic":"a/b","key":"k","headers":{"h":"v"},"payload":"text"}
//! ```
//!
//! Bytes that are not UTF-8 stand in `payload_base64` and `key_base64`, and as `{"base64":"…"}` in
//! headers. A header that stands more than once has a list of values. What a node adds (`offset`,
//! `attempt`, …) is written and, when read, ignored, so that the output of one command is the
//! input of another.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use waypost_client::{Message, RecordRef};

use crate::output::Style;

/// How much of a payload is shown to people, in characters.
const PREVIEW_CHARS: usize = 400;

/// A record as JSON, with what the node said of it.
pub fn to_json(record: &RecordRef<'_>, about: &[(&str, Value)]) -> Value {
    let mut object = Map::new();
    for (name, value) in about {
        object.insert((*name).to_owned(), value.clone());
    }
    object.insert("topic".into(), record.topic().into());
    let text = put_bytes;
    if let Some(key) = record.key() {
        text(&mut object, "key", key);
    }
    if let Some(id) = record.message_id() {
        text(&mut object, "id", id);
    }
    if let Some(content_type) = record.content_type() {
        object.insert("content_type".into(), content_type.into());
    }
    if let Some(reply_to) = record.reply_to() {
        object.insert("reply_to".into(), reply_to.into());
    }
    if let Some(ms) = record.time_to_live_ms() {
        object.insert("ttl_ms".into(), ms.into());
    }
    if let Some(ms) = record.not_before_ms() {
        object.insert("delay_ms".into(), ms.into());
    }
    let priority = waypost_wire::peek::priority(record.body());
    if priority > 0 {
        object.insert("priority".into(), priority.into());
    }
    if record.header_count() > 0 {
        object.insert("headers".into(), headers_to_json(record));
    }
    text(&mut object, "payload", record.payload());
    Value::Object(object)
}

/// Bytes under a name: as text where they are, else in base64 with that in the name.
pub fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match text_of(bytes) {
        Some(text) => object.insert(name.into(), text.into()),
        None => object.insert(format!("{name}_base64"), BASE64.encode(bytes).into()),
    };
}

fn headers_to_json(record: &RecordRef<'_>) -> Value {
    let mut headers = Map::new();
    for (name, bytes) in record.headers() {
        let value = match text_of(bytes) {
            Some(text) => Value::from(text),
            None => json!({"base64": BASE64.encode(bytes)}),
        };
        match headers.get_mut(name) {
            None => {
                headers.insert(name.to_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    Value::Object(headers)
}

fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A record on one line for people: `about` stands first, control characters are escaped.
pub fn to_line(record: &RecordRef<'_>, about: &str, style: Style) -> String {
    let mut line = to_head(record, about, style);
    for (name, value) in record.headers() {
        line.push_str(&style.dim(&format!("  {}={}", printable(name), preview(value))));
    }
    line.push_str("  ");
    line.push_str(&preview(record.payload()));
    line
}

/// As [`to_line`], without headers and payload.
pub fn to_head(record: &RecordRef<'_>, about: &str, style: Style) -> String {
    let mut line = String::new();
    if !about.is_empty() {
        line.push_str(&style.dim(about));
        line.push_str("  ");
    }
    line.push_str(&style.cyan(&printable(record.topic())));
    if let Some(key) = record.key() {
        line.push_str(&style.dim(&format!("  key={}", preview(key))));
    }
    if let Some(id) = record.message_id() {
        line.push_str(&style.dim(&format!("  id={}", preview(id))));
    }
    line
}

/// Bytes for people: text with control characters escaped, or their number and beginning in hex.
pub fn preview(bytes: &[u8]) -> String {
    match text_of(bytes) {
        Some(text) if text.chars().nth(PREVIEW_CHARS).is_none() => printable(text),
        Some(text) => {
            let start: String = text.chars().take(PREVIEW_CHARS).collect();
            format!("{}… ({} bytes)", printable(&start), bytes.len())
        }
        None => {
            let hex: String = bytes.iter().take(16).map(|b| format!("{b:02x}")).collect();
            let more = if bytes.len() > 16 { "…" } else { "" };
            format!("<{} bytes: {hex}{more}>", bytes.len())
        }
    }
}

/// A whole payload for people: its lines are kept, other control characters escaped.
pub fn whole(bytes: &[u8]) -> String {
    match text_of(bytes) {
        Some(text) => text
            .split('\n')
            .map(printable)
            .collect::<Vec<_>>()
            .join("\n"),
        None => format!("<{} bytes that are no text: see --json>", bytes.len()),
    }
}

/// What is published must not move a reader's cursor.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out
}

/// A message as a line of `pub --json-lines`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    topic: Option<String>,
    key: Option<String>,
    key_base64: Option<String>,
    id: Option<String>,
    id_base64: Option<String>,
    content_type: Option<String>,
    reply_to: Option<String>,
    ttl_ms: Option<u64>,
    delay_ms: Option<u64>,
    priority: Option<u8>,
    #[serde(default)]
    headers: Map<String, Value>,
    payload: Option<Value>,
    payload_base64: Option<String>,
    // Written by the router's own commands; said of a delivery, not of the message.
    #[serde(rename = "queue")]
    _queue: Option<Value>,
    #[serde(rename = "group")]
    _group: Option<Value>,
    #[serde(rename = "offset")]
    _offset: Option<Value>,
    attempt: Option<u64>,
    receive_time_ms: Option<u64>,
}

/// A message as it was recorded: with what a node said of its delivery, where it did.
#[derive(Debug)]
pub struct Recorded {
    /// The message.
    pub message: Message,
    /// When a node received it.
    #[cfg_attr(
        not(feature = "node"),
        expect(dead_code, reason = "trials are the node's")
    )]
    pub receive_time_ms: Option<u64>,
    /// It was delivered before.
    #[cfg_attr(
        not(feature = "node"),
        expect(dead_code, reason = "trials are the node's")
    )]
    pub redelivered: bool,
}

/// Reads a line of `pub --json-lines`; what it does not name comes from `defaults`.
pub fn from_json_line(line: &str, defaults: &Message) -> Result<Message, String> {
    recorded(line, defaults).map(|recorded| recorded.message)
}

/// As [`from_json_line`], with what was said of the delivery.
pub fn recorded(line: &str, defaults: &Message) -> Result<Recorded, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let (receive_time_ms, attempt) = (line.receive_time_ms, line.attempt);
    Ok(Recorded {
        message: message(line, defaults)?,
        receive_time_ms,
        redelivered: attempt.is_some_and(|attempt| attempt > 1),
    })
}

fn message(line: Line, defaults: &Message) -> Result<Message, String> {
    let mut message = defaults.clone();
    if let Some(topic) = line.topic {
        message.topic = topic;
    }
    if message.topic.is_empty() {
        return Err("has no \"topic\", and the command line names none".into());
    }
    if let Some(key) = bytes("key", line.key.map(Value::from), line.key_base64)? {
        message.key = Some(key);
    }
    if let Some(id) = bytes("id", line.id.map(Value::from), line.id_base64)? {
        message.message_id = Some(id);
    }
    message.content_type = line.content_type.or(message.content_type);
    message.reply_to = line.reply_to.or(message.reply_to);
    message.time_to_live_ms = line.ttl_ms.or(message.time_to_live_ms);
    message.not_before_ms = line.delay_ms.or(message.not_before_ms);
    message.priority = line.priority.or(message.priority);
    if let Some(above) = message.priority.filter(|level| *level > 7) {
        return Err(format!("\"priority\" is {above}, expected 0 to 7"));
    }
    for (name, value) in line.headers {
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            message.headers.push((name.clone(), header(&name, value)?));
        }
    }
    if let Some(payload) = bytes("payload", line.payload, line.payload_base64)? {
        message.payload = payload;
    }
    Ok(message)
}

fn header(name: &str, value: Value) -> Result<Bytes, String> {
    match value {
        Value::String(text) => Ok(text.into()),
        Value::Number(number) => Ok(number.to_string().into()),
        Value::Object(object) if object.len() == 1 && object.contains_key("base64") => {
            let text = object["base64"].as_str().unwrap_or_default();
            decode(&format!("headers.{name}"), text)
        }
        other => Err(format!(
            "\"headers\".{name:?}: found {other}, expected text, a number or {{\"base64\":\"…\"}}"
        )),
    }
}

/// Text is taken as it is; any other JSON value is written as JSON.
fn bytes(
    name: &str,
    value: Option<Value>,
    base64: Option<String>,
) -> Result<Option<Bytes>, String> {
    match (value, base64) {
        (Some(_), Some(_)) => Err(format!("has both \"{name}\" and \"{name}_base64\"")),
        (None, Some(text)) => decode(&format!("{name}_base64"), &text).map(Some),
        (Some(Value::String(text)), None) => Ok(Some(text.into())),
        (Some(value), None) => Ok(Some(value.to_string().into())),
        (None, None) => Ok(None),
    }
}

fn decode(name: &str, text: &str) -> Result<Bytes, String> {
    let decoded = BASE64.decode(text);
    decoded
        .map(Bytes::from)
        .map_err(|error| format!("\"{name}\": {error}"))
}

/// A receive time for people: how long ago.
pub fn age(receive_time_ms: u64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let age = now.saturating_sub(Duration::from_millis(receive_time_ms));
    format!("{} ago", crate::units::duration(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut message = Message::new("a/b", vec![0xff, 0]);
        message.key = Some("k".into());
        message.message_id = Some("7".into());
        message.content_type = Some("text/plain".into());
        message.time_to_live_ms = Some(5);
        message.headers = vec![
            ("one".into(), "1".into()),
            ("two".into(), "2".into()),
            ("two".into(), Bytes::from_static(&[0xfe])),
        ];
        let body = message.to_body();
        let record = RecordRef::parse(&body).unwrap();
        let about = [("queue", json!("q")), ("offset", json!(3))];
        let line = to_json(&record, &about).to_string();
        let read = from_json_line(&line, &Message::default()).unwrap();
        assert_eq!(read, message, "{line}");
    }

    #[test]
    fn defaults_fill_what_a_line_leaves_open() {
        let defaults = Message::new("t", "").with_content_type("application/json");
        let message = from_json_line(r#"{"payload":{"a":1}}"#, &defaults).unwrap();
        assert_eq!(message.topic, "t");
        assert_eq!(&message.payload[..], br#"{"a":1}"#);
        assert_eq!(message.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, expected) in [
            ("{", "EOF"),
            (r#"{"payload":"x"}"#, "no \"topic\""),
            (r#"{"topic":"t","paylod":"x"}"#, "unknown field `paylod`"),
            (
                r#"{"topic":"t","payload":"x","payload_base64":"eA=="}"#,
                "has both",
            ),
            (r#"{"topic":"t","payload_base64":"?"}"#, "payload_base64"),
            (
                r#"{"topic":"t","headers":{"h":null}}"#,
                "\"headers\".\"h\": found null",
            ),
        ] {
            let error = from_json_line(line, &Message::default()).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn a_payload_cannot_move_the_cursor() {
        assert_eq!(preview(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(preview(&[0xff, 1]), "<2 bytes: ff01>");
        assert!(preview(&[b'x'; 500]).ends_with("… (500 bytes)"));
    }
}
