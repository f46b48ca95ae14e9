//! Bytes that nobody should have written: they cost their own submission, or the ring its identity;
//! never a neighbour, never a panic.

mod common;

use common::{Fixture, finish, options, pop_all, read_u64, route, slot_offset, try_pop, write_u64};
use elgate_ring::{Consumer, Producer, SubmitError};
use elgate_types::ErrorCode;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

const TAIL: u64 = 0x80;
const HEAD: u64 = 0x100;

#[test]
fn a_flip_anywhere_in_a_slot_costs_that_submission_only() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let mut reader = producer.completions().expect("the first");
    let file = fixture.file();
    let body_bytes = 6 + 4 + 5;
    let mut corrupt = 0;
    for at in 8..64 + body_bytes {
        let send =
            |op_id: u64| producer.submit(&route("orders"), op_id, &[b"bytes"]).expect("room");
        let (_, victim, _) = (send(1), send(2), send(3));
        let mut byte = [0];
        file.read_exact_at(&mut byte, slot_offset(victim) + at).expect("reads");
        file.write_all_at(&[byte[0] ^ 0x10], slot_offset(victim) + at).expect("writes");
        let taken = pop_all(&mut consumer);
        let ids: Vec<u64> = taken.iter().map(|one| one.op_id).collect();
        assert_eq!(ids, [1, 3], "byte {at}");
        corrupt += 1;
        assert_eq!(consumer.stats().corrupt, corrupt);
        finish(&mut consumer, &taken);
        let mut arrived = Vec::new();
        reader.drain(&mut arrived);
        let (position, told) =
            arrived.iter().find(|(_, one)| one.status.is_some()).expect("the victim is told");
        assert_eq!((*position, told.status), (victim, Some(ErrorCode::SlotCorrupt)), "byte {at}");
        assert_eq!(arrived.len(), 3);
    }
    assert_eq!(consumer.stats().used_slots, 0);
}

#[test]
fn a_flip_in_a_later_slot_of_a_run_is_noticed_too() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let file = fixture.file();
    for at in [SLOT + 8, SLOT + 4_095, 2 * SLOT + 8, 2 * SLOT + 100] {
        let position = producer.submit(&route("a"), 1, &[&[5; 9_000]]).expect("room");
        file.write_all_at(&[0xff], slot_offset(position) + at).expect("writes");
        assert!(pop_all(&mut consumer).is_empty(), "byte {at}");
    }
    assert_eq!(consumer.stats().corrupt, 4);
    assert_eq!(consumer.stats().used_slots, 0);
}

const SLOT: u64 = 4_096;

/// Words that no correct process writes at a position.
fn impossible_words(position: u64) -> Vec<u64> {
    let word = |position: u64, owner: u64, run: u64, state: u64| {
        position << 24 | owner << 14 | run << 4 | state
    };
    vec![
        0xdead_beef_dead_beef,
        word(position, 0, 0, 2),             // no slots
        word(position, 1, 256, 2),           // too many
        word(position, 1, 1_023, 1),         // far too many
        word(position + 1, 1, 1, 2),         // another position's
        word(position + 1_020, 1, 1, 2),     // the next lap's
        word(position + 1_020, 0, 0, 0),     // free for the next lap, though never released
        word(position, 1, 1, 7),             // an unknown state
        word(position, 1, 0, 0),             // free, but somebody's
        word(position, 1, 2_000 & 1_023, 3), // a run across the end
    ]
}

#[test]
fn an_impossible_word_poisons_the_ring_and_the_rest_is_salvaged() {
    for (case, word) in impossible_words(1).into_iter().enumerate() {
        let fixture = Fixture::new();
        let mut consumer = fixture.consumer();
        let producer = fixture.producer();
        let mut reader = producer.completions().expect("the first");
        let large = vec![3; 10_000];
        producer.submit(&route("a"), 0, &[b"zero"]).expect("room");
        producer.submit(&route("a"), 1, &[b"one"]).expect("room");
        producer.submit(&route("a"), 2, &[&large]).expect("room");
        producer.submit(&route("b"), 3, &[b"three"]).expect("room");
        write_u64(&fixture.file(), slot_offset(1), word);
        let first = try_pop(&mut consumer, 64).expect("what lies before is taken");
        assert_eq!(first.len(), 1, "case {case}");
        let poisoned = try_pop(&mut consumer, 64).expect_err("poisoned");
        assert_eq!((poisoned.position, poisoned.word), (1, word), "case {case}");
        assert_eq!(poisoned.code(), ErrorCode::RingCorrupt);
        // What was taken before can still be finished.
        finish(&mut consumer, &first);
        let mut arrived = Vec::new();
        assert_eq!(reader.drain(&mut arrived), 1);
        let old_id = consumer.ring_id();
        assert_eq!(consumer.replace().expect("a fresh ring"), 2, "case {case}");
        assert_ne!(consumer.ring_id(), old_id);
        assert!(producer.poisoned() && producer.replaced());
        assert_eq!(producer.submit(&route("a"), 9, &[b"x"]), Err(SubmitError::Poisoned));
        let again = fixture.producer();
        again.submit(&route("c"), 4, &[b"four"]).expect("room");
        let salvaged = pop_all(&mut consumer);
        let ids: Vec<_> = salvaged.iter().map(|one| (one.op_id, one.owner)).collect();
        assert_eq!(ids, [(2, 0), (3, 0), (4, 1)], "case {case}");
        assert!(salvaged[0].records == [large] && salvaged[0].position > 1_020);
        // Positions of the old ring are nobody's here.
        consumer.finish(old_id, salvaged[0].position, common::completion(1));
        assert_eq!(consumer.in_flight(), 3);
        finish(&mut consumer, &salvaged);
        assert_eq!(consumer.stats().used_slots, 0);
        assert!(Consumer::open(&fixture.path, &options()).is_err(), "the new ring is held too");
        let names = fixture.names();
        assert!(names.iter().all(|name| !name.contains(".new")), "{names:?}");
    }
}

#[test]
fn a_consumer_killed_before_replacing_finds_the_poisoned_ring_again() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    for op_id in 0..3 {
        producer.submit(&route("a"), op_id, &[b"x"]).expect("room");
    }
    let file = fixture.file();
    write_u64(&file, slot_offset(1), 0);
    assert_eq!(try_pop(&mut consumer, 64).expect("the first").len(), 1);
    assert!(try_pop(&mut consumer, 64).is_err());
    // Killed after setting the mark, before the fresh ring had the name.
    drop(consumer);
    file.write_all_at(&1_u32.to_le_bytes(), 0x28).expect("writes");
    assert!(Producer::attach(&fixture.path).is_err());
    let mut consumer = fixture.consumer();
    assert!(try_pop(&mut consumer, 64).is_err());
    assert_eq!(consumer.replace().expect("a fresh ring"), 2);
    let ids: Vec<u64> = pop_all(&mut consumer).iter().map(|one| one.op_id).collect();
    assert_eq!(ids, [0, 2]);
}

#[test]
fn a_scribbled_tail_or_head_stops_nobody_for_ever() {
    for (offset, value) in [
        (TAIL, 3_u64),
        (TAIL, 0),
        (TAIL, u64::MAX),
        (TAIL, 1 << 50),
        (HEAD, u64::MAX),
        (HEAD, 9_999),
    ] {
        let fixture = Fixture::new();
        let mut consumer = fixture.consumer();
        let producer = fixture.producer();
        producer.submit(&route("a"), 1, &[b"x"]).expect("room");
        let taken = pop_all(&mut consumer);
        write_u64(&fixture.file(), offset, value);
        // The producer gets an answer, whatever it is; it does not spin.
        let answer = producer.submit(&route("a"), 2, &[b"x"]);
        let _ = producer.submit(&route("a"), 3, &[&[0; 9_000]]);
        let _ = producer.wait_for_space(&route("a"), std::time::Duration::ZERO);
        if offset == HEAD {
            // The consumer never reads the shared head; its next release puts it right.
            finish(&mut consumer, &taken);
            assert_eq!(read_u64(&fixture.file(), HEAD), 1);
            producer.submit(&route("a"), 4, &[b"x"]).expect("room");
            continue;
        }
        assert!(!consumer.prepare_sleep(), "{value:#x} is noticed before sleeping");
        // A tail that fell back is helped forward again by the producer; others cost the ring.
        let taken = match try_pop(&mut consumer, 64) {
            Ok(taken) => taken,
            Err(_) => {
                consumer.replace().expect("a fresh ring");
                pop_all(&mut consumer)
            }
        };
        // What the producer was told is true: taken is there or salvaged, refused is not.
        assert_eq!(taken.iter().any(|one| one.op_id == 2), answer.is_ok(), "{value:#x}");
        finish(&mut consumer, &taken);
        fixture.producer().submit(&route("a"), 4, &[b"x"]).expect("room");
        assert_eq!(pop_all(&mut consumer).len(), 1);
    }
}

#[test]
fn a_broken_acknowledgement_file_hurts_its_owner_only() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let (broken, sound) = (fixture.producer(), fixture.producer());
    let acks = fixture.directory.path().join("ring.ack.1");
    let file = std::fs::File::options().write(true).open(acks).expect("opens");
    file.write_all_at(&[0xff; 8], 0x100).expect("a read counter beyond everything");
    for op_id in 0..10_000 {
        broken.submit(&route("a"), op_id, &[b"x"]).expect("room");
        let taken = pop_all(&mut consumer);
        finish(&mut consumer, &taken);
    }
    sound.submit(&route("a"), 1, &[b"x"]).expect("room");
    let taken = pop_all(&mut consumer);
    finish(&mut consumer, &taken);
    assert_eq!(sound.completions().expect("the first").drain(&mut Vec::new()), 1);
    let stats = consumer.stats();
    assert!(stats.completions_waiting <= 4_096 && stats.completions_dropped > 0, "bounded");
    // Nothing it says is believed beyond the size of its ring.
    let mut out = Vec::new();
    assert!(broken.completions().expect("the first").drain(&mut out) <= 4_096);
}

/// Xorshift: the same scribbles in every run.
struct Scribbles(u64);

impl Scribbles {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Runs a consumer and a producer while another thread writes random bytes over the file, at
/// offsets chosen by `place`, until `enough` has happened: submissions arrived, submissions
/// spoilt, rings replaced.
fn run_under_fire(place: fn(u64) -> u64, enough: fn(u64, u64, u64) -> bool) {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let done = AtomicBool::new(false);
    let (mut arrived, mut replaced) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Scribbles(0x9e37_79b9_7f4a_7c15);
            while !done.load(Ordering::Relaxed) {
                let Ok(file) = std::fs::File::options().write(true).open(&fixture.path) else {
                    continue;
                };
                for _ in 0..64 {
                    let (at, bytes) = (place(random.next()), random.next().to_le_bytes());
                    let length = 1 + random.next() as usize % 8;
                    file.write_all_at(&bytes[..length], at).expect("writes");
                }
            }
        });
        scope.spawn(|| {
            let mut producer = None;
            let mut op_id = 0;
            while !done.load(Ordering::Relaxed) {
                let Some(attached) = &producer else {
                    producer = Producer::attach(&fixture.path).ok();
                    continue;
                };
                let payload = vec![1; op_id as usize * 997 % 30_000];
                match attached.submit(&route("a"), op_id, &[&payload]) {
                    Err(SubmitError::Poisoned | SubmitError::Corrupt | SubmitError::Fenced) => {
                        producer = None;
                    }
                    _ => op_id += 1,
                }
            }
        });
        let mut round = 0_u64;
        while !enough(arrived, consumer.stats().corrupt, replaced) {
            round += 1;
            match try_pop(&mut consumer, 64) {
                Ok(taken) => {
                    for one in &taken {
                        assert!(one.records.iter().flatten().all(|&byte| byte == 1), "as sent");
                    }
                    arrived += taken.len() as u64;
                    finish(&mut consumer, &taken);
                    if taken.is_empty() && round.is_multiple_of(8) && consumer.prepare_sleep() {
                        consumer.end_sleep();
                    }
                    if round.is_multiple_of(64) {
                        consumer.recover_dead();
                    }
                }
                Err(_) => {
                    consumer.replace().expect("a fresh ring");
                    replaced += 1;
                }
            }
            assert!(consumer.stats().used_slots <= 1_020);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn scribbling_over_slot_contents_costs_submissions_only() {
    // Only headers after the word and bodies: words stay what the protocol made them.
    run_under_fire(
        |random| {
            let (slot, at) = (random % 1_020, 8 + (random >> 20) % (SLOT - 16));
            slot_offset(slot) + at
        },
        |arrived, corrupt, replaced| {
            assert_eq!(replaced, 0, "contents never poison a ring");
            arrived > 2_000 && corrupt > 50
        },
    );
}

#[test]
fn scribbling_over_everything_costs_rings_but_never_a_panic() {
    run_under_fire(
        |random| {
            // Half into the hot control words, half anywhere; not the magic and geometry, which
            // attached processes never read again.
            let all = 4 * 1024 * 1024 - 8 - 0x80;
            if random & 1 == 0 { 0x80 + (random >> 8) % 0x200 } else { 0x80 + (random >> 8) % all }
        },
        |_, _, replaced| replaced > 25,
    );
}
