//! Several nodes on one database: who they are, what each of them does, and how one reaches a device at another.
//!
//! Nodes know of one another through the database only. Each says that it lives (`heart.rs`), and what one changes that
//! concerns a device at another one it leaves there as mail, in the transaction of the change (`mail.rs`). One write
//! transaction is run at a time, whichever node has it, so every rule that holds on one node holds on all together.

mod config;
pub mod heart;
pub mod mail;

use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tokio::sync::Notify;
use updraft_store::{Node, StoreError, Tx};

/// What a node does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    #[default]
    All,
    /// Answers calls.
    Api,
    /// Has devices connected.
    Gateway,
    /// Carries batches out.
    Worker,
}

/// Clocks that seem to differ by no more are taken for the same.
const CLOCK_JITTER_MS: i64 = 250;

const API: i64 = 1;
const GATEWAY: i64 = 2;
const WORKER: i64 = 4;

impl Role {
    /// A bit for each part of the work.
    fn bits(self) -> i64 {
        match self {
            Self::All => API | GATEWAY | WORKER,
            Self::Api => API,
            Self::Gateway => GATEWAY,
            Self::Worker => WORKER,
        }
    }

    /// Whether it answers calls.
    pub fn is_api(self) -> bool {
        self.bits() & API != 0
    }

    /// Whether devices connect to it.
    pub fn is_gateway(self) -> bool {
        self.bits() & GATEWAY != 0
    }

    /// Whether it carries batches out.
    pub fn is_worker(self) -> bool {
        self.bits() & WORKER != 0
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "all" => Ok(Self::All),
            "api" => Ok(Self::Api),
            "gateway" => Ok(Self::Gateway),
            "worker" => Ok(Self::Worker),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Gateway => "gateway",
            Self::Worker => "worker",
        })
    }
}

/// The roles of a node's row, in words.
pub fn roles(bits: i64) -> String {
    let all = [Role::All, Role::Api, Role::Gateway, Role::Worker];
    let known = all.into_iter().find(|role| role.bits() == bits);
    known.map_or_else(|| format!("unknown ({bits})"), |role| role.to_string())
}

/// What this node knows of itself and of the others.
pub struct Nodes {
    role: Role,
    /// Whether other nodes may serve the database, too.
    shared: bool,
    view: RwLock<View>,
    /// How far this node's clock is ahead of the database server's, in milliseconds, if that is worth a correction.
    clock_off_ms: AtomicI64,
    /// It has not reached the database for longer than the others' patience.
    out_of_touch: AtomicBool,
    /// It could not reach the database for so long that it let its devices go.
    cut_off: AtomicBool,
    /// Another node has something for this one.
    woken: Arc<Notify>,
    /// The other nodes are to be woken.
    calling: Notify,
}

#[derive(Default)]
struct View {
    me: i64,
    /// The others that were there at the last look, and the bits of their roles: a new one may be missing.
    others: BTreeMap<i64, i64>,
}

impl Nodes {
    /// A node with this role; `shared`: others may serve the database, too.
    pub fn new(role: Role, shared: bool) -> Self {
        Self {
            role,
            shared,
            view: RwLock::default(),
            clock_off_ms: AtomicI64::new(0),
            out_of_touch: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            woken: Arc::default(),
            calling: Notify::new(),
        }
    }

    /// What this node does.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether other nodes may serve the database, too, now or later.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// This node's number; its logins are numbered above it.
    pub fn me(&self) -> i64 {
        self.view.read().me
    }

    /// Whether this is the number of another node. It may be gone: the database knows.
    pub fn is_other(&self, node: i64) -> bool {
        self.shared && node != self.me()
    }

    /// Whether this number of a login of this node is one of before it was given up and joined anew.
    pub fn is_past(&self, node: i64) -> bool {
        self.shared && node < self.me()
    }

    /// Whether this node does what one does for all: the eldest of those that carry batches out.
    pub fn leads(&self) -> bool {
        let view = self.view.read();
        let elder = |(id, roles): (&i64, &i64)| *id < view.me && roles & WORKER != 0;
        self.role.is_worker() && (!self.shared || !view.others.iter().any(elder))
    }

    /// Whether devices could connect elsewhere.
    fn has_other_gateways(&self) -> bool {
        self.view.read().others.values().any(|roles| roles & GATEWAY != 0)
    }

    /// Whether some node carries batches out.
    fn has_worker(&self) -> bool {
        self.role.is_worker() || self.view.read().others.values().any(|roles| roles & WORKER != 0)
    }

    /// Refuses a change by a node that the others have given up, as long as it does not know: what it thinks of its
    /// devices is of before.
    ///
    /// # Errors
    /// Says so, or that the database does not answer.
    pub fn fence(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if !self.shared || tx.node_serves(self.me())? {
            return Ok(());
        }
        Err(StoreError::Unavailable("the other nodes have given this one up; it joins anew".to_owned()))
    }

    /// Takes the number that this node was given.
    pub fn joined(&self, me: i64) {
        self.view.write().me = me;
    }

    /// Takes a look at all nodes; answers how many others are gone since the last one.
    pub fn seen(&self, nodes: &[Node]) -> usize {
        let mut view = self.view.write();
        let me = view.me;
        let others: BTreeMap<i64, i64> =
            nodes.iter().filter(|node| node.id != me).map(|node| (node.id, node.roles)).collect();
        let gone = view.others.keys().filter(|id| !others.contains_key(id)).count();
        view.others = others;
        gone
    }

    /// What is to be added to this node's clock, in milliseconds: all nodes go by the database server's. A node whose
    /// clock lags would never find its slots due in time, and the leader would give them away again and again.
    pub fn clock_correction_ms(&self) -> i64 {
        -self.clock_off_ms.load(Ordering::Relaxed)
    }

    /// Takes how far this node's clock is ahead of the database server's; the way there and back makes it seem off, too.
    pub fn clock_is_off(&self, off_ms: i64) {
        let known_ms = self.clock_off_ms.load(Ordering::Relaxed);
        if (off_ms - known_ms).abs() > CLOCK_JITTER_MS {
            self.clock_off_ms.store(off_ms, Ordering::Relaxed);
        }
    }

    /// Whether it let its devices go because it cannot reach the database.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Whether it has not reached the database for as long as the others wait before they give it up.
    pub fn is_out_of_touch(&self) -> bool {
        self.out_of_touch.load(Ordering::Relaxed)
    }

    /// Wakes the other nodes soon; calls that come close together are one.
    pub fn call_others(&self) {
        if self.shared {
            self.calling.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use updraft_core::time::Timestamp;

    fn node(id: i64, role: Role) -> Node {
        Node {
            id,
            name: String::new(),
            roles: role.bits(),
            beat: 0,
            version: String::new(),
            started_at: Timestamp(0),
        }
    }

    #[test]
    fn roles_are_read_as_they_are_shown() {
        for role in [Role::All, Role::Api, Role::Gateway, Role::Worker] {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(roles(role.bits()), role.to_string());
        }
        assert_eq!("both".parse::<Role>(), Err(()));
        assert_eq!(roles(0), "unknown (0)");
    }

    #[test]
    fn the_eldest_worker_leads_and_a_gateway_never_does() {
        let nodes = Nodes::new(Role::Worker, true);
        nodes.joined(5);
        assert!(nodes.leads());
        nodes.seen(&[node(3, Role::Gateway), node(5, Role::Worker), node(7, Role::All)]);
        assert!(nodes.leads(), "the elder one does no such work");
        assert!(
            nodes.is_other(3) && !nodes.is_other(5) && nodes.is_other(9),
            "who has just come is another one, too"
        );
        nodes.seen(&[node(4, Role::All), node(5, Role::Worker)]);
        assert!(!nodes.leads());
        assert_eq!(nodes.seen(&[node(5, Role::Worker)]), 1, "one is gone");
        assert!(nodes.leads());

        let gateway = Nodes::new(Role::Gateway, true);
        gateway.joined(1);
        gateway.seen(&[node(1, Role::Gateway), node(2, Role::Worker)]);
        assert!(!gateway.leads() && gateway.has_worker() && !gateway.has_other_gateways());
    }

    #[test]
    fn a_clock_that_is_off_is_put_right_and_not_for_every_moment() {
        let nodes = Nodes::new(Role::All, true);
        for (off, correction) in [(250, 0), (-5_000, 5_000), (-4_800, 5_000), (251, -251), (1, -251), (0, 0)]
        {
            nodes.clock_is_off(off);
            assert_eq!(nodes.clock_correction_ms(), correction, "{off} ms off");
        }
    }

    #[test]
    fn a_server_that_serves_alone_knows_no_others() {
        let nodes = Nodes::new(Role::All, false);
        nodes.joined(5);
        assert!(nodes.leads() && !nodes.is_other(4));
    }
}
