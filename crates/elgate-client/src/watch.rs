//! Things that nobody announces: a delivery watermark that moves, room in a ring that others fill.
//! One thread looks every millisecond, only while somebody waits for one of them.

use crate::bell::Bell;
use crate::lane::Lane;
use crate::routes::RouteHandle;
use elgate_io::OsPlatform;
use elgate_log::HeadView;
use elgate_types::{Lsn, RouteName};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Looks after which a head file is opened again, in case the log was removed and made anew.
const LOOKS_PER_REOPENING: u32 = 1_000;

/// See the module text.
#[derive(Debug)]
pub(crate) struct Watch {
    data_dir: Option<PathBuf>,
    bell: Arc<Bell>,
    lanes: Vec<Arc<Lane>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    heads: BTreeMap<RouteHandle, HeadView>,
    delivered: BTreeMap<RouteHandle, Watched>,
    /// Routes whose next submission is to find room, and their lanes.
    space: BTreeMap<RouteHandle, (usize, RouteName)>,
    closed: bool,
    thread: Option<(u32, JoinHandle<()>)>,
}

/// What is waited for on one route: the first and the last LSN asked about. Every step from the
/// first on rings.
#[derive(Debug)]
struct Watched {
    name: RouteName,
    next: Lsn,
    last: Lsn,
}

impl Watch {
    pub(crate) fn new(data_dir: &str, bell: Arc<Bell>, lanes: Vec<Arc<Lane>>) -> Self {
        let data_dir = (!data_dir.is_empty()).then(|| PathBuf::from(data_dir));
        Self { data_dir, bell, lanes, state: Mutex::default(), changed: Condvar::new() }
    }

    /// How far the sink of a route has come. `None`: there is no such log.
    pub(crate) fn delivered(&self, handle: RouteHandle, name: &RouteName) -> Option<Lsn> {
        self.look_up(&mut self.lock(), handle, name)
    }

    /// Rings once the watermark has reached `lsn`.
    pub(crate) fn watch_delivered(
        self: &Arc<Self>,
        handle: RouteHandle,
        name: &RouteName,
        lsn: Lsn,
    ) {
        let mut state = self.lock();
        let watched = state.delivered.entry(handle).or_insert_with(|| Watched {
            name: name.clone(),
            next: lsn,
            last: lsn,
        });
        watched.next = watched.next.min(lsn);
        watched.last = watched.last.max(lsn);
        self.start(state);
    }

    /// Rings once a submission to the route would find room.
    pub(crate) fn watch_space(self: &Arc<Self>, route: RouteHandle, lane: usize, name: &RouteName) {
        let mut state = self.lock();
        state.space.insert(route, (lane, name.clone()));
        self.start(state);
    }

    /// Whether a submission to the route would find room now.
    pub(crate) fn has_space(&self, lane: usize, name: &RouteName) -> bool {
        let lane = &self.lanes[lane];
        lane.window_open() && lane.producer().is_none_or(|producer| producer.has_space(name))
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let thread = state.thread.take();
        drop(state);
        self.changed.notify_all();
        if let Some((pid, thread)) = thread {
            let own = thread.thread().id() == std::thread::current().id();
            if pid != std::process::id() {
                // The thread is the parent's; there is nothing to join in a forked child.
                std::mem::forget(thread);
            } else if !own {
                // A panic of the thread has already been reported by the panic hook.
                let _ = thread.join();
            }
        }
    }

    fn start(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.closed {
            return;
        }
        let me = std::process::id();
        if state.thread.as_ref().is_none_or(|(pid, _)| *pid != me) {
            std::mem::forget(state.thread.take());
            let watch = self.clone();
            let thread = std::thread::Builder::new().name("elgate-watch".to_owned());
            // Without a thread (a limit of the system) the caller's own looks have to do.
            state.thread = thread.spawn(move || watch.run()).ok().map(|thread| (me, thread));
        }
        drop(state);
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut looks = 0_u32;
        let mut state = self.lock();
        while !state.closed {
            if state.delivered.is_empty() && state.space.is_empty() {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_PER_REOPENING) {
                state.heads.clear();
            }
            let mut ring = self.look_at_deliveries(&mut state);
            let wanted = std::mem::take(&mut state.space);
            drop(state);
            // Looked at without our lock: lanes have their own.
            let (found, missing): (BTreeMap<_, _>, BTreeMap<_, _>) =
                wanted.into_iter().partition(|(_, (lane, name))| self.has_space(*lane, name));
            ring |= !found.is_empty();
            state = self.lock();
            state.space.extend(missing);
            if ring {
                drop(state);
                self.bell.ring();
                state = self.lock();
            }
            let waited = self.changed.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether a watched watermark has moved to something that was asked about.
    fn look_at_deliveries(&self, state: &mut State) -> bool {
        let mut moved = false;
        let mut watched = std::mem::take(&mut state.delivered);
        watched.retain(|&handle, watched| {
            let delivered = self.look_up(state, handle, &watched.name).unwrap_or_default();
            if delivered >= watched.next {
                moved = true;
                watched.next = delivered.next();
            }
            watched.next <= watched.last
        });
        state.delivered = watched;
        moved
    }

    fn look_up(&self, state: &mut State, handle: RouteHandle, name: &RouteName) -> Option<Lsn> {
        let head = match state.heads.entry(handle) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let log = self.data_dir.as_ref()?.join(name.as_str());
                unknown.insert(HeadView::open(&OsPlatform::new(), &log)?)
            }
        };
        head.delivered()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock leaves half a change behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
