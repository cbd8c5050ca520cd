//! How many connections of devices may begin in a second, and who waits for that: after a restart a whole fleet
//! comes back at once, and each login costs, by TLS most of all.
//!
//! The rule is pure ([`Pace`], [`Queue`]); [`Turnstile`] adds the clock, the waiting and the metrics. Nobody is
//! preferred: first come, first served. The queue is as long as the longest wait allows, so who would wait longer
//! is turned away at once, and comes again when his SDK thinks fit.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const SECOND_NS: u64 = 1_000_000_000;
/// How much of a second's admissions may come at one moment: one part in so many. A pause of the machine as long
/// as that costs none of the rate.
const BURST_PART: u32 = 20;

/// The rule of the rate: in no second, wherever it begins, are more than `per_second` admitted.
#[derive(Debug)]
pub struct Pace {
    /// Nanoseconds from one admission to the next, in the long run.
    step: u64,
    /// How far admissions may run ahead of that.
    ahead: u64,
    /// When the next one would be if all came evenly.
    due: u64,
}

impl Pace {
    /// A pace of so many in a second; 0 counts as 1.
    pub fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        // A burst, and within the same second what the steps add to it.
        let burst = u64::from((per_second / BURST_PART).max(1));
        let steps = u64::from(per_second) + 1 - burst;
        let step = SECOND_NS.div_ceil(steps);
        Self { step, ahead: (burst - 1) * step, due: 0 }
    }

    /// Nanoseconds until one may be admitted.
    pub fn wait(&self, now: u64) -> u64 {
        self.due.saturating_sub(self.ahead).saturating_sub(now)
    }

    /// Admits one if it may be.
    pub fn take(&mut self, now: u64) -> bool {
        if self.wait(now) > 0 {
            return false;
        }
        self.due = self.due.max(now) + self.step;
        true
    }

    /// Takes an admission back that was not used.
    pub fn give_back(&mut self) {
        self.due = self.due.saturating_sub(self.step);
    }
}

/// What becomes of one who comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// He may go on.
    Admitted,
    /// He waits in the queue.
    Waits,
    /// He would wait for too long.
    TurnedAway,
}

/// The rule of the queue.
#[derive(Debug)]
pub struct Queue<T> {
    pace: Pace,
    places: usize,
    waiting: VecDeque<T>,
}

impl<T> Queue<T> {
    /// A queue in which nobody waits longer than `wait` for a rate of `per_second`.
    pub fn new(per_second: u32, wait: Duration) -> Self {
        let pace = Pace::new(per_second);
        let places = wait.as_nanos() / u128::from(pace.step);
        Self { pace, places: usize::try_from(places).unwrap_or(usize::MAX), waiting: VecDeque::new() }
    }

    /// Somebody comes; if he has to wait, `ticket` makes what stands for him.
    pub fn arrive(&mut self, now: u64, ticket: impl FnOnce() -> T) -> Arrival {
        if self.waiting.is_empty() && self.pace.take(now) {
            return Arrival::Admitted;
        }
        if self.waiting.len() >= self.places {
            return Arrival::TurnedAway;
        }
        self.waiting.push_back(ticket());
        Arrival::Waits
    }

    /// Calls those whose turn it is; one who does not answer (`call` says false) costs nobody anything. Answers how
    /// many nanoseconds are left until the next turn, or `None` if nobody waits.
    pub fn call(&mut self, now: u64, mut call: impl FnMut(T) -> bool) -> Option<u64> {
        loop {
            if self.waiting.is_empty() {
                // Most of the time there is no storm, and no memory is kept for one.
                self.waiting = VecDeque::new();
                return None;
            }
            if !self.pace.take(now) {
                return Some(self.pace.wait(now));
            }
            if let Some(ticket) = self.waiting.pop_front()
                && !call(ticket)
            {
                self.pace.give_back();
            }
        }
    }

    /// One who was admitted did not use it.
    pub fn give_back(&mut self) {
        self.pace.give_back();
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The turnstile before the devices' ports.
#[derive(Debug)]
pub struct Turnstile {
    began: Instant,
    queue: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    queue: Queue<oneshot::Sender<()>>,
    /// Whether somebody calls those who wait.
    called: bool,
}

impl Turnstile {
    /// Admits `per_second` at most, after `wait` at most. `None` for a rate of 0: there is no limit.
    pub fn new(per_second: u32, wait: Duration) -> Option<Arc<Self>> {
        let queue = Mutex::new(Waiting { queue: Queue::new(per_second, wait), called: false });
        (per_second > 0).then(|| Arc::new(Self { began: Instant::now(), queue }))
    }

    /// Waits for admission; false: turned away. `gone` is asked when one's turn has come after waiting: who is not
    /// there any more takes nothing from the others.
    pub async fn admit(self: &Arc<Self>, gone: impl FnOnce() -> bool) -> bool {
        let mut turn = None;
        let arrival = {
            let mut waiting = self.queue.lock();
            let arrival = waiting.queue.arrive(self.now(), || {
                let (sender, receiver) = oneshot::channel();
                turn = Some(receiver);
                sender
            });
            if arrival == Arrival::Waits {
                set_waiting(waiting.queue.len());
                if !waiting.called {
                    waiting.called = true;
                    tokio::spawn(Arc::clone(self).call());
                }
            }
            arrival
        };
        match (arrival, turn) {
            (Arrival::Admitted, _) => count("at_once"),
            (Arrival::Waits, Some(turn)) => {
                if turn.await.is_err() {
                    return false;
                }
                if gone() {
                    let mut waiting = self.queue.lock();
                    waiting.queue.give_back();
                    self.call_next(&mut waiting);
                    drop(waiting);
                    count("gone");
                    return false;
                }
                count("after_waiting");
            }
            (Arrival::Waits | Arrival::TurnedAway, _) => {
                count("turned_away");
                return false;
            }
        }
        true
    }

    /// Calls those who wait until nobody does.
    async fn call(self: Arc<Self>) {
        loop {
            let wait = {
                let mut waiting = self.queue.lock();
                let wait = self.call_next(&mut waiting);
                waiting.called = wait.is_some();
                wait
            };
            let Some(wait) = wait else { return };
            tokio::time::sleep(Duration::from_nanos(wait)).await;
        }
    }

    /// Calls those whose turn it is; how many nanoseconds are left until the next turn.
    fn call_next(&self, waiting: &mut Waiting) -> Option<u64> {
        let next = waiting.queue.call(self.now(), |turn| turn.send(()).is_ok());
        set_waiting(waiting.queue.len());
        next
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("updraft_admissions_total", "outcome" => outcome).increment(1);
}

fn set_waiting(count: usize) {
    metrics::gauge!("updraft_admission_waiting").set(count as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    /// Whether more than `limit` of these moments are within one second.
    fn crowded(moments: &[u64], limit: u32) -> bool {
        moments.windows(limit as usize + 1).any(|w| w[limit as usize] - w[0] < SECOND_NS)
    }

    /// Admits all who wait, looking every `tick`; when each was.
    fn drain(queue: &mut Queue<usize>, mut now: u64, tick: u64) -> Vec<(usize, u64)> {
        let mut admitted = Vec::new();
        while queue
            .call(now, |who| {
                admitted.push((who, now));
                true
            })
            .is_some()
        {
            now += tick;
        }
        admitted
    }

    #[test]
    fn a_storm_is_served_in_order_within_the_rate_and_the_wait() {
        let mut queue = Queue::new(5_000, Duration::from_secs(4));
        let mut admitted = Vec::new();
        for who in 0..10_000 {
            match queue.arrive(7, || who) {
                Arrival::Admitted => admitted.push((who, 7)),
                Arrival::Waits => {}
                Arrival::TurnedAway => panic!("{who} is turned away"),
            }
        }
        assert_eq!(admitted.len(), 250, "a twentieth at once");
        admitted.extend(drain(&mut queue, 7, MS));
        assert!(admitted.iter().map(|(who, _)| *who).eq(0..10_000), "first come, first served");
        let moments: Vec<u64> = admitted.iter().map(|(_, at)| *at).collect();
        assert!(!crowded(&moments, 5_000));
        let took = moments[9_999] / MS;
        assert!((2_000..2_200).contains(&took), "{took} ms: the rate is used");
    }

    #[test]
    fn who_would_wait_too_long_is_turned_away_and_others_are_not() {
        let mut queue = Queue::new(100, Duration::from_secs(2));
        let outcomes: Vec<Arrival> = (0..300).map(|who| queue.arrive(0, || who)).collect();
        let count = |wanted: &Arrival| outcomes.iter().filter(|outcome| *outcome == wanted).count();
        assert_eq!((count(&Arrival::Admitted), count(&Arrival::Waits)), (5, 191));
        let (_, last) = drain(&mut queue, 0, MS)[190];
        assert!(last <= 2 * SECOND_NS, "{last}");
        assert_eq!(queue.arrive(3 * SECOND_NS, || 0), Arrival::Admitted, "the storm is over");
    }

    #[test]
    fn who_has_gone_takes_nobodys_turn() {
        let mut queue = Queue::new(10, Duration::from_mins(1));
        for who in 0..101 {
            queue.arrive(0, || who);
        }
        let mut called = Vec::new();
        // All but every tenth one is gone.
        let left = queue.call(100 * MS, |who| {
            called.push(who);
            who % 10 == 0
        });
        assert_eq!(called, (1..=10).collect::<Vec<_>>(), "those who are gone cost nothing");
        assert_eq!(left, Some(100 * MS));
        queue.give_back();
        called.clear();
        let left = queue.call(100 * MS, |who| {
            called.push(who);
            true
        });
        assert_eq!((called, left), (vec![11], Some(100 * MS)));
    }

    #[test]
    fn small_rates_work_too() {
        for (rate, places) in [(1, 3), (2, 6), (19, 56)] {
            let mut queue = Queue::new(rate, Duration::from_secs(3));
            let outcomes: Vec<Arrival> = (0..100).map(|who| queue.arrive(0, || who)).collect();
            assert_eq!(outcomes.iter().filter(|outcome| **outcome == Arrival::Admitted).count(), 1);
            assert_eq!(queue.len(), places, "{rate}");
        }
    }

    proptest! {
        /// Whatever comes when: the rate holds in every second, the order is that of coming, nobody waits longer
        /// than allowed, and nobody is forgotten.
        #[test]
        fn the_rule_holds(
            rate in 1_u32..300,
            wait_s in 0_u64..5,
            steps in prop::collection::vec((0_u64..400, 0_usize..200), 1..40),
        ) {
            let mut queue = Queue::new(rate, Duration::from_secs(wait_s));
            let (mut now, mut number, mut admitted, mut turned_away) = (0, 0, Vec::new(), 0);
            let mut came = Vec::new();
            for (pause, crowd) in steps {
                for _ in 0..pause {
                    now += MS;
                    queue.call(now, |who| { admitted.push((who, now)); true });
                }
                for _ in 0..crowd {
                    match queue.arrive(now, || number) {
                        Arrival::Admitted => admitted.push((number, now)),
                        Arrival::Waits => {}
                        Arrival::TurnedAway => turned_away += 1,
                    }
                    came.push(now);
                    number += 1;
                }
            }
            admitted.extend(drain(&mut queue, now, MS));
            prop_assert_eq!(admitted.len() + turned_away, number);
            prop_assert!(admitted.is_sorted());
            let moments: Vec<u64> = admitted.iter().map(|(_, at)| *at).collect();
            prop_assert!(!crowded(&moments, rate));
            // Who looks once a millisecond is late by up to one, each time.
            let most = wait_s * SECOND_NS + 2 * MS * (1 + u64::from(rate.min(BURST_PART * 2)) * wait_s);
            for (who, at) in admitted {
                prop_assert!(at - came[who] <= most, "{} waited {} ms", who, (at - came[who]) / MS);
            }
        }
    }
}
