//! Operators who make dynamic batches, change batches while they run, and end the rules.

use crate::api::{Answer, pairs};
use crate::invariant::Invariant;
use crate::packages::{MODULE, MODULE_VERSION, Package};
use crate::world::World;
use crate::{Violation, ensure};
use updraft_core::id::{DeviceNo, JobNo};
use updraft_core::job::{JobStatus, JobType};
use updraft_server::engine;
use updraft_store::{Job, Lane, StoreError};

/// Rounds in which the engine must have nothing left to do.
const ROUNDS_MAX: usize = 1_000;

impl World {
    /// A dynamic batch of a package, of any kind.
    pub(crate) fn draw_rule(&mut self, package: usize) -> Result<(), Violation> {
        let drawn = self.operator.pick(&["1.0.0", "2.0.0", "2.1.0", "0.0.1-rescue"]);
        let Package { module, source, .. } = self.packages[package].clone();
        let first = if module == MODULE { MODULE_VERSION } else { drawn };
        let source = source.as_deref().unwrap_or(first);
        let mut more = vec![("SrcVersion.1", source)];
        if source != "1.0.0" && self.operator.percent(50) {
            more.push(("SrcVersion.2", "1.0.0"));
        }
        more.push(("MaximumPerMinute", self.operator.pick(&["10", "25", "100"])));
        if self.operator.percent(30) {
            more.push(("DynamicMode", "2"));
        }
        more.extend(self.draw_mode(package));
        self.draw_job("CreateOTADynamicUpgradeJob", package, &[], &more)
    }

    /// Ends a dynamic batch, or tries it on a static one.
    pub(crate) fn end_rule(&mut self, job: JobNo) -> Result<(), Violation> {
        let Some(job) = self.checker.job(job).cloned() else { return Ok(()) };
        self.note(format!("operator: CancelOTAStrategyByJob {}", job.no));
        let dynamic = job.conduct.dynamic.is_some();
        match self.call("CancelOTAStrategyByJob", &pairs(&[("JobId", &job.job_id)]))? {
            Answer::Done(_) => {
                self.stats.looked(Invariant::Answered, 1);
                let ended = self.checker.job(job.no).is_some_and(|job| !job.policy);
                ensure(dynamic && ended, || {
                    format!("the rule of batch {} was ended, and is: {ended}", job.no)
                })
            }
            Answer::Refused(code) => ensure(!dynamic, || format!("the end of a rule was refused: {code}")),
            Answer::Lost => Ok(()),
        }
    }

    /// Changes a batch, which may not allow it.
    pub(crate) fn draw_change(&mut self, job: JobNo) -> Result<(), Violation> {
        let Some(job) = self.checker.job(job).cloned() else { return Ok(()) };
        let rate = self.operator.pick(&["10", "15", "60", "100"]);
        let mut more: Vec<(&str, &str)> = Vec::new();
        if job.conduct.dynamic.is_some() {
            if self.operator.percent(40) {
                more.push(("TimeoutInMinutes", self.operator.pick(&["15", "30"])));
            }
            if self.operator.percent(50) {
                more.push(("SrcVersionList.1", self.operator.pick(&["1.0.0", "2.0.0", "0.0.1-rescue"])));
            }
        }
        self.change(&job, rate, &more)
    }

    /// Changes a batch's rate, and more.
    pub(crate) fn change(&mut self, job: &Job, rate: &str, more: &[(&str, &str)]) -> Result<(), Violation> {
        let kind = if job.conduct.dynamic.is_some() { "DYNAMIC" } else { "STATIC" };
        let mut params = vec![
            ("JobId", job.job_id.as_str()),
            ("MaximumPerMinute", rate),
            ("UpgradeType", kind),
            ("TargetSelection", job.target_selection.name()),
        ];
        params.extend(more);
        self.note(format!("operator: UpdateOTAJob {} MaximumPerMinute={rate} {more:?}", job.no));
        let runs = job.status == JobStatus::InProgress && job.job_type == JobType::Upgrade;
        match self.call("UpdateOTAJob", &pairs(&params))? {
            Answer::Done(_) => {
                self.stats.looked(Invariant::Answered, 1);
                ensure(runs, || format!("batch {} does not run and was changed", job.no))?;
                let now = self.checker.job(job.no).and_then(|job| job.per_minute);
                ensure(now.map(|now| now.to_string()).as_deref() == Some(rate), || {
                    format!("batch {} was changed to {rate} and has {now:?}", job.no)
                })
            }
            // The source version may be the package's own, the time-out too short for the retries.
            Answer::Refused(_) | Answer::Lost => Ok(()),
        }
    }

    /// Once things are quiet every device that a dynamic batch may have now has its task: whoever looks at all
    /// devices again finds nothing to do.
    pub(crate) fn rules_are_carried_out(&mut self) -> Result<(), Violation> {
        self.let_engine_work()?;
        let before = self.checker.tasks().count();
        self.stats.looked(Invariant::Rules, self.nodes.len());
        let devices: Vec<DeviceNo> = self.nodes.iter().map(|node| node.no).collect();
        self.operate(|running| {
            let app = running.app.clone();
            async move {
                let write = app.store.write(Lane::Bulk, move |tx| tx.reviews_add(&devices));
                write.await.map_err(|error: StoreError| error.to_string())
            }
        })?;
        self.let_engine_work()?;
        let after = self.checker.tasks().count();
        // By a clock that was set back, an old report may be younger than the batch, and nobody noted the device.
        let after = if self.set_back_ms > 0 { before } else { after };
        ensure(before == after, || format!("{} devices were overlooked by dynamic batches", after - before))
    }

    fn let_engine_work(&mut self) -> Result<(), Violation> {
        for _ in 0..ROUNDS_MAX {
            let worked = self.operate(|running| {
                let app = running.app.clone();
                async move { engine::turn(&app).await }
            })?;
            let Some(turn) = worked.value else { return Ok(()) };
            if !turn.map_err(|error| Violation(format!("the engine could not work: {error}")))?.more {
                return Ok(());
            }
        }
        Err(Violation("the engine goes round and round".to_owned()))
    }
}
