//! What devices and server say to each other, whichever version of MQTT carries it.
//!
//! The codec has one set of types for 3.1 and 3.1.1 and another for 5; this is the only place that knows both.
//! What has no counterpart in 3.x (reason codes, properties) is left out there.

use super::login::Refusal;
use bytes::{Bytes, BytesMut};
use rmqtt_codec::error::{DecodeError, EncodeError};
pub use rmqtt_codec::types::QoS;
use rmqtt_codec::{types, v3, v5};
use std::num::{NonZeroU16, NonZeroU32};
use tokio_util::codec::{Decoder, Encoder};

/// Topics for which a device may use an alias, on one connection.
pub const ALIASES_MAX: u16 = 16;
/// Messages at QoS 1 that a device with MQTT 5 should have under way at most. More are served, too.
const RECEIVE_MAX: NonZeroU16 = NonZeroU16::new(256).unwrap();
/// How long a session of MQTT 3.x without the clean flag lives: as long as we keep any.
const FOR_EVER: u32 = u32::MAX;

/// The protocol of a connection. 3.1 and 3.1.1 differ in their CONNECT only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1 or 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// A reason code of MQTT 5 that we say. Not sent to devices with 3.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// It is done.
    Success = 0x00,
    /// Accepted; nobody needs it.
    NoMatchingSubscribers = 0x10,
    /// There was no such subscription.
    NoSubscriptionExisted = 0x11,
    /// The bytes are no MQTT.
    Malformed = 0x81,
    /// MQTT that may not come now.
    ProtocolError = 0x82,
    /// The topic or filter is another's.
    NotAuthorized = 0x87,
    /// The server cannot take it now.
    ServerBusy = 0x89,
    /// The server stops.
    ShuttingDown = 0x8b,
    /// Nothing was heard for one and a half times the keepalive.
    KeepAliveTimeout = 0x8d,
    /// The device logged in again.
    SessionTakenOver = 0x8e,
    /// No topic filter by MQTT's rules.
    TopicFilterInvalid = 0x8f,
    /// No topic by MQTT's rules, or longer than any of the device's.
    TopicNameInvalid = 0x90,
    /// An alias that was not agreed on.
    TopicAliasInvalid = 0x94,
    /// Longer than allowed.
    PacketTooLarge = 0x95,
    /// More than allowed.
    QuotaExceeded = 0x97,
    /// The device was disabled or deleted.
    AdministrativeAction = 0x98,
    /// The payload is not what its topic demands.
    PayloadFormatInvalid = 0x99,
    /// QoS 2.
    QosNotSupported = 0x9b,
    /// `$share/…`.
    SharedNotSupported = 0x9e,
    /// A subscription with an identifier.
    IdentifiersNotSupported = 0xa1,
}

/// A packet of a device.
#[derive(Debug)]
pub enum Inbound {
    /// It wants in.
    Connect(Box<Connect>),
    /// It says something.
    Publish(Publish),
    /// It has a message, whatever it thinks of it.
    PublishAck(NonZeroU16),
    /// It wants to hear something.
    Subscribe {
        /// The packet's id.
        id: NonZeroU16,
        /// Filters with their QoS, one at least.
        filters: Vec<(String, QoS)>,
        /// Whether it wants an identifier with each message.
        identified: bool,
    },
    /// It wants to hear it no more.
    Unsubscribe {
        /// The packet's id.
        id: NonZeroU16,
        /// Filters, one at least.
        filters: Vec<String>,
    },
    /// It lives.
    Ping,
    /// It goes.
    Disconnect {
        /// How long its session is to be kept, in seconds, if that changes.
        session_seconds: Option<u32>,
    },
    /// A packet that no device may send.
    Misplaced(&'static str),
}

/// How a device wants in.
#[derive(Debug)]
pub struct Connect {
    /// The protocol.
    pub version: Version,
    /// The client id.
    pub client_id: String,
    /// The user name; empty if there is none.
    pub user_name: String,
    /// The password; empty if there is none.
    pub password: Bytes,
    /// In seconds.
    pub keepalive: u16,
    /// Whether an earlier session is to be forgotten.
    pub clean_start: bool,
    /// How long the session is to be kept after the connection, in seconds; [`u32::MAX`]: for ever.
    pub session_seconds: u32,
    /// Whether it asks for an exchange of AUTH packets.
    pub enhanced: bool,
    /// What only MQTT 5 says, as 3.x means it.
    pub terms: Terms,
}

/// What a device with MQTT 5 demands of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Messages at QoS 1 that may be under way to it.
    pub receive_max: u16,
    /// Bytes of a packet to it, with everything.
    pub packet_max: u32,
    /// Topic aliases that may be used to it.
    pub aliases: u16,
    /// Whether it wants explanations.
    pub explain: bool,
}

impl Terms {
    /// Those of MQTT 3.x.
    pub const NONE: Self = Self { receive_max: u16::MAX, packet_max: u32::MAX, aliases: 0, explain: false };
}

/// A message of a device.
#[derive(Debug)]
pub struct Publish {
    /// Empty if only an alias names it.
    pub topic: String,
    /// What stands for the topic.
    pub alias: Option<NonZeroU16>,
    /// 2 is possible, though not served.
    pub qos: QoS,
    /// There is one if QoS is not 0.
    pub packet_id: Option<NonZeroU16>,
    /// The message.
    pub payload: Bytes,
}

/// A packet to a device.
#[derive(Debug)]
pub enum Outbound {
    /// The device is let in.
    Welcome(Welcome),
    /// It is not.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Whether to explain, which only MQTT 5 can.
        explain: bool,
    },
    /// A message.
    Message(Message),
    /// Its message is taken, or dropped for a reason.
    PublishAck(NonZeroU16, Reason),
    /// For each filter: the QoS that is granted, or why not.
    SubscribeAck(NonZeroU16, Vec<Result<QoS, Reason>>),
    /// For each filter: whether it was there.
    UnsubscribeAck(NonZeroU16, Vec<Reason>),
    /// The answer to a ping.
    Pong,
    /// The end, which MQTT 3.x does not say.
    Disconnect {
        /// Why.
        reason: Reason,
        /// The same in words, or nothing.
        why: String,
    },
}

/// What a device is told when it is let in. All but the first only by MQTT 5.
#[derive(Debug, Clone, Copy)]
pub struct Welcome {
    /// Whether we still have its session.
    pub session_present: bool,
    /// How long its session will be kept, in seconds, if not as it wished.
    pub session_seconds: Option<u32>,
    /// The keepalive that holds, in seconds, if not as it wished.
    pub keepalive: Option<u16>,
    /// Bytes of a packet from it, with everything.
    pub packet_max: u32,
}

/// A message to a device.
#[derive(Debug)]
pub struct Message {
    /// Empty if the device knows the alias.
    pub topic: String,
    /// MQTT 5's short name for the topic.
    pub alias: Option<NonZeroU16>,
    /// With one the message is sent at QoS 1.
    pub packet_id: Option<NonZeroU16>,
    /// Whether it may have been sent before.
    pub again: bool,
    /// The message.
    pub payload: Bytes,
}

/// Reads one whole packet.
pub fn decode(version: Version, frame: &mut BytesMut) -> Result<Option<Inbound>, DecodeError> {
    Ok(match version {
        Version::V3 => v3::Codec::new(0).decode(frame)?.map(|(packet, _)| from_v3(packet)),
        Version::V5 => v5::Codec::new(0, 0).decode(frame)?.map(|(packet, _)| from_v5(packet)),
    })
}

/// Appends a packet to bytes.
pub fn encode(version: Version, packet: Outbound, out: &mut BytesMut) -> Result<(), EncodeError> {
    match version {
        Version::V3 => to_v3(packet).map_or(Ok(()), |packet| v3::Codec::new(0).encode(packet, out)),
        // Without its limit for packets, below which it computes with numbers less than zero; see `Wire`.
        Version::V5 => v5::Codec::new(0, 0).encode(to_v5(packet)?, out),
    }
}

const NOT_A_DEVICE: Inbound = Inbound::Misplaced("a packet that no device sends");

fn from_v3(packet: v3::Packet) -> Inbound {
    match packet {
        v3::Packet::Connect(connect) => Inbound::Connect(Box::new(Connect {
            version: Version::V3,
            client_id: connect.client_id.to_string(),
            user_name: connect.username.map(|name| name.to_string()).unwrap_or_default(),
            password: connect.password.unwrap_or_default(),
            keepalive: connect.keep_alive,
            clean_start: connect.clean_session,
            session_seconds: if connect.clean_session { 0 } else { FOR_EVER },
            enhanced: false,
            terms: Terms::NONE,
        })),
        v3::Packet::Publish(publish) => Inbound::Publish(heard(*publish)),
        v3::Packet::PublishAck { packet_id } => Inbound::PublishAck(packet_id),
        v3::Packet::Subscribe { packet_id, topic_filters } => Inbound::Subscribe {
            id: packet_id,
            filters: topic_filters.into_iter().map(|(filter, qos)| (filter.to_string(), qos)).collect(),
            identified: false,
        },
        v3::Packet::Unsubscribe { packet_id, topic_filters } => Inbound::Unsubscribe {
            id: packet_id,
            filters: topic_filters.iter().map(ToString::to_string).collect(),
        },
        v3::Packet::PingRequest => Inbound::Ping,
        v3::Packet::Disconnect => Inbound::Disconnect { session_seconds: None },
        v3::Packet::ConnectAck(_)
        | v3::Packet::PublishReceived { .. }
        | v3::Packet::PublishRelease { .. }
        | v3::Packet::PublishComplete { .. }
        | v3::Packet::SubscribeAck { .. }
        | v3::Packet::UnsubscribeAck { .. }
        | v3::Packet::PingResponse => NOT_A_DEVICE,
    }
}

fn from_v5(packet: v5::Packet) -> Inbound {
    match packet {
        v5::Packet::Connect(connect) => Inbound::Connect(Box::new(Connect {
            version: Version::V5,
            client_id: connect.client_id.to_string(),
            user_name: connect.username.map(|name| name.to_string()).unwrap_or_default(),
            password: connect.password.unwrap_or_default(),
            keepalive: connect.keep_alive,
            clean_start: connect.clean_start,
            session_seconds: connect.session_expiry_interval_secs,
            enhanced: connect.auth_method.is_some() || connect.auth_data.is_some(),
            terms: Terms {
                receive_max: connect.receive_max.map_or(u16::MAX, NonZeroU16::get),
                packet_max: connect.max_packet_size.map_or(u32::MAX, NonZeroU32::get),
                aliases: connect.topic_alias_max,
                explain: connect.request_problem_info,
            },
        })),
        v5::Packet::Publish(publish) => Inbound::Publish(heard(*publish)),
        v5::Packet::PublishAck(ack) => Inbound::PublishAck(ack.packet_id),
        v5::Packet::Subscribe(subscribe) => Inbound::Subscribe {
            id: subscribe.packet_id,
            filters: subscribe
                .topic_filters
                .into_iter()
                .map(|(f, options)| (f.to_string(), options.qos))
                .collect(),
            identified: subscribe.id.is_some(),
        },
        v5::Packet::Unsubscribe(unsubscribe) => Inbound::Unsubscribe {
            id: unsubscribe.packet_id,
            filters: unsubscribe.topic_filters.iter().map(ToString::to_string).collect(),
        },
        v5::Packet::PingRequest => Inbound::Ping,
        v5::Packet::Disconnect(disconnect) => {
            Inbound::Disconnect { session_seconds: disconnect.session_expiry_interval_secs }
        }
        v5::Packet::Auth(_) => Inbound::Misplaced("an AUTH that nobody asked for"),
        v5::Packet::ConnectAck(_)
        | v5::Packet::PublishReceived(_)
        | v5::Packet::PublishRelease(_)
        | v5::Packet::PublishComplete(_)
        | v5::Packet::SubscribeAck(_)
        | v5::Packet::UnsubscribeAck(_)
        | v5::Packet::PingResponse => NOT_A_DEVICE,
    }
}

/// The retain flag is harmless, since nothing is retained; how long a message may wait says nothing to who takes it
/// at once.
fn heard(publish: types::Publish) -> Publish {
    Publish {
        topic: publish.topic.to_string(),
        alias: publish.properties.and_then(|properties| properties.topic_alias),
        qos: publish.qos,
        packet_id: publish.packet_id,
        payload: publish.payload,
    }
}

/// `None` for what MQTT 3.x cannot say.
fn to_v3(packet: Outbound) -> Option<v3::Packet> {
    let ack = |code: u8, session_present| {
        let return_code =
            v3::ConnectAckReason::try_from(code).unwrap_or(v3::ConnectAckReason::ServiceUnavailable);
        v3::Packet::ConnectAck(v3::ConnectAck { return_code, session_present })
    };
    Some(match packet {
        Outbound::Welcome(welcome) => ack(0, welcome.session_present),
        Outbound::Refused { refusal, .. } => ack(refusal.code(), false),
        Outbound::Message(message) => v3::Packet::Publish(Box::new(said(message, None))),
        Outbound::PublishAck(packet_id, _) => v3::Packet::PublishAck { packet_id },
        Outbound::SubscribeAck(packet_id, filters) => v3::Packet::SubscribeAck {
            packet_id,
            status: filters
                .into_iter()
                .map(|filter| {
                    filter.map_or(v3::SubscribeReturnCode::Failure, v3::SubscribeReturnCode::Success)
                })
                .collect(),
        },
        Outbound::UnsubscribeAck(packet_id, _) => v3::Packet::UnsubscribeAck { packet_id },
        Outbound::Pong => v3::Packet::PingResponse,
        Outbound::Disconnect { .. } => return None,
    })
}

fn to_v5(packet: Outbound) -> Result<v5::Packet, EncodeError> {
    fn code<C: TryFrom<u8>>(reason: Reason) -> Result<C, EncodeError> {
        C::try_from(reason as u8).map_err(|_| EncodeError::MalformedPacket)
    }
    Ok(match packet {
        Outbound::Welcome(welcome) => welcome_v5(welcome).into(),
        Outbound::Refused { refusal, explain } => v5::ConnectAck {
            reason_code: refusal.reason().try_into().unwrap_or(v5::ConnectAckReason::UnspecifiedError),
            reason_string: explain.then(|| refusal.told().into()),
            ..v5::ConnectAck::default()
        }
        .into(),
        Outbound::Message(message) => {
            let topic_alias = message.alias;
            let properties = v5::PublishProperties { topic_alias, ..v5::PublishProperties::default() };
            said(message, Some(properties)).into()
        }
        Outbound::PublishAck(packet_id, reason) => {
            let reason_code = code(reason)?;
            v5::PublishAck { packet_id, reason_code, ..v5::PublishAck::default() }.into()
        }
        Outbound::SubscribeAck(packet_id, filters) => {
            let status = filters.into_iter().map(|filter| match filter {
                Ok(QoS::AtMostOnce) => Ok(v5::SubscribeAckReason::GrantedQos0),
                Ok(QoS::AtLeastOnce | QoS::ExactlyOnce) => Ok(v5::SubscribeAckReason::GrantedQos1),
                Err(reason) => code(reason),
            });
            let status = status.collect::<Result<_, _>>()?;
            v5::SubscribeAck { packet_id, properties: Vec::new(), reason_string: None, status }.into()
        }
        Outbound::UnsubscribeAck(packet_id, filters) => {
            let status = filters.into_iter().map(code).collect::<Result<_, _>>()?;
            v5::UnsubscribeAck { packet_id, properties: Vec::new(), reason_string: None, status }.into()
        }
        Outbound::Pong => v5::Packet::PingResponse,
        Outbound::Disconnect { reason, why } => {
            let reason_string = (!why.is_empty()).then(|| why.into());
            v5::Disconnect { reason_string, ..v5::Disconnect::new(code(reason)?) }.into()
        }
    })
}

fn welcome_v5(welcome: Welcome) -> v5::ConnectAck {
    v5::ConnectAck {
        session_present: welcome.session_present,
        session_expiry_interval_secs: welcome.session_seconds,
        server_keepalive_sec: welcome.keepalive,
        receive_max: RECEIVE_MAX,
        max_qos: QoS::AtLeastOnce,
        max_packet_size: Some(welcome.packet_max),
        topic_alias_max: ALIASES_MAX,
        retain_available: false,
        subscription_identifiers_available: false,
        shared_subscription_available: false,
        ..v5::ConnectAck::default()
    }
}

fn said(message: Message, properties: Option<v5::PublishProperties>) -> types::Publish {
    types::Publish {
        dup: message.again,
        retain: false,
        qos: if message.packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        topic: message.topic.into(),
        packet_id: message.packet_id,
        payload: message.payload,
        properties,
    }
}
