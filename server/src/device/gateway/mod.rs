//! Gateways: devices that speak for others, which have no connection of their own.
//!
//! A gateway asks on topics of its own, and each question is answered on `…_reply`. [`envelope`] has the form that
//! all questions and answers share, then there is one file per kind: [`topo`] (who is behind the gateway),
//! [`register`] (secrets of those behind it), [`combine`] (their logins). [`trouble`] is what the gateway is told when
//! one of them lost its session, [`sign`] how it proves that it knows their secrets. [`subs`] has the devices that are
//! logged in through one connection, and [`serve`] lets them come and go.

pub mod combine;
pub mod envelope;
pub mod register;
pub mod serve;
pub mod sign;
pub mod subs;
pub mod topo;
pub mod trouble;

use super::Ignored;
use super::topic::Owner;
use sign::Signed;
use updraft_core::id::DeviceNo;
use updraft_core::topo::Refusal;

/// What a gateway's question is about, by its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Put devices behind it.
    TopoAdd,
    /// Take devices from behind it.
    TopoDelete,
    /// List those behind it.
    TopoGet,
    /// Tell it the secrets of devices.
    Register,
    /// Undo that.
    Unregister,
    /// Tell it the secrets of devices whose product's secret it knows.
    ProductRegister,
    /// Log a device in.
    Login,
    /// Log a device out.
    Logout,
    /// Log devices in.
    BatchLogin,
    /// Log devices out.
    BatchLogout,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::TopoAdd,
        Self::TopoDelete,
        Self::TopoGet,
        Self::Register,
        Self::Unregister,
        Self::ProductRegister,
        Self::Login,
        Self::Logout,
        Self::BatchLogin,
        Self::BatchLogout,
    ];

    /// What stands around the gateway's names in the topic.
    fn around(self) -> (&'static str, &'static str) {
        match self {
            Self::TopoAdd => ("/sys/", "/thing/topo/add"),
            Self::TopoDelete => ("/sys/", "/thing/topo/delete"),
            Self::TopoGet => ("/sys/", "/thing/topo/get"),
            Self::Register => ("/sys/", "/thing/sub/register"),
            Self::Unregister => ("/sys/", "/thing/sub/unregister"),
            Self::ProductRegister => ("/sys/", "/thing/proxy/provisioning/product_register"),
            Self::Login => ("/ext/session/", "/combine/login"),
            Self::Logout => ("/ext/session/", "/combine/logout"),
            Self::BatchLogin => ("/ext/session/", "/combine/batch_login"),
            Self::BatchLogout => ("/ext/session/", "/combine/batch_logout"),
        }
    }

    /// What a message on this topic asks, if it is one of the gateway's for questions.
    pub fn of(gateway: Owner<'_>, topic: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            let (before, after) = kind.around();
            gateway.is(topic, before, after)
        })
    }

    /// The topic of the answer.
    pub fn reply_topic(self, gateway: Owner<'_>) -> String {
        let (before, after) = self.around();
        [before, gateway.product_key, "/", gateway.device_name, after, "_reply"].concat()
    }

    /// The method that an answer repeats; the `/ext/` topics have none.
    fn method(self) -> Option<&'static str> {
        match self {
            Self::TopoAdd => Some("thing.topo.add"),
            Self::TopoDelete => Some("thing.topo.delete"),
            Self::TopoGet => Some("thing.topo.get"),
            Self::Register => Some("thing.sub.register"),
            Self::Unregister => Some("thing.sub.unregister"),
            Self::ProductRegister => Some("thing.proxy.provisioning.product_register"),
            Self::Login | Self::Logout | Self::BatchLogin | Self::BatchLogout => None,
        }
    }

    /// Whether question and answer are about one device, not a list.
    fn is_single(self) -> bool {
        matches!(self, Self::Login | Self::Logout)
    }
}

/// A device's names, as a gateway says them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Its product's key.
    pub product_key: String,
    /// Its name.
    pub device_name: String,
}

impl Name {
    /// The names as topics have them.
    pub fn owner(&self) -> Owner<'_> {
        Owner { product_key: &self.product_key, device_name: &self.device_name }
    }
}

/// A device that a gateway names, with its proof that it knows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which device.
    pub name: Name,
    /// The proof.
    pub signed: Signed,
}

/// A device that is to be logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrant {
    /// Which device, and that the gateway knows its secret.
    pub claim: Claim,
    /// Whether it asked that its topics are delivered without a subscription (`_ss=1`).
    pub auto_subscribe: bool,
    /// Whether it wants to find its session again at its next login.
    pub keeps_session: bool,
}

/// What a gateway asks of the rest of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Put these devices behind it.
    Add(Vec<Claim>),
    /// Take these devices from behind it.
    Remove(Vec<Name>),
    /// List those behind it.
    List,
    /// Tell it these devices' secrets.
    Register(Vec<Name>),
    /// The same; it knows their products' secrets.
    ProductRegister(Vec<Claim>),
    /// They may be registered anew, and are behind it no more.
    Unregister(Vec<Name>),
    /// Find these devices, whose secrets it knows and which are behind it.
    Find(Vec<Claim>),
}

/// What a gateway is answered by the rest of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, for these devices.
    Done(Vec<Name>),
    /// Devices with their secrets.
    Secrets(Vec<Secret>),
    /// The numbers of the devices found, in the order asked.
    Found(Vec<DeviceNo>),
}

/// A device with its secret; never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its names.
    pub name: Name,
    /// Its IotId.
    pub iot_id: String,
    /// Its secret, in the clear.
    pub secret: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A gateway's question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its kind.
    pub kind: Kind,
    /// Its id, as JSON text; empty if it had none.
    pub id: String,
    /// The devices that it names, in order.
    pub names: Vec<Name>,
    /// What is to be done; or why it is refused, whoever asks.
    pub ask: Result<Ask, Refusal>,
}

/// What is to be done for a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Ask the rest of the server.
    Server(Request),
    /// Log devices in.
    Login(Vec<Entrant>),
    /// Log devices out.
    Logout,
}

/// How many devices one question may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// To be put behind the gateway, or taken from there.
    pub topo: usize,
    /// Whose secrets are asked for.
    pub register: usize,
    /// To be logged in or out.
    pub login: usize,
}

impl Default for Batches {
    fn default() -> Self {
        Self { topo: 30, register: 30, login: 50 }
    }
}

/// What a gateway asks. `Err`: nothing that could be answered.
pub fn decode(kind: Kind, payload: &[u8], batches: Batches) -> Result<Question, Ignored> {
    let message = envelope::Message::read(payload)?;
    let read = match kind {
        Kind::TopoAdd | Kind::TopoDelete | Kind::TopoGet => topo::read(kind, message.params, batches.topo),
        Kind::Register | Kind::Unregister | Kind::ProductRegister => {
            register::read(kind, message.params, batches.register)
        }
        Kind::Login | Kind::Logout | Kind::BatchLogin | Kind::BatchLogout => {
            combine::read(kind, message.params, batches.login)
        }
    };
    let (names, ask) = match read {
        Ok((names, ask)) => (names, Ok(ask)),
        Err(refusal) => (Vec::new(), Err(refusal)),
    };
    Ok(Question { kind, id: message.id.to_owned(), names, ask })
}

#[cfg(test)]
mod tests;
