//! A real server over loopback, asked by hand.

use super::*;
use crate::alarms::AlarmKind;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Fake {
    phase: Phase,
    alarms: Mutex<Vec<Alarm>>,
    metrics: Metrics,
}

impl NodeView for Fake {
    fn phase(&self) -> Phase {
        self.phase
    }
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    fn node(&self) -> NodeStat {
        NodeStat {
            name: "plant-3".to_owned(),
            version: "0.1.0".to_owned(),
            phase: self.phase,
            listen: "127.0.0.1:9297".to_owned(),
            uptime_ms: 5,
            resident_bytes: None,
        }
    }
    fn queues(&self) -> Vec<QueueStat> {
        vec![QueueStat {
            name: "alerts".to_owned(),
            messages: 3,
            ..QueueStat::default()
        }]
    }
    fn plugins(&self) -> Vec<PluginStat> {
        vec![PluginStat::default()]
    }
    fn routes(&self) -> Vec<RouteStat> {
        vec![RouteStat {
            is_final: true,
            ..RouteStat::default()
        }]
    }
    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.lock().unwrap().clone()
    }
    fn connections(&self) -> Vec<ConnectionStat> {
        vec![ConnectionStat::default()]
    }
}

fn fake(phase: Phase, alarms: &[(AlarmKind, &str)]) -> Fake {
    let alarm = |(kind, text): &(AlarmKind, &str)| Alarm {
        kind: *kind,
        subject: "alerts".to_owned(),
        text: (*text).to_owned(),
        since_ms: 1,
    };
    Fake {
        phase,
        alarms: Mutex::new(alarms.iter().map(alarm).collect()),
        metrics: Metrics::default(),
    }
}

/// Sends `request` to a real server; gives all that comes back.
fn exchange(view: Fake, request: &[u8]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = NodeConfig {
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ..NodeConfig::default()
        };
        let listener = bind(&config).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(view)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is the server's way to refuse the rest of a request.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    })
}

fn get(view: Fake, path: &str) -> (u16, Value) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = exchange(view, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn every_path_answers() {
    for path in PATHS {
        let path = path.replace("NAME", "alerts");
        let (status, body) = get(fake(Phase::Running, &[]), &path);
        assert_eq!(status, 200, "{path}");
        assert_eq!(body.is_null(), path == "/metrics", "{path}");
    }
    let (_, queue) = get(fake(Phase::Running, &[]), "/v1/queues/alerts");
    assert_eq!(queue["messages"], 3);
    let (_, routes) = get(fake(Phase::Running, &[]), "/v1/routes");
    assert_eq!(routes["routes"][0]["final"], true);
}

#[test]
fn what_is_not_there_says_what_is() {
    let (status, body) = get(fake(Phase::Running, &[]), "/v2");
    assert_eq!(
        (status, &body["error"]),
        (404, &json!("no such path \"/v2\""))
    );
    assert_eq!(body["paths"], json!(PATHS));
    let (status, body) = get(fake(Phase::Running, &[]), "/v1/queues/none");
    assert_eq!((status, &body["error"]), (404, &json!("no queue \"none\"")));
}

#[test]
fn readiness_has_reasons() {
    let quarantined = (AlarmKind::QuarantinedData, "3 records set aside");
    let plugin = (AlarmKind::PluginOutOfService, "trapped");
    let cases = [
        (
            fake(Phase::Starting, &[]),
            503,
            json!(["starting"]),
            json!([]),
        ),
        (
            fake(Phase::Draining, &[]),
            503,
            json!(["draining"]),
            json!([]),
        ),
        (
            fake(Phase::Running, &[quarantined]),
            503,
            json!(["alerts: 3 records set aside"]),
            json!([]),
        ),
        (
            fake(Phase::Running, &[plugin]),
            200,
            json!([]),
            json!(["alerts: trapped"]),
        ),
    ];
    for (view, status, reasons, details) in cases {
        let (got, body) = get(view, "/readyz");
        assert_eq!(got, status, "{body}");
        assert_eq!((&body["reasons"], &body["details"]), (&reasons, &details));
        assert_eq!(body["ready"], status == 200);
    }
}

#[test]
fn read_only() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = format!(
            "{method} /v1/queues/alerts HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-length: 0\r\n\r\n"
        );
        let answer = exchange(fake(Phase::Running, &[]), request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("\r\nallow: GET, HEAD\r\n"), "{answer}");
    }
}

#[test]
fn head_has_the_head_only() {
    let request = b"HEAD /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = exchange(fake(Phase::Running, &[]), request);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-length: 14\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn too_long_a_head_is_refused() {
    let mut request = b"GET /livez HTTP/1.1\r\nhost: ".to_vec();
    request.resize(HEAD_BYTES_MAX * 2, b'x');
    let answer = exchange(fake(Phase::Running, &[]), &request);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
}

#[test]
fn rubbish_is_refused() {
    let answer = exchange(fake(Phase::Running, &[]), b"\x16\x03\x01 rubbish\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn other_addresses_must_be_meant() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut config = NodeConfig {
        admin: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        ..NodeConfig::default()
    };
    let refused = runtime.block_on(bind(&config)).unwrap_err();
    assert!(matches!(refused, AdminError::Public(_)), "{refused}");
    config.admin_public = true;
    assert!(runtime.block_on(bind(&config)).is_ok());
}
