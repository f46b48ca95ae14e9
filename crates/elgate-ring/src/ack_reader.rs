//! The participant's side of its acknowledgements: reading them, and sleeping until there are some.

use crate::acks::{AckMap, Completion, ENTRIES};
use crate::mapping::RingMap;
use crate::protocol::Shared;
use crate::sync::{Ordering, fence};
use elgate_io::futex;
use std::sync::Arc;
use std::time::Duration;

/// Reads a producer's completions, in the order in which Elgate wrote them (which is not the order
/// of submission: routes do not wait for each other).
///
/// A completion may come twice, after Elgate was killed; ignore those that are not awaited. Match
/// them by position: it is unique, and right also for a slot whose content was damaged.
#[derive(Debug)]
pub struct AckReader {
    acks: Arc<AckMap>,
    ring: Arc<RingMap>,
}

impl AckReader {
    pub(crate) fn new(acks: Arc<AckMap>, ring: Arc<RingMap>) -> Self {
        Self { acks, ring }
    }

    /// Appends what has arrived, each with its submission's position; returns how many. At most
    /// 4,096 at a time.
    pub fn drain(&mut self, out: &mut Vec<(u64, Completion)>) -> usize {
        // Relaxed: only this reader stores it.
        let read = self.acks.read().load(Ordering::Relaxed);
        // Pairs with the release store in `AckWriter::publish`: the entries are there.
        let written = self.acks.written().load(Ordering::Acquire);
        let count = written.wrapping_sub(read).min(ENTRIES);
        // Pairs with the tail CAS of our own submits: every completed position is below it.
        let tail = self.ring.tail().load(Ordering::Acquire);
        for step in 0..count {
            let (position_low, completion) = self.acks.get(read.wrapping_add(step));
            out.push((widen(position_low, tail), completion));
        }
        // Pairs with the acquire load in `AckWriter::room`: the entries may be overwritten.
        self.acks.read().store(read.wrapping_add(count), Ordering::Release);
        count as usize
    }

    /// A handle to wait with.
    #[must_use]
    pub fn waiter(&self) -> AckWaiter {
        AckWaiter::new(self.acks.clone())
    }
}

/// The position at or below `reference` with these low bits.
fn widen(low: u32, reference: u64) -> u64 {
    reference.wrapping_sub(u64::from((reference as u32).wrapping_sub(low)))
}

/// Waits until completions have arrived. Usable from another thread than the reader's; one thread
/// waits at a time.
#[derive(Debug, Clone)]
pub struct AckWaiter {
    acks: Arc<AckMap>,
}

impl AckWaiter {
    pub(crate) fn new(acks: Arc<AckMap>) -> Self {
        Self { acks }
    }

    /// Whether there is something to read.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        // Pairs with the release stores in `AckWriter::publish` and `AckReader::drain`.
        self.acks.written().load(Ordering::Acquire) != self.acks.read().load(Ordering::Acquire)
    }

    /// Waits until there is something to read, somebody [interrupts](Self::interrupt), or the time
    /// is up; returns whether there is. Wait in steps of about a second: if Elgate is killed
    /// between clearing the flag and waking, nobody else wakes this waiter.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.acks.reader_state().store(1, Ordering::Relaxed);
        // Pairs with the fence in `AckWriter::publish`: either we see the new entries, or Elgate
        // sees our flag.
        fence(Ordering::SeqCst);
        if !self.is_ready() {
            futex::wait(self.acks.reader_state(), 1, Some(timeout));
        }
        // Publishes nothing: whoever still sees the flag makes one wake too many.
        self.acks.reader_state().store(0, Ordering::Relaxed);
        self.is_ready()
    }

    /// Ends a wait that is under way. One that is about to begin may miss it: set your own flag
    /// first, and interrupt until the waiter has seen it.
    pub fn interrupt(&self) {
        // Fails the comparison of a wait that is just beginning.
        self.acks.reader_state().store(0, Ordering::Relaxed);
        futex::wake(self.acks.reader_state(), u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_widened_below_the_reference() {
        assert_eq!(widen(5, 9), 5);
        assert_eq!(widen(9, 9), 9);
        assert_eq!(widen(u32::MAX, 1 << 32), (1 << 32) - 1);
        assert_eq!(widen(3, (7 << 32) + 2), (6 << 32) + 3);
    }
}
