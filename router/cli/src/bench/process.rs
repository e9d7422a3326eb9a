//! A server process that the bench starts, and what it uses of the machine, from `/proc` and
//! `/sys`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// In the environment of a server that the bench starts: it ends with the process that started it,
/// also where that is killed.
const ENDS_WITH_PARENT: &str = "WAYPOST_BENCH_CHILD";

/// To be called when the program begins.
pub fn follow_parent() {
    #[cfg(target_os = "linux")]
    if std::env::var_os(ENDS_WITH_PARENT).is_some() {
        // Where it cannot be, whoever kills the bench has to look for its children.
        let _ =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
}

/// A child that ends when this is dropped.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    /// The statistics of the device that it writes to.
    device: Option<PathBuf>,
}

/// Totals since the process started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    cpu_seconds: f64,
    rss_bytes: u64,
    rss_max_bytes: u64,
    written_bytes: u64,
}

/// What the process used in the measured time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Use {
    /// Cores kept busy.
    pub cpus: f64,
    /// Resident memory at the end, in bytes.
    pub rss_bytes: u64,
    /// The most since it started.
    pub rss_max_bytes: u64,
    /// Bytes written to the device that holds the data, by everybody on the machine; 0 where it is
    /// no device of its own. (`/proc/<pid>/io` counts a large folio whole for each byte in it.)
    pub written_bytes: u64,
    /// The same over the bytes of all records that were confirmed.
    pub written_per_encoded: f64,
}

impl Process {
    /// Starts this binary again with `arguments`; it keeps its data in `data`.
    pub fn start<A: AsRef<std::ffi::OsStr>>(
        arguments: impl IntoIterator<Item = A>,
        data: &Path,
        stderr: Stdio,
    ) -> Result<Process> {
        let exe = this_binary()?;
        let mut child = Command::new(&exe)
            .args(arguments)
            .env(ENDS_WITH_PARENT, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("starting {}", exe.display()))?;
        let stdin = child.stdin.take();
        Ok(Process {
            child,
            stdin,
            device: device(data),
        })
    }

    /// The first line on its standard output; what follows is read and dropped.
    pub fn first_line(&mut self, timeout: Duration) -> Result<String> {
        let stdout = self.child.stdout.take().context("no standard output")?;
        let (sender, line) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut first = String::new();
            let read = reader.read_line(&mut first).map(|_| first);
            // Nobody waits any more: that is no fault.
            let _ = sender.send(read);
            let _ = reader.read_to_end(&mut Vec::new());
        });
        match line.recv_timeout(timeout) {
            Ok(line) => Ok(line.context("standard output")?),
            Err(_) => bail!("no answer within {} s", timeout.as_secs()),
        }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = usage(self.id()).with_context(|| format!("reading /proc/{}", self.id()))?;
        if let Some(device) = &self.device {
            usage.written_bytes =
                written(device).with_context(|| format!("reading {}", device.display()))?;
        }
        Ok(usage)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin.take();
        // It holds nothing that anybody needs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Usage {
    /// What was used since `before`, `seconds` ago, while records of `encoded_bytes` were
    /// confirmed.
    pub fn since(&self, before: &Usage, seconds: f64, encoded_bytes: u64) -> Use {
        let written_bytes = self.written_bytes.saturating_sub(before.written_bytes);
        Use {
            cpus: (self.cpu_seconds - before.cpu_seconds) / seconds,
            rss_bytes: self.rss_bytes,
            rss_max_bytes: self.rss_max_bytes,
            written_bytes,
            written_per_encoded: written_bytes as f64 / encoded_bytes.max(1) as f64,
        }
    }

    /// Resident memory, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.rss_bytes
    }
}

/// The file of this binary; it can be replaced while it runs, so the link itself is used.
pub fn this_binary() -> Result<PathBuf> {
    std::env::current_exe().context("the path of this binary")
}

fn usage(id: u32) -> Result<Usage> {
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
    let rest = stat.rsplit_once(')').context("stat has no name")?.1;
    let ticks = |index: usize| -> Result<f64> {
        let field = rest
            .split_whitespace()
            .nth(index)
            .context("stat is short")?;
        Ok(field.parse::<u64>()? as f64)
    };
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    Ok(Usage {
        cpu_seconds: (ticks(11)? + ticks(12)?) / ticks_per_second,
        rss_bytes: number(&status, "VmRSS:")? * 1024,
        rss_max_bytes: number(&status, "VmHWM:")? * 1024,
        written_bytes: 0,
    })
}

/// The statistics of the block device that a directory lies on, if it lies on one.
fn device(dir: &Path) -> Option<PathBuf> {
    let id = fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(id), rustix::fs::minor(id));
    let path = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
    path.exists().then_some(path)
}

/// Bytes written to a device since the machine started.
fn written(device: &Path) -> Result<u64> {
    /// The unit of this file, whatever the device's own is.
    const SECTOR_BYTES: u64 = 512;
    let text = fs::read_to_string(device)?;
    let sectors = text.split_whitespace().nth(6).context("stat is short")?;
    Ok(sectors.parse::<u64>()? * SECTOR_BYTES)
}

/// The number after a label at the start of a line.
fn number(text: &str, label: &str) -> Result<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label));
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    let word = word.with_context(|| format!("no {label}"))?;
    word.parse().with_context(|| format!("{label} {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_usage() {
        let before = usage(std::process::id()).unwrap();
        assert!(before.rss_bytes > 0 && before.rss_max_bytes >= before.rss_bytes);
        let spent = std::time::Instant::now();
        while usage(std::process::id()).unwrap().cpu_seconds <= before.cpu_seconds {
            assert!(
                spent.elapsed() < Duration::from_secs(20),
                "no CPU time seen"
            );
        }
    }
}
