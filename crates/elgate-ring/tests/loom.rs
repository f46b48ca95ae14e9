//! The protocol under every interleaving that loom can make of it:
//! `RUSTFLAGS="--cfg loom" cargo test -p elgate-ring --release --test loom`.
//!
//! The words are loom's atomics, bodies are cells whose every racy access fails the test, and a
//! futex is a mutex and a condition variable: a lost wake is a deadlock, which fails the test.

#![cfg(loom)]

use elgate_ring::protocol::{self, ClaimError, Peek, Shared};
use elgate_ring::sync::{AtomicU32, AtomicU64, Ordering, fence};
use elgate_ring::word::{State, Word};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

struct Ring {
    tail: AtomicU64,
    head: AtomicU64,
    consumer_state: AtomicU32,
    space_sequence: AtomicU32,
    space_waiting: AtomicU32,
    poisoned: AtomicU32,
    words: Vec<AtomicU64>,
    bodies: Vec<UnsafeCell<u64>>,
    consumer: Futex,
    space: Futex,
}

#[derive(Default)]
struct Futex {
    lock: Mutex<()>,
    waiters: Condvar,
}

impl Futex {
    fn wait(&self, word: &AtomicU32, expected: u32) {
        let mut guard = self.lock.lock().expect("no panics");
        // The kernel compares under its own lock; so do we.
        if word.load(Ordering::SeqCst) == expected {
            guard = self.waiters.wait(guard).expect("no panics");
        }
        drop(guard);
    }

    fn wake(&self) {
        let _guard = self.lock.lock().expect("no panics");
        self.waiters.notify_all();
    }
}

impl Ring {
    fn new(slots: u64) -> Self {
        Self {
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            consumer_state: AtomicU32::new(0),
            space_sequence: AtomicU32::new(0),
            space_waiting: AtomicU32::new(0),
            poisoned: AtomicU32::new(0),
            words: (0..slots).map(|position| AtomicU64::new(Word::free(position).0)).collect(),
            bodies: (0..slots).map(|_| UnsafeCell::new(0)).collect(),
            consumer: Futex::default(),
            space: Futex::default(),
        }
    }

    fn body(&self, position: u64) -> &UnsafeCell<u64> {
        &self.bodies[(position % self.slot_count()) as usize]
    }

    /// A producer's submit, waiting for space.
    fn submit(&self, owner: u16, value: u64) {
        let head_cache = AtomicU64::new(0);
        let claim = loop {
            match protocol::claim(self, &head_cache, owner, 1) {
                Ok(claim) => break claim,
                Err(ClaimError::Corrupt) => panic!("nobody scribbles here"),
                Err(ClaimError::Full) => {
                    let sequence = protocol::prepare_space_wait(self);
                    let head = self.head.load(Ordering::Acquire);
                    let tail = self.tail.load(Ordering::Acquire);
                    if tail.wrapping_sub(head) >= self.slot_count() {
                        self.space.wait(&self.space_sequence, sequence);
                    }
                }
            }
        };
        self.body(claim.position).with_mut(|body| {
            // SAFETY: loom checks that nobody else accesses the cell meanwhile.
            unsafe { *body = value }
        });
        assert!(protocol::commit(self, &claim), "a living owner's claim is its own");
        if protocol::must_wake_consumer(self) {
            self.consumer.wake();
        }
    }

    /// Takes `count` submissions, sleeping in between, releasing each at once.
    fn consume(&self, count: usize) -> Vec<(u16, u64)> {
        let (mut position, mut taken) = (0, Vec::new());
        while taken.len() < count {
            match protocol::peek(self, position) {
                Peek::Committed { owner, run } => {
                    let value = self.body(position).with(|body| {
                        // SAFETY: as in `submit`.
                        unsafe { *body }
                    });
                    taken.push((owner, value));
                    self.pass(&mut position, run);
                }
                Peek::Aborted { run } => self.pass(&mut position, run),
                Peek::Empty | Peek::Claimed { .. } => {
                    if protocol::prepare_sleep(self, position) {
                        self.consumer.wait(&self.consumer_state, 1);
                        protocol::end_sleep(self);
                    }
                }
                Peek::Impossible(word) => panic!("{word:?} at {position}"),
            }
        }
        taken
    }

    fn pass(&self, position: &mut u64, run: u16) {
        assert!(protocol::help_tail(self, *position, run), "the tail is where it should be");
        protocol::release_run(self, *position, run);
        *position += u64::from(run);
        if protocol::advance_head(self, *position) {
            self.space.wake();
        }
    }
}

impl Shared for Ring {
    fn slot_count(&self) -> u64 {
        self.words.len() as u64
    }
    fn run_max(&self) -> u16 {
        1
    }
    fn tail(&self) -> &AtomicU64 {
        &self.tail
    }
    fn head(&self) -> &AtomicU64 {
        &self.head
    }
    fn consumer_state(&self) -> &AtomicU32 {
        &self.consumer_state
    }
    fn space_sequence(&self) -> &AtomicU32 {
        &self.space_sequence
    }
    fn space_waiting(&self) -> &AtomicU32 {
        &self.space_waiting
    }
    fn word(&self, position: u64) -> &AtomicU64 {
        &self.words[(position % self.slot_count()) as usize]
    }
}

/// Explores with a bound on preemptions: what goes wrong goes wrong with few of them.
fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

#[test]
fn two_producers_and_a_sleeping_consumer() {
    model(3, || {
        let ring = Arc::new(Ring::new(2));
        let producers = [1, 2].map(|owner| {
            let ring = ring.clone();
            thread::spawn(move || ring.submit(owner, u64::from(owner) * 10))
        });
        let mut taken = ring.consume(2);
        taken.sort_unstable();
        assert_eq!(taken, [(1, 10), (2, 20)]);
        for producer in producers {
            producer.join().expect("no panic");
        }
    });
}

#[test]
fn a_full_ring_wakes_those_who_wait() {
    model(2, || {
        let ring = Arc::new(Ring::new(1));
        let producers = [1, 2].map(|owner| {
            let ring = ring.clone();
            thread::spawn(move || ring.submit(owner, u64::from(owner)))
        });
        let mut taken = ring.consume(2);
        taken.sort_unstable();
        assert_eq!(taken, [(1, 1), (2, 2)]);
        for producer in producers {
            producer.join().expect("no panic");
        }
    });
}

#[test]
fn slots_are_used_again_without_mixing_laps() {
    model(2, || {
        let ring = Arc::new(Ring::new(1));
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || (1..=3).for_each(|value| ring.submit(1, value)))
        };
        assert_eq!(ring.consume(3), [(1, 1), (1, 2), (1, 3)]);
        producer.join().expect("no panic");
    });
}

#[test]
fn a_producer_that_died_before_moving_the_tail_is_passed() {
    model(3, || {
        let ring = Arc::new(Ring::new(2));
        // Claimed, and killed at once.
        let claimed = Word::used(0, 1, 1, State::Claimed);
        ring.word(0).store(claimed.0, Ordering::Release);
        let living = {
            let ring = ring.clone();
            thread::spawn(move || ring.submit(2, 7))
        };
        assert_eq!(protocol::peek(&*ring, 0), Peek::Claimed { owner: 1, run: 1 });
        assert!(protocol::abort(&*ring, 0, 1, 1));
        assert_eq!(ring.consume(1), [(2, 7)]);
        living.join().expect("no panic");
    });
}

#[test]
fn an_abort_and_a_commit_exclude_each_other() {
    model(3, || {
        let ring = Arc::new(Ring::new(1));
        let claim = protocol::claim(&*ring, &AtomicU64::new(0), 1, 1).expect("room");
        let other = {
            let ring = ring.clone();
            thread::spawn(move || protocol::abort(&*ring, 0, 1, 1))
        };
        let committed = protocol::commit(&*ring, &claim);
        let aborted = other.join().expect("no panic");
        assert!(committed != aborted);
        let expected = match committed {
            true => Peek::Committed { owner: 1, run: 1 },
            false => Peek::Aborted { run: 1 },
        };
        assert_eq!(protocol::peek(&*ring, 0), expected);
    });
}

#[test]
fn a_commit_is_salvaged_or_its_producer_sees_the_ring_given_up() {
    model(3, || {
        let ring = Arc::new(Ring::new(1));
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || {
                let claim = protocol::claim(&*ring, &AtomicU64::new(0), 1, 1).expect("room");
                assert!(protocol::commit(&*ring, &claim));
                let _ = protocol::must_wake_consumer(&*ring);
                ring.poisoned.load(Ordering::Relaxed) != 0
            })
        };
        // As `Consumer::replace` does.
        ring.poisoned.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let salvaged = matches!(protocol::peek(&*ring, 0), Peek::Committed { .. });
        let noticed = producer.join().expect("no panic");
        assert!(salvaged || noticed, "accepted, and lost");
    });
}
