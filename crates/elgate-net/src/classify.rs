//! What a response means for a delivery.

use elgate_http::Response;
use elgate_types::WallTime;
use std::time::Duration;

/// What to do after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The far end has it.
    Delivered,
    /// The far end could not take it now: try again, no sooner than `after`.
    Retry {
        /// What the far end asked for, capped; zero if it asked for nothing.
        after: Duration,
    },
    /// The far end will never take it like this. Redirections count: they are not followed, since
    /// the configured URL is the one that was vouched for.
    Refused,
}

/// Judges a response received at `now`. Whatever the far end asks for, no wait is longer than
/// `retry_after_max`.
///
/// 2xx delivered; 408, 425, 429, 5xx and numbers outside the classes retry; 3xx and other 4xx
/// refused.
#[must_use]
pub fn classify(response: &Response, now: WallTime, retry_after_max: Duration) -> Verdict {
    match response.status {
        200..=299 => Verdict::Delivered,
        408 | 425 | 429 | 500.. => {
            let asked = response.retry_after.map_or(Duration::ZERO, |after| after.delay(now));
            Verdict::Retry { after: asked.min(retry_after_max) }
        }
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elgate_http::RetryAfter;

    fn verdict(status: u16, retry_after: Option<RetryAfter>) -> Verdict {
        let response = Response {
            status,
            retry_after,
            keep_alive: true,
            body_excerpt: Vec::new(),
            body_bytes: 0,
        };
        classify(&response, WallTime(10_000_000), Duration::from_secs(60))
    }

    #[test]
    fn every_status_has_one_verdict() {
        for status in 200..1_000 {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                408 | 425 | 429 | 500..=999 => Verdict::Retry { after: Duration::ZERO },
                _ => Verdict::Refused,
            };
            assert_eq!(verdict(status, None), expected, "{status}");
        }
    }

    #[test]
    fn retry_after_is_honoured_and_capped() {
        for (status, asked, seconds) in [
            (503, RetryAfter::Seconds(7), 7),
            (429, RetryAfter::Seconds(u64::MAX), 60),
            (503, RetryAfter::At(WallTime(13_000_000)), 3),
            (503, RetryAfter::At(WallTime(1)), 0),
        ] {
            let after = Duration::from_secs(seconds);
            assert_eq!(verdict(status, Some(asked)), Verdict::Retry { after });
        }
        assert_eq!(verdict(200, Some(RetryAfter::Seconds(7))), Verdict::Delivered);
        assert_eq!(verdict(301, Some(RetryAfter::Seconds(7))), Verdict::Refused);
    }
}
