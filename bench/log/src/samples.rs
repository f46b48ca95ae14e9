//! Latency samples and what is said of them.

use std::time::{Duration, Instant};

/// Real time. Only a benchmark has business with it.
pub(crate) struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A measurement of volume ends here if its time is not up before: devices that are shared allow
/// bursts, and one that has used up its allowance says nothing about the software above it.
pub(crate) const VOLUME_BYTES_MAX: usize = 256 << 20;

/// Every latency of a round.
#[derive(Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Runs `operation` over and over until `time` has passed or it has run `count_max` times,
    /// and times each run.
    pub(crate) fn collect<E>(
        time: Duration,
        count_max: usize,
        mut operation: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut samples = Vec::with_capacity(1 << 16);
        let clock = Clock::start();
        let mut before = clock.elapsed();
        while samples.is_empty() || (before < time && samples.len() < count_max) {
            operation()?;
            let after = clock.elapsed();
            samples.push(after - before);
            before = after;
        }
        Ok(Self(samples))
    }

    /// The latency that `percent` of the samples do not exceed, in microseconds.
    pub(crate) fn percentile_us(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len() - 1;
        micros(self.0[last * percent / 100])
    }

    /// The mean, in microseconds.
    pub(crate) fn mean_us(&self) -> f64 {
        micros(self.total()) / self.0.len() as f64
    }

    /// How many operations a second that makes.
    pub(crate) fn per_second(&self) -> f64 {
        self.0.len() as f64 / self.total().as_secs_f64()
    }

    fn total(&self) -> Duration {
        self.0.iter().sum()
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
