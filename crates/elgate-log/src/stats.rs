//! Figures of one log, for metrics and status.

use std::time::Duration;

/// A snapshot; counters count since the log was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogStats {
    /// Segments with records, the active one included.
    pub segments: u64,
    /// Bytes of all segments, prepared ones included.
    pub bytes_on_disk: u64,
    /// Batches acknowledged.
    pub batches: u64,
    /// Records acknowledged.
    pub records: u64,
    /// Bytes of those batches on the device.
    pub written_bytes: u64,
    /// How many batches held so many records: 1, up to 4, 16, 64, 256, 1,024, and more.
    pub batch_records: [u64; 7],
    /// How many writes took up to 50, 100, 200, 500 µs, 1, 2, 5, 10, 50 ms, and longer, from
    /// being handed over to being acknowledged.
    pub write_times: [u64; 10],
    /// Sum of those times.
    pub write_time_total: Duration,
    /// Bytes appended and not yet handed to the device.
    pub unwritten_bytes: u64,
    /// Writes under way.
    pub writes_in_flight: u64,
    /// Segments abandoned after an error.
    pub abandoned_segments: u64,
    /// Why nothing can be written, if that is so.
    pub parked: Option<String>,
    /// Memory held for batches and their cache.
    pub memory_bytes: u64,
}

/// Upper bounds of [`LogStats::batch_records`], all but the last.
pub const BATCH_RECORDS_BOUNDS: [u64; 6] = [1, 4, 16, 64, 256, 1_024];

/// Upper bounds of [`LogStats::write_times`] in microseconds, all but the last.
pub const WRITE_TIME_BOUNDS_US: [u64; 9] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000];

/// The part of the figures that is counted as things happen.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) written_bytes: u64,
    pub(crate) batch_records: [u64; 7],
    pub(crate) write_times: [u64; 10],
    pub(crate) write_time_total: Duration,
    pub(crate) abandoned_segments: u64,
}

impl Counters {
    pub(crate) fn count_write(&mut self, records: u64, bytes: u64, took: Duration) {
        self.batches += 1;
        self.records += records;
        self.written_bytes += bytes;
        self.batch_records[BATCH_RECORDS_BOUNDS.partition_point(|bound| *bound < records)] += 1;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.write_times[WRITE_TIME_BOUNDS_US.partition_point(|bound| *bound < took_us)] += 1;
        self.write_time_total += took;
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
        counters.count_write(5_000, 4_096, Duration::from_secs(1));
        assert_eq!(counters.batch_records, [1, 1, 0, 0, 0, 0, 1]);
        assert_eq!(counters.write_times, [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
