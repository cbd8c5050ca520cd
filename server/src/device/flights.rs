//! Messages at QoS 1 that are on their way to one device, until it acknowledges them. Pure.
//!
//! Of a push only its task is remembered: the engine repeats a push itself, with a fresh address, when the device is
//! back; it then goes out under its old id.

use super::link::Downlink;
use bytes::Bytes;
use std::num::NonZeroU16;
use updraft_core::id::TaskNo;

/// Most messages that are on their way to one device.
const WINDOW: u16 = 8;

/// A message to write.
#[derive(Debug)]
pub struct Sending {
    /// What to say.
    pub message: Downlink,
    /// With one it goes out at QoS 1.
    pub id: Option<NonZeroU16>,
    /// Whether it may have been sent before.
    pub again: bool,
}

/// The messages on their way to one device. Without any it owns no memory.
pub struct Flights {
    all: Vec<Flight>,
    last: u16,
    /// Most of them at a time.
    window: u8,
}

struct Flight {
    id: NonZeroU16,
    /// Whether it was sent on an earlier connection only.
    stranded: bool,
    cargo: Cargo,
}

enum Cargo {
    Push(TaskNo),
    Message { topic: String, payload: Bytes },
}

impl Flights {
    /// None yet; the device takes so many at a time.
    pub fn new(device_takes: u16) -> Self {
        // At most 8.
        let window = device_takes.clamp(1, WINDOW) as u8;
        Self { all: Vec::new(), last: 0, window }
    }

    /// Whether one more may go out.
    pub fn is_open(&self) -> bool {
        self.all.iter().filter(|flight| !flight.stranded).count() < usize::from(self.window)
    }

    /// Sends a message on its way, if it is one of QoS 1.
    pub fn depart(&mut self, message: Downlink) -> Sending {
        let cargo = match &message {
            Downlink::Push { task, .. } => Cargo::Push(*task),
            Downlink::Message { topic, payload, kept: true, .. } => {
                Cargo::Message { topic: topic.clone(), payload: payload.clone() }
            }
            Downlink::Message { kept: false, .. } | Downlink::PullReply { .. } => {
                return Sending { message, id: None, again: false };
            }
        };
        let old = self.all.iter_mut().find(|flight| match (&flight.cargo, &cargo) {
            (Cargo::Push(old), Cargo::Push(new)) => flight.stranded && old == new,
            _ => false,
        });
        if let Some(old) = old {
            old.stranded = false;
            return Sending { message, id: Some(old.id), again: true };
        }
        let id = self.new_id();
        self.all.push(Flight { id, stranded: false, cargo });
        Sending { message, id: Some(id), again: false }
    }

    /// The next message of an earlier connection that has to go out again.
    pub fn depart_again(&mut self) -> Option<Sending> {
        if !self.is_open() {
            return None;
        }
        self.all.iter_mut().filter(|flight| flight.stranded).find_map(|flight| match &flight.cargo {
            Cargo::Push(_) => None,
            Cargo::Message { topic, payload } => {
                flight.stranded = false;
                let (topic, payload) = (topic.clone(), payload.clone());
                let message = Downlink::Message { topic, payload, kept: true, answer: true };
                Some(Sending { message, id: Some(flight.id), again: true })
            }
        })
    }

    fn new_id(&mut self) -> NonZeroU16 {
        loop {
            self.last = self.last.wrapping_add(1);
            if let Some(id) = NonZeroU16::new(self.last)
                && !self.all.iter().any(|flight| flight.id == id)
            {
                return id;
            }
        }
    }

    /// The device has a message, or can never have it.
    pub fn arrived(&mut self, id: NonZeroU16) {
        self.retain(|flight| flight.id != id);
    }

    /// A task was taken back: what the device missed of it is no longer its due.
    pub fn withdraw(&mut self, task: TaskNo) {
        self.retain(|flight| !(flight.stranded && matches!(flight.cargo, Cargo::Push(of) if of == task)));
    }

    /// On the next connection the device takes so many at a time.
    pub fn resize(&mut self, device_takes: u16) {
        self.window = Self::new(device_takes).window;
    }

    /// The connection is gone. A push of an earlier one that the engine has not repeated on it was nobody's due any more.
    pub fn strand(&mut self) {
        self.retain(|flight| !(flight.stranded && matches!(flight.cargo, Cargo::Push(_))));
        for flight in &mut self.all {
            flight.stranded = true;
        }
    }

    /// How many are on their way or have to go out again.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether the device has all.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn retain(&mut self, stays: impl Fn(&Flight) -> bool) {
        self.all.retain(stays);
        if self.all.is_empty() {
            self.all = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mailbox::tests::{push, task};
    use super::*;

    fn note(payload: &'static str) -> Downlink {
        let payload = Bytes::from_static(payload.as_bytes());
        Downlink::Message { topic: "/t".to_owned(), payload, kept: true, answer: false }
    }

    fn ids(flights: &mut Flights) -> Vec<u16> {
        std::iter::from_fn(|| flights.is_open().then(|| flights.depart(push(1, 1)).id.unwrap().get()))
            .collect()
    }

    fn id(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    #[test]
    fn the_window_reuses_no_open_id_and_never_zero() {
        let mut flights = Flights { last: u16::MAX - 1, ..Flights::new(u16::MAX) };
        assert_eq!(ids(&mut flights), [65_535, 1, 2, 3, 4, 5, 6, 7]);
        flights.arrived(id(99));
        assert!(!flights.is_open());
        flights.arrived(id(3));
        flights.last = 65_534;
        assert_eq!(ids(&mut flights), [3], "the others are open");
        assert_eq!(ids(&mut Flights::new(2)), [1, 2], "the device takes no more");
    }

    #[test]
    fn what_is_not_acknowledged_goes_out_again_under_its_id() {
        let mut flights = Flights::new(8);
        let reply =
            Downlink::Message { topic: "/t".to_owned(), payload: Bytes::new(), kept: false, answer: true };
        assert_eq!(flights.depart(reply).id, None);
        for (at, message) in
            [note("a"), push(1, 1), note("b"), push(2, 1), push(3, 1)].into_iter().enumerate()
        {
            let sending = flights.depart(message);
            assert_eq!((sending.id, sending.again), (Some(id(at as u16 + 1)), false));
        }
        assert!(flights.depart_again().is_none(), "the connection lives");
        flights.arrived(id(1));
        flights.strand();
        flights.resize(1);
        flights.withdraw(task(3));
        let again = flights.depart_again().unwrap();
        assert_eq!((again.id, again.again), (Some(id(3)), true));
        assert!(matches!(&again.message, Downlink::Message { payload, .. } if payload == "b"));
        assert!(!flights.is_open() && flights.depart_again().is_none());
        flights.arrived(id(3));
        // Pushes come from the engine again.
        assert!(flights.depart_again().is_none());
        let sending = flights.depart(push(2, 5));
        assert_eq!((sending.id, sending.again), (Some(id(4)), true));
        flights.arrived(id(4));
        let sending = flights.depart(push(3, 1));
        assert_eq!((sending.id, sending.again), (Some(id(6)), false), "its task was taken back");
        assert_eq!(flights.len(), 2);
    }

    #[test]
    fn pushes_that_nobody_repeats_are_forgotten() {
        let mut flights = Flights::new(8);
        flights.depart(push(1, 1));
        flights.depart(note("a"));
        for left in [2, 1, 1] {
            flights.strand();
            assert_eq!(flights.len(), left);
        }
    }
}
