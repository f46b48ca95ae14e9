//! Points in time. Only `elgate-io` makes them; everything else is handed them.

use std::time::Duration;

/// A point on a clock that never goes back, in nanoseconds since an arbitrary origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// This point plus `duration`, saturating at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this point is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Wall-clock time in microseconds since the Unix epoch. May jump; used for naming and display,
/// never for deciding how long something took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(pub u64);

impl WallTime {
    /// The UTC calendar date as `(year, month, day)`.
    ///
    /// Civil-from-days after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    #[must_use]
    pub fn date(self) -> (i64, u32, u32) {
        let days = i64::try_from(self.0 / 86_400_000_000).unwrap_or(0) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_index + 2) / 5 + 1;
        let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_across_leap_days_and_centuries() {
        let day = 86_400_000_000;
        assert_eq!(WallTime(0).date(), (1970, 1, 1));
        assert_eq!(WallTime(day * 11_016).date(), (2000, 2, 29));
        assert_eq!(WallTime(day * 20_778).date(), (2026, 11, 21));
        assert_eq!(WallTime(day * 47_541).date(), (2100, 3, 1));
    }

    #[test]
    fn monotonic_arithmetic_saturates() {
        assert_eq!(Monotonic(u64::MAX).after(Duration::from_secs(1)), Monotonic(u64::MAX));
        assert_eq!(Monotonic(5).since(Monotonic(9)), Duration::ZERO);
    }
}
