//! The server under test: the real binary in a process of its own.

use crate::seed::{KEY_ID, SECRET, Seeded};
use anyhow::Context as _;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Another server than the one that was built with the benchmark.
pub static OTHER: OnceLock<PathBuf> = OnceLock::new();

/// PostgreSQL lets a killed server's claim go as soon as it notices the end of its connections.
const CLAIM_WAIT: Duration = Duration::from_secs(10);

/// A running server; it ends when this is dropped.
pub struct Process {
    pub api: SocketAddr,
    pub mqtt: SocketAddr,
    /// From its start until it serves.
    pub ready: Duration,
    child: Child,
    /// Kept open: the server says more than one line.
    _stdout: BufReader<ChildStdout>,
}

fn binary() -> PathBuf {
    OTHER.get().cloned().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_updraft")))
}

impl Process {
    /// Starts a server on the seeded data and waits until it serves.
    pub fn start(seeded: &Seeded) -> anyhow::Result<Self> {
        let begun = Instant::now();
        loop {
            match Self::spawn(Command::new(binary()), seeded) {
                Err(_) if begun.elapsed() < CLAIM_WAIT => std::thread::yield_now(),
                outcome => return outcome,
            }
        }
    }

    /// The same on one core.
    pub fn start_on(core: usize, seeded: &Seeded) -> anyhow::Result<Self> {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(core.to_string()).arg(binary());
        Self::spawn(command, seeded)
    }

    fn spawn(mut command: Command, seeded: &Seeded) -> anyhow::Result<Self> {
        if let Some(url) = &seeded.config.database_url {
            command.env("UPDRAFT_DATABASE_URL", url);
        }
        let begun = Instant::now();
        let mut child = command
            .arg("serve")
            .args(["--api-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0", "--mqtt-tls-addr", ""])
            .arg("--data-dir")
            .arg(seeded.dir.path())
            .env("UPDRAFT_ROOT_ACCESS_KEY_ID", KEY_ID)
            .env("UPDRAFT_ROOT_ACCESS_KEY_SECRET", SECRET)
            .env("UPDRAFT_QUOTA_SCALE", "0")
            .env("UPDRAFT_MQTT_UPLINK_PER_SECOND", "0")
            .env("UPDRAFT_MQTT_LOGINS_PER_SECOND", "0")
            .env("UPDRAFT_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut said = String::new();
        stdout.read_line(&mut said)?;
        if !said.trim_end().ends_with("serves") {
            child.wait()?;
            anyhow::bail!("the server ended before it served: {said}");
        }
        let ready = begun.elapsed();
        let run: Value = serde_json::from_str(&std::fs::read_to_string(seeded.dir.path().join("run.json"))?)?;
        let addr = |name: &str| -> anyhow::Result<SocketAddr> {
            Ok(run[name].as_str().context("no address in run.json")?.parse()?)
        };
        Ok(Self { api: addr("api_addr")?, mqtt: addr("mqtt_addr")?, ready, child, _stdout: stdout })
    }

    /// Memory that belongs to the process alone (`RssAnon`), in bytes.
    pub fn anonymous_bytes(&self) -> anyhow::Result<u64> {
        memory(self.child.id(), "RssAnon:")
    }

    /// All memory of the process that is in use (`VmRSS`), its program and shared pages too, in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        memory(self.child.id(), "VmRSS:")
    }

    /// The most memory that the process had so far (`VmHWM`), in bytes.
    pub fn peak_bytes(&self) -> anyhow::Result<u64> {
        memory(self.child.id(), "VmHWM:")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time used so far, in seconds.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        cpu_seconds(self.child.id())
    }
}

/// A line of a process's memory, in bytes.
pub fn memory(pid: u32, line: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let kib: u64 =
        found.with_context(|| format!("no {line}"))?.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1_024)
}

/// Processor time that a process has used so far, in seconds.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold spaces; `utime` and `stime` are the 12th and 13th fields behind it.
    let (_, rest) = stat.rsplit_once(") ").context("stat cannot be read")?;
    let ticks: u64 =
        rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap_or_default()).sum();
    // USER_HZ is 100 on every Linux that there is.
    Ok(ticks as f64 / 100.0)
}

impl Drop for Process {
    fn drop(&mut self) {
        // The data is thrown away, so nothing has to be saved.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
