//! `updraft demo`: a fleet upgrade in a minute, with nothing faked: a real server on free ports, signed API
//! calls over HTTP, virtual devices on MQTT that download over HTTP.

mod client;
mod show;

use crate::config::Config;
use crate::demo::client::ApiClient;
use crate::demo::show::Show;
use crate::fleet_io::{Fleet, FleetHandle, FleetOptions};
use crate::serve::Server;
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::future::Future;
use std::time::Duration;
use updraft_core::task::FailedStep;
use updraft_fleet::{Behaviour, DeviceConfig, Identity};

/// What the caller chose.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Virtual devices.
    pub devices: u32,
    /// Whether the server stays up afterwards.
    pub keep: bool,
}

/// How much faster than real the virtual devices live.
const SPEED: f64 = 4.0;
/// How often the progress display is refreshed.
const REFRESH: Duration = Duration::from_millis(150);
/// Longest time that the batch may take; the demo promises a minute in all.
const BATCH_WITHIN: Duration = Duration::from_secs(45);
/// Bytes of the demo's package.
const PACKAGE_BYTES: usize = 256 * 1024;

/// Runs the demo; `interrupted` ends `--keep`.
pub async fn run<F>(options: Options, interrupted: impl FnOnce() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        data_dir: folder.path().to_owned(),
        api_addr: any,
        mqtt_addr: any,
        mqtt_tls_addr: None,
        // The demo asks every moment how far the batch is, and registers and connects its devices at once.
        quota_scale: 0.0,
        mqtt_logins_per_second: 0,
        ..Config::default()
    };
    let server = Server::start(config, None).await?;
    let outcome = story(options, &server).await;
    if outcome.is_ok() && options.keep {
        show::addresses(&server)?;
        interrupted().await?;
    }
    server.stop().await;
    outcome
}

async fn story(options: Options, server: &Server) -> anyhow::Result<()> {
    let show = Show::new();
    let api = ApiClient::of(server)?;
    let mqtt_addr = server.mqtt_addr.context("the demo's server has devices connected")?;
    show::line(&format!("A server runs: API on {}, MQTT on {mqtt_addr}.", server.api_addr));

    let product = api.call("CreateProduct", &[("ProductName", "demo_lamp"), ("NodeType", "0")]).await?;
    let product_key = text(&product, "/ProductKey")?;
    let identities = register(&api, &product_key, options.devices, &show).await?;
    let first_name = identities.first().context("no devices")?.device_name.clone();
    let fleet = start_fleet(mqtt_addr, identities);
    show::line(&format!("{} devices are registered; all but the late ones connect.", options.devices));
    let late = late_devices(options.devices);
    let online = u64::from(options.devices) - late;
    within(Duration::from_secs(20), fleet.wait_until(move |s| s.connected >= online)).await?;

    let firmware_id = package(&api, &product_key).await?;
    show::line("A package is uploaded. It must prove itself on one device first:");
    let verify = api
        .call(
            "CreateOTAVerifyJob",
            &[
                ("FirmwareId", &firmware_id),
                ("ProductKey", &product_key),
                ("TargetDeviceName.1", &first_name),
            ],
        )
        .await?;
    watch(&api, &text(&verify, "/Data/JobId")?, 1, &show).await?;
    let status = api.call("QueryOTAFirmware", &[("FirmwareId", &firmware_id)]).await?;
    ensure!(status.pointer("/FirmwareInfo/Status") == Some(&Value::from(1)), "the package was not verified");

    show::line("Verified. Now the whole fleet, with a few devices that fail, are slow or come late:");
    let batch = api
        .call(
            "CreateOTAStaticUpgradeJob",
            &[
                ("FirmwareId", &firmware_id),
                ("ProductKey", &product_key),
                ("TargetSelection", "ALL"),
                ("Tag.1.Key", "campaign"),
                ("Tag.1.Value", "demo"),
            ],
        )
        .await?;
    // The verified device runs the version already, so it gets no task.
    let tasks = u64::from(options.devices) - 1;
    watch(&api, &text(&batch, "/Data/JobId")?, tasks, &show).await?;
    fleet.stop().await;

    let list = [("FirmwareId", firmware_id.as_str()), ("CurrentPage", "1"), ("PageSize", "10")];
    show::answer("ListOTAJobByFirmware, as JSON:", &api.raw("ListOTAJobByFirmware", &list, "JSON").await?);
    show::answer("The same, as XML:", &api.raw("ListOTAJobByFirmware", &list, "XML").await?);
    Ok(())
}

async fn register(
    api: &ApiClient,
    product_key: &str,
    devices: u32,
    show: &Show,
) -> anyhow::Result<Vec<Identity>> {
    let bar = show.bar(u64::from(devices), "registering devices");
    let mut identities = Vec::new();
    for number in 1..=devices {
        let name = format!("lamp-{number:04}");
        let answer =
            api.call("RegisterDevice", &[("ProductKey", product_key), ("DeviceName", &name)]).await?;
        identities.push(Identity::new(product_key, &name, &text(&answer, "/Data/DeviceSecret")?));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(identities)
}

/// How device number `index` behaves: one in 25 fails, one in 12 is slow, one in 15 comes late.
fn behaviour(index: usize) -> Behaviour {
    match index {
        // The test device is a good one.
        0 => Behaviour::Good,
        _ if index % 25 == 3 => Behaviour::Fails {
            step: FailedStep::Verification,
            desc: "the image does not boot".to_owned(),
            times: u32::MAX,
        },
        _ if index % 12 == 5 => Behaviour::Slow { download_ms: 24_000 },
        _ if index % 15 == 7 => Behaviour::Late { delay_ms: 40_000 },
        _ => Behaviour::Good,
    }
}

fn late_devices(devices: u32) -> u64 {
    (0..devices as usize).filter(|index| matches!(behaviour(*index), Behaviour::Late { .. })).count() as u64
}

fn start_fleet(mqtt_addr: std::net::SocketAddr, identities: Vec<Identity>) -> FleetHandle {
    let devices = identities
        .into_iter()
        .enumerate()
        .map(|(index, identity)| DeviceConfig {
            behaviour: behaviour(index),
            seed: index as u64,
            ..DeviceConfig::new(identity, "1.0.0")
        })
        .collect();
    Fleet::start(devices, mqtt_addr, FleetOptions { speed: SPEED, ..FleetOptions::default() })
}

async fn package(api: &ApiClient, product_key: &str) -> anyhow::Result<String> {
    let ticket = api.call("GenerateOTAUploadURL", &[("FileSuffix", "bin")]).await?;
    let image: Vec<u8> = (0..PACKAGE_BYTES).map(|at| (at % 251) as u8).collect();
    api.upload(&ticket, &image).await?;
    let firmware = api
        .call(
            "CreateOTAFirmware",
            &[
                ("ProductKey", product_key),
                ("FirmwareName", "lamp_2"),
                ("DestVersion", "2.0.0"),
                ("FirmwareUrl", &text(&ticket, "/Data/FirmwareUrl")?),
            ],
        )
        .await?;
    text(&firmware, "/Data/FirmwareId")
}

/// Shows a batch until it has ended.
async fn watch(api: &ApiClient, job_id: &str, tasks: u64, show: &Show) -> anyhow::Result<()> {
    let bar = show.bar(tasks, "");
    let mut shown = None;
    let ended = async {
        loop {
            let job = api.call("QueryOTAJob", &[("JobId", job_id)]).await?;
            let counts = counts(api, job_id).await?;
            bar.set_position(counts.ended());
            bar.set_message(counts.to_string());
            // Where no terminal shows the bar, each step of a tenth is a line.
            let tenth = Some(counts.ended() * 10 / tasks.max(1));
            if bar.is_hidden() && shown != tenth {
                show::line(&format!("  {}/{tasks}  {counts}", counts.ended()));
                shown = tenth;
            }
            if text(&job, "/Data/JobStatus")? == "COMPLETED" {
                return anyhow::Ok(counts.to_string());
            }
            tokio::time::sleep(REFRESH).await;
        }
    };
    let result = within(BATCH_WITHIN, ended).await??;
    bar.finish_and_clear();
    show::line(&format!("  the batch has ended: {result}"));
    Ok(())
}

async fn counts(api: &ApiClient, job_id: &str) -> anyhow::Result<show::Counts> {
    let mut counts = show::Counts::default();
    for status in updraft_core::task::TaskStatus::ALL {
        let wanted =
            [("JobId", job_id), ("TaskStatus", status.name()), ("PageSize", "1"), ("CurrentPage", "1")];
        let page = api.call("ListOTATaskByJob", &wanted).await?;
        counts.set(status, page.get("Total").and_then(Value::as_u64).unwrap_or_default());
    }
    Ok(counts)
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(limit, work)
        .await
        .with_context(|| format!("this should not take longer than {} seconds", limit.as_secs()))
}

fn text(answer: &Value, pointer: &str) -> anyhow::Result<String> {
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("the answer has no {pointer}: {answer}"))
}
