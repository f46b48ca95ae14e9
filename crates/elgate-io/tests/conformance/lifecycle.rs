//! Blocking calls, many operations, odd tokens, and the end.

use crate::world::{World, count, errno};
use elgate_io::{Buffer, FutexWord, Op, Outcome};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Panics without the report on stderr.
fn panic_quietly(why: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(why))
}

pub(crate) fn blocking_calls_answer(world: &mut World) {
    let path = world.path("made by a call");
    let made = world.submit(Op::Blocking(Box::new(move |platform| {
        platform.create_directories(&path)?;
        Ok(Box::new(path))
    })));
    let failed =
        world.submit(Op::Blocking(Box::new(|_| Err(io::Error::from_raw_os_error(libc::EDQUOT)))));
    let panicked = world.submit(Op::Blocking(Box::new(|_| panic_quietly("on purpose"))));
    match world.wait(made).result.unwrap() {
        Outcome::Reply(reply) => {
            let path = reply.downcast::<std::path::PathBuf>().unwrap();
            assert!(world.platform.list(&path).unwrap().is_empty());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(errno(&world.wait(failed)), libc::EDQUOT);
    let error = world.wait(panicked).result.unwrap_err();
    assert!(error.to_string().contains("on purpose"), "{error}");
    // The pool survives its panics.
    for _ in 0..8 {
        world.submit(Op::Blocking(Box::new(|_| panic_quietly("again"))));
    }
    world.wait_for(8);
    let ended = world.run(Op::Blocking(Box::new(|_| Ok(Box::new(7_u8)))));
    assert!(matches!(ended.result, Ok(Outcome::Reply(_))));
    assert_eq!(world.driver.in_flight(), 0);
}

pub(crate) fn many_operations_at_once(world: &mut World) {
    const OPERATIONS: usize = 1_500;
    let file = world.file("many");
    for index in 0..OPERATIONS {
        let buffer = Buffer::copy_of(&[(index % 256) as u8; 16]);
        let offset = index as u64 * 16;
        world.submit(Op::Write { file: file.clone(), offset, buffer, durable: false });
    }
    assert_eq!(world.driver.in_flight(), OPERATIONS);
    let mut tokens = Vec::new();
    for ended in world.wait_for(OPERATIONS) {
        assert_eq!(count(&ended), 16);
        assert!(ended.buffer.is_some());
        tokens.push(ended.token);
    }
    assert_eq!(world.driver.in_flight(), 0);
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), OPERATIONS, "each exactly once");
    let mut bytes = vec![0; OPERATIONS * 16];
    assert_eq!(world.platform.read_at(&file, 0, &mut bytes).unwrap(), bytes.len());
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at / 16 % 256) as u8));
}

pub(crate) fn many_timers_at_once(world: &mut World) {
    let start = world.driver.now();
    for index in 0..1_000_u64 {
        let deadline = start.after(Duration::from_micros((index * 7_919) % 3_000));
        world.submit(Op::Timer { deadline });
    }
    assert_eq!(world.wait_for(1_000).len(), 1_000);
    assert_eq!(world.driver.in_flight(), 0);
}

pub(crate) fn tokens_may_repeat(world: &mut World) {
    let deadline = world.driver.now().after(Duration::from_secs(3_600));
    for _ in 0..3 {
        world.driver.submit(u64::MAX, Op::Timer { deadline });
    }
    world.driver.submit(0, Op::Timer { deadline });
    world.driver.cancel(u64::MAX);
    let ended = world.wait_for(3);
    assert!(ended.iter().all(|ended| ended.token == u64::MAX && errno(ended) == libc::ECANCELED));
    assert_eq!(world.driver.in_flight(), 1);
}

pub(crate) fn cancelling_what_is_unknown_is_harmless(world: &mut World) {
    world.driver.cancel(99);
    let token = world.submit(Op::Timer { deadline: world.driver.now() });
    world.wait(token);
    world.driver.cancel(token);
    world.begin();
    assert_eq!(world.driver.in_flight(), 0);
}

pub(crate) fn a_held_file_stays_locked_until_it_is_released(world: &mut World) {
    let onlooker = world.file("lock");
    let lock = |world: &World| {
        let file = world.file("lock");
        assert!(world.platform.try_lock(&file).unwrap());
        file
    };
    let file = lock(world);
    world.driver.hold(&file);
    world.driver.hold(&file);
    world.driver.release(&file);
    assert!(!world.platform.try_lock(&onlooker).unwrap(), "whoever opened it has it");
    drop(file);
    assert!(
        world.platform.try_lock(&onlooker).unwrap(),
        "released once, however often it was held"
    );
    world.driver.release(&onlooker);

    drop(onlooker);
    let file = lock(world);
    world.driver.hold(&file);
    drop(file);
    let onlooker = world.file("lock");
    let write = Op::Write {
        file: world.file("written"),
        offset: 0,
        buffer: Buffer::copy_of(&[7; 4_096]),
        durable: true,
    };
    assert_eq!(count(&world.run(write)), 4_096);
    assert!(!world.platform.try_lock(&onlooker).unwrap(), "the driver has it");
    world.drop_driver();
    assert!(world.platform.try_lock(&onlooker).unwrap(), "as soon as the driver is gone");
}

/// More cancellations than the submission queue holds, and no poll after them.
pub(crate) fn dropping_right_after_cancelling(world: &mut World) {
    let (listener, address) = world.listen();
    let (near, _far) = world.connect(&listener, address);
    let mut tokens = Vec::new();
    for _ in 0..100 {
        tokens.push(world.submit(Op::Accept { listener: listener.clone() }));
    }
    tokens.push(world.submit(Op::Receive { socket: near, buffer: Buffer::with_capacity(1) }));
    world.begin();
    for token in tokens {
        world.driver.cancel(token);
    }
    world.drop_driver();
}

pub(crate) fn dropping_with_operations_under_way(world: &mut World) {
    let word = Arc::new(AtomicU32::new(1));
    let (listener, address) = world.listen();
    let (near, _far) = world.connect(&listener, address);
    let file = world.file("dropped");
    let calls = Arc::new(AtomicU32::new(0));
    for round in 0..50_u64 {
        let buffer = Buffer::copy_of(&[9; 4_096]);
        let write = Op::Write { file: file.clone(), offset: round * 4_096, buffer, durable: true };
        world.submit(write);
        world.submit(Op::Timer { deadline: world.driver.now().after(Duration::from_secs(900)) });
        let calls = calls.clone();
        world.submit(Op::Blocking(Box::new(move |_| {
            calls.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(()))
        })));
        if round == 20 {
            world.begin();
        }
    }
    world.submit(Op::Receive { socket: near, buffer: Buffer::with_capacity(1) });
    world.submit(Op::Accept { listener });
    for _ in 0..3 {
        // SAFETY: the word is the content of the owner.
        let word = unsafe { FutexWord::new(Arc::as_ptr(&word), word.clone()) };
        world.submit(Op::FutexWait { word, expected: 1 });
    }
    world.begin();
    world.drop_driver();

    // What got through is whole, and nothing writes any more.
    let size = world.platform.size(&file).unwrap();
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    world.platform.read_at(&file, 0, &mut bytes).unwrap();
    assert!(bytes.chunks(4_096).all(|block| block.iter().all(|byte| *byte == block[0])));
    assert_eq!(world.platform.size(&file).unwrap(), size);
}
