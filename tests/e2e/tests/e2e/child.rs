//! A node in a process of its own, which can be killed: this test binary again, told by a variable
//! of its environment to be a node instead of a test.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use waypost_client::Client;

use crate::harness::{self, blocking, certificate};

/// Names the home directory of the node that this process is to be.
const HOME: &str = "WAYPOST_E2E_CHILD";
/// Beside the usual configuration, in that directory.
const SECTIONS: &str = "sections.toml";

/// Not a test: what a child process does.
#[test]
fn node() {
    let Some(home) = std::env::var_os(HOME).map(PathBuf::from) else {
        return;
    };
    let sections = std::fs::read_to_string(home.join(SECTIONS)).unwrap();
    let running = harness::start(harness::parse(&home, &sections)).unwrap();
    println!("\nREADY {}", running.local_addr());
    // The parent closes it, or is gone, or has killed this process.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    running.shutdown();
}

/// A child process with a node.
pub struct Child {
    process: std::process::Child,
    _stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
    /// Where its files are found from here.
    pub data_dir: PathBuf,
}

impl Child {
    /// Starts a node in `home` with these sections beside the usual ones.
    pub async fn start(home: &Path, sections: &str) -> Child {
        let exe = Command::new(std::env::current_exe().unwrap());
        Child::spawn(exe, home, sections)
            .await
            .expect("the child's node does not start")
    }

    /// As [`Child::start`], with a file system of `bytes` for its data; `None` where the system
    /// does not allow that.
    pub async fn start_on_small_disk(home: &Path, sections: &str, bytes: u64) -> Option<Child> {
        let data = home.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let script = r#"mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@""#;
        let mut unshare = Command::new("unshare");
        unshare
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .arg(bytes.to_string())
            .arg(&data)
            .arg(std::env::current_exe().unwrap());
        let mut child = Child::spawn(unshare, home, sections).await?;
        child.data_dir = PathBuf::from(format!("/proc/{}/root", child.process.id()))
            .join(data.strip_prefix("/").unwrap());
        Some(child)
    }

    async fn spawn(mut command: Command, home: &Path, sections: &str) -> Option<Child> {
        std::fs::write(home.join(SECTIONS), sections).unwrap();
        let home = home.to_path_buf();
        command
            .args(["--exact", "child::node", "--nocapture"])
            .env(HOME, &home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        blocking(move || {
            let mut process = command.spawn().ok()?;
            let mut stdout = BufReader::new(process.stdout.take()?);
            let mut line = String::new();
            loop {
                line.clear();
                if stdout.read_line(&mut line).ok()? == 0 {
                    let _ = process.wait();
                    return None;
                }
                if let Some(address) = line.strip_prefix("READY ") {
                    return Some(Child {
                        process,
                        _stdout: stdout,
                        address: address.trim().parse().unwrap(),
                        data_dir: home.join("data"),
                    });
                }
            }
        })
        .await
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub async fn client(&self) -> Client {
        let identity = certificate(&self.data_dir);
        harness::connect(self.address, &self.data_dir, identity)
            .await
            .unwrap()
    }

    /// SIGKILL, and waits for its end.
    pub async fn kill(mut self) {
        self.process.kill().unwrap();
        blocking(move || self.process.wait()).await.unwrap();
    }

    /// Drains and ends.
    pub async fn stop(mut self) {
        drop(self.process.stdin.take());
        let status = blocking(move || self.process.wait()).await.unwrap();
        assert!(status.success(), "{status}");
    }
}
