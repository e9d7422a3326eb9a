//! What a disk does to those who use it; and that it did, counted, so that a run in which a fault
//! never came is seen.

use std::fmt;
use std::io;
use std::ops::AddAssign;

/// A fault that is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full: the call fails with `ENOSPC` after half of its bytes.
    NoSpace,
    /// The device fails: `EIO`, after half of its bytes.
    Io,
    /// The power goes: this call and all after it fail, and nothing of it is done.
    PowerOff,
    /// A read returns half of what was asked for (as it may); other calls are as usual.
    ShortRead,
}

/// A kind of call, for faults that wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Opening or making a file.
    Open,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Syncing a file or a directory.
    Sync,
    /// Listing a directory, asking for a length.
    Look,
    /// Renaming, removing, making directories, changing lengths.
    Change,
}

const CALLS: [Call; 6] = [
    Call::Open,
    Call::Read,
    Call::Write,
    Call::Sync,
    Call::Look,
    Call::Change,
];
const FAULTS: [Fault; 4] = [Fault::PowerOff, Fault::NoSpace, Fault::Io, Fault::ShortRead];

impl Fault {
    /// Whether it does anything to calls of a kind: a read by halves is one of bytes.
    pub(super) fn is_met_by(self, call: Call) -> bool {
        match self {
            Fault::PowerOff | Fault::Io => true,
            Fault::NoSpace => !matches!(call, Call::Read | Call::Look),
            Fault::ShortRead => call == Call::Read,
        }
    }

    pub(super) fn to_result(self) -> io::Result<()> {
        match self {
            Fault::NoSpace => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Fault::Io => Err(io::Error::other("the device failed")),
            Fault::PowerOff => Err(io::Error::other("the power is off")),
            Fault::ShortRead => Ok(()),
        }
    }
}

/// A fault that waits for its call.
#[derive(Clone, Copy)]
pub(super) struct Armed {
    pub fault: Fault,
    /// The calls that it waits for; all, if there is none.
    pub call: Option<Call>,
    /// How many of them pass before.
    pub left: u64,
    /// How many then meet it.
    pub times: u64,
}

/// Faults that came to pass, on a disk and on those that it was before its crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    calls: [[u64; CALLS.len()]; FAULTS.len()],
    /// Crashes of the machine.
    pub crashes: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Changes to directories that were not synced and that a crash undid.
    pub names_lost: u64,
    /// Those that it left.
    pub names_kept: u64,
    /// Files that were not synced whole and that a crash left with other bytes than were written.
    pub files_torn: u64,
    /// Those that it left shorter than they were.
    pub files_short: u64,
    /// Bits flipped.
    pub bits: u64,
}

impl Injected {
    /// Calls of a kind that met a fault.
    pub fn count(&self, fault: Fault, call: Call) -> u64 {
        self.calls[fault as usize][call as usize]
    }

    /// Calls of all kinds that met a fault.
    pub fn count_all(&self, fault: Fault) -> u64 {
        self.calls[fault as usize].iter().sum()
    }

    pub(super) fn add(&mut self, fault: Fault, call: Call) {
        self.calls[fault as usize][call as usize] += 1;
    }
}

impl AddAssign for Injected {
    fn add_assign(&mut self, other: Injected) {
        for fault in FAULTS {
            for call in CALLS {
                self.calls[fault as usize][call as usize] += other.count(fault, call);
            }
        }
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.names_lost += other.names_lost;
        self.names_kept += other.names_kept;
        self.files_torn += other.files_torn;
        self.files_short += other.files_short;
        self.bits += other.bits;
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in FAULTS {
            write!(f, "{fault:?} {}", self.count_all(fault))?;
            for call in CALLS.iter().filter(|c| fault.is_met_by(**c)) {
                write!(f, ", {call:?} {}", self.count(fault, *call))?;
            }
            write!(f, "; ")?;
        }
        write!(
            f,
            "crashes {}, kills {}; names lost {}, kept {}; files torn {}, short {}; bits {}",
            self.crashes,
            self.kills,
            self.names_lost,
            self.names_kept,
            self.files_torn,
            self.files_short,
            self.bits
        )
    }
}
