//! Making keys and signatures, in minisign's format.
//!
//! ```text
//! plugin.key
//!   untrusted comment: for people
//!   base64("Ed", how "Sc" or 0 0, "B2", salt 32, ops 8, memory 8, key id 8, secret 64, sum 32)
//! ```
//!
//! The secret is Ed25519's seed and public key; the sum is the BLAKE2b-256 of "Ed", id and secret.
//! With a password (`Sc`), id, secret and sum are XORed with what scrypt makes of it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake2b_simd::Params;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::scrypt::{Cost, scrypt};
use crate::trust::{PublicKey, Signature};

/// The parts before what a password hides, and what it hides.
const HEAD_BYTES: usize = 2 + 2 + 2 + 32 + 8 + 8;
const HIDDEN_BYTES: usize = 8 + 64 + 32;
/// What scrypt may take for a new key: as much as logging in somewhere, 32 MiB.
const OPS: u64 = 1 << 20;
const MEMORY_BYTES: u64 = 32 << 20;
/// What a key may ask of it: minisign's own choice, 1 GiB.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
const LOG_N_MAX: u8 = 20;
/// Times that this memory may be filled.
const P_MAX: u64 = 16;

/// Why a secret key cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// Not a file of one.
    #[error("is no secret key of minisign: expected a comment, and a line of 158 bytes in base64")]
    Form,
    /// A way to hide it that is not known.
    #[error("is a secret key that is hidden in a way that is not known here")]
    Hidden,
    /// More than a machine has.
    #[error("asks for more than {MEMORY_BYTES_MAX} bytes of memory to be opened")]
    TooCostly,
    /// It has a password, and none was given.
    #[error("needs its password")]
    NoPassword,
    /// It has another password.
    #[error("has another password")]
    Password,
    /// Its own sum says so.
    #[error("is damaged")]
    Damaged,
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Randomness,
}

/// A key that signs.
pub struct SecretKey {
    id: [u8; 8],
    pair: Ed25519KeyPair,
    seed: [u8; 32],
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretKey").finish_non_exhaustive()
    }
}

impl SecretKey {
    /// A new one.
    pub fn generate() -> Result<SecretKey, SecretKeyError> {
        SecretKey::new(random()?, random()?)
    }

    fn new(id: [u8; 8], seed: [u8; 32]) -> Result<SecretKey, SecretKeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed);
        let pair = pair.map_err(|_| SecretKeyError::Damaged)?;
        Ok(SecretKey { id, pair, seed })
    }

    /// Whether the text of a key needs a password, as far as it is one.
    pub fn has_password(text: &str) -> bool {
        parts(text).is_ok_and(|bytes| &bytes[2..4] == b"Sc")
    }

    /// Reads a file of `waypost plugin keygen` or minisign.
    pub fn parse(text: &str, password: Option<&str>) -> Result<SecretKey, SecretKeyError> {
        let bytes = parts(text)?;
        let (head, hidden) = bytes.split_at(HEAD_BYTES);
        let mut open = <[u8; HIDDEN_BYTES]>::try_from(hidden).map_err(|_| SecretKeyError::Form)?;
        let has_password = match &head[2..4] {
            b"Sc" => true,
            [0, 0] => false,
            _ => return Err(SecretKeyError::Hidden),
        };
        if has_password {
            let number = |at: usize| {
                let bytes = head.get(at..at + 8).and_then(<[u8]>::first_chunk);
                u64::from_le_bytes(bytes.copied().unwrap_or_default())
            };
            let password = password.ok_or(SecretKeyError::NoPassword)?;
            hide(&mut open, password, &head[6..38], number(38), number(46))?;
        }
        let (id, rest) = open.split_at(8);
        let (secret, found) = rest.split_at(64);
        if sum(id, secret) != found {
            return Err(match has_password {
                true => SecretKeyError::Password,
                false => SecretKeyError::Damaged,
            });
        }
        let chunk = |bytes: &[u8]| bytes.first_chunk::<32>().copied().unwrap_or_default();
        let id = id.first_chunk().copied().unwrap_or_default();
        let key = SecretKey::new(id, chunk(secret))?;
        match key.pair.public_key().as_ref() == &secret[32..] {
            true => Ok(key),
            false => Err(SecretKeyError::Damaged),
        }
    }

    /// The file, hidden by a password or not.
    pub fn to_text(&self, password: Option<&str>) -> Result<String, SecretKeyError> {
        let mut open = [0; HIDDEN_BYTES];
        open[..8].copy_from_slice(&self.id);
        open[8..40].copy_from_slice(&self.seed);
        open[40..72].copy_from_slice(self.pair.public_key().as_ref());
        let sum = sum(&open[..8], &open[8..72]);
        open[72..].copy_from_slice(&sum);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + HIDDEN_BYTES);
        bytes.extend_from_slice(b"Ed");
        match password {
            None => {
                bytes.extend_from_slice(&[0, 0]);
                bytes.extend_from_slice(b"B2");
                bytes.extend_from_slice(&[0; 32 + 8 + 8]);
            }
            Some(password) => {
                let salt: [u8; 32] = random()?;
                bytes.extend_from_slice(b"ScB2");
                bytes.extend_from_slice(&salt);
                bytes.extend_from_slice(&OPS.to_le_bytes());
                bytes.extend_from_slice(&MEMORY_BYTES.to_le_bytes());
                hide(&mut open, password, &salt, OPS, MEMORY_BYTES)?;
            }
        }
        bytes.extend_from_slice(&open);
        let how = if password.is_some() {
            "encrypted"
        } else {
            "unencrypted"
        };
        let line = STANDARD.encode(bytes);
        Ok(format!(
            "untrusted comment: minisign {how} secret key\n{line}\n"
        ))
    }

    /// The text of the `.pub` file that belongs to it.
    pub fn public_text(&self) -> String {
        let mut bytes = b"Ed".to_vec();
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(self.pair.public_key().as_ref());
        let id = u64::from_le_bytes(self.id);
        let line = STANDARD.encode(bytes);
        format!("untrusted comment: minisign public key {id:016X}\n{line}\n")
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> Option<PublicKey> {
        PublicKey::parse(&self.public_text()).ok()
    }

    /// Signs a component. The comment, of one line, is signed along.
    pub fn sign(&self, component: &[u8], comment: &str) -> Option<Signature> {
        let hash = Params::new().hash_length(64).hash(component);
        let signature = self.pair.sign(hash.as_bytes());
        let mut both = signature.as_ref().to_vec();
        both.extend_from_slice(comment.as_bytes());
        let global = self.pair.sign(&both);
        let mut bytes = b"ED".to_vec();
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(signature.as_ref());
        let text = format!(
            "untrusted comment: signature from waypost plugin sign\n{}\ntrusted comment: \
             {comment}\n{}\n",
            STANDARD.encode(bytes),
            STANDARD.encode(global.as_ref())
        );
        Signature::parse(text.as_bytes()).ok()
    }
}

/// The bytes of a secret key's second line.
fn parts(text: &str) -> Result<Vec<u8>, SecretKeyError> {
    let line = text.lines().nth(1).unwrap_or_default();
    let bytes = STANDARD.decode(line).unwrap_or_default();
    match bytes.len() == HEAD_BYTES + HIDDEN_BYTES && bytes.starts_with(b"Ed") {
        true => Ok(bytes),
        false => Err(SecretKeyError::Form),
    }
}

fn sum(id: &[u8], secret: &[u8]) -> [u8; 32] {
    let mut state = Params::new().hash_length(32).to_state();
    let hash = state.update(b"Ed").update(id).update(secret).finalize();
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

fn random<const N: usize>() -> Result<[u8; N], SecretKeyError> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| SecretKeyError::Randomness)?;
    Ok(bytes)
}

/// Hides, or shows again.
fn hide(
    bytes: &mut [u8; HIDDEN_BYTES],
    password: &str,
    salt: &[u8],
    ops: u64,
    memory_bytes: u64,
) -> Result<(), SecretKeyError> {
    let cost = cost(ops, memory_bytes).ok_or(SecretKeyError::TooCostly)?;
    let mut stream = [0; HIDDEN_BYTES];
    scrypt(password.as_bytes(), salt, cost, &mut stream);
    for (byte, mask) in bytes.iter_mut().zip(stream) {
        *byte ^= mask;
    }
    Ok(())
}

/// Scrypt's N, r and p for limits of operations and memory, as libsodium picks them.
fn cost(ops: u64, memory_bytes: u64) -> Option<Cost> {
    const R: u64 = 8;
    if memory_bytes > MEMORY_BYTES_MAX {
        return None;
    }
    let ops = ops.max(32_768);
    let is_ops_bound = ops < memory_bytes / 32;
    let n_max = match is_ops_bound {
        true => ops / (R * 4),
        false => memory_bytes / (R * 128),
    };
    let log_n = (1..63)
        .find(|log_n| (1_u64 << log_n) > n_max / 2)
        .unwrap_or(63);
    let p = match is_ops_bound {
        true => 1,
        false => ((ops / 4) >> log_n).min(0x3fff_ffff) / R,
    };
    let is_bearable = log_n <= LOG_N_MAX && (1..=P_MAX).contains(&p);
    is_bearable.then_some(Cost {
        log_n,
        r: R as usize,
        p: p as usize,
    })
}

#[cfg(test)]
#[path = "sign_tests.rs"]
mod tests;
