//! Where batches go: preparing the next segment, rolling into it, leaving one that failed, and
//! parking when there is none to be had.

use super::commit::LARGE_BATCH_BYTES;
use super::{Active, LogWriter, Preparing, SegmentSpan};
use crate::batch_builder::CachedBatch;
use crate::error::IoFault;
use crate::event::LogEvent;
use crate::index::{FOOTER_BYTES, Footer};
use crate::preparer::{Fill, Order, Prepared};
use crate::segment_header::SEGMENT_HEADER_BYTES;
use elgate_io::{BlockingReply, Completion, Op, Outcome};
use elgate_types::{Monotonic, kill_site};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long to leave a device alone that has just refused.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl LogWriter {
    /// Makes sure that the active segment has room for `bytes`. `false`: not yet.
    pub(super) fn find_room(&mut self, bytes: usize, now: Monotonic) -> bool {
        if let Some(active) = &self.active {
            let rolls_early = self.roll_wanted && !self.spares.is_empty();
            if active.offset + bytes as u64 <= active.usable_end && !rolls_early {
                return true;
            }
            // All of a segment is stable before the next one begins: so a hole in any but the
            // last is damage, never the trace of a crash.
            if !self.flights.is_empty() {
                return false;
            }
            if !self.held.is_empty() {
                self.sync_wanted = true;
                return false;
            }
        }
        if self.retry_at.is_some_and(|at| now < at) {
            self.segment_wanted = true;
            return false;
        }
        // A spare that somebody has truncated may be too short; it is passed over.
        while let Some(spare) = self.spares.pop_front() {
            if spare.header.usable_end() >= (SEGMENT_HEADER_BYTES + bytes) as u64 {
                self.enter(spare, now);
                return true;
            }
        }
        self.segment_wanted = true;
        false
    }

    fn enter(&mut self, spare: Prepared, now: Monotonic) {
        kill_site::pass("log.roll");
        self.roll_wanted = false;
        if let Some(left) = self.active.take() {
            self.mirror_later(&left, now);
            self.unsealed.push_back(left);
        }
        let Prepared { file, path, header, twin } = spare;
        let twin = self.take_twin(twin, now);
        self.segments.push_back(SegmentSpan {
            sequence: header.sequence,
            path: path.clone(),
            first_lsn: None,
            bytes: header.segment_bytes,
            last_time: header.created,
            is_known: true,
        });
        self.events
            .push_back(LogEvent::Rolled { segment: path.clone(), sequence: header.sequence });
        self.active = Some(Active {
            file,
            twin,
            path,
            sequence: header.sequence,
            salt: header.salt,
            bytes: header.segment_bytes,
            usable_end: header.usable_end(),
            offset: SEGMENT_HEADER_BYTES as u64,
            is_kept: false,
            footer: Footer::new(&header),
        });
        self.remember_active();
        self.head.begin_index(header.sequence, &[]);
        self.segment_wanted = false;
        self.retry_at = None;
        self.publish();
    }

    /// Gives a segment that was left its footer. In its own time: nothing waits for it.
    pub(super) fn next_seal(&mut self) -> Option<(u32, Op)> {
        let full = self.unsealed.pop_front()?;
        let mut buffer = self.pool.take(FOOTER_BYTES);
        full.footer.encode(full.salt, &mut buffer);
        self.mirror_footer(&full, &buffer);
        let token = self.token();
        self.sealing.push((token, full.path));
        Some((token, Op::Write { file: full.file, offset: full.usable_end, buffer, durable: true }))
    }

    pub(super) fn on_sealed(&mut self, token: u32, completion: Completion, now: Monotonic) {
        self.pool.give(completion.buffer);
        let Some(at) = self.sealing.iter().position(|(sealing, _)| *sealing == token) else {
            return;
        };
        let (_, path) = self.sealing.swap_remove(at);
        if let Err(error) = completion.result {
            // Its batches are stable; finding one there takes a little longer.
            self.twin_unfinished(&path, now);
            let error = IoFault { doing: "write the footer of", path, error };
            self.events.push_back(LogEvent::ChoreFailed { error });
        }
    }

    /// Whether the next segment should be prepared.
    pub(super) fn wants_segment(&self) -> bool {
        let is_half_full =
            self.active.as_ref().is_some_and(|active| active.offset * 2 >= active.bytes);
        let is_needed = self.segment_wanted || self.roll_wanted || self.parked.is_some();
        self.spares.is_empty() && (is_needed || (is_half_full && !self.closing))
    }

    pub(super) fn next_preparation(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        if self.preparing.is_some()
            || !self.wants_segment()
            || self.retry_at.is_some_and(|at| now < at)
        {
            return None;
        }
        let order = Order {
            dir: self.dir.clone(),
            mirror: self.options.mirror.clone(),
            route: self.route.clone(),
            log_id: self.log_id,
            sequence: self.next_sequence,
            segment_bytes: self.options.segment_bytes,
            direct: self.options.wants_direct(),
            reuse: self.reusable.pop(),
            fill: self.fill(),
            discard: self.discard.clone(),
        };
        self.next_sequence += 1;
        let token = self.token();
        self.preparing = Some(Preparing { token, discards: self.discard.len() });
        let call = move |platform: &dyn elgate_io::Platform| -> io::Result<BlockingReply> {
            Ok(Box::new(order.prepare(platform)))
        };
        Some((token, Op::Blocking(Box::new(call))))
    }

    /// Where batches are large, zeros would take half of the device's time and save nothing.
    fn fill(&self) -> Fill {
        if self.usual_batch_bytes >= LARGE_BATCH_BYTES { Fill::Allocated } else { Fill::Zeros }
    }

    pub(super) fn on_prepared(&mut self, completion: Completion, now: Monotonic) {
        let discards = self.preparing.take().map_or(0, |preparing| preparing.discards);
        let fault = match reply::<Result<Prepared, IoFault>>(completion) {
            Ok(Ok(prepared)) => {
                self.discard.drain(..discards);
                self.retry_at = None;
                self.spares.push_back(prepared);
                return;
            }
            Ok(Err(fault)) => fault,
            Err(error) => IoFault { doing: "prepare a segment in", path: self.dir.clone(), error },
        };
        let is_first = self.retry_at.replace(now.after(RETRY_AFTER)).is_none();
        if self.segment_wanted {
            self.park(fault);
        } else if is_first {
            self.events.push_back(LogEvent::ChoreFailed { error: fault });
        }
    }

    fn park(&mut self, error: IoFault) {
        if self.parked.is_none() {
            self.parked = Some(error.to_string());
            self.events.push_back(LogEvent::Parked { error });
        }
    }

    pub(super) fn resume(&mut self) {
        if self.parked.take().is_some() {
            self.events.push_back(LogEvent::Resumed);
        }
    }

    /// After a failure, once nothing is under way: leaves the segment, and puts everything that
    /// is not stable back in line.
    pub(super) fn abandon_when_drained(&mut self, now: Monotonic) {
        let drained =
            self.sync.is_none() && self.flights.iter().all(|flight| flight.pair.is_back());
        let Some(fault) = self.failure.take_if(|_| drained) else { return };
        let flights = std::mem::take(&mut self.flights);
        let held = std::mem::take(&mut self.held);
        // What was only written is nowhere to be read before it is written again.
        self.visible = self.durable;
        self.publish();
        self.flight_bytes = 0;
        self.held_bytes = 0;
        for flight in flights.into_iter().rev() {
            if let Some(batch) = flight.batch {
                self.pending_bytes += batch.write_bytes();
                self.pending.push_front(batch);
            }
        }
        for held in held.into_iter().rev() {
            let batch = Arc::try_unwrap(held.batch).map_or_else(
                |shared| shared.0.duplicate(&mut self.pool),
                |CachedBatch(batch)| batch,
            );
            self.pending_bytes += batch.write_bytes();
            self.pending.push_front(batch);
        }
        self.epoch += 1;
        self.counters.abandoned_segments += 1;
        self.leave_active(fault, now);
    }

    fn leave_active(&mut self, fault: IoFault, now: Monotonic) {
        let Some(active) = self.active.take() else { return };
        let error = IoFault {
            doing: fault.doing,
            path: fault.path.clone(),
            error: io::Error::new(fault.error.kind(), fault.error.to_string()),
        };
        self.events.push_back(LogEvent::Abandoned { segment: active.path.clone(), error });
        self.mirror_later(&active, now);
        if !active.is_kept {
            // Nothing was acknowledged in it and everything in it is in memory: the file can go.
            // The device has refused a segment from its first write on, so it is given time.
            self.segments.pop_back();
            self.discard.push(active.path);
            self.retry_at = Some(now.after(RETRY_AFTER));
            self.park(fault);
        }
    }
}

/// The value that a blocking call returned.
pub(super) fn reply<T: 'static>(completion: Completion) -> io::Result<T> {
    match completion.result? {
        Outcome::Reply(reply) => match reply.downcast::<T>() {
            Ok(value) => Ok(*value),
            Err(_) => Err(io::Error::other("a reply to some other call")),
        },
        _ => Err(io::Error::other("no reply")),
    }
}
