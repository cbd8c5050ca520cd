//! The network: one connection per login. Messages of a connection keep their order; connections break at any
//! moment, each side notices at its own time, and what was under way may still arrive or not.

use crate::stats::Of;
use crate::world::{Event, World};
use updraft_core::time::{SECOND_MS, Timestamp};
use updraft_fleet::ConnectInfo;

/// A connection's number.
pub(crate) type ConnNo = u64;

/// Most pushes that are on their way to one device without its PUBACK.
const WINDOW: usize = 8;

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The device.
    pub(crate) node: usize,
    /// Of a device behind a gateway: the gateway's connection, which carries this one.
    pub(crate) through: Option<ConnNo>,
    /// Whether the device takes it for open.
    pub(crate) client_up: bool,
    /// Whether the server takes it for open.
    pub(crate) server_up: bool,
    /// Broken: what is sent from now on is lost; if `true`, what is under way too.
    pub(crate) cut: Option<bool>,
    /// Whether the CONNACK is written: nothing else goes out before it.
    pub(crate) welcomed: bool,
    /// Pushes without PUBACK.
    pub(crate) unacknowledged: usize,
    up_last: Timestamp,
    down_last: Timestamp,
}

impl Conn {
    pub(crate) fn window_is_open(&self) -> bool {
        self.unacknowledged < WINDOW
    }
}

/// From a device to the server.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    /// CONNECT.
    Dial(ConnectInfo),
    /// SUBSCRIBE.
    Subscribe(Vec<String>),
    /// PUBLISH; `true`: of QoS 1.
    Publish(String, Vec<u8>, bool),
    /// PUBACK of a push.
    Acknowledge,
    /// DISCONNECT.
    Bye,
}

impl Up {
    fn name(&self) -> &'static str {
        match self {
            Self::Dial(_) => "CONNECT",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Publish(..) => "PUBLISH of a device",
            Self::Acknowledge => "PUBACK of a device",
            Self::Bye => "DISCONNECT",
        }
    }
}

/// From the server to a device.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    /// CONNACK.
    Welcome,
    /// PUBACK.
    Acknowledge,
    /// PUBLISH; `true`: a push, of QoS 1.
    Publish(String, Vec<u8>, bool),
}

impl Down {
    fn name(&self) -> &'static str {
        match self {
            Self::Welcome => "CONNACK",
            Self::Acknowledge => "PUBACK of the server",
            Self::Publish(_, _, true) => "PUBLISH of the server: a push",
            Self::Publish(_, _, false) => "PUBLISH of the server: an answer",
        }
    }
}

impl World {
    /// Opens a connection for a device.
    pub(crate) fn dial(&mut self, node: usize, info: ConnectInfo) {
        self.conn_last += 1;
        let no = self.conn_last;
        let gateway = self.nodes[node].behind;
        let through = gateway.filter(|gateway| self.nodes[*gateway].device.is_connected());
        let through = through.and_then(|gateway| self.nodes[gateway].conn);
        let conn = Conn {
            node,
            through,
            client_up: true,
            server_up: true,
            cut: None,
            welcomed: false,
            unacknowledged: 0,
            up_last: self.now,
            down_last: self.now,
        };
        self.conns.insert(no, conn);
        self.nodes[node].conn = Some(no);
        let unreachable = gateway.is_some() && through.is_none();
        if unreachable || self.nodes[node].away_until > self.now {
            let wait_ms = self.net.range(100, 2_000);
            self.at(wait_ms, Event::ClientGone(no));
        } else {
            self.send_up(no, Up::Dial(info));
        }
    }

    fn delay_ms(&mut self) -> i64 {
        let rates = self.rates;
        if rates.calm {
            10
        } else if self.net.percent(rates.late) {
            self.stats.count(Of::Fault, "a message that is late");
            self.net.range(500, 5 * SECOND_MS)
        } else {
            self.net.range(5, 80)
        }
    }

    /// Sends to the server, behind what was sent before.
    pub(crate) fn send_up(&mut self, no: ConnNo, message: Up) {
        let delay_ms = self.delay_ms();
        let twice = matches!(message, Up::Publish(_, _, true)) && self.net.percent(self.rates.doubled);
        let again_ms = if twice { self.net.range(0, 2 * SECOND_MS) } else { 0 };
        let now = self.now;
        let wire = self.wire(no);
        let is_open = |conn: &Conn| conn.client_up && conn.cut.is_none();
        if !self.conns.get(&no).is_some_and(is_open) {
            return;
        }
        let Some(conn) = self.conns.get_mut(&wire).filter(|conn| is_open(conn)) else { return };
        conn.up_last = conn.up_last.max(now.plus_ms(delay_ms));
        let at = conn.up_last;
        self.stats.count(Of::Message, message.name());
        if twice {
            self.stats.count(Of::Fault, "a message that is said twice");
            // A device that missed the PUBACK says it again, maybe after something else.
            self.queue_at(at.plus_ms(again_ms), Event::Up(no, message.clone()));
        }
        self.queue_at(at, Event::Up(no, message));
    }

    /// Sends to the device, behind what was sent before.
    pub(crate) fn send_down(&mut self, no: ConnNo, message: Down) {
        let delay_ms = self.delay_ms();
        let now = self.now;
        let wire = self.wire(no);
        let is_open = |conn: &Conn| conn.server_up && conn.cut.is_none();
        if !self.conns.get(&no).is_some_and(is_open) {
            return;
        }
        let Some(conn) = self.conns.get_mut(&wire).filter(|conn| is_open(conn)) else { return };
        conn.down_last = conn.down_last.max(now.plus_ms(delay_ms));
        let at = conn.down_last;
        self.stats.count(Of::Message, message.name());
        self.queue_at(at, Event::Down(no, message));
    }

    /// Whether a message under way on this connection still arrives at the server, or at the device.
    pub(crate) fn arrives(&self, no: ConnNo, at_server: bool) -> bool {
        let arrives = |no: ConnNo| {
            self.conns.get(&no).is_some_and(|conn| {
                let up = if at_server { conn.server_up } else { conn.client_up };
                up && conn.cut != Some(true)
            })
        };
        arrives(no) && arrives(self.wire(no))
    }

    /// The connection that carries this one: a gateway's, or itself.
    pub(crate) fn wire(&self, no: ConnNo) -> ConnNo {
        self.conns.get(&no).and_then(|conn| conn.through).unwrap_or(no)
    }

    /// The connections that this one carries.
    pub(crate) fn carried(&self, no: ConnNo) -> Vec<ConnNo> {
        self.conns.iter().filter(|(_, conn)| conn.through == Some(no)).map(|(no, _)| *no).collect()
    }

    /// Breaks a connection, with all that it carries; each side notices after its own time.
    pub(crate) fn cut(&mut self, no: ConnNo, lossy: bool, client_ms: i64, server_ms: i64) {
        let no = self.wire(no);
        let Some(conn) = self.conns.get_mut(&no).filter(|conn| conn.cut.is_none()) else { return };
        conn.cut = Some(lossy);
        self.at(client_ms, Event::ClientGone(no));
        self.at(server_ms, Event::ServerGone(no));
    }

    /// Forgets connections that neither side knows any more.
    pub(crate) fn sweep(&mut self) {
        self.conns.retain(|_, conn| conn.client_up || conn.server_up);
    }
}
