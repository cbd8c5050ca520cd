//! The simulated way down to devices: sessions with the server's own mailboxes, and a record of everything
//! that the engine decided to send.

use crate::net::ConnNo;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use updraft_core::id::{DeviceNo, TaskNo};
use updraft_server::device::link::{DeviceLink, Downlink};
use updraft_server::device::mailbox::{Mailbox, Subscribed};
use updraft_server::device::topic::{DownTopic, Owner};

/// One login on the server.
struct Session {
    conn: ConnNo,
    number: i64,
    product_key: String,
    device_name: String,
    mailbox: Mailbox,
    /// Whether it is logged in through a gateway.
    through: bool,
}

impl Session {
    fn parts(&mut self) -> (Owner<'_>, &mut Mailbox) {
        (Owner { product_key: &self.product_key, device_name: &self.device_name }, &mut self.mailbox)
    }
}

#[derive(Default)]
struct State {
    sessions: BTreeMap<DeviceNo, Session>,
    next_number: i64,
    /// The server is about to die: what it decides from now on reaches nobody.
    deaf: bool,
    /// Something did reach nobody.
    missed: bool,
    decided: Vec<(DeviceNo, Downlink)>,
    kicked: Vec<Kicked>,
}

/// A session that the server ended.
pub(crate) struct Kicked {
    pub(crate) device: DeviceNo,
    pub(crate) conn: ConnNo,
    /// The login's number.
    pub(crate) number: i64,
}

/// All sessions of one run of the server.
pub(crate) struct SimLink(Mutex<State>);

impl SimLink {
    /// An empty registry; logins are numbered from `first_number` on.
    pub(crate) fn new(first_number: i64) -> Self {
        Self(Mutex::new(State { next_number: first_number, ..State::default() }))
    }

    /// Registers a login; answers its number and the connection that it took over.
    pub(crate) fn insert(
        &self,
        device: DeviceNo,
        conn: ConnNo,
        owner: Owner<'_>,
        auto_subscribe: bool,
    ) -> (i64, Option<ConnNo>) {
        let mut state = self.0.lock();
        let number = state.next_number;
        state.next_number += 1;
        let session = Session {
            conn,
            number,
            product_key: owner.product_key.to_owned(),
            device_name: owner.device_name.to_owned(),
            mailbox: Mailbox::new(auto_subscribe),
            through: false,
        };
        (number, state.sessions.insert(device, session).map(|old| old.conn))
    }

    /// Notes that a device is logged in through a gateway.
    pub(crate) fn log_in_behind(&self, device: DeviceNo) {
        if let Some(session) = self.0.lock().sessions.get_mut(&device) {
            session.through = true;
        }
    }

    /// Takes a connection's session out, unless a newer login has its place; answers the login's number.
    pub(crate) fn remove(&self, device: DeviceNo, conn: ConnNo) -> Option<i64> {
        let mut state = self.0.lock();
        let number = state.sessions.get(&device).filter(|session| session.conn == conn)?.number;
        state.sessions.remove(&device);
        Some(number)
    }

    /// Takes a subscription.
    pub(crate) fn subscribe(&self, device: DeviceNo, filter: &str) -> Option<Subscribed> {
        let mut state = self.0.lock();
        let (owner, mailbox) = state.sessions.get_mut(&device)?.parts();
        Some(mailbox.subscribe(owner, filter))
    }

    /// The connection of a device's session.
    pub(crate) fn conn(&self, device: DeviceNo) -> Option<ConnNo> {
        self.0.lock().sessions.get(&device).map(|session| session.conn)
    }

    /// The next message that a session has for the network, if its window allows one.
    pub(crate) fn next(&self, device: DeviceNo, push_too: bool) -> Option<(ConnNo, Downlink)> {
        let mut state = self.0.lock();
        let session = state.sessions.get_mut(&device)?;
        session.mailbox.next(push_too).map(|message| (session.conn, message))
    }

    /// From now on nothing that is decided has an effect, or it has again.
    pub(crate) fn deafen(&self, deaf: bool) {
        self.0.lock().deaf = deaf;
    }

    /// Whether something had no effect.
    pub(crate) fn has_missed(&self) -> bool {
        self.0.lock().missed
    }

    /// What was decided since the last call, whether or not it reached anybody.
    pub(crate) fn take_decided(&self) -> Vec<(DeviceNo, Downlink)> {
        std::mem::take(&mut self.0.lock().decided)
    }

    /// The sessions that were ended since the last call.
    pub(crate) fn take_kicked(&self) -> Vec<Kicked> {
        std::mem::take(&mut self.0.lock().kicked)
    }
}

impl DeviceLink for SimLink {
    fn listening(&self, device: DeviceNo) -> bool {
        let mut state = self.0.lock();
        state.sessions.get_mut(&device).is_some_and(|session| {
            let (owner, mailbox) = session.parts();
            mailbox.delivers(owner, DownTopic::Upgrade)
        })
    }

    fn send(&self, device: DeviceNo, downlink: Downlink) {
        let mut state = self.0.lock();
        state.decided.push((device, downlink.clone()));
        state.missed |= state.deaf;
        if !state.deaf
            && let Some(session) = state.sessions.get_mut(&device)
        {
            let (owner, mailbox) = session.parts();
            mailbox.post(owner, downlink);
        }
    }

    fn withdraw(&self, device: DeviceNo, task: TaskNo, revision: i64) {
        let mut state = self.0.lock();
        state.missed |= state.deaf;
        if !state.deaf
            && let Some(session) = state.sessions.get_mut(&device)
        {
            session.mailbox.withdraw(task, revision);
        }
    }

    fn log_out(&self, device: DeviceNo) {
        let through = self.0.lock().sessions.get(&device).is_some_and(|session| session.through);
        if through {
            self.kick(device);
        }
    }

    fn kick(&self, device: DeviceNo) {
        let mut state = self.0.lock();
        state.missed |= state.deaf;
        if !state.deaf
            && let Some(Session { conn, number, .. }) = state.sessions.remove(&device)
        {
            state.kicked.push(Kicked { device, conn, number });
        }
    }
}
