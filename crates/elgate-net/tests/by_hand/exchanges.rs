//! One connection after another, by hand: what is sent when, what is reported, and when a
//! connection is fit for another exchange.

use crate::driver::{ByHand, address, answer, request};
use elgate_http::{HttpError, ResponseLimits};
use elgate_net::{ClientOptions, ExchangeError};
use std::io::ErrorKind;
use std::time::Duration;

/// A client of a literal address, with a request sent over a fresh connection.
fn sent() -> ByHand {
    let mut hand = ByHand::new("10.0.0.1", ClientOptions::default());
    hand.start(1);
    assert!(hand.ops.len() == 1 && hand.connecting_to() == address(1));
    hand.connected();
    assert_eq!(hand.sent(usize::MAX), request(b"hello").to_vec());
    hand
}

#[test]
fn a_connection_is_kept_and_used_again() {
    let mut hand = sent();
    hand.received(&answer(200, "ok"));
    let (id, response) = hand.only_ended();
    let response = response.expect("a response");
    assert_eq!((id, response.status, &response.body_excerpt[..]), (1, 200, &b"ok"[..]));
    assert_eq!(hand.named("Receive").len(), 1, "an idle connection is listened to");
    hand.start(2);
    assert!(hand.named("Connect").is_empty());
    hand.sent(usize::MAX);
    hand.received(&answer(201, ""));
    assert_eq!(hand.status(), 201);
    assert!(!hand.client.is_quiet());
}

#[test]
fn a_request_is_sent_in_as_many_parts_as_it_takes() {
    let mut hand = ByHand::new("10.0.0.1", ClientOptions::default());
    hand.start(1);
    hand.connected();
    let mut whole = Vec::new();
    while !hand.named("Send").is_empty() {
        whole.extend(hand.sent(7));
    }
    assert_eq!(whole, request(b"hello").to_vec());
    hand.received(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2").received(b"00 OK\r\n");
    hand.received(b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").received(b"0\r\n\r\n");
    assert_eq!(hand.status(), 200);
    assert_eq!(hand.client.capacity(), 1);
}

#[test]
fn a_response_may_be_reported_before_its_send_is() {
    let mut hand = ByHand::new("10.0.0.1", ClientOptions::default());
    hand.start(1);
    hand.connected();
    hand.received(&answer(200, ""));
    assert_eq!(hand.status(), 200);
    assert_eq!(hand.client.capacity(), 0, "the send is still under way");
    hand.sent(usize::MAX);
    assert_eq!(hand.client.capacity(), 1);
    hand.start(2);
    assert!(hand.named("Connect").is_empty(), "the connection was kept");
}

#[test]
fn an_early_response_to_a_request_cut_short_costs_the_connection() {
    let mut hand = ByHand::new("10.0.0.1", ClientOptions::default());
    hand.start(1);
    hand.connected();
    hand.received(&answer(413, ""));
    assert_eq!(hand.status(), 413);
    hand.sent(3);
    assert!(hand.named("Send").is_empty(), "nothing more is sent");
    hand.cancellations_come_back();
    assert!(hand.client.is_quiet());

    // The same, but the send never ends by itself.
    hand.start(2);
    hand.connected();
    hand.received(&answer(413, ""));
    hand.wake();
    assert_eq!(hand.cancelled.len(), 2);
    hand.cancellations_come_back();
    assert!(hand.client.is_quiet());
}

#[test]
fn a_response_after_a_failed_send_counts() {
    let mut hand = ByHand::new("10.0.0.1", ClientOptions::default());
    hand.start(1);
    hand.connected().failed("Send", ErrorKind::BrokenPipe);
    assert!(hand.ended.is_empty(), "it is heard out");
    hand.received(&answer(413, "too large"));
    assert_eq!(hand.status(), 413);
    hand.cancellations_come_back();
    assert!(hand.client.is_quiet(), "such a connection is not kept");
}

#[test]
fn a_failed_send_without_a_response_is_a_lost_connection() {
    for listens in [false, true] {
        let mut hand = ByHand::new("10.0.0.1", ClientOptions::default());
        hand.start(1);
        hand.connected().failed("Send", ErrorKind::BrokenPipe);
        if listens {
            hand.received(b"");
        } else {
            let before = hand.now;
            hand.wake();
            assert!(hand.now.since(before) <= Duration::from_secs(1));
        }
        let error = hand.error();
        let ExchangeError::ConnectionLost { before_response: true, reused: false, source, .. } =
            &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(source.as_ref().map(|source| source.kind()), Some(ErrorKind::BrokenPipe));
        assert!(error.to_string().contains("10.0.0.1:80"), "{error}");
    }
}

#[test]
fn an_idle_connection_that_ends_or_talks_is_not_used_again() {
    for bytes in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let mut hand = sent();
        hand.received(&answer(200, "")).received(bytes);
        assert!(hand.client.is_quiet());
        assert_eq!(hand.status(), 200);
        hand.start(2);
        assert_eq!(hand.named("Connect").len(), 1);
    }
}

#[test]
fn a_kept_connection_that_dies_before_the_response_says_so() {
    let mut hand = sent();
    hand.received(&answer(200, ""));
    assert_eq!(hand.status(), 200);
    hand.start(2);
    hand.failed("Receive", ErrorKind::ConnectionReset);
    let error = hand.error();
    assert!(
        matches!(error, ExchangeError::ConnectionLost { before_response: true, reused: true, .. }),
        "{error:?}"
    );
    hand.cancellations_come_back();

    hand.start(3);
    hand.connected().sent(usize::MAX);
    hand.received(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").received(b"");
    let error = hand.error();
    assert!(
        matches!(
            error,
            ExchangeError::ConnectionLost { before_response: false, reused: false, .. }
        ),
        "{error:?}"
    );
}

#[test]
fn a_far_end_that_closes_after_each_response_is_served_too() {
    let mut hand = ByHand::new("10.0.0.1", ClientOptions::default());
    for id in 0..3 {
        hand.start(id);
        hand.connected().sent(usize::MAX);
        if id == 0 {
            hand.received(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").received(b"");
        } else {
            hand.received(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
        assert_eq!(hand.status(), 200);
        assert!(hand.client.is_quiet());
    }
}

#[test]
fn garbage_closes_the_connection() {
    let mut hand = sent();
    hand.received(b"\x15\x03\x01");
    let error = hand.error();
    let ExchangeError::Protocol { source: HttpError::NotHttp, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(hand.client.is_quiet());
}

#[test]
fn a_sound_status_counts_whatever_follows_it() {
    let limits = ResponseLimits { body_bytes_max: 10, ..ResponseLimits::default() };
    let options = ClientOptions { response_limits: limits, ..ClientOptions::default() };
    for bytes in [[answer(200, "ok"), b"more".to_vec()].concat(), answer(200, "more than ten")] {
        let mut hand = ByHand::new("10.0.0.1", options);
        hand.start(1);
        hand.connected().sent(usize::MAX);
        hand.received(&bytes);
        assert_eq!(hand.status(), 200);
        assert!(hand.client.is_quiet(), "but the connection is given up");
    }
}

#[test]
fn no_more_exchanges_than_connections() {
    let mut hand =
        ByHand::new("10.0.0.1", ClientOptions { connections_max: 2, ..ClientOptions::default() });
    hand.start(1);
    hand.start(2);
    assert_eq!(hand.client.capacity(), 0);
    let busy = hand.client.start(3, request(b"third"), hand.now).expect_err("busy");
    assert_eq!(busy.request.to_vec(), request(b"third").to_vec());
}

#[test]
fn closing_gives_up_exchanges_and_connections() {
    let mut hand = ByHand::new("far.test", ClientOptions::default());
    // Before anything was handed out, nothing comes back.
    hand.client.start(1, request(b""), hand.now).expect("capacity");
    hand.client.close(hand.now);
    hand.pump();
    assert!(matches!(hand.error(), ExchangeError::Aborted { .. }));
    assert!(hand.client.is_quiet() && hand.ops.is_empty());

    hand.start(2);
    hand.resolved(Ok(vec![address(1)])).connected();
    hand.client.close(hand.now);
    hand.pump();
    assert!(matches!(hand.error(), ExchangeError::Aborted { .. }));
    assert_eq!(hand.cancelled.len(), 2);
    assert!(!hand.client.is_quiet());
    hand.cancellations_come_back();
    assert!(hand.client.is_quiet());
    hand.start(3);
    assert_eq!(hand.named("Connect").len(), 1, "it can be used again");
}
