//! What a consumer has been delivered, what it says of it, and its credit, as a state machine
//! without I/O.
//!
//! Credit is counted in totals of the stream: what the application took plus a window, renewed
//! once half the window is used. So at most a window lies here unread.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::oneshot;
use waypost_wire::data::{ConsumerFrame, Deliver, Range};
use waypost_wire::ranges::RangeSet;

use super::Batch;
use crate::error::Error;

/// Which opening of the consumer's stream a delivery belongs to. What is said of an older one's
/// deliveries is not sent: the node has taken them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

/// What a consumer did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Messages delivered by the node.
    pub delivered: u64,
    /// Messages handed to the application.
    pub taken: u64,
    /// Messages acked, with those whose ack was not sent any more.
    pub acked: u64,
    /// Messages of which something was said too late, after the stream was opened anew; they come
    /// again.
    pub stale: u64,
}

/// Which consumer the node knows a stream as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct At {
    /// The connection, by its id in this process.
    pub connection: u64,
    /// The number that the node gave.
    pub consumer: u64,
}

#[derive(Default)]
pub(crate) struct Inbox {
    at: At,
    session: u64,
    window_messages: u64,
    window_bytes: u64,
    ready: VecDeque<Batch>,
    delivered: (u64, u64),
    taken: (u64, u64),
    granted: (u64, u64),
    /// What was delivered and of which nothing final was said.
    held: RangeSet,
    words: Vec<ConsumerFrame>,
    stats: ConsumerStats,
    /// No more credit: the stream is finished once the application has settled what it holds.
    pub(crate) draining: bool,
    /// No more deliveries: the stream is finished as soon as all words are sent.
    pub(crate) closing: bool,
    /// Set when the consumer is of no more use.
    pub(crate) ended: Option<Error>,
    pub(crate) closed: Option<oneshot::Sender<()>>,
}

impl Inbox {
    pub(crate) fn new(window_messages: u64, window_bytes: u64) -> Inbox {
        Inbox {
            window_messages: window_messages.max(1),
            window_bytes: window_bytes.max(1),
            ..Inbox::default()
        }
    }

    pub(crate) fn stats(&self) -> ConsumerStats {
        self.stats
    }

    /// A stream was opened: deliveries of the old one are the group's again.
    pub(crate) fn reopen(&mut self, at: At) {
        self.at = at;
        self.session += 1;
        self.ready.clear();
        self.words.clear();
        (self.delivered, self.taken, self.granted) = ((0, 0), (0, 0), (0, 0));
        self.held = RangeSet::new();
        self.draining = false;
    }

    /// Takes a delivery in; says what is wrong with it.
    pub(crate) fn deliver(&mut self, deliver: Deliver) -> Result<(), String> {
        let (messages, bytes) = self.delivered;
        let count = u64::from(deliver.slab.count());
        if messages + count > self.granted.0 || bytes >= self.granted.1 {
            return Err(format!(
                "{} messages and {bytes} bytes before this batch of {count}, credit is {} and {}",
                messages, self.granted.0, self.granted.1
            ));
        }
        self.delivered = (messages + count, bytes + deliver.slab.bytes().len() as u64);
        self.stats.delivered += count;
        self.held.insert_all(&super::ranges(&deliver));
        if count > 0 && !self.closing {
            self.ready
                .push_back(Batch::new(SessionId(self.session), deliver));
        }
        Ok(())
    }

    /// The next batch for the application.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let batch = self.ready.pop_front()?;
        let count = u64::from(batch.len());
        self.taken.0 += count;
        self.taken.1 += batch.bytes() as u64;
        self.stats.taken += count;
        Some(batch)
    }

    /// Whether CREDIT is due, so that the driver must be woken.
    pub(crate) fn credit_is_due(&self) -> bool {
        let open = !self.draining && !self.closing;
        let due =
            |taken: u64, window: u64, granted: u64| taken + window - granted >= window.div_ceil(2);
        open && (due(self.taken.0, self.window_messages, self.granted.0)
            || due(self.taken.1, self.window_bytes, self.granted.1))
    }

    /// Whom the node knows the deliveries of an opening with; none where it has taken them back.
    pub(crate) fn at(&self, session: SessionId) -> Option<At> {
        (session.0 == self.session && self.ended.is_none()).then_some(self.at)
    }

    /// Deliveries were acked otherwise than on the stream.
    pub(crate) fn acked(&mut self, session: SessionId, ranges: &[Range]) {
        self.stats.acked += ranges.iter().map(Range::count).sum::<u64>();
        if session.0 == self.session {
            self.held.remove_all(ranges);
        }
    }

    /// Says something of deliveries; `false` where it is too late for that.
    pub(crate) fn say(&mut self, session: SessionId, word: ConsumerFrame) -> Result<bool, Error> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let up_to;
        let (ranges, is_final) = match &word {
            ConsumerFrame::Ack(ranges)
            | ConsumerFrame::Nack { ranges, .. }
            | ConsumerFrame::Reject { ranges, .. } => (&ranges[..], true),
            ConsumerFrame::AckUpTo(last) => {
                let last = *last;
                up_to = [Range { first: 0, last }];
                (&up_to[..], true)
            }
            ConsumerFrame::Extend { ranges, .. } => (&ranges[..], false),
            ConsumerFrame::Credit { .. } => return Ok(false),
        };
        if session.0 != self.session {
            // How many an ack up to an offset meant is not known any more.
            if !matches!(word, ConsumerFrame::AckUpTo(_)) {
                self.stats.stale += ranges.iter().map(Range::count).sum::<u64>();
            }
            return Ok(false);
        }
        if is_final {
            let before = self.held.offsets();
            self.held.remove_all(ranges);
            let taken = before - self.held.offsets();
            match &word {
                ConsumerFrame::Ack(ranges) => {
                    self.stats.acked += ranges.iter().map(Range::count).sum::<u64>();
                }
                ConsumerFrame::AckUpTo(_) => self.stats.acked += taken,
                _ => {}
            }
        }
        match (self.words.last_mut(), word) {
            (Some(ConsumerFrame::Ack(all)), ConsumerFrame::Ack(more)) => all.extend(more),
            (_, word) => self.words.push(word),
        }
        Ok(true)
    }

    /// Appends everything that there is to say. Gives whether the stream is to be finished.
    pub(crate) fn put(&mut self, out: &mut BytesMut) -> bool {
        for mut word in self.words.drain(..) {
            match &mut word {
                ConsumerFrame::Ack(ranges)
                | ConsumerFrame::Nack { ranges, .. }
                | ConsumerFrame::Reject { ranges, .. }
                | ConsumerFrame::Extend { ranges, .. } => merge(ranges),
                ConsumerFrame::AckUpTo(_) | ConsumerFrame::Credit { .. } => {}
            }
            word.put(out);
        }
        if self.credit_is_due() {
            self.granted.0 = self.taken.0 + self.window_messages;
            self.granted.1 = self.granted.1.max(self.taken.1 + self.window_bytes);
            ConsumerFrame::Credit {
                messages: self.granted.0,
                bytes: self.granted.1,
            }
            .put(out);
        }
        self.closing || (self.draining && self.held.is_empty())
    }
}

/// Sorts ranges and joins those that touch, as the frames want them.
pub(crate) fn merge(ranges: &mut Vec<Range>) {
    ranges.sort_unstable();
    let mut kept = 0;
    for i in 0..ranges.len() {
        let range = ranges[i];
        if kept > 0 && range.first <= ranges[kept - 1].last.saturating_add(1) {
            ranges[kept - 1].last = ranges[kept - 1].last.max(range.last);
        } else {
            ranges[kept] = range;
            kept += 1;
        }
    }
    ranges.truncate(kept);
}

/// A duration as the frames carry it.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .min(waypost_wire::varint::MAX)
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
