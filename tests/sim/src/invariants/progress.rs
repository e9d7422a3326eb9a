//! What is asked for comes to an end: room is made for a publish when jobs may run, and consumers
//! that ack everything empty every queue.

use crate::invariants::Violation;

/// Something did not end although nothing stood in its way.
pub fn stuck(what: impl Into<String>) -> Violation {
    Violation::new("progress", what)
}
