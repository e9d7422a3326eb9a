//! Hand-over between threads: many push, one takes all at once. What is in it is bounded by the
//! windows of those who push.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half-done by a panic: each critical section is one push or swap.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For a task that waits.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    items: Mutex<Vec<T>>,
    notify: Notify,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox {
            items: Mutex::new(Vec::new()),
            notify: Notify::new(),
        }
    }
}

impl<T> Mailbox<T> {
    pub fn push(&self, item: T) {
        let was_empty = {
            let mut items = lock(&self.items);
            items.push(item);
            items.len() == 1
        };
        if was_empty {
            self.notify.notify_one();
        }
    }

    /// Moves all that is there into `into`; waits until there is something.
    pub async fn take(&self, into: &mut Vec<T>) {
        loop {
            if self.try_take(into) {
                return;
            }
            self.notify.notified().await;
        }
    }

    /// Moves all that is there into `into`, which must be empty; says whether there was something.
    pub fn try_take(&self, into: &mut Vec<T>) -> bool {
        let mut items = lock(&self.items);
        if items.is_empty() {
            return false;
        }
        if into.is_empty() {
            std::mem::swap(&mut *items, into);
        } else {
            into.append(&mut items);
        }
        true
    }
}

/// For a thread that waits. Once it is closed, what is pushed is dropped, so that whoever waits for
/// an answer learns that none comes.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    items: Mutex<Vec<T>>,
    is_closed: AtomicBool,
    arrived: Condvar,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Inbox {
            items: Mutex::new(Vec::new()),
            is_closed: AtomicBool::new(false),
            arrived: Condvar::new(),
        }
    }
}

impl<T> Inbox<T> {
    /// The thread has ended.
    pub fn close(&self) {
        let left = {
            let mut items = lock(&self.items);
            self.is_closed.store(true, Relaxed);
            std::mem::take(&mut *items)
        };
        drop(left);
    }

    pub fn push(&self, item: T) {
        let was_empty = {
            let mut items = lock(&self.items);
            if self.is_closed.load(Relaxed) {
                drop(items);
                return drop(item);
            }
            items.push(item);
            items.len() == 1
        };
        if was_empty {
            self.arrived.notify_one();
        }
    }

    /// Moves all that is there into `into`, which must be empty; waits until there is something
    /// or the time is over.
    pub fn take(&self, into: &mut Vec<T>, wait: Option<Duration>) {
        let mut items = lock(&self.items);
        if items.is_empty() && wait != Some(Duration::ZERO) {
            items = match wait {
                None => self
                    .arrived
                    .wait(items)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    self.arrived
                        .wait_timeout(items, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        std::mem::swap(&mut *items, into);
    }
}
