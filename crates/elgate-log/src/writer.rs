//! The writer: a sans-I/O state machine that turns appends into group commits.
//!
//! In: [`append`](LogWriter::append) and completions. Out: operations
//! ([`poll_op`](LogWriter::poll_op)) and events ([`poll_event`](LogWriter::poll_event)). Nothing
//! here blocks, allocates per record, or makes a system call per record.
//!
//! ```text
//!  append ─► open batch ─► pending ─► flights ─┬─ auto ──────────► durable ─► tail cache
//!            (collecting)  (closed)   (handed  │
//!                                      out)    └─ manual, none ─► held ─ sync ─► durable
//!
//!  a write or sync fails: wait until every flight is back; held + flights go back to the front
//!  of pending, the segment is abandoned, the epoch rises, and another segment takes them
//! ```
//!
//! | file | role |
//! |---|---|
//! | `append.rs` | what comes in: records into batches |
//! | `commit.rs` | what goes out: writes, syncs, markers; acknowledging them |
//! | `segments.rs` | which segment it goes to: preparing, rolling, abandoning, parking |
//! | `retire.rs` | which segments go |
//! | `head.rs` | a head file that somebody has cut short |
//! | `mirror.rs` | the same to a second directory |

mod append;
mod commit;
mod head;
mod mirror;
mod retire;
mod segments;

use mirror::Pair;
pub(crate) use retire::SPARES_MAX;

use crate::batch_builder::{Batch, BufferPool, CachedBatch};
use crate::error::{IoFault, OpenError};
use crate::event::LogEvent;
use crate::head::{HeadWriter, Watermarks};
use crate::index::Footer;
use crate::options::{LogOptions, Retention};
use crate::preparer::Prepared;
use crate::replayable::Replayable;
use crate::stats::{Counters, LogStats, MirrorStats};
use crate::tail_cache::TailCache;
use elgate_io::{Arena, Completion, File, Op};
use elgate_types::{FlushMode, Lsn, Monotonic, RouteName, WallTime, kill_site, seeded_bug};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The one writer of a log. Made by [`open`](crate::open); used from one thread.
///
/// Call [`poll_op`](Self::poll_op) until it returns `None` after appending and after
/// [`handle`](Self::handle), submit what it returns, and drain
/// [`poll_event`](Self::poll_event). Dropping it abandons what was not acknowledged;
/// [`close`](Self::close) first to have it written.
#[derive(Debug)]
pub struct LogWriter {
    pub(crate) dir: PathBuf,
    pub(crate) route: RouteName,
    pub(crate) log_id: u128,
    pub(crate) options: LogOptions,
    pub(crate) head: HeadWriter,

    // Records on their way, in order: open, pending, flights, held.
    pub(crate) open: Option<Batch>,
    pub(crate) pending: VecDeque<Batch>,
    /// Bytes of `pending` on the device.
    pub(crate) pending_bytes: usize,
    pub(crate) flights: VecDeque<Flight>,
    pub(crate) flight_bytes: u64,
    /// Written, and not yet known to be stable.
    pub(crate) held: VecDeque<Held>,
    pub(crate) held_bytes: u64,
    pub(crate) pool: BufferPool,
    /// Size of the last batch: the best guess at the next one's.
    pub(crate) usual_batch_bytes: usize,
    pub(crate) cache: TailCache,

    /// What rings may hand over again, as far as it is written.
    pub(crate) replayable: Replayable,

    // Where they go.
    pub(crate) active: Option<Active>,
    pub(crate) spares: VecDeque<Prepared>,
    /// Segments that hold or held batches, the active one last.
    pub(crate) segments: VecDeque<SegmentSpan>,
    /// Retired segments that wait to be used again.
    pub(crate) reusable: Vec<PathBuf>,
    /// Files in which nothing was ever acknowledged, to be removed.
    pub(crate) discard: Vec<PathBuf>,
    pub(crate) next_sequence: u64,
    pub(crate) epoch: u64,

    pub(crate) mirror: Option<Mirror>,
    /// Operations on the active segment's twin, to be handed out.
    pub(crate) twin_ops: VecDeque<(u32, Op)>,
    /// Goes on in another segment though this one has room.
    pub(crate) roll_wanted: bool,

    // Watermarks.
    pub(crate) next_lsn: Lsn,
    pub(crate) visible: Lsn,
    pub(crate) durable: Lsn,
    pub(crate) delivered: Lsn,
    /// Highest durable watermark that a durable batch states.
    pub(crate) covered: Lsn,

    // Under way, or asked for.
    pub(crate) sync: Option<SyncUnderWay>,
    pub(crate) sync_wanted: bool,
    pub(crate) flush_target: Lsn,
    pub(crate) preparing: Option<Preparing>,
    pub(crate) segment_wanted: bool,
    /// No new segment before this time.
    pub(crate) retry_at: Option<Monotonic>,
    /// Segments that were left in good order and have no footer yet.
    pub(crate) unsealed: VecDeque<Active>,
    /// Footers handed out: token and segment.
    pub(crate) sealing: Vec<(u32, PathBuf)>,
    pub(crate) retiring: Option<u32>,
    /// The chore that makes the head file whole again, and when to try it.
    pub(crate) mending: Option<u32>,
    pub(crate) mend_at: Option<Monotonic>,
    pub(crate) retire_at: Option<Monotonic>,
    pub(crate) quiet_since: Option<Monotonic>,
    pub(crate) failure: Option<IoFault>,
    pub(crate) parked: Option<String>,
    pub(crate) closing: bool,
    pub(crate) closed: bool,

    pub(crate) events: VecDeque<LogEvent>,
    pub(crate) next_token: u32,
    pub(crate) write_handed_out: bool,
    pub(crate) counters: Counters,
}

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: File,
    /// The same file in the mirror, as long as it has the same bytes.
    pub(crate) twin: Option<File>,
    pub(crate) path: PathBuf,
    pub(crate) sequence: u64,
    pub(crate) salt: u32,
    pub(crate) bytes: u64,
    /// Where batches end at the latest.
    pub(crate) usable_end: u64,
    /// Where the next batch goes.
    pub(crate) offset: u64,
    /// Whether anything in it was acknowledged.
    pub(crate) is_kept: bool,
    /// What its footer will say.
    pub(crate) footer: Footer,
}

/// A write handed out: a batch, or an idle marker.
#[derive(Debug)]
pub(crate) struct Flight {
    pair: Pair,
    batch: Option<Batch>,
    /// Where it goes in the active segment.
    offset: u64,
    bytes: u64,
    /// The durable watermark it states.
    states: Lsn,
    since: Monotonic,
}

/// A batch that is written and not yet synced.
#[derive(Debug)]
pub(crate) struct Held {
    batch: Arc<CachedBatch>,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct SyncUnderWay {
    pair: Pair,
    /// How many of the held batches it covers.
    batches: usize,
}

/// Where the twins are, and how they are.
#[derive(Debug)]
pub(crate) struct Mirror {
    dir: PathBuf,
    /// Segments whose twins may lack something, oldest first.
    behind: VecDeque<PathBuf>,
    /// Those that got anything since the last chore began: it may not have copied all of them.
    grown: Vec<PathBuf>,
    /// Why it is not written to, if that is so.
    trouble: Option<String>,
    chore: Option<u32>,
    chore_at: Option<Monotonic>,
}

#[derive(Debug)]
pub(crate) struct Preparing {
    token: u32,
    /// How many of the files to discard it was told to remove.
    discards: usize,
}

/// What is known of a segment with batches.
#[derive(Debug, Clone)]
pub(crate) struct SegmentSpan {
    pub(crate) sequence: u64,
    pub(crate) path: PathBuf,
    /// `None` until its first batch goes out.
    pub(crate) first_lsn: Option<Lsn>,
    pub(crate) bytes: u64,
    /// Not older than its last record.
    pub(crate) last_time: WallTime,
    /// Whether the above is so. If not, it was there when the log was opened, and nobody has
    /// looked at it: path and size are all that is known, and of the oldest its first LSN.
    pub(crate) is_known: bool,
}

impl LogWriter {
    /// The next operation to submit, with the number that its completion must bring back. Call
    /// until it returns `None`.
    pub fn poll_op(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        if std::mem::take(&mut self.write_handed_out) {
            // Whoever calls again has submitted the write by now.
            kill_site::pass("log.write.submitted");
        }
        let twin_op = self.twin_ops.pop_front();
        let op = twin_op
            .or_else(|| self.next_write(now))
            .or_else(|| self.next_sync())
            .or_else(|| self.next_seal())
            .or_else(|| self.next_preparation(now))
            .or_else(|| self.next_retirement(now))
            .or_else(|| self.next_mirror_chore(now))
            .or_else(|| self.next_mending(now));
        self.count_busy(now);
        self.note_quiet(now);
        self.finish_close();
        op
    }

    /// Takes the completion of the operation that `poll_op` numbered `token`.
    pub fn handle(&mut self, token: u32, completion: Completion, now: Monotonic) {
        if self.preparing.as_ref().is_some_and(|preparing| preparing.token == token) {
            self.on_prepared(completion, now);
        } else if self.sealing.iter().any(|(sealing, _)| *sealing == token) {
            self.on_sealed(token, completion, now);
        } else if self.retiring == Some(token) {
            self.retiring = None;
            self.on_retired(completion, now);
        } else if self.mending == Some(token) {
            self.on_mended(completion, now);
        } else if self.mirror.as_ref().is_some_and(|mirror| mirror.chore == Some(token)) {
            self.on_mirror_chore(completion, now);
        } else if let Some(side) = self.sync.as_mut().and_then(|sync| sync.pair.take(token)) {
            self.on_synced(side, completion, now);
        } else {
            self.on_written(token, completion, now);
        }
        self.count_busy(now);
        self.note_quiet(now);
        self.finish_close();
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// When to call [`poll_op`](Self::poll_op) though nothing has happened: the idle marker, a
    /// parked log's next attempt, retention.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Monotonic> {
        let marker = self.marker_deadline();
        let retry = self.retry_at.filter(|_| {
            let is_needed = self.segment_wanted || self.parked.is_some();
            self.preparing.is_none() && (is_needed || self.wants_segment())
        });
        let retire = self.retire_at.filter(|_| self.retiring.is_none() && self.may_retire());
        [marker, retry, retire, self.mirror_wakeup(), self.mend_at].into_iter().flatten().min()
    }

    /// The file that carries the lock of the log's only writer. A driver that carries out the
    /// operations of this log has to [hold](elgate_io::Driver::hold) it.
    #[must_use]
    pub fn lock(&self) -> &File {
        self.head.file()
    }

    /// Last record that survives a power cut.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Last record that is written.
    #[must_use]
    pub fn visible(&self) -> Lsn {
        self.visible
    }

    /// Last record that readers and sinks may see: the last durable one, or, where nothing is
    /// synced for its own sake (flush mode `none`), the last one written.
    #[must_use]
    pub fn readable(&self) -> Lsn {
        let early = seeded_bug::is("deliver-what-is-only-visible");
        if self.options.flush == FlushMode::None || early { self.visible } else { self.durable }
    }

    /// The LSN that the next record will get.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// The first record still kept; the one after the last durable one if there is none.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        let kept = self.segments.iter().find_map(|segment| segment.first_lsn);
        kept.unwrap_or(self.durable.next())
    }

    /// The log's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes buffers from this arena from now on: that of the driver which carries out the
    /// operations. At most half of it is kept for batches that are already durable.
    pub fn set_arena(&mut self, arena: Arena) {
        let half = arena.bytes() / 2;
        if half > 0 {
            self.cache.limit(half.min(self.options.tail_cache_bytes));
        }
        self.pool.set_arena(arena);
    }

    /// The committed batch that contains `from`, if it is still in memory.
    #[must_use]
    pub fn cached(&self, from: Lsn) -> Option<Arc<CachedBatch>> {
        self.cache.find(from)
    }

    /// Changes what may change while the log is open: the size of segments prepared from now on,
    /// and what is kept.
    ///
    /// # Errors
    /// [`OpenError::Options`] if the size cannot work; nothing has changed then.
    pub fn set_bounds(&mut self, segment_bytes: u64, retain: Retention) -> Result<(), OpenError> {
        let options = LogOptions { segment_bytes, retain, ..self.options.clone() };
        options.check().map_err(OpenError::Options)?;
        self.options = options;
        Ok(())
    }

    /// Publishes how far the sink's far end has come. Only a hint to onlookers: what retention
    /// goes by is the cursor.
    pub fn set_delivered(&mut self, lsn: Lsn) {
        self.delivered = lsn;
        self.head.set_delivered(lsn);
    }

    /// Asks for everything appended so far to become durable; [`LogEvent::Durable`] follows (in
    /// flush mode `none`, only [`durable`](Self::durable) rises). Without effect in flush mode
    /// `auto`, where that happens anyway.
    pub fn flush(&mut self) {
        self.flush_target = Lsn(self.next_lsn.0 - 1);
    }

    /// Takes no more records, and makes everything appended durable, whatever the flush mode.
    /// Go on polling and handling until [`is_idle`](Self::is_idle).
    pub fn close(&mut self) {
        self.closing = true;
        self.flush();
    }

    /// Whether nothing is under way and nothing waits. After [`close`](Self::close): whether it
    /// may be dropped. A parked log with records is not idle; what to do about that is the
    /// caller's to decide.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.is_written()
            && self.unsealed.is_empty()
            && self.sync.is_none()
            && self.preparing.is_none()
            && self.retiring.is_none()
            && self.mending.is_none()
            && self.sealing.is_empty()
            && self.mirror.as_ref().is_none_or(|mirror| mirror.chore.is_none())
            && (!self.closing || (self.held.is_empty() && !self.marker_is_wanted()))
    }

    /// Whether no operation is under way, so that it may be dropped and what was not acknowledged
    /// abandoned.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.flights.is_empty()
            && self.sync.is_none()
            && self.preparing.is_none()
            && self.retiring.is_none()
            && self.mending.is_none()
            && self.sealing.is_empty()
            && self.mirror.as_ref().is_none_or(|mirror| mirror.chore.is_none())
    }

    /// A snapshot of its figures.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let prepared_bytes: u64 = self.spares.iter().map(|spare| spare.header.segment_bytes).sum();
        let spare_bytes = prepared_bytes + self.reusable.len() as u64 * self.options.segment_bytes;
        let batches = self.pending.iter().chain(&self.open);
        let flights = self.flights.iter().filter_map(|flight| flight.batch.as_ref());
        let memory: usize = batches.chain(flights).map(Batch::memory_bytes).sum();
        LogStats {
            segments: self.segments.len() as u64,
            bytes_on_disk: self.segments.iter().map(|segment| segment.bytes).sum::<u64>()
                + spare_bytes,
            batches: self.counters.batches,
            records: self.counters.records,
            written_bytes: self.counters.written_bytes,
            write_times_us: self.counters.write_times_us,
            sync_records: self.counters.sync_records,
            busy: self.counters.busy,
            unwritten_bytes: self.unwritten_bytes() as u64,
            writes_in_flight: self.flights.len() as u64,
            abandoned_segments: self.counters.abandoned_segments,
            parked: self.parked.clone(),
            mirror: self.mirror.as_ref().map(|mirror| MirrorStats {
                trouble: mirror.trouble.clone(),
                segments_behind: mirror.behind.len() as u64,
            }),
            memory_bytes: (memory + self.cache.bytes() + self.pool.bytes()) as u64
                + self.held_bytes,
        }
    }

    /// Whether every record appended has been written.
    fn is_written(&self) -> bool {
        self.open.is_none() && self.pending.is_empty() && self.flights.is_empty()
    }

    fn count_busy(&mut self, now: Monotonic) {
        let is_busy = !self.flights.is_empty() || self.sync.is_some();
        self.counters.count_busy(is_busy, now);
    }

    fn token(&mut self) -> u32 {
        self.next_token = self.next_token.wrapping_add(1);
        self.next_token
    }

    fn finish_close(&mut self) {
        if self.closing && !self.closed && self.is_idle() {
            self.closed = true;
            self.head.close();
        }
    }

    pub(crate) fn publish(&self) {
        self.head.publish(&self.watermarks());
    }

    pub(crate) fn watermarks(&self) -> Watermarks {
        let in_flight = self.flight_bytes + self.held_bytes;
        Watermarks {
            visible: self.visible,
            durable: self.durable,
            delivered: self.delivered,
            first: self.first_lsn(),
            active_sequence: self.active.as_ref().map_or(0, |active| active.sequence),
            durable_end: self.active.as_ref().map_or(0, |active| active.offset - in_flight),
            epoch: self.epoch,
            writer_pid: std::process::id(),
        }
    }
}
