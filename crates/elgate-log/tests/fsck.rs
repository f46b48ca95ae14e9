//! A check finds whatever is wrong with a log, and a repair puts back the bytes that were there, or
//! nothing.

#[path = "support/logs.rs"]
mod logs;
mod support;

use elgate_io::sim::{FaultPlan, SimWorld};
use elgate_log::{
    FindingKind, FindingOutcome, FsckError, FsckOptions, LogOptions, Retention, fsck,
};
use elgate_types::{FlushMode, Lsn};
use logs::*;
use std::path::{Path, PathBuf};
use support::{DIR, Found, Rig, batches, flip_bit, patch, read_all, small};

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
    let there: usize = files.values().map(Vec::len).sum();
    assert_eq!(report.bytes, 2 * there as u64, "every byte of both copies");
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
    let bits = (0..(good.len() - FOOTER) as u64 * 8)
        .filter(|bit| is_header((bit / 8) as usize) || bit % 7 == 0);
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
    assert!(report.is_clean() && report.findings[0].outcome == FindingOutcome::Note, "{report:?}");
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

#[test]
fn a_footer_is_set_right_or_written_anew() {
    let (world, files) = long_log(false);
    let (path, good) = files.iter().next().expect("several");
    let footer = good.len() - FOOTER;
    let (begin, used) = (footer * 8, (footer + 0x60) * 8);
    for bit in (begin..used).step_by(7).chain((used..good.len() * 8).step_by(3_001)) {
        flip_bit(&world, path, bit as u64);
        let report = repair(&world);
        assert_eq!(report.repaired, 1, "bit {bit}: {report:?}");
        assert_eq!(report.findings[0].kind, FindingKind::FlippedBits, "bit {bit}");
        assert!(world.file_bytes(path).expect("reads") == *good, "bit {bit}");
        let copy = report.findings[0].copy.as_ref().expect("kept");
        world.platform().remove(copy).expect("removes");
    }
    patch(&world, path, footer as u64 + 0x18, &[7; 300]);
    let report = repair(&world);
    assert_eq!((report.repaired, report.findings[0].kind), (1, FindingKind::Footer));
    assert!(world.file_bytes(path).expect("reads") == *good, "written anew");
    patch(&world, path, footer as u64, &[0; FOOTER]);
    let report = repair(&world);
    assert!(report.is_clean(), "a crash may leave a segment without: {report:?}");
    assert_eq!(report.findings[0].kind, FindingKind::Footer);
    assert!(world.file_bytes(path).expect("reads") == *good, "written anew");
}

#[test]
fn an_earlier_life_of_a_file_is_neither_damage_nor_a_source() {
    let retain = Retention { max_bytes: Some(0), max_age: None };
    let mut struck = 0;
    for seed in 0..6_u64 {
        let mut rig = Rig::new(LogOptions { retain, ..small() });
        for round in 0..60 + 7 * seed {
            rig.commit(if round % 2 == 0 { 700_000 } else { 70_000 });
            if round % 5 == 0 {
                let report = check(&rig.world);
                assert!(report.is_clean() && report.is_live, "{seed} {round}: {report:?}");
            }
        }
        let last = rig.writer.durable();
        let world = rig.world.clone();
        drop(rig);
        if seed % 2 == 0 {
            world.power_cut()
        } else {
            world.process_crash()
        }
        let report = repair(&world);
        assert!(report.is_clean(), "{seed}: {report:?}");
        assert_eq!(report.last_lsn, Some(last), "{seed}");
        // What it held before is still there, and takes the place of nothing.
        let files = segments_in(&world, DIR).into_iter().rev();
        let starts = files.map(|(path, bytes)| (path, batches_of_this_life(&bytes)));
        let Some((path, starts)) = starts.into_iter().find(|(_, it)| it.len() > 1) else {
            continue;
        };
        struck += 1;
        patch(&world, &path, starts[starts.len() - 2] as u64, &[0; BLOCK]);
        let report = check(&world);
        assert_eq!(report.left, 1, "{seed}: {report:?}");
    }
    assert!(struck > 2, "{struck}");
}

/// Where the batches of a segment are that validate under its salt, by their headers.
fn batches_of_this_life(segment: &[u8]) -> Vec<usize> {
    let salt = u32::from_le_bytes(segment[0x30..0x34].try_into().expect("four"));
    let is_header = |at: &usize| {
        let header = &segment[*at..*at + 64];
        let crc = crc32c::crc32c_append(salt, &header[8..]).to_le_bytes();
        header[..4] == *b"EBAT" && header[4..8] == crc
    };
    (BLOCK..segment.len() - FOOTER).step_by(BLOCK).filter(is_header).collect()
}

#[test]
fn a_device_that_cannot_read_everything_is_no_reason_to_give_up() {
    let (good, path, _) = reference();
    let mut struck = 0;
    for seed in 0..60 {
        let world = SimWorld::new(seed);
        put_file(&world, &path, &good);
        world.set_faults(FaultPlan { read_error_per_mille: 400, ..FaultPlan::default() });
        let report = check(&world);
        struck += u64::from(!report.is_clean());
        world.set_faults(FaultPlan::default());
        assert_eq!(check(&world).findings, [], "{seed}: a check changes nothing");
    }
    assert!(struck > 5, "{struck}");
}
