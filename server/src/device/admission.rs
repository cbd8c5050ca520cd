//! Who is let in: from a connection's first byte to its session, or to a refusal.

use super::certificate::Shown;
use super::connection::{End, Endpoint};
use super::link::{Backend, Named, Unavailable};
use super::login::{Login, Refusal};
use super::newcomer::Newcomer;
use super::packet::{Connect, Inbound, Outbound, Reason, Version, Welcome};
use super::session::{NewSession, Session};
use super::topic::Owner;
use super::wire::{Malformed, Wire};
use crate::net::Peer;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout;
use updraft_core::id::DeviceNo;
use updraft_core::limits::KEEPALIVE_SECONDS;
use updraft_core::text::clip;

/// The first byte of a CONNECT.
const CONNECT: u8 = 0x10;
/// Longest packet of a stranger.
pub(super) const LOGIN_PACKET_BYTES_MAX: usize = 2 * 1024;
/// Why a device is not let in.
pub(super) struct Refused {
    pub refusal: Refusal,
    /// Whether it wants to know more than a number.
    pub explain: bool,
}

/// A device that is let in, and what it is told.
pub(super) struct Admitted {
    pub session: Arc<Session>,
    /// Where it comes from.
    pub ip: IpAddr,
    pub welcome: Welcome,
    pub explain: bool,
    /// Whether it has to be told its names.
    pub nameless: bool,
}

/// Who logs in.
struct Identified {
    device: DeviceNo,
    product_key: String,
    device_name: String,
    auto_subscribe: bool,
    is_gateway: bool,
    nameless: bool,
}

impl<B: Backend> Endpoint<B> {
    /// Waits for the CONNECT and checks it; `Ok(None)`: not worth an answer.
    pub(super) async fn admit(&self, wire: &mut Wire, peer: &Peer) -> Result<Option<Box<Admitted>>, Refused> {
        let first = tokio::select! {
            first = timeout(self.limits.connect_within, first_packet(wire)) => first,
            () = self.sessions.closing() => return Ok(None),
        };
        let remote = peer.remote;
        let connect = match first {
            Ok(Ok(Inbound::Connect(connect))) => connect,
            Ok(Err(End::Malformed(Malformed::Version))) => {
                let refusal = Refusal::Protocol;
                tracing::warn!(%remote, reason = %refusal, "login refused");
                return Err(Refused { refusal, explain: true });
            }
            // Cannot be, by its first byte.
            Ok(Ok(_)) => return Ok(None),
            Ok(Err(end)) => {
                tracing::debug!(%remote, %end, "no CONNECT");
                return Ok(None);
            }
            Err(_) => {
                tracing::debug!(%remote, "no CONNECT in time");
                return Ok(None);
            }
        };
        wire.agree(connect.terms);
        let (user_name, explain) = (&connect.user_name, connect.terms.explain);
        let certificate = wire.certificate();
        // Whoever registers himself is no session: he takes what he is given, and goes.
        let registered = match Newcomer::of(&connect) {
            Some(newcomer) => match self.register(newcomer, peer).await {
                Ok(given) => {
                    self.hand_over(wire, &connect, given).await;
                    return Ok(None);
                }
                Err(refusal) => Err(refusal),
            },
            None => self.identify(&connect, peer, certificate.as_deref()).await,
        };
        match registered {
            Ok((session, welcome, nameless)) => {
                Ok(Some(Box::new(Admitted { session, ip: remote.ip(), welcome, explain, nameless })))
            }
            // Said by the gate, once a minute.
            Err(refusal @ Refusal::TooManyFailures) => Err(Refused { refusal, explain }),
            Err(refusal) => {
                if refusal.is_guess() {
                    self.gate.failed(remote.ip());
                }
                let (dn, pk) = user_name.rsplit_once('&').unwrap_or((user_name, ""));
                let (pk, dn) = (clip(pk, 64), clip(dn, 64));
                tracing::warn!(%remote, ?pk, ?dn, reason = %refusal, "login refused");
                Err(Refused { refusal, explain })
            }
        }
    }

    async fn identify(
        &self,
        connect: &Connect,
        peer: &Peer,
        certificate: Option<&str>,
    ) -> Result<(Arc<Session>, Welcome, bool), Refusal> {
        // Before the database is asked.
        if self.gate.refuses(peer.remote.ip()).is_some() {
            return Err(Refusal::TooManyFailures);
        }
        if connect.enhanced {
            return Err(Refusal::Enhanced);
        }
        let keepalive = match connect.version {
            Version::V3 => connect.keepalive,
            // We would have to give it one.
            Version::V5 if connect.client_id.is_empty() => return Err(Refusal::ClientId),
            Version::V5 => kept_alive(connect.keepalive),
        };
        let who = match certificate {
            Some(serial) => self.by_certificate(connect, serial, keepalive).await?,
            None => self.by_secret(connect, keepalive).await?,
        };
        let new = NewSession {
            device: who.device,
            owner: Owner { product_key: &who.product_key, device_name: &who.device_name },
            local: peer.local,
            keepalive,
            auto_subscribe: who.auto_subscribe,
            window: connect.terms.receive_max,
            clean_start: connect.clean_start,
            keep_seconds: connect.session_seconds,
            // A device that keeps its session does not subscribe again after a reconnect: the SDK for
            // JavaScript relies on the server's memory, and does not look at SessionPresent. If the session is lost,
            // it is taken to be subscribed; a push too many is harmless, one too few leaves a task open for ever.
            remembers: connect.version == Version::V3 && !connect.clean_start,
            is_gateway: who.is_gateway,
        };
        let (session, session_present) =
            self.sessions.insert(new, Instant::now()).ok_or(Refusal::Unavailable)?;
        let kept_for = self.sessions.kept_for(connect.session_seconds);
        let welcome = Welcome {
            session_present,
            session_seconds: (kept_for != connect.session_seconds).then_some(kept_for),
            keepalive: (keepalive != connect.keepalive).then_some(keepalive),
            packet_max: self.limits.packet_bytes_told(),
        };
        Ok((session, welcome, who.nameless))
    }

    async fn by_secret(&self, connect: &Connect, keepalive: u16) -> Result<Identified, Refusal> {
        let login = Login::parse(&connect.client_id, &connect.user_name, keepalive)?;
        let named = self.backend.login(login.product_key, login.device_name).await;
        let known = match named.map_err(|Unavailable| Refusal::Unavailable)? {
            Named::Unknown => return Err(Refusal::UnknownDevice),
            Named::Deleted => return Err(Refusal::Deleted),
            Named::Known(known) => known,
        };
        if !login.verify(&known, &connect.password) {
            return Err(Refusal::Password);
        }
        // Only who knows the secret is told.
        if known.disabled {
            return Err(Refusal::Disabled);
        }
        if known.certified {
            return Err(Refusal::NeedsCertificate);
        }
        Ok(Identified {
            device: known.no,
            product_key: login.product_key.to_owned(),
            device_name: login.device_name.to_owned(),
            auto_subscribe: login.auto_subscribe,
            is_gateway: known.is_gateway,
            nameless: false,
        })
    }

    /// The handshake has proved that the device has the certificate with this serial number.
    async fn by_certificate(
        &self,
        connect: &Connect,
        serial: &str,
        keepalive: u16,
    ) -> Result<Identified, Refusal> {
        let shown = Shown::parse(&connect.client_id, &connect.user_name, keepalive)?;
        let found = self.backend.certified(serial).await.map_err(|Unavailable| Refusal::Unavailable)?;
        let device = found.ok_or(Refusal::UnknownDevice)?;
        let own = Owner { product_key: &device.product_key, device_name: &device.name };
        if shown.names.is_some_and(|names| names != own) {
            return Err(Refusal::Certificate);
        }
        if device.deleted {
            return Err(Refusal::Deleted);
        }
        if device.disabled {
            return Err(Refusal::Disabled);
        }
        Ok(Identified {
            device: device.device,
            auto_subscribe: shown.auto_subscribe,
            is_gateway: device.is_gateway,
            nameless: shown.names.is_none(),
            product_key: device.product_key,
            device_name: device.name,
        })
    }
}

/// The keepalive that holds for a device with MQTT 5, which is told so; 0 would mean none.
fn kept_alive(wished: u16) -> u16 {
    let (least, most) = (*KEEPALIVE_SECONDS.start(), *KEEPALIVE_SECONDS.end());
    if wished == 0 { most } else { wished.clamp(least, most) }
}

/// Tells a device that it is not let in, as much as it takes.
pub(super) fn refuse(wire: &mut Wire, Refused { refusal, explain }: Refused) {
    if wire.put(Outbound::Refused { refusal, explain }).is_err() {
        let _ = wire.put(Outbound::Refused { refusal, explain: false });
    }
}

async fn first_packet(wire: &mut Wire) -> Result<Inbound, End> {
    loop {
        if wire.fill().await? == 0 {
            return Err(End::Closed);
        }
        // Told by the first byte already: a lost browser need not wait for the time-out.
        if wire.first_byte() != Some(CONNECT) {
            return Err(End::Protocol(Reason::ProtocolError, "the first packet is no CONNECT"));
        }
        if let Some(packet) = wire.next_packet()? {
            return Ok(packet);
        }
    }
}
