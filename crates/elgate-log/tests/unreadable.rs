//! Blocks that the device cannot read: the log opens all the same, serves what validates around
//! them and reports the rest; nothing is cut for them and no number is given out twice.

#[path = "support/bad_blocks.rs"]
mod bad_blocks;
mod support;

use bad_blocks::BadBlocks;
use elgate_io::Platform;
use elgate_io::sim::SimWorld;
use elgate_log::{GapReason, LogReader, OpenError, ReadError, ReadFrom, open};
use elgate_types::Lsn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{DIR, Found, Rig, batches, read_on, route, segments, small};

const BLOCK: u64 = 4_096;
const EIO: Option<i32> = Some(5);

/// See [`batches`].
type Batches = Vec<(u64, u64, u64, u32)>;

/// Three acknowledged batches of two records each, the last one covered by nothing but the head
/// file; the process has died, and so has the power if `power`.
fn dead(power: bool) -> (SimWorld, PathBuf, Batches) {
    let mut rig = Rig::new(small());
    for bytes in [100, 9_000, 700] {
        rig.append(bytes).expect("taken");
        rig.append(40).expect("taken");
        let last = Lsn(rig.writer.next_lsn().0 - 1);
        rig.until_durable(last);
    }
    let (world, path) = (rig.world.clone(), rig.segments()[0].clone());
    let found = batches(&world, &path);
    assert_eq!(found.len(), 3);
    drop(rig);
    if power {
        world.power_cut()
    } else {
        world.process_crash()
    }
    (world, path, found)
}

fn open_on(world: &SimWorld, platform: &Arc<BadBlocks>) -> Result<Rig, OpenError> {
    let platform = Arc::clone(platform) as Arc<dyn Platform>;
    let (writer, recovery) = open(platform, Path::new(DIR), &route(), small())?;
    let driver = world.driver();
    Ok(Rig { world: world.clone(), driver, writer, recovery, events: Vec::new() })
}

fn read_around(platform: &Arc<BadBlocks>) -> Vec<Found> {
    let platform = Arc::clone(platform) as Arc<dyn Platform>;
    let opened = LogReader::open_reading_around(platform, Path::new(DIR), ReadFrom::Start);
    read_on(&mut opened.expect("a log"))
}

fn gaps(rig: &Rig) -> Vec<(u64, u64)> {
    rig.recovery.quarantined.iter().map(|gap| (gap.from.0, gap.to.0)).collect()
}

#[test]
fn every_block_of_a_log_may_be_bad() {
    for power in [false, true] {
        let (_, _, found) = dead(power);
        let end = found.iter().map(|(at, bytes, ..)| at + bytes).max().expect("batches");
        for bad in (0..end + 2 * BLOCK).step_by(BLOCK as usize) {
            let (world, path, _) = dead(power);
            let platform = BadBlocks::new(world.platform());
            let before = world.file_bytes(&path).expect("reads");
            platform.spoil(&path, bad..bad + BLOCK, None);
            let mut rig = open_on(&world, &platform).expect("opens");
            assert_eq!(world.file_bytes(&path).expect("reads"), before, "block {bad}: left alone");
            assert_eq!(rig.recovery.torn_bytes, 0, "block {bad}");
            let next = rig.recovery.next_lsn;
            assert!(next >= Lsn(7), "block {bad}: {:?}", rig.recovery);

            // Recovering twice is recovering once.
            let first = (next, gaps(&rig));
            if !power && bad == found[2].0 {
                assert_eq!(first, (Lsn(7), vec![(5, 6)]), "the head file says how many they were");
            }
            drop(rig);
            world.process_crash();
            rig = open_on(&world, &platform).expect("opens again");
            assert_eq!(rig.recovery.next_lsn, next, "block {bad}");
            // What was lost before the first record that is kept is told once.
            assert!(gaps(&rig) == first.1 || bad <= BLOCK, "block {bad}: {:?}", rig.recovery);

            rig.append(10).expect("taken");
            rig.until_durable(next);
            let lost = |found: &[Found]| -> u64 {
                let each = found.iter().map(|found| match *found {
                    Found::Gap(from, to, _) => (to.min(6) + 1).saturating_sub(from),
                    Found::Records(..) => 0,
                });
                each.sum()
            };
            let here = read_around(&platform);
            assert!(lost(&here) <= 6, "block {bad}: {here:?}");
            assert!(here.contains(&Found::Records(next.0, next.0)) || next == Lsn(7), "{here:?}");
            // With a head file recovery has no need to look at the second batch.
            let is_seen = power || bad <= BLOCK || bad >= found[2].0;
            assert_eq!(rig.segments().len() == 2, is_seen, "block {bad}: goes on elsewhere");
            drop(rig);
            world.process_crash();

            // What was lost to the block is back with it, every record once; but not a log of
            // which neither header nor head file told the identity.
            platform.heal();
            let rig = open_on(&world, &platform).expect("opens healed");
            assert_eq!(rig.recovery.next_lsn, next.next(), "block {bad}");
            let healed = rig.read();
            assert!(lost(&healed) == 0 || (power && bad == 0), "block {bad}: {healed:?}");
        }
    }
}

#[test]
fn what_validates_around_a_bad_block_is_served() {
    // Without a head file the walk begins at the first batch.
    let (world, path, found) = dead(true);
    let (at, bytes, first, _) = found[1];
    assert!(bytes > 2 * BLOCK, "its second record begins in its last block");
    let platform = BadBlocks::new(world.platform());
    platform.spoil(&path, at + BLOCK..at + 2 * BLOCK, None);
    let mut rig = open_on(&world, &platform).expect("opens");
    assert_eq!(gaps(&rig), [(first, first)]);
    let gap = rig.recovery.quarantined[0].clone();
    assert!(gap.reason.contains("cannot be read from the device"), "{gap:?}");
    let copy = world.file_bytes(&gap.path.expect("copied")).expect("reads");
    assert_eq!(copy.len() as u64, bytes);
    assert!(copy[4_096..8_192].iter().all(|byte| *byte == 0), "zeros for what cannot be read");
    assert_eq!(copy[..4_096], world.file_bytes(&path).expect("reads")[at as usize..][..4_096]);
    rig.append(10).expect("taken");
    rig.until_durable(Lsn(7));
    assert_eq!(rig.segments().len(), 2, "writing goes on elsewhere");
    assert_eq!(
        read_around(&platform),
        [
            Found::Records(1, first - 1),
            Found::Gap(first, first, GapReason::Unreadable),
            Found::Records(first + 1, 7)
        ]
    );
    // Who does not give up on the block is told why.
    let platform: Arc<dyn Platform> = platform;
    let opened = LogReader::open(platform, Path::new(DIR), ReadFrom::Start);
    let error = opened.and_then(|mut reader| reader.next_batch()).expect_err("cannot read");
    assert!(error.is_media_error(), "{error}");
}

#[test]
fn a_block_that_reads_at_the_third_attempt_costs_nothing() {
    let (world, path, found) = dead(false);
    let platform = BadBlocks::new(world.platform());
    for (at, ..) in &found {
        platform.spoil(&path, *at..at + BLOCK, Some(2));
    }
    let mut rig = open_on(&world, &platform).expect("opens");
    assert_eq!(rig.recovery.quarantined, []);
    assert_eq!(rig.recovery.next_lsn, Lsn(7));
    rig.append(10).expect("taken");
    rig.until_durable(Lsn(7));
    assert_eq!(read_around(&platform), [Found::Records(1, 7)]);
}

#[test]
fn a_torn_batch_beside_a_bad_block_is_not_cut_and_its_numbers_are_not_used_again() {
    // Nothing vouches for the third batch: the head file goes.
    let (world, path, found) = dead(true);
    world.platform().remove(&Path::new(DIR).join("head")).expect("removes");
    let (at, ..) = found[2];
    let platform = BadBlocks::new(world.platform());
    platform.spoil(&path, at..at + BLOCK, None);
    let rig = open_on(&world, &platform).expect("opens");
    let next = rig.recovery.next_lsn;
    assert!(next > Lsn(6), "{:?}", rig.recovery);
    assert_eq!(gaps(&rig), [(5, next.0 - 1)]);
    assert!(rig.recovery.quarantined[0].reason.contains("fewer of them, or none"));
    drop(rig);
    world.process_crash();
    platform.heal();
    let mut rig = open_on(&world, &platform).expect("opens");
    assert_eq!(rig.recovery.next_lsn, next, "given out is given out");
    rig.append(10).expect("taken");
    rig.until_durable(next);
    let read = rig.read();
    assert_eq!(
        read,
        [
            Found::Records(1, 6),
            Found::Gap(7, next.0 - 1, GapReason::Damaged),
            Found::Records(next.0, next.0)
        ]
    );
}

#[test]
fn a_bad_footer_keeps_writers_out_of_its_segment() {
    let mut rig = Rig::new(small());
    while rig.segments().len() < 2 {
        rig.commit(400_000);
    }
    let last = rig.commit(100);
    rig.close();
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    let paths = segments(&world);
    let platform = BadBlocks::new(world.platform());
    for path in &paths {
        let size = world.file_bytes(path).expect("reads").len() as u64;
        platform.spoil(path, size - 4 * BLOCK..size, None);
    }
    let before = batches(&world, &paths[0]).last().map(|batch| batch.2);
    let mut rig = open_on(&world, &platform).expect("opens");
    assert_eq!(rig.recovery.next_lsn, last.next());
    assert_eq!(rig.recovery.quarantined, []);
    rig.append(10).expect("taken");
    rig.until_durable(last.next());
    let written = |path: &PathBuf| batches(&world, path).last().map(|batch| batch.2);
    assert_eq!(written(&paths[0]), before, "it may be sealed");
    assert_eq!(read_around(&platform), [Found::Records(1, last.0 + 1)]);
}

#[test]
fn a_device_that_reads_nothing_is_an_error_and_not_an_empty_log() {
    let (world, path, found) = dead(false);
    let platform = BadBlocks::new(world.platform());
    platform.spoil(&path, 0..u64::MAX, None);
    let error = open_on(&world, &platform).map(drop).expect_err("refused");
    assert!(matches!(&error, OpenError::Io(fault) if fault.error.raw_os_error() == EIO));
    // Nor is everything behind the header damage.
    platform.heal();
    platform.spoil(&path, found[0].0..u64::MAX, None);
    let error = open_on(&world, &platform).map(drop).expect_err("refused");
    assert!(matches!(&error, OpenError::Io(fault) if fault.error.raw_os_error() == EIO));
    let around: Arc<dyn Platform> = Arc::clone(&platform) as _;
    let opened = LogReader::open_reading_around(around, Path::new(DIR), ReadFrom::Start);
    let error = opened.and_then(|mut reader| reader.next_batch()).expect_err("refused");
    assert!(matches!(&error, ReadError::Io(fault) if fault.error.raw_os_error() == EIO));
    platform.heal();
    let rig = open_on(&world, &platform).expect("opens");
    assert_eq!((rig.recovery.next_lsn, gaps(&rig)), (Lsn(7), vec![]));
}

#[test]
fn what_is_no_file_where_one_is_needed_names_the_way_out() {
    for name in ["head", "segment.preparing"] {
        let world = SimWorld::new(1);
        world.platform().create_directories(&Path::new(DIR).join(name)).expect("creates");
        let error = Rig::try_open(world, small()).map(drop).expect_err("refused");
        assert!(error.to_string().contains("move it away"), "{error}");
    }
}
