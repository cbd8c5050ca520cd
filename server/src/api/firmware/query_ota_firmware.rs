//! QueryOTAFirmware: everything about one package, and addresses under which its files can be fetched.

use crate::api::answer::{Node, Object};
use crate::api::error::{ApiError, Code};
use crate::api::{Call, Operation};
use crate::files::direct;
use updraft_core::firmware::FirmwareStatus;
use updraft_store::{Firmware, FirmwareFile};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "QueryOTAFirmware",
    qps: 20,
    changes: false,
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
        .int("Type", firmware.kind.code())
        .opt_text("SrcVersion", firmware.differs_from())
        .int("Status", firmware.status.code())
        .int("VerifyProgress", progress)
        .text("SignMethod", firmware.sign_method.name())
        .opt_text("Udi", firmware.udi.as_deref())
        .utc("UtcCreate", firmware.created_at)
        .utc("UtcModified", firmware.modified_at);
    let info = with_files(info, &firmware, |file| {
        direct::url(&call.app, file).unwrap_or_else(|| {
            call.base.clone() + &call.app.addresses.download_path(&file.object_key, call.app.now())
        })
    });
    Ok(Object::new().object("FirmwareInfo", info))
}

/// Adds what there is to say of the files: a package is shown as it was made, of one file without a name or of
/// named ones.
fn with_files(info: Object, firmware: &Firmware, url: impl Fn(&FirmwareFile) -> String) -> Object {
    if let [file @ FirmwareFile { name: None, size, .. }] = firmware.files.as_slice() {
        return info
            .opt_text("FirmwareSign", firmware.sign())
            .int("FirmwareSize", *size)
            .text("FirmwareUrl", url(file));
    }
    let file = |file: &FirmwareFile| {
        Node::Object(
            Object::new()
                .opt_text("Name", file.name.as_deref())
                .int("Size", file.size)
                .text("Url", url(file))
                .text("FileMd5", &file.md5)
                .text("SignValue", file.digest(firmware.sign_method)),
        )
    };
    info.with("MultiFiles", Node::Bare(firmware.files.iter().map(file).collect()))
}
