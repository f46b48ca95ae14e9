//! Opening a log, and finding a place in it, read a bounded part of it, however large it is. What
//! is counted is reads, not time.

mod support;

use elgate_io::Platform;
use elgate_io::sim::{FaultPlan, SimWorld};
use elgate_log::{
    LogEvent, LogOptions, LogReader, POSITIONS_KEPT, ReadBatch, ReadFrom, Source, open,
};
use elgate_types::{Lsn, WallTime};
use std::path::Path;
use std::sync::Arc;
use support::counting::Counting;
use support::small;
use support::{
    DIR, Found, Rig, SEGMENT_BYTES, no_faults, patch, read_all, read_on, route, segments,
};

fn dir() -> &'static Path {
    Path::new(DIR)
}

/// A log of at least so many segments, whose process has been killed: batches of nearly 1 MiB
/// with 300 submissions each.
fn killed(segment_count: usize) -> (SimWorld, Lsn) {
    killed_of(segment_count, 1)
}

/// Of a ring most of whose submissions go elsewhere: one in `stride` comes here.
fn killed_of(segment_count: usize, stride: u64) -> (SimWorld, Lsn) {
    let mut rig = Rig::new(small());
    while rig.segments().len() < segment_count {
        for _ in 0..300 {
            let position = rig.writer.next_lsn().0 * stride;
            rig.append_from(100, Source { ring_id: 7, position }).expect("taken");
        }
        rig.append(850_000).expect("taken");
        let last = Lsn(rig.writer.next_lsn().0 - 1);
        rig.until_durable(last);
    }
    let next = rig.writer.next_lsn();
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    (world, next)
}

/// Opens the log for writing while a ring is full of what came last; returns what was read.
fn reads_to_open(world: &SimWorld, next: Lsn) -> (u64, u64) {
    let platform = Counting::new(world.platform());
    let lowest = next.0 - 1_010;
    assert!(sources_from(world, platform.clone(), lowest, next) >= 1_000);
    platform.take()
}

/// Opens the log for writing with a ring that may hand over again what it sent from a position on;
/// returns how many of those submissions are found.
fn sources_from(world: &SimWorld, platform: Arc<dyn Platform>, lowest: u64, next: Lsn) -> usize {
    let options = LogOptions { handed_over_again: [(7, lowest)].into(), ..small() };
    let (writer, recovery) = open(platform, dir(), &route(), options).expect("opens");
    assert_eq!((recovery.next_lsn, recovery.torn_bytes), (next, 0));
    drop(writer);
    world.process_crash();
    recovery.sources.iter().filter(|span| span.position >= lowest).count()
}

#[test]
fn opening_a_log_does_not_take_longer_the_larger_it_is() {
    let (few, few_next) = killed(6);
    let (many, many_next) = killed(24);
    for with_head in [true, false] {
        if !with_head {
            for world in [&few, &many] {
                world.platform().remove(&dir().join("head")).expect("removes");
            }
        }
        let (small, small_bytes) = reads_to_open(&few, few_next);
        let (large, large_bytes) = reads_to_open(&many, many_next);
        assert!(large <= small + 4, "{large} reads of 24 segments, {small} of 6");
        assert!(
            large_bytes <= small_bytes + SEGMENT_BYTES,
            "{large_bytes} and {small_bytes} bytes"
        );
        assert!(large_bytes < 5 * SEGMENT_BYTES, "{large_bytes} bytes");
    }
    assert_eq!(read_all(many.platform(), ReadFrom::Start), [Found::Records(1, many_next.0 - 1)]);
}

#[test]
fn the_search_ends_where_older_submissions_begin() {
    let bytes_for = |world: &SimWorld, lowest: u64, next| {
        let platform = Counting::new(world.platform());
        let found = sources_from(world, platform.clone(), lowest, next);
        (found, platform.take().1)
    };
    let (world, next) = killed(24);
    let newest = next.0 - 2;
    let (found, bytes) = bytes_for(&world, newest - POSITIONS_KEPT, next);
    assert!(found >= 1_000, "{found} of a full ring");
    assert!(bytes < 5 * SEGMENT_BYTES, "{bytes} bytes, of a full ring");
    let (world, next) = killed_of(24, 1_000);
    let newest = (next.0 - 2) * 1_000;
    let (found, bytes) = bytes_for(&world, newest - 999, next);
    assert_eq!(found, 1, "of a ring that seldom sends here");
    assert!(bytes < 5 * SEGMENT_BYTES, "{bytes} bytes, of a ring that seldom sends here");
}

#[test]
fn a_large_segment_left_early_does_not_hide_what_came_before() {
    let mut rig = Rig::new(small());
    let asked_for = rig.append_from(100, Source { ring_id: 7, position: 40 }).expect("taken");
    rig.until_durable(asked_for);
    let large = LogOptions { segment_bytes: 96 * 1024 * 1024, ..small() };
    let mut rig = rig.crash(false, large.clone());
    let small_ones = rig.segments().len();
    while rig.segments().len() < small_ones + 2 {
        rig.commit(800_000);
    }
    rig.world.set_faults(FaultPlan { write_error_per_mille: 1_000, ..FaultPlan::default() });
    rig.append(100).expect("taken");
    rig.until("the failure", |rig| {
        if rig.world.fault_counts().write_errors == 1 {
            no_faults(&rig.world);
        }
        rig.events.iter().any(|event| matches!(event, LogEvent::Abandoned { .. }))
    });
    // It was large, and without a footer.
    let left = rig.segments()[small_ones].clone();
    assert!(rig.world.file_bytes(&left).expect("reads").len() as u64 > 64 * 1024 * 1024);
    let next = rig.commit(100).next();
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    assert_eq!(sources_from(&world, world.platform(), 40, next), 1);
}

#[test]
fn one_ring_does_not_hide_what_another_may_hand_over_again() {
    let mut rig = Rig::new(small());
    let passed_on = rig.append_from(100, Source { ring_id: 7, position: 40 }).expect("taken");
    rig.until_durable(passed_on);
    let segments = rig.segments().len();
    for position in 0.. {
        let lsn = rig.append_from(400_000, Source { ring_id: 8, position }).expect("taken");
        rig.until_durable(lsn);
        if rig.segments().len() > segments + 1 {
            break;
        }
    }
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    let found = |rings: &[(u64, u64)]| {
        let handed_over_again = rings.iter().copied().collect();
        let options = LogOptions { handed_over_again, ..small() };
        let (_, recovery) = open(world.platform(), dir(), &route(), options).expect("opens");
        world.process_crash();
        recovery.sources.iter().any(|span| (span.ring_id, span.position) == (7, 40))
    };
    assert!(found(&[(7, 40)]));
    assert!(found(&[(7, 40), (8, 3)]));
    assert!(!found(&[(8, 3)]), "nobody asks for it");
}

#[test]
fn the_active_segment_is_not_read_from_its_beginning() {
    let mut rig = Rig::new(small());
    // 3 MB of one submission each, then 2,000 submissions in little room.
    for _ in 0..30 {
        let position = rig.writer.next_lsn().0;
        let lsn = rig.append_from(100_000, Source { ring_id: 7, position }).expect("taken");
        rig.until_durable(lsn);
    }
    for _ in 0..200 {
        for _ in 0..20 {
            let position = rig.writer.next_lsn().0;
            rig.append_from(10, Source { ring_id: 7, position }).expect("taken");
        }
        let last = Lsn(rig.writer.next_lsn().0 - 1);
        rig.until_durable(last);
    }
    assert_eq!(rig.segments().len(), 2, "one active, one prepared");
    let next = rig.writer.next_lsn();
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    let (_, bytes) = reads_to_open(&world, next);
    // The prepared segment is looked at as far as writes can have been under way.
    assert!(bytes < SEGMENT_BYTES + 3 * 1024 * 1024, "{bytes} bytes");
    let mut rig = Rig::open(world, small());
    rig.commit(10);
    assert_eq!(rig.read(), [Found::Records(1, next.0)]);
}

/// Six segments of small batches, the last one active.
fn small_batches() -> Rig {
    let mut rig = Rig::new(small());
    while rig.segments().len() < 6 {
        for _ in 0..4 {
            rig.append(4_000).expect("taken");
        }
        let last = Lsn(rig.writer.next_lsn().0 - 1);
        rig.until_durable(last);
    }
    rig
}

/// Opens a reader and reads its first batch, if it has one.
fn first_batch(world: &SimWorld, from: ReadFrom) -> (Option<Lsn>, (u64, u64)) {
    let platform = Counting::new(world.platform());
    let mut reader = LogReader::open(platform.clone(), dir(), from).expect("opens");
    let first = match reader.next_batch().expect("reads") {
        ReadBatch::Records(batch) => Some(batch.first_lsn()),
        ReadBatch::CaughtUp => None,
        ReadBatch::Gap { .. } => panic!("nothing is missing"),
    };
    (first, platform.take())
}

fn check_lookups(world: &SimWorld, last: Lsn, bytes_max: u64) {
    for lsn in (1..=last.0).step_by(61).chain([last.0]) {
        for from in [ReadFrom::Lsn(Lsn(lsn)), ReadFrom::Time(WallTime(1_000_000 + lsn))] {
            let (first, (reads, bytes)) = first_batch(world, from);
            assert_eq!(first, Some(Lsn(lsn)), "{from:?}");
            assert!(reads <= 40 && bytes <= bytes_max, "{from:?}: {reads} reads, {bytes} bytes");
        }
    }
}

#[test]
fn a_number_or_a_time_is_found_without_a_scan() {
    let rig = small_batches();
    let last = Lsn(rig.writer.next_lsn().0 - 1);
    check_lookups(&rig.world, last, 1 << 20);
    let (first, (_, bytes)) = first_batch(&rig.world, ReadFrom::End);
    assert_eq!(first, None);
    assert!(bytes <= 64 * 1024, "{bytes} bytes to begin at a live log's end");
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    check_lookups(&world, last, 1 << 20);
    let (first, (_, bytes)) = first_batch(&world, ReadFrom::End);
    assert_eq!(first, None);
    assert!(bytes <= SEGMENT_BYTES + (1 << 20), "{bytes} bytes to find an offline log's end");
}

#[test]
fn without_footers_and_head_lookups_take_longer_and_find_the_same() {
    let rig = small_batches();
    let last = Lsn(rig.writer.next_lsn().0 - 1);
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    for path in segments(&world) {
        patch(&world, &path, SEGMENT_BYTES - 16 * 1024 + 0x100, &[7; 512]);
    }
    world.platform().remove(&dir().join("head")).expect("removes");
    check_lookups(&world, last, 3 * SEGMENT_BYTES);
    let expensive =
        (1..=last.0).step_by(61).map(|lsn| first_batch(&world, ReadFrom::Lsn(Lsn(lsn))));
    assert!(expensive.map(|(_, (_, bytes))| bytes).max() > Some(SEGMENT_BYTES / 2), "they scan");
}

#[test]
fn entries_that_lie_are_not_believed() {
    let rig = small_batches();
    let last = Lsn(rig.writer.next_lsn().0 - 1);
    let world = rig.world.clone();
    // The head file's index of the active segment: every offset a block too far.
    let head = dir().join("head");
    let bytes = world.file_bytes(&head).expect("reads");
    drop(rig);
    world.process_crash();
    let count = u64::from_le_bytes(bytes[0x1008..0x1010].try_into().expect("eight"));
    assert!(count > 10, "{count} entries");
    for number in 0..count as usize {
        let at = 0x1010 + number * 24;
        let offset = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        patch(&world, &head, at as u64, &(offset + 4_096).to_le_bytes());
    }
    check_lookups(&world, last, 3 * SEGMENT_BYTES);
    let mut rig = Rig::open(world, small());
    assert_eq!((rig.recovery.next_lsn, rig.recovery.torn_bytes), (last.next(), 0));
    rig.commit(10);
    assert_eq!(rig.read(), [Found::Records(1, last.0 + 1)]);
}

#[test]
fn a_reader_at_the_end_reads_little_more_than_is_new() {
    let mut rig = small_batches();
    let platform = Counting::new(rig.world.platform());
    let mut reader = LogReader::open(platform.clone(), dir(), ReadFrom::End).expect("opens");
    assert_eq!(read_on(&mut reader), []);
    rig.commit(1_000);
    assert_eq!(read_on(&mut reader).len(), 1);
    platform.take();
    for _ in 0..50 {
        rig.commit(1_000);
        assert_eq!(read_on(&mut reader).len(), 1);
        let (_, bytes) = platform.take();
        assert!(bytes <= 64 * 1024, "{bytes} bytes read for one batch of 4,096");
    }
}

#[test]
fn files_renamed_or_copied_by_somebody_are_read_in_the_order_of_their_headers() {
    let rig = small_batches();
    let last = rig.writer.next_lsn().0 - 1;
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    let platform: Arc<dyn Platform> = world.platform();
    let paths = segments(&world);
    let swapped = dir().join("orders-20251231-001.wal");
    platform.rename(&paths[3], &swapped).expect("renames");
    assert_eq!(read_all(platform.clone(), ReadFrom::Start), [Found::Records(1, last)]);
    platform.rename(&paths[1], &dir().join("mine.wal")).expect("renames");
    assert_eq!(read_all(platform.clone(), ReadFrom::Start), [Found::Records(1, last)]);
    let mut rig = Rig::open(world, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(last + 1));
    rig.commit(10);
    assert_eq!(rig.read(), [Found::Records(1, last + 1)]);
}
