//! The participant's side of its acknowledgements: reading them, and sleeping until there are some.

use crate::acks::{AckMap, Completion, ENTRIES};
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
}

impl AckReader {
    pub(crate) fn new(acks: Arc<AckMap>) -> Self {
        Self { acks }
    }

    /// Appends what has arrived, each with its submission's position; returns how many. At most
    /// 4,096 at a time.
    pub fn drain(&mut self, out: &mut Vec<(u64, Completion)>) -> usize {
        // Relaxed: only this reader stores it.
        let read = self.acks.read().load(Ordering::Relaxed);
        // Pairs with the release store in `AckWriter::publish`: the entries are there.
        let written = self.acks.written().load(Ordering::Acquire);
        let count = written.wrapping_sub(read).min(ENTRIES);
        for step in 0..count {
            out.push(self.acks.get(read.wrapping_add(step)));
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
