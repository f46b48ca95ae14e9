//! The driver: one shard's door to the outside.

use crate::{Arena, Commit, Completion, File, Op, Platform, Token};
use elgate_types::{Monotonic, WallTime};
use std::io;
use std::sync::Arc;

/// How long [`Driver::poll`] may wait for a first completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Never,
    /// Until that time.
    Until(Monotonic),
    /// Until something completes or somebody wakes the driver.
    Forever,
}

/// What a driver turned out to be, for start-up logs, `/info` and `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverInfo {
    /// `uring`, `poll` or `sim`.
    pub backend: &'static str,
    /// What it found and chose: set-up flags, which operations are native, why a better backend
    /// was not used. `(name, value)` pairs with stable names.
    pub facts: Vec<(&'static str, String)>,
}

/// What a driver has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DriverStatistics {
    /// Bytes that went from registered buffers to files opened with `direct`: never copied by the
    /// processor, and their pages not looked up for the write.
    pub zero_copy_bytes: u64,
}

/// Interrupts a [`Driver::poll`] that is waiting. Cheap to clone, usable from any thread. A wake
/// that arrives while nobody waits makes the next wait return at once.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    #[must_use]
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self(wake)
    }

    /// Wakes the driver.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Waker")
    }
}

/// *Submit an operation with a token, later get its completion.*
///
/// Used from one thread. Operations complete in any order; each completes exactly once, also when
/// it is cancelled. Operations of one kind on one socket must not overlap (at most one `Send` and
/// one `Receive` in flight per socket). Dropping a driver waits for what the kernel still owns.
pub trait Driver {
    /// Hands over an operation. It may already be under way when this returns, or only after the
    /// next [`poll`](Self::poll). Never blocks, never fails: failures are completions.
    fn submit(&mut self, token: Token, op: Op);

    /// Asks for the operations with this token to end early. They still complete: with
    /// `ECANCELED`, or normally if they were too far along.
    fn cancel(&mut self, token: Token);

    /// Starts what was submitted, waits as told, and appends what has completed to `completions`.
    /// Returns early, perhaps with nothing, when woken.
    ///
    /// # Errors
    /// Only when the backend itself is broken; operations report their own errors.
    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()>;

    /// How many operations have not completed yet.
    fn in_flight(&self) -> usize;

    /// A handle that interrupts `poll`.
    fn waker(&self) -> Waker;

    /// The monotonic clock.
    fn now(&self) -> Monotonic;

    /// The wall clock.
    fn wall_time(&self) -> WallTime;

    /// The blocking side of the same world.
    fn platform(&self) -> Arc<dyn Platform>;

    /// Where buffers for this driver's files are best taken from. The same one every time; those
    /// of other drivers, and of the heap, work as well.
    fn arena(&self) -> Arena;

    /// The ways this driver has to carry out a durable write; the first is what it does untold.
    fn commits(&self) -> Vec<Commit>;

    /// Carries out the durable writes submitted from now on in this way, if it is one of
    /// [`commits`](Self::commits); otherwise in the nearest it has.
    fn set_commit(&mut self, commit: Commit);

    /// Keeps `file` open for as long as anything submitted here is under way: also when the process
    /// is killed, if its writes can outlive it (see [`info`](Self::info), `locks_held_by`). So a lock
    /// on it ([`Platform::try_lock`]) is free only when no write of a dead process can come any
    /// more. Ends with [`release`](Self::release), or with the driver. Holding it again changes
    /// nothing.
    fn hold(&mut self, file: &File);

    /// Ends [`hold`](Self::hold). For files whose writes have all completed.
    fn release(&mut self, file: &File);

    /// What this driver is.
    fn info(&self) -> DriverInfo;

    /// What this driver has counted.
    fn statistics(&self) -> DriverStatistics {
        DriverStatistics::default()
    }
}
