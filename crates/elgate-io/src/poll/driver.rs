//! [`PollDriver`]: one shard's driver without io_uring.

use super::sockets::{Sockets, submit_socket};
use crate::blocking_pool::{BlockingPool, Job};
use crate::file_jobs::FileJobs;
use crate::futex_waiters::FutexWaiters;
use crate::held::Held;
use crate::mailbox::Mailbox;
use crate::timers::Timers;
use crate::{
    Arena, Commit, Completion, Driver, DriverInfo, DriverOptions, File, Op, OsPlatform, Platform,
    Token, Wait, Waker,
};
use elgate_types::{Monotonic, WallTime};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A driver on epoll and threads.
pub struct PollDriver {
    sockets: Sockets,
    timers: Timers,
    files: FileJobs,
    calls: BlockingPool,
    futexes: FutexWaiters,
    mailbox: Arc<Mailbox>,
    /// Operations that ended while they were submitted or cancelled.
    ready: Vec<Completion>,
    in_flight: usize,
    arena: Arena,
    held: Held,
    facts: Vec<(&'static str, String)>,
}

impl PollDriver {
    /// A driver.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn new(options: &DriverOptions) -> io::Result<Self> {
        let mailbox = Mailbox::new()?;
        let files = FileJobs::new(options.file_threads, mailbox.clone());
        let calls = BlockingPool::new("elgate-call", options.blocking_threads, mailbox.clone());
        Ok(Self {
            sockets: Sockets::new(mailbox.event())?,
            timers: Timers::default(),
            files,
            calls,
            futexes: FutexWaiters::new(mailbox.clone()),
            mailbox,
            ready: Vec::new(),
            in_flight: 0,
            arena: arena(options),
            held: Held::default(),
            facts: Vec::new(),
        })
    }

    /// Adds a fact to what [`Driver::info`] says.
    pub(crate) fn add_fact(&mut self, name: &'static str, value: String) {
        self.facts.push((name, value));
    }

    fn end(&mut self, token: Token, failure: io::Error, buffer: Option<crate::Buffer>) {
        self.ready.push(Completion { token, result: Err(failure), buffer });
    }

    /// Everything that has ended without the kernel being asked.
    fn collect(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.ready);
        self.mailbox.collect(completions);
        if !self.timers.is_empty() {
            self.timers.expire(crate::clock::monotonic(), completions);
        }
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = completions.len();
        self.collect(completions);
        if completions.len() == before && self.sockets.is_idle() {
            self.files.run_held(completions);
        } else {
            self.files.hand_over();
        }
        if completions.len() > before || wait == Wait::Never {
            if !self.sockets.is_idle() && self.sockets.wait(Some(Duration::ZERO), completions)? {
                self.mailbox.clear_event();
            }
            return Ok(());
        }
        loop {
            let deadline = earliest(wait, self.timers.next_deadline());
            let timeout = deadline.map(|deadline| deadline.since(crate::clock::monotonic()));
            if !self.mailbox.prepare_sleep() {
                self.collect(completions);
                return Ok(());
            }
            let waited = self.sockets.wait(timeout, completions);
            let woken = self.mailbox.awake();
            if waited? {
                self.mailbox.clear_event();
            }
            self.collect(completions);
            let expired = matches!(wait, Wait::Until(time) if time <= crate::clock::monotonic());
            if woken || expired || completions.len() > before {
                return Ok(());
            }
        }
    }
}

/// Aligned memory; without it, the heap's will do.
fn arena(options: &DriverOptions) -> Arena {
    match options.arena_bytes {
        0 => Arena::heap(),
        bytes => Arena::map(bytes, options.huge_pages).unwrap_or_default(),
    }
}

/// The earlier of what was asked for and the next timer.
pub(crate) fn earliest(wait: Wait, timer: Option<Monotonic>) -> Option<Monotonic> {
    match (wait, timer) {
        (Wait::Until(time), Some(timer)) => Some(time.min(timer)),
        (Wait::Until(time), None) => Some(time),
        (_, timer) => timer,
    }
}

impl Driver for PollDriver {
    fn submit(&mut self, token: Token, op: Op) {
        self.in_flight += 1;
        match op {
            Op::Write { file, offset, buffer, durable } => {
                match file.check_alignment(offset, buffer.len()) {
                    Ok(()) => {
                        self.files.submit(token, Job::Write { file, offset, buffer, durable });
                    }
                    Err(failure) => self.end(token, failure, Some(buffer)),
                }
            }
            Op::Read { file, offset, buffer } => {
                match file.check_alignment(offset, buffer.capacity()) {
                    Ok(()) => self.files.submit(token, Job::Read { file, offset, buffer }),
                    Err(failure) => self.end(token, failure, Some(buffer)),
                }
            }
            Op::Sync { file } => self.files.submit(token, Job::Sync { file }),
            Op::Timer { deadline } => self.timers.add(token, deadline),
            Op::FutexWait { word, expected } => self.futexes.wait(token, word, expected),
            Op::Blocking(call) => self.calls.submit(token, Job::Call(call)),
            op => submit_socket(&mut self.sockets, token, op, &mut self.ready),
        }
    }

    fn cancel(&mut self, token: Token) {
        self.timers.cancel(token, &mut self.ready);
        self.sockets.cancel(token, &mut self.ready);
        self.files.cancel(token, &mut self.ready);
        self.calls.cancel(token, &mut self.ready);
        self.futexes.cancel(token);
    }

    fn poll(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = completions.len();
        let result = self.turn(wait, completions);
        self.in_flight -= completions.len() - before;
        result
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn waker(&self) -> Waker {
        self.mailbox.waker()
    }

    fn now(&self) -> Monotonic {
        crate::clock::monotonic()
    }

    fn wall_time(&self) -> WallTime {
        crate::clock::wall()
    }

    fn platform(&self) -> Arc<dyn Platform> {
        Arc::new(OsPlatform)
    }

    fn arena(&self) -> Arena {
        self.arena.clone()
    }

    fn commits(&self) -> Vec<Commit> {
        vec![Commit::Blocking]
    }

    fn set_commit(&mut self, _commit: Commit) {}

    fn hold(&mut self, file: &File) {
        self.held.hold(file);
    }

    fn release(&mut self, file: &File) {
        self.held.release(file);
    }

    fn info(&self) -> DriverInfo {
        let mut facts = self.facts.clone();
        let timeouts = if self.sockets.has_coarse_timeouts() { "1 ms" } else { "1 ns" };
        facts.push(("timeout_resolution", timeouts.to_owned()));
        facts.push(("commit", Commit::Blocking.name().to_owned()));
        facts.push(("locks_held_by", "threads".to_owned()));
        facts.extend(self.arena.facts());
        DriverInfo { backend: "poll", facts }
    }
}
