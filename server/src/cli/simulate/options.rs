//! What a simulation can be told: one table, from which come the flags, the keys of a scenario file, and the help.
//!
//! A flag goes before the file, the file before the default.

use anyhow::{Context as _, bail, ensure};
use clap::{Arg, ArgAction, ArgMatches};
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

/// One thing that a simulation can be told.
pub struct Opt {
    /// The flag without its dashes; the key in a file has underscores.
    pub name: &'static str,
    /// What the value is, for the help; empty for a switch.
    value: &'static str,
    /// If neither flag nor file says anything; empty: nothing.
    default: &'static str,
    /// Whether the flag may be given several times, and the key may be a list.
    many: bool,
    heading: &'static str,
    help: &'static str,
}

const fn one(
    heading: &'static str,
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Opt {
    Opt { name, value, default, many: false, heading, help }
}

const fn many(
    heading: &'static str,
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Opt {
    Opt { name, value, default, many: true, heading, help }
}

const FLEET: &str = "The devices";
const LINES: &str = "Their connections";
const DOING: &str = "What they do with an update";
const ROLLOUT: &str = "A rollout of its own";
const RUN: &str = "The run";

/// Every one.
#[rustfmt::skip]
pub const OPTIONS: &[Opt] = &[
    one(FLEET, "devices", "N", "1000", "How many devices"),
    many(FLEET, "api", "URL", "", "The server's API, such as http://127.0.0.1:8080; several nodes: several times. Devices are taken from the product there, and those that it lacks are registered"),
    one(FLEET, "key-file", "FILE", "", "The access key, as JSON with AccessKeyId and AccessKeySecret (a server's root-access-key.json). Else the key is found as `updraft api` finds it"),
    one(FLEET, "product", "NAME", "simulated", "The product of the devices; it is made if there is none of this name"),
    one(FLEET, "devices-file", "CSV", "", "Takes the devices from a file with lines productKey,deviceName,deviceSecret instead; without --api no key is needed then"),
    one(FLEET, "versions", "LIST", "1.0.0", "The versions that they run at the start, dealt out evenly"),
    one(FLEET, "seed", "N", "1", "What all choices follow from: the same seed makes the same fleet"),
    many(LINES, "mqtt", "HOST:PORT", "127.0.0.1:1883", "Where MQTT is; several nodes: several times. A device begins at one and goes to the next when it fails, as behind a load balancer"),
    one(LINES, "tls", "", "", "MQTT by TLS"),
    one(LINES, "ca", "FILE", "", "Also trusts the certificates of this PEM file, for MQTT, API and downloads"),
    one(LINES, "insecure", "", "", "Takes any certificate"),
    one(LINES, "mqtt5-share", "PERCENT", "0", "How many of the devices speak MQTT 5 instead of 3.1.1"),
    one(LINES, "http-share", "PERCENT", "0", "How many of the devices have no connection and use the HTTP channel"),
    many(LINES, "http", "URL", "", "Where the HTTP channel is; absent: at --api"),
    one(LINES, "poll-seconds", "N", "30", "How often a device of the HTTP channel asks for a package"),
    many(LINES, "source", "ADDRESS", "", "An address of this machine to connect from, by turns; one address has about 28,000 ports. On Linux all of 127.0.0.0/8 can be used for a server at a loopback address"),
    one(LINES, "connect-per-second", "N", "500", "First connections a second; what comes back after a loss comes when it likes. 0: no limit"),
    one(LINES, "keep-alive", "SECONDS", "300", "The keepalive, 30 to 1200"),
    one(LINES, "kept-sessions", "", "", "Sessions that the server keeps while a device is away, instead of clean ones"),
    one(LINES, "backoff-first-ms", "MS", "1000", "The first wait before a device reconnects; it doubles, with up to a quarter more by chance"),
    one(LINES, "backoff-max-ms", "MS", "60000", "The longest such wait"),
    one(LINES, "storm-at", "LIST", "", "When the connections of --storm-share devices are cut, in seconds after the start, such as 30,90; they come back at once"),
    one(LINES, "storm-share", "PERCENT", "100", "How many of the devices a storm hits"),
    one(LINES, "churn-seconds", "N", "0", "The mean time between two reconnections that a device makes for no reason; 0: it makes none"),
    one(LINES, "slow-share", "PERCENT", "0", "How many of the devices have a slow line"),
    one(LINES, "slow-delay-ms", "MS", "300", "What each message takes on a slow line"),
    one(LINES, "slow-bytes-per-second", "N", "10000", "How fast a slow line is"),
    one(LINES, "io-timeout-seconds", "N", "30", "How long a connection, a write or the next piece of a download may take"),
    one(DOING, "mix", "LIST", "", "How many percent of the devices do not behave well, such as fails-download=2,silent=1; the others do. There are: good, fails-upgrade, fails-download, fails-verification, fails-flashing (burning), slow, late, wrong-version, reverts (boots the old version once), stays-old (always), silent (never answers), puller (asks only), flaky (disconnects in mid-update), loses-power, rolls-back, forgetful"),
    one(DOING, "download", "KIND", "whole", "whole: downloads and verifies the digest; head: asks for the headers only; none: reports as if it downloaded"),
    one(DOING, "download-rate", "BYTES", "0", "How fast the line of each device is, in bytes a second; 0: as fast as it goes"),
    one(DOING, "range-bytes", "N", "0", "Downloads in ranges of so many bytes; 0: in one"),
    one(DOING, "max-downloads", "N", "1000", "Downloads at the same time; the others wait. Each takes a descriptor"),
    one(DOING, "report-every", "PERCENT", "10", "Progress is reported when it has grown by so many percent"),
    one(DOING, "think-ms", "MS", "0", "From a push to the first report"),
    one(DOING, "step-ms", "MS", "1000", "Between two reports of a device that does not download"),
    one(DOING, "install-ms", "MS", "2000", "From the end of the download to the reboot"),
    one(DOING, "reboot-ms", "MS", "5000", "How long a reboot takes, with up to a quarter more by chance"),
    one(ROLLOUT, "rollout", "", "", "Makes a package of random bytes and a static batch, and follows it until all devices have ended; needs --api. At the end what the server says of each task is compared with what its device lived through"),
    one(ROLLOUT, "package-bytes", "N", "1048576", "The size of the package"),
    one(ROLLOUT, "target", "KIND", "all", "all: the batch is over all devices of the product; list: over an uploaded list of these devices"),
    one(ROLLOUT, "per-minute", "N", "10000", "MaximumPerMinute of the batch, 10 to 10000; whether it was kept is seen by the arrival of the pushes"),
    one(ROLLOUT, "task-timeout-minutes", "N", "0", "TimeoutInMinutes of the batch, 1 to 1440; 0: none. It begins with a device's first report: those that never answer are not waited for, and those that stay with the old version not without it"),
    one(RUN, "seconds", "N", "0", "Ends after so many seconds; 0: when the rollout has ended, or on Ctrl-C"),
    one(RUN, "json", "FILE", "", "Writes all figures there: percentiles, errors, outages, a row for each second"),
];

impl Opt {
    fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Its flag.
    pub fn arg(&self) -> Arg {
        let arg = Arg::new(self.name).long(self.name).help_heading(self.heading);
        if self.value.is_empty() {
            return arg.action(ArgAction::SetTrue).help(self.help);
        }
        let action = if self.many { ArgAction::Append } else { ArgAction::Set };
        let shown =
            if self.default.is_empty() { String::new() } else { format!(" [default: {}]", self.default) };
        arg.value_name(self.value).action(action).help(format!("{}{shown}", self.help))
    }
}

/// What was given, by flags, by the file, or by default.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given(BTreeMap<&'static str, Vec<String>>);

impl Given {
    /// Gathers it; `file` is a scenario file.
    pub fn gather(args: &ArgMatches, file: Option<&Path>) -> anyhow::Result<Self> {
        let scenario = match file {
            None => toml::Table::new(),
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("cannot read the scenario {}", file.display()))?;
                text.parse().with_context(|| format!("the scenario {} is no TOML", file.display()))?
            }
        };
        Self::of(scenario, |opt| {
            if opt.value.is_empty() {
                return args.get_flag(opt.name).then(|| vec!["true".to_owned()]);
            }
            args.get_many::<String>(opt.name).map(|values| values.cloned().collect())
        })
    }

    fn of(mut scenario: toml::Table, flag: impl Fn(&Opt) -> Option<Vec<String>>) -> anyhow::Result<Self> {
        let mut given = BTreeMap::new();
        for opt in OPTIONS {
            let of_file = scenario.remove(&opt.key()).map(|value| texts(opt, &value)).transpose()?;
            let default = || if opt.default.is_empty() { Vec::new() } else { vec![opt.default.to_owned()] };
            given.insert(opt.name, flag(opt).or(of_file).unwrap_or_else(default));
        }
        if let Some(key) = scenario.keys().next() {
            bail!("the scenario has the key `{key}`, which means nothing; --help has all flags, with dashes");
        }
        Ok(Self(given))
    }

    /// The values of something that may be given several times.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Its value, if it has one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// A number between two others.
    pub fn number<T>(&self, name: &str, least: T, most: T) -> anyhow::Result<T>
    where
        T: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let text = self.text(name).unwrap_or_default();
        let number = text.parse::<T>().ok().filter(|number| (least..=most).contains(number));
        number.with_context(|| format!("--{name} is `{text}`; it must be a number from {least} to {most}"))
    }

    /// What it all is, for the report.
    pub fn as_json(&self) -> serde_json::Value {
        let shown = OPTIONS.iter().filter_map(|opt| {
            let values = self.0.get(opt.name).filter(|values| !values.is_empty())?;
            let value = if opt.many { values.clone().into() } else { values.first().cloned().into() };
            Some((opt.key(), value))
        });
        serde_json::Value::Object(shown.collect())
    }
}

fn texts(opt: &Opt, value: &toml::Value) -> anyhow::Result<Vec<String>> {
    if let (toml::Value::Array(list), true) = (value, opt.many) {
        return list.iter().map(|value| scalar(opt, value)).collect();
    }
    Ok(vec![scalar(opt, value)?])
}

fn scalar(opt: &Opt, value: &toml::Value) -> anyhow::Result<String> {
    let switch = opt.value.is_empty();
    ensure!(switch == value.is_bool(), "`{}` of the scenario has the wrong type: {value}", opt.key());
    Ok(match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(yes) => yes.to_string(),
        _ => bail!("`{}` of the scenario has the wrong type: {value}", opt.key()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(toml: &str, flags: &[(&str, &str)]) -> anyhow::Result<Given> {
        Given::of(toml.parse().unwrap(), |opt| {
            let found: Vec<String> = flags
                .iter()
                .filter(|(name, _)| *name == opt.name)
                .map(|(_, value)| (*value).to_owned())
                .collect();
            (!found.is_empty()).then_some(found)
        })
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let given =
            of("devices = 7\nmqtt = [\"a:1\", \"b:2\"]\ntls = true\nseed = 3", &[("seed", "9")]).unwrap();
        assert_eq!(given.number("devices", 1, 100).unwrap(), 7);
        assert_eq!(given.all("mqtt"), ["a:1", "b:2"]);
        assert!(given.is_on("tls") && !given.is_on("rollout"));
        assert_eq!(given.number("seed", 0_u64, u64::MAX).unwrap(), 9);
        assert_eq!(given.text("product"), Some("simulated"));
        assert_eq!(given.text("json"), None);
    }

    #[test]
    fn mistakes_are_named() {
        let why = |toml: &str| of(toml, &[]).unwrap_err().to_string();
        assert!(why("devises = 7").contains("`devises`"));
        assert!(why("tls = 1").contains("`tls`"));
        assert!(why("devices = true").contains("`devices`"));
        assert!(why("devices = [1]").contains("`devices`"));
        let given = of("devices = -1", &[]).unwrap();
        assert!(given.number("devices", 1_u32, 5).unwrap_err().to_string().contains("--devices is `-1`"));
    }
}
