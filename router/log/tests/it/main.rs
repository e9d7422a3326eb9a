//! The log on a model disk: crashes, rot, limits, and the real disk's locks.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do: by a panic that names the place"
)]

mod backup;
mod codec;
mod crash;
mod damage;
mod disk;
mod files;
mod harness;
mod judgement;
mod limits;
mod offline;
mod rot;
