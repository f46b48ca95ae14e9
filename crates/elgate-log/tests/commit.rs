//! Group commit: what is acknowledged, when, and what lands in the files.

mod support;

use elgate_io::Driver;
use elgate_log::{AppendError, LogEvent, LogOptions, Source};
use elgate_types::limits::PAYLOAD_BYTES_MAX;
use elgate_types::{FlushMode, Lsn};
use support::{Found, Rig, batches, small};

#[test]
fn records_become_durable_in_order_and_read_back() {
    let mut rig = Rig::new(small());
    assert_eq!(rig.recovery.next_lsn, Lsn(1));
    for bytes in [0, 1, 7, 8, 100, 5_000] {
        rig.append(bytes).expect("taken");
    }
    assert_eq!(rig.writer.durable(), Lsn(0), "nothing is acknowledged before the device says so");
    rig.until_durable(Lsn(6));
    assert!(matches!(rig.events.last(), Some(LogEvent::Durable { through: Lsn(6) })));
    assert_eq!(rig.read(), [Found::Records(1, 6)]);
}

#[test]
fn what_arrives_during_a_write_is_the_next_batch() {
    for side_by_side in [1, 2] {
        let options = LogOptions { small_writes_in_flight_max: side_by_side, ..small() };
        let mut rig = Rig::new(options);
        rig.append(10).expect("taken");
        rig.submit();
        for _ in 0..50 {
            rig.append(10).expect("taken");
            rig.submit();
        }
        assert_eq!(rig.driver.in_flight(), side_by_side, "the next batch waits for its turn");
        rig.until_durable(Lsn(51));
        let found: Vec<_> = batches(&rig.world, &rig.segments()[0])
            .iter()
            .map(|batch| (batch.2, batch.3))
            .collect();
        match side_by_side {
            1 => assert_eq!(found, [(1, 1), (2, 50)]),
            _ => assert_eq!(found, [(1, 1), (2, 1), (3, 49)]),
        }
    }
}

#[test]
fn large_batches_go_out_side_by_side_within_the_window() {
    let mut rig = Rig::new(LogOptions { writes_in_flight_max: 16, ..small() });
    let mut appended = Lsn(0);
    loop {
        match rig.append(200_000) {
            Ok(lsn) => appended = lsn,
            Err(AppendError::Backlogged { waiting_bytes }) => {
                assert!(waiting_bytes > 7_000_000);
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    rig.submit();
    assert!(rig.driver.in_flight() > 1);
    assert!(rig.writer.stats().unwritten_bytes > 0, "more than the window waits");
    rig.until_durable(appended);
    assert_eq!(rig.read(), [Found::Records(1, appended.0)]);
}

#[test]
fn a_submission_is_committed_whole() {
    let mut rig = Rig::new(small());
    rig.append_from(850_000, Source { ring_id: 5, position: 1 }).expect("taken");
    for _ in 0..12 {
        rig.append_from(100_000, Source { ring_id: 5, position: 2 }).expect("taken");
    }
    rig.append_from(100_000, Source { ring_id: 5, position: 3 }).expect("taken");
    rig.until_durable(Lsn(14));
    let counts: Vec<_> =
        batches(&rig.world, &rig.segments()[0]).iter().map(|batch| batch.3).collect();
    assert_eq!(counts, [13, 1], "the submission joined what was open, and was not divided");
}

#[test]
fn the_largest_payload_fits_and_a_larger_one_is_refused() {
    let mut rig = Rig::new(small());
    assert_eq!(
        rig.append(PAYLOAD_BYTES_MAX + 1),
        Err(AppendError::TooLarge { bytes: PAYLOAD_BYTES_MAX + 1 })
    );
    for _ in 0..10 {
        rig.commit(PAYLOAD_BYTES_MAX);
    }
    assert!(rig.segments().len() >= 3, "it rolled");
    assert_eq!(rig.read(), [Found::Records(1, 10)]);
}

#[test]
fn rolls_across_many_segments_without_a_gap() {
    let mut rig = Rig::new(small());
    let mut last = Lsn(0);
    for round in 0..400 {
        last = rig.append(30_000 + round * 97).expect("taken");
        if round % 3 == 0 {
            rig.until_durable(last);
        }
    }
    rig.until_durable(last);
    let rolls = rig.events.iter().filter(|event| matches!(event, LogEvent::Rolled { .. })).count();
    assert!(rolls >= 4, "{rolls} rolls");
    assert_eq!(rig.read(), [Found::Records(1, 400)]);
    let mut rig = rig.crash(true, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(401));
    rig.commit(10);
    assert_eq!(rig.read(), [Found::Records(1, 401)]);
}

#[test]
fn a_quiet_log_covers_its_last_acknowledgement_once() {
    let mut rig = Rig::new(small());
    rig.commit(10);
    rig.until("the marker", |rig| batches(&rig.world, &rig.segments()[0]).len() == 2);
    while rig.turn() {}
    let found = batches(&rig.world, &rig.segments()[0]);
    assert_eq!(found.iter().map(|batch| batch.3).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(rig.writer.next_wakeup(), None, "a covered log sleeps");
}

#[test]
fn closing_writes_everything_and_frees_the_log() {
    let mut rig = Rig::new(small());
    for _ in 0..100 {
        rig.append(1_000).expect("taken");
    }
    rig.close();
    assert_eq!(rig.writer.durable(), Lsn(100));
    assert_eq!(rig.append(1), Err(AppendError::Closed));
    let world = rig.world.clone();
    let error = Rig::try_open(world.clone(), small()).err().expect("still locked");
    assert!(error.to_string().contains("another process"), "{error}");
    drop(rig);
    let rig = Rig::open(world, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(101));
    assert_eq!(rig.recovery.torn_bytes, 0);
}

#[test]
fn manual_mode_acknowledges_only_when_flushed() {
    let mut rig = Rig::new(LogOptions { flush: FlushMode::Manual, ..small() });
    for _ in 0..10 {
        let lsn = rig.append(100).expect("taken");
        rig.until("the write", |rig| rig.writer.visible() == lsn);
    }
    while rig.turn() {}
    assert_eq!(rig.writer.durable(), Lsn(0));
    assert!(rig.events.iter().any(|event| matches!(event, LogEvent::Written { through: Lsn(10) })));
    assert!(!rig.events.iter().any(|event| matches!(event, LogEvent::Durable { .. })));
    assert_eq!(rig.read(), [], "a reader sees what is durable");

    rig.append(100).expect("taken");
    rig.writer.flush();
    rig.until_durable(Lsn(11));
    assert!(matches!(rig.events.last(), Some(LogEvent::Durable { through: Lsn(11) })));
    rig.append(100).expect("taken");
    rig.until("the write", |rig| rig.writer.visible() == Lsn(12));
    let rig = rig.crash(true, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(12), "the power cut took what was not flushed");
}

#[test]
fn manual_mode_bounds_what_is_not_synced() {
    let mut rig = Rig::new(LogOptions { flush: FlushMode::Manual, ..small() });
    for _ in 0..100 {
        let lsn = rig.append(200_000).expect("taken");
        rig.until("the write", |rig| rig.writer.visible() == lsn);
    }
    while rig.turn() {}
    assert!(rig.writer.durable() > Lsn(60), "synced by itself at {}", rig.writer.durable());
    assert_eq!(rig.crash(true, small()).recovery.quarantined, []);
}

#[test]
fn mode_none_never_claims_durability_and_serves_what_is_written() {
    let mut rig = Rig::new(LogOptions { flush: FlushMode::None, ..small() });
    for _ in 0..50 {
        let lsn = rig.append(200_000).expect("taken");
        rig.until("the write", |rig| rig.writer.visible() == lsn);
    }
    assert!(!rig.events.iter().any(|event| matches!(event, LogEvent::Durable { .. })));
    assert_eq!(rig.read(), [Found::Records(1, 50)]);
    assert_eq!(rig.writer.cached(Lsn(50)).map(|batch| batch.last_lsn()), Some(Lsn(50)));
    let rig = rig.crash(false, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(51), "what was written outlives the process");
}

#[test]
fn the_tail_is_served_from_memory() {
    let mut rig = Rig::new(small());
    for _ in 0..20 {
        rig.commit(100);
    }
    let batch = rig.writer.cached(Lsn(20)).expect("cached");
    let records: Vec<_> = batch.records(Lsn(20)).map(|record| record.payload.to_vec()).collect();
    assert_eq!(records, [support::payload(20, 100)]);
    assert!(rig.writer.cached(Lsn(21)).is_none());
}

#[test]
fn a_log_moves_between_threads() {
    fn moves<T: Send>() {}
    moves::<elgate_log::LogWriter>();
    moves::<elgate_log::LogReader>();
    moves::<elgate_log::Cursor>();
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let world = elgate_io::sim::SimWorld::new(1);
    let options = LogOptions { segment_bytes: 1_000, ..small() };
    let error = Rig::try_open(world, options).err().expect("refused");
    assert!(error.to_string().contains("segment_bytes is 1000"), "{error}");
    assert_eq!(error.code(), elgate_types::ErrorCode::ConfigInvalid);
}
