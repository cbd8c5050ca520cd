//! The authority that gives devices their certificates, and knows them again in a TLS handshake.
//!
//! It is made when it is first needed, and is in the database with its key sealed, so it moves with the data.
//! Until then no device is asked for a certificate.

use crate::app::App;
use crate::tls::provider;
use anyhow::Context as _;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SerialNumber,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName as Subject, RootCertStore, SignatureScheme};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use updraft_core::id::DeviceNo;
use updraft_store::{DeviceAuthority, DeviceCertificate, Lane};

/// The purpose under which the authority's key is sealed.
const AUTHORITY_PURPOSE: &str = "device authority";
/// The purpose under which keys of devices are sealed.
const KEY_PURPOSE: &str = "device certificate";
/// Certificates are burnt into devices, so they have to outlive them.
const DAYS: u32 = 30 * 365;
const DAY: Duration = Duration::from_hours(24);
/// Bytes of a serial number.
const SERIAL_BYTES: usize = 16;

/// The authority of a server.
#[derive(Debug, Default)]
pub struct Authority {
    made: OnceLock<Made>,
    /// Held while it is made.
    making: tokio::sync::Mutex<()>,
    /// Signing is not for two at a time: it takes a processor for a tenth of a second.
    signing: Mutex<()>,
}

struct Made {
    certificate: String,
    key: String,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Made").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The serial number, in hexadecimal digits.
    pub serial: String,
    /// The certificate.
    pub certificate: String,
    /// Its key, in the clear; never logged.
    pub key: String,
}

impl Authority {
    /// Takes the authority into use that the database has, if it has one.
    pub async fn load(&self, app: &App) -> anyhow::Result<()> {
        if self.made.get().is_none()
            && let Some(stored) = app.store.read(|tx| tx.device_authority_find()).await?
        {
            let key = app.master.open(AUTHORITY_PURPOSE, &stored.key_sealed)?;
            let _ = self.made.set(Made::of(stored.certificate, key)?);
        }
        Ok(())
    }

    /// Makes the authority if there is none.
    pub async fn ensure(&self, app: &App) -> anyhow::Result<()> {
        let _making = self.making.lock().await;
        self.load(app).await?;
        if self.made.get().is_some() {
            return Ok(());
        }
        let now = crate::serve::moment(app.now());
        let (certificate, key) = tokio::task::spawn_blocking(move || make(now)).await??;
        let key_sealed = app.master.seal(AUTHORITY_PURPOSE, &key)?;
        let new = DeviceAuthority { certificate, key_sealed };
        app.store.write(Lane::Interactive, move |tx| tx.device_authority_insert(&new)).await?;
        tracing::info!("made the authority that gives devices their certificates");
        // Another server on the same database may have been first.
        self.load(app).await
    }

    /// The certificate of a device, made if it has none yet.
    pub async fn certificate(
        &self,
        app: &Arc<App>,
        device: DeviceNo,
        name: String,
    ) -> anyhow::Result<Issued> {
        let find = move |tx: &mut updraft_store::Tx<'_>| tx.device_certificate_find(device);
        if let Some(stored) = app.store.read(find).await? {
            return open(app, stored);
        }
        self.ensure(app).await?;
        let (worker, now) = (Arc::clone(app), crate::serve::moment(app.now()));
        let serial = app.random.bytes::<SERIAL_BYTES>("certificate");
        let issued =
            tokio::task::spawn_blocking(move || worker.authority.issue(serial, &name, now)).await??;
        let new = DeviceCertificate {
            serial: issued.serial,
            certificate: issued.certificate,
            key_sealed: app.master.seal(KEY_PURPOSE, &issued.key)?,
        };
        let now = app.now();
        app.store.write(Lane::Interactive, move |tx| tx.device_certificate_insert(device, &new, now)).await?;
        // If two asked at once, both are told the one that was stored.
        open(app, app.store.read(find).await?.context("the certificate just made is gone")?)
    }

    /// Blocks for a tenth of a second.
    fn issue(&self, mut serial: [u8; SERIAL_BYTES], name: &str, now: SystemTime) -> anyhow::Result<Issued> {
        let made = self.made.get().context("there is no authority")?;
        let _one_at_a_time = self.signing.lock();
        // Positive, and of one length.
        serial[0] = serial[0] & 0x7f | 0x40;
        // All of the issuer that is in a certificate follows from its key and its name.
        let issuer = Issuer::new(authority_params(now), KeyPair::from_pem(&made.key)?);
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.serial_number = Some(SerialNumber::from(serial.to_vec()));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - DAY).into();
        params.not_after = (now + DAY * DAYS).into();
        let key = new_key()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Issued { serial: hex::encode(serial), certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The serial number of a certificate, as [`Issued::serial`] has it.
pub fn serial_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(hex::encode(parsed.raw_serial()))
}

fn open(app: &App, stored: DeviceCertificate) -> anyhow::Result<Issued> {
    let key = app.master.open(KEY_PURPOSE, &stored.key_sealed)?;
    Ok(Issued { serial: stored.serial, certificate: stored.certificate, key })
}

/// RSA, because small devices' TLS libraries are often built without anything else.
fn new_key() -> anyhow::Result<KeyPair> {
    Ok(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?)
}

fn make(now: SystemTime) -> anyhow::Result<(String, String)> {
    let key = new_key()?;
    Ok((authority_params(now).self_signed(&key)?.pem(), key.serialize_pem()))
}

fn authority_params(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Updraft device CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * DAYS).into();
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

impl Made {
    fn of(certificate: String, key: String) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes())?)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .context("cannot use the authority of devices")?;
        Ok(Self { certificate, key, verifier })
    }
}

/// Asks devices for a certificate once there is an authority; who has none may come in without.
#[derive(Debug)]
pub struct AsksForCertificates(pub Arc<Authority>);

impl AsksForCertificates {
    fn verifier(&self) -> Result<&dyn ClientCertVerifier, rustls::Error> {
        let made = self.0.made.get().ok_or_else(|| rustls::Error::General("nobody was asked".to_owned()))?;
        Ok(made.verifier.as_ref())
    }
}

impl ClientCertVerifier for AsksForCertificates {
    fn offer_client_auth(&self) -> bool {
        self.0.made.get().is_some()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[Subject] {
        self.0.made.get().map_or(&[], |made| made.verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier()?.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
