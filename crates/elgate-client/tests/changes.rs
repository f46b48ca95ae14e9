//! What changes under a client: the daemon is restarted, the ring is given up or replaced, the
//! process forks, a log is delivered.

mod common;

use common::{Daemon, LONG, drain, route};
use elgate_client::SubmitError;
use elgate_io::OsPlatform;
use elgate_log::LogOptions;
use elgate_types::{ErrorCode, Lsn};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

#[test]
fn a_restarted_daemon_goes_on_with_what_was_submitted() {
    let mut daemon = Daemon::start(1);
    let client = daemon.connect();
    let handle = client.route(&route("a"));
    client.submit(handle, &[b"before"]).expect("taken");
    daemon.consumers.clear();
    assert!(!client.daemon_alive());
    client.submit(handle, &[b"between"]).expect("accepted without a daemon");
    let consumer = daemon.open(0, 1);
    daemon.consumers.push(consumer);
    assert!(client.daemon_alive());
    assert_eq!(daemon.serve(0).len(), 2);
    let ids: Vec<u64> = drain(&client, 2).iter().map(|one| one.op_id).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn a_poisoned_ring_fails_what_is_outstanding_and_the_client_goes_on() {
    let mut daemon = Daemon::start(1);
    let client = daemon.connect();
    let handle = client.route(&route("a"));
    client.submit(handle, &[b"acknowledged"]).expect("taken");
    daemon.serve(0);
    client.submit(handle, &[b"spoilt"]).expect("taken");
    client.submit(handle, &[b"salvaged"]).expect("taken");
    let file = std::fs::File::options().write(true).open(&daemon.path).expect("opens");
    file.write_all_at(&[0xee; 8], 16 * 1024 + 4_096).expect("scribbles over the second word");
    let consumer = &mut daemon.consumers[0];
    assert!(consumer.pop(64, &mut |_| panic!("nothing lies before it")).is_err());
    consumer.replace().expect("a fresh ring");
    let acknowledged = drain(&client, 3);
    let seen: Vec<_> = acknowledged.iter().map(|one| (one.op_id, one.status)).collect();
    let lost = Some(ErrorCode::RingCorrupt);
    assert_eq!(seen, [(1, None), (2, lost), (3, lost)]);
    assert_eq!(client.outstanding(), 0);
    client.submit(handle, &[b"on the new ring"]).expect("taken");
    let taken = daemon.serve(0);
    assert_eq!(taken.iter().map(|one| one.0).collect::<Vec<_>>(), [3, 4], "salvaged, then new");
    assert_eq!(drain(&client, 1)[0].op_id, 4);
}

#[test]
fn a_ring_given_up_without_successor_refuses_until_there_is_one() {
    let mut daemon = Daemon::start(1);
    let client = daemon.connect();
    let handle = client.route(&route("a"));
    assert!(daemon.consumers.remove(0).remove_if_empty());
    let refused = client.submit(handle, &[b"x"]).expect_err("no ring");
    assert!(matches!(refused, SubmitError::Attach(_) | SubmitError::RingLost(_)), "{refused}");
    let consumer = daemon.open(0, 1);
    daemon.consumers.push(consumer);
    client.submit(handle, &[b"x"]).expect("attached to the new one");
    daemon.serve(0);
    assert_eq!(drain(&client, 1).len(), 1);
}

#[test]
fn a_deleted_ring_is_followed_to_its_successor() {
    let mut daemon = Daemon::start(1);
    let client = daemon.connect();
    let handle = client.route(&route("a"));
    client.submit(handle, &[b"lost"]).expect("taken");
    // The way out that `RingIncompatible` names: stop, delete, start.
    daemon.consumers.clear();
    std::fs::remove_file(&daemon.path).expect("removes");
    let consumer = daemon.open(0, 1);
    daemon.consumers.push(consumer);
    assert_eq!(drain(&client, 1)[0].status, Some(ErrorCode::RingCorrupt));
    client.submit(handle, &[b"x"]).expect("taken");
    assert_eq!(daemon.serve(0).len(), 1);
}

#[test]
fn a_forked_child_attaches_anew() {
    let mut daemon = Daemon::start(1);
    let client = daemon.connect();
    let handle = client.route(&route("a"));
    client.submit(handle, &[b"parent"]).expect("taken");
    // Fork while the background thread sleeps, holding no lock that the child would inherit.
    let acks = std::fs::File::open(daemon.directory.path().join("ring.ack.1")).expect("opens");
    let mut flag = [0; 4];
    while flag != 1_u32.to_le_bytes() {
        acks.read_exact_at(&mut flag, 0x180).expect("reads");
    }
    // SAFETY: the child submits once and leaves with _exit; no other thread of this test holds a
    // lock that the child needs.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let taken = client.submit(handle, &[b"child"]).is_ok() && client.outstanding() == 1;
        // SAFETY: ends the child without running anything else.
        unsafe { libc::_exit(if taken { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is a writable int.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), 7);
    client.submit(handle, &[b"parent again"]).expect("taken");
    assert_eq!(daemon.serve(0).len(), 3);
    assert_eq!(drain(&client, 2).iter().map(|one| one.op_id).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn delivery_is_read_from_the_head_file_and_announced() {
    let daemon = Daemon::start(1);
    let client = daemon.connect();
    let handle = client.route(&route("orders"));
    assert_eq!(client.delivered(handle), None, "no log yet");
    client.watch_delivered(handle, Lsn(5));
    client.watch_delivered(handle, Lsn(9));
    let directory = daemon.directory.path().join("orders");
    let options = LogOptions { segment_bytes: 4 << 20, ..LogOptions::default() };
    let (mut log, _) =
        elgate_log::open(Arc::new(OsPlatform::new()), &directory, &route("orders"), options)
            .expect("opens");
    log.set_delivered(Lsn(4));
    assert_eq!(client.delivered(handle), Some(Lsn(4)));
    for lsn in [5_u64, 9] {
        log.set_delivered(Lsn(lsn));
        assert!(client.wait_acks(LONG), "the watermark reached {lsn}");
        assert_eq!(client.delivered(handle), Some(Lsn(lsn)));
        client.drain(&mut Vec::new());
    }
}
