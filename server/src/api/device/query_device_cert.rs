//! QueryDeviceCert: the certificate and the private key of a device of an x509 product, made on the first call.

use crate::api::answer::Object;
use crate::api::device::address::Address;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryDeviceCert",
    qps: 10,
    // On the first call; and who was given a private key belongs into the audit log.
    changes: true,
    required: &["ProductKey", "DeviceName"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// What `Status` says of a certificate that is there.
const MADE: i64 = 2;

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let names = (call.params.need("ProductKey")?.to_owned(), call.params.need("DeviceName")?.to_owned());
    let address = Address::Names(names.0, names.1);
    let (product, device) = call.app.store.read(move |tx| address.find(tx, instance)).await?;
    if !product.certified {
        return Err(ApiError::invalid("ProductKey", "The product's AuthType is not x509."));
    }
    let issued = call.app.authority.certificate(&call.app, device.no, device.name).await;
    let issued =
        issued.map_err(|error| ApiError::new(Code::SystemException).because(format!("{error:#}")))?;
    let certificate = Object::new()
        .int("Status", MADE)
        .text("Certificate", issued.certificate)
        .text("PrivateKey", issued.key)
        .text("CertSN", issued.serial);
    Ok(Object::new().object("DeviceCertInfo", certificate))
}
