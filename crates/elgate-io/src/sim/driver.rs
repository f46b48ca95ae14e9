//! [`SimDriver`]: the completion side of a simulated world.
//!
//! Submitting schedules an event some seeded time ahead. Polling lets due events happen, in the
//! order of the world's clock, whichever driver they belong to; if this driver then has nothing,
//! and may wait, time jumps to the next event.

use super::process::{ProcessId, SimDeath};
use super::world::{DriverState, Ready, Submitted};
use super::{SimPlatform, SimWorld};
use crate::blocking_pool::catch_panic;
use crate::sys::error;
use crate::{
    Arena, Commit, Completion, Driver, DriverInfo, File, Op, Outcome, Platform, Token, Wait, Waker,
};
use elgate_types::{Monotonic, WallTime, seeded_bug};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// What a poll that finds nothing and may not wait costs: a loop that spins until some time has
/// passed comes to an end.
const EMPTY_POLL_NS: u64 = 100;

/// A driver in a [`SimWorld`].
pub struct SimDriver {
    world: SimWorld,
    id: u64,
    process: ProcessId,
}

impl SimDriver {
    pub(super) fn new(world: SimWorld, process: ProcessId) -> Self {
        let mut state = world.0.lock();
        let id = state.serial();
        state.drivers.insert(id, DriverState { process, ..DriverState::default() });
        drop(state);
        Self { world, id, process }
    }

    /// Moves what is ready into `completions`; runs blocking calls that are due.
    fn collect(&self, completions: &mut Vec<Completion>) {
        let ready = {
            let mut state = self.world.0.lock();
            state.end_changed_futex_waits(self.id);
            state.drivers.get_mut(&self.id).map(|driver| std::mem::take(&mut driver.ready))
        };
        for ready in ready.into_iter().flatten() {
            completions.push(match ready {
                Ready::Completion(completion) => completion,
                Ready::Call(token, call) => {
                    let platform = self.platform();
                    let result = run_call(|| call(&*platform)).map(Outcome::Reply);
                    Completion { token, result, buffer: None }
                }
            });
        }
    }

    /// Lets everything due happen; then, if this driver has nothing and may wait, lets time pass
    /// up to the next event. Returns whether there is a reason to look again.
    fn turn(&self, wait: Wait) -> bool {
        let mut state = self.world.0.lock();
        let now = state.now_ns;
        state.fire_until(&self.world, now);
        let own = state.drivers.entry(self.id).or_default();
        if !own.ready.is_empty() {
            return false;
        }
        if wait != Wait::Never && std::mem::take(&mut own.woken) {
            return false;
        }
        let limit = match wait {
            Wait::Never => {
                state.now_ns += EMPTY_POLL_NS;
                return false;
            }
            Wait::Until(time) => Some(time.0),
            Wait::Forever => None,
        };
        if limit.is_some_and(|limit| limit <= now) {
            return false;
        }
        let event = state.events.first_key_value().map(|(key, op)| (key.0, op.0));
        match (event, limit) {
            (Some((time, driver)), limit) if limit.is_none_or(|limit| time <= limit) => {
                state.now_ns = time.max(now);
                let now = state.now_ns;
                state.fire_until(&self.world, now);
                // Another driver's turn: its owner must be able to see this moment.
                driver == self.id
            }
            (_, Some(limit)) => {
                state.now_ns = limit;
                false
            }
            _ => false,
        }
    }

    /// The number to ask [`SimWorld::has_news`] with.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Driver for SimDriver {
    fn submit(&mut self, token: Token, op: Op) {
        if self.world.enter(self.process, "submit").is_err() {
            return;
        }
        let mut state = self.world.0.lock();
        let serial = state.serial();
        let device = match &op {
            Op::Write { file, .. } | Op::Read { file, .. } | Op::Sync { file } => {
                state.device_of_file(file)
            }
            _ => 0,
        };
        let plan = state.plan_of(device);
        let (file, sync, network) = (plan.file_latency, plan.sync_latency, plan.network_latency);
        let blocking = plan.blocking_latency;
        let range = match &op {
            Op::Write { durable: true, .. } | Op::Sync { .. } => Some(sync),
            Op::Write { .. } | Op::Read { .. } => Some(file),
            Op::Connect { .. } | Op::Accept { .. } | Op::Send { .. } | Op::Receive { .. } => {
                Some(network)
            }
            Op::Blocking(_) => Some(blocking),
            Op::Timer { .. } | Op::FutexWait { .. } => None,
        };
        let at = match (&op, range) {
            (Op::Timer { deadline }, _) => Some(deadline.0.max(state.now_ns)),
            (_, Some(range)) => {
                let delay = state.random.latency(range);
                let on_file = matches!(op, Op::Write { .. } | Op::Read { .. } | Op::Sync { .. });
                let stall = state.plan_of(device).stall_per_mille;
                let stalls = on_file && state.random.per_mille(stall);
                state.counts_of(device).stalls += u64::from(stalls);
                let factor = if stalls { 100 } else { 1 };
                Some(state.now_ns.saturating_add(delay * factor))
            }
            _ => None,
        };
        let driver = state.drivers.entry(self.id).or_default();
        driver.process = self.process;
        driver.submitted.insert(serial, Submitted { token, op });
        if let Some(at) = at {
            state.schedule_at((self.id, serial), at);
        }
    }

    fn cancel(&mut self, token: Token) {
        let mut state = self.world.0.lock();
        let driver = state.drivers.entry(self.id).or_default();
        let ops: Vec<u64> = driver
            .submitted
            .iter()
            .filter(|(_, submitted)| {
                // What the device or a thread works on is too far along.
                let started = matches!(
                    submitted.op,
                    Op::Write { .. } | Op::Read { .. } | Op::Sync { .. } | Op::Blocking(_)
                );
                submitted.token == token && !started
            })
            .map(|(op, _)| *op)
            .collect();
        for op in ops {
            let buffer = match driver.submitted.remove(&op).map(|submitted| submitted.op) {
                Some(Op::Send { buffer, .. } | Op::Receive { buffer, .. }) => Some(buffer),
                _ => None,
            };
            let result = Err(error(libc::ECANCELED));
            driver.ready.push_back(Ready::Completion(Completion { token, result, buffer }));
        }
    }

    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = completions.len();
        self.collect(completions);
        loop {
            let wait = if completions.len() > before { Wait::Never } else { wait };
            let again = self.turn(wait);
            self.collect(completions);
            if !again || completions.len() > before {
                return Ok(());
            }
        }
    }

    fn in_flight(&self) -> usize {
        let state = self.world.0.lock();
        state.drivers.get(&self.id).map_or(0, |own| own.submitted.len() + own.ready.len())
    }

    fn waker(&self) -> Waker {
        let (world, id) = (self.world.clone(), self.id);
        Waker::new(Arc::new(move || {
            if let Some(driver) = world.0.lock().drivers.get_mut(&id) {
                driver.woken = true;
            }
        }))
    }

    fn now(&self) -> Monotonic {
        self.world.now()
    }

    fn wall_time(&self) -> WallTime {
        self.world.wall_time()
    }

    fn platform(&self) -> Arc<dyn Platform> {
        Arc::new(SimPlatform::new(self.world.clone(), self.process))
    }

    /// Of the heap: the simulated disk copies, and knows no alignment.
    fn arena(&self) -> Arena {
        Arena::heap()
    }

    fn commits(&self) -> Vec<Commit> {
        vec![Commit::Dsync]
    }

    fn set_commit(&mut self, _commit: Commit) {}

    fn hold(&mut self, file: &File) {
        if seeded_bug::is("release-locks-at-death") {
            return;
        }
        if let Some(driver) = self.world.0.lock().drivers.get_mut(&self.id) {
            driver.held.hold(file);
        }
    }

    fn release(&mut self, file: &File) {
        if let Some(driver) = self.world.0.lock().drivers.get_mut(&self.id) {
            driver.held.release(file);
        }
    }

    fn info(&self) -> DriverInfo {
        DriverInfo { backend: "sim", facts: vec![("clock", "virtual".to_owned())] }
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        let mut state = self.world.0.lock();
        if state.drivers.get(&self.id).is_some_and(|driver| driver.is_orphan) {
            return; // What is left belongs to the device.
        }
        // A device finishes the writes it has begun; each of these may or may not have begun.
        let lost = state.settle_driver(self.id, true);
        drop(state);
        drop(lost);
    }
}

/// Runs a blocking call. Its panic becomes its error; the death of its process does not.
fn run_call<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result,
        Err(panic) if panic.is::<SimDeath>() => resume_unwind(panic),
        Err(panic) => catch_panic(|| resume_unwind(panic)),
    }
}
