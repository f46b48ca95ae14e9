//! A look at a ring from outside, for tools: takes no lock and no place.

use crate::error::RingError;
use crate::files;
use crate::host::OsHost;
use crate::layout::{SLOTS, offset};
use crate::mapping::RingMap;
use crate::participant::consumer_lives;
use crate::protocol::Shared;
use crate::sync::Ordering;
use std::path::{Path, PathBuf};

/// What a ring file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingReport {
    /// Whether a daemon consumes it at this moment.
    pub consumer_alive: bool,
    /// The process that consumes it, or did last, as it saw itself.
    pub consumer_pid: u32,
    /// Slots that hold something.
    pub used_slots: u64,
    /// Slots there are.
    pub slots: u64,
    /// How many rings the daemon has.
    pub ring_count: u32,
    /// The daemon's data directory.
    pub data_dir: String,
}

/// Examines the ring at `path`. `None`: there is none.
///
/// # Errors
/// [`RingError`] if the file is not a ring that this version can use, or cannot be trusted.
pub fn examine(path: &Path) -> Result<Option<RingReport>, RingError> {
    let ring = match RingMap::open(&OsHost::shared(), path) {
        Err(RingError::Missing { .. }) => return Ok(None),
        other => other?,
    };
    // A snapshot for people; the two need not belong together.
    let head = ring.head().load(Ordering::Relaxed);
    let tail = ring.tail().load(Ordering::Relaxed);
    Ok(Some(RingReport {
        consumer_alive: consumer_lives(&ring),
        consumer_pid: ring.u32_at(offset::DAEMON_PID).load(Ordering::Relaxed),
        used_slots: tail.saturating_sub(head).min(SLOTS),
        slots: SLOTS,
        ring_count: ring.u32_at(offset::RING_COUNT).load(Ordering::Relaxed).max(1),
        data_dir: ring.data_dir(),
    }))
}

/// Where the daemon's ring number `index` lies: `path` itself, then `<path>.1`, `<path>.2`, ...
#[must_use]
pub fn ring_path(path: &Path, index: u32) -> PathBuf {
    match index {
        0 => path.to_owned(),
        _ => files::with_suffix(path, &format!(".{index}")),
    }
}
