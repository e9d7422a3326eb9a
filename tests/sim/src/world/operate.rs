//! What an operator does with messages: looks at them, takes them out, has them copied, and sends
//! dead letters back.

use waypost_core::DEAD_LETTER;
use waypost_log::AppendError;
use waypost_shard::{Browsed, Part, PublishError, Selection};
use waypost_wire::Filter;
use waypost_wire::slab::SlabBuilder;

use crate::invariants::{Violation, progress};
use crate::message::{Identity, Tag, identify};
use crate::model::{Content, Life};
use crate::world::World;

/// Messages that one action takes, at most.
const SOME_MAX: u64 = 30;

impl World {
    /// Some messages of a queue: a stretch, or those of it that have one topic.
    fn some_messages(&mut self, name: &str) -> Selection {
        let view = self.shard.queue(name);
        let (first, next) = view.map_or((0, 0), |v| (v.first_offset, v.next_offset));
        let from = first + self.dice.below((next - first) + 1);
        let topic = self.dice.pick(&["sim/a", "sim/b", "sim/c"]).copied();
        let topic = topic.filter(|_| self.dice.once_in(2));
        Selection {
            from_offset: from,
            to_offset: Some(from + self.dice.between(1, SOME_MAX)),
            filters: topic
                .and_then(|t| Filter::new(t).ok())
                .into_iter()
                .collect(),
            ..Selection::default()
        }
    }

    /// Looks at messages that are to be worked on: all of them, so that nothing may fail meanwhile.
    fn look_at_all(
        &mut self,
        name: &str,
        selection: &Selection,
    ) -> Result<Option<Browsed>, Violation> {
        self.disk.clear_fault();
        let found = self.look(name, selection)?;
        Ok(found.is_end.then_some(found))
    }

    /// Looks at messages: each is what stands there, and is selected.
    fn look(&mut self, name: &str, selection: &Selection) -> Result<Browsed, Violation> {
        let Some(life) = self.model.live(name) else {
            return Ok(Browsed::default());
        };
        let found = match self.shard.browse(name, selection, 256) {
            Ok(found) => found,
            Err(error) => {
                self.manage_failed("browse", &error)?;
                return Ok(Browsed::default());
            }
        };
        for message in &found.messages {
            self.served(life, message.offset, &identify(&message.body))?;
            let queue = self.model.queues.get(&life);
            let content = queue.and_then(|q| q.content(message.offset));
            let topic = content.and_then(Content::tag).map(Tag::topic);
            let filters = &selection.filters;
            let is_wanted = filters.is_empty()
                || topic.is_none_or(|topic| filters.iter().any(|f| f.matches(topic)));
            Violation::unless(is_wanted, "browse", || {
                format!("'{name}' shows offset {} for {filters:?}", message.offset)
            })?;
        }
        Ok(found)
    }

    pub(crate) fn browse(&mut self, name: &str) -> Result<(), Violation> {
        let selection = self.some_messages(name);
        let found = self.look(name, &selection)?;
        self.tally.browsed += found.messages.len() as u64;
        self.trace.line(format!(
            "browse '{name}', {} messages",
            found.messages.len()
        ));
        self.take_outputs()
    }

    /// Takes messages out of a queue, whoever wants or holds them.
    pub(crate) fn take_out(&mut self, name: &str) -> Result<(), Violation> {
        let selection = self.some_messages(name);
        let Some(found) = self.look_at_all(name, &selection)? else {
            return Ok(());
        };
        let now = self.now();
        let count = match self.shard.remove_messages(now, name, &selection) {
            Ok((count, _)) => count,
            Err(error) => return self.manage_failed("remove messages", &error),
        };
        let offsets: Vec<u64> = found.messages.iter().map(|m| m.offset).collect();
        self.trace.line(format!(
            "take {count} messages out of '{name}': {offsets:?}"
        ));
        // What rot has damaged is taken out by its offset, and is not shown.
        let is_same = count == offsets.len() as u64 || self.model.is_rotten;
        Violation::unless(is_same, "removed_stays_removed", || {
            format!("'{name}' took out {count} of {offsets:?}")
        })?;
        self.tally.taken_out += count;
        if let Some(life) = self.model.live(name)
            && let Some(queue) = self.model.queues.get_mut(&life)
        {
            queue.take_out(&offsets);
        }
        self.take_outputs()
    }

    /// Copies a stretch of a queue to the end of another, or of its own.
    pub(crate) fn replay(&mut self, from: &str) -> Result<(), Violation> {
        let names = self.model.names();
        let Some(to) = self
            .dice
            .pick(&names)
            .filter(|n| *n != DEAD_LETTER)
            .cloned()
        else {
            return Ok(());
        };
        let selection = self.some_messages(from);
        let Some(found) = self.look_at_all(from, &selection)? else {
            return Ok(());
        };
        let (mut slab, mut tags) = (SlabBuilder::new(), Vec::new());
        for message in &found.messages {
            if let Identity::Published(tag) = identify(&message.body) {
                slab.push(&message.body);
                tags.push(tag);
            }
        }
        if tags.is_empty() {
            return Ok(());
        }
        let part = Part::new(to.as_str().into(), slab.finish()).timed(false);
        let parts = [part.clone()];
        let before = self.next_offsets(&parts);
        let now = self.now();
        let done = self.shard.replay(now, part);
        let first = before.into_iter().next();
        match (done, first) {
            (Ok(()), Some((life, first))) => {
                self.trace.line(format!(
                    "replay {} from '{from}' to {to}@{first}",
                    tags.len()
                ));
                self.tally.replayed += tags.len() as u64;
                self.copied(life, first, &tags)?;
                self.note_limits(&parts, true)?;
            }
            (Ok(()), None) => {}
            (Err(error), _) => {
                self.is_poisoned |= matches!(error, PublishError::Log(AppendError::Poisoned(_)));
                self.note_limits(&parts, false)?;
                self.trace.line(format!("no replay to '{to}': {error}"));
                if self.is_poisoned {
                    return self.failed("replay", &error);
                }
            }
        }
        self.take_outputs()
    }

    fn copied(&mut self, life: Life, first: u64, tags: &[Tag]) -> Result<(), Violation> {
        let Some(queue) = self.model.queues.get_mut(&life) else {
            return Ok(());
        };
        for (offset, tag) in (first..).zip(tags) {
            queue.append(offset, Content::Copied(*tag))?;
        }
        Ok(())
    }

    /// Sends dead letters back to where they came from, or all to one queue.
    pub(crate) fn redrive(&mut self) -> Result<(), Violation> {
        let Some(life) = self.model.live(DEAD_LETTER) else {
            return Ok(());
        };
        let names = self.model.names();
        let to = self
            .dice
            .pick(&names)
            .filter(|n| *n != DEAD_LETTER)
            .cloned();
        let to = to.filter(|_| self.dice.once_in(3));
        let selection = self.some_messages(DEAD_LETTER);
        let Some(found) = self.look_at_all(DEAD_LETTER, &selection)? else {
            return Ok(());
        };
        let mut going: Vec<(u64, String, Tag)> = Vec::new();
        for message in &found.messages {
            if let Identity::Dead(letter) = identify(&message.body) {
                let queue = to.clone().unwrap_or(letter.place.queue);
                if self.shard.queue(&queue).is_ok() {
                    going.push((message.offset, queue, letter.tag));
                }
            }
        }
        let parts: Vec<Part> = names
            .iter()
            .filter(|name| going.iter().any(|(_, queue, _)| queue == *name))
            .map(|name| Part::new(name.as_str().into(), SlabBuilder::new().finish()))
            .collect();
        let mut next = self.next_offsets(&parts);
        let now = self.now();
        let done = self
            .shard
            .redrive(now, DEAD_LETTER, &selection, to.as_deref(), None);
        let redriven = match done {
            Ok(redriven) => redriven,
            Err(error) => return self.manage_failed("redrive", &error),
        };
        self.trace
            .line(format!("redrive {:?}: {redriven:?}", going));
        if redriven.count == 0 {
            let is_same = self.next_offsets(&parts) == next;
            Violation::unless(is_same, "atomic_sets", || {
                format!("{redriven:?} and left something of {going:?}")
            })?;
            self.note_limits(&parts, false)?;
            return self.take_outputs();
        }
        Violation::unless(redriven.count == going.len() as u64, "atomic_sets", || {
            format!("{redriven:?} of {going:?} went back")
        })?;
        self.tally.redriven += redriven.count;
        let mut taken = Vec::new();
        for (letter, queue, tag) in going {
            let Some(to) = self.model.live(&queue) else {
                return Err(progress::stuck(format!(
                    "'{queue}' is gone and takes {tag:?}"
                )));
            };
            let offset = next.entry(to).or_default();
            let copy = (to, *offset);
            *offset += 1;
            self.copied(copy.0, copy.1, &[tag])?;
            self.model
                .gone
                .retain(|(place, of)| (&place.queue, place.offset, of) != (&queue, copy.1, &tag));
            self.model.redriven.push([(life, letter), copy]);
            taken.push(letter);
        }
        if let Some(queue) = self.model.queues.get_mut(&life) {
            queue.take_out(&taken);
        }
        self.note_limits(&parts, true)?;
        self.take_outputs()
    }
}
