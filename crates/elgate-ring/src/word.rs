//! The slot word: one 64-bit atomic that says what a slot holds, for which position, and whose it is.
//!
//! ```text
//!  bit 63                          24 23          14 13           4 3      0
//!     ┌──────────────────────────────┬──────────────┬──────────────┬────────┐
//!     │ position, low 40 bits        │ owner, 10    │ run, 10      │ state  │
//!     └──────────────────────────────┴──────────────┴──────────────┴────────┘
//! ```
//!
//! A free slot has owner 0 and run 0. The position makes every word of a slot's life different
//! from every word of its next life, so nothing has to be zeroed and nothing stale can match.

const STATE_BITS: u32 = 4;
const RUN_BITS: u32 = 10;
const OWNER_BITS: u32 = 10;
const POSITION_BITS: u32 = 40;

const _: () = assert!(STATE_BITS + RUN_BITS + OWNER_BITS + POSITION_BITS == 64);

const RUN_SHIFT: u32 = STATE_BITS;
const OWNER_SHIFT: u32 = RUN_SHIFT + RUN_BITS;
const POSITION_SHIFT: u32 = OWNER_SHIFT + OWNER_BITS;

/// The bits of a position that a word holds.
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;

/// What a slot is being used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nobody's; waiting for the producer that claims the word's position.
    Free = 0,
    /// Owned by a producer that is writing into it.
    Claimed = 1,
    /// Complete: the consumer may take it.
    Committed = 2,
    /// Given up (its owner died while writing): the consumer skips it.
    Aborted = 3,
}

/// A slot word. Any 64 bits are a `Word`; whether they make sense is asked with [`Word::state`]
/// and [`Word::is_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    /// The word of a slot that waits to be claimed for `position`.
    #[must_use]
    pub const fn free(position: u64) -> Self {
        Self((position & POSITION_MASK) << POSITION_SHIFT)
    }

    /// The word of a slot that `owner` uses for `run` slots from `position`. Excess bits of owner
    /// and run are cut off; callers stay in range.
    #[must_use]
    pub const fn used(position: u64, owner: u16, run: u16, state: State) -> Self {
        let owner = (owner as u64) & ((1 << OWNER_BITS) - 1);
        let run = (run as u64) & ((1 << RUN_BITS) - 1);
        Self(
            (position & POSITION_MASK) << POSITION_SHIFT
                | owner << OWNER_SHIFT
                | run << RUN_SHIFT
                | state as u64,
        )
    }

    /// The same word in another state.
    #[must_use]
    pub const fn with_state(self, state: State) -> Self {
        Self(self.0 & !((1 << STATE_BITS) - 1) | state as u64)
    }

    /// The state, or `None` for bits that no version of Elgate writes.
    #[must_use]
    pub const fn state(self) -> Option<State> {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => Some(State::Free),
            1 => Some(State::Claimed),
            2 => Some(State::Committed),
            3 => Some(State::Aborted),
            _ => None,
        }
    }

    /// Whether the word was written for this position.
    #[must_use]
    pub const fn is_at(self, position: u64) -> bool {
        self.0 >> POSITION_SHIFT == position & POSITION_MASK
    }

    /// The participant that claimed the slot.
    #[must_use]
    pub const fn owner(self) -> u16 {
        (self.0 >> OWNER_SHIFT & ((1 << OWNER_BITS) - 1)) as u16
    }

    /// How many consecutive slots belong to the submission, this one included.
    #[must_use]
    pub const fn run(self) -> u16 {
        (self.0 >> RUN_SHIFT & ((1 << RUN_BITS) - 1)) as u16
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn states() -> impl Strategy<Value = State> {
        prop::sample::select(vec![State::Free, State::Claimed, State::Committed, State::Aborted])
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            position in any::<u64>(), owner in 0_u16..1_024, run in 0_u16..1_024, state in states(),
        ) {
            let word = Word::used(position, owner, run, state);
            prop_assert_eq!(word.owner(), owner);
            prop_assert_eq!(word.run(), run);
            prop_assert_eq!(word.state(), Some(state));
            prop_assert!(word.is_at(position));
            prop_assert!(!word.is_at(position.wrapping_add(1_020)));
        }

        #[test]
        fn changing_the_state_changes_nothing_else(
            position in any::<u64>(), owner in 0_u16..1_024, run in 0_u16..1_024,
            before in states(), after in states(),
        ) {
            prop_assert_eq!(
                Word::used(position, owner, run, before).with_state(after),
                Word::used(position, owner, run, after)
            );
        }

        #[test]
        fn any_bits_can_be_asked(bits in any::<u64>()) {
            let word = Word(bits);
            prop_assert!(word.owner() < 1_024 && word.run() < 1_024);
            if let Some(state) = word.state() {
                prop_assert_eq!(
                    Word::used(bits >> 24, word.owner(), word.run(), state), word
                );
            }
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        assert_eq!(Word::free(5).0, 5 << 24);
        let word = Word::used(7, 3, 2, State::Committed);
        assert_eq!(word.0, 7 << 24 | 3 << 14 | 2 << 4 | 2);
    }
}
