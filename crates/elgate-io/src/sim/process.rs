//! [`SimProcess`]: who owns handles and drivers, and can die without the rest of the world.

use super::world::State;
use super::{SimDriver, SimPlatform, SimWorld};
use crate::Platform;
use crate::sys::error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a simulated process that dies in the middle of a call unwinds with. Whoever steps the
/// process catches it, and then [kills](SimProcess::kill) what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimDeath {
    /// The call that it did not come to.
    pub before: &'static str,
}

/// Names a process. 0 is the one that drivers and platforms of the world itself belong to.
pub(super) type ProcessId = u64;

/// One process of a simulated world.
#[derive(Debug, Clone)]
pub struct SimProcess {
    world: SimWorld,
    id: ProcessId,
}

impl SimWorld {
    /// A new process.
    #[must_use]
    pub fn process(&self) -> SimProcess {
        let id = self.0.lock().serial();
        SimProcess { world: self.clone(), id }
    }

    /// Whether the process of that number has not been killed.
    #[must_use]
    pub fn is_process_alive(&self, id: u64) -> bool {
        !self.0.lock().dead.contains(&id)
    }
}

impl SimProcess {
    /// Its number: unlike any other's.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its world.
    #[must_use]
    pub fn world(&self) -> &SimWorld {
        &self.world
    }

    /// A driver of this process.
    #[must_use]
    pub fn driver(&self) -> SimDriver {
        SimDriver::new(self.world.clone(), self.id)
    }

    /// The blocking side of the world, for this process.
    #[must_use]
    pub fn platform(&self) -> Arc<dyn Platform> {
        Arc::new(self.sim_platform())
    }

    /// The same, with what only the simulator's has.
    #[must_use]
    pub fn sim_platform(&self) -> SimPlatform {
        SimPlatform::new(self.world.clone(), self.id)
    }

    /// Whether it has not been killed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.world.0.lock().dead.contains(&self.id)
    }

    /// Has the process die when it has made `calls` more calls to the outside: in the middle of
    /// whatever it is doing then, which unwinds with [`SimDeath`]. `None` takes that back.
    pub fn die_in(&self, calls: Option<u64>) {
        let mut state = self.world.0.lock();
        match calls {
            Some(calls) => state.deaths.insert(self.id, calls),
            None => state.deaths.remove(&self.id),
        };
    }

    /// Ends the process here and now, in the middle of whatever it is doing.
    pub fn die(&self, before: &'static str) -> ! {
        self.world.0.lock().end_process(self.id);
        std::panic::resume_unwind(Box::new(SimDeath { before }))
    }

    /// A word that holds 1 while the process lives, and 0 afterwards.
    #[must_use]
    pub fn pulse(&self) -> Arc<AtomicU32> {
        let mut state = self.world.0.lock();
        let beats = u32::from(!state.dead.contains(&self.id));
        state.pulses.entry(self.id).or_insert_with(|| Arc::new(AtomicU32::new(beats))).clone()
    }

    /// Handles that it has open.
    #[must_use]
    pub fn open_handles(&self) -> usize {
        self.world.0.lock().handles_of(self.id)
    }

    /// The process is gone, and with it its handles, locks and connections, except for what its
    /// drivers hold while a write of theirs is still to come; of those under way each comes or does
    /// not. Everything it wrote stays, and so does shared memory.
    pub fn kill(&self) {
        let mut state = self.world.0.lock();
        state.end_process(self.id);
        let lost = state.settle_process(self.id);
        drop(state);
        // What it held may own anything, so it is dropped without the world's lock.
        drop(lost);
    }
}

impl State {
    /// From here on the process does nothing more; what it holds is taken from it by `kill`.
    fn end_process(&mut self, process: ProcessId) {
        self.deaths.remove(&process);
        if self.dead.insert(process) {
            self.counts.process_kills += 1;
        }
        if let Some(pulse) = self.pulses.remove(&process) {
            pulse.store(0, Ordering::Relaxed); // asked for by its own thread alone
        }
    }

    /// A process is about to make a call. A dead one may not.
    pub(super) fn enter(&mut self, process: ProcessId, call: &'static str) -> Entry {
        if self.dead.contains(&process) {
            return Entry::Dead;
        }
        match self.deaths.get_mut(&process) {
            Some(0) => {
                self.end_process(process);
                Entry::Dies(SimDeath { before: call })
            }
            Some(calls) => {
                *calls -= 1;
                Entry::Goes
            }
            None => Entry::Goes,
        }
    }
}

/// What becomes of a call.
pub(super) enum Entry {
    Goes,
    Dead,
    Dies(SimDeath),
}

impl SimWorld {
    /// Counts a call of a process, and ends the process if this was to be its last.
    ///
    /// # Errors
    /// `ESRCH` for a process that is dead already.
    pub(super) fn enter(&self, process: ProcessId, call: &'static str) -> io::Result<()> {
        let entry = self.0.lock().enter(process, call);
        match entry {
            Entry::Goes => Ok(()),
            Entry::Dead => Err(error(libc::ESRCH)),
            // Not a panic: no message, and nothing above may take it for its own error.
            Entry::Dies(death) => std::panic::resume_unwind(Box::new(death)),
        }
    }
}
