//! fjall as a durable queue: keys count up, every write is synced before it counts.
//!
//! `elgate-bench-fjall DIRECTORY` reads one request per line and answers each with one line of
//! JSON: `single SECONDS` (records of 128 bytes one at a time) or `volume SECONDS` (a thousand per
//! batch). At the end of its input it reads everything back and compares count, order and bytes.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use fjall::{Config, Keyspace, PartitionCreateOptions, PartitionHandle, PersistMode};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const RECORD_BYTES: usize = 128;
const NUMBER_BYTES: usize = size_of::<u64>();
const FILLING: u8 = 0xe1;
const RECORDS_PER_BATCH: u64 = 1_000;

/// At which percentages a distribution is handed out.
const QUANTILES: [f64; 25] = [
    0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0, 65.0,
    70.0, 75.0, 80.0, 85.0, 90.0, 95.0, 98.0, 99.0, 99.9,
];

struct Peer {
    keyspace: Keyspace,
    records: PartitionHandle,
    next: u64,
}

impl Peer {
    fn open(directory: &str) -> Result<Self, Box<dyn Error>> {
        let keyspace = Config::new(directory).open()?;
        let records = keyspace.open_partition("records", PartitionCreateOptions::default())?;
        Ok(Self { keyspace, records, next: 0 })
    }

    fn single(&mut self, time: Duration) -> Result<Value, Box<dyn Error>> {
        let mut samples = Vec::with_capacity(1 << 16);
        let begin = Instant::now();
        let mut before = begin;
        while samples.is_empty() || before - begin < time {
            let (key, payload) = self.record();
            self.records.insert(key, payload)?;
            self.keyspace.persist(PersistMode::SyncData)?;
            let after = Instant::now();
            samples.push((after - before).as_secs_f64() * 1e6);
            before = after;
        }
        let per_s = samples.len() as f64 / (before - begin).as_secs_f64();
        samples.sort_unstable_by(f64::total_cmp);
        let at = |percent: f64| samples[((samples.len() - 1) as f64 * percent / 100.0) as usize];
        Ok(json!({
            "append_p50_us": at(50.0),
            "append_p95_us": at(95.0),
            "append_per_s": per_s,
            "latency_us": QUANTILES.map(|percent| json!([percent, at(percent)])).to_vec(),
        }))
    }

    fn volume(&mut self, time: Duration) -> Result<Value, Box<dyn Error>> {
        let begin = Instant::now();
        let mut count = 0;
        while count == 0 || begin.elapsed() < time {
            let mut batch = self.keyspace.batch().durability(Some(PersistMode::SyncData));
            for _ in 0..RECORDS_PER_BATCH {
                let (key, payload) = self.record();
                batch.insert(&self.records, key, payload);
            }
            batch.commit()?;
            count += RECORDS_PER_BATCH;
        }
        Ok(json!({ "append_many_per_s": count as f64 / begin.elapsed().as_secs_f64() }))
    }

    fn record(&mut self) -> ([u8; NUMBER_BYTES], [u8; RECORD_BYTES]) {
        let mut payload = [FILLING; RECORD_BYTES];
        payload[..NUMBER_BYTES].copy_from_slice(&self.next.to_le_bytes());
        let key = self.next.to_be_bytes();
        self.next += 1;
        (key, payload)
    }

    /// A fast wrong answer is a failure.
    fn verify(&self) -> Result<(), Box<dyn Error>> {
        let mut expected = 0_u64;
        for found in self.records.iter() {
            let (key, payload) = found?;
            let right = key[..] == expected.to_be_bytes()
                && payload.len() == RECORD_BYTES
                && payload[..NUMBER_BYTES] == expected.to_le_bytes()
                && payload[NUMBER_BYTES..].iter().all(|&byte| byte == FILLING);
            if !right {
                return Err(format!("record {expected} is missing or changed").into());
            }
            expected += 1;
        }
        if expected != self.next {
            return Err(format!("{} records are durable, {expected} are there", self.next).into());
        }
        Ok(())
    }
}

fn serve(directory: &str) -> Result<(), Box<dyn Error>> {
    let mut peer = Peer::open(directory)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (request, seconds) = line.split_once(' ').unwrap_or((&line, ""));
        let time = Duration::try_from_secs_f64(seconds.parse()?)?;
        let answer = match request {
            "single" => peer.single(time)?,
            "volume" => peer.volume(time)?,
            _ => return Err(format!("unknown request {line:?}").into()),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    peer.verify()
}

fn main() -> ExitCode {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: elgate-bench-fjall DIRECTORY");
        return ExitCode::from(2);
    };
    match serve(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("elgate-bench-fjall: {error}");
            ExitCode::FAILURE
        }
    }
}
