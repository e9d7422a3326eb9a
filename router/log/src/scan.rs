//! Which groups of a WAL count: the judgement that tells a torn tail from rot, on bytes alone.
//!
//! Pages that were not synced land in any order, so a whole group after a broken place does not
//! prove that the broken place was ever whole. What proves it is a group's `synced` field: when it
//! was written, everything below that position was durable already. So, with `S` the highest
//! `synced` of all groups that count:
//!
//! * damage below `S` is **rot**: synced bytes changed. It is reported, and reading goes on with
//!   the next whole group that is in its right place;
//! * from the first bad byte at or above `S` everything is the **torn tail** of a write that was
//!   never confirmed. It is cut, whatever follows.
//!
//! A group is in its right place if it names the position at which it was found: bytes of a
//! recycled file name an older one. Groups that an earlier recovery cut are told by the first
//! entry of the generation after, which states where theirs ended.
//!
//! What cannot be told apart: rot in the last group from a torn write, until another group follows
//! it. An idle writer therefore adds an empty one ([`crate::Log::idle_sync`]).

use std::ops::Range;

use crate::format::entry::{Entry, EntryKind, entries};
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader};
use crate::format::u64_at;
use crate::ids::Position;
use crate::options::PAGE_BYTES;

/// A whole group that names the place where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundGroup {
    /// Its header.
    pub header: GroupHeader,
    /// If it begins a generation: where the one before ended.
    pub previous_end: Option<Position>,
}

/// Finds all whole groups in the bytes of one WAL file that begins at `base`.
///
/// Any bytes will do: recovery calls this, and so may a fuzzer.
pub fn groups(bytes: &[u8], base: Position) -> Vec<FoundGroup> {
    let mut found = Vec::new();
    let mut at = 0usize;
    while at + GROUP_HEADER_BYTES <= bytes.len() {
        let position = Position(base.0.wrapping_add(at as u64));
        match GroupHeader::decode(&bytes[at..], position) {
            Some(header) => {
                let previous_end = group_entries(&bytes[at..], &header)
                    .find(|e| e.header.kind == EntryKind::Opened && e.payload.len() == 8)
                    .map(|e| Position(u64_at(e.payload, 0)));
                found.push(FoundGroup {
                    header,
                    previous_end,
                });
                at += header.padded_bytes() as usize;
            }
            None => at += PAGE_BYTES as usize,
        }
    }
    found
}

/// Which file of the log these bytes are, if they hold a whole group in its place in a file from
/// `from` on; groups of lower files are what recycling left.
pub fn file_of(bytes: &[u8], file_bytes: u64, from: u64) -> Option<u64> {
    bytes
        .chunks(PAGE_BYTES as usize)
        .enumerate()
        .find_map(|(page, first)| {
            let at = page * PAGE_BYTES as usize;
            let claimed = GroupHeader::peek(first)?.position;
            let seq = claimed.seq(file_bytes);
            let is_here = seq >= from && claimed == Position::of(seq, at as u64, file_bytes);
            (is_here && GroupHeader::decode(&bytes[at..], claimed).is_some()).then_some(seq)
        })
}

/// The entries of a whole group at `bytes[0]`.
pub fn group_entries<'a>(
    bytes: &'a [u8],
    header: &GroupHeader,
) -> impl Iterator<Item = Entry<'a>> + use<'a> {
    entries(bytes, GROUP_HEADER_BYTES, header.length as usize)
}

/// Whether a damaged place at `position` looks like a group that was meant to be there, rather
/// than like zeros or an old group in a recycled file. Returns its length if that can be believed.
pub fn is_broken_group(bytes: &[u8], position: Position, chain: u32) -> Option<u64> {
    let header = GroupHeader::peek(bytes)?;
    let meant = header.position == position || (chain != 0 && header.chain == chain);
    meant.then(|| header.padded_bytes().min(bytes.len() as u64))
}

/// What to do with the groups that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Groups that count, in order.
    pub kept: Vec<FoundGroup>,
    /// Damage below the last synced position, where something is missing.
    pub rot: Vec<Range<Position>>,
    /// Where the log ends: after the last group that counts, or after rot behind it.
    pub end: Position,
    /// Whole groups after `end`, of a write that was never confirmed.
    pub cut: Vec<FoundGroup>,
    /// The highest generation's number of opens.
    pub opens: u32,
}

/// Judges all groups of a WAL, given in order of position.
///
/// `start` is where the oldest live file begins; `file_bytes` is the size of each file. `proven`
/// is how far the log was synced by other evidence than its groups', 0 if there is none.
pub fn plan(found: &[FoundGroup], start: Position, file_bytes: u64, proven: Position) -> Plan {
    let ends: Vec<(u32, Position)> = found
        .iter()
        .filter_map(|g| Some((opens(g.header.generation), g.previous_end?)))
        .collect();
    // Cut by an earlier recovery, which the generation after states.
    let is_superseded = |g: &FoundGroup| {
        ends.iter()
            .any(|(n, end)| opens(g.header.generation) < *n && g.header.position >= *end)
    };
    let valid: Vec<FoundGroup> = found
        .iter()
        .filter(|g| !is_superseded(g))
        .copied()
        .collect();
    let synced = valid
        .iter()
        .map(|g| g.header.synced)
        .max()
        .map_or(proven, |synced| synced.max(proven));

    let mut plan = Plan {
        end: start,
        ..Plan::default()
    };
    plan.opens = found
        .iter()
        .map(|g| opens(g.header.generation))
        .max()
        .unwrap_or(0);
    let mut rest = valid.iter();
    for group in rest.by_ref() {
        if plan
            .kept
            .pop_if(|last| is_instead_of(last, group, file_bytes))
            .is_some()
        {
            plan.kept.push(*group);
            plan.end = group.header.end();
            continue;
        }
        if !follows(plan.kept.last(), group, plan.end, file_bytes) {
            if group.header.position > synced {
                plan.cut.push(*group);
                break;
            }
            if plan.end < group.header.position {
                plan.rot.push(plan.end..group.header.position);
            }
        }
        plan.kept.push(*group);
        plan.end = group.header.end();
    }
    plan.cut.extend(rest.copied());
    if plan.end < synced {
        plan.rot.push(plan.end..synced);
        plan.end = synced;
    }
    plan
}

/// The number of opens in a generation.
pub fn opens(generation: u64) -> u32 {
    (generation >> 32) as u32
}

/// Whether `last` was refused for want of space and `group` was written in its place, in the next
/// file: both were chained to the same group. What a refusal left is else written over, as the next
/// attempt begins on the same page; one that does not fit there any more begins a file.
fn is_instead_of(last: &FoundGroup, group: &FoundGroup, file_bytes: u64) -> bool {
    let (refused, at) = (&last.header, group.header.position);
    at.offset(file_bytes) == 0
        && at.seq(file_bytes) == refused.position.seq(file_bytes) + 1
        && group.previous_end.is_none()
        && refused.generation == group.header.generation
        && refused.chain == group.header.chain
}

/// Whether nothing is missing between the groups kept so far and `group`.
fn follows(last: Option<&FoundGroup>, group: &FoundGroup, end: Position, file_bytes: u64) -> bool {
    let at = group.header.position;
    let Some(last) = last else {
        return at == end;
    };
    if let Some(previous_end) = group.previous_end {
        return previous_end == end;
    }
    let is_next = at == end
        || (at.offset(file_bytes) == 0
            && at.seq(file_bytes) == Position(end.0 - 1).seq(file_bytes) + 1);
    is_next
        && last.header.generation == group.header.generation
        && group.header.chain == last.header.crc
}
