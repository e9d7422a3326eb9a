//! The first words of a connection: ALPN, version, identity, and everything but HELLO.

use quinn::ConnectionError;
use waypost_client::{Code, Identity};
use waypost_wire::FrameType;

use crate::harness::{self, Setup, TestNode};
use crate::raw::{Dial, Raw, RawStream, any_frame, closed, frame, hello, open_publisher};

/// Sends these bytes as the first of a connection; gives the node's answer, which must be the same
/// in the ERROR and in the connection's close.
async fn first_words(node: &TestNode, dial: Dial, bytes: &[u8], finish: bool) -> (Code, String) {
    let quic = dial.quic(node).await.unwrap();
    let mut control = RawStream::open(&quic).await;
    control.send(bytes).await;
    if finish {
        control.send.finish().unwrap();
    }
    let said = control.error().await;
    assert_eq!(closed(&quic).await, said);
    said
}

#[test]
fn another_protocol_is_refused_by_tls() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let dial = Dial {
            alpn: b"waypost/2",
            ..Dial::default()
        };
        match dial.quic(&node).await {
            // RFC 7301: no_application_protocol, 120.
            Err(ConnectionError::ConnectionClosed(close)) => {
                assert_eq!(u64::from(close.error_code), 0x100 + 120);
            }
            other => panic!("{other:?}"),
        }
        Raw::connect(&node).await;
        node.stop().await;
    });
}

#[test]
fn hello_is_answered_with_what_is_wrong_with_it() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let certificate = || Dial::default();
        let nobody = || Dial {
            certificate: false,
            ..Dial::default()
        };
        let (code, said) = first_words(&node, certificate(), &hello(&[2, 3], ""), false).await;
        assert_eq!(
            (code, said.as_str()),
            (Code::Version, "versions [2, 3] offered, this node speaks 1")
        );
        let (code, said) = first_words(&node, nobody(), &hello(&[1], ""), false).await;
        assert_eq!(
            (code, said.as_str()),
            (
                Code::Unauthenticated,
                "neither a certificate nor a token was shown"
            )
        );
        for dial in [certificate(), nobody()] {
            let (code, said) = first_words(&node, dial, &hello(&[1], "wrong"), false).await;
            assert_eq!(
                (code, said.as_str()),
                (Code::Unauthenticated, "the token is not known")
            );
        }
        let (code, said) = first_words(&node, certificate(), &open_publisher(0), false).await;
        assert_eq!(
            (code, said.as_str()),
            (
                Code::Protocol,
                "frame OPEN_PUBLISHER at stream offset 0, expected HELLO"
            )
        );
        let (code, said) = first_words(&node, certificate(), &any_frame(0x55, b"x"), false).await;
        assert_eq!(
            (code, said.as_str()),
            (Code::Protocol, "unknown frame type 0x55 at stream offset 0")
        );
        let garbage = frame(FrameType::Hello, &[0xff; 9]);
        let (code, said) = first_words(&node, certificate(), &garbage, false).await;
        assert_eq!(code, Code::Protocol);
        assert!(said.starts_with("HELLO frame at stream offset 0"), "{said}");
        let (code, said) = first_words(&node, certificate(), &hello(&[1], "")[..3], true).await;
        assert_eq!(code, Code::Protocol);
        assert!(
            said.starts_with("stream ended at offset 3 inside"),
            "{said}"
        );
        let long = any_frame(0x01, &vec![0; 70_000]);
        let (code, said) = first_words(&node, certificate(), &long, false).await;
        assert_eq!(
            (code, said.as_str()),
            (
                Code::TooLarge,
                "frame type 0x1 at stream offset 0 has 70000 bytes, limit 65536"
            )
        );
        // Frames of extensions are passed over, before HELLO too.
        let mut bytes = any_frame(0x2a, b"future").to_vec();
        bytes.extend_from_slice(&hello(&[9, 1], ""));
        let quic = certificate().quic(&node).await.unwrap();
        let mut control = RawStream::open(&quic).await;
        control.send(&bytes).await;
        assert_eq!(control.next().await.unwrap().kind, FrameType::Welcome);
        node.stop().await;
    });
}

#[test]
fn the_client_reports_the_refusal() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let error = node
            .connect(Identity::Token("wrong".to_owned()))
            .await
            .err()
            .unwrap();
        assert_eq!(error.code(), Some(Code::Unauthenticated));
        assert!(!error.is_retryable());
        let said = error.to_string();
        assert!(
            said.ends_with("refused the connection: unauthenticated: the token is not known"),
            "{said}"
        );
        node.stop().await;
    });
}

#[test]
fn the_control_stream_carries_nothing_more() {
    harness::run(async {
        let node = Setup::new("").start().await;
        for (bytes, name) in [
            (hello(&[1], ""), "HELLO"),
            (open_publisher(0), "OPEN_PUBLISHER"),
        ] {
            let mut raw = Raw::connect(&node).await;
            // Other streams of the connection end with it.
            let mut publisher = raw.publisher(0).await;
            raw.control.send(&bytes).await;
            let (code, said) = raw.control.error().await;
            assert_eq!(code, Code::Protocol);
            assert!(
                said.starts_with(&format!("frame {name} at stream offset ")),
                "{said}"
            );
            assert!(
                said.ends_with("expected nothing more on the control stream"),
                "{said}"
            );
            assert_eq!(closed(&raw.quic).await, (code, said));
            assert!(publisher.send.write_all(b"x").await.is_err());
        }
        // Its end is the connection's.
        let mut raw = Raw::connect(&node).await;
        raw.control.send.finish().unwrap();
        assert_eq!(closed(&raw.quic).await, (Code::Closed, String::new()));
        node.stop().await;
    });
}

/// Takes the 10 s that the node waits for a first frame.
#[test]
fn silence_is_ended_by_a_timeout() {
    harness::run(async {
        let node = Setup::new("").start().await;
        let no_stream = async {
            let quic = Dial::default().quic(&node).await.unwrap();
            closed(&quic).await
        };
        let half_a_hello = async {
            let quic = Dial::default().quic(&node).await.unwrap();
            let mut control = RawStream::open(&quic).await;
            control.send(&hello(&[1], "")[..2]).await;
            let said = control.error().await;
            assert_eq!(closed(&quic).await, said);
            said
        };
        let half_a_stream = async {
            let raw = Raw::connect(&node).await;
            let mut stream = raw.stream(&open_publisher(5)[..1]).await;
            let said = stream.error().await;
            // The connection lives.
            raw.publisher(0).await.close().await;
            said
        };
        let (no_stream, half_a_hello, half_a_stream) =
            tokio::join!(no_stream, half_a_hello, half_a_stream);
        assert_eq!(no_stream.0, Code::Timeout);
        assert_eq!(
            half_a_hello,
            (Code::Timeout, "no HELLO within 10 s".to_owned())
        );
        assert_eq!(
            half_a_stream,
            (Code::Timeout, "the stream says nothing".to_owned())
        );
        node.stop().await;
    });
}
