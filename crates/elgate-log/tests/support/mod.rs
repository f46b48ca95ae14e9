//! A log in a simulated world, and what tests do to it.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(unreachable_pub, reason = "shared by several test crates")]

pub mod counting;

use elgate_io::sim::{FaultPlan, SimDriver, SimWorld};
use elgate_io::{Driver, OpenOptions, Platform, Wait};
use elgate_log::{
    AppendError, GapReason, LogEvent, LogOptions, LogReader, LogWriter, ReadBatch, ReadFrom,
    Recovery, Source, open,
};
use elgate_types::{Lsn, RouteName, WallTime};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const DIR: &str = "/data/orders";
/// The smallest segment there may be.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

pub fn route() -> RouteName {
    RouteName::new("orders").expect("valid")
}

pub fn small() -> LogOptions {
    LogOptions { segment_bytes: SEGMENT_BYTES, ..LogOptions::default() }
}

/// What record `lsn` holds, so that every reader can check it.
pub fn payload(lsn: u64, bytes: usize) -> Vec<u8> {
    let mut payload = vec![lsn as u8 ^ bytes as u8; bytes];
    let stamp = lsn.to_le_bytes();
    let length = stamp.len().min(bytes);
    payload[..length].copy_from_slice(&stamp[..length]);
    payload
}

/// A log and the driver that carries out its operations.
pub struct Rig {
    pub world: SimWorld,
    pub driver: SimDriver,
    pub writer: LogWriter,
    pub recovery: Recovery,
    pub events: Vec<LogEvent>,
}

impl Rig {
    pub fn new(options: LogOptions) -> Self {
        Self::open(SimWorld::new(1), options)
    }

    pub fn open(world: SimWorld, options: LogOptions) -> Self {
        Self::try_open(world, options).expect("opens")
    }

    pub fn try_open(world: SimWorld, options: LogOptions) -> Result<Self, elgate_log::OpenError> {
        let driver = world.driver();
        let (writer, recovery) = open(world.platform(), Path::new(DIR), &route(), options)?;
        Ok(Self { world, driver, writer, recovery, events: Vec::new() })
    }

    pub fn append(&mut self, bytes: usize) -> Result<Lsn, AppendError> {
        self.append_from(bytes, Source::default())
    }

    pub fn append_from(&mut self, bytes: usize, source: Source) -> Result<Lsn, AppendError> {
        let lsn = self.writer.next_lsn();
        let time = WallTime(1_000_000 + lsn.0);
        let appended = self.writer.append(&payload(lsn.0, bytes), source, time)?;
        assert_eq!(appended, lsn);
        Ok(lsn)
    }

    /// Submits what the writer wants.
    pub fn submit(&mut self) {
        while let Some((token, op)) = self.writer.poll_op(self.driver.now()) {
            self.driver.submit(u64::from(token), op);
        }
    }

    /// Submits, waits for something to happen, and handles it. `false`: nothing will happen.
    pub fn turn(&mut self) -> bool {
        self.submit();
        let busy = self.driver.in_flight() > 0;
        let wakeup = self.writer.next_wakeup();
        if !busy && wakeup.is_none() {
            return false;
        }
        let wait = wakeup.map_or(Wait::Forever, Wait::Until);
        let mut completions = Vec::new();
        self.driver.poll(wait, &mut completions).expect("the simulator polls");
        for completion in completions {
            let token = u32::try_from(completion.token).expect("a writer's token");
            self.writer.handle(token, completion, self.driver.now());
        }
        self.submit();
        while let Some(event) = self.writer.poll_event() {
            self.events.push(event);
        }
        true
    }

    /// Turns until `done`, at most so often as never happens.
    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            assert!(self.turn(), "nothing left to do, waiting for {what}");
        }
        panic!("waited in vain for {what}");
    }

    pub fn until_durable(&mut self, lsn: Lsn) {
        self.until(&format!("record {lsn} to be durable"), |rig| rig.writer.durable() >= lsn);
    }

    /// Appends and waits for it.
    pub fn commit(&mut self, bytes: usize) -> Lsn {
        let lsn = self.append(bytes).expect("taken");
        self.until_durable(lsn);
        lsn
    }

    pub fn close(&mut self) {
        self.writer.close();
        self.until("the log to close", |rig| rig.writer.is_idle());
    }

    /// Loses the process (or the power) and opens the log again.
    pub fn crash(self, power: bool, options: LogOptions) -> Self {
        let world = self.world.clone();
        drop(self);
        if power {
            world.power_cut();
        } else {
            lose_process(&world);
        }
        Self::open(world, options)
    }

    pub fn segments(&self) -> Vec<PathBuf> {
        segments(&self.world)
    }

    pub fn read(&self) -> Vec<Found> {
        read_all(self.world.platform(), ReadFrom::Start)
    }
}

/// The process dies, and its last writes come to their end: whoever has the log's locks next has
/// waited for that.
pub fn lose_process(world: &SimWorld) {
    world.process_crash();
    while let Some(at) = world.next_event() {
        world.advance_to(at);
    }
}

pub fn segments(world: &SimWorld) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = world
        .platform()
        .list(Path::new(DIR))
        .expect("lists")
        .into_iter()
        .filter(|entry| entry.name.ends_with(".wal"))
        .map(|entry| Path::new(DIR).join(entry.name))
        .collect();
    names.sort();
    names
}

/// What a reader came across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Records from, to, with the right content.
    Records(u64, u64),
    Gap(u64, u64, GapReason),
}

pub fn read_all(platform: Arc<dyn Platform>, from: ReadFrom) -> Vec<Found> {
    let mut reader = LogReader::open(platform, Path::new(DIR), from).expect("a log");
    read_on(&mut reader)
}

/// Reads until caught up; checks every record's content; joins adjacent ranges.
pub fn read_on(reader: &mut LogReader) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for _ in 0..1_000_000 {
        match reader.next_batch().expect("reads") {
            ReadBatch::CaughtUp => return found,
            ReadBatch::Gap { from, to, reason } => found.push(Found::Gap(from.0, to.0, reason)),
            ReadBatch::Records(batch) => {
                let mut next = batch.first_lsn().0;
                for record in &batch {
                    assert_eq!(record.lsn.0, next, "contiguous");
                    assert_eq!(
                        record.payload,
                        payload(next, record.payload.len()),
                        "record {next}"
                    );
                    next += 1;
                }
                assert_eq!(next, batch.last_lsn().0 + 1, "complete");
                match found.last_mut() {
                    Some(Found::Records(_, to)) if *to + 1 == batch.first_lsn().0 => *to = next - 1,
                    _ => found.push(Found::Records(batch.first_lsn().0, next - 1)),
                }
            }
        }
    }
    panic!("a reader that never catches up");
}

/// Changes bytes of a file in place.
pub fn patch(world: &SimWorld, path: &Path, offset: u64, bytes: &[u8]) {
    let platform = world.platform();
    let options = OpenOptions { read: true, write: true, ..Default::default() };
    let file = platform.open(path, options).expect("opens");
    platform.write_at(&file, offset, bytes, true).expect("writes");
}

pub fn flip_bit(world: &SimWorld, path: &Path, bit: u64) {
    let platform = world.platform();
    let options = OpenOptions { read: true, write: true, ..Default::default() };
    let file = platform.open(path, options).expect("opens");
    let mut byte = [0];
    platform.read_at(&file, bit / 8, &mut byte).expect("reads");
    byte[0] ^= 1 << (bit % 8);
    platform.write_at(&file, bit / 8, &byte, true).expect("writes");
}

/// Where the batches of a segment are: `(offset, bytes, first LSN, records)`, by their magic.
pub fn batches(world: &SimWorld, path: &Path) -> Vec<(u64, u64, u64, u32)> {
    let bytes = world.file_bytes(path).expect("reads");
    let mut found = Vec::new();
    let mut at = 4_096;
    while at + 64 <= bytes.len() {
        if &bytes[at..at + 4] != b"EBAT" {
            at += 4_096;
            continue;
        }
        let u32_at = |offset: usize| {
            u32::from_le_bytes(bytes[at + offset..at + offset + 4].try_into().expect("four"))
        };
        let first = u64::from_le_bytes(bytes[at + 0x10..at + 0x18].try_into().expect("eight"));
        let length = u64::from(u32_at(0x08));
        found.push((at as u64, length, first, u32_at(0x18)));
        at += length as usize;
    }
    found
}

pub fn no_faults(world: &SimWorld) {
    world.set_faults(FaultPlan::default());
}
