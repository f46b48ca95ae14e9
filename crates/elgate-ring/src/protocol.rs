//! The protocol on the words: claim, commit, look, release, sleep, wake. Nothing here touches a
//! payload or a system call; `cfg(loom)` runs exactly this code under every interleaving.
//!
//! ```text
//!           claim (CAS)            commit (CAS)             release (store)
//!  free(p) ─────────────► claimed ─────────────► committed ─────────────────► free(p + slots)
//!                            └────► aborted (CAS, owner proven dead) ──────────┘
//! ```

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::word::{State, Word};

/// The words of one ring. Implemented by the mapped file, and by the model under loom.
pub trait Shared {
    /// How many slots there are.
    fn slot_count(&self) -> u64;
    /// Longest run.
    fn run_max(&self) -> u16;
    /// Next position to claim.
    fn tail(&self) -> &AtomicU64;
    /// First position not yet released.
    fn head(&self) -> &AtomicU64;
    /// 1 while the consumer sleeps.
    fn consumer_state(&self) -> &AtomicU32;
    /// Futex of producers that wait for space.
    fn space_sequence(&self) -> &AtomicU32;
    /// 1 while a producer may be waiting for space.
    fn space_waiting(&self) -> &AtomicU32;
    /// The word of the slot that a position falls into.
    fn word(&self, position: u64) -> &AtomicU64;
}

/// A claimed run of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Its first position.
    pub position: u64,
    /// The word that claimed it.
    pub word: Word,
    /// Whether it only fills up to the end of the file: commit it as padding, then claim again.
    pub padding: bool,
}

/// Why there was no claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimError {
    /// Not enough free slots.
    Full,
    /// The words at the tail make no sense: somebody scribbled over them.
    Corrupt,
}

/// What lies at a position, from the consumer's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// Nothing yet.
    Empty,
    /// Somebody is writing, or died while writing.
    Claimed {
        /// Who.
        owner: u16,
        /// How many slots.
        run: u16,
    },
    /// A submission.
    Committed {
        /// Whose.
        owner: u16,
        /// How many slots.
        run: u16,
    },
    /// Given up.
    Aborted {
        /// How many slots.
        run: u16,
    },
    /// Bits that no sequence of correct steps leads to.
    Impossible(Word),
}

/// Claims `run` slots for `owner`, or padding up to the end of the file if they would cross it.
///
/// # Errors
/// [`ClaimError`]. Nothing has been claimed then.
pub fn claim<S: Shared>(
    shared: &S,
    head_cache: &AtomicU64,
    owner: u16,
    run: u16,
) -> Result<Claim, ClaimError> {
    let slots = shared.slot_count();
    loop {
        // Pairs with the release half of the tail CAS below (ours or a helper's).
        let tail = shared.tail().load(Ordering::Acquire);
        let to_end = slots - tail % slots;
        let padding = u64::from(run) > to_end;
        let take = if padding { to_end as u16 } else { run };
        let needed = if padding { to_end + u64::from(run) } else { u64::from(run) };
        if !has_room(shared, head_cache, tail, needed)? {
            if tail_is(shared, tail) {
                return Err(ClaimError::Full);
            }
            continue;
        }
        let free = Word::free(tail);
        let claimed = Word::used(tail, owner, take, State::Claimed);
        // Acquire pairs with the consumer's release of this slot: its reads are over before our
        // writes begin. Release pairs with the acquire loads of helpers and of the consumer.
        let found = match shared.word(tail).compare_exchange(
            free.0,
            claimed.0,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => {
                advance_tail(shared, tail, take);
                return Ok(Claim { position: tail, word: claimed, padding });
            }
            Err(found) => Word(found),
        };
        if let Some(run) = used_run(shared, found, tail) {
            advance_tail(shared, tail, run);
        } else if tail_is(shared, tail) {
            return Err(ClaimError::Corrupt);
        }
    }
}

/// Whether `needed` slots are free after `tail`. Looks at the shared head only when the cached one
/// does not suffice: in steady state producers do not touch the consumer's line.
fn has_room<S: Shared>(
    shared: &S,
    head_cache: &AtomicU64,
    tail: u64,
    needed: u64,
) -> Result<bool, ClaimError> {
    let slots = shared.slot_count();
    // Pairs with the release store below, so that whoever uses a cached head also sees the slots
    // that were released before it.
    let cached = head_cache.load(Ordering::Acquire);
    if tail.wrapping_sub(cached) <= slots - needed {
        return Ok(true);
    }
    // Pairs with the release store of `advance_head`.
    let head = shared.head().load(Ordering::Acquire);
    head_cache.store(head, Ordering::Release);
    let used = tail.wrapping_sub(head);
    if used > slots && tail_is(shared, tail) {
        return Err(ClaimError::Corrupt);
    }
    Ok(used <= slots - needed)
}

/// Whether the tail is still there. It never goes back, so then it was there all the time.
fn tail_is<S: Shared>(shared: &S, tail: u64) -> bool {
    shared.tail().load(Ordering::Acquire) == tail // pairs with the tail CAS
}

/// Moves the tail past a claim, unless somebody has done so already.
pub fn advance_tail<S: Shared>(shared: &S, position: u64, run: u16) {
    // Release pairs with the acquire loads of the tail: whoever sees the new tail sees the claim.
    // A failure means that somebody else advanced it.
    let _ = shared.tail().compare_exchange(
        position,
        position.wrapping_add(u64::from(run)),
        Ordering::AcqRel,
        Ordering::Relaxed,
    );
}

/// The run of a used word at a position, if the word makes sense there.
fn used_run<S: Shared>(shared: &S, word: Word, position: u64) -> Option<u16> {
    let slots = shared.slot_count();
    let run = word.run();
    let fits = run >= 1 && run <= shared.run_max() && position % slots + u64::from(run) <= slots;
    let used = matches!(word.state(), Some(State::Claimed | State::Committed | State::Aborted));
    (used && fits && word.is_at(position)).then_some(run)
}

/// Makes a claim visible to the consumer. `false`: the claim was taken away, nothing happened.
#[must_use]
pub fn commit<S: Shared>(shared: &S, claim: &Claim) -> bool {
    // Release pairs with the acquire load in `peek`: whoever sees the commit sees header and body.
    shared
        .word(claim.position)
        .compare_exchange(
            claim.word.0,
            claim.word.with_state(State::Committed).0,
            Ordering::Release,
            Ordering::Relaxed,
        )
        .is_ok()
}

/// Takes a claim away from an owner that is proven dead. `false`: it was no longer claimed.
pub fn abort<S: Shared>(shared: &S, position: u64, owner: u16, run: u16) -> bool {
    // Competes with nobody but a commit that the owner made before it died.
    give_up(shared, position, Word::used(position, owner, run, State::Claimed))
}

/// Gives up a submission that is kept elsewhere. `false`: it is not there (any more).
pub fn skip<S: Shared>(shared: &S, position: u64, owner: u16, run: u16) -> bool {
    // Competes with nobody: a committed word is the consumer's.
    give_up(shared, position, Word::used(position, owner, run, State::Committed))
}

fn give_up<S: Shared>(shared: &S, position: u64, used: Word) -> bool {
    let word = shared.word(position);
    let aborted = used.with_state(State::Aborted);
    word.compare_exchange(used.0, aborted.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// After a commit: whether the consumer sleeps and it is for the caller to wake it.
///
/// Ends with the flag clear, so that of many producers one makes the system call.
#[must_use]
pub fn must_wake_consumer<S: Shared>(shared: &S) -> bool {
    // Pairs with the fence in `prepare_sleep`: either the consumer's last look sees our commit, or
    // we see its flag.
    fence(Ordering::SeqCst);
    take_flag(shared.consumer_state())
}

/// Takes a waiter's flag down, if it is up. `true`: it was, and its waiter is for the caller to wake.
///
/// The caller has published what the waiter waits for, and fenced. Only a flag that is up is ever
/// written: a late writer cannot take down the flag of the waiter's next sleep unnoticed.
pub(crate) fn take_flag(flag: &AtomicU32) -> bool {
    flag.load(Ordering::Relaxed) == 1
        && flag.compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// Looks at a position. The word is loaded once.
pub fn peek<S: Shared>(shared: &S, position: u64) -> Peek {
    // Pairs with the release half of the claim and commit CAS.
    let word = Word(shared.word(position).load(Ordering::Acquire));
    classify(shared, position, word)
}

/// What a word means at a position.
pub fn classify<S: Shared>(shared: &S, position: u64, word: Word) -> Peek {
    if word == Word::free(position) {
        return Peek::Empty;
    }
    let Some(run) = used_run(shared, word, position) else { return Peek::Impossible(word) };
    match word.state() {
        Some(State::Claimed) => Peek::Claimed { owner: word.owner(), run },
        Some(State::Committed) => Peek::Committed { owner: word.owner(), run },
        Some(State::Aborted) => Peek::Aborted { run },
        _ => Peek::Impossible(word),
    }
}

/// Makes sure that the tail is past a run that the consumer is about to pass. `false`: the tail
/// lies where no correct step puts it.
#[must_use]
pub fn help_tail<S: Shared>(shared: &S, position: u64, run: u16) -> bool {
    let end = position + u64::from(run);
    let mut tail = shared.tail().load(Ordering::Acquire); // pairs with the tail CAS
    if tail == position {
        advance_tail(shared, position, run);
        tail = shared.tail().load(Ordering::Acquire); // as above
    }
    tail >= end && tail - end <= shared.slot_count()
}

/// Gives the slots of a run back for their next positions. The first slot last: a consumer that
/// dies in between finds the run whole, or gone.
pub fn release_run<S: Shared>(shared: &S, position: u64, run: u16) {
    for step in (0..u64::from(run)).rev() {
        let next = Word::free(position + step + shared.slot_count());
        // Pairs with the acquire half of the next claim CAS on this word.
        shared.word(position + step).store(next.0, Ordering::Release);
    }
}

/// Whether a slot before the tail was released without the head having been advanced: the trace of
/// a consumer that died between the two.
pub fn is_released<S: Shared>(shared: &S, position: u64) -> bool {
    // Pairs with the release store in `release_run`.
    let word = Word(shared.word(position).load(Ordering::Acquire));
    word == Word::free(position + shared.slot_count())
}

/// Publishes the new head. `true`: somebody waits for space and is for the caller to wake.
#[must_use]
pub fn advance_head<S: Shared>(shared: &S, head: u64) -> bool {
    // Pairs with the acquire load in `has_room`.
    shared.head().store(head, Ordering::Release);
    announce_space(shared)
}

/// After something was published that a waiting producer looks for. `true`: somebody waits and is
/// for the caller to wake.
#[must_use]
pub fn announce_space<S: Shared>(shared: &S) -> bool {
    // Pairs with the fence in `prepare_space_wait`: either the waiter's last look sees the news, or
    // we see its flag.
    fence(Ordering::SeqCst);
    if !take_flag(shared.space_waiting()) {
        return false;
    }
    // Pairs with the acquire load in `prepare_space_wait`, and fails the futex waits of those who
    // read the old value.
    shared.space_sequence().fetch_add(1, Ordering::Release);
    true
}

/// Announces that the caller is about to wait for space. Returns the value of `space_sequence` to
/// wait on; the caller looks for space once more before it waits.
pub fn prepare_space_wait<S: Shared>(shared: &S) -> u32 {
    let sequence = shared.space_sequence().load(Ordering::Acquire); // pairs with `advance_head`
    shared.space_waiting().store(1, Ordering::Relaxed);
    // Pairs with the fence in `advance_head`.
    fence(Ordering::SeqCst);
    sequence
}

/// Announces that the consumer is about to sleep; looks once more. `false`: there is something at
/// `position` to take, and the flag is down again.
pub fn prepare_sleep<S: Shared>(shared: &S, position: u64) -> bool {
    shared.consumer_state().store(1, Ordering::Relaxed);
    // Pairs with the fence in `must_wake_consumer`.
    fence(Ordering::SeqCst);
    // A claim is no reason to stay awake: its commit will see the flag.
    let idle = matches!(peek(shared, position), Peek::Empty | Peek::Claimed { .. });
    if !idle {
        end_sleep(shared);
    }
    idle
}

/// Takes the flag down.
pub fn end_sleep<S: Shared>(shared: &S) {
    // Nothing is published by this store: a producer that still sees the flag makes one wake too
    // many.
    shared.consumer_state().store(0, Ordering::Relaxed);
}
