//! Certificates made, kept, damaged and mixed up.

use super::*;

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn made_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    let made = make(&tls).unwrap();
    assert!(check_files(&made.node).is_empty());
    let before = read(&made.node.cert);
    let again = make(&tls).unwrap();
    assert_eq!(before, read(&again.node.cert));
    assert_eq!(made.token_sha256, again.token_sha256);
    for private in [
        &made.node.key,
        &made.client_key,
        &made.token_file,
        &tls.join("ca.key"),
    ] {
        let mode = fs::metadata(private).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", private.display());
        assert!(!is_readable_by_others(private));
    }
    let chain = read_certificates(&made.client_cert).unwrap();
    assert_eq!(common_name(&chain).as_deref(), Some(DEV_CLIENT_NAME));
}

#[test]
fn damaged_and_foreign_files_are_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let other = make(&dir.path().join("other")).unwrap();
    let made = make(&dir.path().join("tls")).unwrap();
    for (path, content) in [
        (&made.node.key, b"rubbish".to_vec()),
        (&made.client_cert, read(&other.client_cert)),
        (&made.ca, read(&other.ca)),
        (&made.token_file, Vec::new()),
    ] {
        fs::write(path, content).unwrap();
        let again = make(&dir.path().join("tls")).unwrap();
        assert!(is_good_ca(&again.ca) && is_good_client(&again), "{path:?}");
        assert!(is_good_node(&again, &node_names()), "{path:?}");
    }
}

#[test]
fn server_config_is_tls13_with_optional_clients() {
    let dir = tempfile::tempdir().unwrap();
    let made = make(dir.path()).unwrap();
    let config = server_config(&made.node, &[b"waypost/1"]).unwrap();
    assert_eq!(config.alpn_protocols, [b"waypost/1".to_vec()]);
    assert_eq!(config.max_early_data_size, 0);
}

#[test]
fn errors_name_the_file_and_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let one = make(&dir.path().join("one")).unwrap();
    let two = make(&dir.path().join("two")).unwrap();
    let files = |cert: &Path, key: &Path, client_ca: Option<&Path>| TlsFiles {
        cert: cert.to_path_buf(),
        key: key.to_path_buf(),
        client_ca: client_ca.map(Path::to_path_buf),
    };
    let expired = dir.path().join("expired.pem");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let key = KeyPair::generate().unwrap();
    fs::write(&expired, params.self_signed(&key).unwrap().pem()).unwrap();

    let missing = dir.path().join("missing.pem");
    let cases = [
        (
            files(&one.node.cert, &two.node.key, None),
            "DIR/two/node.key: is not the key of the certificate in DIR/one/node.pem",
        ),
        (
            files(&one.node.key, &one.node.key, None),
            "DIR/one/node.key: found none, expected PEM with a section BEGIN CERTIFICATE",
        ),
        (
            files(&one.node.cert, &one.node.cert, None),
            "DIR/one/node.pem: found none, expected PEM with a section BEGIN PRIVATE KEY",
        ),
        (
            files(&missing, &one.node.key, None),
            "DIR/missing.pem: cannot be read: No such file or directory (os error 2)",
        ),
        (
            files(&expired, &one.node.key, None),
            "DIR/expired.pem: is valid from Jan  1 00:00:00 2001 +00:00 to \
             Jan  1 00:00:00 2002 +00:00, not now",
        ),
        (
            files(&one.node.cert, &one.node.key, Some(&missing)),
            "DIR/missing.pem: cannot be read: No such file or directory (os error 2)",
        ),
    ];
    let prefix = dir.path().display().to_string();
    for (files, want) in cases {
        let errors = check_files(&files);
        let got: Vec<String> = errors
            .iter()
            .map(|e| e.to_string().replace(&prefix, "DIR"))
            .collect();
        assert_eq!(got, [want]);
    }
    let error = server_config(&files(&one.node.cert, &two.node.key, None), &[]).unwrap_err();
    assert!(matches!(error, TlsError::KeyMismatch { .. }), "{error}");
}

/// A handshake in memory between our server and a client; gives what the server knows of it.
fn shake(
    server: &Made,
    client: Option<&Made>,
    alpn: &[u8],
) -> Result<Option<String>, rustls::Error> {
    let config = server_config(&server.node, &[b"waypost/1"]).unwrap();
    let mut server_side = rustls::ServerConnection::new(Arc::new(config)).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(read_roots(&server.ca).unwrap());
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(made) => {
            let chain = read_certificates(&made.client_cert).unwrap();
            let key = read_key(&made.client_key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client_side = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    while server_side.is_handshaking() || client_side.is_handshaking() {
        let mut bytes = Vec::new();
        while client_side.wants_write() {
            client_side.write_tls(&mut bytes).unwrap();
        }
        server_side.read_tls(&mut &bytes[..]).unwrap();
        server_side.process_new_packets()?;
        let mut bytes = Vec::new();
        while server_side.wants_write() {
            server_side.write_tls(&mut bytes).unwrap();
        }
        client_side.read_tls(&mut &bytes[..]).unwrap();
        client_side.process_new_packets()?;
    }
    Ok(server_side.peer_certificates().and_then(common_name))
}

#[test]
fn handshakes() {
    let dir = tempfile::tempdir().unwrap();
    let ours = make(&dir.path().join("ours")).unwrap();
    let other = make(&dir.path().join("other")).unwrap();
    assert_eq!(shake(&ours, None, b"waypost/1"), Ok(None));
    assert_eq!(
        shake(&ours, Some(&ours), b"waypost/1"),
        Ok(Some(DEV_CLIENT_NAME.to_owned()))
    );
    let foreign = shake(&ours, Some(&other), b"waypost/1").unwrap_err();
    assert!(
        matches!(foreign, rustls::Error::InvalidCertificate(_)),
        "{foreign}"
    );
    let wrong = shake(&ours, None, b"h3").unwrap_err();
    assert_eq!(wrong, rustls::Error::NoApplicationProtocol);
}
