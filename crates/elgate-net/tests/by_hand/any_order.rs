//! Whatever completes in whatever order: every exchange has exactly one outcome, no connection has
//! two sends or receives under way, and after closing everything comes to rest.

use crate::driver::{ByHand, address, answer, request, socket};
use elgate_io::{Op, Outcome};
use elgate_net::ClientOptions;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

const CONNECTIONS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Start,
    /// The operation with that index (modulo their number) ends in that way.
    Complete(usize, u8),
    CancellationsComeBack,
    Advance(u64),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Start),
        24 => (any::<usize>(), any::<u8>()).prop_map(|(index, way)| Step::Complete(index, way)),
        4 => Just(Step::CancellationsComeBack),
        4 => (0..6_000_u64).prop_map(Step::Advance),
        1 => Just(Step::Close),
    ]
}

fn complete(hand: &mut ByHand, index: usize, way: u8) {
    let Some(&token) = hand.ops.keys().nth(index % hand.ops.len().max(1)) else { return };
    let op = hand.ops.remove(&token).expect("listed");
    let failed = || Err(io::Error::from(io::ErrorKind::ConnectionReset));
    let (result, buffer) = match op {
        Op::Blocking(_) => match way % 4 {
            0 => (failed(), None),
            way => (Ok(Outcome::Reply(Box::new(vec![address(1); way.into()]))), None),
        },
        Op::Connect { .. } => match way % 4 {
            0 => (failed(), None),
            _ => (Ok(Outcome::Connected(socket())), None),
        },
        Op::Send { buffer, offset, .. } => match way % 8 {
            0 => (failed(), Some(buffer)),
            1 => (Ok(Outcome::Bytes(1)), Some(buffer)),
            _ => (Ok(Outcome::Bytes(buffer.len() - offset)), Some(buffer)),
        },
        Op::Receive { mut buffer, .. } => {
            let bytes = match way % 16 {
                0 => None,
                1 => Some(vec![]),
                2 => Some(b"garbage".to_vec()),
                3 => Some(b"HTTP/1.1 200 OK\r\n".to_vec()),
                4 => Some(b"HTTP/1.1 200 OK\r\n\r\nbody".to_vec()),
                5 => Some(answer(200, "").repeat(2)),
                6 => Some(b"H".to_vec()),
                _ => Some(answer(200, "body")),
            };
            match bytes {
                Some(bytes) => {
                    buffer.extend(&bytes);
                    (Ok(Outcome::Bytes(bytes.len())), Some(buffer))
                }
                None => (failed(), Some(buffer)),
            }
        }
        other => panic!("a client has no use for {other:?}"),
    };
    hand.cancelled.retain(|&cancelled| cancelled != token);
    hand.complete(token, result, buffer);
}

/// No two operations of one kind on one connection.
fn check_ops(hand: &ByHand) {
    let kinds: BTreeSet<_> = hand.ops.keys().map(|token| token & 0xfff).collect();
    assert_eq!(kinds.len(), hand.ops.len(), "{:?}", hand.ops);
    assert!(hand.ops.len() <= 3 * CONNECTIONS + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_exchange_has_one_outcome(steps in vec(step(), 0..120)) {
        let options = ClientOptions {
            connections_max: CONNECTIONS,
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(10),
            ..ClientOptions::default()
        };
        let mut hand = ByHand::new("far.test", options);
        let mut started = 0_u64;
        for step in steps {
            match step {
                Step::Start => {
                    let capacity = hand.client.capacity();
                    let result = hand.client.start(started, request(b"x"), hand.now);
                    prop_assert_eq!(result.is_ok(), capacity > 0);
                    started += u64::from(result.is_ok());
                    hand.pump();
                }
                Step::Complete(index, way) => complete(&mut hand, index, way),
                Step::CancellationsComeBack => { hand.cancellations_come_back(); }
                Step::Advance(milliseconds) => hand.advance(Duration::from_millis(milliseconds)),
                Step::Close => {
                    hand.client.close(hand.now);
                    hand.pump();
                    prop_assert_eq!(hand.ended.len() as u64, started);
                }
            }
            check_ops(&hand);
        }
        // Left alone, every exchange ends within its limits.
        for _ in 0..100 {
            hand.cancellations_come_back();
            if hand.client.next_wakeup().is_none() {
                break;
            }
            hand.wake();
        }
        let ended: Vec<_> = hand.ended.iter().map(|(id, _)| *id).collect();
        prop_assert_eq!(ended.len() as u64, started);
        prop_assert_eq!(ended.iter().collect::<BTreeSet<_>>().len() as u64, started);
        hand.client.close(hand.now);
        hand.pump();
        hand.cancellations_come_back();
        prop_assert_eq!(hand.client.next_wakeup().filter(|_| !hand.ops.is_empty()), None);
        for token in hand.named("Blocking") {
            // A resolution may be out without anybody who waits for it.
            hand.ops.remove(&token);
            hand.complete(token, Err(io::ErrorKind::Interrupted.into()), None);
        }
        prop_assert!(hand.client.is_quiet(), "{:?}", hand.ops);
        prop_assert_eq!(hand.client.capacity(), CONNECTIONS);
    }
}
