//! What the ring's tests share: a ring in a directory of its own, owned copies of submissions, raw
//! access to the file, and producers in processes of their own.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use elgate_ring::{Completion, Consumer, Producer, RingOptions, RingPoisoned};
use elgate_types::{Level, Lsn, RouteName};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const SLOTS: usize = 1_020;
pub const CONTROL_BYTES: u64 = 16 * 1024;
pub const SLOT_BYTES: u64 = 4_096;

/// A directory with a ring in it.
pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub path: PathBuf,
}

impl Fixture {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("ring");
        Self { directory, path }
    }

    pub fn consumer(&self) -> Consumer {
        Consumer::open(&self.path, &options()).expect("the ring opens")
    }

    pub fn producer(&self) -> Producer {
        Producer::attach(&self.path).expect("the producer attaches")
    }

    /// The ring file, to read and write behind everybody's back.
    pub fn file(&self) -> File {
        File::options().read(true).write(true).open(&self.path).expect("the ring file exists")
    }

    /// Names in the directory, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).expect("the directory lists");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }
}

pub fn options() -> RingOptions {
    RingOptions { data_dir: "/var/lib/elgate".to_owned(), ..RingOptions::default() }
}

pub fn route(name: &str) -> RouteName {
    RouteName::new(name).expect("a valid name")
}

/// A submission that outlives the call it was handed over in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub position: u64,
    pub slots: u32,
    pub owner: u16,
    pub op_id: u64,
    pub route: String,
    pub records: Vec<Vec<u8>>,
}

pub fn try_pop(consumer: &mut Consumer, max: usize) -> Result<Vec<Taken>, RingPoisoned> {
    let mut all = Vec::new();
    consumer.pop(max, &mut |submission| {
        let records: Vec<Vec<u8>> = submission.records().map(<[u8]>::to_vec).collect();
        assert_eq!(records.len(), submission.record_count as usize);
        all.push(Taken {
            position: submission.position,
            slots: submission.slots,
            owner: submission.owner,
            op_id: submission.op_id,
            route: submission.route.to_owned(),
            records,
        });
    })?;
    Ok(all)
}

/// Everything that can be taken now.
pub fn pop_all(consumer: &mut Consumer) -> Vec<Taken> {
    let mut all = Vec::new();
    loop {
        let some = try_pop(consumer, 64).expect("the ring is sound");
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

pub fn completion(op_id: u64) -> Completion {
    Completion {
        op_id,
        first_lsn: Lsn(op_id + 1_000),
        record_count: 1,
        status: None,
        level: Level::Durable,
    }
}

/// Completes submissions and gives their slots back.
pub fn finish(consumer: &mut Consumer, taken: &[Taken]) {
    let ring_id = consumer.ring_id();
    for one in taken {
        consumer.finish(ring_id, one.position, completion(one.op_id));
    }
    consumer.publish_completions();
    consumer.release();
}

/// Sets aside and gives the slots back.
pub fn set_aside(consumer: &mut Consumer, taken: &[Taken]) {
    for one in taken {
        consumer.set_aside(consumer.ring_id(), one.position).expect("there is room");
    }
    consumer.publish_completions();
    consumer.release();
}

/// The file of what is set aside.
pub fn aside_file(fixture: &Fixture) -> File {
    let path = fixture.directory.path().join("ring.aside");
    File::options().read(true).write(true).open(path).expect("something is set aside")
}

/// Offsets of the entries in the file of what is set aside.
pub fn entries(file: &File) -> Vec<u64> {
    let mut at = 0x40;
    std::iter::from_fn(|| {
        let entry = at;
        at += read_u64(file, at + 8) & 0xffff_ffff;
        (read_u64(file, entry) != 0).then_some(entry)
    })
    .collect()
}

pub fn slot_offset(position: u64) -> u64 {
    CONTROL_BYTES + position % SLOTS as u64 * SLOT_BYTES
}

pub fn read_u64(file: &File, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset).expect("reads");
    u64::from_le_bytes(bytes)
}

pub fn write_u64(file: &File, offset: u64, value: u64) {
    file.write_all_at(&value.to_le_bytes(), offset).expect("writes");
}

/// A producer in a process of its own: runs the test `role` of this same test binary.
pub fn spawn_role(role: &str, ring: &Path, variables: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().expect("this binary has a path"))
        .args(["--exact", role, "--nocapture", "--test-threads=1"])
        .env("RING_OF_ROLE", ring)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test binary starts")
}

/// In a role: the ring to attach to. `None` when the role is run as an ordinary test, in which it
/// has nothing to do.
pub fn ring_of_role() -> Option<PathBuf> {
    std::env::var_os("RING_OF_ROLE").map(PathBuf::from)
}
