//! Backups of a log that runs on, and what is restored from them.

use std::path::{Path, PathBuf};

use waypost_log::backup::Copying;
use waypost_log::inspect::check;
use waypost_log::mem::{MemVfs, Rng};
use waypost_log::restore::restore;
use waypost_log::{Log, OpenError, Vfs};

use crate::damage::{pristine, serve_at};
use crate::harness::{Harness, NOW_MS, dir, new_disk, small_options, view_of};

const BACKUP: &str = "/data/backups/one";

/// Runs jobs until the backup's links are made.
fn link(log: &mut Log<MemVfs>, vfs: &MemVfs) -> Copying {
    loop {
        let job = log.next_job().unwrap();
        let report = log.finish_job(job.run(vfs)).unwrap();
        if let Some(backup) = report.backup {
            return backup.unwrap();
        }
    }
}

/// The log goes on in every way while the backup is linked and copied; what it then opens as is
/// what was committed when it was wanted.
#[test]
fn a_backup_is_what_was_committed_when_it_began() {
    for seed in 1..20 {
        let vfs = new_disk();
        let mut harness = Harness::new(vfs.clone()).unwrap();
        let mut rng = Rng(seed);
        for _ in 0..100 + 20 * seed {
            harness.step(&mut rng).unwrap();
        }
        harness.commit().unwrap();
        vfs.create_dir(Path::new("/data/backups")).unwrap();
        assert!(harness.log.begin_backup(Path::new(BACKUP)));
        assert!(!harness.log.begin_backup(Path::new("/data/backups/two")));
        let copying = link(&mut harness.log, &vfs);
        let expected = harness.expected();
        for _ in 0..300 {
            harness.step(&mut rng).unwrap();
        }
        let done = copying.run(&vfs).unwrap();
        assert!(done.files > 2 && done.bytes > 0);
        harness.log.end_backup();
        for _ in 0..300 {
            harness.step(&mut rng).unwrap();
        }
        // Power may go the moment after it is reported.
        let disk = vfs.crash(seed);
        let what = format!("seed {seed}");
        let report = check(&disk, Path::new(BACKUP)).unwrap();
        assert_eq!(report.findings, vec![], "{what}");
        let mut random = Rng(seed);
        let target = Path::new("/restored");
        let renamed = restore(&disk, Path::new(BACKUP), target, &mut || random.next_u64()).unwrap();
        let disk = disk.crash(seed);
        assert_eq!(check(&disk, target).unwrap().findings, vec![], "{what}");
        let shard = PathBuf::from("/restored/shard-0000");
        let (log, found) = Log::open(disk.clone(), &shard, small_options(), NOW_MS).unwrap();
        assert!(!found.report.is_alarming(), "{what}: {:?}", found.report);
        let view = view_of(&log, &found);
        let committed = expected.committed();
        assert_eq!(view.len(), committed.len(), "{what}");
        for (old, expected) in committed {
            assert_ne!(renamed[old], *old);
            assert_eq!(view.get(&renamed[old]), Some(expected), "{what}: {old}");
        }
        // And the log that was backed up is none the worse.
        Harness::reopen(vfs.kill(), harness.expected(), &what).unwrap();
    }
}

#[test]
fn what_is_no_backup_or_not_empty_is_refused() {
    let made = pristine();
    let mut random = Rng(1);
    let mut random = || random.next_u64();
    let disk = made.disk.clone();
    // The directory itself will do, when nobody uses it.
    restore(&disk, Path::new("/data"), Path::new("/a"), &mut random).unwrap();
    let error = restore(&disk, Path::new("/data"), Path::new("/a"), &mut random).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    disk.remove_file(Path::new("/data/format")).unwrap();
    let error = restore(&disk, Path::new("/data"), Path::new("/b"), &mut random).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

/// What was damaged when it was backed up costs the same, and is named.
#[test]
fn damage_is_restored_as_it_was() {
    let made = pristine();
    for end in [".seg", ".wal"] {
        let disk = made.disk.kill();
        let is_it = |f: &PathBuf| f.to_string_lossy().ends_with(end);
        let file = disk.files().into_iter().find(is_it).unwrap();
        // In the body of a record of the first entry.
        disk.flip_bit(&file, (64 + 48 + 48 + 100) * 8);
        let before = serve_at(&disk.kill(), "/data").unwrap();
        let mut random = Rng(3);
        let renamed = restore(
            &disk,
            Path::new("/data"),
            Path::new("/restored"),
            &mut || random.next_u64(),
        )
        .unwrap();
        assert_eq!(
            check(&disk, Path::new("/restored")).unwrap().has_loss(),
            check(&made.disk.kill(), Path::new("/data"))
                .unwrap()
                .has_loss()
                || before.named > 0
                || before.is_alarming(),
        );
        let after = serve_at(&disk, "/restored").unwrap();
        assert_eq!(after.named, before.named, "{end}");
        for (old, records) in &before.records {
            assert_eq!(after.records.get(&renamed[old]), Some(records), "{end}");
        }
    }
}

#[test]
fn a_failed_backup_leaves_the_log_as_it_was() {
    let vfs = new_disk();
    let (mut log, _) = Log::open(vfs.clone(), &dir(), small_options(), NOW_MS).unwrap();
    // Its parent does not exist.
    assert!(log.begin_backup(Path::new("/data/nowhere/one")));
    let error = loop {
        let job = log.next_job().unwrap();
        if let Some(backup) = log.finish_job(job.run(&vfs)).unwrap().backup {
            break backup.unwrap_err();
        }
    };
    assert!(
        error
            .to_string()
            .starts_with("cannot make /data/nowhere/one"),
        "{error}"
    );
    assert!(log.begin_backup(Path::new("/data/two")));
    drop(link(&mut log, &vfs));
}
