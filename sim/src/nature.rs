//! What kind of world it is: how slowly things happen in it, and which odd devices it has.

use crate::chance::Chance;
use crate::devices::Node;
use crate::world::{Event, World};
use updraft_core::time::{HOUR_MS, MINUTE_MS, SECOND_MS};
use updraft_fleet::{Behaviour, Device, DeviceConfig, Timing};

/// Trouble lasts so long at most, in a world in which nothing is slow, and in any.
const TROUBLE_MS: i64 = 6 * HOUR_MS;
const TROUBLE_MS_MAX: i64 = 10 * 24 * HOUR_MS;
/// A slow world is as much slower at most in what must not be missed.
const LOOKS_SLOWNESS_MAX: i64 = 20;

/// The kind of a world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nature {
    /// What operators, pullers and misfortunes wait for takes so many times as long.
    pub(crate) slowness: i64,
    /// Devices that are odd, in percent.
    odd: usize,
    /// Devices whose identity another one has, too.
    twins: usize,
}

impl Nature {
    /// A quick world without oddities.
    pub(crate) fn plain() -> Self {
        Self { slowness: 1, odd: 0, twins: 0 }
    }

    /// In one of ten worlds days pass, in which devices are away for most of a week.
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        let slowness = if chance.percent(10) { chance.pick(&[20, 300]) } else { 1 };
        let odd = if chance.percent(60) { chance.range(5, 50) as usize } else { 0 };
        let twins = if chance.percent(25) { 1 + chance.below(3) } else { 0 };
        Self { slowness, odd, twins }
    }

    /// How long trouble lasts at most.
    pub(crate) fn trouble_ms(self) -> i64 {
        (TROUBLE_MS * self.slowness).min(TROUBLE_MS_MAX)
    }

    /// A time between two looks, in a world of this kind.
    pub(crate) fn looks_ms(self, ms: i64) -> i64 {
        ms * self.slowness.min(LOOKS_SLOWNESS_MAX)
    }
}

impl World {
    /// The behaviour of a new device: the one that it would have, or an odd one.
    pub(crate) fn draw_oddity(&mut self, plain: Behaviour) -> Behaviour {
        let Nature { slowness, odd, .. } = self.nature;
        if !self.oddities.percent(odd) {
            return match plain {
                Behaviour::Puller { every_ms } => Behaviour::Puller { every_ms: every_ms * slowness },
                plain => plain,
            };
        }
        match self.oddities.below(3) {
            0 => Behaviour::LosesPower { new_image: self.oddities.percent(50) },
            1 => {
                let after_ms = self.oddities.pick(&[MINUTE_MS, 20 * MINUTE_MS, 3 * HOUR_MS]);
                Behaviour::RollsBack { after_ms }
            }
            _ => Behaviour::Forgetful,
        }
    }

    /// Gives some devices twins.
    pub(crate) fn draw_twins(&mut self) {
        let twins = self.oddities.some(self.nature.twins, self.nodes.len());
        for node in twins {
            let on_ms = self.oddities.range(30 * SECOND_MS, 10 * MINUTE_MS);
            let behaviour = self.draw_oddity(Behaviour::Good);
            self.make_twin(node, behaviour, on_ms);
        }
    }

    /// Another device with a device's identity. The two take each other's connection away, and need a while each time
    /// until they are back.
    pub(crate) fn make_twin(&mut self, node: usize, behaviour: Behaviour, on_ms: i64) {
        let original = &mut self.nodes[node];
        let timing = Timing {
            backoff_first_ms: 3 * MINUTE_MS,
            backoff_max_ms: 10 * MINUTE_MS,
            ..original.device.config().timing
        };
        let config = DeviceConfig { timing, ..original.device.config().clone() };
        original.device = Device::new(config.clone());
        let seed = config.seed + 1_000;
        let mut twin = Node::new(
            original.name.clone(),
            original.product,
            original.no,
            DeviceConfig { behaviour, seed, ..config },
        );
        twin.twin = true;
        self.nodes.push(twin);
        let twin = self.nodes.len() - 1;
        self.at(on_ms, Event::Tick(twin, 0));
    }

    /// Twins are switched off for good: of one identity one device is left.
    pub(crate) fn retire_twins(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].twin {
                self.note(format!("{} is switched off for good", self.nodes[node].label()));
                self.switch_off(node);
            }
        }
    }
}
