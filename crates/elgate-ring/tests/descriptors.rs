//! A consumer that runs out of descriptors, and gets some back.

mod common;

use common::{Fixture, finish, pop_all, route};
use elgate_ring::Producer;
use std::fs::File;

/// In a file of its own: a limit of the process would be felt by other tests.
#[test]
fn completions_wait_for_a_descriptor_and_hold_none() {
    let fixture = Fixture::new();
    let mut consumer = fixture.consumer();
    let producers: Vec<Producer> = (0..8).map(|_| fixture.producer()).collect();
    let mut readers: Vec<_> =
        producers.iter().map(|producer| producer.completions().expect("the first")).collect();
    let submit = |op_id: u64| {
        for producer in &producers {
            producer.submit(&route("r"), op_id, &[b"x"]).expect("submits");
        }
    };
    submit(1);
    let mut hoard = Vec::new();
    lower_limit();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let taken = pop_all(&mut consumer);
    finish(&mut consumer, &taken);
    let mut read = Vec::new();
    assert!(readers.iter_mut().all(|reader| reader.drain(&mut read) == 0));

    // One descriptor is enough for all of them.
    hoard.pop();
    submit(2);
    let taken = pop_all(&mut consumer);
    finish(&mut consumer, &taken);
    for reader in &mut readers {
        read.clear();
        reader.drain(&mut read);
        let numbers: Vec<u64> = read.iter().map(|(_, completion)| completion.op_id).collect();
        assert_eq!(numbers, [1, 2]);
    }
}

fn lower_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable rlimit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_cur.min(200);
    // SAFETY: `limit` is a valid rlimit, below the hard limit.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}
