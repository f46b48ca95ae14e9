//! Segments whose files have been segments before: what an earlier life left behind is neither
//! torn nor damaged, and what is torn or damaged in this life is found all the same.

mod support;

use elgate_io::sim::SimWorld;
use elgate_log::{GapReason, LogEvent, LogOptions, LogReader, ReadBatch, ReadFrom, Retention};
use elgate_types::Lsn;
use std::path::{Path, PathBuf};
use support::counting::Counting;
use support::{DIR, Found, Rig, batches, patch, read_all, read_on, segments, small};

const BLOCK: u64 = 4_096;

fn retaining() -> LogOptions {
    let retain = Retention { max_bytes: Some(0), max_age: None };
    LogOptions { retain, ..small() }
}

fn is_recycled(world: &SimWorld, path: &Path) -> bool {
    world.file_bytes(path).expect("reads")[0x34] & 1 == 1
}

/// A log whose active segment is a used file, full of batches of its earlier life, in which a few
/// batches have been committed. Returns that segment, too.
fn recycled() -> (Rig, PathBuf) {
    let mut rig = Rig::new(retaining());
    let rolls = |rig: &Rig| {
        rig.events.iter().filter(|event| matches!(event, LogEvent::Rolled { .. })).count()
    };
    while rolls(&rig) < 6 {
        rig.commit(3_000);
    }
    for _ in 0..5 {
        rig.commit(3_000);
    }
    let active = elgate_log::describe(&*rig.world.platform(), Path::new(DIR)).expect("describes");
    let active = active.segments.iter().find(|it| it.last_lsn == Some(rig.writer.durable()));
    let path = Path::new(DIR).join(&active.expect("the active one").name);
    assert!(is_recycled(&rig.world, &path));
    (rig, path)
}

/// The batches of this life: those with the newest numbers.
fn own_batches(rig: &Rig, path: &Path) -> Vec<(u64, u64, u64, u32)> {
    let all = batches(&rig.world, path);
    let first = all[0].2;
    let own: Vec<_> = all.iter().copied().take_while(|batch| batch.2 >= first).collect();
    assert!(own.len() >= 5 && all.len() > own.len() + 100, "an earlier life is there");
    own
}

fn killed(rig: Rig) -> SimWorld {
    let world = rig.world.clone();
    drop(rig);
    world.process_crash();
    world
}

#[test]
fn an_earlier_life_is_neither_torn_nor_damaged() {
    for with_head in [true, false] {
        let (rig, _) = recycled();
        let (first, next) = (rig.writer.first_lsn(), rig.writer.next_lsn());
        let world = killed(rig);
        if !with_head {
            world.platform().remove(&Path::new(DIR).join("head")).expect("removes");
        }
        let all = [Found::Records(first.0, next.0 - 1)];
        assert_eq!(read_all(world.platform(), ReadFrom::Start), all);
        let before: Vec<_> = segments(&world);
        let mut rig = Rig::open(world, retaining());
        assert_eq!((rig.recovery.next_lsn, rig.recovery.torn_bytes), (next, 0));
        assert_eq!(
            (rig.recovery.quarantined.as_slice(), rig.read().as_slice()),
            (&[][..], &all[..])
        );
        assert_eq!(rig.segments(), before, "the prepared one is used as it is");
        rig.commit(10);
        assert_eq!(rig.read(), [Found::Records(first.0, next.0)]);
    }
}

#[test]
fn rot_in_the_last_batch_is_known_by_the_head_file() {
    // The batch's header; a record; all of it.
    for (offset, bytes) in [(8, 1), (64 + 32 + 5, 1), (0, BLOCK as usize)] {
        let (rig, path) = recycled();
        let (first, next) = (rig.writer.first_lsn().0, rig.writer.next_lsn().0);
        let last = *own_batches(&rig, &path).last().expect("some");
        let world = killed(rig);
        world.rot(&path, last.0 + offset, bytes).expect("rots");
        let (lost, kept) = (next - 1, next - 2);
        // With the header damaged alone, its record still reads.
        let expected = match offset {
            8 => vec![Found::Records(first, lost)],
            _ => vec![Found::Records(first, kept), Found::Gap(lost, lost, GapReason::Damaged)],
        };
        assert_eq!(read_all(world.platform(), ReadFrom::Start), expected, "{offset}");
        let mut rig = Rig::open(world, retaining());
        assert_eq!(rig.recovery.next_lsn, Lsn(next), "{offset}: its number is not given again");
        assert_eq!(rig.recovery.quarantined.len(), usize::from(offset != 8), "{offset}");
        rig.commit(10);
        let mut expected = expected;
        expected.push(Found::Records(next, next));
        let joined = [Found::Records(first, next)];
        let expected = if offset == 8 { &joined[..] } else { &expected[..] };
        assert_eq!(read_all(rig.world.platform(), ReadFrom::Start), expected, "{offset}");
    }
}

#[test]
fn rot_before_acknowledged_batches_costs_what_it_hits() {
    let (rig, path) = recycled();
    let (first, next) = (rig.writer.first_lsn().0, rig.writer.next_lsn().0);
    let own = own_batches(&rig, &path);
    let hit = own[own.len() - 4];
    let world = killed(rig);
    world.platform().remove(&Path::new(DIR).join("head")).expect("removes");
    world.rot(&path, hit.0, hit.1 as usize).expect("rots");
    let expected = [
        Found::Records(first, hit.2 - 1),
        Found::Gap(hit.2, hit.2, GapReason::Damaged),
        Found::Records(hit.2 + 1, next - 1),
    ];
    assert_eq!(read_all(world.platform(), ReadFrom::Start), expected);
    let rig = Rig::open(world, retaining());
    assert_eq!((rig.recovery.next_lsn, rig.recovery.torn_bytes), (Lsn(next), 0));
    assert_eq!(rig.recovery.quarantined.len(), 1, "{:?}", rig.recovery);
}

#[test]
fn a_first_batch_that_was_blanked_is_damage_not_a_prepared_segment() {
    let (rig, path) = recycled();
    let (first, next) = (rig.writer.first_lsn().0, rig.writer.next_lsn().0);
    let hit = own_batches(&rig, &path)[0];
    patch(&rig.world, &path, hit.0, &vec![0; hit.1 as usize]);
    let mut expected = vec![Found::Gap(hit.2, hit.2, GapReason::Damaged)];
    expected.push(Found::Records(hit.2 + 1, next - 1));
    if first < hit.2 {
        expected.insert(0, Found::Records(first, hit.2 - 1));
    }
    let from = ReadFrom::Lsn(Lsn(first));
    assert_eq!(read_all(rig.world.platform(), from), expected, "while it is written");
    let world = killed(rig);
    assert_eq!(read_all(world.platform(), from), expected, "offline");
    let rig = Rig::open(world, retaining());
    assert_eq!(rig.recovery.next_lsn, Lsn(next));
    assert_eq!(rig.recovery.quarantined.len(), 1, "{:?}", rig.recovery);
    assert_eq!(read_all(rig.world.platform(), from), expected, "after recovery");
}

#[test]
fn a_torn_batch_is_cut_and_nothing_of_an_earlier_life_with_it() {
    let (mut rig, path) = recycled();
    let durable = rig.writer.next_lsn();
    let end = own_batches(&rig, &path).last().map(|batch| batch.0 + batch.1).expect("some");
    // Three batches that were under way when the power went; the first of them is lost.
    let before = rig.world.file_bytes(&path).expect("reads");
    for _ in 0..3 {
        rig.commit(3_000);
    }
    let world = killed(rig);
    let lost = &before[end as usize..][..BLOCK as usize];
    patch(&world, &path, end, lost);
    // What the later ones state is that nothing before them was durable.
    let after = world.file_bytes(&path).expect("reads");
    let salt = u32::from_le_bytes(after[0x30..0x34].try_into().expect("four"));
    for number in 1..3 {
        let at = (end + number * BLOCK) as usize;
        let mut header = after[at..at + 64].to_vec();
        header[0x28..0x30].copy_from_slice(&(durable.0 - 1).to_le_bytes());
        let crc = crc32c::crc32c_append(salt, &header[8..]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        patch(&world, &path, at as u64, &header);
    }
    world.platform().remove(&Path::new(DIR).join("head")).expect("removes");
    let rig = Rig::open(world, retaining());
    assert_eq!((rig.recovery.next_lsn, rig.recovery.torn_bytes), (durable, 3 * BLOCK));
    assert_eq!(rig.recovery.quarantined, []);
    let cut = rig.world.file_bytes(&path).expect("reads");
    let (start, stop) = (end as usize, (end + 3 * BLOCK) as usize);
    assert!(cut[start..stop].iter().all(|byte| *byte == 0), "none of them can come back");
    assert_eq!(cut[stop..], after[stop..], "the rest is left as it was");
}

#[test]
fn a_reader_that_is_overtaken_is_told_that_records_were_removed() {
    for reads in 1..60 {
        let mut rig = Rig::new(small());
        for _ in 0..20 {
            rig.commit(250_000);
        }
        let mut reader =
            LogReader::open(rig.world.platform(), Path::new(DIR), ReadFrom::Start).expect("opens");
        // Somewhere in the first segments, with one of them open.
        for _ in 0..reads.min(14) {
            assert!(matches!(reader.next_batch(), Ok(ReadBatch::Records(_))));
        }
        let at = reader.position().0;
        rig.writer.set_bounds(support::SEGMENT_BYTES, retaining().retain).expect("works");
        for _ in 0..reads {
            rig.commit(250_000);
        }
        let (first, next) = (rig.writer.first_lsn().0, rig.writer.next_lsn().0);
        let found = read_on(&mut reader);
        let mut expected = at;
        for found in &found {
            let (from, to) = match *found {
                Found::Records(from, to) => (from, to),
                Found::Gap(from, to, reason) => {
                    assert_eq!(reason, GapReason::Removed, "{found:?}");
                    assert!(to < first, "what is still there is served");
                    (from, to)
                }
            };
            assert_eq!(from, expected, "{found:?}");
            expected = to + 1;
        }
        assert_eq!(expected, next);
    }
}

#[test]
fn a_segment_rewritten_beneath_a_reader_was_removed_not_damaged() {
    // Also where one of its records is damaged, and the reader is just looking at that.
    for is_damaged in [false, true] {
        let happened = (0..60).take_while(|number| rewritten_beneath(*number, is_damaged));
        assert!(happened.count() > 10, "the reader reads");
    }
}

/// Reads a log while its first segment is taken away and written anew, before the read of this
/// number. Returns whether there were so many reads.
fn rewritten_beneath(number: u64, is_damaged: bool) -> bool {
    let mut rig = Rig::new(small());
    while rig.segments().len() < 3 {
        rig.commit(250_000);
    }
    let next = rig.writer.next_lsn().0;
    let path = rig.segments()[0].clone();
    let third = batches(&rig.world, &path)[2];
    let first_kept = batches(&rig.world, &rig.segments()[1])[0].2;
    let world = killed(rig);
    if is_damaged {
        world.rot(&path, third.0 + 1_000, 100).expect("rots");
    }
    let platform = Counting::new(world.platform());
    let mut reader =
        LogReader::open(platform.clone(), Path::new(DIR), ReadFrom::Start).expect("opens");
    let other = world.clone();
    // As retention and the preparer do: the name goes, then all is another's.
    platform.before_read(number, move || {
        let preparing = Path::new(DIR).join("segment.preparing");
        other.platform().rename(&path, &preparing).expect("renames");
        patch(&other, &preparing, 0, &vec![0x5a; support::SEGMENT_BYTES as usize]);
    });
    let found = read_on(&mut reader);
    let mut expected = 1;
    for part in &found {
        let (from, to) = match *part {
            Found::Records(from, to) => (from, to),
            Found::Gap(from, to, GapReason::Damaged | GapReason::Unreadable) => {
                assert!(is_damaged && (from, to) == (third.2, third.2), "{number}: {found:?}");
                (from, to)
            }
            Found::Gap(from, to, GapReason::Removed) => {
                assert_eq!(to, first_kept - 1, "{number}: {found:?}");
                (from, to)
            }
        };
        assert_eq!(from, expected, "{number}: {found:?}");
        expected = to + 1;
    }
    assert_eq!(expected, next, "{number}: {found:?}");
    platform.has_happened()
}

#[test]
fn a_sealed_segment_is_written_no_more() {
    let mut rig = Rig::new(small());
    while rig.segments().len() < 3 {
        rig.commit(250_000);
    }
    rig.close();
    let (sealed, last) = (rig.segments()[0].clone(), rig.segments()[1].clone());
    let world = killed(rig);
    // The power went when the log had just rolled: nothing of the next segment, no head file.
    let bytes = world.file_bytes(&last).expect("reads").len();
    patch(&world, &last, BLOCK, &vec![0; bytes - BLOCK as usize]);
    world.platform().remove(&Path::new(DIR).join("head")).expect("removes");
    let before = world.file_bytes(&sealed).expect("reads");
    let next = batches(&world, &sealed).last().map(|it| it.2 + u64::from(it.3)).expect("some");
    let mut rig = Rig::open(world, small());
    assert_eq!((rig.recovery.next_lsn, rig.recovery.torn_bytes), (Lsn(next), 0));
    rig.commit(10);
    assert_eq!(rig.world.file_bytes(&sealed).expect("reads"), before);
    assert_eq!(rig.read(), [Found::Records(1, next)]);
}
