//! A slab: the records of one message entry, each as a QUIC varint (RFC 9000, section 16) with the
//! body's length, then the body.
//!
//! To this crate a body is opaque but for its own checksum, by which single records are told good
//! from bad where a whole entry is not intact.

use std::ops::Range;

use waypost_wire::{record, varint};

/// The next record of a slab: `(its start, its body, its end)`, in bytes of the slab.
fn next(slab: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let (len, prefix) = varint::get(slab.get(at..)?)?;
    let from = at + prefix;
    let to = from.checked_add(usize::try_from(len).ok()?)?;
    (to <= slab.len()).then_some((from..to, to))
}

/// Whether a slab is exactly `count` records; says what is wrong if not.
pub fn check(slab: &[u8], count: u32) -> Result<(), &'static str> {
    let mut at = 0;
    for _ in 0..count {
        at = next(slab, at).ok_or("it ends inside a record")?.1;
    }
    if at == slab.len() {
        Ok(())
    } else {
        Err("it goes on after the last record")
    }
}

/// The bodies of a slab, in order, until one cannot be read.
pub fn bodies(slab: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (body, end) = next(slab, at)?;
        at = end;
        Some(&slab[body])
    })
}

/// A run of records in a damaged slab that are all good or all bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Records, counted from the slab's first.
    pub records: Range<u32>,
    /// Their bytes in the slab.
    pub bytes: Range<usize>,
    /// Whether each body's CRC holds.
    pub intact: bool,
}

/// Sorts the records of a slab whose entry is not intact.
///
/// A damaged length would give the records after it wrong offsets, even though their own CRCs
/// hold. So those after the first bad record are good only if the walk finds exactly `count`
/// records that end with the slab.
pub fn salvage(slab: &[u8], count: u32) -> Vec<Piece> {
    let aligned = check(slab, count).is_ok();
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    for record in 0..count {
        let found = next(slab, at);
        let (end, intact) = match &found {
            Some((body, end)) => (*end, record::verify(&slab[body.clone()]).is_ok()),
            None => (slab.len(), false),
        };
        match pieces.last_mut() {
            Some(last) if last.intact == intact => {
                last.records.end = record + 1;
                last.bytes.end = end;
            }
            _ => pieces.push(Piece {
                records: record..record + 1,
                bytes: at..end,
                intact,
            }),
        }
        if !intact && !aligned {
            // Nothing after this can be placed.
            if let Some(last) = pieces.last_mut() {
                last.records.end = count;
                last.bytes.end = slab.len();
            }
            break;
        }
        at = end;
    }
    pieces
}
