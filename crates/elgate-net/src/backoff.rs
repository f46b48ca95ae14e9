//! How long to wait before the next attempt: exponential backoff with full jitter
//! (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
//!
//! ```text
//! delay = random between 0 and min(max_ms, initial_ms * 2^(failures - 1))
//! ```

use elgate_types::ErrorCode;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When and how often to repeat what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Longest wait after the first failure, in milliseconds; doubles with each further one.
    pub initial_ms: u64,
    /// Longest wait ever, in milliseconds.
    pub max_ms: u64,
    /// How many attempts in all, the first included; 0: for ever.
    pub max_attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial_ms: 100, max_ms: 30_000, max_attempts: 0 }
    }
}

/// Why a [`RetryPolicy`] makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryPolicyError {
    /// Retrying without any wait would be a busy loop.
    #[error("retry.initial_ms is 0: set it to at least 1")]
    InitialZero,
    /// The bound lies below the start.
    #[error("retry.max_ms ({max_ms}) is less than retry.initial_ms ({initial_ms}): raise it")]
    MaxBelowInitial {
        /// As configured.
        initial_ms: u64,
        /// As configured.
        max_ms: u64,
    },
}

impl RetryPolicyError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::ConfigInvalid
    }
}

impl RetryPolicy {
    /// Checks that the figures make sense together.
    ///
    /// # Errors
    /// [`RetryPolicyError`] naming the setting.
    pub fn check(&self) -> Result<(), RetryPolicyError> {
        if self.initial_ms == 0 {
            return Err(RetryPolicyError::InitialZero);
        }
        if self.max_ms < self.initial_ms {
            let Self { initial_ms, max_ms, .. } = *self;
            return Err(RetryPolicyError::MaxBelowInitial { initial_ms, max_ms });
        }
        Ok(())
    }

    /// The longest wait after so many failures in a row (1 for the first).
    fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(63);
        let initial_ms = self.initial_ms.max(1);
        Duration::from_millis(initial_ms.saturating_mul(1 << doublings).min(self.max_ms))
    }
}

/// A small seeded generator (SplitMix64), so that a run can be repeated. Not for secrets.
#[derive(Debug, Clone)]
pub struct Jitter {
    state: u64,
}

impl Jitter {
    /// A generator whose sequence is decided by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A duration from zero to `ceiling`, both included, evenly spread over the nanoseconds.
    pub fn up_to(&mut self, ceiling: Duration) -> Duration {
        let span = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        // The high half of a 64 x 64 bit product: even to within 2^-64 of the span.
        let product = u128::from(self.next()) * (u128::from(span) + 1);
        Duration::from_nanos(u64::try_from(product >> 64).unwrap_or(span))
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The failures in a row of one thing that is being tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure. Returns how long to wait before the next attempt, and at least
    /// `not_before` (what the far end asked for); `None` if the policy allows no further one.
    pub fn failed(
        &mut self,
        policy: &RetryPolicy,
        jitter: &mut Jitter,
        not_before: Duration,
    ) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if policy.max_attempts != 0 && self.failures >= policy.max_attempts {
            return None;
        }
        Some(jitter.up_to(policy.ceiling(self.failures)).max(not_before))
    }

    /// Failures in a row so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures: it worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: RetryPolicy = RetryPolicy { initial_ms: 100, max_ms: 1_000, max_attempts: 0 };

    #[test]
    fn ceilings_double_up_to_the_maximum() {
        let ceilings: Vec<_> =
            (1..=6).map(|failures| POLICY.ceiling(failures).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(POLICY.ceiling(u32::MAX).as_millis(), 1_000);
    }

    #[test]
    fn delays_fill_the_whole_range() {
        let mut jitter = Jitter::new(7);
        let delays: Vec<_> =
            (0..10_000).map(|_| jitter.up_to(Duration::from_millis(100))).collect();
        let mean = delays.iter().sum::<Duration>() / 10_000;
        assert!((48..=52).contains(&mean.as_millis()), "{mean:?}");
        assert!(delays.iter().min() < Some(&Duration::from_millis(1)));
        assert!(delays.iter().max() > Some(&Duration::from_millis(99)));
    }

    #[test]
    fn attempts_are_counted_with_the_first() {
        let mut jitter = Jitter::new(1);
        let policy = RetryPolicy { max_attempts: 3, ..POLICY };
        let mut backoff = Backoff::default();
        let mut failed = || backoff.failed(&policy, &mut jitter, Duration::ZERO).is_some();
        assert_eq!([failed(), failed(), failed(), failed()], [true, true, false, false]);
        backoff.reset();
        assert_eq!(backoff.failures(), 0);
    }

    #[test]
    fn policies_are_checked_and_read() {
        assert_eq!(RetryPolicy::default().check(), Ok(()));
        let zero = RetryPolicy { initial_ms: 0, ..POLICY };
        assert_eq!(zero.check(), Err(RetryPolicyError::InitialZero));
        let low = RetryPolicy { max_ms: 99, ..POLICY };
        assert!(low.check().expect_err("below").to_string().contains("max_ms (99)"));
        let read: RetryPolicy = serde_json::from_str(r#"{"max_attempts": 5}"#).expect("sound");
        assert_eq!(read, RetryPolicy { max_attempts: 5, ..RetryPolicy::default() });
        assert!(serde_json::from_str::<RetryPolicy>(r#"{"max_attempt": 5}"#).is_err());
    }

    proptest! {
        #[test]
        fn a_delay_respects_its_bounds(
            seed: u64, initial_ms: u64, max_ms: u64, failures in 0..200_u32, wish_ms in 0..5_000_u64,
        ) {
            let policy = RetryPolicy { initial_ms, max_ms, max_attempts: 0 };
            let wish = Duration::from_millis(wish_ms);
            let mut backoff = Backoff { failures };
            let delay = backoff.failed(&policy, &mut Jitter::new(seed), wish).expect("for ever");
            prop_assert!(delay >= wish);
            prop_assert!(delay <= wish.max(Duration::from_millis(max_ms)));
            let again = Backoff { failures }.failed(&policy, &mut Jitter::new(seed), wish);
            prop_assert_eq!(Some(delay), again, "same seed, same delay");
        }
    }
}
