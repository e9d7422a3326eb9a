//! The house's map, held against `cargo metadata`.
//!
//! Two questions: which of our rooms may a room depend on (directly), and which foreign crates may
//! it never reach (by any path). Dev-dependencies are left out: tests may use what they need.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use std::collections::{BTreeMap, BTreeSet};

/// Room, and the rooms that it may depend on.
const ROOMS: &[(&str, &[&str])] = &[
    ("waypost-wire", &[]),
    ("waypost-log", &["waypost-wire"]),
    ("waypost-core", &["waypost-wire"]),
    (
        "waypost-shard",
        &["waypost-wire", "waypost-core", "waypost-log"],
    ),
    ("waypost-host", &["waypost-wire"]),
    ("waypost-supply", &[]),
    ("waypost-client", &["waypost-wire"]),
    (
        "waypost-node",
        &[
            "waypost-wire",
            "waypost-core",
            "waypost-log",
            "waypost-shard",
            "waypost-host",
            "waypost-supply",
        ],
    ),
    (
        "waypost",
        &[
            "waypost-wire",
            "waypost-client",
            "waypost-node",
            "waypost-log",
            "waypost-host",
            "waypost-supply",
        ],
    ),
];

/// Rooms for tests only: nothing depends on them.
const TEST_ROOMS: &[&str] = &[
    "waypost-sim",
    "waypost-e2e",
    "waypost-languages",
    "waypost-layering",
];

/// Room, the crates that it never reaches, and why.
const NEVER: &[(&str, &[&str], &str)] = &[
    (
        "waypost-wire",
        SOCKETS,
        "formats have no sockets and no tasks",
    ),
    ("waypost-core", SOCKETS, "core decides; it never does"),
    (
        "waypost-log",
        SOCKETS,
        "the log is driven by its shard's thread",
    ),
    (
        "waypost-shard",
        SOCKETS,
        "the simulator drives a shard in virtual time",
    ),
    (
        "waypost-supply",
        &["tokio", "wasmtime"],
        "it blocks, and whoever may block calls it; it runs nothing",
    ),
    ("waypost-core", &["rustix"], "core has no disk and no clock"),
    (
        "waypost-wire",
        &["rustix"],
        "formats have no disk and no clock",
    ),
    (
        "waypost-client",
        &["wasmtime", "cranelift-codegen"],
        "an application that links the client does not link a compiler",
    ),
    (
        "waypost-host",
        &["tokio", "wasmtime-wasi"],
        "plugins run on threads of their own, with nothing behind the imports",
    ),
];

const SOCKETS: &[&str] = &[
    "tokio",
    "quinn",
    "quinn-udp",
    "mio",
    "hyper",
    "socket2",
    "rustls",
    "wasmtime",
];

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        .exec()
        .expect("cargo metadata runs in the workspace")
}

/// What each package needs to be built, with the names it goes by.
fn edges(metadata: &Metadata) -> BTreeMap<&PackageId, Vec<&PackageId>> {
    let resolve = metadata.resolve.as_ref().expect("metadata is resolved");
    let needed = |kinds: &[cargo_metadata::DepKindInfo]| {
        kinds
            .iter()
            .any(|k| k.kind == DependencyKind::Normal || k.kind == DependencyKind::Build)
    };
    let nodes = resolve.nodes.iter().map(|node| {
        let deps = node.deps.iter().filter(|dep| needed(&dep.dep_kinds));
        (&node.id, deps.map(|dep| &dep.pkg).collect())
    });
    nodes.collect()
}

fn name<'m>(metadata: &'m Metadata, id: &PackageId) -> &'m str {
    metadata[id].name.as_str()
}

fn id_of<'m>(metadata: &'m Metadata, room: &str) -> &'m PackageId {
    let package = metadata.packages.iter().find(|p| p.name.as_str() == room);
    &package.unwrap_or_else(|| panic!("no package {room}")).id
}

#[test]
fn rooms_depend_on_those_below_them() {
    let metadata = metadata();
    let edges = edges(&metadata);
    let members: BTreeSet<&str> = metadata
        .workspace_members
        .iter()
        .map(|id| name(&metadata, id))
        .collect();
    let listed: BTreeSet<&str> = ROOMS
        .iter()
        .map(|(room, _)| *room)
        .chain(TEST_ROOMS.iter().copied())
        .collect();
    assert_eq!(
        members, listed,
        "a room is missing on the map, or on the disk"
    );
    for (room, allowed) in ROOMS {
        for dep in &edges[id_of(&metadata, room)] {
            let dep = name(&metadata, dep);
            let fits = !members.contains(dep) || allowed.contains(&dep);
            assert!(fits, "{room} depends on {dep}; the map allows {allowed:?}");
        }
    }
}

/// Every crate that `room` needs, by any path, with the path.
fn reached(metadata: &Metadata, room: &str) -> BTreeMap<String, String> {
    let edges = edges(metadata);
    let mut paths = BTreeMap::from([(id_of(metadata, room), room.to_owned())]);
    let mut todo = vec![id_of(metadata, room)];
    while let Some(id) = todo.pop() {
        for dep in &edges[id] {
            if !paths.contains_key(dep) {
                let path = format!("{} -> {}", paths[id], name(metadata, dep));
                paths.insert(dep, path);
                todo.push(dep);
            }
        }
    }
    let named = paths.into_iter();
    named
        .map(|(id, path)| (name(metadata, id).to_owned(), path))
        .collect()
}

#[test]
fn rooms_never_reach_what_they_must_not() {
    let metadata = metadata();
    for (room, never, why) in NEVER {
        let reached = reached(&metadata, room);
        for dep in *never {
            let path = reached.get(*dep);
            assert!(path.is_none(), "{}: {why}", path.expect("just seen"));
        }
    }
    // The walk does find what is there.
    for dep in ["tokio", "wasmtime", "ring"] {
        assert!(
            reached(&metadata, "waypost-node").contains_key(dep),
            "{dep}"
        );
    }
}

#[test]
fn only_the_host_depends_on_wasmtime() {
    let metadata = metadata();
    let edges = edges(&metadata);
    for id in &metadata.workspace_members {
        let room = name(&metadata, id);
        for dep in &edges[id] {
            let dep = name(&metadata, dep);
            let engine = dep.starts_with("wasmtime") || dep.starts_with("cranelift");
            assert!(!engine || room == "waypost-host", "{room} depends on {dep}");
        }
    }
}

#[test]
fn one_crypto_provider() {
    let lock = include_str!("../../../Cargo.lock");
    assert!(lock.contains("name = \"ring\""), "ring is the provider");
    for other in [
        "aws-lc-rs",
        "aws-lc-sys",
        "openssl",
        "openssl-sys",
        "native-tls",
    ] {
        let line = format!("name = \"{other}\"");
        assert!(
            !lock.contains(&line),
            "{other} is in Cargo.lock: two providers panic at run time"
        );
    }
}
