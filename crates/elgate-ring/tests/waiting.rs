//! Back-pressure and sleep: a full ring refuses and wakes, a sleeping consumer is woken.

mod common;

use common::{Fixture, SLOTS, finish, pop_all, route, try_pop};
use elgate_io::futex;
use elgate_ring::{SLEEPING, SubmitError};
use std::sync::Barrier;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_full_ring_refuses_and_takes_again_after_release() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    for op_id in 0..SLOTS as u64 {
        producer.submit(&route("a"), op_id, &[b"x"]).expect("room");
    }
    assert_eq!(producer.submit(&route("a"), 9_999, &[b"x"]), Err(SubmitError::Full));
    assert!(!producer.has_space(&route("a")));
    let taken = pop_all(&mut consumer);
    assert_eq!(taken.len(), SLOTS);
    assert!(pop_all(&mut consumer).is_empty(), "a whole lap is taken, nothing is taken twice");
    assert_eq!(producer.submit(&route("a"), 9_999, &[b"x"]), Err(SubmitError::Full));
    // Finished out of order: nothing is free before the first one is.
    finish(&mut consumer, &taken[1..]);
    assert_eq!(producer.submit(&route("a"), 9_999, &[b"x"]), Err(SubmitError::Full));
    finish(&mut consumer, &taken[..1]);
    assert!(producer.has_space(&route("a")));
    producer.submit(&route("a"), 9_999, &[b"x"]).expect("room");
    assert_eq!(pop_all(&mut consumer)[0].op_id, 9_999);
}

#[test]
fn a_large_submission_waits_for_enough_room_with_its_padding() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    for op_id in 0..SLOTS as u64 - 100 {
        producer.submit(&route("a"), op_id, &[b"x"]).expect("room");
    }
    // 245 slots do not fit into the last 100: padding takes those, and 245 more must be free.
    let large = vec![7; 1_000_000];
    let taken = pop_all(&mut consumer);
    finish(&mut consumer, &taken[..244]);
    assert_eq!(producer.submit(&route("a"), 5_000, &[&large]), Err(SubmitError::Full));
    assert!(!producer.wait_for_space(&route("a"), Duration::ZERO));
    finish(&mut consumer, &taken[244..245]);
    assert!(producer.wait_for_space(&route("a"), Duration::ZERO));
    producer.submit(&route("a"), 5_000, &[&large]).expect("room");
    finish(&mut consumer, &taken[245..]);
    let last = pop_all(&mut consumer);
    assert!(last.len() == 1 && last[0].records == [large] && last[0].position == SLOTS as u64);
    finish(&mut consumer, &last);
    assert_eq!(consumer.stats().used_slots, 0);
}

#[test]
fn a_waiting_producer_is_woken_by_release() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    for op_id in 0..SLOTS as u64 {
        producer.submit(&route("a"), op_id, &[b"x"]).expect("room");
    }
    assert_eq!(producer.submit(&route("a"), 1, &[b"x"]), Err(SubmitError::Full));
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            barrier.wait();
            producer.wait_for_space(&route("a"), LONG)
        });
        barrier.wait();
        let taken = pop_all(&mut consumer);
        // The flag in the ring says that somebody is about to wait or waits already.
        let file = fixture.file();
        while common::read_u64(&file, 0x200) >> 32 == 0 && !waiter.is_finished() {
            std::thread::yield_now();
        }
        finish(&mut consumer, &taken[..1]);
        assert!(waiter.join().expect("no panic"));
    });
}

#[test]
fn a_sleeping_consumer_misses_nothing() {
    const COUNT: u64 = 3_000;
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let mut slept = 0;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for op_id in 0..COUNT {
                while producer.submit(&route("a"), op_id, &[b"x"]).is_err() {
                    producer.wait_for_space(&route("a"), LONG);
                }
                if op_id % 16 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let word = consumer.futex_word();
        let mut received = 0;
        while received < COUNT {
            let taken = try_pop(&mut consumer, 64).expect("the ring is sound");
            received += taken.len() as u64;
            finish(&mut consumer, &taken);
            if taken.is_empty() && consumer.prepare_sleep() {
                slept += 1;
                let ended = futex::wait(word.get(), SLEEPING, Some(LONG));
                assert_ne!(ended, futex::FutexWait::TimedOut, "a wake was lost");
                consumer.end_sleep();
            }
        }
        sender.join().expect("no panic");
    });
    assert!(slept > 0, "the consumer never slept: nothing was tested");
}

#[test]
fn a_consumer_with_work_does_not_go_to_sleep() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    assert!(consumer.prepare_sleep());
    let word = consumer.futex_word();
    assert_eq!(word.get().load(std::sync::atomic::Ordering::Relaxed), SLEEPING);
    producer.submit(&route("a"), 1, &[b"x"]).expect("room");
    assert_ne!(word.get().load(std::sync::atomic::Ordering::Relaxed), SLEEPING, "flag cleared");
    assert!(!consumer.prepare_sleep());
    assert_ne!(word.get().load(std::sync::atomic::Ordering::Relaxed), SLEEPING);
}

#[test]
fn a_sleeping_reader_is_woken_by_completions_and_by_interruption() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let waiter = producer.waiter();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| waiter.wait(LONG));
        producer.submit(&route("a"), 1, &[b"x"]).expect("room");
        let taken = pop_all(&mut consumer);
        finish(&mut consumer, &taken);
        assert!(sleeper.join().expect("no panic"));
    });
    producer.completions().expect("the first").drain(&mut Vec::new());
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| waiter.wait(LONG));
        while !sleeper.is_finished() {
            producer.waiter().interrupt();
            std::thread::yield_now();
        }
        assert!(!sleeper.join().expect("no panic"));
    });
}
