//! Outages: many devices lose their connections at about the same time, and come back. Nothing here reads a clock.

use serde::Serialize;

/// An outage begins when so many percent of the devices are missing.
const BEGINS_PERCENT: u64 = 5;

/// Many devices were without a connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outage {
    /// When it began, in seconds after the start.
    pub at: f64,
    /// Whether the simulation made it.
    pub storm: bool,
    /// The most devices that were missing at a time.
    pub lost: u64,
    /// Seconds from its beginning until half of those were back.
    pub half_back: Option<f64>,
    /// Seconds from its beginning until 99 % of those were back: its end.
    pub back: Option<f64>,
}

/// Finds outages in the number of devices that are missing.
#[derive(Debug, Default)]
pub struct Outages {
    devices: u64,
    found: Vec<Outage>,
    storm_at: Option<f64>,
}

impl Outages {
    /// Of so many devices.
    pub fn new(devices: u64) -> Self {
        Self { devices, ..Self::default() }
    }

    /// The simulation cuts connections now.
    pub fn storm(&mut self, at: f64) {
        self.storm_at = Some(at);
    }

    /// So many devices are missing now: they had a connection, lost it against their will, and have no other yet.
    pub fn note(&mut self, at: f64, missing: u64) {
        let open = self.found.last_mut().filter(|outage| outage.back.is_none());
        let Some(outage) = open else {
            if missing > 0 && missing * 100 >= self.devices * BEGINS_PERCENT {
                // What begins within two seconds of a storm is the storm.
                let storm = self.storm_at.take().filter(|storm| at - storm < 2.0);
                let begun = Outage {
                    at: storm.unwrap_or(at),
                    storm: storm.is_some(),
                    lost: missing,
                    half_back: None,
                    back: None,
                };
                self.found.push(begun);
            }
            return;
        };
        if missing > outage.lost {
            outage.lost = missing;
            outage.half_back = None;
        }
        if missing * 2 <= outage.lost && outage.half_back.is_none() {
            outage.half_back = Some(at - outage.at);
        }
        if missing * 100 <= outage.lost {
            outage.back = Some(at - outage.at);
        }
    }

    /// Those that were found, in order.
    pub fn found(&self) -> &[Outage] {
        &self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_until_nearly_all_are_back() {
        let mut outages = Outages::new(1_000);
        for (at, missing) in [
            (1.0, 0),
            (2.0, 49),
            (3.0, 60),
            (4.0, 900),
            (5.0, 700),
            (6.0, 450),
            (7.0, 10),
            (8.0, 9),
            (9.0, 0),
        ] {
            outages.note(at, missing);
        }
        let wanted = Outage { at: 3.0, storm: false, lost: 900, half_back: Some(3.0), back: Some(5.0) };
        assert_eq!(outages.found(), [wanted]);
    }

    #[test]
    fn storms_are_told_apart_and_a_second_loss_starts_the_count_anew() {
        let mut outages = Outages::new(100);
        outages.storm(10.0);
        outages.note(10.1, 100);
        outages.note(10.2, 40);
        outages.note(10.3, 0);
        outages.note(20.0, 50);
        outages.note(21.0, 20);
        outages.note(22.0, 90);
        let [storm, loss] = outages.found() else { panic!("{outages:?}") };
        assert!(storm.storm && (storm.back.unwrap() - 0.3).abs() < 1e-9, "{storm:?}");
        assert!(!loss.storm && loss.lost == 90 && loss.half_back.is_none() && loss.back.is_none());
    }

    #[test]
    fn a_few_lost_connections_are_no_outage() {
        let mut outages = Outages::new(100);
        outages.note(1.0, 4);
        assert_eq!(outages.found(), []);
    }
}
