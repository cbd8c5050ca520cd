//! The certificate in use, and its replacement while the server runs: new connections get the new one,
//! open ones go on.

use crate::tls::{Identity, TlsError, provider, validity};
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A given certificate with less left than this is warned about.
const WARN_WITHIN: Duration = Duration::from_hours(14 * 24);

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Files that somebody else renews.
    Given {
        /// The chain (PEM).
        cert: PathBuf,
        /// Its key (PEM).
        key: PathBuf,
    },
    /// The local authority in a folder, which renews its certificates itself.
    Local {
        /// The folder.
        dir: PathBuf,
        /// The names beside `localhost` and this host's.
        names: Vec<String>,
    },
}

impl Origin {
    fn load(&self, now: SystemTime) -> Result<CertifiedKey, TlsError> {
        match self {
            Self::Given { cert, key } => Identity::load(cert, key),
            Self::Local { dir, names } => Identity::local(dir, names, now),
        }?
        .certified()
    }

    /// What clients have to trust, if the authority is ours.
    pub fn ca_file(&self) -> Option<PathBuf> {
        match self {
            Self::Given { .. } => None,
            Self::Local { dir, .. } => Some(dir.join("ca.pem")),
        }
    }
}

/// The certificate of all ports.
#[derive(Debug)]
pub struct Certificates {
    origin: Origin,
    current: RwLock<Arc<CertifiedKey>>,
    told: Mutex<Told>,
}

/// What the log was told of, so that a periodic look says it once.
#[derive(Debug, Default)]
struct Told {
    /// The last pair that could not be used.
    error: Option<String>,
    /// How near the end of the one in use is.
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Soon,
    Over,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read()))
    }
}

impl Certificates {
    /// Loads the certificate, or makes it. Blocks.
    pub fn open(origin: Origin, now: SystemTime) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(Arc::new(origin.load(now)?));
        let certificates = Arc::new(Self { origin, current, told: Mutex::default() });
        certificates.mind_the_end(now);
        Ok(certificates)
    }

    /// A configuration for a port that speaks the protocols `alpn`; none: any.
    pub fn server_config(self: &Arc<Self>, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// A configuration for devices' ports, where clients may show certificates.
    pub fn device_config(
        self: &Arc<Self>,
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::<Self>::clone(self));
        Ok(Arc::new(config))
    }

    /// Looks at the files and takes a new certificate into use; one that cannot be used is refused, and the
    /// old one stays. `asked`: somebody waits for the outcome in the log. Blocks.
    pub fn look(&self, now: SystemTime, asked: bool) {
        match self.replace(now) {
            Ok(true) => {
                *self.told.lock() = Told::default();
                tracing::info!("a new certificate is in use for new connections");
            }
            Ok(false) => {
                self.told.lock().error = None;
                if asked {
                    tracing::info!("the certificate is the same as before");
                }
            }
            Err(error) => {
                let text = error.to_string();
                let mut told = self.told.lock();
                if asked || told.error.as_ref() != Some(&text) {
                    tracing::error!(%error, "the new certificate cannot be used; the one before stays in use");
                    told.error = Some(text);
                }
            }
        }
        self.mind_the_end(now);
    }

    /// Whether there was a new one.
    fn replace(&self, now: SystemTime) -> Result<bool, TlsError> {
        let new = self.origin.load(now)?;
        if new.cert == self.current.read().cert {
            return Ok(false);
        }
        if new.cert.first().and_then(|cert| validity(cert)).is_some_and(|valid| valid.end < now) {
            return Err(TlsError::Expired);
        }
        *self.current.write() = Arc::new(new);
        Ok(true)
    }

    /// Shows when the certificate ends; complains once before that, and once when it is over.
    fn mind_the_end(&self, now: SystemTime) {
        let current = Arc::clone(&self.current.read());
        let Some(valid) = current.cert.first().and_then(|cert| validity(cert)) else { return };
        let end = valid.end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics::gauge!("updraft_certificate_end_seconds").set(end.as_secs() as f64);
        let (end, text) = match valid.end.duration_since(now) {
            Ok(left) if left >= WARN_WITHIN => return,
            Ok(left) => {
                (End::Soon, format!("the certificate ends in {} days; renew it", left.as_secs() / 86_400))
            }
            Err(_) => {
                (End::Over, "the certificate's time is over, so clients refuse it; renew it".to_owned())
            }
        };
        if self.told.lock().end.replace(end) != Some(end) {
            tracing::warn!("{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const DAY: Duration = Duration::from_hours(24);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000
    }

    /// Makes a pair and puts it where the server looks.
    fn issue(made: &Path, at: SystemTime, to: &Path, files: &[&str]) {
        let _ = std::fs::remove_file(made.join("server.pem"));
        Identity::local(made, &[], at).unwrap();
        for file in files {
            std::fs::copy(made.join(file), to.join(file)).unwrap();
        }
    }

    #[test]
    fn a_renewed_pair_is_taken_and_a_bad_one_is_not() {
        let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (made, given) = (dirs.0.path(), dirs.1.path());
        let both = ["server.pem", "server-key.pem"];
        issue(made, now(), given, &both);
        let (cert, key) = (given.join("server.pem"), given.join("server-key.pem"));
        let certificates =
            Certificates::open(Origin::Given { cert: cert.clone(), key: key.clone() }, now()).unwrap();
        let serving = || certificates.current.read().cert.clone();
        let first = serving();
        assert!(!certificates.replace(now()).unwrap(), "nothing new");

        // The certificate is there before its key.
        issue(made, now(), given, &both[..1]);
        let error = certificates.replace(now()).unwrap_err();
        assert!(matches!(error, TlsError::Unusable(_)), "{error}");
        certificates.look(now(), false);
        assert_eq!(serving(), first, "the old one stays");
        std::fs::copy(made.join("server-key.pem"), &key).unwrap();
        certificates.look(now(), false);
        let second = serving();
        assert_ne!(second, first);

        std::fs::write(&cert, "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
        certificates.look(now(), true);
        std::fs::remove_file(&cert).unwrap();
        certificates.look(now(), true);
        issue(made, now() - DAY * 2_000, given, &both);
        assert!(matches!(certificates.replace(now()).unwrap_err(), TlsError::Expired));
        assert_eq!(serving(), second);
    }

    #[test]
    fn the_local_authority_renews_while_the_server_runs() {
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin::Local { dir: dir.path().to_owned(), names: Vec::new() };
        let certificates = Certificates::open(origin, now()).unwrap();
        let first = certificates.current.read().cert.clone();
        certificates.look(now() + DAY * 600, false);
        assert_eq!(certificates.current.read().cert, first, "there is time left");
        certificates.look(now() + DAY * 750, false);
        assert_ne!(certificates.current.read().cert, first);
    }
}
