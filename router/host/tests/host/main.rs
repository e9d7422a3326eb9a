//! The host against real guests: what they may, what they may not, and what they are told.
//!
//! The guests are committed as components, so that no guest toolchain is needed; `plugins/build`
//! makes them anew. `puppet` does to each message what its header `do` says.

mod corpus;
mod effects;
mod hostile;
mod loading;
mod malformed;
mod messaging;
mod quakes;
mod support;
mod verdicts;
mod written;
