//! [`TokioUringDriver`]: a driver whose thread runs the runtime while it is polled, and only then.

use super::file_task::FileOp;
use super::news::News;
use crate::blocking_pool::{BlockingPool, Job};
use crate::futex_waiters::FutexWaiters;
use crate::held::Held;
use crate::mailbox::Mailbox;
use crate::poll::{Sockets, earliest, submit_socket};
use crate::sys::error;
use crate::timers::Timers;
use crate::{
    Arena, Commit, Completion, Driver, DriverInfo, DriverOptions, File, Op, OsPlatform, Platform,
    Token, Wait, Waker,
};
use elgate_types::{Monotonic, WallTime};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker as TaskWaker};
use std::time::Duration;
use tokio_uring::Runtime;

/// A driver on tokio-uring. Belongs to the thread that made it.
pub struct TokioUringDriver {
    news: News,
    sockets: Sockets,
    tasks: Rc<Tasks>,
    /// File operations that have not begun.
    waiting: VecDeque<(Token, FileOp)>,
    /// File operations that have.
    running: usize,
    running_max: usize,
    timers: Timers,
    calls: BlockingPool,
    futexes: FutexWaiters,
    mailbox: Arc<Mailbox>,
    ended: Vec<Completion>,
    in_flight: usize,
    arena: Arena,
    held: Held,
    runtime: Runtime,
}

/// What the tasks leave for the driver.
#[derive(Default)]
struct Tasks {
    ended: RefCell<Vec<Completion>>,
    /// Whether a task waits for news, and whether one has had some.
    watching: Cell<bool>,
    has_news: Cell<bool>,
    /// The driver's, while it waits.
    waker: Cell<Option<TaskWaker>>,
}

impl Tasks {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl TokioUringDriver {
    /// A driver for the calling thread.
    ///
    /// # Errors
    /// The kernel's, from making the ring or the epoll sets.
    pub fn new(options: &DriverOptions) -> io::Result<Self> {
        let entries = options.ring_entries.max(32);
        let mut setup = tokio_uring::uring_builder();
        // Its runtime does not survive an overflow of the completion queue.
        setup.setup_cqsize(entries * 4);
        let mut builder = tokio_uring::builder();
        builder.entries(entries).uring_builder(&setup);
        let runtime = Runtime::new(&builder)?;
        let mailbox = Mailbox::new()?;
        let sockets = Sockets::new(mailbox.event())?;
        let news = News::new(sockets.epoll())?;
        let arena = match options.arena_bytes {
            0 => Arena::heap(),
            bytes => Arena::map(bytes, options.huge_pages).unwrap_or_default(),
        };
        Ok(Self {
            news,
            sockets,
            tasks: Rc::default(),
            waiting: VecDeque::new(),
            running: 0,
            // A durable write is two submissions, one after the other.
            running_max: entries as usize,
            timers: Timers::default(),
            calls: BlockingPool::new("elgate-call", options.blocking_threads, mailbox.clone()),
            futexes: FutexWaiters::new(mailbox.clone()),
            mailbox,
            ended: Vec::new(),
            in_flight: 0,
            arena,
            held: Held::default(),
            runtime,
        })
    }

    fn file_op(&mut self, token: Token, op: FileOp, checked: io::Result<()>) {
        match checked {
            Ok(()) => self.waiting.push_back((token, op)),
            Err(failure) => {
                let buffer = op.into_buffer();
                self.ended.push(Completion { token, result: Err(failure), buffer });
            }
        }
    }

    /// Everything that has ended without the runtime being asked.
    fn collect(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.ended);
        let mut ended = self.tasks.ended.borrow_mut();
        self.running -= ended.len();
        completions.append(&mut ended);
        drop(ended);
        self.mailbox.collect(completions);
        if !self.timers.is_empty() {
            self.timers.expire(crate::clock::monotonic(), completions);
        }
    }

    /// Looks after the sockets without waiting.
    fn look(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        if self.sockets.wait(Some(Duration::ZERO), completions)? {
            self.mailbox.clear_event();
        }
        Ok(())
    }

    /// Lets the runtime begin what waits and get on with what has begun, until a task ends, the
    /// sockets or the mailbox have news, or the time is up.
    fn run(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.news.set_timer(limit)?;
        let begin = self.running_max.saturating_sub(self.running).min(self.waiting.len());
        self.running += begin;
        let begun = self.waiting.drain(..begin);
        let Self { runtime, tasks, news, .. } = self;
        runtime.block_on(async {
            if !tasks.watching.replace(true) {
                let (tasks, wait) = (tasks.clone(), news.wait());
                tokio_uring::spawn(async move {
                    wait.await;
                    tasks.watching.set(false);
                    tasks.has_news.set(true);
                    tasks.wake();
                });
            }
            for (token, op) in begun {
                let tasks = tasks.clone();
                tokio_uring::spawn(async move {
                    let completion = op.run(token).await;
                    tasks.ended.borrow_mut().push(completion);
                    tasks.wake();
                });
            }
            poll_fn(|context| {
                if tasks.has_news.take() || !tasks.ended.borrow().is_empty() {
                    return Poll::Ready(());
                }
                tasks.waker.set(Some(context.waker().clone()));
                Poll::Pending
            })
            .await;
        });
        Ok(())
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = completions.len();
        self.look(completions)?;
        self.collect(completions);
        if completions.len() > before || wait == Wait::Never {
            if self.running > 0 || !self.waiting.is_empty() {
                // The runtime submits when it goes to sleep, so it is made to, and woken at once.
                self.mailbox.ring();
                self.run(None)?;
                self.look(completions)?;
                self.collect(completions);
            }
            return Ok(());
        }
        loop {
            let deadline = earliest(wait, self.timers.next_deadline());
            let limit = deadline.map(|deadline| deadline.since(crate::clock::monotonic()));
            if !self.mailbox.prepare_sleep() {
                self.collect(completions);
                return Ok(());
            }
            let ran = self.run(limit);
            let woken = self.mailbox.awake();
            ran?;
            self.look(completions)?;
            self.collect(completions);
            let expired = matches!(wait, Wait::Until(time) if time <= crate::clock::monotonic());
            if woken || expired || completions.len() > before {
                return Ok(());
            }
        }
    }
}

impl Driver for TokioUringDriver {
    fn submit(&mut self, token: Token, op: Op) {
        self.in_flight += 1;
        match op {
            Op::Write { file, offset, buffer, durable } => {
                let checked = file.check_alignment(offset, buffer.len());
                self.file_op(token, FileOp::Write { file, offset, buffer, durable }, checked);
            }
            Op::Read { file, offset, buffer } => {
                let checked = file.check_alignment(offset, buffer.capacity());
                self.file_op(token, FileOp::Read { file, offset, buffer }, checked);
            }
            Op::Sync { file } => self.file_op(token, FileOp::Sync { file }, Ok(())),
            Op::Timer { deadline } => self.timers.add(token, deadline),
            Op::FutexWait { word, expected } => self.futexes.wait(token, word, expected),
            Op::Blocking(call) => self.calls.submit(token, Job::Call(call)),
            op => submit_socket(&mut self.sockets, token, op, &mut self.ended),
        }
    }

    fn cancel(&mut self, token: Token) {
        self.timers.cancel(token, &mut self.ended);
        self.sockets.cancel(token, &mut self.ended);
        self.calls.cancel(token, &mut self.ended);
        self.futexes.cancel(token);
        for index in (0..self.waiting.len()).rev() {
            if self.waiting[index].0 == token
                && let Some((token, op)) = self.waiting.remove(index)
            {
                let (result, buffer) = (Err(error(libc::ECANCELED)), op.into_buffer());
                self.ended.push(Completion { token, result, buffer });
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
        self.arena.clone()
    }

    fn commits(&self) -> Vec<Commit> {
        vec![Commit::Link]
    }

    fn set_commit(&mut self, _commit: Commit) {}

    /// The runtime's ring cannot be given files: a write can outlive the process and the lock.
    fn hold(&mut self, file: &File) {
        self.held.hold(file);
    }

    fn release(&mut self, file: &File) {
        self.held.release(file);
    }

    fn info(&self) -> DriverInfo {
        let mut facts =
            vec![("commit", Commit::Link.name().to_owned()), ("sockets", "epoll".to_owned())];
        facts.push(("locks_held_by", "process: the runtime's ring takes no files".to_owned()));
        facts.extend(self.arena.facts());
        DriverInfo { backend: "tokio-uring", facts }
    }
}

impl Drop for TokioUringDriver {
    /// Waits for what the kernel works on: what has begun cannot be taken back.
    fn drop(&mut self) {
        self.waiting.clear();
        let mut discarded = Vec::new();
        while self.running > 0 || self.tasks.watching.get() {
            // Also ends the watch.
            self.mailbox.ring();
            if self.run(None).and_then(|()| self.look(&mut discarded)).is_err() {
                return; // The runtime keeps what its operations own until their results are in.
            }
            self.collect(&mut discarded);
            discarded.clear();
        }
    }
}
