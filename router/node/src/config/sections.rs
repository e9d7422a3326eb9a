//! From a document to a [`Config`], section by section.
//!
//! Each function reads one kind of table and leaves a default where the file is wrong, so that
//! the next mistake is found too; the result counts only where no error was left.

use super::catalogue;
use super::files;
use super::names::{Kind, Names, is_name};
use super::plugins::plugin;
use super::queues::queue;
use super::read::{Document, Found, Table, start};
use super::supply;
use super::units::format_size;
use super::*;
use toml::de::DeTable;

const NAME_EXPECTED: &str = "a name of 1 to 128 letters, digits, '.', '_' or '-'";
const DESTINATION_EXPECTED: &str = "queue:NAME, topic:NAME or drop";

const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const TIB: u64 = 1 << 40;

/// What a group needs in a log file beside the largest payload: its largest batch, headers.
const GROUP_OVERHEAD_BYTES: u64 = 2 * MIB;

/// The configuration, its errors and its warnings.
pub(super) fn read(path: &Path, text: &str) -> (Config, Vec<ConfigError>, Vec<ConfigError>) {
    let doc = Document::new(path, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    // After a slip of syntax the rest of the document is a guess; its errors would mislead.
    for error in &errors {
        let problem = Problem::Syntax(error.message().to_owned());
        doc.error("", start(error.span()), problem);
    }
    let config = if errors.is_empty() {
        document(&doc, root.get_ref())
    } else {
        Config::default()
    };
    let (errors, warnings) = doc.into_problems();
    (config, errors, warnings)
}

fn document(doc: &Document<'_>, entries: &DeTable<'_>) -> Config {
    let mut root = Table::root(doc, entries);
    let names = &mut Names::default();
    let (node, data_dir_at) = section(&mut root, "node", node);
    let mut config = Config {
        node,
        tls: root.table("tls").and_then(tls),
        limits: section(&mut root, "limits", limits),
        ..Config::default()
    };
    config.node.data_dir = doc.directory().join(&config.node.data_dir);
    let group_bytes = config.limits.payload_bytes + GROUP_OVERHEAD_BYTES;
    config.log = section(&mut root, "log", |table| log(table, group_bytes));
    for table in root.tables("queue", "name") {
        config.queues.extend(queue(table, &config.limits, names));
    }
    if !config.queues.iter().any(|q| q.name == DEAD_LETTER) {
        let dead_letter = QueueConfig::new(DEAD_LETTER, &config.limits);
        config.queues.push(dead_letter);
    }
    config.supply = section(&mut root, "plugins", supply::plugins);
    for table in root.tables("registry", "host") {
        config.registries.extend(supply::registry(table, names));
    }
    for table in root.tables("plugin", "name") {
        config.plugins.extend(plugin(table, names));
    }
    config.routing = section(&mut root, "routing", |table| routing(table, names));
    for table in root.tables("route", "name") {
        config.routes.extend(route(table, names, &config.routes));
    }
    for table in root.tables("role", "name") {
        config.roles.extend(role(table, names));
    }
    for table in root.tables("token", "name") {
        config.tokens.extend(token(table, names));
    }
    let client_ca = config.tls.as_ref().is_none_or(|t| t.client_ca.is_some());
    for table in root.tables("certificate", "common_name") {
        config
            .certificates
            .extend(certificate(table, names, client_ca));
    }
    root.finish();
    names.resolve(doc, DEAD_LETTER);
    catalogue::check(doc, &config.node, data_dir_at, names);
    names.check_dead_letters(doc, &config.queues);
    names.warn_unused(doc, Kind::Plugin, "is in no route");
    names.warn_unused(doc, Kind::Role, "is held by no token and no certificate");
    if config.tokens.is_empty() && config.certificates.is_empty() {
        doc.warn(
            "",
            0,
            "no [[token]] and no [[certificate]]: nobody can connect",
        );
    }
    config
}

/// The section `[key]` where there is one, else its default.
fn section<'d, 'a, T: Default>(
    root: &mut Table<'d, 'a>,
    key: &'static str,
    read: impl FnOnce(Table<'d, 'a>) -> T,
) -> T {
    root.table(key).map(read).unwrap_or_default()
}

/// `[node]`, and where its data directory is named.
fn node(mut table: Table<'_, '_>) -> (NodeConfig, usize) {
    let default = NodeConfig::default();
    let doc = table.doc;
    let address = "an address such as \"127.0.0.1:9297\" or \"[::]:9297\"";
    let name = table.string("name");
    let data_dir = table.string("data_dir");
    let data_dir_at = data_dir.as_ref().map_or(table.at, |found| found.at);
    let admin_at = table.has("admin");
    let config = NodeConfig {
        name: name.map_or(default.name, |name| checked_name(doc, name).value),
        data_dir: data_dir.map_or(default.data_dir, |found| PathBuf::from(found.value)),
        listen: table.parsed("listen", default.listen, address, str::parse),
        admin: table.parsed("admin", default.admin, address, str::parse),
        admin_public: table.boolean("admin_public", false),
        threads: table.number("threads", 0, 0..=256) as usize,
        plugin_workers: table.number("plugin_workers", 0, 0..=256) as usize,
        drain_timeout: table.duration(
            "drain_timeout",
            default.drain_timeout,
            Duration::ZERO..=Duration::from_secs(3600),
        ),
    };
    if admin_at && !config.admin.ip().is_loopback() && !config.admin_public {
        let text = format!(
            "admin {} is not loopback, and what it shows needs no credentials: \
             set admin_public = true if that is meant",
            config.admin
        );
        table.error(table.at, Problem::Other(text));
    }
    table.finish();
    (config, data_dir_at)
}

fn tls(mut table: Table<'_, '_>) -> Option<TlsConfig> {
    let doc = table.doc;
    let (cert, key) = (table.required("cert"), table.required("key"));
    let client_ca = table.string("client_ca");
    table.finish();
    let (cert, key) = (cert?, key?);
    let join = |found: &Found<String>| doc.directory().join(&found.value);
    let config = TlsConfig {
        cert: join(&cert),
        key: join(&key),
        client_ca: client_ca.as_ref().map(join),
    };
    files::check_tls(doc, &config, &cert, &key, client_ca.as_ref());
    Some(config)
}

fn limits(mut table: Table<'_, '_>) -> LimitsConfig {
    let default = LimitsConfig::default();
    let config = LimitsConfig {
        payload_bytes: table.size(
            "payload_bytes",
            default.payload_bytes,
            KIB..=waypost_wire::PAYLOAD_BYTES_MAX as u64,
        ),
        connections: table.number("connections", default.connections as u64, 1..=1_000_000)
            as usize,
        streams_per_connection: table.number(
            "streams_per_connection",
            default.streams_per_connection.into(),
            1..=10_000,
        ) as u32,
        window_messages: table.number(
            "window_messages",
            default.window_messages.into(),
            1..=1 << 20,
        ) as u32,
        window_bytes: table.size("window_bytes", default.window_bytes, 64 * KIB..=TIB),
        subscriber_buffer_bytes: table.size(
            "subscriber_buffer_bytes",
            default.subscriber_buffer_bytes,
            64 * KIB..=TIB,
        ),
        subscriber_patience: table.duration(
            "subscriber_patience",
            default.subscriber_patience,
            Duration::ZERO..=Duration::from_secs(3600),
        ),
        cache_bytes: table.size("cache_bytes", default.cache_bytes, 0..=TIB),
        queue_bytes: table.size("queue_bytes", default.queue_bytes, MIB..=1024 * TIB),
    };
    if config.window_bytes < config.payload_bytes {
        let text = format!(
            "window_bytes {} is below payload_bytes {}: the largest message would never fit",
            format_size(config.window_bytes),
            format_size(config.payload_bytes)
        );
        table.error(table.at, Problem::Other(text));
    }
    table.finish();
    config
}

fn log(mut table: Table<'_, '_>, group_bytes: u64) -> LogConfig {
    let default = LogConfig::default();
    let config = LogConfig {
        wal_file_bytes: table.size("wal_file_bytes", default.wal_file_bytes, MIB..=1024 * MIB),
        wal_bytes: table.size("wal_bytes", default.wal_bytes, 4 * MIB..=TIB),
        segment_bytes: table.size("segment_bytes", default.segment_bytes, MIB..=1024 * MIB),
        ack_sync: table.duration(
            "ack_sync",
            default.ack_sync,
            Duration::from_millis(1)..=Duration::from_secs(1),
        ),
        disk_reserve_bytes: table.size("disk_reserve_bytes", default.disk_reserve_bytes, 0..=TIB),
        reserve_file_bytes: table.size("reserve_file_bytes", default.reserve_file_bytes, 0..=TIB),
    };
    let file = config.wal_file_bytes;
    if !file.is_multiple_of(4096) {
        let text = format!("wal_file_bytes {file} is not a multiple of 4096");
        table.error(table.at, Problem::Other(text));
    }
    if file < group_bytes {
        let text = format!(
            "wal_file_bytes {} is below {}, which a group with the largest payload needs \
             (payload_bytes + {})",
            format_size(file),
            format_size(group_bytes),
            format_size(GROUP_OVERHEAD_BYTES)
        );
        table.error(table.at, Problem::Other(text));
    }
    if config.wal_bytes < 3 * file {
        let text = format!(
            "wal_bytes {} is below three times wal_file_bytes {}: one file is written, one \
             emptied, one made ready",
            format_size(config.wal_bytes),
            format_size(file)
        );
        table.error(table.at, Problem::Other(text));
    }
    table.finish();
    config
}

fn route(
    mut table: Table<'_, '_>,
    names: &mut Names,
    earlier: &[RouteConfig],
) -> Option<RouteConfig> {
    let doc = table.doc;
    let name = declared_name(&mut table, "name", Kind::Route, names);
    let from = table.required("from");
    let filter = from.as_ref().and_then(|from| filter(doc, from));
    let mut through = Vec::new();
    for plugin in table.strings("through") {
        through.push(plugin.value.clone());
        names.refer(Kind::Plugin, plugin);
    }
    let mut to = Vec::new();
    if !table.has("to") {
        let expected = format!("expected an array of {DESTINATION_EXPECTED}");
        let text = format!("missing key \"to\", {expected}");
        table.error(table.at, Problem::Other(text));
    }
    for found in table.strings("to") {
        to.extend(destination(doc, found, names));
    }
    let is_final = table.boolean("final", false);
    if let (Some(from), Some(filter)) = (&from, &filter)
        && let Some(before) = earlier.iter().find(|r| r.is_final && r.from.covers(filter))
    {
        let text = format!(
            "never reached: route {:?} is final and takes all of {filter}",
            before.name
        );
        doc.warn(&from.place, from.at, text);
    }
    table.finish();
    Some(RouteConfig {
        name: name?.value,
        from: filter?,
        through,
        to,
        is_final,
    })
}

fn routing(mut table: Table<'_, '_>, names: &mut Names) -> RoutingConfig {
    let doc = table.doc;
    let found = table.string("unroutable");
    table.finish();
    let Some(found) = found else {
        return RoutingConfig::default();
    };
    let unroutable = match found.value.as_str() {
        "accept" => Unroutable::Accept,
        "refuse" => Unroutable::Refuse,
        text => match text.strip_prefix("queue:").filter(|name| is_name(name)) {
            Some(name) => {
                let value = name.to_owned();
                let unroutable = Unroutable::Queue(value.clone());
                names.refer(Kind::Queue, Found { value, ..found });
                unroutable
            }
            None => {
                let expected = "\"accept\", \"refuse\" or \"queue:NAME\"";
                let problem = Problem::unexpected(format!("{text:?}"), expected);
                doc.error(&found.place, found.at, problem);
                Unroutable::Accept
            }
        },
    };
    RoutingConfig { unroutable }
}

fn destination(doc: &Document<'_>, found: Found<String>, names: &mut Names) -> Option<Destination> {
    match parse_destination(&found.value) {
        Ok(destination) => {
            if let Destination::Queue(name) = &destination {
                let value = name.clone();
                names.refer(Kind::Queue, Found { value, ..found });
            }
            Some(destination)
        }
        Err(problem) => {
            doc.error(&found.place, found.at, problem);
            None
        }
    }
}

/// `queue:NAME`, `topic:NAME` or `drop`; whether the queue is there is for others to say.
pub(crate) fn parse_destination(text: &str) -> Result<Destination, Problem> {
    Err(match text.split_once(':') {
        None if text == "drop" => return Ok(Destination::Drop),
        Some(("queue", name)) if is_name(name) => return Ok(Destination::Queue(name.to_owned())),
        Some(("queue", name)) => Problem::unexpected(format!("{name:?}"), NAME_EXPECTED),
        Some(("topic", topic)) => match waypost_wire::topic::parse_topic(topic.as_bytes()) {
            Ok(_) if waypost_wire::topic::is_reserved(topic) => Problem::Other(format!(
                "topic {topic:?} begins with '$': such topics are the router's own"
            )),
            Ok(_) => return Ok(Destination::Topic(topic.to_owned())),
            Err(error) => Problem::Other(format!("topic {topic:?} {error}")),
        },
        Some(("peer", _)) => Problem::Other(format!(
            "{text:?}: peer: is not offered by this version, expected {DESTINATION_EXPECTED}"
        )),
        _ => Problem::Unknown {
            what: "destination",
            found: text.to_owned(),
            hint: format!("expected {DESTINATION_EXPECTED}"),
        },
    })
}

fn role(mut table: Table<'_, '_>, names: &mut Names) -> Option<RoleConfig> {
    let doc = table.doc;
    let name = declared_name(&mut table, "name", Kind::Role, names);
    let publish = filters(&mut table, "publish");
    let subscribe = filters(&mut table, "subscribe");
    let mut consume = Vec::new();
    for glob in table.strings("consume") {
        if is_name(&glob.value.replace('*', "x")) {
            consume.push(glob.value);
        } else {
            let expected = "the name of a queue, in which '*' stands for any characters";
            let problem = Problem::unexpected(format!("{:?}", glob.value), expected);
            doc.error(&glob.place, glob.at, problem);
        }
    }
    let manage = manage(&mut table);
    table.finish();
    Some(RoleConfig {
        name: name?.value,
        publish,
        subscribe,
        consume,
        manage,
    })
}

/// `true` for everything, or a list of words.
fn manage(table: &mut Table<'_, '_>) -> Vec<Manage> {
    if table.is_boolean("manage") {
        let all = table.boolean("manage", false);
        return if all {
            Manage::ALL.to_vec()
        } else {
            Vec::new()
        };
    }
    let mut allowed = Vec::new();
    for word in table.strings("manage") {
        match Manage::ALL.iter().find(|m| m.as_str() == word.value) {
            Some(manage) => allowed.push(*manage),
            None => {
                let words = Manage::ALL.map(Manage::as_str);
                let problem = Problem::unknown("part", &word.value, &words);
                table.doc.error(&word.place, word.at, problem);
            }
        }
    }
    allowed
}

fn token(mut table: Table<'_, '_>, names: &mut Names) -> Option<TokenConfig> {
    let doc = table.doc;
    let name = declared_name(&mut table, "name", Kind::Token, names);
    let (sha256, file) = (table.string("token_sha256"), table.string("token_file"));
    let roles = roles(&mut table, names);
    let sha256 = match (sha256, file) {
        (Some(hex), None) => files::parse_sha256(doc, &hex),
        (None, Some(file)) => files::token_sha256(doc, &file),
        (Some(_), Some(file)) => {
            let text = "has both token_sha256 and token_file, expected one of them".to_owned();
            table.error(file.at, Problem::Other(text));
            None
        }
        (None, None) => {
            if !table.has("token_sha256") && !table.has("token_file") {
                let text = "missing key \"token_sha256\" or \"token_file\"".to_owned();
                table.error(table.at, Problem::Other(text));
            }
            None
        }
    };
    table.finish();
    Some(TokenConfig {
        name: name?.value,
        sha256: sha256?,
        roles,
    })
}

fn certificate(
    mut table: Table<'_, '_>,
    names: &mut Names,
    client_ca: bool,
) -> Option<CertificateConfig> {
    let doc = table.doc;
    let common_name = table.required("common_name");
    if let Some(name) = &common_name {
        names.declare(doc, Kind::Certificate, name);
        if name.value.is_empty() || name.value.len() > NAME_BYTES_MAX {
            let found = format!("{} bytes", name.value.len());
            let problem = Problem::unexpected(found, "a common name of 1 to 128 bytes");
            doc.error(&name.place, name.at, problem);
        }
    }
    let roles = roles(&mut table, names);
    if !client_ca {
        let text = "can never be shown: [tls] has no client_ca that signs it".to_owned();
        table.error(table.at, Problem::Other(text));
    }
    table.finish();
    Some(CertificateConfig {
        common_name: common_name?.value,
        roles,
    })
}

fn roles(table: &mut Table<'_, '_>, names: &mut Names) -> Vec<String> {
    if !table.has("roles") {
        let text = "missing key \"roles\": without one its holder may do nothing".to_owned();
        table.error(table.at, Problem::Other(text));
    }
    let mut roles = Vec::new();
    for role in table.strings("roles") {
        roles.push(role.value.clone());
        names.refer(Kind::Role, role);
    }
    roles
}

pub(super) fn filters(table: &mut Table<'_, '_>, key: &'static str) -> Vec<Filter> {
    let found = table.strings(key);
    found.iter().filter_map(|f| filter(table.doc, f)).collect()
}

fn filter(doc: &Document<'_>, found: &Found<String>) -> Option<Filter> {
    match Filter::new(found.value.as_str()) {
        Ok(filter) => Some(filter),
        Err(error) => {
            let text = format!("filter {:?} {error}", found.value);
            doc.error(&found.place, found.at, Problem::Other(text));
            None
        }
    }
}

fn checked_name(doc: &Document<'_>, name: Found<String>) -> Found<String> {
    if !is_name(&name.value) {
        let problem = Problem::unexpected(format!("{:?}", name.value), NAME_EXPECTED);
        doc.error(&name.place, name.at, problem);
    }
    name
}

pub(super) fn declared_name(
    table: &mut Table<'_, '_>,
    key: &'static str,
    kind: Kind,
    names: &mut Names,
) -> Option<Found<String>> {
    let name = checked_name(table.doc, table.required(key)?);
    names.declare(table.doc, kind, &name);
    Some(name)
}
