//! Connecting, accepting, sending and receiving.

use crate::world::{World, count, errno};
use elgate_io::{Buffer, Op, Outcome};

pub(crate) fn nobody_listening_is_refused(world: &mut World) {
    let (listener, address) = world.listen();
    drop(listener);
    assert_eq!(errno(&world.run(Op::Connect { address })), libc::ECONNREFUSED);
}

pub(crate) fn accept_and_talk(world: &mut World) {
    let (listener, address) = world.listen();
    // Both orders: accept before anybody has come, and after.
    let (near, far) = world.connect(&listener, address);
    world.send_all(&near, b"ping");
    let mut heard = Vec::new();
    while heard.len() < 4 {
        heard.extend(world.receive(&far));
    }
    assert_eq!(heard, b"ping");
    world.send_all(&far, b"pong");
    let mut heard = Vec::new();
    while heard.len() < 4 {
        heard.extend(world.receive(&near));
    }
    assert_eq!(heard, b"pong");

    let accepting = world.submit(Op::Accept { listener });
    world.begin();
    assert!(matches!(world.run(Op::Connect { address }).result, Ok(Outcome::Connected(_))));
    assert!(matches!(world.wait(accepting).result, Ok(Outcome::Accepted(..))));
}

pub(crate) fn much_data_in_parts(world: &mut World) {
    const BYTES: usize = 6_000_000;
    let (listener, address) = world.listen();
    let (near, far) = world.connect(&listener, address);
    let pattern: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();

    // More than any socket buffers, so the sender must wait for the receiver.
    let mut sent = 0;
    let mut sends = 0;
    let mut received = Vec::new();
    let send = |world: &mut World, buffer, offset| {
        world.submit(Op::Send { socket: near.clone(), buffer, offset })
    };
    let receive =
        |world: &mut World, buffer| world.submit(Op::Receive { socket: far.clone(), buffer });
    let mut sending = Some(send(world, Buffer::copy_of(&pattern), 0));
    let mut receiving = receive(world, Buffer::with_capacity(64 * 1024));
    while received.len() < BYTES {
        for ended in world.wait_for(1) {
            if Some(ended.token) == sending {
                sent += count(&ended);
                sends += 1;
                sending = (sent < BYTES).then(|| send(world, ended.buffer.unwrap(), sent));
            } else {
                assert_eq!(ended.token, receiving);
                assert!(count(&ended) > 0);
                let buffer = ended.buffer.unwrap();
                received.extend_from_slice(&buffer);
                receiving = receive(world, buffer);
            }
        }
    }
    assert!(received == pattern, "the bytes differ");
    assert!(sends > 1 || world.sim.is_none());
    assert_eq!(sent, BYTES);
}

pub(crate) fn peer_close_is_end_of_stream(world: &mut World) {
    let (listener, address) = world.listen();
    let (near, far) = world.connect(&listener, address);
    world.send_all(&near, b"last words");
    drop(near);
    let mut heard = Vec::new();
    loop {
        let part = world.receive(&far);
        if part.is_empty() {
            break;
        }
        heard.extend(part);
    }
    assert_eq!(heard, b"last words");
    assert!(world.receive(&far).is_empty(), "and stays so");
}

pub(crate) fn sending_to_a_closed_peer_fails(world: &mut World) {
    let (listener, address) = world.listen();
    let (near, far) = world.connect(&listener, address);
    drop(far);
    // The first send may still be taken: the news travels.
    for _ in 0..1_000 {
        let buffer = Buffer::copy_of(&[0; 1_000]);
        let ended = world.run(Op::Send { socket: near.clone(), buffer, offset: 0 });
        assert!(ended.buffer.is_some());
        match ended.result {
            Ok(_) => {}
            Err(error) => {
                let errno = error.raw_os_error().unwrap();
                assert!([libc::EPIPE, libc::ECONNRESET].contains(&errno), "{error}");
                return;
            }
        }
    }
    panic!("a thousand sends to nobody");
}

pub(crate) fn cancelled_socket_operations_return_their_buffers(world: &mut World) {
    let (listener, address) = world.listen();
    let (near, far) = world.connect(&listener, address);
    let buffer = Buffer::with_capacity(4_096);
    let receiving = world.submit(Op::Receive { socket: near.clone(), buffer });
    let accepting = world.submit(Op::Accept { listener });
    world.begin();
    assert_eq!(world.driver.in_flight(), 2);
    world.driver.cancel(receiving);
    world.driver.cancel(accepting);
    let ended = world.wait(receiving);
    assert_eq!(errno(&ended), libc::ECANCELED);
    assert_eq!(ended.buffer.unwrap().capacity(), 4_096);
    assert_eq!(errno(&world.wait(accepting)), libc::ECANCELED);
    assert_eq!(world.driver.in_flight(), 0);

    // The connection is as good as before.
    world.send_all(&far, b"x");
    assert_eq!(world.receive(&near), b"x");
}

pub(crate) fn operations_on_the_wrong_kind_of_handle_fail(world: &mut World) {
    let (listener, address) = world.listen();
    let (near, _far) = world.connect(&listener, address);
    let buffer = Buffer::copy_of(b"beyond");
    let ended = world.run(Op::Send { socket: near, buffer, offset: 7 });
    assert_eq!(errno(&ended), libc::EINVAL);
    assert!(ended.buffer.is_some());

    // A handle of another world.
    let elsewhere = match world.sim {
        Some(_) => World::poll(),
        None => World::sim(1),
    };
    let buffer = Buffer::copy_of(b"lost");
    let file = elsewhere.file("elsewhere");
    let ended = world.run(Op::Write { file, offset: 0, buffer, durable: false });
    assert_eq!(errno(&ended), libc::EBADF);
    assert!(ended.buffer.is_some());
}
