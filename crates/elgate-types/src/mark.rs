//! Places that a simulation wants to have been at: a suite that never gets there has shown nothing
//! about them.
//!
//! With the `simulation` feature, [`watch`] has each thread told of the marks it passes, kill sites
//! included. Without it a mark costs nothing.

/// Passes the mark `name`.
#[inline(always)]
pub fn hit(name: &'static str) {
    #[cfg(feature = "simulation")]
    watched::hit(name);
    #[cfg(not(feature = "simulation"))]
    let _ = name;
}

#[cfg(feature = "simulation")]
pub use watched::{Watcher, watch};

#[cfg(feature = "simulation")]
mod watched {
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Hears of every mark that its thread passes. It may pass marks itself, and may unwind.
    pub type Watcher = Rc<dyn Fn(&'static str)>;

    thread_local! {
        static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
    }

    /// Sets, or removes, the watcher of this thread.
    pub fn watch(watcher: Option<Watcher>) {
        WATCHER.with_borrow_mut(|current| *current = watcher);
    }

    pub(super) fn hit(name: &'static str) {
        let watcher = WATCHER.with_borrow(Clone::clone);
        if let Some(watcher) = watcher {
            watcher(name);
        }
    }
}
