//! Waypost host.
