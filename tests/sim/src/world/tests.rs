//! Ends that chance met once, made again on purpose.

#![allow(clippy::unwrap_used, reason = "tests")]

use waypost_core::DEAD_LETTER;
use waypost_log::mem::{Call, Fault};
use waypost_shard::{Part, Start};
use waypost_wire::slab::SlabBuilder;

use crate::message::Tag;
use crate::world::{Faults, Plan, World};

fn world() -> World {
    let plan = Plan {
        faults: Faults::None,
        trace_lines: 100,
        ..Plan::default()
    };
    World::new(1, plan).unwrap()
}

impl World {
    /// Publishes so many messages to a queue.
    fn publish_some(&mut self, queue: &str, count: u64) {
        let mut slab = SlabBuilder::new();
        let first = self.publishers[0] + 1;
        self.publishers[0] += count;
        let tag = |sequence| Tag {
            publisher: 0,
            sequence,
        };
        let tags: Vec<Tag> = (first..first + count).map(tag).collect();
        tags.iter().for_each(|tag| slab.push(&tag.body()));
        let part = Part::new(queue.into(), slab.finish());
        self.publish_parts(&[part], &[tags]).unwrap();
    }
}

/// A queue at its limit makes dead letters; a group begins above them before anything is synced;
/// the sync fails, and what was written is there after all. The dead letters were let go of in the
/// set of the log in which they came: nobody could see them, and none was lost.
#[test]
fn a_group_begins_above_dead_letters_that_are_not_synced() {
    for is_power_loss in [false, true] {
        let mut world = world();
        world.publish_some("moves", 50);
        world.commit().unwrap();
        world.publish_some("moves", 3);
        assert_eq!(world.dead_next, 3);
        let to = Start::Offset(200);
        let consumer = world.attach_to(DEAD_LETTER, "s1", to, None).unwrap();
        assert!(consumer.is_some());
        world.tally.faults += 1;
        world.disk.fail_at_call(Call::Sync, 0, Fault::Io);
        world.commit().unwrap();
        assert!(world.is_poisoned);
        world.restart(is_power_loss).unwrap();
        world.publish_some("moves", 1);
        world.commit().unwrap();
        world.drain().unwrap();
        // A killed process leaves what it wrote; a power loss all of it or nothing.
        let trace = world.trace.text();
        let is_there = |letter: u32| trace.contains(&format!("dead letter {letter} is on"));
        let landed = (0..3).filter(|letter| is_there(*letter)).count();
        assert!(landed == 3 || (landed == 0 && is_power_loss), "{trace}");
    }
}
