//! From an endpoint to an answer: one connection, plain or TLS, one request.

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long a call may take, from the connection to the last byte of the answer.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether by TLS.
    pub tls: bool,
    /// The name or address.
    pub name: String,
    /// The port.
    pub port: u16,
}

/// Whose certificates are good.
pub struct Trust<'a> {
    /// A PEM file of authorities, besides the system's and Mozilla's.
    pub ca_file: Option<&'a Path>,
    /// Everybody's.
    pub insecure: bool,
}

impl Endpoint {
    /// Reads `http://HOST[:PORT]`, `https://HOST[:PORT]` or `HOST[:PORT]`, which means https.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            None => (true, text),
            Some((scheme, _)) => {
                bail!("the endpoint {text} must begin with http:// or https://, not {scheme}://")
            }
        };
        let refused =
            || format!("the endpoint {text} must be http://HOST, https://HOST or HOST, perhaps with a :PORT");
        let authority: http::uri::Authority = rest.trim_end_matches('/').parse().with_context(refused)?;
        ensure!(!authority.host().is_empty() && !authority.as_str().contains('@'), refused());
        let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
            "" => {
                if tls {
                    443
                } else {
                    80
                }
            }
            port => port.trim_start_matches(':').parse().with_context(refused)?,
        };
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, name, port })
    }

    /// The `Host` header.
    pub fn host(&self) -> String {
        let name = if self.name.contains(':') { format!("[{}]", self.name) } else { self.name.clone() };
        if self.port == if self.tls { 443 } else { 80 } { name } else { format!("{name}:{}", self.port) }
    }

    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        let address = self.name.parse::<std::net::IpAddr>();
        self.name == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

/// An answer.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Sends a request; `tls` is [`tls`] of an endpoint that has it.
pub async fn send(
    endpoint: &Endpoint,
    tls: Option<ClientConfig>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Answer> {
    let work = async {
        let stream = TcpStream::connect((endpoint.name.as_str(), endpoint.port))
            .await
            .with_context(|| format!("cannot connect to {}", endpoint.host()))?;
        let Some(tls) = tls else {
            return exchange(stream, request).await;
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let name = ServerName::try_from(endpoint.name.clone()).context("the endpoint has no name for TLS")?;
        let stream = connector.connect(name, stream).await.with_context(|| {
            format!(
                "no TLS with {}; for a server with a certificate of its own give --ca-file (its data folder has \
                 tls/ca.pem), or --insecure, or an http:// endpoint",
                endpoint.host()
            )
        })?;
        exchange(stream, request).await
    };
    let late = || format!("{} did not answer within {} s", endpoint.host(), ANSWER_WITHIN.as_secs());
    tokio::time::timeout(ANSWER_WITHIN, work).await.with_context(late)?
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let answer = sender.send_request(request).await.context("the connection ended without an answer")?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?.to_bytes();
        Ok(Answer { status, body: String::from_utf8(body.to_vec()).context("the answer is no text")? })
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            done = &mut answer => return done,
            // Its answer may be complete all the same.
            _ = &mut connection, if open => open = false,
        }
    }
}

/// How certificates are checked; fails if the file of authorities cannot be read.
pub fn tls(trust: &Trust<'_>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    if trust.insecure {
        let anybody = Arc::new(Anybody(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // What the system trusts; a certificate there that cannot be read is no reason to trust none.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = trust.ca_file {
        let read = || format!("cannot read the certificates of {}", file.display());
        let mut found = 0;
        for certificate in CertificateDer::pem_file_iter(file).with_context(read)? {
            roots.add(certificate.with_context(read)?).with_context(read)?;
            found += 1;
        }
        ensure!(found > 0, "{} holds no certificate (PEM)", file.display());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Takes any certificate, for `--insecure`; whoever shows it must have its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_with_their_usual_ports() {
        for (text, tls, host, local) in [
            ("http://127.0.0.1:8080", false, "127.0.0.1:8080", true),
            ("http://localhost/", false, "localhost", true),
            ("https://ota.example.com", true, "ota.example.com", false),
            ("iot.cn-shanghai.aliyuncs.com", true, "iot.cn-shanghai.aliyuncs.com", false),
            ("https://[::1]:8443", true, "[::1]:8443", true),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(
                (endpoint.tls, endpoint.host().as_str(), endpoint.is_local()),
                (tls, host, local),
                "{text}"
            );
        }
        for bad in ["", "ftp://x", "http://", "http://a b", "https://x:99999", "https://u@x", "http://x/path"]
        {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
