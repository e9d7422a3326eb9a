//! Entries and differences for people.

use std::collections::BTreeMap;

use serde_json::Value;
use waypost_client::Message;
use waypost_host::{Sample, Verdict};

use super::entry::{Cause, Effects, Entry, level_name};
use super::expect::Difference;
use crate::messages::{preview, printable};
use crate::output::Style;
use crate::times;
use crate::units::counted;

/// Columns of a verdict: the longest is `dead-letter`.
const WORD: usize = 11;

/// An entry: its line, topic and verdict, then what changed and what else the plugin did.
pub fn entry(entry: &Entry<'_>, destinations: &[String], style: Style) -> Vec<String> {
    let word = entry.word();
    let padded = format!("{word:<WORD$}");
    let shown = match word {
        "pass" | "edit" | "emit" | "to" | "timer" => style.green(&padded),
        "failed" => style.red(&padded),
        _ => style.bold(&padded),
    };
    let about = about(entry, destinations);
    let mut lines = match entry.cause {
        Cause::Message(input) => {
            let topic = style.cyan(&printable(&input.message.topic));
            vec![format!("{:>5}  {shown}  {topic}  {about}", input.line)]
        }
        Cause::Timer { at_ms } => {
            let at = style.dim(&times::format_rfc3339_ms(at_ms));
            vec![format!("       {shown}  {at}  {about}")]
        }
    };
    if let (Some(edited), Cause::Message(input)) = (entry.edited(), entry.cause) {
        lines.extend(changes(&input.message, &edited, style));
    }
    if let Ok(Verdict::Emit(emitted)) = &entry.verdict {
        for outgoing in emitted {
            let message = outgoing.clone().into_message();
            lines.push(format!(
                "         {} {}",
                style.green("+"),
                one_line(&message)
            ));
        }
    }
    if let Err(error) = &entry.verdict
        && let Some(backtrace) = &error.backtrace
    {
        let frames = backtrace.lines().take(FRAMES_SHOWN);
        lines.extend(frames.map(|frame| style.dim(&format!("         {}", printable(frame)))));
    }
    lines.extend(effects(&entry.effects, style));
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

const FRAMES_SHOWN: usize = 12;

fn about(entry: &Entry<'_>, destinations: &[String]) -> String {
    match &entry.verdict {
        Ok(Verdict::Drop(reason) | Verdict::Reject(reason) | Verdict::DeadLetter(reason)) => {
            reason.as_deref().map(printable).unwrap_or_default()
        }
        Ok(Verdict::Emit(emitted)) => counted(emitted.len() as u64, "message"),
        Ok(Verdict::To(to)) => {
            let name = |index: &u32| match destinations.get(*index as usize) {
                Some(name) => name.clone(),
                None => index.to_string(),
            };
            to.as_slice()
                .iter()
                .map(name)
                .collect::<Vec<_>>()
                .join(", ")
        }
        Ok(Verdict::Retry { delay_ms: Some(ms) }) => format!("after {ms} ms"),
        Ok(Verdict::Failed(text)) => printable(text),
        Ok(Verdict::Violation(violation)) => violation.rule.to_string(),
        Err(error) => printable(&error.to_string()),
        Ok(Verdict::Pass | Verdict::Edit(_) | Verdict::Retry { delay_ms: None }) => String::new(),
    }
}

/// What an edit changed, field by field.
fn changes(before: &Message, after: &Message, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let mut field = |name: &str, before: Option<String>, after: Option<String>| {
        if before != after {
            let side = |sign: &str, value: String| format!("         {sign} {name}: {value}");
            lines.extend(before.map(|value| style.red(&side("-", value))));
            lines.extend(after.map(|value| style.green(&side("+", value))));
        }
    };
    let bytes = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|b| preview(b));
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    field(
        "topic",
        Some(printable(&before.topic)),
        Some(printable(&after.topic)),
    );
    field("key", bytes(&before.key), bytes(&after.key));
    field(
        "content_type",
        before.content_type.clone(),
        after.content_type.clone(),
    );
    field(
        "ttl_ms",
        number(before.time_to_live_ms),
        number(after.time_to_live_ms),
    );
    let (was, is) = (headers(before), headers(after));
    let mut names: Vec<_> = was.keys().chain(is.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let name_shown = format!("headers.{}", printable(name));
        field(&name_shown, was.get(name).cloned(), is.get(name).cloned());
    }
    field(
        "payload",
        Some(preview(&before.payload)),
        Some(preview(&after.payload)),
    );
    lines
}

/// Headers by name; the values of one that stands more than once are joined.
fn headers(message: &Message) -> BTreeMap<&str, String> {
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &message.headers {
        headers
            .entry(name)
            .and_modify(|values| values.push_str(&format!(", {}", preview(value))))
            .or_insert_with(|| preview(value));
    }
    headers
}

fn one_line(message: &Message) -> String {
    let mut line = printable(&message.topic);
    for (name, value) in &message.headers {
        line.push_str(&format!("  {}={}", printable(name), preview(value)));
    }
    format!("{line}  {}", preview(&message.payload))
}

/// What a call did beside its answer.
pub fn effects(effects: &Effects, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |what: &str, text: String| {
        lines.push(format!("         {} {text}", style.dim(what)));
    };
    for (level, text) in &effects.log {
        line(
            "log",
            format!("{}: {}", level_name(*level), printable(text)),
        );
    }
    if effects.log_dropped > 0 {
        let dropped = counted(effects.log_dropped, "line");
        line(
            "log",
            format!("{dropped} over the plugin's limit, thrown away"),
        );
    }
    for (name, sample) in &effects.metrics {
        let sample = match sample {
            Sample::Add(delta) => format!("+{delta}"),
            Sample::Set(value) => format!("= {value}"),
            Sample::Observe(value) => format!("observes {value}"),
        };
        line("metric", format!("{name} {sample}"));
    }
    for write in &effects.state {
        let ttl = match write.ttl_ms {
            0 => String::new(),
            ms => format!(", for {ms} ms"),
        };
        let text = match &write.value {
            Some(value) => format!("{} = {}{ttl}", preview(&write.key), preview(value)),
            None => format!("{} removed", preview(&write.key)),
        };
        line("state", text);
    }
    for one in &effects.published {
        line("published", one_line(&one.message.clone().into_message()));
    }
    if let Some(ms) = effects.timer_ms {
        line("timer", format!("in {ms} ms"));
    }
    lines
}

/// A difference, on one line or two.
pub fn difference(difference: &Difference, style: Style) -> String {
    let side = |value: &Option<Value>| match value {
        None => "nothing".to_owned(),
        Some(value) => printable(&value.to_string()),
    };
    format!(
        "         {}: expected {}, found {}",
        difference.place,
        style.green(&side(&difference.expected)),
        style.red(&side(&difference.found))
    )
}

/// How many messages met which verdict, in the order of the words.
#[derive(Debug, Default)]
pub struct Summary(BTreeMap<&'static str, u64>);

impl Summary {
    /// Counts an entry.
    pub fn add(&mut self, entry: &Entry<'_>) {
        *self.0.entry(entry.word()).or_default() += 1;
    }

    /// Messages that meet the plugin's `on_error`.
    pub fn failed(&self) -> u64 {
        self.0.get("failed").copied().unwrap_or_default()
    }

    /// How many messages there were.
    pub fn messages(&self) -> u64 {
        let of_messages = self.0.iter().filter(|(word, _)| **word != "timer");
        of_messages.map(|(_, count)| count).sum()
    }

    /// Word and count, of those that there were.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.0
    }

    /// `4 messages: 2 dead-letter, 1 drop, 1 pass`.
    pub fn text(&self) -> String {
        let counts: Vec<String> = self
            .0
            .iter()
            .map(|(word, n)| format!("{n} {word}"))
            .collect();
        format!(
            "{}: {}",
            counted(self.messages(), "message"),
            counts.join(", ")
        )
    }
}
