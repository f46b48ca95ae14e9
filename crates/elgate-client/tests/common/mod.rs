//! A daemon for the client's tests: real consumers on real rings, driven step by step.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use elgate_client::{Acknowledgement, Client, ConnectOptions};
use elgate_ring::{Completion, Consumer, RingOptions, ring_path};
use elgate_types::{Level, Lsn, RouteName};
use std::path::PathBuf;
use std::time::Duration;

pub const LONG: Duration = Duration::from_secs(20);

pub struct Daemon {
    pub directory: tempfile::TempDir,
    pub path: PathBuf,
    pub consumers: Vec<Consumer>,
    next_lsn: u64,
}

impl Daemon {
    pub fn start(rings: u32) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("ring");
        let mut daemon = Self { directory, path, consumers: Vec::new(), next_lsn: 1 };
        daemon.consumers = (0..rings).map(|index| daemon.open(index, rings)).collect();
        daemon
    }

    pub fn open(&self, ring_index: u32, ring_count: u32) -> Consumer {
        let data_dir = self.directory.path().to_str().expect("UTF-8").to_owned();
        let options = RingOptions { ring_index, ring_count, data_dir, ..RingOptions::default() };
        Consumer::open(&ring_path(&self.path, ring_index), &options).expect("the ring opens")
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.path, ConnectOptions::default()).expect("the client connects")
    }

    /// Takes everything from a ring and makes it durable. Returns operation and payloads.
    pub fn serve(&mut self, ring: usize) -> Vec<(u64, String, Vec<Vec<u8>>)> {
        let consumer = &mut self.consumers[ring];
        let mut taken = Vec::new();
        let mut done = Vec::new();
        consumer
            .pop(64, &mut |submission| {
                let records = submission.records().map(<[u8]>::to_vec).collect();
                taken.push((submission.op_id, submission.route.to_owned(), records));
                let completion = Completion {
                    op_id: submission.op_id,
                    first_lsn: Lsn(self.next_lsn),
                    record_count: submission.record_count,
                    status: None,
                    level: Level::Durable,
                };
                self.next_lsn += u64::from(submission.record_count);
                done.push((submission.position, completion));
            })
            .expect("the ring is sound");
        let ring_id = consumer.ring_id();
        for (position, completion) in done {
            consumer.finish(ring_id, position, completion);
        }
        consumer.publish_completions();
        consumer.release();
        taken
    }
}

pub fn route(name: &str) -> RouteName {
    RouteName::new(name).expect("a valid name")
}

/// Waits for acknowledgements until there are as many as expected.
pub fn drain(client: &Client, expected: usize) -> Vec<Acknowledgement> {
    let mut all = Vec::new();
    while all.len() < expected {
        assert!(client.wait_acks(LONG), "{} of {expected} acknowledgements", all.len());
        client.drain(&mut all);
    }
    all
}
