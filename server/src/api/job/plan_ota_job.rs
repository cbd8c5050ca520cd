//! PlanOTAJob (ours): what CreateOTAStaticUpgradeJob would do with the same parameters: for which devices it would
//! make tasks, whom it would leave out and why, how long it would take and what would be downloaded.
//!
//! It refuses what that call would refuse, and changes nothing: no batch, no task, no number is used up, and a list
//! file may be used again.

use crate::api::answer::{Node, Object};
use crate::api::error::{ApiError, Code};
use crate::api::job::static_batch::{Allowed, REQUIRED, StaticBatch, Whom};
use crate::api::{Call, Operation};
use crate::app::App;
use crate::engine::survey::{self, Asked, Scope};
use std::collections::BTreeMap;
use std::sync::Arc;
use updraft_core::device::DeviceStatus;
use updraft_core::forecast::{Load, Past, Pushes, Rollout};
use updraft_core::id::{AccountNo, DeviceNo};
use updraft_core::plan::{Fate, Tally};
use updraft_core::time::{SECOND_MS, Timestamp};
use updraft_store::Firmware;

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "PlanOTAJob",
    qps: 10,
    changes: false,
    required: REQUIRED,
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// When a second plan may be asked for, in milliseconds.
const ANOTHER_MS: i64 = 1_000;

/// An account's right to one plan at a time: one of a million devices keeps a processor busy for seconds.
struct Planning<'a> {
    app: &'a App,
    account: AccountNo,
}

impl<'a> Planning<'a> {
    fn take(app: &'a App, account: AccountNo) -> Result<Self, ApiError> {
        if app.planning.lock().insert(account) {
            return Ok(Self { app, account });
        }
        let why = "Another plan of this account is being made: ask again when it is answered.";
        Err(ApiError { retry_after_ms: Some(ANOTHER_MS), ..ApiError::with(Code::ThrottlingUser, why) })
    }
}

impl Drop for Planning<'_> {
    fn drop(&mut self) {
        self.app.planning.lock().remove(&self.account);
    }
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let app = &call.app;
    let (instance, now) = (call.instance, app.now());
    let batch = Arc::new(StaticBatch::read(&call.params, now, app.config.minute_ms)?);
    let listed = batch.listed(app, instance).await?;
    let (asked, checker) = (Arc::clone(&batch), Arc::clone(app));
    let allowed = app.store.read(move |tx| asked.check(tx, &checker, instance)).await?;
    let _planning = Planning::take(app, call.account)?;
    let (firmware, asked) = asked_of(&batch, allowed, listed);
    let looked_at = app.now();
    let tally = survey::tally(app, &asked).await?;
    let past = survey::past(app, firmware.product, &firmware.module).await?;
    let names = names(app, &tally).await?;
    let rollout = rollout(app, &batch, &firmware, &tally, looked_at);
    let plan = Plan { looked_at, batch: &batch, firmware: &firmware, tally, names, past, rollout };
    Ok(Object::new().object("Data", plan.answer()))
}

fn asked_of(batch: &StaticBatch, allowed: Allowed, listed: Option<Vec<DeviceNo>>) -> (Firmware, Asked) {
    let Allowed { firmware, conduct, whom } = allowed;
    let scope = match (whom, batch.targets.gray_percent) {
        (Whom::UpTo(last), Some(percent)) => Scope::Share(last, percent),
        (Whom::UpTo(last), None) => Scope::All(last),
        (Whom::Named(candidates), _) => {
            Scope::These(candidates.iter().map(|candidate| candidate.device).collect())
        }
        (Whom::Listed, _) => Scope::These(listed.unwrap_or_default()),
    };
    let asked = Asked {
        product: firmware.product,
        module: firmware.module.clone(),
        dest_version: firmware.dest_version.clone(),
        src_versions: firmware.sources_for(&batch.targets.src_versions).to_vec(),
        conduct,
        scope,
    };
    (firmware, asked)
}

/// The names of all examples.
async fn names(app: &App, tally: &Tally) -> Result<BTreeMap<DeviceNo, String>, ApiError> {
    let mut devices: Vec<DeviceNo> =
        tally.fates().flat_map(|(_, counted)| counted.examples.iter().copied()).collect();
    devices.sort_unstable_by(|a, b| b.cmp(a));
    let found = app.store.read(move |tx| tx.members_load(&devices)).await?;
    Ok(found.into_iter().map(|member| (member.device, member.name)).collect())
}

fn rollout(app: &App, batch: &StaticBatch, firmware: &Firmware, tally: &Tally, now: Timestamp) -> Rollout {
    let capped = |per_second: i64| (per_second > 0).then_some(per_second);
    Rollout {
        per_minute: batch.per_minute,
        start: batch.schedule.start.unwrap_or(now),
        finish: batch.schedule.finish,
        pushes: batch.request.need_push && !batch.request.need_confirm,
        retries: batch.retry.map_or(0, |retry| retry.count),
        devices: tally.count(Fate::is_taken),
        online: tally.taken_with(DeviceStatus::Online),
        bytes_each: firmware.size,
        cap: capped(app.config.download_bytes_per_second),
        cap_each: capped(app.config.download_device_bytes_per_second),
    }
}

/// What was found.
struct Plan<'a> {
    looked_at: Timestamp,
    batch: &'a StaticBatch,
    firmware: &'a Firmware,
    tally: Tally,
    names: BTreeMap<DeviceNo, String>,
    past: Past,
    rollout: Rollout,
}

impl Plan<'_> {
    fn answer(&self) -> Object {
        let pushes = self.rollout.pushes(&self.past);
        let load = self.rollout.load(&self.past);
        let notes = self.notes(pushes.as_ref()).into_iter().map(Node::Text).collect();
        Object::new()
            .utc("UtcLooked", self.looked_at)
            .text("FirmwareId", &self.firmware.firmware_id)
            .text("ProductKey", &self.batch.request.product_key)
            .text("ModuleName", &self.firmware.module)
            .text("DestVersion", &self.firmware.dest_version)
            .text("TargetSelection", self.batch.targets.selection.name())
            .object("Devices", self.devices())
            .list("Fates", "PlanFate", self.fates())
            .object("Pushes", self.pushes(pushes.as_ref()))
            .object("Past", self.past())
            .object("Downloads", self.downloads(load, pushes.as_ref()))
            .list("Notes", "Note", notes)
    }

    fn devices(&self) -> Object {
        let with = |status| self.tally.taken_with(status);
        Object::new()
            .int("Looked", self.tally.count(|_| true))
            .int("Taken", self.tally.count(Fate::is_taken))
            .int("Tasks", self.tally.count(Fate::has_task))
            .int("ReplacedTasks", self.tally.replaced)
            .int("Online", with(DeviceStatus::Online))
            .int("Offline", with(DeviceStatus::Offline))
            .int("NeverOnline", with(DeviceStatus::Unactive))
            .int("Disabled", with(DeviceStatus::Disable))
    }

    fn fates(&self) -> Vec<Node> {
        let fate = |(fate, counted): (Fate, &updraft_core::plan::Counted)| {
            let known = counted.examples.iter().filter_map(|device| self.names.get(device));
            let examples = known.cloned().map(Node::Text).collect();
            Node::Object(Object::new().text("Fate", fate.name()).int("Devices", counted.devices).list(
                "Examples",
                "DeviceName",
                examples,
            ))
        };
        self.tally.fates().map(fate).collect()
    }

    fn pushes(&self, pushes: Option<&Pushes>) -> Object {
        let all = Object::new().int("MaximumPerMinute", self.batch.per_minute);
        let Some(Pushes { told, too_late, span, end, .. }) = pushes else { return all };
        all.int("Told", *told)
            .int("TooLate", *too_late)
            .opt_utc("UtcFirst", span.map(|(first, _)| first))
            .opt_utc("UtcLast", span.map(|(_, last)| last))
            .opt_utc("UtcEndMedian", end.map(|(median, _)| median))
            .opt_utc("UtcEndP90", end.map(|(_, most)| most))
    }

    fn past(&self) -> Object {
        let seconds =
            |percent| self.past.took_ms(percent).map(|ms| ms.saturating_add(SECOND_MS - 1) / SECOND_MS);
        Object::new()
            .int("Tasks", self.past.ended())
            .int("Succeeded", self.past.succeeded())
            .int("Open", self.past.open())
            .opt_int("MedianSeconds", seconds(50))
            .opt_int("P90Seconds", seconds(90))
    }

    fn downloads(&self, load: Load, pushes: Option<&Pushes>) -> Object {
        let stretch =
            pushes.filter(|_| self.rollout.cap.is_some()).map(|pushes| pushes.stretch_ms / SECOND_MS);
        Object::new()
            .int("BytesEach", self.firmware.size)
            .int("Bytes", load.once)
            .opt_int("BytesExpected", load.expected)
            .int("BytesPerSecond", load.per_second)
            .opt_int("CapPerSecond", self.rollout.cap)
            .opt_int("CapEachPerSecond", self.rollout.cap_each)
            .opt_int("StretchSeconds", stretch)
    }

    /// What the figures rest on, and what they leave out.
    fn notes(&self, pushes: Option<&Pushes>) -> Vec<String> {
        let (past, request) = (&self.past, &self.batch.request);
        let others = self.rollout.online < self.rollout.devices;
        let all = [
            (
                self.batch.targets.gray_percent.is_some(),
                "How many devices the share has is exact. Which they are is drawn by the number of the batch: as here \
                 if no other batch is made before.",
            ),
            (request.need_confirm, "No device is told before its user agrees (NeedConfirm)."),
            (!request.need_push, "Devices are not told: they ask by themselves (NeedPush false)."),
            (
                pushes.is_some() && others,
                "Times are those of devices that are online now; the others begin when they come.",
            ),
            (
                pushes.is_some_and(|pushes| pushes.too_late > 0),
                "The pace is too slow for ScheduleFinishTime: devices are left that would be cancelled untold.",
            ),
            (
                past.ended() == 0,
                "No task of this product and module has ended that is still remembered: only the pace is known, not \
                 how long devices take.",
            ),
            (
                past.open() > 0 && request.timeout_minutes.is_none(),
                "Some devices that were told in the past have never ended (Past.Open): without TimeoutInMinutes such \
                 devices keep the batch open.",
            ),
            (
                pushes.is_some_and(|pushes| pushes.stretch_ms > 0),
                "download_bytes_per_second is too little for the pace: the downloads take longer than the pushes.",
            ),
        ];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note.to_owned()).collect()
    }
}
