//! The bytes on disk. Each submodule draws one of them; all integers are little endian.
//!
//! Nothing here touches a file, so all of it can be called on arbitrary bytes.

pub mod entry;
pub mod group;
pub mod meta;
pub mod segment;
pub mod slab;
pub mod snapshot;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut b = [0; 2];
    b.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(b)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut b = [0; 4];
    b.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(b)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(b)
}
