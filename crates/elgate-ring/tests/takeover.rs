//! The consumer's own death, and places: what one consumer took and did not finish, the next one
//! takes again; a place is freed when nothing of its holder is left.

mod common;

use common::{Fixture, SLOTS, finish, options, pop_all, read_u64, route, slot_offset, write_u64};
use elgate_ring::{Consumer, Producer, RingError, RingOptions, examine, ring_path};
use elgate_types::ErrorCode;

#[test]
fn a_second_consumer_is_refused() {
    let fixture = Fixture::new();
    let first = fixture.consumer();
    let error = Consumer::open(&fixture.path, &options()).expect_err("in use");
    assert!(matches!(&error, RingError::InUse { pid, .. } if *pid == std::process::id()));
    assert_eq!(error.code(), ErrorCode::InUse);
    assert_eq!(first.epoch(), 1);
    drop(first);
    assert_eq!(fixture.consumer().epoch(), 2);
    assert_eq!(fixture.names(), ["ring"], "no temporary files stay behind");
}

#[test]
fn a_closed_ring_is_free_at_once_whoever_still_waits_on_it() {
    let fixture = Fixture::new();
    let consumer = Consumer::open(&fixture.path, &options()).expect("opens");
    let waited_for = consumer.futex_word();
    drop(consumer);
    drop(Consumer::open(&fixture.path, &options()).expect("nobody holds it any more"));
    drop(waited_for);
}

#[test]
fn unfinished_submissions_are_taken_again_by_the_next_consumer() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let large = vec![9; 10_000];
    for op_id in 0..6 {
        producer.submit(&route("a"), op_id, &[&large]).expect("room");
    }
    let taken = pop_all(&mut consumer);
    let ring_id = consumer.ring_id();
    // Two are finished and released; the fourth is finished, but waits for the third.
    finish(&mut consumer, &[taken[0].clone(), taken[1].clone(), taken[3].clone()]);
    assert!(producer.consumer_alive());
    drop(consumer);
    assert!(!producer.consumer_alive());
    // Nobody is there, and the ring goes on taking.
    producer.submit(&route("a"), 6, &[b"later"]).expect("room");
    let mut consumer = fixture.consumer();
    assert_eq!((consumer.ring_id(), consumer.epoch()), (ring_id, 2));
    let again = pop_all(&mut consumer);
    assert_eq!(again[..4], taken[2..]);
    assert_eq!(again[4].op_id, 6);
    finish(&mut consumer, &again);
    let mut arrived = Vec::new();
    producer.completions().expect("the first").drain(&mut arrived);
    let ids: Vec<u64> = arrived.iter().map(|(_, one)| one.op_id).collect();
    assert_eq!(ids, [0, 1, 3, 2, 3, 4, 5, 6], "the fourth is told twice: its position is the same");
    assert_eq!(consumer.stats().used_slots, 0);
}

#[test]
fn a_consumer_that_died_while_releasing_is_taken_over_from() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let large = vec![9; 10_000];
    for op_id in 0..3 {
        producer.submit(&route("a"), op_id, &[&large]).expect("room");
    }
    let taken = pop_all(&mut consumer);
    assert!(taken.iter().all(|one| one.slots == 3));
    drop(consumer);
    // As if killed after releasing the first run and two slots of the second, head not yet moved.
    let file = fixture.file();
    let lap = SLOTS as u64;
    for position in [0, 1, 2, 4, 5] {
        write_u64(&file, slot_offset(position), (position + lap) << 24);
    }
    let mut consumer = fixture.consumer();
    assert_eq!(read_u64(&file, 0x100), 3, "the head is moved over what was released");
    let again = pop_all(&mut consumer);
    assert_eq!(again, taken[1..]);
    finish(&mut consumer, &again);
    assert_eq!(consumer.stats().used_slots, 0);
    // All slots work on the next lap.
    for op_id in 0..lap {
        producer.submit(&route("a"), op_id, &[b"x"]).expect("room");
    }
    assert_eq!(pop_all(&mut consumer).len(), SLOTS);
}

#[test]
fn places_are_taken_given_back_and_told_apart() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let (first, second) = (fixture.producer(), fixture.producer());
    assert_eq!((first.participant(), second.participant()), (1, 2));
    assert_eq!(consumer.stats().participants, 2);
    drop(first);
    assert_eq!(fixture.names(), ["ring", "ring.ack.2"], "leaves at once with nothing outstanding");
    let third = fixture.producer();
    assert_eq!(third.participant(), 1);
    // With something in the ring the place stays until that is finished.
    third.submit(&route("a"), 5, &[b"x"]).expect("room");
    drop(third);
    let fourth = fixture.producer();
    assert_eq!(fourth.participant(), 3);
    consumer.recover_dead();
    assert_eq!(consumer.stats().participants, 3);
    let taken = pop_all(&mut consumer);
    consumer.recover_dead();
    assert_eq!(consumer.stats().participants, 3, "taken is not finished");
    finish(&mut consumer, &taken);
    consumer.recover_dead();
    assert_eq!(consumer.stats().participants, 2);
    assert!(consumer.has_participants());
    let fifth = fixture.producer();
    assert_eq!(fifth.participant(), 1);
    let mut arrived = Vec::new();
    fifth.completions().expect("the first").drain(&mut arrived);
    assert_eq!(arrived, [], "a new holder hears nothing of the old one's");
    drop((second, fourth, fifth));
    assert!(!consumer.has_participants());
    assert_eq!(fixture.names(), ["ring"]);
}

#[test]
fn when_all_places_are_taken_the_next_producer_is_told_so() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let file = fixture.file();
    for index in 1..1_024 {
        write_u64(&file, 0x2000 + index * 8, 77 << 32 | 3 << 8 | 1);
    }
    let error = Producer::attach(&fixture.path).expect_err("no place");
    assert_eq!(error.code(), ErrorCode::TooManyProducers);
    // Nobody holds their locks: they are dead, and the daemon frees them.
    consumer.recover_dead();
    assert_eq!(fixture.producer().participant(), 1);
}

#[test]
fn producers_learn_what_the_daemon_says_about_itself() {
    let fixture = Fixture::new();
    assert_eq!(examine(&fixture.path).expect("answers"), None);
    let two = RingOptions { ring_count: 2, ..options() };
    let consumer = Consumer::open(&fixture.path, &two).expect("opens");
    let producer = fixture.producer();
    assert_eq!((producer.ring_count(), producer.ring_id()), (2, consumer.ring_id()));
    assert_eq!(producer.data_dir(), "/var/lib/elgate");
    producer.submit(&route("a"), 1, &[b"x"]).expect("room");
    let report = examine(&fixture.path).expect("answers").expect("is there");
    assert!(report.consumer_alive && report.consumer_pid == std::process::id());
    assert_eq!((report.used_slots, report.slots, report.ring_count), (1, 1_020, 2));
    drop(consumer);
    assert!(!examine(&fixture.path).expect("answers").expect("is there").consumer_alive);
    // The next daemon may be configured differently.
    let other = RingOptions { data_dir: "/elsewhere".to_owned(), ..RingOptions::default() };
    let _consumer = Consumer::open(&fixture.path, &other).expect("opens");
    assert_eq!((producer.ring_count(), producer.data_dir()), (1, "/elsewhere".to_owned()));
    assert_eq!(ring_path(&fixture.path, 0), fixture.path);
    assert!(ring_path(&fixture.path, 3).ends_with("ring.3"));
}

#[test]
fn a_ring_is_removed_only_when_nothing_is_in_it() {
    let fixture = Fixture::new();
    let consumer = fixture.consumer();
    let producer = fixture.producer();
    producer.submit(&route("a"), 1, &[b"x"]).expect("room");
    assert!(!consumer.remove_if_empty());
    let mut consumer = fixture.consumer();
    producer.submit(&route("a"), 2, &[b"x"]).expect("the ring goes on");
    let taken = pop_all(&mut consumer);
    assert_eq!(taken.len(), 2);
    finish(&mut consumer, &taken);
    assert!(consumer.remove_if_empty());
    assert!(producer.poisoned());
    assert_eq!(fixture.names(), Vec::<String>::new());
}
