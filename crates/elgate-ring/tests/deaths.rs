//! Producers that die, stop and fork: the dead are recovered from, the stopped are waited for, and
//! a child is not its parent.

mod common;

use common::{Fixture, finish, pop_all, ring_of_role, route, spawn_role, try_pop};
use elgate_ring::{Producer, SubmitError};
use std::io::{BufRead, BufReader, Read};
use std::process::Child;

const SIZES: [usize; 2] = [100, 20_000];

/// Role: attaches, forks if told to, submits `COUNT` payloads of `BYTES`, says so, and waits for
/// its input to end.
#[test]
fn role_producer() {
    let Some(path) = ring_of_role() else { return };
    let number = |name: &str| -> usize {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    let producer = Producer::attach(&path).expect("attaches");
    if number("FORK_AND_LINGER") == 1 {
        // SAFETY: the child only waits for its input to end, and leaves with _exit.
        if unsafe { libc::fork() } == 0 {
            let _ = std::io::stdin().read(&mut [0]);
            // SAFETY: ends the child without running anything else.
            unsafe { libc::_exit(0) };
        }
    }
    let payload = vec![b'p'; number("BYTES")];
    for op_id in 0..number("COUNT") as u64 {
        producer.submit(&route("dying"), op_id, &[&payload]).expect("room");
    }
    println!("\nsubmitted");
    let _ = std::io::stdin().read(&mut [0]);
}

fn wait_for_line(child: &mut Child, line: &str) {
    let output = child.stdout.as_mut().expect("piped");
    let found = BufReader::new(output).lines().map_while(Result::ok).any(|found| found == line);
    assert!(found, "the producer ended without saying {line:?}");
}

#[test]
fn a_producer_killed_at_any_step_leaves_no_trace_and_blocks_nobody() {
    for site in ["ring.claimed", "ring.before_commit", "ring.committed"] {
        for bytes in SIZES {
            let fixture = Fixture::new();
            let mut consumer = fixture.consumer();
            let other = fixture.producer();
            let mut dying = spawn_role(
                "role_producer",
                &fixture.path,
                &[
                    ("COUNT", "5"),
                    ("BYTES", &bytes.to_string()),
                    ("ELGATE_KILL_SITE", &format!("{site}:3")),
                ],
            );
            let status = dying.wait().expect("waits");
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{site}");
            for op_id in 0..3 {
                other.submit(&route("living"), op_id, &[b"x"]).expect("room");
            }
            let committed = if site == "ring.committed" { 3 } else { 2 };
            let before = pop_all(&mut consumer);
            assert_eq!(consumer.is_blocked(), site != "ring.committed", "{site}");
            let recovered = consumer.recover_dead();
            assert_eq!(recovered, usize::from(site != "ring.committed"), "{site}");
            let after = pop_all(&mut consumer);
            let all: Vec<_> = before.iter().chain(&after).collect();
            let of = |name: &str| -> Vec<u64> {
                all.iter().filter(|one| one.route == name).map(|one| one.op_id).collect()
            };
            assert_eq!(of("dying"), (0..committed).collect::<Vec<_>>(), "{site} {bytes}");
            assert_eq!(of("living"), [0, 1, 2], "{site} {bytes}");
            assert!(all.iter().all(|one| one.route == "living" || one.records[0].len() == bytes));
            assert!(fixture.names().contains(&"ring.ack.2".to_owned()));
            finish(&mut consumer, &before);
            finish(&mut consumer, &after);
            assert_eq!(consumer.stats().used_slots, 0);
            // With nothing of it left, its place and its file go too.
            assert_eq!(consumer.stats().participants, 2);
            assert_eq!(consumer.recover_dead(), 0);
            assert_eq!(consumer.stats().participants, 1);
            assert!(!fixture.names().contains(&"ring.ack.2".to_owned()));
        }
    }
}

#[test]
fn a_producer_killed_between_padding_and_claim_blocks_nobody() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let other = fixture.producer();
    for op_id in 0..1_018 {
        other.submit(&route("living"), op_id, &[b"x"]).expect("room");
    }
    let taken = pop_all(&mut consumer);
    finish(&mut consumer, &taken);
    // Five slots do not fit before the end: the first claim is padding.
    let mut dying = spawn_role(
        "role_producer",
        &fixture.path,
        &[("COUNT", "1"), ("BYTES", "20000"), ("ELGATE_KILL_SITE", "ring.claimed:1")],
    );
    dying.wait().expect("waits");
    other.submit(&route("living"), 7, &[b"x"]).expect("room");
    assert!(pop_all(&mut consumer).is_empty());
    assert_eq!(consumer.recover_dead(), 1);
    let taken = pop_all(&mut consumer);
    assert_eq!(taken.iter().map(|one| one.op_id).collect::<Vec<_>>(), [7]);
    finish(&mut consumer, &taken);
    assert_eq!(consumer.stats().used_slots, 0);
}

#[test]
fn a_stopped_producer_is_waited_for_and_goes_on() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let other = fixture.producer();
    let mut stopping = spawn_role(
        "role_producer",
        &fixture.path,
        &[("COUNT", "2"), ("BYTES", "9000"), ("ELGATE_STOP_SITE", "ring.before_commit:1")],
    );
    let pid = i32::try_from(stopping.id()).expect("a pid");
    let mut status = 0;
    // SAFETY: `status` is a writable int; the child is ours and not waited for elsewhere meanwhile.
    unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) };
    assert!(libc::WIFSTOPPED(status), "the producer stops with its claim open");
    other.submit(&route("living"), 1, &[b"x"]).expect("room");
    for _ in 0..1_000 {
        assert_eq!(consumer.recover_dead(), 0, "a stopped producer is not dead");
        assert!(try_pop(&mut consumer, 64).expect("sound").is_empty());
    }
    assert!(consumer.is_blocked());
    // SAFETY: sends a signal to our own child.
    unsafe { libc::kill(pid, libc::SIGCONT) };
    wait_for_line(&mut stopping, "submitted");
    let taken = pop_all(&mut consumer);
    let names: Vec<_> = taken.iter().map(|one| (one.route.as_str(), one.op_id)).collect();
    assert_eq!(names, [("dying", 0), ("living", 1), ("dying", 1)]);
    drop(stopping.stdin.take());
    assert!(stopping.wait().expect("waits").success(), "the stopped producer noticed nothing");
}

#[test]
fn a_producer_killed_while_stopped_is_dead() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let mut stopping = spawn_role(
        "role_producer",
        &fixture.path,
        &[("COUNT", "1"), ("BYTES", "10"), ("ELGATE_STOP_SITE", "ring.claimed:1")],
    );
    let pid = i32::try_from(stopping.id()).expect("a pid");
    let mut status = 0;
    // SAFETY: as above.
    unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) };
    assert_eq!(consumer.recover_dead(), 0);
    stopping.kill().expect("kills");
    stopping.wait().expect("waits");
    assert_eq!(consumer.recover_dead(), 1);
    assert!(pop_all(&mut consumer).is_empty());
    assert_eq!(consumer.stats().used_slots, 0);
}

#[test]
fn a_dead_parent_is_proven_dead_although_its_child_holds_the_lock() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let mut dying = spawn_role(
        "role_producer",
        &fixture.path,
        &[
            ("COUNT", "1"),
            ("BYTES", "10"),
            ("FORK_AND_LINGER", "1"),
            ("ELGATE_KILL_SITE", "ring.before_commit:1"),
        ],
    );
    let childs_input = dying.stdin.take();
    dying.wait().expect("waits");
    let another = fixture.producer();
    assert_eq!(another.participant(), 2, "the child still holds the first place's lock");
    assert!(pop_all(&mut consumer).is_empty() && consumer.is_blocked());
    assert_eq!(consumer.recover_dead(), 1);
    assert!(pop_all(&mut consumer).is_empty());
    drop(childs_input);
}

#[test]
fn a_forked_child_attaches_anew_and_leaves_the_parents_place_alone() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producer = fixture.producer();
    producer.submit(&route("parent"), 1, &[b"x"]).expect("room");
    // SAFETY: the child attaches, submits and leaves with _exit; the allocator is usable after a
    // fork under glibc and musl.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let refused = producer.submit(&route("child"), 1, &[b"x"]) == Err(SubmitError::Forked)
            && producer.inherited();
        drop(producer);
        let done = Producer::attach(&fixture.path)
            .is_ok_and(|own| own.submit(&route("child"), 2, &[b"y"]).is_ok());
        // SAFETY: ends the child without running destructors that belong to the parent.
        unsafe { libc::_exit(if refused && done { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is a writable int.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), 7);
    assert_eq!(consumer.recover_dead(), 0);
    assert!(!producer.evicted(), "the child's leaving is not the parent's");
    producer.submit(&route("parent"), 2, &[b"x"]).expect("room");
    let taken = pop_all(&mut consumer);
    let seen: Vec<_> = taken.iter().map(|one| (one.route.as_str(), one.op_id, one.owner)).collect();
    assert_eq!(seen, [("parent", 1, 1), ("child", 2, 2), ("parent", 2, 1)]);
    finish(&mut consumer, &taken);
    let mut arrived = Vec::new();
    producer.completions().expect("the first").drain(&mut arrived);
    assert_eq!(arrived.len(), 2);
}
