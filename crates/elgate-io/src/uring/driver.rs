//! [`UringDriver`]: submitting without system calls, entering the kernel once per turn.

use super::held::HeldFiles;
use super::kernel::Kernel;
use super::queue::Queued;
use super::registered::RegisteredArena;
use super::ring::{self, Ring, Sqpoll};
use super::slab::Slab;
use crate::blocking_pool::{BlockingPool, Job};
use crate::file_jobs::FileJobs;
use crate::futex_waiters::FutexWaiters;
use crate::mailbox::Mailbox;
use crate::sys::{RawAddress, error, stream_socket};
use crate::timers::Timers;
use crate::{
    Arena, Buffer, Commit, Completion, Driver, DriverInfo, DriverOptions, DriverStatistics, File,
    Op, OsPlatform, Platform, Token, Wait, Waker,
};
use elgate_types::{Monotonic, WallTime};
use io_uring::IoUring;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// A driver on io_uring. Belongs to the thread that made it.
pub struct UringDriver {
    pub(super) ring: IoUring,
    pub(super) registered: RegisteredArena,
    pub(super) slab: Slab,
    /// In order of submission; empty unless the submission queue is full.
    pub(super) backlog: VecDeque<Queued>,
    /// Results the kernel still owes us, those of cancellations and of the wake-up included.
    pub(super) owed: usize,
    /// Whether the ring waits for the mailbox's event.
    pub(super) wake_armed: bool,
    /// Where the kernel puts the event's count.
    pub(super) wake_count: Box<u64>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) timers: Timers,
    pub(super) calls: BlockingPool,
    /// Durable writes that do not go through the ring.
    pub(super) files: FileJobs,
    pub(super) commit: Commit,
    /// Whether this kernel takes `RWF_DSYNC`. Once refused, always refused.
    pub(super) has_dsync: bool,
    /// For kernels whose ring cannot wait for futexes.
    pub(super) futexes: Option<FutexWaiters>,
    /// Operations that ended while they were submitted or cancelled.
    pub(super) ready: Vec<Completion>,
    pub(super) in_flight: usize,
    pub(super) flags: &'static str,
    pub(super) sqpoll: Sqpoll,
    pub(super) statistics: DriverStatistics,
    /// The last to be dropped: after the threads.
    pub(super) held: HeldFiles,
}

impl UringDriver {
    /// A driver for the calling thread.
    ///
    /// # Errors
    /// The kernel's, from making the ring or from the operations tried on it: `ENOSYS` (no
    /// io_uring, or an old one), `EPERM` (forbidden by a sandbox or by `kernel.io_uring_disabled`),
    /// `ENOMEM` (RLIMIT_MEMLOCK).
    pub fn new(options: &DriverOptions) -> io::Result<Self> {
        let mailbox = Mailbox::new()?;
        let Ring { ring, flags, native_futex, sqpoll } = ring::open(options, &mailbox)?;
        let mut driver = Self {
            registered: RegisteredArena::new(&ring, options),
            held: HeldFiles::new(&ring),
            ring,
            slab: Slab::default(),
            backlog: VecDeque::new(),
            owed: 0,
            wake_armed: false,
            wake_count: Box::new(0),
            timers: Timers::default(),
            files: FileJobs::new(options.file_threads, mailbox.clone()),
            commit: options.commit,
            has_dsync: true,
            calls: BlockingPool::new("elgate-call", options.blocking_threads, mailbox.clone()),
            futexes: (!native_futex).then(|| FutexWaiters::new(mailbox.clone())),
            mailbox,
            ready: Vec::new(),
            in_flight: 0,
            flags,
            sqpoll,
            statistics: DriverStatistics::default(),
        };
        driver.set_commit(options.commit);
        Ok(driver)
    }

    pub(super) fn polls_submissions(&self) -> bool {
        matches!(self.sqpoll, Sqpoll::On)
    }

    /// Begins a write in the way that durable ones are carried out.
    pub(super) fn write(
        &mut self,
        token: Token,
        file: File,
        offset: u64,
        buffer: Buffer,
        durable: bool,
    ) {
        if durable && self.commit == Commit::Blocking {
            self.files.submit(token, Job::Write { file, offset, buffer, durable });
        } else {
            self.start(token, Kernel::Write { file, offset, buffer, durable });
        }
    }

    pub(super) fn end(&mut self, token: Token, failure: io::Error, buffer: Option<Buffer>) {
        self.ready.push(Completion { token, result: Err(failure), buffer });
    }
}

impl Driver for UringDriver {
    fn submit(&mut self, token: Token, op: Op) {
        self.in_flight += 1;
        match op {
            Op::Write { file, offset, buffer, durable } => {
                match file.check_alignment(offset, buffer.len()) {
                    Ok(()) => self.write(token, file, offset, buffer, durable),
                    Err(failure) => self.end(token, failure, Some(buffer)),
                }
            }
            Op::Read { file, offset, buffer } => {
                match file.check_alignment(offset, buffer.capacity()) {
                    Ok(()) => self.start(token, Kernel::Read { file, offset, buffer }),
                    Err(failure) => self.end(token, failure, Some(buffer)),
                }
            }
            Op::Sync { file } => self.start(token, Kernel::Sync { file }),
            Op::Connect { address } => match stream_socket(&address, 0) {
                Ok(socket) => {
                    let address = RawAddress::of(&address);
                    self.start(token, Kernel::Connect { socket: socket.into(), address });
                }
                Err(failure) => self.end(token, failure, None),
            },
            Op::Accept { listener } => {
                self.start(token, Kernel::Accept { listener, from: RawAddress::empty() });
            }
            Op::Send { socket, buffer, offset } if offset <= buffer.len() => {
                self.start(token, Kernel::Send { socket, buffer, offset });
            }
            Op::Send { buffer, .. } => self.end(token, error(libc::EINVAL), Some(buffer)),
            Op::Receive { socket, buffer } => {
                self.start(token, Kernel::Receive { socket, buffer });
            }
            Op::Timer { deadline } => self.timers.add(token, deadline),
            Op::FutexWait { word, expected } => match &self.futexes {
                Some(futexes) => futexes.wait(token, word, expected),
                None => self.start(token, Kernel::FutexWait { word, expected }),
            },
            Op::Blocking(call) => self.calls.submit(token, Job::Call(call)),
        }
    }

    fn cancel(&mut self, token: Token) {
        self.timers.cancel(token, &mut self.ready);
        self.calls.cancel(token, &mut self.ready);
        self.files.cancel(token, &mut self.ready);
        if let Some(futexes) = &self.futexes {
            futexes.cancel(token);
        }
        for key in self.slab.keys(|found| found.token == token) {
            let Some(found) = self.slab.get(key) else { continue };
            if found.queued {
                // Its place in the backlog finds nobody.
                if let Some(found) = self.slab.remove(key) {
                    let buffer = found.kernel.into_buffer();
                    self.end(token, error(libc::ECANCELED), buffer);
                }
            } else if !found.cancelled {
                found.cancelled = true;
                self.enqueue(Queued::Cancel(key));
            }
        }
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
        self.registered.arena.clone()
    }

    fn statistics(&self) -> DriverStatistics {
        self.statistics
    }

    fn commits(&self) -> Vec<Commit> {
        let dsync = self.has_dsync.then_some(Commit::Dsync);
        // Whether the kernel's thread has taken a chain in one piece cannot be known.
        let link = (!self.polls_submissions()).then_some(Commit::Link);
        dsync.into_iter().chain(link).chain([Commit::Blocking]).collect()
    }

    fn set_commit(&mut self, commit: Commit) {
        let commits = self.commits();
        self.commit = if commits.contains(&commit) { commit } else { commits[0] };
    }

    fn hold(&mut self, file: &File) {
        self.held.hold(&self.ring, file);
    }

    fn release(&mut self, file: &File) {
        self.held.release(&self.ring, file);
    }

    fn info(&self) -> DriverInfo {
        let futex = if self.futexes.is_some() { "thread" } else { "ring" };
        let parameters = self.ring.params();
        let sqpoll = match &self.sqpoll {
            Sqpoll::Off => "off".to_owned(),
            Sqpoll::On => "on".to_owned(),
            Sqpoll::Refused(error) => format!("refused: {error}"),
        };
        let mut facts = vec![
            ("sqpoll", sqpoll),
            ("setup_flags", self.flags.to_owned()),
            ("submission_entries", parameters.sq_entries().to_string()),
            ("completion_entries", parameters.cq_entries().to_string()),
            ("futex_wait", futex.to_owned()),
            ("commit", self.commit.name().to_owned()),
            self.held.fact(),
        ];
        facts.extend(self.registered.facts());
        DriverInfo { backend: "uring", facts }
    }
}
