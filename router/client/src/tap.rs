//! Taps: copies of sampled messages of a running node.

use waypost_wire::control::{self, Manage, ManageRequest, Managed, ManagedResponse, Tap, Tapped};
use waypost_wire::{Frame, FrameType};

use crate::client::Client;
use crate::error::Error;
use crate::manage::other_answer;
use crate::session::Stream;
use crate::stream;

impl Client {
    /// Attaches a tap, which needs the right `read`: copies come of messages that the client may
    /// subscribe to. It slows nobody; what is not read in time is lost, and counted. Returns when it
    /// is attached.
    pub async fn tap(&self, tap: Tap) -> Result<Tapping, Error> {
        let session = self.inner.session().await.map_err(Error::not_sent)?;
        let first = Manage {
            request: Some(ManageRequest::Tap(tap)),
        };
        let first = control::bytes_of(FrameType::Manage, &first);
        let mut stream = session.open(first).await?;
        stream::finish(&mut stream.send);
        let frame = stream
            .reader
            .expect(FrameType::Managed, "MANAGED or ERROR")
            .await?;
        tapped(&frame)?;
        Ok(Tapping(stream))
    }
}

/// A tap. Ends when it is dropped.
pub struct Tapping(Stream);

impl std::fmt::Debug for Tapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tapping").finish_non_exhaustive()
    }
}

impl Tapping {
    /// What came since the last time; `None` when what was asked for is over, or the node stops.
    pub async fn next(&mut self) -> Result<Option<Tapped>, Error> {
        match self.0.reader.next().await? {
            None => Ok(None),
            Some(frame) if frame.kind == FrameType::Managed => tapped(&frame).map(Some),
            Some(frame) => Err(frame.unexpected("MANAGED or ERROR").into()),
        }
    }
}

fn tapped(frame: &Frame) -> Result<Tapped, Error> {
    let answer: Managed = control::parse(frame)?;
    match answer.response {
        Some(ManagedResponse::Tap(tapped)) => Ok(tapped),
        Some(other) => Err(other_answer("Tap", &other)),
        None => Err(frame.malformed("has no answer").into()),
    }
}
