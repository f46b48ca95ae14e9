//! The producer's side: attach, submit, wait for space.

use crate::ack_reader::{AckReader, AckWaiter};
use crate::acks::ENTRIES;
use crate::closed::mark_of;
use crate::error::{RingError, SubmitError};
use crate::host::{Host, OsHost};
use crate::layout::{
    BODY_BYTES_MAX, DATA_DIR_BYTES_MAX, FIRST_BODY_BYTES, RUN_MAX, SLOT_BYTES, SLOTS, WORD_BYTES,
    offset, run_for,
};
use crate::mapping::RingMap;
use crate::message::{Body, CHECKED_FROM, FIELD_BYTES, Header, records_are_valid};
use crate::participant::{Seat, consumer_lives};
use crate::protocol::{self, Claim, ClaimError, Shared};
use crate::sync::{AtomicU64, Ordering};
use elgate_io::futex;
use elgate_types::limits::{PAYLOAD_BYTES_MAX, RECORDS_PER_SUBMISSION_MAX};
use elgate_types::{RouteName, kill_site};
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Most submissions one participant may have outstanding (submitted, completion not yet read), so
/// that its acknowledgement ring can never overflow.
pub const OUTSTANDING_MAX: usize = 2_048;

const _: () = assert!(OUTSTANDING_MAX as u64 * 2 == ENTRIES && DATA_DIR_BYTES_MAX > 0);

/// A process's attachment to a ring, usable from all its threads.
///
/// A submission that was accepted survives this process: dropping the producer takes nothing back.
#[derive(Debug)]
pub struct Producer {
    // Declared first: an inherited seat is only closed, never given up.
    seat: Seat,
    ring: Arc<RingMap>,
    head_cache: AtomicU64,
    /// End of the last run this producer claimed; when the head is past it, nothing is left.
    claimed_end: AtomicU64,
    /// Slots that the last submission needed that was refused for want of them.
    slots_wanted: AtomicU64,
    reader_taken: AtomicBool,
}

impl Producer {
    /// Attaches to the ring at `path`. A daemon need not be running: what is submitted then waits
    /// in the ring.
    ///
    /// # Errors
    /// [`RingError`]: missing, not a ring of this layout, not trustworthy, given up, or full of
    /// producers.
    pub fn attach(path: &Path) -> Result<Self, RingError> {
        Self::attach_on(&OsHost::shared(), path)
    }

    /// As [`attach`](Self::attach), on a host of the caller's choice.
    ///
    /// # Errors
    /// As there.
    pub fn attach_on(host: &Arc<dyn Host>, path: &Path) -> Result<Self, RingError> {
        let ring = Arc::new(RingMap::open(host, path)?);
        if ring.is_given_up() {
            return Err(RingError::Poisoned { path: path.to_owned() });
        }
        let seat = Seat::take(&ring)?;
        let head = ring.head().load(Ordering::Acquire); // pairs with `advance_head`
        Ok(Self {
            seat,
            ring,
            head_cache: AtomicU64::new(head),
            claimed_end: AtomicU64::new(head),
            slots_wanted: AtomicU64::new(1),
            reader_taken: AtomicBool::new(false),
        })
    }

    /// Submits records for a route as one submission. `op_id` is the caller's number of the first;
    /// it comes back in the completion. Returns the submission's position.
    ///
    /// On return the submission is *accepted*: it survives this process. Never blocks.
    ///
    /// # Errors
    /// [`SubmitError`]; see there for what has happened.
    pub fn submit(
        &self,
        route: &RouteName,
        op_id: u64,
        records: &[&[u8]],
    ) -> Result<u64, SubmitError> {
        if let Some(record) = records.iter().find(|one| one.len() > PAYLOAD_BYTES_MAX) {
            return Err(SubmitError::RecordTooLarge { bytes: record.len() });
        }
        if records.is_empty() || records.len() > RECORDS_PER_SUBMISSION_MAX {
            return Err(SubmitError::RecordCount { records: records.len() });
        }
        self.submit_body(route, op_id, records.len() as u32, Body::Records(records))
    }

    /// As [`submit`](Self::submit), for records that are already encoded one after the other, each
    /// `{ length u32 little-endian, payload }`.
    ///
    /// # Errors
    /// As `submit`, and [`SubmitError::Malformed`].
    pub fn submit_encoded(
        &self,
        route: &RouteName,
        op_id: u64,
        record_count: u32,
        body: &[u8],
    ) -> Result<u64, SubmitError> {
        let records = record_count as usize;
        if records == 0 || records > RECORDS_PER_SUBMISSION_MAX {
            return Err(SubmitError::RecordCount { records });
        }
        if !records_are_valid(body, records) {
            return Err(SubmitError::Malformed { records: record_count });
        }
        self.submit_body(route, op_id, record_count, Body::Encoded(body))
    }

    fn submit_body(
        &self,
        route: &RouteName,
        op_id: u64,
        record_count: u32,
        body: Body<'_>,
    ) -> Result<u64, SubmitError> {
        if self.seat.is_inherited() {
            return Err(SubmitError::Forked);
        }
        let bytes = body.bytes().saturating_add(route.as_str().len());
        if bytes > BODY_BYTES_MAX {
            return Err(SubmitError::TooLarge { bytes, bytes_max: BODY_BYTES_MAX });
        }
        if self.is_closed(route) {
            return Err(SubmitError::Full);
        }
        let header = Header::append(op_id, route, record_count, bytes);
        let claim = if bytes <= FIRST_BODY_BYTES {
            self.write_one_slot(header, route, body)?
        } else {
            self.write_run(header, route, body)?
        };
        kill_site::pass("ring.before_commit");
        if !protocol::commit(&*self.ring, &claim) {
            return Err(SubmitError::Fenced);
        }
        kill_site::pass("ring.committed");
        if protocol::must_wake_consumer(&*self.ring) {
            futex::wake(self.ring.consumer_state(), 1);
        }
        // The fence in `must_wake_consumer` pairs with the one in `Consumer::replace`: either
        // salvage sees our commit, or we see the ring given up.
        if self.ring.is_given_up() {
            return Err(SubmitError::Poisoned);
        }
        Ok(claim.position)
    }

    /// The common case: encoded in one piece on the stack, checksummed in one go, copied once.
    fn write_one_slot(
        &self,
        mut header: Header,
        route: &RouteName,
        body: Body<'_>,
    ) -> Result<Claim, SubmitError> {
        let mut scratch = Scratch::new();
        scratch.push(&header.encode());
        scratch.push(route.as_str().as_bytes());
        body.for_each(|piece| scratch.push(piece));
        header.crc32c = crc32c::crc32c(&scratch.bytes()[CHECKED_FROM..]);
        scratch.overwrite(&header.encode());
        let claim = self.claim(1)?;
        self.ring.write_first(claim.position, scratch.bytes());
        Ok(claim)
    }

    /// Large: checksummed in pieces, copied from where it lies.
    fn write_run(
        &self,
        mut header: Header,
        route: &RouteName,
        body: Body<'_>,
    ) -> Result<Claim, SubmitError> {
        let name = route.as_str().as_bytes();
        let mut crc = crc32c::crc32c_append(crc32c::crc32c(&header.encode()[CHECKED_FROM..]), name);
        body.for_each(|piece| crc = crc32c::crc32c_append(crc, piece));
        header.crc32c = crc;
        let run = run_for(header.body_bytes as usize);
        let claim = self.claim(run)?;
        self.ring.write_first(claim.position, &header.encode());
        self.ring.write_body(claim.position, run, 0, name);
        let mut at = name.len();
        body.for_each(|piece| {
            self.ring.write_body(claim.position, run, at, piece);
            at += piece.len();
        });
        Ok(claim)
    }

    /// Claims a run, committing padding before it where it would cross the end of the file.
    fn claim(&self, run: u16) -> Result<Claim, SubmitError> {
        debug_assert!((1..=RUN_MAX).contains(&run), "the body's size was checked");
        loop {
            if self.ring.is_given_up() {
                return Err(SubmitError::Poisoned);
            }
            let claimed = protocol::claim(&*self.ring, &self.head_cache, self.seat.index(), run);
            let claim = match claimed {
                Ok(claim) => claim,
                Err(ClaimError::Full) => {
                    // Read by `has_space`, a hint only.
                    self.slots_wanted.store(u64::from(run), Ordering::Relaxed);
                    return Err(SubmitError::Full);
                }
                Err(ClaimError::Corrupt) => return Err(SubmitError::Corrupt),
            };
            let end = claim.position.wrapping_add(u64::from(claim.word.run()));
            // Read when the producer is dropped, by when all threads have handed it over.
            self.claimed_end.fetch_max(end, Ordering::Relaxed);
            kill_site::pass("ring.claimed");
            if !claim.padding {
                return Ok(claim);
            }
            self.ring.write_first(claim.position, &Header::padding().encode());
            if !protocol::commit(&*self.ring, &claim) {
                return Err(SubmitError::Fenced);
            }
        }
    }

    /// Waits until there is [room](Self::has_space) for a submission to `route`, at most `timeout`.
    /// `true`: there is, for now. `false`: the time was up, or the wait ended early; look whether
    /// the [consumer lives](Self::consumer_alive) and call again.
    pub fn wait_for_space(&self, route: &RouteName, timeout: Duration) -> bool {
        if self.has_space(route) {
            return true;
        }
        let sequence = protocol::prepare_space_wait(&*self.ring);
        if !self.has_space(route) && !self.poisoned() {
            futex::wait(self.ring.space_sequence(), sequence, Some(timeout));
        }
        self.has_space(route)
    }

    /// Whether the route takes something at all, and there is room for as much as the last
    /// submission needed that was refused.
    #[must_use]
    pub fn has_space(&self, route: &RouteName) -> bool {
        let wanted = self.slots_wanted.load(Ordering::Relaxed); // a hint; pairs with `claim`
        let head = self.ring.head().load(Ordering::Acquire); // pairs with `advance_head`
        let tail = self.ring.tail().load(Ordering::Acquire); // pairs with the tail CAS
        let to_end = SLOTS - tail % SLOTS;
        let needed = if wanted > to_end { wanted + to_end } else { wanted };
        tail.wrapping_sub(head) <= SLOTS - needed && !self.is_closed(route)
    }

    /// Whether a route takes nothing for now, because its log cannot be written.
    fn is_closed(&self, route: &RouteName) -> bool {
        // Relaxed: a route that is being closed takes what is on its way.
        self.ring.u32_at(offset::CLOSED_COUNT).load(Ordering::Relaxed) != 0
            && self.ring.is_closed(mark_of(route))
    }

    /// The one reader of this producer's completions. `None` once it has been handed out.
    pub fn completions(&self) -> Option<AckReader> {
        // Only this flag's own value matters.
        let first = !self.reader_taken.swap(true, Ordering::Relaxed);
        first.then(|| AckReader::new(self.seat.acks().clone()))
    }

    /// Waits for completions from other threads, and interrupts such waits.
    #[must_use]
    pub fn waiter(&self) -> AckWaiter {
        AckWaiter::new(self.seat.acks().clone())
    }

    /// Whether a daemon consumes the ring at this moment.
    #[must_use]
    pub fn consumer_alive(&self) -> bool {
        consumer_lives(&self.ring)
    }

    /// The daemon's data directory. Empty if the ring does not say.
    #[must_use]
    pub fn data_dir(&self) -> String {
        self.ring.data_dir()
    }

    /// How many rings the daemon has.
    #[must_use]
    pub fn ring_count(&self) -> u32 {
        self.ring.u32_at(offset::RING_COUNT).load(Ordering::Relaxed).max(1)
    }

    /// The ring's random identity.
    #[must_use]
    pub fn ring_id(&self) -> u64 {
        self.ring.ring_id()
    }

    /// This producer's place in the ring, from 1.
    #[must_use]
    pub fn participant(&self) -> u16 {
        self.seat.index()
    }

    /// Whether the ring was given up, or a file of it or of this producer was cut short, so that
    /// nothing more comes of it.
    #[must_use]
    pub fn poisoned(&self) -> bool {
        self.ring.is_given_up() || self.seat.acks().is_lost()
    }

    /// Whether somebody has overwritten this producer's place in the ring, so that it will hear of
    /// nothing any more: attach anew.
    #[must_use]
    pub fn evicted(&self) -> bool {
        !self.seat.is_held()
    }

    /// Whether another ring, or none, has taken this one's name. Makes a system call.
    #[must_use]
    pub fn replaced(&self) -> bool {
        !self.ring.is_current()
    }

    /// Whether this process is a forked child of the one that attached: it must attach anew.
    #[must_use]
    pub fn inherited(&self) -> bool {
        self.seat.is_inherited()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // In a forked child place, lock and file are the parent's: only close them.
        if self.seat.is_inherited() || self.poisoned() {
            return;
        }
        let end = *self.claimed_end.get_mut();
        let head = self.ring.head().load(Ordering::Acquire); // pairs with `advance_head`
        if head >= end {
            self.seat.vacate();
        }
    }
}

/// A slot's content in the making, without the cost of zeroing it first.
struct Scratch {
    bytes: [MaybeUninit<u8>; SLOT_BYTES - WORD_BYTES],
    length: usize,
}

impl Scratch {
    fn new() -> Self {
        Self { bytes: [const { MaybeUninit::uninit() }; SLOT_BYTES - WORD_BYTES], length: 0 }
    }

    fn push(&mut self, piece: &[u8]) {
        let room = &mut self.bytes[self.length..][..piece.len()];
        // SAFETY: `room` is as long as `piece` and cannot overlap it; a byte is valid in a
        // MaybeUninit.
        unsafe {
            std::ptr::copy_nonoverlapping(piece.as_ptr(), room.as_mut_ptr().cast(), piece.len());
        }
        self.length += piece.len();
    }

    /// Replaces the fields at the beginning.
    fn overwrite(&mut self, fields: &[u8; FIELD_BYTES]) {
        let length = self.length;
        self.length = 0;
        self.push(fields);
        self.length = length;
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the first `length` bytes were initialised by `push`.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.length) }
    }
}
