//! Each kind of mistake, with the exact words that a person reads.

use super::*;
use std::fs;

const WHOLE: &str = r##"
[node]
name = "plant-3"
data_dir = "data"
listen = "0.0.0.0:9297"
admin = "127.0.0.1:9298"
threads = 2
drain_timeout = "30s"

[limits]
payload_bytes = "4MiB"
window_bytes = 8388608

[log]
wal_file_bytes = "32MiB"
wal_bytes = "128MiB"
ack_sync = "5ms"

[[queue]]
name = "alerts"
bytes_max = "2GiB"
ack_deadline = "1m"
from = ["alerts/#"]
[[queue.group]]
name = "desk"
kind = "key"
filters = ["alerts/eu/#"]
start = "end"
[[queue.group]]
name = "archive"

[[queue]]
name = "recent"
durability = "memory"
messages_max = 1_000

[[plugin]]
name = "strong"
builtin = "quake-magnitude"
role = "filter"
on_error = "reject"
[plugin.settings]
min-magnitude = 4.5
boxes = [{ name = "coast" }, { name = "island" }]
deep = true
[plugin.limits]
memory_bytes = "8MiB"

[[route]]
name = "strong"
from = "quakes/+/raw"
through = ["strong"]
to = ["queue:alerts", "queue:dead-letter", "topic:quakes/strong", "drop"]
final = true

[[role]]
name = "sensor"
publish = ["quakes/#"]
manage = ["read"]

[[role]]
name = "desk"
subscribe = ["#"]
consume = ["alert*"]
manage = true

[[token]]
name = "press"
token_sha256 = "E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
roles = ["sensor"]

[[certificate]]
common_name = "desk-1"
roles = ["desk", "sensor"]
"##;

fn check_str(text: &str) -> Checked {
    check_text(Path::new("waypost.toml"), text)
}

fn shown(problems: &[ConfigError]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_file() {
    let checked = check_str(WHOLE);
    assert_eq!(shown(&checked.errors), [""; 0]);
    assert_eq!(shown(&checked.warnings), [""; 0]);
    let config = checked.config.unwrap();
    assert_eq!(config.node.name, "plant-3");
    assert_eq!(config.node.data_dir, Path::new("data"));
    assert_eq!(config.node.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.limits.payload_bytes, 4 << 20);
    assert_eq!(config.limits.window_bytes, 8 << 20);
    assert_eq!(config.log.ack_sync, Duration::from_millis(5));
    let names: Vec<&str> = config.queues.iter().map(|q| q.name.as_str()).collect();
    assert_eq!(names, ["alerts", "recent", DEAD_LETTER]);
    assert_eq!(config.queues[0].settings.bytes_max, 2 << 30);
    assert_eq!(config.queues[0].settings.from[0].as_str(), "alerts/#");
    let [desk, archive] = config.queues[0].groups.as_slice() else {
        panic!("{:?}", config.queues[0].groups);
    };
    assert_eq!((desk.name.as_str(), desk.start), ("desk", Start::End));
    assert_eq!(desk.options.kind.as_str(), "key");
    assert_eq!(desk.options.filters[0].as_str(), "alerts/eu/#");
    assert_eq!(archive.start, Start::Beginning);
    assert_eq!(archive.options, GroupOptions::default());
    assert_eq!(
        config.queues[1].settings.durability,
        waypost_core::queue::Durability::Memory
    );
    assert_eq!(config.queues[1].settings.messages_max, Some(1000));
    let plugin = config.plugin("strong").unwrap();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let settings = [
        pair("min-magnitude", "4.5"),
        pair("boxes.0.name", "coast"),
        pair("boxes.1.name", "island"),
        pair("deep", "true"),
    ];
    assert_eq!(plugin.settings, settings);
    assert_eq!(plugin.on_error, OnError::Reject);
    assert_eq!(plugin.role, Some(waypost_host::Role::Filter));
    assert_eq!(plugin.limits.memory_bytes, 8 << 20);
    let route = &config.routes[0];
    let to: Vec<String> = route.to.iter().map(ToString::to_string).collect();
    let want = [
        "queue:alerts",
        "queue:dead-letter",
        "topic:quakes/strong",
        "drop",
    ];
    assert_eq!(to, want);
    assert!(route.is_final);
    assert_eq!(config.roles[0].manage, [Manage::Read]);
    assert_eq!(config.roles[1].manage, Manage::ALL);
    assert_eq!(config.tokens[0].sha256[..2], [0xe3, 0xb0]);
    assert_eq!(config.certificates[0].roles, ["desk", "sensor"]);
}

#[test]
fn nothing_is_a_configuration_too() {
    let checked = check_str("");
    let config = checked.config.unwrap();
    let dead_letter = QueueConfig::new(DEAD_LETTER, &LimitsConfig::default());
    let want = Config {
        queues: vec![dead_letter],
        ..Config::default()
    };
    assert_eq!(config, want);
    assert_eq!(
        shown(&checked.warnings),
        ["waypost.toml:1:1: no [[token]] and no [[certificate]]: nobody can connect"]
    );
}

/// Text of the file, and the errors without `waypost.toml:`.
const MISTAKES: &[(&str, &[&str])] = &[
    // Syntax.
    (
        "[node]\nname = ",
        &["2:8: not TOML: string values must be quoted, expected literal string"],
    ),
    (
        "[node]\nname = 'a'\nname = 'b'\n",
        &["3:1: not TOML: duplicate key"],
    ),
    // Keys.
    (
        "[nod]\n",
        &["1:2: unknown key \"nod\", did you mean \"node\"?"],
    ),
    (
        "[node]\ntelephone = '127.0.0.1:1'\n",
        &[
            "2:1: [node]: unknown key \"telephone\", expected admin, admin_public, data_dir, \
             drain_timeout, listen, name, plugin_workers or threads",
        ],
    ),
    (
        "[limits]\npayload_byte = 5\n",
        &["2:1: [limits]: unknown key \"payload_byte\", did you mean \"payload_bytes\"?"],
    ),
    (
        "[[queue]]\nbytes_max = '1GiB'\n",
        &["1:1: [[queue]] number 1: missing key \"name\""],
    ),
    // Groups of a queue.
    (
        "[[queue]]\nname = 'q'\npriorities = 2\n[[queue.group]]\nname = 'a'\nkind = 'odd'\n\
         start = 'now'\nfilters = ['a/#/b']\n[[queue.group]]\nname = 'a'\nkind = 'key'\n",
        &[
            "6:8: [[queue]] \"q\" group \"a\" kind: found \"odd\", expected \"shared\", \
             \"exclusive\" or \"key\"",
            "7:9: [[queue]] \"q\" group \"a\" start: found \"now\", expected \"beginning\" or \
             \"end\"",
            "8:12: [[queue]] \"q\" group \"a\" filters[0]: filter \"a/#/b\" has '#' at byte 2: \
             '+' must fill a level and '#' must fill the last",
            "9:1: [[queue]] \"q\" group \"a\": the order of a key and the queue's priorities \
             exclude each other",
            "10:8: [[queue]] \"q\" group \"a\" name: duplicate group \"a\", first on line 5",
        ],
    ),
    (
        "[[queue]]\nname = 'q'\ngroup = 'a'\n[[queue]]\nname = 'r'\n[[queue.group]]\n\
         filter = ['a']\n",
        &[
            "3:9: [[queue]] \"q\" group: found \"a\", expected tables [[queue]] \"q\" group",
            "6:1: [[queue]] \"r\" group number 1: missing key \"name\"",
            "7:1: [[queue]] \"r\" group number 1: unknown key \"filter\", did you mean \"filters\"?",
        ],
    ),
    // Types and ranges; several at once.
    (
        "node = 5\nqueue = true\n[limits]\npayload_bytes = true\nconnections = 'many'\n\
         subscriber_patience = 5\ncache_bytes = '64 parsecs'\nwindow_messages = 0\n",
        &[
            "1:8: node: found 5, expected a table [node]",
            "2:9: queue: found true, expected tables [[queue]]",
            "4:17: [limits] payload_bytes: found true, expected a size such as \"64MiB\" or a \
             whole number of bytes",
            "5:15: [limits] connections: found \"many\", expected a whole number from 1 to 1000000",
            "6:23: [limits] subscriber_patience: found 5, expected a duration such as \"500ms\", \
             \"30s\", \"5m\", \"2h\" or \"1d\"",
            "7:15: [limits] cache_bytes: found \"64 parsecs\", expected a size such as \"64MiB\" \
             or a whole number of bytes",
            "8:19: [limits] window_messages: found 0, expected a whole number from 1 to 1048576",
        ],
    ),
    (
        "[limits]\npayload_bytes = '65MiB'\nwindow_bytes = '1GiB'\n",
        &["2:17: [limits] payload_bytes: found \"65MiB\", expected a size from 1KiB to 64MiB"],
    ),
    (
        "[limits]\nwindow_bytes = '512KiB'\n",
        &[
            "1:1: [limits]: window_bytes 512KiB is below payload_bytes 1MiB: the largest message \
             would never fit",
        ],
    ),
    (
        "[log]\nack_sync = '0ms'\n",
        &["2:12: [log] ack_sync: found \"0ms\", expected a duration from 1ms to 1s"],
    ),
    (
        "[log]\nwal_file_bytes = '2MiB'\n",
        &[
            "1:1: [log]: wal_file_bytes 2MiB is below 3MiB, which a group with the largest \
             payload needs (payload_bytes + 2MiB)",
        ],
    ),
    (
        "[log]\nwal_file_bytes = 16777217\nwal_bytes = '20MiB'\n",
        &[
            "1:1: [log]: wal_file_bytes 16777217 is not a multiple of 4096",
            "1:1: [log]: wal_bytes 20MiB is below three times wal_file_bytes 16777217B: one file \
             is written, one emptied, one made ready",
        ],
    ),
    (
        "[node]\nname = 'a b'\nlisten = 'localhost'\nadmin_public = 1\n",
        &[
            "2:8: [node] name: found \"a b\", expected a name of 1 to 128 letters, digits, '.', \
             '_' or '-'",
            "3:10: [node] listen: found \"localhost\", expected an address such as \
             \"127.0.0.1:9297\" or \"[::]:9297\"",
            "4:16: [node] admin_public: found 1, expected true or false",
        ],
    ),
    (
        "[node]\nadmin = '0.0.0.0:9298'\n",
        &[
            "1:1: [node]: admin 0.0.0.0:9298 is not loopback, and what it shows needs no \
             credentials: set admin_public = true if that is meant",
        ],
    ),
    // Queues.
    (
        "[[queue]]\nname = 'a'\n[[queue]]\nname = 'a'\nat_limit = 'block'\n\
         [[queue]]\nname = 'b'\ndurability = 'async'\n\
         [[queue]]\nname = 'dead-letter'\ndurability = 'memory'\n\
         [[queue]]\nname = 'c'\ndedup_window = '1m'\ndedup_ids_max = 200_000\n",
        &[
            "4:8: [[queue]] \"a\" name: duplicate queue \"a\", first on line 2",
            "5:12: [[queue]] \"a\" at_limit: found \"block\", expected \"refuse\", \
             \"drop-oldest\" or \"dead-letter\"",
            "8:14: [[queue]] \"b\" durability: found \"async\", expected \"sync\", \
             \"interval\" or \"memory\"",
            "9:1: [[queue]] \"dead-letter\": the dead-letter queue must be \"sync\": it holds \
             what was confirmed",
            "15:17: [[queue]] \"c\" dedup_ids_max: found 200000, expected a whole number from 1 to \
             131072",
        ],
    ),
    (
        "[routing]\nunroutable = 'drop'\n",
        &[
            "2:14: [routing] unroutable: found \"drop\", expected \"accept\", \"refuse\" or \
           \"queue:NAME\"",
        ],
    ),
    (
        "[routing]\nunroutable = 'queue:rest'\n[[queue]]\nname = 'rst'\n",
        &["2:14: [routing] unroutable: unknown queue \"rest\", did you mean \"rst\"?"],
    ),
    // Plugins.
    (
        "[[plugin]]\nname = 'p'\n[[plugin]]\nname = 'q'\nbuiltin = 'quake-magnitud'\n\
         file = 'x.wasm'\n[[plugin]]\nname = 'r'\nbuiltin = 'quake-magnitud'\nsettings = 1\n\
         on_error = 'panic'\nlimits = { deadlin = '1s' }\n\
         [[plugin]]\nname = 's'\nfile = 'no/such.wasm'\n",
        &[
            "1:1: [[plugin]] \"p\": missing key \"file\", \"builtin\", \"digest\", \"oci\" or \"deployed\"",
            "3:1: [[plugin]] \"q\": has file and builtin, expected one of them",
            "9:11: [[plugin]] \"r\" builtin: unknown plugin \"quake-magnitud\", did you mean \
             \"quake-magnitude\"?",
            "10:12: [[plugin]] \"r\" settings: found 1, expected a table",
            "11:12: [[plugin]] \"r\" on_error: found \"panic\", expected \"dead-letter\", \
             \"reject\" or \"pass\"",
            "12:12: [[plugin]] \"r\" limits: unknown key \"deadlin\", did you mean \"deadline\"?",
            "15:8: [[plugin]] \"s\" file: no/such.wasm: No such file or directory (os error 2)",
        ],
    ),
    (
        "[[plugin]]\nname = 'p'\ndigest = 'sha256:12'\ngrants = ['log', 'disk', 'log']\n\
         publish = ['a/#/b']\nstate_bytes = '1MiB'\n[plugin.breaker]\nfailures = 0\n\
         pause = '10m'\n[plugin.retry]\nattempts = 'many'\npaus = '1s'\n\
         [[plugin]]\nname = 'q'\ndeployed = true\nfile = 'x.wasm'\n\
         [[plugin]]\nname = 'r'\ndeployed = false\n\
         [[plugin]]\nname = 's'\ndeployed = true\ngrants = ['publish']\n\
         [[plugin]]\nname = 't'\ndeployed = true\ngrants = ['publish']\npublish = ['$x/#']\n",
        &[
            "1:1: [[plugin]] \"p\": has publish, but no \"publish\" among its grants",
            "1:1: [[plugin]] \"p\": has state_bytes, but no \"state\" among its grants",
            "3:10: [[plugin]] \"p\" digest: found \"sha256:12\", expected \"sha256:\" and 64 \
             hexadecimal digits",
            "4:18: [[plugin]] \"p\" grants[1]: unknown grant \"disk\", expected clock, log, metrics, \
             publish, random, state or timer",
            "4:26: [[plugin]] \"p\" grants[2]: \"log\" stands here twice",
            "5:12: [[plugin]] \"p\" publish[0]: filter \"a/#/b\" has '#' at byte 2: '+' must fill \
             a level and '#' must fill the last",
            "7:1: [[plugin]] \"p\" breaker: pause 10m is above pause_max 5m",
            "8:12: [[plugin]] \"p\" breaker failures: found 0, expected a whole number from 1 to \
             1000000",
            "11:12: [[plugin]] \"p\" retry attempts: found \"many\", expected a whole number from \
             1 to 1000000",
            "12:1: [[plugin]] \"p\" retry: unknown key \"paus\", did you mean \"pause\"?",
            "13:1: [[plugin]] \"q\": has file and deployed, expected one of them",
            "17:1: [[plugin]] \"r\": missing key \"file\", \"builtin\", \"digest\", \"oci\" or \"deployed\"",
            "20:1: [[plugin]] \"s\": is granted \"publish\", but names no topics: publish = \
             [\"some/#\"]",
            "24:1: [[plugin]] \"t\" publish[0]: filter $x/# begins with '$': such topics are the \
             router's own",
        ],
    ),
    (
        "[[plugin]]\nname = 'p'\nbuiltin = 'dedup'\n[plugin.settings]\nx = 1\n\
         [plugin.settings_files]\nx = 'a.txt'\ny = 'no/such.txt'\n\
         [[plugin]]\nname = 'q'\nbuiltin = 'geofence'\n",
        &[
            "1:1: [[plugin]] \"p\" settings_files.x: the setting \"x\" stands in settings, too",
            "1:1: [[plugin]] \"p\" settings_files.y: no/such.txt: No such file or directory (os \
             error 2)",
            "1:1: [[plugin]] \"p\": dedup needs grants = [\"state\"]",
            "9:1: [[plugin]] \"q\": geofence needs a role: filter, transform, route",
        ],
    ),
    // Routes.
    (
        "[[queue]]\nname = 'alerts'\n[[route]]\nname = 'kept'\nfrom = 'a/#/b'\n\
         through = ['mag', 3]\nto = ['queu:x', 'queue:alert', 'topic:a/+', 'topic:$a', \
         'peer:hub', 'queue:', 'drop']\nfinal = 'yes'\n[[route]]\nname = 'none'\n",
        &[
            "5:8: [[route]] \"kept\" from: filter \"a/#/b\" has '#' at byte 2: '+' must fill a \
             level and '#' must fill the last",
            "6:12: [[route]] \"kept\" through[0]: unknown plugin \"mag\", and none is declared",
            "6:19: [[route]] \"kept\" through[1]: found 3, expected a string",
            "7:7: [[route]] \"kept\" to[0]: unknown destination \"queu:x\", expected queue:NAME, \
             topic:NAME or drop",
            "7:17: [[route]] \"kept\" to[1]: unknown queue \"alert\", did you mean \"alerts\"?",
            "7:32: [[route]] \"kept\" to[2]: topic \"a/+\" has the wildcard '+' at byte 2, which \
             only a filter may have",
            "7:45: [[route]] \"kept\" to[3]: topic \"$a\" begins with '$': such topics are the \
             router's own",
            "7:57: [[route]] \"kept\" to[4]: \"peer:hub\": peer: is not offered by this version, \
             expected queue:NAME, topic:NAME or drop",
            "7:69: [[route]] \"kept\" to[5]: found \"\", expected a name of 1 to 128 letters, \
             digits, '.', '_' or '-'",
            "8:9: [[route]] \"kept\" final: found \"yes\", expected true or false",
            "9:1: [[route]] \"none\": missing key \"from\"",
            "9:1: [[route]] \"none\": missing key \"to\", expected an array of queue:NAME, \
             topic:NAME or drop",
        ],
    ),
    // Roles and those who hold them.
    (
        "[[role]]\nname = 'r'\npublish = 'a'\nsubscribe = ['a+']\nconsume = ['a b']\n\
         manage = ['read', 'queue']\n[[token]]\nname = 't'\nroles = ['s']\n\
         [[token]]\nname = 'u'\ntoken_sha256 = 'abc'\n\
         [[token]]\nname = 'v'\ntoken_sha256 = 'abc'\ntoken_file = 'x'\nroles = ['r']\n",
        &[
            "3:11: [[role]] \"r\" publish: found \"a\", expected an array of strings",
            "4:14: [[role]] \"r\" subscribe[0]: filter \"a+\" has '+' at byte 1: '+' must fill a \
             level and '#' must fill the last",
            "5:12: [[role]] \"r\" consume[0]: found \"a b\", expected the name of a queue, in \
             which '*' stands for any characters",
            "6:19: [[role]] \"r\" manage[1]: unknown part \"queue\", did you mean \"queues\"?",
            "7:1: [[token]] \"t\": missing key \"token_sha256\" or \"token_file\"",
            "9:10: [[token]] \"t\" roles[0]: unknown role \"s\", did you mean \"r\"?",
            "10:1: [[token]] \"u\": missing key \"roles\": without one its holder may do nothing",
            "12:16: [[token]] \"u\" token_sha256: found 3 characters, expected 64 hexadecimal \
             digits, as sha256sum prints them",
            "16:14: [[token]] \"v\": has both token_sha256 and token_file, expected one of them",
        ],
    ),
];

#[test]
fn each_mistake_has_its_words() {
    let (mut got, mut wanted) = (String::new(), String::new());
    for (text, want) in MISTAKES {
        let checked = check_str(text);
        assert!(checked.config.is_none(), "{text}");
        let want: Vec<String> = want.iter().map(|w| format!("waypost.toml:{w}")).collect();
        got += &format!("{text}\n{:#?}\n", shown(&checked.errors));
        wanted += &format!("{text}\n{want:#?}\n");
    }
    assert!(got == wanted, "got\n{got}\nwanted\n{wanted}");
}

#[test]
fn a_setting_may_be_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("waypost.toml");
    let text = "[[plugin]]\nname = 'p'\nbuiltin = 'json-schema'\n[plugin.settings]\na = 1\n\
                [plugin.settings_files]\nschema = 's.json'\nlist.x = 's.json'\n";
    std::fs::write(&file, text).unwrap();
    let fails = |content: &[u8]| {
        std::fs::write(directory.path().join("s.json"), content).unwrap();
        shown(&check(&file).errors).join("\n")
    };
    assert!(fails(b"\"\xff\"").contains("is not UTF-8 at byte 1"));
    assert!(fails(&vec![b'x'; (4 << 20) + 1]).contains("has more than 4194304 bytes"));
    std::fs::write(directory.path().join("s.json"), "{\n}\n").unwrap();
    let plugins = check(&file).config.unwrap().plugins;
    let wanted = [("a", "1"), ("schema", "{\n}\n"), ("list.x", "{\n}\n")];
    assert_eq!(
        plugins[0].settings,
        wanted.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn what_works_but_is_hardly_meant() {
    let text = "[[plugin]]\nname = 'p'\nbuiltin = 'quake-alert'\n\
                [[route]]\nname = 'all'\nfrom = '#'\nto = []\nfinal = true\n\
                [[route]]\nname = 'late'\nfrom = 'a/b'\nto = ['drop']\n\
                [[role]]\nname = 'r'\n\
                [[token]]\nname = 't'\nroles = []\ntoken_sha256 = \
                'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'\n";
    let checked = check_str(text);
    assert_eq!(shown(&checked.errors), [""; 0]);
    assert_eq!(
        shown(&checked.warnings),
        [
            "waypost.toml:2:8: [[plugin]] \"p\" name: \"p\" is in no route",
            "waypost.toml:11:8: [[route]] \"late\" from: never reached: route \"all\" is final \
             and takes all of a/b",
            "waypost.toml:14:8: [[role]] \"r\" name: \"r\" is held by no token and no certificate",
        ]
    );
}

#[test]
fn the_examples_have_no_mistake_and_no_warning() {
    for text in [
        include_str!("../../../../examples/config/gateway.toml"),
        include_str!("../../../../examples/config/quakes.toml"),
    ] {
        let checked = check_str(text);
        assert_eq!(shown(&checked.errors), [""; 0]);
        assert_eq!(shown(&checked.warnings), [""; 0]);
    }
}

#[test]
fn every_key_is_documented() {
    let operations = include_str!("../../../../docs/operations.md");
    // The keys that the reader knows are those that it lists for an unknown one.
    let far = "x = 1\n".replace('x', "zzzzzzzzzzzzzzzzzzzzzzzz");
    for section in [
        "[node]",
        "[tls]",
        "[limits]",
        "[log]",
        "[[queue]]",
        "[[plugin]]",
        "[routing]",
        "[[route]]",
        "[[role]]",
        "[[token]]",
        "[[certificate]]",
    ] {
        let errors = shown(&check_str(&format!("{section}\n{far}")).errors);
        let listed = errors.iter().find_map(|e| e.split_once("zzz\", expected "));
        let (_, keys) = listed.unwrap_or_else(|| panic!("{section}: {errors:?}"));
        for key in keys.replace(" or ", ", ").split(", ") {
            let documented = [format!("`{key}`"), format!("`{key}.")];
            let found = documented.iter().any(|key| operations.contains(key));
            assert!(found, "{section} {key} is not in docs/operations.md");
        }
    }
}

#[test]
fn files_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let made = crate::tls::make(&dir.path().join("one")).unwrap();
    let other = crate::tls::make(&dir.path().join("two")).unwrap();
    assert!(made.ca.exists() && other.ca.exists());
    let file = |name: &str, content: &[u8]| fs::write(dir.path().join(name), content).unwrap();
    file("short.wasm", b"\0as");
    file("text.wasm", b"(component)");
    file("good.wasm", b"\0asm\x0d\0\x01\0");
    file("short-token", b"secret\n");
    let text = "[tls]\ncert = 'one/node.pem'\nkey = 'two/node.key'\nclient_ca = 'ca.pem'\n\
                [[plugin]]\nname = 'a'\nfile = 'short.wasm'\n\
                [[plugin]]\nname = 'b'\nfile = 'text.wasm'\n\
                [[plugin]]\nname = 'c'\nfile = 'good.wasm'\n\
                [[token]]\nname = 't'\nroles = []\ntoken_file = 'short-token'\n\
                [[token]]\nname = 'u'\nroles = []\ntoken_file = 'one/token'\n";
    file("waypost.toml", text.as_bytes());
    let prefix = format!("{}/", dir.path().display());
    let path = dir.path().join("waypost.toml");
    let got = shown(&check(&path).errors).join("\n").replace(&prefix, "");
    let want = [
        "waypost.toml:3:7: [tls] key: two/node.key: is not the key of the certificate in \
         one/node.pem",
        "waypost.toml:4:13: [tls] client_ca: ca.pem: cannot be read: No such file or directory \
         (os error 2)",
        "waypost.toml:7:8: [[plugin]] \"a\" file: short.wasm: is shorter than any WebAssembly \
         component",
        "waypost.toml:10:8: [[plugin]] \"b\" file: text.wasm: begins with 28 63 6f 6d, expected \
         00 61 73 6d, the beginning of WebAssembly",
        "waypost.toml:17:14: [[token]] \"t\" token_file: short-token: the token on its first \
         line has 6 bytes, expected at least 16",
    ];
    assert_eq!(got, want.join("\n"));

    let text = "[tls]\ncert = 'one/node.pem'\nkey = 'one/node.key'\n\
                [[role]]\nname = 'r'\n\
                [[token]]\nname = 'u'\nroles = ['r']\ntoken_file = 'one/token'\n\
                [[certificate]]\ncommon_name = 'x'\nroles = ['r']\n";
    file("waypost.toml", text.as_bytes());
    let error = Config::load(&path).unwrap_err().to_string();
    assert_eq!(
        error.replace(&prefix, ""),
        "waypost.toml:10:1: [[certificate]] \"x\": can never be shown: [tls] has no client_ca \
         that signs it"
    );
    let (text, _) = text.split_once("[[certificate]]").unwrap();
    file("waypost.toml", text.as_bytes());
    let config = Config::load(&path).unwrap();
    assert_eq!(config.tokens[0].sha256, made.token_sha256);
    assert_eq!(config.node.data_dir, dir.path().join("waypost-data"));
}

#[test]
fn no_file_and_no_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("waypost.toml");
    let prefix = format!("{}/", dir.path().display());
    let load = || {
        Config::load(&path)
            .unwrap_err()
            .to_string()
            .replace(&prefix, "")
    };
    assert_eq!(
        load(),
        "waypost.toml: cannot be read: No such file or directory (os error 2)"
    );
    fs::write(&path, b"# \xff").unwrap();
    assert_eq!(load(), "waypost.toml: is not UTF-8 at byte 2");
}

#[test]
fn worst_case_memory_is_what_the_limits_say() {
    let limits = LimitsConfig {
        connections: 10,
        streams_per_connection: 2,
        window_bytes: 3 << 20,
        subscriber_buffer_bytes: 1 << 20,
        cache_bytes: 5 << 20,
        ..LimitsConfig::default()
    };
    assert_eq!(limits.memory_bytes_max(), (10 * 2 * 4 + 5) << 20);
}

#[test]
fn a_dev_node_lets_its_own_client_do_everything() {
    let config = Config::dev(Path::new("data"), [7; 32]);
    let everyone = crate::identity::Identities::new(&config);
    assert!(everyone.authenticate(None, Some("guess")).is_err());
    assert_eq!(
        config.certificates[0].common_name,
        crate::tls::DEV_CLIENT_NAME
    );
    assert!(config.node.listen.ip().is_loopback() && config.node.admin.ip().is_loopback());
}

#[test]
fn dead_letters_go_to_another_queue_that_keeps_them() {
    let text = r#"
[[queue]]
name = "a"
dead_letter = "a"
[[queue]]
name = "b"
dead_letter = "m"
[[queue]]
name = "c"
dead_letter = "missing"
[[queue]]
name = "d"
dead_letter = "a"
[[queue]]
name = "m"
durability = "memory"
"#;
    let checked = check_str(text);
    let expected = [
        (4, "the dead letters of a queue go to another queue"),
        (7, "dead letters go to a queue that is not \"memory\""),
        (10, "missing"),
    ];
    assert_eq!(checked.errors.len(), expected.len());
    for (error, (line, text)) in checked.errors.iter().zip(expected) {
        assert_eq!(error.line, line, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_queue_that_acts_on_slow_groups_says_when() {
    let checked = check_str("[[queue]]\nname = \"a\"\nslow = \"pause\"\n");
    let errors = shown(&checked.errors);
    assert!(errors[0].contains("slow_messages"), "{errors:?}");
    let more = "[[queue]]\nname = \"a\"\nslow = \"pause\"\nslow_messages = 5\n";
    assert_eq!(shown(&check_str(more).errors), [""; 0]);
}
