//! The model of a disk keeps its contract, and nothing beyond it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use waypost_log::mem::{Call, Fault, MemVfs};
use waypost_log::vfs::OpenMode;
use waypost_log::{Vfs, VfsFile};

use crate::harness::new_disk;

#[test]
fn the_model_disk_keeps_its_contract() {
    let vfs = new_disk();
    let path = Path::new("/data/file");
    let file = vfs.open(path, OpenMode::Create).unwrap();
    file.write_all_at(&[1; 2048], 0).unwrap();
    file.sync_data().unwrap();
    vfs.sync_dir(Path::new("/data")).unwrap();
    file.write_all_at(&[2; 2048], 0).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..64 {
        let bytes = vfs.crash(seed).contents(path).unwrap();
        assert!(
            bytes.chunks(512).all(|s| s.iter().all(|b| *b == s[0])),
            "a torn sector"
        );
        outcomes.insert(bytes);
        assert_eq!(
            vfs.crash(seed).contents(path),
            vfs.crash(seed).contents(path)
        );
    }
    assert!(outcomes.len() > 8, "sectors land in any subset");
    file.sync_data().unwrap();
    assert!((0..64).all(|seed| vfs.crash(seed).contents(path).unwrap() == [2; 2048]));
    vfs.rename(path, Path::new("/data/other")).unwrap();
    let names = |vfs: MemVfs| vfs.files().len();
    assert!(
        (0..64).all(|seed| names(vfs.crash(seed)) == 1),
        "a rename is whole"
    );
}

/// The names that a crash may leave in a directory, over many seeds.
fn names_after(vfs: &MemVfs, dir: &str) -> BTreeSet<Vec<String>> {
    (0..200)
        .map(|seed| vfs.crash(seed).read_dir(Path::new(dir)).unwrap_or_default())
        .collect()
}

fn make(vfs: &MemVfs, path: &str) {
    let file = vfs.open(Path::new(path), OpenMode::Create).unwrap();
    file.write_all_at(b"all of it", 0).unwrap();
    file.sync_data().unwrap();
}

fn outcomes(of: &[&[&str]]) -> BTreeSet<Vec<String>> {
    let owned = |names: &&[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    of.iter().map(owned).collect()
}

/// A new name, a rename and a removal are each there or not, as long as their directory was not
/// synced; a file's own sync says nothing of its name.
#[test]
fn a_name_is_durable_when_its_directory_was_synced() {
    let vfs = new_disk();
    make(&vfs, "/data/a");
    make(&vfs, "/data/b");
    let either = outcomes(&[&[], &["a"], &["b"], &["a", "b"]]);
    assert_eq!(names_after(&vfs, "/data"), either);
    vfs.sync_dir(Path::new("/data")).unwrap();
    assert_eq!(names_after(&vfs, "/data"), outcomes(&[&["a", "b"]]));
    vfs.rename(Path::new("/data/a"), Path::new("/data/c"))
        .unwrap();
    vfs.remove_file(Path::new("/data/b")).unwrap();
    let either = outcomes(&[&["a", "b"], &["a"], &["b", "c"], &["c"]]);
    assert_eq!(names_after(&vfs, "/data"), either);
}

/// A file that was not synced may be there with none of its bytes, or some.
#[test]
fn a_name_may_outlive_the_bytes() {
    let vfs = new_disk();
    let path = Path::new("/data/file");
    let file = vfs.open(path, OpenMode::Create).unwrap();
    file.write_all_at(&[1; 2048], 0).unwrap();
    vfs.sync_dir(Path::new("/data")).unwrap();
    let left = |seed| vfs.crash(seed).contents(path).unwrap();
    let lengths: BTreeSet<usize> = (0..200).map(|seed| left(seed).len()).collect();
    assert!(lengths.contains(&0) && lengths.contains(&2048) && lengths.len() > 3);
    assert!((0..200).any(|seed| left(seed).len() == 2048 && left(seed) != [1; 2048]));
}

/// Whatever is synced in a directory goes with it as long as its own name is not.
#[test]
fn a_directory_is_durable_when_its_parent_was_synced() {
    let vfs = new_disk();
    let dir = Path::new("/data/dir");
    vfs.create_dir(dir).unwrap();
    make(&vfs, "/data/dir/a");
    vfs.sync_dir(dir).unwrap();
    let left = names_after(&vfs, "/data/dir");
    assert_eq!(left, outcomes(&[&[], &["a"]]));
    vfs.sync_dir(Path::new("/data")).unwrap();
    assert_eq!(names_after(&vfs, "/data/dir"), outcomes(&[&["a"]]));
    // Its removal, and the removal of what was in it, may be undone apart.
    vfs.remove_file(Path::new("/data/dir/a")).unwrap();
    vfs.remove_dir(dir).unwrap();
    assert_eq!(names_after(&vfs, "/data"), outcomes(&[&[], &["dir"]]));
    assert_eq!(names_after(&vfs, "/data/dir"), outcomes(&[&[], &["a"]]));
}

/// A rename into another directory may leave both names, never neither; and it is durable when the
/// directory that it left was synced.
#[test]
fn a_rename_into_another_directory_loses_no_file() {
    let vfs = new_disk();
    for dir in ["/data/from", "/data/to"] {
        vfs.create_dir(Path::new(dir)).unwrap();
    }
    vfs.sync_dir(Path::new("/data")).unwrap();
    make(&vfs, "/data/from/a");
    vfs.sync_dir(Path::new("/data/from")).unwrap();
    vfs.rename(Path::new("/data/from/a"), Path::new("/data/to/a"))
        .unwrap();
    let left = |vfs: &MemVfs| -> BTreeSet<Vec<PathBuf>> {
        (0..200).map(|seed| vfs.crash(seed).files()).collect()
    };
    let (from, to) = (PathBuf::from("/data/from/a"), PathBuf::from("/data/to/a"));
    let both = vec![from.clone(), to.clone()];
    let any = BTreeSet::from([vec![from], both.clone(), vec![to.clone()]]);
    assert_eq!(left(&vfs), any);
    let synced = |dir: &str| {
        let vfs = vfs.kill();
        vfs.sync_dir(Path::new(dir)).unwrap();
        left(&vfs)
    };
    assert_eq!(synced("/data/to"), BTreeSet::from([both, vec![to.clone()]]));
    assert_eq!(synced("/data/from"), BTreeSet::from([vec![to]]));
}

/// Each fault that came is counted, and one that did not is not.
#[test]
fn faults_are_counted() {
    let vfs = new_disk();
    vfs.fail_at_call(Call::Sync, 1, Fault::Io);
    make(&vfs, "/data/a");
    assert_eq!(vfs.injected().count_all(Fault::Io), 0);
    vfs.sync_dir(Path::new("/data")).unwrap_err();
    assert_eq!(vfs.injected().count(Fault::Io, Call::Sync), 1);
    vfs.fail_calls(Some(Call::Open), 0, 3, Fault::NoSpace);
    let open = |vfs: &MemVfs| vfs.open(Path::new("/data/b"), OpenMode::Create).is_ok();
    let opened: Vec<bool> = (0..4).map(|_| open(&vfs)).collect();
    assert_eq!(opened, [false, false, false, true]);
    let after = vfs.kill().crash(1).injected();
    assert_eq!(after.count(Fault::NoSpace, Call::Open), 3);
    assert_eq!((after.kills, after.crashes), (1, 1));
    assert_eq!(after.names_lost + after.names_kept, 2);
}
