//! A few threads that run what would block a shard: file operations of the poll backend, and
//! blocking calls of both. Threads start when there is work for them and stay.

use crate::mailbox::Mailbox;
use crate::sys::{self, error};
use crate::{BlockingCall, Buffer, Completion, File, OsPlatform, Outcome, Token};
use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a pool can do.
pub(crate) enum Job {
    Write { file: File, offset: u64, buffer: Buffer, durable: bool },
    Read { file: File, offset: u64, buffer: Buffer },
    Sync { file: File },
    Call(BlockingCall),
}

impl Job {
    pub(crate) fn file(&self) -> Option<&File> {
        match self {
            Self::Write { file, .. } | Self::Read { file, .. } | Self::Sync { file } => Some(file),
            Self::Call(_) => None,
        }
    }

    /// The job will not be done: ends it with `errno`.
    pub(crate) fn refuse(self, token: Token, errno: i32) -> Completion {
        let buffer = match self {
            Self::Write { buffer, .. } | Self::Read { buffer, .. } => Some(buffer),
            Self::Sync { .. } | Self::Call(_) => None,
        };
        Completion { token, result: Err(error(errno)), buffer }
    }

    pub(crate) fn run(self, token: Token) -> Completion {
        let (result, buffer) = match self {
            Self::Write { file, offset, buffer, durable } => {
                let result = file.0.os().and_then(|fd| sys::write_at(fd, offset, &buffer, durable));
                (result.map(Outcome::Bytes), Some(buffer))
            }
            Self::Read { file, offset, mut buffer } => {
                buffer.set_length(buffer.capacity());
                let result = file.0.os().and_then(|fd| sys::read_at(fd, offset, &mut buffer));
                buffer.set_length(*result.as_ref().unwrap_or(&0));
                (result.map(Outcome::Bytes), Some(buffer))
            }
            Self::Sync { file } => {
                (file.0.os().and_then(sys::sync_data).map(|()| Outcome::Done), None)
            }
            Self::Call(call) => (catch_panic(|| call(&OsPlatform)).map(Outcome::Reply), None),
        };
        Completion { token, result, buffer }
    }
}

/// Runs a blocking call; its panic becomes its error.
pub(crate) fn catch_panic<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic: Box<dyn Any + Send>| {
        let message = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Err(io::Error::other(format!("a blocking call panicked: {message}")))
    })
}

#[derive(Default)]
struct Queue {
    /// Bounded by the operations in flight, which the driver's user bounds.
    waiting: VecDeque<(Token, Job)>,
    threads: usize,
    idle: usize,
    /// File operations that the kernel is working on.
    in_kernel: usize,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    /// Signalled when `in_kernel` falls to zero.
    quiet: Condvar,
    /// Jobs whose completions are not posted yet. Only a guess depends on it: relaxed.
    unfinished: AtomicUsize,
    mailbox: Arc<Mailbox>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct BlockingPool {
    shared: Arc<Shared>,
    name: &'static str,
    threads_max: usize,
}

impl BlockingPool {
    /// A pool of at most `threads_max` threads that posts to `mailbox`.
    pub(crate) fn new(name: &'static str, threads_max: usize, mailbox: Arc<Mailbox>) -> Self {
        let shared = Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            quiet: Condvar::new(),
            unfinished: AtomicUsize::new(0),
            mailbox,
        };
        Self { shared: Arc::new(shared), name, threads_max: threads_max.max(1) }
    }

    /// Hands over a job; its completion is posted.
    pub(crate) fn submit(&self, token: Token, job: Job) {
        self.shared.unfinished.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.shared.lock();
        queue.waiting.push_back((token, job));
        let spawn = queue.waiting.len() > queue.idle && queue.threads < self.threads_max;
        if spawn {
            queue.threads += 1;
        }
        drop(queue);
        if spawn { self.spawn() } else { self.shared.work.notify_one() }
    }

    /// Whether every job handed over has ended.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.unfinished.load(Ordering::Relaxed) == 0
    }

    fn spawn(&self) {
        let shared = self.shared.clone();
        let thread =
            std::thread::Builder::new().name(self.name.to_owned()).spawn(move || work(&shared));
        if let Err(failure) = thread {
            let mut queue = self.shared.lock();
            queue.threads -= 1;
            // Without any thread the jobs would wait for ever.
            let stranded = if queue.threads == 0 {
                std::mem::take(&mut queue.waiting)
            } else {
                VecDeque::new()
            };
            drop(queue);
            let errno = failure.raw_os_error().unwrap_or(libc::EAGAIN);
            self.shared.unfinished.fetch_sub(stranded.len(), Ordering::Relaxed);
            for (token, job) in stranded {
                self.shared.mailbox.post(job.refuse(token, errno));
            }
        }
    }

    /// Ends the jobs with this token that no thread has taken yet.
    pub(crate) fn cancel(&self, token: Token, completions: &mut Vec<Completion>) {
        let mut queue = self.shared.lock();
        let (cancelled, kept) = std::mem::take(&mut queue.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(waiting, _)| *waiting == token);
        queue.waiting = kept;
        drop(queue);
        self.shared.unfinished.fetch_sub(cancelled.len(), Ordering::Relaxed);
        completions
            .extend(cancelled.into_iter().map(|(token, job)| job.refuse(token, libc::ECANCELED)));
    }
}

impl Drop for BlockingPool {
    /// Waits for file operations under way. A blocking call under way runs to its end unattended:
    /// it owns all that it uses, and might take long (a name server that does not answer).
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        let abandoned = std::mem::take(&mut queue.waiting);
        self.shared.work.notify_all();
        while queue.in_kernel > 0 {
            queue = self.shared.quiet.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        drop(queue);
        drop(abandoned);
        // The buffers of those that ended meanwhile: the threads keep the mailbox for a while.
        self.shared.mailbox.collect(&mut Vec::new());
    }
}

fn work(shared: &Shared) {
    let mut queue = shared.lock();
    loop {
        if let Some((token, job)) = queue.waiting.pop_front() {
            let file_operation = !matches!(job, Job::Call(_));
            queue.in_kernel += usize::from(file_operation);
            drop(queue);
            let completion = job.run(token);
            shared.unfinished.fetch_sub(1, Ordering::Relaxed);
            shared.mailbox.post(completion);
            queue = shared.lock();
            queue.in_kernel -= usize::from(file_operation);
            if queue.in_kernel == 0 {
                shared.quiet.notify_all();
            }
        } else if queue.closed {
            return;
        } else {
            queue.idle += 1;
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}
