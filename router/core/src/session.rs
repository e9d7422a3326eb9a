//! A publisher's side of the node: sequences, window, and one cumulative confirm for all that is
//! settled, in the order in which it was sent, however its parts finish.

use std::collections::VecDeque;

use waypost_wire::Code;
use waypost_wire::data::{Confirm, Exception, Level};

/// What a publisher did wrong; it ends its stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A batch that does not follow the last.
    #[error("batch begins at sequence {got}, expected {expected}")]
    Sequence {
        /// What came.
        got: u64,
        /// What follows the last batch.
        expected: u64,
    },
    /// More messages than the window.
    #[error("sequence {got} is beyond the window, which ends at {limit}")]
    WindowMessages {
        /// The batch's last sequence.
        got: u64,
        /// The window's end.
        limit: u64,
    },
    /// More bytes than the window.
    #[error("{got} bytes in all are beyond the window, which ends at {limit}")]
    WindowBytes {
        /// Bytes sent in all.
        got: u64,
        /// The window's end.
        limit: u64,
    },
    /// A batch with no message.
    #[error("batch at sequence {0} is empty")]
    Empty(u64),
    /// A batch over its limit.
    #[error(
        "batch of {count} messages and {bytes} bytes, limit {count_max} messages or {bytes_max} bytes"
    )]
    Batch {
        /// Its messages.
        count: u32,
        /// Its bytes.
        bytes: u64,
        /// The limit in force.
        count_max: u32,
        /// The limit in force, unless it is a single message.
        bytes_max: u64,
    },
}

impl SessionError {
    /// The code to answer with.
    pub fn code(&self) -> Code {
        match self {
            SessionError::Sequence { .. } => Code::OutOfOrder,
            SessionError::WindowMessages { .. } | SessionError::WindowBytes { .. } => {
                Code::OverWindow
            }
            SessionError::Empty(_) => Code::Protocol,
            SessionError::Batch { .. } => Code::TooLarge,
        }
    }
}

/// Names a batch within its session; they count up from 0.
pub type BatchId = u64;

#[derive(Debug)]
struct Batch {
    last_sequence: u64,
    bytes: u64,
    settled: Option<(Level, Vec<Exception>)>,
}

/// One publisher stream.
#[derive(Debug)]
pub struct PublisherSession {
    window_messages: u64,
    window_bytes: u64,
    next_sequence: u64,
    bytes: u64,
    settled_sequence: u64,
    settled_bytes: u64,
    first_batch: BatchId,
    batches: VecDeque<Batch>,
}

impl PublisherSession {
    /// A session with so many messages and slab bytes unsettled at most. A single message may pass
    /// the bytes when nothing else is unsettled.
    pub fn new(window_messages: u32, window_bytes: u64) -> PublisherSession {
        PublisherSession {
            window_messages: u64::from(window_messages),
            window_bytes,
            next_sequence: 1,
            bytes: 0,
            settled_sequence: 0,
            settled_bytes: 0,
            first_batch: 0,
            batches: VecDeque::new(),
        }
    }

    /// The window's ends: sequence and bytes in all.
    pub fn window(&self) -> (u64, u64) {
        (
            self.settled_sequence + self.window_messages,
            self.settled_bytes + self.window_bytes,
        )
    }

    /// The sequence with which the next batch begins.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Batches that are not settled.
    pub fn outstanding(&self) -> usize {
        self.batches.len()
    }

    /// A batch came. Its id, for [`PublisherSession::settle`].
    pub fn on_batch(
        &mut self,
        first_sequence: u64,
        count: u32,
        bytes: u64,
    ) -> Result<BatchId, SessionError> {
        let expected = self.next_sequence;
        if first_sequence != expected {
            return Err(SessionError::Sequence {
                got: first_sequence,
                expected,
            });
        }
        if count == 0 {
            return Err(SessionError::Empty(first_sequence));
        }
        let (count_max, bytes_max) = (
            waypost_wire::BATCH_MESSAGES_MAX as u32,
            waypost_wire::BATCH_BYTES_MAX as u64,
        );
        if count > count_max || (count > 1 && bytes > bytes_max) {
            return Err(SessionError::Batch {
                count,
                bytes,
                count_max,
                bytes_max,
            });
        }
        let last_sequence = first_sequence + u64::from(count) - 1;
        let (limit, limit_bytes) = self.window();
        if last_sequence > limit {
            return Err(SessionError::WindowMessages {
                got: last_sequence,
                limit,
            });
        }
        let alone = self.batches.is_empty() && count == 1;
        if self.bytes + bytes > limit_bytes && !alone {
            return Err(SessionError::WindowBytes {
                got: self.bytes + bytes,
                limit: limit_bytes,
            });
        }
        self.next_sequence = last_sequence + 1;
        self.bytes += bytes;
        self.batches.push_back(Batch {
            last_sequence,
            bytes: self.bytes,
            settled: None,
        });
        Ok(self.first_batch + self.batches.len() as u64 - 1)
    }

    /// What became of a batch is known. A second word for the same batch is ignored.
    pub fn settle(&mut self, id: BatchId, level: Level, exceptions: Vec<Exception>) {
        let index = id.checked_sub(self.first_batch).map(|i| i as usize);
        if let Some(batch) = index.and_then(|i| self.batches.get_mut(i))
            && batch.settled.is_none()
        {
            batch.settled = Some((level, exceptions));
        }
    }

    /// Batches below this one are settled without a gap before them.
    pub fn settled_below(&self) -> BatchId {
        let settled = self.batches.iter().take_while(|b| b.settled.is_some());
        self.first_batch + settled.count() as u64
    }

    /// One confirm for all batches that are settled without a gap before them. Its level is the
    /// weakest of theirs.
    pub fn poll_confirm(&mut self) -> Option<Confirm> {
        let mut confirm: Option<Confirm> = None;
        while let Some(Batch {
            settled: Some((_, next)),
            ..
        }) = self.batches.front()
        {
            // A confirm has to fit a frame.
            let held = confirm.as_ref().map_or(0, |c| c.exceptions.len());
            if held > 0 && held + next.len() > waypost_wire::BATCH_MESSAGES_MAX {
                break;
            }
            let Some(batch) = self.batches.pop_front() else {
                break;
            };
            let Some((level, mut exceptions)) = batch.settled else {
                break;
            };
            self.first_batch += 1;
            self.settled_sequence = batch.last_sequence;
            self.settled_bytes = batch.bytes;
            let confirm = confirm.get_or_insert(Confirm {
                level,
                ..Confirm::default()
            });
            confirm.up_to = batch.last_sequence;
            confirm.level = confirm.level.min(level);
            confirm.exceptions.append(&mut exceptions);
        }
        let (window_sequence, window_bytes) = self.window();
        confirm.map(|confirm| Confirm {
            window_sequence,
            window_bytes,
            ..confirm
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_wire::data::ExceptionKind;

    #[test]
    fn cumulative_in_order_at_the_weakest_level() {
        let mut session = PublisherSession::new(10, 1000);
        let a = session.on_batch(1, 2, 20).unwrap();
        let b = session.on_batch(3, 1, 10).unwrap();
        let c = session.on_batch(4, 1, 10).unwrap();
        session.settle(b, Level::Stored, vec![]);
        assert_eq!(session.poll_confirm(), None);
        let exception = Exception {
            sequence: 2,
            kind: ExceptionKind::Dropped,
            code: Code::Closed,
            text: String::new(),
        };
        session.settle(a, Level::Received, vec![exception.clone()]);
        let confirm = session.poll_confirm().unwrap();
        assert_eq!((confirm.up_to, confirm.level), (3, Level::Received));
        assert_eq!((confirm.window_sequence, confirm.window_bytes), (13, 1030));
        assert_eq!(confirm.exceptions, [exception]);
        session.settle(b, Level::Received, vec![]);
        session.settle(c, Level::Stored, vec![]);
        assert_eq!(session.poll_confirm().unwrap().level, Level::Stored);
        assert_eq!(session.outstanding(), 0);
    }

    #[test]
    fn windows_and_sequences_are_kept() {
        let mut session = PublisherSession::new(4, 100);
        assert_eq!(
            session.on_batch(2, 1, 1).unwrap_err().to_string(),
            "batch begins at sequence 2, expected 1"
        );
        assert_eq!(
            session.on_batch(1, 5, 1),
            Err(SessionError::WindowMessages { got: 5, limit: 4 })
        );
        assert_eq!(session.on_batch(1, 0, 0), Err(SessionError::Empty(1)));
        assert!(matches!(
            session.on_batch(1, 300, 1),
            Err(SessionError::Batch { .. })
        ));
        let big = session.on_batch(1, 1, 5000).unwrap();
        assert_eq!(
            session.on_batch(2, 1, 1),
            Err(SessionError::WindowBytes {
                got: 5001,
                limit: 100
            })
        );
        session.settle(big, Level::Stored, vec![]);
        session.poll_confirm().unwrap();
        session.on_batch(2, 2, 100).unwrap();
    }
}
