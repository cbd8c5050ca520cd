//! What a static batch would meet, device by device, without making it: each is judged as its creation would judge it
//! (`core/src/target.rs`). And how the last batches of the product went.
//!
//! Devices are read in pages, each on a state of its own and of a few milliseconds: a plan of a million devices holds
//! up nobody, and costs the memory of a page; for a share of them also their numbers, as the choice itself does.

use crate::app::App;
use crate::engine::chunk_rows;
use std::collections::BTreeMap;
use updraft_core::forecast::Past;
use updraft_core::id::{DeviceNo, JobNo, ProductNo, TaskNo};
use updraft_core::job::Conduct;
use updraft_core::plan::{Fate, Tally};
use updraft_core::target::{self, Demand, GrayPercent, Standing};
use updraft_store::{Candidate, StandingTask, StoreError, Tx};

/// Batches that are looked at for the past, newest first.
const PAST_JOBS_MAX: i64 = 20;
/// Tasks that have ended and are looked at for the past.
const PAST_TASKS_MAX: i64 = 1_000;

/// A batch that is not made.
pub struct Asked {
    /// The product of its package.
    pub product: ProductNo,
    /// The module that the package is for.
    pub module: String,
    /// The version that it leads to.
    pub dest_version: String,
    /// The versions that devices may come from; empty: any.
    pub src_versions: Vec<String>,
    /// How it treats what it meets, and the group that it is for.
    pub conduct: Conduct,
    /// Which devices.
    pub scope: Scope,
}

/// The devices that it looks at.
pub enum Scope {
    /// All of the product, or of its group, up to this one.
    All(DeviceNo),
    /// A share of the product's up to this one.
    Share(DeviceNo, GrayPercent),
    /// These.
    These(Vec<DeviceNo>),
}

/// Candidates, with the unfinished tasks of those that have any.
struct Page {
    candidates: Vec<Candidate>,
    standing: Vec<StandingTask>,
}

impl Page {
    fn of(tx: &mut Tx<'_>, candidates: Vec<Candidate>) -> Result<Self, StoreError> {
        let busy: Vec<DeviceNo> =
            candidates.iter().filter(|candidate| candidate.busy).map(|candidate| candidate.device).collect();
        Ok(Self { standing: tx.tasks_standing(&busy)?, candidates })
    }
}

/// Counts what the batch would do.
pub async fn tally(app: &App, asked: &Asked) -> Result<Tally, StoreError> {
    // It would be the next one. So nothing that stands is newer, and a share is drawn as it would draw it.
    let job = app.store.read(|tx| tx.job_next()).await?;
    let mut count = Count { app, asked, job, tally: Tally::default() };
    match &asked.scope {
        Scope::All(upto) => count.all(*upto).await?,
        Scope::These(devices) => count.these(devices).await?,
        Scope::Share(upto, percent) => {
            let candidates = count.fitting(*upto).await?;
            let chosen = target::gray_choice(job, candidates.clone(), *percent);
            count.leave_out(&candidates, &chosen);
            count.these(&chosen).await?;
        }
    }
    Ok(count.tally)
}

struct Count<'a> {
    app: &'a App,
    asked: &'a Asked,
    job: JobNo,
    tally: Tally,
}

impl Count<'_> {
    fn demand(&self) -> Demand<'_> {
        Demand {
            job: self.job,
            src_versions: &self.asked.src_versions,
            dest_version: &self.asked.dest_version,
            module: &self.asked.module,
            conduct: self.asked.conduct,
            unwanted: false,
        }
    }

    fn judge(&mut self, page: &Page) {
        let mut standing: BTreeMap<DeviceNo, Vec<Standing<'_>>> = BTreeMap::new();
        for StandingTask { device, job, module, status } in &page.standing {
            let of = Standing { job: *job, module, status: *status };
            standing.entry(*device).or_default().push(of);
        }
        let mut tally = std::mem::take(&mut self.tally);
        for Candidate { device, status, version, .. } in &page.candidates {
            let standing = standing.get(device).map_or(&[][..], Vec::as_slice);
            let candidate = target::Candidate { version: version.as_deref(), standing };
            tally.judge(*device, *status, &candidate, &self.demand());
        }
        self.tally = tally;
    }

    /// Every device of the product or of the group.
    async fn all(&mut self, upto: DeviceNo) -> Result<(), StoreError> {
        let (product, group, rows) = (self.asked.product, self.asked.conduct.group, chunk_rows(self.app));
        let mut after = DeviceNo(0);
        loop {
            let module = self.asked.module.clone();
            let read = move |tx: &mut Tx<'_>| {
                let candidates = match group {
                    None => tx.candidates_of_product(product, &module, after, upto, rows)?,
                    Some(group) => tx.candidates_of_group(group, product, &module, after, upto, rows)?,
                };
                Page::of(tx, candidates)
            };
            let page = self.app.store.read(read).await?;
            self.judge(&page);
            match page.candidates.last() {
                Some(last) if page.candidates.len() as i64 == rows => after = last.device,
                _ => return Ok(()),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn these(&mut self, devices: &[DeviceNo]) -> Result<(), StoreError> {
        for devices in devices.chunks(chunk_rows(self.app) as usize) {
            let (devices, module) = (devices.to_vec(), self.asked.module.clone());
            let read = move |tx: &mut Tx<'_>| {
                let candidates = tx.candidates_of(&devices, &module)?;
                Page::of(tx, candidates)
            };
            let page = self.app.store.read(read).await?;
            self.judge(&page);
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The devices that a share is taken of; counts the others.
    async fn fitting(&mut self, upto: DeviceNo) -> Result<Vec<DeviceNo>, StoreError> {
        let (product, rows) = (self.asked.product, chunk_rows(self.app));
        let (mut after, mut fitting) = (DeviceNo(0), Vec::new());
        loop {
            let module = self.asked.module.clone();
            let read = move |tx: &mut Tx<'_>| tx.versions_of_product(product, &module, after, upto, rows);
            let page = self.app.store.read(read).await?;
            let whole = page.len() as i64 == rows;
            for (device, version) in page {
                after = device;
                let candidate = target::Candidate { version: version.as_deref(), standing: &[] };
                match Fate::of(target::judge(&candidate, &self.demand()), candidate.version) {
                    fate if fate.is_taken() => fitting.push(device),
                    fate => self.tally.add(device, fate),
                }
            }
            if !whole {
                return Ok(fitting);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Counts the candidates that were not chosen; both are in order.
    fn leave_out(&mut self, candidates: &[DeviceNo], chosen: &[DeviceNo]) {
        let mut chosen = chosen.iter().peekable();
        for device in candidates {
            if chosen.next_if_eq(&device).is_none() {
                self.tally.add(*device, Fate::NotChosen);
            }
        }
    }
}

/// How tasks of the last batches of a product and module went, newest batches first, each all over its length.
pub async fn past(app: &App, product: ProductNo, module: &str) -> Result<Past, StoreError> {
    let module = module.to_owned();
    let jobs = app.store.read(move |tx| tx.jobs_lately(product, &module, PAST_JOBS_MAX)).await?;
    let mut past = Past::default();
    for (job, tasks) in jobs {
        let wanted = tasks.min(PAST_TASKS_MAX - past.ended());
        let some: Vec<TaskNo> =
            (0..wanted).map(|n| TaskNo { job, ordinal: n * tasks / wanted + 1 }).collect();
        for task in app.store.read(move |tx| tx.tasks_past(&some)).await? {
            past.add(task.status, task.retries, task.told_at, task.changed_at);
        }
        tokio::task::yield_now().await;
    }
    Ok(past)
}
