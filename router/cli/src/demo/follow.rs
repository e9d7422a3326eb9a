//! One message, followed by its id through every room: what was confirmed, what each plugin
//! decides, where the message lies, who took it.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use waypost_client::wire::control::{ExplainStep, QueueState};
use waypost_client::{Client, RecordRef};

use super::events::Event;
use super::week::{CONSUMERS, Seen, Tally};
use crate::messages::preview;
use crate::output::Style;
use crate::units;

/// Messages of one peek.
const PEEK_MESSAGES: u32 = 256;

/// All that was found of a message.
pub struct Followed {
    event: Event,
    topic: String,
    bytes: usize,
    /// Sequence, level or exception, and how long it took.
    confirm: (u64, String, Duration),
    steps: Vec<ExplainStep>,
    live: Vec<(String, Duration)>,
    places: Vec<Place>,
}

/// Where it lies, or lay.
struct Place {
    queue: String,
    offset: u64,
    /// Who took it, and whether that was acked.
    seen: Vec<(Seen, bool)>,
    /// What lies there, where it still does.
    lying: Option<Lying>,
}

/// A message in a queue.
struct Lying {
    offset: u64,
    payload: String,
    headers: Vec<String>,
}

/// Follows the event with this index in the week.
pub async fn follow(
    client: &Client,
    event: &Event,
    index: usize,
    tally: &Tally,
) -> anyhow::Result<Followed> {
    let message = event.message();
    let id = event.id.as_bytes();
    let confirmed = tally.confirms.get(index).context("it was not confirmed")?;
    let confirm_time = tally.confirm_times.get(index).copied().unwrap_or_default();
    let word = match &confirmed.exception {
        None => confirmed.level.as_str().to_owned(),
        Some(exception) => format!("{}: {}", exception.kind.as_str(), exception.text),
    };
    let explained = client.explain(&message).await?;
    let mut places = Vec::new();
    for queue in client.queue_list().await?.queues {
        places.extend(find(client, &queue, id, tally).await?);
    }
    Ok(Followed {
        topic: message.topic.clone(),
        bytes: message.payload.len(),
        confirm: (confirmed.sequence, word, confirm_time),
        steps: explained.steps,
        live: tally.watched.get(id).cloned().unwrap_or_default(),
        places,
        event: event.clone(),
    })
}

/// Finds a message in a queue: among what lies there, and among what was taken.
async fn find(
    client: &Client,
    queue: &QueueState,
    id: &[u8],
    tally: &Tally,
) -> anyhow::Result<Option<Place>> {
    let taken = tally.seen.get(id).map(Vec::as_slice).unwrap_or_default();
    let taken = taken
        .iter()
        .filter(|s| CONSUMERS[s.consumer].0 == queue.name);
    let is_acked = |seen: &Seen| {
        let group = queue
            .groups
            .iter()
            .find(|g| g.name == CONSUMERS[seen.consumer].1);
        group.is_some_and(|group| group.acked_below > seen.offset)
    };
    let seen: Vec<(Seen, bool)> = taken.map(|s| (s.clone(), is_acked(s))).collect();
    let lying = lying(client, queue, id).await?;
    let first = seen.first().map(|(seen, _)| seen.offset);
    let Some(offset) = first.or(lying.as_ref().map(|lying| lying.offset)) else {
        return Ok(None);
    };
    Ok(Some(Place {
        queue: queue.name.clone(),
        offset,
        seen,
        lying,
    }))
}

/// Looks through all that lies in a queue.
async fn lying(client: &Client, queue: &QueueState, id: &[u8]) -> anyhow::Result<Option<Lying>> {
    let mut from = queue.first_offset;
    while from < queue.next_offset {
        let peeked = client.queue_peek(&queue.name, from, PEEK_MESSAGES).await?;
        for message in &peeked.messages {
            let record = RecordRef::parse(&message.record)?;
            if record.message_id() == Some(id) {
                let header = |(name, value): (&str, &[u8])| format!("{name}={}", preview(value));
                return Ok(Some(Lying {
                    offset: message.offset,
                    payload: preview(record.payload()),
                    headers: record.headers().map(header).collect(),
                }));
            }
        }
        if peeked.messages.is_empty() || peeked.next_offset <= from {
            break;
        }
        from = peeked.next_offset;
    }
    Ok(None)
}

impl Followed {
    /// For people.
    pub fn lines(&self, style: Style) -> Vec<String> {
        let room =
            |name: &str, text: String| format!("  {}  {text}", style.cyan(&format!("{name:<16}")));
        let more = |text: String| room("", text);
        let Event {
            id,
            place,
            magnitude,
            ..
        } = &self.event;
        let magnitude = magnitude.map_or(String::new(), |m| format!("M {m:.1}, "));
        let (sequence, word, time) = &self.confirm;
        let mut lines = vec![
            format!(
                " {} {id}: {magnitude}{place}",
                style.bold("One message, from room to room:")
            ),
            String::new(),
            room(
                "publisher",
                format!("{}, {}", self.topic, units::size(self.bytes as u64)),
            ),
        ];
        for (name, text) in step_lines(&self.steps) {
            lines.push(room(&name, text));
        }
        // What the plugins made of it is the same in every queue.
        if let Some(lying) = self.places.iter().find_map(|place| place.lying.as_ref()) {
            lines.push(room("became", lying.payload.clone()));
            lines.push(more(format!("with headers {}", lying.headers.join(", "))));
        }
        lines.push(room(
            "confirm",
            format!(
                "{word} (sequence {sequence}, after {})",
                units::duration(*time)
            ),
        ));
        for (topic, after) in &self.live {
            lines.push(room(
                "live subscriber",
                format!("{topic} after {}", units::duration(*after)),
            ));
        }
        for place in &self.places {
            lines.push(room(
                &format!("queue {}", place.queue),
                format!("offset {}", place.offset),
            ));
            lines.extend(
                place
                    .seen
                    .iter()
                    .map(|(seen, acked)| more(seen_text(seen, *acked))),
            );
            if place.seen.is_empty() {
                lines.push(more("waits for a consumer".into()));
            }
        }
        lines
            .iter_mut()
            .for_each(|line| line.truncate(line.trim_end().len()));
        lines
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let (sequence, word, time) = &self.confirm;
        let step = |s: &ExplainStep| json!({"route": s.route, "plugin": s.plugin, "verdict": s.verdict, "detail": s.detail});
        let place = |place: &Place| {
            let seen = |(seen, acked): &(Seen, bool)| {
                json!({
                    "group": CONSUMERS[seen.consumer].1,
                    "consumer": CONSUMERS[seen.consumer].2,
                    "attempt": seen.attempt,
                    "after_us": seen.after.as_micros() as u64,
                    "acked": acked,
                })
            };
            json!({
                "queue": place.queue,
                "offset": place.offset,
                "deliveries": place.seen.iter().map(seen).collect::<Vec<_>>(),
                "payload": place.lying.as_ref().map(|lying| &lying.payload),
            })
        };
        let live = |(topic, after): &(String, Duration)| json!({"topic": topic, "after_us": after.as_micros() as u64});
        json!({
            "id": self.event.id,
            "topic": self.topic,
            "sequence": sequence,
            "confirm": word,
            "confirm_us": time.as_micros() as u64,
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "live": self.live.iter().map(live).collect::<Vec<_>>(),
            "places": self.places.iter().map(place).collect::<Vec<_>>(),
        })
    }
}

/// What each plugin decides, under its route, and where the route leads where no plugin chose.
fn step_lines(steps: &[ExplainStep]) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for of_route in steps.chunk_by(|a, b| a.route == b.route) {
        lines.push((format!("route {}", of_route[0].route), String::new()));
        let (plugins, leads): (Vec<_>, Vec<_>) =
            of_route.iter().partition(|s| !s.plugin.is_empty());
        for step in &plugins {
            let text = match (step.verdict.as_str(), step.detail.as_str()) {
                ("to", to) => format!("→ {to}"),
                (verdict, "") => verdict.to_owned(),
                (verdict, detail) => format!("{verdict}: {detail}"),
            };
            lines.push((format!("  {}", step.plugin), text));
        }
        if !plugins.iter().any(|step| step.verdict == "to") && !leads.is_empty() {
            let to: Vec<&str> = leads.iter().map(|step| step.detail.as_str()).collect();
            let text = format!("→ {}", to.join(", "));
            match lines.last_mut() {
                Some((_, route)) if plugins.is_empty() => *route = text,
                _ => lines.push((String::new(), text)),
            }
        }
    }
    lines
}

fn seen_text(seen: &Seen, acked: bool) -> String {
    let (_, group, consumer) = CONSUMERS[seen.consumer];
    let acked = if acked { "acked" } else { "not acked yet" };
    format!(
        "group {group}: {consumer}, attempt {}, after {}, {acked}",
        seen.attempt,
        units::duration(seen.after)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stand_under_their_route() {
        let step = |route: &str, plugin: &str, verdict: &str, detail: &str| ExplainStep {
            route: route.into(),
            plugin: plugin.into(),
            verdict: verdict.into(),
            detail: detail.into(),
            ..ExplainStep::default()
        };
        let steps = [
            step("quakes", "strong", "pass", ""),
            step("quakes", "alert", "replace", "150 bytes"),
            step("quakes", "dispatch", "to", "queue:a, topic:b"),
            step("quakes", "", "to", "queue:a"),
            step("quakes", "", "to", "topic:b"),
            step("major", "", "to", "queue:c"),
        ];
        let lines = step_lines(&steps);
        let lines: Vec<String> = lines.iter().map(|(a, b)| format!("{a}|{b}")).collect();
        assert_eq!(
            lines,
            [
                "route quakes|",
                "  strong|pass",
                "  alert|replace: 150 bytes",
                "  dispatch|→ queue:a, topic:b",
                "route major|→ queue:c",
            ]
        );
    }
}
