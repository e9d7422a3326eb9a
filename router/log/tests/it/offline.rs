//! A data directory that no process uses: looked at, shown, repaired.

use std::path::{Path, PathBuf};

use waypost_log::dump::{Select, dump};
use waypost_log::format::entry::EntryKind;
use waypost_log::inspect::{FindingKind, Report, check};
use waypost_log::mem::MemVfs;
use waypost_log::repair::{Action, Repair, repair};
use waypost_log::{DataDir, Log, OpenError, Vfs};

use crate::damage::{pristine, serve};
use crate::harness::{NOW_MS, queue};

const DIR: &str = "/data";

fn look(disk: &MemVfs) -> Report {
    check(disk, Path::new(DIR)).unwrap()
}

fn mend(disk: &MemVfs, is_dry: bool) -> Vec<Action> {
    let how = Repair {
        is_dry,
        nonce: 7,
        now_ms: NOW_MS,
    };
    repair(disk, Path::new(DIR), how).unwrap()
}

/// Everything but the lock file, which every look writes.
fn all_bytes(disk: &MemVfs) -> Vec<(PathBuf, Vec<u8>)> {
    let files = disk.files().into_iter().filter(|f| !f.ends_with("LOCK"));
    files
        .map(|f| (f.clone(), disk.contents(&f).unwrap()))
        .collect()
}

fn find(disk: &MemVfs, end: &str) -> PathBuf {
    let ends = |f: &PathBuf| f.to_string_lossy().ends_with(end);
    disk.files().into_iter().find(ends).unwrap()
}

#[test]
fn a_sound_directory_is_counted_and_left_alone() {
    let made = pristine();
    let before = all_bytes(&made.disk);
    let report = look(&made.disk);
    assert_eq!(report.findings, vec![]);
    let shard = &report.shards[0];
    assert_eq!(shard.file_bytes, 8 << 10);
    assert!(shard.wal.len() >= 3 && shard.groups >= 6, "{shard:?}");
    assert_eq!(shard.wal.last().unwrap().opens, vec![2]);
    let queues: Vec<_> = shard
        .queues
        .iter()
        .map(|q| (q.name.as_str(), q.offsets.clone(), q.records))
        .collect();
    assert_eq!(
        queues,
        vec![("q0", 0..96, 96), ("q1", 0..48, 48), ("q2", 9..48, 39)]
    );
    assert!(shard.queues[0].segments >= 2);
    assert_eq!(mend(&made.disk, true), vec![]);
    assert_eq!(all_bytes(&made.disk), before);
}

#[test]
fn a_directory_in_use_or_of_others_is_refused() {
    let made = pristine();
    let held = DataDir::open(&made.disk, Path::new(DIR)).unwrap();
    let error = check(&made.disk, Path::new(DIR)).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(held);
    let error = check(&made.disk, Path::new("/nowhere")).unwrap_err();
    assert!(matches!(error, OpenError::Io(_)), "{error}");
    let format = find(&made.disk, "/format");
    let newer = b"waypost data directory, format 2\n".to_vec();
    made.disk.set_contents(&format, newer);
    let error = check(&made.disk, Path::new(DIR)).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { .. }), "{error}");
}

#[test]
fn a_dump_shows_all_entries_of_a_queue_with_their_places() {
    let made = pristine();
    let mut offsets = std::collections::BTreeSet::new();
    let mut states = 0;
    let everything = Select {
        queue: Some("q0".to_owned()),
        range: 0..u64::MAX,
    };
    let matches = dump(
        &made.disk,
        Path::new(DIR),
        &everything,
        &mut |shown, names| {
            assert_eq!(names[0].name.as_deref(), Some("q0"));
            assert_eq!(shown.header.incarnation, queue(0).get());
            assert!(shown.intact);
            match shown.header.kind {
                EntryKind::Messages => {
                    offsets.extend(shown.header.first_offset..shown.header.end_offset());
                }
                EntryKind::State => states += 1,
                _ => {}
            }
            true
        },
    );
    assert_eq!(matches.unwrap(), 1);
    assert_eq!(offsets, (0..96).collect());
    assert!(states > 0);
    // A range of offsets, by incarnation; then enough.
    let some = Select {
        queue: Some(queue(1).hex()),
        range: 5..9,
    };
    let mut seen = std::collections::BTreeSet::new();
    dump(&made.disk, Path::new(DIR), &some, &mut |shown, _| {
        seen.insert(shown.header.first_offset);
        true
    })
    .unwrap();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), vec![4, 8]);
    let mut count = 0;
    let wal = Select {
        queue: None,
        range: 0..u64::MAX,
    };
    dump(&made.disk, Path::new(DIR), &wal, &mut |_, _| {
        count += 1;
        count < 3
    })
    .unwrap();
    assert_eq!(count, 3);
}

/// Repairs a damaged copy: the dry run changes nothing and says the same, and afterwards nothing is
/// wrong that a person could put right.
fn repaired(disk: &MemVfs, what: &str) -> Vec<Action> {
    let before = all_bytes(disk);
    let planned = mend(disk, true);
    assert_eq!(
        all_bytes(disk),
        before,
        "{what}: a dry run changed something"
    );
    let done = mend(disk, false);
    assert_eq!(planned, done, "{what}");
    let is_spare = |f: &PathBuf| f.to_string_lossy().contains("/spare-");
    for (file, bytes) in before.into_iter().filter(|(f, _)| !is_spare(f)) {
        let is_kept = all_bytes(disk)
            .into_iter()
            .any(|(f, b)| b == bytes || f == file);
        assert!(is_kept, "{what}: {} is gone", file.display());
    }
    for finding in look(disk).findings {
        let is_record = finding.offsets.is_some();
        let is_wal = finding.file.to_string_lossy().contains("/wal");
        assert!(is_record || is_wal, "{what}: {finding:?}");
    }
    done
}

#[test]
fn a_repair_puts_right_what_an_opening_refuses_or_bemoans() {
    let made = pristine();
    for (end, damage) in [
        ("/format", "gone"),
        ("/format", "flipped"),
        ("/shard.meta", "gone"),
        ("/shard.meta", "flipped"),
        ("1000/queue.meta", "gone"),
        ("1000/queue.meta", "flipped"),
        ("00.seg", "gone"),
        ("00.seg", "flipped"),
        ("00.seg", "short"),
    ] {
        let what = format!("{end} {damage}");
        let disk = made.disk.kill();
        let file = find(&disk, end);
        let bytes = disk.contents(&file).unwrap();
        match damage {
            "gone" => disk.remove_file(&file).unwrap(),
            "flipped" => disk.flip_bit(&file, 20),
            _ => disk.set_contents(&file, bytes[..1000].to_vec()),
        }
        let report = look(&disk);
        assert!(!report.findings.is_empty(), "{what}");
        let done = repaired(&disk, &what);
        assert_eq!(done.len(), 1, "{what}: {done:?}");
        let served = serve(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(!served.is_alarming(), "{what}: {:?}", served.found.report);
        let lost = served.named;
        let whole: usize = made.required(|_, _| false).values().map(|r| r.len()).sum();
        let found: usize = served.records.values().map(|r| r.len()).sum();
        assert_eq!(found as u64 + lost, whole as u64, "{what}");
        assert_eq!(lost > 0, end == "00.seg" && damage != "flipped", "{what}");
        // And a second repair has nothing to do.
        assert_eq!(mend(&disk, false), vec![], "{what}");
    }
}

#[test]
fn torn_and_rotten_groups_are_told_with_their_place() {
    let made = pristine();
    let is_wal = |f: &&PathBuf| f.extension().is_some_and(|e| e == "wal");
    let files = made.disk.files();
    let last = files.iter().rfind(is_wal).unwrap();
    let bytes = made.disk.contents(last).unwrap();
    let groups = bytes.chunks(4096).filter(|p| p[..4] == *b"WPG1").count();
    // The last one proves those before it; without it, the one before is the end.
    for (page, kind) in [(0, FindingKind::Rot), (groups - 1, FindingKind::Torn)] {
        let disk = made.disk.kill();
        disk.flip_bit(last, (page * 4096 + 50) * 8);
        let report = look(&disk);
        let finding = &report.findings[0];
        assert_eq!((finding.kind, &finding.file), (kind, last));
        assert_eq!(finding.at, page as u64 * 4096);
        assert!(finding.what.contains("CRC32C is 0x"), "{}", finding.what);
        assert_eq!(report.has_loss(), kind == FindingKind::Rot);
        repaired(&disk, kind.as_str());
    }
}

#[test]
fn directories_are_gone() {
    let made = pristine();
    for gone in ["wal", "queues", "quarantine"] {
        let disk = made.disk.kill();
        let part = format!("/data/shard-0000/{gone}/");
        for file in disk.files() {
            if file.to_string_lossy().starts_with(&part) {
                disk.remove_file(&file).unwrap();
            }
        }
        let is_harmless = gone == "quarantine";
        assert_eq!(look(&disk).findings.is_empty(), is_harmless, "{gone}");
        let (log, found) = Log::open(
            disk.kill(),
            Path::new("/data/shard-0000"),
            crate::harness::small_options(),
            NOW_MS,
        )
        .unwrap();
        assert_eq!(found.report.is_alarming(), !is_harmless, "{gone}");
        drop(log);
        repaired(&disk, gone);
    }
}
