//! Which devices may register themselves with their product's secret, and what they are given.
//!
//! One rule for every way: the HTTPS form, the two MQTT forms, and gateways that register for what is behind them.

/// Whether devices of a product may register themselves: the product's switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Mode {
    /// No device may.
    #[default]
    Off,
    /// Those may whose names the product has already.
    Preregistered,
    /// Others may, too: they become devices of the product.
    Any,
}

impl Mode {
    /// Every mode, in storage order.
    pub const ALL: [Self; 3] = [Self::Off, Self::Preregistered, Self::Any];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Preregistered => "PREREGISTERED",
            Self::Any => "ANY",
        }
    }

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// The number in the database.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The mode of a number in the database.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.code() == code)
    }
}

/// How a device asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Its name has been registered: it wants its secret.
    Preregistered,
    /// Its name may be new: it wants a token.
    Unlisted,
    /// A gateway asks for it and wants its secret. `own`: the device is behind this gateway, which may ask as often as it
    /// likes, since it speaks for the device anyway.
    Gateway {
        /// Whether the device is behind the gateway that asks.
        own: bool,
    },
}

/// What is known of a device that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// It has logged in before.
    pub active: bool,
    /// It has registered itself before, and was not reset since.
    pub registered: bool,
    /// It was reset, and has not logged in since it registered anew.
    pub reset: bool,
    /// It may not connect.
    pub disabled: bool,
}

/// What is to be done for a device that may register itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// It becomes a device of the product.
    Create,
    /// It is given the secret that it has.
    Keep,
    /// It is given a new secret; whatever was given out before is good no more.
    Renew,
}

/// Why a device may not register itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Dynamic registration of the product is off.
    Off,
    /// Only devices may whose names have been registered.
    UnlistedOff,
    /// The product has no device of that name.
    Unknown,
    /// The device has logged in before: a reset (ResetThing) lets it register itself again.
    Active,
    /// The device is disabled.
    Disabled,
}

impl Refused {
    /// Why, for the log.
    pub fn why(self) -> &'static str {
        match self {
            Self::Off => "dynamic registration of the product is off (SetProductDynamicRegister)",
            Self::UnlistedOff => {
                "the product takes no devices that are not registered (SetProductDynamicRegister)"
            }
            Self::Unknown => "the product has no device of that name",
            Self::Active => "the device is active already (ResetThing lets it register itself again)",
            Self::Disabled => "the device is disabled",
        }
    }
}

/// What the signature of a registration covers.
pub fn signed_content(product_key: &str, device_name: &str, random: &str) -> String {
    format!("deviceName{device_name}productKey{product_key}random{random}")
}

/// Whether a device may register itself, and what comes of it. `device`: the product's device of that name.
///
/// The first registration gives the secret that RegisterDevice answered, so that what a back end noted stays true; each
/// later one a new secret, so that of several that asked the last one is the device.
pub fn decide(mode: Mode, way: Way, device: Option<&Known>) -> Result<Grant, Refused> {
    if mode == Mode::Off {
        return Err(Refused::Off);
    }
    if way == Way::Unlisted && mode != Mode::Any {
        return Err(Refused::UnlistedOff);
    }
    let Some(device) = device else {
        return if way == Way::Unlisted { Ok(Grant::Create) } else { Err(Refused::Unknown) };
    };
    if device.disabled {
        return Err(Refused::Disabled);
    }
    if way == (Way::Gateway { own: true }) {
        return Ok(Grant::Keep);
    }
    if device.active && !device.reset {
        return Err(Refused::Active);
    }
    Ok(if device.registered || device.reset { Grant::Renew } else { Grant::Keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Known = Known { active: false, registered: false, reset: false, disabled: false };
    const WAYS: [Way; 4] =
        [Way::Preregistered, Way::Unlisted, Way::Gateway { own: false }, Way::Gateway { own: true }];

    fn all() -> impl Iterator<Item = Known> {
        let bit = |bits: u8, at: u8| bits & (1 << at) != 0;
        (0..16).map(move |bits| Known {
            active: bit(bits, 0),
            registered: bit(bits, 1),
            reset: bit(bits, 2),
            disabled: bit(bits, 3),
        })
    }

    #[test]
    fn the_switch_decides_first() {
        for way in WAYS {
            for device in all() {
                assert_eq!(decide(Mode::Off, way, Some(&device)), Err(Refused::Off));
            }
            assert_eq!(decide(Mode::Off, way, None), Err(Refused::Off));
        }
        assert_eq!(decide(Mode::Preregistered, Way::Unlisted, None), Err(Refused::UnlistedOff));
        assert_eq!(decide(Mode::Preregistered, Way::Unlisted, Some(&NEW)), Err(Refused::UnlistedOff));
        assert_eq!(decide(Mode::Any, Way::Unlisted, None), Ok(Grant::Create));
        for way in [Way::Preregistered, Way::Gateway { own: false }, Way::Gateway { own: true }] {
            assert_eq!(decide(Mode::Any, way, None), Err(Refused::Unknown));
        }
    }

    #[test]
    fn the_life_of_a_device_that_registers_itself() {
        let registered = Known { registered: true, ..NEW };
        let active = Known { active: true, ..registered };
        let reset = Known { registered: false, reset: true, ..active };
        let again = Known { registered: true, ..reset };
        for (mode, way) in [(Mode::Preregistered, Way::Preregistered), (Mode::Any, Way::Unlisted)] {
            let asked = |device: &Known| decide(mode, way, Some(device));
            assert_eq!(asked(&NEW), Ok(Grant::Keep));
            assert_eq!(asked(&registered), Ok(Grant::Renew), "the last secret wins");
            assert_eq!(asked(&active), Err(Refused::Active));
            assert_eq!(asked(&Known { active: true, ..NEW }), Err(Refused::Active), "its secret was burned");
            assert_eq!(asked(&reset), Ok(Grant::Renew));
            assert_eq!(asked(&again), Ok(Grant::Renew), "until it logs in");
        }
    }

    #[test]
    fn nobody_registers_what_is_disabled_and_only_its_gateway_what_is_active() {
        for device in all() {
            for way in WAYS {
                let answer = decide(Mode::Any, way, Some(&device));
                assert_eq!(device.disabled, answer == Err(Refused::Disabled), "{device:?}");
                let own = way == Way::Gateway { own: true };
                let shut = device.active && !device.reset && !device.disabled && !own;
                assert_eq!(shut, answer == Err(Refused::Active), "{device:?}");
                assert!(!own || answer != Ok(Grant::Renew), "a gateway that asks again breaks nothing");
            }
        }
    }

    #[test]
    fn modes_have_names_and_numbers() {
        for mode in Mode::ALL {
            assert_eq!(
                (Mode::from_name(mode.name()), Mode::from_code(mode.code())),
                (Some(mode), Some(mode))
            );
        }
        assert_eq!((Mode::from_name("off"), Mode::from_code(3)), (None, None));
        assert_eq!(signed_content("pk", "dn", "r"), "deviceNamednproductKeypkrandomr");
    }
}
