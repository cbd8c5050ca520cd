//! `updraft simulate`: a load generator. Tens of thousands of virtual devices on real sockets, against servers that run.
//!
//! What a device does is decided in `updraft_fleet`, and carried out by `updraft_server::fleet_io`, as in the demo.
//! Here is who the devices are, how the run goes, and what is told of it.
//!
//! Exit status: 0 what was asked for was reached, 1 it was not, 2 the command was not used rightly.

mod caller;
mod cost;
mod live;
mod members;
mod options;
mod outage;
mod report;
mod rollout;

use crate::cli::api::transport::{Endpoint, Trust};
use crate::cli::api::{self, keys, transport};
use crate::cli::{complain, runtime, say, text_arg};
use anyhow::{Context as _, bail, ensure};
use caller::Caller;
use clap::{ArgMatches, Command};
use live::{Live, Second};
use members::Nature;
use options::{Given, OPTIONS};
use outage::Outages;
use parking_lot::Mutex;
use report::{Run, too_many_missing};
use rollout::{Plan, State};
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use updraft_fleet::{Behaviour, Identity};
use updraft_server::fleet_io::{Fleet, FleetHandle, FleetOptions, Member, Node, Snapshot, Talk, Target};
use updraft_server::service::Signals;

/// Between two looks at the fleet.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks in a second of the series.
const LOOKS_IN_A_SECOND: u64 = 10;
/// How much longer than the ramp the devices have to connect before a rollout begins all the same.
const CONNECTED_WITHIN: Duration = Duration::from_mins(1);
/// How long devices that lost their connections may take to come back when the rollout has ended.
const BACK_WITHIN: Duration = Duration::from_mins(1);
/// How long the tasks may take to list after a run that was interrupted.
const LISTED_WITHIN: Duration = Duration::from_mins(5);

/// `updraft simulate`.
pub fn command() -> Command {
    Command::new("simulate")
        .about("Virtual devices on real MQTT and HTTP, as many as you like, against a running server: a load generator")
        .after_help(
            "A scenario file has the same keys with underscores, as docs/simulate.toml shows; flags go before it.\n\
             Exit status: 0 what was asked for was reached, 1 it was not, 2 wrong use",
        )
        .arg(
            text_arg("scenario", "FILE", "Takes what the flags do not say from this file (TOML)")
                .value_parser(clap::value_parser!(PathBuf)),
        )
        .args(OPTIONS.iter().map(options::Opt::arg))
        .args(api::key_args())
}

/// Runs it.
pub fn run(args: &ArgMatches) -> anyhow::Result<ExitCode> {
    let setup = match Setup::of(args) {
        Ok(setup) => setup,
        Err(error) => return Ok(api::wrong_use(&error)),
    };
    let runtime = runtime()?;
    let outcome = runtime.block_on(setup.run());
    // Devices that hang on a dead node are not waited for.
    runtime.shutdown_background();
    outcome.map(|reached| if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A simulation that is ready to run.
struct Setup {
    given: Given,
    caller: Option<Caller>,
    devices: usize,
    devices_file: Option<PathBuf>,
    nature: Nature,
    plan: Option<Plan>,
    mqtt: Vec<String>,
    http: Vec<Endpoint>,
    tls: rustls::ClientConfig,
    storms: Vec<f64>,
    storm_percent: u64,
    seconds: u64,
    options: FleetOptions,
}

impl Setup {
    fn of(args: &ArgMatches) -> anyhow::Result<Self> {
        let given = Given::gather(args, args.get_one::<PathBuf>("scenario").map(PathBuf::as_path))?;
        let apis = endpoints(&given, "api")?;
        let http = match endpoints(&given, "http")? {
            none if none.is_empty() => apis.clone(),
            some => some,
        };
        let trust = Trust { ca_file: given.text("ca").map(Path::new), insecure: given.is_on("insecure") };
        let devices_file = given.text("devices-file").map(PathBuf::from);
        let plan = Plan::of(&given)?;
        ensure!(!apis.is_empty() || devices_file.is_some(), "give --api, or the devices by --devices-file");
        ensure!(!apis.is_empty() || plan.is_none(), "--rollout needs --api");
        let http_percent = given.number("http-share", 0, 100_u64)?;
        ensure!(http_percent == 0 || !http.is_empty(), "--http-share needs --http or --api");
        let mqtt = given.all("mqtt").to_vec();
        let nature = Nature::of(&given, mqtt.len())?;
        let devices = given.number("devices", 1, 1_000_000)?;
        let caller = if apis.is_empty() || (devices_file.is_some() && plan.is_none()) {
            None
        } else {
            let key = match given.text("key-file") {
                Some(file) => keys::of_root_file(Path::new(file))?,
                None => keys::find(args, None)?,
            };
            Some(Caller::new(apis, &trust, key)?)
        };
        let range = given.number("range-bytes", 0, u64::MAX)?;
        Ok(Self {
            devices,
            devices_file,
            nature,
            plan,
            tls: transport::tls(&trust)?,
            storms: storms(given.text("storm-at").unwrap_or_default())?,
            storm_percent: given.number("storm-share", 1, 100)?,
            seconds: given.number("seconds", 0, 31_536_000)?,
            options: FleetOptions {
                connects_per_second: given.number("connect-per-second", 0, u32::MAX)?,
                max_downloads: given.number("max-downloads", 1, 1_000_000)?,
                io_timeout: Duration::from_secs(given.number("io-timeout-seconds", 1, 3_600)?),
                ramp_only: true,
                range_bytes: (range > 0).then_some(range),
                ..FleetOptions::default()
            },
            mqtt,
            http,
            caller,
            given,
        })
    }

    async fn run(mut self) -> anyhow::Result<bool> {
        let mut signals = Signals::new()?;
        let (target, http) = self.targets().await?;
        let members = tokio::select! {
            members = self.members() => members?,
            () = signals.stop() => bail!("stopped before the devices were there"),
        };
        self.fit(&members);
        let (cpu, begun) = (cost::cpu_seconds(), Instant::now());
        let mut run = Run::of(&members, self.plan.as_ref().is_some_and(Plan::is_timed));
        let identities: Vec<Identity> = members.iter().map(|member| member.config.identity.clone()).collect();
        let state = Mutex::new(State::default());
        let mut fleet = Fleet::start_with(members, target, http, self.options);
        let mut live = Live::new();
        self.drive(&mut run, &identities, &fleet, &state, &mut live, &mut signals).await;
        live.end();
        run.seconds = begun.elapsed().as_secs_f64();
        run.last = fleet.snapshot();
        // Since the last look.
        run.most_connected = run.most_connected.max(run.last.connected);
        run.cpu_seconds = cost::cpu_seconds() - cpu;
        let devices = fleet.switch_off().await;
        run.peak_bytes = cost::peak_bytes();
        let state = state.into_inner();
        if let (Some(plan), Some(caller)) = (&self.plan, &self.caller)
            && !state.job_id.is_empty()
        {
            rollout::note_pushes(&devices, &state, fleet.meters());
            run.rate = Some(plan.rate(&devices, &state.version));
            let listed = timeout(LISTED_WITHIN, rollout::tasks(caller, &state.job_id)).await;
            match listed.context("the tasks could not be listed in time").flatten() {
                Ok(tasks) => {
                    run.compared = Some(rollout::compare(&devices, &tasks, &state.version, state.ended));
                }
                Err(error) => run.trouble.push(format!("{error:#}")),
            }
        }
        run.state = state;
        let reasons = run.unreached(self.plan.is_some());
        let told = run.as_json(&self.given, fleet.meters(), &reasons);
        if let Some(file) = self.given.text("json") {
            let text = serde_json::to_string_pretty(&told)? + "\n";
            std::fs::write(file, text).with_context(|| format!("cannot write {file}"))?;
        }
        say(&run.summary(fleet.meters(), &reasons));
        Ok(reasons.is_empty())
    }

    /// Lets the devices live until the rollout has ended, the time is over, or somebody stops it.
    async fn drive(
        &self,
        run: &mut Run,
        identities: &[Identity],
        fleet: &FleetHandle,
        state: &Mutex<State>,
        live: &mut Live,
        signals: &mut Signals,
    ) {
        let begun = Instant::now();
        let expected = run.expected_early;
        let stubborn = run.stubborn;
        let devices = identities.len() as u64;
        let mut work = std::pin::pin!(async {
            match (&self.plan, &self.caller) {
                (Some(plan), Some(caller)) => {
                    self.ready(fleet, expected).await;
                    let done = plan.run(caller, identities, stubborn, fleet, state).await;
                    if done.is_ok() {
                        // Devices may still be on their way back from an outage that the rollout outlived.
                        let back = fleet.wait_until(|seen| !too_many_missing(seen.missing, devices));
                        let _ = timeout(BACK_WITHIN, back).await;
                    }
                    done
                }
                _ => std::future::pending().await,
            }
        });
        let end = begun + Duration::from_secs(if self.seconds > 0 { self.seconds } else { 31_536_000 });
        let mut storms = self.storms.iter().copied().peekable();
        let mut outages = Outages::new(identities.len() as u64);
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut looks) = (Snapshot::default(), 0_u64);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let at = begun.elapsed().as_secs_f64();
                    if storms.next_if(|storm| *storm <= at).is_some() {
                        outages.storm(at);
                        fleet.storm(self.storm_percent);
                    }
                    let now = fleet.snapshot();
                    outages.note(at, fleet.missing_most());
                    outages.note(at, now.missing);
                    run.most_connected = run.most_connected.max(now.connected);
                    looks += 1;
                    if looks.is_multiple_of(LOOKS_IN_A_SECOND) {
                        let second = Second::between(&before, &now, at);
                        live.show(identities.len() as u64, &second, &state.lock());
                        run.series.push(second);
                        before = now;
                    }
                }
                done = &mut work => {
                    if let Err(error) = done {
                        run.trouble.push(format!("{error:#}"));
                    }
                    break;
                }
                () = sleep_until(end) => {
                    run.timed_out = self.plan.is_some();
                    break;
                }
                () = signals.stop() => {
                    run.interrupted = true;
                    live.say("stopping; a second Ctrl-C is not needed");
                    break;
                }
            }
        }
        // What happened since the last look.
        let at = begun.elapsed().as_secs_f64();
        outages.note(at, fleet.missing_most());
        outages.note(at, fleet.snapshot().missing);
        run.outages = outages.found().to_vec();
    }

    /// Waits until those devices are connected, and have told their versions, that come by themselves.
    async fn ready(&self, fleet: &FleetHandle, expected: u64) {
        let ramp = match self.options.connects_per_second {
            0 => 0,
            rate => expected.div_ceil(u64::from(rate)),
        };
        // A few may be away at any moment, by churn or a slow line.
        let enough = expected - expected / 100;
        let reached = fleet.wait_until(|seen| seen.connected >= enough && seen.acknowledged >= enough);
        // Whoever is late then gets its push when it comes.
        let _ = timeout(CONNECTED_WITHIN + Duration::from_secs(ramp), reached).await;
    }

    async fn targets(&self) -> anyhow::Result<(Target, Option<Target>)> {
        let mut sources = Vec::new();
        for source in self.given.all("source") {
            sources.push(source.parse().with_context(|| format!("--source {source} is no address"))?);
        }
        let tls = || std::sync::Arc::new(self.tls.clone());
        let mut nodes = Vec::new();
        for place in &self.mqtt {
            let (name, port) =
                place.rsplit_once(':').with_context(|| format!("--mqtt {place} has no port"))?;
            let port = port.parse().with_context(|| format!("--mqtt {place} has no port"))?;
            nodes.push(node(name.trim_matches(['[', ']']), port, place.clone()).await?);
        }
        let by_tls = self.given.is_on("tls");
        let mqtt = Target::of(nodes, sources.clone(), by_tls.then(tls))?.trusting(tls());
        let mut nodes = Vec::new();
        for endpoint in &self.http {
            nodes.push(node(&endpoint.name, endpoint.port, endpoint.host()).await?);
        }
        let by_tls = self.http.iter().any(|endpoint| endpoint.tls);
        let http = if nodes.is_empty() { None } else { Some(Target::of(nodes, sources, by_tls.then(tls))?) };
        Ok((mqtt, http))
    }

    async fn members(&self) -> anyhow::Result<Vec<Member>> {
        let identities = match (&self.devices_file, &self.caller) {
            (Some(file), _) => members::of_file(file, self.devices)?,
            (None, Some(caller)) => {
                let product =
                    members::product(caller, self.given.text("product").unwrap_or_default()).await?;
                members::of_product(caller, &product, self.devices, complain).await?
            }
            (None, None) => bail!("there are no devices"),
        };
        Ok(self.nature.members(identities))
    }

    /// Raises the limit of descriptors, and says what does not fit into this machine's limits.
    fn fit(&mut self, members: &[Member]) {
        let connections = members.iter().filter(|member| member.talk != Talk::Http).count() as u64;
        let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_default();
        // Standard streams, the runtime, calls of the API, logins of the HTTP channel.
        let spare = limit.saturating_sub(connections).saturating_sub(100);
        if spare < self.options.max_downloads as u64 {
            let downloads = spare.max(1).min(self.options.max_downloads as u64);
            complain(&format!(
                "note: {limit} file descriptors are allowed (ulimit -n), for {connections} connections and \
                 {downloads} downloads at a time instead of {}{}",
                self.options.max_downloads,
                if spare == 0 { ": not all devices can connect" } else { "" }
            ));
            self.options.max_downloads = downloads as usize;
        }
        let sources = self.given.all("source").len().max(1) as u64;
        if let Some(ports) = cost::ports()
            && connections > ports * sources
        {
            complain(&format!(
                "note: {sources} source addresses have {} ports for {connections} connections; give more --source",
                ports * sources
            ));
        }
    }
}

async fn node(name: &str, port: u16, host: String) -> anyhow::Result<Node> {
    let addr = tokio::net::lookup_host((name, port)).await.ok().and_then(|mut found| found.next());
    let addr = addr.with_context(|| format!("{name} has no address"))?;
    Ok(Node { addr, name: ServerName::try_from(name.to_owned())?, host })
}

fn endpoints(given: &Given, name: &str) -> anyhow::Result<Vec<Endpoint>> {
    given.all(name).iter().map(|url| Endpoint::parse(url)).collect()
}

/// Reads `30,90s`: seconds in order.
fn storms(text: &str) -> anyhow::Result<Vec<f64>> {
    let mut found = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let second =
            part.trim_end_matches('s').parse::<f64>().ok().filter(|second| (0.0..1e9).contains(second));
        found
            .push(second.with_context(|| format!("--storm-at has `{part}`, which is no number of seconds"))?);
    }
    found.sort_unstable_by(f64::total_cmp);
    Ok(found)
}

/// Whether a device is there at the start, without being waited for.
fn comes_early(member: &Member) -> bool {
    !matches!(member.config.behaviour, Behaviour::Late { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storms_are_read() {
        assert_eq!(storms("90, 30s,1.5").unwrap(), [1.5, 30.0, 90.0]);
        assert!(storms("").unwrap().is_empty());
        for bad in ["soon", "-1", "nan", "3m"] {
            assert!(storms(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
