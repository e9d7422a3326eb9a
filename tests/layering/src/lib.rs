//! Who may depend on whom, and what every file keeps to. The tests are in `tests/`.
//!
//! The map is DESIGN's; a new crate or dependency that does not fit fails here with its reason.
