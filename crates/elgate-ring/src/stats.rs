//! What a consumer can say about its ring.

use crate::consumer::Consumer;
use crate::layout::{PARTICIPANT_COUNT, SLOTS};
use crate::participant::ParticipantWord;
use crate::protocol::Shared;
use crate::sync::Ordering;

/// What a ring is doing. Counters count from when this consumer opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStats {
    /// The ring's random identity.
    pub ring_id: u64,
    /// How often a consumer has opened it.
    pub epoch: u64,
    /// First position not yet released.
    pub head: u64,
    /// Next position to be claimed, as the shared word says.
    pub tail: u64,
    /// Slots between the two.
    pub used_slots: u64,
    /// Slots there are.
    pub slots: u64,
    /// Submissions taken and not yet finished.
    pub in_flight: usize,
    /// Submissions set aside and not yet finished.
    pub set_aside: usize,
    /// Attached participants.
    pub participants: usize,
    /// Submissions taken.
    pub taken: u64,
    /// Submissions that did not survive validation.
    pub corrupt: u64,
    /// Runs that were skipped: claims of dead producers, and what had been set aside already.
    pub aborted: u64,
    /// Completions that wait because their participant does not read.
    pub completions_waiting: usize,
    /// Completions that nobody was left to be told.
    pub completions_dropped: u64,
    /// Whether the ring waits to be replaced.
    pub poisoned: bool,
}

impl Consumer {
    /// What the ring is doing.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        let tail = self.ring.tail().load(Ordering::Relaxed);
        RingStats {
            ring_id: self.ring_id(),
            epoch: self.epoch,
            head: self.head,
            tail,
            used_slots: self.used_slots(),
            slots: SLOTS,
            in_flight: self.in_flight,
            set_aside: self.aside.len(),
            participants: self.attached().count(),
            taken: self.counters.taken,
            corrupt: self.counters.corrupt + self.aside.damaged(),
            aborted: self.counters.aborted,
            completions_waiting: self.acks.backlog(),
            completions_dropped: self.acks.dropped(),
            poisoned: self.poisoned.is_some(),
        }
    }

    /// Whether any producer is attached, or has died without its place having been freed.
    #[must_use]
    pub fn has_participants(&self) -> bool {
        self.attached().next().is_some()
    }

    /// The indices of attached participants.
    pub(crate) fn attached(&self) -> impl Iterator<Item = u16> + '_ {
        (1..PARTICIPANT_COUNT).filter(|&index| {
            // Relaxed: counted for people, and to decide how often to look for dead ones.
            ParticipantWord(self.ring.participant(index).load(Ordering::Relaxed)).is_attached()
        })
    }
}
