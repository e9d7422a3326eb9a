//! Publishers: batches to one queue or several, again when the log has no room.

use std::collections::BTreeMap;

use waypost_log::AppendError;
use waypost_shard::{Batch, Part, PublishError};
use waypost_wire::slab::SlabBuilder;

use crate::invariants::{Violation, progress};
use crate::message::Tag;
use crate::model::Life;
use crate::world::World;

/// Rounds of commits, snapshots and jobs after which there must be room.
const ROUNDS_MAX: u32 = 40;

impl World {
    pub(crate) fn publish(&mut self) -> Result<(), Violation> {
        let names: Vec<String> = self.model.names();
        let names: Vec<String> = names
            .into_iter()
            .filter(|n| n != waypost_core::DEAD_LETTER)
            .collect();
        let count = match self.dice.below(5) {
            0 => self.dice.between(2, 4),
            _ => 1,
        };
        let publisher = self.dice.below(4) as u32;
        let mut parts = Vec::new();
        for _ in 0..count {
            let Some(name) = self.dice.pick(&names).cloned() else {
                return Ok(());
            };
            let messages = match self.dice.below(4) {
                0 => self.dice.between(5, 20),
                _ => self.dice.between(1, 4),
            };
            let mut slab = SlabBuilder::new();
            let mut tags = Vec::new();
            for _ in 0..messages {
                let sequence = &mut self.publishers[publisher as usize];
                *sequence += 1;
                let tag = Tag {
                    publisher,
                    sequence: *sequence,
                };
                slab.push(&tag.body());
                tags.push(tag);
            }
            parts.push((Part::new(name.into(), slab.finish()), tags));
        }
        let (parts, tags): (Vec<Part>, Vec<Vec<Tag>>) = parts.into_iter().unzip();
        self.publish_parts(&parts, &tags)
    }

    pub(crate) fn publish_parts(
        &mut self,
        parts: &[Part],
        tags: &[Vec<Tag>],
    ) -> Result<(), Violation> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let batch = Batch {
            ticket,
            parts: parts.to_vec(),
            is_whole: true,
            ..Batch::default()
        };
        for round in 0.. {
            let before = self.next_offsets(parts);
            let now = self.now();
            let error = match self.shard.publish(now, &batch) {
                Ok(()) => return self.taken(ticket, parts, tags, before),
                Err(error) => error,
            };
            // Room may have been made all the same.
            self.note_limits(parts, false)?;
            if self.next_offsets(parts) != before {
                let what = format!("publish {ticket} was refused and left something: {error}");
                return Err(Violation::new("atomic_sets", what));
            }
            match error {
                PublishError::NoRoom(_) if round == ROUNDS_MAX => {
                    return Err(progress::stuck(format!("{error}, whatever is done")));
                }
                PublishError::NoRoom(_) => {
                    self.make_room()?;
                    if self.is_suspect {
                        self.trace.line(format!("publish {ticket} given up"));
                        return Ok(());
                    }
                }
                PublishError::Refused(refusal) => {
                    self.trace
                        .line(format!("publish {ticket} refused: {refusal}"));
                    return Ok(());
                }
                PublishError::Log(AppendError::Poisoned(_)) => {
                    self.is_poisoned = true;
                    return self.failed("publish", &error);
                }
                PublishError::Log(AppendError::GroupFull { .. }) => {
                    self.trace
                        .line(format!("publish {ticket} is too large: {error}"));
                    return Ok(());
                }
                PublishError::Log(_)
                | PublishError::NoQueue(_)
                | PublishError::Fenced
                | PublishError::Held { .. }
                | PublishError::Passed(_)
                | PublishError::NotSynced(_)
                | PublishError::NotHeld { .. }
                | PublishError::Receipts { .. }
                | PublishError::Partly => {
                    return Err(progress::stuck(format!("publish {ticket}: {error}")));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn next_offsets(&self, parts: &[Part]) -> BTreeMap<Life, u64> {
        let next = |part: &Part| {
            let life = self.model.live(&part.queue)?;
            Some((life, self.shard.queue(&part.queue).ok()?.next_offset))
        };
        parts.iter().filter_map(next).collect()
    }

    fn taken(
        &mut self,
        ticket: u64,
        parts: &[Part],
        tags: &[Vec<Tag>],
        mut next: BTreeMap<Life, u64>,
    ) -> Result<(), Violation> {
        let mut messages = Vec::new();
        let mut line = format!("publish {ticket}");
        for (part, tags) in parts.iter().zip(tags) {
            let Some(life) = self.model.live(&part.queue) else {
                continue;
            };
            let offset = next.entry(life).or_default();
            line += &format!(" {}@{offset}+{}", part.queue, tags.len());
            for tag in tags {
                messages.push((life, *offset, *tag));
                *offset += 1;
            }
        }
        self.trace.line(line);
        self.tally.published += messages.len() as u64;
        self.model.published(ticket, &messages)?;
        self.note_limits(parts, true)?;
        self.take_outputs()
    }

    /// What the node does when the log is short of room.
    fn make_room(&mut self) -> Result<(), Violation> {
        self.commit()?;
        self.snapshots()?;
        self.commit()?;
        self.finish_job()?;
        self.take_job();
        self.finish_job()
    }
}
