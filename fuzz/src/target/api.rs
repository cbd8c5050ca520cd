//! Signed calls: the parameters are changed first and signed afterwards, so that they reach the operations.
//!
//! An input is text: `POST acs3 XML Action?Name=value&…`, names and values percent-encoded, with placeholders
//! for things that exist. Seeds are made from the table of operations and `docs/api/operations.json`, so a
//! new operation is fuzzed without being named here.

use super::{Target, tokens};
use crate::dice::Dice;
use crate::mutate::{any_number, mutate};
use crate::world::{Manner, Pairs, World, class};
use crate::{Broken, answer, corpus, shown};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use updraft_server::api::OPERATIONS;

/// Numbers and last changes of everything that calls can change, as one text.
const STATE: &str = "SELECT printf('%d %d %d %d %d %d %d %d %d %d',
    (SELECT COUNT(*) FROM product), (SELECT COUNT(*) FROM device), (SELECT COUNT(*) FROM device_version),
    (SELECT COUNT(*) FROM file), (SELECT COUNT(*) FROM file WHERE firmware IS NOT NULL),
    (SELECT COALESCE(SUM(modified_at + status), 0) FROM firmware), (SELECT COUNT(*) FROM firmware),
    (SELECT COALESCE(SUM(modified_at + status + cancel_mask + task_count), 0) FROM job), (SELECT COUNT(*) FROM job),
    (SELECT COALESCE(SUM(revision), 0) FROM task))";

/// Inputs before the placeholders stand for new things.
const REFRESH_EVERY: u32 = 60;
/// A refusal that seems to have changed something is asked again: it may have been the engine.
const ASK_AGAIN: u32 = 4;

/// The target.
pub struct Api {
    world: World,
    tokens: Vec<Vec<u8>>,
    names: Vec<String>,
    since_refresh: u32,
    succeeded: BTreeSet<String>,
}

/// A call as an input says it.
#[derive(Debug, Clone)]
struct Asked {
    manner: Manner,
    action: String,
    params: Pairs,
}

fn catalogue() -> Value {
    serde_json::from_str(include_str!("../../../docs/api/operations.json")).unwrap_or_default()
}

impl Asked {
    fn read(input: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(input);
        let (head, query) = text.split_once('?')?;
        let words: Vec<&str> = head.split(' ').collect();
        let [method, scheme, format, action] = words[..] else { return None };
        let manner = Manner { post: method == "POST", acs3: scheme == "acs3", xml: format == "XML" };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        };
        let params = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
        // An action is part of the head: letters only, or the request would be another.
        let action = action.chars().filter(char::is_ascii_alphanumeric).collect();
        Some(Self { manner, action, params })
    }

    fn write(&self) -> Vec<u8> {
        let Manner { post, acs3, xml } = self.manner;
        let head = format!(
            "{} {} {} {}?",
            if post { "POST" } else { "GET" },
            if acs3 { "acs3" } else { "v1" },
            if xml { "XML" } else { "JSON" },
            self.action
        );
        let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs: Vec<String> =
            self.params.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        (head + &pairs.join("&")).into_bytes()
    }
}

/// A plausible value of a parameter.
fn value(name: &str, kind: &str, creates: bool) -> String {
    let known = match name {
        "ProductKey" => "{product}",
        "DeviceName" if creates => "device-{n}",
        "DeviceName" | "TargetDeviceName" | "DeviceNames" => "{device}",
        "IotId" => "{iotid}",
        "FirmwareId" => "{firmware}",
        "JobId" => "{job}",
        "TaskId" => "{task}",
        "FirmwareUrl" => "{file}",
        "ProductName" => "product_{n}",
        "FirmwareName" => "package_{n}",
        "DestVersion" => "3.0.{n}",
        "SrcVersion" => "1.0.0",
        "TargetSelection" => "SPECIFIC",
        "NodeType" | "Type" => "0",
        "FileSuffix" => "bin",
        "PageSize" | "RetryInterval" => "10",
        "MaximumPerMinute" => "100",
        "TimeoutInMinutes" => "60",
        "NeedToVerify" => "false",
        _ if kind == "boolean" => "true",
        _ if kind == "integer" || kind == "long" => "1",
        _ => "text_{n}",
    };
    known.to_owned()
}

/// The valid and nearly valid calls of an operation that the catalogue describes.
fn calls(operation: &updraft_server::api::Operation, entry: &Value) -> Vec<Asked> {
    let creates = ["Create", "Register", "Add", "Batch"].iter().any(|word| operation.name.starts_with(word));
    let refused: BTreeSet<&str> = operation.not_served.iter().map(|(name, _)| *name).collect();
    let (mut needed, mut optional) = (Pairs::new(), Vec::new());
    for parameter in entry["request"].as_array().into_iter().flatten() {
        let (name, kind) = (parameter["name"].as_str().unwrap_or_default(), parameter["type"].as_str());
        let kind = kind.unwrap_or_default();
        let given: Pairs = match (parameter["repeated"] == true, parameter["fields"].as_object()) {
            (true, Some(fields)) => {
                fields.keys().map(|field| (format!("{name}.1.{field}"), format!("v{field}"))).collect()
            }
            (true, None) => vec![(format!("{name}.1"), value(name, kind, creates))],
            _ => vec![(name.to_owned(), value(name, kind, creates))],
        };
        if operation.required.contains(&name) {
            needed.extend(given);
        } else if !refused.contains(name) && name != "IotInstanceId" {
            optional.push(given);
        }
    }
    let with = |more: &[Pairs], manner: Manner| Asked {
        manner,
        action: operation.name.to_owned(),
        params: needed.iter().cloned().chain(more.iter().flatten().cloned()).collect(),
    };
    let plain = crate::world::PLAIN;
    let mut all = vec![with(&[], plain), with(&optional, Manner { post: true, acs3: false, xml: true })];
    let acs3 = Manner { post: false, acs3: true, xml: false };
    all.extend(optional.iter().map(|given| with(std::slice::from_ref(given), acs3)));
    all
}

impl Api {
    pub fn new() -> Result<Self, Broken> {
        let catalogue = catalogue();
        let mut names = BTreeSet::new();
        for parameter in catalogue["operations"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|entry| entry["request"].as_array().into_iter().flatten())
        {
            names.extend(parameter["name"].as_str().map(str::to_owned));
        }
        let tokens = tokens(&[
            "true",
            "False",
            "1.0.0",
            "..",
            "é",
            "中文",
            "\\xe2\\x80\\xae",
            "\\x00",
            "%",
            "'",
            "\"",
            "<a>",
            "&amp;",
            "]]>",
            "{product}",
            "{device}",
            "{firmware}",
            "{job}",
            "{task}",
            "{file}",
            "{iotid}",
            "{n}",
            "_ - @ . :",
            "SPECIFIC",
            "ALL",
            "GRAY",
            "STATIC",
            "2147483648",
            "../../etc",
            "\\xf0\\x9f\\x98\\x80",
            ";--",
        ]);
        let names = names.into_iter().collect();
        Ok(Self { world: World::start()?, tokens, names, since_refresh: 0, succeeded: BTreeSet::new() })
    }

    fn change(&self, dice: &mut Dice, asked: &mut Asked, other: &Asked) {
        let at = dice.below(asked.params.len());
        let choice = dice.below(10);
        match choice {
            0..=4 if !asked.params.is_empty() => {
                let value = mutate(dice, asked.params[at].1.as_bytes(), b"splice", &self.tokens);
                asked.params[at].1 = String::from_utf8_lossy(&value).into_owned();
            }
            5 if !asked.params.is_empty() => asked.params[at].1 = any_number(dice).to_owned(),
            6 if !asked.params.is_empty() => drop(asked.params.remove(at)),
            7 if !asked.params.is_empty() => {
                let tails =
                    [".0", ".1", ".2", ".18446744073709551616", ".1.Key", ".1.1", ".", "..", ".-1", ".101"];
                let name = format!("{}{}", asked.params[at].0, dice.pick(&tails));
                asked.params.push((name, asked.params[at].1.clone()));
            }
            8 => {
                let name = dice.pick(&self.names).clone();
                let value = String::from_utf8_lossy(dice.pick::<Vec<u8>>(&self.tokens)).into_owned();
                asked.params.push((name, value));
            }
            _ => asked.params.extend(other.params.iter().take(1 + dice.below(4)).cloned()),
        }
        // Many of one thing.
        if dice.once_in(200) && !asked.params.is_empty() {
            let (name, value) = asked.params[at % asked.params.len()].clone();
            let stem = name.split('.').next().unwrap_or_default().to_owned();
            asked.params.extend((1..=300).map(|number| (format!("{stem}.{number}"), value.clone())));
        }
    }

    /// What changes when a call changes anything but the audit log, which refused calls leave a line in too.
    fn state(&self) -> Result<String, Broken> {
        self.world
            .eye
            .query_row(STATE, [], |row| row.get(0))
            .map_err(|error| Broken::new("the database cannot be read", error))
    }

    fn placed(&mut self, params: &Pairs) -> Pairs {
        let mut place = |text: &str| {
            String::from_utf8_lossy(&self.world.place(text.as_bytes(), &Value::Null)).into_owned()
        };
        let mut unique = BTreeMap::new();
        for (name, value) in params {
            unique.insert(place(name), place(value));
        }
        // Our own client may not send what would not be one request any more.
        unique.into_iter().filter(|(name, _)| !name.is_empty()).collect()
    }
}

impl Target for Api {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let catalogue = catalogue();
        let entries: Vec<&Value> = catalogue["operations"].as_array().into_iter().flatten().collect();
        let mut all = Vec::new();
        for operation in OPERATIONS {
            let entry = entries.iter().find(|entry| entry["name"] == operation.name);
            all.extend(calls(operation, entry.unwrap_or(&&Value::Null)).iter().map(Asked::write));
        }
        let text = include_str!("../../corpus/api.txt");
        all.extend(corpus::blocks(text).iter().map(|lines| lines.concat().into_bytes()));
        all
    }

    fn mutate(&self, dice: &mut Dice, entry: &[u8], other: &[u8]) -> Vec<u8> {
        let (Some(mut asked), Some(other)) = (Asked::read(entry), Asked::read(other)) else {
            return mutate(dice, entry, other, &self.tokens);
        };
        for _ in 0..=dice.below(4) {
            self.change(dice, &mut asked, &other);
        }
        if dice.once_in(6) {
            asked.manner = Manner { post: dice.once_in(2), acs3: dice.once_in(2), xml: dice.once_in(2) };
        }
        if dice.once_in(50) {
            asked.action = other.action;
        }
        asked.write()
    }

    fn attempt(&mut self, input: &[u8]) -> Result<String, Broken> {
        self.since_refresh += 1;
        if self.since_refresh >= REFRESH_EVERY {
            self.since_refresh = 0;
            self.world.refresh()?;
        }
        let Some(asked) = Asked::read(input) else { return Ok("unreadable".to_owned()) };
        let mut asks = 0;
        loop {
            asks += 1;
            let params = self.placed(&asked.params);
            let before = self.state()?;
            let reply = self.world.send(asked.manner, &asked.action, &params)?;
            if reply.header("x-acs-request-id").is_none() {
                // HTTP itself refuses: the request line is too long, say.
                return super::http::judge(&reply);
            }
            let said = answer::judge(&reply)?;
            if said.success {
                self.succeeded.insert(asked.action.clone());
            } else if self.state()? != before {
                if asks < ASK_AGAIN {
                    continue;
                }
                return Err(Broken::new("a refusal changes the database", shown(&reply.body)));
            }
            return Ok(format!("{} {}", asked.action, class(&reply)?));
        }
    }

    fn check(&mut self) -> Result<(), Broken> {
        self.world.check()
    }

    fn renew(&mut self) -> Result<(), Broken> {
        self.world = World::start()?;
        Ok(())
    }

    fn remarks(&mut self) -> Vec<String> {
        let never: Vec<&str> = OPERATIONS
            .iter()
            .map(|operation| operation.name)
            .filter(|name| !self.succeeded.contains(*name))
            .collect();
        let all = OPERATIONS.len();
        let mut remarks = vec![format!("{} of {all} operations succeeded at least once", all - never.len())];
        if !never.is_empty() {
            remarks.push(format!("never successful: {}", never.join(", ")));
        }
        remarks
    }
}
