//! What a device says, packet by packet: events for the engine, answers for the device.
//!
//! Nothing here waits; [`super::connection`] makes the events durable before it writes the answers.

use super::connection::End;
use super::fetches::Fetches;
use super::gateway::subs::{NextFetch, Subs};
use super::gateway::{self, Kind, trouble};
use super::link::{DeviceEvent, Happened};
use super::packet::{Inbound, Message, Outbound, Publish, QoS, Reason};
use super::session::Session;
use super::topic::{Owner, Uplink};
use super::wire::Wire;
use super::{file_download, firmware_get, inform, progress};
use bytes::BytesMut;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use updraft_core::limits::MQTT_TOPIC_BYTES_MAX;
use updraft_core::text::clip;
use updraft_core::topo::Refusal;

/// What one round of reading brought.
#[derive(Default)]
pub struct Heard {
    /// What the device did, in order.
    pub events: Vec<Happened>,
    /// Encoded; written once the events are durable.
    pub answers: BytesMut,
    /// A question of a gateway, which comes after the events; nothing more is heard before it is answered. In a box,
    /// since few connections ever have one.
    pub question: Option<Box<gateway::serve::Heard>>,
    /// Set if the connection is over.
    pub end: Option<End>,
}

/// A connection's memory of its conversation.
pub struct Talk<'a> {
    session: &'a Arc<Session>,
    budget: Budget,
    blocks_per_second: u32,
    /// Blocks asked for; in a box, since most sessions never ask for one.
    fetches: Option<Box<Fetches>>,
    /// The room that the block on its way takes.
    pub room: Option<OwnedSemaphorePermit>,
    /// The devices behind it, if it is a gateway.
    pub subs: Option<&'a mut Subs>,
    /// Whether one of those had the last block.
    subs_had_last: bool,
    /// A gateway's question that is not answered yet; nothing is heard meanwhile.
    pub question: Option<Box<gateway::serve::Heard>>,
    /// Whether the log knows already that this device sends what is dropped.
    noted: bool,
}

impl<'a> Talk<'a> {
    /// The start of a conversation.
    pub fn new(
        session: &'a Arc<Session>,
        uplinks_per_second: u32,
        blocks_per_second: u32,
        subs: Option<&'a mut Subs>,
    ) -> Self {
        let now = Instant::now();
        Self {
            session,
            budget: Budget::new(uplinks_per_second, now),
            blocks_per_second,
            fetches: None,
            room: None,
            subs,
            subs_had_last: false,
            question: None,
            noted: false,
        }
    }

    /// Takes all whole packets that have come, up to a question of a gateway.
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
            if heard.question.is_some() {
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
                let reason = self.publish(&publish, wire, heard)?;
                match publish.packet_id.filter(|_| heard.question.is_none()) {
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
                    let existed = self.whose(filter).unsubscribe(filter);
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
        encode(wire, answer, heard)
    }

    fn subscribe(&mut self, filter: &str, qos: QoS, heard: &mut Heard) -> Result<Result<QoS, Reason>, End> {
        let whose = self.whose(filter);
        let outcome = whose.subscribe(filter);
        if outcome.listening_began {
            // Each time costs a look at the device's tasks: coming and going is no way to use a server up.
            if !self.allows(&whose) {
                let what = "it subscribes and unsubscribes without end";
                return Err(End::Protocol(Reason::QuotaExceeded, what));
            }
            heard.events.push(Happened { device: whose.device, event: DeviceEvent::Listening });
        }
        Ok(match (outcome.refused, qos) {
            (Some(reason), _) => Err(reason),
            (None, QoS::AtMostOnce) => Ok(QoS::AtMostOnce),
            (None, QoS::AtLeastOnce | QoS::ExactlyOnce) => Ok(QoS::AtLeastOnce),
        })
    }

    /// Whose a topic or filter is: of a device behind it, if it is about one, else its own.
    fn whose(&self, topic: &str) -> Arc<Session> {
        let behind = self.subs.as_deref().and_then(|subs| subs.find(topic));
        behind.unwrap_or_else(|| Arc::clone(self.session))
    }

    /// Whether a device may send a message, which counts then. Each behind a gateway has an allowance of its own.
    fn allows(&mut self, whose: &Arc<Session>) -> bool {
        let now = Instant::now();
        match self.subs.as_deref_mut() {
            Some(subs) if !Arc::ptr_eq(whose, self.session) => subs.allows(whose, now),
            _ => self.budget.allows(now),
        }
    }

    fn publish(&mut self, publish: &Publish, wire: &mut Wire, heard: &mut Heard) -> Result<Reason, End> {
        let whose = self.whose(&publish.topic);
        let uplink = whose.owner().uplink(&publish.topic);
        // Blocks have a pace of their own, which makes a device wait: one that is dropped would cost it ten seconds.
        if uplink == Some(Uplink::FileDownload) {
            return Ok(self.fetch(&whose, publish));
        }
        if !self.allows(&whose) {
            return Ok(self.note(&publish.topic, Reason::QuotaExceeded, &"too many messages"));
        }
        let decoded = match uplink {
            None => return self.foreign(publish, wire, heard),
            Some(Uplink::Unknown | Uplink::FileDownload) => return Ok(self.other(publish, heard)),
            Some(Uplink::Inform) => inform::decode(&publish.payload),
            Some(Uplink::Progress) => progress::decode(&publish.payload),
            Some(Uplink::FirmwareGet) => firmware_get::decode(&publish.payload),
            Some(Uplink::Request) => firmware_get::decode_request(&publish.payload),
        };
        Ok(match decoded {
            Ok(event) => {
                heard.events.push(Happened { device: whose.device, event });
                Reason::Success
            }
            Err(why) => self.note(&publish.topic, Reason::PayloadFormatInvalid, &why),
        })
    }

    /// A topic of its own that is not about updates: of a gateway it may be a question.
    fn other(&mut self, publish: &Publish, heard: &mut Heard) -> Reason {
        let kind = Kind::of(self.session.owner(), &publish.topic);
        let (Some(kind), Some(subs)) = (kind, self.subs.as_deref()) else {
            return Reason::NoMatchingSubscribers;
        };
        match gateway::decode(kind, &publish.payload, subs.batches()) {
            Ok(question) => {
                let packet_id = publish.packet_id;
                heard.question = Some(Box::new(gateway::serve::Heard { question, packet_id }));
                Reason::Success
            }
            Err(why) => self.note(&publish.topic, Reason::PayloadFormatInvalid, &why),
        }
    }

    /// A topic of somebody else. A gateway is told if that one is not logged in.
    fn foreign(&mut self, publish: &Publish, wire: &mut Wire, heard: &mut Heard) -> Result<Reason, End> {
        if let Some(subs) = self.subs.as_deref_mut()
            && let Some(speaker) = trouble::speaker(&publish.topic)
        {
            let id = trouble::id_of(&publish.payload).unwrap_or_else(|| subs.trouble_id());
            let message = Message {
                topic: trouble::topic(self.session.owner()),
                alias: None,
                packet_id: None,
                again: false,
                payload: trouble::payload(&id, Refusal::NoSession, speaker).into(),
            };
            encode(wire, Outbound::Message(message), heard)?;
        }
        let why = "not the topic of the device, nor of one that is logged in behind it";
        Ok(self.note(&publish.topic, Reason::NotAuthorized, &why))
    }

    fn fetch(&mut self, whose: &Arc<Session>, publish: &Publish) -> Reason {
        let full = "too many blocks are asked for at a time";
        let asked = match file_download::decode(&publish.payload) {
            Ok(request) => self.ask(whose, request),
            // What is no question for a block is a message like any other.
            Err(_) if !self.allows(whose) => {
                return self.note(&publish.topic, Reason::QuotaExceeded, &"too many messages");
            }
            Err(why) => return self.note(&publish.topic, Reason::PayloadFormatInvalid, &why),
        };
        if asked { Reason::Success } else { self.note(&publish.topic, Reason::QuotaExceeded, &full) }
    }

    /// Takes a question for a block; `false`: there are too many.
    fn ask(&mut self, whose: &Arc<Session>, request: file_download::Request) -> bool {
        let now = Instant::now();
        if let Some(subs) = self.subs.as_deref_mut()
            && !Arc::ptr_eq(whose, self.session)
        {
            return subs.ask(whose, request, now);
        }
        let fetches = self.fetches.get_or_insert_with(|| Box::new(Fetches::new(self.blocks_per_second, now)));
        let room = !fetches.is_full();
        if room {
            fetches.ask(request);
        }
        room
    }

    /// Whether questions for blocks wait.
    pub fn fetches_wait(&self) -> bool {
        self.fetches.as_ref().is_some_and(|fetches| !fetches.is_empty())
            || self.subs.as_ref().is_some_and(|subs| subs.is_fetching())
    }

    /// Whose question for a block is next: a gateway and those behind it take turns.
    pub fn next_fetch(&mut self, now: Instant) -> NextFetch {
        let own = self.fetches.as_mut().filter(|fetches| !fetches.is_empty()).map(|own| own.wait(now));
        let own = own.map_or(NextFetch::None, |wait| {
            if wait.is_zero() { NextFetch::Of(Arc::clone(self.session)) } else { NextFetch::Wait(wait) }
        });
        if matches!(own, NextFetch::Of(_)) && (self.subs_had_last || self.subs.is_none()) {
            return own;
        }
        let subs = self.subs.as_deref_mut().map_or(NextFetch::None, |subs| subs.next_fetch(now));
        match (own, subs) {
            (_, NextFetch::Of(sub)) => NextFetch::Of(sub),
            (own @ NextFetch::Of(_), _) | (own, NextFetch::None) => own,
            (NextFetch::Wait(own), NextFetch::Wait(subs)) => NextFetch::Wait(own.min(subs)),
            (NextFetch::None, subs) => subs,
        }
    }

    /// A device had its turn.
    pub fn fetched(&mut self, whose: Arc<Session>) {
        self.subs_had_last = !Arc::ptr_eq(&whose, self.session);
        if self.subs_had_last
            && let Some(subs) = self.subs.as_deref_mut()
        {
            subs.fetched(whose);
        }
    }

    /// A device's questions for blocks.
    pub fn fetches_of(&mut self, whose: &Arc<Session>) -> Option<&mut Fetches> {
        if Arc::ptr_eq(whose, self.session) {
            return self.fetches.as_deref_mut();
        }
        self.subs.as_deref_mut()?.fetches_of(whose)
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

fn encode(wire: &mut Wire, answer: Outbound, heard: &mut Heard) -> Result<(), End> {
    wire.encode(answer, &mut heard.answers)
        .map_err(|_| End::Protocol(Reason::PacketTooLarge, "an answer is larger than the device takes"))
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
        self.allows_all(1, now)
    }

    /// Whether so many messages are allowed, which count then: all of them or none.
    pub fn allows_all(&mut self, count: usize, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        self.refill(now);
        let wanted = (count as u64).saturating_mul(1_000);
        let allowed = self.left >= wanted;
        if allowed {
            self.left -= wanted;
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
