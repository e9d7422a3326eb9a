use super::*;

/// A component that exports nothing.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

fn noop() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/plugins/noop.wasm"
    );
    std::fs::read(path).unwrap()
}

#[test]
fn what_is_made_is_read() {
    let component = noop();
    let artifact = make(&component, Some("signed"), "2026-01-01T00:00:00Z").unwrap();
    let contents = read(&artifact.manifest, 1 << 20).unwrap();
    assert_eq!(contents.layer, artifact.layer);
    assert_eq!(contents.signature.as_deref(), Some("signed"));
    let manifest: serde_json::Value = serde_json::from_slice(&artifact.manifest).unwrap();
    assert_eq!(manifest["mediaType"], MANIFEST_TYPE);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let config: serde_json::Value = serde_json::from_slice(&artifact.config.1).unwrap();
    assert_eq!(config["architecture"], "wasm");
    assert_eq!(config["os"], "wasip2");
    assert_eq!(config["created"], "2026-01-01T00:00:00Z");
    assert_eq!(config["layerDigests"][0], artifact.layer.digest.as_str());
    let exports = config["component"]["exports"].to_string();
    assert!(exports.contains("waypost:plugin/filter@"), "{exports}");
    assert_eq!(artifact.config.0.digest, sha256(&artifact.config.1));
    let unsigned = make(&component, None, "x").unwrap();
    assert_eq!(read(&unsigned.manifest, 1 << 20).unwrap().signature, None);
}

#[test]
fn what_is_no_component_is_not_made_into_one() {
    for (bytes, want) in [
        (&b""[..], ""),
        (b"hello, I am text", ""),
        (b"\0asm\x01\0\0\0", "core module"),
        (&noop()[..500], ""),
    ] {
        let error = make(bytes, None, "x").unwrap_err().to_string();
        assert!(
            error.contains("is not a component") && error.contains(want),
            "{error}"
        );
    }
    assert_eq!(names(EMPTY).unwrap(), Names::default());
}

#[test]
fn no_foreign_manifest_is_taken() {
    let good = make(&noop(), None, "x").unwrap().manifest;
    let good = String::from_utf8(good).unwrap();
    let layer = r#"{"mediaType":"application/wasm","digest":"sha256:12","size":1}"#;
    for (text, want) in [
        (
            "not json".to_owned(),
            "its manifest is not one of an OCI image",
        ),
        ("{}".to_owned(), "missing field"),
        (r#"{"manifests":[]}"#.to_owned(), "an index of several"),
        (
            good.replace("\"schemaVersion\":2", "\"schemaVersion\":1"),
            "expected 2",
        ),
        (
            good.replace("vnd.wasm.config.v0", "vnd.oci.image.config.v1"),
            "it holds no component: its config is \"application/vnd.oci.image.config.v1+json\"",
        ),
        (
            good.replace("application/wasm", "text/plain"),
            "the layers [text/plain]",
        ),
        (
            good.replace("\"layers\":[", &format!("\"layers\":[{layer},")),
            "the layers [application/wasm, application/wasm], expected one",
        ),
        (
            good.replace("\"digest\":\"sha256:", "\"digest\":\"md5:"),
            "names the digest \"md5:",
        ),
    ] {
        assert_ne!(text, good);
        let error = read(text.as_bytes(), 1 << 30).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    let error = read(good.as_bytes(), 100).unwrap_err().to_string();
    assert!(error.contains("bytes, limit 100"), "{error}");
    for at in 0..good.len() {
        let _ = read(&good.as_bytes()[..at], 1 << 30);
    }
}
