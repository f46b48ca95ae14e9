//! The way of operations into the ring and of results out of it: the submission queue with its
//! backlog, the completion queue, and the waiting in between.

use super::driver::UringDriver;
use super::kernel::Kernel;
use super::slab::{Chain, InFlight, Key, Stage};
use crate::poll::earliest;
use crate::sys::{error, set_nonblocking};
use crate::{Commit, Completion, Driver, Token, Wait};
use elgate_types::Monotonic;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{opcode, squeue};
use std::io;

/// What results carry that belong to no operation.
const WAKE: u64 = u64::MAX;
const CANCEL: u64 = u64::MAX - 1;
/// Set in a key's topmost bit: the sync that is linked to the write.
const SYNC_PART: u64 = 1 << 63;

/// Waits for a place in the submission queue.
pub(super) enum Queued {
    Start(Key),
    Cancel(Key),
}

impl UringDriver {
    /// Queues an operation for the kernel.
    pub(super) fn start(&mut self, token: Token, kernel: Kernel) {
        if let Err(failure) = kernel.descriptor() {
            self.end(token, failure, kernel.into_buffer());
            return;
        }
        let is_linked = kernel.durable_bytes().is_some() && self.commit == Commit::Link;
        let stage = if is_linked { Stage::Linked(Chain::default()) } else { Stage::Single };
        let key =
            self.slab.insert(InFlight { token, kernel, cancelled: false, queued: true, stage });
        self.enqueue(Queued::Start(key));
    }

    fn start_again(&mut self, token: Token, kernel: Kernel) {
        match kernel {
            Kernel::Write { file, offset, buffer, durable } => {
                self.write(token, file, offset, buffer, durable);
            }
            kernel => self.start(token, kernel),
        }
    }

    pub(super) fn enqueue(&mut self, queued: Queued) {
        self.backlog.push_back(queued);
        self.fill();
    }

    /// Moves the backlog into the submission queue, as far as there is room.
    pub(super) fn fill(&mut self) {
        while let Some(next) = self.backlog.front() {
            let pushed = match *next {
                Queued::Cancel(key) => {
                    self.push(&[opcode::AsyncCancel::new(key).build().user_data(CANCEL)])
                }
                Queued::Start(key) => self.push_operation(key),
            };
            if !pushed {
                return;
            }
            self.backlog.pop_front();
        }
    }

    fn push_operation(&mut self, key: Key) -> bool {
        // Nobody: it was cancelled before it began.
        let Some(InFlight { kernel, stage, .. }) = self.slab.get(key) else { return true };
        let pushed = match stage {
            Stage::Single => {
                let entry = kernel.entry(&self.registered, false);
                self.push(&[entry.user_data(key)])
            }
            Stage::Linked(_) => {
                let write = kernel.entry(&self.registered, true).flags(squeue::Flags::IO_LINK);
                let sync = kernel.sync_entry();
                self.push(&[write.user_data(key), sync.user_data(key | SYNC_PART)])
            }
            Stage::SyncAgain { .. } => {
                let sync = kernel.sync_entry();
                self.push(&[sync.user_data(key)])
            }
        };
        if pushed && let Some(found) = self.slab.get(key) {
            found.queued = false;
        }
        pushed
    }

    /// Puts entries into the submission queue, all or none. `false`: it has no room for them.
    fn push(&mut self, entries: &[squeue::Entry]) -> bool {
        // SAFETY: what the entries point to belongs to the slab (or to `wake_count`), and stays
        // there until the results are in; `Drop` waits for them.
        let pushed = unsafe { self.ring.submission().push_multiple(entries).is_ok() };
        self.owed += if pushed { entries.len() } else { 0 };
        pushed
    }

    /// Takes the results that are in. Returns whether the wake-up was among them.
    pub(super) fn reap(&mut self, completions: &mut Vec<Completion>) -> bool {
        let mut woken = false;
        loop {
            let Some(result) = self.ring.completion().next() else { return woken };
            self.owed -= 1;
            match result.user_data() {
                WAKE => {
                    self.wake_armed = false;
                    woken = true;
                }
                CANCEL => {}
                key => self.advance(key, result.result(), completions),
            }
        }
    }

    /// A result: of an operation, or of one half of it.
    fn advance(&mut self, key: Key, result: i32, completions: &mut Vec<Completion>) {
        let (key, is_sync) = (key & !SYNC_PART, key & SYNC_PART != 0);
        let Some(InFlight { kernel, stage, queued, .. }) = self.slab.get(key) else {
            debug_assert!(false, "a result for an operation that is not in flight");
            return;
        };
        let result = match stage {
            Stage::Single => result,
            Stage::SyncAgain { written } => {
                if result < 0 {
                    result
                } else {
                    *written
                }
            }
            Stage::Linked(chain) => {
                *(if is_sync { &mut chain.sync } else { &mut chain.write }) = Some(result);
                let Chain { write: Some(write), sync: Some(sync), may_be_split } = *chain else {
                    return;
                };
                let is_whole = u32::try_from(write).ok() == kernel.durable_bytes();
                if is_whole && sync >= 0 && may_be_split {
                    *stage = Stage::SyncAgain { written: write };
                    *queued = true;
                    return self.enqueue(Queued::Start(key));
                }
                // Without the whole write there was no sync to speak of.
                if is_whole && sync < 0 { sync } else { write }
            }
        };
        self.finish(key, result, completions);
    }

    fn finish(&mut self, key: Key, result: i32, completions: &mut Vec<Completion>) {
        let Some(InFlight { token, kernel, cancelled, stage, .. }) = self.slab.remove(key) else {
            return;
        };
        let futex = matches!(kernel, Kernel::FutexWait { .. });
        let completion = match -result {
            // The word did not hold the value: the wait is over before it began.
            libc::EAGAIN if futex => {
                Completion { token, result: Ok(crate::Outcome::Done), buffer: None }
            }
            // A signal, or a cancellation that met the operation at work.
            libc::EINTR if !cancelled => return self.start_again(token, kernel),
            // Older kernels take a socket's O_NONBLOCK for theirs.
            libc::EAGAIN if kernel.is_socket() && !cancelled => {
                let blocking = kernel.descriptor().and_then(|fd| set_nonblocking(fd, false));
                match blocking {
                    Ok(()) => return self.start_again(token, kernel),
                    Err(failure) => {
                        Completion { token, result: Err(failure), buffer: kernel.into_buffer() }
                    }
                }
            }
            // The flag is too new for this file system: in another way from now on.
            libc::EOPNOTSUPP if stage == Stage::Single && kernel.durable_bytes().is_some() => {
                self.has_dsync = false;
                self.set_commit(self.commit);
                return self.start_again(token, kernel);
            }
            errno if errno > 0 => {
                let errno = if cancelled && errno == libc::EINTR { libc::ECANCELED } else { errno };
                Completion { token, result: Err(error(errno)), buffer: kernel.into_buffer() }
            }
            _ => {
                self.count(&kernel, result);
                let (outcome, buffer) = kernel.finish(result);
                Completion { token, result: Ok(outcome), buffer }
            }
        };
        completions.push(completion);
    }

    fn count(&mut self, kernel: &Kernel, result: i32) {
        if let Kernel::Write { file, buffer, .. } = kernel
            && file.0.is_direct()
            && self.registered.index_of(buffer).is_some()
        {
            self.statistics.zero_copy_bytes += u64::try_from(result).unwrap_or(0);
        }
    }

    /// Everything that has ended without entering the kernel.
    fn collect(&mut self, completions: &mut Vec<Completion>) -> bool {
        completions.append(&mut self.ready);
        self.mailbox.collect(completions);
        if !self.timers.is_empty() {
            self.timers.expire(crate::clock::monotonic(), completions);
        }
        self.reap(completions)
    }

    /// Hands the kernel everything queued, without waiting.
    pub(super) fn flush(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        loop {
            self.fill();
            let queue = self.ring.submission();
            if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                return Ok(());
            }
            drop(queue);
            let entered = self.ring.submitter().submit();
            let settled = self.understood(entered);
            self.reap(completions);
            if !settled? || self.backlog.is_empty() {
                return Ok(());
            }
            if self.polls_submissions() {
                // Not ours to take: until the kernel's thread has made room.
                let waited = self.ring.submitter().squeue_wait();
                self.understood(waited)?;
            }
        }
    }

    /// Sorts the errors of entering the kernel. `false`: it is short of something for the moment;
    /// what was not taken stays queued for the next turn. To be asked before anything else goes
    /// into the queue.
    pub(super) fn understood(&mut self, entered: io::Result<usize>) -> io::Result<bool> {
        if !self.ring.submission().is_empty() {
            self.suspect_chains();
        }
        let Err(failure) = entered else { return Ok(true) };
        match failure.raw_os_error() {
            Some(libc::ETIME | libc::EINTR) => Ok(true),
            Some(libc::EBUSY | libc::EAGAIN) => Ok(false),
            _ => Err(failure),
        }
    }

    /// The kernel has not taken all there was. A chain that it took half of is no chain: the sync
    /// that it takes later waits for nothing.
    fn suspect_chains(&mut self) {
        for key in self.slab.keys(|found| matches!(found.stage, Stage::Linked(_))) {
            if let Some(InFlight { stage: Stage::Linked(chain), .. }) = self.slab.get(key) {
                chain.may_be_split = true;
            }
        }
    }

    fn arm_wake(&mut self) -> bool {
        if !self.wake_armed {
            let count = (&raw mut *self.wake_count).cast();
            let read = opcode::Read::new(Fd(self.mailbox.event()), count, 8);
            self.wake_armed = self.push(&[read.build().user_data(WAKE)]);
        }
        self.wake_armed
    }

    pub(super) fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = completions.len();
        self.collect(completions);
        if self.files.holds_one() {
            self.run_or_hand_over(before, completions)?;
        }
        // Also makes room in the queue for the wake-up.
        if completions.len() > before || wait == Wait::Never || !self.backlog.is_empty() {
            self.flush(completions)?;
        }
        if wait == Wait::Never {
            self.collect(completions);
            return Ok(());
        }
        while completions.len() == before {
            if !self.arm_wake() {
                self.flush(completions)?;
                if completions.len() > before || !self.arm_wake() {
                    return Ok(());
                }
            }
            if !self.mailbox.prepare_sleep() {
                self.flush(completions)?;
                self.collect(completions);
                return Ok(());
            }
            let entered = self.enter(earliest(wait, self.timers.next_deadline()));
            let settled = self.understood(entered);
            let mut woken = self.mailbox.awake();
            woken |= self.collect(completions);
            let settled = settled?;
            let expired = matches!(wait, Wait::Until(time) if time <= crate::clock::monotonic());
            if woken || expired || !settled {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The blocking write that nobody has begun: here if there is nothing else to do.
    fn run_or_hand_over(
        &mut self,
        before: usize,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        if completions.len() == before && !self.slab.any(|found| found.kernel.is_socket()) {
            // What the kernel could work on in the meantime.
            self.flush(completions)?;
            self.files.run_held(completions);
        } else {
            self.files.hand_over();
        }
        Ok(())
    }

    /// Submits and waits for one result, until `deadline` at the latest.
    fn enter(&self, deadline: Option<Monotonic>) -> io::Result<usize> {
        let Some(deadline) = deadline else { return self.ring.submitter().submit_and_wait(1) };
        let left = deadline.since(crate::clock::monotonic());
        let limit = Timespec::from(left);
        self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit))
    }
}

impl Drop for UringDriver {
    /// Cancels what is under way and waits until the kernel owns nothing of ours.
    fn drop(&mut self) {
        self.backlog.clear();
        for key in self.slab.keys(|found| found.queued) {
            self.slab.remove(key);
        }
        for key in self.slab.keys(|_| true) {
            if let Some(found) = self.slab.get(key) {
                found.cancelled = true; // not to be started again when a signal interrupts it
            }
            self.backlog.push_back(Queued::Cancel(key));
        }
        if self.wake_armed {
            self.backlog.push_back(Queued::Cancel(WAKE));
        }
        let mut discarded = Vec::new();
        loop {
            self.fill();
            if self.owed == 0 && self.backlog.is_empty() {
                self.held.leave(&self.ring);
                return;
            }
            let entered = self.ring.submitter().submit_and_wait(1);
            let understood = self.understood(entered);
            self.reap(&mut discarded);
            discarded.clear();
            if understood.is_err() {
                // The ring is beyond use (it belongs to another thread, say). Its memory must
                // then outlive us: the kernel may still write there.
                std::mem::forget(std::mem::take(&mut self.slab));
                std::mem::forget(std::mem::take(&mut self.wake_count));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
