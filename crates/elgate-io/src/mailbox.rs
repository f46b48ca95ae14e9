//! How other threads hand a driver completions, and how they interrupt its sleep.
//!
//! ```text
//!              poll: about to wait          poll: awake again
//!   RUNNING ─────────────────────► SLEEPING ─────────────────► RUNNING
//!      │ wake                         │ wake: write the eventfd    ▲
//!      └────────► NOTIFIED ◄──────────┘                            │
//!                    └─── poll: about to wait, so does not wait ───┘
//! ```
//!
//! A wake costs a system call only when somebody sleeps, and none is lost: it either finds the
//! sleeper, or leaves NOTIFIED for the next one who is about to sleep.

use crate::sys::{check, own};
use crate::{Completion, Waker};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const RUNNING: u32 = 0;
const SLEEPING: u32 = 1;
const NOTIFIED: u32 = 2;

pub(crate) struct Mailbox {
    state: AtomicU32,
    event: OwnedFd,
    /// Whether `posted` holds anything; spares the owner the lock.
    has_posted: AtomicBool,
    /// Bounded by the operations in flight: each posts once.
    posted: Mutex<Vec<Completion>>,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        // SAFETY: takes and returns plain integers.
        let event = own(check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?);
        Ok(Arc::new(Self {
            state: AtomicU32::new(RUNNING),
            event,
            has_posted: AtomicBool::new(false),
            posted: Mutex::default(),
        }))
    }

    /// The descriptor that becomes readable when a sleeper is woken.
    pub(crate) fn event(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Makes the event, which was found readable, unreadable again.
    pub(crate) fn clear_event(&self) {
        let mut count = 0_u64;
        // SAFETY: eight writable bytes. Does not block: nobody else takes the event.
        unsafe { libc::read(self.event(), (&raw mut count).cast(), 8) };
    }

    /// Makes the event readable, whether anybody sleeps or not.
    #[cfg(feature = "tokio-uring")]
    pub(crate) fn ring(&self) {
        self.signal();
    }

    fn signal(&self) {
        let one = 1_u64;
        // SAFETY: eight readable bytes. Cannot fail but by overflow, when it is readable already.
        unsafe { libc::write(self.event(), (&raw const one).cast(), 8) };
    }

    /// From any thread: hands the driver a completion and wakes it.
    pub(crate) fn post(&self, completion: Completion) {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).push(completion);
        self.has_posted.store(true, Ordering::Release); // pairs with the swap in `collect`
        self.wake();
    }

    /// From the driver's thread: takes what was posted.
    pub(crate) fn collect(&self, completions: &mut Vec<Completion>) {
        // A relaxed look first: the common case is that nothing was posted, and `prepare_sleep`
        // orders the look that must not miss anything.
        if !self.has_posted.load(Ordering::Relaxed) {
            return;
        }
        // Pairs with the store in `post`.
        if self.has_posted.swap(false, Ordering::Acquire) {
            completions.append(&mut self.posted.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// From any thread.
    pub(crate) fn wake(&self) {
        // Releases what was posted to the acquiring exchange in `prepare_sleep` or `awake`.
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING {
            self.signal();
        }
    }

    /// From the driver's thread, before it waits. `false`: it was woken, and must not wait.
    pub(crate) fn prepare_sleep(&self) -> bool {
        // Acquires what the waker released in `wake`.
        let asleep =
            self.state.compare_exchange(RUNNING, SLEEPING, Ordering::AcqRel, Ordering::Acquire);
        if asleep.is_err() {
            self.awake();
        }
        asleep.is_ok()
    }

    /// From the driver's thread, after it waited. Whether it was woken.
    pub(crate) fn awake(&self) -> bool {
        self.state.swap(RUNNING, Ordering::AcqRel) == NOTIFIED // acquires from `wake`
    }

    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        let mailbox = self.clone();
        Waker::new(Arc::new(move || mailbox.wake()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    fn readable(mailbox: &Mailbox) -> bool {
        let mut poll = libc::pollfd { fd: mailbox.event(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one writable pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    #[test]
    fn a_wake_reaches_a_sleeper_through_the_event_and_others_without_a_system_call() {
        let mailbox = Mailbox::new().expect("eventfd");
        mailbox.wake();
        mailbox.wake();
        assert!(!readable(&mailbox));
        assert!(!mailbox.prepare_sleep(), "woken before");
        assert!(mailbox.prepare_sleep());
        mailbox.wake();
        assert!(readable(&mailbox));
        assert!(mailbox.awake());
        mailbox.clear_event();
        assert!(!readable(&mailbox));
        assert!(!mailbox.awake());
    }

    #[test]
    fn what_is_posted_is_collected_once() {
        let mailbox = Mailbox::new().expect("eventfd");
        let mut completions = Vec::new();
        mailbox.collect(&mut completions);
        mailbox.post(Completion { token: 7, result: Ok(Outcome::Done), buffer: None });
        mailbox.collect(&mut completions);
        mailbox.collect(&mut completions);
        assert_eq!(completions.len(), 1);
        assert!(!mailbox.prepare_sleep());
    }
}
