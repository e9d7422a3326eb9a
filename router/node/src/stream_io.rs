//! Frames over a stream: reading them, and writing batches without copying large ones.

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::io::AsyncReadExt;
use waypost_wire::control;
use waypost_wire::{Code, Frame, FrameDecoder, FrameType, WireError};

/// What is read from a stream at once: little at first, for most streams say little and there may
/// be thousands of them, and four times as much after each read that took all it could.
const READ_BYTES_MIN: usize = 1 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// Slabs from here on are handed over as they are; smaller ones are copied together, because QUIC
/// is many times slower with small buffers.
const OWN_CHUNK_BYTES: usize = 8 << 10;

/// Why a stream ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The client broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The client asked for what it cannot have.
    #[error("{1}")]
    Refused(Code, String),
    /// The stream or connection is gone; nobody is left to tell.
    #[error("the stream is lost")]
    Lost,
}

impl StreamError {
    pub fn code(&self) -> Code {
        match self {
            StreamError::Wire(error) => error.code(),
            StreamError::Refused(code, _) => *code,
            StreamError::Lost => Code::Closed,
        }
    }
}

impl From<quinn::WriteError> for StreamError {
    fn from(_: quinn::WriteError) -> Self {
        StreamError::Lost
    }
}

/// Reads frames.
pub(crate) struct FrameReader {
    recv: RecvStream,
    decoder: FrameDecoder,
    read_bytes: usize,
}

impl FrameReader {
    pub fn new(recv: RecvStream, frame_bytes_max: usize) -> FrameReader {
        FrameReader {
            recv,
            decoder: FrameDecoder::new(frame_bytes_max),
            read_bytes: READ_BYTES_MIN,
        }
    }

    /// A frame that has arrived already.
    pub fn buffered(&mut self) -> Result<Option<Frame>, WireError> {
        self.decoder.next_frame()
    }

    /// Reads more bytes; false at the end of the stream. Nothing is lost if it is cancelled.
    pub async fn fill(&mut self) -> Result<bool, StreamError> {
        let buffer = self.decoder.buffer();
        if buffer.capacity() - buffer.len() < self.read_bytes / 4 {
            buffer.reserve(self.read_bytes);
        }
        let room = buffer.capacity() - buffer.len();
        match self.recv.read_buf(buffer).await {
            Ok(0) => {
                self.decoder.finish()?;
                Ok(false)
            }
            Ok(read) => {
                if read == room {
                    self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
                }
                Ok(true)
            }
            Err(_) => Err(StreamError::Lost),
        }
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    pub fn stop(&mut self, code: Code) {
        let _ = self.recv.stop(VarInt::from_u32(code as u32));
    }
}

/// Collects what is to be written: heads and small slabs together, large slabs as they are.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    small: BytesMut,
    chunks: Vec<Bytes>,
}

impl Outgoing {
    /// Where heads and whole small frames are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.small
    }

    /// Appends bytes that follow what was appended before.
    pub fn push(&mut self, bytes: &Bytes) {
        if bytes.len() < OWN_CHUNK_BYTES {
            self.small.extend_from_slice(bytes);
        } else {
            self.cut();
            self.chunks.push(bytes.clone());
        }
    }

    fn cut(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
    }

    /// Writes everything.
    pub async fn write(&mut self, send: &mut SendStream) -> Result<(), StreamError> {
        self.cut();
        let written = send.write_all_chunks(&mut self.chunks).await;
        self.chunks.clear();
        Ok(written?)
    }
}

/// Tells the client why its stream ends, and ends it.
pub(crate) async fn end_with_error(send: &mut SendStream, error: &StreamError) {
    if matches!(error, StreamError::Lost) {
        let _ = send.reset(VarInt::from_u32(Code::Closed as u32));
        return;
    }
    let message = control::Error::new(error.code(), error.to_string());
    let frame = control::bytes_of(FrameType::Error, &message);
    if send.write_all(&frame).await.is_ok() {
        let _ = send.finish();
    }
}

/// Says that all went well, and ends the stream.
pub(crate) async fn end_well(send: &mut SendStream) -> Result<(), StreamError> {
    let mut out = BytesMut::new();
    waypost_wire::frame::put(&mut out, FrameType::Closed, &[]);
    send.write_all(&out).await?;
    let _ = send.finish();
    Ok(())
}
