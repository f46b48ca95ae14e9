//! Real time, latency samples, and what is said of them. Every sample is kept.

use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Real time. Only a benchmark has business with it.
#[derive(Debug, Clone, Copy)]
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

/// At which percentages a distribution is handed out.
const QUANTILES: [f64; 25] = [
    0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0, 65.0,
    70.0, 75.0, 80.0, 85.0, 90.0, 95.0, 98.0, 99.0, 99.9,
];

/// Every latency of a round.
#[derive(Default)]
pub(crate) struct Samples {
    latencies: Vec<Duration>,
    is_sorted: bool,
}

impl Samples {
    /// Room for that many, so that keeping them disturbs nothing.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self { latencies: Vec::with_capacity(count), is_sorted: false }
    }

    /// Runs `operation` over and over until `time` has passed or it has run `count_max` times,
    /// and times each run.
    pub(crate) fn collect<E>(
        time: Duration,
        count_max: usize,
        mut operation: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut samples = Self::with_capacity(1 << 16);
        let clock = Clock::start();
        let mut before = clock.elapsed();
        while samples.latencies.is_empty() || (before < time && samples.latencies.len() < count_max)
        {
            operation()?;
            let after = clock.elapsed();
            samples.push(after - before);
            before = after;
        }
        Ok(samples)
    }

    pub(crate) fn push(&mut self, latency: Duration) {
        self.latencies.push(latency);
        self.is_sorted = false;
    }

    pub(crate) fn append(&mut self, mut others: Self) {
        self.latencies.append(&mut others.latencies);
        self.is_sorted = false;
    }

    pub(crate) fn count(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that `percent` of the samples do not exceed, in microseconds.
    pub(crate) fn percentile_us(&mut self, percent: f64) -> f64 {
        if !self.is_sorted {
            self.latencies.sort_unstable();
            self.is_sorted = true;
        }
        let last = self.latencies.len().saturating_sub(1);
        let index = (last as f64 * percent / 100.0) as usize;
        self.latencies.get(index).map_or(f64::NAN, |latency| micros(*latency))
    }

    /// The mean, in microseconds.
    pub(crate) fn mean_us(&self) -> f64 {
        micros(self.total()) / self.latencies.len() as f64
    }

    /// How many operations a second that makes, of operations that followed one another.
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.total().as_secs_f64()
    }

    /// The distribution for a plot: `[[percent, microseconds], ...]`.
    pub(crate) fn distribution(&mut self) -> Value {
        QUANTILES.map(|percent| json!([percent, self.percentile_us(percent)])).to_vec().into()
    }

    fn total(&self) -> Duration {
        self.latencies.iter().sum()
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_and_follow_what_is_added() {
        let mut samples = Samples::default();
        for us in (1..=100).rev() {
            samples.push(Duration::from_micros(us));
        }
        assert_eq!(samples.percentile_us(0.0), 1.0);
        assert_eq!(samples.percentile_us(50.0), 50.0);
        assert_eq!(samples.percentile_us(100.0), 100.0);
        samples.push(Duration::from_micros(1_000));
        assert_eq!(samples.percentile_us(100.0), 1_000.0);
        assert_eq!(samples.count(), 101);
    }
}
