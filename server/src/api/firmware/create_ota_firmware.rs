//! CreateOTAFirmware: makes an update package of an uploaded file.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use crate::api::{Call, Operation};
use crate::files::address;
use updraft_core::device::DEFAULT_MODULE;
use updraft_core::firmware::{FirmwareStatus, SignMethod};
use updraft_core::limits::{FIRMWARE_DESC_CHARS_MAX, UDI_CHARS_MAX};
use updraft_core::{id, text};
use updraft_store::{Lane, NewFirmware, Tx, UploadedFile};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateOTAFirmware",
    qps: 10,
    required: &["FirmwareName", "DestVersion", "ProductKey"],
    not_served: &[("MultiFiles", None), ("Type", Some("0")), ("SrcVersion", None)],
    run: |call| Box::pin(run(call)),
};

/// What a caller says of the package.
struct Request {
    product_key: String,
    name: String,
    description: Option<String>,
    dest_version: String,
    module: String,
    sign_method: SignMethod,
    sign: Option<String>,
    size: Option<i64>,
    object_key: String,
    need_to_verify: bool,
    udi: Option<String>,
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let request = read(&call.params)?;
    let app = &call.app;
    let firmware_id = id::firmware_id(&app.random.bytes("firmware_id"));
    let (instance, now, max) = (call.instance, app.now(), app.config.firmware_max);
    let answer = Object::new().text("FirmwareId", &firmware_id).utc("UtcCreate", now);
    app.store
        .write(Lane::Interactive, move |tx| {
            let product = tx
                .product_find(instance, &request.product_key)?
                .ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            if request.module != DEFAULT_MODULE {
                return Err(Code::ModuleNotFound.into());
            }
            if tx.firmware_count(instance)? >= max {
                return Err(ApiError::with(
                    Code::FirmwareCountExceeded,
                    format!("The instance has {max} firmwares, as many as it may have (firmware_max)."),
                ));
            }
            let file = claim_file(tx, instance, &request)?;
            let new = NewFirmware {
                instance,
                product: product.no,
                firmware_id: firmware_id.clone(),
                name: request.name.clone(),
                description: request.description.clone(),
                dest_version: request.dest_version.clone(),
                module: request.module.clone(),
                status: FirmwareStatus::initial(request.need_to_verify),
                sign_method: request.sign_method,
                sign: digest(&file, request.sign_method).to_owned(),
                size: file.size,
                file: file.no,
                udi: request.udi.clone(),
            };
            tx.firmware_insert(&new, now)?.ok_or_else(|| ApiError::new(Code::FirmwareNameExists))
        })
        .await?;
    Ok(Object::new().object("Data", answer))
}

fn read(params: &Params) -> Result<Request, ApiError> {
    let name = params.need("FirmwareName")?;
    if !text::firmware_name(name) {
        return Err(Code::InvalidFirmwareName.into());
    }
    let dest_version = params.need("DestVersion")?;
    if !text::version(dest_version) {
        return Err(Code::InvalidVersionText.into());
    }
    let sign_method = match params.text("SignMethod") {
        None => SignMethod::Md5,
        Some(name) => SignMethod::from_name(name).ok_or(Code::InvalidSignMethod)?,
    };
    let description = params.text("FirmwareDesc");
    let udi = params.text("Udi");
    if description.is_some_and(|text| !text::at_most(text, FIRMWARE_DESC_CHARS_MAX))
        || udi.is_some_and(|text| !text::at_most(text, UDI_CHARS_MAX))
    {
        return Err(Code::LongFirmwareText.into());
    }
    Ok(Request {
        // Optional in the metadata; but every later call needs it, and a package is for one product.
        product_key: params.need("ProductKey")?.to_owned(),
        name: name.to_owned(),
        description: description.map(str::to_owned),
        dest_version: dest_version.to_owned(),
        module: params.text("ModuleName").unwrap_or(DEFAULT_MODULE).to_owned(),
        sign_method,
        sign: params.text("FirmwareSign").map(str::to_owned),
        size: params.int("FirmwareSize")?,
        object_key: address::object_key_of(params.need("FirmwareUrl")?)
            .ok_or(Code::InvalidFirmwareUrl)?
            .to_owned(),
        need_to_verify: params.flag("NeedToVerify")?.unwrap_or(true),
        udi: udi.map(str::to_owned),
    })
}

/// The uploaded file, if it is the instance's, unused, and what the caller says it is.
fn claim_file(
    tx: &mut Tx<'_>,
    instance: updraft_core::id::InstanceNo,
    request: &Request,
) -> Result<UploadedFile, ApiError> {
    let file = tx
        .file_find(instance, &request.object_key)?
        .filter(|file| file.firmware.is_none())
        .ok_or(Code::InvalidFirmwareUrl)?;
    if request.size.is_some_and(|size| size != file.size) {
        return Err(ApiError::with(
            Code::FirmwareMismatch,
            format!("FirmwareSize differs from the uploaded file, which has {} bytes.", file.size),
        ));
    }
    let expected = digest(&file, request.sign_method);
    if request.sign.as_ref().is_some_and(|sign| !sign.eq_ignore_ascii_case(expected)) {
        return Err(ApiError::with(
            Code::FirmwareMismatch,
            format!(
                "FirmwareSign differs from the {} of the uploaded file, which is {expected}.",
                request.sign_method.name()
            ),
        ));
    }
    Ok(file)
}

fn digest(file: &UploadedFile, method: SignMethod) -> &str {
    match method {
        SignMethod::Md5 => &file.md5,
        SignMethod::Sha256 => &file.sha256,
    }
}
