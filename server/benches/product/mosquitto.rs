//! The yardstick for the device endpoint: mosquitto, without persistence, authentication or a log.

use crate::process;
use crate::seed::Seeded;
use anyhow::Context as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use updraft_server::fleet_io::Target;

/// A running mosquitto; it ends when this is dropped.
pub struct Mosquitto {
    plain: SocketAddr,
    tls: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl Mosquitto {
    /// Starts it with the certificate of the seeded server; `None` if there is none on this machine.
    pub fn start(seeded: &Seeded) -> anyhow::Result<Option<Self>> {
        // Debian keeps it where only root's path leads.
        let program = ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find(|program| {
            Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        });
        let Some(program) = program else { return Ok(None) };
        let dir = tempfile::tempdir()?;
        let free = || -> anyhow::Result<SocketAddr> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?) };
        let (plain, tls) = (free()?, free()?);
        let certificates = seeded.dir.path().join("tls");
        // Started by root it would become somebody who may not read the certificates.
        let user = if std::fs::metadata("/proc/self")?.uid() == 0 { "user root" } else { "" };
        let config = format!(
            "{user}
             allow_anonymous true
             persistence false
             log_dest none
             set_tcp_nodelay true
             listener {plain_port} 127.0.0.1
             listener {tls_port} 127.0.0.1
             certfile {folder}/server.pem
             keyfile {folder}/server-key.pem",
            plain_port = plain.port(),
            tls_port = tls.port(),
            folder = certificates.display(),
        );
        let config: Vec<&str> = config.lines().map(str::trim).collect();
        let path = dir.path().join("mosquitto.conf");
        std::fs::write(&path, config.join("\n"))?;
        let child = Command::new(program)
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start mosquitto")?;
        let begun = Instant::now();
        while TcpStream::connect(tls).is_err() {
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(5), "mosquitto does not serve");
            std::thread::yield_now();
        }
        Ok(Some(Self { plain, tls, child, _dir: dir }))
    }

    /// Where it listens.
    pub fn target(&self, by: By, seeded: &Seeded) -> anyhow::Result<Target> {
        by.target(if by == By::Tls { self.tls } else { self.plain }, seeded)
    }

    /// Memory that belongs to the process alone (`RssAnon`), in bytes.
    pub fn anonymous_bytes(&self) -> anyhow::Result<u64> {
        process::memory(self.child.id(), "RssAnon:")
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How devices connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Plain,
    Tls,
}

impl By {
    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "TLS 1.3",
        }
    }

    /// An address that is connected to so.
    pub fn target(self, addr: SocketAddr, seeded: &Seeded) -> anyhow::Result<Target> {
        if self == Self::Plain {
            return Ok(addr.into());
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(seeded.dir.path().join("tls/ca.pem"))?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Target::tls(addr, Arc::new(config)))
    }
}
