//! Memory stays within its limits: recent messages within the cache's budget after each commit,
//! a consumer's deliveries within its credit and the shard's limits.

use crate::invariants::Violation;

const NAME: &str = "memory_bounded";

/// After a commit: nothing needs to stay in memory but what the budget allows.
pub fn cache(cached_bytes: usize, budget_bytes: usize) -> Result<(), Violation> {
    Violation::unless(cached_bytes <= budget_bytes, NAME, || {
        format!("{cached_bytes} bytes of messages are cached, the budget is {budget_bytes}")
    })
}

/// A consumer's totals after a delivery.
pub fn consumer(
    consumer: u64,
    sent: u64,
    credit: u64,
    held: u64,
    held_max: u64,
) -> Result<(), Violation> {
    Violation::unless(sent <= credit, NAME, || {
        format!("consumer {consumer} was sent {sent} messages and gave credit for {credit}")
    })?;
    Violation::unless(held <= held_max, NAME, || {
        format!("consumer {consumer} holds {held} messages, the limit is {held_max}")
    })
}
