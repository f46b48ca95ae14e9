//! Latency samples and what is said of them.

use std::time::{Duration, Instant};

/// Every latency of a round.
#[derive(Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Runs `operation` over and over until `seconds` have passed, and times each run.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub(crate) fn collect<E>(
        seconds: Duration,
        mut operation: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut samples = Vec::with_capacity(1 << 16);
        let begin = Instant::now();
        let mut before = begin;
        loop {
            operation()?;
            let after = Instant::now();
            samples.push(after - before);
            before = after;
            if after - begin >= seconds {
                return Ok(Self(samples));
            }
        }
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
