//! What goes in comes out: every size, packed and split over slots, around the end of the file,
//! from many threads, with completions that find their way back.

mod common;

use common::{Fixture, completion, finish, pop_all, route, try_pop};
use elgate_ring::{OUTSTANDING_MAX, SubmitError};
use elgate_types::limits::{PAYLOAD_BYTES_MAX, RECORDS_PER_SUBMISSION_MAX};
use elgate_types::{ErrorCode, Level, Lsn};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that differ between records and along them.
fn payload(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (seed * 31 + index * 7 + index / 251) as u8).collect()
}

#[test]
fn every_size_arrives_intact() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    // Around the seams: one slot's body (4,032 with route and length), each further slot's (4,088).
    let seams = [4_032 - 6 - 4, 4_032 + 4_088 - 10, 4_032 + 2 * 4_088 - 10];
    let mut sizes = vec![0, 1, 7, 8, 4_096, 65_536, PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX];
    sizes.extend(seams.iter().flat_map(|seam| seam - 2..=seam + 2));
    for (index, &bytes) in sizes.iter().enumerate() {
        let sent = payload(index, bytes);
        let position =
            producer.submit(&route("orders"), index as u64, &[&sent]).expect("there is room");
        let taken = pop_all(&mut consumer);
        assert_eq!(taken.len(), 1, "{bytes} bytes");
        assert_eq!((taken[0].position, taken[0].op_id), (position, index as u64));
        assert_eq!(taken[0].route, "orders");
        assert!(taken[0].records == [sent], "{bytes} bytes differ");
        finish(&mut consumer, &taken);
    }
    assert_eq!(consumer.stats().used_slots, 0);
    assert_eq!(consumer.stats().corrupt, 0);
}

#[test]
fn many_records_travel_in_one_submission() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    let records: Vec<Vec<u8>> =
        (0..RECORDS_PER_SUBMISSION_MAX).map(|i| payload(i, i % 90)).collect();
    let borrowed: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    producer.submit(&route("a"), 1, &borrowed).expect("fits");
    let mut encoded = Vec::new();
    for record in &records {
        encoded.extend_from_slice(&(record.len() as u32).to_le_bytes());
        encoded.extend_from_slice(record);
    }
    let count = records.len() as u32;
    producer.submit_encoded(&route("a"), 2, count, &encoded).expect("fits");
    let taken = pop_all(&mut consumer);
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().all(|one| one.records == records));
}

#[test]
fn bad_submissions_are_refused_before_anything_is_claimed() {
    let fixture = Fixture::new();
    let consumer = fixture.consumer();
    let producer = fixture.producer();
    let large = vec![0; PAYLOAD_BYTES_MAX + 1];
    let a = route("a");
    let error = producer.submit(&a, 1, &[&large]).expect_err("too large");
    assert_eq!(error, SubmitError::RecordTooLarge { bytes: PAYLOAD_BYTES_MAX + 1 });
    assert_eq!(error.code(), ErrorCode::PayloadTooLarge);
    let half = vec![0; 600_000];
    assert!(matches!(
        producer.submit(&a, 1, &[&half, &half]),
        Err(SubmitError::TooLarge { bytes: 1_200_009, .. })
    ));
    assert_eq!(producer.submit(&a, 1, &[]), Err(SubmitError::RecordCount { records: 0 }));
    let many = vec![&b""[..]; RECORDS_PER_SUBMISSION_MAX + 1];
    assert_eq!(producer.submit(&a, 1, &many), Err(SubmitError::RecordCount { records: 4_097 }));
    for (count, body) in
        [(1, &b"\x02\0\0\0a"[..]), (2, b"\x01\0\0\0a"), (1, b"\x01\0\0\0ab"), (1, b"\xff\xff")]
    {
        let refused = producer.submit_encoded(&a, 1, count, body);
        assert_eq!(refused, Err(SubmitError::Malformed { records: count }));
    }
    assert_eq!(consumer.stats().tail, 0);
}

#[test]
fn runs_never_cross_the_end_of_the_file() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    // Runs of 3, 7 and 245 slots meet the end at every kind of distance within a few laps.
    let sizes = [9_000, 25_000, PAYLOAD_BYTES_MAX];
    for lap in 0..60 {
        let expected = lap as u64;
        let sent = payload(lap, sizes[lap % 3]);
        producer.submit(&route("a"), expected, &[&sent]).expect("there is room");
        for taken in pop_all(&mut consumer) {
            assert_eq!(taken.op_id, expected);
            assert!(taken.records == [payload(lap, sizes[lap % 3])]);
            assert!(taken.position % 1_020 + u64::from(taken.slots) <= 1_020);
            finish(&mut consumer, &[taken]);
        }
    }
    let stats = consumer.stats();
    assert!(stats.tail > 4 * 1_020, "several laps");
    assert_eq!((stats.taken, stats.used_slots, stats.corrupt), (60, 0, 0));
}

#[test]
fn completions_come_back_in_the_order_they_were_given() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let (first, second) = (fixture.producer(), fixture.producer());
    let mut positions = Vec::new();
    for op_id in 0..10 {
        positions.push(first.submit(&route("a"), op_id, &[b"x"]).expect("room"));
        second.submit(&route("b"), op_id + 100, &[b"y"]).expect("room");
    }
    let taken = pop_all(&mut consumer);
    assert_eq!(taken.len(), 20);
    let ring_id = consumer.ring_id();
    // Routes do not wait for each other: finished backwards.
    for one in taken.iter().rev() {
        consumer.finish(ring_id, one.position, completion(one.op_id));
        // A second time, or for another ring: ignored.
        consumer.finish(ring_id, one.position, completion(77));
        consumer.finish(ring_id ^ 1, one.position, completion(77));
    }
    let mut reader = first.completions().expect("the first to ask");
    assert!(first.completions().is_none(), "one reader only");
    let mut arrived = Vec::new();
    assert_eq!(reader.drain(&mut arrived), 0, "nothing is visible before it is published");
    consumer.publish_completions();
    assert_eq!(reader.drain(&mut arrived), 10);
    let expected: Vec<_> =
        (0..10).rev().map(|op| (positions[op as usize], completion(op))).collect();
    assert_eq!(arrived, expected);
    assert_eq!(arrived[0].1.first_lsn, Lsn(1_009));
    assert_eq!(arrived[0].1.level, Level::Durable);
    consumer.release();
    assert_eq!(consumer.stats().used_slots, 0);
}

#[test]
fn a_participant_that_does_not_read_loses_nothing_within_its_limit() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    // Twice the limit fills the completion ring exactly; what is more waits in memory.
    for op_id in 0..(2 * OUTSTANDING_MAX as u64 + 500) {
        producer.submit(&route("a"), op_id, &[b"x"]).expect("room");
        let taken = pop_all(&mut consumer);
        finish(&mut consumer, &taken);
    }
    assert_eq!(consumer.stats().completions_waiting, 500);
    let mut reader = producer.completions().expect("the first to ask");
    let mut arrived = Vec::new();
    assert_eq!(reader.drain(&mut arrived), 4_096);
    consumer.publish_completions();
    assert_eq!(reader.drain(&mut arrived), 500);
    assert!(arrived.iter().map(|(_, one)| one.op_id).eq(0..4_596));
    assert_eq!(consumer.stats().completions_dropped, 0);
}

#[test]
fn threads_and_producers_share_a_ring() {
    const PER_THREAD: usize = 4_000;
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let (shared, own) = (fixture.producer(), fixture.producer());
    let running = AtomicUsize::new(3);
    let mut next = [0_usize; 3];
    std::thread::scope(|scope| {
        for (thread, producer) in [&shared, &shared, &own].into_iter().enumerate() {
            let running = &running;
            scope.spawn(move || {
                for index in 0..PER_THREAD {
                    let op_id = (thread * PER_THREAD + index) as u64;
                    let sent = payload(op_id as usize, index * 37 % 13_000);
                    while let Err(error) = producer.submit(&route("r"), op_id, &[&sent]) {
                        assert_eq!(error, SubmitError::Full);
                        producer.wait_for_space(&route("r"), std::time::Duration::from_secs(1));
                    }
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        loop {
            let finished = running.load(Ordering::Acquire) == 0;
            let taken = try_pop(&mut consumer, 64).expect("the ring is sound");
            if finished && taken.is_empty() {
                break;
            }
            for one in &taken {
                let thread = one.op_id as usize / PER_THREAD;
                let index = one.op_id as usize % PER_THREAD;
                assert_eq!(index, next[thread], "a thread's submissions keep their order");
                next[thread] += 1;
                assert!(one.records == [payload(one.op_id as usize, index * 37 % 13_000)]);
            }
            finish(&mut consumer, &taken);
        }
    });
    assert_eq!(next, [PER_THREAD; 3]);
    assert_eq!(consumer.stats().used_slots, 0);
}
