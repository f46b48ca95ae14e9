//! Feeds a sink with records: from the log's memory when it keeps up, from disk when it lags.
//!
//! In: the log's watermark and, through the driver, batches read from disk. Out: the batch that
//! holds the sink's next record, or the news that records are missing.

use elgate_io::{Completion, Op, Outcome, Platform};
use elgate_log::{CachedBatch, GapReason, LogReader, LogWriter, ReadBatch, ReadFrom, RecordBatch};
use elgate_types::{Lsn, Monotonic};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long to leave a log alone whose reading just failed.
const READ_RETRY: Duration = Duration::from_secs(1);

/// Where the next batch comes from.
pub(crate) struct Feed {
    platform: Arc<dyn Platform>,
    directory: PathBuf,
    batch: Option<Batch>,
    reader: Reader,
    retry_at: Option<Monotonic>,
}

enum Batch {
    Cached(Arc<CachedBatch>),
    Read(RecordBatch),
}

enum Reader {
    /// None open: the sink has kept up so far.
    Absent,
    /// Reading on the blocking pool.
    Busy,
    /// Idle, and positioned at this LSN.
    Ready(Box<LogReader>),
}

/// What the blocking pool gives back.
struct ReadReply {
    reader: Box<LogReader>,
    batch: ReadBatch,
}

/// What [`Feed::handle`] may report.
pub(crate) enum FeedEvent {
    /// These records are damaged beyond reading; the sink must go on after them.
    Missing { from: Lsn, to: Lsn, reason: GapReason },
    /// Reading failed and is tried again later.
    Failed(String),
}

impl Feed {
    pub(crate) fn new(platform: Arc<dyn Platform>, directory: PathBuf) -> Self {
        Self { platform, directory, batch: None, reader: Reader::Absent, retry_at: None }
    }

    /// Makes the batch holding `next` available if it is in memory, or returns the operation that
    /// brings it from disk. At most one such operation is under way.
    pub(crate) fn poll_op(&mut self, log: &LogWriter, next: Lsn, now: Monotonic) -> Option<Op> {
        if self.holds(next) || next > log.readable() {
            return None;
        }
        self.batch = log.cached(next).map(Batch::Cached);
        if self.batch.is_some() {
            return None;
        }
        if matches!(self.reader, Reader::Busy) || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        self.retry_at = None;
        let reader = match std::mem::replace(&mut self.reader, Reader::Busy) {
            Reader::Ready(reader) if reader.position() == next => Some(reader),
            _ => None,
        };
        let directory = self.directory.clone();
        let platform = Arc::clone(&self.platform);
        Some(Op::Blocking(Box::new(move |_: &dyn Platform| {
            let mut reader = match reader {
                Some(reader) => reader,
                None => Box::new(
                    LogReader::open(platform, &directory, ReadFrom::Lsn(next))
                        .map_err(std::io::Error::other)?,
                ),
            };
            let batch = reader.next_batch().map_err(std::io::Error::other)?;
            Ok(Box::new(ReadReply { reader, batch }))
        })))
    }

    /// Takes the completion of the operation that `poll_op` returned.
    pub(crate) fn handle(&mut self, completion: Completion, now: Monotonic) -> Option<FeedEvent> {
        self.reader = Reader::Absent;
        let reply = match completion.result {
            Ok(Outcome::Reply(reply)) => reply.downcast::<ReadReply>(),
            Ok(_) => return None,
            Err(error) => {
                self.retry_at = Some(now.after(READ_RETRY));
                return Some(FeedEvent::Failed(error.to_string()));
            }
        };
        let Ok(reply) = reply else { return None };
        self.reader = Reader::Ready(reply.reader);
        match reply.batch {
            ReadBatch::Records(batch) => self.batch = Some(Batch::Read(batch)),
            ReadBatch::Gap { from, to, reason } => {
                return Some(FeedEvent::Missing { from, to, reason });
            }
            ReadBatch::CaughtUp => {
                // The watermark is in memory before it is in the file: look again, not at once.
                self.retry_at = Some(now.after(Duration::from_millis(1)));
            }
        }
        None
    }

    /// Calls `take` with the records from `next` on, until it returns `false` or the batch ends.
    pub(crate) fn each(&self, next: Lsn, take: &mut dyn FnMut(Lsn, &[u8]) -> bool) {
        match &self.batch {
            Some(Batch::Cached(batch)) => {
                for record in batch.records(next) {
                    if !take(record.lsn, record.payload) {
                        return;
                    }
                }
            }
            Some(Batch::Read(batch)) => {
                for record in batch.records().skip_while(|record| record.lsn < next) {
                    if !take(record.lsn, record.payload) {
                        return;
                    }
                }
            }
            None => {}
        }
    }

    /// Whether the batch at hand holds `next`.
    pub(crate) fn holds(&self, next: Lsn) -> bool {
        let range = match &self.batch {
            Some(Batch::Cached(batch)) => batch.first_lsn()..=batch.last_lsn(),
            Some(Batch::Read(batch)) => batch.first_lsn()..=batch.last_lsn(),
            None => return false,
        };
        range.contains(&next)
    }

    /// Forgets what is at hand, so that memory is not held for a sink that does not read.
    pub(crate) fn release(&mut self) {
        self.batch = None;
    }

    /// Whether a read is under way.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.reader, Reader::Busy)
    }

    /// When to look again.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        self.retry_at
    }
}
