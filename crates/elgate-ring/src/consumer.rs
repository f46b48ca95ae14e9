//! The consumer's side: look, copy, validate, hand over; later complete and release.
//!
//! ```text
//!   head ............ read ............ tail          positions only grow
//!    │ taken, not all   │ committed or    │
//!    │ finished yet     │ being written   │
//! ```
//!
//! `head` and `read` are this process's own; the shared head is only written. After the death of a
//! consumer the next one begins at `head` again, so what was taken and not finished is taken again.

use crate::ack_writer::AckWriters;
use crate::acks::Completion;
use crate::aside::{Aside, Copied, Sender};
use crate::error::{RingError, RingPoisoned};
use crate::layout::{PARTICIPANT_COUNT, SLOTS, slot_index};
use crate::mapping::{RingMap, RingOptions};
use crate::message::{Header, Kind};
use crate::participant::ParticipantWord;
use crate::process::ProcessIdentity;
use crate::protocol::{self, Peek, Shared};
use crate::submission::Submission;
use crate::sync::Ordering;
use elgate_io::{FutexWord, futex};
use elgate_types::{ErrorCode, Level, Lsn, kill_site, seeded_bug};
use std::path::Path;
use std::sync::Arc;

/// The one consumer of a ring. Holds the lock on byte 0 for as long as it lives.
#[derive(Debug)]
pub struct Consumer {
    pub(crate) ring: Arc<RingMap>,
    pub(crate) options: RingOptions,
    pub(crate) identity: ProcessIdentity,
    pub(crate) acks: AckWriters,
    pub(crate) epoch: u64,
    /// First position not yet released.
    pub(crate) head: u64,
    /// First position not yet looked at.
    pub(crate) read: u64,
    /// What lies between the two, by slot index of a run's first slot.
    pub(crate) pending: Box<[Pending]>,
    pub(crate) in_flight: usize,
    pub(crate) poisoned: Option<RingPoisoned>,
    /// What was taken out of its slots before it was finished.
    pub(crate) aside: Aside,
    /// Marks of the routes that are closed to producers.
    pub(crate) closed: Vec<u64>,
    pub(crate) counters: Counters,
    pub(crate) scratch: Vec<u8>,
}

/// A run that was passed and is not yet released.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pending {
    position: u64,
    run: u16,
    pub(crate) owner: u16,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    None,
    Taken,
    Done,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) taken: u64,
    pub(crate) corrupt: u64,
    pub(crate) aborted: u64,
}

/// What the consumer's [futex word](Consumer::futex_word) holds while it sleeps.
pub const SLEEPING: u32 = 1;

impl Consumer {
    /// Looks at up to `max` submissions, those that an earlier consumer had set aside first, then
    /// from the read position on, and calls `take` with each valid one, in order. Invalid ones are
    /// completed with `SlotCorrupt`; those of dead producers and padding are skipped. Returns how
    /// many were handed over.
    ///
    /// # Errors
    /// [`RingPoisoned`] if a word makes no sense; [replace](Self::replace) the ring. What was taken
    /// before can still be finished.
    pub fn pop(
        &mut self,
        max: usize,
        take: &mut dyn FnMut(&Submission<'_>),
    ) -> Result<usize, RingPoisoned> {
        let (mut taken, mut skipped) = (self.take_aside(max, take), 0);
        while taken + skipped < max && self.poisoned.is_none() && self.unread_slots() > 0 {
            match protocol::peek(&*self.ring, self.read) {
                Peek::Empty | Peek::Claimed { .. } => break,
                Peek::Impossible(word) => self.poison(word.0),
                Peek::Aborted { run } => {
                    if self.pass(run, 0, Stage::Done) {
                        self.counters.aborted += 1;
                        skipped += 1;
                    }
                }
                Peek::Committed { owner, run } => {
                    let position = self.read;
                    if !self.pass(run, owner, Stage::Taken) {
                        break;
                    }
                    if self.deliver(position, owner, run, take) {
                        taken += 1;
                    } else {
                        skipped += 1;
                    }
                }
            }
        }
        if taken == 0 && skipped > 0 {
            self.publish_completions();
            self.release();
        }
        match self.poisoned {
            Some(poisoned) if taken == 0 => Err(poisoned),
            _ => Ok(taken),
        }
    }

    /// Hands over what an earlier consumer had set aside.
    fn take_aside(&mut self, max: usize, take: &mut dyn FnMut(&Submission<'_>)) -> usize {
        let mut taken = 0;
        while taken < max
            && let Some(Copied { sender, header, body_bytes }) =
                self.aside.next_unread(&mut self.scratch)
        {
            self.hand_over(&sender, &header, body_bytes, take);
            taken += 1;
        }
        taken
    }

    /// Hands over a submission that is valid and lies in the scratch buffer.
    fn hand_over(
        &mut self,
        sender: &Sender,
        header: &Header,
        body_bytes: usize,
        take: &mut dyn FnMut(&Submission<'_>),
    ) {
        let body = &self.scratch[..body_bytes];
        let (route, body) = body.split_at(usize::from(header.route_bytes));
        self.counters.taken += 1;
        take(&Submission {
            ring_id: sender.ring_id,
            position: sender.position,
            slots: u32::from(sender.run),
            owner: sender.owner,
            op_id: header.op_id,
            route: std::str::from_utf8(route).expect("validated as a route name"),
            record_count: header.record_count,
            body,
        });
    }

    /// Slots from the read position on that are not still held by what was taken a lap ago.
    fn unread_slots(&self) -> u64 {
        self.head + SLOTS - self.read
    }

    /// Moves the read position past a run. `false`: it does not fit, and the ring is poisoned.
    fn pass(&mut self, run: u16, owner: u16, stage: Stage) -> bool {
        let position = self.read;
        let fits = u64::from(run) <= self.unread_slots();
        if !fits || !protocol::help_tail(&*self.ring, position, run) {
            self.poison(self.ring.tail().load(Ordering::Relaxed));
            return false;
        }
        self.pending[slot_index(position)] = Pending { position, run, owner, stage };
        self.in_flight += usize::from(stage == Stage::Taken);
        self.read += u64::from(run);
        true
    }

    /// Copies, validates and hands over. `false`: there was nothing to hand over.
    fn deliver(
        &mut self,
        position: u64,
        owner: u16,
        run: u16,
        take: &mut dyn FnMut(&Submission<'_>),
    ) -> bool {
        let fields = self.ring.read_fields(position);
        let header = Header::decode(&fields);
        let body_bytes = header.body_bytes as usize;
        let mut kind = None;
        if header.fits(run) {
            if self.scratch.len() < body_bytes {
                self.scratch.resize(body_bytes, 0);
            }
            let body = &mut self.scratch[..body_bytes];
            self.ring.read_body(position, run, body);
            kind = header.validate(&fields, body);
        }
        let ring_id = self.ring_id();
        match kind {
            Some(Kind::Append) => {
                let sender = Sender { ring_id, position, run, owner, incarnation: 0 };
                self.hand_over(&sender, &header, body_bytes, take);
                true
            }
            Some(Kind::Padding) => {
                self.settle(position);
                false
            }
            None => {
                self.counters.corrupt += 1;
                let completion = Completion {
                    op_id: header.op_id,
                    first_lsn: Lsn::ZERO,
                    record_count: header.record_count,
                    status: Some(ErrorCode::SlotCorrupt),
                    level: Level::Accepted,
                };
                self.finish(ring_id, position, completion);
                false
            }
        }
    }

    /// Says what became of the submission at `position`, once its records are beyond this process's
    /// own death (or refused). In any order. The participant hears of it with the next
    /// [`publish_completions`](Self::publish_completions), the slots are free after the next
    /// [`release`](Self::release). What belongs to another ring (a replaced one) is ignored.
    pub fn finish(&mut self, ring_id: u64, position: u64, completion: Completion) {
        let here = ring_id == self.ring_id();
        if here && let Some(owner) = self.settle(position) {
            self.acks.post(&self.ring, owner, position, completion);
        } else if let Some(sender) = self.aside.finish(ring_id, position)
            && here
            && self.attachment(sender.owner) == Some(sender.incarnation)
        {
            self.acks.post(&self.ring, sender.owner, position, completion);
        }
    }

    /// Moves a submission that was taken and cannot be finished for now out of the way: it keeps
    /// its identity and will be finished like any other, but its slots are free after the next
    /// [`release`](Self::release). It survives this process as it did in the ring. What is not there
    /// (any more), or has been spoiled by its producer since, stays as it is.
    ///
    /// # Errors
    /// [`RingError`]: there is no room for it. It keeps its slots.
    pub fn set_aside(&mut self, ring_id: u64, position: u64) -> Result<(), RingError> {
        let pending = self.pending[slot_index(position)];
        let is_taken = pending.position == position && pending.stage == Stage::Taken;
        if ring_id != self.ring_id() || !is_taken {
            return Ok(());
        }
        let Pending { run, owner, .. } = pending;
        let mut body = Vec::new();
        let Some((fields, _)) = self.ring.read_submission(position, run, &mut body) else {
            return Ok(());
        };
        // Its place cannot have been freed: something of it is in the ring.
        let incarnation = self.attachment(owner).unwrap_or_default();
        let sender = Sender { ring_id, position, run, owner, incarnation };
        self.aside.add(sender, &fields, &body)?;
        self.settle(position);
        Ok(())
    }

    /// The incarnation of whoever is attached at an index now.
    fn attachment(&self, owner: u16) -> Option<u32> {
        if owner == 0 || owner >= PARTICIPANT_COUNT {
            return None;
        }
        // Pairs with the release store in `Seat::take`.
        let word = ParticipantWord(self.ring.participant(owner).load(Ordering::Acquire));
        word.is_attached().then(|| word.incarnation())
    }

    fn settle(&mut self, position: u64) -> Option<u16> {
        let pending = &mut self.pending[slot_index(position)];
        if pending.position != position || pending.stage != Stage::Taken {
            return None;
        }
        pending.stage = Stage::Done;
        self.in_flight -= 1;
        Some(pending.owner)
    }

    /// Makes completions visible and wakes their readers, each once. Call it once per round, and
    /// [`release`](Self::release) after it: a completion is never later than the release.
    pub fn publish_completions(&mut self) {
        self.acks.publish(&self.ring);
    }

    /// Releases the slots of the finished prefix, and what is finished of what was set aside, and
    /// wakes producers that wait for space.
    pub fn release(&mut self) {
        self.aside.forget_finished();
        let mut head = self.head;
        while head < self.read {
            let pending = &mut self.pending[slot_index(head)];
            let early = pending.stage == Stage::Taken && seeded_bug::is("release-slots-early");
            if pending.stage != Stage::Done && !early {
                break;
            }
            if head == self.head {
                kill_site::pass("ring.acked.before_release");
            }
            if !early {
                pending.stage = Stage::None;
            }
            protocol::release_run(&*self.ring, head, pending.run);
            head += u64::from(pending.run);
        }
        if head != self.head {
            self.head = head;
            if protocol::advance_head(&*self.ring, head) {
                futex::wake(self.ring.space_sequence(), u32::MAX);
            }
        }
    }

    /// Announces that the caller is about to wait for the [futex word](Self::futex_word) to leave
    /// [`SLEEPING`], and looks once more. `false`: there is something to take (or to replace); do not wait.
    ///
    /// Wait for a second at most: a producer that is killed between clearing the flag and waking
    /// leaves the wake to the timeout.
    pub fn prepare_sleep(&mut self) -> bool {
        self.check_control();
        if self.poisoned.is_some() {
            return false;
        }
        if self.unread_slots() == 0 {
            // Nothing can be taken before something is finished, which is not for producers to say.
            self.ring.consumer_state().store(SLEEPING, Ordering::Relaxed);
            return true;
        }
        protocol::prepare_sleep(&*self.ring, self.read)
    }

    /// Takes the announcement back, after waiting.
    pub fn end_sleep(&mut self) {
        protocol::end_sleep(&*self.ring);
    }

    /// The word that leaves [`SLEEPING`] when a producer has something for a sleeping consumer. A replaced
    /// ring has another one.
    #[must_use]
    pub fn futex_word(&self) -> FutexWord {
        // SAFETY: the word lies in the mapping, which the owner keeps alive.
        unsafe { FutexWord::new(self.ring.consumer_state(), self.ring.clone()) }
    }

    /// Whether everything waits for a claim that is not committed yet. When that lasts for more
    /// than a millisecond, [`recover_dead`](Self::recover_dead) is worth a call.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.poisoned.is_none()
            && self.unread_slots() > 0
            && matches!(protocol::peek(&*self.ring, self.read), Peek::Claimed { .. })
    }

    /// Finds control words that no correct step produces: a scribbled tail, or a mark that the ring
    /// was given up, would stop producers for ever.
    pub(crate) fn check_control(&mut self) {
        // Pairs with the tail CAS: a tail beyond `read` proves that the claim at `read` is visible.
        let tail = self.ring.tail().load(Ordering::Acquire);
        let unclaimed =
            self.unread_slots() > 0 && protocol::peek(&*self.ring, self.read) == Peek::Empty;
        let marked = self.ring.is_given_up(); // only we set the word
        let astray = tail < self.read || tail > self.head + SLOTS;
        if marked || astray || (tail > self.read && unclaimed) {
            self.poison(tail);
        }
    }

    pub(crate) fn poison(&mut self, word: u64) {
        self.poisoned.get_or_insert(RingPoisoned { position: self.read, word });
    }

    /// The ring's random identity.
    #[must_use]
    pub fn ring_id(&self) -> u64 {
        self.ring.ring_id()
    }

    /// How often a consumer has opened the ring, this time included.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where the ring is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.ring.path()
    }

    /// Submissions taken and not yet finished.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Slots from the head to the shared tail: taken, waiting, or being written. One load.
    #[must_use]
    pub fn used_slots(&self) -> u64 {
        // Relaxed: a figure, not a permission.
        self.ring.tail().load(Ordering::Relaxed).saturating_sub(self.head).min(SLOTS)
    }

    /// Where what was taken and is not finished lies, in order.
    pub(crate) fn taken_positions(&self) -> Vec<u64> {
        let taken = self.pending.iter().filter(|pending| pending.stage == Stage::Taken);
        let mut positions: Vec<u64> = taken.map(|pending| pending.position).collect();
        positions.sort_unstable();
        positions
    }

    /// Owners with something between head and read that they have not been told about.
    pub(crate) fn awaiting_owners(&self) -> impl Iterator<Item = u16> + '_ {
        let taken = self.pending.iter().filter(|pending| pending.stage == Stage::Taken);
        taken.map(|pending| pending.owner)
    }
}
