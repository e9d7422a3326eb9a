//! What comes back into routing: by `topic:` destinations, and what plugins publish. Each time
//! counts, and so does all that one input becomes, so that no loop lasts.

use std::sync::Arc;

use bytes::Bytes;
use waypost_wire::{Code, Message, RecordRef};

use super::{At, Fate, Item, Output, Run, Stage};
use crate::limits::Limits;
use crate::route::{RouteIndex, RouteTable};

impl Run {
    /// Begins with what a plugin published without a message that caused it. All of it counts as
    /// one input.
    pub fn of_published(table: Arc<RouteTable>, limits: Limits, bodies: Vec<Bytes>) -> Run {
        let mut run = Run::empty(table, limits);
        run.fates.push((Fate::Reached, Code::Closed, String::new()));
        run.emitted.push(0);
        let nobody = At {
            input: 0,
            message: 0,
        };
        let published = bodies.into_iter().map(|body| (nobody, body)).collect();
        run.reenter_published(None, 0, published);
        run
    }

    /// What plugins published, by the messages that caused it; `by` is on which route, and which of
    /// its plugins.
    pub(super) fn reenter_published(
        &mut self,
        by: Option<(RouteIndex, usize)>,
        depth: u8,
        published: Vec<(At, Bytes)>,
    ) {
        let mut entries = Vec::new();
        for (at, body) in published {
            let Ok(record) = RecordRef::parse(&body) else {
                continue;
            };
            let topic: Arc<str> = record.topic().into();
            if let Some((route, plugin)) = by {
                self.trace(at, route, Some(plugin), "publish", |_| topic.to_string());
            }
            let item = Item {
                input: at.input,
                message: at.message,
                body,
                to: None,
            };
            self.reenter(by, depth, &item, &topic, &mut entries);
        }
        self.enqueue(depth + 1, entries);
    }

    pub(super) fn reenter(
        &mut self,
        by: Option<(RouteIndex, usize)>,
        depth: u8,
        item: &Item,
        topic: &Arc<str>,
        entries: &mut Vec<(RouteIndex, Item)>,
    ) {
        let route = by.map(|(route, _)| route);
        let emitted = &mut self.emitted[item.input as usize];
        *emitted += 1;
        let (emitted, emissions) = (*emitted, self.limits.emissions);
        if depth >= self.limits.reentries {
            let times = self.limits.reentries;
            let reason = format!("re-entered routing more than {times} times, last as '{topic}'");
            return self.end_loop(route, depth, item, &reason);
        }
        if emitted > emissions {
            // Told once; what else this message would have become is the same story.
            if emitted == emissions + 1 {
                let reason = format!("became more than {emissions} messages, last as '{topic}'");
                self.end_loop(route, depth, item, &reason);
            }
            return;
        }
        let Some(body) = with_topic(&item.body, topic) else {
            return;
        };
        self.fate(item.input, Fate::Reached, Code::Closed, String::new());
        self.outcome.live.push(Output {
            input: item.input,
            body: body.clone(),
        });
        let plugin = by.map(|(_, plugin)| plugin);
        let item = Item {
            input: item.input,
            message: self.came_of(item.at(), route, plugin, (true, depth + 1), &body),
            body,
            to: None,
        };
        entries.extend(
            self.table
                .matching(topic)
                .into_iter()
                .map(|r| (r, item.clone())),
        );
    }

    fn end_loop(&mut self, route: Option<RouteIndex>, depth: u8, item: &Item, reason: &str) {
        // What was published without a route ends where the route of its loop would.
        let stage = Stage::new(route.unwrap_or(RouteIndex::MAX), usize::MAX, depth);
        let before = self.fates[item.input as usize].0;
        self.dead_letter(&stage, item.clone(), reason, None);
        let fate = &mut self.fates[item.input as usize];
        if fate.0 == Fate::Dead && before != Fate::Dead {
            // It is the configuration's fault and no plugin's.
            fate.1 = Code::Loop;
        }
    }
}

fn with_topic(body: &Bytes, topic: &str) -> Option<Bytes> {
    let record = RecordRef::parse(body).ok()?;
    if record.topic() == topic {
        return Some(body.clone());
    }
    Some(
        Message {
            topic: topic.to_owned(),
            ..record.to_message()
        }
        .to_body(),
    )
}
