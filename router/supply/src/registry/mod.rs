//! Pulling and pushing components: the few requests of the OCI distribution specification that it
//! takes.
//!
//! ```text
//! pull   GET  /v2/REPOSITORY/manifests/TAG|DIGEST      bounded, its digest checked
//!        GET  /v2/REPOSITORY/blobs/DIGEST              as long as the manifest says, digest checked
//! push   HEAD /v2/REPOSITORY/blobs/DIGEST              what is there is not sent again
//!        POST /v2/REPOSITORY/blobs/uploads/            says where to
//!        PUT  LOCATION?digest=DIGEST
//!        PUT  /v2/REPOSITORY/manifests/TAG
//! ```
//!
//! All calls block, for no longer than [`RegistryOptions::timeout`] together. Nothing that comes is
//! believed: neither its length, nor its digest, nor that it ends.

mod error;
mod http;

pub use error::{RegistryError, RegistryErrorKind};
pub use http::RegistryOptions;

use error::RegistryErrorKind as Kind;
use http::{Asked, Session};
use ureq::Body;
use ureq::http::Response;

use crate::artifact::{self, ArtifactError, Descriptor, MANIFEST_BYTES_MAX, MANIFEST_TYPE, sha256};
use crate::reference::Reference;

/// What a registry has under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `sha256:…` of the manifest.
    pub manifest: String,
    /// `sha256:…` of the component.
    pub component: String,
    /// The component's length.
    pub bytes: u64,
    /// The component's signature, as minisign writes it; nothing of it is checked.
    pub signature: Option<String>,
}

/// A registry, for one pull or push.
pub struct Registry {
    session: Session,
    reference: Reference,
    component_bytes_max: u64,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registry").field(&self.reference).finish()
    }
}

impl Registry {
    /// The registry of `reference`; nothing is sent yet, and the time begins.
    pub fn of(
        reference: &Reference,
        options: &RegistryOptions,
        component_bytes_max: u64,
    ) -> Result<Registry, RegistryError> {
        match Session::new(reference.host(), options) {
            Ok(session) => Ok(Registry {
                session,
                reference: reference.clone(),
                component_bytes_max,
            }),
            Err(kind) => Err(error_of(reference, kind)),
        }
    }

    /// What is there now.
    pub fn find(&self) -> Result<Found, RegistryError> {
        self.named(self.try_find())
    }

    /// The component that was found.
    pub fn component(&self, found: &Found) -> Result<Vec<u8>, RegistryError> {
        self.named(self.try_component(found))
    }

    /// Sends a component with its signature, and gives the manifest's digest. `created` is an RFC
    /// 3339 time. What is there already is not sent again.
    pub fn push(
        &self,
        component: &[u8],
        signature: Option<&str>,
        created: &str,
    ) -> Result<String, RegistryError> {
        self.named(self.try_push(component, signature, created))
    }

    fn named<T>(&self, result: Result<T, Kind>) -> Result<T, RegistryError> {
        result.map_err(|kind| error_of(&self.reference, kind))
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.reference.repository())
    }

    fn scope(&self, actions: &str) -> String {
        format!("repository:{}:{actions}", self.reference.repository())
    }

    fn get(&self, what: &str, path: &str, accept: &str) -> Result<Response<Body>, Kind> {
        let response = self.session.ask(&Asked {
            method: "GET",
            path,
            headers: &[("accept", accept)],
            body: None,
            scope: &self.scope("pull"),
            what,
        })?;
        match response.status().as_u16() {
            200 => Ok(response),
            _ => Err(self.session.refused(what, response)),
        }
    }

    fn try_find(&self) -> Result<Found, Kind> {
        let version = self.reference.version();
        let what = format!("manifest {version}");
        let path = self.path(&format!("manifests/{version}"));
        let response = self.get(&what, &path, MANIFEST_TYPE)?;
        let bytes = self.session.bytes(&what, response, MANIFEST_BYTES_MAX)?;
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            let limit = MANIFEST_BYTES_MAX;
            return Err(Kind::TooLong { what, limit });
        }
        let manifest = sha256(&bytes);
        check_digest(
            &what,
            self.reference.digest().unwrap_or(&manifest),
            &manifest,
        )?;
        let contents = artifact::read(&bytes, self.component_bytes_max)?;
        Ok(Found {
            manifest,
            component: contents.layer.digest,
            bytes: contents.layer.size,
            signature: contents.signature,
        })
    }

    fn try_component(&self, found: &Found) -> Result<Vec<u8>, Kind> {
        let what = format!("component {}", found.component);
        let path = self.path(&format!("blobs/{}", found.component));
        let response = self.get(&what, &path, "*/*")?;
        let bytes = self.session.bytes(&what, response, found.bytes)?;
        if bytes.len() as u64 != found.bytes {
            return Err(Kind::Length {
                what,
                found: bytes.len() as u64,
                expected: found.bytes,
            });
        }
        check_digest(&what, &found.component, &sha256(&bytes))?;
        Ok(bytes)
    }

    fn try_push(
        &self,
        component: &[u8],
        signature: Option<&str>,
        created: &str,
    ) -> Result<String, Kind> {
        let Some(tag) = self.reference.tag() else {
            let text = "a tag is needed to push to: HOST/REPOSITORY:TAG";
            return Err(Kind::Setup(text.to_owned()));
        };
        let (found, limit) = (component.len() as u64, self.component_bytes_max);
        if found > limit {
            return Err(ArtifactError::TooLarge { found, limit }.into());
        }
        let artifact = artifact::make(component, signature, created)?;
        let digest = sha256(&artifact.manifest);
        check_digest(
            "what is pushed",
            self.reference.digest().unwrap_or(&digest),
            &digest,
        )?;
        self.send_blob("component", &artifact.layer, component)?;
        let (config, bytes) = &artifact.config;
        self.send_blob("config", config, bytes)?;
        let what = format!("manifest {tag}");
        let response = self.session.ask(&Asked {
            method: "PUT",
            path: &self.path(&format!("manifests/{tag}")),
            headers: &[("content-type", MANIFEST_TYPE)],
            body: Some(&artifact.manifest),
            scope: &self.scope("pull,push"),
            what: &what,
        })?;
        match response.status().as_u16() {
            201 | 202 => {}
            _ => return Err(self.session.refused(&what, response)),
        }
        let kept = response.headers().get("docker-content-digest");
        if let Some(kept) = kept.and_then(|kept| kept.to_str().ok()) {
            check_digest(&what, &digest, kept)?;
        }
        Ok(digest)
    }

    fn send_blob(&self, name: &str, blob: &Descriptor, bytes: &[u8]) -> Result<(), Kind> {
        let (what, scope) = (format!("{name} {}", blob.digest), self.scope("pull,push"));
        let ask = |method, path: &str, headers: &[(&'static str, &str)], body| {
            self.session.ask(&Asked {
                method,
                path,
                headers,
                body,
                scope: &scope,
                what: &what,
            })
        };
        let path = self.path(&format!("blobs/{}", blob.digest));
        let response = ask("HEAD", &path, &[], None)?;
        match response.status().as_u16() {
            200 => return Ok(()),
            // Where it may lie elsewhere, it is sent again.
            404 | 300..=399 => {}
            _ => return Err(self.session.refused(&what, response)),
        }
        let response = ask("POST", &self.path("blobs/uploads/"), &[], Some(&[]))?;
        if response.status().as_u16() != 202 {
            return Err(self.session.refused(&what, response));
        }
        let location = response.headers().get("location");
        let Some(location) = location.and_then(|location| location.to_str().ok()) else {
            let host = self.session.host();
            let text = format!("{host} does not say where to send it");
            return Err(Kind::Connection { what, error: text });
        };
        let and = if location.contains('?') { '&' } else { '?' };
        let location = format!("{location}{and}digest={}", blob.digest.replace(':', "%3A"));
        let headers = [("content-type", "application/octet-stream")];
        let response = ask("PUT", &location, &headers, Some(bytes))?;
        match response.status().as_u16() {
            201 => Ok(()),
            _ => Err(self.session.refused(&what, response)),
        }
    }
}

fn error_of(reference: &Reference, kind: Kind) -> RegistryError {
    RegistryError {
        reference: Box::new(reference.clone()),
        kind: Box::new(kind),
    }
}

fn check_digest(what: &str, expected: &str, found: &str) -> Result<(), Kind> {
    match expected == found {
        true => Ok(()),
        false => Err(Kind::Digest {
            what: what.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        }),
    }
}
