//! Gateways: devices that speak for others. Those behind one have no connection of their own: what they say goes
//! through the gateway's, and ends with it. Operators move them from one gateway to another meanwhile.

use crate::api::{Answer, pairs};
use crate::endpoint::Delivery;
use crate::net::{ConnNo, Down};
use crate::world::World;
use crate::{Violation, ensure};
use serde_json::json;
use updraft_core::id::DeviceNo;
use updraft_core::topo::Refusal;
use updraft_fleet::login::FIXED_TIMESTAMP;
use updraft_fleet::{ConnectInfo, DeviceConfig, Identity, Login};
use updraft_server::device::gateway::{Answer as Told, Ask, Batches, Kind, Question, Request, decode};
use updraft_server::device::link::{Backend as _, DeviceEvent, Happened};
use updraft_server::device::topic::Owner;

/// In so many of a hundred worlds there are gateways.
const WORLDS_PERCENT: usize = 35;
/// How often of a hundred acts of the operator a device is moved.
const MOVE_PERCENT: usize = 10;

impl World {
    /// Gateways of a drawn scenario, and who is behind them.
    pub(crate) fn populate_gateways(&mut self) -> Result<(), Violation> {
        if !self.gating.percent(WORLDS_PERCENT) {
            return Ok(());
        }
        let product = self.make_gateways_product("gateways")?;
        let devices: Vec<usize> = (0..self.nodes.len()).filter(|node| !self.nodes[*node].twin).collect();
        for number in 1..=1 + self.gating.below(2) {
            let on_ms = self.gating.range(0, 60_000);
            let gateway = self.make_device(product, &format!("hub-{number}"), on_ms, |_| {})?;
            for node in self.gating.some(6, devices.len()) {
                if self.nodes[devices[node]].behind.is_none() {
                    self.put_behind(devices[node], gateway);
                }
            }
        }
        Ok(())
    }

    /// Puts a device behind a gateway, in space: the gateway tells the server when it logs the device in.
    pub(crate) fn put_behind(&mut self, node: usize, gateway: usize) {
        self.note(format!("{} is behind {}", self.nodes[node].name, self.nodes[gateway].name));
        self.nodes[node].behind = Some(gateway);
    }

    /// Now and then somebody takes a device from behind its gateway, or puts it behind another one, on the server
    /// only; the gateway that it is behind takes it back at its next login.
    pub(crate) fn move_some(&mut self) -> Result<(), Violation> {
        let behind: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.is_moved_by_operators(*node)).collect();
        if behind.is_empty() || !self.gating.percent(MOVE_PERCENT) {
            return Ok(());
        }
        let node = self.gating.pick(&behind);
        let (key, name) =
            (self.products[self.nodes[node].product].key.clone(), self.nodes[node].name.clone());
        let gateways: Vec<usize> = behind.iter().filter_map(|node| self.nodes[*node].behind).collect();
        let gateway = self.gating.pick(&gateways);
        let params = if self.gating.percent(50) {
            self.note(format!("operator: RemoveThingTopo {name}"));
            ("RemoveThingTopo", pairs(&[("ProductKey", &key), ("DeviceName", &name)]))
        } else {
            let gateway = &self.nodes[gateway];
            let Identity { product_key, device_name, .. } = gateway.device.config().identity.clone();
            self.note(format!("operator: BatchAddThingTopo {name} behind {device_name}"));
            let (info, cid) = self.claim_of(node);
            let item = |field: &str| format!("TopoAddItem.1.{field}");
            let mut params = pairs(&[("GwProductKey", &product_key), ("GwDeviceName", &device_name)]);
            params.extend([
                (item("ProductKey"), key),
                (item("DeviceName"), name.clone()),
                (item("ClientId"), cid),
                (item("Timestamp"), FIXED_TIMESTAMP.to_owned()),
                (item("SignMethod"), "hmacSha256".to_owned()),
                (item("Sign"), info.password),
            ]);
            ("BatchAddThingTopo", params)
        };
        match self.call(params.0, &params.1)? {
            // The gateway, or the device, may be gone or disabled.
            Answer::Done(_) | Answer::Refused(_) | Answer::Lost => Ok(()),
        }
    }

    fn is_moved_by_operators(&self, node: usize) -> bool {
        self.nodes[node].behind.is_some() && !self.deleted.contains(&self.nodes[node].no)
    }

    /// A device whose gateway is gone for good connects by itself.
    pub(crate) fn free_the_stranded(&mut self) {
        for node in 0..self.nodes.len() {
            let gone = |gateway: usize| self.deleted.contains(&self.nodes[gateway].no);
            if self.nodes[node].behind.is_some_and(gone) {
                self.note(format!("{} is behind no gateway any more", self.nodes[node].name));
                self.nodes[node].behind = None;
            }
        }
    }

    /// What a device's gateway says for it: as in its own login, by HMAC-SHA256; and the client id.
    fn claim_of(&self, node: usize) -> (ConnectInfo, String) {
        let DeviceConfig { identity, .. } = self.nodes[node].device.config();
        let cid = format!("{}.{}", identity.product_key, identity.device_name);
        (identity.connect_info(&Login { timestamp: true, ..Login::default() }), cid)
    }

    fn question(&self, node: usize, kind: Kind) -> Result<Question, Violation> {
        let (info, cid) = self.claim_of(node);
        let identity = &self.nodes[node].device.config().identity;
        let params = json!({
            "productKey": identity.product_key, "deviceName": identity.device_name, "clientId": cid,
            "timestamp": FIXED_TIMESTAMP, "signMethod": "hmacSha256", "sign": info.password, "cleanSession": "true",
        });
        let payload = json!({ "id": "1", "params": params }).to_string();
        decode(kind, payload.as_bytes(), Batches::default())
            .map_err(|ignored| Violation(format!("a gateway's question is ignored: {ignored}")))
    }

    /// A gateway logs a device in that is behind it.
    pub(crate) fn admit_behind(&mut self, no: ConnNo, wire: ConnNo) -> Result<(), Violation> {
        let node = self.conns[&no].node;
        let question = self.question(node, Kind::Login)?;
        let Ok(Ask::Login(entrants)) = question.ask else {
            return Err(Violation("a gateway's login of a device is not understood".to_owned()));
        };
        let claims = entrants.into_iter().map(|entrant| entrant.claim).collect();
        let Some(found) = self.ask_as(wire, Request::Find(claims))? else {
            self.turn_away(no);
            return Ok(());
        };
        if let Err(why) = found {
            self.refused_behind(node, wire, why)?;
            self.turn_away(no);
            return Ok(());
        }
        let device = self.nodes[node].no;
        let (barred, gateway) = (self.barred.contains(&device), self.nodes[self.conns[&wire].node].no);
        ensure(!barred, || format!("{} may not log in and is let in", self.nodes[node].name))?;
        let owner = Owner {
            product_key: &self.products[self.nodes[node].product].key,
            device_name: &self.nodes[node].name,
        };
        let Some(running) = &self.server.running else { return Ok(()) };
        let (session, taken_over) = running.link.insert(device, no, owner, true);
        running.link.log_in_behind(device);
        let events = [
            DeviceEvent::Online { session, ip: "10.0.0.1".to_owned() },
            DeviceEvent::Through { session, gateway },
            DeviceEvent::Listening,
        ];
        let events = events.into_iter().map(|event| Happened { device, event }).collect();
        self.deliver(Delivery { conn: no, events, answer: Some(Down::Welcome) });
        self.end_taken_over(taken_over);
        Ok(())
    }

    /// Asks as the gateway of this connection does; `None`: the server could not answer.
    fn ask_as(&mut self, wire: ConnNo, request: Request) -> Result<Option<Result<Told, Refusal>>, Violation> {
        let gateway = self.nodes[self.conns[&wire].node].no;
        let changes = !matches!(request, Request::Find(_));
        let ask = |running: &crate::server::Running| {
            let door = running.door.clone();
            async move { door.gateway(gateway, request).await }
        };
        let worked = if changes { self.operate(ask)? } else { self.work(None, ask)? };
        Ok(match worked.value {
            None => None,
            Some(Err(_)) if worked.failed => None,
            Some(Err(_)) => return Err(Violation("a gateway was not answered".to_owned())),
            Some(Ok(told)) => Some(told.map_err(|refused| refused.why)),
        })
    }

    /// A login was refused: there must be a reason for it. Who is not behind its gateway is put there.
    fn refused_behind(&mut self, node: usize, wire: ConnNo, why: Refusal) -> Result<(), Violation> {
        let (device, name) = (self.nodes[node].no, self.nodes[node].name.clone());
        let gateway = self.nodes[self.conns[&wire].node].no;
        let (gone, barred) = (self.deleted.contains(&device), self.barred.contains(&device));
        if gone || barred || self.barred.contains(&gateway) {
            return Ok(());
        }
        let behind = self.server.read(move |tx| tx.topo_gateway(device))?;
        ensure(why == Refusal::NoTopology && behind != Some(gateway), || {
            format!("{name}, on the server behind {behind:?}, was refused by gateway {gateway}: {why:?}")
        })?;
        let question = self.question(node, Kind::TopoAdd)?;
        let Ok(Ask::Server(request)) = question.ask else {
            return Err(Violation("a gateway's question is not understood".to_owned()));
        };
        self.note(format!("{} adds {name}", self.nodes[self.conns[&wire].node].name));
        match self.ask_as(wire, request)? {
            Some(Err(why)) => Err(Violation(format!("{name} was not put behind gateway {gateway}: {why:?}"))),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Of logins through gateways those count whose devices are behind them.
    pub(crate) fn strays(&self, events: &[Happened]) -> Result<Vec<DeviceNo>, Violation> {
        let pairs: Vec<(DeviceNo, DeviceNo)> = events
            .iter()
            .filter_map(|happened| match happened.event {
                DeviceEvent::Through { gateway, .. } => Some((happened.device, gateway)),
                _ => None,
            })
            .collect();
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        self.server.read(move |tx| {
            let mut strays = Vec::new();
            for (device, gateway) in &pairs {
                strays.extend((tx.topo_gateway(*device)? != Some(*gateway)).then_some(*device));
            }
            Ok(strays)
        })
    }
}
