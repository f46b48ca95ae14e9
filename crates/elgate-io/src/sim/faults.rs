//! What may go wrong, how often, and how long things take.

/// A range of virtual durations, drawn from evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatencyRange {
    /// At least, in nanoseconds.
    pub min_ns: u64,
    /// At most, in nanoseconds.
    pub max_ns: u64,
}

/// Faults to inject from now on. The default injects none; a power cut then keeps exactly what
/// was synced.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    /// Writes that fail with `EIO`, possibly after some of their blocks got through.
    pub write_error_per_mille: u32,
    /// Writes that stop early, at a block boundary.
    pub short_write_per_mille: u32,
    /// Reads that fail with `EIO`.
    pub read_error_per_mille: u32,
    /// Syncs (and the sync of durable writes) that fail with `EIO`. As on Linux, some of the pages
    /// then count as clean although they never reached the disk, and are dropped: a second sync
    /// succeeds and saves nothing.
    pub sync_error_per_mille: u32,
    /// Syncs and durable writes that claim success while the data stays volatile: a disk that
    /// lies about its cache.
    pub lost_sync_per_mille: u32,
    /// Writes of whole blocks to files that may be damaged (see
    /// [`damage_suffix`](Self::damage_suffix)) that land at another aligned place of the same or
    /// another such file, and report success.
    pub misdirected_write_per_mille: u32,
    /// Which files may be damaged by misdirected writes and rot: those whose name ends so.
    pub damage_suffix: &'static str,
    /// Operations on files that take a hundred times as long.
    pub stall_per_mille: u32,
    /// Whether a power cut may keep writes that were not synced.
    pub keep_unsynced: bool,
    /// With `keep_unsynced`: whether blocks survive independently of the order they were written
    /// in. Otherwise what survives is what was written up to some moment.
    pub reorder: bool,
    /// With `keep_unsynced`: whether a surviving block may be part old, part new (512-byte
    /// sectors).
    pub torn: bool,
    /// The disk holds so many bytes of files (whole blocks); what would exceed it fails with
    /// `ENOSPC`.
    pub enospc_after_bytes: Option<u64>,
    /// Connects that are refused although somebody listens.
    pub connect_error_per_mille: u32,
    /// Sends and receives that find the connection reset.
    pub reset_per_mille: u32,
    /// Sends and receives that carry only part of what they could.
    pub partial_transfer_per_mille: u32,
    /// How long reads and plain writes take.
    pub file_latency: LatencyRange,
    /// How long syncs and durable writes take.
    pub sync_latency: LatencyRange,
    /// How long each step of a connection takes.
    pub network_latency: LatencyRange,
    /// How long blocking calls take.
    pub blocking_latency: LatencyRange,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self {
            write_error_per_mille: 0,
            short_write_per_mille: 0,
            read_error_per_mille: 0,
            sync_error_per_mille: 0,
            lost_sync_per_mille: 0,
            misdirected_write_per_mille: 0,
            damage_suffix: ".wal",
            stall_per_mille: 0,
            keep_unsynced: false,
            reorder: false,
            torn: false,
            enospc_after_bytes: None,
            connect_error_per_mille: 0,
            reset_per_mille: 0,
            partial_transfer_per_mille: 0,
            file_latency: LatencyRange { min_ns: 5_000, max_ns: 50_000 },
            sync_latency: LatencyRange { min_ns: 60_000, max_ns: 250_000 },
            network_latency: LatencyRange { min_ns: 20_000, max_ns: 200_000 },
            blocking_latency: LatencyRange { min_ns: 10_000, max_ns: 100_000 },
        }
    }
}

/// How often each fault struck. A run in which the faults it wanted are zero measured nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field counts the fault of FaultPlan with its name")]
pub struct FaultCounts {
    pub write_errors: u64,
    pub short_writes: u64,
    pub read_errors: u64,
    pub sync_errors: u64,
    pub lost_syncs: u64,
    pub misdirected_writes: u64,
    pub stalls: u64,
    pub no_space: u64,
    pub connect_errors: u64,
    pub resets: u64,
    pub partial_transfers: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Unsynced blocks that a power cut kept, dropped, or tore.
    pub blocks_kept: u64,
    pub blocks_dropped: u64,
    pub blocks_torn: u64,
    /// Crashes of all processes at once.
    pub process_crashes: u64,
    /// Deaths of single processes.
    pub process_kills: u64,
    /// Times that bits changed by themselves.
    pub rots: u64,
    /// Times that the wall clock was set.
    pub wall_clock_jumps: u64,
}
