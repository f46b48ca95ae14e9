//! The Retry-After header (RFC 9110, section 10.2.3).

use elgate_types::WallTime;
use std::time::{Duration, UNIX_EPOCH};

/// When the far end asks to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// So many seconds after the response.
    Seconds(u64),
    /// At that time, by the far end's clock.
    At(WallTime),
}

impl RetryAfter {
    /// Parses the header's value: a number of seconds, or an HTTP date in any of its three
    /// formats. `None` for anything else; the header is then best ignored.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim_matches([' ', '\t']);
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // More digits than fit mean "very long", not "at once".
            return Some(Self::Seconds(value.parse().unwrap_or(u64::MAX)));
        }
        let since_epoch = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self::At(WallTime(u64::try_from(since_epoch.as_micros()).ok()?)))
    }

    /// How long to wait from `now`. Zero if the time has passed. The far end chooses this figure:
    /// callers cap it.
    #[must_use]
    pub fn delay(self, now: WallTime) -> Duration {
        match self {
            Self::Seconds(seconds) => Duration::from_secs(seconds),
            Self::At(time) => Duration::from_micros(time.0.saturating_sub(now.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_all_three_date_formats() {
        let epoch_plus = |seconds: u64| Some(RetryAfter::At(WallTime(seconds * 1_000_000)));
        for (value, expected) in [
            ("120", Some(RetryAfter::Seconds(120))),
            (" 0 ", Some(RetryAfter::Seconds(0))),
            ("99999999999999999999999", Some(RetryAfter::Seconds(u64::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", epoch_plus(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", epoch_plus(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", epoch_plus(784_111_777)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ] {
            assert_eq!(RetryAfter::parse(value), expected, "{value:?}");
        }
    }

    #[test]
    fn delay_counts_from_now_and_never_backwards() {
        let at = RetryAfter::At(WallTime(5_000_000));
        assert_eq!(at.delay(WallTime(2_000_000)), Duration::from_secs(3));
        assert_eq!(at.delay(WallTime(9_000_000)), Duration::ZERO);
        assert_eq!(RetryAfter::Seconds(7).delay(WallTime(0)), Duration::from_secs(7));
    }
}
