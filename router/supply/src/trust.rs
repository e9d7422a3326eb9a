//! Signatures of components, in minisign's format.
//!
//! ```text
//! plugin.wasm.minisig                          plugin.pub
//!   untrusted comment: for people                untrusted comment: for people
//!   base64("ED", key id 8, signature 64)         base64("Ed", key id 8, key 32)
//!   trusted comment: signed as well
//!   base64(signature 64 over both)
//! ```
//!
//! The signature is Ed25519 over the BLAKE2b-512 of the component. minisign's older form, over the
//! bytes themselves (`Ed` in a signature), is refused: nobody needs it, and it cannot be streamed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What the name of a component's signature ends with, after the component's own name.
pub const SIGNATURE_SUFFIX: &str = ".minisig";
/// The longest signature with its comments: minisign allows comments of 8 KiB.
pub const SIGNATURE_BYTES_MAX: usize = 16 << 10;
/// What the line of a public key begins with: `Ed`, in base64.
const KEY_BEGINS: &str = "RW";

/// Which key signed: the number that minisign gives each pair, as it prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither a line that begins with `RW` nor a file with one.
    #[error(
        "is no minisign public key: expected \"RW…\", 56 characters, or a file with such a line"
    )]
    NoKey,
    /// Such a line, but not of a key.
    #[error(
        "begins as a minisign public key does, but is none: some of its 56 characters are wrong or missing"
    )]
    Damaged,
}

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: minisign_verify::PublicKey,
    id: KeyId,
    text: String,
}

impl PublicKey {
    /// Reads `RW…`, or the text of a `.pub` file, whose first line is a comment.
    pub fn parse(text: &str) -> Result<PublicKey, KeyError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines
            .find(|line| line.starts_with(KEY_BEGINS))
            .ok_or(KeyError::NoKey)?;
        let bytes = STANDARD.decode(line).map_err(|_| KeyError::Damaged)?;
        let id = bytes.get(2..).and_then(<[u8]>::first_chunk);
        let key = minisign_verify::PublicKey::from_base64(line).map_err(|_| KeyError::Damaged)?;
        Ok(PublicKey {
            key,
            id: KeyId(*id.ok_or(KeyError::Damaged)?),
            text: line.to_owned(),
        })
    }

    /// Its number.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// `RW…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Longer than any.
    #[error("has {0} bytes, and no signature has more than {SIGNATURE_BYTES_MAX}")]
    TooLong(usize),
    /// Not text.
    #[error("is not text")]
    NotText,
    /// Too few lines.
    #[error("has {0} lines, expected 4: comment, signature, trusted comment, signature of both")]
    Lines(usize),
    /// A line that is not as it must be.
    #[error("line {line}: {expected} expected")]
    Line {
        /// From 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// minisign's older form.
    #[error("is of minisign's old form, which is not taken: sign again, without -l")]
    Legacy,
}

/// Who signed a component, as far as the signature itself says it: nothing is checked yet.
#[derive(Clone)]
pub struct Signature {
    signature: minisign_verify::Signature,
    id: KeyId,
    text: String,
}

impl Signature {
    /// Reads a `.minisig` file.
    pub fn parse(bytes: &[u8]) -> Result<Signature, SignatureError> {
        if bytes.len() > SIGNATURE_BYTES_MAX {
            return Err(SignatureError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SignatureError::NotText)?;
        let lines: Vec<&str> = text.lines().collect();
        let [comment, signature, trusted, global, ..] = lines.as_slice() else {
            return Err(SignatureError::Lines(lines.len()));
        };
        let wrong = |line, expected| SignatureError::Line { line, expected };
        if !comment.starts_with("untrusted comment:") {
            return Err(wrong(1, "\"untrusted comment: …\""));
        }
        let expected = "a signature of 74 bytes in base64";
        let bytes = STANDARD.decode(signature).unwrap_or_default();
        let (algorithm, rest) = bytes.split_at(bytes.len().min(2));
        let id = rest.first_chunk().filter(|_| bytes.len() == 74);
        let id = KeyId(*id.ok_or(wrong(2, expected))?);
        match algorithm {
            b"ED" => {}
            b"Ed" => return Err(SignatureError::Legacy),
            _ => return Err(wrong(2, "an Ed25519 signature (\"ED\")")),
        }
        if !trusted.starts_with("trusted comment: ") {
            return Err(wrong(3, "\"trusted comment: …\""));
        }
        if STANDARD.decode(global).map_or(0, |bytes| bytes.len()) != 64 {
            return Err(wrong(4, "a signature of 64 bytes in base64"));
        }
        let signature = minisign_verify::Signature::decode(text).map_err(|_| wrong(2, expected))?;
        Ok(Signature {
            signature,
            id,
            text: text.to_owned(),
        })
    }

    /// The number of the key that it says made it.
    pub fn key_id(&self) -> KeyId {
        self.id
    }

    /// What the signer wrote beside it. To be believed only after [`TrustedKeys::check`].
    pub fn comment(&self) -> &str {
        self.signature.trusted_comment()
    }

    /// The file.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signature").field(&self.id).finish()
    }
}

/// Why a component may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It has no signature.
    #[error("is not signed: expected a signature by {trusted} {place}")]
    Unsigned {
        /// The keys.
        trusted: TrustedKeys,
        /// Where the signature would be: `in c.wasm.minisig`.
        place: String,
    },
    /// What should be its signature is none.
    #[error("its signature {place} {error}")]
    Signature {
        /// Where it is: `in c.wasm.minisig`.
        place: String,
        /// What is wrong with it.
        error: SignatureError,
    },
    /// Signed by somebody else.
    #[error("is signed by the key {found}, which is not trusted: expected {trusted}")]
    UnknownKey {
        /// Who says to have signed.
        found: KeyId,
        /// The keys.
        trusted: TrustedKeys,
    },
    /// The bytes, or the signature, are not what they were.
    #[error(
        "is not what the trusted key {key} signed: the component, its signature or the \
         signature's comment was changed"
    )]
    Changed {
        /// Who says to have signed.
        key: KeyId,
    },
}

/// Keys, one of which must have signed a component. Without a key, nothing is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

impl TrustedKeys {
    /// These keys.
    pub fn new(keys: Vec<PublicKey>) -> TrustedKeys {
        TrustedKeys(keys)
    }

    /// Whether components need no signature.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.0
    }

    /// Whether one of the keys signed `component`: gives which. `place` is where the signature is,
    /// or would be, for people: `in c.wasm.minisig`. Without keys all is good, and `None`.
    pub fn check(
        &self,
        component: &[u8],
        signature: Option<&[u8]>,
        place: &str,
    ) -> Result<Option<KeyId>, TrustError> {
        if self.is_empty() {
            return Ok(None);
        }
        let trusted = || self.clone();
        let Some(signature) = signature else {
            let (trusted, place) = (trusted(), place.to_owned());
            return Err(TrustError::Unsigned { trusted, place });
        };
        let signature = Signature::parse(signature).map_err(|error| TrustError::Signature {
            place: place.to_owned(),
            error,
        })?;
        let id = signature.id;
        let mut keys = self.0.iter().filter(|key| key.id == id).peekable();
        if keys.peek().is_none() {
            let trusted = trusted();
            return Err(TrustError::UnknownKey { found: id, trusted });
        }
        // Two keys may have the same number; minisign draws them.
        let signed = |key: &PublicKey| {
            let verified = key.key.verify(component, &signature.signature, false);
            verified.is_ok()
        };
        match keys.any(signed) {
            true => Ok(Some(id)),
            false => Err(TrustError::Changed { key: id }),
        }
    }
}

/// `the key E7620F1842B4E81F`, `one of the keys …, …`.
impl fmt::Display for TrustedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.0.iter().map(|key| key.id.to_string()).collect();
        match ids.as_slice() {
            [only] => write!(f, "the key {only}"),
            ids => write!(f, "one of the keys {}", ids.join(", ")),
        }
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
