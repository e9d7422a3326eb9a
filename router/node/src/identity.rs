//! Who a client is, and what it may do.
//!
//! A client shows a certificate that the node's client CA signed, or a token; a token that is
//! shown must be right, whatever certificate comes with it. Its roles are the only source of
//! rights: what none of them allows is refused, with the roles that would allow it.
//!
//! Left out: when to ask. The connection asks once a stream where it can, and once a message only
//! for topics that it has not seen.

use crate::config::{Config, Manage, RoleConfig};
use crate::tls;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use waypost_wire::topic::is_reserved;
use waypost_wire::{Code, Filter};

/// A token is at least this long; made ones have 64 hexadecimal digits.
pub const TOKEN_BYTES_MIN: usize = 16;

/// A client that has shown who it is.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The certificate's common name or the token's name.
    pub name: Arc<str>,
    /// What it may do.
    pub permissions: Permissions,
}

impl Principal {
    /// The names of its roles, as configured.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.permissions.held().map(|role| role.name.as_str())
    }
}

/// Why a client was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Neither certificate nor token.
    #[error("neither a certificate nor a token was shown")]
    Nothing,
    /// A token that nobody has.
    #[error("the token is not known")]
    UnknownToken,
    /// A certificate without a readable common name.
    #[error("the certificate has no common name")]
    NoCommonName,
    /// A certificate of somebody who is not configured.
    #[error("no [[certificate]] has the common name {0:?}")]
    UnknownName(String),
}

impl AuthError {
    /// The code to answer with.
    pub fn code(&self) -> Code {
        Code::Unauthenticated
    }
}

/// What is refused to whom, and which roles would allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No role of the principal allows it.
    #[error("may not {action} {object:?}: {}", needed(.roles))]
    Forbidden {
        /// `publish to`, `subscribe to`, `consume`, `manage`.
        action: &'static str,
        /// Topic, filter, queue or part.
        object: String,
        /// Roles that allow it; none at all may.
        roles: Vec<String>,
    },
    /// Topics that begin with `$` are never published to by clients.
    #[error("may not publish to {0:?}: topics that begin with '$' are the router's own")]
    Reserved(String),
}

impl Denied {
    /// The code to answer with.
    pub fn code(&self) -> Code {
        match self {
            Denied::Forbidden { .. } => Code::Forbidden,
            Denied::Reserved(_) => Code::BadTopic,
        }
    }
}

fn needed(roles: &[String]) -> String {
    match roles {
        [] => "no role allows it".to_owned(),
        [role] => format!("needs role {role:?}"),
        roles => format!("needs one of the roles {}", roles.join(", ")),
    }
}

/// The rights of one principal.
#[derive(Clone, Debug)]
pub struct Permissions {
    roles: Arc<[RoleConfig]>,
    /// Indexes into `roles`.
    held: Arc<[usize]>,
}

impl Permissions {
    fn held(&self) -> impl Iterator<Item = &RoleConfig> {
        self.held.iter().map(|index| &self.roles[*index])
    }

    fn check(
        &self,
        action: &'static str,
        object: &str,
        allows: impl Fn(&RoleConfig) -> bool,
    ) -> Result<(), Denied> {
        if self.held().any(&allows) {
            return Ok(());
        }
        let able = self.roles.iter().filter(|role| allows(role));
        Err(Denied::Forbidden {
            action,
            object: object.to_owned(),
            roles: able.map(|role| role.name.clone()).collect(),
        })
    }

    /// Whether messages may be published to this topic, which was parsed before.
    pub fn may_publish(&self, topic: &str) -> Result<(), Denied> {
        if is_reserved(topic) {
            return Err(Denied::Reserved(topic.to_owned()));
        }
        self.check("publish to", topic, |role| {
            role.publish.iter().any(|filter| filter.matches(topic))
        })
    }

    /// Whether all that this filter matches may be seen: one filter of one role must cover it.
    pub fn may_subscribe(&self, filter: &Filter) -> Result<(), Denied> {
        self.check("subscribe to", filter.as_str(), |role| {
            role.subscribe.iter().any(|allowed| allowed.covers(filter))
        })
    }

    /// Whether this queue may be consumed.
    pub fn may_consume(&self, queue: &str) -> Result<(), Denied> {
        // What begins with '$' is the router's own: a consumer would take it away.
        let is_own = queue.starts_with('$');
        self.check("consume", queue, |role| {
            !is_own && role.consume.iter().any(|glob| glob_matches(glob, queue))
        })
    }

    /// Whether this part may be managed.
    pub fn may_manage(&self, part: Manage) -> Result<(), Denied> {
        self.check("manage", part.as_str(), |role| role.manage.contains(&part))
    }
}

/// Everybody who may connect. Made once from the configuration.
#[derive(Debug)]
pub struct Identities {
    tokens: Vec<([u8; 32], Principal)>,
    certificates: Vec<Principal>,
}

impl Identities {
    /// Everybody in `config`, whose roles were checked to exist.
    pub fn new(config: &Config) -> Identities {
        let roles: Arc<[RoleConfig]> = config.roles.clone().into();
        let principal = |name: &str, names: &[String]| {
            let index = |name: &String| roles.iter().position(|role| role.name == *name);
            Principal {
                name: name.into(),
                permissions: Permissions {
                    roles: roles.clone(),
                    held: names.iter().filter_map(index).collect(),
                },
            }
        };
        let tokens = config.tokens.iter();
        let certificates = config.certificates.iter();
        Identities {
            tokens: tokens
                .map(|token| (token.sha256, principal(&token.name, &token.roles)))
                .collect(),
            certificates: certificates
                .map(|certificate| principal(&certificate.common_name, &certificate.roles))
                .collect(),
        }
    }

    /// Who this is. `chain` is the client certificate that TLS verified, with its intermediates.
    pub fn authenticate(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
        token: Option<&str>,
    ) -> Result<Principal, AuthError> {
        match (chain, token) {
            (_, Some(token)) => self.by_token(token),
            (Some(chain), None) if !chain.is_empty() => self.by_certificate(chain),
            _ => Err(AuthError::Nothing),
        }
    }

    fn by_token(&self, token: &str) -> Result<Principal, AuthError> {
        let shown = token_sha256(token);
        let mut found = None;
        // All of them, so that the time says nothing about which one was near.
        for (sha256, principal) in &self.tokens {
            if equal_in_constant_time(sha256, &shown) {
                found = Some(principal);
            }
        }
        found.cloned().ok_or(AuthError::UnknownToken)
    }

    fn by_certificate(&self, chain: &[CertificateDer<'_>]) -> Result<Principal, AuthError> {
        let name = tls::common_name(chain).ok_or(AuthError::NoCommonName)?;
        let found = self.certificates.iter().find(|p| *p.name == *name);
        found.cloned().ok_or(AuthError::UnknownName(name))
    }
}

/// The SHA-256 of a token, as `token_sha256` in the configuration holds it.
pub fn token_sha256(token: &str) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest.as_ref());
    sha256
}

fn equal_in_constant_time(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// Whether `text` matches `glob`, in which `*` stands for any run of characters.
fn glob_matches(glob: &str, text: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    // The last part must end the text; those between may match at the first place they can.
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CertificateConfig, TokenConfig};

    fn identities() -> Identities {
        let filters = |list: &[&str]| list.iter().map(|f| Filter::new(*f).unwrap()).collect();
        let sensor = RoleConfig {
            name: "sensor".to_owned(),
            publish: filters(&["plant/+/raw"]),
            subscribe: filters(&["plant/#"]),
            consume: Vec::new(),
            manage: Vec::new(),
        };
        let worker = RoleConfig {
            name: "worker".to_owned(),
            publish: Vec::new(),
            subscribe: Vec::new(),
            consume: vec!["alerts-*".to_owned()],
            manage: vec![Manage::Read],
        };
        let config = Config {
            roles: vec![sensor, worker, RoleConfig::everything("admin")],
            tokens: vec![
                TokenConfig {
                    name: "press-7".to_owned(),
                    sha256: token_sha256("press-7-secret-token"),
                    roles: vec!["sensor".to_owned()],
                },
                TokenConfig {
                    name: "root".to_owned(),
                    sha256: token_sha256("root-secret-token"),
                    roles: vec!["sensor".to_owned(), "admin".to_owned()],
                },
            ],
            certificates: vec![CertificateConfig {
                common_name: tls::DEV_CLIENT_NAME.to_owned(),
                roles: vec!["worker".to_owned()],
            }],
            ..Config::default()
        };
        Identities::new(&config)
    }

    fn by_token(token: &str) -> Permissions {
        let principal = identities().authenticate(None, Some(token)).unwrap();
        principal.permissions
    }

    #[test]
    fn token_and_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let made = tls::make(dir.path()).unwrap();
        let read = |path| -> CertificateDer<'static> {
            rustls_pki_types::pem::PemObject::from_pem_file(path).unwrap()
        };
        let client = [read(&made.client_cert)];
        let node = [read(&made.node.cert)];
        let all = identities();
        let who = all.authenticate(Some(&client), None).unwrap();
        assert_eq!(&*who.name, tls::DEV_CLIENT_NAME);
        assert_eq!(who.roles().collect::<Vec<_>>(), ["worker"]);
        let who = all.authenticate(Some(&client), Some("root-secret-token"));
        assert_eq!(
            who.unwrap().roles().collect::<Vec<_>>(),
            ["sensor", "admin"]
        );
        for (chain, token, want) in [
            (None, None, AuthError::Nothing),
            (Some(&[][..]), None, AuthError::Nothing),
            (Some(&client[..]), Some("wrong"), AuthError::UnknownToken),
            (None, Some(""), AuthError::UnknownToken),
            (
                Some(&node[..]),
                None,
                AuthError::UnknownName("waypost-node".to_owned()),
            ),
            (
                Some(&[CertificateDer::from(vec![1, 2, 3])][..]),
                None,
                AuthError::NoCommonName,
            ),
        ] {
            assert_eq!(all.authenticate(chain, token).unwrap_err(), want);
        }
    }

    #[test]
    fn rights_and_refusals() {
        let sensor = by_token("press-7-secret-token");
        let filter = |text| Filter::new(text).unwrap();
        assert_eq!(sensor.may_publish("plant/7/raw"), Ok(()));
        assert_eq!(sensor.may_subscribe(&filter("plant/7/#")), Ok(()));
        for (result, want) in [
            (
                sensor.may_publish("plant/7/clean"),
                "may not publish to \"plant/7/clean\": needs role \"admin\"",
            ),
            (
                sensor.may_publish("$node/x"),
                "may not publish to \"$node/x\": topics that begin with '$' are the router's own",
            ),
            (
                sensor.may_subscribe(&filter("+/7")),
                "may not subscribe to \"+/7\": needs role \"admin\"",
            ),
            (
                sensor.may_subscribe(&filter("$node/#")),
                "may not subscribe to \"$node/#\": no role allows it",
            ),
            (
                sensor.may_consume("alerts-major"),
                "may not consume \"alerts-major\": needs one of the roles worker, admin",
            ),
            (
                sensor.may_manage(Manage::Queues),
                "may not manage \"queues\": needs role \"admin\"",
            ),
        ] {
            assert_eq!(result.unwrap_err().to_string(), want);
        }
        let admin = by_token("root-secret-token");
        assert_eq!(admin.may_consume("anything"), Ok(()));
        assert_eq!(
            admin.may_publish("$x").unwrap_err().code(),
            Code::BadTopic,
            "not even an admin"
        );
    }

    #[test]
    fn globs() {
        for (glob, text, want) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("*b*", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("abc", "abcd", false),
        ] {
            assert_eq!(glob_matches(glob, text), want, "{glob} on {text}");
        }
    }
}
