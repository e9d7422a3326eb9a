//! Which message ids a queue has accepted lately: so that a message that another stream, or a
//! publisher without an identity of its own, sends again is not stored again.
//!
//! An id is known by 128 bits of it ([`IdHash`]). What two ids with the same bits would mean: the
//! later message counts as a repeat of the other and is not stored. Among the 131,072 ids that a
//! queue can remember that has a chance of 2^-95; the hash is no secret, but whoever could make
//! two ids alike may as well send one of them twice.
//!
//! Time: while the node lives an id is as old as the monotonic clock says. After a restart it goes
//! by the wall clock, as messages do ([`crate::age`]): where that is not credible, an id counts as
//! accepted when the node started, so that it is remembered too long rather than too short.
//!
//! Bound: a queue remembers so many ids as it is told ([`crate::settings::Settings::dedup_ids_max`])
//! and refuses messages with new ones beyond, until the oldest have left the window: to forget one
//! early would break the promise without a word. Each costs 100 B of memory at most (a place of
//! 41 B in a table that is at least half full, and 24 B in the order) and 29 B in a snapshot.

use std::collections::{HashMap, VecDeque};

use crate::age::Clock;

/// Ids that a queue remembers at most, where it is not told: a window of two minutes at 546 a
/// second; 6.5 MB.
pub const DEDUP_IDS_DEFAULT: u32 = 65_536;
/// The most that it can be told: its snapshot, 3.8 MB, must fit a group of the log.
pub const DEDUP_IDS_LIMIT: u32 = 131_072;

/// A message id: SipHash-2-4 with 128 bits, under a key of zeros, because it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdHash(pub [u8; 16]);

impl IdHash {
    /// Of a message id's bytes.
    pub fn of(id: &[u8]) -> IdHash {
        IdHash(siphash128(id, 0, 0))
    }
}

/// Ids that were accepted together, as a snapshot and the journal have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedIds {
    /// When, in ms since 1970.
    pub time_ms: u64,
    /// Each with the offset of its first message; offsets ascend.
    pub ids: Vec<(IdHash, u64)>,
}

/// When an id was accepted.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Before the node started: only the wall clock's word.
    Before,
    /// On the monotonic clock, in ms.
    At(u64),
}

#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    time_ms: u64,
    moment: Moment,
}

/// The ids of one queue.
#[derive(Clone, Debug, Default)]
pub struct MessageIds {
    known: HashMap<IdHash, Place, foldhash::fast::RandomState>,
    /// In the order in which they were accepted. One that came again after its window stands here
    /// twice; its first place is not its own any more.
    order: VecDeque<(IdHash, u64)>,
}

impl MessageIds {
    /// The state that these accepted ids leave, after a restart.
    pub fn recover(accepted: Vec<AcceptedIds>) -> MessageIds {
        let mut ids = MessageIds::default();
        accepted.into_iter().for_each(|a| ids.recovered(a));
        ids
    }

    /// Ids that were accepted before the node started.
    pub fn recovered(&mut self, accepted: AcceptedIds) {
        let (moment, time_ms) = (Moment::Before, accepted.time_ms);
        for (id, offset) in accepted.ids {
            self.put(
                id,
                Place {
                    offset,
                    time_ms,
                    moment,
                },
            );
        }
    }

    /// Ids are accepted now.
    pub fn accepted(&mut self, accepted: &AcceptedIds, mono_ms: u64) {
        let (moment, time_ms) = (Moment::At(mono_ms), accepted.time_ms);
        for (id, offset) in &accepted.ids {
            self.put(
                *id,
                Place {
                    offset: *offset,
                    time_ms,
                    moment,
                },
            );
        }
    }

    fn put(&mut self, id: IdHash, place: Place) {
        self.order.push_back((id, place.offset));
        self.known.insert(id, place);
    }

    /// The offset of the first message with this id, if it was accepted within the window.
    pub fn seen(&self, id: &IdHash, now: &Window<'_>) -> Option<u64> {
        let place = self.known.get(id)?;
        now.holds(place).then_some(place.offset)
    }

    /// Forgets the oldest ids that have left the window. One that is behind a younger one, because
    /// the wall clock jumped before a restart, stays until that one goes; [`MessageIds::seen`] does
    /// not count it meanwhile.
    pub fn forget_old(&mut self, now: &Window<'_>) {
        while let Some((id, offset)) = self.order.front() {
            let place = self.known.get(id).filter(|p| p.offset == *offset);
            if place.is_some_and(|place| now.holds(place)) {
                break;
            }
            if place.is_some() {
                self.known.remove(id);
            }
            self.order.pop_front();
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = MessageIds::default();
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// In how many ms the oldest leaves the window.
    pub fn oldest_leaves_in(&self, now: &Window<'_>) -> u64 {
        let oldest = self.order.front().and_then(|(id, _)| self.known.get(id));
        oldest.map_or(0, |place| now.left_ms(place))
    }

    /// All of them, the oldest first.
    pub fn snapshot(&self) -> Vec<AcceptedIds> {
        let mut all: Vec<AcceptedIds> = Vec::new();
        for (id, offset) in &self.order {
            let Some(place) = self.known.get(id).filter(|p| p.offset == *offset) else {
                continue;
            };
            match all.last_mut() {
                // Offsets of one entry ascend; what a set accepted does.
                Some(last)
                    if last.time_ms == place.time_ms
                        && last.ids.last().is_some_and(|(_, before)| before < offset) =>
                {
                    last.ids.push((*id, *offset));
                }
                _ => all.push(AcceptedIds {
                    time_ms: place.time_ms,
                    ids: vec![(*id, *offset)],
                }),
            }
        }
        all
    }
}

/// How long ids are remembered, and what time it is.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// In ms.
    pub window_ms: u64,
    /// What the clocks said since the start.
    pub clock: &'a Clock,
    /// Now, on the monotonic clock.
    pub mono_ms: u64,
}

impl Window<'_> {
    fn left_ms(&self, place: &Place) -> u64 {
        let accepted = match place.moment {
            Moment::At(mono_ms) => mono_ms as i64,
            Moment::Before => self.clock.before_start(place.time_ms),
        };
        let until = accepted.saturating_add_unsigned(self.window_ms);
        u64::try_from(until.saturating_sub_unsigned(self.mono_ms)).unwrap_or(0)
    }

    fn holds(&self, place: &Place) -> bool {
        self.left_ms(place) > 0
    }
}

/// SipHash-2-4 with an output of 128 bits, little endian; by its reference implementation.
fn siphash128(bytes: &[u8], k0: u64, k1: u64) -> [u8; 16] {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut v, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    absorb(
        &mut v,
        u64::from_le_bytes(last) | (bytes.len() as u64) << 56,
    );
    let mut out = [0; 16];
    for (half, flip) in out.chunks_exact_mut(8).zip([(2, 0xee), (1, 0xdd)]) {
        v[flip.0] ^= flip.1;
        (0..4).for_each(|_| round(&mut v));
        half.copy_from_slice(&(v[0] ^ v[1] ^ v[2] ^ v[3]).to_le_bytes());
    }
    out
}

fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    (0..2).for_each(|_| round(v));
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_700_000_000_000;

    fn id(n: u64) -> IdHash {
        IdHash::of(&n.to_le_bytes())
    }

    fn at(time_ms: u64, ids: &[(u64, u64)]) -> AcceptedIds {
        let ids = ids.iter().map(|(n, offset)| (id(*n), *offset)).collect();
        AcceptedIds { time_ms, ids }
    }

    /// The first vectors of the reference implementation's `vectors_sip128`.
    #[test]
    fn the_hash_is_the_published_one() {
        let key: Vec<u8> = (0..16).collect();
        let word = |at: usize| u64::from_le_bytes(key[at..at + 8].try_into().unwrap());
        let (k0, k1) = (word(0), word(8));
        let hex = |bytes: [u8; 16]| bytes.map(|b| format!("{b:02x}")).concat();
        assert_eq!(
            hex(siphash128(&[], k0, k1)),
            "a3817f04ba25a8e66df67214c7550293"
        );
        assert_eq!(
            hex(siphash128(&[0], k0, k1)),
            "da87c1d86b99af44347659119b22fc45"
        );
        let fifteen: Vec<u8> = (0..15).collect();
        assert_eq!(
            hex(siphash128(&fifteen, k0, k1)),
            "5493e99933b0a8117e08ec0f97cfc3d9"
        );
    }

    #[test]
    fn an_id_is_known_for_its_window_whatever_the_wall_clock_does() {
        let mut clock = Clock::new(0);
        clock.observe(100, T);
        let mut ids = MessageIds::default();
        ids.accepted(&at(T, &[(1, 10)]), 100);
        ids.accepted(&at(T - 9_000_000, &[(2, 11)]), 150);
        ids.accepted(&at(T + 9_000_000, &[(3, 12)]), 200);
        let window = |mono_ms| Window {
            window_ms: 1000,
            clock: &clock,
            mono_ms,
        };
        let seen = |ids: &MessageIds, mono| [1, 2, 3].map(|n| ids.seen(&id(n), &window(mono)));
        assert_eq!(seen(&ids, 1099), [Some(10), Some(11), Some(12)]);
        assert_eq!(seen(&ids, 1100), [None, Some(11), Some(12)]);
        assert_eq!(ids.oldest_leaves_in(&window(1000)), 100);
        ids.forget_old(&window(1100));
        assert_eq!((ids.len(), ids.known.len()), (2, 2));
        // Accepted again after its window, while its first place is still there.
        ids.accepted(&at(T, &[(2, 40)]), 1160);
        assert_eq!(seen(&ids, 1160), [None, Some(40), Some(12)]);
        ids.forget_old(&window(1200));
        assert_eq!(ids.seen(&id(2), &window(2159)), Some(40));
        assert_eq!((ids.len(), ids.known.len()), (1, 1));
        ids.forget_old(&window(2160));
        assert!(ids.is_empty() && ids.known.is_empty());
    }

    #[test]
    fn after_a_restart_the_wall_clock_counts_once_it_is_credible() {
        let mut before = MessageIds::default();
        before.accepted(&at(T, &[(1, 10), (2, 11)]), 7);
        before.accepted(&at(T, &[(3, 12)]), 7);
        before.accepted(&at(T + 500, &[(4, 20)]), 507);
        assert_eq!(before.snapshot().len(), 2, "of one moment together");
        let ids = MessageIds::recover(before.snapshot());
        assert_eq!(ids.snapshot(), before.snapshot());
        let mut clock = Clock::new(T + 500);
        let seen = |clock: &Clock, n, mono_ms| {
            let window = Window {
                window_ms: 1000,
                clock,
                mono_ms,
            };
            ids.seen(&id(n), &window)
        };
        // Behind the log: as if accepted at the start.
        clock.observe(50, T);
        assert_eq!(seen(&clock, 1, 1049), Some(10));
        assert_eq!(seen(&clock, 1, 1050), None);
        // 900 ms after the first was accepted.
        clock.observe(60, T + 900);
        assert_eq!(seen(&clock, 2, 159), Some(11));
        assert_eq!(seen(&clock, 2, 160), None);
        assert_eq!(seen(&clock, 4, 559), Some(20));
        assert_eq!(seen(&clock, 4, 560 + 100), None);
    }
}
