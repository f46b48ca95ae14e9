//! Segments that retention gives up become the next ones; what they held before is nothing to
//! whoever reads them.

mod support;

use elgate_io::OpenOptions;
use elgate_io::sim::SimWorld;
use elgate_log::{LogOptions, ReadFrom, Retention};
use elgate_types::Lsn;
use std::path::Path;
use support::{DIR, Found, Rig, read_all, small};

fn retaining() -> LogOptions {
    let retain = Retention { max_bytes: Some(0), max_age: None };
    LogOptions { retain, ..small() }
}

/// Files by name and identity.
fn files(world: &SimWorld) -> Vec<(String, u64)> {
    let platform = world.platform();
    let entries = platform.list(Path::new(DIR)).expect("lists");
    let segment = |name: &str| name.ends_with(".wal") || name.starts_with("segment.");
    let mut files: Vec<_> = entries
        .into_iter()
        .filter(|entry| segment(&entry.name))
        .map(|entry| {
            let options = OpenOptions { read: true, ..Default::default() };
            let file = platform.open(&Path::new(DIR).join(&entry.name), options).expect("opens");
            (entry.name, platform.identity(&file).expect("known").inode)
        })
        .collect();
    files.sort();
    files
}

/// Writes until the log has rolled so often, in records that fill several segments.
fn roll(rig: &mut Rig, times: u64) -> Lsn {
    let rolls = |rig: &Rig| {
        let rolled = |event: &&_| matches!(event, elgate_log::LogEvent::Rolled { .. });
        rig.events.iter().filter(rolled).count() as u64
    };
    let before = rolls(rig);
    while rolls(rig) < before + times {
        rig.commit(100_000);
    }
    rig.commit(10)
}

#[test]
fn a_log_in_its_stride_makes_no_new_files() {
    let mut rig = Rig::new(retaining());
    roll(&mut rig, 4);
    let early: Vec<u64> = files(&rig.world).into_iter().map(|(_, inode)| inode).collect();
    assert!(early.len() <= 3, "the active one and two more at most: {early:?}");
    let last = roll(&mut rig, 12);
    let late = files(&rig.world);
    assert!(late.iter().all(|(_, inode)| early.contains(inode)), "{early:?} {late:?}");
    let Some(Found::Records(first, to)) = rig.read().last().copied() else { panic!("records") };
    assert_eq!(Lsn(to), last);
    assert!(first > 1, "the oldest are gone");
    assert_eq!(rig.writer.stats().bytes_on_disk, late.len() as u64 * support::SEGMENT_BYTES);
}

#[test]
fn what_a_segment_held_before_is_not_found_again() {
    for power in [false, true] {
        let mut rig = Rig::new(retaining());
        let last = roll(&mut rig, 9);
        let (first, read) = (rig.writer.first_lsn(), rig.read());
        assert_eq!(read, [Found::Records(first.0, last.0)], "while it is written");
        let rig = rig.crash(power, retaining());
        assert_eq!(rig.recovery.next_lsn, last.next());
        assert_eq!(rig.recovery.quarantined, [], "an older life is not damage");
        assert_eq!(rig.recovery.torn_bytes, 0, "nor is it torn");
        assert_eq!(rig.read(), [Found::Records(first.0, last.0)], "after recovery");
        let world = rig.world.clone();
        drop(rig);
        world.process_crash();
        let found = read_all(world.platform(), ReadFrom::Start);
        assert_eq!(found, [Found::Records(first.0, last.0)], "with nobody writing");
    }
}

#[test]
fn a_retired_segment_of_the_wrong_size_is_not_used() {
    let mut rig = Rig::new(retaining());
    roll(&mut rig, 3);
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    let platform = world.platform();
    let options = OpenOptions { read: true, write: true, create: true, ..Default::default() };
    let stray = Path::new(DIR).join("segment.retired.99");
    let file = platform.open(&stray, options).expect("creates");
    platform.write_at(&file, 0, &[7; 5_000], true).expect("writes");
    let mut rig = Rig::open(world, retaining());
    assert!(!files(&rig.world).iter().any(|(name, _)| name == "segment.retired.99"));
    roll(&mut rig, 3);
}
