//! The types of `wit/plugin.wit` as they cross the boundary, and the functions with their names.
//!
//! Derived by hand instead of generated: what goes in borrows, so that a batch is packed into
//! buffers that are used again, and what comes out is owned in the smallest form. Nothing of this
//! leaves the crate. The component's own types are compared with these when it is loaded.

use wasmtime::component::{ComponentType, Lift, Lower};

/// The package, without a version.
pub(crate) const PACKAGE: &str = "waypost:plugin";
/// The version that this host speaks; see `verify::is_compatible` for others.
pub(crate) const VERSION: (u64, u64, u64) = (0, 1, 1);

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Batch<'a> {
    pub count: u32,
    pub stride: u32,
    pub index: &'a [u32],
    pub arena: &'a [u8],
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Message<'a> {
    pub position: u32,
    pub marks: u32,
    pub topic: &'a str,
    pub headers: &'a [(&'a str, &'a [u8])],
    pub payload: &'a [u8],
    #[component(name = "receive-time-ms")]
    pub receive_time_ms: u64,
    pub key: Option<&'a [u8]>,
    #[component(name = "content-type")]
    pub content_type: Option<&'a str>,
    #[component(name = "message-id")]
    pub message_id: Option<&'a [u8]>,
    #[component(name = "reply-to")]
    pub reply_to: Option<&'a str>,
    #[component(name = "ttl-ms")]
    pub ttl_ms: Option<u64>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Config<'a> {
    pub plugin: &'a str,
    pub role: &'a str,
    pub instance: u32,
    pub settings: &'a [(String, String)],
    pub destinations: &'a [String],
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct InitError {
    pub setting: Option<String>,
    pub message: String,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum HeaderInterest {
    #[component(name = "nothing")]
    Nothing,
    #[component(name = "only")]
    Only(Vec<String>),
    #[component(name = "everything")]
    Everything,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum PayloadInterest {
    #[component(name = "nothing")]
    Nothing,
    #[component(name = "prefix")]
    Prefix(u32),
    #[component(name = "everything")]
    Everything,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Interest {
    pub headers: HeaderInterest,
    pub payload: PayloadInterest,
    pub fields: Vec<String>,
    #[component(name = "max-batch")]
    pub max_batch: u32,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Error {
    #[component(name = "invalid")]
    Invalid(String),
    #[component(name = "unavailable")]
    Unavailable(String),
    #[component(name = "internal")]
    Internal(String),
}

/// Names and values.
pub(crate) type Headers = Box<[Header]>;
pub(crate) type Header = (Box<str>, Box<[u8]>);

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Edit {
    pub topic: Option<Box<str>>,
    pub key: Option<Box<[u8]>>,
    #[component(name = "content-type")]
    pub content_type: Option<Box<str>>,
    #[component(name = "remove-headers")]
    pub remove_headers: Box<[Box<str>]>,
    #[component(name = "set-headers")]
    pub set_headers: Headers,
    pub payload: Option<Box<[u8]>>,
    #[component(name = "ttl-ms")]
    pub ttl_ms: Option<u64>,
}

/// Only lifted; compared as a parameter of an import, it must also be able to go the other way.
#[derive(ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Outgoing {
    pub topic: Box<str>,
    pub key: Option<Box<[u8]>>,
    #[component(name = "content-type")]
    pub content_type: Option<Box<str>>,
    #[component(name = "reply-to")]
    pub reply_to: Option<Box<str>>,
    pub headers: Headers,
    pub payload: Box<[u8]>,
    #[component(name = "ttl-ms")]
    pub ttl_ms: Option<u64>,
}

#[derive(ComponentType, Lift, Clone, Copy, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
#[allow(
    dead_code,
    reason = "lifted by discriminant, which the compiler does not see"
)]
pub(crate) enum Decision {
    #[component(name = "pass")]
    Pass,
    #[component(name = "drop")]
    Drop,
    #[component(name = "reject")]
    Reject,
    #[component(name = "retry")]
    Retry,
    #[component(name = "dead-letter")]
    DeadLetter,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Decisions {
    pub each: Vec<Decision>,
    pub reasons: Vec<(u32, String)>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Outcome {
    #[component(name = "pass")]
    Pass,
    #[component(name = "drop")]
    Drop(Option<Box<str>>),
    #[component(name = "edit")]
    Edit(Edit),
    #[component(name = "emit")]
    Emit(Vec<Outgoing>),
    #[component(name = "reject")]
    Reject(Box<str>),
    #[component(name = "retry")]
    Retry(u32),
    #[component(name = "dead-letter")]
    DeadLetter(Box<str>),
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Choice {
    #[component(name = "pass")]
    Pass,
    #[component(name = "drop")]
    Drop(Option<Box<str>>),
    #[component(name = "one")]
    One(u32),
    #[component(name = "to")]
    To(Vec<u32>),
    #[component(name = "reject")]
    Reject(Box<str>),
    #[component(name = "retry")]
    Retry(u32),
    #[component(name = "dead-letter")]
    DeadLetter(Box<str>),
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum EachOutcome {
    #[component(name = "pass")]
    Pass,
    #[component(name = "drop")]
    Drop(Option<Box<str>>),
    #[component(name = "edit")]
    Edit(Edit),
    #[component(name = "emit")]
    Emit(Vec<Outgoing>),
    #[component(name = "to")]
    To(Vec<u32>),
    #[component(name = "reject")]
    Reject(Box<str>),
    #[component(name = "retry")]
    Retry(u32),
    #[component(name = "dead-letter")]
    DeadLetter(Box<str>),
}

#[derive(ComponentType, Lift, Lower, Clone, Copy, Debug, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum StateRefusal {
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "full")]
    Full,
    #[component(name = "read-only")]
    ReadOnly,
    #[component(name = "not-a-number")]
    NotANumber,
}

#[derive(ComponentType, Lift, Lower, Clone, Copy, Debug, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum PublishRefusal {
    #[component(name = "forbidden")]
    Forbidden,
    #[component(name = "invalid")]
    Invalid,
    #[component(name = "full")]
    Full,
    #[component(name = "not-now")]
    NotNow,
}

/// Parameters and results of what a component exports, for any lifetime of the borrowed part.
pub(crate) mod signature {
    use super::{Batch, Choice, Config, Decisions, EachOutcome, Error, InitError, Interest};
    use super::{Message, Outcome};

    pub(crate) type InitParams<'a> = (Config<'a>,);
    pub(crate) type InitReturn = (Result<Interest, InitError>,);
    pub(crate) type BatchParams<'a> = (Batch<'a>,);
    pub(crate) type MessageParams<'a> = (Message<'a>,);
    pub(crate) type FilterReturn = (Result<Decisions, Error>,);
    pub(crate) type TransformReturn = (Result<Vec<Outcome>, Error>,);
    pub(crate) type RouteReturn = (Result<Vec<Choice>, Error>,);
    pub(crate) type EachReturn = (Result<EachOutcome, Error>,);
    pub(crate) type TimerReturn = (Result<(), Error>,);
    pub(crate) type SettingsReturn = (String,);
}

/// Parameters and results of what a component may import.
pub(crate) mod offered {
    use bytes::Bytes;
    use wasmtime::component::WasmStr;

    use super::{Outgoing, PublishRefusal, StateRefusal};
    use crate::imports::Level;

    pub(crate) type LogParams = (Level, WasmStr);
    /// The same types, where they are only compared.
    pub(crate) type LogTypes = (Level, String);
    pub(crate) type NameParams = (String,);
    pub(crate) type AddParams = (u32, u64);
    pub(crate) type ValueParams = (u32, f64);
    pub(crate) type ReadParams = (u32, u32, u32);
    pub(crate) type ReadReturn = (Result<Vec<u8>, String>,);

    pub(crate) type LenParams = (u32,);
    pub(crate) type BytesReturn = (Vec<u8>,);

    pub(crate) type Key = Vec<u8>;
    pub(crate) type GetReturn = (Option<Bytes>,);
    pub(crate) type SetParams = (Key, Vec<u8>, u64);
    pub(crate) type SetReturn = (Result<(), StateRefusal>,);
    pub(crate) type FoundReturn = (Result<bool, StateRefusal>,);
    pub(crate) type SumParams = (Key, i64, u64);
    pub(crate) type SumReturn = (Result<i64, StateRefusal>,);
    pub(crate) type SwapParams = (Key, Option<Vec<u8>>, Option<Vec<u8>>, u64);
    pub(crate) type ScanParams = (Key, Option<Key>, u32);
    pub(crate) type ScanReturn = (Vec<(Bytes, Bytes)>,);

    pub(crate) type PublishParams = (u32, Outgoing);
    pub(crate) type PublishReturn = (Result<(), PublishRefusal>,);
}
