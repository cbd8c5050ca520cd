//! How long things took, and what went wrong, of all devices of a fleet together.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

/// The longest time that is told apart from longer ones, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;
/// Exact to one in a thousand.
const DIGITS: u8 = 3;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meter {
    /// From the first SYN to the CONNACK.
    Connect,
    /// From a publication of QoS 1 to its PUBACK.
    PubAck,
    /// A login by HTTP.
    HttpAuth,
    /// A message by HTTP, the connection included.
    HttpReport,
    /// A download that went through in one go, its connection included.
    Download,
    /// From the making of a batch to a device's first push.
    Push,
}

impl Meter {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Connect, Self::PubAck, Self::HttpAuth, Self::HttpReport, Self::Download, Self::Push];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::PubAck => "puback",
            Self::HttpAuth => "http_auth",
            Self::HttpReport => "http_report",
            Self::Download => "download",
            Self::Push => "push",
        }
    }
}

/// Times and errors.
#[derive(Debug)]
pub struct Meters {
    times: [Mutex<Option<Histogram<u32>>>; Meter::ALL.len()],
    errors: Mutex<BTreeMap<String, u64>>,
}

/// The distribution of a time, in milliseconds; exact to one in a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Times {
    /// How often.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half took at most this long.
    pub p50: f64,
    /// 90 % did.
    pub p90: f64,
    /// 99 % did.
    pub p99: f64,
    /// 99.9 % did.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Default for Meters {
    fn default() -> Self {
        Self { times: std::array::from_fn(|_| Mutex::new(None)), errors: Mutex::default() }
    }
}

impl Meters {
    /// Notes how long something took.
    pub fn took(&self, meter: Meter, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).clamp(1, LONGEST_US);
        let mut histogram = self.times[meter as usize].lock();
        if histogram.is_none() {
            *histogram = Histogram::new_with_bounds(1, LONGEST_US, DIGITS).ok();
        }
        if let Some(histogram) = histogram.as_mut() {
            histogram.saturating_record(micros);
        }
    }

    /// The distribution so far.
    pub fn times(&self, meter: Meter) -> Times {
        let histogram = self.times[meter as usize].lock();
        let Some(histogram) = histogram.as_ref() else { return Times::default() };
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Times {
            count: histogram.len(),
            mean: histogram.mean() / 1_000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1_000.0,
        }
    }

    /// Notes an error: what was done, and what came of it.
    pub fn failed(&self, doing: &str, what: &str) {
        *self.errors.lock().entry(format!("{doing}: {what}")).or_default() += 1;
    }

    /// Notes an error of a connection.
    pub(super) fn failed_io(&self, doing: &str, error: &io::Error) {
        // Of a refusal the words matter; of other errors the kind, since the words hold addresses and numbers.
        if error.kind() == io::ErrorKind::PermissionDenied {
            self.failed(doing, &error.to_string());
        } else {
            self.failed(doing, &error.kind().to_string());
        }
    }

    /// Errors so far, by what they are.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_read_off() {
        let meters = Meters::default();
        assert_eq!(meters.times(Meter::Connect), Times::default());
        for millis in 1..=1_000 {
            meters.took(Meter::Connect, Duration::from_millis(millis));
        }
        let times = meters.times(Meter::Connect);
        let near = |got: f64, wanted: f64| {
            assert!((got - wanted).abs() <= wanted / 900.0, "{got} {wanted}");
        };
        assert_eq!(times.count, 1_000);
        near(times.p50, 500.0);
        near(times.p90, 900.0);
        near(times.p99, 990.0);
        near(times.p999, 999.0);
        near(times.max, 1_000.0);
        near(times.mean, 500.5);
        meters.took(Meter::Connect, Duration::from_hours(3));
        near(meters.times(Meter::Connect).max, 3_600_000.0);
    }

    #[test]
    fn errors_are_counted_by_kind() {
        let meters = Meters::default();
        meters.failed_io("connect", &io::Error::from_raw_os_error(111));
        meters.failed_io("connect", &io::ErrorKind::ConnectionRefused.into());
        meters.failed_io("connect", &io::Error::new(io::ErrorKind::PermissionDenied, "not authorized"));
        let errors: Vec<_> = meters.errors().into_iter().collect();
        assert_eq!(
            errors,
            [("connect: connection refused".to_owned(), 2), ("connect: not authorized".to_owned(), 1)]
        );
    }
}
