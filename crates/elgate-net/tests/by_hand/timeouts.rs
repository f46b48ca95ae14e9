//! Every wait has an end: names, addresses, silent and dribbling far ends, idle connections.

use crate::driver::{ByHand, address, answer, socket};
use elgate_net::{ClientOptions, ExchangeError};
use std::io::{self, ErrorKind};
use std::time::Duration;

const OPTIONS: fn() -> ClientOptions = || ClientOptions {
    connections_max: 3,
    connect_timeout: Duration::from_secs(9),
    response_timeout: Duration::from_secs(20),
    idle_timeout: Duration::from_secs(4),
    resolve_ttl: Duration::from_secs(30),
    ..ClientOptions::default()
};

#[test]
fn one_resolution_serves_all_and_is_kept_for_a_while() {
    let mut hand = ByHand::new("far.test", OPTIONS());
    hand.start(1);
    hand.start(2);
    let token = hand.only("Blocking");
    hand.ops.remove(&token);
    let found: Vec<_> = vec![address(1), address(2)];
    hand.complete(token, Ok(elgate_io::Outcome::Reply(Box::new(found))), None);
    assert_eq!(hand.named("Connect").len(), 2);
    hand.advance(Duration::from_secs(5));
    hand.start(3);
    assert_eq!(hand.named("Connect").len(), 3, "no second resolution");

    let mut hand = ByHand::new("far.test", OPTIONS());
    hand.start(1);
    hand.resolved(Ok(vec![address(1)])).connected().sent(usize::MAX);
    hand.received(b"HTTP/1.0 200 OK\r\n\r\n").received(b"");
    hand.advance(Duration::from_secs(30));
    hand.start(2);
    assert_eq!(hand.named("Blocking").len(), 1, "what is old is resolved again");
}

#[test]
fn a_failed_resolution_fails_all_that_wait_for_it() {
    let not_found = || Err(io::Error::new(ErrorKind::NotFound, "no such host"));
    for result in [not_found(), Ok(vec![])] {
        let mut hand = ByHand::new("far.test", OPTIONS());
        hand.start(1);
        hand.start(2);
        hand.resolved(result);
        assert_eq!(hand.ended.len(), 2);
        for (_, result) in hand.ended.drain(..) {
            let error = result.expect_err("no address");
            assert!(matches!(error, ExchangeError::Resolve { .. }), "{error:?}");
            assert!(error.before_request() && error.to_string().contains("far.test:80"), "{error}");
        }
        assert!(hand.client.is_quiet());
        hand.start(3);
        assert_eq!(hand.named("Blocking").len(), 1, "the next exchange asks again");
    }
}

#[test]
fn a_resolver_that_hangs_is_a_connect_timeout() {
    let mut hand = ByHand::new("far.test", OPTIONS());
    hand.start(1);
    let started = hand.now;
    hand.wake();
    assert_eq!(hand.now.since(started), Duration::from_secs(9));
    assert!(matches!(hand.error(), ExchangeError::ConnectTimeout { .. }));
    assert_eq!(hand.client.capacity(), 3);
    hand.start(2);
    hand.resolved(Ok(vec![address(1)]));
    assert_eq!(hand.connecting_to(), address(1), "the late answer serves the next exchange");
}

#[test]
fn addresses_are_tried_in_turn_from_the_one_that_worked() {
    let mut hand = ByHand::new("far.test", OPTIONS());
    hand.start(1);
    hand.resolved(Ok(vec![address(1), address(2)]));
    assert_eq!(hand.connecting_to(), address(1));
    hand.failed("Connect", ErrorKind::ConnectionRefused);
    assert_eq!(hand.connecting_to(), address(2));
    hand.connected().sent(usize::MAX);
    hand.received(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(hand.status(), 200);

    hand.start(2);
    assert_eq!(hand.connecting_to(), address(2));
    hand.failed("Connect", ErrorKind::ConnectionRefused);
    assert_eq!(hand.connecting_to(), address(1));
    hand.failed("Connect", ErrorKind::ConnectionRefused);
    let error = hand.error();
    let ExchangeError::Connect { address: last, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*last, address(1));
    hand.start(3);
    assert_eq!(hand.named("Blocking").len(), 1, "perhaps the name has moved");
}

#[test]
fn an_address_that_hangs_gets_its_share_of_the_time_only() {
    let mut hand = ByHand::new("far.test", OPTIONS());
    hand.start(1);
    hand.resolved(Ok(vec![address(1), address(2), address(3)]));
    let started = hand.now;
    hand.wake();
    assert_eq!(hand.now.since(started), Duration::from_secs(3));
    hand.cancellations_come_back();
    assert_eq!(hand.connecting_to(), address(2));
    hand.failed("Connect", ErrorKind::ConnectionRefused);
    assert_eq!(hand.connecting_to(), address(3));
    while hand.ended.is_empty() {
        hand.wake();
    }
    assert_eq!(hand.now.since(started), Duration::from_secs(9));
    assert!(matches!(hand.error(), ExchangeError::ConnectTimeout { .. }));
    hand.cancellations_come_back();
    assert!(hand.client.is_quiet());
}

#[test]
fn a_connection_that_comes_just_after_its_share_is_used() {
    let mut hand = ByHand::new("far.test", OPTIONS());
    hand.start(1);
    hand.resolved(Ok(vec![address(1), address(2)]));
    hand.wake();
    assert_eq!(hand.cancelled.len(), 1);
    hand.connected();
    assert_eq!(hand.named("Send").len(), 1);
}

#[test]
fn a_connection_that_comes_after_the_limit_is_dropped() {
    let mut hand = ByHand::new("10.0.0.1", OPTIONS());
    hand.start(1);
    hand.wake();
    assert!(matches!(hand.error(), ExchangeError::ConnectTimeout { .. }));
    assert_eq!(hand.client.capacity(), 2, "its Connect is still out");
    hand.connected();
    assert!(hand.ops.is_empty() && hand.client.is_quiet());
}

#[test]
fn silence_and_dribbling_end_with_the_response_timeout() {
    for dribbles in [false, true] {
        let mut hand = ByHand::new("10.0.0.1", OPTIONS());
        hand.start(1);
        hand.connected().sent(usize::MAX);
        let started = hand.now;
        if dribbles {
            for byte in b"HTTP/1.1 200 OK\r\n".chunks(1) {
                hand.advance(Duration::from_secs(1));
                hand.received(byte);
            }
        }
        while hand.ended.is_empty() {
            hand.wake();
        }
        assert_eq!(hand.now.since(started), Duration::from_secs(20));
        let error = hand.error();
        let ExchangeError::ResponseTimeout { before_response, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(*before_response, !dribbles);
        assert!(!error.before_request());
        hand.cancellations_come_back();
        assert!(hand.client.is_quiet());
    }
}

#[test]
fn an_idle_connection_is_closed_in_time_and_wakes_nobody_after() {
    let mut hand = ByHand::new("10.0.0.1", OPTIONS());
    hand.start(1);
    hand.connected().sent(usize::MAX);
    hand.received(&answer(200, ""));
    let started = hand.now;
    while hand.cancelled.is_empty() {
        hand.wake();
    }
    assert_eq!(hand.now.since(started), Duration::from_secs(4));
    hand.cancellations_come_back();
    assert!(hand.client.is_quiet());
    while hand.client.next_wakeup().is_some() {
        assert!(hand.now.since(started) <= Duration::from_secs(20), "nothing is left to wait for");
        hand.wake();
    }
}

#[test]
fn the_connection_used_last_is_used_first() {
    let mut hand = ByHand::new("10.0.0.1", OPTIONS());
    for id in 0..2 {
        hand.start(id);
    }
    for token in hand.named("Connect") {
        hand.ops.remove(&token);
        hand.complete(token, Ok(elgate_io::Outcome::Connected(socket())), None);
    }
    for token in hand.named("Send") {
        let Some(elgate_io::Op::Send { buffer, .. }) = hand.ops.remove(&token) else { panic!() };
        hand.complete(token, Ok(elgate_io::Outcome::Bytes(buffer.len())), Some(buffer));
    }
    let receives = hand.named("Receive");
    hand.receive_on(receives[1], &answer(200, ""));
    hand.receive_on(receives[0], &answer(200, ""));
    hand.ended.clear();
    hand.start(9);
    hand.sent(usize::MAX);
    // The other one is idle: its end is noticed without harm to the exchange.
    let number = |token: u32| token >> 2 & 0x3ff;
    let last_used = number(receives[0]);
    let receives = hand.named("Receive");
    let other = receives.iter().find(|&&token| number(token) != last_used).expect("idle");
    hand.receive_on(*other, b"");
    assert!(hand.ended.is_empty());
    hand.received(&answer(200, ""));
    assert_eq!(hand.status(), 200);
}
