//! The files that a configuration names: certificates, tokens, plugins.

use super::read::{Document, Found};
use super::{Problem, TlsConfig};
use crate::{identity, tls};
use std::fs::File;
use std::io::Read;
use std::path::Path;

pub(super) fn file_error(
    doc: &Document<'_>,
    found: &Found<String>,
    path: &Path,
    error: impl ToString,
) {
    let problem = Problem::File {
        path: path.display().to_string(),
        error: error.to_string(),
    };
    doc.error(&found.place, found.at, problem);
}

/// Certificate and key can be read, belong together and are valid today.
pub(super) fn check_tls(
    doc: &Document<'_>,
    config: &TlsConfig,
    cert: &Found<String>,
    key: &Found<String>,
    client_ca: Option<&Found<String>>,
) {
    let files = tls::TlsFiles::from(config);
    for error in tls::check_files(&files) {
        let found = match client_ca {
            _ if error.path() == files.key => key,
            Some(client_ca) if Some(error.path()) == files.client_ca.as_deref() => client_ca,
            _ => cert,
        };
        // The error begins with its path already.
        doc.error(&found.place, found.at, Problem::Other(error.to_string()));
    }
}

/// The file is there, can be read, and begins as WebAssembly does.
pub(super) fn check_plugin(doc: &Document<'_>, path: &Path, found: &Found<String>) {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            file_error(
                doc,
                found,
                path,
                "is shorter than any WebAssembly component",
            );
        }
        Err(error) => file_error(doc, found, path, error),
        Ok(()) if magic != *b"\0asm" => {
            let [a, b, c, d] = magic;
            let text = format!(
                "begins with {a:02x} {b:02x} {c:02x} {d:02x}, \
                 expected 00 61 73 6d, the beginning of WebAssembly"
            );
            file_error(doc, found, path, text);
        }
        Ok(()) => {}
    }
}

/// Bytes of a file that is a setting; a guest has it in its memory, twice while it reads it.
const SETTING_BYTES_MAX: u64 = 4 << 20;

/// A setting that is a file: text of at most 4 MiB.
pub(super) fn read_setting(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(SETTING_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > SETTING_BYTES_MAX {
        return Err(format!("has more than {SETTING_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// 64 hexadecimal digits.
pub(super) fn parse_sha256(doc: &Document<'_>, found: &Found<String>) -> Option<[u8; 32]> {
    let hex = found.value.as_bytes();
    let mut sha256 = [0; 32];
    let digits = hex.len() == 64 && hex.iter().all(u8::is_ascii_hexdigit);
    if digits {
        for (byte, pair) in sha256.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |d: u8| (d as char).to_digit(16).unwrap_or(0) as u8;
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        return Some(sha256);
    }
    // Not shown: it may be the token itself, in the wrong place.
    let expected = "64 hexadecimal digits, as sha256sum prints them";
    let what = format!("{} characters", found.value.chars().count());
    let problem = Problem::unexpected(what, expected);
    doc.error(&found.place, found.at, problem);
    None
}

/// The SHA-256 of the first line of the file.
pub(super) fn token_sha256(doc: &Document<'_>, found: &Found<String>) -> Option<[u8; 32]> {
    let path = doc.directory().join(&found.value);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            file_error(doc, found, &path, error);
            return None;
        }
    };
    let token = text.lines().next().unwrap_or("").trim();
    if token.len() < identity::TOKEN_BYTES_MIN {
        let error = format!(
            "the token on its first line has {} bytes, expected at least {}",
            token.len(),
            identity::TOKEN_BYTES_MIN
        );
        file_error(doc, found, &path, error);
        return None;
    }
    if tls::is_readable_by_others(&path) {
        let text = format!("{}: can be read by other users", path.display());
        doc.warn(&found.place, found.at, text);
    }
    Some(identity::token_sha256(token))
}
