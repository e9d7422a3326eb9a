//! Where a plugin's component comes from, and whether it may run.
//!
//! [`TrustedKeys`] says of a component and its [`Signature`] whether one of the keys that a node
//! trusts made the one for the other; a [`SecretKey`] makes them. The format is minisign's, so that its own program and this
//! one read each other's files. [`Registry`] brings components from OCI registries and back, in the
//! layout that other Wasm tools use too.
//!
//! The invariant: nothing here runs, compiles or keeps a component, and nothing that comes over the
//! network is believed. Bytes go in, bytes or a precise error come out. All calls block.
//!
//! Left out: where a node keeps components, and which plugins there are.

mod artifact;
mod credentials;
mod reference;
mod registry;
mod scrypt;
mod sign;
mod trust;
mod words;

pub use artifact::{ArtifactError, Names, SIGNATURE_ANNOTATION, names, sha256};
pub use credentials::{Credentials, CredentialsError};
pub use reference::{Reference, ReferenceError, is_host};
pub use registry::{Found, Registry, RegistryError, RegistryErrorKind, RegistryOptions};
pub use sign::{SecretKey, SecretKeyError};
pub use trust::{
    KeyError, KeyId, PublicKey, SIGNATURE_BYTES_MAX, SIGNATURE_SUFFIX, Signature, SignatureError,
    TrustError, TrustedKeys,
};
