//! Waypost node.
