//! What one node leaves for another: something to do about a device that is connected there.
//!
//! It is written in the transaction of the change that it follows from, so it is not lost; and a node that ends has no
//! connections left that it could be about.

use crate::app::App;
use crate::device::link::Downlink;
use crate::engine::advance::Effects;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use updraft_core::id::{DeviceNo, JobNo, TaskNo};
use updraft_store::{DevicePlace, Lane, Mail, StoreError, Tx};

/// Mails that are taken at once.
const TAKEN_MAX: i64 = 1_000;

/// What is to be done about a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// End its connection, and forget what it left behind.
    Kick,
    /// End its session behind a gateway.
    LogOut,
    /// End this login: the device has logged in elsewhere.
    End {
        /// The login's number.
        session: i64,
    },
    /// Take back what was decided for a task before this revision.
    Withdraw {
        /// The task's batch.
        job: i64,
        /// Its place in it.
        ordinal: i64,
        /// The revision.
        revision: i64,
    },
    /// Send it a message.
    Message {
        /// The topic, in full.
        topic: String,
        /// The message, in base64.
        payload: String,
        /// Whether it waits for the device in a session that is kept.
        kept: bool,
        /// Whether it needs no subscription.
        answer: bool,
    },
}

/// Leaves for other nodes what the effects of a transaction want done there.
pub fn post(tx: &mut Tx<'_>, app: &App, effects: &mut Effects) -> Result<(), StoreError> {
    if !app.nodes.is_shared() {
        return Ok(());
    }
    let notes = notes(effects);
    if notes.is_empty() {
        return Ok(());
    }
    let mut devices: Vec<DeviceNo> = notes.iter().map(|(device, _)| *device).collect();
    devices.sort_unstable();
    devices.dedup();
    let places = places(tx, &devices)?;
    let mails = notes.iter().filter_map(|(device, note)| {
        let node = places.get(device)?.node();
        app.nodes.is_other(node).then(|| mail(node, *device, note))
    });
    let mails: Vec<Mail> = mails.collect();
    effects.mailed |= !mails.is_empty();
    tx.mail_post(&mails)
}

/// Leaves the end of logins for the nodes that have them: their devices have logged in here.
pub fn take_over(tx: &mut Tx<'_>, app: &App, devices: &[DeviceNo]) -> Result<bool, StoreError> {
    if !app.nodes.is_shared() {
        return Ok(false);
    }
    let places = places(tx, devices)?;
    let elsewhere = places.values().filter(|place| place.online && app.nodes.is_other(place.node()));
    let mails: Vec<Mail> = elsewhere
        .map(|place| mail(place.node(), place.device, &Note::End { session: place.session }))
        .collect();
    tx.mail_post(&mails)?;
    Ok(!mails.is_empty())
}

/// Where devices are, or were the last time.
pub fn places(tx: &mut Tx<'_>, devices: &[DeviceNo]) -> Result<BTreeMap<DeviceNo, DevicePlace>, StoreError> {
    Ok(tx.device_places(devices)?.into_iter().map(|place| (place.device, place)).collect())
}

fn mail(node: i64, device: DeviceNo, note: &Note) -> Mail {
    // Texts and numbers: it can be written.
    let body = serde_json::to_vec(note).unwrap_or_default();
    Mail { node, device, body }
}

/// What the effects want done, but for what only the node can do that the transaction runs on.
fn notes(effects: &Effects) -> Vec<(DeviceNo, Note)> {
    let mut notes: Vec<(DeviceNo, Note)> = Vec::new();
    notes.extend(effects.kicked.iter().map(|device| (*device, Note::Kick)));
    notes.extend(effects.logged_out.iter().map(|device| (*device, Note::LogOut)));
    notes.extend(effects.withdrawn.iter().map(|(device, task, revision)| {
        (*device, Note::Withdraw { job: task.job.0, ordinal: task.ordinal, revision: *revision })
    }));
    notes.extend(effects.downlinks.iter().filter_map(|(device, downlink)| match downlink {
        Downlink::Message { topic, payload, kept, answer } => {
            let payload = BASE64.encode(payload);
            Some((*device, Note::Message { topic: topic.clone(), payload, kept: *kept, answer: *answer }))
        }
        // Whoever is told of a package, or asked, is connected here.
        Downlink::Push { .. } | Downlink::PullReply { .. } => None,
    }));
    notes
}

/// Takes what was left for this node, and does it; answers whether there was something.
pub async fn take(app: &Arc<App>) -> Result<bool, StoreError> {
    let me = app.nodes.me();
    if !app.store.read(move |tx| tx.mail_waits(me)).await? {
        return Ok(false);
    }
    let shared = Arc::clone(app);
    let perform = move |mails: &Vec<(DeviceNo, Vec<u8>)>| {
        for (device, body) in mails {
            perform(&shared, *device, body);
        }
    };
    let taken =
        app.store.write_then(Lane::Interactive, move |tx| tx.mail_take(me, TAKEN_MAX), perform).await?;
    metrics::counter!("updraft_node_mails_total").increment(taken.len() as u64);
    Ok(!taken.is_empty())
}

fn perform(app: &App, device: DeviceNo, body: &[u8]) {
    let link = app.link.as_ref();
    match serde_json::from_slice(body) {
        Ok(Note::Kick) => link.kick(device),
        Ok(Note::LogOut) => link.log_out(device),
        Ok(Note::End { session }) => link.end(device, session),
        Ok(Note::Withdraw { job, ordinal, revision }) => {
            link.withdraw(device, TaskNo { job: JobNo(job), ordinal }, revision);
        }
        Ok(Note::Message { topic, payload, kept, answer }) => match BASE64.decode(payload) {
            Ok(payload) => {
                link.send(device, Downlink::Message { topic, payload: payload.into(), kept, answer });
            }
            Err(error) => tracing::error!(%error, "a message of another node cannot be read"),
        },
        // Of a newer release, which its own nodes understand.
        Err(error) => tracing::warn!(%error, "what another node left cannot be understood"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_effect_on_another_nodes_device_becomes_a_note_that_reads_back() {
        let device = DeviceNo(7);
        let task = TaskNo { job: JobNo(3), ordinal: 4 };
        let message = Downlink::Message {
            topic: "/sys/a/b/thing/topo/add/notify".to_owned(),
            payload: vec![0, 255, b'{'].into(),
            kept: true,
            answer: false,
        };
        let effects = Effects {
            kicked: vec![device],
            logged_out: vec![device],
            withdrawn: vec![(device, task, 5)],
            downlinks: vec![(device, message)],
            ..Effects::default()
        };
        let notes = notes(&effects);
        assert_eq!(notes.len(), 4);
        for (of, note) in &notes {
            let mail = mail(1, *of, note);
            assert_eq!((mail.device, &serde_json::from_slice::<Note>(&mail.body).unwrap()), (device, note));
        }
        assert!(notes.contains(&(device, Note::Withdraw { job: 3, ordinal: 4, revision: 5 })));
    }
}
