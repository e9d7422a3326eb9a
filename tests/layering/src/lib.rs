//! Waypost tests: layering.
