//! An open loop: items are offered at a steady rate, whether or not the earlier ones are through.
//!
//! Each item has an intended time, fixed in advance, and its latency counts from there. So a stall
//! is paid for by every item that came due during it (no coordinated omission).

use crate::samples::{Clock, Samples};
use std::time::Duration;

/// The rate and size of what is offered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) per_second: f64,
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

/// A load under way.
pub(crate) struct Offered {
    clock: Clock,
    interval_s: f64,
    total: usize,
    done: usize,
    samples: Samples,
}

impl Offered {
    /// Starts now: the first item is due at once.
    pub(crate) fn start(load: &Load) -> Self {
        let total = ((load.per_second * load.time.as_secs_f64()) as usize).max(1);
        let samples = Samples::with_capacity(total);
        let interval_s = 1.0 / load.per_second;
        Self { clock: Clock::start(), interval_s, total, done: 0, samples }
    }

    /// How many items have come due.
    pub(crate) fn due(&self) -> usize {
        ((self.clock.elapsed().as_secs_f64() / self.interval_s) as usize + 1).min(self.total)
    }

    /// How long until item `index` is due; zero if it is.
    pub(crate) fn until(&self, index: usize) -> Duration {
        self.intended(index).saturating_sub(self.clock.elapsed())
    }

    /// Notes that so many items, of all that were offered, are through by now.
    pub(crate) fn complete(&mut self, count: usize) {
        let now = self.clock.elapsed();
        for index in self.done..count {
            self.samples.push(now.saturating_sub(self.intended(index)));
        }
        self.done = self.done.max(count);
    }

    /// Items that are through.
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    pub(crate) fn is_over(&self) -> bool {
        self.done >= self.total
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    pub(crate) fn into_samples(self) -> Samples {
        self.samples
    }

    fn intended(&self, index: usize) -> Duration {
        Duration::from_secs_f64(index as f64 * self.interval_s)
    }
}
