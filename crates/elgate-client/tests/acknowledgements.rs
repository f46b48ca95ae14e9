//! Submissions go to the right ring, and each is acknowledged once, through one doorbell.

mod common;

use common::{Daemon, LONG, drain, route};
use elgate_client::{Client, ClientError, ConnectOptions, RouteHandle, SubmitError};
use elgate_types::{ErrorCode, Level, Lsn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn numbers_count_records_and_come_back_with_lsns() {
    let mut daemon = Daemon::start(1);
    let client = daemon.connect();
    let orders = client.route(&route("orders"));
    assert_eq!(client.route(&route("orders")), orders);
    assert_eq!(client.route_name(orders), Some(&route("orders")));
    assert_eq!(client.submit(orders, &[b"a", b"b", b"c"]).expect("taken"), 1);
    assert_eq!(client.submit(orders, &[b"d"]).expect("taken"), 4);
    assert_eq!(client.submit_encoded(orders, 2, b"\x01\0\0\0e\0\0\0\0").expect("taken"), 5);
    assert_eq!(client.submit(orders, &[b"g"]).expect("taken"), 7);
    assert_eq!(client.outstanding(), 4);
    let taken = daemon.serve(0);
    assert_eq!(taken[2].2, [b"e".to_vec(), b"".to_vec()]);
    let acknowledged = drain(&client, 4);
    let seen: Vec<_> =
        acknowledged.iter().map(|one| (one.op_id, one.first_lsn, one.record_count)).collect();
    assert_eq!(seen, [(1, Lsn(1), 3), (4, Lsn(4), 1), (5, Lsn(5), 2), (7, Lsn(7), 1)]);
    assert!(
        acknowledged
            .iter()
            .all(|one| one.route == orders && one.status.is_none() && one.level == Level::Durable)
    );
    assert_eq!(client.outstanding(), 0);
    assert_eq!(client.data_dir(), daemon.directory.path().to_str().expect("UTF-8"));
}

#[test]
fn routes_are_spread_over_the_rings_by_their_hash() {
    let mut daemon = Daemon::start(3);
    let client = daemon.connect();
    let names: Vec<String> = (0..30).map(|index| format!("route-{index}")).collect();
    for name in &names {
        client.submit(client.route(&route(name)), &[b"x"]).expect("taken");
    }
    let mut served = 0;
    for ring in 0..3 {
        let taken = daemon.serve(ring);
        assert!(!taken.is_empty(), "thirty names reach three rings");
        assert!(taken.iter().all(|one| route(&one.1).stable_hash() % 3 == ring as u64));
        served += taken.len();
    }
    assert_eq!(served, 30);
    let mut ids: Vec<u64> = drain(&client, 30).iter().map(|one| one.op_id).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(1..=30), "numbers are unique across rings");
}

#[test]
fn the_doorbell_rings_once_until_somebody_drains() {
    let mut daemon = Daemon::start(1);
    let client = daemon.connect();
    let rings = Arc::new(AtomicUsize::new(0));
    let counter = rings.clone();
    client.set_doorbell(Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let handle = client.route(&route("a"));
    for expected in 1..=3 {
        for _ in 0..5 {
            client.submit(handle, &[b"x"]).expect("taken");
            daemon.serve(0);
        }
        assert!(client.wait_acks(LONG));
        let mut out = Vec::new();
        // The bell is down before draining, so it may ring again for what was drained already.
        while out.len() < 5 {
            client.drain(&mut out);
        }
        let heard = rings.swap(0, Ordering::SeqCst);
        assert!((1..=5).contains(&heard), "round {expected}: {heard} rings");
        client.drain(&mut out);
        assert_eq!(client.outstanding(), 0);
    }
}

#[test]
fn the_window_is_bounded_and_opens_by_draining() {
    let mut daemon = Daemon::start(1);
    let client = daemon.connect();
    let handle = client.route(&route("a"));
    let mut refused = 0;
    while client.outstanding() < 2_048 {
        // The ring holds 1,020 slots; the window, twice that.
        if let Err(error) = client.submit(handle, &[b"x"]) {
            assert_eq!(error.code(), ErrorCode::Backpressure);
            assert!(!client.space_available(handle));
            refused += 1;
            while !daemon.serve(0).is_empty() {}
            assert!(client.wait_for_space(handle, LONG));
        }
    }
    assert!(refused > 0, "the ring was never full");
    while !daemon.serve(0).is_empty() {}
    assert!(matches!(client.submit(handle, &[b"x"]), Err(SubmitError::Backpressure)));
    assert!(!client.space_available(handle));
    assert_eq!(drain(&client, 2_048).len(), 2_048);
    assert!(client.space_available(handle));
    client.submit(handle, &[b"x"]).expect("taken");
}

#[test]
fn space_is_announced_by_the_doorbell() {
    let mut daemon = Daemon::start(1);
    let (client, other) = (daemon.connect(), daemon.connect());
    let handle = other.route(&route("a"));
    while other.submit(handle, &[b"x"]).is_ok() {}
    let own = client.route(&route("b"));
    assert!(matches!(client.submit(own, &[b"x"]), Err(SubmitError::Backpressure)));
    client.notify_space(own);
    daemon.serve(0);
    assert!(client.wait_acks(LONG), "nothing of ours was acknowledged, and yet the bell rings");
    client.submit(own, &[b"x"]).expect("taken");
}

#[test]
fn bad_calls_are_refused_with_their_code() {
    let daemon = Daemon::start(1);
    let client = daemon.connect();
    let handle = client.route(&route("a"));
    let large = vec![0; 1_000_001];
    for (refused, code) in [
        (client.submit(handle, &[&large]), ErrorCode::PayloadTooLarge),
        (client.submit(handle, &[]), ErrorCode::Usage),
        (client.submit_encoded(handle, 1, b"abc"), ErrorCode::Usage),
        (client.submit(RouteHandle::from_index(77), &[b"x"]), ErrorCode::RouteUnknown),
    ] {
        assert_eq!(refused.expect_err("refused").code(), code);
    }
    assert_eq!(client.outstanding(), 0);
    client.close();
    client.close();
    assert_eq!(client.submit(handle, &[b"x"]).expect_err("closed").code(), ErrorCode::Closed);
    assert!(!client.daemon_alive());
}

#[test]
fn without_a_daemon_there_is_no_connection_and_waiting_finds_one() {
    let mut daemon = Daemon::start(1);
    daemon.consumers.clear();
    let refused = Client::connect(&daemon.path, ConnectOptions::default());
    assert!(matches!(refused, Err(ClientError::DaemonUnavailable { .. })));
    let nowhere = daemon.directory.path().join("none");
    let refused = Client::connect(&nowhere, ConnectOptions { wait: Duration::from_millis(6) });
    assert_eq!(refused.expect_err("nothing there").code(), ErrorCode::DaemonUnavailable);
    std::thread::scope(|scope| {
        let path = &daemon.path;
        let waiting = scope.spawn(|| Client::connect(path, ConnectOptions { wait: LONG }));
        let _consumer = daemon.open(0, 1);
        let client = waiting.join().expect("no panic").expect("found it");
        assert!(client.daemon_alive());
    });
}

#[test]
fn closing_from_within_the_doorbell_does_not_hang() {
    let mut daemon = Daemon::start(1);
    let client = Arc::new(daemon.connect());
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let inner = Arc::downgrade(&client);
    client.set_doorbell(Box::new(move || {
        if let Some(client) = inner.upgrade() {
            client.close();
            let _ = sender.try_send(());
        }
    }));
    client.submit(client.route(&route("a")), &[b"x"]).expect("taken");
    daemon.serve(0);
    receiver.recv_timeout(LONG).expect("the doorbell returned");
}
