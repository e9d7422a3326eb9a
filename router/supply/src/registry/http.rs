//! Requests to one registry: within a time, with an answer of a bounded length, as somebody.
//!
//! The invariant: credentials go to the registry's own host and to the token server that it names,
//! over TLS unless the registry was named as one without; a redirect to a store of blobs carries
//! none, and who stands there is not answered. Only what is read follows redirects.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{Request, Response, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, AsSendBody, Body, ResponseExt};

use super::error::RegistryErrorKind as Kind;
use crate::credentials::Credentials;
use crate::words::shown;

/// The longest answer that is read for its words.
const WORDS_BYTES_MAX: u64 = 64 << 10;
/// The longest that a connection may take to come about.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const REDIRECTS_MAX: u32 = 5;

/// How a registry is reached.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Without TLS: what comes can be changed, and what goes can be read, by whoever is between.
    pub insecure_http: bool,
    /// Certificates (PEM) that vouch for the registry, instead of those of the system.
    pub ca: Option<Vec<u8>>,
    /// As whom.
    pub credentials: Credentials,
    /// How long all of it may take.
    pub timeout: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        RegistryOptions {
            insecure_http: false,
            ca: None,
            credentials: Credentials::None,
            timeout: Duration::from_secs(60),
        }
    }
}

/// A request.
pub(super) struct Asked<'a> {
    pub method: &'static str,
    /// The path with what follows it, or a whole address.
    pub path: &'a str,
    pub headers: &'a [(&'static str, &'a str)],
    pub body: Option<&'a [u8]>,
    /// `pull` or `push,pull`, and the repository: what a token is asked for.
    pub scope: &'a str,
    /// For people.
    pub what: &'a str,
}

/// A registry for as long as one pull or push takes.
pub(super) struct Session {
    agent: Agent,
    host: String,
    base: String,
    insecure_http: bool,
    credentials: Credentials,
    /// The header that was good enough, or may be.
    authorization: Mutex<Option<String>>,
    until: Instant,
    limit: Duration,
}

impl Session {
    pub fn new(host: &str, options: &RegistryOptions) -> Result<Session, Kind> {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let tls = match options.insecure_http {
            true => tls.root_certs(RootCerts::from(Vec::new())),
            false => tls.root_certs(RootCerts::from(roots(options.ca.as_deref())?)),
        };
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .https_only(!options.insecure_http)
            .max_redirects(REDIRECTS_MAX)
            .timeout_connect(Some(CONNECT_TIME))
            .user_agent(concat!("waypost/", env!("CARGO_PKG_VERSION")))
            .build();
        let scheme = if options.insecure_http {
            "http"
        } else {
            "https"
        };
        let authorization = match &options.credentials {
            Credentials::Token(token) => Some(format!("Bearer {token}")),
            _ => None,
        };
        Ok(Session {
            agent: Agent::new_with_config(config),
            host: host.to_owned(),
            base: format!("{scheme}://{host}"),
            insecure_http: options.insecure_http,
            credentials: options.credentials.clone(),
            authorization: Mutex::new(authorization),
            until: Instant::now() + options.timeout,
            limit: options.timeout,
        })
    }

    /// Makes a request; where the registry asks who we are, says it and makes it again.
    pub fn ask(&self, asked: &Asked<'_>) -> Result<Response<Body>, Kind> {
        let response = self.send(asked)?;
        // Whoever asks must be the registry, not somebody that it led to.
        if response.status().as_u16() != 401 || !self.is_own(&response.get_uri().to_string()) {
            return Ok(response);
        }
        let challenges: Vec<String> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Some(value.to_str().ok()?.to_owned()))
            .collect();
        let Some(authorization) = self.answer(&challenges, asked)? else {
            return Ok(response);
        };
        *self.lock() = Some(authorization);
        self.send(asked)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, path: &str) -> String {
        match path.starts_with('/') {
            true => format!("{}{path}", self.base),
            false => path.to_owned(),
        }
    }

    /// Whether an address is the registry's own, as far as credentials go.
    fn is_own(&self, address: &str) -> bool {
        let rest = address.strip_prefix(&self.base);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }

    fn send(&self, asked: &Asked<'_>) -> Result<Response<Body>, Kind> {
        let address = self.address(asked.path);
        let mut request = Request::builder().method(asked.method).uri(&address);
        for (name, value) in asked.headers {
            request = request.header(*name, *value);
        }
        if self.is_own(&address)
            && let Some(authorization) = &*self.lock()
        {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let bad = |error: ureq::http::Error| Kind::Connection {
            what: asked.what.to_owned(),
            error: format!("{address}: {error}"),
        };
        let redirects = match asked.method {
            "GET" => REDIRECTS_MAX,
            _ => 0,
        };
        let response = match asked.body {
            Some(body) => self.run(request.body(body).map_err(bad)?, asked.what, redirects)?,
            None => self.run(request.body(()).map_err(bad)?, asked.what, redirects)?,
        };
        response.map_err(|error| self.failed(asked.what, error))
    }

    fn run<B: AsSendBody>(
        &self,
        request: Request<B>,
        what: &str,
        redirects: u32,
    ) -> Result<Result<Response<Body>, ureq::Error>, Kind> {
        let time = self.time(what)?;
        let request = self.agent.configure_request(request);
        let request = request.timeout_global(Some(time)).max_redirects(redirects);
        Ok(self.agent.run(request.build()))
    }

    /// What is left of the time.
    fn time(&self, what: &str) -> Result<Duration, Kind> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(self.timeout(what)),
            false => Ok(left),
        }
    }

    fn timeout(&self, what: &str) -> Kind {
        Kind::Timeout {
            what: what.to_owned(),
            limit: self.limit,
        }
    }

    fn failed(&self, what: &str, error: ureq::Error) -> Kind {
        match error {
            ureq::Error::Timeout(_) if Instant::now() >= self.until => self.timeout(what),
            ureq::Error::Io(error) => self.broken(what, &error),
            other => Kind::Connection {
                what: what.to_owned(),
                error: other.to_string(),
            },
        }
    }

    fn broken(&self, what: &str, error: &std::io::Error) -> Kind {
        match Instant::now() >= self.until {
            true => self.timeout(what),
            false => Kind::Connection {
                what: what.to_owned(),
                error: error.to_string(),
            },
        }
    }

    /// The bytes of an answer, at most `limit` of them and one more, so that it shows.
    pub fn bytes(&self, what: &str, response: Response<Body>, limit: u64) -> Result<Vec<u8>, Kind> {
        let body = response.into_body().into_with_config().limit(u64::MAX);
        let mut bytes = Vec::new();
        match body.reader().take(limit + 1).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            // The other side said how long it would be, and then was not.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(bytes),
            Err(error) => Err(self.broken(what, &error)),
        }
    }

    /// What a status means that is not the one that was hoped for.
    pub fn refused(&self, what: &str, response: Response<Body>) -> Kind {
        let (what, status) = (what.to_owned(), response.status().as_u16());
        let words = self.bytes(&what, response, WORDS_BYTES_MAX);
        let detail = words.map_or(String::new(), |words| words_of(&words));
        match status {
            404 => Kind::NotFound { what, detail },
            401 | 403 => Kind::Forbidden {
                what,
                who: self.who(),
                detail,
            },
            status => Kind::Status {
                what,
                status,
                detail,
            },
        }
    }

    fn who(&self) -> String {
        match &self.credentials {
            Credentials::None => "one who says nothing of himself".to_owned(),
            Credentials::Basic { user, .. } => format!("the user {user:?}"),
            Credentials::Token(_) => "the holder of this token".to_owned(),
        }
    }

    /// What to say to a registry that asks; `None` where there is nothing more to say.
    fn answer(&self, challenges: &[String], asked: &Asked<'_>) -> Result<Option<String>, Kind> {
        let scheme = |name: &str| {
            challenges.iter().find_map(|challenge| {
                let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
                scheme.eq_ignore_ascii_case(name).then_some(rest)
            })
        };
        if let Some(parameters) = scheme("Bearer") {
            // A token of our own was refused: another cannot be had with it.
            return match &self.credentials {
                Credentials::Token(_) => Ok(None),
                _ => self.token(parameters, asked).map(Some),
            };
        }
        match (scheme("Basic"), &self.credentials) {
            (Some(_), Credentials::Basic { user, password }) if self.lock().is_none() => {
                Ok(Some(basic(user, password)))
            }
            (Some(_), _) => Ok(None),
            (None, _) if challenges.is_empty() => Ok(None),
            (None, _) => Err(Kind::Challenge(format!(
                "in a way that is not known here: {}",
                shown(&challenges.join(", "))
            ))),
        }
    }

    /// Fetches a token from the server that the registry names.
    fn token(&self, parameters: &str, asked: &Asked<'_>) -> Result<String, Kind> {
        let parameters = parse_parameters(parameters);
        let get = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v);
        let Some(realm) = get("realm") else {
            return Err(Kind::Challenge("names no server for tokens".to_owned()));
        };
        let is_safe =
            realm.starts_with("https://") || (self.insecure_http && realm.starts_with("http://"));
        if !is_safe {
            let text = format!(
                "its server for tokens, {}, is not one of https",
                shown(realm)
            );
            return Err(Kind::Challenge(text));
        }
        let what = format!("token from {}", shown(realm));
        let mut request = self.agent.get(realm);
        if let Some(service) = get("service") {
            request = request.query("service", service);
        }
        let scope = get("scope").map_or(asked.scope, String::as_str);
        request = request.query("scope", scope);
        if let Credentials::Basic { user, password } = &self.credentials {
            request = request.header("authorization", basic(user, password));
        }
        let request = request.config().timeout_global(Some(self.time(&what)?));
        let response = request.build().call();
        let response = response.map_err(|error| self.failed(&what, error))?;
        if response.status().as_u16() != 200 {
            return Err(self.refused(&what, response));
        }
        let bytes = self.bytes(&what, response, WORDS_BYTES_MAX)?;
        if bytes.len() as u64 > WORDS_BYTES_MAX {
            let limit = WORDS_BYTES_MAX;
            return Err(Kind::TooLong { what, limit });
        }
        let answer: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        match token.filter(|token| !token.is_empty()) {
            Some(token) => Ok(format!("Bearer {token}")),
            None => Err(Kind::Challenge(format!(
                "no token is in the answer of {}",
                shown(realm)
            ))),
        }
    }

    /// The host, for addresses that a registry names.
    pub fn host(&self) -> &str {
        &self.host
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Who may vouch for a registry.
fn roots(ca: Option<&[u8]>) -> Result<Vec<Certificate<'static>>, Kind> {
    let Some(pem) = ca else {
        let found = rustls_native_certs::load_native_certs();
        let certificates = found.certs.iter();
        let certificates: Vec<_> = certificates
            .map(|der| Certificate::from_der(der).to_owned())
            .collect();
        return match certificates.is_empty() {
            false => Ok(certificates),
            true => Err(Kind::Setup(
                "this machine has no certificate authorities (ca-certificates) that could vouch \
                 for a registry: name one"
                    .to_owned(),
            )),
        };
    };
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(Kind::Setup(format!("the registry's authority: {error}"))),
        }
    }
    match certificates.is_empty() {
        true => Err(Kind::Setup(
            "the registry's authority: no certificate in the file".to_owned(),
        )),
        false => Ok(certificates),
    }
}

/// `name="value", name=value`
fn parse_parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        found.push((name, value));
        rest = after;
    }
    found
}

/// What stands before the closing quote, and the rest.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// A registry's words: the `message` of its errors, or what it sent.
fn words_of(bytes: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let messages: Vec<String> = json["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|error| {
            let words = error["message"].as_str().filter(|words| !words.is_empty());
            Some(words.or(error["code"].as_str())?.to_owned())
        })
        .collect();
    let text = match messages.is_empty() {
        false => messages.join("; "),
        true => String::from_utf8_lossy(bytes).trim().to_owned(),
    };
    match text.is_empty() {
        true => String::new(),
        false => format!(": {}", shown(&text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"realm="https://a.example/t?x=1",service="r, \"q\"", Scope=repository:a:pull"#;
        let found = parse_parameters(text);
        let pairs: Vec<_> = found
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("realm", "https://a.example/t?x=1"),
                ("service", "r, \"q\""),
                ("scope", "repository:a:pull")
            ]
        );
        assert_eq!(parse_parameters("nonsense"), []);
        assert_eq!(
            parse_parameters("a=\"open"),
            [("a".to_owned(), "open".to_owned())]
        );
    }

    #[test]
    fn a_registrys_words_are_one_short_line() {
        let json = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m"},{"code":"X"}]}"#;
        assert_eq!(words_of(json), ": no [31m; X");
        assert_eq!(words_of(b"<html>\nno</html>\n"), ": <html> no</html>");
        assert_eq!(words_of(b""), "");
        let long = "ü".repeat(5_000);
        assert_eq!(
            words_of(long.as_bytes()).chars().count(),
            crate::words::SHOWN + 3
        );
    }

    #[test]
    fn credentials_stay_with_the_registry() {
        let session = Session::new(
            "r.example:5000",
            &RegistryOptions {
                insecure_http: true,
                ..RegistryOptions::default()
            },
        );
        let session = session.unwrap();
        for (address, is_own) in [
            ("http://r.example:5000/v2/", true),
            ("http://r.example:5000?x", true),
            ("http://r.example:50001/v2/", false),
            ("http://r.example:5000.evil.example/", false),
            ("http://r.example:5000@evil.example/", false),
            ("https://r.example:5000/v2/", false),
        ] {
            assert_eq!(session.is_own(address), is_own, "{address}");
        }
    }
}
