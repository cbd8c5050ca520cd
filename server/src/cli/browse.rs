//! `updraft product …`, `device …` and `firmware …`: what there is, read beside a running server.

use crate::cli::out::{Row, show};
use crate::cli::page::{self, place_args};
use crate::cli::{Beside, need, owned, text, text_arg};
use anyhow::{Context as _, bail};
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};
use updraft_core::device::DeviceStatus;
use updraft_core::firmware::FirmwareStatus;
use updraft_core::id::ProductNo;
use updraft_core::time::Timestamp;
use updraft_server::api::answer::utc;
use updraft_store::{BrowseFilter, BrowsedDevice, BrowsedFirmware, BrowsedProduct, DeviceFilter, Place, Tx};

/// An argument without a flag.
pub fn positional(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true).help(help)
}

/// `updraft product …`, `device …`, `firmware …`.
pub fn all_commands() -> [Command; 3] {
    let [account, product] = place_args();
    let device_filters = [
        product.clone(),
        text_arg("status", "STATUS", "Only these").value_parser(DeviceStatus::ALL.map(DeviceStatus::name)),
        text_arg("version", "VERSION", "Only those that reported this FirmwareVersion"),
        text_arg("name-prefix", "TEXT", "Only those whose DeviceName begins so"),
    ];
    let firmware_filters = [
        account.clone(),
        product.clone(),
        text_arg("status", "STATUS", "Only these").value_parser(FirmwareStatus::ALL.map(status_name)),
    ];
    let device_show = [
        text_arg("product", "PRODUCT_KEY", "The device's product").requires("name"),
        text_arg("name", "DEVICE_NAME", "The device").requires("product"),
        text_arg("iot-id", "IOT_ID", "The device, instead of its product and name")
            .conflicts_with("product")
            .required_unless_present("product"),
    ];
    [
        page::commands(
            "product",
            "Products of all accounts and instances",
            "products",
            &[account],
            &[positional("id", "PRODUCT_KEY", "The product")],
        ),
        page::commands(
            "device",
            "Devices, with their presence and versions",
            "devices",
            &device_filters,
            &device_show,
        ),
        page::commands(
            "firmware",
            "Update packages, with their verification",
            "packages",
            &firmware_filters,
            &[positional("id", "FIRMWARE_ID", "The package")],
        ),
    ]
}

/// Runs `updraft product …`.
pub fn run_product(args: &ArgMatches) -> anyhow::Result<()> {
    let Some((name, args)) = args.subcommand() else { return Ok(()) };
    let beside = Beside::open(args)?;
    if name == "show" {
        let key = need(args, "id")?.to_owned();
        let (product, counts) = beside.read(move |tx| {
            let product = find_product(tx, &key)?;
            let counts = tx.browse_device_counts(product.no)?;
            Ok((product, counts))
        })?;
        let mut row = product_row(&product);
        for status in DeviceStatus::ALL {
            let n = counts.get(&status).copied().unwrap_or_default();
            row.push((status.name(), json!(n)));
        }
        return show(&row, args.get_flag("json"));
    }
    let filter = BrowseFilter { account: owned(args, "account"), ..BrowseFilter::default() };
    page::run(args, name == "export", 0, |after, limit| {
        let filter = filter.clone();
        let found = beside.read(move |tx| Ok(tx.browse_products(&filter, after, limit)?))?;
        Ok(found.iter().map(|product| (product.no.0, product_row(product))).collect())
    })
}

/// Runs `updraft device …`.
pub fn run_device(args: &ArgMatches) -> anyhow::Result<()> {
    let Some((name, args)) = args.subcommand() else { return Ok(()) };
    let beside = Beside::open(args)?;
    if name == "show" {
        return show_device(&beside, args);
    }
    let product = product_of(&beside, args)?;
    let filter = DeviceFilter {
        product,
        status: text(args, "status")
            .and_then(|wanted| DeviceStatus::ALL.into_iter().find(|status| status.name() == wanted)),
        version: owned(args, "version"),
        name_prefix: owned(args, "name-prefix").unwrap_or_default(),
    };
    page::run(args, name == "export", 0, |after, limit| {
        let filter = filter.clone();
        let found = beside.read(move |tx| Ok(tx.browse_devices(&filter, after, limit)?))?;
        Ok(found.iter().map(|device| (device.no.0, device_row(device))).collect())
    })
}

/// Runs `updraft firmware …`.
pub fn run_firmware(args: &ArgMatches) -> anyhow::Result<()> {
    let Some((name, args)) = args.subcommand() else { return Ok(()) };
    let beside = Beside::open(args)?;
    if name == "show" {
        let firmware_id = need(args, "id")?.to_owned();
        let found = beside.read(move |tx| {
            let filter = BrowseFilter { firmware_id: Some(firmware_id.clone()), ..BrowseFilter::default() };
            let brief = tx.browse_firmwares(&filter, None, 0, 1)?.pop();
            let brief = brief.with_context(|| format!("there is no package {firmware_id}"))?;
            let full = tx.firmwares_load(&[brief.no])?.pop();
            Ok((brief, full.context("the package vanished")?))
        })?;
        let (brief, full) = found;
        let mut row = firmware_row(&brief);
        let files: Vec<String> = full
            .files
            .iter()
            .map(|file| {
                let name = file.name.as_deref().unwrap_or("(file)");
                format!("{name}:{}:md5={}:sha256={}", file.size, file.md5, file.sha256)
            })
            .collect();
        row.push(("FirmwareDesc", json!(full.description)));
        row.push(("SignMethod", json!(full.sign_method.name())));
        row.push(("Files", json!(files)));
        row.push(("UtcModified", json!(utc(full.modified_at))));
        return show(&row, args.get_flag("json"));
    }
    let filter = BrowseFilter {
        account: owned(args, "account"),
        product_key: owned(args, "product"),
        ..BrowseFilter::default()
    };
    let status = text(args, "status")
        .and_then(|wanted| FirmwareStatus::ALL.into_iter().find(|status| status_name(*status) == wanted));
    page::run(args, name == "export", 0, |after, limit| {
        let filter = filter.clone();
        let found = beside.read(move |tx| Ok(tx.browse_firmwares(&filter, status, after, limit)?))?;
        Ok(found.iter().map(|firmware| (firmware.no.0, firmware_row(firmware))).collect())
    })
}

fn show_device(beside: &Beside, args: &ArgMatches) -> anyhow::Result<()> {
    let address = (owned(args, "product"), owned(args, "name"), owned(args, "iot-id"));
    let (device, versions) = beside.read(move |tx| {
        let device = match &address {
            (_, _, Some(iot_id)) => tx.browse_device_by_iot_id(iot_id)?,
            (Some(key), Some(name), None) => {
                let product = find_product(tx, key)?;
                tx.browse_device(product.no, name)?
            }
            _ => bail!("give --iot-id, or --product and --name"),
        };
        let device = device.context("there is no such device")?;
        let versions = tx.browse_versions(device.no)?;
        Ok((device, versions))
    })?;
    let mut row = device_row(&device);
    let versions: Vec<String> =
        versions.into_iter().map(|(module, version)| format!("{module}={version}")).collect();
    row.push(("Versions", json!(versions)));
    show(&row, args.get_flag("json"))
}

/// The product of this key, whoever's.
pub fn find_product(tx: &mut Tx<'_>, key: &str) -> anyhow::Result<BrowsedProduct> {
    let filter = BrowseFilter { product_key: Some(key.to_owned()), ..BrowseFilter::default() };
    tx.browse_products(&filter, 0, 1)?.pop().with_context(|| format!("there is no product {key}"))
}

/// The product that `--product` names.
fn product_of(beside: &Beside, args: &ArgMatches) -> anyhow::Result<Option<ProductNo>> {
    let Some(key) = owned(args, "product") else { return Ok(None) };
    Ok(Some(beside.read(move |tx| Ok(find_product(tx, &key)?.no))?))
}

/// The first fields of things that belong to an instance.
pub fn place_fields(place: &Place) -> Row {
    vec![("Account", json!(place.account)), ("IotInstanceId", json!(place.instance_id))]
}

/// A time that may not have come.
pub fn opt_utc(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| json!(utc(at)))
}

fn product_row(product: &BrowsedProduct) -> Row {
    let mut row = vec![("ProductKey", json!(product.product_key)), ("ProductName", json!(product.name))];
    row.extend(place_fields(&product.place));
    row.push(("NodeType", json!(product.node_type)));
    row.push(("DeviceCount", json!(product.device_count)));
    row.push(("FirmwareCount", json!(product.firmware_count)));
    row.push(("UtcCreate", json!(utc(product.created_at))));
    row
}

fn device_row(device: &BrowsedDevice) -> Row {
    vec![
        ("ProductKey", json!(device.product_key)),
        ("DeviceName", json!(device.name)),
        ("IotId", json!(device.iot_id)),
        ("Nickname", json!(device.nickname)),
        ("Status", json!(device.status.name())),
        ("FirmwareVersion", json!(device.version)),
        ("IpAddress", json!(device.ip)),
        ("UtcCreate", json!(utc(device.created_at))),
        ("UtcOnline", opt_utc(device.online_at)),
    ]
}

fn firmware_row(firmware: &BrowsedFirmware) -> Row {
    let mut row = vec![
        ("FirmwareId", json!(firmware.firmware_id)),
        ("FirmwareName", json!(firmware.name)),
        ("DestVersion", json!(firmware.dest_version)),
        ("ModuleName", json!(firmware.module)),
        ("Status", json!(status_name(firmware.status))),
        ("ProductKey", json!(firmware.product_key)),
    ];
    row.extend(place_fields(&firmware.place));
    row.push(("FirmwareSize", json!(firmware.size)));
    row.push(("JobCount", json!(firmware.job_count)));
    row.push(("UtcCreate", json!(utc(firmware.created_at))));
    row
}

/// A word for a package's status, which is a number in the API.
fn status_name(status: FirmwareStatus) -> &'static str {
    match status {
        FirmwareStatus::NoVerification => "NO_VERIFICATION",
        FirmwareStatus::Unverified => "UNVERIFIED",
        FirmwareStatus::Verified => "VERIFIED",
        FirmwareStatus::Verifying => "VERIFYING",
        FirmwareStatus::VerifyFailed => "VERIFY_FAILED",
    }
}
