//! Batches that the node itself publishes for somebody: what is replayed to a topic.
//!
//! They go the way of a publisher's batches: the same rights, limits, routes, plugins, queues, dead
//! letters and live subscribers, one batch after the other. There is no producer, and message ids are not looked up, so nothing is a
//! repeat, and no stream: who asked waits for each batch, which is what bounds them.

use std::sync::Arc;

use waypost_wire::Slab;
use waypost_wire::data::{Exception, Publish};

use super::Publisher;
use crate::connection::Conn;
use crate::stream_io::StreamError;

/// Publishes in the name of a connection.
pub(crate) struct Republisher<'a> {
    publisher: Publisher<'a>,
    next_sequence: u64,
}

impl<'a> Republisher<'a> {
    pub fn new(conn: &'a Arc<Conn>) -> Republisher<'a> {
        let window = (
            waypost_wire::BATCH_MESSAGES_MAX as u32,
            waypost_wire::BATCH_BYTES_MAX as u64,
        );
        let mut publisher = Publisher::new(conn, None, false, window);
        publisher.is_replay = true;
        Republisher {
            publisher,
            next_sequence: 1,
        }
    }

    /// Publishes a batch and waits until all of it is settled, and until the live subscribers that
    /// it filled have room or lost their patience. Gives what is to be said of single messages,
    /// whose sequences count from the batch's first.
    pub async fn batch(&mut self, slab: Slab) -> Result<Vec<Exception>, StreamError> {
        let first_sequence = self.next_sequence;
        self.next_sequence += u64::from(slab.count());
        let publisher = &mut self.publisher;
        let publish = Publish {
            first_sequence,
            slab,
        };
        publisher.on_batch(0, publish, None)?;
        let events = publisher.events.clone();
        let (mut taken, mut said) = (Vec::new(), Vec::new());
        loop {
            publisher.relieve().await;
            while let Some(confirm) = publisher.session.poll_confirm() {
                said.extend(confirm.exceptions);
            }
            if publisher.session.outstanding() == 0 {
                break;
            }
            events.0.take(&mut taken).await;
            taken.drain(..).for_each(|event| publisher.on_event(event));
        }
        said.iter_mut().for_each(|e| e.sequence -= first_sequence);
        Ok(said)
    }
}
