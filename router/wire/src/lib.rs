//! Waypost wire.
