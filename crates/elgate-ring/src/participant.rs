//! A producer's place in the ring: its index, the lock that proves it lives, its acknowledgements.
//!
//! ```text
//!  participant word:  bit 63        32 31                 8 7       0
//!                        ┌────────────┬────────────────────┬─────────┐
//!                        │ pid, 32    │ incarnation, 24    │ state 8 │     0 free, 1 attached
//!                        └────────────┴────────────────────┴─────────┘
//! ```
//!
//! A free word keeps its incarnation, so that every attachment at one index has another.

use crate::acks::AckMap;
use crate::error::RingError;
use crate::files::failed;
use crate::layout::PARTICIPANT_COUNT;
use crate::mapping::RingMap;
use crate::process::ForkGuard;
use crate::sync::Ordering;
use std::sync::Arc;

const ATTACHED: u64 = 1;
const INCARNATION_MASK: u32 = (1 << 24) - 1;

/// A participant word. Any 64 bits are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParticipantWord(pub(crate) u64);

impl ParticipantWord {
    pub(crate) fn attached(incarnation: u32, pid: u32) -> Self {
        Self(u64::from(pid) << 32 | u64::from(incarnation & INCARNATION_MASK) << 8 | ATTACHED)
    }

    /// The same place with nobody in it.
    pub(crate) fn vacated(self) -> Self {
        Self(u64::from(self.incarnation()) << 8)
    }

    pub(crate) fn is_free(self) -> bool {
        self.0 & 0xff == 0
    }

    pub(crate) fn is_attached(self) -> bool {
        self.0 & 0xff == ATTACHED
    }

    pub(crate) fn incarnation(self) -> u32 {
        (self.0 >> 8) as u32 & INCARNATION_MASK
    }
}

/// An attachment. Dropping it leaves the ring; whatever it still has in there is the consumer's to
/// finish, and the place is freed afterwards.
#[derive(Debug)]
pub(crate) struct Seat {
    ring: Arc<RingMap>,
    index: u16,
    word: ParticipantWord,
    acks: Arc<AckMap>,
    fork: ForkGuard,
}

impl Seat {
    /// Takes the first free index.
    pub(crate) fn take(ring: &Arc<RingMap>) -> Result<Self, RingError> {
        let path = ring.path();
        for index in 1..PARTICIPANT_COUNT {
            let shared = ring.participant(index);
            // Pairs with the release stores that free a place; only the lock decides.
            if !ParticipantWord(shared.load(Ordering::Acquire)).is_free() {
                continue;
            }
            if !ring.file().try_lock_byte(index).map_err(|source| failed("lock", path, source))? {
                continue;
            }
            // Looked at again under the lock: whoever attaches or cleans up holds it.
            let before = ParticipantWord(shared.load(Ordering::Acquire));
            if !before.is_free() {
                ring.file().unlock_byte(index).map_err(|source| failed("unlock", path, source))?;
                continue;
            }
            let me = ring.host().identity();
            let word = ParticipantWord::attached(before.incarnation().wrapping_add(1), me.pid);
            let acks = AckMap::create(ring, index, word.incarnation(), me)?;
            let fork = ring.host().fork_guard().map_err(|source| failed("guard", path, source))?;
            // Pairs with the consumer's acquire loads: with the word, the file of acknowledgements.
            shared.store(word.0, Ordering::Release);
            return Ok(Self { ring: ring.clone(), index, word, acks: Arc::new(acks), fork });
        }
        Err(RingError::TooManyProducers { path: path.to_owned() })
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn acks(&self) -> &Arc<AckMap> {
        &self.acks
    }

    /// Whether this process is a forked child of the one that attached.
    pub(crate) fn is_inherited(&self) -> bool {
        self.fork.is_child()
    }

    /// Whether the ring still names us at this place.
    pub(crate) fn is_held(&self) -> bool {
        // Pairs with the release stores in `take` and `free_if_dead`.
        self.ring.participant(self.index).load(Ordering::Acquire) == self.word.0
    }

    /// Frees the place at once. Only when nothing of this participant is left in the ring.
    pub(crate) fn vacate(&self) {
        let vacant = self.word.vacated();
        if self.is_held() {
            self.acks.remove_file();
            // Release: the next one to take the place sees the file gone.
            self.ring.participant(self.index).store(vacant.0, Ordering::Release);
        }
    }
}

/// Whether a consumer lives: whether byte 0 of the ring file is locked.
pub(crate) fn consumer_lives(ring: &RingMap) -> bool {
    // An error here means that the question cannot be answered; then nobody is declared dead.
    ring.file().is_byte_locked(0).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_place_remembers_its_incarnation(incarnation in 0_u32..1 << 24, pid in any::<u32>()) {
            let word = ParticipantWord::attached(incarnation, pid);
            prop_assert!(word.is_attached() && !word.is_free());
            prop_assert_eq!(word.incarnation(), incarnation);
            prop_assert_eq!(word.0 >> 32, u64::from(pid));
            let vacated = word.vacated();
            prop_assert!(vacated.is_free() && !vacated.is_attached());
            prop_assert_eq!(vacated.incarnation(), incarnation);
        }
    }
}
