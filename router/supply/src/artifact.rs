//! What lies in a registry: a component as the CNCF's Wasm artifact layout has it.
//!
//! ```text
//! manifest  application/vnd.oci.image.manifest.v1+json
//!   config    application/vnd.wasm.config.v0+json     imports, exports, digest of the layer
//!   layers    application/wasm                        the component; exactly one
//!   annotations
//!     com.github.waypost.signature                    its signature, as minisign writes it
//! ```
//!
//! The layout tells consumers to refuse an artifact of more than one layer, so the signature is an
//! annotation: whoever does not know it passes over it. A signature is of the component, not of the
//! manifest, so that it is the same beside a file, in a registry and in a node.

use ring::digest;
use serde::{Deserialize, Serialize};
use wasmparser::{Encoding, Parser, Payload};

use crate::reference::is_digest;
use crate::words::shown;

/// The annotation of a manifest that holds the component's signature.
pub const SIGNATURE_ANNOTATION: &str = "com.github.waypost.signature";
/// Media types of the layout.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const LAYER_TYPE: &str = "application/wasm";
/// The longest manifest: a signature and some annotations.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 256 << 10;

/// A piece of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Descriptor {
    #[serde(rename = "mediaType")]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    annotations: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: &'a str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [&'a str; 1],
    component: Names,
}

/// What a component takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Names {
    /// Names of its exports.
    pub exports: Vec<String>,
    /// Names of its imports.
    pub imports: Vec<String>,
}

/// Why bytes are not an artifact that a component can be taken from, or made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// Not JSON, or a field is missing.
    #[error("its manifest is not one of an OCI image: {0}")]
    Manifest(String),
    /// A list of manifests, as for several architectures.
    #[error("it is an index of several artifacts: name one of them by its digest")]
    Index,
    /// Something else lies there.
    #[error("it holds no component: its config is \"{found}\", expected {CONFIG_TYPE:?}", found = shown(found))]
    Config {
        /// The media type that is there.
        found: String,
    },
    /// More or fewer layers than one, or a layer of another kind.
    #[error("it has the layers [{}], expected one of {LAYER_TYPE:?}", shown(&found.join(", ")))]
    Layers {
        /// Their media types.
        found: Vec<String>,
    },
    /// A digest that is none.
    #[error(
        "its manifest names the digest \"{}\", expected \"sha256:\" and 64 digits",
        shown(_0)
    )]
    Digest(String),
    /// Larger than a component may be.
    #[error("its component has {found} bytes, limit {limit}")]
    TooLarge {
        /// As the manifest says.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// What was to be sent is no component.
    #[error("is not a component: {0}")]
    NotAComponent(String),
}

/// `sha256:…` of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// What a manifest says of its component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub layer: Descriptor,
    pub signature: Option<String>,
}

/// Reads a manifest.
pub(crate) fn read(bytes: &[u8], component_bytes_max: u64) -> Result<Contents, ArtifactError> {
    let form = |error: serde_json::Error| ArtifactError::Manifest(error.to_string());
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(form)?;
    if value.get("manifests").is_some() {
        return Err(ArtifactError::Index);
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(form)?;
    if manifest.schema_version != 2 {
        let text = format!("schemaVersion is {}, expected 2", manifest.schema_version);
        return Err(ArtifactError::Manifest(text));
    }
    if manifest.config.media_type != CONFIG_TYPE {
        let found = manifest.config.media_type;
        return Err(ArtifactError::Config { found });
    }
    let layer = match <[Descriptor; 1]>::try_from(manifest.layers) {
        Ok([layer]) if layer.media_type == LAYER_TYPE => layer,
        Ok([layer]) => {
            let found = vec![layer.media_type];
            return Err(ArtifactError::Layers { found });
        }
        Err(layers) => {
            let found = layers.into_iter().take(8).map(|layer| layer.media_type);
            let found = found.collect();
            return Err(ArtifactError::Layers { found });
        }
    };
    if !is_digest(&layer.digest) {
        return Err(ArtifactError::Digest(layer.digest));
    }
    if layer.size > component_bytes_max {
        return Err(ArtifactError::TooLarge {
            found: layer.size,
            limit: component_bytes_max,
        });
    }
    let signature = manifest.annotations.get(SIGNATURE_ANNOTATION);
    Ok(Contents {
        layer,
        signature: signature.and_then(|text| Some(text.as_str()?.to_owned())),
    })
}

/// An artifact that is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    pub manifest: Vec<u8>,
    pub config: (Descriptor, Vec<u8>),
    pub layer: Descriptor,
}

/// Makes an artifact of a component. `created` is an RFC 3339 time.
pub(crate) fn make(
    component: &[u8],
    signature: Option<&str>,
    created: &str,
) -> Result<Artifact, ArtifactError> {
    let layer = Descriptor {
        media_type: LAYER_TYPE.to_owned(),
        digest: sha256(component),
        size: component.len() as u64,
    };
    let config = Config {
        created,
        architecture: "wasm",
        os: "wasip2",
        layer_digests: [&layer.digest],
        component: names(component)?,
    };
    let form = |error: serde_json::Error| ArtifactError::Manifest(error.to_string());
    let config_bytes = serde_json::to_vec(&config).map_err(form)?;
    let config = Descriptor {
        media_type: CONFIG_TYPE.to_owned(),
        digest: sha256(&config_bytes),
        size: config_bytes.len() as u64,
    };
    let mut annotations = serde_json::Map::new();
    if let Some(signature) = signature {
        annotations.insert(SIGNATURE_ANNOTATION.to_owned(), signature.into());
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE.to_owned(),
        config: config.clone(),
        layers: vec![layer.clone()],
        annotations,
    };
    Ok(Artifact {
        manifest: serde_json::to_vec(&manifest).map_err(form)?,
        config: (config, config_bytes),
        layer,
    })
}

/// The names of a component's imports and exports, in its own order.
pub fn names(component: &[u8]) -> Result<Names, ArtifactError> {
    let wrong =
        |error: wasmparser::BinaryReaderError| ArtifactError::NotAComponent(error.to_string());
    let mut names = Names::default();
    let mut depth = 0;
    let mut is_component = false;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(wrong)? {
            Payload::Version { encoding, .. } if depth == 0 => {
                if encoding != Encoding::Component {
                    return Err(ArtifactError::NotAComponent(
                        "it is a core module".to_owned(),
                    ));
                }
                is_component = true;
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names
                        .imports
                        .push(import.map_err(wrong)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    names
                        .exports
                        .push(export.map_err(wrong)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    match is_component {
        true => Ok(names),
        false => Err(ArtifactError::NotAComponent("it is empty".to_owned())),
    }
}

#[cfg(test)]
#[path = "artifact_tests.rs"]
mod tests;
