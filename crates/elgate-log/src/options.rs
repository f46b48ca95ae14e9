//! What an opener chooses about a log.

use crate::batch::BATCH_BYTES_MAX;
use crate::index::FOOTER_BYTES;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use elgate_types::FlushMode;
use elgate_types::limits::BLOCK_BYTES;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How much of what every reader has passed is kept. `None` sets no bound, so with both `None`
/// nothing is ever removed; `max_bytes: Some(0)` keeps nothing beyond the active segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Remove passed segments, oldest first, while the log takes more bytes than this.
    pub max_bytes: Option<u64>,
    /// Remove passed segments whose last record is older than this.
    pub max_age: Option<Duration>,
}

/// How a log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Size of a segment; whole blocks, from 4 MiB to 4 GiB.
    pub segment_bytes: u64,
    /// When records are made durable.
    pub flush: FlushMode,
    /// A batch is closed when the next submission would make it larger than this. One submission
    /// always fits, however large.
    pub batch_bytes_max: usize,
    /// Writes under way at once; 1 to 16. Their bytes are bounded besides, at 8 MiB.
    pub writes_in_flight_max: usize,
    /// With so many writes under way, what has been appended meanwhile waits for one of them to
    /// complete, unless it has grown large. More than one pays where the device works on several
    /// small writes at once; 1 to 16, and never more than `writes_in_flight_max` counts.
    pub small_writes_in_flight_max: usize,
    /// Memory for batches already durable, for readers that are close behind.
    pub tail_cache_bytes: usize,
    /// What is kept of what every reader has passed.
    pub retain: Retention,
    /// A directory, best on another device, that gets the same segments. What is acknowledged
    /// is in both, as long as it can be written. The directory above it must exist.
    pub mirror: Option<PathBuf>,
    /// Rings that may hand over again what is in the log already, by identity, with the lowest
    /// position that each may hand over of this log's. Opening looks for those.
    pub handed_over_again: BTreeMap<u64, u64>,
    /// Bypass the page cache. Falls back to buffered writes where the file system refuses.
    pub direct: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            flush: FlushMode::Auto,
            // With what the last submission runs over, it still fits in a buffer of 1 MiB, and
            // four of those in a driver's arena.
            batch_bytes_max: 960 * 1024,
            writes_in_flight_max: 4,
            small_writes_in_flight_max: 2,
            tail_cache_bytes: 4 * 1024 * 1024,
            retain: Retention::default(),
            mirror: None,
            handed_over_again: BTreeMap::new(),
            direct: true,
        }
    }
}

/// Smallest segment: the largest batch and then some.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Largest segment.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
const BATCH_BYTES_SOFT_MAX: usize = 1024 * 1024;
const WRITES_IN_FLIGHT_MAX: usize = 16;
const _: () = assert!(
    (BATCH_BYTES_MAX + SEGMENT_HEADER_BYTES + BLOCK_BYTES + FOOTER_BYTES) as u64
        <= SEGMENT_BYTES_MIN
);

impl LogOptions {
    /// Refuses what cannot work, naming the setting and its range.
    pub(crate) fn check(&self) -> Result<(), String> {
        let block = BLOCK_BYTES as u64;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
            || !self.segment_bytes.is_multiple_of(block)
        {
            return Err(format!(
                "segment_bytes is {}: use a multiple of {block} from {SEGMENT_BYTES_MIN} to \
                 {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            ));
        }
        if !(BLOCK_BYTES..=BATCH_BYTES_SOFT_MAX).contains(&self.batch_bytes_max) {
            return Err(format!(
                "batch_bytes_max is {}: use {block} to {BATCH_BYTES_SOFT_MAX}",
                self.batch_bytes_max
            ));
        }
        if !(1..=WRITES_IN_FLIGHT_MAX).contains(&self.writes_in_flight_max) {
            return Err(format!(
                "writes_in_flight_max is {}: use 1 to {WRITES_IN_FLIGHT_MAX}",
                self.writes_in_flight_max
            ));
        }
        if !(1..=WRITES_IN_FLIGHT_MAX).contains(&self.small_writes_in_flight_max) {
            return Err(format!(
                "small_writes_in_flight_max is {}: use 1 to {WRITES_IN_FLIGHT_MAX}",
                self.small_writes_in_flight_max
            ));
        }
        Ok(())
    }

    /// Whether files of this log are opened past the page cache. A log that is never synced for
    /// its own sake lives in the page cache by intent.
    pub(crate) fn wants_direct(&self) -> bool {
        self.direct && self.flush != FlushMode::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_settings_that_cannot_work() {
        let with = |change: fn(&mut LogOptions)| {
            let mut options = LogOptions::default();
            change(&mut options);
            options.check()
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert!(with(|options| options.segment_bytes = 4_096).is_err());
        assert!(with(|options| options.segment_bytes += 1).is_err());
        assert!(with(|options| options.batch_bytes_max = 100).is_err());
        assert!(with(|options| options.writes_in_flight_max = 0).is_err());
        assert!(with(|options| options.small_writes_in_flight_max = 0).is_err());
        assert!(with(|options| options.small_writes_in_flight_max = 17).is_err());
    }
}
