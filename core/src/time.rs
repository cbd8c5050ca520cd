//! Points in time: milliseconds since 1970-01-01 UTC, always given by the caller.

/// A point in time, in milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// One millisecond, in microseconds.
pub const MILLI_US: i64 = 1_000;
/// One second, in microseconds.
pub const SECOND_US: i64 = 1_000 * MILLI_US;
/// One second, in milliseconds.
pub const SECOND_MS: i64 = 1_000;
/// One minute, in milliseconds.
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
/// One hour, in milliseconds.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;

impl Timestamp {
    /// This moment plus `ms` milliseconds; saturates instead of wrapping.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; negative if `earlier` is later.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp(i64::MAX).plus_ms(1), Timestamp(i64::MAX));
        assert_eq!(Timestamp(i64::MIN).since_ms(Timestamp(1)), i64::MIN);
        assert_eq!(Timestamp(5_000).since_ms(Timestamp(2_000)), 3_000);
    }
}
