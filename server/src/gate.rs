//! Limits per address, applied to a port: open connections, and failures within a minute. The rules are in
//! [`crate::limiter`]; this adds locks, a clock, metrics and the log.

use crate::limiter::{Open, SOURCES_MAX, Source, Windows};
use crate::networks::Networks;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// The limits of one port, per address. 0: no limit.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Most open connections that count (on the devices' port: that have not logged in).
    pub connections: u32,
    /// Most failures in a minute.
    pub failures: u32,
    /// Who is not limited.
    pub exempt: Networks,
}

/// One port's gate.
#[derive(Debug)]
pub struct Gate {
    port: &'static str,
    limits: Limits,
    began: Instant,
    open: Mutex<Open>,
    failures: Mutex<Windows>,
    /// Refusals by source: the log says the first one of each window.
    told: Mutex<Windows>,
}

/// The right of a connection to be open; it ends when this is dropped.
#[derive(Debug)]
pub struct Pass(Option<(Arc<Gate>, Source)>);

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((gate, source)) = &self.0 {
            gate.open.lock().leave(*source);
        }
    }
}

impl Gate {
    /// A gate for the port that metrics and the log call `port`.
    pub fn new(port: &'static str, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            port,
            limits,
            began: Instant::now(),
            open: Mutex::default(),
            failures: Mutex::new(Windows::new(SOURCES_MAX)),
            told: Mutex::new(Windows::new(SOURCES_MAX)),
        })
    }

    /// A gate that lets everybody in.
    pub fn open() -> Arc<Self> {
        Self::new("open", Limits::default())
    }

    /// Lets a connection in, unless its address has too many open ones.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Pass> {
        let limit = self.limits.connections;
        if limit == 0 || self.limits.exempt.covers(address) {
            return Some(Pass(None));
        }
        let source = Source::of(address);
        if self.open.lock().enter(source, limit) {
            return Some(Pass(Some((Arc::clone(self), source))));
        }
        self.refused(source, "connections", limit);
        None
    }

    /// Whether an address has failed too often in this minute; then how many milliseconds are left of it.
    pub fn refuses(&self, address: IpAddr) -> Option<u64> {
        let limit = self.limits.failures;
        if limit == 0 || self.limits.exempt.covers(address) {
            return None;
        }
        let source = Source::of(address);
        let (count, wait_ms) = self.failures.lock().look(source, self.now())?;
        if count < limit {
            return None;
        }
        self.refused(source, "failures", limit);
        Some(wait_ms)
    }

    /// Counts a failure of an address.
    pub fn failed(&self, address: IpAddr) {
        if self.limits.failures != 0 && !self.limits.exempt.covers(address) {
            self.failures.lock().count(Source::of(address), self.now());
        }
    }

    /// Notes that an address was refused for another reason; whether it is the first time in this minute, so that
    /// the log says it once.
    pub fn first_refusal(&self, address: IpAddr) -> bool {
        self.told.lock().count(Source::of(address), self.now()) == Some(1)
    }

    fn refused(&self, source: Source, limit: &'static str, value: u32) {
        metrics::counter!("updraft_refused_by_address_total", "port" => self.port, "limit" => limit)
            .increment(1);
        if self.told.lock().count(source, self.now()) == Some(1) {
            tracing::warn!(
                port = self.port,
                address = %source,
                limit,
                value,
                "an address is refused; said once a minute. If it is many devices behind one address, raise \
                 the limit or add it to `limit_exempt`"
            );
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn gate(connections: u32, failures: u32, exempt: &str) -> Arc<Gate> {
        Gate::new("test", Limits { connections, failures, exempt: Networks::parse(exempt).unwrap() })
    }

    #[test]
    fn a_pass_counts_while_it_is_held() {
        let gate = gate(1, 0, "");
        let pass = gate.enter(ONE).unwrap();
        assert!(gate.enter(ONE).is_none());
        assert!(gate.enter(OTHER).is_some());
        drop(pass);
        assert!(gate.enter(ONE).is_some());
        assert!(gate.open.lock().is_empty());
    }

    #[test]
    fn failures_close_the_gate_for_their_address_only() {
        let gate = gate(0, 2, "");
        gate.failed(ONE);
        assert_eq!(gate.refuses(ONE), None);
        gate.failed(ONE);
        assert!(gate.refuses(ONE).is_some_and(|wait| wait <= crate::limiter::WINDOW_MS));
        assert_eq!(gate.refuses(OTHER), None);
    }

    #[test]
    fn nothing_limits_who_is_exempt_or_what_is_off() {
        let gate = gate(1, 1, "192.0.2.1, 2001:db8::/32");
        let passes: Vec<_> = (0..9).map(|_| gate.enter(ONE).unwrap()).collect();
        gate.failed(ONE);
        assert_eq!((passes.len(), gate.refuses(ONE)), (9, None));
        let off = Gate::open();
        let passes: Vec<_> = (0..9).map(|_| off.enter(OTHER).unwrap()).collect();
        off.failed(OTHER);
        assert_eq!((passes.len(), off.refuses(OTHER)), (9, None));
        assert!(off.failures.lock().is_empty());
    }
}
