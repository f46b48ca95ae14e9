//! Readers: live and offline, by LSN and time, beside retention, and their cursors.

mod support;

use elgate_io::sim::{FaultPlan, SimWorld};
use elgate_io::{Driver, OpenOptions};
use elgate_log::{
    Cursor, CursorError, GapReason, LogEvent, LogOptions, LogReader, ReadBatch, ReadFrom,
    Retention, SegmentState, Source, describe, list_cursors,
};
use elgate_types::{ErrorCode, FlushMode, Lsn, WallTime};
use std::path::Path;
use std::time::Duration;
use support::{DIR, Found, Rig, batches, patch, payload, read_all, read_on, small};

fn dir() -> &'static Path {
    Path::new(DIR)
}

#[test]
fn a_live_reader_sees_what_is_durable_and_no_more() {
    let mut rig = Rig::new(small());
    let mut reader = LogReader::open(rig.world.platform(), dir(), ReadFrom::Start).expect("opens");
    assert!(matches!(reader.next_batch(), Ok(ReadBatch::CaughtUp)));
    rig.append(10).expect("taken");
    rig.submit();
    assert!(matches!(reader.next_batch(), Ok(ReadBatch::CaughtUp)), "under way is not durable");
    rig.until_durable(Lsn(1));
    assert_eq!(read_on(&mut reader), [Found::Records(1, 1)]);
    for _ in 0..12 {
        rig.commit(700_000);
        assert_eq!(read_on(&mut reader).len(), 1);
    }
    assert_eq!(reader.position(), Lsn(14));
}

#[test]
fn a_reader_that_was_caught_up_goes_on_after_crashes() {
    let mut rig = Rig::new(small());
    let mut read = Vec::new();
    let mut reader = LogReader::open(rig.world.platform(), dir(), ReadFrom::Start).expect("opens");
    for round in 0..6 {
        for _ in 0..4 {
            rig.commit(300_000);
        }
        read.extend(read_on(&mut reader));
        rig = rig.crash(round % 2 == 0, small());
        // The old process's handles are gone with it; a reader in another process goes on.
        reader = LogReader::open(rig.world.platform(), dir(), ReadFrom::Lsn(reader.position()))
            .expect("opens");
    }
    let expected: Vec<_> =
        (0..6).map(|round| Found::Records(round * 4 + 1, round * 4 + 4)).collect();
    assert_eq!(read, expected);
}

#[test]
fn reading_begins_where_it_was_told_to() {
    let mut rig = Rig::new(small());
    for _ in 0..30 {
        rig.commit(400_000);
    }
    let read = |from| read_all(rig.world.platform(), from);
    assert_eq!(read(ReadFrom::Lsn(Lsn(17))), [Found::Records(17, 30)]);
    assert_eq!(read(ReadFrom::Lsn(Lsn(0))), [Found::Records(1, 30)]);
    assert_eq!(read(ReadFrom::End), []);
    assert_eq!(read(ReadFrom::Lsn(Lsn(31))), []);
    for lsn in [1, 2, 11, 25, 30] {
        let time = ReadFrom::Time(WallTime(1_000_000 + lsn));
        assert_eq!(read(time), [Found::Records(lsn, 30)], "by time");
    }
    assert_eq!(read(ReadFrom::Time(WallTime(0))), [Found::Records(1, 30)]);
    assert_eq!(read(ReadFrom::Time(WallTime(2_000_000))), []);
}

#[test]
fn an_offline_log_is_read_to_its_valid_end_without_its_head_file() {
    let mut rig = Rig::new(small());
    for _ in 0..20 {
        rig.commit(400_000);
    }
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    world.platform().remove(&dir().join("head")).expect("removes");
    assert_eq!(read_all(world.platform(), ReadFrom::Start), [Found::Records(1, 20)]);
    let mut reader = LogReader::open(world.platform(), dir(), ReadFrom::End).expect("opens");
    assert_eq!(reader.position(), Lsn(21));
    assert!(!reader.wait(std::time::Duration::from_micros(10)), "nobody writes");
    assert!(matches!(reader.next_batch(), Ok(ReadBatch::CaughtUp)));
}

#[test]
fn no_log_is_an_error_with_a_code() {
    let world = SimWorld::new(1);
    let error = LogReader::open(world.platform(), dir(), ReadFrom::Start).expect_err("none");
    assert_eq!(error.code(), ErrorCode::RouteUnknown);
    world.platform().create_directories(dir()).expect("creates");
    let error = LogReader::open(world.platform(), dir(), ReadFrom::Start).expect_err("none");
    assert!(error.to_string().contains(DIR), "{error}");
}

fn retaining(retain: Retention) -> LogOptions {
    LogOptions { retain, ..small() }
}

fn retired(rig: &Rig) -> bool {
    rig.events.iter().any(|event| matches!(event, LogEvent::Retired { .. }))
}

#[test]
fn retention_waits_for_the_slowest_cursor() {
    let mut rig = Rig::new(retaining(Retention { max_bytes: Some(0), max_age: None }));
    let platform = rig.world.platform();
    let mut slow = Cursor::open(&*platform, dir(), "slow").expect("opens");
    let mut fast = Cursor::open(&*platform, dir(), "sink").expect("opens");
    for _ in 0..30 {
        let lsn = rig.commit(700_000);
        fast.save_blocking(&*platform, lsn, [0; 4], true).expect("saves");
    }
    let kept = rig.segments().len();
    assert!(kept >= 5 && !retired(&rig), "{kept} segments: the slow reader has passed nothing");
    let mut reader = LogReader::open(rig.world.platform(), dir(), ReadFrom::Start).expect("opens");
    assert!(matches!(reader.next_batch(), Ok(ReadBatch::Records(_))));

    slow.save_blocking(&*platform, Lsn(20), [0; 4], true).expect("saves");
    rig.world.advance(std::time::Duration::from_secs(11));
    rig.until("retention", retired);
    let first = rig.writer.first_lsn();
    assert!(first > Lsn(10) && first <= Lsn(21), "{first}");
    assert!(rig.segments().len() < kept);
    assert_eq!(rig.read(), [Found::Records(first.0, 30)]);

    // The reader was in a segment that is gone: it reads that to the end, then is told.
    let found = read_on(&mut reader);
    let gap = found.iter().find(|found| matches!(found, Found::Gap(..))).expect("a gap");
    assert!(
        matches!(gap, Found::Gap(_, to, GapReason::Removed) if *to == first.0 - 1),
        "{found:?}"
    );
    assert_eq!(found.last(), Some(&Found::Records(first.0, 30)));
    assert_eq!(
        read_all(rig.world.platform(), ReadFrom::Lsn(Lsn(1)))[0],
        Found::Gap(1, first.0 - 1, GapReason::Removed)
    );
    let rig = rig.crash(true, small());
    assert_eq!(rig.recovery.quarantined, []);
    assert_eq!(rig.writer.first_lsn(), first);
}

#[test]
fn retention_by_age_and_never_the_active_segment() {
    let retain =
        Retention { max_bytes: None, max_age: Some(std::time::Duration::from_secs(3_600)) };
    let mut rig = Rig::new(retaining(retain));
    for lsn in 1..=12 {
        let time = rig.world.wall_time();
        let bytes = payload(lsn, 900_000);
        rig.writer.append(&bytes, Source::default(), time).expect("taken");
        rig.until_durable(Lsn(lsn));
    }
    rig.world.advance(std::time::Duration::from_secs(60));
    for _ in 0..20 {
        rig.turn();
    }
    assert!(!retired(&rig), "a minute is not an hour");
    rig.world.advance(std::time::Duration::from_secs(3_601));
    rig.until("retention", retired);
    assert!(rig.writer.first_lsn() <= Lsn(12));
    assert_eq!(rig.read().last(), Some(&Found::Records(rig.writer.first_lsn().0, 12)));
}

#[test]
fn a_damaged_cursor_stops_retention_not_the_log() {
    let mut rig = Rig::new(retaining(Retention { max_bytes: Some(0), max_age: None }));
    let platform = rig.world.platform();
    drop(Cursor::open(&*platform, dir(), "sink").expect("opens"));
    let path = dir().join("cursors/sink.cursor");
    patch(&rig.world, &path, 0, &[7; 8_192]);
    for _ in 0..12 {
        rig.commit(900_000);
    }
    assert!(!retired(&rig));
    assert!(describe(&*platform, dir()).expect("describes").damaged_cursors.is_some());
    let error = list_cursors(&*platform, dir()).expect_err("refused");
    assert!(matches!(error, CursorError::Corrupt { .. }) && error.code() == ErrorCode::LogCorrupt);
}

#[test]
fn cursors_keep_their_place_through_crashes_and_torn_slots() {
    let rig = Rig::new(small());
    let world = rig.world.clone();
    let platform = world.platform();
    let mut driver = world.driver();
    let mut cursor = Cursor::open(&*platform, dir(), "sink").expect("opens");
    assert_eq!(cursor.lsn(), Lsn(0));
    assert!(matches!(Cursor::open(&*platform, dir(), "sink"), Err(CursorError::InUse { .. })));
    assert!(matches!(Cursor::open(&*platform, dir(), "../x"), Err(CursorError::Name(_))));
    cursor.save_blocking(&*platform, Lsn(5), [1, 2, 3, 4], true).expect("saves");
    let op = cursor.begin_save(Lsn(9), [5; 4], true).expect("begins");
    driver.submit(1, op);
    let mut completions = Vec::new();
    driver.poll(elgate_io::Wait::Forever, &mut completions).expect("polls");
    cursor.saved(completions.pop().expect("one")).expect("saved");
    assert_eq!((cursor.lsn(), cursor.extra()), (Lsn(9), [5; 4]));
    let error = cursor.save_blocking(&*platform, Lsn(8), [0; 4], true).expect_err("refused");
    assert!(matches!(error, CursorError::Backwards { .. }));

    drop(cursor);
    world.power_cut();
    let platform = world.platform();
    let mut cursor = Cursor::open(&*platform, dir(), "sink").expect("opens");
    assert_eq!((cursor.lsn(), cursor.extra()), (Lsn(9), [5; 4]));
    // The next save tears its slot.
    world.set_faults(FaultPlan { write_error_per_mille: 1_000, ..FaultPlan::default() });
    assert!(cursor.save_blocking(&*platform, Lsn(12), [6; 4], true).is_err());
    world.set_faults(FaultPlan::default());
    assert_eq!(cursor.lsn(), Lsn(9));
    cursor.save_blocking(&*platform, Lsn(13), [7; 4], true).expect("the next save works");
    drop(cursor);
    let listed = list_cursors(&*platform, dir()).expect("lists");
    assert_eq!((listed.len(), listed[0].lsn, listed[0].extra), (1, Lsn(13), [7; 4]));
}

#[test]
fn a_number_that_a_reader_is_done_with_is_not_given_out_again() {
    let mut rig = Rig::new(LogOptions { flush: FlushMode::None, ..small() });
    for lsn in 1..=5 {
        rig.append(10).expect("taken");
        rig.until("the write", |rig| rig.writer.readable() == Lsn(lsn));
    }
    let platform = rig.world.platform();
    let mut cursor = Cursor::open(&*platform, dir(), "sink").expect("opens");
    cursor.save_blocking(&*platform, Lsn(4), [0; 4], true).expect("saves");
    drop(cursor);
    // Nothing was synced: the power cut takes every record, but not the cursor.
    let mut rig = rig.crash(true, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(5));
    assert_eq!(rig.recovery.quarantined.len(), 1);
    rig.commit(10);
    let mut reader =
        LogReader::open(rig.world.platform(), dir(), ReadFrom::Lsn(Lsn(5))).expect("opens");
    assert_eq!(read_on(&mut reader), [Found::Records(5, 5)]);
}

#[test]
fn what_a_live_writer_has_only_written_is_not_lost_before_it_should_be_durable() {
    let mut rig = Rig::new(LogOptions { flush: FlushMode::None, ..small() });
    for lsn in 1..=5 {
        rig.append(10).expect("taken");
        rig.until("the write", |rig| rig.writer.readable() == Lsn(lsn));
    }
    assert_eq!(rig.writer.durable(), Lsn::ZERO);
    let segment = rig.segments()[0].clone();
    let (third, ..) = batches(&rig.world, &segment)[2];
    // As if it was just being written again elsewhere.
    patch(&rig.world, &segment, third, &[0; 4_096]);
    let mut reader = LogReader::open(rig.world.platform(), dir(), ReadFrom::Start).expect("opens");
    assert_eq!(read_on(&mut reader), [Found::Records(1, 2)]);
    let mut patient = LogReader::open(rig.world.platform(), dir(), ReadFrom::Start).expect("opens");
    assert_eq!(read_on(&mut patient), [Found::Records(1, 2)]);
    let expected = [Found::Gap(3, 3, GapReason::Damaged), Found::Records(4, 5)];
    let second = rig.driver.now().after(Duration::from_secs(1));
    rig.world.advance_to(second);
    assert_eq!(read_on(&mut patient), expected, "it does not wait for a sync that may never come");
    rig.writer.flush();
    rig.until_durable(Lsn(5));
    assert_eq!(read_on(&mut reader), expected);
}

#[test]
fn a_description_names_what_is_there() {
    let mut rig = Rig::new(small());
    for _ in 0..6 {
        rig.commit(900_000);
    }
    rig.writer.set_delivered(Lsn(2));
    let platform = rig.world.platform();
    drop(Cursor::open(&*platform, dir(), "billing").expect("opens"));
    let (end, bytes, ..) = *batches(&rig.world, &rig.segments()[1]).last().expect("a batch");
    let options = OpenOptions { write: true, create: true, ..Default::default() };
    platform.open(&dir().join("notes.wal"), options).expect("creates");
    let found = describe(&*platform, dir()).expect("describes");
    assert_eq!(found.route.as_deref(), Some("orders"));
    assert!(found.writer_is_alive);
    let marks = found.watermarks.expect("a head file");
    assert_eq!((marks.durable, marks.delivered), (Lsn(6), Lsn(2)));
    assert_eq!((marks.active_sequence, marks.durable_end), (2, end + bytes));
    let states: Vec<_> = found.segments.iter().map(|segment| segment.state).collect();
    assert_eq!(states[..2], [SegmentState::Sealed, SegmentState::Active]);
    assert_eq!(found.segments[0].first_lsn, Some(Lsn(1)));
    assert_eq!(found.segments[1].last_lsn, Some(Lsn(6)));
    assert_eq!(found.cursors[0].name, "billing");
    assert_eq!(found.ignored.len(), 1);
    assert!(found.segments[0].name.starts_with("orders-20260101-00"));
    rig.close();
    drop(rig);
}
