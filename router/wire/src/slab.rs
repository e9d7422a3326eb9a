//! A slab: records one after the other, each with its length before it. The same bytes stand in a
//! publish frame, in the log and in a delivery, so that a batch is copied and never encoded again.
//!
//! ```text
//! slab   := record*
//! record := length varint, body
//! ```

use bytes::{Bytes, BytesMut};

use crate::varint;

/// A run of records and their count. The bytes were walked once, so lengths are known to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slab {
    bytes: Bytes,
    count: u32,
}

/// Bytes that are not a slab: at `offset` a length or body ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {index} at byte {offset} of the batch is cut off")]
pub struct SlabError {
    /// Which record, from 0.
    pub index: u32,
    /// Where it starts.
    pub offset: usize,
}

impl Slab {
    /// Walks `bytes` and counts the records.
    pub fn parse(bytes: Bytes) -> Result<Slab, SlabError> {
        let mut count = 0;
        let mut at = 0;
        while at < bytes.len() {
            at = next(&bytes, at)
                .ok_or(SlabError {
                    index: count,
                    offset: at,
                })?
                .1;
            count += 1;
        }
        Ok(Slab { bytes, count })
    }

    /// A slab of bytes that this process encoded or checked; `count` must be right.
    pub fn from_checked(bytes: Bytes, count: u32) -> Slab {
        debug_assert_eq!(Slab::parse(bytes.clone()).map(|s| s.count), Ok(count));
        Slab { bytes, count }
    }

    /// All records with their length prefixes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The record bodies in order.
    pub fn iter(&self) -> SlabIter<'_> {
        SlabIter {
            bytes: &self.bytes,
            at: 0,
        }
    }

    /// Where each record lies in the bytes, with its length before it, and its body.
    pub fn records(&self) -> impl Iterator<Item = (std::ops::Range<usize>, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (start, end) = next(&self.bytes, at)?;
            let span = at..end;
            at = end;
            Some((span, &self.bytes[start..end]))
        })
    }

    /// The records that lie in these spans, which [`Slab::records`] gave, joined where they touch:
    /// shared if it is one span, copied otherwise: to the end of `room`, from which they are split
    /// off. It is large enough at best for several calls, which then need one allocation.
    pub fn gather(
        &self,
        spans: &[std::ops::Range<usize>],
        count: u32,
        room: &mut BytesMut,
    ) -> Slab {
        let bytes = match spans {
            [span] => self.bytes.slice(span.clone()),
            spans => {
                let parts = spans.iter().filter_map(|s| self.bytes.get(s.clone()));
                parts.for_each(|part| room.extend_from_slice(part));
                room.split().freeze()
            }
        };
        Slab::from_checked(bytes, count)
    }

    /// The bodies as shared bytes, without copying them.
    pub fn bodies(&self) -> impl Iterator<Item = Bytes> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (start, end) = next(&self.bytes, at)?;
            at = end;
            Some(self.bytes.slice(start..end))
        })
    }

    /// The part from record `first`, `count` records long; both are cut to what is there.
    pub fn slice(&self, first: u32, count: u32) -> Slab {
        let first = first.min(self.count);
        let count = count.min(self.count - first);
        if first == 0 && count == self.count {
            return self.clone();
        }
        let mut at = 0;
        for _ in 0..first {
            at = next(&self.bytes, at).map_or(self.bytes.len(), |(_, end)| end);
        }
        let start = at;
        for _ in 0..count {
            at = next(&self.bytes, at).map_or(self.bytes.len(), |(_, end)| end);
        }
        Slab {
            bytes: self.bytes.slice(start..at),
            count,
        }
    }

    /// The records that `keep` says yes to, by index: shared where they stand side by side, copied
    /// otherwise.
    pub fn keep(&self, keep: impl Fn(u32) -> bool) -> Slab {
        let kept = (0..self.count).filter(|index| keep(*index));
        let (first, count) = match (kept.clone().next(), kept.clone().last()) {
            (Some(first), Some(last)) => (first, last - first + 1),
            _ => return Slab::default(),
        };
        let part = self.slice(first, count);
        if kept.count() as u32 == count {
            return part;
        }
        let mut builder = SlabBuilder::new();
        for (index, body) in (first..).zip(part.iter()) {
            if keep(index) {
                builder.push(body);
            }
        }
        builder.finish()
    }

    /// The part that consists of exactly these bodies, if they are shared parts of this slab (as
    /// [`Slab::bodies`] gives them), one right after the other. Looks at no record.
    pub fn part_of<'a>(&self, bodies: impl IntoIterator<Item = &'a Bytes>) -> Option<Slab> {
        let base = self.bytes.as_ptr().addr();
        let place = |body: &Bytes| {
            let start = body.as_ptr().addr().checked_sub(base)?;
            let end = start.checked_add(body.len())?;
            (end <= self.bytes.len()).then_some((start, end))
        };
        let mut bodies = bodies.into_iter();
        let first = bodies.next()?;
        let (start, mut end) = place(first)?;
        let prefix = varint::len(first.len() as u64);
        let from = start.checked_sub(prefix)?;
        // A length may have been written longer than it need be.
        if varint::get(&self.bytes[from..]) != Some((first.len() as u64, prefix)) {
            return None;
        }
        let mut count = 1;
        for body in bodies {
            let (next, next_end) = place(body)?;
            if next.checked_sub(end)? != varint::len(body.len() as u64) {
                return None;
            }
            (end, count) = (next_end, count + 1);
        }
        Some(Slab {
            bytes: self.bytes.slice(from..end),
            count,
        })
    }

    /// How many records from `first` on fit into `bytes_max`, and at least one.
    pub fn fitting(&self, first: u32, bytes_max: usize) -> u32 {
        let mut at = 0;
        let mut index = 0;
        while index < first {
            match next(&self.bytes, at) {
                Some((_, end)) => at = end,
                None => return 0,
            }
            index += 1;
        }
        let start = at;
        let mut fitting = 0;
        while let Some((_, end)) = next(&self.bytes, at) {
            if end - start > bytes_max && fitting > 0 {
                break;
            }
            fitting += 1;
            at = end;
        }
        fitting
    }
}

impl<'a> IntoIterator for &'a Slab {
    type Item = &'a [u8];
    type IntoIter = SlabIter<'a>;

    fn into_iter(self) -> SlabIter<'a> {
        self.iter()
    }
}

/// Where the body of the record at `at` starts and ends.
#[inline]
fn next(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let (length, prefix) = varint::get(bytes.get(at..)?)?;
    let start = at + prefix;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len()).then_some((start, end))
}

/// See [`Slab::iter`].
#[derive(Clone, Debug)]
pub struct SlabIter<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for SlabIter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (start, end) = next(self.bytes, self.at)?;
        self.at = end;
        Some(&self.bytes[start..end])
    }
}

/// Builds a slab record by record.
#[derive(Debug, Default)]
pub struct SlabBuilder {
    bytes: BytesMut,
    count: u32,
}

impl SlabBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an encoded body.
    #[inline]
    pub fn push(&mut self, body: &[u8]) {
        self.bytes.reserve(body.len() + 8);
        varint::put_prefixed(&mut self.bytes, body);
        self.count += 1;
    }

    /// Appends all records of a slab.
    pub fn extend(&mut self, slab: &Slab) {
        self.bytes.extend_from_slice(&slab.bytes);
        self.count += slab.count;
    }

    /// Appends a body of `length` bytes that `put` appends.
    pub(crate) fn push_with(&mut self, length: usize, put: impl FnOnce(&mut BytesMut)) {
        self.bytes.reserve(length + 8);
        varint::put(&mut self.bytes, length as u64);
        let start = self.bytes.len();
        put(&mut self.bytes);
        debug_assert_eq!(self.bytes.len() - start, length);
        self.count += 1;
    }

    /// Encodes a message and appends it.
    pub fn push_message(&mut self, message: &crate::record::Message) {
        let length = message.encoded_len();
        self.bytes.reserve(length + 8);
        varint::put(&mut self.bytes, length as u64);
        message.encode(&mut self.bytes);
        self.count += 1;
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The slab; the builder is empty again and keeps its spare room.
    pub fn finish(&mut self) -> Slab {
        Slab {
            bytes: self.bytes.split().freeze(),
            count: std::mem::take(&mut self.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slab(bodies: &[&[u8]]) -> Slab {
        let mut builder = SlabBuilder::new();
        bodies.iter().for_each(|b| builder.push(b));
        builder.finish()
    }

    #[test]
    fn parts() {
        let long = [7u8; 100];
        let all = slab(&[b"a", b"", &long, b"bc"]);
        assert_eq!(Slab::parse(all.bytes().clone()), Ok(all.clone()));
        assert_eq!(
            all.iter().collect::<Vec<_>>(),
            [&b"a"[..], b"", &long, b"bc"]
        );
        assert_eq!(all.slice(2, 1), slab(&[&long]));
        assert_eq!(all.slice(3, 9), slab(&[b"bc"]));
        assert_eq!(all.slice(9, 9).count(), 0);
        assert_eq!(all.fitting(0, 3), 2);
        assert_eq!(all.fitting(2, 3), 1);
        assert_eq!(all.keep(|_| true), all);
        assert_eq!(all.keep(|index| index > 1), slab(&[&long, b"bc"]));
        assert_eq!(all.keep(|index| index != 1), slab(&[b"a", &long, b"bc"]));
        assert_eq!(all.keep(|_| false), Slab::default());
    }

    #[test]
    fn bodies_that_are_a_part_are_found_without_a_copy() {
        let long = [7u8; 100];
        let all = slab(&[b"a", b"bcd", &long, b"ef", b""]);
        let bodies: Vec<Bytes> = all.bodies().collect();
        assert_eq!(all.part_of(&bodies[..4]), Some(all.slice(0, 4)));
        assert_eq!(all.part_of(&bodies[2..3]), Some(all.slice(2, 1)));
        let part = all.part_of(&bodies[1..3]).unwrap();
        assert_eq!(part, all.slice(1, 2));
        assert_eq!(part.bytes.as_ptr(), all.slice(1, 2).bytes.as_ptr());
        // A gap, another order, one twice, one that is only equal, one cut, nothing at all.
        assert_eq!(all.part_of([&bodies[0], &bodies[2]]), None);
        assert_eq!(all.part_of([&bodies[1], &bodies[0]]), None);
        assert_eq!(all.part_of([&bodies[1], &bodies[1]]), None);
        assert_eq!(all.part_of([&Bytes::from_static(b"bcd")]), None);
        assert_eq!(all.part_of([&bodies[2].slice(1..)]), None);
        assert_eq!(all.part_of([]), None);
    }

    #[test]
    fn a_length_that_is_longer_than_needed_gives_no_part() {
        // 100 in four bytes; the last two of them alone would be another record.
        let mut bytes = vec![0x80, 0, 0, 100];
        bytes.extend([7u8; 100]);
        let odd = Slab::parse(bytes.into()).unwrap();
        let bodies: Vec<Bytes> = odd.bodies().collect();
        assert_eq!(odd.part_of(&bodies), None);
    }

    #[test]
    fn cut_off() {
        let bytes = slab(&[b"abc", b"defg"]).bytes().clone();
        let error = Slab::parse(bytes.slice(..bytes.len() - 1)).unwrap_err();
        assert_eq!(
            error,
            SlabError {
                index: 1,
                offset: 4
            }
        );
    }
}
