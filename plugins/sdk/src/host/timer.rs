//! A call of [`Plugin::on_timer`](crate::Plugin::on_timer), so that a window of time can be closed
//! when no message comes. Needs the grant `timer`, and `wakes` in [`export!`](crate::export).

use super::imported::timer as imported;

/// Calls `on_timer` once, after so many ms (at least 10); a later call of this moves it. It is
/// forgotten when the instance is replaced: set it in `init` too.
pub fn set(after_ms: u32) {
    // 0 would stop it.
    imported::set(after_ms.max(1));
}

/// Stops it.
pub fn stop() {
    imported::set(0);
}
