//! Buffers of the driver's arena: the same operations, whatever the memory.

use crate::world::{OPTIONS, World, count};
use elgate_io::{Arena, Buffer, DriverOptions, Op, Outcome};

/// A full buffer of the arena with that content.
fn filled(arena: &Arena, bytes: usize, value: u8) -> Buffer {
    let mut buffer = arena.take(bytes);
    buffer.set_length(bytes);
    buffer.fill(value);
    buffer
}

pub(crate) fn arena_buffers_carry_data_both_ways(world: &mut World) {
    let arena = world.driver.arena();
    if let Some(bytes) = world.fact("arena_bytes") {
        assert_eq!(bytes, arena.bytes().to_string());
    }
    let direct = world.direct_file("direct");
    let has_direct = direct.is_some();
    for file in [Some(world.file("buffered")), direct].into_iter().flatten() {
        for (index, durable) in [true, false, true].into_iter().enumerate() {
            let buffer = filled(&arena, 20_480, index as u8 + 1);
            let address = buffer.as_ptr();
            let offset = index as u64 * 20_480;
            let ended = world.run(Op::Write { file: file.clone(), offset, buffer, durable });
            assert_eq!(count(&ended), 20_480);
            assert_eq!(ended.buffer.unwrap().as_ptr(), address, "the same buffer comes back");
        }
        // From other memory, beside them.
        let buffer = Buffer::copy_of(&[9; 4_096]);
        let write = Op::Write { file: file.clone(), offset: 61_440, buffer, durable: true };
        assert_eq!(count(&world.run(write)), 4_096);

        let buffer = filled(&arena, 131_072, 0xee);
        let ended = world.run(Op::Read { file, offset: 0, buffer });
        assert_eq!(count(&ended), 65_536);
        let bytes = ended.buffer.unwrap();
        for (index, part) in bytes.chunks(20_480).enumerate() {
            let expected = [1, 2, 3, 9][index];
            assert!(part.iter().all(|byte| *byte == expected), "part {index}");
        }
    }
    assert_eq!(arena.used_bytes(), 0);

    let counted = world.driver.statistics().zero_copy_bytes;
    let registered = world.fact("arena_registered").is_some_and(|value| value == "yes");
    // Those that block are not the ring's.
    let writes = if world.fact("commit").as_deref() == Some("blocking") { 1 } else { 3 };
    assert_eq!(counted, if registered && has_direct { writes * 20_480 } else { 0 });
}

pub(crate) fn an_exhausted_arena_lends_from_the_heap(world: &mut World) {
    let arena = world.driver.arena();
    let file = world.file("data");
    let total = arena.bytes() / 65_536 + 8;
    let buffers: Vec<Buffer> = (0..total).map(|n| filled(&arena, 65_536, n as u8)).collect();
    let (own, lent): (Vec<_>, Vec<_>) = buffers.iter().partition(|buffer| arena.owns(buffer));
    assert_eq!((own.len(), lent.len()), (total - 8, 8));
    for (index, buffer) in buffers.into_iter().enumerate() {
        let offset = index as u64 * 65_536;
        world.submit(Op::Write { file: file.clone(), offset, buffer, durable: false });
    }
    for ended in world.wait_for(total) {
        assert_eq!(count(&ended), 65_536);
    }
    assert_eq!(arena.used_bytes(), 0);
    let mut bytes = vec![0; total * 65_536];
    assert_eq!(world.platform.read_at(&file, 0, &mut bytes).unwrap(), bytes.len());
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at / 65_536) as u8));
}

pub(crate) fn arena_buffers_outlive_their_driver(world: &mut World) {
    let mut buffer = filled(&world.driver.arena(), 16_384, 1);
    world.drop_driver();
    assert!(buffer.iter().all(|byte| *byte == 1));
    buffer.fill(2);
    // Another driver takes it for what it is.
    let file = world.file("data");
    let ended = world.run(Op::Write { file: file.clone(), offset: 0, buffer, durable: true });
    assert_eq!(count(&ended), 16_384);
    let mut bytes = [0; 16_384];
    world.platform.read_at(&file, 0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 2));
}

pub(crate) fn a_dropped_driver_gives_its_buffers_back(world: &mut World) {
    let arena = world.driver.arena();
    let file = world.file("data");
    let (listener, address) = world.listen();
    let (near, _far) = world.connect(&listener, address);
    for index in 0..40 {
        let buffer = filled(&arena, 16_384, 3);
        let offset = index * 16_384;
        world.submit(Op::Write { file: file.clone(), offset, buffer, durable: index % 2 == 0 });
        if index == 20 {
            world.begin();
        }
    }
    world.submit(Op::Receive { socket: near, buffer: arena.take(16_384) });
    world.begin();
    world.forget_ended();
    world.drop_driver();
    assert_eq!(arena.used_bytes(), 0, "the kernel is done with each of them");
}

pub(crate) fn another_drivers_arena_serves_as_well(world: &mut World) {
    let options = DriverOptions { arena_bytes: 1 << 20, ..OPTIONS };
    let stranger = elgate_io::open_driver(elgate_io::BackendChoice::Auto, &options).unwrap();
    let file = world.file("data");
    let buffer = filled(&stranger.arena(), 16_384, 4);
    let ended = world.run(Op::Write { file: file.clone(), offset: 0, buffer, durable: true });
    assert_eq!(count(&ended), 16_384);
    let ended = world.run(Op::Read { file, offset: 0, buffer: stranger.arena().take(16_384) });
    assert!(matches!(ended.result, Ok(Outcome::Bytes(16_384))));
    assert!(ended.buffer.unwrap().iter().all(|byte| *byte == 4));
}
