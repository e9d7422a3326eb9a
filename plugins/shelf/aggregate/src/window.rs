//! An open window, and its place in the state.

use shelf_kit::json::{Tree, write};
use shelf_kit::{By, Seen};

use crate::measure::{Measure, Sum};

/// Where a window is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub Vec<u8>);

impl Key {
    /// What all of them begin with.
    pub const PREFIX: &'static [u8] = b"w";

    /// That of the messages with this key.
    pub fn new(by: &[u8]) -> Key {
        Key([Key::PREFIX, by].concat())
    }
}

/// What the messages of a window gave so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// When it began, in ms since 1970.
    pub began_ms: u64,
    /// When its last message was received.
    pub last_ms: u64,
    /// Its messages.
    pub count: u64,
    /// That of its result.
    pub topic: String,
    /// What its messages have in common, as JSON.
    by: Vec<String>,
    sums: Vec<Sum>,
}

impl Window {
    /// One without messages.
    pub fn new(began_ms: u64, topic: String, by: Vec<String>, measures: usize) -> Window {
        Window {
            began_ms,
            last_ms: began_ms,
            count: 0,
            topic,
            by,
            sums: vec![Sum::default(); measures],
        }
    }

    /// With these sums.
    #[cfg(test)]
    pub fn set_sums(&mut self, sums: Vec<Sum>) {
        self.sums = sums;
    }

    /// Takes a message in.
    pub fn take(&mut self, measures: &[Measure], seen: &Seen<'_, '_>) {
        self.count += 1;
        self.last_ms = self.last_ms.max(seen.message.receive_time_ms());
        for (measure, sum) in measures.iter().zip(&mut self.sums) {
            measure.take(sum, seen);
        }
    }

    /// `{"from", "to", "count", "by": {…}, "values": {…}}`
    pub fn result(&self, by: &By, measures: &[Measure], end_ms: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let head = format!(
            "{{\"from\":{},\"to\":{end_ms},\"count\":{},\"by\":{{",
            self.began_ms, self.count
        );
        out.extend_from_slice(head.as_bytes());
        let names = by.names().zip(&self.by);
        put_members(&mut out, names.map(|(name, json)| (name, json.clone())));
        out.extend_from_slice(b"},\"values\":{");
        let values = measures.iter().zip(&self.sums);
        put_members(
            &mut out,
            values.map(|(measure, sum)| (measure.name.as_str(), measure.result(sum))),
        );
        out.extend_from_slice(b"}}");
        out
    }

    /// As the state keeps it: JSON, so that a person can read it too. `settings` is a digest of those
    /// that say what the numbers mean.
    pub fn bytes(&self, settings: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let head = format!(
            "[2,\"{settings}\",{},{},{},",
            self.began_ms, self.last_ms, self.count
        );
        out.extend_from_slice(head.as_bytes());
        write::text(&mut out, &self.topic);
        out.extend_from_slice(b",[");
        for (index, json) in self.by.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write::text(&mut out, json);
        }
        out.push(b']');
        for sum in &self.sums {
            // As text, since JSON has no infinity, and the shortest that gives the same number.
            let numbers = format!(",[{},\"{:e}\",\"{:e}\",", sum.count, sum.number, sum.lost);
            out.extend_from_slice(numbers.as_bytes());
            write::text(&mut out, &sum.json);
            out.push(b']');
        }
        out.push(b']');
        out
    }

    /// Reads it back; `None` where it is not one, or began under other settings.
    pub fn read(bytes: &[u8], settings: &str) -> Option<Window> {
        let Tree::Array(parts) = Tree::read(bytes).ok()? else {
            return None;
        };
        let [version, digest, began, last, count, topic, by, sums @ ..] = &parts[..] else {
            return None;
        };
        if whole(version)? != 2 || text(digest)? != settings {
            return None;
        }
        let Tree::Array(by) = by else {
            return None;
        };
        Some(Window {
            began_ms: whole(began)?,
            last_ms: whole(last)?,
            count: whole(count)?,
            topic: text(topic)?,
            by: by.iter().map(text).collect::<Option<_>>()?,
            sums: sums.iter().map(sum).collect::<Option<_>>()?,
        })
    }
}

fn put_members<'n>(out: &mut Vec<u8>, members: impl Iterator<Item = (&'n str, String)>) {
    for (index, (name, json)) in members.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write::text(out, name);
        out.push(b':');
        out.extend_from_slice(json.as_bytes());
    }
}

fn whole(tree: &Tree<'_>) -> Option<u64> {
    match tree {
        Tree::Number(text) => text.parse().ok(),
        _ => None,
    }
}

fn text(tree: &Tree<'_>) -> Option<String> {
    match tree {
        Tree::Text(text) => Some(text.to_string()),
        _ => None,
    }
}

fn sum(tree: &Tree<'_>) -> Option<Sum> {
    let Tree::Array(parts) = tree else {
        return None;
    };
    let [count, number, lost, json] = &parts[..] else {
        return None;
    };
    Some(Sum {
        count: whole(count)?,
        number: text(number)?.parse().ok()?,
        lost: text(lost)?.parse().ok()?,
        json: text(json)?,
    })
}
