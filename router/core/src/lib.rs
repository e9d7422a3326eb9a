//! Waypost core.
