//! Files made to harm: checksums that hold over numbers that make no sense, and things that are no
//! files at all where a log's files should be. Whatever they say, no acknowledged record is lost,
//! nothing ends the process or hangs it, and one bad file does not keep a log from opening.

mod support;

use elgate_io::sim::SimWorld;
use elgate_io::{OpenOptions, OsPlatform};
use elgate_log::{
    Cursor, FsckError, FsckOptions, LogReader, ReadBatch, ReadFrom, describe, fsck, list_cursors,
    open,
};
use elgate_types::Lsn;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use support::{DIR, Found, Rig, patch, read_all, route, segments, small};

/// A closed log of nine records, and its only segment with batches.
fn nine_records() -> (SimWorld, PathBuf) {
    let mut rig = Rig::new(small());
    for _ in 0..9 {
        rig.commit(300);
    }
    rig.close();
    let path = rig.segments()[0].clone();
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    (world, path)
}

fn put_u64(world: &SimWorld, path: &Path, offset: u64, value: u64) {
    patch(world, path, offset, &value.to_le_bytes());
}

/// Every way to look at a log survives; the nine records are read; what is written next is read,
/// too, and after one more restart.
fn survives(world: SimWorld, what: &str) {
    let dir = Path::new(DIR);
    let platform = world.platform();
    describe(&*platform, dir).unwrap_or_else(|fault| panic!("{what}: {fault}"));
    fsck(&*platform, dir, &FsckOptions::default(), &mut |_, _| ())
        .unwrap_or_else(|fault| panic!("{what}: {fault}"));
    assert_eq!(read_all(world.platform(), ReadFrom::Start)[0], Found::Records(1, 9), "{what}");
    for from in [ReadFrom::End, ReadFrom::Lsn(Lsn(u64::MAX)), ReadFrom::Lsn(Lsn(5))] {
        let mut reader = LogReader::open(world.platform(), dir, from).expect("opens");
        for _ in 0..100 {
            if matches!(reader.next_batch().expect("reads"), ReadBatch::CaughtUp) {
                break;
            }
        }
    }
    let mut rig = Rig::open(world, small());
    let lsn = rig.commit(10);
    let all = [Found::Records(1, 9), Found::Records(lsn.0, lsn.0)];
    let joined = [Found::Records(1, lsn.0)];
    let served = |rig: &Rig| {
        let found = rig.read();
        let records: Vec<_> =
            found.into_iter().filter(|it| matches!(it, Found::Records(..))).collect();
        assert!(records == all || records == joined, "{what}: {records:?} with {lsn}");
    };
    served(&rig);
    assert!(lsn.0 < u64::MAX / 2, "{what}: a number near the end of all numbers: {lsn}");
    let again = rig.crash(true, small());
    served(&again);
}

#[test]
fn a_head_file_with_numbers_beyond_all_counting() {
    for at in (0x80..=0xb0).step_by(8).chain([0x1000, 0x1008, 0x1010, 0x1018]) {
        for value in [u64::MAX, u64::MAX - 1, u64::MAX / 2 + 1, 1 << 63, 4_095] {
            let (world, _) = nine_records();
            put_u64(&world, &Path::new(DIR).join("head"), at, value);
            survives(world, &format!("head {at:#x} is {value:#x}"));
        }
    }
}

/// Changes a field in both copies of a segment's header, checksums included.
fn forge_header(bytes: &mut [u8], offset: usize, value: u64) {
    for copy in [0, 0x800] {
        bytes[copy + offset..copy + offset + 8].copy_from_slice(&value.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[copy..copy + 0x90]);
        bytes[copy + 0x90..copy + 0x94].copy_from_slice(&crc.to_le_bytes());
    }
}

fn put_file(world: &SimWorld, path: &Path, bytes: &[u8]) {
    let options = OpenOptions { write: true, create: true, ..Default::default() };
    let platform = world.platform();
    let file = platform.open(path, options).expect("creates");
    platform.write_at(&file, 0, bytes, true).expect("writes");
    platform.sync_directory(Path::new(DIR)).expect("syncs");
}

#[test]
fn a_segment_header_with_numbers_beyond_all_counting() {
    let block = 4_096_u64;
    let cases = [
        (0x20, u64::MAX),
        (0x20, u64::MAX - 1),
        (0x28, u64::MAX - block + 1),
        (0x28, (1 << 63) - block),
        (0x38, u64::MAX),
    ];
    for (offset, value) in cases {
        for name in ["orders-20991231-001.wal", "orders-19700101-001.wal", "x.wal"] {
            let (world, path) = nine_records();
            let mut bytes = world.file_bytes(&path).expect("reads");
            bytes.truncate(8_192);
            bytes[4_096..].fill(0);
            forge_header(&mut bytes, offset, value);
            put_file(&world, &Path::new(DIR).join(name), &bytes);
            survives(world, &format!("header {offset:#x} of {name} is {value:#x}"));
        }
    }
}

/// Changes a field of the last batch with records, its checksum included.
fn forge_batch(world: &SimWorld, path: &Path, number: usize, offset: usize, value: u64) {
    let mut bytes = world.file_bytes(path).expect("reads");
    let salt = u32::from_le_bytes(bytes[0x30..0x34].try_into().expect("four"));
    let at = support::batches(world, path)[number].0 as usize;
    bytes[at + offset..at + offset + 8].copy_from_slice(&value.to_le_bytes());
    let crc = crc32c::crc32c_append(salt, &bytes[at + 8..at + 64]);
    bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
    patch(world, path, at as u64, &bytes[at..at + 64]);
}

#[test]
fn a_batch_with_numbers_beyond_all_counting() {
    for offset in [0x20, 0x28, 0x30, 0x38] {
        for value in [u64::MAX, u64::MAX - 1, 1 << 63] {
            for number in [0, 4, 8] {
                let (world, path) = nine_records();
                forge_batch(&world, &path, number, offset, value);
                survives(world, &format!("batch {number} says {value:#x} at {offset:#x}"));
            }
        }
    }
}

#[test]
fn a_footer_with_numbers_beyond_all_counting() {
    for (offset, value) in [(0x20, u64::MAX), (0x20, u64::MAX - 1), (0x28, u64::MAX)] {
        let (world, path) = nine_records();
        let bytes = world.file_bytes(&path).expect("reads");
        let salt = u32::from_le_bytes(bytes[0x30..0x34].try_into().expect("four"));
        let at = bytes.len() - 16_384;
        let mut footer = vec![0; 16_384];
        footer[..8].copy_from_slice(&bytes[at..at + 8]);
        if footer[..8] == [0; 8] {
            footer[..8].copy_from_slice(b"ELGFOOT1");
        }
        footer[0x10..0x18].copy_from_slice(&1_u64.to_le_bytes());
        footer[0x18..0x20].copy_from_slice(&1_u64.to_le_bytes());
        footer[0x20..0x28].copy_from_slice(&10_u64.to_le_bytes());
        footer[0x38..0x40].copy_from_slice(&(10 * 4_096_u64).to_le_bytes());
        footer[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        let crc = crc32c::crc32c_append(salt, &footer[0x0c..]);
        footer[0x08..0x0c].copy_from_slice(&crc.to_le_bytes());
        patch(&world, &path, at as u64, &footer);
        survives(world, &format!("the footer says {value:#x} at {offset:#x}"));
    }
}

/// A pipe would be waited for, a socket cannot be opened, and a link may lead in a circle.
#[test]
fn what_is_no_file_is_left_alone() {
    let scratch = tempfile::tempdir().expect("a directory");
    let dir = scratch.path();
    let opened = || open(Arc::new(OsPlatform::new()), dir, &route(), small()).expect("opens");
    drop(opened());
    let cursors = dir.join("cursors");
    std::fs::create_dir_all(&cursors).expect("creates");
    let mut held = Vec::new();
    for place in [dir.join("orders-20991231-001.wal"), cursors.join("x.cursor")] {
        let made = Command::new("mkfifo").arg(&place).status().expect("mkfifo runs");
        assert!(made.success());
        // Held open, so that whoever opens it too does not wait for ever.
        let both = std::fs::OpenOptions::new().read(true).write(true).open(&place);
        held.push(both.expect("opens"));
    }
    drop(UnixListener::bind(dir.join("orders-20991231-002.wal")).expect("binds"));
    symlink("orders-20991231-003.wal", dir.join("orders-20991231-003.wal")).expect("links");
    symlink("nowhere", dir.join("orders-20991231-004.wal")).expect("links");
    symlink("/dev/full", dir.join("orders-20991231-005.wal")).expect("links");
    std::fs::create_dir(dir.join("orders-20991231-006.wal")).expect("creates");
    std::fs::create_dir(dir.join("segment.retired.7")).expect("creates");

    let platform = Arc::new(OsPlatform::new());
    let found = describe(&*platform, dir).expect("describes");
    assert_eq!((found.segments.len(), found.ignored.len()), (1, 6), "{:?}", found.ignored);
    let report = fsck(&*platform, dir, &FsckOptions::default(), &mut |_, _| ()).expect("checks");
    let strange = report.findings.iter().filter(|it| it.what == "it is not a file").count();
    assert_eq!((report.segments, strange), (1, 6), "{:?}", report.findings);
    assert_eq!(list_cursors(&*platform, dir).expect("lists"), []);
    let mut reader = LogReader::open(platform, dir, ReadFrom::Start).expect("opens");
    assert!(matches!(reader.next_batch(), Ok(ReadBatch::CaughtUp)));
    let (_, recovery) = opened();
    assert_eq!(recovery.ignored, found.ignored);
}

/// Somebody has moved a segment to another disk and left a link.
#[test]
fn a_segment_behind_a_link_is_a_segment() {
    let scratch = tempfile::tempdir().expect("a directory");
    let dir = scratch.path().join("log");
    let opened = || open(Arc::new(OsPlatform::new()), &dir, &route(), small()).expect("opens");
    drop(opened());
    let described = || describe(&OsPlatform::new(), &dir).expect("describes").segments;
    let name = described()[0].name.clone();
    let elsewhere = scratch.path().join("elsewhere");
    std::fs::rename(dir.join(&name), &elsewhere).expect("moves");
    symlink(&elsewhere, dir.join(&name)).expect("links");
    let before = described();
    assert_eq!((before.len(), before[0].bytes), (1, support::SEGMENT_BYTES));
    drop(opened());
    assert_eq!(described(), before);

    let other_name = scratch.path().join("other-name");
    symlink(&dir, &other_name).expect("links");
    let options = FsckOptions { mirror: Some(other_name), ..FsckOptions::default() };
    let refused = fsck(&OsPlatform::new(), &dir, &options, &mut |_, _| ());
    assert!(matches!(refused, Err(FsckError::Mirror { .. })), "a log is no mirror of itself");
}

/// No room, or no right, to copy damage aside: the log opens all the same, and says so.
#[test]
fn damage_that_cannot_be_copied_aside_stays_where_it_is() {
    let (world, path) = nine_records();
    let (offset, ..) = support::batches(&world, &path)[8];
    patch(&world, &path, offset + 100, &[0xff; 300]);
    put_file(&world, &Path::new(DIR).join("quarantine"), b"in the way");
    let damaged = world.file_bytes(&path).expect("reads");
    let rig = Rig::open(world, small());
    let [gap] = rig.recovery.quarantined.as_slice() else { panic!("{:?}", rig.recovery) };
    assert_eq!((gap.from, gap.to, &gap.path), (Lsn(9), Lsn(9), &None));
    assert!(gap.reason.contains("could not be copied aside"), "{}", gap.reason);
    assert_eq!(rig.world.file_bytes(&path).expect("reads"), damaged);
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    world.platform().remove(&Path::new(DIR).join("quarantine")).expect("removes");
    let rig = Rig::open(world, small());
    assert!(rig.recovery.quarantined[0].path.is_some(), "the next start copies it");
}

/// One cursor that cannot be read takes nothing from what the others prove.
#[test]
fn a_number_that_a_reader_has_passed_is_not_given_again() {
    let (world, _) = nine_records();
    let dir = Path::new(DIR);
    let platform = world.platform();
    let mut cursor = Cursor::open(&*platform, dir, "good").expect("opens");
    cursor.save_blocking(&*platform, Lsn(9), [0; 4], true).expect("saves");
    drop(cursor);
    put_file(&world, &dir.join("cursors/bad.cursor"), &[7; 8_192]);
    for path in segments(&world) {
        platform.remove(&path).expect("removes");
    }
    platform.remove(&dir.join("head")).expect("removes");
    let rig = Rig::open(world, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(10));
}

/// Somebody has copied a segment within its directory, long ago or not to the end.
#[test]
fn a_copy_of_a_segment_does_not_take_its_place() {
    for (name, bytes) in [
        ("a.wal", 3 * 4_096),
        ("a.wal", usize::MAX),
        ("orders-19700101-001.wal", 3 * 4_096),
        ("orders-19700101-001.wal", 5),
    ] {
        let (world, path) = nine_records();
        let mut copy = world.file_bytes(&path).expect("reads");
        // As it was when only two records were in it.
        copy[3 * 4_096..].fill(0);
        copy.truncate(bytes);
        let copied = Path::new(DIR).join(name);
        put_file(&world, &copied, &copy);
        let options = FsckOptions { repair: true, ..FsckOptions::default() };
        let platform = world.platform();
        fsck(&*platform, Path::new(DIR), &options, &mut |_, _| ()).expect("checks");
        assert_eq!(world.file_bytes(&copied).expect("reads"), copy, "{name} is left alone");
        survives(world, name);
    }
}
