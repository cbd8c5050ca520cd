//! What a logged-in device publishes, down to the engine and the database: inform, progress, firmware get.
//!
//! An input is a list of messages, parted by 0x1e; each is `KIND QOS`, a line feed, and the payload. A kind
//! is `inform`, `progress`, `get`, `raw` (the payload is sent as it is), or a topic.

use super::{Target, tokens};
use crate::dice::Dice;
use crate::mqtt::{self, Device};
use crate::mutate::mutate;
use crate::world::{Things, World};
use crate::{Broken, corpus, shown};
use serde_json::Value;
use std::collections::BTreeSet;

const BETWEEN: u8 = 0x1e;
const PING: [u8; 2] = [0xc0, 0];
const PONG: u8 = 0xd0;
/// Inputs before there is a new batch for the device.
const BATCH_EVERY: u32 = 25;
/// Longest payload that is accepted.
const PAYLOAD_MAX: usize = updraft_core::limits::MQTT_PAYLOAD_BYTES_MAX;

/// The target.
pub struct Uplink {
    world: World,
    device: Option<Device>,
    tokens: Vec<Vec<u8>>,
    since_batch: u32,
    /// The last batch and what its task was, once it had ended.
    ended: Option<(String, i64)>,
}

/// The messages of an input as one stream.
struct Sent {
    bytes: Vec<u8>,
    /// Packet ids that must be acknowledged.
    ids: Vec<u16>,
    /// Whether the server may end the connection over it.
    may_close: bool,
}

impl Uplink {
    pub fn new() -> Result<Self, Broken> {
        let tokens = tokens(&[
            "\"params\":",
            "\"version\":\"",
            "\"step\":",
            "\"module\":\"",
            "\"id\":",
            "\"fileToken\":\"",
            "\"fileInfo\":{\"streamId\":",
            "\"fileId\":1,}",
            "\"fileBlock\":{\"size\":256,\"offset\":",
            "\\x1edownload 0\\n",
            "\"desc\":\"",
            "\\\\u0000",
            "\\\\ud800",
            "{\"a\":",
            "[[[[",
            "null",
            "-1",
            "100",
            "\\x1eprogress 1\\n",
            "\\x1einform 1\\n",
            "\\x1eget 1\\n",
            "\\x1eraw 0\\n",
            "\\xed\\xa0\\x80",
            "\\x00",
            "default",
            "2.0.0",
        ]);
        Ok(Self { world: World::start()?, device: None, tokens, since_batch: 0, ended: None })
    }

    fn stream(&self, input: &[u8]) -> Sent {
        let Things { product, device, .. } = &self.world.things;
        let mut sent = Sent { bytes: Vec::new(), ids: Vec::new(), may_close: false };
        for message in input.split(|byte| *byte == BETWEEN) {
            let end = message.iter().position(|byte| *byte == b'\n').unwrap_or(message.len());
            let head = String::from_utf8_lossy(&message[..end]).into_owned();
            let payload = &message[(end + 1).min(message.len())..];
            let (kind, qos) = head.rsplit_once(' ').unwrap_or((&head, "1"));
            let own = |before: &str, after: &str| format!("{before}{product}/{device}{after}");
            let topic = match kind {
                "inform" | "progress" => own(&format!("/ota/device/{kind}/"), ""),
                "get" => own("/sys/", "/thing/ota/firmware/get"),
                "download" => own("/sys/", "/thing/file/download"),
                "raw" => {
                    sent.bytes.extend(payload);
                    sent.may_close = true;
                    continue;
                }
                other => {
                    sent.may_close = true;
                    other.replace("{pk}", product).replace("{dn}", device)
                }
            };
            sent.may_close |= payload.len() > PAYLOAD_MAX;
            let id = (qos != "0").then(|| sent.ids.len() as u16 + 1);
            sent.ids.extend(id);
            sent.bytes.extend(mqtt::publish(&topic, id, payload));
        }
        sent.bytes.extend(PING);
        sent
    }

    /// Reads until the answer to our ping; acknowledges what is pushed.
    fn answers(&mut self, sent: &Sent) -> Result<BTreeSet<String>, Broken> {
        let mut kinds = BTreeSet::new();
        let mut open: BTreeSet<u16> = sent.ids.iter().copied().collect();
        let Some(device) = &mut self.device else { return Ok(kinds) };
        loop {
            let Some(packet) = device.receive()? else {
                self.device = None;
                kinds.insert("closed".to_owned());
                if sent.may_close {
                    return Ok(kinds);
                }
                return Err(Broken::new("a message ends the connection", shown(&sent.bytes)));
            };
            if packet.0 == PONG && !sent.may_close {
                break;
            }
            if let (0x40, [high, low]) = (packet.0, &packet.1[..]) {
                open.remove(&u16::from_be_bytes([*high, *low]));
                kinds.insert("puback".to_owned());
            } else if let Some((topic, id, payload)) = mqtt::message(&packet) {
                if let Some(id) = id {
                    device.send(&mqtt::packet(0x40, &id.to_be_bytes()));
                }
                kinds.insert(downlink(&topic, &payload)?);
            }
        }
        if open.is_empty() || sent.may_close {
            return Ok(kinds);
        }
        Err(Broken::new("a message is not acknowledged", shown(&sent.bytes)))
    }

    /// The device's newest task; what has ended must stay so.
    fn task(&mut self) -> Result<i64, Broken> {
        let sql =
            "SELECT task.status, task.progress FROM task JOIN job ON job.id = task.job WHERE job.job_id = ?1";
        let job = self.world.things.job.clone();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let (status, progress) = self
            .world
            .eye
            .query_row(sql, [&job], row)
            .map_err(|error| Broken::new("the database cannot be read", error))?;
        if !(0..=100).contains(&progress) {
            return Err(Broken::new("a progress out of range", progress));
        }
        if let Some((of, before)) = &self.ended
            && *of == job
            && *before != status
        {
            return Err(Broken::new("a final state was left", format!("{before} → {status}")));
        }
        self.ended = (status >= 4).then_some((job, status));
        Ok(status)
    }
}

/// Judges a message of the server; answers its kind.
fn downlink(topic: &str, payload: &[u8]) -> Result<String, Broken> {
    if topic.ends_with("/thing/file/download_reply") {
        return block(payload);
    }
    let json: Value = serde_json::from_slice(payload)
        .map_err(|error| Broken::new("a downlink is not JSON", format!("{error}: {}", shown(payload))))?;
    // Older SDKs ask on /ota/device/request and are answered there, in the form of a push.
    if topic.starts_with("/ota/device/request/") && json["message"].is_string() {
        return Ok(format!("old reply {}", json["code"]));
    }
    if topic.starts_with("/ota/device/upgrade/") && json["code"] == "1000" && json["data"]["size"].is_i64() {
        return Ok("push".to_owned());
    }
    if topic.ends_with("/thing/ota/firmware/get_reply") && json["code"] == 200 && json["data"].is_object() {
        let some = if json["data"]["version"].is_string() { "a package" } else { "nothing" };
        return Ok(format!("reply with {some}"));
    }
    Err(Broken::new("a strange downlink", format!("{topic}: {}", shown(payload))))
}

/// Judges an answer to a question for a block: the length of its text, the text, and nothing else, as the batch is
/// not for downloads by MQTT.
fn block(payload: &[u8]) -> Result<String, Broken> {
    let text = payload
        .split_first_chunk()
        .and_then(|(length, rest)| (usize::from(u16::from_be_bytes(*length)) == rest.len()).then_some(rest));
    let json: Option<Value> = text.and_then(|text| serde_json::from_slice(text).ok());
    let code = json.as_ref().and_then(|json| json["code"].as_i64());
    match code {
        Some(404) => Ok("no block".to_owned()),
        _ => Err(Broken::new("a strange block", shown(payload))),
    }
}

impl Target for Uplink {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let text = include_str!("../../corpus/uplink.txt");
        let message = |line: &&str| {
            let (head, payload) = line.split_once(" :: ").unwrap_or((line, ""));
            [head.as_bytes(), b"\n", &corpus::bytes(payload)].concat()
        };
        corpus::blocks(text)
            .iter()
            .map(|lines| lines.iter().map(message).collect::<Vec<_>>().join(&BETWEEN))
            .collect()
    }

    fn mutate(&self, dice: &mut Dice, entry: &[u8], other: &[u8]) -> Vec<u8> {
        mutate(dice, entry, other, &self.tokens)
    }

    fn attempt(&mut self, input: &[u8]) -> Result<String, Broken> {
        if self.since_batch == BATCH_EVERY {
            self.since_batch = 0;
            let job = self.world.things.job.clone();
            self.world.ok(
                "CancelOTATaskByJob",
                &[
                    ("JobId", &job),
                    ("CancelQueuedTask", "true"),
                    ("CancelNotifiedTask", "true"),
                    ("CancelInProgressTask", "true"),
                ],
            )?;
            self.world.refresh_job()?;
        }
        self.since_batch += 1;
        if self.device.is_none() {
            self.device = Some(Device::login(self.world.mqtt, &self.world.login())?);
        }
        // The version that the batch leads to is the last of all.
        let input = self.world.place(input, &Value::Null);
        let sent = self.stream(&input);
        if let Some(device) = &mut self.device {
            device.send(&sent.bytes);
            if sent.may_close {
                // Raw bytes may announce more than comes, or hold a ping of their own: read to the end instead.
                device.finish();
            }
        }
        let kinds: Vec<String> = self.answers(&sent)?.into_iter().collect();
        if sent.may_close {
            self.device = None;
        }
        Ok(format!("{} task {}", kinds.join(", "), self.task()?))
    }

    fn check(&mut self) -> Result<(), Broken> {
        self.device = None;
        self.since_batch = 0;
        self.world.check()
    }

    fn renew(&mut self) -> Result<(), Broken> {
        *self = Self::new()?;
        Ok(())
    }
}
