//! What must hold over any driver and far end. Each scenario takes a way to make a [`World`].

use crate::far_end::{Act, Script, answer};
use crate::world::World;
use elgate_http::{HttpError, ResponseLimits};
use elgate_net::{ClientOptions, ExchangeError};
use std::time::Duration;

/// Makes a world whose far end follows the script.
pub(crate) type Make<'a> = &'a dyn Fn(Script, ClientOptions) -> World;

/// Long enough for anything that is meant to work, short enough to be waited for.
pub(crate) const OPTIONS: fn() -> ClientOptions = || ClientOptions {
    connections_max: 1,
    connect_timeout: Duration::from_secs(20),
    response_timeout: Duration::from_secs(20),
    ..ClientOptions::default()
};

pub(crate) fn keep_alive(make: Make<'_>) {
    let mut world = make(Script::answer(|_| vec![Act::Send(answer(200, b"taken"))]), OPTIONS());
    for number in 0..5_u8 {
        let response = world.exchange(&[number]).expect("an answer");
        assert_eq!((response.status, &response.body_excerpt[..]), (200, &b"taken"[..]));
    }
    assert_eq!(world.seen().bodies(), (0..5_u8).map(|number| vec![number]).collect::<Vec<_>>());
    assert_eq!(world.seen().connections(), 1);
    world.finish();
}

pub(crate) fn closing_after_each_response(make: Make<'_>) {
    let script = Script::answer(|call| {
        assert_eq!(call.request, 0, "nothing follows on a connection that closes");
        let bytes = match call.connection % 3 {
            0 => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            1 => b"HTTP/1.1 200 OK\r\n\r\nok".to_vec(),
            _ => b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        };
        vec![Act::Send(bytes), Act::Close]
    });
    let mut world = make(script, OPTIONS());
    for _ in 0..6 {
        assert_eq!(world.exchange(b"x").expect("an answer").body_bytes, 2);
    }
    assert_eq!(world.seen().connections(), 6);
    world.finish();
}

/// Closes after a response that promised to go on. Noticed while idle, or reported as what is safe
/// to repeat at once.
pub(crate) fn closing_without_a_word(make: Make<'_>) {
    let script = Script::answer(|_| vec![Act::Send(answer(200, b"")), Act::Close]);
    let mut world = make(script, OPTIONS());
    let mut noticed = 0;
    for round in 0..10_u8 {
        if round % 2 == 0 {
            world.pause(Duration::from_millis(20));
        }
        loop {
            match world.exchange(&[round]) {
                Ok(response) => break assert_eq!(response.status, 200),
                Err(ExchangeError::ConnectionLost { before_response, reused, .. }) => {
                    assert!(before_response && reused);
                    noticed += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(noticed <= 9, "a fresh connection cannot be stale");
    assert_eq!(world.seen().connections(), 10);
    world.finish();
}

pub(crate) fn silence(make: Make<'_>) {
    let options = ClientOptions { response_timeout: Duration::from_millis(300), ..OPTIONS() };
    let mut world = make(Script::answer(|_| Vec::new()), options);
    let error = world.exchange(b"x").expect_err("silence");
    assert!(
        matches!(error, ExchangeError::ResponseTimeout { before_response: true, .. }),
        "{error:?}"
    );
    world.finish();
}

pub(crate) fn dribbling(make: Make<'_>) {
    let script = Script::answer(|_| {
        let bytes = [b"HTTP/1.1 200 OK\r\nX: "[..].to_vec(), vec![b'x'; 200]].concat();
        let acts = bytes.chunks(1).map(|byte| [Act::Send(byte.to_vec()), Act::WaitMs(20)]);
        acts.flatten().collect()
    });
    let options = ClientOptions { response_timeout: Duration::from_secs(1), ..OPTIONS() };
    let mut world = make(script, options);
    let error = world.exchange(b"x").expect_err("too slow");
    assert!(
        matches!(error, ExchangeError::ResponseTimeout { before_response: false, .. }),
        "{error:?}"
    );
    world.finish();
}

pub(crate) fn garbage(make: Make<'_>) {
    let script = Script::answer(|call| {
        vec![Act::Send(match call.connection {
            0 => b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            1 => b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_vec(),
            _ => answer(200, b""),
        })]
    });
    let mut world = make(script, OPTIONS());
    for expected in [HttpError::NotHttp, HttpError::LengthAndTransferEncoding] {
        let error = world.exchange(b"x").expect_err("garbage");
        let ExchangeError::Protocol { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source, expected);
    }
    assert_eq!(world.exchange(b"x").expect("an answer").status, 200);
    assert_eq!(world.seen().connections(), 3, "no connection survives garbage");
    world.finish();
}

pub(crate) fn reset_midway(make: Make<'_>) {
    let script = Script {
        unread: Some(|| vec![Act::Send(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), Act::Close]),
        answer: |_| Vec::new(),
    };
    let mut world = make(script, OPTIONS());
    let error = world.exchange(b"x").expect_err("reset");
    assert!(matches!(error, ExchangeError::ConnectionLost { reused: false, .. }), "{error:?}");
    world.finish();
}

pub(crate) fn continue_and_chunks(make: Make<'_>) {
    let script = Script::answer(|_| {
        vec![
            Act::Send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-".to_vec()),
            Act::WaitMs(5),
            Act::Send(b"Encoding: chunked\r\n\r\n5;x=y\r\nhel".to_vec()),
            Act::WaitMs(5),
            Act::Send(b"lo\r\n1\r\n!\r\n0\r\nDigest: z\r\n\r\n".to_vec()),
        ]
    });
    let mut world = make(script, OPTIONS());
    for _ in 0..2 {
        assert_eq!(world.exchange(b"x").expect("an answer").body_excerpt, b"hello!");
    }
    assert_eq!(world.seen().connections(), 1);
    world.finish();
}

pub(crate) fn big_bodies_both_ways(make: Make<'_>) {
    let script = Script::answer(|_| vec![Act::Send(answer(200, &vec![b'y'; 1_000_000]))]);
    let mut world = make(script, OPTIONS());
    let body: Vec<u8> = (0..1_000_000_u32).map(|index| index.to_le_bytes()[1]).collect();
    for _ in 0..2 {
        let response = world.exchange(&body).expect("an answer");
        assert_eq!((response.body_bytes, response.body_excerpt.len()), (1_000_000, 4_096));
    }
    assert!(world.seen().bodies() == [body.clone(), body], "bytes arrive as they were");
    assert_eq!(world.seen().connections(), 1);
    world.finish();
}

pub(crate) fn a_body_over_the_limit(make: Make<'_>) {
    let script = Script::answer(|_| {
        let endless = b"HTTP/1.1 200 OK\r\n\r\n".iter().chain([b'z'; 5_000].iter());
        vec![Act::Send(endless.copied().collect()), Act::WaitMs(5), Act::Send(vec![b'z'; 50_000])]
    });
    let response_limits = ResponseLimits { body_bytes_max: 10_000, ..ResponseLimits::default() };
    let mut world = make(script, ClientOptions { response_limits, ..OPTIONS() });
    let response = world.exchange(b"x").expect("its status counts");
    assert_eq!((response.status, response.body_bytes), (200, 10_000));
    world.finish();
}

/// Four exchanges are under way at once: the far end answers none before it has all.
pub(crate) fn concurrency(make: Make<'_>) {
    let script = Script::answer(|_| vec![Act::AwaitRequests(4), Act::Send(answer(200, b""))]);
    let mut world = make(script, ClientOptions { connections_max: 4, ..OPTIONS() });
    let mut started: Vec<_> = (0..4_u8).map(|number| world.start(&[number])).collect();
    assert_eq!(world.client.capacity(), 0);
    let mut ended: Vec<_> = (0..4)
        .map(|_| {
            let (id, result) = world.next_ended();
            assert_eq!(result.expect("an answer").status, 200);
            id
        })
        .collect();
    started.sort_unstable();
    ended.sort_unstable();
    assert_eq!(started, ended);
    assert_eq!(world.seen().connections(), 4);
    world.finish();
}

/// The far end answers before it has read, and closes: the answer, or a lost connection, but
/// nothing that hangs.
pub(crate) fn refusal_before_the_request_is_read(make: Make<'_>) {
    let script = Script {
        unread: Some(|| {
            let head = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            vec![Act::Send(head.to_vec()), Act::WaitMs(50), Act::Close]
        }),
        answer: |_| Vec::new(),
    };
    let mut world = make(script, OPTIONS());
    match world.exchange(&vec![b'x'; 1_000_000]) {
        Ok(response) => assert_eq!(response.status, 413),
        Err(error) => assert!(matches!(error, ExchangeError::ConnectionLost { .. }), "{error:?}"),
    }
    world.finish();
}
