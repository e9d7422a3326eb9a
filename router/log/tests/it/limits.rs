//! Each limit and each refusal is reached, and nothing is lost by it.

use waypost_log::mem::{Call, Fault};
use waypost_log::{
    AppendError, CommitError, JobError, Log, OpenError, Options, QueueError, Replay,
};

use crate::harness::{
    Harness, NOW_MS, body, dir, messages, new_disk, queue, read_all, slab, small_options,
};

fn one_queue() -> Harness {
    let mut harness = Harness::new(new_disk()).unwrap();
    harness.create().unwrap();
    harness
}

#[test]
fn a_group_is_bounded_and_an_atomic_set_fills_it() {
    let mut h = one_queue();
    let max = small_options().group_bytes_max;
    // Header of the group 64, of the entry 48, length of the record 2, its own head 5.
    let largest = body(1, max as usize - 64 - 48 - 2 - 5);
    h.append(queue(0), vec![largest.clone()]).unwrap();
    assert_eq!(h.log.pending_bytes(), max);
    let error = h.log.append_state(queue(0), b"").unwrap_err();
    assert!(matches!(error, AppendError::GroupFull { needed, .. } if needed == max + 48));
    assert!(error.is_retryable());
    h.commit().unwrap();
    let disk = h.vfs.crash(1);
    let h = Harness::reopen(disk, h.expected(), "a full group").unwrap();
    assert_eq!(read_all(&h.log, queue(0), 0).unwrap()[&0], largest);
}

#[test]
fn a_full_wal_refuses_messages_and_still_takes_what_frees_it() {
    let mut h = one_queue();
    let bodies = vec![body(1, 3000)];
    let mut first = 0;
    let error = loop {
        let result = h
            .log
            .append_messages(queue(0), messages(first, 1), &[slab(&bodies)]);
        match result {
            Ok(()) => first += 1,
            Err(error) => break error,
        }
        h.log.commit(NOW_MS).unwrap();
    };
    assert!(matches!(error, AppendError::WalFull { .. }), "{error}");
    assert!(!h.log.has_room_for(1));
    // States may use the last file, snapshots and trims may always be written.
    h.log.append_state(queue(0), &[0; 3000]).unwrap();
    h.log.commit(NOW_MS).unwrap();
    while h.log.append_state(queue(0), &[0; 3000]).is_ok() {
        h.log.commit(NOW_MS).unwrap();
    }
    h.log.trim(queue(0), 1).unwrap();
    h.log.append_snapshot(queue(0), &[0; 8]).unwrap();
    h.log.commit(NOW_MS).unwrap();
    for _ in 0..20 {
        for queue in h.log.wants_snapshots() {
            h.log.append_snapshot(queue, &[0; 8]).unwrap();
        }
        h.log.commit(NOW_MS).unwrap();
        while h.job().unwrap() {}
    }
    assert!(h.log.has_room_for(1));
    assert_eq!(
        read_all(&h.log, queue(0), 1).unwrap().len() as u64,
        first - 1
    );
}

#[test]
fn appends_that_cannot_be_are_refused() {
    let mut h = one_queue();
    let one = slab(&[body(1, 10)]);
    let mut append = |head, slab: &[u8]| h.log.append_messages(queue(0), head, &[slab]);
    append(messages(5, 1), &one).unwrap();
    let error = append(messages(5, 1), &one).unwrap_err();
    assert!(
        matches!(error, AppendError::OffsetUsed { next_offset: 6, .. }),
        "{error}"
    );
    let mut old = messages(6, 1);
    old.epoch = 0;
    let error = append(old, &one).unwrap_err();
    assert!(
        matches!(error, AppendError::EpochEnded { current: 1, .. }),
        "{error}"
    );
    for (count, slab) in [
        (2, &one[..]),
        (1, &one[..7]),
        (0, &[]),
        (1, &[&one[..], &[0]].concat()),
    ] {
        let error = append(messages(6, count), slab).unwrap_err();
        assert!(matches!(error, AppendError::BadSlab { .. }), "{error}");
    }
    let error = append(messages(u64::MAX, 1), &one).unwrap_err();
    assert!(matches!(error, AppendError::BadSlab { .. }), "{error}");
    let error = h.log.append_state(queue(9), b"").unwrap_err();
    assert!(matches!(error, AppendError::UnknownQueue(_)), "{error}");
    let error = h.log.create_queue(queue(0), "again", b"").unwrap_err();
    assert!(matches!(error, QueueError::Exists(_)), "{error}");
    let error = h
        .log
        .create_queue(queue(8), &"n".repeat(65_536), b"")
        .unwrap_err();
    assert!(matches!(error, QueueError::TooLong { .. }), "{error}");
    // Nothing of this was added but the first.
    h.log.commit(NOW_MS).unwrap();
    assert_eq!(read_all(&h.log, queue(0), 0).unwrap().len(), 1);
}

#[test]
fn a_set_is_taken_back() {
    let mut h = one_queue();
    let one = slab(&[body(1, 10)]);
    h.log
        .append_messages(queue(0), messages(0, 1), &[&one])
        .unwrap();
    let mark = h.log.mark();
    let bytes = h.log.pending_bytes();
    h.log
        .append_messages(queue(0), messages(1, 1), &[&one])
        .unwrap();
    h.log.append_state(queue(0), b"x").unwrap();
    h.log.remove_queue(queue(0)).unwrap();
    assert!(h.log.rollback(mark));
    assert_eq!(h.log.pending_bytes(), bytes);
    // The offset is free again.
    h.log
        .append_messages(queue(0), messages(1, 1), &[&one])
        .unwrap();
    h.log.commit(NOW_MS).unwrap();
    assert!(!h.log.rollback(mark), "a mark from before a commit is void");
    assert_eq!(read_all(&h.log, queue(0), 0).unwrap().len(), 2);
}

#[test]
fn a_full_disk_refuses_a_commit_and_loses_nothing() {
    let mut h = one_queue();
    h.append(queue(0), vec![body(1, 100)]).unwrap();
    h.commit().unwrap();
    h.append(queue(0), vec![body(2, 100)]).unwrap();
    h.vfs.fail_at_call(Call::Write, 0, Fault::NoSpace);
    let error = h.log.commit(NOW_MS).unwrap_err();
    assert!(matches!(error, CommitError::NoSpace(_)), "{error}");
    // A crash now finds what was committed; the attempt may not be taken for rot.
    Harness::reopen(h.vfs.crash(3), h.expected(), "after a refused write").unwrap();
    h.commit().unwrap();
    Harness::reopen(h.vfs.crash(4), h.expected(), "after the second attempt").unwrap();
    // A refused group that is taken back leaves nothing either.
    let mark = h.log.mark();
    h.log.append_state(queue(0), &[7; 4000]).unwrap();
    h.vfs.fail_at_call(Call::Write, 0, Fault::NoSpace);
    h.log.commit(NOW_MS).unwrap_err();
    assert!(h.log.rollback(mark));
    h.state(queue(0)).unwrap();
    h.commit().unwrap();
    Harness::reopen(h.vfs.crash(5), h.expected(), "after another group").unwrap();
}

#[test]
fn what_a_full_disk_left_at_the_end_of_a_file_is_no_damage() {
    // The proof of an idle writer is refused on the last page of a file, and the next group does
    // not fit there: what landed is never written over.
    for len in [0, 40] {
        let mut h = one_queue();
        let file_bytes = small_options().file_bytes;
        let mut n = 0;
        loop {
            h.append(queue(0), vec![body(n, 100)]).unwrap();
            let position = h.log.commit(NOW_MS).unwrap().position.0;
            n += 1;
            if position % file_bytes == file_bytes - 2 * 4096 {
                break;
            }
        }
        if len > 0 {
            h.log.append_state(queue(0), &vec![7; len]).unwrap();
        }
        h.vfs.fail_at_call(Call::Write, 0, Fault::NoSpace);
        let refused = match len {
            0 => h.log.idle_sync(NOW_MS),
            _ => h.log.commit(NOW_MS).map(|_| ()),
        };
        assert!(matches!(refused, Err(CommitError::NoSpace(_))));
        h.append(queue(0), vec![body(n, 6000)]).unwrap();
        h.log.commit(NOW_MS).unwrap();
        h.log.idle_sync(NOW_MS).unwrap();
        let disk = h.vfs.kill();
        let (_, recovered) = Log::open(disk, &dir(), small_options(), NOW_MS).unwrap();
        assert!(!recovered.report.is_alarming(), "{:?}", recovered.report);
        let states = recovered.queues[0].replay.iter();
        let states = states.filter(|r| matches!(r, Replay::State(_))).count();
        assert_eq!(states, usize::from(len > 0), "nothing counts twice");
    }
}

#[test]
fn a_full_disk_delays_jobs() {
    let mut h = one_queue();
    let mut refused = 0;
    for n in 0..200 {
        h.append(queue(0), vec![body(n, 700)]).unwrap();
        h.commit().unwrap();
        for queue in h.log.wants_snapshots() {
            h.snapshot(queue).unwrap();
        }
        h.commit().unwrap();
        let Some(job) = h.log.next_job() else {
            continue;
        };
        if n % 2 == 0 && matches!(job.kind(), "move" | "prepare") {
            h.vfs.fail_at_call(Call::Write, 0, Fault::NoSpace);
        }
        match h.log.finish_job(job.run(&h.vfs)) {
            Ok(_) => {}
            Err(JobError::NoSpace(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        h.vfs.clear_fault();
    }
    assert!(refused > 5);
    h.jobs().unwrap();
    Harness::reopen(h.vfs.crash(1), h.expected(), "after refused jobs").unwrap();
}

#[test]
fn a_failed_sync_ends_the_log() {
    let mut h = one_queue();
    h.append(queue(0), vec![body(1, 100)]).unwrap();
    h.commit().unwrap();
    h.state(queue(0)).unwrap();
    h.vfs.fail_at_call(Call::Sync, 0, Fault::Io);
    let error = h.log.commit(NOW_MS).unwrap_err();
    assert!(matches!(error, CommitError::Poisoned(_)), "{error}");
    // The disk says that all is well again; the log does not believe it.
    assert!(matches!(
        h.log.commit(NOW_MS),
        Err(CommitError::Poisoned(_))
    ));
    assert!(matches!(
        h.log.idle_sync(NOW_MS),
        Err(CommitError::Poisoned(_))
    ));
    let error = h.log.append_state(queue(0), b"").unwrap_err();
    assert!(matches!(error, AppendError::Poisoned(_)));
    assert!(!error.is_retryable());
    assert!(h.log.next_job().is_none());
    assert!(!h.log.has_room_for(0));
    Harness::reopen(h.vfs.crash(1), h.expected(), "after a failed sync").unwrap();
}

#[test]
fn what_a_failed_sync_left_in_memory_is_not_taken_for_durable() {
    let mut h = one_queue();
    h.append(queue(0), vec![body(1, 2000)]).unwrap();
    h.vfs.fail_at_call(Call::Sync, 0, Fault::Io);
    h.log.commit(NOW_MS).unwrap_err();
    // The next process finds the group, whole, and goes on after it.
    let expected = h.expected();
    let mut h = Harness::reopen(h.vfs.kill(), expected, "killed").unwrap();
    h.append(queue(0), vec![body(2, 100)]).unwrap();
    h.commit().unwrap();
    // What it found must be on the disk by now, not only in the page cache.
    for seed in 0..20 {
        Harness::reopen(h.vfs.crash(seed), h.expected(), "and the power lost").unwrap();
    }
}

#[test]
fn a_recycled_name_that_was_not_synced_ends_the_log() {
    let mut h = one_queue();
    for n in 0.. {
        h.append(queue(0), vec![body(n, 3000)]).unwrap();
        h.trim(queue(0), n).unwrap();
        h.snapshot(queue(0)).unwrap();
        h.commit().unwrap();
        let Some(job) = h.log.next_job() else {
            continue;
        };
        let is_recycle = job.kind() == "recycle";
        if is_recycle {
            h.vfs.fail_at_call(Call::Sync, 0, Fault::NoSpace);
        }
        let done = job.run(&h.vfs);
        let result = h.log.finish_job(done);
        if is_recycle {
            assert!(matches!(result, Err(JobError::Poisoned(_))), "{result:?}");
            break;
        }
        result.unwrap();
    }
    Harness::reopen(h.vfs.crash(1), h.expected(), "after it").unwrap();
}

#[test]
fn short_reads_are_read_on() {
    let mut h = one_queue();
    for n in 0..20 {
        h.append(queue(0), vec![body(n, 500)]).unwrap();
        h.commit().unwrap();
    }
    for nth in 0..10 {
        h.vfs.fail_at_call(Call::Read, nth, Fault::ShortRead);
        assert_eq!(read_all(&h.log, queue(0), 0).unwrap().len(), 20);
        let disk = h.vfs.kill();
        disk.fail_at_call(Call::Read, nth, Fault::ShortRead);
        Harness::reopen(disk, h.expected(), "with a short read").unwrap();
    }
}

#[test]
fn options_out_of_bounds_are_named() {
    let base = small_options;
    let cases = [
        (
            "file_bytes",
            Options {
                file_bytes: 5000,
                ..base()
            },
        ),
        (
            "wal_bytes_max",
            Options {
                wal_bytes_max: 3 * (16 << 10),
                ..base()
            },
        ),
        (
            "wal_bytes_low",
            Options {
                wal_bytes_low: 80 << 10,
                ..base()
            },
        ),
        (
            "group_bytes_max",
            Options {
                group_bytes_max: 17 << 10,
                ..base()
            },
        ),
        (
            "segment_bytes_max",
            Options {
                segment_bytes_max: 100,
                ..base()
            },
        ),
    ];
    for (name, options) in cases {
        match Log::open(new_disk(), &dir(), options, NOW_MS) {
            Err(OpenError::Options { option, .. }) => assert_eq!(option, name),
            Err(error) => panic!("{name}: {error}"),
            Ok(_) => panic!("{name} was taken"),
        }
    }
}

#[test]
fn a_snapshot_replaces_what_came_before() {
    let mut h = one_queue();
    h.append(queue(0), vec![body(1, 10), body(2, 10)]).unwrap();
    h.log.append_state(queue(0), b"before").unwrap();
    h.log.append_snapshot(queue(0), b"all of it").unwrap();
    h.log.append_state(queue(0), b"after").unwrap();
    h.log.trim(queue(0), 1).unwrap();
    h.log.commit(NOW_MS).unwrap();
    let (_, found) = Log::open(h.vfs.kill(), &dir(), small_options(), NOW_MS).unwrap();
    let found = &found.queues[0];
    assert_eq!(found.snapshot.as_deref(), Some(&b"all of it"[..]));
    let expected = [Replay::State("after".into()), Replay::Trimmed(1)];
    assert_eq!(found.replay, expected);
    assert_eq!((found.first_offset, found.next_offset), (1, 2));
    assert_eq!(
        (&found.name[..], &found.settings[..]),
        ("q0000000000001000", &b"settings"[..])
    );
}

#[test]
fn a_removed_queue_is_gone_with_its_files_and_its_offsets_are_its_own() {
    let mut h = one_queue();
    h.append(queue(0), vec![body(1, 10)]).unwrap();
    h.commit().unwrap();
    h.remove(queue(0)).unwrap();
    h.commit().unwrap();
    // The tombstone is synced, the files are not deleted yet.
    let mut h2 = Harness::reopen(h.vfs.crash(1), h.expected(), "a tombstone").unwrap();
    h2.jobs().unwrap();
    h.jobs().unwrap();
    for h in [h, h2] {
        let left = h.vfs.files();
        assert!(!left.iter().any(|p| p.ends_with("queue.meta")), "{left:?}");
        Harness::reopen(h.vfs.crash(2), h.expected(), "a removed queue").unwrap();
    }
}

#[test]
fn a_queue_is_not_trimmed_beyond_what_it_has() {
    let mut h = one_queue();
    h.append(queue(0), vec![body(1, 10)]).unwrap();
    h.log.trim(queue(0), 100).unwrap();
    h.commit().unwrap();
    h.append(queue(0), vec![body(2, 10)]).unwrap();
    h.commit().unwrap();
    let left = read_all(&h.log, queue(0), 0).unwrap();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_failed_sync_of_a_description_ends_the_log() {
    let mut h = one_queue();
    h.vfs.fail_at_call(Call::Sync, 0, Fault::Io);
    h.log.update_settings(queue(0), "q", b"new").unwrap_err();
    assert!(matches!(
        h.log.commit(NOW_MS),
        Err(CommitError::Poisoned(_))
    ));
}

/// A million queued messages must not cost their own size in memory.
#[test]
fn the_index_of_a_backlog_is_small() {
    let vfs = new_disk();
    let options = Options {
        file_bytes: 1 << 20,
        wal_bytes_max: 8 << 20,
        wal_bytes_low: 2 << 20,
        group_bytes_max: 1 << 20,
        segment_bytes_max: 4 << 20,
        ..small_options()
    };
    let (mut log, _) = Log::open(vfs.clone(), &dir(), options, NOW_MS).unwrap();
    log.create_queue(queue(0), "q", b"").unwrap();
    let bodies: Vec<_> = (0..256).map(|n| body(n, 128)).collect();
    let slab = slab(&bodies);
    for batch in 0..1000u64 {
        log.append_messages(queue(0), messages(batch * 256, 256), &[&slab])
            .unwrap();
        log.commit(NOW_MS).unwrap();
        while let Some(job) = log.next_job() {
            log.finish_job(job.run(&vfs)).unwrap();
        }
        for queue in log.wants_snapshots() {
            log.append_snapshot(queue, b"").unwrap();
        }
    }
    let used = log.space_used();
    assert!(used.segment_bytes > 30 << 20, "{used:?}");
    assert!(used.index_bytes < 16 << 10, "{used:?}");
    let mut at = 0;
    while at < 256_000 {
        let batch = log.read(queue(0), at, 1 << 20).unwrap();
        assert!(batch.next > at);
        at = batch.next;
    }
}

#[test]
fn the_log_and_its_jobs_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Log<waypost_log::RealVfs>>();
    is_send::<waypost_log::Job<waypost_log::RealVfs>>();
    is_send::<waypost_log::JobDone<waypost_log::RealVfs>>();
}
