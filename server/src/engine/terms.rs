//! What a batch demands of a task, as its rows and the settings say: asked by the door that changes tasks, and by
//! whoever explains them.

use crate::config::Config;
use updraft_core::id::TaskNo;
use updraft_core::job::JobStatus;
use updraft_core::task::{Condition, FINISH_GRACE_MINUTES, Retry, TaskStatus, Terms};
use updraft_store::{Firmware, Job};

/// What a batch is going through, as far as it concerns its tasks.
pub fn condition(job: &Job, firmware: &Firmware) -> Condition {
    Condition {
        status: job.status,
        dynamic: job.conduct.dynamic.is_some(),
        package_deleted: firmware.deleted_at.is_some(),
        cancel: job.cancel,
    }
}

/// What it demands of one of its tasks, which is in this state.
pub fn of<'b>(
    job: &'b Job,
    firmware: &'b Firmware,
    no: TaskNo,
    status: TaskStatus,
    config: &Config,
) -> Terms<'b> {
    let condition = condition(job, firmware);
    let ms = |minutes: i64| minutes.saturating_mul(config.minute_ms);
    let is_planned = job.status == JobStatus::Planned && !condition.is_canceling();
    Terms {
        dest_version: &firmware.dest_version,
        src_versions: firmware.sources_of(job, no.ordinal),
        differential: firmware.differs_from().is_some(),
        need_push: job.need_push,
        need_confirm: job.need_confirm,
        timeout_ms: job.timeout_minutes_of(no.ordinal).map(ms),
        retry: job.retry.map(|rule| Retry { interval_ms: ms(rule.interval_minutes), count: rule.count }),
        planned_at: job.schedule.start.filter(|_| is_planned),
        finish_at: job.schedule.finish,
        finish_grace_ms: ms(FINISH_GRACE_MINUTES),
        started: condition.hindrance(status).is_none(),
    }
}

/// How long a device that was told of one module, and says nothing, keeps its other modules waiting, in milliseconds.
pub fn turn_ms(config: &Config) -> i64 {
    config.module_turn_minutes.saturating_mul(config.minute_ms)
}
