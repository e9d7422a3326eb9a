//! The log on a model disk: crashes, rot, limits, and the real disk's locks.

mod codec;
mod crash;
mod files;
mod harness;
mod limits;
mod rot;
