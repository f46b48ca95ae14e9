//! What a route says about itself.

use super::Route;
use crate::sink::Sink;
use crate::status::{Buckets, MirrorStatus, RouteState, RouteStatus};
use elgate_log::{Histogram, SYNC_RECORDS_BOUNDS, WRITE_TIME_BOUNDS_US};

impl Route {
    pub(crate) fn status(&self) -> RouteStatus {
        let log = self.log.stats();
        let sink = self.sink.as_ref();
        let stats = sink.map(Sink::stats).unwrap_or_default();
        let delivered = sink.map_or(self.delivered, Sink::delivered);
        let state = if self.parked.is_some() {
            RouteState::Parked
        } else if sink.is_some_and(Sink::has_stopped) {
            RouteState::Stopped
        } else if self.paused {
            RouteState::Paused
        } else if sink.is_some_and(Sink::is_retrying) {
            RouteState::Retrying
        } else {
            RouteState::Running
        };
        RouteStatus {
            name: self.name.clone(),
            sink: sink.map_or("none", Sink::kind),
            state,
            first_lsn: self.log.first_lsn(),
            durable_lsn: self.log.durable(),
            next_lsn: self.log.next_lsn(),
            delivered_lsn: delivered,
            lag_records: self.undelivered(),
            lost_records: self.lost_records,
            wal_bytes: log.bytes_on_disk,
            wal_segments: log.segments,
            memory_bytes: log.memory_bytes,
            appended_records_total: self.appended_records,
            appended_bytes_total: self.appended_bytes,
            delivered_records_total: stats.delivered_records,
            delivered_bytes_total: stats.delivered_bytes,
            retries_total: stats.retries,
            refused_total: stats.refused,
            batches_total: log.batches,
            written_bytes_total: log.written_bytes,
            write_ms: Buckets::of(&log.write_times_us, &WRITE_TIME_BOUNDS_US, 1e3),
            fsync_records: Buckets::of(&log.sync_records, &SYNC_RECORDS_BOUNDS, 1.0),
            disk_busy_seconds_total: log.busy.as_secs_f64(),
            writes_in_flight: log.writes_in_flight,
            backlog_bytes: log.unwritten_bytes,
            abandoned_segments_total: log.abandoned_segments,
            mirror: log.mirror.map(|mirror| MirrorStatus {
                trouble: mirror.trouble,
                segments_behind: mirror.segments_behind,
            }),
            last_error: self.last_error.clone(),
            damage: self.damage.clone(),
        }
    }
}

impl Buckets {
    /// `units`: how many of the histogram's make one of these.
    fn of<const BOUNDS: usize>(
        histogram: &Histogram<BOUNDS>,
        bounds: &[u64; BOUNDS],
        units: f64,
    ) -> Self {
        let mut below = 0;
        let cumulative = bounds.iter().zip(histogram.counts).map(|(bound, count)| {
            below += count;
            (*bound as f64 / units, below)
        });
        Self {
            buckets: cumulative.collect(),
            count: histogram.count,
            sum: histogram.sum as f64 / units,
        }
    }
}
