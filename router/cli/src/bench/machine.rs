//! The machine: what to name beside every figure, and what one of its syncs takes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use super::outcome::Latency;

const PROBE_BYTES: u64 = 16 << 20;
const PROBE_SYNCS: u64 = 2_000;

/// What figures depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// The processor's name.
    pub cpu: String,
    /// The kernel's release.
    pub kernel: String,
    /// Whether data lies in memory, where a sync costs nothing and stored figures mean nothing.
    pub data_in_memory: bool,
    /// Load of the last minute: others that ran beside the bench.
    pub load: f64,
}

impl Machine {
    /// This machine, with data in `dir`.
    pub fn here(dir: &Path) -> Machine {
        /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
        const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu_info = read("/proc/cpuinfo");
        let cpu = cpu_info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim());
        let load = read("/proc/loadavg");
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu.to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            data_in_memory: rustix::fs::statfs(dir)
                .is_ok_and(|stat| IN_MEMORY.contains(&(stat.f_type as u64))),
            load: load
                .split(' ')
                .next()
                .and_then(|word| word.parse().ok())
                .unwrap_or(0.0),
        }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let Machine {
            cores,
            cpu,
            kernel,
            load,
            ..
        } = self;
        let memory = match self.data_in_memory {
            true => ", data in memory: stored figures mean nothing",
            false => "",
        };
        format!("{cores} cores ({cpu}), Linux {kernel}, load {load} before, loopback{memory}")
    }
}

/// What writing 256 bytes to a file whose blocks were all written before, and one fdatasync, takes
/// in `dir`.
pub fn sync_latency(dir: &Path) -> Result<Latency> {
    let path = dir.join("probe");
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    let mut probe = || -> std::io::Result<_> {
        file.write_all(&vec![0; PROBE_BYTES as usize])?;
        file.sync_all()?;
        let mut histogram = super::load::histogram();
        for index in 0..PROBE_SYNCS {
            let began = Instant::now();
            file.write_all_at(&[7; 256], index * 256)?;
            file.sync_data()?;
            histogram.saturating_record(began.elapsed().as_nanos() as u64);
        }
        Ok(Latency::of(&histogram))
    };
    let latency = probe().with_context(|| path.display().to_string());
    // The directory is temporary anyway.
    let _ = fs::remove_file(&path);
    latency
}
