//! Logs for checking, and damage to them.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(unreachable_pub, reason = "shared by several test crates")]

use crate::support::{DIR, Rig, batches, small};
use elgate_io::OpenOptions;
use elgate_io::sim::SimWorld;
use elgate_log::{FsckOptions, FsckReport, fsck};
use elgate_types::Lsn;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub const MIRROR: &str = "/mirror/orders";
pub const BLOCK: usize = 4_096;
pub const FOOTER: usize = 4 * BLOCK;

pub fn check(world: &SimWorld) -> FsckReport {
    run(world, false, false)
}

pub fn repair(world: &SimWorld) -> FsckReport {
    run(world, true, false)
}

pub fn run(world: &SimWorld, repair: bool, with_mirror: bool) -> FsckReport {
    let options = FsckOptions { repair, mirror: with_mirror.then(|| PathBuf::from(MIRROR)) };
    fsck(&*world.platform(), Path::new(DIR), &options, &mut |_, _| ()).expect("checks")
}

pub fn put_file(world: &SimWorld, path: &Path, bytes: &[u8]) {
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
pub fn reference() -> (Vec<u8>, PathBuf, Vec<usize>) {
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
    bytes.truncate(used + FOOTER);
    for copy in [0, 0x800] {
        let size = bytes.len() as u64;
        bytes[copy + 0x28..copy + 0x30].copy_from_slice(&size.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[copy..copy + 0x90]);
        bytes[copy + 0x90..copy + 0x94].copy_from_slice(&crc.to_le_bytes());
    }
    (bytes, path, found.iter().map(|batch| batch.0 as usize).collect())
}

/// A world that holds just this segment, and no head file to help.
pub fn world_of(bytes: &[u8], path: &Path) -> SimWorld {
    let world = SimWorld::new(2);
    put_file(&world, path, bytes);
    world
}

/// A closed log of several segments, and its files.
pub fn long_log(mirrored: bool) -> (SimWorld, BTreeMap<PathBuf, Vec<u8>>) {
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

pub fn in_mirror(path: &Path) -> PathBuf {
    Path::new(MIRROR).join(path.file_name().expect("a file"))
}

pub fn segments_in(world: &SimWorld, dir: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = world.platform().list(Path::new(dir)).expect("lists");
    let segments = names.into_iter().filter(|entry| entry.name.ends_with(".wal"));
    segments
        .map(|entry| Path::new(dir).join(entry.name))
        .map(|path| (path.clone(), world.file_bytes(&path).expect("reads")))
        .collect()
}

/// A cursor whose newer slot has a flipped bit.
pub fn put_cursor(world: &SimWorld, path: &Path) {
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
