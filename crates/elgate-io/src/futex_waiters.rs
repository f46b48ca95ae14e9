//! Futex waits for a driver whose kernel cannot wait for futexes in the ring: one thread each,
//! kept and reused.
//!
//! A thread waits for two words at once (`futex_waitv`): the one it was asked for, and its own
//! control word, through which it is told to give up. Where that call is missing or forbidden
//! (before Linux 5.16, some sandboxes) it waits for the first word in slices and looks at the
//! control word in between.

use crate::futex::{self, FutexWait};
use crate::mailbox::Mailbox;
use crate::sys::{error, last_errno};
use crate::{Completion, FutexWord, Outcome, Token};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// More waits at once end with `EAGAIN`.
const WAITERS_MAX: usize = 64;
/// How long a cancelled wait may go unnoticed without `futex_waitv`.
const SLICE: Duration = Duration::from_millis(20);
/// `FUTEX2_SIZE_U32`, shared between processes.
const FUTEX2_SHARED_U32: u32 = 0x02;

const GO_ON: u32 = 0;
const GIVE_UP: u32 = 1;

struct Request {
    token: Token,
    word: FutexWord,
    expected: u32,
    control: Arc<AtomicU32>,
    /// The way to give the same thread its next request. Travels with the request, so that a
    /// thread's channel closes with the list of idle threads.
    thread: SyncSender<Request>,
}

#[derive(Default)]
struct State {
    active: Vec<(Token, Arc<AtomicU32>)>,
    idle: Vec<SyncSender<Request>>,
}

pub(crate) struct FutexWaiters {
    state: Arc<Mutex<State>>,
    mailbox: Arc<Mailbox>,
}

impl FutexWaiters {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { state: Arc::default(), mailbox }
    }

    /// Begins a wait; its completion is posted.
    pub(crate) fn wait(&self, token: Token, word: FutexWord, expected: u32) {
        let control = Arc::new(AtomicU32::new(GO_ON));
        let mut state = lock(&self.state);
        if state.active.len() >= WAITERS_MAX {
            drop(state);
            self.refuse(token, libc::EAGAIN);
            return;
        }
        state.active.push((token, control.clone()));
        let idle = state.idle.pop();
        drop(state);
        let request = |thread| Request { token, word, expected, control: control.clone(), thread };
        let started = match idle {
            Some(thread) => thread
                .send(request(thread.clone()))
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe)),
            None => self.spawn(request),
        };
        if let Err(failure) = started {
            forget(&self.state, &control);
            self.refuse(token, failure.raw_os_error().unwrap_or(libc::EAGAIN));
        }
    }

    /// Ends the waits with this token early.
    pub(crate) fn cancel(&self, token: Token) {
        for (active, control) in &lock(&self.state).active {
            if *active == token {
                give_up(control);
            }
        }
    }

    fn refuse(&self, token: Token, errno: i32) {
        self.mailbox.post(Completion { token, result: Err(error(errno)), buffer: None });
    }

    fn spawn(&self, request: impl FnOnce(SyncSender<Request>) -> Request) -> io::Result<()> {
        let (sender, receiver) = sync_channel(1);
        let first = request(sender);
        let (state, mailbox) = (Arc::downgrade(&self.state), self.mailbox.clone());
        let body = move || {
            let mut next = Ok(first);
            while let Ok(request) = next {
                let result = wait(&request.word, request.expected, &request.control, true);
                let Request { token, word, control, thread, .. } = request;
                // What the word lies in may go as soon as the wait is reported over.
                drop(word);
                let Some(state) = state.upgrade() else { return };
                forget(&state, &control);
                lock(&state).idle.push(thread);
                drop(state);
                mailbox.post(Completion { token, result, buffer: None });
                next = receiver.recv();
            }
        };
        std::thread::Builder::new().name("elgate-futex".to_owned()).spawn(body).map(drop)
    }
}

impl Drop for FutexWaiters {
    /// Tells every thread to end; does not wait for it (it owns what it waits for).
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.idle.clear();
        state.active.iter().for_each(|(_, control)| give_up(control));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forget(state: &Mutex<State>, control: &Arc<AtomicU32>) {
    lock(state).active.retain(|(_, active)| !Arc::ptr_eq(active, control));
}

fn give_up(control: &AtomicU32) {
    control.store(GIVE_UP, Ordering::Release); // pairs with the load in `wait`
    futex::wake(control, 1);
}

/// Waits for the word until it is woken or `control` says to give up. `vectored`: with
/// `futex_waitv`, if the kernel lets us.
fn wait(
    word: &FutexWord,
    expected: u32,
    control: &AtomicU32,
    mut vectored: bool,
) -> io::Result<Outcome> {
    let word = word.get();
    loop {
        if control.load(Ordering::Acquire) == GIVE_UP {
            return Err(error(libc::ECANCELED));
        }
        if vectored {
            match wait_either(word, expected, control) {
                Ok(Ended::Word) => return Ok(Outcome::Done),
                Ok(Ended::Other) => {}
                Err(()) => vectored = false,
            }
        } else {
            match futex::wait(word, expected, Some(SLICE)) {
                FutexWait::Woken | FutexWait::Mismatch => return Ok(Outcome::Done),
                FutexWait::TimedOut | FutexWait::Interrupted => {}
            }
        }
    }
}

/// The kernel's `struct futex_waitv`.
///
/// ```text
/// 0x00  value u64 │ address u64
/// 0x10  flags u32 │ reserved u32, zero
/// ```
#[repr(C)]
struct WaitEntry {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<WaitEntry>() == 24);

enum Ended {
    Word,
    Other,
}

/// Waits for `word` and `control` at once. An error means that the kernel will not.
fn wait_either(word: &AtomicU32, expected: u32, control: &AtomicU32) -> Result<Ended, ()> {
    let entry = |word: &AtomicU32, expected: u32| WaitEntry {
        value: u64::from(expected),
        address: word.as_ptr() as u64,
        flags: FUTEX2_SHARED_U32,
        reserved: 0,
    };
    let waits = [entry(word, expected), entry(control, GO_ON)];
    let no_timeout = std::ptr::null::<libc::timespec>();
    // SAFETY: two entries that name live words; the kernel only reads them.
    let woken = unsafe {
        libc::syscall(libc::SYS_futex_waitv, waits.as_ptr(), waits.len(), 0, no_timeout, 0)
    };
    match woken {
        0 => Ok(Ended::Word),
        1 => Ok(Ended::Other),
        _ => match last_errno() {
            // One of the two does not hold what was expected: which one shows on the next look.
            libc::EAGAIN if word.load(Ordering::Acquire) != expected => Ok(Ended::Word),
            libc::EAGAIN | libc::EINTR => Ok(Ended::Other),
            _ => Err(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(value: u32) -> (Arc<AtomicU32>, FutexWord) {
        let word = Arc::new(AtomicU32::new(value));
        // SAFETY: the word is the content of the owner.
        let named = unsafe { FutexWord::new(Arc::as_ptr(&word), word.clone()) };
        (word, named)
    }

    #[test]
    fn both_ways_of_waiting_see_mismatch_change_and_giving_up() {
        for vectored in [true, false] {
            let (owner, named) = word(1);
            let control = Arc::new(AtomicU32::new(GO_ON));
            assert!(wait(&named, 2, &control, vectored).is_ok());

            let change = std::thread::spawn({
                let owner = owner.clone();
                move || {
                    owner.store(2, Ordering::Release); // pairs with the kernel's compare
                    futex::wake(&owner, 1);
                }
            });
            assert!(wait(&named, 1, &control, vectored).is_ok());
            change.join().expect("the other thread ends");

            let stop = std::thread::spawn({
                let control = control.clone();
                move || give_up(&control)
            });
            let error = wait(&named, 2, &control, vectored).expect_err("given up");
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
            stop.join().expect("the other thread ends");
        }
    }

    #[test]
    fn waits_beyond_the_bound_are_refused_and_the_rest_end() {
        let mailbox = Mailbox::new().expect("eventfd");
        let waiters = FutexWaiters::new(mailbox.clone());
        let (_owner, named) = word(1);
        for token in 0..=WAITERS_MAX as u64 {
            waiters.wait(token, named.clone(), 1);
        }
        let mut completions = Vec::new();
        mailbox.collect(&mut completions);
        assert_eq!(completions.len(), 1);
        assert_eq!(completions[0].token, WAITERS_MAX as u64);
        for token in 0..WAITERS_MAX as u64 {
            waiters.cancel(token);
        }
        while completions.len() <= WAITERS_MAX {
            std::thread::yield_now();
            mailbox.collect(&mut completions);
        }
        // Their threads serve again.
        waiters.wait(99, named, 2);
        while completions.len() <= WAITERS_MAX + 1 {
            std::thread::yield_now();
            mailbox.collect(&mut completions);
        }
        assert!(completions.last().is_some_and(|last| last.token == 99 && last.result.is_ok()));
    }
}
