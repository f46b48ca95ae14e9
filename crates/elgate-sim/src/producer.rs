//! A simulated program: attaches to the engine's rings, submits, and reads what became of it.

use crate::payload::{RecordName, payload};
use crate::ring_host::SimHost;
use crate::stage::Stage;
use elgate_io::sim::SimProcess;
use elgate_ring::{AckReader, Host, Producer, SubmitError, ring_path};
use elgate_types::Monotonic;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Where the engine's first ring is.
pub(crate) const RING: &str = "/dev/shm/elgate_ring";
/// Submissions a program has outstanding at most.
const OUTSTANDING_MAX: usize = 24;
/// How long a program waits before it looks whether its ring is still the one that counts.
const SUSPICIOUS_AFTER: Duration = Duration::from_secs(2);

pub(crate) struct SimProducer {
    pub(crate) index: usize,
    pub(crate) process: SimProcess,
    host: Arc<dyn Host>,
    rings: BTreeMap<u32, Attachment>,
    next_at: Monotonic,
    heard_at: Monotonic,
}

struct Attachment {
    producer: Producer,
    reader: AckReader,
    /// Submissions without an answer, by position.
    outstanding: BTreeMap<u64, u64>,
}

impl SimProducer {
    pub(crate) fn new(index: usize, stage: &Stage) -> Self {
        let process = stage.world.process();
        let host = SimHost::shared(&process);
        let now = stage.world.now();
        Self { index, process, host, rings: BTreeMap::new(), next_at: now, heard_at: now }
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.rings.values().map(|ring| ring.outstanding.len()).sum()
    }

    /// When it will do something by itself.
    pub(crate) fn next_wakeup(&self) -> Monotonic {
        self.next_at
    }

    pub(crate) fn has_news(&self) -> bool {
        self.rings.values().any(|ring| ring.reader.waiter().is_ready())
    }

    /// One turn: reads answers, then perhaps submits.
    pub(crate) fn step(&mut self, stage: &Stage) {
        self.read_answers(stage);
        let now = stage.world.now();
        if now < self.next_at {
            return;
        }
        self.leave_stale_rings(stage, now);
        let pause = stage.roll(|dice| match dice.below(12) {
            0 => dice.between(1_000, 200_000),
            _ => dice.below(1_500),
        });
        self.next_at = now.after(Duration::from_micros(pause + 1));
        if self.outstanding() < OUTSTANDING_MAX && stage.may_submit() {
            self.submit(stage);
        } else {
            self.next_at = now.after(Duration::from_millis(20));
        }
    }

    fn read_answers(&mut self, stage: &Stage) {
        let mut answers = Vec::new();
        for ring in self.rings.values_mut() {
            ring.reader.drain(&mut answers);
            for (position, completion) in answers.drain(..) {
                // One that is not awaited is a repetition.
                let Some(op) = ring.outstanding.remove(&position) else { continue };
                self.heard_at = stage.world.now();
                stage.answered(op, &completion);
            }
        }
    }

    /// Rings that were given up, or have lost their name, are left; what was outstanding there is
    /// lost sight of.
    fn leave_stale_rings(&mut self, stage: &Stage, now: Monotonic) {
        let suspicious = now.since(self.heard_at) > SUSPICIOUS_AFTER;
        let stale = |ring: &Attachment| {
            ring.producer.poisoned()
                || ring.producer.evicted()
                || (suspicious && ring.producer.replaced())
        };
        let gone: Vec<u32> =
            self.rings.iter().filter(|(_, ring)| stale(ring)).map(|(index, _)| *index).collect();
        for index in gone {
            self.read_answers(stage);
            if let Some(ring) = self.rings.remove(&index) {
                for op in ring.outstanding.into_values() {
                    stage.lost_sight(op);
                }
            }
        }
    }

    fn submit(&mut self, stage: &Stage) {
        let (route, sizes) = stage.next_submission();
        let name = stage.route_name(route);
        let Some(count) = self.attached(0).map(|ring| ring.producer.ring_count()) else { return };
        let home = (name.stable_hash() % u64::from(count.max(1))) as u32;
        if self.attached(home).is_none() {
            return;
        }
        let op = stage.ledger.borrow_mut().send(route, sizes.clone());
        let records: Vec<Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(index, bytes)| payload(RecordName { op, index: index as u32 }, *bytes))
            .collect();
        let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let Some(ring) = self.rings.get_mut(&home) else { return };
        let submitted = ring.producer.submit(&name, op, &slices);
        if !self.process.is_alive() {
            return;
        }
        match submitted {
            Ok(position) => {
                ring.outstanding.insert(position, op);
                stage.accepted(self.index, op, home, position);
            }
            Err(error) => {
                stage.not_accepted(self.index, op, &error);
                if !matches!(error, SubmitError::Full) {
                    let lost = self.rings.remove(&home);
                    for op in lost.into_iter().flat_map(|ring| ring.outstanding.into_values()) {
                        stage.lost_sight(op);
                    }
                }
            }
        }
    }

    /// The attachment to a ring, if there is such a ring.
    fn attached(&mut self, index: u32) -> Option<&mut Attachment> {
        if !self.rings.contains_key(&index) {
            let path = ring_path(Path::new(RING), index);
            let producer = Producer::attach_on(&self.host, &path).ok()?;
            let reader = producer.completions()?;
            let attachment = Attachment { producer, reader, outstanding: BTreeMap::new() };
            self.rings.insert(index, attachment);
        }
        self.rings.get_mut(&index)
    }

    /// What it had not heard about when it died.
    pub(crate) fn into_outstanding(self) -> Vec<u64> {
        self.rings.into_values().flat_map(|ring| ring.outstanding.into_values()).collect()
    }
}
