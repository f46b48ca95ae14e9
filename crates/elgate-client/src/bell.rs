//! The doorbell: rung when there is a reason to drain, silent until somebody has drained.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Ring = Arc<dyn Fn() + Send + Sync>;

/// See the module text.
#[derive(Default)]
pub(crate) struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rung: bool,
    closed: bool,
    ring: Option<Ring>,
}

impl Bell {
    /// Sets what is called; called at once if the bell has been rung already.
    pub(crate) fn set(&self, ring: Ring) {
        let mut state = self.lock();
        state.ring = Some(ring.clone());
        let rung = state.rung;
        drop(state);
        if rung {
            ring();
        }
    }

    /// Rings, unless it has been rung and nobody has drained since.
    pub(crate) fn ring(&self) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.rung, true) {
            return;
        }
        let ring = state.ring.clone();
        drop(state);
        self.changed.notify_all();
        // Called without the lock: it may drain.
        if let Some(ring) = ring {
            ring();
        }
    }

    /// To be called *before* draining: what arrives later rings again.
    pub(crate) fn answer(&self) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.rung, false) {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until the bell has been answered (or closed).
    pub(crate) fn wait_until_answered(&self) {
        let answered = self.changed.wait_while(self.lock(), |state| state.rung && !state.closed);
        drop(answered.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until the bell is rung (or closed), at most `timeout`. Whether it is rung.
    pub(crate) fn wait_until_rung(&self, timeout: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| !state.rung && !state.closed);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.rung
    }

    /// Ends every wait, for good. Nothing is called any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.ring = None;
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Bell")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn rings_once_until_answered() {
        let bell = Bell::default();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        bell.set(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        bell.ring();
        bell.ring();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(bell.wait_until_rung(Duration::ZERO));
        bell.answer();
        assert!(!bell.wait_until_rung(Duration::ZERO));
        bell.wait_until_answered();
        bell.ring();
        assert_eq!(count.load(Ordering::Relaxed), 2);
        bell.close();
        bell.wait_until_answered();
    }

    #[test]
    fn a_bell_set_late_is_heard() {
        let bell = Bell::default();
        bell.ring();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        bell.set(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
