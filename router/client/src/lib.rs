//! What an application links to talk to a Waypost router.
//!
//! ```no_run
//! use waypost_client::{Client, ConnectOptions, ConsumerOptions, Identity, Message, Source};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let options = ConnectOptions::new("localhost:9297", Source::file("ca.pem")).identity(
//!     Identity::Certificate {
//!         chain: Source::file("client.pem"),
//!         key: Source::file("client.key"),
//!     },
//! );
//! let client = Client::connect(options).await?;
//!
//! let publisher = client.publisher(Default::default()).await?;
//! let ticket = publisher.send(&Message::new("plant/press-4/temperature", "71.5")).await?;
//! println!("{:?}", ticket.await?.level);
//! publisher.close().await?;
//!
//! let mut consumer = client.consumer(ConsumerOptions::new("alarms", "pager")).await?;
//! while let Some(batch) = consumer.next().await? {
//!     for delivery in batch.iter() {
//!         let record = delivery.record()?;
//!         println!("{}: {} bytes", record.topic(), record.payload().len());
//!     }
//!     consumer.ack(&batch)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is one QUIC connection on one UDP socket, made anew when it is lost. On it stand
//! any number of [`Publisher`]s, [`Consumer`]s and [`Subscriber`]s, a stream each, and management
//! requests. The protocol is described in `docs/protocol.md`.
//!
//! Left out on purpose: threads (tasks run on the caller's runtime), a process-wide TLS provider
//! (ring is named explicitly), request/reply, and retries of management requests.

mod client;
mod consumer;
mod error;
mod manage;
mod options;
mod plugins;
mod publisher;
mod session;
mod stream;
mod subscriber;
mod tap;
mod transport;

pub use client::{Client, Event};
pub use consumer::{
    Batch, Consumer, ConsumerOptions, ConsumerStats, Delivery, SessionId, TransactionAcks,
};
pub use error::{ConnectError, Error};
pub use options::{ConnectOptions, FRAME_BYTES_DEFAULT, Identity, Reconnect, Source};
pub use plugins::{Following, Plugins, Routes};
pub use publisher::{
    BatchConfirmed, BatchTicket, Confirmed, Explain, ProducerOptions, Publisher, PublisherOptions,
    PublisherStats, Receipt, Ticket,
};
pub use subscriber::{Subscriber, SubscriberEvent};
pub use tap::Tapping;

pub use waypost_wire as wire;
pub use waypost_wire::control::{GroupKind, Start};
pub use waypost_wire::data::{Exception, ExceptionKind, Level, Live, Outcome, Range};
pub use waypost_wire::{Code, Filter, Message, RecordRef, Slab};
