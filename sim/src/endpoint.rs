//! The server's side of connections, as `server/src/device/connection.rs` has it, without sockets: logins,
//! what devices say, groups of it for the engine, and what is written back once that is durable.

use crate::api::HOST;
use crate::invariant::Invariant;
use crate::link::Kicked;
use crate::net::{ConnNo, Down, Up};
use crate::server::Worked;
use crate::world::{Event, World};
use crate::{Violation, ensure};
use std::collections::{BTreeMap, BTreeSet};
use updraft_core::id::DeviceNo;
use updraft_core::limits::MODULES_PER_DEVICE_MAX;
use updraft_core::time::MINUTE_MS;
use updraft_fleet::ConnectInfo;
use updraft_server::device::link::{
    Backend as _, DeviceEvent, Downlink, Happened, KnownDevice, Named, Question, Unavailable,
};
use updraft_server::device::login::Login;
use updraft_server::device::topic::{DownTopic, Owner, Uplink};
use updraft_server::device::{firmware_get, inform, progress, push};
use updraft_server::engine;

/// Messages of one group.
const GROUP_MAX: usize = 100;

/// What one connection brought, and what it is owed once that is durable.
pub(crate) struct Delivery {
    pub(crate) conn: ConnNo,
    pub(crate) events: Vec<Happened>,
    pub(crate) answer: Option<Down>,
}

impl World {
    /// A message reaches the server.
    pub(crate) fn up(&mut self, no: ConnNo, message: Up) -> Result<(), Violation> {
        if !self.arrives(no, true) {
            return Ok(());
        }
        let node = self.conns[&no].node;
        let device = self.nodes[node].no;
        match message {
            Up::Dial(info) => match self.conns[&no].through {
                Some(wire) => self.admit_behind(no, wire),
                None => self.admit(no, &info),
            },
            Up::Subscribe(filters) => {
                let Some(running) = &self.server.running else { return Ok(()) };
                let began = filters
                    .iter()
                    .filter_map(|filter| running.link.subscribe(device, filter))
                    .any(|subscribed| subscribed.listening_began);
                let listening = began.then_some(Happened { device, event: DeviceEvent::Listening });
                self.deliver(Delivery { conn: no, events: listening.into_iter().collect(), answer: None });
                Ok(())
            }
            Up::Publish(topic, payload, acknowledge) => {
                let event = self.decode(node, &topic, &payload);
                let events = event.into_iter().map(|event| Happened { device, event }).collect();
                let answer = acknowledge.then_some(Down::Acknowledge);
                self.deliver(Delivery { conn: no, events, answer });
                Ok(())
            }
            Up::Acknowledge => {
                if let Some(conn) = self.conns.get_mut(&no) {
                    conn.unacknowledged = conn.unacknowledged.saturating_sub(1);
                }
                self.pump();
                Ok(())
            }
            Up::Bye => {
                self.server_gone(no);
                Ok(())
            }
        }
    }

    fn admit(&mut self, no: ConnNo, info: &ConnectInfo) -> Result<(), Violation> {
        let login = Login::parse(&info.client_id, &info.username, info.keepalive_s)
            .map_err(|refusal| Violation(format!("an honest login was refused: {refusal}")))?;
        let (key, name) = (login.product_key.to_owned(), login.device_name.to_owned());
        let found = self.work(None, |running| {
            let door = running.door.clone();
            async move { door.login(&key, &name).await }
        })?;
        let failed = found.failed;
        let Some(found) = found.value.filter(|found| !failed || found.is_ok()) else {
            self.turn_away(no);
            return Ok(());
        };
        let Some(known) = self.let_in(no, &login, info, found)? else {
            self.turn_away(no);
            return Ok(());
        };
        let auto = login.auto_subscribe || !info.clean_session;
        let owner = Owner { product_key: login.product_key, device_name: login.device_name };
        let Some(running) = &self.server.running else { return Ok(()) };
        let (session, taken_over) = running.link.insert(known.no, no, owner, auto);
        let device = known.no;
        let online = DeviceEvent::Online { session, ip: "10.0.0.1".to_owned() };
        let mut events = vec![Happened { device, event: online }];
        if auto {
            events.push(Happened { device, event: DeviceEvent::Listening });
        }
        self.deliver(Delivery { conn: no, events, answer: Some(Down::Welcome) });
        self.end_taken_over(taken_over);
        Ok(())
    }

    /// A new login has the place of this one: it ends without a word to the engine, but for those behind it.
    pub(crate) fn end_taken_over(&mut self, old: Option<ConnNo>) {
        let Some(old) = old else { return };
        if let Some(conn) = self.conns.get_mut(&old) {
            conn.server_up = false;
        }
        self.leave_behind(old);
        self.at(50, Event::ClientGone(old));
    }

    /// A connection is over, and with it the sessions of the devices behind the gateway.
    fn leave_behind(&mut self, no: ConnNo) {
        for sub in self.carried(no) {
            self.server_gone(sub);
        }
    }

    /// The device that logs in, unless it may not: only who is disabled or deleted is refused, and always.
    fn let_in(
        &self,
        no: ConnNo,
        login: &Login<'_>,
        info: &ConnectInfo,
        found: Result<Named, Unavailable>,
    ) -> Result<Option<KnownDevice>, Violation> {
        let device = self.nodes[self.conns[&no].node].no;
        let (name, deleted) = (login.device_name, self.deleted.contains(&device));
        let known = match found {
            Ok(Named::Known(known)) => known,
            Ok(Named::Deleted) if deleted => return Ok(None),
            Ok(_) | Err(Unavailable) => return Err(Violation(format!("device {name} is unknown"))),
        };
        let fits = login.verify(&known, info.password.as_bytes());
        // A later device may have the name of a deleted one, but not its secret.
        ensure((known.no == device) != deleted, || format!("device {name} is {} in the database", known.no))?;
        ensure(fits == (known.no == device), || format!("{name}'s password: {fits}, deleted: {deleted}"))?;
        let barred = self.barred.contains(&device);
        ensure(deleted || known.disabled == barred, || format!("{name} is disabled: {}", known.disabled))?;
        Ok((fits && !known.disabled).then_some(known))
    }

    pub(crate) fn turn_away(&mut self, no: ConnNo) {
        if let Some(conn) = self.conns.get_mut(&no) {
            conn.server_up = false;
        }
        self.leave_behind(no);
        // Who was deleted tries for ever: seldom, so that others come to do something.
        let deleted =
            self.conns.get(&no).is_some_and(|conn| self.deleted.contains(&self.nodes[conn.node].no));
        self.at(if deleted { 5 * MINUTE_MS } else { 100 }, Event::ClientGone(no));
    }

    /// Carries out what the server decided about connections: those that it ended are gone.
    pub(crate) fn end_kicked(&mut self) {
        let Some(running) = &self.server.running else { return };
        for Kicked { device, conn: no, number } in running.link.take_kicked() {
            self.note(format!("server ends the connection of device {device}"));
            self.turn_away(no);
            let event = DeviceEvent::Offline { session: number };
            self.deliver(Delivery { conn: no, events: vec![Happened { device, event }], answer: None });
        }
    }

    fn decode(&mut self, node: usize, topic: &str, payload: &[u8]) -> Option<DeviceEvent> {
        let node = &self.nodes[node];
        let owner = Owner { product_key: &self.products[node.product].key, device_name: &node.name };
        let decoded = match owner.uplink(topic)? {
            // Devices here download nothing.
            Uplink::Unknown | Uplink::FileDownload => return None,
            Uplink::Inform => inform::decode(payload),
            Uplink::Progress => progress::decode(payload),
            Uplink::FirmwareGet => firmware_get::decode(payload),
            Uplink::Request => firmware_get::decode_request(payload),
        };
        let line = match &decoded {
            Ok(DeviceEvent::Report { module, version }) => format!("reports {module} {version}"),
            Ok(DeviceEvent::Progress { percent, .. }) => format!("reports progress {percent}"),
            Ok(DeviceEvent::Failure { step, .. }) => format!("reports failure {step:?}"),
            Ok(DeviceEvent::Pull { .. }) => "asks for a package".to_owned(),
            Ok(_) => "does something".to_owned(),
            Err(ignored) => format!("says nonsense: {ignored}"),
        };
        let line = format!("{} {line}", node.label());
        self.note(line);
        decoded.ok()
    }

    /// The server notices that a connection is gone.
    pub(crate) fn server_gone(&mut self, no: ConnNo) {
        let Some(conn) = self.conns.get_mut(&no).filter(|conn| conn.server_up) else { return };
        conn.server_up = false;
        let device = self.nodes[conn.node].no;
        self.leave_behind(no);
        let Some(running) = &self.server.running else { return };
        if let Some(session) = running.link.remove(device, no) {
            let event = DeviceEvent::Offline { session };
            self.deliver(Delivery { conn: no, events: vec![Happened { device, event }], answer: None });
        }
    }

    pub(crate) fn deliver(&mut self, delivery: Delivery) {
        self.inbox.push_back(delivery);
        if !self.ingest_queued {
            // While one group is committed the next one gathers.
            let wait_ms = if self.rates.calm { 1 } else { self.net.range(0, 120) };
            self.ingest_later(wait_ms);
        }
    }

    /// The engine takes the next group.
    pub(crate) fn ingest(&mut self) -> Result<(), Violation> {
        self.ingest_queued = false;
        let count = self.inbox.len().min(GROUP_MAX);
        let group: Vec<Delivery> = self.inbox.drain(..count).collect();
        if !self.inbox.is_empty() {
            self.ingest_queued = true;
            self.at(1, Event::Ingest);
        }
        let events: Vec<Happened> = group.iter().flat_map(|delivery| delivery.events.clone()).collect();
        let owes = self.server.running.is_some() && !self.has_taken_all();
        if !events.is_empty() || owes {
            let given = events.clone();
            self.asking = asked_for(&events);
            let came = events.iter().filter(|of| matches!(of.event, DeviceEvent::Online { .. }));
            self.coming = came.map(|of| of.device).collect();
            let Worked { value, died, failed } = self.operate(|running| {
                let taker = running.taker.clone();
                async move { taker.lock().await.take(given).await }
            })?;
            let taken = match value {
                None => false,
                Some(Err(_)) if failed => false,
                Some(Err(error)) => {
                    return Err(Violation(format!("a group of messages was not taken: {error}")));
                }
                Some(Ok(())) => {
                    self.remember(&events)?;
                    self.coming.clear();
                    true
                }
            };
            if died {
                return Ok(());
            }
            if !taken {
                self.give_up(group);
                return Ok(());
            }
        }
        for delivery in group {
            if let Some(answer) = delivery.answer {
                if matches!(answer, Down::Welcome)
                    && let Some(conn) = self.conns.get_mut(&delivery.conn)
                {
                    conn.welcomed = true;
                }
                self.send_down(delivery.conn, answer);
            }
        }
        if self.server.running.is_some() && !self.has_taken_all() {
            self.ingest_later(engine::FAILED_MS);
        }
        self.pump();
        Ok(())
    }

    /// A group could not be taken: nothing of it is acknowledged, and the connections that brought it end.
    fn give_up(&mut self, group: Vec<Delivery>) {
        self.note("a group of messages is not taken".to_owned());
        self.ingest_later(engine::FAILED_MS);
        for Delivery { conn: no, events, answer } in group {
            if events.is_empty()
                && let Some(answer) = answer
            {
                self.send_down(no, answer);
                continue;
            }
            let no = self.wire(no);
            if self.conns.get(&no).is_some_and(|conn| conn.server_up) {
                self.server_gone(no);
                self.at(100, Event::ClientGone(no));
            }
        }
    }

    /// Whether everything that devices did is in the database: the server runs and owes nothing.
    pub(crate) fn has_taken_all(&self) -> bool {
        let running = self.server.running.as_ref();
        running.is_some_and(|running| running.taker.try_lock().is_ok_and(|taker| !taker.owes()))
    }

    fn ingest_later(&mut self, wait_ms: i64) {
        if !self.ingest_queued {
            self.ingest_queued = true;
            self.at(wait_ms, Event::Ingest);
        }
    }

    /// What was taken must be in the database: it is acknowledged from now on.
    fn remember(&mut self, events: &[Happened]) -> Result<(), Violation> {
        let strays = self.strays(events)?;
        let mut touched: BTreeMap<(DeviceNo, String), String> = BTreeMap::new();
        // What came too late of a disabled or deleted device is not taken.
        for Happened { device, event } in events.iter().filter(|of| !self.barred.contains(&of.device)) {
            if matches!(event, DeviceEvent::Online { .. }) && !strays.contains(device) {
                self.seen.insert(*device);
            }
            let DeviceEvent::Report { module, version } = event else { continue };
            let known = self.reported.iter().filter(|((of, _), _)| of == device).count() as i64;
            let key = (*device, module.clone());
            if self.reported.contains_key(&key) || known < MODULES_PER_DEVICE_MAX {
                self.reported.insert(key.clone(), version.clone());
                touched.insert(key, version.clone());
            }
        }
        let stored = self.server.read(move |tx| {
            let mut wrong = Vec::new();
            for ((device, module), version) in &touched {
                let found = tx.version_find(*device, module)?;
                if found.as_deref() != Some(version.as_str()) {
                    wrong.push(format!("{device} {module}: {found:?} instead of {version}"));
                }
            }
            Ok(wrong)
        })?;
        ensure(stored.is_empty(), || format!("acknowledged versions are not stored: {stored:?}"))?;
        let taken: Vec<Happened> =
            events.iter().filter(|of| !self.barred.contains(&of.device)).cloned().collect();
        self.stats.looked(Invariant::Durable, taken.len());
        self.checker.progress_is_stored(&taken)
    }

    /// Lets connections write what waits for them; each does so in its own time.
    pub(crate) fn pump(&mut self) {
        if self.rates.calm {
            self.write_now();
        } else if !self.write_queued {
            self.write_queued = true;
            let late = self.net.percent(self.rates.late);
            let wait_ms = if late { self.net.range(0, 6_000) } else { self.net.range(0, 50) };
            self.at(wait_ms, Event::Write);
        }
    }

    /// Writes what sessions have to the network.
    pub(crate) fn write_now(&mut self) {
        self.write_queued = false;
        let devices: Vec<DeviceNo> = self.nodes.iter().map(|node| node.no).collect();
        for (node, device) in devices.into_iter().enumerate() {
            loop {
                let Some(running) = &self.server.running else { return };
                let conn = running.link.conn(device).and_then(|conn| self.conns.get(&conn));
                let Some(conn) = conn.filter(|conn| conn.welcomed) else { break };
                let Some((conn, downlink)) = running.link.next(device, conn.window_is_open()) else { break };
                self.write(node, conn, &downlink);
            }
        }
    }

    fn write(&mut self, node: usize, conn: ConnNo, downlink: &Downlink) {
        self.stats.looked(Invariant::NotCancelled, 1);
        if let Err(violation) = self.checker.may_be_written(downlink) {
            self.broken.get_or_insert(violation);
        }
        let node = &self.nodes[node];
        if self.barred.contains(&node.no) {
            let told = format!("{} is disabled or deleted, and something is sent to it", node.name);
            self.broken.get_or_insert(Violation(told));
        }
        let owner = Owner { product_key: &self.products[node.product].key, device_name: &node.name };
        let base = format!("http://{HOST}");
        let (topic, payload, is_push, line) = match downlink {
            Downlink::Push { task, package, id, .. } => {
                let line = format!("server pushes {} to {} for task {task}", package.version, node.name);
                (DownTopic::Upgrade, push::push(package, &base, *id), true, line)
            }
            Downlink::PullReply { asked, package } => {
                let line = match package {
                    Some((task, _, package)) => {
                        format!("server answers {} to {} for task {task}", package.version, node.name)
                    }
                    None => format!("server answers nothing to {}", node.name),
                };
                let package = package.as_ref().map(|(_, _, package)| package.as_ref());
                match (asked.by, package) {
                    (Question::Get, package) => {
                        (DownTopic::GetReply, push::reply(&asked.id, package, &base), false, line)
                    }
                    (Question::Request, Some(package)) => {
                        (DownTopic::RequestReply, push::request_reply(&asked.id, package, &base), false, line)
                    }
                    (Question::Request, None) => return,
                }
            }
            // Of those the simulation has none.
            Downlink::Message { .. } => return,
        };
        let topic = owner.downlink(topic);
        self.note(line);
        // Those behind gateways are told at QoS 0.
        let is_push = is_push && self.wire(conn) == conn;
        if is_push && let Some(conn) = self.conns.get_mut(&conn) {
            conn.unacknowledged += 1;
        }
        self.send_down(conn, Down::Publish(topic, payload, is_push));
    }
}

/// The modules that devices ask for in a group.
fn asked_for(events: &[Happened]) -> BTreeSet<(DeviceNo, String)> {
    let asked = events.iter().filter_map(|Happened { device, event }| match event {
        DeviceEvent::Pull { module, .. } => Some((*device, module.clone())),
        _ => None,
    });
    asked.collect()
}
