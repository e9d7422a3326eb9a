//! Memory that was freed goes back to the system: glibc keeps it otherwise.

use std::time::Duration;

use crate::metrics::resident_bytes;

/// How long the log has had no work before it is looked for.
pub(crate) const REST: Duration = Duration::from_secs(5);
/// Less than this more than the last time is not worth it.
const GROWN_BYTES: u64 = 1 << 20;

/// Gives back what is free now.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "glibc has no safe name for it")]
    // SAFETY: malloc_trim takes no pointers and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What a burst of work left, once it is over: buffers of connections that have closed, of what was
/// read from disk, of batches under way.
#[derive(Debug, Default)]
pub(crate) struct AtRest {
    /// What was resident when it was last given back.
    before: u64,
}

impl AtRest {
    /// The log had no work for [`REST`].
    pub fn give_back(&mut self) {
        let resident = resident_bytes().unwrap_or(0);
        if resident >= self.before.saturating_add(GROWN_BYTES) {
            give_back();
        }
        // Also where it was given back elsewhere.
        self.before = resident_bytes().unwrap_or(0);
    }
}
