//! Live subscribers: who is there, and what waits for each.
//!
//! A subscriber that reads too slowly first slows the publishers of its topics, whose confirms wait
//! until it has caught up. When that has lasted for its patience, it loses messages instead, is
//! told how many and where, and slows nobody until it has caught up. One that wants to miss nothing
//! unnoticed asks to be cut off instead.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use waypost_core::trie::FilterTrie;
use waypost_wire::{Filter, Slab};

/// For a subscriber's stream.
#[derive(Debug)]
pub(crate) enum LiveEvent {
    Batch { receive_time_ms: u64, slab: Slab },
    Lost(u64),
}

/// What an event takes beside its slab.
const EVENT_BYTES: usize = 64;

/// A small slab must not keep the buffer alive that it was read into.
fn own_bytes(slab: Slab) -> Slab {
    const COPIED_BELOW: usize = 2048;
    match slab.bytes().len() < COPIED_BELOW {
        true => Slab::from_checked(Bytes::copy_from_slice(slab.bytes()), slab.count()),
        false => slab,
    }
}

/// One live subscription.
#[derive(Debug)]
pub(crate) struct Subscriber {
    id: u64,
    state: Mutex<State>,
    /// Its stream's task waits for messages.
    arrived: Notify,
    /// Publishers wait for room.
    relieved: Notify,
    is_lossy: AtomicBool,
    bytes_max: usize,
    /// It is cut off where it would lose messages.
    is_strict: bool,
    is_cut: AtomicBool,
    cut: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<LiveEvent>,
    bytes: usize,
    is_gone: bool,
}

impl Subscriber {
    fn new(id: u64, bytes_max: usize, is_strict: bool) -> Subscriber {
        Subscriber {
            id,
            state: Mutex::default(),
            arrived: Notify::new(),
            relieved: Notify::new(),
            is_lossy: AtomicBool::new(false),
            bytes_max,
            is_strict,
            is_cut: AtomicBool::new(false),
            cut: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over messages. Gives how many were left out, and whether the publisher should wait
    /// for [`Subscriber::relief`]. Its windows bound what comes in after that.
    pub fn push(&self, receive_time_ms: u64, slab: Slab) -> (u64, bool) {
        let count = u64::from(slab.count());
        let mut state = self.state();
        if state.is_gone {
            return (0, false);
        }
        let is_full = state.bytes >= self.bytes_max;
        if is_full && self.is_lossy.load(Relaxed) {
            match state.events.back_mut() {
                Some(LiveEvent::Lost(lost)) => *lost += count,
                _ => state.events.push_back(LiveEvent::Lost(count)),
            }
            return (count, false);
        }
        let slab = own_bytes(slab);
        state.bytes += slab.bytes().len() + EVENT_BYTES;
        let was_empty = state.events.is_empty();
        state.events.push_back(LiveEvent::Batch {
            receive_time_ms,
            slab,
        });
        let is_full = state.bytes >= self.bytes_max;
        drop(state);
        if was_empty {
            self.arrived.notify_one();
        }
        (0, is_full)
    }

    /// Waits until half of the buffer is free, or for `patience`; then the subscriber loses
    /// messages until it has caught up, or is cut off.
    pub async fn relief(&self, patience: Duration) {
        let wait = async {
            loop {
                let notified = self.relieved.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                if self.has_room() {
                    return;
                }
                notified.await;
            }
        };
        if !self.is_lossy.load(Relaxed) && tokio::time::timeout(patience, wait).await.is_err() {
            self.is_lossy.store(true, Relaxed);
            if self.is_strict {
                self.is_cut.store(true, Relaxed);
                self.leave();
                self.cut.notify_one();
            }
        }
    }

    /// Waits until it is cut off; for one task.
    pub async fn cut(&self) {
        while !self.is_cut.load(Relaxed) {
            self.cut.notified().await;
        }
    }

    fn has_room(&self) -> bool {
        let state = self.state();
        state.is_gone || state.bytes <= self.bytes_max / 2
    }

    /// Takes what waits, about `bytes` of it; waits until there is something.
    pub async fn take(&self, bytes: usize, into: &mut Vec<LiveEvent>) {
        loop {
            if self.try_take(bytes, into) {
                return;
            }
            self.arrived.notified().await;
        }
    }

    fn try_take(&self, bytes: usize, into: &mut Vec<LiveEvent>) -> bool {
        let mut state = self.state();
        let mut taken = 0;
        while taken < bytes
            && let Some(event) = state.events.pop_front()
        {
            if let LiveEvent::Batch { slab, .. } = &event {
                taken += slab.bytes().len() + EVENT_BYTES;
            }
            into.push(event);
        }
        let was_above = state.bytes > self.bytes_max / 2;
        state.bytes -= taken;
        if was_above && state.bytes <= self.bytes_max / 2 {
            self.is_lossy.store(false, Relaxed);
            drop(state);
            self.relieved.notify_waiters();
        }
        !into.is_empty()
    }

    fn leave(&self) {
        let mut state = self.state();
        state.is_gone = true;
        state.events.clear();
        state.bytes = 0;
        drop(state);
        self.relieved.notify_waiters();
    }
}

/// All live subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    trie: RwLock<FilterTrie<ById>>,
    /// Grows with each change, so that cached answers know that they are old.
    version: AtomicU64,
    next_id: AtomicU64,
}

#[derive(Clone, Debug)]
struct ById(Arc<Subscriber>);

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Hub {
    /// Changes whenever [`Hub::matching`] may answer otherwise.
    pub fn version(&self) -> u64 {
        self.version.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Adds a subscriber for all these filters.
    /// A strict one is cut off where it would lose messages.
    pub fn join(
        self: &Arc<Self>,
        filters: Vec<Filter>,
        bytes_max: usize,
        is_strict: bool,
    ) -> Membership {
        let id = self.next_id.fetch_add(1, Relaxed);
        let subscriber = Arc::new(Subscriber::new(id, bytes_max, is_strict));
        {
            let mut trie = self.trie.write().unwrap_or_else(PoisonError::into_inner);
            for filter in &filters {
                trie.insert(filter, ById(subscriber.clone()));
            }
        }
        self.version
            .fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        Membership {
            hub: self.clone(),
            filters,
            subscriber,
        }
    }

    /// The subscribers of a topic, each once whatever filters it has.
    pub fn matching(&self, topic: &str) -> Vec<Arc<Subscriber>> {
        let trie = self.trie.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Arc<Subscriber>> = Vec::new();
        trie.matches(topic, |ById(subscriber)| {
            if !found.iter().any(|other| other.id == subscriber.id) {
                found.push(subscriber.clone());
            }
        });
        found
    }
}

/// A subscriber's place in the hub; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Membership {
    hub: Arc<Hub>,
    filters: Vec<Filter>,
    pub subscriber: Arc<Subscriber>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        {
            let mut trie = self
                .hub
                .trie
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            for filter in &self.filters {
                trie.remove(filter, &ById(self.subscriber.clone()));
            }
        }
        self.hub
            .version
            .fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        self.subscriber.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_wire::slab::SlabBuilder;

    fn slab(bytes: usize) -> Slab {
        let mut builder = SlabBuilder::new();
        builder.push(&vec![0; bytes]);
        builder.finish()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_subscriber_slows_then_loses_then_recovers() {
        let hub = Arc::new(Hub::default());
        let membership = hub.join(vec![Filter::new("a/#").unwrap()], 200, false);
        let subscriber = &hub.matching("a/b")[0];
        assert_eq!(subscriber.push(1, slab(150)), (0, true));
        subscriber.relief(Duration::from_secs(1)).await;
        assert_eq!(subscriber.push(2, slab(10)), (1, false));
        assert_eq!(subscriber.push(2, slab(10)), (1, false));
        let mut events = Vec::new();
        membership.subscriber.take(1000, &mut events).await;
        assert!(
            matches!(events[..], [LiveEvent::Batch { .. }, LiveEvent::Lost(2)]),
            "{events:?}"
        );
        assert_eq!(subscriber.push(3, slab(10)), (0, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_strict_subscriber_is_cut_off_and_holds_nothing() {
        let hub = Arc::new(Hub::default());
        let membership = hub.join(vec![Filter::new("a").unwrap()], 200, true);
        let subscriber = &hub.matching("a")[0];
        assert_eq!(subscriber.push(1, slab(150)), (0, true));
        subscriber.relief(Duration::from_secs(1)).await;
        membership.subscriber.cut().await;
        assert_eq!(subscriber.push(2, slab(500)), (0, false));
        let mut events = Vec::new();
        assert!(!subscriber.try_take(1000, &mut events), "{events:?}");
    }

    #[test]
    fn overlapping_filters_give_one_copy_and_leaving_ends_it() {
        let hub = Arc::new(Hub::default());
        let version = hub.version();
        let filters = ["a/#", "+/b"].map(|f| Filter::new(f).unwrap()).to_vec();
        let membership = hub.join(filters, 100, false);
        assert_eq!(hub.matching("a/b").len(), 1);
        assert_ne!(hub.version(), version);
        drop(membership);
        assert_eq!(hub.matching("a/b").len(), 0);
        assert_eq!(Slab::from_checked(Bytes::new(), 0).count(), 0);
    }
}
