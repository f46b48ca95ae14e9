//! With a mirror: either copy repairs the other, and a repair that is killed is finished by the
//! next.

#[path = "support/logs.rs"]
mod logs;
#[path = "support/mortal.rs"]
mod mortal;
mod support;

use elgate_io::sim::{FaultPlan, SimWorld};
use elgate_log::{FindingKind, FsckOptions, LogOptions, fsck};
use logs::*;
use mortal::Mortal;
use std::path::{Path, PathBuf};
use support::{DIR, Rig, batches, no_faults, patch, small};

#[test]
fn a_zeroed_or_misdirected_block_is_found_and_never_made_worse() {
    let (good, path, _) = reference();
    let blocks = (good.len() - FOOTER) / BLOCK;
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
            assert!(world.file_bytes(&path).expect("reads") == bad, "{source} over {target}");
            put_file(&world, &in_mirror(&path), &good);
            let report = run(&world, true, true);
            // That the marker at the end was acknowledged, nobody says.
            let (repaired, right) = if is_end { (0, &bad) } else { (1, &good) };
            assert_eq!(
                (report.left, report.repaired),
                (0, repaired),
                "{source} over {target}: {report:?}"
            );
            assert!(world.file_bytes(&path).expect("reads") == *right, "{source} over {target}");
            assert!(run(&world, false, true).is_clean());
        }
    }
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

fn mirrored() -> LogOptions {
    LogOptions { mirror: Some(MIRROR.into()), ..small() }
}

fn mirrored_rig(seed: u64) -> Rig {
    let world = SimWorld::new(seed);
    world.platform().create_directories(Path::new("/mirror")).expect("creates");
    Rig::open(world, mirrored())
}

#[test]
fn a_mirror_that_a_writer_keeps_is_clean_live_and_after_a_crash() {
    for seed in 0..20_u64 {
        let mut rig = mirrored_rig(seed);
        for round in 0..30_usize {
            for bytes in [100, 20_000 * (round % 40), 7] {
                // Refused while too much waits: no matter.
                drop(rig.append(bytes));
            }
            for _ in 0..round % 4 {
                rig.turn();
            }
            rig.submit();
            let report = run(&rig.world, false, true);
            assert!(report.findings.is_empty(), "{seed} {round}: {report:?}");
        }
        let (world, acknowledged) = (rig.world.clone(), rig.writer.durable());
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
        let before = run(&world, false, true);
        assert_eq!(before.left, 0, "{seed}: {before:?}");
        let report = run(&world, true, true);
        assert_eq!(report.left, 0, "{seed}: {report:?}");
        assert!(report.last_lsn >= Some(acknowledged), "{seed}: {report:?}");
        let report = run(&world, false, true);
        assert!(report.is_clean(), "{seed}: {report:?}");
        let rig = Rig::open(world, mirrored());
        assert!(rig.recovery.next_lsn > acknowledged, "{seed}");
    }
}

#[test]
fn what_a_mirror_missed_is_copied() {
    let mut rig = mirrored_rig(1);
    for _ in 0..9 {
        rig.commit(700_000);
    }
    rig.close();
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    no_faults(&world);
    let files = segments_in(&world, DIR);
    let (path, good) = files.iter().next().expect("several");
    let second = batches(&world, path)[1].0;
    // Its device went away in the middle of the segment.
    let missing = good.len() - second as usize;
    patch(&world, &in_mirror(path), second, &vec![0; missing]);
    let before = run(&world, false, true);
    assert!(before.repairable > 0 && before.left == 0, "{before:?}");
    let report = run(&world, true, true);
    let lag: Vec<_> =
        report.findings.iter().filter(|finding| finding.kind == FindingKind::Mirror).collect();
    assert_eq!(lag.len(), 1, "told once, not batch by batch: {report:?}");
    assert!(world.file_bytes(&in_mirror(path)).expect("reads") == *good);
    assert!(run(&world, false, true).is_clean());
}

#[test]
fn the_beginning_of_the_last_segment_comes_from_its_twin() {
    // The twin has no footer, but what it states to be durable was the same in both.
    for cut in [0, BLOCK, 3 * BLOCK] {
        let mut rig = mirrored_rig(1);
        for _ in 0..5 {
            rig.commit(9_000);
        }
        let acknowledged = rig.writer.durable();
        rig.close();
        let world = rig.world.clone();
        drop(rig);
        world.process_crash();
        no_faults(&world);
        let files = segments_in(&world, DIR);
        let (path, good) = files.iter().next().expect("one");
        assert_eq!(files.len(), 1);
        put_file(&world, path, &good[..cut]);
        let report = run(&world, true, true);
        assert_eq!((report.left, report.lost_records), (0, 0), "{cut}: {report:?}");
        assert_eq!(report.last_lsn, Some(acknowledged), "{cut}: {report:?}");
        assert!(run(&world, false, true).is_clean(), "{cut}");
    }
}
