//! What a set of groups proves: [`scan::plan`] on hand-made ones, also of a writer that has
//! several writes under way.

use waypost_log::Position;
use waypost_log::format::group::GroupHeader;
use waypost_log::scan::{FoundGroup, plan};

const FILE: u64 = 0x10_000;

/// A group of one page at `page` pages from the first file, whose CRC is its page.
fn group(page: u64, synced_page: u64) -> FoundGroup {
    FoundGroup {
        header: GroupHeader {
            crc: page as u32,
            length: 100,
            count: 1,
            position: at(page),
            generation: 1 << 32,
            synced: at(synced_page),
            chain: page as u32 - 1,
            shard: 0,
            time_ms: 0,
        },
        previous_end: None,
    }
}

fn at(page: u64) -> Position {
    Position(FILE + (page - 1) * 0x1000)
}

/// The first of a generation: at `page`, after one that ended at `end`.
fn opened(page: u64, end: u64) -> FoundGroup {
    let mut group = group(page, page);
    group.header.generation = 2 << 32;
    group.previous_end = Some(at(end));
    group
}

/// Pages kept, pages of rot, page of the end, pages cut.
type Judgement = (Vec<u64>, Vec<(u64, u64)>, u64, Vec<u64>);

fn judge(groups: &[FoundGroup]) -> Judgement {
    let page = |p: Position| (p.0 - FILE) / 0x1000 + 1;
    let plan = plan(groups, at(1), FILE, Position(0));
    let pages = |groups: &[FoundGroup]| groups.iter().map(|g| page(g.header.position)).collect();
    let rot = plan.rot.iter().map(|r| (page(r.start), page(r.end)));
    (
        pages(&plan.kept),
        rot.collect(),
        page(plan.end),
        pages(&plan.cut),
    )
}

#[test]
fn groups_are_judged() {
    let none = Vec::new;
    // All is well.
    assert_eq!(
        judge(&[group(1, 1), group(2, 2), group(3, 3)]),
        (vec![1, 2, 3], vec![], 4, none())
    );
    // 2 is damaged, and 3 says that it was synced.
    assert_eq!(
        judge(&[group(1, 1), group(3, 3)]),
        (vec![1, 3], vec![(2, 3)], 4, none())
    );
    // 2 is damaged; 3 was written before 2 was synced, and proves nothing.
    assert_eq!(
        judge(&[group(1, 1), group(3, 2), group(4, 2)]),
        (vec![1], vec![], 2, vec![3, 4])
    );
    // 1 is damaged below the last synced position, 3 above it.
    assert_eq!(
        judge(&[group(2, 1), group(4, 3)]),
        (vec![2], vec![(1, 2)], 3, vec![4])
    );
    // Two places are damaged, both synced.
    assert_eq!(
        judge(&[group(1, 1), group(3, 1), group(5, 5)]),
        (vec![1, 3, 5], vec![(2, 3), (4, 5)], 6, none())
    );
    assert_eq!(judge(&[]), (none(), vec![], 1, none()));
}

#[test]
fn what_a_generation_says_was_cut_stays_cut() {
    // 2 was torn, 3 whole; the next open cut both and began a file. 3 is there still.
    let groups = [group(1, 1), group(3, 2), opened(17, 2)];
    assert_eq!(judge(&groups), (vec![1, 17], vec![], 18, vec![]));
    // If 1 rots after that, it is known as rot.
    assert_eq!(judge(&groups[1..]), (vec![17], vec![(1, 17)], 18, vec![]));
}
