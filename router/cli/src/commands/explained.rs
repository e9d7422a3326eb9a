//! What became of a message, as a tree for people and for programs.

use std::time::Duration;

use serde_json::{Map, Value, json};
use waypost_client::wire::control::{ExplainChange, ExplainStep, Explained, ExplainedRoute};

use crate::messages::printable;
use crate::output::{Output, Style};
use crate::units::{self, counted};

/// Shows an explanation; `is_dry` where nothing was published.
pub fn show(explained: &Explained, is_dry: bool, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(&to_json(explained));
    }
    output.lines(lines(explained, output.style()))?;
    if is_dry {
        return match &explained.destinations[..] {
            [] => output.line("would end: nowhere"),
            destinations => output.line(format!("would end: {}", destinations.join(", "))),
        };
    }
    Ok(())
}

/// For people: the message, under it the routes that it met, under these what was decided.
pub fn lines(explained: &Explained, style: Style) -> Vec<String> {
    let tree = Tree { explained, style };
    let mut lines = Vec::new();
    tree.message(0, 0, &mut lines);
    if explained.is_cut {
        lines.push(style.dim("… it goes on, and is too long to be told whole"));
    }
    if !explained.outcome.is_empty() {
        let took = units::duration(Duration::from_nanos(explained.took_ns));
        lines.push(match explained.text.as_str() {
            "" => format!("{} after {took}", style.bold(&explained.outcome)),
            text => format!(
                "{} after {took}: {}",
                style.bold(&explained.outcome),
                printable(text)
            ),
        });
    }
    if explained.left_out > 0 {
        let many = counted(u64::from(explained.left_out), "message");
        lines.push(style.dim(&format!(
            "{many} before it asked too, and are not explained"
        )));
    }
    lines
}

struct Tree<'a> {
    explained: &'a Explained,
    style: Style,
}

impl<'a> Tree<'a> {
    /// The steps of a message on a route.
    fn steps(&self, message: usize, route: &str) -> Vec<&'a ExplainStep> {
        let own = |s: &&ExplainStep| s.message as usize == message && s.route == route;
        self.explained.steps.iter().filter(own).collect()
    }

    fn routes(&self, message: usize) -> impl Iterator<Item = &'a ExplainedRoute> {
        let own = move |r: &&ExplainedRoute| r.message as usize == message;
        self.explained.routes.iter().filter(own)
    }

    /// The messages that came of another by each of these steps, which are those of one route.
    fn came_of(&self, message: usize, steps: &[&ExplainStep]) -> Vec<Vec<usize>> {
        let mut left: Vec<usize> = (message + 1..self.explained.messages.len())
            .filter(|index| self.explained.messages[*index].parent as usize == message)
            .collect();
        let mut take = |is_it: &dyn Fn(usize) -> bool, count: usize| -> Vec<usize> {
            let found: Vec<usize> = left
                .iter()
                .copied()
                .filter(|i| is_it(*i))
                .take(count)
                .collect();
            left.retain(|index| !found.contains(index));
            found
        };
        let messages = &self.explained.messages;
        let came = |step: &&ExplainStep| {
            let by =
                |i: usize| messages[i].route == step.route && messages[i].plugin == step.plugin;
            let topic = step.detail.strip_prefix("topic:").unwrap_or(&step.detail);
            let enters = |i: usize| by(i) && messages[i].is_new && messages[i].topic == topic;
            match step.verdict.as_str() {
                "emit" => take(&|i| by(i) && !messages[i].is_new, usize::MAX),
                "publish" => take(&enters, 1),
                "to" if step.detail.starts_with("topic:") => take(&enters, 1),
                _ => Vec::new(),
            }
        };
        steps.iter().map(came).collect()
    }

    fn message(&self, index: usize, indent: usize, lines: &mut Vec<String>) {
        let Some(message) = self.explained.messages.get(index) else {
            return;
        };
        let style = self.style;
        let mut head = format!(
            "{}{} {}",
            " ".repeat(indent),
            style.bold(&message.topic),
            style.dim(&units::size(message.payload_bytes))
        );
        if message.subscribers > 0 {
            let live = counted(u64::from(message.subscribers), "live subscriber");
            head.push_str(&format!(" → {live}"));
        }
        lines.push(head);
        if !message.is_new {
            // It goes on along the route of what it came of.
            return self.route(index, &message.route, indent + 2, lines);
        }
        for route in self.routes(index) {
            let indent_text = " ".repeat(indent + 2);
            let (name, from) = (&route.name, &route.from);
            match (route.matched, route.hidden) {
                (true, _) => {
                    let name = style.cyan(name);
                    let from = style.dim(&format!("from {from}"));
                    lines.push(format!("{indent_text}route {name} {from}"));
                    self.route(index, &route.name, indent + 4, lines);
                }
                (false, hidden) => {
                    let why = if hidden {
                        "an earlier one is final"
                    } else {
                        "does not match"
                    };
                    let text = format!("{indent_text}route {name} from {from}: {why}");
                    lines.push(style.dim(&text));
                }
            }
        }
        if !self.routes(index).any(|route| route.matched) && message.subscribers == 0 {
            lines.push(format!("{}no route takes it", " ".repeat(indent + 2)));
        }
    }

    fn route(&self, message: usize, route: &str, indent: usize, lines: &mut Vec<String>) {
        let steps = self.steps(message, route);
        for (step, came) in steps.iter().zip(self.came_of(message, &steps)) {
            lines.push(format!("{}{}", " ".repeat(indent), self.step(step)));
            for change in &step.changes {
                lines.push(format!("{}{}", " ".repeat(indent + 2), changed(change)));
            }
            for index in came {
                self.message(index, indent + 2, lines);
            }
        }
    }

    fn step(&self, step: &ExplainStep) -> String {
        let style = self.style;
        // The words of a guest.
        let detail = printable(&step.detail);
        if step.plugin.is_empty() {
            let where_to = match step.verdict.as_str() {
                "to" => format!("→ {detail}"),
                "dead-letter" => format!("{}: {detail}", style.red("→ dead letters")),
                verdict => format!("{verdict}: {detail}"),
            };
            return match step.is_stored {
                true => format!(
                    "{where_to} {}",
                    style.dim(&format!("(offset {})", step.offset))
                ),
                false => where_to,
            };
        }
        let mut text = style.bold(&step.plugin);
        if step.version > 0 {
            text.push_str(&style.dim(&format!(" v{}", step.version)));
        }
        text.push(' ');
        text.push_str(&match (step.verdict.as_str(), detail.as_str()) {
            ("to", to) => format!("→ {to}"),
            (verdict, "") => verdict.to_owned(),
            (verdict, detail) if verdict.starts_with("failed") => {
                format!("{}: {detail}", style.red(verdict))
            }
            (verdict, detail) => format!("{verdict}: {detail}"),
        });
        if step.ns > 0 {
            let time = units::duration(Duration::from_nanos(step.ns));
            let time = match step.batch {
                0 | 1 => format!(" ({time})"),
                batch => format!(" ({time} with {} others)", batch - 1),
            };
            text.push_str(&style.dim(&time));
        }
        text
    }

    fn message_json(&self, index: usize) -> Value {
        let Some(message) = self.explained.messages.get(index) else {
            return Value::Null;
        };
        let mut shown = Map::new();
        let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
        put("topic", json!(message.topic));
        put("payload_bytes", json!(message.payload_bytes));
        put("depth", json!(message.depth));
        put("subscribers", json!(message.subscribers));
        if message.is_new {
            let route = |route: &ExplainedRoute| {
                json!({
                    "route": route.name,
                    "from": route.from,
                    "matched": route.matched,
                    "hidden_by_final": route.hidden,
                    "steps": self.steps_json(index, &route.name),
                })
            };
            put("routes", self.routes(index).map(route).collect());
        } else {
            put("steps", self.steps_json(index, &message.route));
        }
        Value::Object(shown)
    }

    fn steps_json(&self, message: usize, route: &str) -> Value {
        let steps = self.steps(message, route);
        let came = self.came_of(message, &steps);
        let shown = steps.iter().zip(came).map(|(step, came)| {
            let mut shown = json!({
                "verdict": step.verdict,
                "detail": step.detail,
            });
            if !step.plugin.is_empty() {
                shown["plugin"] = json!(step.plugin);
                shown["version"] = json!(step.version);
                shown["cpu_ns"] = json!(step.ns);
                shown["batch"] = json!(step.batch);
            }
            if !step.changes.is_empty() {
                shown["changes"] = step.changes.iter().map(change_json).collect();
            }
            if step.is_stored {
                shown["queue"] = json!(step.queue);
                shown["offset"] = json!(step.offset);
            }
            if !came.is_empty() {
                shown["messages"] = came.iter().map(|i| self.message_json(*i)).collect();
            }
            shown
        });
        shown.collect()
    }
}

/// A change as a program reads it: `null` where there is nothing.
pub fn change_json(change: &ExplainChange) -> Value {
    let value = |absent: bool, text: &str| (!absent).then(|| text.to_owned());
    json!({
        "field": change.field,
        "before": value(change.was_absent, &change.before),
        "after": value(change.is_absent, &change.after),
    })
}

/// A change for people.
pub fn changed(change: &ExplainChange) -> String {
    let value = |absent: bool, text: &str| match absent {
        true => "none".to_owned(),
        false => printable(text),
    };
    let before = value(change.was_absent, &change.before);
    let after = value(change.is_absent, &change.after);
    format!("{}: {before} → {after}", printable(&change.field))
}

/// For programs: the tree.
pub fn to_json(explained: &Explained) -> Value {
    let tree = Tree {
        explained,
        style: Output::new(true).style(),
    };
    let mut shown = json!({
        "message": tree.message_json(0),
        "cut": explained.is_cut,
    });
    if explained.outcome.is_empty() {
        shown["destinations"] = json!(explained.destinations);
    } else {
        shown["sequence"] = json!(explained.sequence);
        shown["outcome"] = json!(explained.outcome);
        shown["code"] = json!(explained.code);
        shown["text"] = json!(explained.text);
        shown["left_out"] = json!(explained.left_out);
        shown["receive_time_ms"] = json!(explained.receive_time_ms);
        shown["took_ns"] = json!(explained.took_ns);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_client::wire::control::ExplainedMessage;

    fn step(message: u32, route: &str, plugin: &str, verdict: &str, detail: &str) -> ExplainStep {
        ExplainStep {
            message,
            route: route.into(),
            plugin: plugin.into(),
            verdict: verdict.into(),
            detail: detail.into(),
            ..ExplainStep::default()
        }
    }

    fn came(topic: &str, parent: u32, plugin: &str, is_new: bool) -> ExplainedMessage {
        ExplainedMessage {
            topic: topic.into(),
            payload_bytes: 7,
            parent,
            route: "r".into(),
            plugin: plugin.into(),
            is_new,
            ..ExplainedMessage::default()
        }
    }

    fn explained() -> Explained {
        let route = |message, name: &str, matched| ExplainedRoute {
            message,
            name: name.into(),
            from: "#".into(),
            matched,
            hidden: false,
        };
        let stored = ExplainStep {
            is_stored: true,
            queue: "q".into(),
            offset: 4,
            ..step(1, "r", "", "to", "queue:q")
        };
        let edit = ExplainStep {
            changes: vec![ExplainChange {
                field: "key".into(),
                was_absent: true,
                after: "k".into(),
                ..ExplainChange::default()
            }],
            version: 3,
            ns: 12_000,
            batch: 1,
            ..step(1, "r", "p", "edit", "9 bytes")
        };
        Explained {
            messages: vec![
                ExplainedMessage {
                    subscribers: 1,
                    ..came("a", 0, "", true)
                },
                came("a", 0, "e", false),
                came("b", 1, "", true),
            ],
            routes: vec![
                route(0, "r", true),
                route(0, "s", false),
                route(2, "t", true),
            ],
            steps: vec![
                step(0, "r", "e", "emit", "1 messages"),
                edit,
                stored,
                step(1, "r", "", "to", "topic:b"),
                step(2, "t", "f", "failed", "trap: x"),
                step(2, "t", "", "dead-letter", "trap: x"),
            ],
            outcome: "stored".into(),
            took_ns: 1_200_000,
            ..Explained::default()
        }
    }

    #[test]
    fn people_see_a_tree() {
        let lines = lines(&explained(), Style::plain());
        assert_eq!(
            lines,
            [
                "a 7 B → 1 live subscriber",
                "  route r from #",
                "    e emit: 1 messages",
                "      a 7 B",
                "        p v3 edit: 9 bytes (12.0 µs)",
                "          key: none → k",
                "        → queue:q (offset 4)",
                "        → topic:b",
                "          b 7 B",
                "            route t from #",
                "              f failed: trap: x",
                "              → dead letters: trap: x",
                "  route s from #: does not match",
                "stored after 1.20 ms",
            ]
        );
    }

    #[test]
    fn programs_see_the_same() {
        let shown = to_json(&explained());
        let emit = &shown["message"]["routes"][0]["steps"][0];
        let went_on = &emit["messages"][0]["steps"];
        assert_eq!(went_on[0]["changes"][0]["before"], Value::Null);
        assert_eq!(went_on[1]["offset"], 4);
        let again = &went_on[2]["messages"][0]["routes"][0];
        assert_eq!(again["steps"][1]["verdict"], "dead-letter");
        assert_eq!(shown["message"]["routes"][1]["matched"], false);
        assert_eq!(shown["outcome"], "stored");
    }
}
