//! Shaking hands, being refused, GOAWAY, and management.

use std::time::Duration;

use waypost_client::wire::control::{
    self, Done, GoAway, Manage, ManageRequest, Managed, ManagedResponse,
};
use waypost_client::wire::{FrameType, WireError, data};
use waypost_client::{
    Client, Code, ConnectError, ConnectOptions, ConsumerOptions, Error, Event, Identity, Reconnect,
};

use crate::fake::{FakeNode, message, welcome};

#[tokio::test]
async fn hello_says_who_and_welcome_is_kept() {
    let node = FakeNode::start();
    let options = node
        .options()
        .name("press-4")
        .identity(Identity::Token("t".into()));
    let (client, ()) = tokio::join!(Client::connect(options), async {
        let (mut session, hello) = node.greeted().await;
        assert_eq!((hello.versions, hello.token), (vec![1], "t".to_owned()));
        assert!(hello.client.starts_with("press-4 (waypost-client/"));
        session
            .control
            .put(control::bytes_of(FrameType::Welcome, &welcome()))
            .await;
        std::mem::forget(session);
    });
    assert_eq!(client.unwrap().welcome().await.unwrap().node, "fake");
}

#[tokio::test]
async fn refused_with_the_nodes_code_and_text() {
    let node = FakeNode::start();
    let (refused, session) = tokio::join!(Client::connect(node.options()), async {
        let (mut session, _) = node.greeted().await;
        let error = control::Error::new(Code::Unauthenticated, "no such token");
        session
            .control
            .put(control::bytes_of(FrameType::Error, &error))
            .await;
        session
    });
    drop(session);
    let error = refused.err().unwrap();
    assert_eq!(error.code(), Some(Code::Unauthenticated));
    assert!(!error.is_retryable());
    let text = error.to_string();
    assert!(
        text.ends_with("refused the connection: unauthenticated: no such token"),
        "{text}"
    );
}

#[tokio::test]
async fn refused_by_the_connections_close_alone() {
    let node = FakeNode::start();
    let (refused, ()) = tokio::join!(Client::connect(node.options()), async {
        let (session, _) = node.greeted().await;
        session
            .quic
            .close((Code::Busy as u32).into(), b"1024 connections");
    });
    let error = refused.err().unwrap();
    assert!(error.is_retryable());
    assert!(
        error.to_string().ends_with("busy: 1024 connections"),
        "{error}"
    );
}

#[tokio::test]
async fn no_common_protocol_and_no_trust_are_handshake_errors() {
    let other = FakeNode::with_alpn(b"h3");
    let (failed, _) = tokio::join!(Client::connect(other.options()), other.failed());
    assert!(
        matches!(failed, Err(ConnectError::Handshake { .. })),
        "{:?}",
        failed.err()
    );
    let node = FakeNode::start();
    let wrong = node.options().server_name("elsewhere");
    let (failed, _) = tokio::join!(Client::connect(wrong), node.failed());
    let error = failed.err().unwrap();
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_malformed_welcome_names_frame_and_offset() {
    let node = FakeNode::start();
    let (failed, session) = tokio::join!(Client::connect(node.options()), async {
        let (mut session, _) = node.greeted().await;
        session
            .control
            .put(vec![0x20, 1, 0, 0x02, 2, 0x0a, 9])
            .await;
        session
    });
    let error = failed.err().unwrap();
    let ConnectError::Protocol { error, .. } = error else {
        panic!("{error}");
    };
    assert!(
        error
            .to_string()
            .starts_with("WELCOME frame at stream offset 3: "),
        "{error}"
    );
    assert!(matches!(
        session.quic.closed().await,
        quinn::ConnectionError::ApplicationClosed(close)
            if close.error_code == (Code::Protocol as u32).into()
    ));
}

#[tokio::test]
async fn goaway_finishes_then_connects_again() {
    let node = FakeNode::start();
    let (client, mut session) = node.pair(node.options()).await;
    let mut events = client.events();
    let publisher = async { client.publisher(Default::default()).await.unwrap() };
    let (publisher, mut stream) = tokio::join!(publisher, session.publisher(9));
    let first = publisher.send(&message(1)).await.unwrap();
    stream.published(1, 1).await;
    let goaway = GoAway {
        reason: "upgrade".into(),
        grace_ms: 60_000,
    };
    session
        .control
        .put(control::bytes_of(FrameType::GoAway, &goaway))
        .await;
    // The publisher finishes its stream, is settled, and goes on at the next connection.
    assert_eq!(stream.frame().await, None);
    let second = publisher.send(&message(2)).await.unwrap();
    stream.confirm(1, 9, vec![]).await;
    stream.put(data::bytes_of(FrameType::Closed, &[])).await;
    assert_eq!(first.await.unwrap().sequence, 1);
    let session = node.welcomed().await;
    let mut stream = session.publisher(9).await;
    assert_eq!(stream.published(1, 1).await, ["m2"]);
    stream.confirm(1, 9, vec![]).await;
    assert_eq!(second.await.unwrap().sequence, 2);
    assert!(matches!(events.recv().await.unwrap(), Event::GoAway { .. }));
    assert!(matches!(events.recv().await.unwrap(), Event::Retry { .. }));
    assert!(matches!(
        events.recv().await.unwrap(),
        Event::Connected { .. }
    ));
}

#[tokio::test]
async fn without_reconnect_a_lost_connection_is_the_end() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options().reconnect(Reconnect::Never)).await;
    let mut events = client.events();
    session.crash();
    while !matches!(events.recv().await.unwrap(), Event::Failed { .. }) {}
    let error = client.queue_list().await.unwrap_err();
    assert!(
        error.has_no_side_effects() && error.is_retryable(),
        "{error}"
    );
    assert!(error.to_string().contains("connection lost"), "{error}");
}

#[tokio::test]
async fn management_is_one_stream_a_request() {
    let node = FakeNode::start();
    let (client, session) = node.pair(node.options()).await;
    let answers = async {
        for response in [
            Some(ManagedResponse::Done(Done {
                count: 7,
                ..Done::default()
            })),
            Some(ManagedResponse::Done(Done::default())),
            None,
        ] {
            let (mut stream, first) = session.stream().await;
            let manage: Manage = control::parse(&first).unwrap();
            assert!(manage.request.is_some());
            assert_eq!(stream.frame().await, None, "the client finishes its half");
            let Some(response) = response else {
                assert!(matches!(manage.request, Some(ManageRequest::QueueInfo(_))));
                let error = control::Error::new(Code::NotFound, "queue 'q'");
                stream
                    .put(control::bytes_of(FrameType::Error, &error))
                    .await;
                continue;
            };
            let managed = Managed {
                response: Some(response),
            };
            stream
                .put(control::bytes_of(FrameType::Managed, &managed))
                .await;
        }
    };
    let asked = async {
        assert_eq!(client.queue_purge("q").await.unwrap(), 7);
        let error = client.queue_list().await.unwrap_err();
        assert!(
            matches!(&error, Error::Protocol(WireError::Malformed { what, .. })
                if what == "answers Done, expected QueueList"),
            "{error}"
        );
        let error = client.queue_info("q").await.unwrap_err();
        assert_eq!(error.to_string(), "refused: not-found: queue 'q'");
    };
    tokio::join!(answers, asked);
}

#[tokio::test]
async fn a_silent_node_is_a_timeout() {
    let node = FakeNode::start();
    let options = node.options().handshake_timeout(Duration::from_millis(50));
    let (failed, session) = tokio::join!(Client::connect(options), node.greeted());
    assert!(matches!(failed, Err(ConnectError::Timeout { ms: 50, .. })));
    drop(session);
}

#[tokio::test]
async fn localhost_is_found_on_whichever_address_serves() {
    let node = FakeNode::start();
    let options = node.options_at(format!("localhost:{}", node.address.port()));
    let (client, session) = node.pair(options).await;
    assert!(client.rtt().is_some());
    session.crash();
}

/// Applications spawn these on runtimes with many threads.
#[test]
fn futures_are_send() {
    fn send<T: Send>(_: impl FnOnce(&'static Client, ConnectOptions) -> T) {}
    fn sync<T: Send + Sync>() {}
    sync::<Client>();
    sync::<waypost_client::Publisher>();
    sync::<waypost_client::Consumer>();
    sync::<waypost_client::Batch>();
    send(|_, options| Client::connect(options));
    send(|client, _| client.publisher(Default::default()));
    send(|client, _| client.consumer(ConsumerOptions::new("q", "g")));
    send(|client, _| async {
        let publisher = client.publisher(Default::default()).await?;
        publisher.send(&message(1)).await?.await?;
        let mut consumer = client.consumer(ConsumerOptions::new("q", "g")).await?;
        consumer.next().await?;
        client.subscriber(&[], "").await?.next().await?;
        client.node_info().await
    });
}
