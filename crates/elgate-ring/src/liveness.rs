//! Dead producers: proven, never guessed.
//!
//! A participant is dead if the kernel has released its lock, or if it was in our PID namespace and
//! its process is gone (then a forked child still holds the lock). A stopped or slow producer is
//! neither, however long it takes.

use crate::acks::AckMap;
use crate::consumer::Consumer;
use crate::layout::{PARTICIPANT_COUNT, SLOTS};
use crate::participant::ParticipantWord;
use crate::protocol::{self, Peek};
use crate::sync::Ordering;
use elgate_types::{mark, seeded_bug};

const PARTICIPANTS: usize = PARTICIPANT_COUNT as usize;

impl Consumer {
    /// Takes claims away from dead producers, so that what lies behind them can be taken, and frees
    /// the places of dead participants of which nothing is left in the ring. Returns how many
    /// claims were taken away.
    ///
    /// Makes a system call per attached participant: call it about once a second, and when a claim
    /// has been in the way for more than a millisecond.
    pub fn recover_dead(&mut self) -> usize {
        self.check_control();
        // Whoever can write to the ring can write to this table, too.
        self.publish_closed();
        self.aside.keep_name();
        if self.ring.host().is_gone(self.ring.path()) {
            // Nobody finds it any more; whoever has it open follows to its successor.
            self.poison(0);
        }
        let mut aborted = 0;
        let mut proofs = [None; PARTICIPANTS];
        let mut busy = [false; PARTICIPANTS];
        for owner in self.awaiting_owners() {
            busy[usize::from(owner) % PARTICIPANTS] = true;
        }
        let (mut position, end) = (self.read, self.head + SLOTS);
        while position < end && self.poisoned.is_none() {
            let run = match protocol::peek(&*self.ring, position) {
                // Impossible words are for `pop` to meet, in order.
                Peek::Empty | Peek::Impossible(_) => break,
                Peek::Aborted { run } => run,
                Peek::Committed { owner, run } => {
                    busy[usize::from(owner)] = true;
                    run
                }
                Peek::Claimed { owner, run } => {
                    let is_late = seeded_bug::is("reclaim-by-time");
                    let dead = is_late
                        || *proofs[usize::from(owner)]
                            .get_or_insert_with(|| self.is_proven_dead(owner));
                    if dead && protocol::abort(&*self.ring, position, owner, run) {
                        mark::hit("ring.claim_reclaimed");
                        aborted += 1;
                    } else {
                        busy[usize::from(owner)] = true;
                    }
                    run
                }
            };
            position += u64::from(run);
        }
        for index in 1..PARTICIPANT_COUNT {
            if !busy[usize::from(index)] {
                self.free_if_dead(index, proofs[usize::from(index)]);
            }
        }
        self.publish_completions();
        self.release();
        aborted
    }

    fn is_proven_dead(&mut self, index: u16) -> bool {
        if index == 0 {
            // Nobody claims as the consumer; such a word can only be broken.
            return true;
        }
        match self.ring.file().is_byte_locked(index) {
            Ok(false) => true,
            Ok(true) => {
                let owner = self.acks.owner(&self.ring, index);
                owner.is_some_and(|owner| self.ring.host().is_gone_process(&owner, &self.identity))
            }
            // Not answered is not proven.
            Err(_) => false,
        }
    }

    fn free_if_dead(&mut self, index: u16, proof: Option<bool>) {
        // Pairs with the release store in `Seat::take`.
        let seen = self.ring.participant(index).load(Ordering::Acquire);
        let word = ParticipantWord(seen);
        if word.is_free() || !proof.unwrap_or_else(|| self.is_proven_dead(index)) {
            return;
        }
        // With the lock, nobody attaches here meanwhile. Without it (a forked child of the dead
        // process has it), nobody attaches here until the word is free.
        let locked = self.ring.file().try_lock_byte(index).unwrap_or(false);
        let unchanged = self.ring.participant(index).load(Ordering::Acquire) == seen; // as above
        if unchanged {
            self.acks.forget(index);
            self.ring.host().remove(&AckMap::path_of(self.ring.path(), index));
            // Release: the next one to take the place sees the file gone.
            let _ = self.ring.participant(index).compare_exchange(
                seen,
                word.vacated().0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
        if locked {
            // Failing to unlock costs one of 1,023 places until this process ends.
            let _ = self.ring.file().unlock_byte(index);
        }
    }
}
