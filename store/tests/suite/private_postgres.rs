//! One PostgreSQL server for the run: on a socket in a temporary folder, gone with the run.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const INSTALLED_BELOW: &str = "/usr/lib/postgresql";
const HOW_TO_INSTALL: &str = "no PostgreSQL server below /usr/lib/postgresql/*/bin: half of the suite cannot run. \
     Install one (`apt-get install postgresql`); it need not be running, the suite starts its own";

/// Makes a cluster, starts it, says so, and waits for its standard input to end: that happens when the suite
/// stops it, and also when the suite is killed. Then nothing of it stays.
const SCRIPT: &str = r#"
bin="$1"
dir=$(mktemp -d) || exit 1
# PIPE too: whoever should read our answer may be dead by then.
trap '' INT HUP TERM PIPE
options="-c unix_socket_directories='$dir' -c fsync=off -c max_connections=200"
secure() {
  umask 077
  printf %s "$TLS_CERT" >"$dir/server.pem" && printf %s "$TLS_KEY" >"$dir/server.key" &&
  printf %s "$TLS_CA" >"$dir/ca.pem" && printf %s "$TLS_HBA" >"$dir/data/pg_hba.conf"
}
if [ -n "$TLS_KEY" ]
then options="$options -c port=$TLS_PORT -c listen_addresses=127.0.0.1 -c ssl=on -c ssl_cert_file='$dir/server.pem' \
  -c ssl_key_file='$dir/server.key' -c ssl_ca_file='$dir/ca.pem'"
else options="$options -c listen_addresses=''"
fi
if {
  "$bin/initdb" -D "$dir/data" -U updraft -A trust -E UTF8 --locale=C -N &&
  { [ -z "$TLS_KEY" ] || secure; } &&
  "$bin/pg_ctl" -D "$dir/data" -w -l "$dir/server.log" -o "$options" start
} >"$dir/setup.log" 2>&1 </dev/null
then echo "$dir"
else cat "$dir/setup.log" "$dir/server.log" >&2; echo
fi
cat >/dev/null
"$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$dir"
"#;

/// A running server.
pub struct Server {
    socket_dir: String,
    port: u16,
    databases: AtomicU64,
    keeper: Mutex<Option<Keeper>>,
}

/// What a server needs to take TLS, all PEM.
pub struct Tls {
    pub port: u16,
    pub cert: String,
    pub key: String,
    /// Who may sign clients' certificates.
    pub ca: String,
    /// Its pg_hba.conf.
    pub hba: &'static str,
}

impl Tls {
    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TLS_PORT", self.port.to_string()),
            ("TLS_CERT", self.cert.clone()),
            ("TLS_KEY", self.key.clone()),
            ("TLS_CA", self.ca.clone()),
            ("TLS_HBA", self.hba.to_owned()),
        ]
    }
}

/// The shell that stops the server once its standard input ends.
struct Keeper {
    shell: Child,
    alive: ChildStdin,
}

impl Server {
    /// Starts the newest server that is installed.
    pub fn start() -> Result<Self, String> {
        Self::start_with(None)
    }

    /// Like [`Server::start`], and it takes TLS on a port of the loopback.
    pub fn start_with(tls: Option<&Tls>) -> Result<Self, String> {
        let bin = newest_installed(Path::new(INSTALLED_BELOW)).ok_or(HOW_TO_INSTALL)?;
        let mut shell = unprivileged_shell()?
            .args(["-c", SCRIPT, "keeper"])
            .arg(&bin)
            .envs(tls.map(Tls::environment).unwrap_or_default())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own: an interrupt at the terminal is for the suite, whose end it then sees.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start a shell for PostgreSQL: {error}"))?;
        let alive = shell.stdin.take().ok_or("the shell has no standard input")?;
        let said = shell.stdout.take().ok_or("the shell has no standard output")?;
        let keeper = Keeper { shell, alive };
        let mut socket_dir = String::new();
        BufReader::new(said)
            .read_line(&mut socket_dir)
            .map_err(|error| format!("cannot read what the shell says: {error}"))?;
        let server = Self {
            socket_dir: socket_dir.trim().to_owned(),
            port: tls.map_or(5432, |tls| tls.port),
            databases: AtomicU64::new(0),
            keeper: Mutex::new(Some(keeper)),
        };
        if server.socket_dir.is_empty() {
            server.stop();
            return Err("PostgreSQL did not start; what it said stands above".to_owned());
        }
        Ok(server)
    }

    /// Makes an empty database and answers its name.
    pub fn database_create(&self) -> String {
        let name = format!("case_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.admin(&format!("CREATE DATABASE {name}"));
        name
    }

    /// Drops a database, whoever is connected to it.
    pub fn database_drop(&self, name: &str) {
        self.admin(&format!("DROP DATABASE {name} WITH (FORCE)"));
    }

    /// How to connect to a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("host={} port={} user=updraft dbname={database}", self.socket_dir, self.port)
    }

    /// Stops the server and removes its files.
    pub fn stop(&self) {
        let Some(mut keeper) = self.keeper.lock().expect("no panic while locked").take() else { return };
        drop(keeper.alive);
        keeper.shell.wait().expect("the shell ends");
    }

    /// Runs a script as the server's superuser.
    pub fn admin(&self, sql: &str) {
        let mut client = postgres::Client::connect(&self.url("postgres"), postgres::NoTls)
            .expect("the private server accepts connections");
        client.batch_execute(sql).expect("the private server makes and drops databases");
    }
}

/// The socket that a [`Server::url`] leads to.
pub fn socket_of(url: &str) -> PathBuf {
    let value = |key| url.split(' ').find_map(|pair| pair.strip_prefix(key)).expect("our URLs have it");
    Path::new(value("host=")).join(format!(".s.PGSQL.{}", value("port=")))
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

/// A shell as the user `postgres` if we are root (the server refuses to run as root), else as ourselves.
fn unprivileged_shell() -> Result<Command, String> {
    let id = Command::new("id").arg("-u").output().map_err(|error| format!("cannot run `id`: {error}"))?;
    if id.stdout.trim_ascii() != b"0" {
        return Ok(Command::new("sh"));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
    Ok(command)
}
