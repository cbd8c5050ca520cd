//! BatchAddThingTopo: puts devices behind a gateway, all of them or none. The gateway is told.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use crate::api::topo::gateway as named;
use crate::api::{Call, Operation};
use crate::device::gateway::sign::Signed;
use crate::device::gateway::{Claim, Name};
use crate::engine::{self, gateway};
use std::sync::Arc;
use updraft_core::limits::TOPO_ADDED_MAX;
use updraft_core::topo::{Asking, Change, Refusal, Refused, has_room, judge, may_add};
use updraft_store::{Lane, SubDevice};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "BatchAddThingTopo",
    qps: 10,
    changes: true,
    required: &["GwProductKey", "GwDeviceName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, named::read(&call.params)?);
    let claims = claims(&call.params)?;
    let app = Arc::clone(&call.app);
    engine::write(&call.app, Lane::Interactive, move |tx| {
        let now = app.now();
        let (product, device) = named::find(&address, tx, instance)?;
        let subs = tx.gateway_load(device.no)?.map_or(0, |gateway| gateway.subs);
        let asking = Asking { device: device.no, is_gateway: product.node_type == 1, subs };
        let names: Vec<Name> = claims.iter().map(|claim| claim.name.clone()).collect();
        let found = gateway::sub_devices(tx, instance, &names)?;
        let rules: Vec<_> = found
            .iter()
            .zip(&claims)
            .map(|(sub, claim)| {
                sub.as_ref().map(|sub| gateway::rules_of(sub, gateway::proof(&app, sub, &claim.signed)))
            })
            .collect();
        let added = judge(&asking, &rules, may_add);
        let room = added.and_then(|added| has_room(&asking, &added, app.config.gateway_subs_max));
        room.map_err(|refused| refusal(&refused, &names))?;
        let found: Vec<&SubDevice> = found.iter().flatten().collect();
        let mut effects = gateway::attach(tx, device.no, &found, now)?;
        gateway::tell(tx, &mut effects, device.no, Change::Create, &names, now)?;
        Ok::<_, ApiError>(((), effects))
    })
    .await?;
    Ok(Object::new())
}

/// What a caller says of devices, with the proof that he has their secrets.
fn claims(params: &Params) -> Result<Vec<Claim>, ApiError> {
    let mut claims = Vec::new();
    for item in params.structs("TopoAddItem", TOPO_ADDED_MAX)? {
        let field = |name: &str| item.get(name).copied().filter(|value| !value.is_empty());
        let (Some(key), Some(name), Some(sign)) = (field("ProductKey"), field("DeviceName"), field("Sign"))
        else {
            let needs = "Each item needs a ProductKey, a DeviceName and a Sign.";
            return Err(ApiError::invalid("TopoAddItem", needs));
        };
        let mut content = String::new();
        let parts = [
            ("clientId", field("ClientId")),
            ("deviceName", Some(name)),
            ("productKey", Some(key)),
            ("timestamp", field("Timestamp")),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                content.extend([key, value]);
            }
        }
        claims.push(Claim {
            name: Name { product_key: key.to_owned(), device_name: name.to_owned() },
            signed: Signed::new(field("SignMethod"), content, sign.to_owned()),
        });
    }
    if claims.is_empty() {
        return Err(ApiError::missing("TopoAddItem"));
    }
    Ok(claims)
}

/// A refusal in the API's words.
fn refusal(refused: &Refused, names: &[Name]) -> ApiError {
    let code = match refused.why {
        Refusal::TooManySubs => return Code::TopoCountExceeded.into(),
        Refusal::UnknownDevice => Code::DeviceNotFound,
        _ => Code::AddTopoFailed,
    };
    let of = refused.at.iter().filter_map(|place| names.get(*place));
    let of: Vec<String> = of.map(|name| format!("{}/{}", name.product_key, name.device_name)).collect();
    ApiError::with(code, format!("{}: {}", refused.why.message(), of.join(", ")))
}
