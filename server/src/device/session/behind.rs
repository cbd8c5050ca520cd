//! Sessions of devices behind a gateway: in the registry like any other, but with no connection of their own.

use super::{Ending, FOR_EVER, NewSession, Session, Sessions, State};
use crate::device::gateway::subs::Hub;
use crate::device::link::Downlink;
use crate::device::topic::Owner;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;
use updraft_core::id::DeviceNo;

/// How a session reaches the connection of the gateway that it is behind.
pub(super) struct Behind {
    hub: Weak<Hub>,
    /// Whether it is in line there.
    in_line: AtomicBool,
}

impl Behind {
    pub(super) fn get_in_line(&self, session: &Arc<Session>) {
        if !self.in_line.swap(true, Ordering::AcqRel)
            && let Some(hub) = self.hub.upgrade()
        {
            hub.queue(Arc::clone(session));
        }
    }
}

impl Session {
    /// Waits for a message or the end.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Ends the session, unless it is over already.
    pub fn end(self: &Arc<Self>, ending: Ending) {
        self.state.lock().ending.get_or_insert(ending);
        self.call();
    }

    /// Wakes the connection that it is reached through.
    pub(super) fn call(self: &Arc<Self>) {
        match &self.behind {
            None => self.wake(),
            Some(behind) => behind.get_in_line(self),
        }
    }

    /// Wakes its own connection.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether its topics are delivered without a subscription.
    pub fn is_auto_subscribed(&self) -> bool {
        self.state.lock().mailbox.is_auto_subscribed()
    }

    /// The next message to write through the connection of the gateway that it is behind. It goes out at QoS 0: if
    /// the connection breaks, the device is told again after its next login.
    pub fn next_behind(&self) -> Option<Downlink> {
        let mut state = self.state.lock();
        let State { ending, mailbox, flights, .. } = &mut *state;
        if ending.is_some() {
            return None;
        }
        // What it did not get on a connection of its own, before.
        let Some(again) = flights.depart_again() else { return mailbox.next(true) };
        if let Some(id) = again.id {
            flights.arrived(id);
        }
        Some(again.message)
    }

    /// Gets in line again at the connection that it is reached through: there may be more.
    pub fn line_up(self: &Arc<Self>) {
        if let Some(behind) = &self.behind {
            behind.get_in_line(self);
        }
    }

    /// It is served. Whatever comes from now on puts it in line again.
    pub fn leave_line(&self) {
        if let Some(behind) = &self.behind {
            behind.in_line.store(false, Ordering::Release);
        }
    }
}

impl Sessions {
    /// Registers a login through a gateway, and ends the device's earlier session; `None` when the server stops. The
    /// session lives as long as the gateway's, and is kept after that if the device wishes so.
    pub fn insert_behind(
        &self,
        hub: &Arc<Hub>,
        device: DeviceNo,
        owner: Owner<'_>,
        auto_subscribe: bool,
        keeps: bool,
        now: Instant,
    ) -> Option<Arc<Session>> {
        let new = NewSession {
            device,
            owner,
            local: SocketAddr::new(hub.gateway().local, 0),
            keepalive: 0,
            auto_subscribe,
            window: u16::MAX,
            clean_start: !keeps,
            keep_seconds: if keeps { u32::MAX } else { 0 },
            remembers: keeps,
            is_gateway: false,
        };
        let behind = Behind { hub: Arc::downgrade(hub), in_line: AtomicBool::new(false) };
        self.put(&new, FOR_EVER, Some(behind), now).map(|(session, _)| session)
    }

    /// Ends a device's session, if it is logged in through a gateway. Whether it was.
    pub fn log_out(&self, device: DeviceNo) -> bool {
        let end = |session: &Arc<Session>| {
            let is_behind = session.behind.is_some();
            if is_behind {
                session.end(Ending::Kicked);
            }
            is_behind
        };
        self.with(device, end).unwrap_or(false)
    }
}
