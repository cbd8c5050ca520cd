//! CreateOTAFirmware: makes an update package of one uploaded file, or of several with names.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use crate::api::{Call, Operation};
use crate::files::{address, purge};
use std::collections::{BTreeMap, BTreeSet};
use updraft_core::device::DEFAULT_MODULE;
use updraft_core::firmware::{FirmwareKind, FirmwareStatus, SignMethod};
use updraft_core::id::InstanceNo;
use updraft_core::limits::{FIRMWARE_DESC_CHARS_MAX, MULTI_FILES_MAX, UDI_CHARS_MAX};
use updraft_core::time::Timestamp;
use updraft_core::{id, text};
use updraft_store::{Lane, NewFirmware, Tx, UploadedFile};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "CreateOTAFirmware",
    qps: 10,
    changes: true,
    required: &["FirmwareName", "DestVersion", "ProductKey"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// What a caller says of the package.
struct Request {
    product_key: String,
    name: String,
    description: Option<String>,
    dest_version: String,
    kind: FirmwareKind,
    src_version: Option<String>,
    module: String,
    sign_method: SignMethod,
    files: Vec<Expected>,
    need_to_verify: bool,
    udi: Option<String>,
}

/// What a caller says of an uploaded file.
struct Expected {
    /// Its name within the package, if it came with `MultiFiles`.
    name: Option<String>,
    object_key: String,
    size: Option<i64>,
    md5: Option<String>,
    sign: Option<String>,
    /// What the parameters are called that it came with, for the words of a refusal.
    words: Words,
}

/// Names of a file's parameters.
struct Words {
    url: String,
    size: String,
    md5: String,
    sign: String,
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let request = read(&call.params)?;
    let app = &call.app;
    let firmware_id = id::firmware_id(&app.random.bytes("firmware_id"));
    let (instance, now, max) = (call.instance, app.now(), app.config.firmware_max);
    let too_old_before = purge::too_old_before(app, now);
    let answer = Object::new().text("FirmwareId", &firmware_id).utc("UtcCreate", now);
    app.store
        .write(Lane::Interactive, move |tx| {
            let product = tx
                .product_find(instance, &request.product_key)?
                .ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
            if request.module != DEFAULT_MODULE && !tx.module_exists(product.no, &request.module)? {
                return Err(Code::ModuleNotFound.into());
            }
            if tx.firmware_count(instance)? >= max {
                return Err(ApiError::with(
                    Code::FirmwareCountExceeded,
                    format!("The instance has {max} firmwares, as many as it may have (firmware_max)."),
                ));
            }
            let (mut files, mut size) = (Vec::new(), 0);
            for expected in &request.files {
                let file = find(tx, instance, expected, request.sign_method, too_old_before)?;
                files.push((file.no, expected.name.clone()));
                size += file.size;
            }
            let new = NewFirmware {
                instance,
                product: product.no,
                firmware_id: firmware_id.clone(),
                name: request.name.clone(),
                description: request.description.clone(),
                dest_version: request.dest_version.clone(),
                module: request.module.clone(),
                kind: request.kind,
                src_version: request.src_version.clone(),
                status: FirmwareStatus::initial(request.need_to_verify),
                sign_method: request.sign_method,
                size,
                files,
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
    let (kind, src_version) = read_kind(params, dest_version)?;
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
        kind,
        src_version,
        module: params.text("ModuleName").unwrap_or(DEFAULT_MODULE).to_owned(),
        sign_method,
        files: read_files(params)?,
        need_to_verify: params.flag("NeedToVerify")?.unwrap_or(true),
        udi: udi.map(str::to_owned),
    })
}

/// `Type` and `SrcVersion`.
fn read_kind(params: &Params, dest_version: &str) -> Result<(FirmwareKind, Option<String>), ApiError> {
    let kind = match params.int("Type")? {
        None => FirmwareKind::Full,
        Some(code) => FirmwareKind::from_code(code)
            .ok_or_else(|| ApiError::invalid("Type", "It must be 0 (full) or 1 (differential)."))?,
    };
    let src_version = params.text("SrcVersion");
    if src_version.is_some_and(|version| !text::version(version)) {
        return Err(ApiError::with(
            Code::InvalidVersionText,
            "SrcVersion must be 1 to 64 characters of letters, digits and . - _",
        ));
    }
    if kind == FirmwareKind::Differential && src_version.is_none_or(|version| version == dest_version) {
        return Err(Code::InvalidFirmwareSource.into());
    }
    Ok((kind, src_version.map(str::to_owned)))
}

/// One file without a name, or several with names; never both.
fn read_files(params: &Params) -> Result<Vec<Expected>, ApiError> {
    let several = params.structs("MultiFiles", MULTI_FILES_MAX)?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    if several.is_empty() {
        return Ok(vec![Expected {
            name: None,
            object_key: object_key(params.need("FirmwareUrl")?, "FirmwareUrl")?,
            size: params.int("FirmwareSize")?,
            md5: None,
            sign: owned(params.text("FirmwareSign")),
            words: Words {
                url: "FirmwareUrl".to_owned(),
                size: "FirmwareSize".to_owned(),
                md5: String::new(),
                sign: "FirmwareSign".to_owned(),
            },
        }]);
    }
    for single in ["FirmwareUrl", "FirmwareSign", "FirmwareSize"] {
        if params.has(single) {
            return Err(ApiError::with(
                Code::InvalidMultiFiles,
                format!("{single} is for packages of one file; beside MultiFiles it must be absent."),
            ));
        }
    }
    let files: Vec<Expected> =
        several.iter().zip(1..).map(|(file, n)| read_file(file, n)).collect::<Result<_, _>>()?;
    let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for file in &files {
        if !names.insert(&file.name) {
            return Err(Code::InvalidMultiFiles.into());
        }
        if !keys.insert(&file.object_key) {
            return Err(ApiError::with(
                Code::InvalidMultiFiles,
                "Two files of MultiFiles have the same Url.",
            ));
        }
    }
    Ok(files)
}

/// `MultiFiles.N`.
fn read_file(fields: &BTreeMap<&str, &str>, n: usize) -> Result<Expected, ApiError> {
    let called = |field: &str| format!("MultiFiles.{n}.{field}");
    let field = |name: &str| fields.get(name).copied().filter(|value| !value.is_empty());
    let need = |name: &str| field(name).ok_or_else(|| ApiError::missing(&called(name)));
    let name = need("Name")?;
    if !text::file_name(name) {
        return Err(ApiError::with(
            Code::InvalidMultiFiles,
            format!(
                "{} must be 1 to 32 characters without quotes, slashes, backslashes and control characters.",
                called("Name")
            ),
        ));
    }
    let size = field("Size")
        .map(|size| {
            size.parse().map_err(|_| ApiError::invalid(&called("Size"), "It must be a whole number."))
        })
        .transpose()?;
    Ok(Expected {
        name: Some(name.to_owned()),
        object_key: object_key(need("Url")?, &called("Url"))?,
        size,
        md5: field("FileMd5").map(str::to_owned),
        sign: field("SignValue").map(str::to_owned),
        words: Words {
            url: called("Url"),
            size: called("Size"),
            md5: called("FileMd5"),
            sign: called("SignValue"),
        },
    })
}

fn object_key(url: &str, parameter: &str) -> Result<String, ApiError> {
    address::object_key_of(url).map(str::to_owned).ok_or_else(|| unusable(parameter))
}

fn unusable(parameter: &str) -> ApiError {
    ApiError::with(
        Code::InvalidFirmwareUrl,
        format!(
            "{parameter} must be one given by GenerateOTAUploadURL, uploaded and not used by another firmware."
        ),
    )
}

/// The uploaded file, if it is the instance's, unused, not too old, and what the caller says it is.
fn find(
    tx: &mut Tx<'_>,
    instance: InstanceNo,
    expected: &Expected,
    method: SignMethod,
    too_old_before: Timestamp,
) -> Result<UploadedFile, ApiError> {
    let words = &expected.words;
    let file = tx
        .file_find(instance, &expected.object_key)?
        .filter(|file| file.firmware.is_none())
        .ok_or_else(|| unusable(&words.url))?;
    if file.unused_since.is_some_and(|since| since < too_old_before) {
        return Err(ApiError::with(
            Code::InvalidFirmwareUrl,
            format!(
                "{}: the file waited too long for its firmware (upload_unused_seconds) and is purged: \
                 upload it again.",
                words.url
            ),
        ));
    }
    if expected.size.is_some_and(|size| size != file.size) {
        return Err(ApiError::with(
            Code::FirmwareMismatch,
            format!("{} differs from the uploaded file, which has {} bytes.", words.size, file.size),
        ));
    }
    let compare = |given: Option<&String>, word: &str, method: SignMethod| {
        let truth = digest(&file, method);
        if given.is_some_and(|given| !given.eq_ignore_ascii_case(truth)) {
            return Err(ApiError::with(
                Code::FirmwareMismatch,
                format!("{word} differs from the {} of the uploaded file, which is {truth}.", method.name()),
            ));
        }
        Ok(())
    };
    compare(expected.md5.as_ref(), &words.md5, SignMethod::Md5)?;
    compare(expected.sign.as_ref(), &words.sign, method)?;
    Ok(file)
}

fn digest(file: &UploadedFile, method: SignMethod) -> &str {
    match method {
        SignMethod::Md5 => &file.md5,
        SignMethod::Sha256 => &file.sha256,
    }
}
