//! Certificates: given ones, or a local authority and a server certificate made here.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_hours(24);
/// Devices carry the authority's certificate in their firmware, so it has to outlive them.
const CA_DAYS: u32 = 30 * 365;
/// The longest that Apple's clients accept is 825 days.
const SERVER_DAYS: u32 = 800;
/// A server certificate with less left than this is replaced.
const RENEW_DAYS: u32 = 90;

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {why}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {why}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        why: io::Error,
    },
    /// The authority's certificate is there without its key.
    #[error("{0} is missing; restore it, or remove ca.pem beside it to start a new authority")]
    CaKeyMissing(PathBuf),
    /// A name is no host name.
    #[error("{0:?} is neither a host name nor an address")]
    Name(String),
    /// Certificate and key do not fit each other, or are of a kind that is not supported.
    #[error("certificate and key cannot be used together: {0}")]
    Unusable(#[from] rustls::Error),
    /// It is no longer valid.
    #[error("its time is over already")]
    Expired,
    /// Making a certificate failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// A certificate chain and its key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads a chain (the server's own certificate first) and its key from PEM files.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let unreadable =
            |path: &Path, why: &dyn ToString| TlsError::Read { path: path.to_owned(), why: why.to_string() };
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unreadable(cert, &error))?;
        if chain.is_empty() {
            return Err(unreadable(cert, &"there is no certificate in it"));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
        Ok(Self { chain, key })
    }

    /// The certificate of a local authority in `dir`, both made on first use, for `localhost`, the loopback
    /// addresses, this host's name and `names`. It is made anew when it runs out or a name is missing; the
    /// authority stays, and `dir/ca.pem` is what clients have to trust.
    pub fn local(dir: &Path, names: &[String], now: SystemTime) -> Result<Self, TlsError> {
        let names = all_names(names)?;
        let files = Files::of(dir);
        if let Some(identity) = files.reusable(&names, now) {
            return Ok(identity);
        }
        std::fs::create_dir_all(dir).map_err(|why| TlsError::Write { path: dir.to_owned(), why })?;
        let issuer = files.authority(now)?;
        let key = KeyPair::generate()?;
        let certificate = server_params(&names, now).signed_by(&key, &issuer)?;
        // The old certificate goes first: a crash in between leaves none, which the next start makes anew.
        let _ = std::fs::remove_file(&files.server);
        write(&files.server_key, &key.serialize_pem(), 0o600)?;
        write(&files.server, &certificate.pem(), 0o644)?;
        tracing::info!(ca = %files.ca.display(), ?names, "made a server certificate");
        Self::load(&files.server, &files.server_key)
    }

    /// Chain and key as a server uses them. Fails if they do not fit each other.
    pub fn certified(&self) -> Result<CertifiedKey, TlsError> {
        Ok(CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider())?)
    }

    /// The server's own certificate.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// A configuration for a port that speaks the protocols `alpn`; none: any.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// When a certificate may be used; `None` if it cannot be read.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<Range<SystemTime>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let at = |time: x509_parser::time::ASN1Time| {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.timestamp().max(0).unsigned_abs()))
    };
    Some(at(parsed.validity().not_before)?..at(parsed.validity().not_after)?)
}

/// The cryptography of all our TLS.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The files of the local authority.
struct Files {
    ca: PathBuf,
    ca_key: PathBuf,
    server: PathBuf,
    server_key: PathBuf,
}

impl Files {
    fn of(dir: &Path) -> Self {
        Self {
            ca: dir.join("ca.pem"),
            ca_key: dir.join("ca-key.pem"),
            server: dir.join("server.pem"),
            server_key: dir.join("server-key.pem"),
        }
    }

    /// The certificate made before, if a client that trusts the authority accepts it for every name, now
    /// and for some time to come.
    fn reusable(&self, names: &[ServerName<'static>], now: SystemTime) -> Option<Identity> {
        let identity = Identity::load(&self.server, &self.server_key).ok()?;
        // Fails if the key is another certificate's.
        identity.server_config(&[]).ok()?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).ok()?).ok()?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()?;
        let at = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
        };
        let [first, rest @ ..] = identity.chain.as_slice() else { return None };
        for time in [at(now)?, at(now + DAY * RENEW_DAYS)?] {
            for name in names {
                verifier.verify_server_cert(first, rest, name, &[], time).ok()?;
            }
        }
        Some(identity)
    }

    /// The authority, made if there is none.
    fn authority(&self, now: SystemTime) -> Result<Issuer<'static, KeyPair>, TlsError> {
        match (self.ca.exists(), self.ca_key.exists()) {
            (true, false) => return Err(TlsError::CaKeyMissing(self.ca_key.clone())),
            (true, true) => {
                let unreadable = |why: String| TlsError::Read { path: self.ca_key.clone(), why };
                let pem =
                    std::fs::read_to_string(&self.ca_key).map_err(|error| unreadable(error.to_string()))?;
                let key = KeyPair::from_pem(&pem).map_err(|error| unreadable(error.to_string()))?;
                return Ok(Issuer::new(ca_params(&key, now), key));
            }
            // A key without a certificate is left over from a start that was cut short.
            (false, _) => {}
        }
        let key = KeyPair::generate()?;
        let params = ca_params(&key, now);
        let certificate = params.self_signed(&key)?;
        write(&self.ca_key, &key.serialize_pem(), 0o600)?;
        write(&self.ca, &certificate.pem(), 0o644)?;
        Ok(Issuer::new(params, key))
    }
}

/// Everything about the authority follows from its key (apart from its dates), so that the issuer of later
/// certificates can be built again without reading its certificate.
fn ca_params(key: &KeyPair, now: SystemTime) -> CertificateParams {
    let fingerprint = hex::encode(Sha256::digest(key.subject_public_key_info()));
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("Updraft local CA {}", &fingerprint[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A day back: devices' clocks are not ours.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * CA_DAYS).into();
    params
}

fn server_params(names: &[ServerName<'static>], now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Updraft server");
    params.subject_alt_names = names.iter().filter_map(alt_name).collect();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * SERVER_DAYS).into();
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn alt_name(name: &ServerName<'static>) -> Option<SanType> {
    match name {
        ServerName::DnsName(name) => name.as_ref().try_into().ok().map(SanType::DnsName),
        ServerName::IpAddress(address) => Some(SanType::IpAddress(IpAddr::from(*address))),
        _ => None,
    }
}

/// The names that every certificate has, and the given ones.
fn all_names(extra: &[String]) -> Result<Vec<ServerName<'static>>, TlsError> {
    let mut names = Vec::new();
    let mut add = |name: ServerName<'static>| {
        if !names.contains(&name) {
            names.push(name);
        }
    };
    for name in ["localhost", "127.0.0.1", "::1"].into_iter().chain(extra.iter().map(String::as_str)) {
        add(ServerName::try_from(name.to_ascii_lowercase()).map_err(|_| TlsError::Name(name.to_owned()))?);
    }
    // A host may have a name that no certificate can hold; nobody asked for it by name.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if let Ok(name) = ServerName::try_from(host.trim().to_ascii_lowercase()) {
        add(name);
    }
    Ok(names)
}

/// Writes a whole file or nothing, with these permissions from the first moment on.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let failed = |why| TlsError::Write { path: path.to_owned(), why };
    let draft = path.with_extension("pem.new");
    let attempt = || -> io::Result<()> {
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    attempt().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000
    }

    fn read(dir: &Path, name: &str) -> String {
        std::fs::read_to_string(dir.join(name)).unwrap()
    }

    #[test]
    fn certificates_are_kept_until_they_no_longer_serve() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("tls");
        let now = now();
        let names = vec!["ota.example.com".to_owned(), "10.1.2.3".to_owned()];
        Identity::local(&dir, &names, now).unwrap();
        let (ca, server) = (read(&dir, "ca.pem"), read(&dir, "server.pem"));
        for key in ["ca-key.pem", "server-key.pem"] {
            assert_eq!(std::fs::metadata(dir.join(key)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        Identity::local(&dir, &names, now + DAY * 600).unwrap();
        Identity::local(&dir, &names[..1], now).unwrap();
        assert_eq!(read(&dir, "server.pem"), server, "still good");

        Identity::local(&dir, &["other.example.com".to_owned()], now).unwrap();
        let renamed = read(&dir, "server.pem");
        assert_ne!(renamed, server, "another name");
        Identity::local(&dir, &[], now + DAY * 750).unwrap();
        let renewed = read(&dir, "server.pem");
        assert_ne!(renewed, renamed, "soon over");
        std::fs::write(dir.join("server-key.pem"), read(&dir, "ca-key.pem")).unwrap();
        let identity = Identity::local(&dir, &[], now + DAY * 750).unwrap();
        assert_ne!(read(&dir, "server.pem"), renewed, "another key");
        assert_eq!(read(&dir, "ca.pem"), ca, "devices trust this one");
        assert_eq!(identity.server_config(&[b"http/1.1"]).unwrap().alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[test]
    fn an_authority_without_key_is_not_replaced_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        let now = now();
        Identity::local(dir.path(), &[], now).unwrap();
        std::fs::remove_file(dir.path().join("ca-key.pem")).unwrap();
        Identity::local(dir.path(), &[], now).unwrap();
        let error = Identity::local(dir.path(), &["new.example.com".to_owned()], now).unwrap_err();
        assert!(matches!(error, TlsError::CaKeyMissing(_)), "{error}");
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        let error = Identity::load(&cert, &key).unwrap_err().to_string();
        assert!(error.contains("c.pem"), "{error}");
        std::fs::write(&cert, "nothing").unwrap();
        let error = Identity::load(&cert, &key).unwrap_err().to_string();
        assert!(error.contains("c.pem"), "{error}");
        let error = Identity::local(dir.path(), &["a b".to_owned()], now()).unwrap_err();
        assert!(error.to_string().contains("\"a b\""), "{error}");
    }
}
