//! QueryOTAFirmware: everything about one package.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use updraft_core::firmware::FirmwareStatus;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryOTAFirmware",
    qps: 20,
    required: &["FirmwareId"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Object, ApiError> {
    let instance = call.instance;
    let id = call.params.need("FirmwareId")?.to_owned();
    let (firmware, product, percent) = call
        .app
        .store
        .read(move |tx| {
            let missing = || ApiError::new(Code::FirmwareNotFound);
            let firmware = tx.firmware_find(instance, &id)?.ok_or_else(missing)?;
            let product = tx.product_load(firmware.product)?.ok_or_else(missing)?;
            let percent = match firmware.verify_job {
                None => 0,
                Some(job) => {
                    tx.counts_load(&[job])?.get(&job).map_or(0, updraft_core::job::Counts::percent_ended)
                }
            };
            Ok::<_, ApiError>((firmware, product, percent))
        })
        .await?;
    let url = call.base.clone() + &call.app.addresses.download_path(&firmware.object_key, call.app.now());
    // 0 before, 100 after, the share of finished test devices in between.
    let progress = match firmware.status {
        FirmwareStatus::NoVerification | FirmwareStatus::Unverified => 0,
        FirmwareStatus::Verifying => percent,
        FirmwareStatus::Verified | FirmwareStatus::VerifyFailed => 100,
    };
    let info = Object::new()
        .text("FirmwareId", &firmware.firmware_id)
        .text("FirmwareName", &firmware.name)
        .opt_text("FirmwareDesc", firmware.description.as_deref())
        .text("DestVersion", &firmware.dest_version)
        .text("ModuleName", &firmware.module)
        .text("ProductKey", &product.product_key)
        .text("ProductName", &product.name)
        .int("Type", 0)
        .int("Status", firmware.status.code())
        .int("VerifyProgress", progress)
        .text("SignMethod", firmware.sign_method.name())
        .text("FirmwareSign", &firmware.sign)
        .int("FirmwareSize", firmware.size)
        .text("FirmwareUrl", url)
        .opt_text("Udi", firmware.udi.as_deref())
        .utc("UtcCreate", firmware.created_at)
        .utc("UtcModified", firmware.modified_at);
    Ok(Object::new().object("FirmwareInfo", info))
}
