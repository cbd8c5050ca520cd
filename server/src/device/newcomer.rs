//! A connection whose device registers itself: what it says, and its few seconds until it goes.
//!
//! `authType=register` fetches the secret of a device whose name is known, `regnwl` makes a device and a token. The
//! answer comes right after the CONNACK, without a subscription; such a connection has no session, so neither the
//! device's own connection nor its presence is touched.

use super::connection::Endpoint;
use super::link::Backend;
use super::login::{Method, Refusal, is_secure_mode, names, param, split};
use super::packet::{Connect, Inbound, Message, Outbound, QoS, Reason, Welcome};
use super::register::{Asked, Given};
use super::wire::{Unsent, Wire};
use crate::net::Peer;
use serde::Serialize;
use std::future::poll_fn;
use std::io;
use tokio::time::timeout;
use updraft_core::limits::CLIENT_ID_CHARS_MAX;
use updraft_core::registration::Way;

/// A CONNECT of a device that registers itself; nothing of it is checked.
pub(super) struct Newcomer<'a> {
    connect: &'a Connect,
    way: Way,
}

/// What a device whose name was known is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToKnown<'a> {
    product_key: &'a str,
    device_name: &'a str,
    device_secret: &'a str,
}

/// What a new device is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToNew<'a> {
    product_key: &'a str,
    device_name: &'a str,
    client_id: &'a str,
    device_token: &'a str,
}

impl<'a> Newcomer<'a> {
    /// Such a CONNECT, if this is one.
    pub fn of(connect: &'a Connect) -> Option<Self> {
        let way = match param(split(&connect.client_id).1, "authType")? {
            "register" => Way::Preregistered,
            "regnwl" => Way::Unlisted,
            _ => return None,
        };
        Some(Self { connect, way })
    }

    /// What it asks. Its keepalive does not matter: it will not stay.
    fn asked(&self) -> Result<Asked, Refusal> {
        let (cid, params) = split(&self.connect.client_id);
        if cid.chars().count() > CLIENT_ID_CHARS_MAX {
            return Err(Refusal::ClientId);
        }
        if self.connect.enhanced {
            return Err(Refusal::Enhanced);
        }
        if param(params, "securemode").is_some_and(|mode| !is_secure_mode(mode, true)) {
            return Err(Refusal::SecureMode);
        }
        let method = match param(params, "signmethod") {
            Some(name) => Method::from_name(name).ok_or(Refusal::SignMethod)?,
            None => Method::HmacMd5,
        };
        let (device_name, product_key) = names(&self.connect.user_name)?;
        Ok(Asked {
            product_key: product_key.to_owned(),
            device_name: device_name.to_owned(),
            way: self.way,
            instance_id: param(params, "instanceId").filter(|id| !id.is_empty()).map(str::to_owned),
            method,
            random: param(params, "random").unwrap_or_default().to_owned(),
            sign: self.connect.password.to_vec(),
        })
    }
}

impl<B: Backend> Endpoint<B> {
    /// Registers a device.
    pub(super) async fn register(&self, newcomer: Newcomer<'_>, peer: &Peer) -> Result<Given, Refusal> {
        // Before the database is asked.
        if self.gate.refuses(peer.remote.ip()).is_some() {
            return Err(Refusal::TooManyFailures);
        }
        if self.limits.register_by_tls_only && !peer.tls {
            return Err(Refusal::NoTls);
        }
        self.backend.register(newcomer.asked()?).await.map_err(Refusal::Registration)
    }

    /// Lets the device in, tells it what it is given, and waits until it goes or its time is over.
    pub(super) async fn hand_over(&self, wire: &mut Wire, connect: &Connect, given: Given) {
        let left = tokio::select! {
            left = timeout(self.limits.registered_within, handed_over(wire, connect, given)) => left,
            () = self.sessions.closing() => return,
        };
        if let Ok(Err(error)) = left {
            tracing::debug!(%error, "a device that registered itself did not wait for the answer");
        }
    }
}

async fn handed_over(wire: &mut Wire, connect: &Connect, given: Given) -> io::Result<()> {
    let put = |unsent: Unsent| io::Error::other(unsent);
    let welcome = Welcome {
        session_present: false,
        session_seconds: (connect.session_seconds > 0).then_some(0),
        keepalive: None,
        packet_max: super::admission::LOGIN_PACKET_BYTES_MAX as u32,
    };
    wire.put(Outbound::Welcome(welcome)).map_err(put)?;
    wire.put(Outbound::Message(message(&connect.user_name, &given))).map_err(put)?;
    loop {
        while let Some(packet) = wire.next_packet().map_err(io::Error::other)? {
            match answer(packet) {
                Ok(answer) => answer.map_or(Ok(()), |answer| wire.put(answer)).map_err(put)?,
                Err(()) => return Ok(()),
            }
        }
        poll_fn(|cx| wire.poll_drain(cx)).await?;
        if wire.fill().await? == 0 {
            return Ok(());
        }
    }
}

/// What is said to a packet of a device that will go; `Err`: it goes, or says what it may not.
fn answer(packet: Inbound) -> Result<Option<Outbound>, ()> {
    match packet {
        Inbound::Ping => Ok(Some(Outbound::Pong)),
        // Some libraries subscribe to whatever they wait for. It is on its way.
        Inbound::Subscribe { id, filters, .. } => {
            let granted = |(_, qos)| if qos == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            Ok(Some(Outbound::SubscribeAck(id, filters.into_iter().map(granted).map(Ok).collect())))
        }
        Inbound::Unsubscribe { id, filters } => {
            Ok(Some(Outbound::UnsubscribeAck(id, vec![Reason::Success; filters.len()])))
        }
        Inbound::Publish(publish) => match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) => Ok(None),
            (QoS::AtLeastOnce, Some(id)) => Ok(Some(Outbound::PublishAck(id, Reason::NotAuthorized))),
            _ => Err(()),
        },
        Inbound::PublishAck(_) => Ok(None),
        Inbound::Connect(_) | Inbound::Disconnect { .. } | Inbound::Misplaced(_) => Err(()),
    }
}

/// The answer, at QoS 0: who misses it registers again.
fn message(user_name: &str, given: &Given) -> Message {
    let (device_name, product_key) = user_name.rsplit_once('&').unwrap_or_default();
    let (topic, payload) = match given {
        Given::Secret(device_secret) => {
            ("/ext/register", serde_json::to_vec(&ToKnown { product_key, device_name, device_secret }))
        }
        // The manual names `/ext/register` for this, too; all SDKs wait here.
        Given::Token { client_id, token: device_token } => {
            ("/ext/regnwl", serde_json::to_vec(&ToNew { product_key, device_name, client_id, device_token }))
        }
    };
    // Texts always have a JSON form.
    let payload = payload.unwrap_or_default().into();
    Message { topic: topic.to_owned(), alias: None, packet_id: None, again: false, payload }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::packet::{Terms, Version};

    fn connect(client_id: &str) -> Connect {
        Connect {
            version: Version::V3,
            client_id: client_id.to_owned(),
            user_name: "dev01&a1TestPk001".to_owned(),
            password: "00".into(),
            keepalive: 0,
            clean_start: true,
            session_seconds: 0,
            enhanced: false,
            terms: Terms::NONE,
        }
    }

    #[test]
    fn the_captured_connects_are_read() {
        let registered =
            "dev01.a1TestPk001|random=oPSxr2PgOUXWkTj,authType=register,securemode=2,signmethod=hmacsha256|";
        let asked = Newcomer::of(&connect(registered)).unwrap().asked().unwrap();
        assert_eq!((&*asked.product_key, &*asked.device_name), ("a1TestPk001", "dev01"));
        assert_eq!(
            (asked.way, asked.method, &*asked.random),
            (Way::Preregistered, Method::HmacSha256, "oPSxr2PgOUXWkTj")
        );
        assert_eq!(asked.instance_id, None);
        let unlisted = "dev01.a1TestPk001|random=jJ9773Bsjcnmk85,authType=regnwl,securemode=2,signmethod=hmacsha256,instanceId=iot-abc|";
        let asked = Newcomer::of(&connect(unlisted)).unwrap().asked().unwrap();
        assert_eq!((asked.way, asked.instance_id.as_deref()), (Way::Unlisted, Some("iot-abc")));
        // The manual's form; keys in another order, no instance.
        let manual = "c|authType=regnwl,random=R,securemode=-2,signmethod=HmacMD5,instanceId=|";
        let asked = Newcomer::of(&connect(manual)).unwrap().asked().unwrap();
        assert_eq!((asked.method, asked.instance_id), (Method::HmacMd5, None));
    }

    #[test]
    fn logins_are_no_registrations_and_wrong_parameters_are_named() {
        for login in ["c|securemode=3|", "c|authType=connwl,securemode=-2|", "c|authType=id2|", "c"] {
            assert!(Newcomer::of(&connect(login)).is_none(), "{login}");
        }
        let long = format!("{}|authType=register|", "x".repeat(65));
        for (client_id, expected) in [
            ("c|authType=register,securemode=8|", Refusal::SecureMode),
            ("c|authType=register,signmethod=md5|", Refusal::SignMethod),
            (&long, Refusal::ClientId),
        ] {
            let refused = Newcomer::of(&connect(client_id)).unwrap().asked().unwrap_err();
            assert_eq!((refused, refused.code()), (expected, 2), "{client_id}");
        }
        let nameless = Connect { user_name: "dev01".to_owned(), ..connect("c|authType=register|") };
        assert_eq!(Newcomer::of(&nameless).unwrap().asked().unwrap_err().code(), 4);
    }

    #[test]
    fn the_answers_are_compact_and_in_the_manuals_order() {
        let said = message("dev01&a1TestPk001", &Given::Secret("s".to_owned()));
        assert_eq!(said.topic, "/ext/register");
        assert_eq!(said.payload, r#"{"productKey":"a1TestPk001","deviceName":"dev01","deviceSecret":"s"}"#);
        let given = Given::Token { client_id: "c".to_owned(), token: "t".to_owned() };
        let said = message("dev01&a1TestPk001", &given);
        assert_eq!(said.topic, "/ext/regnwl");
        let expected =
            r#"{"productKey":"a1TestPk001","deviceName":"dev01","clientId":"c","deviceToken":"t"}"#;
        assert_eq!(said.payload, expected);
    }
}
