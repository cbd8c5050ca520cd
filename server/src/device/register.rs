//! Devices that register themselves: who may, and what they are given. One way in for the HTTPS form and the MQTT
//! forms; [`grant`] is what gateways use for the devices behind them.
//!
//! A secret is told as it is stored, sealed, everywhere else; of a token only the hash is stored, so it is told once.

use super::login::Method;
use crate::api::device::register_device::SEAL_PURPOSE;
use crate::api::product::create_product::SEAL_PURPOSE as PRODUCT_SEAL_PURPOSE;
use crate::app::App;
use crate::engine;
use crate::engine::advance::Effects;
use crate::seal::Unsealable;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use updraft_core::id::{self, DeviceNo};
use updraft_core::registration::{self, Grant, Refused, Way};
use updraft_core::text;
use updraft_core::time::Timestamp;
use updraft_store::{Credentials, DeviceToken, Lane, NewDevice, Registrant, StoreError, Tx};

/// What a device says that registers itself. Nothing of it is checked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The key of its product.
    pub product_key: String,
    /// Its name.
    pub device_name: String,
    /// How it asks.
    pub way: Way,
    /// The instance that it says it belongs to.
    pub instance_id: Option<String>,
    /// How the signature was made.
    pub method: Method,
    /// Part of what is signed. The same one may come again: Link SDKs for C 3.x send a constant.
    pub random: String,
    /// The signature, in hexadecimal digits.
    pub sign: Vec<u8>,
}

/// What a device is given.
#[derive(Clone, PartialEq, Eq)]
pub enum Given {
    /// A secret.
    Secret(String),
    /// A client id, and the token that goes with it.
    Token {
        /// The client id.
        client_id: String,
        /// The token; only its hash is stored.
        token: String,
    },
}

/// Why a device is given nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such product.
    #[error("there is no such product")]
    UnknownProduct,
    /// The signature does not fit the product's secret.
    #[error("the signature does not fit the product secret")]
    Signature,
    /// The name is none that a device may have.
    #[error("the device name is not 4 to 32 of A-Z a-z 0-9 - _ @ . :")]
    Name,
    /// The product is in another instance of this server.
    #[error("instanceId is another instance of this server")]
    Instance,
    /// The rule says no.
    #[error("{}", .0.why())]
    Rule(Refused),
    /// The product has as many devices as it may have.
    #[error("the product has as many devices as it may have (devices_per_product_max)")]
    Full,
    /// The server cannot tell now.
    #[error("the server cannot take registrations now")]
    Unavailable,
}

impl Refusal {
    /// The return code of the CONNACK: the platform's 2 (parameters), 3 (server) and 4 (signature); 5 is for what the
    /// device may not do.
    pub fn code(self) -> u8 {
        match self {
            Self::Name | Self::Instance => 2,
            Self::Full | Self::Unavailable => 3,
            Self::UnknownProduct | Self::Signature | Self::Rule(Refused::Unknown) => 4,
            Self::Rule(Refused::Off | Refused::UnlistedOff | Refused::Active | Refused::Disabled) => 5,
        }
    }

    /// The reason code of the CONNACK by MQTT 5.
    pub fn reason(self) -> u8 {
        match self {
            Self::Name | Self::Instance => 0x85,
            Self::UnknownProduct | Self::Signature | Self::Rule(Refused::Unknown) => 0x86,
            Self::Rule(Refused::Off | Refused::UnlistedOff | Refused::Active) => 0x87,
            Self::Unavailable => 0x88,
            Self::Rule(Refused::Disabled) => 0x8a,
            Self::Full => 0x97,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the database did not take a registration");
        Self::Unavailable
    }
}

impl From<Unsealable> for Refusal {
    fn from(error: Unsealable) -> Self {
        tracing::error!(%error, "a registration cannot be served");
        Self::Unavailable
    }
}

/// Longest product key that is looked for, in characters.
const PRODUCT_KEY_CHARS_MAX: usize = 64;

/// Registers a device that knows its product's secret. Durable when this returns; whatever was given out before and is
/// good no more has no connection then.
pub async fn register(app: &Arc<App>, asked: Asked) -> Result<Given, Refusal> {
    let (pk, dn) = (asked.product_key.clone(), asked.device_name.clone());
    let (way, outcome) = (asked.way, Box::pin(registered(app, asked)).await);
    let told = match &outcome {
        Ok(_) => "done",
        Err(Refusal::Unavailable) => "failed",
        Err(_) => "refused",
    };
    let form = if way == Way::Unlisted { "unlisted" } else { "preregistered" };
    metrics::counter!("updraft_registrations_total", "way" => form, "outcome" => told).increment(1);
    if outcome.is_ok() {
        tracing::info!(pk, dn, way = form, "a device registered itself");
    }
    outcome
}

async fn registered(app: &Arc<App>, asked: Asked) -> Result<Given, Refusal> {
    if asked.product_key.len() > PRODUCT_KEY_CHARS_MAX
        || !asked.product_key.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Err(Refusal::UnknownProduct);
    }
    if !text::device_name(&asked.device_name) {
        return Err(Refusal::Name);
    }
    let (key, name) = (asked.product_key.clone(), asked.device_name.clone());
    let named = asked.instance_id.clone().filter(|id| !id.contains('\0'));
    let (found, elsewhere) = app
        .store
        .read(move |tx| {
            let found = tx.registrant_find(&key, &name)?;
            // Firmware names the instance that it had on the platform; only another one of ours is a mistake.
            let elsewhere = match (&named, &found) {
                (Some(named), Some(found)) if found.instance_id.as_ref() != Some(named) => {
                    tx.instance_exists(named)?
                }
                _ => false,
            };
            Ok::<_, StoreError>((found, elsewhere))
        })
        .await?;
    let found = found.ok_or(Refusal::UnknownProduct)?;
    let secret = app.master.open(PRODUCT_SEAL_PURPOSE, &found.secret_sealed)?;
    let content = registration::signed_content(&asked.product_key, &asked.device_name, &asked.random);
    if !asked.method.verify(&secret, &content, &asked.sign) {
        return Err(Refusal::Signature);
    }
    if elsewhere {
        return Err(Refusal::Instance);
    }
    let fresh = Fresh::draw(app)?;
    let (client_id, token) = (fresh.client_id.clone(), fresh.token.clone());
    let (shared, way) = (Arc::clone(app), asked.way);
    let granted = engine::write(app, Lane::Interactive, move |tx| {
        grant(tx, &shared, &asked.product_key, &asked.device_name, asked.way, &fresh, shared.now())
    })
    .await?;
    Ok(match way {
        Way::Unlisted => Given::Token { client_id, token },
        Way::Preregistered | Way::Gateway { .. } => Given::Secret(granted.secret),
    })
}

/// What a device may be given, drawn before the transaction that decides.
pub struct Fresh {
    secret: String,
    sealed: Vec<u8>,
    iot_id: String,
    client_id: String,
    token: String,
}

impl Fresh {
    /// Draws everything.
    pub fn draw(app: &App) -> Result<Self, Unsealable> {
        let secret = app.random.secret("device_secret");
        Ok(Self {
            sealed: app.master.seal(SEAL_PURPOSE, &secret)?,
            secret,
            iot_id: id::alphanumeric(&app.random.bytes::<32>("iot_id")),
            client_id: id::alphanumeric(&app.random.bytes::<20>("token_client")),
            token: app.random.secret("device_token"),
        })
    }
}

/// A device that may log in with what it was given.
pub struct Granted {
    /// Its row number.
    pub device: DeviceNo,
    /// Unique everywhere.
    pub iot_id: String,
    /// Its secret, in the clear; never logged.
    pub secret: String,
}

/// Decides about a device that asks, and carries it out. Whoever asks has proved before that it may speak for the
/// device: with the product's secret, or as its gateway.
pub fn grant(
    tx: &mut Tx<'_>,
    app: &App,
    product_key: &str,
    name: &str,
    way: Way,
    fresh: &Fresh,
    now: Timestamp,
) -> Result<(Granted, Effects), Refusal> {
    let found = tx.registrant_find(product_key, name)?.ok_or(Refusal::UnknownProduct)?;
    let known = found.device.as_ref().map(|device| &device.known);
    let decided = registration::decide(found.mode, way, known).map_err(Refusal::Rule)?;
    let token = (way == Way::Unlisted).then(|| DeviceToken {
        client_id: fresh.client_id.clone(),
        hash: token_hash(fresh.token.as_bytes()),
    });
    let mut given = Credentials { secret_sealed: None, token };
    let mut effects = Effects::default();
    let granted = match (decided, &found.device) {
        (Grant::Keep, Some(device)) => Granted {
            device: device.no,
            iot_id: device.iot_id.clone(),
            secret: app.master.open(SEAL_PURPOSE, &device.secret_sealed)?,
        },
        (Grant::Renew, Some(device)) => {
            given.secret_sealed = Some(fresh.sealed.clone());
            effects.kicked.push(device.no);
            Granted { device: device.no, iot_id: device.iot_id.clone(), secret: fresh.secret.clone() }
        }
        // A device that is to be made, which is how there can be none.
        (Grant::Create | Grant::Keep | Grant::Renew, _) => create(tx, app, &found, name, fresh, now)?,
    };
    let again = way == (Way::Gateway { own: true }) && known.is_some_and(|known| known.registered);
    if !again {
        tx.device_registered(granted.device, &given, now)?;
    }
    Ok((granted, effects))
}

fn create(
    tx: &mut Tx<'_>,
    app: &App,
    found: &Registrant,
    name: &str,
    fresh: &Fresh,
    now: Timestamp,
) -> Result<Granted, Refusal> {
    if found.device_count >= app.config.devices_per_product_max {
        return Err(Refusal::Full);
    }
    let new = NewDevice {
        product: found.product,
        name: name.to_owned(),
        iot_id: fresh.iot_id.clone(),
        secret_sealed: fresh.sealed.clone(),
        nickname: None,
    };
    // The name was free a moment ago, and this is the only writer.
    let device = tx.device_insert(&new, now)?.ok_or(Refusal::Unavailable)?;
    Ok(Granted { device, iot_id: fresh.iot_id.clone(), secret: fresh.secret.clone() })
}

/// What is stored of a token.
pub fn token_hash(token: &[u8]) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}
