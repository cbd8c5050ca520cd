//! NotifyAddThingTopo: asks a gateway to put devices behind itself. Whether it does is its own affair.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::api::topo::gateway as named;
use crate::api::{Call, Operation};
use crate::device::gateway::{Name, topo};
use crate::device::link::Downlink;
use crate::device::topic::Owner;
use crate::engine;
use crate::engine::advance::Effects;
use serde::Deserialize;
use updraft_store::Lane;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "NotifyAddThingTopo",
    qps: 500,
    changes: false,
    required: &["DeviceListStr"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
struct Listed {
    #[serde(default, alias = "IotId", rename = "iotId")]
    iot_id: Option<String>,
    #[serde(default, alias = "ProductKey", rename = "productKey")]
    product_key: Option<String>,
    #[serde(default, alias = "DeviceName", rename = "deviceName")]
    device_name: Option<String>,
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let (instance, address) = (call.instance, named::read(&call.params)?);
    let most = call.app.config.gateway_topo_batch_max as usize;
    let listed = listed(&call.params, most)?;
    let id = i64::from(u32::from_be_bytes(call.app.random.bytes::<4>("message_id")));
    let (gateway, message) = call
        .app
        .store
        .read(move |tx| {
            let (product, device) = named::find(&address, tx, instance)?;
            let mut names = Vec::new();
            for sub in &listed {
                let (product, device) = sub.find(tx, instance)?;
                names.push(Name { product_key: product.product_key, device_name: device.name });
            }
            let owner = Owner { product_key: &product.product_key, device_name: &device.name };
            let payload = topo::notify(id, &names).into();
            let topic = topo::notify_topic(owner);
            let message = Downlink::Message { topic, payload, kept: true, answer: true };
            Ok::<_, ApiError>((device.no, message))
        })
        .await?;
    engine::write(&call.app, Lane::Interactive, move |_| {
        let downlinks = vec![(gateway, message.clone())];
        Ok::<_, ApiError>(((), Effects { downlinks, ..Effects::default() }))
    })
    .await?;
    Ok(Object::new().object("Data", Object::new().text("MessageId", id.to_string())))
}

/// The devices that a caller lists, in JSON.
fn listed(params: &Params, most: usize) -> Result<Vec<Address>, ApiError> {
    let wrong = |what: &str| ApiError::invalid("DeviceListStr", what);
    let form = "It must be a JSON list of {\"productKey\":…,\"deviceName\":…} or {\"IotId\":…}.";
    let listed: Vec<Listed> = serde_json::from_str(params.need("DeviceListStr")?).map_err(|_| wrong(form))?;
    if listed.is_empty() || listed.len() > most {
        return Err(wrong(&format!("It must list 1 to {most} devices.")));
    }
    let address = |one: Listed| match (one.iot_id, one.product_key.zip(one.device_name)) {
        (Some(id), _) => Ok(Address::IotId(id)),
        (None, Some((key, name))) => Ok(Address::Names(key, name)),
        (None, None) => Err(wrong(form)),
    };
    listed.into_iter().map(address).collect()
}
