//! Feeds a sink with records: from the log's memory when it keeps up, from disk when it lags.
//!
//! In: the log's watermark and, through the driver, batches read from disk. Out: the batch that
//! holds the sink's next record, or the news that records are missing.

use elgate_io::{Completion, Op, Outcome, Platform};
use elgate_log::{
    CachedBatch, GapReason, LogReader, LogWriter, ReadBatch, ReadError, ReadFrom, RecordBatch,
};
use elgate_types::{Lsn, Monotonic};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long to leave a log alone whose reading just failed.
const READ_RETRY: Duration = Duration::from_secs(1);

/// How often to read what the device cannot, before it is passed over: a device that is back
/// within this time has cost nothing.
const READ_TRIES: u32 = 10;

/// Where the next batch comes from.
pub(crate) struct Feed {
    platform: Arc<dyn Platform>,
    directory: PathBuf,
    batch: Option<Batch>,
    reader: Reader,
    retry_at: Option<Monotonic>,
    /// How often in a row the device could not read. From [`READ_TRIES`] on, reading goes around.
    media_errors: u32,
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
        Self {
            platform,
            directory,
            batch: None,
            reader: Reader::Absent,
            retry_at: None,
            media_errors: 0,
        }
    }

    /// Makes the batch holding `next` available if it is in memory, or returns the operation that
    /// brings it from disk. At most one such operation is under way.
    pub(crate) fn poll_op(&mut self, log: &LogWriter, next: Lsn, now: Monotonic) -> Option<Op> {
        // Over, also if there is nothing to read now.
        self.retry_at = self.retry_at.filter(|at| *at > now);
        if self.holds(next) || next > log.readable() {
            return None;
        }
        self.batch = log.cached(next).map(Batch::Cached);
        if self.batch.is_some() {
            return None;
        }
        if matches!(self.reader, Reader::Busy) || self.retry_at.is_some() {
            return None;
        }
        let reader = match std::mem::replace(&mut self.reader, Reader::Busy) {
            Reader::Ready(reader) if reader.position() == next => Some(reader),
            _ => None,
        };
        let directory = self.directory.clone();
        let platform = Arc::clone(&self.platform);
        let open = match self.reads_around() {
            true => LogReader::open_reading_around,
            false => LogReader::open,
        };
        Some(Op::Blocking(Box::new(move |_: &dyn Platform| {
            let mut reader = match reader {
                Some(reader) => reader,
                None => Box::new(
                    open(platform, &directory, ReadFrom::Lsn(next))
                        .map_err(std::io::Error::other)?,
                ),
            };
            let batch = reader.next_batch().map_err(std::io::Error::other)?;
            Ok(Box::new(ReadReply { reader, batch }))
        })))
    }

    fn reads_around(&self) -> bool {
        self.media_errors >= READ_TRIES
    }

    /// Takes the completion of the operation that `poll_op` returned.
    pub(crate) fn handle(&mut self, completion: Completion, now: Monotonic) -> Option<FeedEvent> {
        self.reader = Reader::Absent;
        let reply = match completion.result {
            Ok(Outcome::Reply(reply)) => reply.downcast::<ReadReply>(),
            Ok(_) => return None,
            Err(error) => {
                self.retry_at = Some(now.after(READ_RETRY));
                let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<ReadError>());
                let is_media_error = cause.is_some_and(ReadError::is_media_error);
                self.media_errors = if is_media_error { self.media_errors + 1 } else { 0 };
                return Some(FeedEvent::Failed(error.to_string()));
            }
        };
        let Ok(mut reply) = reply else { return None };
        // What lies behind the place that was passed over gets as many tries of its own.
        let goes_on = matches!(reply.batch, ReadBatch::Records(_)) || reply.reader.is_amid_damage();
        if !(self.reads_around() && goes_on) {
            reply.reader.read_around_no_more();
            self.media_errors = 0;
        }
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

    /// Whether `next` is in memory, or [`poll_op`](Self::poll_op) would find it there.
    pub(crate) fn is_ahead_of(&self, log: &LogWriter, next: Lsn) -> bool {
        self.holds(next) || (next <= log.readable() && log.cached(next).is_some())
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

/// Where what is left of records is that could not be delivered, or what brings them back.
pub(crate) fn gap_advice(reason: GapReason, has_mirror: bool) -> &'static str {
    match (reason, has_mirror) {
        (GapReason::Unreadable, true) => {
            "the mirror may have them: elgate fsck --repair brings them back to the log"
        }
        (GapReason::Unreadable, false) => {
            "elgate fsck tells what is left of them; a route with a mirror has a second copy"
        }
        _ => "damaged bytes are kept in the log's quarantine folder",
    }
}

#[cfg(test)]
#[path = "../../elgate-log/tests/support/bad_blocks.rs"]
mod bad_blocks;

#[cfg(test)]
mod tests {
    use super::bad_blocks::BadBlocks;
    use super::*;
    use elgate_io::Driver;
    use elgate_io::Wait;
    use elgate_io::sim::SimWorld;
    use elgate_log::{LogOptions, Source};
    use elgate_types::{RouteName, WallTime};
    use std::path::Path;

    const LOG: &str = "/data/r";
    const BLOCK: u64 = 4_096;

    fn open(platform: &Arc<BadBlocks>) -> LogWriter {
        let name = RouteName::new("r").expect("valid");
        let options = LogOptions { segment_bytes: 4 << 20, ..LogOptions::default() };
        let platform = Arc::clone(platform) as Arc<dyn Platform>;
        elgate_log::open(platform, Path::new(LOG), &name, options).expect("opens").0
    }

    /// A log of three records in a batch each, nothing of which is in memory.
    fn three(world: &SimWorld, platform: &Arc<BadBlocks>) -> LogWriter {
        let mut log = open(platform);
        let mut driver = world.driver();
        for lsn in 1..=3 {
            log.append(b"record", Source::default(), WallTime(1)).expect("taken");
            while log.durable() < Lsn(lsn) {
                while let Some((token, op)) = log.poll_op(driver.now()) {
                    driver.submit(token.into(), op);
                }
                let mut completions = Vec::new();
                driver.poll(Wait::Forever, &mut completions).expect("the simulator polls");
                for completion in completions {
                    log.handle(completion.token as u32, completion, driver.now());
                }
            }
        }
        drop(log);
        world.process_crash();
        open(platform)
    }

    /// Polls once, a retry later than before, and carries out what is wanted.
    fn step(feed: &mut Feed, log: &LogWriter, next: Lsn, now: &mut Monotonic) -> Option<FeedEvent> {
        *now = now.after(READ_RETRY);
        let Some(Op::Blocking(call)) = feed.poll_op(log, next, *now) else {
            panic!("nothing to do")
        };
        let result = call(&*Arc::clone(&feed.platform)).map(Outcome::Reply);
        feed.handle(Completion { token: 0, result, buffer: None }, *now)
    }

    #[test]
    fn what_the_device_cannot_read_is_tried_ten_times_and_then_passed_over() {
        for heals in [false, true] {
            let world = SimWorld::new(1);
            let platform = BadBlocks::new(world.platform());
            let log = three(&world, &platform);
            let names = world.names(Path::new(LOG)).expect("lists");
            let segment = names.iter().find(|name| name.ends_with(".wal")).expect("a segment");
            let segment = Path::new(LOG).join(segment);
            platform.spoil(&segment, 2 * BLOCK..3 * BLOCK, None);
            let around = Arc::clone(&platform) as Arc<dyn Platform>;
            let mut feed = Feed::new(around, PathBuf::from(LOG));
            let mut now = Monotonic::default();
            for attempt in 1..=READ_TRIES {
                let event = step(&mut feed, &log, Lsn(1), &mut now);
                assert!(matches!(event, Some(FeedEvent::Failed(_))), "attempt {attempt}");
                if heals && attempt == READ_TRIES - 1 {
                    platform.heal();
                    assert!(step(&mut feed, &log, Lsn(1), &mut now).is_none());
                    assert!(feed.holds(Lsn(3)), "nothing is lost to a device that is back");
                    break;
                }
            }
            if heals {
                continue;
            }
            assert!(step(&mut feed, &log, Lsn(1), &mut now).is_none());
            assert!(feed.holds(Lsn(1)) && !feed.holds(Lsn(2)), "what validates is served");
            let Some(FeedEvent::Missing { from, to, reason }) =
                step(&mut feed, &log, Lsn(2), &mut now)
            else {
                panic!("no gap")
            };
            assert_eq!((from, to, reason), (Lsn(2), Lsn(2), GapReason::Unreadable));
            assert!(step(&mut feed, &log, Lsn(3), &mut now).is_none());
            assert!(feed.holds(Lsn(3)), "and the route goes on");
        }
    }

    #[test]
    fn a_device_that_is_away_is_waited_for() {
        let world = SimWorld::new(1);
        let platform = BadBlocks::new(world.platform());
        let log = three(&world, &platform);
        for name in world.names(Path::new(LOG)).expect("lists") {
            if name.ends_with(".wal") {
                platform.spoil(&Path::new(LOG).join(name), 0..u64::MAX, None);
            }
        }
        let around = Arc::clone(&platform) as Arc<dyn Platform>;
        let mut feed = Feed::new(around, PathBuf::from(LOG));
        let mut now = Monotonic::default();
        for _ in 0..3 * READ_TRIES {
            let event = step(&mut feed, &log, Lsn(1), &mut now);
            assert!(matches!(event, Some(FeedEvent::Failed(_))));
        }
        platform.heal();
        assert!(step(&mut feed, &log, Lsn(1), &mut now).is_none());
        assert!(feed.holds(Lsn(1)));
    }
}
