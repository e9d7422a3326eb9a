//! The store, whole and damaged.

use super::*;
use crate::config::{PluginConfig, PluginSource};
use crate::plugins::record::Version;
use tempfile::TempDir;

fn slot(name: &str, digest: &str) -> SlotRecord {
    let config = PluginConfig::new(name, PluginSource::Deployed);
    SlotRecord {
        name: name.to_owned(),
        active: 1,
        paused: None,
        versions: vec![Version::of(&config, 1, digest.to_owned(), 3)],
    }
}

fn digest_of(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn put(store: &Store, bytes: &[u8]) -> String {
    let digest = digest_of(bytes);
    let mut upload = store.upload(&digest, bytes.len() as u64).unwrap();
    bytes.chunks(2).for_each(|part| upload.write(part).unwrap());
    upload.finish().unwrap();
    digest
}

fn files(home: &TempDir) -> Vec<String> {
    let mut names = Vec::new();
    for directory in ["plugins", "plugins/blobs", "plugins/slots"] {
        for path in list(&home.path().join(directory)).unwrap() {
            let name = path.strip_prefix(home.path().join("plugins")).unwrap();
            names.extend(path.is_file().then(|| name.display().to_string()));
        }
    }
    names
}

#[test]
fn what_is_kept_is_found() {
    let home = TempDir::new().unwrap();
    let (store, found) = Store::open(home.path()).unwrap();
    assert_eq!((found.slots.len(), found.routes.len()), (0, 0));
    assert!(
        !home.path().join("plugins").exists(),
        "nothing was to be kept"
    );
    let digest = put(&store, b"abc");
    store.put_slot(&slot("one", &digest)).unwrap();
    store.put_slot(&slot("..", &digest)).unwrap();
    store.put_slot(&slot("gone", &digest)).unwrap();
    store.remove_slot("gone").unwrap();
    store.remove_slot("never").unwrap();
    let route = RouteRecord {
        name: "r".to_owned(),
        from: "a".to_owned(),
        through: Vec::new(),
        to: vec!["drop".to_owned()],
        is_final: false,
        before: None,
    };
    store.put_routes(std::slice::from_ref(&route)).unwrap();
    let (store, found) = Store::open(home.path()).unwrap();
    assert_eq!(found.slots, [slot("..", &digest), slot("one", &digest)]);
    assert_eq!(found.routes, [route]);
    assert!(found.damaged.is_empty());
    assert_eq!(store.check_blob(&digest).unwrap(), 3);
}

#[test]
fn a_component_is_kept_only_if_it_is_what_was_announced() {
    let home = TempDir::new().unwrap();
    let (store, _) = Store::open(home.path()).unwrap();
    let digest = digest_of(b"abc");
    let mut longer = store.upload(&digest, 3).unwrap();
    longer.write(b"abc").unwrap();
    let error = longer.write(b"d").unwrap_err().to_string();
    assert_eq!(error, "component of 4 bytes, 3 were announced");
    drop(longer);
    let mut shorter = store.upload(&digest, 3).unwrap();
    shorter.write(b"ab").unwrap();
    assert!(matches!(
        shorter.finish(),
        Err(StoreError::Length { found: 2, .. })
    ));
    let mut other = store.upload(&digest, 3).unwrap();
    other.write(b"abd").unwrap();
    let error = other.finish().unwrap_err().to_string();
    assert!(
        error.ends_with(&format!("sha256:{digest} was announced")),
        "{error}"
    );
    assert!(matches!(
        store.check_blob(&digest),
        Err(StoreError::NoComponent { .. })
    ));
    assert_eq!(files(&home), [""; 0], "nothing is left of them");
    // What a killed node left is removed by the next.
    let left = store.upload(&digest, 3).unwrap();
    std::mem::forget(left);
    assert_eq!(files(&home), ["blobs/3.part"]);
    Store::open(home.path()).unwrap();
    assert_eq!(files(&home), [""; 0]);
}

#[test]
fn damage_costs_its_own_file_and_nothing_is_written_over() {
    let home = TempDir::new().unwrap();
    let (store, _) = Store::open(home.path()).unwrap();
    let digest = put(&store, b"abc");
    store.put_slot(&slot("good", &digest)).unwrap();
    store.put_slot(&slot("bad", &digest)).unwrap();
    store.put_routes(&[]).unwrap();
    let bad = store.slot_path("bad");
    let damaged = fs::read_to_string(&bad)
        .unwrap()
        .replace("dead-letter", "dead-lettre");
    fs::write(&bad, &damaged).unwrap();
    fs::write(store.routes_path(), b"{").unwrap();
    let (store, found) = Store::open(home.path()).unwrap();
    assert_eq!(found.slots, [slot("good", &digest)]);
    let names: Vec<Option<&str>> = found.damaged.iter().map(|d| d.slot.as_deref()).collect();
    assert_eq!(names, [Some("bad"), None]);
    let error = found.damaged[0].error.to_string();
    assert!(error.contains("slots/bad.json has the sum "), "{error}");
    // Somebody puts others in their places.
    store.put_slot(&slot("bad", &digest)).unwrap();
    store.put_routes(&[]).unwrap();
    let aside = home.path().join("plugins/slots/bad.json.damaged");
    assert_eq!(fs::read_to_string(aside).unwrap(), damaged);
    let (_, found) = Store::open(home.path()).unwrap();
    assert_eq!((found.slots.len(), found.damaged.len()), (2, 0));
}

#[test]
fn a_component_that_rots_is_not_run() {
    let home = TempDir::new().unwrap();
    let (store, _) = Store::open(home.path()).unwrap();
    let digest = put(&store, b"abc");
    fs::write(store.blob_path(&digest), b"abd").unwrap();
    let error = store.check_blob(&digest).unwrap_err().to_string();
    assert!(
        error.contains("holds other bytes than its name says"),
        "{error}"
    );
    put(&store, b"abc");
    assert!(
        store.check_blob(&digest).is_ok(),
        "a new upload takes its place"
    );
}

#[test]
fn what_nothing_names_goes() {
    let home = TempDir::new().unwrap();
    let (store, _) = Store::open(home.path()).unwrap();
    let digests = [put(&store, b"a"), put(&store, b"b"), put(&store, b"c")];
    fs::write(home.path().join("plugins/blobs/README"), b"mine").unwrap();
    let keep = BTreeSet::from([digests[1].clone()]);
    let mut gone = store.keep_only(&keep).unwrap();
    gone.sort();
    let mut expected = vec![digests[0].clone(), digests[2].clone()];
    expected.sort();
    assert_eq!(gone, expected);
    let kept = format!("blobs/sha256-{}.wasm", digests[1]);
    assert_eq!(files(&home), ["blobs/README", &kept]);
}

/// At each step a crash leaves the old slot or the new one: the steps are those of `replace`, and
/// what lies beside is in nobody's way.
#[test]
fn a_crash_leaves_the_old_or_the_new() {
    let home = TempDir::new().unwrap();
    let (store, _) = Store::open(home.path()).unwrap();
    let (a, b) = (put(&store, b"a"), put(&store, b"b"));
    store.put_slot(&slot("s", &a)).unwrap();
    let new = slot("s", &b).to_bytes().unwrap();
    let beside = home.path().join("plugins/slots/s.json.new");
    for length in [0, 1, new.len() / 2, new.len()] {
        fs::write(&beside, &new[..length]).unwrap();
        let (_, found) = Store::open(home.path()).unwrap();
        assert_eq!(found.slots, [slot("s", &a)], "{length} bytes were written");
        assert!(found.damaged.is_empty());
    }
    fs::rename(&beside, store.slot_path("s")).unwrap();
    let (store, found) = Store::open(home.path()).unwrap();
    assert_eq!(found.slots, [slot("s", &b)]);
    // Nothing hinders the next.
    fs::write(&beside, b"left over").unwrap();
    store.put_slot(&slot("s", &a)).unwrap();
    let (_, found) = Store::open(home.path()).unwrap();
    assert_eq!(found.slots, [slot("s", &a)]);
}
