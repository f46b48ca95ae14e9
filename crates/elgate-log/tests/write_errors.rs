//! A device that refuses: the descriptor is left, what was not acknowledged is written again
//! elsewhere, and a log that finds nowhere to go parks until it does.

mod support;

use elgate_io::Driver;
use elgate_io::sim::{FaultPlan, SimWorld};
use elgate_log::{AppendError, LogEvent, LogOptions, LogReader, ReadFrom};
use elgate_types::{ErrorCode, FlushMode, Lsn};
use std::path::Path;
use support::{DIR, Found, Rig, batches, no_faults, read_on, small};

fn epochs(rig: &Rig) -> Vec<u64> {
    let epoch_at = |path: &std::path::PathBuf| {
        let bytes = rig.world.file_bytes(path).expect("reads");
        let at = batches(&rig.world, path).first()?.0 as usize + 0x20;
        Some(u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight")))
    };
    rig.segments().iter().filter_map(epoch_at).collect()
}

#[test]
fn what_was_not_acknowledged_is_written_again_with_a_higher_epoch() {
    let mut rig = Rig::new(small());
    rig.commit(100);
    rig.world.set_faults(FaultPlan { write_error_per_mille: 1_000, ..FaultPlan::default() });
    rig.append(100).expect("taken");
    rig.append(100).expect("taken");
    rig.submit();
    // Only this write fails.
    rig.until("the failure", |rig| {
        if rig.world.fault_counts().write_errors == 1 {
            no_faults(&rig.world);
        }
        rig.events.iter().any(|event| matches!(event, LogEvent::Abandoned { .. }))
    });
    assert_eq!(rig.writer.durable(), Lsn(1), "nothing in flight was acknowledged");
    rig.append(100).expect("still taken");
    rig.until_durable(Lsn(4));
    assert_eq!(epochs(&rig), [1, 2]);
    assert_eq!(rig.read(), [Found::Records(1, 4)]);
    assert_eq!(rig.writer.stats().abandoned_segments, 1);
    let rig = rig.crash(true, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(5));
    assert_eq!(rig.recovery.quarantined, []);
}

#[test]
fn a_short_write_is_never_acknowledged() {
    let mut rig = Rig::new(small());
    rig.commit(10);
    rig.world.set_faults(FaultPlan { short_write_per_mille: 1_000, ..FaultPlan::default() });
    rig.append(50_000).expect("taken");
    rig.until("the failure", |rig| {
        rig.events.iter().any(|event| matches!(event, LogEvent::Abandoned { .. }))
    });
    assert_eq!(rig.writer.durable(), Lsn(1));
    no_faults(&rig.world);
    rig.until_durable(Lsn(2));
    assert_eq!(rig.read(), [Found::Records(1, 2)]);
}

#[test]
fn a_full_disk_parks_the_log_until_there_is_space() {
    let world = SimWorld::new(3);
    let mut rig = Rig::open(world.clone(), small());
    let full = FaultPlan { enospc_after_bytes: Some(6 * 1024 * 1024), ..FaultPlan::default() };
    world.set_faults(full.clone());
    let mut refused = None;
    for _ in 0..200 {
        match rig.append(100_000) {
            Ok(_) => {}
            Err(error @ AppendError::Parked { .. }) => refused = Some(error),
            Err(error) => panic!("{error}"),
        }
        rig.turn();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("parked");
    assert_eq!(refused.code(), ErrorCode::LogUnavailable);
    assert!(rig.writer.stats().parked.is_some());
    let parked = |event: &LogEvent| matches!(event, LogEvent::Parked { .. });
    let acked = rig.writer.durable();
    assert!(acked > Lsn(0), "what fitted was acknowledged");

    // Tried again every second, told of once.
    let before = world.now();
    for _ in 0..20 {
        rig.turn();
    }
    assert!(world.now().since(before) >= std::time::Duration::from_secs(3));
    assert_eq!(rig.events.iter().filter(|event| parked(event)).count(), 1);

    no_faults(&world);
    let last = Lsn(rig.writer.next_lsn().0 - 1);
    rig.until_durable(last);
    assert!(rig.events.iter().any(|event| matches!(event, LogEvent::Resumed)));
    let last = rig.commit(10);
    assert_eq!(rig.read(), [Found::Records(1, last.0)]);
}

#[test]
fn a_device_that_refuses_everything_costs_no_space_and_no_records() {
    let mut rig = Rig::new(small());
    rig.commit(10);
    rig.world.set_faults(FaultPlan { write_error_per_mille: 1_000, ..FaultPlan::default() });
    rig.append(10).expect("taken");
    for _ in 0..200 {
        rig.turn();
    }
    assert!(rig.writer.stats().parked.is_some());
    assert!(rig.segments().len() <= 3, "{:?}", rig.segments());
    no_faults(&rig.world);
    rig.until_durable(Lsn(2));
    rig.commit(10);
    assert_eq!(rig.read(), [Found::Records(1, 3)]);
}

#[test]
fn a_parked_log_wakes_itself_even_with_a_segment_in_reserve() {
    let mut rig = Rig::new(small());
    // Half full: the next segment is prepared.
    for _ in 0..3 {
        rig.commit(900_000);
    }
    while rig.driver.in_flight() > 0 {
        rig.turn();
    }
    assert_eq!(rig.segments().len(), 2);
    rig.world.set_faults(FaultPlan { write_error_per_mille: 1_000, ..FaultPlan::default() });
    rig.append(10).expect("taken");
    rig.until("parking", |rig| rig.writer.stats().parked.is_some());
    no_faults(&rig.world);
    rig.until_durable(Lsn(4));
    assert!(rig.writer.stats().parked.is_none());
    let rig = rig.crash(true, small());
    assert_eq!(rig.read(), [Found::Records(1, 4)]);
}

#[test]
fn a_failed_sync_is_not_tried_again_on_that_descriptor() {
    let mut rig = Rig::new(LogOptions { flush: FlushMode::Manual, ..small() });
    rig.append(10).expect("taken");
    rig.writer.flush();
    rig.until_durable(Lsn(1));
    rig.append(10).expect("taken");
    rig.until("the write", |rig| rig.writer.visible() == Lsn(2));
    rig.world.set_faults(FaultPlan { sync_error_per_mille: 1_000, ..FaultPlan::default() });
    rig.writer.flush();
    rig.until("the failure", |rig| {
        rig.events.iter().any(|event| matches!(event, LogEvent::Abandoned { .. }))
    });
    assert_eq!(rig.writer.durable(), Lsn(1));
    no_faults(&rig.world);
    rig.until_durable(Lsn(2));
    // The failed sync dropped the pages; only the second segment has the record.
    let rig = rig.crash(true, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(3));
    assert_eq!(rig.read(), [Found::Records(1, 2)]);
}

#[test]
fn a_name_is_durable_before_anything_in_the_segment_is() {
    // Without the directory's sync, the simulated power cut loses the file with all its records.
    let mut rig = Rig::new(small());
    let mut last = Lsn(0);
    for _ in 0..9 {
        last = rig.commit(900_000);
    }
    assert!(rig.segments().len() >= 3);
    let rig = rig.crash(true, small());
    assert_eq!(rig.recovery.next_lsn, last.next());
    assert_eq!(rig.read(), [Found::Records(1, last.0)]);
}

#[test]
fn what_is_written_again_without_a_sync_is_read_once_and_wholly() {
    // The cache takes two batches: the others come from disk.
    let options = LogOptions { flush: FlushMode::None, tail_cache_bytes: 32 * 1024, ..small() };
    let mut rig = Rig::new(options);
    for count in 1..=6 {
        rig.append(3_000).expect("taken");
        rig.until("the write", |rig| rig.writer.visible() == Lsn(count));
    }
    let mut reader = LogReader::open(rig.world.platform(), Path::new(DIR), ReadFrom::Start);
    let reader = reader.as_mut().expect("opens");
    assert_eq!(read_on(reader), [Found::Records(1, 6)]);
    rig.world.set_faults(FaultPlan { write_error_per_mille: 1_000, ..FaultPlan::default() });
    rig.append(3_000).expect("taken");
    rig.until("the failure", |rig| {
        rig.events.iter().any(|event| matches!(event, LogEvent::Abandoned { .. }))
    });
    no_faults(&rig.world);
    for _ in 0..2_000 {
        // No place between where it was and where it goes is taken for lost.
        let found = rig.read();
        assert!(found.len() <= 1, "{found:?}");
        assert!(matches!(found.first(), None | Some(Found::Records(1, _))), "{found:?}");
        let readable = rig.writer.readable();
        if let Some(batch) = rig.writer.cached(readable) {
            assert!((batch.first_lsn()..=batch.last_lsn()).contains(&readable));
        }
        if readable == Lsn(7) {
            break;
        }
        rig.turn();
    }
    assert_eq!(rig.read(), [Found::Records(1, 7)]);
    assert_eq!(read_on(reader), [Found::Records(7, 7)], "who has read them goes on");
    for lsn in 6..=7 {
        let batch = rig.writer.cached(Lsn(lsn));
        let range = batch.map(|batch| batch.first_lsn()..=batch.last_lsn());
        assert!(range.is_some_and(|range| range.contains(&Lsn(lsn))), "{lsn}");
    }
}
