//! Queues come, are looked at, emptied, and go.

use std::sync::Arc;

use bytes::Bytes;
use waypost_core::journal::{GroupKind, GroupOptions};
use waypost_core::queue::{Queue, Settings};
use waypost_log::{CommitError, Incarnation, QueueError, Vfs};
use waypost_wire::Code;
use waypost_wire::data::{Outcome, Range};

use crate::deliver::Found;
use crate::settings::stored;
use crate::slot::{Slot, last_values};
use crate::{Now, Shard};

/// Why a queue could not be made, found or changed.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// No such queue.
    #[error("queue '{0}' does not exist")]
    NoQueue(Arc<str>),
    /// The name is taken, by a queue with other settings.
    #[error("queue '{0}' exists with other settings")]
    Exists(Arc<str>),
    /// The configuration names a queue that was made over the network.
    #[error(
        "queue '{0}' was made over the network, and the configuration names it too: rename one, or \
         take it out of the configuration, start, and remove the queue"
    )]
    Claimed(Arc<str>),
    /// Durable and memory queues cannot become each other.
    #[error("queue '{0}' cannot change its durability; remove it first")]
    Durability(Arc<str>),
    /// A queue has as many groups as it may.
    #[error("queue '{0}' has {1} groups, which is the limit")]
    Groups(Arc<str>, usize),
    /// A group whose order by key would contradict the queue's priorities.
    #[error("queue '{0}' has priorities, which a group that is ordered by key cannot keep")]
    KeyPriorities(Arc<str>),
    /// A group that was made with other options.
    #[error(
        "group '{group}' of queue '{queue}' was made as '{}' or with other filters",
        kind.as_str()
    )]
    OtherGroup {
        /// The queue.
        queue: Arc<str>,
        /// The group.
        group: String,
        /// Its kind.
        kind: GroupKind,
    },
    /// A queue that cannot take dead letters.
    #[error(
        "queue '{0}': its dead letters cannot go to '{1}', which must be another queue that is there and durable"
    )]
    DeadLetter(Arc<str>, String),
    /// No such group.
    #[error("queue '{queue}' has no group '{group}'")]
    NoGroup {
        /// The queue.
        queue: Arc<str>,
        /// The group.
        group: String,
    },
    /// A queue that the node itself needs.
    #[error("queue '{0}' is the node's own and cannot be removed")]
    Needed(Arc<str>),
    /// The log could not do it.
    #[error(transparent)]
    Log(#[from] QueueError),
    /// It was done, and the log has no room to say so.
    #[error(
        "queue '{0}': done, but not durable while the disk is full: a crash before there is room \
         undoes it"
    )]
    NotDurable(Arc<str>),
    /// The removal of the queue that had this name could not be made durable.
    #[error("the removal of the queue that had this name is not durable: {0}")]
    Commit(#[from] CommitError),
}

impl ManageError {
    /// The code to answer with.
    pub fn code(&self) -> Code {
        match self {
            ManageError::NoQueue(_) | ManageError::NoGroup { .. } => Code::NotFound,
            ManageError::DeadLetter(..) => Code::Invalid,
            ManageError::Exists(_)
            | ManageError::Claimed(_)
            | ManageError::Durability(_)
            | ManageError::OtherGroup { .. } => Code::Exists,
            ManageError::Needed(_) => Code::Forbidden,
            ManageError::KeyPriorities(_) => Code::Unsupported,
            ManageError::Groups(..) => Code::Busy,
            ManageError::NotDurable(_) | ManageError::Commit(CommitError::NoSpace(_)) => {
                Code::DiskFull
            }
            ManageError::Log(QueueError::Io(error)) if error.is_no_space() => Code::DiskFull,
            ManageError::Log(_) | ManageError::Commit(_) => Code::Internal,
        }
    }
}

/// A queue as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// The first offset that some group may still need.
    pub first_offset: u64,
    /// When its oldest message was received, in ms since 1970, where one queue was asked for by
    /// [`Shard::queue_and_oldest`]; 0 where there is none.
    pub first_time_ms: u64,
    /// The offset of the next message.
    pub next_offset: u64,
    /// Messages held.
    pub messages: u64,
    /// Slab bytes held, right to within 64 KiB and a segment.
    pub bytes: u64,
    /// Its groups.
    pub groups: Vec<GroupView>,
    /// Who named it: `config`, `network` or `node`.
    pub source: &'static str,
    /// Its identity, for a durable queue.
    pub incarnation: Option<Incarnation>,
    /// Since the node started.
    pub published: u64,
    /// Since the node started.
    pub delivered: u64,
    /// Since the node started.
    pub acked: u64,
    /// By a limit, since the node started.
    pub dropped: u64,
    /// From here to the dead letters, since the node started.
    pub dead_lettered: u64,
    /// Messages that expired, since the node started.
    pub expired: u64,
    /// Messages that it had already, since the node started.
    pub duplicates: u64,
    /// Message ids that it remembers.
    pub dedup_ids: u64,
    /// Messages that wait for receipts, and receipts that wait to be taken.
    pub receipts: u64,
}

/// A group as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// How it was made.
    pub options: GroupOptions,
    /// Every offset below is acked.
    pub acked_below: u64,
    /// The next that was never delivered.
    pub next_offset: u64,
    /// Not acked.
    pub pending: u64,
    /// Delivered and not acked.
    pub in_flight: u64,
    /// Its consumers now.
    pub consumers: u32,
    /// Deliveries that were not the first of their message, since the node started.
    pub redelivered: u64,
}

/// A message that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// Its offset.
    pub offset: u64,
    /// When it was received, in ms since 1970.
    pub receive_time_ms: u64,
    /// Its body.
    pub body: Bytes,
}

impl<V: Vfs> Shard<V> {
    /// Makes a queue; durable when this returns. One that is there with the same settings is no
    /// error; `source` `config` and `node` also bring other settings.
    pub fn ensure_queue(
        &mut self,
        name: &str,
        settings: Settings,
        incarnation: Incarnation,
        source: &'static str,
    ) -> Result<(), ManageError> {
        if let Some(id) = self.slot_of(name) {
            return self.resettle(id, name, settings, source);
        }
        if source == "network" {
            self.check_dead_letter(name, &settings)?;
        }
        let is_durable = settings.durability.is_logged();
        if is_durable {
            // After a crash there must not be two of one name.
            if self.removed.contains(name) {
                self.log.commit(self.wall_ms)?;
                self.removed.remove(name);
            }
            self.log
                .create_queue(incarnation, name, &stored(&settings, Some(source)))?;
        }
        let queue = Queue::new(name, settings);
        let mut slot = Slot::new(queue, is_durable.then_some(incarnation), source);
        slot.made_by = Some(source);
        self.add_slot(slot);
        Ok(())
    }

    fn resettle(
        &mut self,
        id: crate::SlotId,
        name: &str,
        settings: Settings,
        source: &'static str,
    ) -> Result<(), ManageError> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        let is_same = *slot.queue.settings() == settings;
        if source == "network" {
            return if is_same {
                Ok(())
            } else {
                Err(ManageError::Exists(name.into()))
            };
        }
        if source == "config" && slot.made_by == Some("network") {
            return Err(ManageError::Claimed(name.into()));
        }
        slot.source = source;
        let is_known = slot.made_by.replace(source) == Some(source);
        if let Some(incarnation) = slot.incarnation.filter(|_| !is_known) {
            let before = stored(slot.queue.settings(), Some(source));
            self.log.update_settings(incarnation, name, &before)?;
        }
        self.settle_in(id, name, settings)
    }

    /// Gives a queue other settings; they hold from the next message on. Durable when this returns.
    pub fn set_queue(&mut self, name: &str, settings: Settings) -> Result<(), ManageError> {
        let id = self.known(name)?;
        self.check_dead_letter(name, &settings)?;
        let slot = self.slots.get(&id);
        let mut groups = slot
            .into_iter()
            .flat_map(|slot| slot.queue.groups().values());
        if settings.priorities > 1 && groups.any(|g| g.options.kind == GroupKind::Key) {
            return Err(ManageError::KeyPriorities(name.into()));
        }
        self.settle_in(id, name, settings)
    }

    /// A queue's own dead-letter queue must be there and durable, and not itself.
    fn check_dead_letter(&self, name: &str, settings: &Settings) -> Result<(), ManageError> {
        let wanted = settings.dead_letter.as_str();
        match wanted == waypost_core::DEAD_LETTER || self.takes_dead_letters(name, wanted) {
            true => Ok(()),
            false => Err(ManageError::DeadLetter(name.into(), wanted.to_owned())),
        }
    }

    /// Whether a queue can take the dead letters of another.
    pub(crate) fn takes_dead_letters(&self, of: &str, queue: &str) -> bool {
        let slot = self.slot_of(queue).and_then(|id| self.slots.get(&id));
        queue != of && slot.is_some_and(|slot| slot.incarnation.is_some())
    }

    fn settle_in(
        &mut self,
        id: crate::SlotId,
        name: &str,
        settings: Settings,
    ) -> Result<(), ManageError> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        if *slot.queue.settings() == settings {
            return Ok(());
        }
        if settings.durability != slot.queue.settings().durability {
            return Err(ManageError::Durability(name.into()));
        }
        if let Some(incarnation) = slot.incarnation {
            // What went ahead of its commit under the old settings must not be lost under these.
            if settings.deliver != slot.queue.settings().deliver {
                self.log.commit(self.wall_ms)?;
            }
            self.log
                .update_settings(incarnation, name, &stored(&settings, slot.made_by))?;
        }
        slot.queue.set_settings(settings);
        if slot.queue.settings().last_value != slot.last_values.is_some() {
            slot.last_values = last_values(&slot.queue);
        }
        self.sweep_soon(id);
        // What it keeps may be less than it kept.
        self.moved.insert(id);
        Ok(())
    }

    /// Removes a queue with everything in it; its consumers are closed. Durable after the next
    /// commit.
    pub fn remove_queue(&mut self, name: &str) -> Result<u64, ManageError> {
        if name == waypost_core::DEAD_LETTER {
            return Err(ManageError::Needed(name.into()));
        }
        let id = self
            .slot_of(name)
            .ok_or_else(|| ManageError::NoQueue(name.into()))?;
        if let Some(incarnation) = self.incarnation_of(id) {
            self.log.remove_queue(incarnation)?;
            self.removed.insert(name.into());
        }
        self.receipts_end(id);
        self.close_consumers(id, None, Code::Gone, &format!("queue '{name}' was removed"));
        self.names.remove(name);
        let Some(mut slot) = self.slots.remove(&id) else {
            return Ok(0);
        };
        if let Some(at) = slot.timer {
            self.timers.remove(&(at, id));
        }
        slot.tail.clear(&mut self.cache);
        Ok(slot.queue.messages())
    }

    /// Drops every message of a queue, delivered or not. Durable after the next commit.
    pub fn purge_queue(&mut self, now: Now, name: &str) -> Result<u64, ManageError> {
        let id = self
            .slot_of(name)
            .ok_or_else(|| ManageError::NoQueue(name.into()))?;
        let all = Range {
            first: 0,
            last: u64::MAX - 1,
        };
        let receipts = self.receipts_of_lost(id, &[all], Outcome::Removed);
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(0);
        };
        let (entry, gone) = slot.queue.purge();
        self.holds_nothing(id, None);
        self.ready.insert(id);
        self.journal_with(id, entry, receipts, now);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.members.values_mut().for_each(|m| m.read_ahead.clear());
        }
        match self.behind.contains(&id) {
            true => drop(self.moved.insert(id)),
            false => self.let_go(id),
        }
        Ok(gone)
    }

    /// All queues, by name.
    pub fn queues(&self) -> Vec<QueueView> {
        let mut views: Vec<QueueView> = self.slots.values().map(view).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// One queue.
    pub fn queue(&self, name: &str) -> Result<QueueView, ManageError> {
        let slot = self.slot_of(name).and_then(|id| self.slots.get(&id));
        slot.map(view)
            .ok_or_else(|| ManageError::NoQueue(name.into()))
    }

    /// One queue, and when its oldest message came, which may have to be read from disk.
    pub fn queue_and_oldest(&mut self, name: &str) -> Result<QueueView, ManageError> {
        let (oldest, _) = self.peek(name, 0, 1)?;
        let mut view = self.queue(name)?;
        view.first_time_ms = oldest.first().map_or(0, |message| message.receive_time_ms);
        Ok(view)
    }

    /// Looks at messages without taking them: those from `from` on that some group may still
    /// need, `count` and 1 MiB at most. Gives also where to go on.
    pub fn peek(
        &mut self,
        name: &str,
        from: u64,
        count: u32,
    ) -> Result<(Vec<Peeked>, u64), ManageError> {
        let id = self
            .slot_of(name)
            .ok_or_else(|| ManageError::NoQueue(name.into()))?;
        let Some(slot) = self.slots.get(&id) else {
            return Ok((Vec::new(), from));
        };
        let end = slot.queue.visible();
        let mut offset = from.max(slot.queue.first());
        let (mut found, mut bytes) = (Vec::new(), 0);
        while offset < end && found.len() < count as usize && bytes < 1 << 20 {
            match self.chunk_at(id, "", offset) {
                Found::Chunk(chunk) => {
                    let skip = (offset - chunk.first_offset) as usize;
                    for body in chunk.slab.bodies().skip(skip) {
                        if found.len() >= count as usize || bytes >= 1 << 20 {
                            break;
                        }
                        let slot = self.slots.get(&id);
                        if slot.is_some_and(|s| !s.queue.gone().contains(offset)) {
                            bytes += body.len();
                            found.push(Peeked {
                                offset,
                                receive_time_ms: chunk.time_ms,
                                body,
                            });
                        }
                        offset += 1;
                    }
                }
                Found::Nothing { until } => offset = until.max(offset + 1),
                Found::Unreadable => break,
            }
        }
        self.forget_ahead(id);
        Ok((found, offset))
    }
}

fn view(slot: &Slot) -> QueueView {
    let queue = &slot.queue;
    let group = |(name, named): (&String, &waypost_core::queue::NamedGroup)| GroupView {
        name: name.clone(),
        options: named.options.clone(),
        acked_below: named.group.floor(),
        next_offset: named.group.fresh(),
        pending: named.group.pending(queue.next()),
        in_flight: named.group.in_flight(),
        consumers: slot
            .members
            .get(name)
            .map_or(0, |m| m.consumers.len() as u32),
        redelivered: named.group.redelivered(),
    };
    QueueView {
        name: queue.name().to_owned(),
        settings: queue.settings().clone(),
        first_time_ms: 0,
        first_offset: queue.first(),
        next_offset: queue.next(),
        messages: queue.messages(),
        bytes: queue.bytes(),
        groups: queue.groups().iter().map(group).collect(),
        source: slot.source,
        incarnation: slot.incarnation,
        published: slot.published,
        delivered: slot.delivered,
        acked: slot.acked,
        dropped: slot.dropped,
        dead_lettered: slot.dead_lettered,
        expired: slot.expired,
        duplicates: slot.duplicates,
        dedup_ids: queue.ids().len() as u64,
        receipts: queue.receipts().outstanding_all(),
    }
}
