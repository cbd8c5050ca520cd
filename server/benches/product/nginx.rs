//! The yardstick for downloads: nginx with one worker and sendfile.

use anyhow::Context as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running nginx; it ends when this is dropped.
pub struct Nginx {
    pub addr: SocketAddr,
    /// The process that serves; with one worker and no master there is one.
    pub pid: u32,
    child: Child,
    _dir: TempDir,
}

/// Whether there is an nginx to be measured.
pub fn is_installed() -> bool {
    Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Nginx {
    /// Starts it on one core, with this folder as its root.
    pub fn start_on(core: usize, root: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        // Started by root it would become somebody who may not read the folder.
        let user = if std::fs::metadata("/proc/self")?.uid() == 0 { "user root;" } else { "" };
        let (root, here) = (root.display(), dir.path().display());
        let config = format!(
            "{user} daemon off; master_process off; worker_processes 1; pid {here}/pid; error_log {here}/error.log;
             events {{ worker_connections 1024; }}
             http {{
               access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
               client_body_temp_path {here}/1; proxy_temp_path {here}/2; fastcgi_temp_path {here}/3;
               uwsgi_temp_path {here}/4; scgi_temp_path {here}/5;
               default_type application/octet-stream;
               server {{ listen {addr}; root {root}; }}
             }}"
        );
        let path = dir.path().join("nginx.conf");
        std::fs::write(&path, config)?;
        let child = Command::new("taskset")
            .arg("-c")
            .arg(core.to_string())
            .args(["nginx", "-p"])
            .arg(dir.path())
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start nginx")?;
        let begun = Instant::now();
        while TcpStream::connect(addr).is_err() {
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(5), "nginx does not serve");
            std::thread::yield_now();
        }
        Ok(Self { addr, pid: child.id(), child, _dir: dir })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
