//! A rollout of the simulation's own: the package, the batch, the wait, and whether the server's account of each task
//! is what the device lived through.

use super::caller::Caller;
use super::options::Given;
use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;
use tokio::time::sleep;
use updraft_core::device::DEFAULT_MODULE;
use updraft_core::task::TaskStatus;
use updraft_core::time::{MINUTE_MS, SECOND_MS, Timestamp};
use updraft_fleet::{Behaviour, Device, Identity};
use updraft_server::fleet_io::FleetHandle;
use updraft_server::fleet_io::meters::{Meter, Meters};

/// Between two looks at the batch.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Tasks of a page.
const PAGE: u64 = 100;
/// Contradictions that are told in full.
const TOLD_MAX: usize = 100;
/// How much earlier or later than the server meant it a push may arrive, when the rate is checked.
const SLACK_MS: i64 = SECOND_MS;

/// What is to be rolled out.
pub struct Plan {
    package_bytes: usize,
    to_list: bool,
    per_minute: u32,
    timeout_minutes: u32,
    seed: u64,
}

/// How far a rollout is.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The batch; empty until there is one.
    pub job_id: String,
    /// The package.
    pub firmware_id: String,
    /// The version that it leads to.
    pub version: String,
    /// When the call that made the batch was sent, in the devices' time.
    pub created: Option<Timestamp>,
    /// Tasks by state, at the last look.
    pub tasks: BTreeMap<&'static str, u64>,
    /// Whether all devices that end have ended.
    pub ended: bool,
}

impl Plan {
    /// What was asked for, if a rollout was.
    pub fn of(given: &Given) -> anyhow::Result<Option<Self>> {
        if !given.is_on("rollout") {
            return Ok(None);
        }
        Ok(Some(Self {
            package_bytes: given.number("package-bytes", 1, 1 << 30)?,
            to_list: match given.text("target").unwrap_or_default() {
                "all" => false,
                "list" => true,
                other => bail!("--target is `{other}`; it must be all or list"),
            },
            per_minute: given.number("per-minute", 10, 10_000)?,
            timeout_minutes: given.number("task-timeout-minutes", 0, 1_440)?,
            seed: given.number("seed", 0, u64::MAX)?,
        }))
    }

    /// Whether its tasks have a time limit.
    pub fn is_timed(&self) -> bool {
        self.timeout_minutes > 0
    }

    /// Makes package and batch, and looks at the batch until all devices have ended, of which `stubborn` never do.
    pub async fn run(
        &self,
        caller: &Caller,
        devices: &[Identity],
        stubborn: u64,
        fleet: &FleetHandle,
        state: &Mutex<State>,
    ) -> anyhow::Result<()> {
        let product_key = devices.first().context("there are no devices")?.product_key.as_str();
        // A version that no other run has: a device that runs it already would get no task.
        let version = format!("sim-{}", crate::cli::now().0);
        state.lock().version.clone_from(&version);
        let firmware_id = self.package(caller, product_key, &version).await?;
        state.lock().firmware_id.clone_from(&firmware_id);
        let list = if self.to_list { Some(upload_list(caller, devices).await?) } else { None };
        let (per_minute, timeout) = (self.per_minute.to_string(), self.timeout_minutes.to_string());
        let mut params = vec![
            ("FirmwareId", firmware_id.as_str()),
            ("ProductKey", product_key),
            ("MaximumPerMinute", per_minute.as_str()),
            ("TargetSelection", if list.is_some() { "SPECIFIC" } else { "ALL" }),
            // Devices that an earlier run left in the middle of an update are to be told of this one.
            ("OverwriteMode", "2"),
        ];
        params.extend(list.as_deref().map(|url| ("DnListFileUrl", url)));
        if self.is_timed() {
            params.push(("TimeoutInMinutes", timeout.as_str()));
        }
        state.lock().created = Some(fleet.now());
        let batch = caller.change("CreateOTAStaticUpgradeJob", &params).await?;
        let job_id = text(&batch, "/Data/JobId")?;
        state.lock().job_id.clone_from(&job_id);
        loop {
            if look(caller, &job_id, devices.len() as u64, stubborn, state).await? {
                state.lock().ended = true;
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn package(&self, caller: &Caller, product_key: &str, version: &str) -> anyhow::Result<String> {
        let ticket = caller.change("GenerateOTAUploadURL", &[("FileSuffix", "bin")]).await?;
        let mut image = vec![0; self.package_bytes];
        // Not from the seed alone: a file that the server knows already would be a lighter load.
        let seed = self.seed ^ crate::cli::now().0 as u64;
        ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut image);
        caller.upload(&ticket, "package.bin", &image).await?;
        let url = text(&ticket, "/Data/FirmwareUrl")?;
        let made = [
            ("ProductKey", product_key),
            ("FirmwareName", version),
            ("DestVersion", version),
            ("FirmwareUrl", &url),
            ("NeedToVerify", "false"),
        ];
        text(&caller.change("CreateOTAFirmware", &made).await?, "/Data/FirmwareId")
    }

    /// Whether the batch kept to its rate, by when the first pushes arrived.
    pub fn rate(&self, devices: &[Device], version: &str) -> Rate {
        let mut first: Vec<i64> = devices
            .iter()
            .filter_map(|device| device.pushed().iter().find(|pushed| pushed.version == version))
            .map(|pushed| pushed.first.0)
            .collect();
        first.sort_unstable();
        let sure = most_within(&first, MINUTE_MS - SLACK_MS);
        Rate {
            asked: self.per_minute,
            most_in_a_minute: most_within(&first, MINUTE_MS) as u64,
            kept: sure <= self.per_minute as usize,
        }
    }
}

async fn upload_list(caller: &Caller, devices: &[Identity]) -> anyhow::Result<String> {
    let ticket = caller.change("GenerateDeviceNameListURL", &[]).await?;
    let names: Vec<&str> = devices.iter().map(|device| device.device_name.as_str()).collect();
    caller.upload(&ticket, "devices.csv", (names.join("\n") + "\n").as_bytes()).await?;
    text(&ticket, "/Data/FileUrl")
}

/// Counts the tasks; whether all that end have ended.
async fn look(
    caller: &Caller,
    job_id: &str,
    devices: u64,
    stubborn: u64,
    state: &Mutex<State>,
) -> anyhow::Result<bool> {
    let mut counts = BTreeMap::new();
    let (mut open, mut total) = (0, 0);
    for status in TaskStatus::ALL {
        let wanted =
            [("JobId", job_id), ("TaskStatus", status.name()), ("PageSize", "1"), ("CurrentPage", "1")];
        let count = caller.read("ListOTATaskByJob", &wanted).await?["Total"].as_u64().unwrap_or_default();
        counts.insert(status.name(), count);
        total += count;
        open += if status.is_open() { count } else { 0 };
    }
    state.lock().tasks = counts;
    // Devices of the product that this simulation does not have are not waited for.
    let strangers = total.saturating_sub(devices);
    if total >= devices && open <= stubborn + strangers {
        return Ok(true);
    }
    let job = caller.read("QueryOTAJob", &[("JobId", job_id)]).await?;
    Ok(matches!(text(&job, "/Data/JobStatus")?.as_str(), "COMPLETED" | "CANCELED"))
}

/// Notes how long the first pushes took, from the making of the batch.
pub fn note_pushes(devices: &[Device], state: &State, meters: &Meters) {
    let Some(created) = state.created else { return };
    for device in devices {
        if let Some(pushed) = device.pushed().iter().find(|pushed| pushed.version == state.version) {
            let ms = pushed.first.since_ms(created).max(0);
            meters.took(Meter::Push, Duration::from_millis(ms.unsigned_abs()));
        }
    }
}

/// The state of each device's task, by device name.
pub async fn tasks(caller: &Caller, job_id: &str) -> anyhow::Result<HashMap<String, String>> {
    let mut found = HashMap::new();
    let (size, mut page) = (PAGE.to_string(), 1_u64);
    loop {
        let at = page.to_string();
        let wanted = [("JobId", job_id), ("PageSize", size.as_str()), ("CurrentPage", at.as_str())];
        let answer = caller.read("ListOTATaskByJob", &wanted).await?;
        let listed = answer.pointer("/Data/SimpleOTATaskInfo").and_then(Value::as_array);
        for task in listed.into_iter().flatten() {
            if let (Some(name), Some(status)) = (task["DeviceName"].as_str(), task["TaskStatus"].as_str()) {
                found.insert(name.to_owned(), status.to_owned());
            }
        }
        if page * PAGE >= answer["Total"].as_u64().unwrap_or_default() {
            return Ok(found);
        }
        page += 1;
    }
}

/// Whether MaximumPerMinute was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// What was asked for.
    pub asked: u32,
    /// The most first pushes that arrived within any minute.
    pub most_in_a_minute: u64,
    /// Whether no more than that many arrived within any 59 seconds: a second is allowed for the way.
    pub kept: bool,
}

/// The most of these times, which are in order, that are within any `window_ms`.
fn most_within(times: &[i64], window_ms: i64) -> usize {
    let mut begin = 0;
    let mut most = 0;
    for (end, time) in times.iter().enumerate() {
        while times.get(begin).is_some_and(|first| time - first >= window_ms) {
            begin += 1;
        }
        most = most.max(end + 1 - begin);
    }
    most
}

/// What devices lived through, beside what the server says.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Devices with a task in the batch.
    pub with_task: u64,
    /// Tasks of these devices by state.
    pub tasks: BTreeMap<String, u64>,
    /// Devices that were pushed the version.
    pub pushed: u64,
    /// Pushes that came again after a reconnection, as they should if the first went unanswered.
    pub pushed_after_return: u64,
    /// Pushes that came again on the same connection, as they should not.
    pub pushed_again: u64,
    /// Devices that run the version.
    pub running: u64,
    /// Devices that took the version up more than once.
    pub begun_again: u64,
    /// Files downloaded whole and found good.
    pub downloads: u64,
    /// Devices of which server and device tell different things.
    pub contradictions: u64,
    /// The first hundred of them.
    pub told: Vec<Contradiction>,
}

/// A device of which the server tells something else than the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    device: String,
    task: String,
    why: &'static str,
    version: String,
    pushes: u32,
    begun: u64,
    upgraded: u64,
    failed: u64,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}): {}; it runs {}, got {} pushes, began {} times, {} upgrades, {} failures",
            self.device,
            self.task,
            self.why,
            self.version,
            self.pushes,
            self.begun,
            self.upgraded,
            self.failed
        )
    }
}

/// Compares; `ended`: the batch has ended, so that each device must have a task.
pub fn compare(devices: &[Device], tasks: &HashMap<String, String>, version: &str, ended: bool) -> Compared {
    let mut compared = Compared::default();
    for device in devices {
        let name = &device.config().identity.device_name;
        let task = tasks.get(name).map_or("", String::as_str);
        let stats = device.stats();
        let pushed = device.pushed().iter().find(|pushed| pushed.version == version);
        let (pushes, again) = pushed.map_or((0, 0), |pushed| (pushed.count, pushed.again));
        compared.with_task += u64::from(!task.is_empty());
        if !task.is_empty() {
            *compared.tasks.entry(task.to_owned()).or_default() += 1;
        }
        compared.pushed += u64::from(pushes > 0);
        compared.pushed_again += u64::from(again);
        compared.pushed_after_return += u64::from(pushes.saturating_sub(1).saturating_sub(again));
        compared.running += u64::from(device.version(DEFAULT_MODULE) == Some(version));
        compared.begun_again += u64::from(stats.started > 1);
        compared.downloads += stats.downloads;
        if let Some(why) = contradiction(device, task, version, ended) {
            compared.contradictions += 1;
            if compared.told.len() < TOLD_MAX {
                compared.told.push(Contradiction {
                    device: name.clone(),
                    task: task.to_owned(),
                    why,
                    version: device.version(DEFAULT_MODULE).unwrap_or_default().to_owned(),
                    pushes,
                    begun: stats.started,
                    upgraded: stats.upgraded,
                    failed: stats.failed,
                });
            }
        }
    }
    compared
}

fn contradiction(device: &Device, task: &str, version: &str, ended: bool) -> Option<&'static str> {
    let stats = device.stats();
    let pushed = device.pushed().iter().find(|pushed| pushed.version == version);
    let told = pushed.is_some() || stats.started > 0;
    let runs = device.version(DEFAULT_MODULE) == Some(version);
    // The others may forget what they began, or begin it again by their nature: one that comes back with a third version
    // is pushed to before the server has heard of that.
    let steady = matches!(
        device.config().behaviour,
        Behaviour::Good
            | Behaviour::Slow { .. }
            | Behaviour::Late { .. }
            | Behaviour::Flaky
            | Behaviour::Puller { .. }
    );
    match task {
        "" if ended => Some("the device has no task"),
        "SUCCEEDED" if stats.upgraded == 0 => {
            Some("the task succeeded, but the device never ran the version")
        }
        "FAILED" | "CANCELED" if runs => Some("the task has not succeeded, but the device runs the version"),
        "SUCCEEDED" | "FAILED" | "IN_PROGRESS" if !told => Some("the device was never told"),
        _ if pushed.is_some_and(|pushed| pushed.again > 0) => Some("a push came twice on one connection"),
        _ if steady && stats.started > 1 => Some("the device took the update up twice"),
        _ => None,
    }
}

fn text(answer: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    found.with_context(|| format!("the answer has no {pointer}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use updraft_fleet::message::Topic;
    use updraft_fleet::{DeviceConfig, Input};

    #[test]
    fn the_fullest_minute_is_found() {
        let times = [0, 10, 59_999, 60_000, 60_005, 60_009, 60_010, 200_000];
        assert_eq!(most_within(&times, 60_000), 5);
        assert_eq!(most_within(&[], 60_000), 0);
        assert_eq!(most_within(&[5], 60_000), 1);
        assert_eq!(most_within(&[0, 60_000], 60_000), 1, "a minute later is another minute");
    }

    /// A device that lived through pushes: each is on a new connection or not.
    fn device(pushes: &[bool]) -> Device {
        let mut device = Device::new(DeviceConfig::new(Identity::new("pk", "dn", "s"), "1.0"));
        let mut give = |input: Input<'_>| device.handle(Timestamp(1_000_000_000), input, &mut Vec::new());
        give(Input::Tick);
        give(Input::Connected);
        for anew in pushes {
            if *anew {
                give(Input::Cut);
                give(Input::Tick);
                give(Input::Connected);
            }
            let offer =
                br#"{"code":"1000","data":{"size":1,"sign":"ab","version":"2.0","url":"http://h/f"}}"#;
            let topic = Topic::Upgrade.of(&Identity::new("pk", "dn", "s"));
            give(Input::Message { topic: &topic, payload: offer });
        }
        device
    }

    fn why(device: Device, task: &str) -> Option<&'static str> {
        let tasks = HashMap::from([("dn".to_owned(), task.to_owned())]);
        compare(&[device], &tasks, "2.0", true).told.first().map(|told| told.why)
    }

    #[test]
    fn contradictions_are_found() {
        assert_eq!(why(device(&[false]), "IN_PROGRESS"), None);
        assert_eq!(why(device(&[]), "QUEUED"), None);
        assert!(why(device(&[false]), "SUCCEEDED").unwrap().contains("never ran"));
        assert!(why(device(&[]), "FAILED").unwrap().contains("never told"));
        assert!(why(device(&[false, false]), "IN_PROGRESS").unwrap().contains("twice on one"));
        assert_eq!(why(device(&[false, true]), "IN_PROGRESS"), None, "again after its return is right");
        let none = compare(&[device(&[])], &HashMap::new(), "2.0", true);
        assert_eq!((none.contradictions, none.with_task), (1, 0));
        assert_eq!(compare(&[device(&[])], &HashMap::new(), "2.0", false).contradictions, 0);
        let twice = compare(&[device(&[false, true, false])], &HashMap::new(), "2.0", false);
        assert_eq!((twice.pushed, twice.pushed_after_return, twice.pushed_again), (1, 1, 1));
    }
}
