//! A running router: sockets, clock, tasks, disk, configuration, admin, metrics.

pub mod admin;
pub mod alarms;
pub mod config;
pub mod identity;
pub mod metrics;
pub mod tls;
