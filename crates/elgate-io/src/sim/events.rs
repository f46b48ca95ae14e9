//! What happens to an operation when its time has come.

use super::SimWorld;
use super::network::{OpRef, Progress};
use super::world::{Opened, Ready, State, Submitted};
use crate::sys::error;
use crate::{Completion, Op, Outcome};
use std::io;

impl State {
    /// Lets everything happen that falls due up to `time`, at its time.
    pub(super) fn fire_until(&mut self, world: &SimWorld, time: u64) {
        while let Some(entry) = self.events.first_entry() {
            let due = entry.key().0;
            if due > time {
                break;
            }
            let op = entry.remove();
            self.now_ns = self.now_ns.max(due);
            self.fire(world, op);
        }
    }

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
                self.bury_orphan(op.0);
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
        let process = self.drivers.get(&op.0).map_or(0, |driver| driver.process);
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
                    Outcome::Connected(world.socket(self, process, end))
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
                    Ok(Progress::Done((end, from))) => Step::Done(
                        Ok(Outcome::Accepted(world.socket(self, process, end), from)),
                        None,
                    ),
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
    pub(super) fn end_changed_futex_waits(&mut self, driver: u64) {
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
