//! Bits flip, files are cut short, blocks vanish: what was acknowledged is served or reported,
//! never silently missing; what was not acknowledged may be cut.

mod support;

use elgate_io::OpenOptions;
use elgate_io::sim::SimWorld;
use elgate_log::{GapReason, ReadFrom};
use elgate_types::Lsn;
use std::path::{Path, PathBuf};
use support::{DIR, Found, Rig, batches, flip_bit, patch, read_all, small};

/// A log of a few KiB: three acknowledged batches, the last covered by a marker. Cut to its used
/// length, so that looking at it is quick.
fn reference(covered: bool) -> (Vec<u8>, PathBuf) {
    let mut rig = Rig::new(small());
    for bytes in [100, 3_000, 700] {
        rig.append(bytes).expect("taken");
        rig.append(40).expect("taken");
        let last = Lsn(rig.writer.next_lsn().0 - 1);
        rig.until_durable(last);
    }
    if covered {
        rig.close();
    }
    let path = rig.segments()[0].clone();
    let used = batches(&rig.world, &path).last().map(|batch| batch.0 + batch.1).expect("batches");
    let mut bytes = rig.world.file_bytes(&path).expect("reads");
    bytes.truncate(used as usize);
    (bytes, path)
}

/// A world that holds just this segment, and no head file to help.
fn world_of(bytes: &[u8], path: &Path) -> SimWorld {
    let world = SimWorld::new(2);
    let platform = world.platform();
    platform.create_directories(Path::new(DIR)).expect("creates");
    let options = OpenOptions { write: true, create: true, ..Default::default() };
    platform.open(path, options).expect("creates");
    platform.sync_directory(Path::new(DIR)).expect("syncs");
    patch(&world, path, 0, bytes);
    world
}

fn read(world: &SimWorld) -> Vec<Found> {
    read_all(world.platform(), ReadFrom::Start)
}

/// How many records are served, and how many are reported as damaged.
fn tally(found: &[Found]) -> (u64, u64) {
    found.iter().fold((0, 0), |(served, lost), found| match found {
        Found::Records(from, to) => (served + to - from + 1, lost),
        Found::Gap(from, to, reason) => {
            assert_eq!(*reason, GapReason::Damaged);
            (served, lost + to - from + 1)
        }
    })
}

#[test]
fn recovery_reports_what_readers_report() {
    let (bytes, path) = reference(true);
    for bit in (0..bytes.len() as u64 * 8).step_by(1_009) {
        let world = world_of(&bytes, &path);
        flip_bit(&world, &path, bit);
        let (served, lost) = tally(&read(&world));
        let mut rig = Rig::open(world, small());
        let reported: u64 =
            rig.recovery.quarantined.iter().map(|gap| gap.to.0 - gap.from.0 + 1).sum();
        assert_eq!((served, reported), (6 - lost, lost), "bit {bit}: {:?}", rig.recovery);
        assert_eq!(rig.recovery.next_lsn, Lsn(7), "bit {bit}");
        for gap in &rig.recovery.quarantined {
            let copy = gap.path.as_ref().expect("copied aside");
            assert!(!rig.world.file_bytes(copy).expect("there").is_empty());
        }
        // A marker that a flipped bit has made invalid is cut the first time.
        let again = elgate_log::Recovery { torn_bytes: 0, ..rig.recovery.clone() };
        rig = rig.crash(true, small());
        assert_eq!(rig.recovery, again, "bit {bit}: recovering twice is recovering once");
        rig.commit(10);
        let (served, lost) = tally(&rig.read());
        assert_eq!((served, lost), (7 - reported, reported), "bit {bit}");
    }
}

#[test]
fn a_flipped_bit_in_a_batch_nobody_vouches_for_cuts_it_whole() {
    let (bytes, path) = reference(false);
    let last = bytes.len() as u64 - 4_096;
    for bit in (last * 8..bytes.len() as u64 * 8).step_by(37) {
        let world = world_of(&bytes, &path);
        flip_bit(&world, &path, bit);
        let found = read(&world);
        assert!(
            found == [Found::Records(1, 4)] || found == [Found::Records(1, 6)],
            "bit {bit}: {found:?}"
        );
        let rig = Rig::open(world, small());
        let kept = if found == [Found::Records(1, 4)] { 4 } else { 6 };
        assert_eq!(rig.recovery.next_lsn, Lsn(kept + 1), "bit {bit}");
        assert_eq!(rig.recovery.torn_bytes > 0, kept == 4, "bit {bit}");
        assert_eq!(rig.recovery.quarantined, []);
    }
}

#[test]
fn a_hole_with_a_later_unacknowledged_batch_is_cut() {
    let (bytes, path) = reference(false);
    let world = world_of(&bytes, &path);
    // Batch 2 never arrived, batch 3 did: it states that only batch 1 was durable, if so much.
    let mut batch = bytes[3 * 4_096..].to_vec();
    restate_durable(&mut batch, salt(&bytes), 2);
    patch(&world, &path, 3 * 4_096, &batch);
    patch(&world, &path, 2 * 4_096, &[0; 4_096]);
    assert_eq!(read(&world), [Found::Records(1, 2)]);
    let mut rig = Rig::open(world, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(3));
    assert_eq!(rig.recovery.torn_bytes, 2 * 4_096);
    // Were the old batch 3 still there, it would follow the new batch 2 seamlessly.
    rig.append(10).expect("taken");
    rig.append(10).expect("taken");
    rig.until_durable(Lsn(4));
    let mut rig = rig.crash(false, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(5), "what was cut is not revived");
    rig.commit(10);
    assert_eq!(rig.read(), [Found::Records(1, 5)]);
}

#[test]
fn a_blanked_beginning_costs_what_was_there_and_no_more() {
    let mut rig = Rig::new(small());
    while rig.segments().len() < 3 {
        rig.commit(250_000);
    }
    for _ in 0..3 {
        rig.commit(100);
    }
    let path = rig.segments()[1].clone();
    let (offset, length, hit, _) = batches(&rig.world, &path)[0];
    patch(&rig.world, &path, offset, &vec![0; length as usize]);
    let last = rig.writer.next_lsn().0 - 1;
    let expected = [
        Found::Records(1, hit - 1),
        Found::Gap(hit, hit, GapReason::Damaged),
        Found::Records(hit + 1, last),
    ];
    assert_eq!(rig.read(), expected, "while it is written");
    let rig = rig.crash(false, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(last + 1));
    assert_eq!(rig.recovery.quarantined.len(), 1, "{:?}", rig.recovery);
    assert_eq!(rig.read(), expected, "after recovery");
}

#[test]
fn garbage_where_nothing_was_acknowledged_is_cut() {
    let (bytes, path) = reference(true);
    let world = world_of(&bytes, &path);
    patch(&world, &path, bytes.len() as u64, &[7; 4_096]);
    let rig = Rig::open(world, small());
    assert_eq!((rig.recovery.next_lsn, rig.recovery.torn_bytes), (Lsn(7), 4_096));
    let after = rig.world.file_bytes(&path).expect("reads");
    assert!(after[bytes.len()..].iter().all(|byte| *byte == 0), "in a new file it was written");
}

#[test]
fn an_old_epochs_batch_is_not_revived_even_if_the_cut_missed_it() {
    let (bytes, path) = reference(false);
    let world = world_of(&bytes[..3 * 4_096], &path);
    // As if the segment had been longer: room for what follows.
    patch(&world, &path, 20 * 4_096, &[0; 4_096]);
    let mut rig = Rig::open(world, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(5));
    // The new epoch's batch where the old one was torn off, then the old batch behind it: same
    // segment, right salt, and LSNs that continue.
    rig.commit(10);
    let stale = bytes[3 * 4_096..].to_vec();
    let world = rig.world.clone();
    let active = rig.segments()[0].clone();
    let mut stale = stale;
    restate_first(&mut stale, salt(&bytes), 6);
    drop(rig);
    world.process_crash();
    patch(&world, &active, 4 * 4_096, &stale);
    let rig = Rig::open(world, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(6), "an older epoch does not count");
}

#[test]
fn rot_in_the_last_batch_is_known_by_the_head_file() {
    let mut rig = Rig::new(small());
    rig.commit(100);
    rig.commit(100);
    let path = rig.segments()[0].clone();
    let (offset, ..) = batches(&rig.world, &path)[1];
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    world.rot(&path, offset + 64 + 32 + 5, 1).expect("rots");
    assert_eq!(read(&world), [Found::Records(1, 1), Found::Gap(2, 2, GapReason::Damaged)]);
    let mut rig = Rig::open(world, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(3), "its number is not given out again");
    assert_eq!(rig.recovery.quarantined.len(), 1);
    assert_eq!(
        (rig.recovery.quarantined[0].from, rig.recovery.quarantined[0].to),
        (Lsn(2), Lsn(2))
    );
    rig.commit(100);
    assert_eq!(
        rig.read(),
        [Found::Records(1, 1), Found::Gap(2, 2, GapReason::Damaged), Found::Records(3, 3)]
    );
}

#[test]
fn rot_costs_only_the_records_it_hits() {
    let mut rig = Rig::new(small());
    for _ in 0..9 {
        rig.append(500).expect("taken");
    }
    rig.until_durable(Lsn(9));
    rig.commit(10);
    let path = rig.segments()[0].clone();
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    // A block in the middle of the first batch, and the batch's header.
    world.rot(&path, 4_096 + 64 + 3 * (32 + 504) + 100, 1).expect("rots");
    world.rot(&path, 4_096 + 8, 1).expect("rots");
    assert_eq!(
        read(&world),
        [Found::Records(1, 3), Found::Gap(4, 4, GapReason::Damaged), Found::Records(5, 10)]
    );
    let rig = Rig::open(world, small());
    assert_eq!(rig.recovery.quarantined.len(), 1);
    assert_eq!(rig.recovery.quarantined[0].from, Lsn(4));
}

#[test]
fn a_lost_segment_is_a_gap_and_the_rest_is_served() {
    let mut rig = Rig::new(small());
    for _ in 0..12 {
        rig.commit(900_000);
    }
    let segments = rig.segments();
    assert!(segments.len() >= 3);
    let first: Vec<u64> =
        segments.iter().take(3).map(|path| batches(&rig.world, path)[0].2).collect();
    rig.world.platform().remove(&segments[1]).expect("removes");
    let found = rig.read();
    assert_eq!(
        found,
        [
            Found::Records(1, first[1] - 1),
            Found::Gap(first[1], first[2] - 1, GapReason::Damaged),
            Found::Records(first[2], 12)
        ]
    );
}

#[test]
fn rot_in_a_sealed_segment_is_found_by_readers() {
    let mut rig = Rig::new(small());
    for _ in 0..12 {
        rig.commit(900_000);
    }
    let segments = rig.segments();
    rig.world.rot(&segments[0], 4_096 + 2_000, 50).expect("rots");
    rig.world.rot(&segments[1], 4_096, 4_096).expect("rots");
    let found = rig.read();
    let (served, lost) = tally(&found);
    assert_eq!((served, lost), (10, 2), "{found:?}");
}

#[test]
fn foreign_files_are_left_alone_and_reported() {
    let mut rig = Rig::new(small());
    rig.commit(10);
    rig.close();
    let world = rig.world.clone();
    drop(rig);
    let dir = Path::new(DIR);
    let platform = world.platform();
    let create = |name: &str, bytes: &[u8]| {
        let options = OpenOptions { write: true, create: true, ..Default::default() };
        platform.open(&dir.join(name), options).expect("creates");
        patch(&world, &dir.join(name), 0, bytes);
    };
    create("empty.wal", &[]);
    create("garbage.wal", &[b'x'; 10_000]);
    create("zeros.wal", &[0; 8_192]);
    let other = {
        let mut other = Rig::new(small());
        other.commit(10);
        other.world.file_bytes(&other.segments()[0]).expect("reads")
    };
    // Another log's segment: the same route name, another identity.
    let mut foreign = other;
    foreign[0x10] ^= 1;
    reseal_segment_header(&mut foreign);
    create("orders-20200101-001.wal", &foreign);
    let before: Vec<_> = support::segments(&world);
    let mut rig = Rig::open(world, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(2));
    let reasons: Vec<_> =
        rig.recovery.ignored.iter().map(|ignored| ignored.reason.as_str()).collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("another log")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("not written by Elgate")), "{reasons:?}");
    rig.commit(10);
    assert_eq!(rig.read(), [Found::Records(1, 2)]);
    for path in before {
        assert!(rig.segments().contains(&path), "{} is still there", path.display());
    }
}

#[test]
fn losing_every_segment_does_not_give_numbers_out_again() {
    let mut rig = Rig::new(small());
    rig.commit(10);
    rig.commit(10);
    let world = rig.world.clone();
    for path in rig.segments() {
        world.platform().remove(&path).expect("removes");
    }
    drop(rig);
    world.process_crash();
    let mut rig = Rig::open(world, small());
    assert_eq!(rig.recovery.next_lsn, Lsn(3));
    assert_eq!(rig.recovery.quarantined.len(), 1, "{:?}", rig.recovery);
    rig.commit(10);
    assert_eq!(rig.read(), [Found::Records(3, 3)]);
}

fn salt(segment: &[u8]) -> u32 {
    u32::from_le_bytes(segment[0x30..0x34].try_into().expect("four"))
}

fn restate_durable(batch: &mut [u8], salt: u32, durable: u64) {
    batch[0x28..0x30].copy_from_slice(&durable.to_le_bytes());
    reseal_batch_header(batch, salt);
}

/// Renumbers a batch and its records.
fn restate_first(batch: &mut [u8], salt: u32, first: u64) {
    batch[0x10..0x18].copy_from_slice(&first.to_le_bytes());
    let count = u32::from_le_bytes(batch[0x18..0x1c].try_into().expect("four"));
    let (mut at, mut records_crc) = (64, 0);
    for number in 0..u64::from(count) {
        let length = u32::from_le_bytes(batch[at + 4..at + 8].try_into().expect("four")) as usize;
        batch[at + 8..at + 16].copy_from_slice(&(first + number).to_le_bytes());
        let crc = crc32c::crc32c_append(salt, &batch[at + 4..at + 32 + length]);
        batch[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        records_crc = crc32c::crc32c_append(records_crc, &crc.to_le_bytes());
        at += 32 + length.next_multiple_of(8);
    }
    batch[0x1c..0x20].copy_from_slice(&records_crc.to_le_bytes());
    reseal_batch_header(batch, salt);
}

fn reseal_batch_header(batch: &mut [u8], salt: u32) {
    let crc = crc32c::crc32c_append(salt, &batch[0x08..0x40]);
    batch[0x04..0x08].copy_from_slice(&crc.to_le_bytes());
}

fn reseal_segment_header(segment: &mut [u8]) {
    let crc = crc32c::crc32c(&segment[..0x90]);
    segment[0x90..0x94].copy_from_slice(&crc.to_le_bytes());
}
