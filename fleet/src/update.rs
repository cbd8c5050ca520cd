//! One update on one device: from the offer to the reboot, and everything that can go wrong between.

use updraft_core::firmware::SignMethod;
use updraft_core::task::FailedStep;
use updraft_core::time::{SECOND_MS, Timestamp};

use crate::behaviour::Behaviour;
use crate::chance::draw_below;
use crate::config::Obtain;
use crate::device::{Device, Fetch, Link, Output};
use crate::message::{Offer, OfferFile};

/// A download that breaks off this often is reported as failed.
const ATTEMPTS_MAX: u32 = 4;

/// Where an update stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The offer is there; the device has not said anything about it yet.
    Thinking,
    /// A download runs.
    Fetching,
    /// No download runs, but the device reports as if one did.
    Pretending,
    /// The download was lost; it goes on with the next push or after a while.
    Stalled,
    /// The files are there and checked.
    Installing,
    /// The device is down and comes back with another image.
    Rebooting,
}

/// An update at hand.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) stage: Stage,
    module: String,
    version: String,
    method: SignMethod,
    files: Vec<OfferFile>,
    /// The file being fetched, and how much of it there is.
    index: usize,
    received: u64,
    /// The last step that was reported.
    step: i64,
    attempts: u32,
    /// Whether the one loss of a flaky device has happened.
    flaked: bool,
}

impl Job {
    fn new(offer: Offer) -> Self {
        Self {
            stage: Stage::Stalled,
            module: offer.module,
            version: offer.version,
            method: offer.method,
            files: offer.files,
            index: 0,
            received: 0,
            step: 0,
            attempts: 0,
            flaked: false,
        }
    }

    fn is_for(&self, offer: &Offer) -> bool {
        (&self.module, &self.version) == (&offer.module, &offer.version)
    }

    /// Takes the fresh addresses of a repeated offer; starts over if it has other files.
    fn refresh(&mut self, offer: Offer) {
        let same = self.method == offer.method
            && self.files.iter().map(|f| (&f.sign, f.size)).eq(offer.files.iter().map(|f| (&f.sign, f.size)));
        if !same {
            self.index = 0;
            self.received = 0;
        }
        self.method = offer.method;
        self.files = offer.files;
        self.attempts = 0;
    }

    /// Share of all bytes that has arrived, below 100 until everything is checked.
    fn percent(&self) -> i64 {
        let total: u64 = self.files.iter().map(|file| file.size).sum();
        let before: u64 = self.files.iter().take(self.index).map(|file| file.size).sum();
        let percent = before.saturating_add(self.received).saturating_mul(100).checked_div(total);
        percent.unwrap_or(0).min(99) as i64
    }
}

/// The number on the wire of a failed step.
fn step_number(step: FailedStep) -> i64 {
    match step {
        FailedStep::Upgrade => -1,
        FailedStep::Download => -2,
        FailedStep::Verification => -3,
        FailedStep::Flashing => -4,
    }
}

impl Device {
    /// Decides about an offer.
    pub(crate) fn consider(&mut self, offer: Offer, now: Timestamp, out: &mut Vec<Output>) {
        if self.version(&offer.module) == Some(&offer.version) {
            return;
        }
        if let Some(job) = &mut self.job {
            // A repeated offer revives a lost download; any other waits until this update has ended.
            if job.stage == Stage::Stalled && job.is_for(&offer) && !offer.files.is_empty() {
                job.refresh(offer);
                self.fetch(now, out);
            }
            return;
        }
        self.stats.started += 1;
        self.owed = None;
        let job = self.job.insert(Box::new(Job::new(offer)));
        if self.config.timing.think_ms > 0 {
            job.stage = Stage::Thinking;
            self.job_due = Some(now.plus_ms(self.config.timing.think_ms));
        } else {
            self.begin(now, out);
        }
    }

    /// Says that the update begins, and begins it.
    fn begin(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some(job) = &self.job else { return };
        let reachable = !job.files.is_empty();
        let module = job.module.clone();
        self.publish_progress(&module, 0, "", out);
        if !reachable {
            self.fail(FailedStep::Download, "the offer has no address to download from", out);
        } else if !self.fails_at(FailedStep::Upgrade, out) {
            self.fetch(now, out);
        }
    }

    /// Starts or goes on with the download of the current file.
    fn fetch(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some(job) = &mut self.job else { return };
        if self.config.obtain == Obtain::Nothing {
            job.stage = Stage::Pretending;
            self.job_due = Some(now.plus_ms(self.config.timing.step_ms));
            return;
        }
        let Some(file) = job.files.get(job.index) else { return };
        let bytes_per_second = match self.config.behaviour {
            Behaviour::Slow { download_ms } => {
                let total: u64 = job.files.iter().map(|file| file.size).sum();
                Some((total.saturating_mul(1_000) / download_ms.max(1).unsigned_abs()).max(1))
            }
            _ => self.config.line.bytes_per_second,
        };
        out.push(Output::Download(Fetch {
            url: file.url.clone(),
            from_byte: job.received,
            size: file.size,
            digest: job.method,
            bytes_per_second,
            head: self.config.obtain == Obtain::Head,
        }));
        job.stage = Stage::Fetching;
        self.job_due = None;
    }

    /// The job, if a download is supposed to run.
    fn fetching(&mut self) -> Option<&mut Job> {
        self.job.as_deref_mut().filter(|job| job.stage == Stage::Fetching)
    }

    pub(crate) fn download_progress(&mut self, bytes: u64, now: Timestamp, out: &mut Vec<Output>) {
        let Some(job) = self.fetching() else { return };
        job.received = bytes;
        job.attempts = 0;
        let percent = job.percent();
        if percent >= self.flakes_at() && self.flakes() {
            out.push(Output::CancelDownload);
            self.lose_everything(now, out);
            return;
        }
        if percent >= 50 && self.will_fail(FailedStep::Download) {
            out.push(Output::CancelDownload);
            self.fails_at(FailedStep::Download, out);
            return;
        }
        let every = self.config.report_every_percent.clamp(1, 100);
        let Some(job) = self.fetching() else { return };
        if percent >= job.step + every {
            job.step = percent - percent % every;
            let (module, step) = (job.module.clone(), job.step);
            self.publish_progress(&module, step, "", out);
        }
    }

    pub(crate) fn downloaded(&mut self, digest: &str, size: u64, now: Timestamp, out: &mut Vec<Output>) {
        if self.fetching().is_none() {
            return;
        }
        if self.flakes() {
            // The file came in one piece, so all of it is lost.
            if let Some(job) = self.fetching() {
                job.received = 0;
            }
            self.lose_everything(now, out);
            return;
        }
        if self.fails_at(FailedStep::Download, out) {
            return;
        }
        let headers_only = self.config.obtain == Obtain::Head;
        let Some(job) = self.fetching() else { return };
        let Some(file) = job.files.get(job.index) else { return };
        let whole = file.size == 0 || file.size == size;
        if !whole || !headers_only && !file.sign.eq_ignore_ascii_case(digest) {
            let desc = format!("expected {} bytes {}, got {size} bytes {digest}", file.size, file.sign);
            self.fail(FailedStep::Verification, &desc, out);
            return;
        }
        job.index += 1;
        job.received = 0;
        job.attempts = 0;
        let more = job.index < job.files.len();
        self.stats.downloads += 1;
        if more {
            self.fetch(now, out);
        } else if !self.fails_at(FailedStep::Verification, out) {
            self.install(now, out);
        }
    }

    pub(crate) fn download_failed(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some(job) = self.fetching() else { return };
        job.attempts += 1;
        if job.attempts >= ATTEMPTS_MAX {
            self.fail(FailedStep::Download, "the download broke off too often", out);
        } else {
            job.stage = Stage::Stalled;
            let wait_ms = SECOND_MS << job.attempts;
            self.job_due = Some(now.plus_ms(wait_ms));
        }
    }

    /// Everything is there and checked.
    fn install(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some(job) = &mut self.job else { return };
        job.stage = Stage::Installing;
        job.step = 100;
        let module = job.module.clone();
        self.publish_progress(&module, 100, "", out);
        self.job_due = Some(now.plus_ms(self.config.timing.install_ms));
    }

    /// The time of a stalled or installing job has come.
    pub(crate) fn job_tick(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        match self.job.as_ref().map(|job| job.stage) {
            Some(Stage::Thinking) => self.begin(now, out),
            Some(Stage::Stalled) => self.fetch(now, out),
            Some(Stage::Pretending) => self.pretend(now, out),
            Some(Stage::Installing) if !self.fails_at(FailedStep::Flashing, out) => {
                if let Some(job) = &mut self.job {
                    job.stage = Stage::Rebooting;
                }
                self.lose_power();
                self.leave(now, self.config.timing.reboot_ms, out);
            }
            _ => {}
        }
    }

    /// The next step of a download that does not run; what may go wrong goes wrong as in one that does.
    fn pretend(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let every = self.config.report_every_percent.clamp(1, 100);
        let (flakes_at, will_fail) = (self.flakes_at(), self.will_fail(FailedStep::Download));
        let Some(job) = &mut self.job else { return };
        let step = job.step + every;
        if step >= flakes_at && self.flakes() {
            self.lose_everything(now, out);
        } else if step >= 50 && will_fail {
            self.fails_at(FailedStep::Download, out);
        } else if step < 100 {
            let Some(job) = &mut self.job else { return };
            job.step = step;
            let module = job.module.clone();
            self.publish_progress(&module, step, "", out);
            self.job_due = Some(now.plus_ms(self.config.timing.step_ms));
        } else if !self.fails_at(FailedStep::Verification, out) {
            self.install(now, out);
        }
    }

    /// The device comes up: after an update, with the image that its behaviour chooses.
    pub(crate) fn boot(&mut self, now: Timestamp) {
        let Some(job) = self.job.take_if(|job| job.stage == Stage::Rebooting) else { return };
        let version = match &self.config.behaviour {
            Behaviour::StaysOld => return,
            Behaviour::RevertsToOld if !self.reverted => {
                self.reverted = true;
                return;
            }
            Behaviour::WrongVersion { version } => {
                self.stats.failed += 1;
                version.clone()
            }
            _ => {
                self.stats.upgraded += 1;
                job.version
            }
        };
        if let Behaviour::RollsBack { after_ms } = self.config.behaviour
            && !self.reverted
            && let Some(old) = self.version(&job.module)
        {
            self.undo = Some((now.plus_ms(after_ms), job.module.clone(), old.to_owned()));
            self.reverted = true;
        }
        self.runs(job.module, version);
    }

    fn runs(&mut self, module: String, version: String) {
        match self.versions.iter_mut().find(|(name, _)| *name == module) {
            Some((_, current)) => *current = version,
            None => self.versions.push((module, version)),
        }
    }

    /// The new image proves bad: the device reboots into the old one, whatever it is at.
    pub(crate) fn boot_old(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some((_, module, version)) = self.undo.take() else { return };
        self.drop_job(out);
        self.runs(module, version);
        self.leave(now, self.config.timing.reboot_ms, out);
    }

    /// A device that forgets knows of no update any more, but tells how far it was.
    pub(crate) fn forget(&mut self, out: &mut Vec<Output>) {
        self.drop_job(out);
        self.owed = None;
    }

    fn drop_job(&mut self, out: &mut Vec<Output>) {
        if self.job.take().is_some_and(|job| job.stage == Stage::Fetching) {
            out.push(Output::CancelDownload);
        }
        self.job_due = None;
    }

    /// The power fails while an image is written, if that is the device's behaviour; once.
    fn lose_power(&mut self) {
        let Behaviour::LosesPower { new_image } = self.config.behaviour else { return };
        if !std::mem::replace(&mut self.reverted, true)
            && let Some(job) = self.job.take()
            && new_image
        {
            self.stats.upgraded += 1;
            self.runs(job.module, job.version);
        }
    }

    /// After a new connection: what the server may have missed.
    pub(crate) fn report_again(&mut self, out: &mut Vec<Output>) {
        if let Some((module, step, desc)) = self.owed.take() {
            self.publish_progress(&module, step_number(step), &desc, out);
        }
        if let Some(job) = self.job.as_ref().filter(|job| job.stage != Stage::Thinking) {
            let (module, step) = (job.module.clone(), job.step);
            self.publish_progress(&module, step, "", out);
        }
    }

    /// Gives the update up and says so.
    fn fail(&mut self, step: FailedStep, desc: &str, out: &mut Vec<Output>) {
        let Some(job) = self.job.take() else { return };
        self.job_due = None;
        self.stats.failed += 1;
        if self.link == Link::Up {
            self.publish_progress(&job.module, step_number(step), desc, out);
        } else {
            self.owed = Some((job.module, step, desc.to_owned()));
        }
    }

    fn will_fail(&self, at: FailedStep) -> bool {
        self.failures_left > 0 && matches!(self.config.behaviour, Behaviour::Fails { step, .. } if step == at)
    }

    /// Fails here, if that is the device's behaviour.
    fn fails_at(&mut self, at: FailedStep, out: &mut Vec<Output>) -> bool {
        if !self.will_fail(at) {
            return false;
        }
        let Behaviour::Fails { desc, .. } = &self.config.behaviour else { return false };
        let desc = desc.clone();
        // The largest number stands for "always".
        if self.failures_left != u32::MAX {
            self.failures_left -= 1;
        }
        self.fail(at, &desc, out);
        true
    }

    /// Where a flaky device loses its download: between 30 and 69 percent.
    fn flakes_at(&self) -> i64 {
        30 + draw_below(self.config.seed, 0, 40) as i64
    }

    /// Whether a flaky device loses its download now; once in each update.
    fn flakes(&mut self) -> bool {
        let flaky = self.config.behaviour == Behaviour::Flaky;
        self.job.as_mut().is_some_and(|job| flaky && !std::mem::replace(&mut job.flaked, true))
    }

    /// Download and connection are gone; the device comes back by itself.
    fn lose_everything(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if let Some(job) = &mut self.job {
            job.stage = Stage::Stalled;
        }
        self.job_due = Some(now.plus_ms(self.config.timing.resume_ms));
        self.leave(now, self.config.timing.away_ms, out);
    }
}
