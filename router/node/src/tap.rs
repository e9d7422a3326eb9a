//! Taps: copies of sampled messages, for who looks at a running node.
//!
//! A tap sits on a topic or a route, where messages enter, or on a plugin, before or after its
//! calls. Invariants: a thread on the messages' way never waits for one (a lock that is held, or a
//! ring that is full, loses the copies, and they are counted); what a tap copies has a bound a
//! second, and what it holds another; without a tap a batch pays for one relaxed load.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use waypost_core::pipeline::{Item, Output};
use waypost_core::route::{Destination, PluginIndex, RouteIndex};
use waypost_wire::{Filter, RecordRef, Slab};

use crate::clock::wall_ms;
use crate::routing::Routing;

/// Taps of a node at a time.
pub(crate) const TAPS_MAX: usize = 8;
/// What the ring of one holds: messages and bytes.
const RING_MESSAGES: usize = 1_024;
const RING_BYTES: usize = 1 << 20;
/// What one copies at most, a second, whatever it was asked for.
const COPIES_A_SECOND: f64 = 10_000.0;
const BYTES_A_SECOND: f64 = (8 << 20) as f64;
/// Of what a plugin made of one message: how many are copied, and bytes beyond which none follows.
const AFTER_MAX: usize = 16;
const AFTER_BYTES_MAX: usize = 128 << 10;
/// A record that is longer is told with a part of its payload.
const RECORD_BYTES_MAX: usize = 64 << 10;
const PAYLOAD_SHOWN: usize = 4 << 10;

/// Where a tap sits, and what it takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Where {
    /// On this route; without a plugin, where messages enter it.
    pub route: Option<Arc<str>>,
    pub plugin: Option<Arc<str>>,
    /// Behind the plugin: with what it said.
    pub is_after: bool,
    /// Only these topics.
    pub filter: Option<Filter>,
    /// Of so many messages in a million, each by chance.
    pub sample_ppm: u32,
    /// At most so many a second; none: as many as a tap may.
    pub per_second: Option<u32>,
}

/// A message that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub time_ms: u64,
    pub route: Arc<str>,
    pub plugin: Arc<str>,
    /// Behind a plugin: what it said, why, and what it made of the message.
    pub verdict: &'static str,
    pub detail: String,
    /// What it made of it, as much as is copied, and how many more there were.
    pub after: Vec<Copy>,
    pub after_left_out: u32,
    pub message: Copy,
}

/// A record of its own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub record: Bytes,
    /// Bytes of its payload, where the record has only the first of them.
    pub cut_from: Option<u64>,
}

impl Copy {
    pub fn of(body: &[u8]) -> Copy {
        let record = match body.len() > RECORD_BYTES_MAX {
            true => RecordRef::parse(body).ok(),
            false => None,
        };
        let Some(record) = record else {
            return Copy {
                record: Bytes::copy_from_slice(body),
                cut_from: None,
            };
        };
        let mut message = record.to_message();
        let length = message.payload.len();
        message.payload = Bytes::copy_from_slice(&message.payload[..length.min(PAYLOAD_SHOWN)]);
        Copy {
            record: message.to_body(),
            cut_from: Some(length as u64),
        }
    }

    fn bytes(&self) -> usize {
        self.record.len()
    }
}

/// Copies of what a plugin made of one message, and how many were left out.
fn copies(bodies: &[Bytes]) -> (Vec<Copy>, u32) {
    let (mut copies, mut bytes): (Vec<Copy>, usize) = (Vec::new(), 0);
    for body in bodies.iter().take(AFTER_MAX) {
        if bytes >= AFTER_BYTES_MAX {
            break;
        }
        let copy = Copy::of(body);
        bytes += copy.bytes();
        copies.push(copy);
    }
    let left_out = (bodies.len() - copies.len()) as u32;
    (copies, left_out)
}

impl Seen {
    fn bytes(&self) -> usize {
        const BESIDE: usize = 128;
        let after: usize = self.after.iter().map(Copy::bytes).sum();
        BESIDE + self.message.bytes() + after + self.detail.len()
    }
}

/// What a plugin said of a message, as a tap tells it.
pub(crate) struct Said {
    pub verdict: &'static str,
    pub detail: String,
    pub after: Vec<Bytes>,
}

/// One tap.
#[derive(Debug)]
pub(crate) struct Tap {
    at: Where,
    ring: Mutex<Ring>,
    /// Copies that were lost: the reader was slow, or too many came in a second.
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Ring {
    seen: VecDeque<Seen>,
    bytes: usize,
    chance: Chance,
    asked: Bucket,
    copies: Bucket,
    copied_bytes: Bucket,
}

/// What may be taken a second.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    left: f64,
    since: Instant,
}

impl Bucket {
    fn new(per_second: f64, now: Instant) -> Bucket {
        Bucket {
            per_second,
            left: per_second,
            since: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.per_second);
        self.since = now;
    }

    /// What is taken may be more than what is left, once.
    fn take(&mut self, amount: f64) -> bool {
        let is_left = self.left >= 1.0;
        if is_left {
            self.left -= amount;
        }
        is_left
    }
}

/// Which messages are taken by chance: how many are left out before the next one.
#[derive(Debug)]
struct Chance {
    share: f64,
    random: u64,
    gap: usize,
}

impl Chance {
    fn new(ppm: u32, seed: u64) -> Chance {
        let mut chance = Chance {
            share: f64::from(ppm) / 1e6,
            random: seed | 1,
            gap: 0,
        };
        chance.gap = chance.next_gap();
        chance
    }

    /// Geometric: as if a die were cast for each message.
    fn next_gap(&mut self) -> usize {
        if self.share >= 1.0 {
            return 0;
        }
        if self.share <= 0.0 {
            return usize::MAX;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let unit = ((self.random >> 11) + 1) as f64 / (1u64 << 53) as f64;
        (unit.ln() / (1.0 - self.share).ln()) as usize
    }

    /// The next of `count` messages from `from` on that is taken.
    fn next(&mut self, from: usize, count: usize) -> Option<usize> {
        let at = from.saturating_add(self.gap);
        if at >= count {
            self.gap = at - count;
            return None;
        }
        self.gap = self.next_gap();
        Some(at)
    }
}

impl Tap {
    pub fn new(at: Where) -> Tap {
        let now = Instant::now();
        let asked = at.per_second.map_or(COPIES_A_SECOND, f64::from);
        let chance = Chance::new(at.sample_ppm, crate::random_u64());
        Tap {
            at,
            ring: Mutex::new(Ring {
                seen: VecDeque::new(),
                bytes: 0,
                chance,
                asked: Bucket::new(asked.min(COPIES_A_SECOND), now),
                copies: Bucket::new(COPIES_A_SECOND, now),
                copied_bytes: Bucket::new(BYTES_A_SECOND, now),
            }),
            dropped: AtomicU64::new(0),
        }
    }

    /// Offers messages that pass: `body` gives the one at an index, if it is one for this tap, and
    /// `seen` is called for those that are taken.
    fn offer<'a>(
        &self,
        count: usize,
        body: impl Fn(usize) -> Option<&'a [u8]>,
        seen: impl Fn(usize, Copy) -> Seen,
    ) {
        let Ok(mut ring) = self.ring.try_lock() else {
            self.dropped.fetch_add(count as u64, Relaxed);
            return;
        };
        let ring = &mut *ring;
        let now = Instant::now();
        for bucket in [&mut ring.asked, &mut ring.copies, &mut ring.copied_bytes] {
            bucket.fill(now);
        }
        let mut from = 0;
        while let Some(index) = ring.chance.next(from, count) {
            from = index + 1;
            let Some(body) = body(index).filter(|body| self.takes(body)) else {
                continue;
            };
            // Who asked for so many a second misses nothing with the others.
            if self.at.per_second.is_some() && !ring.asked.take(1.0) {
                return;
            }
            let is_room = ring.seen.len() < RING_MESSAGES && ring.bytes < RING_BYTES;
            let is_left = ring.copied_bytes.left >= 1.0 && ring.copies.take(1.0);
            if !is_room || !is_left {
                self.dropped.fetch_add(1, Relaxed);
                continue;
            }
            let seen = seen(index, Copy::of(body));
            ring.copied_bytes.take(seen.bytes() as f64);
            ring.bytes += seen.bytes();
            ring.seen.push_back(seen);
        }
    }

    fn takes(&self, body: &[u8]) -> bool {
        let Some(filter) = &self.at.filter else {
            return true;
        };
        RecordRef::parse(body).is_ok_and(|record| filter.matches(record.topic()))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic elsewhere leaves a whole list.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is there; gives how many were dropped so far.
    pub fn take(&self, into: &mut Vec<Seen>) -> u64 {
        let mut ring = self.ring();
        into.extend(ring.seen.drain(..));
        ring.bytes = 0;
        self.dropped.load(Relaxed)
    }
}

/// All taps of a node.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    count: AtomicUsize,
    list: ArcSwap<Vec<Arc<Tap>>>,
    change: Mutex<()>,
}

/// A tap's place; dropping it ends the tap.
#[derive(Debug)]
pub(crate) struct Attached {
    taps: Arc<Taps>,
    pub tap: Arc<Tap>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.taps
            .change(|list| list.retain(|tap| !Arc::ptr_eq(tap, &self.tap)));
    }
}

impl Taps {
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Tap>>)) {
        let _turn = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.list.load().to_vec();
        change(&mut list);
        self.count.store(list.len(), Relaxed);
        self.list.store(Arc::new(list));
    }

    /// Whether anybody looks.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// Attaches a tap, if there is room for one more.
    pub fn attach(self: &Arc<Self>, at: Where) -> Option<Attached> {
        let tap = Arc::new(Tap::new(at));
        let mut is_room = false;
        self.change(|list| {
            is_room = list.len() < TAPS_MAX;
            if is_room {
                list.push(tap.clone());
            }
        });
        is_room.then(|| Attached {
            taps: self.clone(),
            tap,
        })
    }

    /// Messages have come from a publisher; `routes` are those that each takes, none where it was
    /// refused.
    pub fn published<'a>(
        &self,
        routing: &Routing,
        slab: &Slab,
        routes: impl Fn(usize) -> Option<&'a [RouteIndex]>,
    ) {
        let mut bodies: Vec<&[u8]> = Vec::new();
        for tap in self
            .list
            .load()
            .iter()
            .filter(|tap| tap.at.plugin.is_none())
        {
            if bodies.is_empty() {
                bodies.extend(slab.iter());
            }
            let body = |index: usize| {
                let routes = routes(index)?;
                tap.enters(routing, routes)
                    .then(|| bodies.get(index).copied())?
            };
            tap.offer(bodies.len(), body, |_, copy| tap.entered(copy));
        }
    }

    /// Messages have entered routing anew.
    pub fn reentered(&self, routing: &Routing, outputs: &[Output]) {
        for tap in self
            .list
            .load()
            .iter()
            .filter(|tap| tap.at.plugin.is_none())
        {
            let body = |index: usize| {
                let body = &outputs.get(index)?.body;
                let record = RecordRef::parse(body).ok()?;
                let is_it = tap.at.route.is_none()
                    || tap.enters(routing, &routing.table.matching(record.topic()));
                is_it.then_some(&body[..])
            };
            tap.offer(outputs.len(), body, |_, copy| tap.entered(copy));
        }
    }

    /// A plugin was called; `said` is what it said of each message.
    pub fn called(
        &self,
        routing: &Routing,
        (route, plugin): (RouteIndex, PluginIndex),
        items: &[Item],
        said: impl Fn(usize, &[Destination]) -> Said,
    ) {
        let (Some(bound), Some(route)) = (
            routing.bound.get(plugin as usize),
            routing.table.routes().get(route as usize),
        ) else {
            return;
        };
        let is_here = |tap: &&Arc<Tap>| {
            tap.at.plugin.as_ref() == Some(&bound.slot)
                && tap.at.route.as_ref().is_none_or(|name| *name == route.name)
        };
        for tap in self.list.load().iter().filter(is_here) {
            let body = |index: usize| items.get(index).map(|item| &item.body[..]);
            tap.offer(items.len(), body, |index, message| {
                let said = match tap.at.is_after {
                    true => said(index, &route.to),
                    false => Said {
                        verdict: "",
                        detail: String::new(),
                        after: Vec::new(),
                    },
                };
                let (after, after_left_out) = copies(&said.after);
                Seen {
                    time_ms: wall_ms(),
                    route: route.name.clone(),
                    plugin: bound.slot.clone(),
                    verdict: said.verdict,
                    detail: said.detail,
                    after,
                    after_left_out,
                    message,
                }
            });
        }
    }
}

impl Tap {
    /// Whether these routes are, or have, its own.
    fn enters(&self, routing: &Routing, routes: &[RouteIndex]) -> bool {
        let Some(name) = &self.at.route else {
            return true;
        };
        let table = routing.table.routes();
        let is_it =
            |index: &RouteIndex| table.get(*index as usize).is_some_and(|r| r.name == *name);
        routes.iter().any(is_it)
    }

    fn entered(&self, message: Copy) -> Seen {
        Seen {
            time_ms: wall_ms(),
            route: self.at.route.clone().unwrap_or_else(|| "".into()),
            plugin: "".into(),
            verdict: "",
            detail: String::new(),
            after: Vec::new(),
            after_left_out: 0,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_wire::Message;

    fn all() -> Where {
        Where {
            sample_ppm: 1_000_000,
            ..Where::default()
        }
    }

    /// Offers a message so often, and gives how many were taken and dropped.
    fn offered(tap: &Tap, body: &[u8], count: usize) -> (usize, u64) {
        tap.offer(count, |_| Some(body), |_, copy| tap.entered(copy));
        let mut seen = Vec::new();
        let dropped = tap.take(&mut seen);
        (seen.len(), dropped)
    }

    #[test]
    fn a_ring_has_a_bound_and_what_is_lost_is_counted() {
        let small = Message::new("a/b", "x").to_body();
        assert_eq!(offered(&Tap::new(all()), &small, 100), (100, 0));
        let (seen, dropped) = offered(&Tap::new(all()), &small, 5_000);
        assert_eq!(
            (seen, dropped),
            (RING_MESSAGES, 5_000 - RING_MESSAGES as u64)
        );
        let large = Message::new("a", vec![0; 60_000]).to_body();
        let (seen, _) = offered(&Tap::new(all()), &large, 100);
        assert!((17..20).contains(&seen), "{seen}");
        let tap = Tap::new(all());
        let held = tap.ring();
        tap.offer(7, |_| Some(&small), |_, copy| tap.entered(copy));
        drop(held);
        assert_eq!(
            tap.take(&mut Vec::new()),
            7,
            "a reader at the ring is not waited for"
        );
    }

    #[test]
    fn so_many_a_second_and_so_many_by_chance() {
        let body = Message::new("a", "x").to_body();
        let few = Where {
            per_second: Some(3),
            ..all()
        };
        assert_eq!(offered(&Tap::new(few), &body, 1_000), (3, 0));
        let tap = Tap::new(Where {
            sample_ppm: 10_000,
            ..Where::default()
        });
        let mut taken = 0;
        for _ in 0..400 {
            taken += offered(&tap, &body, 250).0;
        }
        assert!((800..1_200).contains(&taken), "1 % of 100,000: {taken}");
        let none = Tap::new(Where::default());
        assert_eq!(offered(&none, &body, 100_000), (0, 0));
    }

    #[test]
    fn only_topics_that_match_and_long_payloads_cut() {
        let filter = Some(Filter::new("a/+").unwrap());
        let tap = Tap::new(Where { filter, ..all() });
        assert_eq!(
            offered(&tap, &Message::new("a/b", "x").to_body(), 3),
            (3, 0)
        );
        assert_eq!(offered(&tap, &Message::new("b", "x").to_body(), 3), (0, 0));
        let copy = Copy::of(&Message::new("a/b", vec![7; 100_000]).to_body());
        assert_eq!(copy.cut_from, Some(100_000));
        let record = RecordRef::parse(&copy.record).unwrap();
        assert_eq!(record.payload().len(), PAYLOAD_SHOWN);
    }

    #[test]
    fn taps_have_a_limit_and_end_with_their_place() {
        let taps = Arc::new(Taps::default());
        assert!(!taps.is_active());
        let attached: Vec<Attached> = (0..TAPS_MAX).filter_map(|_| taps.attach(all())).collect();
        assert_eq!(attached.len(), TAPS_MAX);
        assert!(taps.attach(all()).is_none());
        drop(attached);
        assert!(!taps.is_active());
        assert!(taps.attach(all()).is_some());
    }
}
