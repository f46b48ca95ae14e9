//! A check finds whatever is wrong with a log, and a repair puts back the bytes that were there or
//! nothing: with a mirror, without one, and when it is killed on the way.

#[path = "support/mortal.rs"]
mod mortal;
mod support;

use elgate_io::OpenOptions;
use elgate_io::sim::{FaultPlan, SimWorld};
use elgate_log::{FindingKind, FsckError, FsckOptions, FsckReport, Outcome, fsck};
use elgate_types::{FlushMode, Lsn};
use mortal::Mortal;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::{DIR, Found, Rig, batches, flip_bit, patch, read_all, small};

const MIRROR: &str = "/mirror/orders";
const BLOCK: usize = 4_096;

fn check(world: &SimWorld) -> FsckReport {
    run(world, false, false)
}

fn repair(world: &SimWorld) -> FsckReport {
    run(world, true, false)
}

fn run(world: &SimWorld, repair: bool, with_mirror: bool) -> FsckReport {
    let options = FsckOptions { repair, mirror: with_mirror.then(|| PathBuf::from(MIRROR)) };
    fsck(&*world.platform(), Path::new(DIR), &options, &mut |_, _| ()).expect("checks")
}

fn put_file(world: &SimWorld, path: &Path, bytes: &[u8]) {
    let platform = world.platform();
    let folder = path.parent().expect("in a folder");
    platform.create_directories(folder).expect("creates");
    let options = OpenOptions { write: true, create: true, ..Default::default() };
    let file = platform.open(path, options).expect("creates");
    platform.set_size(&file, 0).expect("truncates");
    platform.write_at(&file, 0, bytes, false).expect("writes");
    platform.sync(&file).expect("syncs");
    platform.sync_directory(folder).expect("syncs");
}

/// A closed log of one small segment with three batches and a marker, no longer than it has to
/// be, so that looking at it is quick; and where its batches are.
fn reference() -> (Vec<u8>, PathBuf, Vec<usize>) {
    let mut rig = Rig::new(small());
    for bytes in [100, 3_000, 700] {
        rig.append(bytes).expect("taken");
        rig.append(40).expect("taken");
        let last = Lsn(rig.writer.next_lsn().0 - 1);
        rig.until_durable(last);
    }
    rig.close();
    let path = rig.segments()[0].clone();
    let found = batches(&rig.world, &path);
    let used = found.last().map(|batch| batch.0 + batch.1).expect("batches") as usize;
    let mut bytes = rig.world.file_bytes(&path).expect("reads");
    bytes.truncate(used);
    for copy in [0, 0x800] {
        bytes[copy + 0x28..copy + 0x30].copy_from_slice(&(used as u64).to_le_bytes());
        let crc = crc32c::crc32c(&bytes[copy..copy + 0x90]);
        bytes[copy + 0x90..copy + 0x94].copy_from_slice(&crc.to_le_bytes());
    }
    (bytes, path, found.iter().map(|batch| batch.0 as usize).collect())
}

/// A world that holds just this segment, and no head file to help.
fn world_of(bytes: &[u8], path: &Path) -> SimWorld {
    let world = SimWorld::new(2);
    put_file(&world, path, bytes);
    world
}

/// A closed log of several segments, and its files.
fn long_log(mirrored: bool) -> (SimWorld, BTreeMap<PathBuf, Vec<u8>>) {
    let mut rig = Rig::new(small());
    for number in 0..24_usize {
        for bytes in [700_000, 60, 5_000 * number] {
            rig.append(bytes).expect("taken");
        }
        let last = Lsn(rig.writer.next_lsn().0 - 1);
        rig.until_durable(last);
    }
    rig.close();
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    let files = segments_in(&world, DIR);
    assert!(files.len() >= 4, "{} segments", files.len());
    if mirrored {
        for (path, bytes) in &files {
            put_file(&world, &in_mirror(path), bytes);
        }
    }
    (world, files)
}

fn in_mirror(path: &Path) -> PathBuf {
    Path::new(MIRROR).join(path.file_name().expect("a file"))
}

fn segments_in(world: &SimWorld, dir: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = world.platform().list(Path::new(dir)).expect("lists");
    let segments = names.into_iter().filter(|entry| entry.name.ends_with(".wal"));
    segments
        .map(|entry| Path::new(dir).join(entry.name))
        .map(|path| (path.clone(), world.file_bytes(&path).expect("reads")))
        .collect()
}

#[test]
fn a_whole_log_is_clean_and_counted() {
    let (world, files) = long_log(true);
    let report = run(&world, false, true);
    assert!(report.is_clean() && report.findings.is_empty(), "{report:?}");
    assert_eq!(
        (report.records, report.first_lsn, report.last_lsn),
        (72, Some(Lsn(1)), Some(Lsn(72)))
    );
    assert_eq!(report.segments, files.len() as u64);
    assert_eq!(report.route.as_deref(), Some("orders"));
    let read: usize = files.values().map(Vec::len).sum();
    assert!(report.bytes >= read as u64 - BLOCK as u64 * 10, "{} of {read}", report.bytes);
}

#[test]
fn every_flipped_bit_is_found_and_set_right() {
    let (good, path, starts) = reference();
    let world = world_of(&good, &path);
    assert_eq!(check(&world).findings, []);
    let is_header = |byte: usize| {
        let copies = byte < 0x94 || (0x800..0x894).contains(&byte);
        copies || starts.iter().any(|start| (*start..start + 64 + 32).contains(&byte))
    };
    let bits =
        (0..good.len() as u64 * 8).filter(|bit| is_header((bit / 8) as usize) || bit % 7 == 0);
    let mut tried = 0;
    for bit in bits {
        flip_bit(&world, &path, bit);
        if tried % 5 == 0 {
            let before = check(&world);
            assert_eq!((before.repairable, before.left), (1, 0), "bit {bit}: {before:?}");
        }
        let report = repair(&world);
        assert_eq!((report.repaired, report.left), (1, 0), "bit {bit}: {report:?}");
        assert!(world.file_bytes(&path).expect("reads") == good, "bit {bit}");
        let copy = report.findings[0].copy.as_ref().expect("kept");
        let (kept, at) = (world.file_bytes(copy).expect("reads"), bit as usize / 8 / BLOCK * BLOCK);
        let differing: u32 = kept.iter().zip(&good[at..]).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(differing, 1, "bit {bit}: what was there is kept");
        world.platform().remove(copy).expect("removes");
        tried += 1;
    }
    assert!(tried > 20_000, "{tried}");
}

#[test]
fn two_flipped_bits_are_never_set_wrong() {
    let (good, path, starts) = reference();
    let world = world_of(&good, &path);
    let record = (starts[1] + 64) as u64 * 8;
    for number in 0..3_000_u64 {
        let bits = [number * 7_919 % (3_032 * 8), number * 104_729 % (3_032 * 8)];
        let mut bad = good.clone();
        for bit in bits {
            bad[((record + bit) / 8) as usize] ^= 1 << (bit % 8);
        }
        patch(&world, &path, 0, &bad);
        let report = repair(&world);
        let found = world.file_bytes(&path).expect("reads");
        assert!(found == good || (found == bad && report.left > 0), "bits {bits:?}: {report:?}");
        patch(&world, &path, 0, &good);
        for copy in report.findings.iter().filter_map(|finding| finding.copy.as_ref()) {
            world.platform().remove(copy).expect("removes");
        }
    }
}

#[test]
fn a_zeroed_or_misdirected_block_is_found_and_never_made_worse() {
    let (good, path, _) = reference();
    let blocks = good.len() / BLOCK;
    for target in 0..blocks {
        for source in 0..=blocks {
            if source == target {
                continue;
            }
            let mut bad = good.clone();
            let to = target * BLOCK..(target + 1) * BLOCK;
            if source == blocks {
                bad[to].fill(0);
            } else {
                bad.copy_within(source * BLOCK..(source + 1) * BLOCK, target * BLOCK);
            }
            let world = world_of(&bad, &path);
            let report = repair(&world);
            let is_end = target + 1 == blocks;
            assert!(report.left > 0 || is_end, "{source} over {target}: {report:?}");
            assert_eq!(world.file_bytes(&path).expect("reads"), bad, "{source} over {target}");
            put_file(&world, &in_mirror(&path), &good);
            let report = run(&world, true, true);
            assert_eq!(
                (report.left, report.repaired),
                (0, 1),
                "{source} over {target}: {report:?}"
            );
            assert_eq!(world.file_bytes(&path).expect("reads"), good, "{source} over {target}");
            assert!(run(&world, false, true).is_clean());
        }
    }
}

#[test]
fn what_is_lost_is_named_by_record() {
    let (good, path, starts) = reference();
    let mut bad = good.clone();
    // The payload of record 3, the first of the second batch.
    bad[starts[1] + 64 + 32 + 100..][..300].fill(0x77);
    let world = world_of(&bad, &path);
    let report = repair(&world);
    assert_eq!((report.left, report.lost_records), (1, 1));
    let finding = &report.findings[0];
    assert_eq!((finding.kind, finding.lsns), (FindingKind::Gap, Some((Lsn(3), Lsn(3)))));
    assert_eq!(finding.bytes, Some(starts[1] as u64..starts[2] as u64));
    let copy = finding.copy.as_ref().expect("kept");
    assert_eq!(world.file_bytes(copy).expect("reads"), bad[starts[1]..starts[2]]);
    assert_eq!(repair(&world).findings[0].copy.as_ref(), Some(copy), "kept once");
}

/// Damages one file of a log in many ways; each must be set right from the other copy.
fn damages(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let changed = |what: &'static str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.to_vec();
        change(&mut bytes);
        (what, bytes)
    };
    vec![
        changed("header", &|bytes| bytes[..BLOCK].fill(0)),
        changed("beginning", &|bytes| bytes[..40 * BLOCK].fill(0x5a)),
        changed("first batch", &|bytes| bytes[BLOCK..3 * BLOCK].fill(0)),
        changed("misplaced", &|bytes| bytes.copy_within(500 * BLOCK..700 * BLOCK, BLOCK)),
        changed("middle", &|bytes| bytes[200 * BLOCK..500 * BLOCK].fill(0xee)),
        changed("cut", &|bytes| bytes.truncate(100 * BLOCK + 17)),
        changed("cut in the header", &|bytes| bytes.truncate(1_000)),
        changed("emptied", &|bytes| bytes.clear()),
    ]
}

#[test]
fn either_copy_repairs_the_other() {
    let (world, files) = long_log(true);
    let (path, good) = files.iter().nth(1).expect("several");
    for target in [path.clone(), in_mirror(path)] {
        for (what, bad) in damages(good) {
            put_file(&world, &target, &bad);
            let before = run(&world, false, true);
            assert!(before.repairable > 0 && before.left == 0, "{what}: {before:?}");
            assert_eq!(world.file_bytes(&target).expect("reads"), bad, "a check changes nothing");
            let report = run(&world, true, true);
            assert!(report.repaired > 0 && report.left == 0, "{what}: {report:?}");
            assert!(world.file_bytes(&target).expect("reads") == *good, "{what}");
            let after = run(&world, false, true);
            assert!(after.is_clean(), "{what}: {after:?}");
        }
        world.platform().remove(&target).expect("removes");
        let report = run(&world, true, true);
        assert_eq!((report.repaired, report.left), (1, 0), "removed: {report:?}");
        assert!(world.file_bytes(&target).expect("reads") == *good);
    }
}

#[test]
fn damage_on_both_sides_is_repaired_where_one_side_is_whole() {
    let (world, files) = long_log(true);
    let (path, good) = files.iter().next().expect("several");
    let found = batches(&world, path);
    let mut here = good.clone();
    here[found[0].0 as usize + 5_000..][..9_000].fill(1);
    here[found[2].0 as usize + 200] ^= 0x10;
    let mut there = good.clone();
    there[found[1].0 as usize..][..5_000].fill(2);
    there[found[2].0 as usize + 9_000..][..10].fill(3);
    put_file(&world, path, &here);
    put_file(&world, &in_mirror(path), &there);
    let report = run(&world, true, true);
    // Both copies of batch 2 are damaged; only the records that are hit in both are lost.
    assert!(report.repaired >= 2, "{report:?}");
    let found_here = world.file_bytes(path).expect("reads");
    assert!(found_here[..found[2].0 as usize] == good[..found[2].0 as usize]);
    let found_there = world.file_bytes(&in_mirror(path)).expect("reads");
    assert!(found_there[..found[2].0 as usize] == good[..found[2].0 as usize]);
}

#[test]
fn what_retention_removed_is_not_brought_back() {
    let (world, files) = long_log(true);
    let oldest = files.keys().next().expect("several");
    world.platform().remove(oldest).expect("removes");
    let report = run(&world, true, true);
    assert!(report.is_clean(), "{report:?}");
    assert!(world.file_bytes(oldest).is_err());
}

#[test]
fn a_lost_segment_is_a_gap_and_one_that_was_renamed_is_not() {
    let (world, files) = long_log(false);
    let names: Vec<&PathBuf> = files.keys().collect();
    let platform = world.platform();
    let aside = Path::new(DIR).join("aside.wal");
    for (from, to) in [(names[0], &aside), (names[1], names[0]), (&aside, names[1])] {
        platform.rename(from, to).expect("renames");
    }
    assert_eq!(check(&world).left, 0, "segments know their own order");
    platform.remove(names[1]).expect("removes");
    let first = batches(&world, names[0])[0].2;
    platform.remove(names[2]).expect("removes");
    let report = repair(&world);
    assert!(first > 1 && report.lost_records > 0, "{report:?}");
    assert_eq!(report.findings.iter().filter(|it| it.kind == FindingKind::Gap).count(), 1);
    assert_eq!(world.file_bytes(names[0]).expect("reads"), files[names[1]]);
}

#[test]
fn a_repair_that_is_killed_anywhere_is_finished_by_the_next() {
    let (good, path, starts) = reference();
    let cursor = Path::new(DIR).join("cursors/reader.cursor");
    let mut here = good.clone();
    here[0x20] ^= 1;
    here[starts[0] + 70] ^= 8;
    here[starts[1]..starts[1] + 600].fill(0);
    let mut there = good.clone();
    there[starts[2] + 100] ^= 2;
    there.truncate(starts[3] + 5);
    let options = FsckOptions { repair: true, mirror: Some(PathBuf::from(MIRROR)) };
    for power in [false, true] {
        for changes in 1.. {
            let world = world_of(&here, &path);
            world.set_faults(FaultPlan {
                keep_unsynced: true,
                reorder: true,
                torn: true,
                ..FaultPlan::default()
            });
            put_file(&world, &in_mirror(&path), &there);
            put_cursor(&world, &cursor);
            let mortal = Mortal::new(world.platform(), changes);
            let outcome = fsck(&mortal, Path::new(DIR), &options, &mut |_, _| ());
            if mortal.is_alive() {
                assert!(changes > 20, "{changes} changes");
                break;
            }
            assert!(outcome.is_err(), "killed");
            if power {
                world.power_cut()
            } else {
                world.process_crash()
            }
            let report = run(&world, true, true);
            assert_eq!(report.left, 0, "killed at {changes}: {report:?}");
            for file in [path.clone(), in_mirror(&path)] {
                assert!(world.file_bytes(&file).expect("reads") == good, "killed at {changes}");
            }
            let again = run(&world, true, true);
            assert!(again.is_clean(), "killed at {changes}: {again:?}");
        }
    }
}

/// A cursor whose newer slot has a flipped bit.
fn put_cursor(world: &SimWorld, path: &Path) {
    let mut bytes = vec![0; 2 * BLOCK];
    for (at, generation, lsn) in [(0, 6_u64, 3_u64), (BLOCK, 5, 2)] {
        let slot = &mut bytes[at..at + BLOCK];
        slot[..8].copy_from_slice(b"ELGCURS1");
        slot[8..16].copy_from_slice(&generation.to_le_bytes());
        slot[16..24].copy_from_slice(&lsn.to_le_bytes());
        let crc = crc32c::crc32c(&slot[..0x38]);
        slot[0x38..0x3c].copy_from_slice(&crc.to_le_bytes());
    }
    bytes[17] ^= 4;
    put_file(world, path, &bytes);
}

#[test]
fn a_cursor_is_set_right_if_the_other_save_agrees() {
    let (good, path, _) = reference();
    let world = world_of(&good, &path);
    let cursor = Path::new(DIR).join("cursors/reader.cursor");
    put_cursor(&world, &cursor);
    let report = repair(&world);
    assert_eq!((report.repaired, report.findings[0].kind), (1, FindingKind::Cursor));
    let right = world.file_bytes(&cursor).expect("reads");
    assert_eq!(right[16..24], 3_u64.to_le_bytes());
    let mut bad = right.clone();
    bad[..100].fill(9);
    put_file(&world, &cursor, &bad);
    let report = check(&world);
    assert!(report.is_clean() && report.findings[0].outcome == Outcome::Note, "{report:?}");
    bad[BLOCK..BLOCK + 100].fill(9);
    put_file(&world, &cursor, &bad);
    let report = repair(&world);
    assert_eq!(report.left, 1, "{report:?}");
    assert_eq!(world.file_bytes(&cursor).expect("reads"), bad, "never started over");
}

#[test]
fn a_live_log_raises_no_alarm_and_refuses_repair() {
    for flush in [FlushMode::Auto, FlushMode::Manual, FlushMode::None] {
        let mut rig = Rig::new(elgate_log::LogOptions { flush, ..small() });
        for round in 0..60_usize {
            for bytes in [100, 20_000 * (round % 40), 7] {
                // Refused while too much waits: no matter.
                drop(rig.append(bytes));
            }
            if round % 9 == 0 {
                rig.writer.flush();
            }
            for _ in 0..round % 4 {
                rig.turn();
            }
            rig.submit();
            let report = check(&rig.world);
            assert!(report.is_live, "{flush:?} {round}");
            assert!(report.findings.is_empty(), "{flush:?} {round}: {report:?}");
            assert!(report.last_lsn.unwrap_or(Lsn(0)) >= rig.writer.durable(), "{flush:?} {round}");
        }
        assert!(rig.segments().len() > 2, "{flush:?}");
        let options = FsckOptions { repair: true, mirror: None };
        let refused = fsck(&*rig.world.platform(), Path::new(DIR), &options, &mut |_, _| ());
        let pid = std::process::id();
        assert!(matches!(refused, Err(FsckError::InUse { pid: found, .. }) if found == pid));
        // Damage is found in a live log as well.
        let path = rig.segments()[0].clone();
        rig.world.rot(&path, 4_096 + 70, 3).expect("rots");
        assert!(check(&rig.world).left > 0, "{flush:?}");
    }
}

#[test]
fn what_a_crash_leaves_is_no_error() {
    for seed in 0..40 {
        let world = SimWorld::new(seed);
        let mut rig = Rig::open(world.clone(), small());
        for round in 0..10 + seed {
            rig.append(3_000 * (seed as usize % 7) + 10).expect("taken");
            if round % 3 == 0 {
                rig.turn();
            }
        }
        rig.submit();
        drop(rig);
        world.set_faults(FaultPlan {
            keep_unsynced: true,
            reorder: true,
            torn: true,
            ..FaultPlan::default()
        });
        if seed % 2 == 0 {
            world.power_cut()
        } else {
            world.process_crash()
        }
        let before = segments_in(&world, DIR);
        let report = repair(&world);
        assert!(report.is_clean(), "seed {seed}: {report:?}");
        assert!(segments_in(&world, DIR) == before, "seed {seed}: nothing was changed");
        let rig = Rig::open(world.clone(), small());
        assert!(rig.recovery.quarantined.is_empty());
    }
}

#[test]
fn a_repaired_log_is_served_whole() {
    let (world, files) = long_log(false);
    let path = files.keys().next().expect("several");
    let (second, last) = (batches(&world, path)[1].0, files.keys().nth(2).expect("several"));
    // In records that are not too long to be sure of.
    flip_bit(&world, path, (second + 3) * 8);
    let start = batches(&world, last)[0].0;
    flip_bit(&world, last, (start + 0x2a) * 8 + 3);
    assert_eq!(repair(&world).repaired, 2);
    let found = read_all(world.platform(), elgate_log::ReadFrom::Start);
    assert_eq!(found, [Found::Records(1, 72)]);
}

#[test]
fn a_place_without_a_log_is_refused_and_left_alone() {
    let world = SimWorld::new(1);
    world.platform().create_directories(Path::new(DIR)).expect("creates");
    for repair in [false, true] {
        let options = FsckOptions { repair, mirror: None };
        for dir in [DIR, "/nowhere"] {
            let refused = fsck(&*world.platform(), Path::new(dir), &options, &mut |_, _| ());
            assert!(matches!(refused, Err(FsckError::NoLog { .. })), "{dir}");
        }
        assert_eq!(world.platform().list(Path::new(DIR)).expect("lists"), []);
    }
}
