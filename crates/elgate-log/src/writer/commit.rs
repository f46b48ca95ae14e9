//! What goes out: group commits, syncs and idle markers; and what is acknowledged when they
//! come back.

use super::mirror::{Pair, Side};
use super::{Flight, Held, LogWriter, SyncUnderWay};
use crate::batch::{BATCH_HEADER_BYTES, BatchHeader, WINDOW_BYTES};
use crate::batch_builder::{Batch, CachedBatch};
use crate::error::IoFault;
use crate::event::LogEvent;
use elgate_io::{Buffer, Completion, Op, Outcome};
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{FlushMode, Lsn, Monotonic, WallTime, kill_site, seeded_bug};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A batch of this size goes out though another write is under way: the device is as fast as it
/// gets, and waiting would only add delay.
pub(super) const LARGE_BATCH_BYTES: usize = 256 * 1024;

/// Quiet for so long, the last acknowledgement is covered by a marker.
const QUIET: Duration = Duration::from_millis(50);

/// Written bytes are synced at the latest when there are so many, so that what a power cut can
/// leave behind fits in the window that recovery looks at.
const UNSYNCED_BYTES_MAX: u64 = WINDOW_BYTES / 2;

impl LogWriter {
    pub(super) fn next_write(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        if self.failure.is_some() {
            return None;
        }
        let bytes = if self.batch_is_due() {
            self.pending.front().or(self.open.as_ref()).map_or(0, Batch::write_bytes)
        } else if self.marker_deadline().is_some_and(|deadline| deadline <= now) {
            BLOCK_BYTES
        } else {
            if self.parked.is_some() && self.is_written() && self.find_room(BLOCK_BYTES, now) {
                self.resume();
            }
            return None;
        };
        if self.flight_bytes + self.held_bytes + bytes as u64 > WINDOW_BYTES {
            return None;
        }
        if !self.find_room(bytes, now) {
            return None;
        }
        self.hand_out(now)
    }

    /// Whether a batch should go to the device now. No timer: whatever arrived during the last
    /// write is the next batch. Beside another write goes what fills a single block (the device does
    /// two of those nearly as fast as one), and what is large; anything between is sooner durable in
    /// one piece with what still comes.
    fn batch_is_due(&self) -> bool {
        let has_turn = self.flights.len() < self.options.writes_in_flight_max;
        if !self.pending.is_empty() {
            return has_turn;
        }
        let large = LARGE_BATCH_BYTES.min(self.options.batch_bytes_max);
        let alone = self.flights.is_empty();
        let may_be_small = self.flights.len() < self.options.small_writes_in_flight_max;
        self.open.as_ref().map(Batch::write_bytes).is_some_and(|bytes| {
            has_turn && (alone || (may_be_small && bytes <= BLOCK_BYTES) || bytes >= large)
        })
    }

    fn hand_out(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        let next_batch = match self.pending.pop_front() {
            Some(batch) => {
                self.pending_bytes -= batch.write_bytes();
                Some(batch)
            }
            None => self.open.take(),
        };
        let active = self.active.as_mut()?;
        let (first_lsn, batch, buffer) = match next_batch {
            Some(mut batch) => {
                self.usual_batch_bytes = batch.write_bytes();
                let (ring_id, position) = batch.source();
                let (first, bytes) = (batch.first_lsn(), batch.write_bytes() as u64);
                self.replayable.take(ring_id, position, first, bytes);
                let buffer = batch.seal(active.salt, self.epoch, self.durable);
                (batch.first_lsn(), Some(batch), buffer)
            }
            None => {
                let mut buffer = self.pool.take(BLOCK_BYTES);
                marker(&mut buffer, active.salt, self.epoch, self.next_lsn, self.durable);
                (self.next_lsn, None, buffer)
            }
        };
        let offset = active.offset;
        active.offset += buffer.len() as u64;
        if let Some(span) = self.segments.back_mut() {
            span.first_lsn.get_or_insert(first_lsn);
            span.last_time = batch.as_ref().map_or(span.last_time, Batch::last_time);
        }
        let durable = (self.options.flush == FlushMode::Auto || batch.is_none())
            && !seeded_bug::is("acknowledge-before-sync");
        let (file, bytes) = (active.file.clone(), buffer.len() as u64);
        let token = self.token();
        let pair =
            Pair { own: Some(token), twin: self.mirror_write(offset, &buffer, durable, now) };
        self.flight_bytes += bytes;
        let states = self.durable;
        self.flights.push_back(Flight { pair, batch, offset, bytes, states, since: now });
        self.write_handed_out = true;
        Some((token, Op::Write { file, offset, durable, buffer }))
    }

    pub(super) fn on_written(&mut self, token: u32, completion: Completion, now: Monotonic) {
        let found = self.flights.iter_mut().find_map(|flight| {
            let side = flight.pair.take(token)?;
            Some((side, flight))
        });
        let Some((side, flight)) = found else { return };
        let expected = flight.bytes;
        let buffer = completion.buffer.expect("drivers return the buffers of writes");
        match &mut flight.batch {
            Some(batch) if side == Side::Own => batch.restore(buffer),
            _ => self.pool.give(buffer),
        }
        let error = match completion.result {
            Ok(Outcome::Bytes(count)) if count as u64 == expected => None,
            Ok(_) if seeded_bug::is("ignore-short-writes") => None,
            Ok(_) => Some(io::Error::new(io::ErrorKind::WriteZero, "the write came up short")),
            Err(error) => Some(error),
        };
        match (error, side) {
            (Some(error), Side::Own) => self.fail("write", error),
            (Some(error), Side::Twin) => self.lose_twin("write", error, now),
            (None, _) => {}
        }
        if self.failure.is_none() {
            self.acknowledge(now);
        }
        self.abandon_when_drained(now);
    }

    /// Takes the flights that are back and have none before them.
    fn acknowledge(&mut self, now: Monotonic) {
        let before = (self.visible, self.durable);
        let past_holes = seeded_bug::is("acknowledge-past-a-hole");
        let next = |flights: &VecDeque<Flight>| {
            let is_back = |flight: &Flight| flight.pair.is_back();
            let found = flights.iter().position(is_back)?;
            (found == 0 || past_holes).then_some(found)
        };
        while let Some(flight) = next(&self.flights).and_then(|at| self.flights.remove(at)) {
            self.flight_bytes -= flight.bytes;
            self.note(&flight);
            let took = now.since(flight.since);
            match flight.batch {
                Some(batch) => {
                    let records = u64::from(batch.record_count());
                    self.counters.count_write(records, flight.bytes, took);
                    if self.options.flush == FlushMode::Auto {
                        self.counters.count_sync(records);
                    }
                    self.take_written(batch, flight.bytes, flight.states);
                }
                None => self.covered = self.covered.max(flight.states),
            }
        }
        if (self.visible, self.durable) != before {
            kill_site::pass("log.durable.before_ack");
            self.publish();
            self.announce(before);
        }
        if self.parked.is_some() {
            self.resume();
        }
    }

    /// Remembers for index and footer what is in the active segment.
    fn note(&mut self, flight: &Flight) {
        if self.active.as_ref().is_some_and(|active| !active.is_kept) {
            // Something is behind the segments before it, so they may go.
            self.retire_soon();
        }
        let Some(active) = &mut self.active else { return };
        active.is_kept = true;
        let range = flight.offset..flight.offset + flight.bytes;
        let (lsns, times) = match &flight.batch {
            Some(batch) => (batch.first_lsn()..batch.next_lsn(), batch.times()),
            None => (self.visible.next()..self.visible.next(), (WallTime(0), WallTime(0))),
        };
        if let Some(entry) = active.footer.take(range, lsns, times) {
            self.head.push_index(&entry);
        }
    }

    fn take_written(&mut self, batch: Batch, bytes: u64, states: Lsn) {
        self.visible = self.visible.max(batch.last_lsn());
        let batch = Arc::new(CachedBatch(batch));
        match self.options.flush {
            FlushMode::Auto => {
                self.durable = self.visible;
                self.covered = self.covered.max(states);
                self.cache.push(batch, &mut self.pool);
            }
            FlushMode::Manual if !seeded_bug::is("deliver-what-is-only-visible") => {
                self.held.push_back(Held { batch, bytes });
            }
            FlushMode::Manual | FlushMode::None => {
                // Readers follow what is visible here, so it may be served at once.
                self.cache.push(batch.clone(), &mut self.pool);
                self.held.push_back(Held { batch, bytes });
            }
        }
        if self.options.flush != FlushMode::Auto {
            self.held_bytes += bytes;
        }
    }

    fn announce(&mut self, before: (Lsn, Lsn)) {
        let flush = self.options.flush;
        if flush != FlushMode::Auto && self.visible > before.0 {
            self.events.push_back(LogEvent::Written { through: self.visible });
        }
        if flush != FlushMode::None && self.durable > before.1 {
            self.events.push_back(LogEvent::Durable { through: self.durable });
        }
    }

    pub(super) fn next_sync(&mut self) -> Option<(u32, Op)> {
        if self.failure.is_some() || self.sync.is_some() || self.held.is_empty() {
            return None;
        }
        let flushing = self.flush_target > self.durable && self.visible >= self.flush_target;
        if !(self.sync_wanted || flushing || self.held_bytes >= UNSYNCED_BYTES_MAX) {
            return None;
        }
        let file = self.active.as_ref()?.file.clone();
        let token = self.token();
        self.sync_wanted = false;
        let pair = Pair { own: Some(token), twin: self.mirror_sync() };
        self.sync = Some(SyncUnderWay { pair, batches: self.held.len() });
        Some((token, Op::Sync { file }))
    }

    pub(super) fn on_synced(&mut self, side: Side, completion: Completion, now: Monotonic) {
        match (completion.result, side) {
            (Err(_), Side::Own) if seeded_bug::is("retry-failed-syncs") => {
                // The retry, the one after it, says that all is well.
                self.sync = None;
                self.sync_wanted = true;
                return;
            }
            (Err(error), Side::Own) => self.fail("sync", error),
            (Err(error), Side::Twin) => self.lose_twin("sync", error, now),
            (Ok(_), _) => {}
        }
        let Some(sync) = self.sync.take_if(|sync| sync.pair.is_back()) else { return };
        if self.failure.is_some() {
            // A sync that succeeded beside a write that failed proves nothing about the device.
            self.abandon_when_drained(now);
            return;
        }
        let before = (self.visible, self.durable);
        let mut records = 0;
        for held in self.held.drain(..sync.batches) {
            records += u64::from(held.batch.0.record_count());
            self.held_bytes -= held.bytes;
            self.durable = held.batch.last_lsn();
            if self.options.flush == FlushMode::Manual
                && !seeded_bug::is("deliver-what-is-only-visible")
            {
                self.cache.push(held.batch, &mut self.pool);
            }
        }
        self.counters.count_sync(records);
        kill_site::pass("log.durable.before_ack");
        self.publish();
        self.announce(before);
    }

    fn fail(&mut self, doing: &'static str, error: io::Error) {
        let path = self.active.as_ref().map(|active| active.path.clone()).unwrap_or_default();
        self.failure.get_or_insert(IoFault { doing, path, error });
    }

    /// Whether the last acknowledgement is not yet covered by a later batch.
    pub(super) fn marker_is_wanted(&self) -> bool {
        let quiet = self.is_written() && self.held.is_empty() && self.failure.is_none();
        let counts = self.options.flush != FlushMode::None || self.closing;
        // Not worth a segment of its own.
        let fits = self
            .active
            .as_ref()
            .is_some_and(|active| active.offset + BLOCK_BYTES as u64 <= active.usable_end);
        quiet && counts && fits && self.parked.is_none() && self.covered < self.durable
    }

    pub(super) fn marker_deadline(&self) -> Option<Monotonic> {
        let quiet_since = self.quiet_since.filter(|_| self.marker_is_wanted())?;
        Some(if self.closing { quiet_since } else { quiet_since.after(QUIET) })
    }

    /// Remembers since when there has been nothing to do.
    pub(super) fn note_quiet(&mut self, now: Monotonic) {
        if !self.is_written() {
            self.quiet_since = None;
        } else if self.quiet_since.is_none() {
            self.quiet_since = Some(now);
        }
    }
}

/// A batch without records, which only states what is durable.
fn marker(buffer: &mut Buffer, salt: u32, epoch: u64, next_lsn: Lsn, durable: Lsn) {
    let header = BatchHeader {
        batch_bytes: BLOCK_BYTES as u32,
        body_bytes: 0,
        first_lsn: next_lsn,
        record_count: 0,
        records_crc: 0,
        epoch,
        durable_lsn: durable,
        ring_id: 0,
        ring_position: 0,
    };
    buffer.clear();
    buffer.extend_zeros(BLOCK_BYTES);
    header.encode(&mut buffer[..BATCH_HEADER_BYTES], salt);
}
