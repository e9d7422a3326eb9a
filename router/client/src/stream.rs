//! One stream of a session as frames: reading, and the first exchange that every stream begins
//! with.

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream};
use tokio::io::AsyncReadExt;
use waypost_wire::control::{self, Opened};
use waypost_wire::{Code, Frame, FrameDecoder, FrameType};

use crate::error::Error;

/// Room for received bytes that is made at once. Many datagrams are taken in one go, and frames
/// share it until all of them are dropped.
const READ_BYTES: usize = 64 << 10;

/// The receiving half of a stream, cut into frames. When dropped, it tells the node to stop.
pub(crate) struct FrameReader {
    recv: RecvStream,
    decoder: FrameDecoder,
}

impl FrameReader {
    pub(crate) fn new(recv: RecvStream, frame_bytes_max: usize) -> Self {
        Self {
            recv,
            decoder: FrameDecoder::new(frame_bytes_max),
        }
    }

    /// A frame that is here already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Frame>, Error> {
        let frame = self.decoder.next_frame()?;
        match frame {
            Some(frame) if frame.kind == FrameType::Error => {
                Err(control::parse::<control::Error>(&frame)?.into())
            }
            frame => Ok(frame),
        }
    }

    /// The next frame; `None` when the node finished the stream. An ERROR frame is an error.
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                self.decoder.finish()?;
                return Ok(None);
            }
        }
    }

    /// The next frame, which must be of this kind.
    pub(crate) async fn expect(
        &mut self,
        kind: FrameType,
        expected: &'static str,
    ) -> Result<Frame, Error> {
        match self.next().await? {
            Some(frame) if frame.kind == kind => Ok(frame),
            Some(frame) => Err(frame.unexpected(expected).into()),
            None => Err(ended(expected)),
        }
    }

    /// The node's answer to the first frame of a stream.
    pub(crate) async fn opened(&mut self) -> Result<Opened, Error> {
        let frame = self.expect(FrameType::Opened, "OPENED").await?;
        Ok(control::parse(&frame)?)
    }

    async fn fill(&mut self) -> Result<bool, Error> {
        let buffer = self.decoder.buffer();
        if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
            buffer.reserve(READ_BYTES);
        }
        match self.recv.read_buf(buffer).await {
            Ok(count) => Ok(count > 0),
            Err(error) => match error.downcast::<ReadError>() {
                Ok(error) => Err(error.into()),
                Err(error) => Err(Error::Refused {
                    code: Code::Internal,
                    message: error.to_string(),
                    retryable: true,
                }),
            },
        }
    }
}

/// The node finished a stream where more had to come. It says nothing of why, so it counts as a
/// fault of the node.
pub(crate) fn ended(expected: &'static str) -> Error {
    Error::Refused {
        code: Code::Internal,
        message: format!("the node ended the stream, expected {expected}"),
        retryable: true,
    }
}

/// Writes the first frame of a stream.
pub(crate) async fn begin(send: &mut SendStream, frame: Bytes) -> Result<(), Error> {
    Ok(send.write_chunk(frame).await?)
}

/// Ends the sending half; that it was stopped or reset before is no news.
pub(crate) fn finish(send: &mut SendStream) {
    let _ = send.finish();
}
