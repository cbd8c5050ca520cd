//! The devices of a simulation: who they are, and what each of them is like.

use super::caller::Caller;
use super::options::Given;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use updraft_core::time::SECOND_MS;
use updraft_fleet::{Behaviour, Delivery, DeviceConfig, Identity, Line, Mix, Obtain, Timing, draw_percent};
use updraft_server::fleet_io::{Member, Mqtt, Talk};

/// Most devices of one registration in bulk.
const REGISTERED_AT_ONCE: usize = 10_000;
/// Devices of a page of QueryDevice.
const PAGE: &str = "50";
/// How long a registration in bulk may take.
const REGISTERED_WITHIN: Duration = Duration::from_mins(5);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a device draws its share of what from: each choice has a number of its own.
const DRAWS_HTTP: u64 = u64::MAX;
const DRAWS_MQTT5: u64 = u64::MAX - 1;
const DRAWS_SLOW: u64 = u64::MAX - 2;

/// What the devices are like.
pub struct Nature {
    mix: Mix,
    seed: u64,
    versions: Vec<String>,
    nodes: usize,
    http_percent: u64,
    mqtt5_percent: u64,
    slow_percent: u64,
    slow: Line,
    pattern: DeviceConfig,
    poll_ms: i64,
}

impl Nature {
    /// What was asked for.
    pub fn of(given: &Given, nodes: usize) -> anyhow::Result<Self> {
        let ms = |name: &str| given.number(name, 0, 86_400_000_i64);
        let percent = |name: &str| given.number(name, 0, 100_u64);
        let rate = given.number("download-rate", 0, u64::MAX)?;
        let versions = given.text("versions").unwrap_or_default();
        let versions: Vec<String> = versions.split(',').map(|version| version.trim().to_owned()).collect();
        ensure!(versions.iter().all(|version| !version.is_empty()), "--versions holds an empty version");
        let pattern = DeviceConfig {
            keepalive_s: given.number("keep-alive", 30, 1_200)?,
            clean_session: !given.is_on("kept-sessions"),
            obtain: match given.text("download").unwrap_or_default() {
                "whole" => Obtain::Whole,
                "head" => Obtain::Head,
                "none" => Obtain::Nothing,
                other => bail!("--download is `{other}`; it must be whole, head or none"),
            },
            report_every_percent: given.number("report-every", 1, 100)?,
            line: Line { delay_ms: 0, bytes_per_second: (rate > 0).then_some(rate) },
            timing: Timing {
                install_ms: ms("install-ms")?,
                reboot_ms: ms("reboot-ms")?,
                backoff_first_ms: ms("backoff-first-ms")?.max(1),
                backoff_max_ms: ms("backoff-max-ms")?.max(1),
                think_ms: ms("think-ms")?,
                step_ms: ms("step-ms")?.max(1),
                churn_ms: given.number("churn-seconds", 0, 31_536_000_i64)? * SECOND_MS,
                ..Timing::default()
            },
            ..DeviceConfig::new(Identity::new("", "", ""), "")
        };
        Ok(Self {
            mix: given.text("mix").unwrap_or_default().parse().context("--mix")?,
            seed: given.number("seed", 0, u64::MAX)?,
            versions,
            nodes: nodes.max(1),
            http_percent: percent("http-share")?,
            mqtt5_percent: percent("mqtt5-share")?,
            slow_percent: percent("slow-share")?,
            slow: Line {
                delay_ms: ms("slow-delay-ms")?,
                bytes_per_second: Some(given.number("slow-bytes-per-second", 1, u64::MAX)?),
            },
            pattern,
            poll_ms: given.number("poll-seconds", 1, 86_400_i64)? * SECOND_MS,
        })
    }

    /// Gives each device its nature; the same seed gives the same.
    pub fn members(&self, identities: Vec<Identity>) -> Vec<Member> {
        let behaviours = self.mix.assign(self.seed, identities.len());
        let dealt = identities.into_iter().zip(behaviours).enumerate();
        dealt.map(|(index, (identity, behaviour))| self.member(index, identity, behaviour)).collect()
    }

    fn member(&self, index: usize, identity: Identity, behaviour: Behaviour) -> Member {
        // Seeds that have nothing to do with each other, also for the next simulation's seed.
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index as u64;
        let version = &self.versions[index % self.versions.len()];
        let mut config = DeviceConfig { identity, behaviour, seed, ..self.pattern.clone() };
        config.versions = vec![(updraft_core::device::DEFAULT_MODULE.to_owned(), version.clone())];
        if draw_percent(seed, DRAWS_SLOW) < self.slow_percent {
            config.line = self.slow;
        }
        let talk = if draw_percent(seed, DRAWS_HTTP) < self.http_percent {
            config.delivery = Delivery::Poll { every_ms: self.poll_ms };
            Talk::Http
        } else if draw_percent(seed, DRAWS_MQTT5) < self.mqtt5_percent {
            Talk::Mqtt(Mqtt::V5)
        } else {
            Talk::Mqtt(Mqtt::V3)
        };
        Member { config, talk, node: index % self.nodes }
    }
}

/// Devices of a file with lines `productKey,deviceName,deviceSecret`; a first line of just these words is a heading.
pub fn of_file(file: &Path, most: usize) -> anyhow::Result<Vec<Identity>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let found = of_csv(&text, most).with_context(|| file.display().to_string())?;
    ensure!(!found.is_empty(), "{} names no device", file.display());
    Ok(found)
}

fn of_csv(text: &str, most: usize) -> anyhow::Result<Vec<Identity>> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty());
    let lines = lines.filter(|(index, line)| *index > 0 || !line.to_lowercase().starts_with("productkey,"));
    let identity = |(index, line): (usize, &str)| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        match fields[..] {
            [key, name, secret, ..] if ![key, name, secret].contains(&"") => {
                Ok(Identity::new(key, name, secret))
            }
            // Not the line itself: it may hold a secret.
            _ => bail!("line {} must be productKey,deviceName,deviceSecret", index + 1),
        }
    };
    lines.take(most).map(identity).collect()
}

/// The product of this name; it is made if there is none.
pub async fn product(caller: &Caller, name: &str) -> anyhow::Result<String> {
    let mut page = 1_u64;
    loop {
        let at = page.to_string();
        let answer = caller.read("QueryProductList", &[("CurrentPage", &at), ("PageSize", "200")]).await?;
        let found = answer.pointer("/Data/List/ProductInfo").and_then(Value::as_array);
        let known = found.into_iter().flatten().find(|product| product["ProductName"] == name);
        if let Some(key) = known.and_then(|product| product["ProductKey"].as_str()) {
            return Ok(key.to_owned());
        }
        if answer.pointer("/Data/PageCount").and_then(Value::as_u64).unwrap_or_default() <= page {
            break;
        }
        page += 1;
    }
    let made = caller.change("CreateProduct", &[("ProductName", name), ("NodeType", "0")]).await?;
    made.pointer("/ProductKey")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .context("CreateProduct told no key")
}

/// So many devices of a product; those that it lacks are registered. `tell` is told how far it is.
pub async fn of_product(
    caller: &Caller,
    product_key: &str,
    wanted: usize,
    tell: impl Fn(&str),
) -> anyhow::Result<Vec<Identity>> {
    let have = caller.read("QueryDevice", &[("ProductKey", product_key), ("PageSize", "1")]).await?;
    let have = have["Total"].as_u64().unwrap_or_default() as usize;
    let mut missing = wanted.saturating_sub(have);
    if missing > 0 {
        tell(&format!("registering {missing} devices"));
    }
    while missing > 0 {
        let count = missing.min(REGISTERED_AT_ONCE);
        register(caller, product_key, count).await?;
        missing -= count;
    }
    tell(&format!("reading the secrets of {wanted} devices"));
    let mut identities = Vec::with_capacity(wanted);
    let mut token = None::<String>;
    loop {
        let mut params = vec![("ProductKey", product_key), ("PageSize", PAGE)];
        params.extend(token.as_deref().map(|token| ("NextToken", token)));
        let answer = caller.read("QueryDevice", &params).await?;
        let listed = answer.pointer("/Data/DeviceInfo").and_then(Value::as_array);
        for device in listed.into_iter().flatten() {
            if let (Some(name), Some(secret)) =
                (device["DeviceName"].as_str(), device["DeviceSecret"].as_str())
            {
                identities.push(Identity::new(product_key, name, secret));
            }
        }
        token = answer["NextToken"].as_str().filter(|token| !token.is_empty()).map(str::to_owned);
        if identities.len() >= wanted || token.is_none() {
            break;
        }
    }
    ensure!(identities.len() >= wanted, "the product lists {} devices only", identities.len());
    identities.truncate(wanted);
    Ok(identities)
}

async fn register(caller: &Caller, product_key: &str, count: usize) -> anyhow::Result<()> {
    let count = count.to_string();
    let wanted = [("ProductKey", product_key), ("Count", count.as_str())];
    let apply = caller.change("BatchRegisterDevice", &wanted).await?;
    let id =
        apply.pointer("/Data/ApplyId").and_then(Value::as_u64).context("no ApplyId was told")?.to_string();
    let begun = Instant::now();
    loop {
        let asked = [("ProductKey", product_key), ("ApplyId", id.as_str())];
        let answer = caller.read("QueryBatchRegisterDeviceStatus", &asked).await?;
        match answer.pointer("/Data/Status").and_then(Value::as_str) {
            Some("CREATE_SUCCESS") => return Ok(()),
            Some("CREATE_FAILED") => bail!("the registration in bulk {id} failed"),
            _ if begun.elapsed() > REGISTERED_WITHIN => bail!("the registration in bulk {id} takes too long"),
            _ => sleep(LOOK_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::simulate::options::OPTIONS;

    fn nature(flags: &[&str]) -> Nature {
        let command =
            clap::Command::new("t").args(OPTIONS.iter().map(crate::cli::simulate::options::Opt::arg));
        let args = command.get_matches_from([&["t"], flags].concat());
        Nature::of(&Given::gather(&args, None).unwrap(), 2).unwrap()
    }

    fn identities(n: usize) -> Vec<Identity> {
        (0..n).map(|number| Identity::new("pk", format!("d{number}"), "s")).collect()
    }

    #[test]
    fn a_seed_makes_the_same_fleet_and_shares_are_about_right() {
        let nature = nature(&["--http-share=10", "--mqtt5-share=50", "--slow-share=20", "--mix=silent=5"]);
        let members = nature.members(identities(2_000));
        let again = nature.members(identities(2_000));
        assert_eq!(format!("{members:?}"), format!("{again:?}"));
        let count = |which: &dyn Fn(&Member) -> bool| members.iter().filter(|member| which(member)).count();
        assert!((150..250).contains(&count(&|member| member.talk == Talk::Http)));
        assert!((800..1_000).contains(&count(&|member| member.talk == Talk::Mqtt(Mqtt::V5))));
        assert!((330..470).contains(&count(&|member| member.config.line.delay_ms == 300)));
        assert_eq!(count(&|member| member.config.behaviour == Behaviour::Silent), 100);
        assert_eq!(count(&|member| member.node == 1), 1_000);
    }

    #[test]
    fn files_are_read_with_a_heading_or_without() {
        let names = |text: &str| -> Vec<String> {
            of_csv(text, 2).unwrap().into_iter().map(|identity| identity.device_name).collect()
        };
        assert_eq!(names("\u{feff}productKey,deviceName,deviceSecret\r\nk,a,s\r\n\r\nk,b,s\n"), ["a", "b"]);
        assert_eq!(names("k, a ,s\nk,b,s\nk,c,s"), ["a", "b"]);
        let why = of_csv("k,a,s\nk,b,hush,", 9).map(|_| ()).err();
        assert!(why.is_none(), "further fields do no harm");
        let why = of_csv("k,a,s\nhush,,x", 9).unwrap_err().to_string();
        assert!(why.contains("line 2") && !why.contains("hush"), "{why}");
    }
}
