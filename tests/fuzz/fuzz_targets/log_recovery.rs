//! A data directory in which bytes were changed, or a WAL file of any bytes: it opens or says why
//! not, it serves no record that is not what was appended there, and it can be used and opened
//! again.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use waypost_log::mem::MemVfs;
use waypost_log::{Incarnation, Log, Messages, Options, ReadError, scan};
use waypost_wire::Message;
use waypost_wire::slab::SlabBuilder;

const NOW_MS: u64 = 1_700_000_000_000;
const MESSAGES: u64 = 60;

fn dir() -> PathBuf {
    PathBuf::from("/data/shard-0000")
}

fn options() -> Options {
    Options {
        file_bytes: 16 << 10,
        wal_bytes_max: 96 << 10,
        wal_bytes_low: 32 << 10,
        group_bytes_max: 8 << 10,
        segment_bytes_max: 8 << 10,
        nonce: 0x5eed,
        ..Options::default()
    }
}

fn queue() -> Incarnation {
    Incarnation::new(0x77).expect("it is not zero")
}

fn body(offset: u64) -> bytes::Bytes {
    Message::new("t", vec![offset as u8; (offset * 37 % 400) as usize]).to_body()
}

fn append(log: &mut Log<MemVfs>, offset: u64) -> bool {
    let mut slab = SlabBuilder::new();
    slab.push(&body(offset));
    let slab = slab.finish();
    let head = Messages {
        epoch: 1,
        first_offset: offset,
        count: 1,
        time_ms: NOW_MS,
    };
    log.append_messages(queue(), head, &[slab.bytes()]).is_ok()
        && log.append_state(queue(), b"state").is_ok()
}

/// A shard with WAL files, a snapshot and a segment.
fn template() -> &'static MemVfs {
    static TEMPLATE: OnceLock<MemVfs> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let vfs = MemVfs::with_dir(Path::new("/data")).expect("the disk works");
        let (mut log, _) =
            Log::open(vfs.clone(), &dir(), options(), NOW_MS).expect("the disk works");
        log.create_queue(queue(), "q", b"").expect("the disk works");
        for offset in 0..MESSAGES {
            assert!(append(&mut log, offset), "there is room");
            log.commit(NOW_MS).expect("the disk works");
            for wanted in log.wants_snapshots() {
                log.append_snapshot(wanted, b"snapshot").expect("there is room");
            }
            if let Some(job) = log.next_job() {
                let done = job.run(&vfs);
                log.finish_job(done).expect("the disk works");
            }
        }
        vfs
    })
}

/// Overlays pieces of `data` on the files: which file, where, how many bytes, the bytes.
fn change(vfs: &MemVfs, mut data: &[u8]) {
    let files: Vec<PathBuf> = vfs.files();
    while let [file, high, low, len, rest @ ..] = data {
        let path = &files[usize::from(*file) % files.len()];
        let mut bytes = vfs.contents(path).unwrap_or_default();
        let at = usize::from(*high) << 8 | usize::from(*low);
        let len = usize::from(*len).min(rest.len());
        match len {
            0 => bytes.truncate(at),
            _ => {
                for (byte, new) in bytes.iter_mut().skip(at).zip(&rest[..len]) {
                    *byte = *new;
                }
            }
        }
        vfs.set_contents(path, bytes);
        data = &rest[len..];
    }
}

/// Reads all that is there; every record must be the one that was appended.
fn read_all(log: &Log<MemVfs>) -> u64 {
    let (mut at, mut end) = (0, 0);
    for _ in 0..10_000 {
        match log.read(queue(), at, 4096) {
            Ok(batch) if batch.chunks.is_empty() => return end,
            Ok(batch) => {
                for (offset, found) in batch.chunks.iter().flat_map(|c| c.records()) {
                    assert_eq!(found, body(offset), "offset {offset} is not what was appended");
                    end = end.max(offset + 1);
                }
                assert!(batch.next > at, "a read does not go on");
                at = batch.next;
            }
            Err(ReadError::Damaged { end_offset, .. }) if end_offset > at => at = end_offset,
            Err(_) => return end,
        }
    }
    panic!("reading does not come to an end");
}

fuzz_target!(|data: &[u8]| {
    let _ = scan::groups(data, waypost_log::Position(1 << 14));
    let vfs = template().kill();
    change(&vfs, data);
    let Ok((mut log, found)) = Log::open(vfs.clone(), &dir(), options(), NOW_MS) else {
        return;
    };
    let end = read_all(&log);
    let next = found.queues.iter().find(|q| q.incarnation == queue());
    let Some(next) = next.map(|q| q.next_offset.max(end)) else {
        return;
    };
    // Changed bytes may have forged a number that ends all numbers.
    if next < 1 << 32 && append(&mut log, next) {
        let _ = log.commit(NOW_MS);
    }
    drop(log);
    if let Ok((log, _)) = Log::open(vfs.kill(), &dir(), options(), NOW_MS) {
        read_all(&log);
    }
});
