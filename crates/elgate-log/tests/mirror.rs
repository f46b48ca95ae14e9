//! The second directory: what is acknowledged is in both; what it missed is made up for.

mod support;

use elgate_io::sim::{FaultPlan, LatencyRange, SimWorld};
use elgate_log::{LogEvent, LogOptions, LogReader, ReadFrom, Retention};
use elgate_types::{FlushMode, Lsn};
use std::path::{Path, PathBuf};
use support::{DIR, Found, Rig, no_faults, read_on, segments, small};

const ROOT: &str = "/mirror";
const MIRROR: &str = "/mirror/orders";

fn mirrored() -> LogOptions {
    LogOptions { mirror: Some(MIRROR.into()), ..small() }
}

fn rig(options: LogOptions) -> Rig {
    let world = SimWorld::new(3);
    world.platform().create_directories(Path::new(ROOT)).expect("creates");
    Rig::open(world, options)
}

fn read_all(world: &SimWorld, dir: &str) -> Vec<Found> {
    let reader = LogReader::open(world.platform(), Path::new(dir), ReadFrom::Start);
    read_on(&mut reader.expect("a log"))
}

fn twin(segment: &Path) -> PathBuf {
    Path::new(MIRROR).join(segment.file_name().expect("a name"))
}

/// Every segment and its twin, byte by byte.
fn assert_same(world: &SimWorld) {
    let found = segments(world);
    assert!(!found.is_empty());
    for segment in found {
        let ours = world.file_bytes(&segment).expect("reads");
        let theirs = world.file_bytes(&twin(&segment)).expect("there is a twin");
        let differs = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
        assert_eq!((differs, ours.len()), (None, theirs.len()), "{}", segment.display());
    }
}

/// Until there is nothing to do, or the mirror has been tried a few times in vain.
fn settle(rig: &mut Rig) {
    for _ in 0..40 {
        if !rig.turn() {
            return;
        }
    }
}

fn lost(rig: &Rig) -> usize {
    rig.events.iter().filter(|event| matches!(event, LogEvent::MirrorLost { .. })).count()
}

fn regained(rig: &Rig) -> usize {
    rig.events.iter().filter(|event| matches!(event, LogEvent::MirrorRegained)).count()
}

#[test]
fn both_directories_hold_the_same_bytes() {
    for flush in [FlushMode::Auto, FlushMode::Manual] {
        let mut rig = rig(LogOptions { flush, ..mirrored() });
        let mut last = Lsn(0);
        for round in 0..130 {
            last = rig.append(100_000 - round).expect("taken");
            rig.writer.flush();
            rig.until_durable(last);
        }
        settle(&mut rig);
        assert!(segments(&rig.world).len() >= 3);
        assert_same(&rig.world);
        assert_eq!(lost(&rig), 0);
        let world = rig.world.clone();
        drop(rig);
        world.process_crash();
        assert_eq!(read_all(&world, MIRROR), [Found::Records(1, last.0)], "a log of its own");
    }
}

#[test]
fn what_is_acknowledged_survives_in_the_mirror_alone() {
    for seed in 0..60 {
        let mut rig = rig(mirrored());
        rig.world.set_faults(FaultPlan {
            keep_unsynced: true,
            reorder: true,
            torn: true,
            ..FaultPlan::default()
        });
        let mut acked = Lsn(0);
        for round in 0..seed {
            rig.append(1 + round * 700).expect("taken");
            for _ in 0..seed % 5 {
                rig.turn();
            }
            acked = rig.writer.durable();
        }
        let world = rig.world.clone();
        drop(rig);
        world.power_cut();
        for segment in segments(&world) {
            world.platform().remove(&segment).expect("the first device is gone");
        }
        let to = match read_all(&world, MIRROR)[..] {
            [] => 0,
            [Found::Records(1, to)] => to,
            ref other => panic!("seed {seed}: {other:?}"),
        };
        assert!(to >= acked.0, "seed {seed}: {acked} acknowledged, {to} in the mirror");
    }
}

#[test]
fn a_log_goes_on_with_its_mirror_after_a_crash() {
    for power in [false, true] {
        let mut rig = rig(mirrored());
        for _ in 0..30 {
            rig.commit(60_000);
        }
        rig.append(5_000).expect("taken");
        rig.submit();
        let mut rig = rig.crash(power, mirrored());
        let next = rig.recovery.next_lsn;
        rig.commit(7_000);
        settle(&mut rig);
        assert_eq!(lost(&rig), 0, "{:?}", rig.events);
        assert_same(&rig.world);
        assert_eq!(rig.read(), [Found::Records(1, next.0)]);
    }
}

#[test]
fn a_mirror_that_is_away_is_made_up_for_when_it_returns() {
    let mut rig = Rig::open(SimWorld::new(5), mirrored());
    for _ in 0..150 {
        rig.commit(100_000);
    }
    assert_eq!(lost(&rig), 1, "told once");
    let trouble = rig.writer.stats().mirror.expect("mirrored").trouble.expect("away");
    assert!(trouble.contains("find the mirror's directory /mirror"), "{trouble}");
    assert!(
        !rig.world
            .platform()
            .list(Path::new("/"))
            .expect("lists")
            .iter()
            .any(|entry| entry.name == "mirror"),
        "nothing is made where no device is mounted"
    );
    rig.world.platform().create_directories(Path::new(ROOT)).expect("creates");
    rig.until("what was missed to be copied", |rig| {
        rig.writer.stats().mirror.expect("mirrored").segments_behind == 0
    });
    let found = read_all(&rig.world, MIRROR);
    assert_eq!(found, [Found::Records(1, 150)], "before anything else is written");
    // The next record rolls into a segment with a twin.
    rig.commit(1_000);
    settle(&mut rig);
    let stats = rig.writer.stats().mirror.expect("mirrored");
    assert_eq!((stats.trouble, stats.segments_behind, regained(&rig)), (None, 0, 1));
    assert_same(&rig.world);
}

#[test]
fn faults_of_either_device_lose_nothing_and_end_with_two_copies() {
    for seed in 0..40 {
        let world = SimWorld::new(1_000 + seed);
        world.platform().create_directories(Path::new(ROOT)).expect("creates");
        let mut rig = Rig::open(world, mirrored());
        rig.world.set_faults(FaultPlan {
            write_error_per_mille: 15,
            sync_error_per_mille: 10,
            short_write_per_mille: 10,
            ..FaultPlan::default()
        });
        for _ in 0..60 {
            let _ = rig.append(90_000);
            for _ in 0..3 {
                rig.turn();
            }
        }
        no_faults(&rig.world);
        let last = Lsn(rig.writer.next_lsn().0 - 1);
        rig.until_durable(last);
        for _ in 0..30 {
            settle(&mut rig);
            rig.commit(100);
        }
        settle(&mut rig);
        let stats = rig.writer.stats().mirror.expect("mirrored");
        assert_eq!((stats.trouble, stats.segments_behind), (None, 0), "seed {seed}");
        let last = Lsn(rig.writer.next_lsn().0 - 1);
        assert_eq!(rig.read(), [Found::Records(1, last.0)], "seed {seed}");
        let world = rig.world.clone();
        drop(rig);
        world.process_crash();
        assert_eq!(read_all(&world, MIRROR), [Found::Records(1, last.0)], "seed {seed}");
    }
}

#[test]
fn an_attempt_in_a_segment_that_failed_hides_nothing_in_the_mirror() {
    for seed in 0..200 {
        let world = SimWorld::new(seed);
        world.platform().create_directories(Path::new(ROOT)).expect("creates");
        let mut rig = Rig::open(world, mirrored());
        rig.world.set_faults(FaultPlan { write_error_per_mille: 200, ..FaultPlan::default() });
        for turn in 0..40 {
            let _ = rig.append(5_000);
            rig.turn();
            // Killed where the log has left a segment in which nothing was acknowledged.
            if turn > 8 && rig.writer.stats().parked.is_some() {
                break;
            }
        }
        no_faults(&rig.world);
        let mut rig = rig.crash(false, mirrored());
        for _ in 0..4 {
            rig.commit(5_000);
        }
        settle(&mut rig);
        let stats = rig.writer.stats().mirror.expect("mirrored");
        assert_eq!((stats.trouble, stats.segments_behind), (None, 0), "seed {seed}");
        let last = rig.writer.durable();
        assert_eq!(read_all(&rig.world, MIRROR), [Found::Records(1, last.0)], "seed {seed}");
    }
}

#[test]
fn retention_takes_the_twins_too() {
    let retain = Retention { max_bytes: Some(0), max_age: None };
    let mut rig = rig(LogOptions { retain, ..mirrored() });
    for _ in 0..400 {
        rig.commit(90_000);
    }
    settle(&mut rig);
    assert_same(&rig.world);
    let count = |dir: &str| rig.world.platform().list(Path::new(dir)).expect("lists").len();
    assert!(count(MIRROR) <= count(DIR), "{} {}", count(MIRROR), count(DIR));
}

#[test]
fn what_somebody_takes_away_from_a_running_mirror_is_copied_again() {
    let mut rig = rig(mirrored());
    let until_segments = |rig: &mut Rig, count| {
        while rig.segments().len() < count {
            rig.commit(900_000);
        }
        settle(rig);
    };
    until_segments(&mut rig, 4);
    assert_same(&rig.world);
    for segment in &rig.segments()[..2] {
        rig.world.platform().remove(&twin(segment)).expect("removes");
    }
    until_segments(&mut rig, 5);
    assert_eq!(rig.writer.stats().mirror.map(|mirror| mirror.segments_behind), Some(0));
    assert_same(&rig.world);
}

#[test]
fn the_logs_own_directory_is_no_mirror() {
    let mut rig = Rig::open(SimWorld::new(6), LogOptions { mirror: Some(DIR.into()), ..small() });
    rig.commit(100);
    let trouble = rig.writer.stats().mirror.expect("asked for").trouble.expect("refused");
    assert!(trouble.contains("it is the log's own directory"), "{trouble}");
    assert_eq!(rig.read(), [Found::Records(1, 1)]);
}

#[test]
fn what_is_written_without_a_twin_is_never_said_to_be_in_the_mirror() {
    let mut rig = Rig::open(SimWorld::new(8), small());
    rig.commit(9_000);
    rig.close();
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    // It gets a mirror now, and there is no other segment to go on in.
    world.platform().create_directories(Path::new(ROOT)).expect("creates");
    let mut rig = Rig::open(world, mirrored());
    let obstacle = Path::new(DIR).join("segment.preparing");
    rig.world.platform().create_directories(&obstacle).expect("creates");
    // Copying is over before what was handed out when it began is written.
    let slow = LatencyRange { min_ns: 20_000_000, max_ns: 30_000_000 };
    rig.world.set_faults(FaultPlan { sync_latency: slow, ..FaultPlan::default() });
    let is_behind = |rig: &Rig| {
        let stats = rig.writer.stats().mirror.expect("mirrored");
        assert_eq!(stats.trouble, None);
        stats.segments_behind > 0
    };
    let check = |rig: &Rig| {
        if !is_behind(rig) {
            let last = rig.writer.durable();
            assert_eq!(read_all(&rig.world, MIRROR), [Found::Records(1, last.0)]);
        }
    };
    let mut copied = 0;
    for round in 0..90 {
        rig.append(100 + round).expect("taken");
        for _ in 0..round % 7 {
            rig.turn();
            check(&rig);
        }
        if round % 30 == 0 {
            rig.until("all of it to be copied", |rig| !is_behind(rig));
            check(&rig);
            rig.until_durable(Lsn(rig.writer.next_lsn().0 - 1));
            check(&rig);
            copied += 1;
        }
    }
    rig.until("all of it to be copied", |rig| !is_behind(rig));
    check(&rig);
    assert_eq!(copied, 3);
}
