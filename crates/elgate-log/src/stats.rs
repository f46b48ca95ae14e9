//! Figures of one log, for metrics and status.

use elgate_types::Monotonic;
use std::time::Duration;

/// A snapshot; counters count since the log was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogStats {
    /// Segments with records, the active one included.
    pub segments: u64,
    /// Bytes of all segments, prepared ones and those that wait to be used again included.
    pub bytes_on_disk: u64,
    /// Batches written.
    pub batches: u64,
    /// Records written.
    pub records: u64,
    /// Bytes of those batches on the device.
    pub written_bytes: u64,
    /// How long writes took, from being handed over until taken back, in microseconds. In flush
    /// mode `auto` that includes the sync.
    pub write_times_us: Histogram<{ WRITE_TIME_BOUNDS_US.len() }>,
    /// How many records became stable with one sync, or one write that is its own.
    pub sync_records: Histogram<{ SYNC_RECORDS_BOUNDS.len() }>,
    /// Time in which at least one write or sync was under way. When it grows as fast as the
    /// clock, the device is what everything waits for.
    pub busy: Duration,
    /// Bytes appended and not yet handed to the device.
    pub unwritten_bytes: u64,
    /// Writes under way.
    pub writes_in_flight: u64,
    /// Segments abandoned after an error.
    pub abandoned_segments: u64,
    /// Why nothing can be written, if that is so.
    pub parked: Option<String>,
    /// How the mirror is, if there is one.
    pub mirror: Option<MirrorStats>,
    /// Memory held for batches and their cache.
    pub memory_bytes: u64,
}

/// How a log's mirror is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorStats {
    /// Why it is not written to, if that is so. Tried again every ten seconds.
    pub trouble: Option<String>,
    /// Segments that it may lack something of, being copied.
    pub segments_behind: u64,
}

/// Upper bounds of [`LogStats::write_times_us`].
pub const WRITE_TIME_BOUNDS_US: [u64; 14] =
    [50, 75, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 250_000, 1_000_000];

/// Upper bounds of [`LogStats::sync_records`].
pub const SYNC_RECORDS_BOUNDS: [u64; 8] = [1, 4, 16, 64, 256, 1_024, 4_096, 16_384];

/// Counts of values by upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram<const BOUNDS: usize> {
    /// How many values did not exceed each bound, and did the one before it.
    pub counts: [u64; BOUNDS],
    /// How many values there were, those beyond the last bound included.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

impl<const BOUNDS: usize> Default for Histogram<BOUNDS> {
    fn default() -> Self {
        Self { counts: [0; BOUNDS], count: 0, sum: 0 }
    }
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    fn record(&mut self, bounds: &[u64; BOUNDS], value: u64) {
        if let Some(count) = self.counts.get_mut(bounds.partition_point(|bound| *bound < value)) {
            *count += 1;
        }
        self.count += 1;
        self.sum += value;
    }
}

/// The part of the figures that is counted as things happen.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) written_bytes: u64,
    pub(crate) write_times_us: Histogram<{ WRITE_TIME_BOUNDS_US.len() }>,
    pub(crate) sync_records: Histogram<{ SYNC_RECORDS_BOUNDS.len() }>,
    pub(crate) busy: Duration,
    /// Up to when the time under way now has been counted.
    busy_since: Option<Monotonic>,
    pub(crate) abandoned_segments: u64,
}

impl Counters {
    pub(crate) fn count_write(&mut self, records: u64, bytes: u64, took: Duration) {
        self.batches += 1;
        self.records += records;
        self.written_bytes += bytes;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.write_times_us.record(&WRITE_TIME_BOUNDS_US, took_us);
    }

    pub(crate) fn count_sync(&mut self, records: u64) {
        self.sync_records.record(&SYNC_RECORDS_BOUNDS, records);
    }

    /// Whether anything is under way, told whenever that may have changed.
    pub(crate) fn count_busy(&mut self, is_busy: bool, now: Monotonic) {
        if let Some(since) = self.busy_since {
            self.busy += now.since(since);
        }
        self.busy_since = is_busy.then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_class_that_bounds_them() {
        let mut counters = Counters::default();
        counters.count_write(1, 4_096, Duration::from_micros(50));
        counters.count_write(2, 4_096, Duration::from_micros(51));
        counters.count_write(5_000, 4_096, Duration::from_secs(9));
        let times = counters.write_times_us;
        assert_eq!((times.counts[0], times.counts[1]), (1, 1));
        assert_eq!(times.counts.iter().sum::<u64>(), 2, "one is beyond every bound");
        assert_eq!((times.count, times.sum), (3, 9_000_101));
        counters.count_sync(17);
        assert_eq!(counters.sync_records.counts[3], 1);
    }

    #[test]
    fn overlapping_work_is_busy_once() {
        let mut counters = Counters::default();
        let steps = [(true, 10), (true, 15), (false, 30), (false, 50), (true, 60), (false, 61)];
        for (is_busy, at) in steps {
            counters.count_busy(is_busy, Monotonic(at));
        }
        assert_eq!(counters.busy, Duration::from_nanos(21));
    }
}
