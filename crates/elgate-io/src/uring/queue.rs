//! The way of operations into the ring and of results out of it: the submission queue with its
//! backlog, the completion queue, and the waiting in between.

use super::driver::UringDriver;
use super::kernel::Kernel;
use super::slab::{InFlight, Key};
use crate::poll::earliest;
use crate::sys::{error, set_nonblocking};
use crate::{Completion, Token, Wait};
use elgate_types::Monotonic;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{opcode, squeue};
use std::io;

/// What results carry that belong to no operation.
const WAKE: u64 = u64::MAX;
const CANCEL: u64 = u64::MAX - 1;

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
        let key = self.slab.insert(InFlight { token, kernel, cancelled: false, queued: true });
        self.enqueue(Queued::Start(key));
    }

    pub(super) fn enqueue(&mut self, queued: Queued) {
        self.backlog.push_back(queued);
        self.fill();
    }

    /// Moves the backlog into the submission queue, as far as there is room.
    fn fill(&mut self) {
        while let Some(next) = self.backlog.front() {
            let entry = match next {
                Queued::Cancel(key) => {
                    Some(opcode::AsyncCancel::new(*key).build().user_data(CANCEL))
                }
                // Nobody: it was cancelled before it began.
                Queued::Start(key) => self
                    .slab
                    .get(*key)
                    .map(|found| found.kernel.entry(&self.registered).user_data(*key)),
            };
            if let Some(entry) = entry {
                if !self.push(&entry) {
                    return;
                }
                if let Some(Queued::Start(key)) = self.backlog.front()
                    && let Some(found) = self.slab.get(*key)
                {
                    found.queued = false;
                }
            }
            self.backlog.pop_front();
        }
    }

    /// Puts an entry into the submission queue. `false`: it is full.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what the entry points to belongs to the slab (or to `wake_count`), and stays
        // there until the result is in; `Drop` waits for it.
        let pushed = unsafe { self.ring.submission().push(entry).is_ok() };
        self.owed += usize::from(pushed);
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
                key => self.finish(key, result.result(), completions),
            }
        }
    }

    pub(super) fn finish(&mut self, key: Key, result: i32, completions: &mut Vec<Completion>) {
        let Some(InFlight { token, kernel, cancelled, .. }) = self.slab.remove(key) else {
            debug_assert!(false, "a result for an operation that is not in flight");
            return;
        };
        let futex = matches!(kernel, Kernel::FutexWait { .. });
        let completion = match -result {
            // The word did not hold the value: the wait is over before it began.
            libc::EAGAIN if futex => {
                Completion { token, result: Ok(crate::Outcome::Done), buffer: None }
            }
            // A signal, or a cancellation that met the operation at work.
            libc::EINTR if !cancelled => return self.start(token, kernel),
            // Older kernels take a socket's O_NONBLOCK for theirs.
            libc::EAGAIN if kernel.is_socket() && !cancelled => {
                let blocking = kernel.descriptor().and_then(|fd| set_nonblocking(fd, false));
                match blocking {
                    Ok(()) => return self.start(token, kernel),
                    Err(failure) => {
                        Completion { token, result: Err(failure), buffer: kernel.into_buffer() }
                    }
                }
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
            self.reap(completions);
            if !self.understood(entered)? || self.backlog.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sorts the errors of entering the kernel. `false`: it is short of something for the moment;
    /// what was not taken stays queued for the next turn.
    pub(super) fn understood(&self, entered: io::Result<usize>) -> io::Result<bool> {
        let Err(failure) = entered else { return Ok(true) };
        match failure.raw_os_error() {
            Some(libc::ETIME | libc::EINTR) => Ok(true),
            Some(libc::EBUSY | libc::EAGAIN) => Ok(false),
            _ => Err(failure),
        }
    }

    fn arm_wake(&mut self) -> bool {
        if !self.wake_armed {
            let count = (&raw mut *self.wake_count).cast();
            let read = opcode::Read::new(Fd(self.mailbox.event()), count, 8);
            self.wake_armed = self.push(&read.build().user_data(WAKE));
        }
        self.wake_armed
    }

    pub(super) fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = completions.len();
        self.collect(completions);
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
            let mut woken = self.mailbox.awake();
            woken |= self.collect(completions);
            let settled = self.understood(entered)?;
            let expired = matches!(wait, Wait::Until(time) if time <= crate::clock::monotonic());
            if woken || expired || !settled {
                return Ok(());
            }
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
                return;
            }
            let entered = self.ring.submitter().submit_and_wait(1);
            self.reap(&mut discarded);
            discarded.clear();
            if self.understood(entered).is_err() {
                // The ring is beyond use (it belongs to another thread, say). Its memory must
                // then outlive us: the kernel may still write there.
                std::mem::forget(std::mem::take(&mut self.slab));
                std::mem::forget(std::mem::take(&mut self.wake_count));
                return;
            }
        }
    }
}
