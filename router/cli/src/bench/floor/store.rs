//! The floor's disk: a ring of bytes that were all written once before, and a thread that appends
//! to it what has arrived and syncs it, group by group.
//!
//! No record, no checksum, no index: nothing could be read back from it.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

/// Size of the ring; it is filled with zeros before each run.
const RING_BYTES: u64 = 128 << 20;
/// Jobs in one group at most; pwritev takes 1,024 slices.
const GROUP_JOBS: usize = 64;

/// Bytes to sync, and whom to tell.
pub struct Job {
    /// The slabs, at most [`SLABS_MAX`].
    pub slabs: Vec<Bytes>,
    /// What the publisher's stream needs to go on.
    pub batch: super::relay::Batch,
    /// Gets `batch` back once it is synced; closed when a write failed.
    pub synced: UnboundedSender<super::relay::Batch>,
}

/// Slabs in one job at most.
pub const SLABS_MAX: usize = 1024 / GROUP_JOBS;

/// Prepares the ring and starts the writer.
pub fn start(dir: &Path) -> Result<Sender<Job>> {
    let path = dir.join("ring");
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..RING_BYTES >> 20 {
        file.write_all(&zeros).context("filling the ring")?;
    }
    file.sync_all().context("filling the ring")?;
    let (sender, jobs) = channel();
    std::thread::Builder::new()
        .name("floor-store".into())
        .spawn(move || match write(&file, &jobs) {
            Ok(()) => {}
            Err(error) => {
                // As in the node: nothing is confirmed after a failed sync.
                eprintln!("floor: the store failed: {error:#}");
                std::process::exit(1);
            }
        })
        .context("starting the writer")?;
    Ok(sender)
}

fn write(file: &File, jobs: &Receiver<Job>) -> Result<()> {
    let mut at = 0;
    let mut group = Vec::with_capacity(GROUP_JOBS);
    while let Ok(first) = jobs.recv() {
        group.push(first);
        group.extend(jobs.try_iter().take(GROUP_JOBS - 1));
        at = append(file, &group, at)?;
        file.sync_data().context("fdatasync")?;
        for job in group.drain(..) {
            // A publisher that is gone is told nothing.
            let _ = job.synced.send(job.batch);
        }
    }
    Ok(())
}

/// Appends a group; gives where the next begins.
fn append(file: &File, group: &[Job], at: u64) -> Result<u64> {
    let slabs = group.iter().flat_map(|job| &job.slabs);
    let slices: Vec<IoSlice<'_>> = slabs.map(|slab| IoSlice::new(slab)).collect();
    let length: usize = slices.iter().map(|slice| slice.len()).sum();
    let at = match at + length as u64 > RING_BYTES {
        true => 0,
        false => at,
    };
    let written = rustix::io::pwritev(file, &slices, at).context("pwritev")?;
    if written < length {
        // Rare; what is left goes as one.
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        file.write_all_at(&all[written..], at + written as u64)
            .context("pwrite")?;
    }
    Ok(at + length as u64)
}
