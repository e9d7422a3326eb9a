//! The disk's part: which faults it is armed with, and what stands on it, read past the shard.

use std::ops::Range;
use std::path::Path;

use waypost_log::dump::{Select, Shown, dump};
use waypost_log::mem::{Call, Fault, MemVfs};
use waypost_log::{Incarnation, Vfs};

use crate::invariants::{Violation, progress};
use crate::model::Life;
use crate::world::{DATA, Faults, World};

/// Calls that fail in a row, at most, when the disk is full for a while.
const FULL_CALLS_MAX: u64 = 20;
/// The kinds of calls that a fault waits for.
const CALLS: [Call; 6] = [
    Call::Open,
    Call::Read,
    Call::Write,
    Call::Sync,
    Call::Look,
    Call::Change,
];

impl World {
    /// Arms a fault, or ends the process at once.
    pub(crate) fn draw_fault(&mut self) -> Result<(), Violation> {
        if self.plan.faults == Faults::None || !self.dice.once_in(40) {
            return Ok(());
        }
        self.tally.faults += 1;
        let is_disk = self.plan.faults == Faults::Disk;
        match self.dice.below(if is_disk { 10 } else { 4 }) {
            0..=2 => {
                let nth = self.dice.below(60);
                self.trace.line(format!("power off at call {nth}"));
                self.disk.fail_at(nth, Fault::PowerOff);
            }
            3 => {
                let is_power_loss = self.dice.once_in(2);
                self.restart(is_power_loss)?;
            }
            4 | 5 => self.arm(Fault::NoSpace, &[Call::Open, Call::Write, Call::Change]),
            6..=8 => self.arm(Fault::Io, &CALLS),
            _ => self.arm(Fault::ShortRead, &[Call::Read]),
        }
        Ok(())
    }

    /// A fault at the n-th call of a kind; a full disk, and one that reads by halves, for a while.
    fn arm(&mut self, fault: Fault, calls: &[Call]) {
        let call = *self.dice.pick(calls).unwrap_or(&Call::Write);
        let nth = self.dice.below(12);
        let times = match fault {
            Fault::NoSpace | Fault::ShortRead => self.dice.between(1, FULL_CALLS_MAX),
            _ => 1,
        };
        self.trace
            .line(format!("{fault:?} at {call:?} {nth}, {times} times"));
        // A disk that has no room for bytes has none for names either.
        let kind = match fault {
            Fault::NoSpace if self.dice.once_in(3) => None,
            _ => Some(call),
        };
        self.disk.fail_calls(kind, nth, times, fault);
    }

    /// Shows the entries that stand on the disk, whatever the shard says of them: of one queue in a
    /// range of offsets, or of the whole WAL.
    pub(crate) fn entries_on_disk(
        &self,
        life: Option<Life>,
        range: Range<u64>,
        each: &mut dyn FnMut(&Shown<'_>),
    ) -> Result<(), Violation> {
        let queue = life.and_then(Incarnation::new).map(|queue| queue.hex());
        let select = Select { queue, range };
        // What another process would find now.
        let disk = self.disk.kill();
        let shown = dump(&disk, Path::new(DATA), &select, &mut |shown, _| {
            each(shown);
            true
        });
        shown.map(drop).map_err(|e| progress::stuck(e.to_string()))
    }
}

/// Whether the power is off.
pub(crate) fn is_off(disk: &MemVfs) -> bool {
    let asked = disk.read_dir(Path::new(DATA));
    asked.is_err_and(|e| e.to_string().contains("power"))
}
