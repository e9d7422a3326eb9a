//! What a plugin may use, and the accountant of its memory. What a second of CPU time costs is in
//! `cpu`; the stack and the pool of instances are the engine's
//! ([`EngineOptions`](crate::EngineOptions)), compiling has
//! [`CompileLimits`](crate::CompileLimits).

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::imports::HostCallError;

/// Limits of one plugin. Each says for what it holds: an instance, a call into the guest, or all
/// instances together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memories of an instance together, in bytes, and what the host holds for a guest of
    /// `wasi:messaging`. Default 64 MiB: a batch of 1 MiB, a few times over, and the 1–4 MB that the
    /// runtime of a scripting language takes. No more than
    /// [`EngineOptions::memory_bytes_max`](crate::EngineOptions::memory_bytes_max).
    pub memory_bytes: usize,
    /// Entries of all tables together. Default 20,000; a Go guest has about 5,000.
    pub table_elements: usize,
    /// CPU time of a call, without the share of its messages. Default 10 ms.
    ///
    /// A call of n messages may use `call_cpu + n * message_cpu`, 266 ms for 256 of them. It is
    /// looked at each 1 ms and counted from the first such look, so a call may use up to 1 ms more
    /// (and more wall time, as the thread's CPU time is what counts).
    pub call_cpu: Duration,
    /// CPU time that each message of a call adds. Default 1 ms.
    pub message_cpu: Duration,
    /// CPU time of instantiation and of `init`, each. Default 2 s: an interpreter starts in 1 s on
    /// a slow machine.
    pub init_cpu: Duration,
    /// CPU time that all instances together may use in a second, calls that failed and `init`
    /// included. Default 1 s: one core. After a pause, one second's worth may be used at once; see
    /// [`Plugin::admit`](crate::Plugin::admit) for what becomes of what is over it.
    pub cpu_per_second: Duration,
    /// Instances alive at once. Default 16: one for each thread that runs plugins, one more where
    /// its failed calls take long, and the ones that a new version makes beside them.
    pub instances: u32,
    /// Calls of imports in one call into the guest, or in `init`. Default 16,384, 64 for each
    /// message of a full batch. One more ends the call and its instance.
    pub host_calls: u32,
    /// Bytes of keys and values that the plugin may keep in `state`. Default 16 MiB. Whoever lends a
    /// [`State`](crate::State) keeps to it; the host only carries it.
    pub state_bytes: u64,
    /// Messages that one call may emit and publish. Default 1,024, 4 for each message of a full
    /// batch.
    pub emitted_messages: usize,
    /// Bytes that one call may emit, publish or edit in: payloads, topics, headers, keys. Default 8 MiB. The
    /// host lifts at most 16 MiB out of a call, which ends the call and its instance.
    pub emitted_bytes: usize,
    /// Payload of one message that a plugin makes or edits. Default 1 MiB.
    pub payload_bytes: usize,
    /// Log bytes a second, over all instances; the burst is one second's. Default 64 KiB.
    pub log_bytes_per_second: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: 64 << 20,
            table_elements: 20_000,
            call_cpu: Duration::from_millis(10),
            message_cpu: Duration::from_millis(1),
            init_cpu: Duration::from_secs(2),
            cpu_per_second: Duration::from_secs(1),
            instances: 16,
            host_calls: 16_384,
            state_bytes: 16 << 20,
            emitted_messages: 1_024,
            emitted_bytes: 8 << 20,
            payload_bytes: waypost_wire::PAYLOAD_BYTES_DEFAULT,
            log_bytes_per_second: 64 << 10,
        }
    }
}

impl Limits {
    /// The CPU time that a call of `messages` messages may use.
    pub fn cpu_budget(&self, messages: usize) -> Duration {
        let share = self
            .message_cpu
            .saturating_mul(u32::try_from(messages).unwrap_or(u32::MAX));
        self.call_cpu.saturating_add(share)
    }
}

/// Sums all memories and all tables of a store; wasmtime's own limits count each by itself.
#[derive(Debug)]
pub(crate) struct Accountant {
    memory_bytes: usize,
    memory_bytes_max: usize,
    /// What the host holds for the guest, which counts as its memory.
    held_bytes: usize,
    table_elements: usize,
    table_elements_max: usize,
    refused: Option<String>,
}

impl Accountant {
    pub(crate) fn new(limits: &Limits) -> Accountant {
        Accountant {
            memory_bytes: 0,
            memory_bytes_max: limits.memory_bytes,
            held_bytes: 0,
            table_elements: 0,
            table_elements_max: limits.table_elements,
            refused: None,
        }
    }

    /// What was refused since the last look: guests usually trap after it, and this says why.
    pub(crate) fn take_refusal(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// Counts what the host holds for the guest, which was `before` and is `after` bytes.
    pub(crate) fn hold(&mut self, before: usize, after: usize) -> Result<(), HostCallError> {
        let held = self.held_bytes.saturating_sub(before).saturating_add(after);
        let bytes = self.memory_bytes.saturating_add(held);
        let limit = self.memory_bytes_max;
        if bytes > limit && after > before {
            return Err(HostCallError::HeldBytes { bytes, limit });
        }
        self.held_bytes = held;
        Ok(())
    }

    /// So many bytes are held no more.
    pub(crate) fn let_go(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    /// Bytes of all memories.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl ResourceLimiter for Accountant {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .memory_bytes
            .saturating_sub(current)
            .saturating_add(desired);
        let all = total.saturating_add(self.held_bytes);
        if all > self.memory_bytes_max || maximum.is_some_and(|maximum| desired > maximum) {
            self.refused = Some(format!(
                "memory of {all} bytes, limit {}",
                self.memory_bytes_max
            ));
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .table_elements
            .saturating_sub(current)
            .saturating_add(desired);
        if total > self.table_elements_max || maximum.is_some_and(|maximum| desired > maximum) {
            self.refused = Some(format!(
                "tables of {total} elements, limit {}",
                self.table_elements_max
            ));
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_summed() {
        let limits = Limits {
            memory_bytes: 100,
            ..Limits::default()
        };
        let mut accountant = Accountant::new(&limits);
        assert!(accountant.memory_growing(0, 60, None).expect("no error"));
        assert!(
            !accountant.memory_growing(0, 60, None).expect("no error"),
            "120 in two memories"
        );
        assert_eq!(
            accountant.take_refusal().as_deref(),
            Some("memory of 120 bytes, limit 100")
        );
        assert!(accountant.memory_growing(60, 100, None).expect("no error"));
        assert_eq!(accountant.memory_bytes(), 100);
    }

    #[test]
    fn what_is_held_for_a_guest_counts_as_its_memory() {
        let limits = Limits {
            memory_bytes: 100,
            ..Limits::default()
        };
        let mut accountant = Accountant::new(&limits);
        assert!(accountant.memory_growing(0, 60, None).expect("no error"));
        assert_eq!(accountant.hold(0, 30), Ok(()));
        let error = accountant.hold(30, 41).expect_err("101 in all");
        assert_eq!(
            error.to_string(),
            "memory of 101 bytes, with what its messages hold, limit 100"
        );
        assert!(!accountant.memory_growing(60, 71, None).expect("no error"));
        accountant.let_go(30);
        assert!(accountant.memory_growing(60, 71, None).expect("no error"));
    }

    #[test]
    fn a_call_has_a_base_and_a_share_for_each_message() {
        let limits = Limits::default();
        assert_eq!(limits.cpu_budget(1), Duration::from_millis(11));
        assert_eq!(limits.cpu_budget(256), Duration::from_millis(266));
    }
}
