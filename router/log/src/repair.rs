//! Repairing a data directory that no process uses: what an opening would do, and what it leaves to
//! a person.
//!
//! An opening cuts torn tails, copies rot aside, names files, and gives a damaged shard its
//! description back. It refuses a directory without a readable `format`, and serves a queue without
//! a description, or with a damaged segment, as well as it can, each time with an alarm. A repair
//! writes `format` anew, gives such a queue the name under which it is served, and puts a damaged
//! segment in order, so that the alarm ends. What no longer exists cannot be brought back: reads of
//! those offsets fail as before.
//!
//! Nothing is deleted: what is replaced goes to `quarantine/` first, and a note there says what was
//! done.

use std::path::{Path, PathBuf};

use crate::data_dir::{shard_dirs, write_format};
use crate::error::{IoError, OpenError};
use crate::format::meta::QueueMeta;
use crate::format::segment::{self, SEGMENT_HEADER_BYTES, file_name, is_header};
use crate::format::snapshot::SegmentInfo;
use crate::ids::Incarnation;
use crate::inspect::{check_description, hold_to_look, options_of};
use crate::log::{Log, replace_file};
use crate::overlay::Overlay;
use crate::recover::{RecoveryReport, io, read_range, read_small};
use crate::replay::move_aside;
use crate::shard_meta;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Something that was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The file that it was done to.
    pub file: PathBuf,
    /// What was done, and where the old bytes are.
    pub what: String,
}

/// How a repair is done.
#[derive(Clone, Copy, Debug)]
pub struct Repair {
    /// Says what would be done, and does nothing.
    pub is_dry: bool,
    /// Any unpredictable number: see [`crate::Options::nonce`].
    pub nonce: u64,
    /// The wall clock, ms since 1970, for people.
    pub now_ms: u64,
}

/// Repairs a data directory. Refuses one that is in use, of a newer format, or not a router's.
pub fn repair<V: Vfs>(vfs: &V, dir: &Path, how: Repair) -> Result<Vec<Action>, OpenError> {
    let _held = hold_to_look(vfs, dir)?;
    match how.is_dry {
        true => repair_all(&Overlay::new(vfs.clone()), dir, how),
        false => repair_all(vfs, dir, how),
    }
}

fn repair_all<V: Vfs>(vfs: &V, dir: &Path, how: Repair) -> Result<Vec<Action>, OpenError> {
    let mut actions = Vec::new();
    let shards = shard_dirs(vfs, dir)?;
    if let Some(finding) = check_description(vfs, dir)? {
        let mut what = format!("written anew: {}", finding.what);
        // A shard with groups that this version reads is the evidence that its format is this one.
        if let Some((_, shard)) = shards.first()
            && let Some(aside) = keep_old(vfs, &dir.join("format"), shard, "format", how)?
        {
            what = format!("{what}; the old one is {}", aside.display());
        }
        write_format(vfs, dir)?;
        actions.push(Action {
            file: finding.file,
            what,
        });
    }
    for (shard, path) in shards {
        let mut of_shard = repair_shard(vfs, shard, &path, how)?;
        actions.append(&mut of_shard);
    }
    Ok(actions)
}

/// Moves a file to a shard's quarantine; `None` if there is none.
fn keep_old<V: Vfs>(
    vfs: &V,
    path: &Path,
    shard: &Path,
    name: &str,
    how: Repair,
) -> Result<Option<PathBuf>, IoError> {
    let quarantine = shard.join("quarantine");
    io(vfs.create_dir(&quarantine), "make", &quarantine)?;
    io(vfs.sync_dir(shard), "sync", shard)?;
    let aside = quarantine.join(format!("{name}-{}", how.now_ms));
    if let Err(e) = vfs.open(path, OpenMode::Read)
        && e.kind() == std::io::ErrorKind::NotFound
    {
        return Ok(None);
    }
    move_aside(vfs, path, &aside)?;
    Ok(Some(aside))
}

fn repair_shard<V: Vfs>(
    vfs: &V,
    shard: u16,
    dir: &Path,
    how: Repair,
) -> Result<Vec<Action>, OpenError> {
    let mut actions = Vec::new();
    let options = options_of(vfs, shard, dir, how.nonce)?;
    if shard_meta::peek(vfs, dir)?.is_none() {
        let path = dir.join(shard_meta::FILE_NAME);
        keep_old(vfs, &path, dir, shard_meta::FILE_NAME, how)?;
        actions.push(Action {
            file: path,
            what: format!("made anew: WAL files of {} bytes", options.file_bytes),
        });
    }
    let file_bytes = options.file_bytes;
    let (mut log, found) = Log::open(vfs.clone(), dir, options, how.now_ms)?;
    tell(&found.report, dir, file_bytes, &mut actions);
    for queue in &found.queues {
        if queue.is_orphan {
            actions.push(describe(
                vfs,
                &mut log,
                queue.incarnation,
                &queue.name,
                how,
            )?);
        }
        let state = log.queues.get(&queue.incarnation);
        for info in state.map_or(Vec::new(), |q| q.segments.clone()) {
            let repaired = repair_segment(vfs, dir, queue.incarnation, &info, how)?;
            actions.extend(repaired);
        }
    }
    if !actions.is_empty() {
        leave_note(vfs, dir, &actions, how)?;
    }
    Ok(actions)
}

/// What the opening did.
fn tell(report: &RecoveryReport, dir: &Path, file_bytes: u64, actions: &mut Vec<Action>) {
    let torn = report.torn.iter().map(|d| (d, "a torn write was cut"));
    let rot = report.rot.iter().map(|d| (d, "rot"));
    for (damage, what) in torn.chain(rot) {
        let seq = damage.position.seq(file_bytes);
        let at = damage.position.offset(file_bytes);
        let did = match &damage.set_aside {
            Some(aside) => format!("copied to {}", aside.display()),
            None => "the bytes are gone".to_owned(),
        };
        actions.push(Action {
            file: dir.join("wal").join(crate::wal::wal_file_name(seq)),
            what: format!("{what}: {} bytes at byte {at}; {did}", damage.bytes),
        });
    }
}

/// Gives a queue the name under which it is served.
fn describe<V: Vfs>(
    vfs: &V,
    log: &mut Log<V>,
    queue: Incarnation,
    name: &str,
    how: Repair,
) -> Result<Action, OpenError> {
    let path = log.queue_dir(queue).join("queue.meta");
    let old = read_small(vfs, &path, 1 << 21)?;
    // A description that names another queue may be worth a look.
    let old_name = old.and_then(|b| QueueMeta::decode(&b)).map(|m| m.name);
    let aside = keep_old(vfs, &path, &log.dir, &format!("queue-{}", queue.hex()), how)?;
    let made = log.update_settings(queue, name, b"");
    made.map_err(|error| IoError {
        op: "describe a queue in",
        path: path.clone(),
        source: std::io::Error::other(error.to_string()),
    })?;
    let mut what = format!("the queue is called '{name}' now and has default settings");
    if let Some(aside) = aside {
        what = format!("{what}; the old description is {}", aside.display());
    }
    if let Some(old_name) = old_name {
        what = format!("{what}, of a queue '{old_name}'");
    }
    Ok(Action { file: path, what })
}

/// Gives a segment the header and the length that it must have. What its entries lost reads as
/// damaged.
fn repair_segment<V: Vfs>(
    vfs: &V,
    dir: &Path,
    queue: Incarnation,
    info: &SegmentInfo,
    how: Repair,
) -> Result<Option<Action>, OpenError> {
    let queue_dir = dir.join("queues").join(queue.hex());
    let path = queue_dir.join(file_name(info.first_offset));
    let header = segment::encode(queue, info.first_offset);
    let action = |what: String| {
        Some(Action {
            file: path.clone(),
            what,
        })
    };
    let offsets = format!("offsets {}..{}", info.first_offset, info.end_offset);
    let Ok(file) = vfs.open(&path, OpenMode::ReadWrite) else {
        io(vfs.create_dir(&queue_dir), "make", &queue_dir)?;
        let file = io(vfs.open(&path, OpenMode::Create), "make", &path)?;
        put(&file, &path, &header, info.bytes)?;
        io(vfs.sync_dir(&queue_dir), "sync", &queue_dir)?;
        let queues = dir.join("queues");
        io(vfs.sync_dir(&queues), "sync", &queues)?;
        return Ok(action(format!(
            "it is gone, and {offsets} with it: an empty one is in its place"
        )));
    };
    let len = io(file.len(), "measure", &path)?;
    let head = read_range(&file, 0..SEGMENT_HEADER_BYTES as u64, &path)?;
    if len >= info.bytes && is_header(&head, queue, info.first_offset) {
        return Ok(None);
    }
    // The file stays where it is, so that a crash leaves it whole: what goes aside is a copy.
    let name = format!(
        "segment-{}-{}-{}",
        queue.hex(),
        info.first_offset,
        how.now_ms
    );
    let quarantine = dir.join("quarantine");
    let copy = read_range(&file, 0..len, &path)?;
    replace_file(vfs, &quarantine, &name, &copy)?;
    put(&file, &path, &header, info.bytes.max(len))?;
    Ok(action(format!(
        "its header or length was wrong ({len} of {} bytes): both are right now, and what is left \
         of {offsets} is served; a copy is {}",
        info.bytes,
        quarantine.join(name).display()
    )))
}

fn put<F: VfsFile>(file: &F, path: &Path, header: &[u8], len: u64) -> Result<(), IoError> {
    io(file.write_all_at(header, 0), "write", path)?;
    io(file.set_len(len), "lengthen", path)?;
    io(file.sync_data(), "sync", path)
}

/// Says in the quarantine what was done to what lies there.
fn leave_note<V: Vfs>(
    vfs: &V,
    dir: &Path,
    actions: &[Action],
    how: Repair,
) -> Result<(), OpenError> {
    let lines: Vec<String> = actions
        .iter()
        .map(|a| format!("{}: {}\n", a.file.display(), a.what))
        .collect();
    let name = format!("repair-{}.txt", how.now_ms);
    let quarantine = dir.join("quarantine");
    Ok(replace_file(
        vfs,
        &quarantine,
        &name,
        lines.concat().as_bytes(),
    )?)
}
