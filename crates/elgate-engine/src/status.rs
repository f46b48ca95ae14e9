//! What the engine says about itself: one snapshot, for `/status`, `/metrics` and the CLI.

use crate::mode::Mode;
use elgate_types::{ErrorCode, Lsn, RouteName};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole engine.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The mode that runs.
    pub mode: Mode,
    /// Logical cores this process may use.
    pub cores: usize,
    /// NUMA nodes they belong to.
    pub numa_nodes: usize,
    /// Where the logs are.
    pub data_dir: PathBuf,
    /// Seconds since the engine was opened.
    pub uptime_s: f64,
    /// How the shards' I/O was set up, and what that was decided by.
    pub io: Option<IoStatus>,
    /// The shards.
    pub shards: Vec<ShardStatus>,
    /// What memory is held, and why.
    pub memory: Vec<MemoryUse>,
    /// The routes, by name.
    pub routes: Vec<RouteStatus>,
}

/// One use of memory.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryUse {
    /// What holds it.
    pub what: String,
    /// How much.
    pub bytes: u64,
    /// What it is for.
    pub why: String,
}

/// What was chosen for all shards alike.
#[derive(Debug, Clone, Serialize)]
pub struct IoStatus {
    /// How durable writes reach stable storage: `dsync`, `link` or `blocking`.
    pub commit: &'static str,
    /// Who chose, and the figures measured at the start.
    pub commit_why: String,
    /// Small commits of one log that may be under way at once; `None`: could not be measured.
    pub writes_in_flight: Option<usize>,
    /// The figures measured at the start.
    pub writes_in_flight_why: String,
    /// Whether submission queues were to be polled; each shard's facts say if they are.
    pub sqpoll: bool,
    /// Who chose, and why.
    pub sqpoll_why: String,
}

/// One shard.
#[derive(Debug, Clone, Serialize)]
pub struct ShardStatus {
    /// Its number.
    pub index: usize,
    /// The core the kernel confirms it is pinned to.
    pub pinned_core: Option<usize>,
    /// The I/O backend it runs on.
    pub backend: &'static str,
    /// What the backend found and chose.
    pub facts: BTreeMap<&'static str, String>,
    /// Memory of its arena.
    pub arena_bytes: u64,
    /// Bytes written from registered buffers past the page cache.
    pub zero_copy_bytes_total: u64,
    /// Share of its time spent working rather than waiting, since the last snapshot (0 to 1).
    pub busy_ratio: f64,
    /// Turns of its event loop so far.
    pub turns_total: u64,
    /// Times it went to sleep.
    pub sleeps_total: u64,
    /// Its rings: its own, then those that an earlier run with more shards left behind.
    pub rings: Vec<RingStatus>,
}

/// One ring.
#[derive(Debug, Clone, Serialize)]
pub struct RingStatus {
    /// Its file.
    pub path: PathBuf,
    /// Slots taken now.
    pub used_slots: u64,
    /// Slots it has.
    pub slots: u64,
    /// Submissions that wait for a stuck log outside of their slots.
    pub set_aside: u64,
    /// Producers attached.
    pub participants: u64,
    /// Submissions taken so far.
    pub submissions_total: u64,
    /// Submissions that failed validation.
    pub corrupt_total: u64,
    /// Claims of dead producers that were taken back.
    pub aborted_total: u64,
    /// Times the ring was replaced because its words made no sense.
    pub replaced_total: u64,
    /// Why a ring that was given up could not be replaced so far, or what waits for a stuck log not
    /// be set aside. It is tried every second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What a route is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteState {
    /// Taking and delivering.
    Running,
    /// Taking, not delivering, because somebody said so.
    Paused,
    /// Taking; the last delivery failed and is tried again.
    Retrying,
    /// Taking, not delivering, because the attempts are used up: resume it.
    Stopped,
    /// Not taking: the log cannot be written.
    Parked,
    /// Not taking: the log or the sink could not be opened. It is tried again.
    Failed,
}

/// The last thing that went wrong.
#[derive(Debug, Clone, Serialize)]
pub struct LastError {
    /// When, in microseconds since the Unix epoch.
    pub at_us: u64,
    /// The stable code.
    #[serde(serialize_with = "code_name")]
    pub code: ErrorCode,
    /// What, on what, and what to do.
    pub message: String,
}

pub(crate) fn code_name<S: Serializer>(code: &ErrorCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.row().name)
}

/// The second copy of a route's log.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorStatus {
    /// Why it is not written to, if that is so.
    pub trouble: Option<String>,
    /// Segments of which it may lack something.
    pub segments_behind: u64,
}

/// A histogram, as Prometheus wants it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Buckets {
    /// Values up to each bound: cumulative.
    pub buckets: Vec<(f64, u64)>,
    /// All values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

/// One route.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the names and their units are the documentation")]
pub struct RouteStatus {
    pub name: RouteName,
    pub sink: &'static str,
    pub state: RouteState,
    pub first_lsn: Lsn,
    pub durable_lsn: Lsn,
    pub next_lsn: Lsn,
    pub delivered_lsn: Lsn,
    pub lag_records: u64,
    pub lost_records: u64,
    pub wal_bytes: u64,
    pub wal_segments: u64,
    pub memory_bytes: u64,
    pub appended_records_total: u64,
    pub appended_bytes_total: u64,
    pub delivered_records_total: u64,
    pub delivered_bytes_total: u64,
    pub retries_total: u64,
    pub refused_total: u64,
    pub batches_total: u64,
    pub written_bytes_total: u64,
    /// How long writes took, sync included where a write is its own.
    pub write_ms: Buckets,
    /// How many records became stable at once.
    pub fsync_records: Buckets,
    /// Time in which the device had something to do for this route.
    pub disk_busy_seconds_total: f64,
    pub writes_in_flight: u64,
    /// Taken, and not yet handed to the device.
    pub backlog_bytes: u64,
    /// Segments left after a failed write or sync.
    pub abandoned_segments_total: u64,
    /// How the second copy of the log is, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorStatus>,
    pub last_error: Option<LastError>,
    /// The last damage found in the log since the engine was opened.
    pub damage: Option<LastError>,
}

impl RouteStatus {
    /// Of a route whose log nobody has looked into.
    pub(crate) fn blank(name: RouteName, sink: &'static str, state: RouteState) -> Self {
        Self {
            name,
            sink,
            state,
            first_lsn: Lsn::ZERO,
            durable_lsn: Lsn::ZERO,
            next_lsn: Lsn::ZERO,
            delivered_lsn: Lsn::ZERO,
            lag_records: 0,
            lost_records: 0,
            wal_bytes: 0,
            wal_segments: 0,
            memory_bytes: 0,
            appended_records_total: 0,
            appended_bytes_total: 0,
            delivered_records_total: 0,
            delivered_bytes_total: 0,
            retries_total: 0,
            refused_total: 0,
            batches_total: 0,
            written_bytes_total: 0,
            write_ms: Buckets::default(),
            fsync_records: Buckets::default(),
            disk_busy_seconds_total: 0.0,
            writes_in_flight: 0,
            backlog_bytes: 0,
            abandoned_segments_total: 0,
            mirror: None,
            last_error: None,
            damage: None,
        }
    }
}
