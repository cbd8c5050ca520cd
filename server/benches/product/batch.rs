//! One batch over every device of a large product, or a share of them: making it, planning it, cancelling it, beside
//! calls of the API.

use crate::api::{Caller, Connection};
use crate::process::Process;
use crate::seed::Seeded;
use anyhow::Context as _;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Connections that list batches meanwhile.
const LISTERS: usize = 8;
/// What each of them waits between two calls: together they make 1,600 calls a second at most.
const PAUSE: Duration = Duration::from_millis(5);
/// How often it is looked whether the tasks are there.
const LOOK: Duration = Duration::from_millis(5);

/// A server with a large product, and who calls it.
pub struct Stage<'a> {
    pub process: &'a Process,
    pub seeded: &'a Seeded,
    pub caller: Arc<Caller>,
}

/// Parameters of a call.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

/// What a batch took.
pub struct Took {
    /// Until the call was answered.
    pub accepted: Duration,
    /// Until all its tasks were there.
    pub done: Duration,
    /// Calls of the API meanwhile.
    pub calls: Vec<Duration>,
    pub job_id: String,
}

/// What a plan took.
pub struct Planned {
    pub took: Duration,
    /// Devices that were looked at.
    pub looked: u64,
    /// Calls of the API meanwhile.
    pub calls: Vec<Duration>,
}

/// A list of device names that was uploaded.
pub struct List {
    pub url: String,
    pub bytes: usize,
    pub took: Duration,
}

impl<'a> Stage<'a> {
    pub fn new(process: &'a Process, seeded: &'a Seeded) -> anyhow::Result<Self> {
        Ok(Self { process, seeded, caller: Arc::new(Caller::new(process.api.to_string())?) })
    }

    /// A call over a connection of its own; answers the answer's tree.
    pub async fn call(&self, action: &str, pairs: Pairs<'_>) -> anyhow::Result<serde_json::Value> {
        let mut connection = Connection::open(self.process.api).await?;
        connection.call(&self.caller.request(action, "JSON", pairs), "\"Success\":true").await?;
        connection.body()
    }

    fn of_package<'b>(
        &'b self,
        package: usize,
        target: Pairs<'b>,
    ) -> anyhow::Result<Vec<(&'b str, &'b str)>> {
        let crowd = &self.seeded.crowd;
        let package = crowd.firmware_ids.get(package).context("no such package")?;
        let mut pairs = vec![("FirmwareId", package.as_str()), ("ProductKey", crowd.product_key.as_str())];
        pairs.extend_from_slice(target);
        Ok(pairs)
    }

    /// Makes a batch of a package and waits until it has so many tasks.
    pub async fn batch(
        &self,
        action: &str,
        package: usize,
        target: Pairs<'_>,
        tasks: usize,
    ) -> anyhow::Result<Took> {
        let request = self.caller.request(action, "JSON", &self.of_package(package, target)?);
        let work = async {
            let mut connection = Connection::open(self.process.api).await?;
            let start = Instant::now();
            connection.call(&request, "\"Success\":true").await?;
            let accepted = start.elapsed();
            let body = connection.body()?;
            let job_id = body["Data"]["JobId"].as_str().context("no JobId")?.to_owned();
            self.wait_for_total(&[("JobId", &job_id), ("PageSize", "1")], tasks).await?;
            anyhow::Ok((accepted, start.elapsed(), job_id))
        };
        let (work, calls) = self.listed(work).await?;
        let (accepted, done, job_id) = work?;
        Ok(Took { accepted, done, calls, job_id })
    }

    /// Cancels a batch's tasks and waits until all of them are; answers how long that took.
    pub async fn cancel(&self, job_id: &str, tasks: usize) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.call("CancelOTATaskByJob", &[("JobId", job_id), ("CancelQueuedTask", "true")]).await?;
        let canceled = [("JobId", job_id), ("TaskStatus", "CANCELED"), ("PageSize", "1")];
        self.wait_for_total(&canceled, tasks).await?;
        Ok(start.elapsed())
    }

    /// Plans a batch of the first package.
    pub async fn plan(&self, target: Pairs<'_>) -> anyhow::Result<Planned> {
        let request = self.caller.request("PlanOTAJob", "JSON", &self.of_package(0, target)?);
        let work = async {
            let mut connection = Connection::open(self.process.api).await?;
            let start = Instant::now();
            connection.call(&request, "\"Success\":true").await?;
            let took = start.elapsed();
            anyhow::Ok((took, connection.body()?["Data"]["Devices"]["Looked"].as_u64().context("no Looked")?))
        };
        let (work, calls) = self.listed(work).await?;
        let (took, looked) = work?;
        Ok(Planned { took, looked, calls })
    }

    /// Uploads a list of the whole product, in no order: one that another system exports is in any.
    pub async fn upload(&self) -> anyhow::Result<List> {
        let devices = self.seeded.crowd.devices;
        let ticket = self.call("GenerateDeviceNameListURL", &[]).await?;
        let text = |name: &str| ticket["Data"][name].as_str().context("the ticket is incomplete");
        let mut form = String::new();
        for (field, of) in
            [("key", "Key"), ("policy", "Policy"), ("AccessKeyId", "AccessKeyId"), ("signature", "Signature")]
        {
            let value = text(of)?;
            write!(form, "--edge\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n")?;
        }
        form += "--edge\r\nContent-Disposition: form-data; name=\"success_action_status\"\r\n\r\n200\r\n";
        form += "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"list.csv\"\r\n\r\n";
        let before = form.len();
        for number in 0..devices {
            writeln!(form, "crowd-{:06}", number * 7_919 % devices)?;
        }
        let bytes = form.len() - before;
        form += "\r\n--edge--\r\n";
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: multipart/form-data; boundary=edge\r\nContent-Length: {}\r\n\r\n",
            self.process.api,
            form.len()
        );
        let mut connection = Connection::open(self.process.api).await?;
        let start = Instant::now();
        connection.call((head + &form).as_bytes(), "200").await?;
        Ok(List { url: text("FileUrl")?.to_owned(), bytes, took: start.elapsed() })
    }

    /// How many tasks of a list ListOTATaskByJob counts.
    pub async fn total(&self, list: Pairs<'_>) -> anyhow::Result<u64> {
        self.call("ListOTATaskByJob", list).await?["Total"].as_u64().context("no Total")
    }

    async fn wait_for_total(&self, list: Pairs<'_>, total: usize) -> anyhow::Result<()> {
        while self.total(list).await? != total as u64 {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Lists batches over several connections while `work` goes on; answers how long each call took.
    pub async fn listed<T>(&self, work: impl Future<Output = T>) -> anyhow::Result<(T, Vec<Duration>)> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut listers = JoinSet::new();
        for _ in 0..LISTERS {
            let (stop, caller, addr) = (Arc::clone(&stop), Arc::clone(&self.caller), self.process.api);
            let firmware_id = self.seeded.firmware_id.clone();
            listers.spawn(async move {
                let mut connection = Connection::open(addr).await?;
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let list =
                        [("FirmwareId", firmware_id.as_str()), ("CurrentPage", "1"), ("PageSize", "10")];
                    let request = caller.request("ListOTAJobByFirmware", "JSON", &list);
                    let sent = Instant::now();
                    connection.call(&request, "\"Success\":true").await?;
                    took.push(sent.elapsed());
                    tokio::time::sleep(PAUSE).await;
                }
                std::io::Result::Ok(took)
            });
        }
        let done = work.await;
        stop.store(true, Ordering::Relaxed);
        let mut calls = Vec::new();
        while let Some(lister) = listers.join_next().await {
            calls.extend(lister??);
        }
        Ok((done, calls))
    }
}

/// What 99 of 100 calls took at most.
pub fn p99(calls: &[Duration]) -> Duration {
    let mut sorted = calls.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}
