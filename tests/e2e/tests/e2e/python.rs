//! The client in Python, which was written from docs/protocol.md alone, against a real node.
//!
//! `WAYPOST_PYTHON` names an interpreter that has `examples/python/requirements.txt`.

use std::process::Command;

use crate::harness::{self, Setup, blocking, repository};

const QUEUE: &str = r#"
[[queue]]
name = "quickstart"
from = ["quickstart/#"]
"#;

#[test]
fn python_client_publishes_consumes_and_acks() {
    let python = std::env::var("WAYPOST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_quic = Command::new(&python)
        .args(["-c", "import aioquic"])
        .output();
    if !has_quic.is_ok_and(|output| output.status.success()) {
        harness::skipped(&format!(
            "python_client_publishes_consumes_and_acks: {python} has no aioquic; \
             WAYPOST_PYTHON names one that has"
        ));
        return;
    }
    harness::run(async {
        let node = Setup::new(QUEUE).start().await;
        let mut quickstart = Command::new(&python);
        quickstart
            .arg(repository("examples/python/quickstart.py"))
            .args(["--host", "127.0.0.1", "--count", "300", "--port"])
            .arg(node.address().port().to_string());
        for (option, file) in [
            ("--ca", "ca.pem"),
            ("--cert", "client.pem"),
            ("--key", "client.key"),
        ] {
            quickstart.arg(option).arg(node.tls(file));
        }
        let output = blocking(move || quickstart.output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            said,
            "published 300, confirmed: stored\nconsumed and acked 300\n"
        );
        let client = node.client().await;
        let state = harness::queue(&client, "quickstart").await;
        assert_eq!((state.acked, state.messages), (300, 0));
        assert_eq!(
            harness::group(&client, "quickstart", "python")
                .await
                .pending,
            0
        );
        node.stop().await;
    });
}
