//! [`SimDriver`]: the completion side of a simulated world.
//!
//! Submitting schedules an event some seeded time ahead. Polling lets due events happen, in the
//! order of the world's clock, whichever driver they belong to; if this driver then has nothing,
//! and may wait, time jumps to the next event.

use super::SimWorld;
use super::network::{OpRef, Progress};
use super::world::{DriverState, Opened, Ready, State, Submitted};
use crate::blocking_pool::catch_panic;
use crate::sys::error;
use crate::{
    Arena, Commit, Completion, Driver, DriverInfo, Op, Outcome, Platform, Token, Wait, Waker,
};
use elgate_types::{Monotonic, WallTime};
use std::io;
use std::sync::Arc;

/// What a poll that finds nothing and may not wait costs: a loop that spins until some time has
/// passed comes to an end.
const EMPTY_POLL_NS: u64 = 100;

/// A driver in a [`SimWorld`].
pub struct SimDriver {
    world: SimWorld,
    id: u64,
}

impl SimDriver {
    pub(super) fn new(world: SimWorld) -> Self {
        let mut state = world.0.lock();
        let id = state.serial();
        state.drivers.insert(id, DriverState::default());
        drop(state);
        Self { world, id }
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
                    let platform = self.world.platform();
                    let result = catch_panic(|| call(&*platform)).map(Outcome::Reply);
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
        self.fire_until(&mut state, now);
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
                self.fire_until(&mut state, now);
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

    fn fire_until(&self, state: &mut State, time: u64) {
        while let Some(entry) = state.events.first_entry() {
            if entry.key().0 > time {
                break;
            }
            let op = entry.remove();
            state.fire(&self.world, op);
        }
    }
}

impl State {
    /// One operation makes progress: it ends, or waits for something else.
    fn fire(&mut self, world: &SimWorld, op: OpRef) {
        let Some(submitted) =
            self.drivers.get_mut(&op.0).and_then(|driver| driver.submitted.remove(&op.1))
        else {
            return; // cancelled meanwhile
        };
        let network = matches!(
            submitted.op,
            Op::Connect { .. } | Op::Accept { .. } | Op::Send { .. } | Op::Receive { .. }
        );
        if network && !self.network_up {
            self.held.push(op);
            self.park(op, submitted);
            return;
        }
        let Submitted { token, op: operation } = submitted;
        match self.perform(world, op, operation) {
            Step::Waits(operation) => self.park(op, Submitted { token, op: operation }),
            Step::Call(call) => self.ready(op.0, Ready::Call(token, call)),
            Step::Done(result, buffer) => {
                self.ready(op.0, Ready::Completion(Completion { token, result, buffer }));
            }
        }
    }

    fn park(&mut self, op: OpRef, submitted: Submitted) {
        if let Some(driver) = self.drivers.get_mut(&op.0) {
            driver.submitted.insert(op.1, submitted);
        }
    }

    fn ready(&mut self, driver: u64, ready: Ready) {
        if let Some(driver) = self.drivers.get_mut(&driver) {
            driver.ready.push_back(ready);
        }
    }

    fn perform(&mut self, world: &SimWorld, op: OpRef, operation: Op) -> Step {
        match operation {
            Op::Write { file, offset, buffer, durable } => {
                let result = self.write_file(&file, offset, &buffer, durable);
                Step::Done(result.map(Outcome::Bytes), Some(buffer))
            }
            Op::Read { file, offset, mut buffer } => {
                buffer.set_length(buffer.capacity());
                let result = self.read_file(&file, offset, &mut buffer);
                buffer.set_length(*result.as_ref().unwrap_or(&0));
                Step::Done(result.map(Outcome::Bytes), Some(buffer))
            }
            Op::Sync { file } => Step::Done(self.sync_file(&file).map(|()| Outcome::Done), None),
            Op::Timer { .. } => Step::Done(Ok(Outcome::Done), None),
            Op::Blocking(call) => Step::Call(call),
            Op::FutexWait { word, expected } => Step::Waits(Op::FutexWait { word, expected }),
            Op::Connect { address } => {
                if self.random.per_mille(self.plan.connect_error_per_mille) {
                    self.counts.connect_errors += 1;
                    return Step::Done(Err(error(libc::ECONNREFUSED)), None);
                }
                let result = self.network.connect(address).map(|(end, waiting)| {
                    self.retry(waiting);
                    Outcome::Connected(world.socket(self, end))
                });
                Step::Done(result, None)
            }
            Op::Accept { listener } => {
                let progress = match self.opened(&listener.0) {
                    Ok(Opened::Listener(bound)) => self.network.accept(bound, op),
                    Ok(_) => Err(error(libc::EINVAL)),
                    Err(error) => Err(error),
                };
                match progress {
                    Ok(Progress::Waits) => Step::Waits(Op::Accept { listener }),
                    Ok(Progress::Done((end, from))) => {
                        Step::Done(Ok(Outcome::Accepted(world.socket(self, end), from)), None)
                    }
                    Err(error) => Step::Done(Err(error), None),
                }
            }
            Op::Send { socket, buffer, offset } => self.send(op, socket, buffer, offset),
            Op::Receive { socket, buffer } => self.receive(op, socket, buffer),
        }
    }

    fn send(
        &mut self,
        op: OpRef,
        socket: crate::Socket,
        buffer: crate::Buffer,
        offset: usize,
    ) -> Step {
        let Some(wanted) = buffer.len().checked_sub(offset) else {
            return Step::Done(Err(error(libc::EINVAL)), Some(buffer));
        };
        let room = self.live_end(&socket).and_then(|end| {
            Ok((end, if wanted == 0 { 0 } else { self.network.send_room(end, op)? }))
        });
        match room {
            Err(error) => Step::Done(Err(error), Some(buffer)),
            Ok((_, 0)) if wanted > 0 => Step::Waits(Op::Send { socket, buffer, offset }),
            Ok((end, room)) => {
                let length = self.partial(wanted.min(room));
                let waiting = self.network.send(end, &buffer[offset..][..length]);
                self.retry(waiting);
                Step::Done(Ok(Outcome::Bytes(length)), Some(buffer))
            }
        }
    }

    fn receive(&mut self, op: OpRef, socket: crate::Socket, mut buffer: crate::Buffer) -> Step {
        buffer.clear();
        let progress =
            self.live_end(&socket).and_then(|end| Ok((end, self.network.receive_ready(end, op)?)));
        match progress {
            Err(error) => Step::Done(Err(error), Some(buffer)),
            Ok((_, Progress::Waits)) => Step::Waits(Op::Receive { socket, buffer }),
            Ok((_, Progress::Done(None))) => Step::Done(Ok(Outcome::Bytes(0)), Some(buffer)),
            Ok((end, Progress::Done(Some(available)))) => {
                let length = self.partial(available.min(buffer.capacity()));
                buffer.set_length(length);
                let waiting = self.network.receive(end, &mut buffer);
                self.retry(waiting);
                Step::Done(Ok(Outcome::Bytes(length)), Some(buffer))
            }
        }
    }

    /// The end behind a socket, unless the plan breaks the connection now.
    fn live_end(&mut self, socket: &crate::Socket) -> io::Result<super::network::EndId> {
        let Opened::Socket(end) = self.opened(&socket.0)? else {
            return Err(error(libc::ENOTSOCK));
        };
        if self.random.per_mille(self.plan.reset_per_mille) {
            self.counts.resets += 1;
            let retry = self.network.reset(end);
            self.retry(retry);
        }
        Ok(end)
    }

    fn partial(&mut self, length: usize) -> usize {
        if length > 1 && self.random.per_mille(self.plan.partial_transfer_per_mille) {
            self.counts.partial_transfers += 1;
            1 + self.random.index(length - 1)
        } else {
            length
        }
    }

    /// Ends the waits of a driver whose words have changed.
    fn end_changed_futex_waits(&mut self, driver: u64) {
        let Some(pending) = self.drivers.get(&driver) else { return };
        let changed: Vec<OpRef> = pending
            .submitted
            .iter()
            .filter(|(_, submitted)| match &submitted.op {
                // Acquire: what was written before the word is visible to whoever waited for it.
                Op::FutexWait { word, expected } => {
                    word.get().load(std::sync::atomic::Ordering::Acquire) != *expected
                }
                _ => false,
            })
            .map(|(op, _)| (driver, *op))
            .collect();
        for op in changed {
            self.end_futex_wait(op);
        }
    }

    pub(super) fn end_futex_wait(&mut self, op: OpRef) {
        let Some(driver) = self.drivers.get_mut(&op.0) else { return };
        if let Some(submitted) = driver.submitted.remove(&op.1) {
            let token = submitted.token;
            let completion = Completion { token, result: Ok(Outcome::Done), buffer: None };
            driver.ready.push_back(Ready::Completion(completion));
        }
    }
}

/// How far an operation came.
enum Step {
    Done(io::Result<Outcome>, Option<crate::Buffer>),
    Call(crate::BlockingCall),
    Waits(Op),
}

impl Driver for SimDriver {
    fn submit(&mut self, token: Token, op: Op) {
        let mut state = self.world.0.lock();
        let serial = state.serial();
        let plan = &state.plan;
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
                Some(state.now_ns.saturating_add(delay))
            }
            _ => None,
        };
        let driver = state.drivers.entry(self.id).or_default();
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
        self.world.platform()
    }

    /// Of the heap: the simulated disk copies, and knows no alignment.
    fn arena(&self) -> Arena {
        Arena::heap()
    }

    fn commits(&self) -> Vec<Commit> {
        vec![Commit::Dsync]
    }

    fn set_commit(&mut self, _commit: Commit) {}

    fn info(&self) -> DriverInfo {
        DriverInfo { backend: "sim", facts: vec![("clock", "virtual".to_owned())] }
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        // A device finishes the writes it has begun; each of these may or may not have begun.
        let lost = self.world.0.lock().settle_driver(self.id);
        drop(lost);
    }
}
