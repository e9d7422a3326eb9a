//! Certificates: read, checked, and made where the operator brought none.
//!
//! TLS 1.3 only, with one crypto provider (ring), named in every call so that no process-wide
//! default decides. A client certificate is asked for and not demanded: a client without one shows
//! a token instead ([`crate::identity`]). [`make`] keeps a private certificate authority in a
//! directory and from it one certificate for the node and one for its first client.
//!
//! Left out: revocation lists and renewal while running; a new certificate needs a restart.

use crate::config::TlsConfig;
use crate::identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Common name of the client certificate that [`make`] makes.
pub const DEV_CLIENT_NAME: &str = "waypost-dev";

const DAY: Duration = Duration::from_secs(86_400);
/// How long made certificates are valid.
const CA_VALID: Duration = Duration::from_secs(10 * 365 * 86_400);
const LEAF_VALID: Duration = Duration::from_secs(2 * 365 * 86_400);
/// A made certificate with less time left is made anew, so that none runs out under a node.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// Why a certificate or key cannot be used. Each names its file first.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Missing or not readable.
    #[error("{path}: cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Cannot be written, when certificates are made.
    #[error("{path}: cannot be written: {error}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not PEM, or PEM of something else.
    #[error("{path}: found {found}, expected {expected}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the PEM reader says.
        found: String,
        /// Which section must be there.
        expected: &'static str,
    },
    /// PEM, but not a certificate or key that TLS can use.
    #[error("{path}: cannot be used: {error}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// Certificate and key do not belong together.
    #[error("{path}: is not the key of the certificate in {cert}")]
    KeyMismatch {
        /// The key's file.
        path: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// Its time is over, or has not begun.
    #[error("{path}: is valid from {from} to {to}, not now")]
    NotValidNow {
        /// The file.
        path: PathBuf,
        /// First moment.
        from: String,
        /// Last moment.
        to: String,
    },
    /// A certificate could not be made.
    #[error("{path}: cannot be made: {error}")]
    Make {
        /// The file it was for.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

impl TlsError {
    /// The file that is wrong.
    pub fn path(&self) -> &Path {
        match self {
            TlsError::Read { path, .. }
            | TlsError::Write { path, .. }
            | TlsError::Pem { path, .. }
            | TlsError::Unusable { path, .. }
            | TlsError::KeyMismatch { path, .. }
            | TlsError::NotValidNow { path, .. }
            | TlsError::Make { path, .. } => path,
        }
    }
}

/// The PEM files of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate, with its intermediates after it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who may sign clients' certificates; without it none is asked for.
    pub client_ca: Option<PathBuf>,
}

impl From<&TlsConfig> for TlsFiles {
    fn from(config: &TlsConfig) -> Self {
        TlsFiles {
            cert: config.cert.clone(),
            key: config.key.clone(),
            client_ca: config.client_ca.clone(),
        }
    }
}

/// The server's side of TLS: version 1.3, `alpn` in order of preference, client certificates
/// optional. No early data.
pub fn server_config(files: &TlsFiles, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
    let chain = read_certificates(&files.cert)?;
    let key = read_key(&files.key)?;
    let unusable = |path: &Path, error: rustls::Error| TlsError::Unusable {
        path: path.to_path_buf(),
        error: error.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&files.cert, error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(read_roots(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .allow_unauthenticated()
                .build()
                .map_err(|error| TlsError::Unusable {
                    path: path.clone(),
                    error: error.to_string(),
                })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch {
                path: files.key.clone(),
                cert: files.cert.clone(),
            },
            error => unusable(&files.cert, error),
        })?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// All that is wrong with the files now; empty if nothing is.
pub fn check_files(files: &TlsFiles) -> Vec<TlsError> {
    let mut errors = Vec::new();
    let chain = read_certificates(&files.cert).and_then(|chain| {
        check_valid_now(&files.cert, &chain)?;
        Ok(chain)
    });
    match (chain, read_key(&files.key)) {
        (Ok(chain), Ok(key)) => errors.extend(check_pair(files, chain, key).err()),
        (chain, key) => errors.extend(chain.err().into_iter().chain(key.err())),
    }
    if let Some(path) = &files.client_ca {
        let roots = read_certificates(path).and_then(|roots| {
            check_valid_now(path, &roots)?;
            read_roots(path)
        });
        errors.extend(roots.err());
    }
    errors
}

/// The common name of the subject of a client's certificate. `chain` is what TLS verified, the
/// client's own first.
pub fn common_name(chain: &[CertificateDer<'_>]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// Whether group or others may read the file.
pub fn is_readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o044 != 0)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn pem_error(path: &Path, error: pem::Error, expected: &'static str) -> TlsError {
    match error {
        pem::Error::Io(error) => TlsError::Read {
            path: path.to_path_buf(),
            error,
        },
        pem::Error::NoItemsFound => TlsError::Pem {
            path: path.to_path_buf(),
            found: "none".to_owned(),
            expected,
        },
        error => TlsError::Pem {
            path: path.to_path_buf(),
            found: error.to_string(),
            expected,
        },
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const EXPECTED: &str = "PEM with a section BEGIN CERTIFICATE";
    let iter = CertificateDer::pem_file_iter(path).map_err(|e| pem_error(path, e, EXPECTED))?;
    let chain: Vec<_> = iter
        .collect::<Result<_, _>>()
        .map_err(|e| pem_error(path, e, EXPECTED))?;
    if chain.is_empty() {
        return Err(pem_error(path, pem::Error::NoItemsFound, EXPECTED));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    const EXPECTED: &str = "PEM with a section BEGIN PRIVATE KEY";
    PrivateKeyDer::from_pem_file(path).map_err(|e| pem_error(path, e, EXPECTED))
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| TlsError::Unusable {
            path: path.to_path_buf(),
            error: error.to_string(),
        })?;
    }
    Ok(roots)
}

fn check_valid_now(path: &Path, chain: &[CertificateDer<'_>]) -> Result<(), TlsError> {
    for der in chain {
        let (_, certificate) =
            x509_parser::parse_x509_certificate(der).map_err(|error| TlsError::Unusable {
                path: path.to_path_buf(),
                error: error.to_string(),
            })?;
        let validity = certificate.validity();
        if !validity.is_valid() {
            return Err(TlsError::NotValidNow {
                path: path.to_path_buf(),
                from: validity.not_before.to_string(),
                to: validity.not_after.to_string(),
            });
        }
    }
    Ok(())
}

fn check_pair(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<(), TlsError> {
    match CertifiedKey::from_der(chain, key, &provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::KeyMismatch {
            path: files.key.clone(),
            cert: files.cert.clone(),
        }),
        Err(error) => Err(TlsError::Unusable {
            path: files.key.clone(),
            error: error.to_string(),
        }),
    }
}

/// What [`make`] keeps in its directory.
#[derive(Clone, Debug)]
pub struct Made {
    /// `ca.pem`: what both sides trust.
    pub ca: PathBuf,
    /// `node.pem`, `node.key`, and `ca.pem` for clients.
    pub node: TlsFiles,
    /// `client.pem`, with common name [`DEV_CLIENT_NAME`].
    pub client_cert: PathBuf,
    /// `client.key`
    pub client_key: PathBuf,
    /// `token`: a secret on one line.
    pub token_file: PathBuf,
    /// SHA-256 of the token.
    pub token_sha256: [u8; 32],
}

/// Makes a certificate authority, certificates for node and client, and a token, in `dir`. What is
/// there and still good for 30 days is kept. Private files have mode 0600.
pub fn make(dir: &Path) -> Result<Made, TlsError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| TlsError::Write {
            path: dir.to_path_buf(),
            error,
        })?;
    let file = |name: &str| dir.join(name);
    let made = Made {
        ca: file("ca.pem"),
        node: TlsFiles {
            cert: file("node.pem"),
            key: file("node.key"),
            client_ca: Some(file("ca.pem")),
        },
        client_cert: file("client.pem"),
        client_key: file("client.key"),
        token_file: file("token"),
        token_sha256: token(&file("token"))?,
    };
    let ca_key = file("ca.key");
    let names = node_names();
    if is_good_ca(&made.ca) && is_good_node(&made, &names) && is_good_client(&made) {
        return Ok(made);
    }
    let issuer = make_ca(&made.ca, &ca_key)?;
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    let params = leaf("waypost-node", names, usage).map_err(make_error(&made.node.cert))?;
    make_leaf(&params, &issuer, &made.node.cert, &made.node.key)?;
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let params = leaf(DEV_CLIENT_NAME, Vec::new(), usage).map_err(make_error(&made.client_cert))?;
    make_leaf(&params, &issuer, &made.client_cert, &made.client_key)?;
    Ok(made)
}

/// What a client may call the node by.
fn node_names() -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    if ServerName::try_from(host).is_ok() && !names.iter().any(|name| name == host) {
        names.push(host.to_owned());
    }
    names
}

/// A moment at which what is kept must still be valid.
fn renewal_time() -> UnixTime {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    UnixTime::since_unix_epoch(since_epoch + RENEW_BEFORE)
}

fn is_good_ca(path: &Path) -> bool {
    let Ok(chain) = read_certificates(path) else {
        return false;
    };
    let valid = |der: &CertificateDer<'_>| {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let end = certificate.validity().not_after.timestamp();
        u64::try_from(end).ok()
    };
    check_valid_now(path, &chain).is_ok()
        && valid(&chain[0]).is_some_and(|end| end > renewal_time().as_secs())
}

fn is_good_node(made: &Made, names: &[String]) -> bool {
    let check = || -> Option<()> {
        let chain = read_certificates(&made.node.cert).ok()?;
        check_pair(&made.node, chain.clone(), read_key(&made.node.key).ok()?).ok()?;
        let roots = Arc::new(read_roots(&made.ca).ok()?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .ok()?;
        for name in names {
            let name = ServerName::try_from(name.as_str()).ok()?;
            let verified =
                verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], renewal_time());
            verified.ok()?;
        }
        Some(())
    };
    check().is_some()
}

fn is_good_client(made: &Made) -> bool {
    let check = || -> Option<()> {
        let chain = read_certificates(&made.client_cert).ok()?;
        let files = TlsFiles {
            cert: made.client_cert.clone(),
            key: made.client_key.clone(),
            client_ca: None,
        };
        check_pair(&files, chain.clone(), read_key(&made.client_key).ok()?).ok()?;
        let roots = Arc::new(read_roots(&made.ca).ok()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .ok()?;
        verifier
            .verify_client_cert(&chain[0], &chain[1..], renewal_time())
            .ok()?;
        (common_name(&chain)? == DEV_CLIENT_NAME).then_some(())
    };
    check().is_some()
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn make_error<E: ToString>(path: &Path) -> impl Fn(E) -> TlsError {
    let path = path.to_path_buf();
    move |error| TlsError::Make {
        path: path.clone(),
        error: error.to_string(),
    }
}

fn set_validity(params: &mut CertificateParams, valid: Duration) {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // A day back, for clients whose clock is behind.
    params.not_before = epoch + since_epoch.saturating_sub(DAY);
    params.not_after = epoch + since_epoch + valid;
}

fn make_ca(path: &Path, key_path: &Path) -> Result<Issuer, TlsError> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Waypost local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, CA_VALID);
    let key = KeyPair::generate().map_err(make_error(key_path))?;
    let key_pem = key.serialize_pem();
    let issuer = CertifiedIssuer::self_signed(params, key).map_err(make_error(path))?;
    write(key_path, &key_pem, 0o600)?;
    write(path, &issuer.pem(), 0o644)?;
    Ok(issuer)
}

fn leaf(
    name: &str,
    alternative_names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(alternative_names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, LEAF_VALID);
    Ok(params)
}

fn make_leaf(
    params: &CertificateParams,
    issuer: &Issuer,
    path: &Path,
    key_path: &Path,
) -> Result<(), TlsError> {
    let key = KeyPair::generate().map_err(make_error(key_path))?;
    let certificate = params.signed_by(&key, issuer).map_err(make_error(path))?;
    write(key_path, &key.serialize_pem(), 0o600)?;
    write(path, &certificate.pem(), 0o644)
}

/// The SHA-256 of the token in the file, which is made where there is none.
fn token(path: &Path) -> Result<[u8; 32], TlsError> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= identity::TOKEN_BYTES_MIN => {
            return Ok(identity::token_sha256(text.trim()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(TlsError::Read {
                path: path.to_path_buf(),
                error,
            });
        }
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(make_error(path))?;
    let token: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    write(path, &format!("{token}\n"), 0o600)?;
    Ok(identity::token_sha256(&token))
}

/// Writes beside the file and renames, so that a reader sees the old one or the new one; the name is
/// durable when it returns.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let beside = path.with_extension("new");
    let written = (|| {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    })();
    written.map_err(|error| TlsError::Write {
        path: path.to_path_buf(),
        error,
    })
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
