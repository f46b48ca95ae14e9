//! Submissions that wait for a log that takes nothing: they make room, keep their promise, and
//! their route's producers wait.

mod common;

use common::{
    Fixture, SLOTS, aside_file, completion, entries, finish, options, pop_all, read_u64, route,
    set_aside, slot_offset, try_pop, write_u64,
};
use elgate_ring::{Consumer, RingError, SubmitError};
use elgate_types::ErrorCode;
use std::sync::Barrier;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn what_is_set_aside_frees_its_slots_and_is_finished_like_any_other() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let reader = producer.completions().expect("the first");
    let large = vec![7; 300_000];
    producer.submit(&route("stuck"), 1, &[&large]).expect("room");
    producer.submit(&route("stuck"), 2, &[b"small"]).expect("room");
    producer.submit(&route("other"), 3, &[b"fine"]).expect("room");
    let taken = pop_all(&mut consumer);
    finish(&mut consumer, &taken[2..]);
    assert!(consumer.used_slots() > 70, "the head of the ring is stuck");
    set_aside(&mut consumer, &taken[..2]);
    assert_eq!((consumer.used_slots(), consumer.stats().set_aside), (0, 2));
    // Again is nothing.
    set_aside(&mut consumer, &taken);
    assert_eq!(consumer.stats().set_aside, 2);
    // The whole ring turns over meanwhile.
    for op_id in 10..10 + 2 * SLOTS as u64 {
        producer.submit(&route("other"), op_id, &[b"x"]).expect("room");
        let taken = pop_all(&mut consumer);
        finish(&mut consumer, &taken);
    }
    assert_eq!(fixture.names(), ["ring", "ring.ack.1", "ring.aside"]);
    finish(&mut consumer, &taken[..2]);
    assert_eq!(fixture.names(), ["ring", "ring.ack.1"], "nothing is left of it");
    let mut arrived = Vec::new();
    let mut reader = reader;
    reader.drain(&mut arrived);
    let last: Vec<(u64, u64)> =
        arrived.iter().rev().take(2).map(|(position, one)| (*position, one.op_id)).collect();
    assert_eq!(last, [(taken[1].position, 2), (taken[0].position, 1)]);
}

#[test]
fn the_next_consumer_takes_it_first_and_once() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    for op_id in 0..4 {
        producer
            .submit(&route("stuck"), op_id, &[b"first", &vec![op_id as u8; 9_000]])
            .expect("room");
    }
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken[..2]);
    // The third is in both places: this consumer dies before it releases the slots.
    consumer.set_aside(consumer.ring_id(), taken[2].position).expect("there is room");
    drop(consumer);

    let mut consumer = fixture.consumer();
    assert_eq!(consumer.stats().set_aside, 3);
    assert_eq!(try_pop(&mut consumer, 2).expect("sound"), taken[..2], "no more than asked for");
    assert_eq!(pop_all(&mut consumer), taken[2..]);
    finish(&mut consumer, &taken[..1]);
    drop(consumer);

    let mut consumer = fixture.consumer();
    assert_eq!(pop_all(&mut consumer), taken[1..], "the first was finished");
    finish(&mut consumer, &taken[1..]);
    assert_eq!((consumer.used_slots(), consumer.stats().set_aside), (0, 0));
    let mut arrived = Vec::new();
    producer.completions().expect("the first").drain(&mut arrived);
    let mut told: Vec<u64> = arrived.iter().map(|(_, one)| one.op_id).collect();
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2, 3], "its producer hears of each, once");
}

#[test]
fn a_consumer_that_dies_before_it_has_said_so_has_finished_nothing() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    for op_id in 0..3 {
        producer.submit(&route("stuck"), op_id, &[b"x"]).expect("room");
    }
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken);
    for one in &taken {
        consumer.finish(consumer.ring_id(), one.position, completion(one.op_id));
    }
    drop(consumer);
    let mut consumer = fixture.consumer();
    assert_eq!(pop_all(&mut consumer), taken, "nobody had heard of it");
    finish(&mut consumer, &taken);
    assert_eq!(fixture.names(), ["ring", "ring.ack.1"]);
}

#[test]
fn it_survives_its_ring_and_is_nobody_elses_answer() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let ring_id = consumer.ring_id();
    let producer = fixture.producer();
    producer.submit(&route("stuck"), 1, &[b"kept"]).expect("room");
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken);
    drop(producer);
    consumer.recover_dead();
    // The same place, another attachment: it must not hear what was for the one before.
    let heir = fixture.producer();
    assert_eq!(heir.participant(), 1);
    finish(&mut consumer, &taken);
    let mut arrived = Vec::new();
    heir.completions().expect("the first").drain(&mut arrived);
    assert!(arrived.is_empty(), "{arrived:?}");

    heir.submit(&route("stuck"), 2, &[b"kept too"]).expect("room");
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken);
    assert!(!consumer.remove_if_empty(), "something is still in its care");
    std::fs::remove_file(&fixture.path).expect("somebody removes the ring");
    let mut consumer = fixture.consumer();
    assert_ne!(consumer.ring_id(), ring_id);
    let mut seen = Vec::new();
    consumer.pop(64, &mut |one| seen.push((one.ring_id, one.position, one.op_id))).expect("sound");
    assert_eq!(seen, [(ring_id, taken[0].position, 2)]);
    consumer.finish(ring_id, taken[0].position, completion(2));
    assert_eq!(consumer.stats().set_aside, 0);
    assert!(consumer.remove_if_empty());
}

#[test]
fn damage_costs_its_own_submission_only() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    for op_id in 0..4 {
        producer.submit(&route("stuck"), op_id, &[&[op_id as u8; 100]]).expect("room");
    }
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken);
    drop(consumer);
    let file = aside_file(&fixture);
    let at = entries(&file);
    assert_eq!(at.len(), 4);
    // One in its body, the last in its length.
    write_u64(&file, at[1] + 0x70, !read_u64(&file, at[1] + 0x70));
    write_u64(&file, at[3] + 8, 12);
    let mut consumer = fixture.consumer();
    assert_eq!(consumer.stats().corrupt, 2);
    assert_eq!(pop_all(&mut consumer), [taken[0].clone(), taken[2].clone()]);
    // Spoiled after it was found: costs itself, too.
    drop(consumer);
    let mut consumer = fixture.consumer();
    write_u64(&file, at[2] + 0x70, !read_u64(&file, at[2] + 0x70));
    assert_eq!(pop_all(&mut consumer), taken[..1]);
    // There is room for others behind it all the same.
    producer.submit(&route("stuck"), 9, &[b"x"]).expect("room");
    let more = pop_all(&mut consumer);
    set_aside(&mut consumer, &more);
    drop(consumer);
    let mut consumer = fixture.consumer();
    assert_eq!(pop_all(&mut consumer), [taken[0].clone(), more[0].clone()]);

    drop(consumer);
    write_u64(&aside_file(&fixture), 0, 42);
    let error = Consumer::open(&fixture.path, &options()).expect_err("no such file");
    assert!(matches!(error, RingError::Incompatible { .. }));
    assert!(error.to_string().contains("ring.aside"), "{error}");
}

#[test]
fn a_spoiled_slot_is_not_set_aside() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    producer.submit(&route("stuck"), 1, &[&[1; 100]]).expect("room");
    let taken = pop_all(&mut consumer);
    write_u64(&fixture.file(), slot_offset(taken[0].position) + 0x50, 0);
    set_aside(&mut consumer, &taken);
    assert_eq!((consumer.used_slots(), consumer.stats().set_aside), (1, 0));
    finish(&mut consumer, &taken);
    assert_eq!(consumer.used_slots(), 0);
}

#[test]
fn a_full_file_is_made_anew_and_beyond_that_slots_stay_taken() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let large = vec![1; 900_000];
    let mut waiting = Vec::new();
    // 16 MiB hold 18 of them. Of the first 30 every third waits, the others are soon done.
    for op_id in 0..30 {
        producer.submit(&route("stuck"), op_id, &[&large]).expect("room");
        let taken = pop_all(&mut consumer);
        set_aside(&mut consumer, &taken);
        match op_id % 3 {
            0 => waiting.extend(taken),
            _ => finish(&mut consumer, &taken),
        }
    }
    assert_eq!((waiting.len(), consumer.used_slots()), (10, 0));
    let refused = loop {
        producer.submit(&route("stuck"), 99, &[&large]).expect("room");
        let taken = pop_all(&mut consumer);
        match consumer.set_aside(consumer.ring_id(), taken[0].position) {
            Ok(()) => waiting.extend(taken),
            Err(error) => break (taken, error),
        }
        consumer.release();
    };
    assert_eq!(waiting.len(), 18);
    assert!(refused.1.to_string().contains("ring.aside"), "{}", refused.1);
    consumer.release();
    assert!(consumer.used_slots() > 200, "it keeps its slots");
    waiting.extend(refused.0);
    drop(consumer);
    let mut consumer = fixture.consumer();
    assert_eq!(pop_all(&mut consumer), waiting, "nothing is lost, in order");
}

#[test]
fn a_length_that_was_scribbled_over_costs_its_own_entry_when_the_file_is_made_anew() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let large = vec![1; 900_000];
    let mut waiting = Vec::new();
    for op_id in 0..18 {
        producer.submit(&route("stuck"), op_id, &[&large]).expect("room");
        let taken = pop_all(&mut consumer);
        set_aside(&mut consumer, &taken);
        waiting.extend(taken);
    }
    let file = aside_file(&fixture);
    let second = entries(&file)[1];
    write_u64(&file, second + 8, read_u64(&file, second + 8) | 0x7fff_fff8);
    // Room for one more only once the file is made anew.
    finish(&mut consumer, &waiting[..1]);
    producer.submit(&route("stuck"), 99, &[&large]).expect("room");
    let more = pop_all(&mut consumer);
    set_aside(&mut consumer, &more);
    assert_eq!(consumer.used_slots(), 0);
    drop(consumer);
    // Whatever became of that one, all others are there.
    let mut consumer = fixture.consumer();
    waiting.extend(more);
    let again = pop_all(&mut consumer);
    assert_eq!(again, waiting[1..]);
}

#[test]
fn producers_of_a_closed_route_wait_and_others_do_not() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let (stuck, other) = (route("stuck"), route("other"));
    consumer.set_closed([&stuck, &route("third")]);
    assert_eq!(producer.submit(&stuck, 1, &[b"x"]), Err(SubmitError::Full));
    assert_eq!(SubmitError::Full.code(), ErrorCode::Backpressure);
    assert!(!producer.has_space(&stuck) && producer.has_space(&other));
    producer.submit(&other, 2, &[b"x"]).expect("open");
    assert!(!producer.wait_for_space(&stuck, Duration::ZERO));
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            barrier.wait();
            producer.wait_for_space(&stuck, LONG)
        });
        barrier.wait();
        // The flag in the ring says that somebody is about to wait or waits already.
        let file = fixture.file();
        while read_u64(&file, 0x200) >> 32 == 0 && !waiter.is_finished() {
            std::thread::yield_now();
        }
        consumer.set_closed([&route("third")]);
        assert!(waiter.join().expect("no panic"));
    });
    producer.submit(&stuck, 3, &[b"x"]).expect("open again");
    // A consumer that dies leaves no route closed.
    consumer.set_closed([&stuck]);
    drop(consumer);
    let mut consumer = fixture.consumer();
    producer.submit(&stuck, 4, &[b"x"]).expect("open");
    // Absurd numbers in the table crash nobody, and are put right by the next look around.
    write_u64(&fixture.file(), 0x800, u64::MAX);
    let _ = producer.submit(&stuck, 5, &[b"x"]);
    consumer.recover_dead();
    producer.submit(&stuck, 6, &[b"x"]).expect("open");
}

#[test]
fn its_producer_hears_of_it_however_far_the_ring_has_gone_on() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    producer.submit(&route("stuck"), 1, &[b"x"]).expect("room");
    let taken = pop_all(&mut consumer);
    set_aside(&mut consumer, &taken);
    drop(consumer);
    // Days later, and the ring was never idle: more than 2^32 slots further on.
    let (file, far) = (fixture.file(), SLOTS as u64 * 5_000_000);
    for position in far..far + SLOTS as u64 {
        write_u64(&file, slot_offset(position), position << 24);
    }
    write_u64(&file, 0x80, far);
    write_u64(&file, 0x100, far);
    let mut consumer = fixture.consumer();
    producer.submit(&route("other"), 2, &[b"x"]).expect("room");
    let all = pop_all(&mut consumer);
    finish(&mut consumer, &all);
    let mut arrived = Vec::new();
    producer.completions().expect("the first").drain(&mut arrived);
    let of: Vec<(u64, u64)> = arrived.iter().map(|(at, one)| (*at, one.op_id)).collect();
    assert_eq!(of, [(taken[0].position, 1), (far, 2)]);
}
