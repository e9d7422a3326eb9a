//! The name of an artifact in a registry: `HOST[:PORT]/REPOSITORY:TAG`, or `…@sha256:HEX`.
//!
//! The grammar is that of the OCI distribution specification. Nothing is guessed: the host must be
//! one (`ghcr.io`, `localhost:5000`), and a tag or a digest must be there, because `latest` on a
//! machine that nobody looks at is an accident that waits.

use std::fmt;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// What is wrong with a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No slash, or nothing that could be a host before it.
    #[error(
        "{0:?} names no registry: expected HOST/REPOSITORY:TAG, such as \
         \"registry.example/team/plugin:1.2\""
    )]
    Host(String),
    /// A part of the path that may not be.
    #[error("repository {0:?}: expected parts of a-z, 0-9, '.', '_' and '-' between slashes")]
    Repository(String),
    /// Neither a tag nor a digest.
    #[error("{0:?} names no version: expected {0}:TAG or {0}@sha256:…")]
    Version(String),
    /// A tag that may not be.
    #[error("tag {0:?}: expected 1 to 128 letters, digits, '.', '_' and '-'")]
    Tag(String),
    /// A digest that is none.
    #[error("digest {0:?}: expected \"sha256:\" and 64 hexadecimal digits in lower case")]
    Digest(String),
}

impl Reference {
    /// Reads `registry.example/team/plugin:1.2`, with or without `oci://` before it.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        let whole = text.strip_prefix("oci://").unwrap_or(text);
        let no_host = || ReferenceError::Host(text.to_owned());
        let (host, path) = whole.split_once('/').ok_or_else(no_host)?;
        if !is_host(host) {
            return Err(no_host());
        }
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) if is_digest(digest) => (path, Some(digest.to_owned())),
            Some((_, digest)) => return Err(ReferenceError::Digest(digest.to_owned())),
            None => (path, None),
        };
        let (repository, tag) = match path.split_once(':') {
            Some((path, tag)) if is_tag(tag) => (path, Some(tag.to_owned())),
            Some((_, tag)) => return Err(ReferenceError::Tag(tag.to_owned())),
            None => (path, None),
        };
        if repository.len() > 255 || !repository.split('/').all(is_part) {
            return Err(ReferenceError::Repository(repository.to_owned()));
        }
        if tag.is_none() && digest.is_none() {
            return Err(ReferenceError::Version(whole.to_owned()));
        }
        Ok(Reference {
            host: host.to_ascii_lowercase(),
            repository: repository.to_owned(),
            tag,
            digest,
        })
    }

    /// `HOST[:PORT]`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// `sha256:…` of the manifest, where it is named: such a reference never means anything else.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The same, of exactly this manifest.
    pub fn at(&self, digest: &str) -> Reference {
        Reference {
            digest: Some(digest.to_owned()),
            ..self.clone()
        }
    }

    /// What stands in a manifest's path.
    pub(crate) fn version(&self) -> &str {
        // One of them is there.
        self.digest().or(self.tag()).unwrap_or_default()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Whether a text may name a registry: with a dot, a port, or `localhost`.
pub fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
                return is_address
                    && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let is_name = !name.is_empty()
        && name.bytes().all(allowed)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-']);
    let is_told = port.is_some() || name.contains('.') || name == "localhost";
    is_name && is_told && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_part(part: &str) -> bool {
    let is_plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = [part.as_bytes().first(), part.as_bytes().last()];
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_separator =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    ends.iter().all(|end| end.is_some_and(is_plain)) && separators.into_iter().all(is_separator)
}

fn is_tag(tag: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&tag.len()) && tag.bytes().all(allowed) && !tag.starts_with(['.', '-'])
}

/// `sha256:` and 64 hexadecimal digits.
pub(crate) fn is_digest(text: &str) -> bool {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let hex = text.strip_prefix("sha256:");
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(is_hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_back() {
        let hex = "a1".repeat(32);
        for text in [
            "registry.example/team/plugin:1.2",
            "localhost/p:x",
            "localhost:5000/p:v1.0_rc-1",
            "127.0.0.1:5000/a/b/c:1",
            "[::1]:5000/a:1",
            "host:443/a__b/c.d/e--f:1",
            &format!("ghcr.io/o/r@sha256:{hex}"),
            &format!("ghcr.io/o/r:1.2@sha256:{hex}"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(
                Reference::parse(&format!("oci://{text}")).unwrap(),
                reference
            );
        }
        let reference = Reference::parse("r.example/a:1").unwrap();
        let digest = format!("sha256:{hex}");
        assert_eq!(
            reference.at(&digest).to_string(),
            format!("r.example/a:1@{digest}")
        );
        assert_eq!(
            (reference.version(), reference.at(&digest).version()),
            ("1", &*digest)
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, want) in [
            ("plugin:1.2", "names no registry"),
            ("team/plugin:1.2", "names no registry"),
            ("r.example:0/p:1", "names no registry"),
            ("r.example:99999/p:1", "names no registry"),
            ("https://r.example/p:1", "names no registry"),
            ("[::1/p:1", "names no registry"),
            ("user@r.example/p:1", "names no registry"),
            ("r.example/p", "names no version: expected r.example/p:TAG"),
            ("r.example/P:1", "repository \"P\""),
            ("r.example//p:1", "repository \"/p\""),
            ("r.example/../p:1", "repository \"../p\""),
            ("r.example/a._b:1", "repository"),
            ("r.example/p:", "tag \"\""),
            ("r.example/p:a/b", "tag \"a/b\""),
            ("r.example/p:1@sha256:12", "digest \"sha256:12\""),
            ("r.example/p@md5:12", "digest \"md5:12\""),
        ] {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
