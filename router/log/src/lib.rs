//! Waypost log.
