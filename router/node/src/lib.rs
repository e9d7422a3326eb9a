//! A running router: sockets, clock, tasks, disk, configuration, admin, metrics.

pub mod config;
pub mod identity;
pub mod tls;
