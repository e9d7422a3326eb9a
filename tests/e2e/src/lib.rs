//! Waypost tests: e2e.
