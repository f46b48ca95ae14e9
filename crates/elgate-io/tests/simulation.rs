//! What the simulator adds to a driver: virtual time, seeds, crashes, power cuts and faults.

#![allow(clippy::unwrap_used, reason = "a test")]

use elgate_io::sim::{FaultPlan, SimDriver, SimWorld};
use elgate_io::{
    Buffer, Completion, Driver, File, FutexWord, Op, OpenOptions, Outcome, Platform, Wait,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn create_options() -> OpenOptions {
    OpenOptions { read: true, write: true, create: true, ..OpenOptions::default() }
}

fn path(name: &str) -> &Path {
    Path::new(name)
}

fn create(platform: &dyn Platform, name: &str, bytes: &[u8]) -> File {
    let file = platform.open(path(name), create_options()).unwrap();
    platform.write_at(&file, 0, bytes, true).unwrap();
    file
}

fn errno<T>(result: std::io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

fn all(driver: &mut SimDriver, count: usize) -> Vec<Completion> {
    let mut completions = Vec::new();
    for _ in 0..10_000 {
        if completions.len() >= count {
            break;
        }
        driver.poll(Wait::Forever, &mut completions).unwrap();
    }
    assert_eq!(completions.len(), count);
    completions
}

fn write(file: &File, block: u64, byte: u8, durable: bool) -> Op {
    let buffer = Buffer::copy_of(&[byte; 4_096]);
    Op::Write { file: file.clone(), offset: block * 4_096, buffer, durable }
}

/// Everything observable of a busy run.
fn trace(seed: u64) -> String {
    let world = SimWorld::new(seed);
    world.set_faults(FaultPlan { write_error_per_mille: 100, ..FaultPlan::default() });
    let platform = world.platform();
    let file = platform.open(path("file"), create_options()).unwrap();
    let mut driver = world.driver();
    for index in 0..40 {
        driver.submit(index, write(&file, index, 1, index % 2 == 0));
        let deadline = world.now().after(Duration::from_micros(index * 3));
        driver.submit(1_000 + index, Op::Timer { deadline });
    }
    let mut trace = String::new();
    for ended in all(&mut driver, 80) {
        trace += &format!("{} {:?} {:?}\n", ended.token, ended.result.is_ok(), world.now());
    }
    trace + &format!("{:?} {}", world.fault_counts(), platform.random_u64())
}

#[test]
fn a_seed_decides_everything() {
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

#[test]
fn time_passes_only_while_somebody_waits() {
    let world = SimWorld::new(1);
    let mut driver = world.driver();
    let start = world.now();
    driver.submit(1, Op::Timer { deadline: start.after(Duration::from_secs(86_400)) });
    assert_eq!(driver.now(), start);
    let before = world.wall_time();
    all(&mut driver, 1);
    assert_eq!(driver.now(), start.after(Duration::from_secs(86_400)));
    assert_eq!(world.wall_time().0 - before.0, 86_400_000_000);
    // Nothing is left to wait for: the wait returns instead of hanging.
    driver.poll(Wait::Forever, &mut Vec::new()).unwrap();
    // A loop that spins for a while comes to an end.
    let spin_end = driver.now().after(Duration::from_micros(5));
    while driver.now() < spin_end {
        driver.poll(Wait::Never, &mut Vec::new()).unwrap();
    }
}

#[test]
fn names_are_durable_only_after_their_directory_was_synced() {
    let world = SimWorld::new(1);
    let platform = world.platform();
    platform.create_directories(path("log")).unwrap();
    create(&*platform, "log/kept", b"1");
    create(&*platform, "log/temporary", b"2");
    platform.sync_directory(path("log")).unwrap();
    platform.rename(path("log/temporary"), path("log/final")).unwrap();
    create(&*platform, "log/lost", b"3");
    platform.remove(path("log/kept")).unwrap();
    world.power_cut();
    let names = || -> Vec<String> {
        platform.list(path("log")).unwrap().into_iter().map(|entry| entry.name).collect()
    };
    assert_eq!(names(), ["kept", "temporary"]);

    platform.rename(path("log/temporary"), path("log/final")).unwrap();
    platform.sync_directory(path("log")).unwrap();
    world.power_cut();
    assert_eq!(names(), ["final", "kept"]);
    assert_eq!(world.file_bytes(path("log/final")).unwrap(), b"2");
}

#[test]
fn a_process_crash_keeps_what_was_written_and_frees_what_was_held() {
    let world = SimWorld::new(1);
    let platform = world.platform();
    let file = platform.open(path("file"), create_options()).unwrap();
    platform.write_at(&file, 0, &[0; 4_096], false).unwrap();
    let map = platform.map(&file, 4_096).unwrap();
    map.u64_at(8).store(42, Ordering::Release); // seen by the crash below
    assert!(platform.try_lock(&file).unwrap());
    let other = platform.open(path("file"), create_options()).unwrap();
    assert!(!platform.try_lock(&other).unwrap());

    world.process_crash();
    assert_eq!(errno(platform.sync(&file)), libc::EBADF, "handles die with their process");
    map.u64_at(8).store(43, Ordering::Release); // by a zombie: reaches nobody
    let file = platform.open(path("file"), create_options()).unwrap();
    assert!(platform.try_lock(&file).unwrap());
    let map = platform.map(&file, 4_096).unwrap();
    assert_eq!(map.u64_at(8).load(Ordering::Acquire), 42);

    platform.sync_directory(path("/")).unwrap();
    world.power_cut();
    assert_eq!(world.file_bytes(path("file")).unwrap(), b"", "nothing of it was synced");
}

#[test]
fn writes_under_way_at_a_power_cut_are_whole_absent_or_torn_as_the_plan_says() {
    let mut outcomes = [0; 3];
    for seed in 0..200 {
        let world = SimWorld::new(seed);
        world.set_faults(FaultPlan {
            keep_unsynced: true,
            reorder: true,
            torn: true,
            ..FaultPlan::default()
        });
        let platform = world.platform();
        let file = create(&*platform, "file", &[1; 4_096]);
        platform.sync_directory(path("/")).unwrap();
        let mut driver = world.driver();
        driver.submit(1, write(&file, 0, 2, false));
        driver.poll(Wait::Never, &mut Vec::new()).unwrap();
        world.power_cut();
        assert_eq!(driver.in_flight(), 0);
        let bytes = world.file_bytes(path("file")).unwrap();
        let new = bytes.iter().filter(|byte| **byte == 2).count();
        assert!(bytes.iter().all(|byte| [1, 2].contains(byte)) && new % 512 == 0);
        outcomes[match new {
            0 => 0,
            4_096 => 1,
            _ => 2,
        }] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 10), "{outcomes:?}");
}

#[test]
fn without_reordering_what_survives_is_a_prefix() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let world = SimWorld::new(seed);
        world.set_faults(FaultPlan { keep_unsynced: true, ..FaultPlan::default() });
        let platform = world.platform();
        let file = create(&*platform, "file", &[0; 8 * 4_096]);
        platform.sync_directory(path("/")).unwrap();
        for block in 0..8 {
            platform.write_at(&file, block * 4_096, &[1; 4_096], false).unwrap();
        }
        world.power_cut();
        let bytes = world.file_bytes(path("file")).unwrap();
        let kept = bytes.iter().take_while(|byte| **byte == 1).count();
        assert!(kept % 4_096 == 0 && bytes[kept..].iter().all(|byte| *byte == 0));
        lengths.insert(kept);
    }
    assert!(lengths.len() > 3, "{lengths:?}");
}

#[test]
fn faults_strike_and_are_counted() {
    let world = SimWorld::new(3);
    let platform = world.platform();
    let file = create(&*platform, "file", &[0; 4_096]);
    platform.sync_directory(path("/")).unwrap();
    let mut driver = world.driver();

    world.set_faults(FaultPlan { write_error_per_mille: 1_000, ..FaultPlan::default() });
    driver.submit(1, write(&file, 0, 1, true));
    assert_eq!(errno(all(&mut driver, 1).remove(0).result), libc::EIO);

    world.set_faults(FaultPlan { read_error_per_mille: 1_000, ..FaultPlan::default() });
    assert_eq!(errno(platform.read_at(&file, 0, &mut [0; 1])), libc::EIO);

    world.set_faults(FaultPlan { short_write_per_mille: 1_000, ..FaultPlan::default() });
    let buffer = Buffer::copy_of(&[2; 3 * 4_096]);
    driver.submit(2, Op::Write { file: file.clone(), offset: 0, buffer, durable: true });
    match all(&mut driver, 1).remove(0).result.unwrap() {
        Outcome::Bytes(count) => assert!([4_096, 8_192].contains(&count), "{count}"),
        other => panic!("{other:?}"),
    }

    // A disk that lies: the write was durable, says it.
    world.set_faults(FaultPlan { lost_sync_per_mille: 1_000, ..FaultPlan::default() });
    platform.write_at(&file, 0, &[3; 4_096], true).unwrap();
    platform.sync(&file).unwrap();
    world.power_cut();
    assert!(!world.file_bytes(path("file")).unwrap().contains(&3));

    // A sync that fails once: the next one succeeds, and has forgotten.
    let file = platform.open(path("file"), create_options()).unwrap();
    let mut forgotten = 0;
    for byte in 10..50 {
        world.set_faults(FaultPlan { sync_error_per_mille: 1_000, ..FaultPlan::default() });
        platform.write_at(&file, 0, &[byte; 4_096], false).unwrap();
        assert_eq!(errno(platform.sync(&file)), libc::EIO);
        world.set_faults(FaultPlan::default());
        platform.sync(&file).unwrap();
        forgotten += usize::from(world.file_bytes(path("file")).unwrap()[0] != byte);
    }
    assert!((5..35).contains(&forgotten), "{forgotten}");

    world.set_faults(FaultPlan { enospc_after_bytes: Some(16_384), ..FaultPlan::default() });
    assert_eq!(platform.available_bytes(path("/")).unwrap() % 4_096, 0);
    assert_eq!(errno(platform.zero_fill(&file, 0, 20_000)), libc::ENOSPC);
    assert_eq!(errno(platform.set_size(&file, 20_000)), libc::ENOSPC);
    platform.write_at(&file, 0, &[1; 4_096], true).unwrap();

    let counts = world.fault_counts();
    assert_eq!((counts.write_errors, counts.read_errors, counts.short_writes), (1, 1, 1));
    assert_eq!((counts.lost_syncs, counts.sync_errors, counts.no_space), (2, 40, 2));
    assert_eq!(counts.power_cuts, 1);
}

#[test]
fn rot_survives_the_power_and_hits_only_its_range() {
    let world = SimWorld::new(1);
    let platform = world.platform();
    create(&*platform, "file", &[0xf0; 10_000]);
    platform.sync_directory(path("/")).unwrap();
    world.rot(path("file"), 4_090, 20).unwrap();
    world.power_cut();
    let bytes = world.file_bytes(path("file")).unwrap();
    assert_eq!(bytes.len(), 10_000);
    assert!(
        bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| { *byte == if (4_090..4_110).contains(&at) { 0x0f } else { 0xf0 } })
    );
    assert_eq!(errno(world.rot(path("none"), 0, 1)), libc::ENOENT);
}

#[test]
fn drivers_of_one_world_take_turns() {
    let world = SimWorld::new(1);
    let platform = world.platform();
    let (listener, address) = platform.listen("10.0.0.1:0".parse().unwrap()).unwrap();
    let (mut client, mut server) = (world.driver(), world.driver());
    client.submit(1, Op::Connect { address });
    server.submit(2, Op::Accept { listener });
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        client.poll(Wait::Forever, &mut near).unwrap();
        server.poll(Wait::Forever, &mut far).unwrap();
    }
    let near = match near.remove(0).result.unwrap() {
        Outcome::Connected(socket) => socket,
        other => panic!("{other:?}"),
    };
    let Outcome::Accepted(far, _) = far.remove(0).result.unwrap() else { panic!() };

    // Behind a dead link nothing arrives, and nothing fails.
    world.set_network_up(false);
    let buffer = Buffer::copy_of(b"late");
    client.submit(3, Op::Send { socket: near, buffer, offset: 0 });
    server.submit(4, Op::Receive { socket: far.clone(), buffer: Buffer::with_capacity(9) });
    for _ in 0..10 {
        client.poll(Wait::Forever, &mut Vec::new()).unwrap();
        server.poll(Wait::Forever, &mut Vec::new()).unwrap();
    }
    assert_eq!((client.in_flight(), server.in_flight()), (1, 1));
    world.set_network_up(true);
    all(&mut client, 1);
    assert_eq!(&all(&mut server, 1).remove(0).buffer.unwrap()[..], b"late");

    // A reset reaches both ends.
    world.set_faults(FaultPlan { reset_per_mille: 1_000, ..FaultPlan::default() });
    server.submit(5, Op::Receive { socket: far, buffer: Buffer::with_capacity(9) });
    assert_eq!(errno(all(&mut server, 1).remove(0).result), libc::ECONNRESET);
    assert_eq!(world.fault_counts().resets, 1);
}

#[test]
fn a_word_is_woken_explicitly_or_by_its_value() {
    let world = SimWorld::new(1);
    let mut driver = world.driver();
    let word = Arc::new(AtomicU32::new(1));
    for token in 0..3 {
        // SAFETY: the word is the content of the owner.
        let named = unsafe { FutexWord::new(Arc::as_ptr(&word), word.clone()) };
        driver.submit(token, Op::FutexWait { word: named, expected: 1 });
    }
    driver.poll(Wait::Forever, &mut Vec::new()).unwrap();
    assert_eq!(world.wake(&word, 2), 2);
    all(&mut driver, 2);
    assert_eq!(driver.in_flight(), 1);
    word.store(2, Ordering::Release); // pairs with the simulator's look at the word
    all(&mut driver, 1);
    assert_eq!(world.wake(&word, 9), 0);
}

#[test]
fn host_names_are_what_the_world_says() {
    let world = SimWorld::new(1);
    let platform = world.platform();
    world.add_host("example.test", vec!["10.0.0.9:1".parse().unwrap()]);
    let known = platform.resolve("example.test", 443).unwrap();
    assert_eq!(known, ["10.0.0.9:443".parse().unwrap()]);
    assert!(platform.resolve("unknown.test", 1).is_err());
    assert_eq!(platform.resolve("localhost", 2).unwrap()[0].port(), 2);
}

#[test]
fn a_write_of_a_dead_process_comes_late_and_what_its_driver_holds_is_locked_until_then() {
    let mut late = 0;
    for seed in 0..40 {
        for holds in [true, false] {
            let world = SimWorld::new(seed);
            let process = world.process();
            let platform = process.platform();
            let lock = platform.open(path("lock"), create_options()).unwrap();
            assert!(platform.try_lock(&lock).unwrap());
            let mut driver = process.driver();
            if holds {
                driver.hold(&lock);
            }
            let file = platform.open(path("file"), create_options()).unwrap();
            let buffer = Buffer::copy_of(&[7; 4_096]);
            driver.submit(1, Op::Write { file, offset: 0, buffer, durable: true });
            process.kill();
            drop((driver, lock));

            let successor = world.platform();
            let lock = successor.open(path("lock"), create_options()).unwrap();
            let is_free = successor.try_lock(&lock).unwrap();
            assert_eq!(world.file_bytes(path("file")).unwrap(), b"", "it is late");
            let last = world.now().after(std::time::Duration::from_secs(1));
            world.advance_to(last);
            let came = world.file_bytes(path("file")).unwrap() == [7; 4_096];
            assert_eq!(is_free, !(came && holds), "seed {seed}");
            assert!(successor.try_lock(&lock).unwrap());
            assert_eq!(process.open_handles(), 0);
            late += u32::from(came);
        }
    }
    assert!(late > 20 && late < 60, "{late} of 80");
}
