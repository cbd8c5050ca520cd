//! UpdateOTAJob: changes a batch while it runs. Its rate and tags at once; the time-out and the source versions, of
//! dynamic batches only, for the tasks that it gets from now on.

use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::api::job::request::{check_sources, find_job, per_minute, tags_of, timeout_minutes, versions_of};
use crate::api::job::wording::{Wording, selection_type};
use crate::api::params::Params;
use crate::api::{Call, Operation};
use std::sync::Arc;
use updraft_core::job::{JobStatus, JobType, Tag};
use updraft_core::limits::JOB_TERMS_MAX;
use updraft_store::{Firmware, FormerTerms, Job, JobUpdate, Lane, Tx};

/// The table's entry.
pub const OPERATION: Operation = Operation {
    name: "UpdateOTAJob",
    qps: 10,
    changes: true,
    required: &["JobId", "MaximumPerMinute", "TargetSelection", "UpgradeType"],
    not_served: &[],
    run: |call| Box::pin(run(call)),
};

/// What a caller asks for; what is absent stays.
struct Wanted {
    per_minute: i64,
    timeout_minutes: Option<i64>,
    src_versions: Vec<String>,
    tags: Vec<Tag>,
    target_selection: String,
    upgrade_type: String,
}

impl Wanted {
    fn read(params: &Params) -> Result<Self, ApiError> {
        Ok(Self {
            per_minute: per_minute(params)?,
            timeout_minutes: timeout_minutes(params)?,
            src_versions: versions_of(params, "SrcVersionList")?,
            tags: tags_of(params, "Tags")?,
            target_selection: params.need("TargetSelection")?.to_owned(),
            upgrade_type: params.need("UpgradeType")?.to_owned(),
        })
    }
}

async fn run(call: Call) -> Result<Object, ApiError> {
    let id = call.params.need("JobId")?.to_owned();
    let wanted = Wanted::read(&call.params)?;
    let (instance, now) = (call.instance, call.app.now());
    let wake = Arc::clone(&call.app);
    // Slots may be given anew, and devices taken in.
    let begin = move |(): &()| wake.awaken();
    let update = move |tx: &mut Tx<'_>| {
        let (job, firmware, _) = find_job(tx, instance, &id)?;
        check(&job, &firmware, &wanted)?;
        let mut pace = job.pace;
        let repace = job.per_minute != Some(wanted.per_minute);
        if repace {
            pace.give_back(wanted.per_minute, now);
        }
        let update = JobUpdate {
            per_minute: wanted.per_minute,
            pace,
            repace,
            timeout_minutes: wanted.timeout_minutes.or(job.timeout_minutes),
            src_versions: given(&wanted.src_versions, &job.src_versions),
            tags: given(&wanted.tags, &job.tags),
            former: Vec::new(),
        };
        let update = JobUpdate { former: former(&job, &update)?, ..update };
        tx.job_update(job.no, &update, now)?;
        if update.src_versions != job.src_versions {
            // It may fit more devices than before, and leave others to older ones.
            let last = tx.device_last(job.product)?;
            tx.policy_walk_again(job.no, last)?;
            tx.policies_older_walk(&job)?;
        }
        Ok::<_, ApiError>(())
    };
    call.app.store.write_then(Lane::Interactive, update, begin).await?;
    Ok(Object::new())
}

/// What is given, else what there was.
fn given<T: Clone>(given: &[T], before: &[T]) -> Vec<T> {
    if given.is_empty() { before.to_vec() } else { given.to_vec() }
}

fn check(job: &Job, firmware: &Firmware, wanted: &Wanted) -> Result<(), ApiError> {
    let wrong = |why: String| Err(ApiError::with(Code::InvalidJobUpdate, why));
    if job.job_type == JobType::Verify {
        return Err(ApiError::with(Code::JobStatusForbids, "A verification job cannot be changed."));
    }
    if job.status != JobStatus::InProgress {
        let status = Wording::Modern.status(job.status);
        let why = format!("The job is {status}; only one that is IN_PROGRESS can be changed.");
        return Err(ApiError::with(Code::JobStatusForbids, why));
    }
    let kind = selection_type(job.conduct.dynamic.is_some());
    if wanted.upgrade_type != kind {
        return wrong(format!("The job's UpgradeType is {kind}."));
    }
    let selection = job.target_selection.name();
    if wanted.target_selection != selection {
        return wrong(format!("The job's TargetSelection is {selection}."));
    }
    let other_time = wanted.timeout_minutes.is_some_and(|minutes| job.timeout_minutes != Some(minutes));
    let other_versions = !wanted.src_versions.is_empty() && wanted.src_versions != job.src_versions;
    if job.conduct.dynamic.is_none() && (other_time || other_versions) {
        return wrong("TimeoutInMinutes and SrcVersionList of a static job cannot be changed.".to_owned());
    }
    if other_versions {
        if job.conduct.group.is_some() {
            return wrong("The job is for a group; it asks for no SrcVersionList.".to_owned());
        }
        check_sources(firmware, &wanted.src_versions)?;
    }
    let interval = job.retry.map_or(0, |retry| retry.interval_minutes);
    if other_time && wanted.timeout_minutes.is_some_and(|minutes| interval >= minutes) {
        return Err(Code::InvalidRetry.into());
    }
    Ok(())
}

/// What held before, for the tasks that there are.
fn former(job: &Job, update: &JobUpdate) -> Result<Vec<FormerTerms>, ApiError> {
    let mut former = job.former.clone();
    let same = (job.timeout_minutes, &job.src_versions) == (update.timeout_minutes, &update.src_versions);
    let told = former.last().map_or(0, |last| last.upto);
    if same || job.task_count == told {
        return Ok(former);
    }
    if former.len() >= JOB_TERMS_MAX {
        return Err(ApiError::with(
            Code::InvalidJobUpdate,
            format!(
                "TimeoutInMinutes and SrcVersionList of the job were changed {JOB_TERMS_MAX} times. End it by \
                 CancelOTAStrategyByJob and make another one."
            ),
        ));
    }
    former.push(FormerTerms {
        upto: job.task_count,
        timeout_minutes: job.timeout_minutes,
        src_versions: job.src_versions.clone(),
    });
    Ok(former)
}
