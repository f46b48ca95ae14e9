//! Cursor files that are lost: nothing is passed over, and somebody is told.

#[path = "support/bad_blocks.rs"]
mod bad_blocks;
#[path = "support/mortal.rs"]
mod mortal;

use bad_blocks::BadBlocks;
use elgate_io::sim::SimWorld;
use elgate_io::{OpenOptions, Platform};
use elgate_log::{Cursor, FsckOptions, fsck, list_cursors};
use elgate_types::Lsn;
use mortal::Mortal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BLOCK: u64 = 4_096;

fn dir() -> &'static Path {
    Path::new("/data/orders")
}

fn path() -> PathBuf {
    dir().join("cursors/sink.cursor")
}

/// A cursor that was saved twice, at 5 and at 9.
fn saved(platform: &dyn Platform) {
    let mut cursor = Cursor::open(platform, dir(), "sink").expect("opens");
    assert_eq!((cursor.lsn(), cursor.lost()), (Lsn(0), None));
    for lsn in [5, 9] {
        cursor.save_blocking(platform, Lsn(lsn), [1; 4], true).expect("saves");
    }
}

/// Puts other bytes into the file.
fn spoil(world: &SimWorld, bytes: &[u8]) {
    let platform = world.platform();
    let options = OpenOptions { write: true, ..Default::default() };
    let file = platform.open(&path(), options).expect("opens");
    platform.set_size(&file, 0).expect("truncates");
    platform.sync(&file).expect("syncs");
    platform.write_at(&file, 0, bytes, true).expect("writes");
}

#[test]
fn a_lost_cursor_starts_over_and_keeps_the_damaged_file() {
    let garbled = [7; 2 * BLOCK as usize];
    for bytes in [&garbled[..], &[], &[0; 100], &[0; 2 * BLOCK as usize]] {
        let world = SimWorld::new(1);
        let platform = world.platform();
        saved(&*platform);
        spoil(&world, bytes);
        let mut cursor = Cursor::open(&*platform, dir(), "sink").expect("opens");
        assert_eq!((cursor.lsn(), cursor.extra()), (Lsn(0), [0; 4]));
        let told = cursor.lost().expect("is told");
        assert!(told.contains("sink.cursor was damaged") && told.contains("damaged-1"), "{told}");
        let kept = world.file_bytes(&dir().join("cursors/sink.cursor.damaged-1")).expect("kept");
        assert_eq!(kept, bytes);
        // Who has saved nothing yet is told again; a power cut does not hide it either.
        drop(cursor);
        world.power_cut();
        let platform = world.platform();
        cursor = Cursor::open(&*platform, dir(), "sink").expect("opens");
        assert!(cursor.lost().is_some());
        cursor.save_blocking(&*platform, Lsn(2), [0; 4], true).expect("saves");
        assert_eq!(cursor.lost(), None);
        assert_eq!(list_cursors(&*platform, dir()).expect("lists").len(), 1);

        drop(cursor);
        spoil(&world, b"again");
        let cursor = Cursor::open(&*platform, dir(), "sink").expect("opens");
        assert!(cursor.lost().expect("is told").contains("damaged-2"));
        assert_eq!(Cursor::open(&*platform, dir(), "other").expect("opens").lost(), None);
    }
}

#[test]
fn what_the_device_cannot_read_of_a_cursor_is_lost() {
    let world = SimWorld::new(1);
    let platform = BadBlocks::new(world.platform());
    saved(&*platform);
    platform.spoil(&path(), 0..2 * BLOCK, Some(2));
    let open = || Cursor::open(&*platform, dir(), "sink").expect("opens");
    assert_eq!(open().lsn(), Lsn(9), "at a later attempt it can");
    platform.heal();
    for (block, other) in [(0, [9, 5]), (1, [5, 9])] {
        platform.spoil(&path(), block * BLOCK..(block + 1) * BLOCK, None);
        let cursor = open();
        assert!(other.contains(&cursor.lsn().0) && cursor.lost().is_none(), "{cursor:?}");
        drop(cursor);
        platform.heal();
    }
    platform.spoil(&path(), 0..2 * BLOCK, None);
    let cursor = open();
    assert_eq!(cursor.lsn(), Lsn(0));
    assert!(cursor.lost().is_some());
}

#[test]
fn a_cursor_is_whole_from_the_first_moment_on() {
    for (changes, is_lost) in (1..12).flat_map(|changes| [(changes, false), (changes, true)]) {
        let world = SimWorld::new(1);
        if is_lost {
            saved(&*world.platform());
            spoil(&world, &[]);
        }
        let mortal: Arc<dyn Platform> = Arc::new(Mortal::new(world.platform(), changes));
        drop(Cursor::open(&*mortal, dir(), "sink"));
        world.power_cut();
        // Retention would take a log without cursors for one that nobody reads.
        assert!(!is_lost || world.file_bytes(&path()).is_ok(), "{changes}");
        let platform = world.platform();
        let cursor = Cursor::open(&*platform, dir(), "sink").expect("opens");
        assert_eq!((cursor.lsn(), cursor.lost().is_some()), (Lsn(0), is_lost), "{changes}");
        let names = world.names(&dir().join("cursors")).expect("lists");
        assert!(names.len() <= if is_lost { 3 } else { 1 }, "{names:?}");
    }
}

#[test]
fn a_cursor_has_one_reader() {
    let world = SimWorld::new(1);
    let platform = world.platform();
    let first = Cursor::open(&*platform, dir(), "sink").expect("opens");
    Cursor::open(&*platform, dir(), "sink").expect_err("in use");
    drop(first);
    spoil(&world, &[]);
    let first = Cursor::open(&*platform, dir(), "sink").expect("opens");
    Cursor::open(&*platform, dir(), "sink").expect_err("in use");
    drop(first);
}

#[test]
fn fsck_reports_a_blank_cursor() {
    let world = SimWorld::new(1);
    let platform = world.platform();
    let name = elgate_types::RouteName::new("orders").expect("valid");
    let log = elgate_log::open(platform.clone(), dir(), &name, Default::default()).expect("opens");
    saved(&*platform);
    spoil(&world, &[]);
    drop(log);
    let report = fsck(&*platform, dir(), &FsckOptions::default(), &mut |_, _| ());
    let findings = report.map(|report| report.findings).unwrap_or_default();
    assert!(findings.iter().any(|it| it.path == path()), "{findings:?}");
}
