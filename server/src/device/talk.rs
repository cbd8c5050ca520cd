//! What a device says, packet by packet: events for the engine, answers for the device.
//!
//! Nothing here waits; [`super::connection`] makes the events durable before it writes the answers.

use super::connection::End;
use super::fetches::Fetches;
use super::link::{DeviceEvent, Happened};
use super::packet::{Inbound, Outbound, Publish, QoS, Reason};
use super::session::Session;
use super::topic::{Owner, Uplink};
use super::wire::Wire;
use super::{file_download, firmware_get, inform, progress};
use bytes::BytesMut;
use std::fmt::Display;
use std::time::{Duration, Instant};
use updraft_core::limits::MQTT_TOPIC_BYTES_MAX;
use updraft_core::text::clip;

/// What one round of reading brought.
#[derive(Default)]
pub struct Heard {
    /// What the device did, in order.
    pub events: Vec<Happened>,
    /// Encoded; written once the events are durable.
    pub answers: BytesMut,
    /// Set if the connection is over.
    pub end: Option<End>,
}

/// A connection's memory of its conversation.
pub struct Talk<'a> {
    session: &'a Session,
    budget: Budget,
    blocks_per_second: u32,
    /// Blocks asked for; in a box, since most sessions never ask for one.
    pub fetches: Option<Box<Fetches>>,
    /// Whether the log knows already that this device sends what is dropped.
    noted: bool,
}

impl<'a> Talk<'a> {
    /// The start of a conversation.
    pub fn new(session: &'a Session, uplinks_per_second: u32, blocks_per_second: u32) -> Self {
        let now = Instant::now();
        Self {
            session,
            budget: Budget::new(uplinks_per_second, now),
            blocks_per_second,
            fetches: None,
            noted: false,
        }
    }

    /// Takes all whole packets that have come.
    pub fn listen(&mut self, wire: &mut Wire) -> Heard {
        let mut heard = Heard::default();
        loop {
            let taken = match wire.next_packet() {
                Ok(Some(packet)) => self.take(packet, wire, &mut heard),
                Ok(None) => return heard,
                Err(malformed) => Err(malformed.into()),
            };
            if let Err(end) = taken {
                heard.end = Some(end);
                return heard;
            }
        }
    }

    fn take(&mut self, packet: Inbound, wire: &mut Wire, heard: &mut Heard) -> Result<(), End> {
        let answer = match packet {
            Inbound::Publish(publish) => {
                if publish.qos == QoS::ExactlyOnce {
                    return Err(End::Protocol(Reason::QosNotSupported, "QoS 2 is not supported"));
                }
                let reason = self.publish(&publish, heard);
                match publish.packet_id {
                    Some(packet_id) => Outbound::PublishAck(packet_id, reason),
                    None => return Ok(()),
                }
            }
            Inbound::PublishAck(id) => {
                self.session.arrived(id);
                return Ok(());
            }
            Inbound::Subscribe { id, filters, identified } => {
                let mut outcomes = Vec::with_capacity(filters.len());
                for (filter, qos) in &filters {
                    outcomes.push(if identified {
                        Err(Reason::IdentifiersNotSupported)
                    } else {
                        self.subscribe(filter, *qos, heard)?
                    });
                }
                Outbound::SubscribeAck(id, outcomes)
            }
            Inbound::Unsubscribe { id, filters } => {
                let taken_back = |filter: &String| {
                    let existed = self.session.unsubscribe(filter);
                    if existed { Reason::Success } else { Reason::NoSubscriptionExisted }
                };
                Outbound::UnsubscribeAck(id, filters.iter().map(taken_back).collect())
            }
            Inbound::Ping => Outbound::Pong,
            Inbound::Disconnect { session_seconds } => {
                let allowed = session_seconds.is_none_or(|seconds| self.session.keep_for(seconds));
                let late =
                    End::Protocol(Reason::ProtocolError, "a session that was not to be kept is to be kept");
                return Err(if allowed { End::Disconnected } else { late });
            }
            Inbound::Connect(_) => return Err(End::Protocol(Reason::ProtocolError, "a second CONNECT")),
            Inbound::Misplaced(what) => return Err(End::Protocol(Reason::ProtocolError, what)),
        };
        wire.encode(answer, &mut heard.answers)
            .map_err(|_| End::Protocol(Reason::PacketTooLarge, "an answer is larger than the device takes"))
    }

    fn subscribe(&mut self, filter: &str, qos: QoS, heard: &mut Heard) -> Result<Result<QoS, Reason>, End> {
        let outcome = self.session.subscribe(filter);
        if outcome.listening_began {
            // Each time costs a look at the device's tasks: coming and going is no way to use a server up.
            if !self.budget.allows(Instant::now()) {
                let what = "it subscribes and unsubscribes without end";
                return Err(End::Protocol(Reason::QuotaExceeded, what));
            }
            let event = DeviceEvent::Listening;
            heard.events.push(Happened { device: self.session.device, event });
        }
        Ok(match (outcome.refused, qos) {
            (Some(reason), _) => Err(reason),
            (None, QoS::AtMostOnce) => Ok(QoS::AtMostOnce),
            (None, QoS::AtLeastOnce | QoS::ExactlyOnce) => Ok(QoS::AtLeastOnce),
        })
    }

    fn publish(&mut self, publish: &Publish, heard: &mut Heard) -> Reason {
        let uplink = self.session.owner().uplink(&publish.topic);
        // Blocks have a pace of their own, which makes a device wait: one that is dropped would cost it ten seconds.
        if uplink == Some(Uplink::FileDownload) {
            return self.fetch(publish);
        }
        if !self.budget.allows(Instant::now()) {
            return self.note(&publish.topic, Reason::QuotaExceeded, &"too many messages");
        }
        let decoded = match uplink {
            None => return self.note(&publish.topic, Reason::NotAuthorized, &"not the device's own topic"),
            Some(Uplink::Unknown | Uplink::FileDownload) => return Reason::NoMatchingSubscribers,
            Some(Uplink::Inform) => inform::decode(&publish.payload),
            Some(Uplink::Progress) => progress::decode(&publish.payload),
            Some(Uplink::FirmwareGet) => firmware_get::decode(&publish.payload),
            Some(Uplink::Request) => firmware_get::decode_request(&publish.payload),
        };
        match decoded {
            Ok(event) => {
                heard.events.push(Happened { device: self.session.device, event });
                Reason::Success
            }
            Err(why) => self.note(&publish.topic, Reason::PayloadFormatInvalid, &why),
        }
    }

    fn fetch(&mut self, publish: &Publish) -> Reason {
        let now = Instant::now();
        let fetches = self.fetches.get_or_insert_with(|| Box::new(Fetches::new(self.blocks_per_second, now)));
        if fetches.is_full() {
            let why = "too many blocks are asked for at a time";
            return self.note(&publish.topic, Reason::QuotaExceeded, &why);
        }
        match file_download::decode(&publish.payload) {
            Ok(request) => {
                fetches.ask(request);
                Reason::Success
            }
            // What is no question for a block is a message like any other.
            Err(_) if !self.budget.allows(now) => {
                self.note(&publish.topic, Reason::QuotaExceeded, &"too many messages")
            }
            Err(why) => self.note(&publish.topic, Reason::PayloadFormatInvalid, &why),
        }
    }

    /// One line per connection: a broken device would fill the log otherwise.
    fn note(&mut self, topic: &str, reason: Reason, why: &dyn Display) -> Reason {
        let Owner { product_key: pk, device_name: dn } = self.session.owner();
        let topic = clip(topic, MQTT_TOPIC_BYTES_MAX);
        if std::mem::replace(&mut self.noted, true) {
            tracing::debug!(pk, dn, ?topic, %why, "message dropped");
        } else {
            tracing::warn!(pk, dn, ?topic, %why, "message dropped; later ones are not told");
        }
        reason
    }
}

/// A device's allowance of messages: a second's worth at once, refilled evenly.
pub(super) struct Budget {
    per_second: u32,
    /// Thousandths of a message.
    left: u64,
    at: Instant,
}

impl Budget {
    /// A full one; `per_second` 0: no limit.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, left: u64::from(per_second) * 1_000, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let rate = u64::from(self.per_second);
        let elapsed_ms = now.saturating_duration_since(self.at).as_millis() as u64;
        if elapsed_ms > 0 {
            self.left = elapsed_ms.saturating_mul(rate).saturating_add(self.left).min(rate * 1_000);
            self.at = now;
        }
    }

    /// How long it takes until the next message is allowed.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.refill(now);
        let missing = if self.per_second == 0 { 0 } else { 1_000_u64.saturating_sub(self.left) };
        Duration::from_millis(missing.div_ceil(u64::from(self.per_second).max(1)))
    }

    /// Whether a message is allowed, which counts then.
    pub fn allows(&mut self, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        self.refill(now);
        let allowed = self.left >= 1_000;
        if allowed {
            self.left -= 1_000;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_budget_refills_evenly() {
        let start = Instant::now();
        let mut budget = Budget::new(30, start);
        let allowed = |budget: &mut Budget, ms| {
            (0..100).filter(|_| budget.allows(start + Duration::from_millis(ms))).count()
        };
        assert_eq!(allowed(&mut budget, 0), 30);
        assert_eq!(allowed(&mut budget, 100), 3);
        assert_eq!(allowed(&mut budget, 60_000), 30);
        assert_eq!(allowed(&mut Budget::new(0, start), 0), 100);
    }

    #[test]
    fn the_pace_says_how_long_to_wait() {
        let start = Instant::now();
        let mut pace = Budget::new(30, start);
        assert_eq!(pace.wait(start), Duration::ZERO);
        assert!((0..30).all(|_| pace.allows(start)));
        let wait = pace.wait(start);
        assert_eq!(wait, Duration::from_millis(34));
        assert!(!pace.allows(start));
        assert_eq!(pace.wait(start + wait), Duration::ZERO);
        assert!(pace.allows(start + wait));
        assert_eq!(Budget::new(0, start).wait(start), Duration::ZERO);
    }
}
