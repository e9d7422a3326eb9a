//! The client against a node that the tests play by hand, frame by frame.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests; a panic is their way to fail"
)]

mod connection;
mod consuming;
mod document;
mod fake;
mod publishing;
mod receipts;
mod relay;
mod subscribing;
