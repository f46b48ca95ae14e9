//! Futexes that work across processes (never `FUTEX_PRIVATE_FLAG`), for words in shared memory.
//!
//! The usual contract: whoever changes what a waiter waits for changes the word, then wakes.
//! A wait compares and sleeps in one step, so a change between reading the word and waiting on it
//! is never missed.

use crate::sys::last_errno;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Why [`wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FutexWait {
    /// Somebody woke the word. May be spurious: look at the state again.
    Woken,
    /// The word did not hold the expected value: nothing was waited for.
    Mismatch,
    /// The time was up.
    TimedOut,
    /// A signal arrived.
    Interrupted,
}

/// Waits until `word` is woken, if it holds `expected`. `None` waits without limit.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> FutexWait {
    let timeout = timeout.map(crate::sys::timespec);
    // SAFETY: `word` is a live, aligned u32; the timeout, if any, outlives the call. The kernel
    // only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
        )
    };
    if result == 0 {
        return FutexWait::Woken;
    }
    match last_errno() {
        libc::EAGAIN => FutexWait::Mismatch,
        libc::ETIMEDOUT => FutexWait::TimedOut,
        // EINTR. Nothing else can happen to a valid word and timeout.
        _ => FutexWait::Interrupted,
    }
}

/// Wakes at most `count` waiters of `word`, in any process; returns how many there were.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    // SAFETY: `word` is a live, aligned u32; the kernel uses its address only.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    usize::try_from(woken).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    #[test]
    fn mismatch_and_timeout_are_told_apart() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 2, None), FutexWait::Mismatch);
        assert_eq!(wait(&word, 1, Some(Duration::from_micros(50))), FutexWait::TimedOut);
        assert_eq!(wake(&word, u32::MAX), 0);
    }

    #[test]
    fn a_change_and_wake_ends_the_wait() {
        let word = Arc::new(AtomicU32::new(0));
        let waiter = std::thread::spawn({
            let word = word.clone();
            move || {
                // Pairs with the release store below; the loop absorbs spurious returns.
                while word.load(Ordering::Acquire) == 0 {
                    wait(&word, 0, None);
                }
            }
        });
        word.store(1, Ordering::Release); // pairs with the acquire load above
        wake(&word, 1);
        waiter.join().expect("the waiter ends");
    }
}
