//! How to reach a PostgreSQL server: what its URL asks for, and TLS as libpq's `sslmode` means it.
//!
//! Nothing here repeats the URL in an error or a log: it may hold a password.

use crate::error::StoreError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The parameters of TLS, which the client's own reader of URLs does not know; it knows the others.
const TLS_PARAMETERS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];
/// What `sslrootcert` says to mean the authorities that the system trusts.
const SYSTEM: &str = "system";
/// One attempt to open a socket.
const SOCKET_WITHIN: Duration = Duration::from_secs(5);
/// A connection on which nothing is heard for so long is probed, so often, and given up after so many probes.
const PROBES: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(3), 3);
/// What was sent must have reached the other machine by then.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);

/// libpq's `sslmode`, as far as it differs for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, StoreError> {
        Ok(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(wrong(
                    "`sslmode` is none of disable, prefer, require, verify-ca and verify-full",
                ));
            }
        })
    }
}

/// A server, and how it is to be talked to.
pub(crate) struct Target {
    config: Config,
    mode: Mode,
    /// Whether certificates are checked.
    checks: bool,
    tls: MakeRustlsConnect,
}

/// A connection that has been opened; the second half moves its bytes.
pub(crate) type Opened = (Client, tokio_postgres::Connection<Socket, RustlsStream>);
type RustlsStream = <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream;

fn wrong(why: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("`database_url`: {why}"))
}

impl Target {
    /// Reads a URL, and the files that it names.
    ///
    /// # Errors
    /// When it cannot be understood, or a file cannot be read.
    pub(crate) fn read(url: &str) -> Result<Self, StoreError> {
        let (rest, [mode, root, cert, key]) = split(url)?;
        let mut config: Config = rest.parse().map_err(|error: tokio_postgres::Error| {
            // With another @ the error may be about a piece of the password.
            let why =
                if rest.matches('@').count() < 2 { describe(&error) } else { "it cannot be read".to_owned() };
            wrong(format!("{why}; in a password, @ : / ? # & % are written as %40 %3A %2F %3F %23 %26 %25"))
        })?;
        let system = root.as_deref() == Some(SYSTEM);
        let mut mode = match mode {
            Some(text) => Mode::parse(&text)?,
            None if system => Mode::VerifyFull,
            None => Mode::Prefer,
        };
        if system && mode != Mode::VerifyFull {
            return Err(wrong("with sslrootcert=system `sslmode` must be verify-full"));
        }
        // TLS is for the network.
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)))
            && config.get_hostaddrs().is_empty()
        {
            mode = Mode::Disable;
        }
        let checks = root.is_some();
        if !checks && matches!(mode, Mode::VerifyCa | Mode::VerifyFull) {
            return Err(wrong(
                "`sslmode` asks to check the server's certificate: name the file of its authority with \
                 sslrootcert=PATH, or say sslrootcert=system",
            ));
        }
        let tls = client_config(mode, root.as_deref(), cert.zip(key))?;
        // A name is wanted for TLS, even where it is not checked.
        if config.get_hosts().is_empty() {
            for addr in config.get_hostaddrs().to_vec() {
                config.host(addr.to_string());
            }
        }
        config.ssl_mode(match mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        });
        keep_alive(&mut config);
        Ok(Self { config, mode, checks, tls: MakeRustlsConnect::new(tls) })
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Opened, StoreError> {
        let first = self.config.connect(self.tls.clone()).await;
        // As libpq does: who only prefers TLS takes what there is. Who gave an authority wants to be sure.
        if let Err(error) = &first
            && self.mode == Mode::Prefer
            && !self.checks
            && (tls_error(error).is_some() || refused_by_rule(error))
        {
            let mut plain = self.config.clone();
            plain.ssl_mode(SslMode::Disable);
            if let Ok(opened) = plain.connect(self.tls.clone()).await {
                return Ok(opened);
            }
        }
        first.map_err(|error| StoreError::Unavailable(format!("{}{}", describe(&error), self.advice(&error))))
    }

    fn advice(&self, error: &tokio_postgres::Error) -> &'static str {
        use CertificateError as C;
        if refused_by_rule(error) && self.mode == Mode::Disable {
            return "; the server may demand TLS: say sslmode=verify-full or require";
        }
        match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(
                C::NotValidForName | C::NotValidForNameContext { .. },
            )) => "; connect by a name that is in the server's certificate, or say sslmode=verify-ca",
            Some(rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. })) => {
                "; renew the server's certificate"
            }
            Some(rustls::Error::InvalidCertificate(_)) => {
                "; sslrootcert must name the file of the authority that signed the server's certificate"
            }
            _ if error.source().is_some_and(|why| why.to_string() == "server does not support TLS") => {
                "; switch TLS on there (ssl = on), or say sslmode=disable if the network is safe"
            }
            _ => "",
        }
    }
}

/// What tells that the other side is gone, unless the URL says something else.
fn keep_alive(config: &mut Config) {
    if config.get_application_name().is_none() {
        config.application_name("updraft");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(SOCKET_WITHIN);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TAKEN_WITHIN);
    }
    let (idle, interval, retries) = PROBES;
    if config.get_keepalives_interval().is_none() && config.get_keepalives_retries().is_none() {
        config.keepalives_idle(idle).keepalives_interval(interval).keepalives_retries(retries);
    }
}

/// Takes the parameters of TLS out of a URL; the rest is the client's.
fn split(url: &str) -> Result<(String, [Option<String>; 4]), StoreError> {
    let mut found: [Option<String>; 4] = Default::default();
    // Whatever stands before the first @ is the user's name and password.
    let from = url.find('@').unwrap_or(0);
    let Some(at) = url.get(from..).and_then(|tail| tail.find('?')).map(|at| from + at) else {
        return Ok((url.to_owned(), found));
    };
    let (head, query) = (&url[..at], &url[at + 1..]);
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(slot) = TLS_PARAMETERS.iter().position(|known| *known == name) else {
            rest.push(pair);
            continue;
        };
        let value = percent_encoding::percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| wrong(format!("`{name}` is no text")))?;
        found[slot] = (!value.is_empty()).then(|| value.into_owned());
    }
    if found[2].is_some() != found[3].is_some() {
        return Err(wrong("`sslcert` and `sslkey` belong together"));
    }
    let rest = if rest.is_empty() { head.to_owned() } else { format!("{head}?{}", rest.join("&")) };
    Ok((rest, found))
}

fn client_config(
    mode: Mode,
    root: Option<&str>,
    client: Option<(String, String)>,
) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let checker = match root {
        Some(root) => Some(Checker::new(root, mode == Mode::VerifyFull, &provider)?),
        None => None,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { checker, provider }));
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates(&cert, "sslcert")?;
            let key = PrivateKeyDer::from_pem_file(&key)
                .map_err(|error| wrong(format!("`sslkey`: {key} holds no readable key: {error}")))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| wrong(format!("`sslcert` and `sslkey` do not belong together: {error}")))?
        }
    };
    // Servers that are asked for TLS at once (sslnegotiation=direct) demand it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

fn certificates(path: &str, parameter: &str) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let unreadable = |error| wrong(format!("`{parameter}`: {path} cannot be read: {error}"));
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    let found = found.map_err(unreadable)?;
    if found.is_empty() {
        return Err(wrong(format!("`{parameter}`: {path} holds no certificate (PEM)")));
    }
    Ok(found)
}

/// Checks the server's certificate as `sslmode` asks; whoever shows it must have its key in any case.
#[derive(Debug)]
struct Verifier {
    checker: Option<Checker>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct Checker {
    chain: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    names: bool,
}

impl Checker {
    fn new(root: &str, names: bool, provider: &Arc<CryptoProvider>) -> Result<Self, StoreError> {
        let roots = if root == SYSTEM {
            rustls_native_certs::load_native_certs().certs
        } else {
            certificates(root, "sslrootcert")?
        };
        let mut store = RootCertStore::empty();
        // One that cannot be used is no reason to trust none.
        store.add_parsable_certificates(roots.iter().cloned());
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
            .build()
            .map_err(|error| wrong(format!("`sslrootcert`: {root} holds no usable authority: {error}")))?;
        Ok(Self { chain, roots, names })
    }

    fn check(
        &self,
        cert: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // A certificate that signed itself and is named as its own authority, as small installations have it:
        // rustls takes no authority for a server.
        if self.roots.iter().any(|root| root == cert) {
            check_dates(cert, now)?;
            if self.names {
                verify_server_name(&ParsedCertificate::try_from(cert)?, name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match self.chain.verify_server_cert(cert, between, name, &[], now) {
            // The names are looked at last: all else was in order.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }
}

fn check_dates(cert: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let refuse = |why| Err(rustls::Error::InvalidCertificate(why));
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(cert) else {
        return refuse(CertificateError::BadEncoding);
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    match parsed.validity() {
        dates if now < dates.not_before.timestamp() => refuse(CertificateError::NotValidYet),
        dates if now > dates.not_after.timestamp() => refuse(CertificateError::Expired),
        _ => Ok(()),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.checker {
            None => Ok(ServerCertVerified::assertion()),
            Some(checker) => checker.check(cert, between, name, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What rustls had against a connection.
fn tls_error(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    error.source()?.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref()
}

/// Whether the server's pg_hba.conf refuses this kind of connection.
fn refused_by_rule(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .is_some_and(|code| *code == tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text.push_str(": ");
        text.push_str(&why.to_string());
        cause = why.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Target::read(url).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_a_url_says_wrong_is_told_without_its_password() {
        for (url, words) in [
            ("postgres://u:geheim@h/db?sslmode=on", "none of disable, prefer"),
            ("postgres://u:geheim@h/db?sslmode=verify-full", "sslrootcert=PATH"),
            ("postgres://u:geheim@h/db?sslmode=verify-ca", "sslrootcert=PATH"),
            ("postgres://u:geheim@h/db?sslmode=verify-ca&sslrootcert=system", "must be verify-full"),
            (
                "postgres://u:geheim@h/db?sslmode=verify-full&sslrootcert=/none/ca.pem",
                "/none/ca.pem cannot be read",
            ),
            ("postgres://u:geheim@h/db?sslrootcert=/dev/null&sslmode=require", "holds no certificate"),
            ("postgres://u:geheim@h/db?sslcert=/none", "belong together"),
            ("postgres://u:geheim@h/db?sslcrl=x", "unknown option `sslcrl`"),
            ("postgres://u:is@h?very=&geheim=@h/db", "it cannot be read"),
            ("postgres://u:geheim@h:port/db", "invalid value for option `port`"),
        ] {
            let said = refusal(url);
            assert!(said.contains(words) && !said.contains("geheim"), "{url}: {said}");
        }
    }

    #[test]
    fn tls_is_what_the_url_says_and_preferred_if_it_says_nothing() {
        for (url, ssl, mode) in [
            ("postgres://u@h/db", SslMode::Prefer, Mode::Prefer),
            ("postgres://u@h/db?sslmode=disable", SslMode::Disable, Mode::Disable),
            ("postgres://u:a%3Fb@h/db?connect_timeout=3&sslmode=require", SslMode::Require, Mode::Require),
            ("postgres://u@h/db?sslrootcert=system", SslMode::Require, Mode::VerifyFull),
            ("postgres://u@/db?host=/run/postgresql&sslmode=require", SslMode::Disable, Mode::Disable),
        ] {
            let target = Target::read(url).unwrap();
            assert_eq!((target.config.get_ssl_mode(), target.mode), (ssl, mode), "{url}");
        }
    }

    #[test]
    fn what_the_url_says_about_the_connection_stands() {
        let target = Target::read("postgres://u@h/db?connect_timeout=2&application_name=mine").unwrap();
        assert_eq!(target.config.get_connect_timeout(), Some(&Duration::from_secs(2)));
        assert_eq!(target.config.get_application_name(), Some("mine"));
        let target = Target::read("postgres://u@h/db").unwrap();
        assert_eq!(target.config.get_application_name(), Some("updraft"));
        assert_eq!(target.config.get_tcp_user_timeout(), Some(&TAKEN_WITHIN));
    }
}
