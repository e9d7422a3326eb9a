//! Bytes that changed after they were synced: nothing wrong is served, nothing good is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;

use waypost_log::mem::MemVfs;
use waypost_log::recover::RecoveryReport;
use waypost_log::{Incarnation, Log, ReadError};

use crate::harness::{NOW_MS, body, dir, messages, new_disk, queue, read_all, slab, small_options};

type Records = BTreeMap<u64, Vec<u8>>;

fn bodies(first: u64, count: u64) -> Vec<Vec<u8>> {
    (first..first + count).map(|n| body(n, 60)).collect()
}

/// Two queues, five groups of a few records and states, and proof that the last was synced.
fn small_wal() -> (MemVfs, Records) {
    let vfs = new_disk();
    let (mut log, _) = Log::open(vfs.clone(), &dir(), small_options(), NOW_MS).unwrap();
    for n in 0..2 {
        log.create_queue(queue(n), &format!("q{n}"), b"").unwrap();
    }
    let mut records = Records::new();
    for group in 0..5 {
        for n in 0..2 {
            let first = group * 3;
            let bodies = bodies(first, 3);
            log.append_messages(queue(n), messages(first, 3), &[slab(&bodies)])
                .unwrap();
            log.append_state(queue(n), b"a state of the queue").unwrap();
            records.extend((first..).zip(bodies));
        }
        log.commit(NOW_MS).unwrap();
    }
    log.idle_sync(NOW_MS).unwrap();
    // The files that were turned to get their names.
    while let Some(job) = log.next_job().filter(|job| job.kind() == "name") {
        let done = job.run(&vfs);
        log.finish_job(done).unwrap();
    }
    (vfs, records)
}

/// The writer turns to a new file without naming it; a crash before the job that does loses
/// nothing, however often it happened.
#[test]
fn files_that_a_crash_left_unnamed_are_known_by_their_groups() {
    let vfs = new_disk();
    let mut records = Records::new();
    for round in 0..2 {
        let (mut log, report) = open(&vfs);
        assert!(
            !report.is_alarming() && report.torn.is_empty(),
            "{report:?}"
        );
        if round == 0 {
            log.create_queue(queue(0), "q", b"").unwrap();
        }
        for group in 0..4 {
            let first = (round * 4 + group) * 3;
            let bodies = bodies(first, 3);
            log.append_messages(queue(0), messages(first, 3), &[slab(&bodies)])
                .unwrap();
            log.commit(NOW_MS).unwrap();
            records.extend((first..).zip(bodies));
            log.append_snapshot(queue(0), b"s").unwrap();
        }
        assert!(
            vfs.files()
                .iter()
                .any(|p| p.to_string_lossy().contains("spare-"))
        );
        assert_eq!(read_good(&log, queue(0)), (records.clone(), 0));
    }
    let (log, _) = open(&vfs.crash(7));
    assert_eq!(read_good(&log, queue(0)), (records, 0));
}

/// Reads all that can be read; what cannot is skipped as the error says.
fn read_good(log: &Log<MemVfs>, queue: Incarnation) -> (Records, u64) {
    let mut records = Records::new();
    let (mut at, mut lost) = (0, 0);
    loop {
        match log.read(queue, at, u64::MAX) {
            Ok(batch) if batch.chunks.is_empty() => return (records, lost),
            Ok(batch) => {
                for chunk in &batch.chunks {
                    records.extend(chunk.records().map(|(o, b)| (o, b.to_vec())));
                }
                at = batch.next;
            }
            Err(ReadError::Damaged {
                first_offset,
                end_offset,
                ..
            }) => {
                assert!(first_offset >= at && end_offset > at, "no way on from {at}");
                lost += end_offset - first_offset;
                at = end_offset;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn open(vfs: &MemVfs) -> (Log<MemVfs>, RecoveryReport) {
    let (log, found) = Log::open(vfs.clone(), &dir(), small_options(), NOW_MS).unwrap();
    (log, found.report)
}

fn wal_file(vfs: &MemVfs) -> PathBuf {
    let is_wal = |p: &PathBuf| p.extension().is_some_and(|e| e == "wal");
    vfs.files().into_iter().find(is_wal).unwrap()
}

#[test]
fn any_bit_of_the_wal_flips() {
    let (vfs, records) = small_wal();
    // The opening group, then two of the five; the others are in the next files.
    let path = wal_file(&vfs);
    let bytes = vfs.contents(&path).unwrap();
    let used = |at: usize| {
        let group = &bytes[at / 4096 * 4096..];
        let length = u32::from_le_bytes(group[8..12].try_into().unwrap());
        at % 4096 < length as usize
    };
    let mut flips = 0;
    for at in (0..bytes.len()).filter(|at| used(*at)) {
        // Every byte, and all bits over eight neighbours.
        let disk = vfs.kill();
        disk.flip_bit(&path, at * 8 + at % 8);
        flips += 1;
        let (log, report) = open(&disk);
        assert!(report.torn.is_empty(), "byte {at}: synced bytes were cut");
        assert_eq!(report.rot.len(), 1, "byte {at}");
        for n in 0..2 {
            let (found, _) = read_good(&log, queue(n));
            for (offset, body) in &found {
                assert_eq!(Some(body), records.get(offset), "byte {at}: wrong record");
            }
            let missing = records.len() - found.len();
            assert!(missing <= 3, "byte {at}: {missing} records missing");
        }
        // What was wrong once stays readable as it is.
        drop(log);
        let (log, _) = open(&disk.kill());
        let (found, _) = read_good(&log, queue(0));
        assert!(found.iter().all(|(o, b)| records.get(o) == Some(b)));
    }
    assert!(flips > 2000);
}

#[test]
fn a_flipped_body_costs_one_record() {
    let (vfs, records) = small_wal();
    let path = wal_file(&vfs);
    let bytes = vfs.contents(&path).unwrap();
    let victim = &records[&1];
    let at = bytes
        .windows(victim.len())
        .position(|w| w == victim)
        .unwrap();
    vfs.flip_bit(&path, (at + 20) * 8);
    let (log, report) = open(&vfs.kill());
    assert!(report.is_alarming());
    let (found, lost) = read_good(&log, queue(0));
    assert_eq!(lost, 1);
    assert_eq!(found.len(), records.len() - 1);
    assert!(!found.contains_key(&1));
    let error = log.read(queue(0), 1, 1).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("offsets 1..2 are damaged in /data/shard-0000/wal/"),
        "{text}"
    );
}

#[test]
fn rot_is_set_aside() {
    let (vfs, _) = small_wal();
    let path = wal_file(&vfs);
    vfs.flip_bit(&path, 4096 * 8 + 100);
    let disk = vfs.kill();
    let (_, report) = open(&disk);
    let copy = report.rot[0].set_aside.clone().unwrap();
    let kept = disk.contents(&copy).unwrap();
    assert_eq!(kept, disk.contents(&path).unwrap()[4096..8192]);
}

#[test]
fn the_wal_has_any_length() {
    let (vfs, records) = small_wal();
    let last = vfs
        .files()
        .into_iter()
        .rfind(|p| p.extension().is_some_and(|e| e == "wal"))
        .unwrap();
    let bytes = vfs.contents(&last).unwrap();
    let first_file_groups = 3;
    for len in (0..bytes.len()).filter(|len| len % 4096 < 1100 || len % 512 == 0) {
        let disk = vfs.kill();
        disk.set_contents(&last, bytes[..len].to_vec());
        let (log, _) = open(&disk);
        let (found, _) = read_good(&log, queue(0));
        assert!(found.iter().all(|(o, b)| records.get(o) == Some(b)));
        assert!(found.len() >= first_file_groups * 3, "length {len}");
        drop(log);
        // And what is left takes new records.
        let (mut log, _) = open(&disk.kill());
        let bodies = bodies(100, 2);
        log.append_messages(queue(0), messages(100, 2), &[slab(&bodies)])
            .unwrap();
        log.commit(NOW_MS).unwrap();
        assert_eq!(read_all(&log, queue(0), 100).unwrap().len(), 2);
    }
}

#[test]
fn any_byte_of_a_segment_flips() {
    let vfs = new_disk();
    let (mut log, _) = Log::open(vfs.clone(), &dir(), small_options(), NOW_MS).unwrap();
    log.create_queue(queue(0), "q", b"").unwrap();
    let mut records = Records::new();
    for group in 0..40 {
        let bodies = bodies(group * 8, 8);
        log.append_messages(queue(0), messages(group * 8, 8), &[slab(&bodies)])
            .unwrap();
        records.extend((group * 8..).zip(bodies));
        log.commit(NOW_MS).unwrap();
        while let Some(job) = log.next_job() {
            log.finish_job(job.run(&vfs)).unwrap();
        }
        for queue in log.wants_snapshots() {
            log.append_snapshot(queue, b"").unwrap();
        }
    }
    log.commit(NOW_MS).unwrap();
    drop(log);
    let is_segment = |p: &PathBuf| p.extension().is_some_and(|e| e == "seg");
    let segment = vfs.files().into_iter().find(is_segment).unwrap();
    let len = vfs.contents(&segment).unwrap().len();
    assert!(len > 4000);
    for at in 64..len {
        // A header is mended, a body is not.
        let in_header = at < 64 + 48;
        let disk = vfs.kill();
        disk.flip_bit(&segment, at * 8 + at % 8);
        let (log, _) = open(&disk);
        let (found, lost) = read_good(&log, queue(0));
        assert!(
            found.iter().all(|(o, b)| records.get(o) == Some(b)),
            "byte {at}"
        );
        let missing = (records.len() - found.len()) as u64;
        assert!(missing <= 8, "byte {at}: {missing} missing");
        assert!(missing == 0 || !in_header, "byte {at}: {missing} missing");
        assert_eq!(missing, lost, "byte {at}: each missing record is named");
    }
}

#[test]
fn a_missing_segment_is_named_and_the_rest_served() {
    let (vfs, _) = small_wal();
    let (mut log, _) = open(&vfs);
    for group in 0..40u64 {
        let first = 100 + group * 8;
        log.append_messages(queue(0), messages(first, 8), &[slab(&bodies(first, 8))])
            .unwrap();
        log.commit(NOW_MS).unwrap();
        while let Some(job) = log.next_job() {
            log.finish_job(job.run(&vfs)).unwrap();
        }
        for queue in log.wants_snapshots() {
            log.append_snapshot(queue, b"").unwrap();
        }
    }
    log.commit(NOW_MS).unwrap();
    drop(log);
    let is_segment = |p: &PathBuf| p.extension().is_some_and(|e| e == "seg");
    let segment = vfs.files().into_iter().find(is_segment).unwrap();
    let disk = vfs.kill();
    waypost_log::Vfs::remove_file(&disk, &segment).unwrap();
    let (log, report) = open(&disk);
    assert_eq!(report.segments.len(), 1);
    let (found, lost) = read_good(&log, queue(0));
    assert!(lost > 0 && !found.is_empty());
}

#[test]
fn a_queue_without_description_is_served_under_a_recovered_name() {
    let (vfs, records) = small_wal();
    let meta = vfs
        .files()
        .into_iter()
        .find(|p| p.ends_with("queue.meta"))
        .unwrap();
    for damage in ["removed", "flipped"] {
        let disk = vfs.kill();
        match damage {
            "removed" => waypost_log::Vfs::remove_file(&disk, &meta).unwrap(),
            _ => disk.flip_bit(&meta, 200),
        }
        let (mut log, found) = Log::open(disk.clone(), &dir(), small_options(), NOW_MS).unwrap();
        assert_eq!(found.report.orphans, vec![queue(0)]);
        let orphan = &found.queues[0];
        assert!(orphan.is_orphan);
        assert_eq!(orphan.name, "recovered-0000000000001000");
        assert_eq!(read_good(&log, queue(0)).0, records);
        log.update_settings(queue(0), "found again", b"s").unwrap();
        drop(log);
        let (_, found) = Log::open(disk.kill(), &dir(), small_options(), NOW_MS).unwrap();
        assert_eq!(found.report.orphans, vec![]);
        assert_eq!(found.queues[0].name, "found again");
    }
}
