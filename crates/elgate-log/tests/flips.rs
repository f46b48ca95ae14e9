//! Every single-bit flip and every truncation of a reference segment, as it is when its file is new
//! and when the file has been a segment before: the log opens, what was acknowledged is served or
//! reported, damage costs the record it hits and no other, and nothing is served that never was.

mod support;

use elgate_io::OpenOptions;
use elgate_io::sim::SimWorld;
use elgate_log::{LogReader, ReadFrom};
use elgate_types::Lsn;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use support::{
    DIR, Found, Rig, SEGMENT_BYTES, batches, flip_bit, patch, read_all, segments, small,
};

const HEADER_BYTES: usize = 4_096;
const FOOTER_BYTES: usize = 16 * 1024;
/// Behind the last batch, before the footer.
const SLACK_BYTES: usize = 4_096;

/// A whole segment, cut down to what a few KiB of batches need.
struct Reference {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where the batches are.
    used: Range<usize>,
    records: u64,
    /// Where each batch ends, and the last record by then.
    ends: Vec<(usize, u64)>,
}

impl Reference {
    /// `stale`: what an earlier life has left in the file.
    fn new(stale: Option<&[u8]>) -> Self {
        let mut rig = Rig::new(small());
        for sizes in [&[100, 40][..], &[3_000, 40], &[0, 1, 7, 8, 9, 700], &[5_000], &[17; 30]] {
            for bytes in sizes {
                rig.append(*bytes).expect("taken");
            }
            let last = Lsn(rig.writer.next_lsn().0 - 1);
            rig.until_durable(last);
        }
        let records = rig.writer.next_lsn().0 - 1;
        // The last acknowledgement is covered by a marker.
        rig.close();
        let path = rig.segments()[0].clone();
        let found = batches(&rig.world, &path);
        let ends: Vec<_> = found
            .iter()
            .map(|(at, bytes, first, count)| ((at + bytes) as usize, first + u64::from(*count) - 1))
            .collect();
        let end = ends.last().expect("batches").0;
        let mut bytes = rig.world.file_bytes(&path).expect("reads");
        bytes.truncate(end);
        bytes.resize(end + SLACK_BYTES + FOOTER_BYTES, 0);
        if let Some(stale) = stale {
            bytes[end..].copy_from_slice(&stale[..SLACK_BYTES + FOOTER_BYTES]);
        }
        let length = bytes.len() as u64;
        for copy in [0, 0x800] {
            let header = &mut bytes[copy..copy + 0x94];
            header[0x28..0x30].copy_from_slice(&length.to_le_bytes());
            header[0x34] = u8::from(stale.is_some());
            let crc = crc32c::crc32c(&header[..0x90]);
            header[0x90..0x94].copy_from_slice(&crc.to_le_bytes());
        }
        Self { path, bytes, used: HEADER_BYTES..end, records, ends }
    }

    fn both() -> [Self; 2] {
        let stale = earlier_life();
        [Self::new(None), Self::new(Some(&stale))]
    }

    /// A world that holds just this segment, and no head file to help.
    fn world(&self, bytes: &[u8]) -> SimWorld {
        let world = SimWorld::new(2);
        let platform = world.platform();
        platform.create_directories(Path::new(DIR)).expect("creates");
        let options = OpenOptions { write: true, create: true, ..Default::default() };
        platform.open(&self.path, options).expect("creates");
        patch(&world, &self.path, 0, bytes);
        world
    }
}

impl Reference {
    /// The world as it was before `bit` was flipped and recovery came.
    fn undo(&self, rig: Rig, bit: u64) -> SimWorld {
        let world = rig.world.clone();
        let recovery = rig.recovery.clone();
        drop(rig);
        if recovery.torn_bytes > 0 {
            // Cut.
            return self.world(&self.bytes);
        }
        world.process_crash();
        let copies = recovery.quarantined.into_iter().filter_map(|gap| gap.path);
        for path in copies.chain([Path::new(DIR).join("head")]) {
            world.platform().remove(&path).expect("removes");
        }
        flip_bit(&world, &self.path, bit);
        assert_eq!(segments(&world), std::slice::from_ref(&self.path), "bit {bit}");
        world
    }
}

/// Batches and footer of a sealed segment of another log, with LSNs that would fit.
fn earlier_life() -> Vec<u8> {
    let mut rig = Rig::open(SimWorld::new(77), small());
    for _ in 0..60 {
        rig.commit(900);
    }
    while rig.segments().len() < 3 {
        rig.commit(600_000);
    }
    rig.close();
    let bytes = rig.world.file_bytes(&rig.segments()[0]).expect("reads");
    let footer = SEGMENT_BYTES as usize - FOOTER_BYTES;
    assert_eq!(&bytes[footer..footer + 8], b"ELGFOOT1", "it is sealed");
    let batches = HEADER_BYTES + 30 * 4_096;
    [&bytes[batches..batches + SLACK_BYTES], &bytes[footer..]].concat()
}

/// Does `check` to every number below `count`, some at a time, on every processor.
fn for_each(count: u64, check: impl Fn(Range<u64>) + Sync) {
    const PIECE: u64 = 256;
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Relaxed: the number is all that is shared.
                let piece = || next.fetch_add(PIECE, Ordering::Relaxed);
                let pieces = std::iter::from_fn(|| Some(piece()).filter(|start| *start < count));
                pieces.for_each(|start| check(start..(start + PIECE).min(count)));
            });
        }
    });
}

/// How many records are served, and how many reported as damaged.
fn tally(found: &[Found]) -> (u64, u64) {
    found.iter().fold((0, 0), |(served, lost), found| match found {
        Found::Records(from, to) => (served + to - from + 1, lost),
        Found::Gap(from, to, _) => (served, lost + to - from + 1),
    })
}

fn lost_by_reader(world: &SimWorld, reference: &Reference, what: &str) -> u64 {
    let found = read_all(world.platform(), ReadFrom::Start);
    let (served, lost) = tally(&found);
    assert_eq!(served + lost, reference.records, "{what}: {found:?}");
    lost
}

#[test]
fn every_flipped_bit_costs_at_most_its_own_record() {
    for reference in Reference::both() {
        let lost = AtomicU64::new(0);
        for_each(reference.bytes.len() as u64 * 8, |bits| {
            let world = reference.world(&reference.bytes);
            for bit in bits {
                flip_bit(&world, &reference.path, bit);
                let cost = lost_by_reader(&world, &reference, &format!("bit {bit}"));
                flip_bit(&world, &reference.path, bit);
                let is_in_batches = reference.used.contains(&(bit as usize / 8));
                assert!(cost <= u64::from(is_in_batches), "bit {bit} cost {cost}");
                lost.fetch_add(cost, Ordering::Relaxed);
            }
        });
        let payload_bits = 8 * (140 + 3_040 + 725 + 5_000 + 510);
        assert!(lost.into_inner() >= payload_bits, "flips that hit a record are noticed");
    }
}

#[test]
fn a_log_opens_whatever_bit_is_flipped() {
    for reference in Reference::both() {
        for_each(reference.bytes.len() as u64 * 8, |bits| {
            let mut world = reference.world(&reference.bytes);
            // Behind the batches one bit is like the next; readers try them all.
            let step = if bits.start / 8 < reference.used.end as u64 { 1 } else { 16 };
            for bit in bits.step_by(step) {
                flip_bit(&world, &reference.path, bit);
                let rig = Rig::open(world, small());
                let recovery = &rig.recovery;
                assert_eq!(recovery.next_lsn, Lsn(reference.records + 1), "bit {bit}");
                let gaps = recovery.quarantined.iter();
                let reported: u64 = gaps.map(|gap| gap.to.0 - gap.from.0 + 1).sum();
                let is_in_batches = reference.used.contains(&(bit as usize / 8));
                assert!(reported <= u64::from(is_in_batches), "bit {bit}: {recovery:?}");
                if bit % 997 == 0 {
                    let what = format!("bit {bit}");
                    assert_eq!(lost_by_reader(&rig.world, &reference, &what), reported);
                }
                world = reference.undo(rig, bit);
            }
        });
    }
}

#[test]
fn every_truncation_leaves_a_prefix_and_the_log_opens() {
    for reference in Reference::both() {
        for_each(reference.bytes.len() as u64, |lengths| {
            for length in lengths {
                let what = format!("length {length}");
                let length = length as usize;
                let world = reference.world(&reference.bytes[..length]);
                if length < HEADER_BYTES {
                    let opened = LogReader::open(world.platform(), Path::new(DIR), ReadFrom::Start);
                    assert!(opened.is_err(), "{what}: nothing there can be checked");
                    let rig = Rig::open(world, small());
                    assert_eq!(rig.recovery.ignored.len(), 1, "{what}: {:?}", rig.recovery);
                    assert_eq!(rig.recovery.next_lsn, Lsn(1), "{what}");
                    continue;
                }
                let whole = reference.ends.iter().rfind(|(end, _)| *end <= length);
                let kept = whole.map_or(0, |(_, last)| *last);
                let expected = if kept == 0 { vec![] } else { vec![Found::Records(1, kept)] };
                assert_eq!(read_all(world.platform(), ReadFrom::Start), expected, "{what}");
                let rig = Rig::open(world, small());
                assert_eq!(rig.recovery.next_lsn, Lsn(kept + 1), "{what}");
                assert_eq!(rig.recovery.quarantined, [], "{what}");
                assert_eq!(rig.read(), expected, "{what}");
            }
        });
    }
}
