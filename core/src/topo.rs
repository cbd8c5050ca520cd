//! What gateways may do with their sub-devices: the rules, and the codes that a refusal has on the wire.
//!
//! A sub-device is behind at most one gateway. Who adds it last has it: the platform says so of
//! BatchAddThingTopo, and a sub-device that is carried to another site must work there.

use crate::id::DeviceNo;
use crate::registration;

/// Why a gateway is refused, or what it is told of a sub-device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The request is not understood, or names too many devices, or none.
    Parameter,
    /// The one who asks is no gateway.
    NoGateway,
    /// The device named is a gateway itself.
    GatewayBehindGateway,
    /// A signature for the topology does not fit.
    Signature,
    /// A signature for a login does not fit.
    LoginSignature,
    /// A signature for a registration does not fit.
    RegisterSignature,
    /// An unknown method of signing for a registration.
    SignMethod,
    /// No such device, or it belongs to somebody else.
    UnknownDevice,
    /// The sub-device is not behind this gateway.
    NoTopology,
    /// The gateway named itself.
    Itself,
    /// The sub-device may not be used.
    Disabled,
    /// The gateway would have too many sub-devices.
    TooManySubs,
    /// Too many logins in one request, or too many sub-devices are logged in.
    TooManyLogins,
    /// Too many requests.
    Throttled,
    /// The sub-device's product does not let devices register themselves.
    RegistrationOff,
    /// The sub-device has logged in before, and is not behind this gateway.
    Active,
    /// The sub-device is behind another gateway.
    BehindAnother,
    /// The sub-device is not logged in through this connection.
    NoSession,
    /// It logged in elsewhere.
    Elsewhere,
    /// It was deleted.
    Deleted,
    /// It was disabled.
    Forbidden,
}

impl Refusal {
    /// The code on the wire.
    pub fn code(self) -> i64 {
        match self {
            Self::Parameter | Self::NoGateway | Self::GatewayBehindGateway => 460,
            Self::Signature => 401,
            Self::LoginSignature => 6_287,
            Self::RegisterSignature => 6_600,
            Self::SignMethod => 6_292,
            Self::UnknownDevice => 6_100,
            Self::NoTopology => 6_401,
            Self::Itself => 6_402,
            Self::Disabled => 6_204,
            Self::TooManySubs => 6_400,
            Self::TooManyLogins => 428,
            Self::Throttled => 429,
            Self::RegistrationOff => 6_288,
            Self::Active => 6_289,
            Self::BehindAnother => 6_619,
            Self::NoSession => 520,
            Self::Elsewhere => 427,
            Self::Deleted => 521,
            Self::Forbidden => 522,
        }
    }

    /// The words on the wire: the platform's, where it has some.
    pub fn message(self) -> &'static str {
        match self {
            Self::Parameter => "request parameter error",
            Self::NoGateway => "request parameter error: the product's NodeType is not gateway",
            Self::GatewayBehindGateway => "request parameter error: a gateway cannot be a sub-device",
            Self::Signature => "request auth error",
            Self::LoginSignature => "invalid sign",
            Self::RegisterSignature => "signature verification failed",
            Self::SignMethod => "sign method not supported",
            Self::UnknownDevice => "device not found",
            Self::NoTopology => "topo relation not exist",
            Self::Itself => "topo relation cannot add by self",
            Self::Disabled | Self::Forbidden => "device forbidden",
            Self::TooManySubs => "too many subdevices of gateway",
            Self::TooManyLogins => "too many subdevices under gateway",
            Self::Throttled => "too many requests",
            Self::RegistrationOff => "dynamic registration is not enabled for the product",
            Self::Active => "device is active already",
            Self::BehindAnother => "device has been bound to another gateway",
            Self::NoSession => "device no session",
            Self::Elsewhere => "device connect in elsewhere",
            Self::Deleted => "device deleted",
        }
    }
}

impl From<registration::Refused> for Refusal {
    fn from(refused: registration::Refused) -> Self {
        match refused {
            registration::Refused::Off | registration::Refused::UnlistedOff => Self::RegistrationOff,
            registration::Refused::Unknown => Self::UnknownDevice,
            registration::Refused::Active => Self::Active,
            registration::Refused::Disabled => Self::Disabled,
        }
    }
}

/// A request that was refused; none of it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why: what the first device that was refused lacks.
    pub why: Refusal,
    /// The places in the request of the devices that were refused; none if it was not for one of them.
    pub at: Vec<usize>,
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self { why, at: Vec::new() }
    }
}

/// Whether a request proves that its sender knows a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It does.
    Good,
    /// It does not.
    Wrong,
    /// By an unknown method.
    UnknownMethod,
}

/// The gateway that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asking {
    /// It.
    pub device: DeviceNo,
    /// Whether its product is one of gateways.
    pub is_gateway: bool,
    /// How many sub-devices it has.
    pub subs: i64,
}

/// What is known of a device that a gateway names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sub {
    /// It.
    pub device: DeviceNo,
    /// Whether its product is one of gateways.
    pub is_gateway: bool,
    /// Whether it may not be used.
    pub disabled: bool,
    /// The gateway that it is behind.
    pub gateway: Option<DeviceNo>,
    /// Whether the request proves that its sender knows the secret.
    pub proof: Proof,
}

/// Judges a request as a whole: all of it or nothing.
pub fn judge(
    asking: &Asking,
    subs: &[Option<Sub>],
    rule: impl Fn(&Asking, &Sub) -> Result<(), Refusal>,
) -> Result<Vec<Sub>, Refused> {
    if !asking.is_gateway {
        return Err(Refusal::NoGateway.into());
    }
    if subs.is_empty() {
        return Err(Refusal::Parameter.into());
    }
    let (mut why, mut at, mut good) = (None, Vec::new(), Vec::new());
    for (place, sub) in subs.iter().enumerate() {
        match sub.ok_or(Refusal::UnknownDevice).and_then(|sub| rule(asking, &sub).map(|()| sub)) {
            Ok(sub) => good.push(sub),
            Err(refusal) => {
                why.get_or_insert(refusal);
                at.push(place);
            }
        }
    }
    match why {
        Some(why) => Err(Refused { why, at }),
        None => Ok(good),
    }
}

/// Whether a device may be put behind the gateway, wherever it was before.
pub fn may_add(asking: &Asking, sub: &Sub) -> Result<(), Refusal> {
    if sub.device == asking.device {
        Err(Refusal::Itself)
    } else if sub.is_gateway {
        Err(Refusal::GatewayBehindGateway)
    } else if sub.proof != Proof::Good {
        Err(Refusal::Signature)
    } else if sub.disabled {
        Err(Refusal::Disabled)
    } else {
        Ok(())
    }
}

/// Whether the gateway can take in these devices as well; those that it has already cost no place.
pub fn has_room(asking: &Asking, added: &[Sub], max: i64) -> Result<(), Refused> {
    let mut new: Vec<DeviceNo> =
        added.iter().filter(|sub| sub.gateway != Some(asking.device)).map(|sub| sub.device).collect();
    new.sort_unstable();
    new.dedup();
    if new.is_empty() || asking.subs.saturating_add(new.len() as i64) <= max {
        return Ok(());
    }
    Err(Refusal::TooManySubs.into())
}

/// Whether a device may be taken from behind the gateway.
pub fn may_remove(asking: &Asking, sub: &Sub) -> Result<(), Refusal> {
    if sub.gateway == Some(asking.device) { Ok(()) } else { Err(Refusal::NoTopology) }
}

/// Whether a device may log in through the gateway. Only who knows its secret is told that it is disabled.
pub fn may_login(asking: &Asking, sub: &Sub) -> Result<(), Refusal> {
    may_remove(asking, sub)?;
    if sub.proof != Proof::Good {
        Err(Refusal::LoginSignature)
    } else if sub.disabled {
        Err(Refusal::Disabled)
    } else {
        Ok(())
    }
}

/// Whether the gateway may ask for a device's secret; whether there is one to be had, [`crate::registration`] knows. A
/// device behind another gateway is not its to ask for.
pub fn may_register(asking: &Asking, sub: &Sub) -> Result<(), Refusal> {
    if sub.device == asking.device {
        Err(Refusal::Itself)
    } else if sub.is_gateway {
        Err(Refusal::GatewayBehindGateway)
    } else if sub.gateway.is_some_and(|gateway| gateway != asking.device) {
        Err(Refusal::BehindAnother)
    } else {
        match sub.proof {
            Proof::Good => Ok(()),
            Proof::Wrong => Err(Refusal::RegisterSignature),
            Proof::UnknownMethod => Err(Refusal::SignMethod),
        }
    }
}

/// What happened to sub-devices, as a gateway is told on `thing/topo/change`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// They were put behind it.
    Create,
    /// They are behind it no more.
    Delete,
    /// They may be used again.
    Enable,
    /// They may not be used.
    Disable,
}

impl Change {
    /// The number on the wire.
    pub fn status(self) -> i64 {
        match self {
            Self::Create => 0,
            Self::Delete => 1,
            Self::Enable => 2,
            Self::Disable => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Asking = Asking { device: DeviceNo(1), is_gateway: true, subs: 3 };
    const SUB: Sub =
        Sub { device: DeviceNo(2), is_gateway: false, disabled: false, gateway: None, proof: Proof::Good };
    const MINE: Sub = Sub { gateway: Some(DeviceNo(1)), ..SUB };
    const ANOTHERS: Sub = Sub { gateway: Some(DeviceNo(9)), ..SUB };

    #[test]
    fn who_may_be_added() {
        for (sub, expected) in [
            (SUB, Ok(())),
            (MINE, Ok(())),
            (ANOTHERS, Ok(())),
            (Sub { device: DeviceNo(1), is_gateway: true, ..SUB }, Err(Refusal::Itself)),
            (Sub { is_gateway: true, ..SUB }, Err(Refusal::GatewayBehindGateway)),
            (Sub { proof: Proof::Wrong, disabled: true, ..SUB }, Err(Refusal::Signature)),
            (Sub { proof: Proof::UnknownMethod, ..SUB }, Err(Refusal::Signature)),
            (Sub { disabled: true, ..SUB }, Err(Refusal::Disabled)),
        ] {
            assert_eq!(may_add(&GATEWAY, &sub), expected, "{sub:?}");
        }
    }

    #[test]
    fn who_may_log_in_and_be_removed() {
        for (sub, login, remove) in [
            (MINE, Ok(()), Ok(())),
            (SUB, Err(Refusal::NoTopology), Err(Refusal::NoTopology)),
            (ANOTHERS, Err(Refusal::NoTopology), Err(Refusal::NoTopology)),
            (Sub { proof: Proof::Wrong, disabled: true, ..MINE }, Err(Refusal::LoginSignature), Ok(())),
            (Sub { proof: Proof::UnknownMethod, ..MINE }, Err(Refusal::LoginSignature), Ok(())),
            (Sub { disabled: true, ..MINE }, Err(Refusal::Disabled), Ok(())),
        ] {
            assert_eq!(may_login(&GATEWAY, &sub), login, "{sub:?}");
            assert_eq!(may_remove(&GATEWAY, &sub), remove, "{sub:?}");
        }
    }

    #[test]
    fn whose_secret_is_told() {
        for (sub, expected) in [
            (SUB, Ok(())),
            (MINE, Ok(())),
            (ANOTHERS, Err(Refusal::BehindAnother)),
            (Sub { proof: Proof::Wrong, ..SUB }, Err(Refusal::RegisterSignature)),
            (Sub { proof: Proof::UnknownMethod, ..SUB }, Err(Refusal::SignMethod)),
            (Sub { is_gateway: true, ..SUB }, Err(Refusal::GatewayBehindGateway)),
            (Sub { device: DeviceNo(1), is_gateway: true, ..SUB }, Err(Refusal::Itself)),
        ] {
            assert_eq!(may_register(&GATEWAY, &sub), expected, "{sub:?}");
        }
    }

    #[test]
    fn all_of_a_request_or_nothing() {
        assert_eq!(judge(&GATEWAY, &[Some(SUB), Some(MINE)], may_add), Ok(vec![SUB, MINE]));
        let wrong = Sub { proof: Proof::Wrong, ..SUB };
        assert_eq!(
            judge(&GATEWAY, &[Some(SUB), Some(wrong), None, Some(MINE)], may_add),
            Err(Refused { why: Refusal::Signature, at: vec![1, 2] })
        );
        assert_eq!(
            judge(&GATEWAY, &[None], may_add),
            Err(Refused { why: Refusal::UnknownDevice, at: vec![0] })
        );
        assert_eq!(judge(&GATEWAY, &[], may_add), Err(Refusal::Parameter.into()));
        let lamp = Asking { is_gateway: false, ..GATEWAY };
        assert_eq!(judge(&lamp, &[Some(SUB)], may_add), Err(Refusal::NoGateway.into()));
    }

    #[test]
    fn a_gateway_has_so_many_places() {
        let other = Sub { device: DeviceNo(3), ..ANOTHERS };
        assert_eq!(has_room(&GATEWAY, &[SUB, other], 5), Ok(()));
        assert_eq!(has_room(&GATEWAY, &[SUB, other], 4), Err(Refusal::TooManySubs.into()));
        assert_eq!(has_room(&GATEWAY, &[SUB, SUB], 4), Ok(()), "one device twice");
        assert_eq!(has_room(&GATEWAY, &[MINE], 1), Ok(()), "no new one, although the limit was lowered");
    }
}
