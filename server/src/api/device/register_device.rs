//! RegisterDevice: makes a device of a product.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::lifecycle::apply;
use crate::api::{Call, Operation};
use std::sync::Arc;
use updraft_core::{id, text};
use updraft_store::{Lane, NewDevice};

/// The purpose under which device secrets are sealed.
pub const SEAL_PURPOSE: &str = "device";

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "RegisterDevice",
    qps: 30,
    changes: true,
    required: &["ProductKey"],
    not_served: &[
        ("AppKey", None),
        ("DevEui", None),
        ("JoinEui", None),
        ("LoraNodeType", None),
        ("PinCode", None),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let (params, app) = (&call.params, &call.app);
    let product_key = params.need("ProductKey")?.to_owned();
    let name = match params.text("DeviceName") {
        Some(name) => name.to_owned(),
        None => id::alphanumeric(&app.random.bytes::<20>("device_name")),
    };
    if !text::device_name(&name) {
        return Err(Code::InvalidDeviceName.into());
    }
    let nickname = params.text("Nickname").map(str::to_owned);
    if nickname.as_deref().is_some_and(|name| !text::nickname(name)) {
        return Err(Code::InvalidNickname.into());
    }
    let secret = app.random.secret("device_secret");
    let sealed = app.master.seal(SEAL_PURPOSE, &secret)?;
    let iot_id = id::alphanumeric(&app.random.bytes::<32>("iot_id"));
    let answer = Object::new()
        .text("ProductKey", &product_key)
        .text("DeviceName", &name)
        .text("DeviceSecret", secret)
        .text("IotId", &iot_id)
        .opt_text("Nickname", nickname.as_deref());
    let (instance, now, limits) = (call.instance, app.now(), Arc::clone(app));
    app.store
        .write(Lane::Interactive, move |tx| {
            let product = tx
                .product_find(instance, &product_key)?
                .ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            apply::refuse_full(&limits, &product, 1)?;
            let new = NewDevice {
                product: product.no,
                name: name.clone(),
                iot_id: iot_id.clone(),
                secret_sealed: sealed.clone(),
                nickname: nickname.clone(),
            };
            tx.device_insert(&new, now)?.ok_or_else(|| ApiError::new(Code::DeviceNameExists))
        })
        .await?;
    Ok(Object::new().object("Data", answer))
}
