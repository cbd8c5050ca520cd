//! What a device says, packet by packet: events for the engine, answers for the device.
//!
//! Nothing here waits; [`super::connection`] makes the events durable before it writes the answers.

use super::connection::End;
use super::fetches::Fetches;
use super::link::{DeviceEvent, Happened};
use super::session::Session;
use super::topic::{Owner, Uplink};
use super::wire::{Wire, encode};
use super::{file_download, firmware_get, inform, progress};
use bytes::BytesMut;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v3::{Packet, SubscribeReturnCode};
use std::fmt::Display;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};
use updraft_core::limits::MQTT_TOPIC_BYTES_MAX;
use updraft_core::text::clip;

/// Most pushes that are on their way to one device without its PUBACK.
const WINDOW: usize = 8;

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
    /// The slots for pushes.
    pub window: Window,
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
            window: Window::default(),
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
                Ok(Some(packet)) => self.take(packet, &mut heard),
                Ok(None) => return heard,
                Err(malformed) => Err(malformed.into()),
            };
            if let Err(end) = taken {
                heard.end = Some(end);
                return heard;
            }
        }
    }

    fn take(&mut self, packet: Packet, heard: &mut Heard) -> Result<(), End> {
        let answer = match packet {
            Packet::Publish(publish) => {
                if publish.qos == QoS::ExactlyOnce {
                    return Err(End::Protocol("QoS 2 is not supported"));
                }
                self.publish(&publish, heard);
                match publish.packet_id {
                    Some(packet_id) => Packet::PublishAck { packet_id },
                    None => return Ok(()),
                }
            }
            Packet::PublishAck { packet_id } => {
                self.window.free(packet_id);
                return Ok(());
            }
            Packet::Subscribe { packet_id, topic_filters } => {
                let mut status = Vec::with_capacity(topic_filters.len());
                for (filter, qos) in &topic_filters {
                    status.push(self.subscribe(filter, *qos, heard)?);
                }
                Packet::SubscribeAck { packet_id, status }
            }
            Packet::Unsubscribe { packet_id, topic_filters } => {
                for filter in topic_filters {
                    self.session.unsubscribe(&filter);
                }
                Packet::UnsubscribeAck { packet_id }
            }
            Packet::PingRequest => Packet::PingResponse,
            Packet::Disconnect => return Err(End::Disconnected),
            Packet::Connect(_) => return Err(End::Protocol("a second CONNECT")),
            Packet::ConnectAck(_)
            | Packet::PublishReceived { .. }
            | Packet::PublishRelease { .. }
            | Packet::PublishComplete { .. }
            | Packet::SubscribeAck { .. }
            | Packet::UnsubscribeAck { .. }
            | Packet::PingResponse => return Err(End::Protocol("a packet that no device sends")),
        };
        encode(answer, &mut heard.answers).map_err(|_| End::Protocol("an answer cannot be encoded"))
    }

    fn subscribe(&mut self, filter: &str, qos: QoS, heard: &mut Heard) -> Result<SubscribeReturnCode, End> {
        let outcome = self.session.subscribe(filter);
        if outcome.listening_began {
            // Each time costs a look at the device's tasks: coming and going is no way to use a server up.
            if !self.budget.allows(Instant::now()) {
                return Err(End::Protocol("it subscribes and unsubscribes without end"));
            }
            let event = DeviceEvent::Listening;
            heard.events.push(Happened { device: self.session.device, event });
        }
        Ok(match (outcome.granted, qos) {
            (false, _) => SubscribeReturnCode::Failure,
            (true, QoS::AtMostOnce) => SubscribeReturnCode::Success(QoS::AtMostOnce),
            (true, QoS::AtLeastOnce | QoS::ExactlyOnce) => SubscribeReturnCode::Success(QoS::AtLeastOnce),
        })
    }

    fn publish(&mut self, publish: &Publish, heard: &mut Heard) {
        let uplink = self.session.owner().uplink(&publish.topic);
        // Blocks have a pace of their own, which makes a device wait: one that is dropped would cost it ten seconds.
        if uplink == Some(Uplink::FileDownload) {
            return self.fetch(publish);
        }
        if !self.budget.allows(Instant::now()) {
            return self.note(&publish.topic, &"too many messages");
        }
        let decoded = match uplink {
            None => return self.note(&publish.topic, &"not the device's own topic"),
            Some(Uplink::Unknown | Uplink::FileDownload) => return,
            Some(Uplink::Inform) => inform::decode(&publish.payload),
            Some(Uplink::Progress) => progress::decode(&publish.payload),
            Some(Uplink::FirmwareGet) => firmware_get::decode(&publish.payload),
            Some(Uplink::Request) => firmware_get::decode_request(&publish.payload),
        };
        match decoded {
            Ok(event) => heard.events.push(Happened { device: self.session.device, event }),
            Err(reason) => self.note(&publish.topic, &reason),
        }
    }

    fn fetch(&mut self, publish: &Publish) {
        let new = || Box::new(Fetches::new(self.blocks_per_second, Instant::now()));
        let fetches = self.fetches.get_or_insert_with(new);
        if fetches.is_full() {
            return self.note(&publish.topic, &"too many blocks are asked for at a time");
        }
        match file_download::decode(&publish.payload) {
            Ok(request) => fetches.ask(request),
            Err(reason) => self.note(&publish.topic, &reason),
        }
    }

    /// One line per connection: a broken device would fill the log otherwise.
    fn note(&mut self, topic: &str, reason: &dyn Display) {
        let Owner { product_key: pk, device_name: dn } = self.session.owner();
        let topic = clip(topic, MQTT_TOPIC_BYTES_MAX);
        if std::mem::replace(&mut self.noted, true) {
            tracing::debug!(pk, dn, ?topic, %reason, "message dropped");
        } else {
            tracing::warn!(pk, dn, ?topic, %reason, "message dropped; later ones are not told");
        }
    }
}

/// Packet ids of pushes that wait for their PUBACK.
#[derive(Default)]
pub struct Window {
    ids: [Option<NonZeroU16>; WINDOW],
    last: u16,
}

impl Window {
    /// Whether a push may go out.
    pub fn is_open(&self) -> bool {
        self.ids.contains(&None)
    }

    /// A new id, if the window is open.
    pub fn take(&mut self) -> Option<NonZeroU16> {
        let slot = self.ids.iter().position(Option::is_none)?;
        loop {
            self.last = self.last.wrapping_add(1);
            let id = NonZeroU16::new(self.last);
            if id.is_some() && !self.ids.contains(&id) {
                self.ids[slot] = id;
                return id;
            }
        }
    }

    fn free(&mut self, id: NonZeroU16) {
        if let Some(slot) = self.ids.iter_mut().find(|slot| **slot == Some(id)) {
            *slot = None;
        }
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
    fn the_window_reuses_no_open_id_and_never_zero() {
        let mut window = Window { last: u16::MAX - 1, ..Window::default() };
        let ids: Vec<u16> = std::iter::from_fn(|| window.take()).map(NonZeroU16::get).collect();
        assert_eq!(ids, [65_535, 1, 2, 3, 4, 5, 6, 7]);
        assert!(!window.is_open());
        window.free(NonZeroU16::new(99).unwrap());
        assert!(!window.is_open());
        window.free(NonZeroU16::new(3).unwrap());
        window.last = 65_534;
        assert_eq!(window.take().map(NonZeroU16::get), Some(3), "the others are open");
    }

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
