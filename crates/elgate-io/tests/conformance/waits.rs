//! Timers, futexes and being woken.

use crate::world::{World, errno};
use elgate_io::{FutexWord, Op, Outcome, Wait, futex};
use elgate_types::Monotonic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn word(value: u32) -> (Arc<AtomicU32>, FutexWord) {
    let word = Arc::new(AtomicU32::new(value));
    // SAFETY: the word is the content of the owner.
    let named = unsafe { FutexWord::new(Arc::as_ptr(&word), word.clone()) };
    (word, named)
}

pub(crate) fn timers_end_in_order(world: &mut World) {
    let start = world.driver.now();
    let at = |millis| start.after(Duration::from_millis(millis));
    let late = world.submit(Op::Timer { deadline: at(30) });
    let early = world.submit(Op::Timer { deadline: at(5) });
    let middle = world.submit(Op::Timer { deadline: at(12) });
    let order: Vec<_> = world.wait_for(3).iter().map(|ended| ended.token).collect();
    assert_eq!(order, [early, middle, late]);
    assert!(world.driver.now() >= at(30));
    assert_eq!(world.driver.in_flight(), 0);
}

pub(crate) fn timers_of_the_past_end_at_once(world: &mut World) {
    let token = world.submit(Op::Timer { deadline: Monotonic(0) });
    world.begin();
    assert_eq!(world.driver.in_flight(), 0);
    assert!(matches!(world.wait(token).result, Ok(Outcome::Done)));
}

pub(crate) fn cancelled_timers_end_early(world: &mut World) {
    let start = world.driver.now();
    let token = world.submit(Op::Timer { deadline: start.after(Duration::from_secs(3_600)) });
    world.begin();
    world.driver.cancel(token);
    assert_eq!(errno(&world.wait(token)), libc::ECANCELED);
    assert!(world.driver.now().since(start) < Duration::from_secs(3_600));
}

pub(crate) fn futex_mismatch_ends_at_once(world: &mut World) {
    let (_owner, word) = word(5);
    let ended = world.run(Op::FutexWait { word, expected: 6 });
    assert!(matches!(ended.result, Ok(Outcome::Done)));
}

pub(crate) fn futex_ends_when_the_word_changes(world: &mut World) {
    let (owner, word) = word(5);
    let token = world.submit(Op::FutexWait { word, expected: 5 });
    world.begin();
    // Nothing ends it before its time.
    let soon = world.driver.now().after(Duration::from_millis(5));
    let mut nothing = Vec::new();
    while world.driver.now() < soon {
        world.driver.poll(Wait::Until(soon), &mut nothing).unwrap();
    }
    assert!(nothing.is_empty(), "{nothing:?}");
    assert_eq!(world.driver.in_flight(), 1);

    owner.store(6, Ordering::SeqCst);
    futex::wake(&owner, 1);
    assert!(matches!(world.wait(token).result, Ok(Outcome::Done)));
    assert_eq!(world.driver.in_flight(), 0);
}

pub(crate) fn cancelled_futex_wait_ends(world: &mut World) {
    let (_owner, word) = word(5);
    let token = world.submit(Op::FutexWait { word, expected: 5 });
    world.begin();
    world.driver.cancel(token);
    assert_eq!(errno(&world.wait(token)), libc::ECANCELED);
    assert_eq!(world.driver.in_flight(), 0);
}

pub(crate) fn a_limited_wait_ends(world: &mut World) {
    let deadline = world.driver.now().after(Duration::from_millis(3));
    let mut nothing = Vec::new();
    while world.driver.now() < deadline {
        world.driver.poll(Wait::Until(deadline), &mut nothing).unwrap();
    }
    assert!(nothing.is_empty());
    // A deadline of the past does not wait at all, and neither does `Never`.
    world.driver.poll(Wait::Until(Monotonic(0)), &mut nothing).unwrap();
    world.driver.poll(Wait::Never, &mut nothing).unwrap();
    assert!(nothing.is_empty());
}

pub(crate) fn a_wake_before_the_wait_is_not_lost(world: &mut World) {
    let waker = world.driver.waker();
    let start = world.driver.now();
    let mut nothing = Vec::new();
    for _ in 0..3 {
        waker.clone().wake();
        world.driver.poll(Wait::Until(start.after(Duration::from_secs(60))), &mut nothing).unwrap();
    }
    assert!(nothing.is_empty());
    assert!(world.driver.now().since(start) < Duration::from_secs(60));
}

/// The state letter of one of this process's threads, from /proc.
fn is_asleep(thread: libc::pid_t) -> bool {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    status.rsplit(')').next().unwrap().trim_start().starts_with('S')
}

/// A wake from another thread, sent only once this one sleeps in `poll`.
fn a_wake_during_the_wait(mut world: World) {
    // SAFETY: no arguments, no failure.
    let sleeper = unsafe { libc::gettid() };
    for _ in 0..20 {
        let waker = world.driver.waker();
        let other = std::thread::spawn(move || {
            while !is_asleep(sleeper) {
                std::thread::yield_now();
            }
            waker.wake();
        });
        world.driver.poll(Wait::Forever, &mut Vec::new()).unwrap();
        other.join().unwrap();
    }
}

/// Another thread counts and wakes, racing with every moment of this one's going to sleep. A lost
/// wake would leave the wait to its limit.
fn no_wake_is_lost(mut world: World) {
    const WAKES: u32 = 20_000;
    let counted = Arc::new(AtomicU32::new(0));
    let seen = Arc::new(AtomicU32::new(0));
    let other = std::thread::spawn({
        let (waker, counted, seen) = (world.driver.waker(), counted.clone(), seen.clone());
        move || {
            for count in 1..=WAKES {
                counted.store(count, Ordering::SeqCst);
                waker.wake();
                while seen.load(Ordering::SeqCst) < count {
                    std::thread::yield_now();
                }
            }
        }
    });
    let limit = world.driver.now().after(Duration::from_secs(60));
    while seen.load(Ordering::SeqCst) < WAKES {
        world.driver.poll(Wait::Until(limit), &mut Vec::new()).unwrap();
        assert!(world.driver.now() < limit, "a wake was lost");
        seen.store(counted.load(Ordering::SeqCst), Ordering::SeqCst);
    }
    other.join().unwrap();
}

#[test]
fn uring_loses_no_wake() {
    if let Some(world) = World::uring("loses_no_wake", &crate::world::OPTIONS) {
        no_wake_is_lost(world);
    }
}

#[test]
fn poll_loses_no_wake() {
    no_wake_is_lost(World::poll());
}

#[test]
fn uring_is_woken_while_it_waits() {
    if let Some(world) = World::uring("woken_while_it_waits", &crate::world::OPTIONS) {
        a_wake_during_the_wait(world);
    }
}

#[test]
fn poll_is_woken_while_it_waits() {
    a_wake_during_the_wait(World::poll());
}
