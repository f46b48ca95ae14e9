//! With a mirror: either copy repairs the other, and a repair that is killed is finished by the
//! next.

#[path = "support/logs.rs"]
mod logs;
#[path = "support/mortal.rs"]
mod mortal;
mod support;

use elgate_io::sim::{FaultPlan, SimWorld};
use elgate_log::{FindingKind, FsckOptions, LogOptions, fsck, open};
use elgate_types::Lsn;
use logs::*;
use mortal::Mortal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{DIR, Rig, batches, no_faults, patch, route, small};

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
fn a_segment_that_a_running_mirror_has_lost_is_named() {
    let mut rig = mirrored_rig(1);
    for _ in 0..9 {
        rig.commit(700_000);
    }
    while rig.turn() {}
    assert_eq!(run(&rig.world, false, true).findings, []);
    let segment = rig.segments()[0].clone();
    let twin = Path::new(MIRROR).join(segment.file_name().expect("a name"));
    rig.world.platform().remove(&twin).expect("removes");
    let report = run(&rig.world, false, true);
    let found: Vec<_> = report.findings.iter().map(|finding| &finding.path).collect();
    assert_eq!(found, [&segment], "{report:?}");
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

/// Where the batch of this number is, counted from 0.
fn place(world: &SimWorld, path: &Path, number: usize) -> std::ops::Range<usize> {
    let (at, bytes, _, _) = batches(world, path)[number];
    at as usize..(at + bytes) as usize
}

/// Three records are in both copies, and a fourth in the twin: it was under way when the power went.
/// With `is_kept` the log has it, too. Then the log goes on for three records, without its mirror.
fn parted(seed: u64, is_kept: bool) -> (SimWorld, PathBuf, Vec<u8>) {
    let mut rig = mirrored_rig(seed);
    for _ in 0..3 {
        rig.commit(9_000);
    }
    let (world, path) = (rig.world.clone(), rig.segments()[0].clone());
    let before = world.file_bytes(&path).expect("reads");
    rig.commit(100);
    drop(rig);
    world.process_crash();
    if !is_kept {
        put_file(&world, &path, &before);
        world.platform().remove(&Path::new(DIR).join("head")).expect("removes");
    }
    let mut rig = Rig::open(world.clone(), small());
    assert_eq!(rig.recovery.next_lsn, Lsn(if is_kept { 5 } else { 4 }));
    for bytes in [101, 200, 300] {
        rig.commit(bytes);
    }
    rig.close();
    drop(rig);
    world.process_crash();
    let good = world.file_bytes(&path).expect("reads");
    (world, path, good)
}

#[test]
fn what_was_never_acknowledged_does_not_take_the_place_of_what_was() {
    let (world, path, good) = parted(1, false);
    let fourth = place(&world, &path, 3);
    assert_eq!(place(&world, &in_mirror(&path), 3), fourth, "the attempt lies in its place");
    let stale = world.file_bytes(&in_mirror(&path)).expect("reads");
    assert!(stale[fourth.clone()] != good[fourth.clone()], "and is another");
    let whole = |bytes: &mut [u8]| bytes.fill(0);
    let records = |bytes: &mut [u8]| bytes[80..180].fill(0xee);
    let bit = |bytes: &mut [u8]| bytes[120] ^= 4;
    type Damage = fn(&mut [u8]);
    let damages: [(&str, Damage, u64); 3] =
        [("whole", whole, 1), ("records", records, 1), ("a bit", bit, 0)];
    for (what, damage, lost) in damages {
        let mut bad = good.clone();
        damage(&mut bad[fourth.clone()]);
        put_file(&world, &path, &bad);
        put_file(&world, &in_mirror(&path), &stale);
        let report = run(&world, true, true);
        assert_eq!(report.lost_records, lost, "{what}: {report:?}");
        assert_eq!(report.left > 0, lost > 0, "{what}: {report:?}");
        let found = world.file_bytes(&path).expect("reads");
        let right = if lost > 0 { &bad } else { &good };
        assert!(found[..fourth.end] == right[..fourth.end], "{what}: {report:?}");
    }
}

#[test]
fn an_unfinished_twin_repairs_what_the_log_itself_vouches_for() {
    // The header is left, and names the records.
    let (world, path, good) = parted(1, true);
    let fourth = place(&world, &path, 3);
    patch(&world, &path, fourth.start as u64 + 80, &[0xee; 100]);
    let report = run(&world, true, true);
    assert_eq!((report.left, report.lost_records), (0, 0), "{report:?}");
    assert!(world.file_bytes(&path).expect("reads") == good);

    // Nothing is left, but what follows is of the same epoch, or the last writer's word counts.
    for more in [3, 0] {
        let world = SimWorld::new(4);
        world.add_device(Path::new("/mirror")).expect("mounts");
        let mut rig = Rig::open(world.clone(), mirrored());
        for bytes in [9_000, 9_000, 9_000, 100] {
            rig.commit(bytes);
        }
        world.pull_device(Path::new("/mirror")).expect("pulls");
        for bytes in 0..more {
            rig.commit(200 + bytes);
        }
        let path = rig.segments()[0].clone();
        drop(rig);
        world.process_crash();
        if more > 0 {
            let mut rig = Rig::open(world.clone(), small());
            rig.commit(400);
            drop(rig);
            world.process_crash();
        }
        world.return_device(Path::new("/mirror"), false).expect("returns");
        let good = world.file_bytes(&path).expect("reads");
        let fourth = place(&world, &path, 3);
        assert_eq!(batches(&world, &in_mirror(&path)).len(), 4, "the twin goes no further");
        patch(&world, &path, fourth.start as u64, &vec![0; fourth.len()]);
        let report = run(&world, true, true);
        assert_eq!((report.left, report.lost_records), (0, 0), "{more}: {report:?}");
        assert!(world.file_bytes(&path).expect("reads") == good, "{more}");
    }
}

#[test]
fn a_twin_that_is_being_brought_up_to_date_vouches_for_no_attempt() {
    for seed in 0..24 {
        for changes in 6..12 {
            let (world, path, good) = parted(seed, false);
            let fourth = place(&world, &path, 3);
            world.set_faults(FaultPlan {
                keep_unsynced: true,
                reorder: true,
                ..FaultPlan::default()
            });
            let mortal = Arc::new(Mortal::new(world.platform(), changes));
            drop(open(mortal, Path::new(DIR), &route(), mirrored()));
            world.power_cut();
            no_faults(&world);
            patch(&world, &path, fourth.start as u64, &vec![0; fourth.len()]);
            let report = run(&world, true, true);
            let found = &world.file_bytes(&path).expect("reads")[fourth.clone()];
            assert!(
                found == &good[fourth.clone()] || found.iter().all(|byte| *byte == 0),
                "seed {seed}, killed at {changes}: {report:?}"
            );
        }
    }
}
