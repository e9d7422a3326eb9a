//! A new version of a slot that runs beside the serving one, and changes nothing.
//!
//! ```text
//! worker ── call ──► serving version ──► verdicts ──► the messages' way
//!              └─ sampled calls, with the verdicts ─► bounded queue ─► thread of the shadow
//!                                                                      (nice 19): compares
//! ```
//!
//! Invariants: a worker never waits for a shadow; what it is offered and cannot take is dropped, and
//! counted. Nothing that it says, writes or publishes leaves its thread but as a comparison. A
//! shadow ends when its slot gets another version, since it was compared with what no longer
//! serves; when it keeps failing; or when a person says so. It does not outlive the node.

mod changes;
pub(crate) mod requests;

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use waypost_core::route::{PluginIndex, RouteIndex};
use waypost_core::shadow::{Comparison, Judged};
use waypost_host::Plugin;

use super::stats::PluginStats;
use crate::config::PluginConfig;
use crate::routing::Routing;

/// Shadows of a node at a time: each has a thread, and instances.
pub(super) const SHADOWS_MAX: usize = 4;
/// Calls that wait for a shadow, and bytes of their messages.
const JOBS_MAX: usize = 32;
const JOB_BYTES_MAX: usize = 8 << 20;
/// All.
pub(crate) const MILLION: u32 = 1_000_000;

/// A call of the serving version that is to be judged again.
#[derive(Debug)]
pub(crate) struct Job {
    pub routing: Arc<Routing>,
    pub route: RouteIndex,
    pub plugin: PluginIndex,
    pub receive_time_ms: u64,
    pub items: Vec<Bytes>,
    /// What the serving version did, for each message.
    pub judged: Vec<Judged>,
    /// CPU time that it took.
    pub cpu_ns: u64,
}

impl Job {
    /// Of all bodies that it holds.
    fn bytes(&self) -> usize {
        let items = self.items.iter().map(Bytes::len);
        items.chain(self.judged.iter().map(Judged::bytes)).sum()
    }
}

/// What is counted of a shadow.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Messages of calls that were chosen.
    pub offered: AtomicU64,
    /// Of these, those that it could not take: it was behind, or had used its CPU time.
    pub dropped: AtomicU64,
    /// Failures by a passed deadline.
    pub deadlines: AtomicU64,
    /// CPU time of both versions for what was compared.
    pub serving_ns: AtomicU64,
    pub shadow_ns: AtomicU64,
    /// Of its instances.
    pub memory_bytes: AtomicU64,
}

/// Which version is in the shadow, and of what.
#[derive(Debug)]
pub(crate) struct About {
    /// As it would serve.
    pub config: PluginConfig,
    pub digest: String,
    pub by: String,
    pub since_ms: u64,
    pub sample_ppm: u32,
    /// The version that serves.
    pub beside: u64,
    /// For each set of destinations that its routes have.
    pub loaded: Vec<(Vec<String>, Plugin)>,
}

/// A version in the shadow.
#[derive(Debug)]
pub(crate) struct Shadow {
    pub about: About,
    pub numbers: Numbers,
    /// Its calls.
    pub stats: PluginStats,
    pub comparison: Mutex<Comparison>,
    jobs: Mutex<Option<SyncSender<Job>>>,
    waiting_bytes: AtomicUsize,
    ended: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section leaves a whole value.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shadow {
    pub(super) fn new(about: About) -> (Shadow, Receiver<Job>) {
        let (sender, jobs) = sync_channel(JOBS_MAX);
        let shadow = Shadow {
            about,
            numbers: Numbers::default(),
            stats: PluginStats::default(),
            comparison: Mutex::default(),
            jobs: Mutex::new(Some(sender)),
            waiting_bytes: AtomicUsize::new(0),
            ended: Mutex::new(None),
        };
        (shadow, jobs)
    }

    /// Why it ended; none while it runs.
    pub fn ended(&self) -> Option<String> {
        lock(&self.ended).clone()
    }

    /// It is to judge no more; the first reason is the one that counts.
    pub fn end(&self, why: &str) {
        lock(&self.ended).get_or_insert_with(|| why.to_owned());
        lock(&self.jobs).take();
    }

    pub fn comparison(&self) -> MutexGuard<'_, Comparison> {
        lock(&self.comparison)
    }

    /// A job was taken out of the queue.
    pub fn begins(&self, job: &Job) {
        self.waiting_bytes.fetch_sub(job.bytes(), Relaxed);
    }

    fn offer(&self, job: Job) {
        let (count, bytes) = (job.items.len() as u64, job.bytes());
        self.numbers.offered.fetch_add(count, Relaxed);
        let before = self.waiting_bytes.fetch_add(bytes, Relaxed);
        let is_sent = before < JOB_BYTES_MAX
            && self.jobs.try_lock().is_ok_and(|jobs| {
                let sent = jobs.as_ref().map(|jobs| jobs.try_send(job));
                matches!(sent, Some(Ok(())))
            });
        if !is_sent {
            self.waiting_bytes.fetch_sub(bytes, Relaxed);
            self.numbers.dropped.fetch_add(count, Relaxed);
        }
    }
}

/// Where a slot's shadow is, if it has one; shared by all generations of the slot.
#[derive(Debug, Default)]
pub(crate) struct ShadowPort {
    /// Of so many calls in a million; 0: there is no shadow.
    share: AtomicU32,
    calls: AtomicU64,
    current: ArcSwapOption<Shadow>,
    /// Held while one begins or ends.
    change: Mutex<()>,
}

impl ShadowPort {
    /// Whether the next call is one for the shadow. Without one it costs a relaxed load.
    #[inline]
    pub fn samples(&self) -> bool {
        let share = self.share.load(Relaxed);
        share > 0 && self.is_chosen(share)
    }

    fn is_chosen(&self, share: u32) -> bool {
        if share >= MILLION {
            return true;
        }
        // SplitMix64 of a counter: as good as chance here, and without a lock.
        let mut mixed = self
            .calls
            .fetch_add(1, Relaxed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(MILLION)) < u64::from(share)
    }

    /// Gives a call to the shadow, if there still is one.
    pub fn offer(&self, job: Job) {
        if let Some(shadow) = &*self.current.load() {
            shadow.offer(job);
        }
    }

    pub fn current(&self) -> Option<Arc<Shadow>> {
        self.current.load_full()
    }

    pub(super) fn begin(&self, shadow: Arc<Shadow>) {
        let _turn = lock(&self.change);
        let share = shadow.about.sample_ppm;
        if let Some(before) = self.current.swap(Some(shadow)) {
            before.end("another took its place");
        }
        self.share.store(share, Relaxed);
    }

    /// It judges no more; what it found stays to be looked at.
    pub fn end(&self, why: &str) {
        if let Some(shadow) = self.current() {
            self.end_of(&shadow, why);
        }
    }

    /// The same for this one, which another may have replaced.
    pub fn end_of(&self, shadow: &Arc<Shadow>, why: &str) {
        let _turn = lock(&self.change);
        shadow.end(why);
        let current = self.current.load();
        if current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, shadow))
        {
            self.share.store(0, Relaxed);
        }
    }

    /// It is gone, with what it found.
    pub(super) fn clear(&self) -> bool {
        self.end("discarded");
        self.current.swap(None).is_some()
    }
}

/// The name under which a shadow logs: no slot has it.
pub(super) fn log_name(slot: &str) -> String {
    format!("{slot}@shadow")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PluginSource;

    fn shadow() -> (Shadow, Receiver<Job>) {
        Shadow::new(About {
            config: PluginConfig::new("p", PluginSource::Deployed),
            digest: String::new(),
            by: String::new(),
            since_ms: 0,
            sample_ppm: MILLION / 10,
            beside: 1,
            loaded: Vec::new(),
        })
    }

    fn job(bytes: usize) -> Job {
        let parts = crate::routing::Parts {
            slots: &Default::default(),
            routes: Vec::new(),
            queues: &[],
            unroutable: None,
        };
        Job {
            routing: Arc::new(Routing::new(0, parts, &[], |_, _| unreachable!("no route"))),
            route: 0,
            plugin: 0,
            receive_time_ms: 0,
            items: vec![Bytes::from(vec![0; bytes])],
            judged: Vec::new(),
            cpu_ns: 0,
        }
    }

    #[test]
    fn what_waits_for_a_shadow_has_a_bound_and_the_rest_is_counted() {
        let (shadow, jobs) = shadow();
        (0..JOBS_MAX + 5).for_each(|_| shadow.offer(job(10)));
        let dropped = || shadow.numbers.dropped.load(Relaxed);
        assert_eq!(dropped(), 5);
        let taken = jobs.recv().unwrap();
        shadow.begins(&taken);
        shadow.offer(job(JOB_BYTES_MAX));
        assert_eq!(
            dropped(),
            5,
            "one that is larger may wait, but then no other"
        );
        let taken = jobs.recv().unwrap();
        shadow.begins(&taken);
        shadow.offer(job(1));
        assert_eq!(dropped(), 6);
        shadow.end("tired");
        shadow.end("again");
        shadow.offer(job(1));
        assert_eq!((dropped(), shadow.ended().as_deref()), (7, Some("tired")));
        assert_eq!(
            jobs.iter().count(),
            JOBS_MAX - 1,
            "and then its thread ends"
        );
    }

    #[test]
    fn a_share_of_the_calls_is_chosen() {
        let port = ShadowPort::default();
        assert!(!port.samples());
        let (shadow, _jobs) = shadow();
        port.begin(Arc::new(shadow));
        let chosen = (0..100_000).filter(|_| port.samples()).count();
        assert!((9_000..11_000).contains(&chosen), "{chosen}");
        port.end("enough");
        assert!(!port.samples() && port.current().is_some());
        assert!(port.clear() && port.current().is_none() && !port.clear());
        // One that ends late does not end the next.
        let [(old, _a), (new, _b)] = [self::shadow(), self::shadow()];
        let (old, new) = (Arc::new(old), Arc::new(new));
        port.begin(old.clone());
        port.begin(new);
        port.end_of(&old, "late");
        assert_eq!(old.ended().as_deref(), Some("another took its place"));
        assert!((0..10_000).any(|_| port.samples()));
    }
}
