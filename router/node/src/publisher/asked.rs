//! What a publisher wants to know of single messages, and is told of them.
//!
//! Only so many are under way at a time, so that what is kept of them has a bound; of what is more
//! the publisher learns how many there were.

use bytes::BytesMut;
use waypost_core::pipeline::Traced;
use waypost_wire::control::{self, Explained, Explains};
use waypost_wire::{Code, FrameType, Slab};

use crate::config;
use crate::connection::Conn;
use crate::explain::{self, EXPLAINING_MAX, Explaining};
use crate::stream_io::StreamError;
use crate::submission::Account;

/// Of one stream.
#[derive(Debug)]
pub(super) struct Asked {
    explains: Explains,
    under_way: usize,
    /// Messages that asked since the last that was told of, and are not explained.
    left_out: u32,
    /// To be written.
    told: Vec<Explained>,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked {
            explains: Explains::Nothing,
            under_way: 0,
            left_out: 0,
            told: Vec::new(),
        }
    }
}

impl Asked {
    /// What a client asks for. It names routes, plugins and queues: it is for those who may look at
    /// them.
    pub fn new(conn: &Conn, explains: i32) -> Result<Asked, StreamError> {
        let explains = Explains::try_from(explains).map_err(|_| {
            let text = format!("explains {explains} is unknown to this version");
            StreamError::Refused(Code::Invalid, text)
        })?;
        if explains != Explains::Nothing {
            let allowed = conn.principal.permissions.may_manage(config::Manage::Read);
            allowed.map_err(|denied| StreamError::Refused(denied.code(), denied.to_string()))?;
        }
        Ok(Asked {
            explains,
            ..Asked::default()
        })
    }

    /// The messages of a batch that are to be explained.
    pub fn of(&mut self, slab: &Slab) -> Traced {
        if self.explains == Explains::Nothing {
            return Traced::None;
        }
        let room = EXPLAINING_MAX.saturating_sub(self.under_way);
        let (traced, left_out) = explain::asked(self.explains, slab, room);
        self.left_out = self.left_out.saturating_add(left_out);
        if let Traced::These(inputs) = &traced {
            self.under_way += inputs.len();
        }
        traced
    }

    /// A batch is settled.
    pub fn settled(&mut self, explaining: Explaining, account: &Account, bytes_max: u64) {
        self.under_way = self.under_way.saturating_sub(explaining.count());
        let mut told = explaining.told(account, bytes_max);
        if let Some(first) = told.first_mut() {
            first.left_out = std::mem::take(&mut self.left_out);
        }
        self.told.append(&mut told);
    }

    /// Writes what there is to tell; says whether there was something.
    pub fn put(&mut self, out: &mut BytesMut) -> bool {
        let is_due = !self.told.is_empty();
        for explained in self.told.drain(..) {
            control::put(out, FrameType::Explained, &explained);
        }
        is_due
    }
}
