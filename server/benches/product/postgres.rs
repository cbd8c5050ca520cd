//! A PostgreSQL server of the run's own: with `fsync`, its defaults, and `shared_buffers` of 256 MB; gone with the run.

use crate::process;
use anyhow::{Context as _, ensure};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

const INSTALLED_BELOW: &str = "/usr/lib/postgresql";
/// How long each of the two baselines takes.
const PGBENCH_SECONDS: &str = "3";

/// Makes a cluster, starts it, says so, and waits for its standard input to end: that happens when the run ends,
/// however it does. `/var/tmp` is on a disk, `/tmp` may be in memory.
const SCRIPT: &str = r#"
bin="$1"
dir=$(mktemp -d -p /var/tmp) || exit 1
trap '' INT HUP TERM PIPE
if {
  "$bin/initdb" -D "$dir/data" -U updraft -A trust -E UTF8 --locale=C -N &&
  "$bin/pg_ctl" -D "$dir/data" -w -l "$dir/server.log" \
    -o "-c listen_addresses='' -c unix_socket_directories='$dir' -c shared_buffers=256MB" start
} >"$dir/setup.log" 2>&1 </dev/null
then echo "$dir"
else cat "$dir/setup.log" "$dir/server.log" >&2; echo
fi
cat >/dev/null
"$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$dir"
"#;

/// A running server.
pub struct Postgres {
    bin: PathBuf,
    socket_dir: String,
    postmaster: u32,
    databases: AtomicU64,
    keeper: Option<(Child, ChildStdin)>,
}

/// What PostgreSQL itself does, with several clients at once.
pub struct Bare {
    /// Rows of 100 bytes inserted a second, each in a commit of its own.
    pub commits: f64,
    /// Rows looked up by their key a second.
    pub reads: f64,
}

impl Postgres {
    /// Starts the newest server that is installed; `None` if there is none.
    pub fn start() -> anyhow::Result<Option<Self>> {
        let Some(bin) = newest_installed(Path::new(INSTALLED_BELOW)) else { return Ok(None) };
        let mut shell = Command::new("sh");
        // The server refuses to run as root.
        if std::fs::metadata("/proc/self")?.uid() == 0 {
            shell = Command::new("setpriv");
            shell.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
        }
        shell.args(["-c", SCRIPT, "keeper"]).arg(&bin).current_dir("/");
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let alive = shell.stdin.take().context("the shell has no standard input")?;
        let mut said = String::new();
        BufReader::new(shell.stdout.take().context("no standard output")?).read_line(&mut said)?;
        let socket_dir = said.trim().to_owned();
        ensure!(!socket_dir.is_empty(), "PostgreSQL did not start; what it said stands above");
        let pid = std::fs::read_to_string(format!("{socket_dir}/data/postmaster.pid"))?;
        let postmaster = pid.lines().next().context("an empty postmaster.pid")?.trim().parse()?;
        let keeper = Some((shell, alive));
        Ok(Some(Self { bin, socket_dir, postmaster, databases: AtomicU64::new(0), keeper }))
    }

    /// Makes an empty database and answers its name.
    pub fn create(&self) -> anyhow::Result<String> {
        let name = format!("bench_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.ask("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(name)
    }

    /// Drops a database, whoever is connected to it.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.ask("postgres", &format!("DROP DATABASE {name} WITH (FORCE)")).map(drop)
    }

    /// How the server connects to a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=updraft", self.socket_dir)
    }

    /// The answer to a statement, as text.
    pub fn ask(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-h", &self.socket_dir, "-U", "updraft", "-d", database, "-AtqX"]);
        let output = psql.args(["-v", "ON_ERROR_STOP=1", "-c", sql]).output().context("cannot run psql")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Processor time of all its processes so far, in seconds.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut sum = process::cpu_seconds(self.postmaster)?;
        for pid in self.children()? {
            // It may have ended meanwhile.
            sum += process::cpu_seconds(pid).unwrap_or_default();
        }
        Ok(sum)
    }

    fn children(&self) -> anyhow::Result<Vec<u32>> {
        let path = format!("/proc/{0}/task/{0}/children", self.postmaster);
        let text = std::fs::read_to_string(path)?;
        Ok(text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// Measures PostgreSQL alone with pgbench, as many clients at once as the server has readers or ledgers.
    pub fn bare(&self) -> anyhow::Result<Bare> {
        let database = self.create()?;
        let setup = "CREATE TABLE row (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content TEXT);
                     INSERT INTO row (content) SELECT repeat('x', 100) FROM generate_series(1, 100000);
                     VACUUM ANALYZE row";
        for sql in setup.split(';') {
            self.ask(&database, sql)?;
        }
        let commits = self.pgbench(&database, "INSERT INTO row (content) VALUES (repeat('x', 100));")?;
        let read = "\\set n random(1, 100000)\nSELECT content FROM row WHERE id = :n;";
        let reads = self.pgbench(&database, read)?;
        self.remove(&database)?;
        Ok(Bare { commits, reads })
    }

    fn pgbench(&self, database: &str, script: &str) -> anyhow::Result<f64> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), script)?;
        let mut pgbench = Command::new(self.bin.join("pgbench"));
        pgbench.args(["-h", &self.socket_dir, "-U", "updraft", "-n", "-M", "prepared", "-c", "4", "-T"]);
        let output = pgbench.arg(PGBENCH_SECONDS).arg("-f").arg(file.path()).arg(database).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = "));
        let tps =
            tps.with_context(|| format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
        Ok(tps.split(' ').next().unwrap_or_default().parse()?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some((mut shell, alive)) = self.keeper.take() {
            drop(alive);
            let _ = shell.wait();
        }
    }
}

/// The `bin` folder of the installed server with the largest version number.
fn newest_installed(below: &Path) -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(below)
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin): &(u32, PathBuf)| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}
