//! What gateways ask about the devices behind them, and what they are told when that changes.

use crate::api::device::register_device::SEAL_PURPOSE;
use crate::api::product::create_product::SEAL_PURPOSE as PRODUCT_SEAL_PURPOSE;
use crate::app::App;
use crate::device::gateway::sign::Signed;
use crate::device::gateway::{Answer, Claim, Name, Request, Secret, topo};
use crate::device::link::Downlink;
use crate::device::register::{self, Fresh, grant};
use crate::device::topic::Owner;
use crate::engine;
use crate::engine::advance::Effects;
use std::collections::BTreeMap;
use std::sync::Arc;
use updraft_core::id::{DeviceNo, InstanceNo};
use updraft_core::page::Page;
use updraft_core::registration::Way;
use updraft_core::time::Timestamp;
use updraft_core::topo::{
    Asking, Change, Proof, Refusal, Refused, Sub, has_room, judge, may_add, may_login, may_register,
    may_remove,
};
use updraft_store::{Lane, StoreError, SubDevice, Tx};

/// Most devices that one answer lists: with the longest names they fit into a message.
const LISTED_MAX: i64 = 2_500;

/// What a question comes to: an answer or a refusal, and what follows from it.
type Outcome = (Result<Answer, Refused>, Effects);

/// Answers a gateway's question, once it is durable.
pub async fn answer(
    app: &Arc<App>,
    gateway: DeviceNo,
    request: Request,
) -> Result<Result<Answer, Refused>, StoreError> {
    let shared = Arc::clone(app);
    match request {
        Request::List => app.store.read(move |tx| list(tx, gateway)).await,
        Request::Find(claims) => app.store.read(move |tx| find(tx, &shared, gateway, &claims)).await,
        Request::Register(_) | Request::ProductRegister(_) => register_all(app, gateway, request).await,
        request => {
            let run = move |tx: &mut Tx<'_>| change(tx, &shared, gateway, &request, shared.now());
            engine::write(app, Lane::Interactive, run).await
        }
    }
}

fn change(
    tx: &mut Tx<'_>,
    app: &App,
    gateway: DeviceNo,
    request: &Request,
    now: Timestamp,
) -> Result<Outcome, StoreError> {
    let Some((asking, instance)) = asking(tx, gateway)? else {
        return Ok((Err(Refusal::UnknownDevice.into()), Effects::default()));
    };
    let refused = |refused| Ok((Err(refused), Effects::default()));
    match request {
        Request::Add(claims) => {
            let named = Named::of_claims(tx, app, instance, claims)?;
            let added = judge(&asking, &named.subs, may_add)
                .and_then(|subs| has_room(&asking, &subs, app.config.gateway_subs_max).map(|()| subs));
            if let Err(why) = added {
                return refused(why);
            }
            let effects = attach(tx, gateway, &named.devices(), now)?;
            Ok((Ok(Answer::Done(named.names())), effects))
        }
        Request::Remove(names) => {
            let named = Named::of(tx, instance, names)?;
            match judge(&asking, &named.subs, may_remove) {
                Err(why) => refused(why),
                Ok(subs) => {
                    let gone: Vec<DeviceNo> = subs.iter().map(|sub| sub.device).collect();
                    tx.topo_remove(&gone)?;
                    let effects = Effects { logged_out: gone, ..Effects::default() };
                    Ok((Ok(Answer::Done(named.names())), effects))
                }
            }
        }
        Request::Unregister(names) => {
            let named = Named::of(tx, instance, names)?;
            match judge(&asking, &named.subs, may_remove) {
                Err(why) => refused(why),
                Ok(subs) => {
                    let gone: Vec<DeviceNo> = subs.iter().map(|sub| sub.device).collect();
                    let mut kicked = Vec::new();
                    for device in &gone {
                        // A token is good no more, so a connection that was made with it is not, either.
                        kicked.extend(tx.device_reset(*device, now)?.then_some(*device));
                    }
                    tx.topo_remove(&gone)?;
                    let effects = Effects { kicked, logged_out: gone, ..Effects::default() };
                    Ok((Ok(Answer::Done(named.names())), effects))
                }
            }
        }
        // These have ways of their own, above.
        Request::Register(_) | Request::ProductRegister(_) => refused(Refusal::Parameter.into()),
        Request::List => Ok((list(tx, gateway)?, Effects::default())),
        Request::Find(claims) => Ok((find(tx, app, gateway, claims)?, Effects::default())),
    }
}

fn asking(tx: &mut Tx<'_>, gateway: DeviceNo) -> Result<Option<(Asking, InstanceNo)>, StoreError> {
    let found = tx.gateway_load(gateway)?;
    Ok(found.map(|found| {
        (Asking { device: gateway, is_gateway: found.is_gateway, subs: found.subs }, found.instance)
    }))
}

fn list(tx: &mut Tx<'_>, gateway: DeviceNo) -> Result<Result<Answer, Refused>, StoreError> {
    match asking(tx, gateway)? {
        None => Ok(Err(Refusal::UnknownDevice.into())),
        Some((asking, _)) if !asking.is_gateway => Ok(Err(Refusal::NoGateway.into())),
        Some(_) => {
            let page = Page::new(1, LISTED_MAX, LISTED_MAX);
            let subs = page.map(|page| tx.topo_list(gateway, page)).transpose()?.unwrap_or_default();
            Ok(Ok(Answer::Done(subs.iter().map(name_of).collect())))
        }
    }
}

fn find(
    tx: &mut Tx<'_>,
    app: &App,
    gateway: DeviceNo,
    claims: &[Claim],
) -> Result<Result<Answer, Refused>, StoreError> {
    let Some((asking, instance)) = asking(tx, gateway)? else {
        return Ok(Err(Refusal::UnknownDevice.into()));
    };
    let named = Named::of_claims(tx, app, instance, claims)?;
    let found = judge(&asking, &named.subs, may_login);
    Ok(found.map(|subs| Answer::Found(subs.iter().map(|sub| sub.device).collect())))
}

/// Why a registration was not carried out; nothing of it is.
enum Denied {
    Refused(Refused),
    Failed(StoreError),
}

impl From<StoreError> for Denied {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Tells a gateway the secrets of devices: of all that it names, or of none.
async fn register_all(
    app: &Arc<App>,
    gateway: DeviceNo,
    request: Request,
) -> Result<Result<Answer, Refused>, StoreError> {
    let (names, claims) = match request {
        Request::ProductRegister(claims) => {
            (claims.iter().map(|claim| claim.name.clone()).collect(), Some(claims))
        }
        Request::Register(names) => (names, None),
        _ => return Ok(Err(Refusal::Parameter.into())),
    };
    let fresh: Result<Vec<Fresh>, _> = names.iter().map(|_| Fresh::draw(app)).collect();
    let fresh = fresh.map_err(|error| StoreError::Internal(error.to_string()))?;
    let shared = Arc::clone(app);
    let run = move |tx: &mut Tx<'_>| grants(tx, &shared, gateway, &names, claims.as_deref(), &fresh);
    match engine::write(app, Lane::Interactive, run).await {
        Ok(secrets) => {
            tracing::info!(gateway = gateway.0, count = secrets.len(), "a gateway registered devices");
            Ok(Ok(Answer::Secrets(secrets)))
        }
        Err(Denied::Refused(refused)) => Ok(Err(refused)),
        Err(Denied::Failed(error)) => Err(error),
    }
}

fn grants(
    tx: &mut Tx<'_>,
    app: &App,
    gateway: DeviceNo,
    names: &[Name],
    claims: Option<&[Claim]>,
    fresh: &[Fresh],
) -> Result<(Vec<Secret>, Effects), Denied> {
    let refused = |why: Refusal| Denied::Refused(why.into());
    let (asking, instance) = asking(tx, gateway)?.ok_or_else(|| refused(Refusal::UnknownDevice))?;
    let mut named = Named::of(tx, instance, names)?;
    if let Some(claims) = claims {
        for (sub, claim) in named.subs.iter_mut().zip(claims) {
            if let Some(sub) = sub {
                sub.proof = product_proof(tx, app, claim)?;
            }
        }
    }
    let subs = judge(&asking, &named.subs, may_register).map_err(Denied::Refused)?;
    let (mut secrets, mut effects) = (Vec::new(), Effects::default());
    for (place, (sub, (name, fresh))) in subs.iter().zip(names.iter().zip(fresh)).enumerate() {
        let way = Way::Gateway { own: sub.gateway == Some(gateway) };
        let granted = grant(tx, app, &name.product_key, &name.device_name, way, fresh, app.now());
        let (granted, further) = granted.map_err(|why| match why {
            register::Refusal::Rule(why) => Denied::Refused(Refused { why: why.into(), at: vec![place] }),
            why => Denied::Failed(StoreError::Unavailable(why.to_string())),
        })?;
        effects.add(further);
        secrets.push(Secret { name: name.clone(), iot_id: granted.iot_id, secret: granted.secret });
    }
    Ok((secrets, effects))
}

/// Whether a signature was made with the secret of the device's product.
fn product_proof(tx: &mut Tx<'_>, app: &App, claim: &Claim) -> Result<Proof, StoreError> {
    let found = tx.registrant_find(&claim.name.product_key, &claim.name.device_name)?;
    let secret = found.and_then(|found| app.master.open(PRODUCT_SEAL_PURPOSE, &found.secret_sealed).ok());
    Ok(secret.map_or(Proof::Wrong, |secret| claim.signed.proof(&secret)))
}

/// Puts devices behind a gateway. Those that they were behind are told, and their sessions there end.
pub fn attach(
    tx: &mut Tx<'_>,
    gateway: DeviceNo,
    subs: &[&SubDevice],
    now: Timestamp,
) -> Result<Effects, StoreError> {
    let moved: Vec<&SubDevice> =
        subs.iter().copied().filter(|sub| sub.gateway.is_some_and(|before| before != gateway)).collect();
    let effects = leave(tx, &moved, now)?;
    tx.topo_put(gateway, &subs.iter().map(|sub| sub.device).collect::<Vec<_>>(), now)?;
    Ok(effects)
}

/// Takes devices from behind their gateways, which are told; their sessions there end.
pub fn detach(tx: &mut Tx<'_>, subs: &[&SubDevice], now: Timestamp) -> Result<Effects, StoreError> {
    let effects = leave(tx, subs, now)?;
    tx.topo_remove(&subs.iter().map(|sub| sub.device).collect::<Vec<_>>())?;
    Ok(effects)
}

/// What follows when devices leave the gateways that they are behind.
fn leave(tx: &mut Tx<'_>, subs: &[&SubDevice], now: Timestamp) -> Result<Effects, StoreError> {
    let mut by_gateway: BTreeMap<DeviceNo, Vec<Name>> = BTreeMap::new();
    let mut effects = Effects::default();
    for sub in subs {
        if let Some(gateway) = sub.gateway {
            by_gateway.entry(gateway).or_default().push(name_of(sub));
            effects.logged_out.push(sub.device);
        }
    }
    for (gateway, names) in by_gateway {
        tell(tx, &mut effects, gateway, Change::Delete, &names, now)?;
    }
    Ok(effects)
}

/// Tells a gateway that something became of devices behind it.
pub fn tell(
    tx: &mut Tx<'_>,
    effects: &mut Effects,
    gateway: DeviceNo,
    change: Change,
    subs: &[Name],
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(known) = tx.gateway_load(gateway)? else { return Ok(()) };
    let owner = Owner { product_key: &known.product_key, device_name: &known.name };
    let payload = topo::change(now.0, change, subs).into();
    let topic = topo::change_topic(owner);
    effects.downlinks.push((gateway, Downlink::Message { topic, payload, kept: true, answer: true }));
    Ok(())
}

/// Tells the gateway that a device is behind, if it is behind one.
pub fn tell_of(
    tx: &mut Tx<'_>,
    effects: &mut Effects,
    device: DeviceNo,
    change: Change,
    name: Name,
    now: Timestamp,
) -> Result<(), StoreError> {
    match tx.topo_gateway(device)? {
        Some(gateway) => tell(tx, effects, gateway, change, &[name], now),
        None => Ok(()),
    }
}

/// The devices that a question names, in its order.
struct Named {
    found: Vec<Option<SubDevice>>,
    subs: Vec<Option<Sub>>,
}

impl Named {
    /// Devices that need no proof.
    fn of(tx: &mut Tx<'_>, instance: InstanceNo, names: &[Name]) -> Result<Self, StoreError> {
        let found = sub_devices(tx, instance, names)?;
        let subs = found.iter().map(|sub| sub.as_ref().map(|sub| rules_of(sub, Proof::Good))).collect();
        Ok(Self { found, subs })
    }

    /// Devices whose secrets the gateway says that it knows.
    fn of_claims(
        tx: &mut Tx<'_>,
        app: &App,
        instance: InstanceNo,
        claims: &[Claim],
    ) -> Result<Self, StoreError> {
        let names: Vec<Name> = claims.iter().map(|claim| claim.name.clone()).collect();
        let found = sub_devices(tx, instance, &names)?;
        let prove = |(sub, claim): (&Option<SubDevice>, &Claim)| {
            sub.as_ref().map(|sub| rules_of(sub, proof(app, sub, &claim.signed)))
        };
        let subs = found.iter().zip(claims).map(prove).collect();
        Ok(Self { found, subs })
    }

    fn devices(&self) -> Vec<&SubDevice> {
        self.found.iter().flatten().collect()
    }

    fn names(&self) -> Vec<Name> {
        self.found.iter().flatten().map(name_of).collect()
    }
}

/// The instance's devices of these names, each in its place.
pub fn sub_devices(
    tx: &mut Tx<'_>,
    instance: InstanceNo,
    names: &[Name],
) -> Result<Vec<Option<SubDevice>>, StoreError> {
    let keys: Vec<(&str, &str)> =
        names.iter().map(|name| (name.product_key.as_str(), name.device_name.as_str())).collect();
    let found = tx.sub_devices_find(instance, &keys)?;
    let by_name: BTreeMap<(&str, &str), &SubDevice> =
        found.iter().map(|sub| ((sub.product_key.as_str(), sub.name.as_str()), sub)).collect();
    Ok(keys.iter().map(|key| by_name.get(key).copied().cloned()).collect())
}

/// A device's names.
pub fn name_of(sub: &SubDevice) -> Name {
    Name { product_key: sub.product_key.clone(), device_name: sub.name.clone() }
}

/// What the rules want to know of a device.
pub fn rules_of(sub: &SubDevice, proof: Proof) -> Sub {
    Sub {
        device: sub.device,
        is_gateway: sub.is_gateway,
        disabled: sub.disabled,
        gateway: sub.gateway,
        proof,
    }
}

/// Whether a signature was made with the device's secret.
pub fn proof(app: &App, sub: &SubDevice, signed: &Signed) -> Proof {
    match app.master.open(SEAL_PURPOSE, &sub.secret_sealed) {
        Ok(secret) => signed.proof(&secret),
        Err(error) => {
            tracing::error!(device = sub.device.0, %error, "a device's secret cannot be read");
            Proof::Wrong
        }
    }
}
