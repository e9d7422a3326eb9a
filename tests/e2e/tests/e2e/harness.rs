//! Nodes and clients for tests: a node in this process on ephemeral ports and a directory of its
//! own, with certificates that it made itself.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use waypost_client::{
    Client, Confirmed, ConnectError, ConnectOptions, Consumer, ConsumerOptions, Filter, Identity,
    Message, PublisherOptions, Range, Reconnect, SessionId, Source,
};
use waypost_host::Compiler;
use waypost_node::config::{self, Config, Manage, RoleConfig, TokenConfig};
use waypost_node::identity::token_sha256;
use waypost_node::{Node, Running, StartError, StartOptions};
use waypost_wire::control::{GroupState, QueueState, RouteState};

/// After this a test hangs. Nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// What every node of these tests begins with.
const PREAMBLE: &str = r##"
[node]
name = "e2e"
data_dir = "data"
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
threads = 2
plugin_workers = 1
drain_timeout = "200ms"
[log]
wal_file_bytes = "4MiB"
wal_bytes = "16MiB"
disk_reserve_bytes = 0
reserve_file_bytes = "4MiB"
[[role]]
name = "all"
publish = ["#"]
subscribe = ["#"]
consume = ["*"]
manage = ["read", "queues", "plugins", "routes", "node"]
[[certificate]]
common_name = "waypost-dev"
roles = ["all"]
"##;

/// Runs a test on a runtime of its own, and ends it when it hangs.
pub fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("the test waits for something that does not come")
    })
}

/// The choices of a run, not its timing; `WAYPOST_SEED` repeats them.
pub struct Dice(u64);

impl Dice {
    /// Says the seed.
    pub fn of_environment() -> Dice {
        let seed = match std::env::var("WAYPOST_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        };
        println!("WAYPOST_SEED={seed}");
        Dice(seed)
    }

    /// From 1 to `max` (splitmix64).
    pub fn pick(&mut self, max: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % max + 1
    }
}

/// Runs what blocks beside the clients of this test, which go on.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Says that a test did not run, also where the test runner keeps the output of those that pass.
pub fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {what}\n");
}

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// A configuration in a directory of its own.
pub struct Setup {
    pub config: Config,
    /// Keeps the directory; none where somebody else does.
    pub home: Option<TempDir>,
}

impl Setup {
    /// The usual node with these sections beside.
    pub fn new(sections: &str) -> Setup {
        let home = TempDir::with_prefix("waypost-e2e-").unwrap();
        let config = parse(home.path(), sections);
        Setup {
            config,
            home: Some(home),
        }
    }

    pub fn change(mut self, change: impl FnOnce(&mut Config)) -> Setup {
        change(&mut self.config);
        self
    }

    /// One more role, and a token with its name as the secret that has it.
    pub fn role(self, role: RoleConfig) -> Setup {
        self.change(|config| {
            config.tokens.push(TokenConfig {
                name: role.name.clone(),
                sha256: token_sha256(&role.name),
                roles: vec![role.name.clone()],
            });
            config.roles.push(role);
        })
    }

    pub fn data_dir(&self) -> &Path {
        &self.config.node.data_dir
    }

    pub async fn start(self) -> TestNode {
        match self.try_start().await {
            Ok(node) => node,
            Err((_, error)) => panic!("the node does not start: {error}"),
        }
    }

    /// Gives the setup back where the node does not start.
    pub async fn try_start(self) -> Result<TestNode, (Setup, StartError)> {
        let config = self.config.clone();
        match blocking(move || start(config)).await {
            Ok(running) => Ok(TestNode {
                setup: self,
                running,
            }),
            Err(error) => Err((self, error)),
        }
    }

    /// Why the node does not start.
    pub async fn refused(self) -> (Setup, String) {
        match self.try_start().await {
            Ok(_) => panic!("the node starts"),
            Err((setup, error)) => (setup, error.to_string()),
        }
    }
}

/// The usual node's configuration for the directory `home`.
pub fn parse(home: &Path, sections: &str) -> Config {
    let text = format!("{PREAMBLE}{sections}");
    let checked = config::check_text(&home.join("waypost.toml"), &text);
    match checked.config {
        Some(config) => config,
        None => panic!("{:#?}", checked.errors),
    }
}

/// Starts a node in this process.
pub fn start(config: Config) -> Result<Running, StartError> {
    let options = StartOptions {
        compiler: Compiler::InProcess,
        admin: true,
    };
    Node::start(config, options)
}

/// A node that runs.
pub struct TestNode {
    pub setup: Setup,
    pub running: Running,
}

impl TestNode {
    pub fn address(&self) -> SocketAddr {
        self.running.local_addr()
    }

    /// A file that the node's certificates were made in.
    pub fn tls(&self, name: &str) -> PathBuf {
        self.setup.data_dir().join("tls").join(name)
    }

    /// Connects with the client certificate that the node made, whose role allows everything.
    pub async fn client(&self) -> Client {
        let identity = certificate(self.setup.data_dir());
        self.connect(identity).await.unwrap()
    }

    pub async fn connect(&self, identity: Identity) -> Result<Client, ConnectError> {
        connect(self.address(), self.setup.data_dir(), identity).await
    }

    /// Drains and stops; gives the setup for another start, and how many clients were cut off.
    pub async fn stop(self) -> (Setup, usize) {
        let running = self.running;
        let cut_off = blocking(move || running.shutdown()).await;
        (self.setup, cut_off)
    }

    /// Stops and starts again on the same data.
    pub async fn restart(self) -> TestNode {
        let (setup, _) = self.stop().await;
        setup.start().await
    }
}

/// The client certificate that a node made in its data directory.
pub fn certificate(data_dir: &Path) -> Identity {
    Identity::Certificate {
        chain: Source::file(data_dir.join("tls/client.pem")),
        key: Source::file(data_dir.join("tls/client.key")),
    }
}

/// Connects once and never again: what ends, ends with an error.
pub async fn connect(
    address: SocketAddr,
    data_dir: &Path,
    identity: Identity,
) -> Result<Client, ConnectError> {
    let trust = Source::file(data_dir.join("tls/ca.pem"));
    let options = ConnectOptions::new(address.to_string(), trust)
        .identity(identity)
        .name("e2e")
        .reconnect(Reconnect::Never);
    Client::connect(options).await
}

/// `count` messages whose payloads are 0, 1, 2, …
pub fn messages(topic: &str, count: usize) -> Vec<Message> {
    (0..count)
        .map(|n| Message::new(topic, n.to_string()))
        .collect()
}

/// A role of a test.
pub fn role(name: &str, publish: &[&str], subscribe: &[&str], manage: &[Manage]) -> RoleConfig {
    let filters = |all: &[&str]| all.iter().map(|text| Filter::new(*text).unwrap()).collect();
    RoleConfig {
        name: name.to_owned(),
        publish: filters(publish),
        subscribe: filters(subscribe),
        consume: Vec::new(),
        manage: manage.to_vec(),
    }
}

/// A route to the queue `q`.
pub fn route(name: &str, from: &str, through: &[&str]) -> RouteState {
    RouteState {
        name: name.to_owned(),
        from: from.to_owned(),
        through: through.iter().map(|name| (*name).to_owned()).collect(),
        to: vec!["queue:q".to_owned()],
        ..RouteState::default()
    }
}

/// Publishes in order on a stream of its own, and waits for what becomes of each.
pub async fn publish(client: &Client, messages: &[Message]) -> Vec<Confirmed> {
    publish_with(client, PublisherOptions::default(), messages).await
}

/// The same on a stream with these options.
pub async fn publish_with(
    client: &Client,
    options: PublisherOptions,
    messages: &[Message],
) -> Vec<Confirmed> {
    let publisher = client.publisher(options).await.unwrap();
    let mut tickets = Vec::new();
    for message in messages {
        tickets.push(publisher.send(message).await.unwrap());
    }
    let mut confirmed = Vec::new();
    for ticket in tickets {
        confirmed.push(ticket.await.unwrap());
    }
    publisher.close().await.unwrap();
    confirmed
}

/// As [`publish`], and all must have been accepted without a word.
pub async fn publish_all(client: &Client, messages: &[Message]) {
    for confirmed in publish(client, messages).await {
        assert_eq!(confirmed.exception, None);
    }
}

/// A delivery that is held.
#[derive(Clone, Debug)]
pub struct Taken {
    pub session: SessionId,
    pub offset: u64,
    pub attempt: u32,
    pub message: Message,
}

impl Taken {
    /// The payload as text.
    pub fn text(&self) -> String {
        text(&self.message)
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.message.headers.iter().find(|(n, _)| n == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    pub fn range(&self) -> Range {
        Range::one(self.offset)
    }
}

pub fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}

pub async fn consumer(client: &Client, queue: &str, group: &str) -> Consumer {
    client
        .consumer(ConsumerOptions::new(queue, group))
        .await
        .unwrap()
}

/// Waits for `count` deliveries or more, and keeps them.
pub async fn take(consumer: &mut Consumer, count: usize) -> Vec<Taken> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = consumer
            .next()
            .await
            .unwrap()
            .expect("the consumer is open");
        for delivery in batch.iter() {
            taken.push(Taken {
                session: batch.session(),
                offset: delivery.offset,
                attempt: delivery.attempt,
                message: delivery.record().unwrap().to_message(),
            });
        }
    }
    taken
}

/// Takes exactly `count`, acks them, and waits until that is synced.
pub async fn drain(client: &Client, queue: &str, group: &str, count: usize) -> Vec<Taken> {
    let mut consumer = consumer(client, queue, group).await;
    let taken = take(&mut consumer, count).await;
    assert_eq!(taken.len(), count, "of queue {queue}");
    ack(&consumer, &taken);
    consumer.close().await.unwrap();
    taken
}

/// Acks what is held.
pub fn ack(consumer: &Consumer, taken: &[Taken]) {
    for one in taken {
        consumer.ack_ranges(one.session, vec![one.range()]).unwrap();
    }
}

pub async fn queue(client: &Client, name: &str) -> QueueState {
    client.queue_info(name).await.unwrap()
}

pub async fn group(client: &Client, queue: &str, group: &str) -> GroupState {
    let state = client.queue_info(queue).await.unwrap();
    let found = state.groups.into_iter().find(|g| g.name == group);
    found.expect("the group is there")
}

/// Every message that a queue holds, in order, with its offset.
pub async fn peek_all(client: &Client, queue: &str) -> Vec<(u64, Message)> {
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let peeked = client.queue_peek(queue, from, 1000).await.unwrap();
        if peeked.messages.is_empty() {
            return found;
        }
        for message in peeked.messages {
            let record = waypost_client::RecordRef::parse(&message.record).unwrap();
            found.push((message.offset, record.to_message()));
        }
        from = peeked.next_offset;
    }
}
