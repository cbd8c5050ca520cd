//! `updraft job watch`: a batch, followed until it ends.

use crate::cli::job::{find, status_name};
use crate::cli::{Beside, now};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Duration;
use updraft_core::task::TaskStatus;
use updraft_server::api::answer::utc;
use updraft_store::BrowsedJob;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);

/// Follows the batch of this id.
pub fn run(beside: &Beside, id: &str) -> anyhow::Result<()> {
    let live = stdout().is_terminal();
    let bar = ProgressBar::with_draw_target(
        Some(0),
        if live { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() },
    );
    bar.set_style(ProgressStyle::with_template("[{bar:30}] {pos}/{len}  {msg}")?.progress_chars("=> "));
    let mut told = String::new();
    loop {
        let wanted = id.to_owned();
        let found = beside.read(move |tx| find(tx, &wanted)).context("the batch cannot be watched")?;
        let said = view(&found);
        // The tasks of a dynamic batch outlive it.
        let ended = found.job.status.is_ended() && found.counts.open() == 0;
        if live && !ended {
            bar.set_length(found.counts.total().unsigned_abs());
            bar.set_position((found.counts.total() - found.counts.open()).unsigned_abs());
            bar.set_message(said);
        } else if said != told {
            bar.finish_and_clear();
            let mut out = stdout();
            writeln!(out, "{}  {said}", utc(now()))?;
            out.flush()?;
            told = said;
        }
        if ended {
            return Ok(());
        }
        beside.pause(LOOK);
    }
}

/// A batch in one line: its status, and how many tasks are in each state that has any.
fn view(found: &BrowsedJob) -> String {
    let mut parts = vec![status_name(found.job.status).to_owned()];
    let some = TaskStatus::ALL.into_iter().filter(|status| found.counts.of(*status) > 0);
    parts.extend(some.map(|status| format!("{} {}", status.name(), found.counts.of(status))));
    if !found.job.expanded || found.job.selecting {
        parts.push("(tasks are being made)".to_owned());
    }
    parts.join("  ")
}
