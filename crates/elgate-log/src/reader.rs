//! The reader: follows a log from any process, live or offline, blocking.
//!
//! While a writer lives, the head file says how far may be read, and everything up to there must
//! be in the files: what does not read is damaged, or has been removed. Without a writer, the
//! valid prefix is read, by the rules of recovery, so a torn tail is never served.
//!
//! Reads go past the page cache where that works, so that they leave nothing in it for the
//! writer's direct writes to stumble over.
//!
//! Retention takes a segment's name away before its file is written again. So what does not read
//! is damage only if the file still has its name; else it was removed. Nothing of the file's next
//! life is ever served: its salt is another.
//!
//! | file | role |
//! |---|---|
//! | `seek.rs` | where to begin: by number, by time, at the end |
//! | `follow.rs` | what is at the position |

mod follow;
mod seek;

use crate::catalog::{Catalog, Wanted};
use crate::error::ReadError;
use crate::head::HeadView;
use crate::record::Records;
use crate::segment_file::SegmentFile;
use elgate_io::{Platform, futex};
use elgate_types::{Lsn, Monotonic, WallTime};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the first record still kept.
    Start,
    /// Behind the last record there is now.
    End,
    /// At this record. Records before the first one kept are reported as a gap.
    Lsn(Lsn),
    /// At the first record not older than this. Exact as long as the wall clock has not been set
    /// back.
    Time(WallTime),
}

/// What comes next in the log.
#[derive(Debug)]
pub enum ReadBatch {
    /// Records, contiguous.
    Records(RecordBatch),
    /// Records that cannot be served: removed by retention, or damaged.
    Gap {
        /// The first of them.
        from: Lsn,
        /// The last of them.
        to: Lsn,
        /// Why.
        reason: GapReason,
    },
    /// There is nothing further at present; see [`LogReader::wait`].
    CaughtUp,
}

/// Why records cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Retention has removed them.
    Removed,
    /// They are damaged; recovery copies what is left of them to the quarantine folder.
    Damaged,
    /// The device cannot read them; only a reader that reads around such places says so.
    Unreadable,
}

impl std::fmt::Display for GapReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Removed => "removed by retention",
            Self::Damaged => "damaged on disk",
            Self::Unreadable => "the device cannot read them",
        })
    }
}

/// Records in memory of their own.
#[derive(Debug, Clone)]
pub struct RecordBatch {
    framed: Vec<u8>,
    first: Lsn,
    last: Lsn,
}

impl RecordBatch {
    /// Its first LSN.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.first
    }

    /// Its last LSN.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.last
    }

    /// Its records, in order, without copying.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.framed, self.first, self.last)
    }
}

impl<'a> IntoIterator for &'a RecordBatch {
    type Item = crate::Record<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.records()
    }
}

/// Reads a log in order of LSN. Used from one thread at a time; moves between threads.
#[derive(Debug)]
pub struct LogReader {
    platform: Arc<dyn Platform>,
    dir: PathBuf,
    catalog: Catalog,
    head: Option<HeadView>,
    open: Option<OpenSegment>,
    position: Lsn,
    /// Records older than this are skipped until one is not.
    since: Option<WallTime>,
    /// What a damaged range has left, to be handed out first.
    salvaged: VecDeque<ReadBatch>,
    /// A place that was looked at in vain, so that an offline log is not searched again and
    /// again.
    known_end: Option<(u64, u64)>,
    /// Which record that a live writer has written could not be found first when.
    absent: Option<(Lsn, Monotonic)>,
}

#[derive(Debug)]
struct OpenSegment {
    file: SegmentFile,
    index: usize,
    offset: u64,
    epoch: u64,
}

/// How far may be read.
#[derive(Debug, Clone, Copy, Default)]
struct Limit {
    /// The last record that must be there, as far as anybody has said.
    promised: Lsn,
    /// The last record whose absence is a loss at once.
    durable: Lsn,
    /// Whether nothing beyond it may be served.
    is_live: bool,
    /// Sequence of the segment being written, and where its durable part ends.
    active: (u64, u64),
}

impl LogReader {
    /// Opens the log in `dir`.
    ///
    /// # Errors
    /// [`ReadError::NoLog`] if there is none, or what the operating system refused.
    pub fn open(
        platform: Arc<dyn Platform>,
        dir: &Path,
        from: ReadFrom,
    ) -> Result<Self, ReadError> {
        Self::open_as(platform, dir, from, false)
    }

    /// As [`open`](Self::open), but what the device cannot read (EIO) is a gap, not an error, as
    /// long as it is little. For whoever has tried long enough.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_reading_around(
        platform: Arc<dyn Platform>,
        dir: &Path,
        from: ReadFrom,
    ) -> Result<Self, ReadError> {
        Self::open_as(platform, dir, from, true)
    }

    fn open_as(
        platform: Arc<dyn Platform>,
        dir: &Path,
        from: ReadFrom,
        reads_around: bool,
    ) -> Result<Self, ReadError> {
        let head = HeadView::open(&*platform, dir);
        let preferred = head.as_ref().and_then(HeadView::log_id);
        let wanted = Wanted { log_id: preferred, route: None, reads_around };
        let catalog = match Catalog::load(&*platform, dir, wanted) {
            Err(fault) if fault.error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ReadError::NoLog { dir: dir.to_owned() });
            }
            result => result?,
        };
        if catalog.entries.is_empty() {
            return Err(ReadError::NoLog { dir: dir.to_owned() });
        }
        let mut reader = Self {
            platform,
            dir: dir.to_owned(),
            catalog,
            head,
            open: None,
            position: Lsn(1),
            since: None,
            salvaged: VecDeque::new(),
            known_end: None,
            absent: None,
        };
        match from {
            ReadFrom::Start => reader.position = reader.first_kept()?,
            ReadFrom::Lsn(lsn) => reader.position = lsn.max(Lsn(1)),
            ReadFrom::End => reader.seek_end()?,
            ReadFrom::Time(time) => reader.seek_time(time)?,
        }
        Ok(reader)
    }

    /// The LSN that the next record returned will have, if nothing is missing.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// Whether more of what a damaged place has left is at hand.
    #[must_use]
    pub fn is_amid_damage(&self) -> bool {
        !self.salvaged.is_empty()
    }

    /// From here on what the device cannot read is an error again.
    pub fn read_around_no_more(&mut self) {
        self.catalog.read_around_no_more();
        if let Some(open) = &mut self.open {
            open.file.read_around_no_more();
        }
    }

    /// The next records, or why there are none.
    ///
    /// # Errors
    /// [`ReadError`]; the position stays, so the call may be repeated.
    pub fn next_batch(&mut self) -> Result<ReadBatch, ReadError> {
        loop {
            let batch = match self.salvaged.pop_front() {
                Some(batch) => batch,
                None => self.advance()?,
            };
            if let Some(head) = self.head.as_ref().filter(|head| head.is_lost()) {
                return Err(ReadError::HeadLost { path: head.path().to_owned() });
            }
            match &batch {
                ReadBatch::Records(records) => self.position = records.last.next(),
                ReadBatch::Gap { to, .. } => self.position = to.next(),
                ReadBatch::CaughtUp => return Ok(batch),
            }
            match self.since {
                None => return Ok(batch),
                Some(since) => {
                    if let Some(batch) = not_older(batch, since) {
                        self.since = None;
                        return Ok(batch);
                    }
                }
            }
        }
    }

    /// Waits until there may be something further, at most `timeout`. Returns whether there is,
    /// as far as the head file knows. Wakes for a writer that comes later, too.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        if self.head.is_none() {
            self.head = HeadView::open(&*self.platform, &self.dir);
        }
        let Some(head) = &self.head else {
            // Nobody wakes this word: a pause that needs no clock of our own.
            futex::wait(&AtomicU32::new(0), 0, Some(timeout));
            return false;
        };
        let log_id = self.catalog.log_id.unwrap_or_default();
        let position = self.position;
        head.wait_until(timeout, || {
            head.watermarks(log_id).is_some_and(|marks| head.readable(&marks) >= position)
        })
    }

    fn limit(&mut self) -> Limit {
        if self.head.is_none() {
            self.head = HeadView::open(&*self.platform, &self.dir);
        }
        let log_id = self.catalog.log_id.unwrap_or_default();
        let marks = self.head.as_ref().and_then(|head| head.watermarks(log_id));
        let (Some(head), Some(marks)) = (&self.head, marks) else { return Limit::default() };
        let is_live = head.writer_is_alive(&*self.platform);
        if !is_live && !marks.are_plausible() {
            return Limit::default();
        }
        let promised = if is_live { head.readable(&marks) } else { marks.durable };
        let active = (marks.active_sequence, marks.durable_end);
        Limit { promised, durable: marks.durable, is_live, active }
    }
}

/// The part of a batch from the first record that is not older than `since`.
fn not_older(batch: ReadBatch, since: WallTime) -> Option<ReadBatch> {
    match batch {
        ReadBatch::Records(mut records) => {
            let first = records.records().find(|record| record.time >= since)?.lsn;
            records.first = first;
            Some(ReadBatch::Records(records))
        }
        // Whatever was lost before the time asked for was not asked for.
        _ => None,
    }
}
