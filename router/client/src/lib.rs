//! Waypost client.
