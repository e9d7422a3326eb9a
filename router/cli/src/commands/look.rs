//! Messages of a queue that are looked at and stay there: on a line, or whole.

use anyhow::Context;
use serde_json::json;
use waypost_client::RecordRef;
use waypost_client::wire::control::PeekedMessage;

use crate::messages;
use crate::output::Output;

/// How much of a message people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A line.
    Line,
    /// A line, and the payload below it.
    Payload,
    /// A line, each header and the payload below it.
    All,
}

/// Shows a message; as JSON it is always whole.
pub fn show(
    queue: &str,
    message: &PeekedMessage,
    part: Part,
    output: Output,
) -> anyhow::Result<()> {
    let record = RecordRef::parse(&message.record)
        .with_context(|| format!("queue {queue}, offset {}", message.offset))?;
    if output.is_json() {
        let about = [
            ("queue", json!(queue)),
            ("offset", json!(message.offset)),
            ("receive_time_ms", json!(message.receive_time_ms)),
        ];
        return output.json(&messages::to_json(&record, &about));
    }
    let age = messages::age(message.receive_time_ms);
    let about = format!("{:>6}  {age}", message.offset);
    if part == Part::Line {
        return output.line(messages::to_line(&record, &about, output.style()));
    }
    output.line(messages::to_head(&record, &about, output.style()))?;
    if part == Part::All {
        for (name, value) in record.headers() {
            let (name, value) = (messages::printable(name), messages::preview(value));
            output.line(format!("        {name}: {value}"))?;
        }
    }
    output.line(messages::whole(record.payload()))
}
