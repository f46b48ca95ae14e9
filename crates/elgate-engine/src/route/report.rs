//! What a route says about itself.

use super::Route;
use crate::sink::Sink;
use crate::status::{RouteState, RouteStatus};
use elgate_log::{LogStats, WRITE_TIME_BOUNDS_US};

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
            write_seconds_sum: log.write_time_total.as_secs_f64(),
            write_latency_buckets: latency_buckets(&log),
            last_error: self.last_error.clone(),
            damage: self.damage.clone(),
        }
    }
}

/// Cumulative counts by upper bound in seconds, as Prometheus wants them; the last is infinity's.
fn latency_buckets(log: &LogStats) -> Vec<(f64, u64)> {
    let bounds = WRITE_TIME_BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
    let mut below = 0;
    bounds
        .zip(log.write_times)
        .map(|(bound, count)| {
            below += count;
            (bound, below)
        })
        .collect()
}
