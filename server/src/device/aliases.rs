//! Short names for topics on one connection with MQTT 5, both ways. Pure.

use super::packet::{ALIASES_MAX, Publish};
use super::wire::Malformed;
use std::num::NonZeroU16;
use updraft_core::limits::MQTT_TOPIC_BYTES_MAX;

/// The aliases of one connection.
pub struct Aliases {
    /// What the device's aliases stand for, by their number less one.
    heard: Vec<Option<Box<str>>>,
    /// The topics that we have an alias for, by its number less one.
    said: Vec<Box<str>>,
    /// Most topics that we may have one for.
    said_max: usize,
}

impl Aliases {
    /// None yet; the device takes so many from us.
    pub fn new(device_takes: u16) -> Self {
        Self { heard: Vec::new(), said: Vec::new(), said_max: device_takes.min(ALIASES_MAX).into() }
    }

    /// Gives a message of the device its topic.
    pub fn resolve(&mut self, publish: &mut Publish) -> Result<(), Malformed> {
        let Some(alias) = publish.alias else {
            return if publish.topic.is_empty() { Err(Malformed::NoTopic) } else { Ok(()) };
        };
        if alias.get() > ALIASES_MAX {
            return Err(Malformed::Alias);
        }
        let place = usize::from(alias.get() - 1);
        if publish.topic.is_empty() {
            let known = self.heard.get(place).and_then(Option::as_deref);
            known.ok_or(Malformed::NoTopic)?.clone_into(&mut publish.topic);
            return Ok(());
        }
        // No topic of a device is longer, and what is remembered is bounded.
        if publish.topic.len() > MQTT_TOPIC_BYTES_MAX {
            return Err(Malformed::Topic);
        }
        if self.heard.len() <= place {
            self.heard.resize(place + 1, None);
        }
        self.heard[place] = Some(publish.topic.as_str().into());
        Ok(())
    }

    /// The alias for a topic, and whether the device knows it already; `None` if there are enough.
    pub fn of(&self, topic: &str) -> Option<(NonZeroU16, bool)> {
        let place = self.said.iter().position(|known| **known == *topic);
        let known = place.is_some();
        let place = place.or_else(|| (self.said.len() < self.said_max).then_some(self.said.len()))?;
        let alias = u16::try_from(place + 1).ok().and_then(NonZeroU16::new)?;
        Some((alias, known))
    }

    /// The device was told this topic's alias, the one that [`Aliases::of`] answered.
    pub fn told(&mut self, topic: &str) {
        self.said.push(topic.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmqtt_codec::types::QoS;

    fn publish(topic: &str, alias: u16) -> Publish {
        let alias = NonZeroU16::new(alias);
        Publish {
            topic: topic.to_owned(),
            alias,
            qos: QoS::AtMostOnce,
            packet_id: None,
            payload: bytes::Bytes::new(),
        }
    }

    #[test]
    fn a_devices_alias_stands_for_its_last_topic() {
        let mut aliases = Aliases::new(0);
        for (topic, alias, expected) in [
            ("/a", 0, Ok("/a")),
            ("/a", 16, Ok("/a")),
            ("", 16, Ok("/a")),
            ("/b", 16, Ok("/b")),
            ("", 16, Ok("/b")),
            ("", 15, Err(Malformed::NoTopic)),
            ("", 0, Err(Malformed::NoTopic)),
            ("/a", 17, Err(Malformed::Alias)),
            (&"x".repeat(MQTT_TOPIC_BYTES_MAX + 1), 1, Err(Malformed::Topic)),
        ] {
            let mut publish = publish(topic, alias);
            let got = aliases.resolve(&mut publish).map(|()| publish.topic.as_str());
            assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{topic} {alias}");
        }
    }

    #[test]
    fn we_use_no_more_aliases_than_the_device_takes() {
        let one = NonZeroU16::MIN;
        assert_eq!(Aliases::new(0).of("/a"), None);
        let mut aliases = Aliases::new(1);
        assert_eq!(aliases.of("/a"), Some((one, false)));
        assert_eq!(aliases.of("/a"), Some((one, false)), "it was not told");
        aliases.told("/a");
        assert_eq!((aliases.of("/a"), aliases.of("/b")), (Some((one, true)), None));
        let mut aliases = Aliases::new(u16::MAX);
        for topic in 0..ALIASES_MAX {
            aliases.told(&topic.to_string());
        }
        assert_eq!(aliases.of("more"), None);
    }
}
