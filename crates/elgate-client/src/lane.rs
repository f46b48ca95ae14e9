//! One ring as a client uses it: attached when first needed, attached anew when the ring is
//! replaced or this process was forked, with a window of submissions that await acknowledgement.

use crate::bell::Bell;
use crate::client::Acknowledgement;
use crate::error::SubmitError;
use crate::routes::RouteHandle;
use elgate_ring::{AckReader, Completion, OUTSTANDING_MAX, Producer, SubmitError as RingRefusal};
use elgate_types::{ErrorCode, Level, Lsn, RouteName};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the background thread sleeps when nothing happens at all: it then looks whether the
/// daemon is gone and the ring replaced, and repairs a wake that a killed daemon owed it.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// What a caller wants submitted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Payload<'a> {
    Records(&'a [&'a [u8]]),
    Encoded { record_count: u32, body: &'a [u8] },
}

impl Payload<'_> {
    fn record_count(&self) -> u64 {
        match self {
            Self::Records(records) => records.len() as u64,
            Self::Encoded { record_count, .. } => u64::from(*record_count),
        }
    }
}

/// See the module text.
#[derive(Debug)]
pub(crate) struct Lane {
    path: PathBuf,
    bell: Arc<Bell>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    attachment: Option<Attachment>,
    outstanding: HashMap<u64, Outstanding, BuildHasherDefault<PositionHasher>>,
    /// Acknowledgements of submissions that went down with their ring.
    failed: Vec<Acknowledgement>,
    thread: Option<JoinHandle<()>>,
    scratch: Vec<(u64, Completion)>,
}

#[derive(Debug)]
struct Attachment {
    producer: Arc<Producer>,
    reader: AckReader,
}

#[derive(Debug, Clone, Copy)]
struct Outstanding {
    op_id: u64,
    record_count: u32,
    route: RouteHandle,
}

impl Lane {
    pub(crate) fn new(path: PathBuf, bell: Arc<Bell>) -> Self {
        Self { path, bell, state: Mutex::default() }
    }

    /// Attaches with a producer that exists already.
    pub(crate) fn adopt(self: &Arc<Self>, producer: Producer) {
        self.install(&mut self.lock(), producer);
    }

    /// Submits; returns the number of the first record.
    pub(crate) fn submit(
        self: &Arc<Self>,
        next_op_id: &AtomicU64,
        route: RouteHandle,
        name: &RouteName,
        payload: Payload<'_>,
    ) -> Result<u64, SubmitError> {
        let mut state = self.lock();
        let mut producer = self.attached(&mut state)?;
        if producer.poisoned() {
            producer = self.attach_anew(&mut state).map_err(SubmitError::Attach)?;
        }
        if state.outstanding.len() + state.failed.len() >= OUTSTANDING_MAX {
            return Err(SubmitError::Backpressure);
        }
        // Only uniqueness and order within this client matter.
        let op_id = next_op_id.fetch_add(payload.record_count(), Ordering::Relaxed);
        let submitted = match payload {
            Payload::Records(records) => producer.submit(name, op_id, records),
            Payload::Encoded { record_count, body } => {
                producer.submit_encoded(name, op_id, record_count, body)
            }
        };
        match submitted {
            Ok(position) => {
                let record_count = payload.record_count() as u32;
                state.outstanding.insert(position, Outstanding { op_id, record_count, route });
                Ok(op_id)
            }
            Err(RingRefusal::Full) => Err(SubmitError::Backpressure),
            Err(
                lost @ (RingRefusal::Poisoned
                | RingRefusal::Corrupt
                | RingRefusal::Fenced
                | RingRefusal::Forked),
            ) => {
                // The successor may not be there yet; then the next submission tries again.
                let _ = self.attach_anew(&mut state);
                Err(SubmitError::RingLost(lost))
            }
            Err(refused) => Err(SubmitError::Records(refused)),
        }
    }

    /// Appends what has been acknowledged, and what has failed.
    pub(crate) fn drain(&self, out: &mut Vec<Acknowledgement>) {
        let mut state = self.lock();
        self.discard_inherited(&mut state);
        state.collect(out);
        out.append(&mut state.failed);
    }

    /// Submissions whose acknowledgement has not been drained.
    pub(crate) fn outstanding(&self) -> usize {
        let state = self.lock();
        state.outstanding.len() + state.failed.len()
    }

    /// Whether the window has room for another submission.
    pub(crate) fn window_open(&self) -> bool {
        self.outstanding() < OUTSTANDING_MAX
    }

    /// The producer, if attached.
    pub(crate) fn producer(&self) -> Option<Arc<Producer>> {
        self.lock().attachment.as_ref().map(|attachment| attachment.producer.clone())
    }

    /// Ends the background thread and detaches. What was submitted is still carried out.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        self.discard_inherited(&mut state);
        let thread = state.thread.take();
        let attachment = state.attachment.take();
        drop(state);
        let Some(thread) = thread else { return };
        if thread.thread().id() == std::thread::current().id() {
            // Closed from within the doorbell: the thread ends when that returns.
            return;
        }
        // The bell is closed, so the thread ends once it has noticed.
        while !thread.is_finished() {
            if let Some(attachment) = &attachment {
                attachment.producer.waiter().interrupt();
            }
            std::thread::park_timeout(Duration::from_micros(200));
        }
        // A panic of the thread has already been reported by the panic hook.
        let _ = thread.join();
    }

    fn attached(self: &Arc<Self>, state: &mut State) -> Result<Arc<Producer>, SubmitError> {
        if self.bell.is_closed() {
            return Err(SubmitError::Closed);
        }
        self.discard_inherited(state);
        if let Some(attachment) = &state.attachment {
            return Ok(attachment.producer.clone());
        }
        let producer = Producer::attach(&self.path).map_err(SubmitError::Attach)?;
        Ok(self.install(state, producer))
    }

    /// After a fork, what we hold is the parent's: let go of it, without a trace in the ring.
    fn discard_inherited(&self, state: &mut State) {
        if state.attachment.as_ref().is_some_and(|held| held.producer.inherited()) {
            // The thread exists in the parent only; joining or detaching it here would touch memory
            // that belongs to nobody.
            std::mem::forget(state.thread.take());
            *state = State::default();
        }
    }

    /// Attaches to the ring that now has the name. Everything outstanding fails: outcome unknown.
    fn attach_anew(
        self: &Arc<Self>,
        state: &mut State,
    ) -> Result<Arc<Producer>, elgate_ring::RingError> {
        let producer = Producer::attach(&self.path)?;
        let mut last = Vec::new();
        state.collect(&mut last);
        state.failed.append(&mut last);
        let mut lost: Vec<Outstanding> = state.outstanding.drain().map(|(_, lost)| lost).collect();
        lost.sort_unstable_by_key(|lost| lost.op_id);
        state.failed.extend(lost.into_iter().map(|lost| Acknowledgement {
            op_id: lost.op_id,
            route: lost.route,
            first_lsn: Lsn::ZERO,
            record_count: lost.record_count,
            status: Some(ErrorCode::RingCorrupt),
            level: Level::Accepted,
        }));
        // A thread that sleeps on the old acknowledgements looks again and finds the new ones.
        if let Some(old) = &state.attachment {
            old.producer.waiter().interrupt();
        }
        let producer = self.install(state, producer);
        if !state.failed.is_empty() {
            self.bell.ring();
        }
        Ok(producer)
    }

    fn install(self: &Arc<Self>, state: &mut State, producer: Producer) -> Arc<Producer> {
        let producer = Arc::new(producer);
        let reader = producer.completions().expect("nobody has asked this new producer before");
        state.attachment = Some(Attachment { producer: producer.clone(), reader });
        if state.thread.is_none() {
            let lane = self.clone();
            let thread = std::thread::Builder::new().name("elgate-acks".to_owned());
            // Without a thread (a limit of the system) there is no doorbell, but draining works.
            state.thread = thread.spawn(move || lane.listen()).ok();
        }
        producer
    }

    /// The background thread.
    fn listen(self: Arc<Self>) {
        while !self.bell.is_closed() {
            let Some(producer) = self.producer() else { return };
            let waiter = producer.waiter();
            let ready = waiter.wait(IDLE_LOOK);
            if ready {
                self.bell.ring();
                self.bell.wait_until_answered();
            }
            let orphaned = || !ready && !producer.consumer_alive() && producer.replaced();
            if producer.poisoned() || producer.evicted() || orphaned() {
                self.follow(&producer);
            }
        }
    }

    /// Follows a ring to its successor, if there is one already.
    fn follow(self: &Arc<Self>, old: &Arc<Producer>) {
        let mut state = self.lock();
        let current =
            state.attachment.as_ref().is_some_and(|held| Arc::ptr_eq(&held.producer, old));
        if current && self.attach_anew(&mut state).is_err() {
            drop(state);
            // Not there yet: the successor's consumer wakes us, or the next look finds it.
            let _ = old.waiter().wait(IDLE_LOOK);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Everything under the lock is put right by the next attachment at the latest.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Moves completions that are awaited to `out`. Others are repetitions, or somebody else's.
    fn collect(&mut self, out: &mut Vec<Acknowledgement>) {
        let Some(attachment) = &mut self.attachment else { return };
        attachment.reader.drain(&mut self.scratch);
        for (position, completion) in self.scratch.drain(..) {
            if let Some(awaited) = self.outstanding.remove(&position) {
                out.push(Acknowledgement {
                    op_id: awaited.op_id,
                    route: awaited.route,
                    first_lsn: completion.first_lsn,
                    record_count: awaited.record_count,
                    status: completion.status,
                    level: completion.level,
                });
            }
        }
    }
}

/// Positions are already distinct and dense; one multiplication spreads them.
#[derive(Debug, Default)]
struct PositionHasher(u64);

impl Hasher for PositionHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, position: u64) {
        // Fibonacci hashing: 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ position).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}
