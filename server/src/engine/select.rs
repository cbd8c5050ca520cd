//! Chooses the devices of a gray batch before any of its tasks is made: exactly as many as its percentage says.
//!
//! The choice is written down device by device (`job_target`), so that what happens meanwhile neither adds to
//! it nor takes away. A crash in between starts the choice anew; no task exists by then.

use crate::app::App;
use crate::engine::{cancel_chunk, chunk_rows, due_chunk};
use std::sync::Arc;
use updraft_core::id::{DeviceNo, JobNo};
use updraft_core::target::{self, GrayPercent};
use updraft_store::{Firmware, Job, Lane, StoreError};

/// Chooses the devices of one batch that waits for it; answers whether there was one.
pub async fn select_one(app: &Arc<App>) -> Result<bool, StoreError> {
    let Some(no) = app.store.read(|tx| tx.jobs_selecting(1)).await?.pop() else { return Ok(false) };
    forget(app, no).await?;
    let (job, firmware) = app
        .store
        .read(move |tx| {
            let missing = || StoreError::Corrupt { place: "job", detail: format!("job {no} is incomplete") };
            let job = tx.jobs_load(&[no])?.pop().ok_or_else(missing)?;
            let firmware = tx.firmwares_load(&[job.firmware])?.pop().ok_or_else(missing)?;
            Ok::<_, StoreError>((job, firmware))
        })
        .await?;
    if firmware.deleted_at.is_some() {
        app.store.write(Lane::Bulk, move |tx| tx.job_selected(no)).await?;
        return Ok(true);
    }
    let percent = job.gray_percent.ok_or(StoreError::Corrupt {
        place: "job.gray_percent",
        detail: format!("job {no} has none and is to choose by it"),
    })?;
    let chosen = choose(app, &job, &firmware, percent).await?;
    note(app, no, chosen).await?;
    Ok(true)
}

/// Forgets what a choice that was cut short left behind.
async fn forget(app: &Arc<App>, no: JobNo) -> Result<(), StoreError> {
    let rows = chunk_rows(app);
    let all = DeviceNo(i64::MAX);
    while app.store.write(Lane::Bulk, move |tx| tx.job_targets_delete(no, DeviceNo(0), all, rows)).await?
        as i64
        == rows
    {}
    Ok(())
}

/// Looks at every device of the product, page by page; meanwhile other batches go on.
async fn choose(
    app: &Arc<App>,
    job: &Job,
    firmware: &Firmware,
    percent: GrayPercent,
) -> Result<Vec<DeviceNo>, StoreError> {
    let (product, upto, rows) = (job.product, job.expand_upto, chunk_rows(app));
    let (mut after, mut candidates) = (DeviceNo(0), Vec::new());
    loop {
        let module = firmware.module.clone();
        let page =
            app.store.read(move |tx| tx.versions_of_product(product, &module, after, upto, rows)).await?;
        let whole = page.len() as i64 == rows;
        for (device, version) in page {
            after = device;
            if target::is_for(version.as_deref(), firmware.sources(job), &firmware.dest_version) {
                candidates.push(device);
            }
        }
        if !whole {
            return Ok(target::gray_choice(job.no, candidates, percent));
        }
        cancel_chunk(app).await?;
        due_chunk(app).await?;
    }
}

async fn note(app: &Arc<App>, no: JobNo, chosen: Vec<DeviceNo>) -> Result<(), StoreError> {
    let rows = chunk_rows(app) as usize;
    for devices in chosen.chunks(rows) {
        let devices = devices.to_vec();
        app.store.write(Lane::Bulk, move |tx| tx.job_targets_insert(no, &devices)).await?;
        cancel_chunk(app).await?;
        due_chunk(app).await?;
    }
    app.store.write(Lane::Bulk, move |tx| tx.job_selected(no)).await
}
