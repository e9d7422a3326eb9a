//! Directories, locks, versions, old bytes in recycled files; the real file system.

use waypost_log::mem::{Fault, MemVfs};
use waypost_log::{DataDir, Log, OpenError, Options, RealVfs};

use crate::harness::{Harness, NOW_MS, body, dir, messages, new_disk, queue, slab, small_options};

#[test]
fn a_data_directory_is_made_locked_and_opened_again() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("data");
    let held = DataDir::open(&RealVfs, &path).unwrap();
    let format = std::fs::read_to_string(path.join("format")).unwrap();
    assert_eq!(format, "waypost data directory, format 1\n");
    let Err(error) = DataDir::open(&RealVfs, &path) else {
        panic!("two processes hold one directory");
    };
    let expected = format!(
        "data directory {} is in use by process {}",
        path.display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    drop(held);
    DataDir::open(&RealVfs, &path).unwrap();
}

#[test]
fn a_directory_around_one_is_refused_with_a_hint() {
    let tmp = tempfile::tempdir().unwrap();
    drop(DataDir::open(&RealVfs, &tmp.path().join("data")).unwrap());
    let Err(error) = DataDir::open(&RealVfs, tmp.path()) else {
        panic!("it was taken");
    };
    let hint = format!("{} looks like one", tmp.path().join("data").display());
    assert!(error.to_string().ends_with(&hint), "{error}");
}

#[test]
fn other_directories_are_refused() {
    let cases = [
        (
            "notes.txt",
            "mine",
            "is not a data directory of waypost: it holds `notes.txt`",
        ),
        (
            "format",
            "something else",
            "its file `format` says \"something else\"",
        ),
        (
            "format",
            "waypost data directory, format 7\n",
            "has format 7; this version reads up to 1",
        ),
        (
            "format",
            "waypost data directory, format 0\n",
            "is not a data directory",
        ),
    ];
    for (name, text, expected) in cases {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join(name), text).unwrap();
        let Err(error) = DataDir::open(&RealVfs, tmp.path()) else {
            panic!("{name} {text:?} was taken");
        };
        assert!(error.to_string().contains(expected), "{error}");
        let left = std::fs::read_dir(tmp.path()).unwrap().count();
        assert_eq!(left, 1, "nothing was written into it");
    }
}

#[test]
fn another_shards_files_are_refused() {
    let vfs = new_disk();
    Log::open(vfs.clone(), &dir(), small_options(), NOW_MS).unwrap();
    let options = Options {
        shard: 3,
        ..small_options()
    };
    let result = Log::open(vfs, &dir(), options, NOW_MS);
    assert!(matches!(
        result,
        Err(OpenError::OtherShard {
            found: 0,
            expected: 3,
            ..
        })
    ));
}

#[test]
fn a_shard_keeps_its_file_size_even_if_its_description_is_damaged() {
    let mut h = Harness::new(new_disk()).unwrap();
    let queue = h.create().unwrap();
    h.append(queue, vec![body(1, 50)]).unwrap();
    h.commit().unwrap();
    for damage in [false, true] {
        let disk = h.vfs.kill();
        if damage {
            disk.flip_bit(&dir().join("shard.meta"), 70);
        }
        let options = Options {
            file_bytes: 20 << 10,
            wal_bytes_max: 1 << 20,
            ..small_options()
        };
        let (log, found) = Log::open(disk.clone(), &dir(), options, NOW_MS).unwrap();
        assert_eq!(found.queues[0].next_offset, 1);
        drop(log);
        Harness::reopen(disk.kill(), h.expected(), "another file size").unwrap();
    }
}

/// Cuts the power in the middle of the write of one large group; repeats until it is torn. What
/// was torn is copied, and then zeros.
fn torn(h: &Harness) -> MemVfs {
    for seed in 0.. {
        let disk = h.vfs.crash(seed);
        let opened = disk.kill();
        let (_, found) = Log::open(opened.clone(), &dir(), small_options(), NOW_MS).unwrap();
        let Some(torn) = found.report.torn.first() else {
            continue;
        };
        let copy = opened.contents(torn.set_aside.as_ref().unwrap()).unwrap();
        assert_eq!(copy.len() as u64, torn.bytes);
        assert!(copy.iter().any(|b| *b != 0));
        let file_bytes = small_options().file_bytes;
        let name = format!("wal/{:016x}.wal", torn.position.seq(file_bytes));
        let at = torn.position.offset(file_bytes) as usize;
        let cut = &opened.contents(&dir().join(name)).unwrap()[at..at + copy.len()];
        assert!(cut.iter().all(|b| *b == 0), "what was cut is still there");
        return disk;
    }
    unreachable!()
}

#[test]
fn a_torn_tail_is_set_aside_cut_and_stays_cut() {
    let mut h = Harness::new(new_disk()).unwrap();
    let queue = h.create().unwrap();
    h.append(queue, vec![body(1, 50)]).unwrap();
    h.commit().unwrap();
    h.append(queue, vec![body(2, 6000)]).unwrap();
    // The write lands in part, the sync never comes.
    h.vfs
        .fail_at_call(waypost_log::mem::Call::Sync, 0, Fault::PowerOff);
    h.commit().unwrap_err();
    let mut again = Harness::reopen(torn(&h), h.expected(), "a torn tail").unwrap();
    assert!(again.committed[&queue].records.len() == 1);
    let has_copy = |vfs: &MemVfs| {
        vfs.files()
            .iter()
            .any(|p| p.starts_with("/data/shard-0000/quarantine"))
    };
    assert!(has_copy(&again.vfs));
    // A second crash at once, and one after more was written: the tail never comes back.
    Harness::reopen(again.vfs.crash(9), again.expected(), "and again").unwrap();
    again.append(queue, vec![body(3, 50)]).unwrap();
    again.commit().unwrap();
    for seed in 0..20 {
        let found = Harness::reopen(again.vfs.crash(seed), again.expected(), "and later").unwrap();
        assert_eq!(found.committed[&queue].records.len(), 2);
    }
}

/// A killed process may leave a queue whose name is not durable; what is built on it must be.
#[test]
fn a_queue_that_was_half_made_is_durable_once_it_was_found() {
    let mut h = Harness::new(new_disk()).unwrap();
    // Of the syncs of a new queue, the second is its directory's.
    h.vfs
        .fail_at_call(waypost_log::mem::Call::Sync, 1, Fault::Io);
    h.create().unwrap_err();
    let mut h = Harness::reopen(h.vfs.kill(), h.expected(), "half made").unwrap();
    let queue = *h.committed.keys().next().unwrap();
    h.append(queue, vec![body(1, 50)]).unwrap();
    h.commit().unwrap();
    for seed in 0..20 {
        Harness::reopen(h.vfs.crash(seed), h.expected(), "then used").unwrap();
    }
}

#[test]
fn old_groups_in_recycled_files_are_never_read() {
    let mut h = Harness::new(new_disk()).unwrap();
    let queue = h.create().unwrap();
    // Groups of one shape, so that old ones lie exactly where new ones would be.
    for n in 0..200 {
        h.append(queue, vec![body(n, 1000)]).unwrap();
        h.state(queue).unwrap();
        h.commit().unwrap();
        h.trim(queue, n.saturating_sub(2)).unwrap();
        h.jobs().unwrap();
        let what = format!("after group {n}");
        Harness::reopen(h.vfs.crash(n), h.expected(), &what).unwrap();
    }
}

#[test]
fn the_real_disk_keeps_what_was_committed() {
    let tmp = tempfile::tempdir().unwrap();
    let data = DataDir::open(&RealVfs, &tmp.path().join("data")).unwrap();
    let shard = data.shard_dir(0);
    let mut next = 0;
    for open in 0..4 {
        let options = Options {
            nonce: open,
            ..small_options()
        };
        let (mut log, found) = Log::open(RealVfs, &shard, options, NOW_MS).unwrap();
        assert!(!found.report.is_alarming(), "{:?}", found.report);
        if open == 0 {
            log.create_queue(queue(0), "q", b"").unwrap();
        } else {
            assert_eq!(found.queues[0].next_offset, next);
        }
        for _ in 0..60 {
            let bodies = vec![body(next, 900)];
            log.append_messages(queue(0), messages(next, 1), &[slab(&bodies)])
                .unwrap();
            log.commit(NOW_MS).unwrap();
            next += 1;
            for queue in log.wants_snapshots() {
                log.append_snapshot(queue, b"").unwrap();
            }
            log.commit(NOW_MS).unwrap();
            while let Some(job) = log.next_job() {
                log.finish_job(job.run(&RealVfs)).unwrap();
            }
        }
        let mut at = 0;
        let mut seen = 0;
        while let Ok(batch) = log.read(queue(0), at, 1 << 16)
            && !batch.chunks.is_empty()
        {
            for (offset, found) in batch.chunks.iter().flat_map(|c| c.records()) {
                assert_eq!(found, body(offset, 900));
                seen += 1;
            }
            at = batch.next;
        }
        assert_eq!(seen, next);
        assert!(log.space_used().segment_bytes > 0);
    }
}
