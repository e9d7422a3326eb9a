//! The client against a node that the tests play by hand, frame by frame.

mod connection;
mod consuming;
mod document;
mod fake;
mod publishing;
mod subscribing;
