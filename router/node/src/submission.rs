//! What a batch becomes: words for its publisher, and a set of the log.
//!
//! Invariant: whatever a message caused is in one batch for the shard, or its publisher is told
//! that it was refused.

use bytes::Bytes;
use waypost_core::pipeline::{Outcome, Output, Trace};
use waypost_core::session::BatchId;
use waypost_shard::{Batch, Part, Stamp};
use waypost_wire::data::{ConsumerAcks, Exception, ExceptionKind, Level};
use waypost_wire::slab::SlabBuilder;
use waypost_wire::{Code, Slab};

/// What is said of the messages of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// The publisher's number of the first.
    pub first_sequence: u64,
    pub count: u32,
    /// By sequence.
    pub exceptions: Vec<Exception>,
    /// The level, unless a queue that it reaches gives a weaker one.
    pub level: Level,
}

impl Account {
    /// The same word for all messages.
    pub fn except_all(&mut self, (kind, code, text): (ExceptionKind, Code, &'static str)) {
        let sequences = self.first_sequence..self.first_sequence + u64::from(self.count);
        let exception = |sequence| Exception {
            sequence,
            kind,
            code,
            text: text.to_owned(),
        };
        self.exceptions = sequences.map(exception).collect();
    }

    /// The queues' words for single messages, which come instead of what was to be said of them.
    pub fn except(&mut self, words: Vec<Exception>) {
        let is_said = |e: &Exception| {
            words
                .binary_search_by_key(&e.sequence, |word| word.sequence)
                .is_ok()
        };
        self.exceptions.retain(|e| !is_said(e));
        self.exceptions.extend(words);
        self.exceptions.sort_unstable_by_key(|e| e.sequence);
    }

    /// The queues took nothing of the batch: whatever was to be said of a message, unless it was
    /// refused before, this comes instead.
    pub fn refuse_all(&mut self, code: Code, text: &str) {
        self.exceptions.retain(|e| e.kind == ExceptionKind::Refused);
        let mut refused = std::mem::take(&mut self.exceptions).into_iter().peekable();
        for sequence in self.first_sequence..self.first_sequence + u64::from(self.count) {
            let before = refused.next_if(|e| e.sequence == sequence);
            self.exceptions.push(before.unwrap_or_else(|| Exception {
                sequence,
                kind: ExceptionKind::Refused,
                code,
                text: text.to_owned(),
            }));
        }
    }

    /// The inputs that were refused, ascending.
    pub fn refused(&self) -> impl Iterator<Item = u64> {
        let refused = self.exceptions.iter();
        let refused = refused.filter(|e| e.kind == ExceptionKind::Refused);
        refused.map(|e| e.sequence - self.first_sequence)
    }
}

/// A batch on its way to the shard.
#[derive(Debug)]
pub(crate) struct Submission {
    pub ticket: BatchId,
    /// What is not routed is refused.
    pub is_mandatory: bool,
    /// It is replayed on purpose: message ids do not count.
    pub is_replay: bool,
    /// Its producer is told what groups did with it.
    pub receipts: bool,
    /// Somebody wants to know where it is stored.
    pub wants_places: bool,
    pub stamp: Option<Stamp>,
    /// All of it is taken, with these acks, or nothing.
    pub transaction: Option<Vec<ConsumerAcks>>,
}

impl Submission {
    /// Everything that a batch causes is known: all of each message or nothing, and with `is_whole`
    /// all of the batch or nothing. `None` where the shard need not see it; the account says what
    /// became of it then.
    pub fn batch(self, account: &mut Account, parts: Vec<Part>, is_whole: bool) -> Option<Batch> {
        if self.is_mandatory {
            let unroutable = |e: &&mut Exception| e.kind == ExceptionKind::Unroutable;
            let nowhere = account.exceptions.iter_mut().filter(unroutable);
            nowhere.for_each(|e| e.kind = ExceptionKind::Refused);
        }
        let refused = |e: &&Exception| e.kind == ExceptionKind::Refused;
        if let (Some(_), Some(first)) = (&self.transaction, account.exceptions.iter().find(refused))
        {
            let (code, sequence) = (first.code, first.sequence);
            let text = format!("message {sequence} of the transaction is refused");
            account.refuse_all(code, &text);
            return None;
        }
        // The shard has to see all that a producer sends again, even where it goes nowhere now.
        if parts.is_empty() && self.stamp.is_none() && self.transaction.is_none() {
            return None;
        }
        Some(Batch {
            ticket: self.ticket,
            first_sequence: account.first_sequence,
            count: account.count,
            parts,
            is_whole: is_whole || self.transaction.is_some(),
            transaction: self.transaction,
            stamp: self.stamp,
            is_replay: self.is_replay,
            receipts: self.receipts,
            wants_places: self.wants_places,
        })
    }

    /// The same for what the pipeline made of a batch that came as `slab`. `own` is for queues of
    /// the router's own; with it, the batch is taken whole.
    pub fn routed(
        self,
        mut account: Account,
        slab: &Slab,
        outcome: Outcome,
        own: Vec<Part>,
    ) -> (Routed, Option<Batch>) {
        let mut stored = vec![false; account.count as usize];
        let words = outcome.exceptions_from(account.first_sequence);
        let is_whole = !own.is_empty();
        // What plugins kept of a message that its publisher sends again would count twice.
        let is_for_now = |e: &&Exception| e.kind == ExceptionKind::Refused && e.code.is_retryable();
        let again = words.iter().find(is_for_now).filter(|_| is_whole);
        let again = again.map(|e| {
            (
                e.code,
                format!("{}, in a batch with state of plugins", e.text),
            )
        });
        account.exceptions.extend(words);
        account.exceptions.sort_unstable_by_key(|e| e.sequence);
        if let Some((code, text)) = again {
            account.refuse_all(code, &text);
            let routed = Routed {
                account,
                live: Vec::new(),
                traces: outcome.traces,
                is_submitted: false,
            };
            return (routed, None);
        }
        let mut parts = Vec::new();
        for (queue, outputs) in outcome.queues {
            for output in &outputs {
                stored[output.input as usize] = true;
            }
            let inputs = outputs.iter().map(|output| output.input).collect();
            parts.push(Part {
                queue,
                slab: slab_of(outputs.iter().map(|output| &output.body), slab),
                inputs,
                // A plugin may have said when; beside its run, a look costs nothing.
                is_timed: true,
            });
        }
        if !outcome.dead.is_empty() {
            let mut slab = SlabBuilder::new();
            outcome.dead.iter().for_each(|dead| slab.push(&dead.body));
            parts.push(Part {
                queue: waypost_core::DEAD_LETTER.into(),
                slab: slab.finish(),
                inputs: outcome.dead.iter().map(|dead| dead.input).collect(),
                is_timed: false,
            });
        }
        parts.extend(own);
        let words = account.exceptions.iter();
        words.for_each(|e| stored[(e.sequence - account.first_sequence) as usize] = true);
        if stored.contains(&false) {
            account.level = Level::Received;
        }
        let batch = self.batch(&mut account, parts, is_whole);
        let routed = Routed {
            account,
            live: outcome.live,
            traces: outcome.traces,
            is_submitted: batch.is_some(),
        };
        (routed, batch)
    }
}

/// What the plugins made of a batch.
#[derive(Debug)]
pub(crate) struct Routed {
    pub account: Account,
    /// For live subscribers, beside the messages themselves.
    pub live: Vec<Output>,
    /// Of messages that are to be explained.
    pub traces: Vec<Trace>,
    /// The shard says the rest.
    pub is_submitted: bool,
}

/// These bodies as a slab: a part of the batch that they came in where nothing changed them.
fn slab_of<'a>(bodies: impl Iterator<Item = &'a Bytes> + Clone, batch: &Slab) -> Slab {
    batch.part_of(bodies.clone()).unwrap_or_else(|| {
        let mut slab = SlabBuilder::new();
        bodies.for_each(|body| slab.push(body));
        slab.finish()
    })
}
