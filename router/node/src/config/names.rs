//! Names that the file declares, and the places that use them.
//!
//! Declarations may stand after their uses, so uses are resolved when all sections were read.

use super::read::{Document, Found};
use super::{DEAD_LETTER, NAME_BYTES_MAX, Problem, QueueConfig};

/// What a name stands for; each kind has its own space of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Queue,
    /// Of one queue.
    Group,
    Plugin,
    Route,
    Role,
    Token,
    Certificate,
    Registry,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Queue => "queue",
            Kind::Group => "group",
            Kind::Plugin => "plugin",
            Kind::Route => "route",
            Kind::Role => "role",
            Kind::Token => "token",
            Kind::Certificate => "common name",
            Kind::Registry => "registry",
        }
    }
}

#[derive(Default)]
pub(super) struct Names {
    declared: Vec<(Kind, Found<String>)>,
    used: Vec<(Kind, Found<String>)>,
    /// Queues, and where their dead letters go.
    dead_letters: Vec<(Option<String>, Found<String>)>,
}

impl Names {
    /// Notes a declaration; a second one of the same name is an error.
    pub(super) fn declare(&mut self, doc: &Document<'_>, kind: Kind, name: &Found<String>) {
        if let Some(first) = self.declared(kind, &name.value) {
            let problem = Problem::Duplicate {
                what: kind.as_str(),
                name: name.value.clone(),
                first_line: doc.line(first.at),
            };
            doc.error(&name.place, name.at, problem);
            return;
        }
        self.declared.push((kind, name.clone()));
    }

    /// Where a name is declared.
    pub(super) fn declared(&self, kind: Kind, name: &str) -> Option<&Found<String>> {
        let is = |(k, n): &&(Kind, Found<String>)| *k == kind && n.value == name;
        self.declared.iter().find(is).map(|(_, found)| found)
    }

    /// Notes a use.
    pub(super) fn refer(&mut self, kind: Kind, name: Found<String>) {
        self.used.push((kind, name));
    }

    /// Reports uses without a declaration. `implicit` queues exist without one.
    pub(super) fn resolve(&self, doc: &Document<'_>, implicit: &str) {
        for (kind, name) in &self.used {
            let of_kind = self.declared.iter().filter(|(k, _)| k == kind);
            let mut known: Vec<&str> = of_kind.map(|(_, n)| n.value.as_str()).collect();
            if *kind == Kind::Queue {
                known.push(implicit);
            }
            if !known.contains(&name.value.as_str()) {
                let problem = Problem::unknown(kind.as_str(), &name.value, &known);
                doc.error(&name.place, name.at, problem);
            }
        }
    }

    /// Notes where a queue's dead letters go.
    pub(super) fn dead_letter(&mut self, queue: Option<&Found<String>>, to: Found<String>) {
        let queue = queue.map(|name| name.value.clone());
        self.dead_letters.push((queue, to.clone()));
        self.refer(Kind::Queue, to);
    }

    /// Reports dead letters that would stay where they are, or end with the process.
    pub(super) fn check_dead_letters(&self, doc: &Document<'_>, queues: &[QueueConfig]) {
        for (queue, to) in &self.dead_letters {
            let declared = queues.iter().find(|q| q.name == to.value);
            let is_memory = declared.is_some_and(|q| !q.settings.durability.is_logged());
            // The node's own has nowhere else to go.
            let is_own = queue.as_ref() == Some(&to.value) && to.value != DEAD_LETTER;
            let text = match (is_own, is_memory) {
                (true, _) => "the dead letters of a queue go to another queue",
                (_, true) => "dead letters go to a queue that is not \"memory\"",
                _ => continue,
            };
            doc.error(&to.place, to.at, Problem::Other(text.to_owned()));
        }
    }

    /// Warns of declarations of `kind` that nothing uses.
    pub(super) fn warn_unused(&self, doc: &Document<'_>, kind: Kind, text: &str) {
        for (_, name) in self.declared.iter().filter(|(k, _)| *k == kind) {
            let used = self.used.iter();
            if !used
                .clone()
                .any(|(k, n)| *k == kind && n.value == name.value)
            {
                doc.warn(&name.place, name.at, format!("{:?} {text}", name.value));
            }
        }
    }
}

/// Whether `name` may name something: `[a-zA-Z0-9._-]`, 1 to 128 of them.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}
