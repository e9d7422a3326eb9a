//! The parts of entries and snapshots, as bytes: drawn in [`super`]. Each writer has its reader, which
//! gives `None` for what is cut off or not of this version.

use std::borrow::Cow;

use waypost_wire::Filter;
use waypost_wire::data::{Outcome, Range};
use waypost_wire::varint::{self, Reader};

use super::{Entry, GroupKind, GroupOptions};
use crate::dedup::{ProducerId, SequenceRun};
use crate::group::Attempted;
use crate::message_ids::{AcceptedIds, IdHash};
use crate::receipts::{AskedRun, OwedRun, ReceiptSnapshot};

/// The kinds of ids and receipts.
pub(super) fn read_later(kind: u8, reader: &mut Reader<'_>) -> Option<Entry> {
    Some(match kind {
        10 => Entry::Identified(ids(reader)?),
        11 => Entry::Asked {
            producer: producer(reader)?,
            runs: asked(reader)?,
        },
        12 => Entry::Settled {
            outcome: Outcome::from_number(reader.u8()?)?,
            is_last: flag(reader)?,
            group: name(reader)?.into(),
            ranges: ranges(reader)?,
        },
        13 => Entry::Told {
            producer: producer(reader)?,
            below: reader.varint()?,
        },
        14 => Entry::Forgotten {
            producer: producer(reader)?,
        },
        _ => return None,
    })
}

pub(super) fn flag(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

pub(super) fn put_asked(out: &mut Vec<u8>, runs: &[AskedRun]) {
    varint::put(out, runs.len() as u64);
    let mut expected = 0;
    for run in runs {
        put_range(out, &mut expected, run.range);
        varint::put(out, run.sequence);
    }
}

pub(super) fn asked(reader: &mut Reader<'_>) -> Option<Vec<AskedRun>> {
    let count = reader.varint()?;
    let mut expected = 0;
    let mut runs = Vec::with_capacity((count as usize).min(reader.remaining()));
    for _ in 0..count {
        runs.push(AskedRun {
            range: range(reader, &mut expected)?,
            sequence: reader.varint()?,
        });
    }
    Some(runs)
}

pub(super) fn put_receipts(out: &mut Vec<u8>, of: &ReceiptSnapshot) {
    out.extend_from_slice(&of.producer);
    varint::put(out, of.lost);
    put_asked(out, &of.asked);
    varint::put(out, of.owed.len() as u64);
    for owed in &of.owed {
        for number in [owed.number, owed.count, owed.sequence, owed.offset] {
            varint::put(out, number);
        }
        out.extend_from_slice(&[owed.outcome as u8, u8::from(owed.is_last)]);
        varint::put_prefixed(out, owed.group.as_bytes());
    }
}

pub(super) fn receipts(reader: &mut Reader<'_>) -> Option<ReceiptSnapshot> {
    let mut of = ReceiptSnapshot {
        producer: producer(reader)?,
        lost: reader.varint()?,
        asked: asked(reader)?,
        owed: Vec::new(),
    };
    for _ in 0..reader.varint()? {
        of.owed.push(OwedRun {
            number: reader.varint()?,
            count: reader.varint()?,
            sequence: reader.varint()?,
            offset: reader.varint()?,
            outcome: Outcome::from_number(reader.u8()?)?,
            is_last: flag(reader)?,
            group: name(reader)?.into(),
        });
    }
    Some(of)
}

pub(super) fn put_section(out: &mut Vec<u8>, id: u64, put: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    put(&mut value);
    varint::put(out, id);
    varint::put_prefixed(out, &value);
}

pub(super) fn put_options(out: &mut Vec<u8>, options: &GroupOptions) {
    varint::put(out, options.kind as u64);
    varint::put(out, options.filters.len() as u64);
    for filter in &options.filters {
        varint::put_prefixed(out, filter.as_str().as_bytes());
    }
}

pub(super) fn options(reader: &mut Reader<'_>) -> Option<GroupOptions> {
    let mut options = GroupOptions {
        kind: GroupKind::from_number(reader.varint()?)?,
        filters: Vec::new(),
    };
    for _ in 0..reader.varint()? {
        options.filters.push(Filter::new(name(reader)?).ok()?);
    }
    Some(options)
}

pub(super) fn name(reader: &mut Reader<'_>) -> Option<String> {
    String::from_utf8(reader.prefixed()?.to_vec()).ok()
}

pub(super) fn put_range(out: &mut Vec<u8>, expected: &mut u64, range: Range) {
    varint::put(out, range.first - *expected);
    varint::put(out, range.last - range.first);
    *expected = range.last + 1;
}

pub(super) fn range(reader: &mut Reader<'_>, expected: &mut u64) -> Option<Range> {
    let first = expected.checked_add(reader.varint()?)?;
    let last = first.checked_add(reader.varint()?)?;
    *expected = last.checked_add(1)?;
    Some(Range { first, last })
}

pub(super) fn put_ranges(out: &mut Vec<u8>, count: usize, ranges: impl Iterator<Item = Range>) {
    varint::put(out, count as u64);
    let mut expected = 0;
    ranges.for_each(|r| put_range(out, &mut expected, r));
}

pub(super) fn ranges(reader: &mut Reader<'_>) -> Option<Vec<Range>> {
    let count = reader.varint()?;
    let mut expected = 0;
    let mut ranges = Vec::with_capacity((count as usize).min(reader.remaining()));
    for _ in 0..count {
        ranges.push(range(reader, &mut expected)?);
    }
    Some(ranges)
}

pub(super) fn producer(reader: &mut Reader<'_>) -> Option<ProducerId> {
    reader.bytes(16)?.try_into().ok()
}

pub(super) fn put_runs(out: &mut Vec<u8>, runs: &[SequenceRun]) {
    varint::put(out, runs.len() as u64);
    let mut expected = 0;
    for run in runs {
        varint::put(out, run.first - expected);
        varint::put(out, run.last - run.first);
        varint::put(out, run.offset);
        expected = run.last + 1;
    }
}

pub(super) fn runs(reader: &mut Reader<'_>) -> Option<Vec<SequenceRun>> {
    let count = reader.varint()?;
    let mut expected = 0;
    let mut runs = Vec::with_capacity((count as usize).min(reader.remaining()));
    for _ in 0..count {
        let Range { first, last } = range(reader, &mut expected)?;
        let offset = reader.varint()?;
        runs.push(SequenceRun {
            first,
            last,
            offset,
        });
    }
    Some(runs)
}

pub(super) fn put_ids(out: &mut Vec<u8>, ids: &AcceptedIds) {
    varint::put(out, ids.time_ms);
    varint::put(out, ids.ids.len() as u64);
    let mut expected = 0;
    for (id, offset) in &ids.ids {
        out.extend_from_slice(&id.0);
        varint::put(out, offset - expected);
        expected = offset + 1;
    }
}

pub(super) fn ids(reader: &mut Reader<'_>) -> Option<AcceptedIds> {
    let (time_ms, count) = (reader.varint()?, reader.varint()?);
    let mut expected = 0u64;
    let mut ids = Vec::with_capacity((count as usize).min(reader.remaining() / 16));
    for _ in 0..count {
        let id = IdHash(reader.bytes(16)?.try_into().ok()?);
        let offset = expected.checked_add(reader.varint()?)?;
        ids.push((id, offset));
        expected = offset.checked_add(1)?;
    }
    Some(AcceptedIds { time_ms, ids })
}

pub(super) fn put_attempts(out: &mut Vec<u8>, attempts: &[Attempted]) {
    let mut sorted = Cow::Borrowed(attempts);
    if !attempts.is_sorted_by_key(|a| a.range.first) {
        sorted.to_mut().sort_unstable_by_key(|a| a.range.first);
    }
    varint::put(out, sorted.len() as u64);
    let mut expected = 0;
    for attempted in sorted.iter() {
        put_range(out, &mut expected, attempted.range);
        varint::put(out, u64::from(attempted.attempt));
    }
}

pub(super) fn attempts(reader: &mut Reader<'_>) -> Option<Vec<Attempted>> {
    let count = reader.varint()?;
    let mut expected = 0;
    let mut attempts = Vec::with_capacity((count as usize).min(reader.remaining()));
    for _ in 0..count {
        let range = range(reader, &mut expected)?;
        attempts.push(Attempted {
            range,
            attempt: u32::try_from(reader.varint()?).ok()?,
        });
    }
    Some(attempts)
}
