//! Reading, writing and syncing files.

use crate::world::{World, count, errno};
use elgate_io::sim::FaultPlan;
use elgate_io::{Buffer, Commit, File, Op, OpenOptions, Outcome};
use std::path::Path;

pub(crate) fn writes_are_read_back(world: &mut World) {
    let file = world.file("data");
    for (offset, text) in [(0, "first"), (5_000, "far away"), (2, "over")] {
        let buffer = Buffer::copy_of(text.as_bytes());
        let write = Op::Write { file: file.clone(), offset, buffer, durable: false };
        let ended = world.run(write);
        assert_eq!(count(&ended), text.len());
        assert_eq!(&ended.buffer.unwrap()[..], text.as_bytes());
    }
    let buffer = Buffer::with_capacity(8_192);
    let ended = world.run(Op::Read { file: file.clone(), offset: 0, buffer });
    let bytes = ended.buffer.as_ref().unwrap();
    assert_eq!((count(&ended), bytes.len()), (5_008, 5_008));
    assert_eq!((&bytes[..6], &bytes[5_000..]), (&b"fiover"[..], &b"far away"[..]));
    assert!(bytes[6..5_000].iter().all(|byte| *byte == 0));

    let mut same = vec![0; 6_000];
    assert_eq!(world.platform.read_at(&file, 0, &mut same).unwrap(), 5_008);
    assert_eq!(same[..5_008], bytes[..]);
}

pub(crate) fn reads_stop_at_the_end(world: &mut World) {
    let file = world.file("short");
    world.platform.write_at(&file, 0, &[7; 10], false).unwrap();
    for (offset, expected) in [(4, 6), (10, 0), (1 << 40, 0)] {
        let mut buffer = Buffer::with_capacity(4_096);
        buffer.extend(b"old content");
        let ended = world.run(Op::Read { file: file.clone(), offset, buffer });
        assert_eq!(count(&ended), expected, "at {offset}");
        assert_eq!(&ended.buffer.unwrap()[..], &vec![7; expected][..]);
    }
}

pub(crate) fn durable_writes_and_syncs_complete(world: &mut World) {
    let file = world.file("durable");
    let buffer = Buffer::copy_of(&[1; 4_096]);
    let write = Op::Write { file: file.clone(), offset: 0, buffer, durable: true };
    assert_eq!(count(&world.run(write)), 4_096);
    let buffer = Buffer::copy_of(&[2; 4_096]);
    let write = Op::Write { file: file.clone(), offset: 4_096, buffer, durable: false };
    assert_eq!(count(&world.run(write)), 4_096);
    if let Some(sim) = &world.sim {
        sim.platform().sync_directory(Path::new("/files")).unwrap();
    }
    assert!(matches!(world.run(Op::Sync { file }).result, Ok(Outcome::Done)));
    if let Some(sim) = &world.sim {
        sim.power_cut();
        assert_eq!(sim.file_bytes(&world.path("durable")).unwrap().len(), 8_192);
    }
}

pub(crate) fn misaligned_direct_io_is_refused(world: &mut World) {
    let Some(file) = world.direct_file("direct") else { return };
    let aligned = Buffer::copy_of(&[3; 8_192]);
    let write = Op::Write { file: file.clone(), offset: 4_096, buffer: aligned, durable: true };
    assert_eq!(count(&world.run(write)), 8_192);

    for (offset, bytes) in [(1, 4_096), (0, 100), (512, 4_096)] {
        let buffer = Buffer::copy_of(&vec![4; bytes]);
        let write = Op::Write { file: file.clone(), offset, buffer, durable: true };
        let ended = world.run(write);
        assert_eq!(errno(&ended), libc::EINVAL, "{bytes} bytes at {offset}");
        assert_eq!(ended.buffer.unwrap().len(), bytes);
    }
    let buffer = Buffer::with_capacity(4_096);
    let ended = world.run(Op::Read { file: file.clone(), offset: 7, buffer });
    assert_eq!(errno(&ended), libc::EINVAL);
    assert!(ended.buffer.is_some());

    let buffer = Buffer::with_capacity(4_096);
    let ended = world.run(Op::Read { file, offset: 8_192, buffer });
    assert_eq!(&ended.buffer.unwrap()[..], &[3; 4_096]);
}

pub(crate) fn a_full_disk_is_a_completion(world: &mut World) {
    let file = world.file_on_full_disk();
    let buffer = Buffer::copy_of(&[5; 4_096]);
    let ended = world.run(Op::Write { file, offset: 0, buffer, durable: false });
    assert_eq!(errno(&ended), libc::ENOSPC);
    assert_eq!(&ended.buffer.unwrap()[..], &[5; 4_096]);
    assert_eq!(world.driver.in_flight(), 0);
}

pub(crate) fn a_closed_door_is_a_completion(world: &mut World) {
    drop(world.file("closed"));
    let options = OpenOptions { read: true, ..OpenOptions::default() };
    let file = world.platform.open(&world.path("closed"), options).unwrap();
    let buffer = Buffer::copy_of(b"no");
    let ended = world.run(Op::Write { file, offset: 0, buffer, durable: false });
    assert_eq!(errno(&ended), libc::EBADF);
    assert_eq!(&ended.buffer.unwrap()[..], b"no");
}

pub(crate) fn appending_ignores_the_offset(world: &mut World) {
    drop(world.file("journal"));
    let options = OpenOptions { read: true, write: true, append: true, ..OpenOptions::default() };
    let file = world.platform.open(&world.path("journal"), options).unwrap();
    for text in ["one ", "two ", "three"] {
        let buffer = Buffer::copy_of(text.as_bytes());
        let write = Op::Write { file: file.clone(), offset: 0, buffer, durable: true };
        assert_eq!(count(&world.run(write)), text.len());
    }
    let mut bytes = [0; 20];
    let length = world.platform.read_at(&file, 0, &mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"one two three");
}

/// Across the end of the largest file that the file system can have; in the simulator, because
/// the plan says so.
pub(crate) fn a_write_that_comes_up_short_says_so(world: &mut World) {
    let file = world.file("largest");
    if let Some(sim) = &world.sim {
        sim.set_faults(FaultPlan { short_write_per_mille: 1_000, ..FaultPlan::default() });
        let buffer = Buffer::copy_of(&[6; 8_192]);
        let ended = world.run(Op::Write { file, offset: 0, buffer, durable: true });
        assert_eq!(count(&ended), 4_096);
        return;
    }
    let Some(end) = largest_size(world, &file) else { return };
    for durable in [true, false] {
        let buffer = Buffer::copy_of(&[6; 8_192]);
        let write = Op::Write { file: file.clone(), offset: end - 4_096, buffer, durable };
        let ended = world.run(write);
        assert_eq!(count(&ended), 4_096);
        assert_eq!(ended.buffer.unwrap().len(), 8_192);
        let buffer = Buffer::copy_of(&[6; 4_096]);
        let ended = world.run(Op::Write { file: file.clone(), offset: end, buffer, durable });
        assert_eq!(errno(&ended), libc::EFBIG);
        assert_eq!(&ended.buffer.unwrap()[..], &[6; 4_096]);
    }
    // The ring goes on as before.
    let buffer = Buffer::copy_of(&[7; 8_192]);
    let write = Op::Write { file, offset: 0, buffer, durable: true };
    assert_eq!(count(&world.run(write)), 8_192);
    assert_eq!(world.driver.in_flight(), 0);
}

/// The largest size a file here can be given; `None`, aloud, if that is beyond any offset.
fn largest_size(world: &World, file: &File) -> Option<u64> {
    let (mut works, mut fails) = (1 << 20, i64::MAX as u64);
    if world.platform.set_size(file, fails).is_ok() {
        eprintln!("skipped: files here have no largest size");
        return None;
    }
    while fails - works > 1 {
        let middle = works + (fails - works) / 2;
        match world.platform.set_size(file, middle) {
            Ok(()) => works = middle,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
                fails = middle;
            }
        }
    }
    world.platform.set_size(file, 0).unwrap();
    if works % 4_096 != 0 || works >= i64::MAX as u64 - 8_192 {
        eprintln!("skipped: the largest file here is {works} bytes");
        return None;
    }
    Some(works)
}

pub(crate) fn the_way_to_commit_can_change_between_writes(world: &mut World) {
    let file = world.file("data");
    let ways = world.driver.commits();
    assert!(!ways.is_empty());
    let mut writes = 0;
    for round in 0..4_u64 {
        for commit in [Commit::Dsync, Commit::Link, Commit::Blocking] {
            world.driver.set_commit(commit);
            if let Some(name) = world.fact("commit")
                && ways.contains(&commit)
            {
                assert_eq!(name, commit.name());
            }
            for _ in 0..10 {
                let buffer = Buffer::copy_of(&[(writes % 251) as u8; 4_096]);
                let offset = writes * 4_096;
                let write = Op::Write { file: file.clone(), offset, buffer, durable: true };
                world.submit(write);
                writes += 1;
            }
            if round % 2 == 0 {
                world.begin();
            }
        }
    }
    for ended in world.wait_for(writes as usize) {
        assert_eq!(count(&ended), 4_096);
    }
    assert_eq!(world.driver.in_flight(), 0);
    let mut bytes = vec![0; writes as usize * 4_096];
    assert_eq!(world.platform.read_at(&file, 0, &mut bytes).unwrap(), bytes.len());
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at / 4_096 % 251) as u8));
}
