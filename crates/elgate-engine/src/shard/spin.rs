//! How long an idle shard looks for work before it sleeps: only as long as looking pays.
//!
//! Looking costs the core; sleeping costs the way into the kernel and back. So looking is worth it
//! where work tends to come before a look is over, and not where each look ends in sleep anyway.
//! The last few waits tell which it is, and they do so separately for waits with an operation under
//! way and for others: a device's time is one thing, that of the programs another.

use elgate_types::Monotonic;
use std::time::Duration;

/// Of the last eight waits of a kind, so many must have been short for a look to be worth it.
const SHORT_WAITS_MIN: u32 = 4;

/// See the module text.
pub(super) struct Spin {
    time_max: Duration,
    wait: Option<Wait>,
    /// One bit for each of the last waits, the latest one lowest: whether it was short. Of waits
    /// without an operation under way, then of those with one.
    short: [u8; 2],
}

struct Wait {
    since: Monotonic,
    kind: usize,
    looks: bool,
}

impl Spin {
    /// Looks for `time_max` at most, and until it has learnt better, always for so long.
    pub(super) fn new(time_max: Duration) -> Self {
        Self { time_max, wait: None, short: [u8::MAX; 2] }
    }

    /// Whether nothing was found the last time.
    pub(super) fn is_waiting(&self) -> bool {
        self.wait.is_some()
    }

    /// Nothing was found: whether to look again, instead of sleeping.
    pub(super) fn goes_on(&mut self, now: Monotonic, is_under_way: bool) -> bool {
        let wait = self.wait.get_or_insert_with(|| {
            let kind = usize::from(is_under_way);
            let looks = self.short[kind].count_ones() >= SHORT_WAITS_MIN;
            Wait { since: now, kind, looks }
        });
        wait.looks && now.since(wait.since) < self.time_max
    }

    /// Something was found, awake or asleep.
    pub(super) fn found(&mut self, now: Monotonic) {
        let Some(Wait { since, kind, looks }) = self.wait.take() else { return };
        // One that was slept through holds the waking too, which takes about as long again.
        let limit = if looks { self.time_max } else { self.time_max * 2 };
        self.short[kind] = self.short[kind] << 1 | u8::from(now.since(since) < limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_MAX: Duration = Duration::from_micros(20);

    struct Clocked(Spin, Monotonic);

    impl Clocked {
        /// Waits that each take so long; how many began with a look.
        fn looks(&mut self, waits: usize, micros: u64, is_under_way: bool) -> usize {
            let Self(spin, now) = self;
            let wait = |_: &usize| {
                let looks = spin.goes_on(*now, is_under_way);
                *now = now.after(Duration::from_micros(micros));
                spin.found(*now);
                looks
            };
            (0..waits).filter(wait).count()
        }
    }

    #[test]
    fn short_waits_are_looked_through_and_long_ones_slept_through() {
        let mut spin = Clocked(Spin::new(TIME_MAX), Monotonic::default());
        assert_eq!(spin.looks(100, 19, false), 100);
        assert_eq!(spin.looks(100, 50, false), 5, "until most of the last were long");
        // Waking up may have been half of it, so it is tried again now and then.
        assert!((40..=60).contains(&spin.looks(100, 30, false)));
        assert!(spin.looks(100, 50, false) <= 5);
        assert_eq!(spin.looks(100, 10, false), 96, "half of them are short again");
    }

    #[test]
    fn the_devices_time_says_nothing_about_that_of_the_programs() {
        let mut spin = Clocked(Spin::new(TIME_MAX), Monotonic::default());
        let rounds: Vec<_> =
            (0..50).map(|_| (spin.looks(1, 85, true), spin.looks(1, 10, false))).collect();
        assert_eq!(rounds[..5], [(1, 1); 5]);
        assert_eq!(rounds[5..], [(0, 1); 45]);
    }

    #[test]
    fn a_look_ends_in_time_and_without_time_there_is_none() {
        let (mut spin, now) = (Spin::new(TIME_MAX), Monotonic::default());
        assert!(!spin.is_waiting());
        assert!(spin.goes_on(now, false) && spin.goes_on(now.after(TIME_MAX / 2), false));
        assert!(!spin.goes_on(now.after(TIME_MAX), false) && spin.is_waiting());
        spin.found(now.after(TIME_MAX));
        assert!(!spin.is_waiting());
        assert!(!Spin::new(Duration::ZERO).goes_on(now, false));
    }
}
