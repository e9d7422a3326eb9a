//! A snapshot entry's payload: what the log itself must know of a queue, then the queue's bytes.
//!
//! ```text
//!  0  u64  next offset: all below were given out
//!  8  u64  trimmed: offsets below are no longer needed
//! 16  u32  epoch: the highest seen
//! 20  u32  number of segments
//! 24       for each segment, in order of offsets:
//!            u64 first offset, u64 end offset, u64 bytes, u64 records
//!          the queue's own bytes, to the end of the payload
//! ```

use super::{u32_at, u64_at};

/// A segment as a snapshot names it: everything up to `bytes` is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// First offset; the file's name.
    pub first_offset: u64,
    /// One past the last offset.
    pub end_offset: u64,
    /// Bytes of the file that hold entries, header included.
    pub bytes: u64,
    /// Records in it.
    pub records: u64,
}

/// The log's own part of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotHead {
    /// All offsets below were given out.
    pub next_offset: u64,
    /// Offsets below are no longer needed.
    pub trimmed: u64,
    /// The highest epoch seen.
    pub epoch: u32,
    /// The queue's segments, in order.
    pub segments: Vec<SegmentInfo>,
}

impl SnapshotHead {
    /// Bytes that [`encode`](Self::encode) appends.
    pub fn encoded_bytes(&self) -> usize {
        24 + 32 * self.segments.len()
    }

    /// Appends the bytes drawn above, without the queue's own.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.next_offset.to_le_bytes());
        out.extend_from_slice(&self.trimmed.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for s in &self.segments {
            for v in [s.first_offset, s.end_offset, s.bytes, s.records] {
                out.extend_from_slice(&v.to_le_bytes());
            }
        }
    }

    /// The head and the queue's own bytes; `None` if the payload is too short for its count or
    /// the segments are not in order.
    pub fn decode(payload: &[u8]) -> Option<(SnapshotHead, &[u8])> {
        if payload.len() < 24 {
            return None;
        }
        let count = u32_at(payload, 20) as usize;
        let end = count.checked_mul(32)?.checked_add(24)?;
        let list = payload.get(24..end)?;
        let segments: Vec<_> = list
            .chunks_exact(32)
            .map(|s| SegmentInfo {
                first_offset: u64_at(s, 0),
                end_offset: u64_at(s, 8),
                bytes: u64_at(s, 16),
                records: u64_at(s, 24),
            })
            .collect();
        let ordered = segments.iter().all(|s| s.first_offset <= s.end_offset)
            && segments
                .windows(2)
                .all(|w| w[0].end_offset <= w[1].first_offset);
        let head = SnapshotHead {
            next_offset: u64_at(payload, 0),
            trimmed: u64_at(payload, 8),
            epoch: u32_at(payload, 16),
            segments,
        };
        ordered.then_some((head, &payload[end..]))
    }
}
