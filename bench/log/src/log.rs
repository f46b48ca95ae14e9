//! The log through its Rust interface, driven as a shard drives it: append, hand its operations to
//! the driver, hand back the completions, until the record is durable.
//!
//! Each round has a log of its own, which is read back and compared before the round counts.

use crate::samples::{Clock, Samples, VOLUME_BYTES_MAX};
use elgate_io::{BackendChoice, Completion, Driver, DriverOptions, Wait, open_driver};
use elgate_log::{
    AppendError, LogEvent, LogOptions, LogReader, LogWriter, ReadBatch, ReadFrom, Source,
};
use elgate_types::limits::RING_BATCH_SLOTS_MAX;
use elgate_types::{Lsn, RouteName};
use serde_json::{Value, json};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SMALL_BYTES: usize = 128;
const LARGE_BYTES: usize = 4 << 10;

/// Every record begins with its own LSN; the rest is this.
const NUMBER_BYTES: usize = size_of::<u64>();
const FILLING: u8 = 0xe1;

/// Records of no ring.
const NO_SOURCE: Source = Source { ring_id: 0, position: 0 };

pub(crate) struct LogBench {
    driver: Box<dyn Driver>,
    directory: PathBuf,
}

impl LogBench {
    /// The backend is the one that the engine would use; `ELGATE_BACKEND` is not asked.
    pub(crate) fn prepare(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let driver = open_driver(BackendChoice::Auto, &DriverOptions::default())?;
        Ok(Self { driver, directory: directory.join("log") })
    }

    /// Small records, each durable before the next.
    pub(crate) fn single(&mut self, time: Duration) -> Result<Value, Box<dyn Error>> {
        let mut samples = self.round(|round| {
            Samples::collect(time, usize::MAX, || round.append_durably(SMALL_BYTES))
        })?;
        Ok(json!({
            "append_p50_us": samples.percentile_us(50),
            "append_p95_us": samples.percentile_us(95),
            "append_mean_us": samples.mean_us(),
            "append_per_s": samples.per_second(),
        }))
    }

    /// Large records, as fast as they go.
    pub(crate) fn volume(&mut self, time: Duration) -> Result<Value, Box<dyn Error>> {
        let bytes_per_s = self.round(|round| round.append_bulk(time))?;
        Ok(json!({ "bulk_mb_s": bytes_per_s / 1e6 }))
    }

    fn round<T>(
        &mut self,
        measure: impl FnOnce(&mut Round<'_>) -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        let mut round = Round::open(self.driver.as_mut(), &self.directory)?;
        // The first record waits for the first segment.
        round.append_durably(SMALL_BYTES)?;
        let figure = measure(&mut round)?;
        let lengths = round.close()?;
        verify(self.driver.as_ref(), &self.directory, &lengths)?;
        std::fs::remove_dir_all(&self.directory)?;
        Ok(figure)
    }
}

struct Round<'a> {
    driver: &'a mut dyn Driver,
    log: LogWriter,
    completions: Vec<Completion>,
    payload: Vec<u8>,
    /// Length of each record, in order of LSN.
    lengths: Vec<usize>,
}

impl<'a> Round<'a> {
    fn open(driver: &'a mut dyn Driver, directory: &Path) -> Result<Self, Box<dyn Error>> {
        let route = RouteName::new("bench")?;
        let (log, _) =
            elgate_log::open(driver.platform(), directory, &route, LogOptions::default())?;
        let payload = vec![FILLING; LARGE_BYTES];
        Ok(Self { driver, log, completions: Vec::new(), payload, lengths: Vec::new() })
    }

    /// Appends a record that carries its own number.
    fn append(&mut self, bytes: usize) -> Result<Lsn, AppendError> {
        let expected = self.log.next_lsn();
        self.payload[..NUMBER_BYTES].copy_from_slice(&expected.0.to_le_bytes());
        let lsn = self.log.append(&self.payload[..bytes], NO_SOURCE, self.driver.wall_time())?;
        self.lengths.push(bytes);
        Ok(lsn)
    }

    fn append_durably(&mut self, bytes: usize) -> Result<(), Box<dyn Error>> {
        let lsn = self.append(bytes)?;
        while self.log.durable() < lsn {
            self.turn(Wait::Forever)?;
        }
        Ok(())
    }

    /// As many records between two turns as a shard takes from its ring. Returns payload bytes a
    /// second, from the first append until the last is durable.
    fn append_bulk(&mut self, time: Duration) -> Result<f64, Box<dyn Error>> {
        let clock = Clock::start();
        let mut bytes = 0;
        while clock.elapsed() < time && bytes < VOLUME_BYTES_MAX {
            let mut wait = Wait::Never;
            for _ in 0..RING_BATCH_SLOTS_MAX {
                match self.append(LARGE_BYTES) {
                    Ok(_) => bytes += LARGE_BYTES,
                    Err(AppendError::Backlogged { .. }) => {
                        wait = Wait::Forever;
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            self.turn(wait)?;
        }
        while self.log.durable().next() < self.log.next_lsn() {
            self.turn(Wait::Forever)?;
        }
        Ok(bytes as f64 / clock.elapsed().as_secs_f64())
    }

    fn turn(&mut self, wait: Wait) -> Result<(), Box<dyn Error>> {
        self.submit();
        self.driver.poll(wait, &mut self.completions)?;
        let now = self.driver.now();
        for completion in self.completions.drain(..) {
            let token = u32::try_from(completion.token)?;
            self.log.handle(token, completion, now);
        }
        self.submit();
        while let Some(event) = self.log.poll_event() {
            if let LogEvent::Parked { error } | LogEvent::Abandoned { error, .. } = event {
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn submit(&mut self) {
        while let Some((token, op)) = self.log.poll_op(self.driver.now()) {
            self.driver.submit(u64::from(token), op);
        }
    }

    fn close(mut self) -> Result<Vec<usize>, Box<dyn Error>> {
        self.log.close();
        self.submit();
        while !self.log.is_idle() {
            self.turn(Wait::Forever)?;
        }
        Ok(self.lengths)
    }
}

/// A fast wrong answer is a failure.
fn verify(driver: &dyn Driver, directory: &Path, lengths: &[usize]) -> Result<(), Box<dyn Error>> {
    let mut reader = LogReader::open(driver.platform(), directory, ReadFrom::Start)?;
    let mut count = 0;
    loop {
        let batch = match reader.next_batch()? {
            ReadBatch::Records(batch) => batch,
            ReadBatch::Gap { from, to, .. } => {
                return Err(format!("records {from} to {to} cannot be read").into());
            }
            ReadBatch::CaughtUp => break,
        };
        for record in &batch {
            let (number, filling) = record.payload.split_at(NUMBER_BYTES);
            let right = lengths.get(count) == Some(&record.payload.len())
                && record.lsn.0 == count as u64 + 1
                && number == record.lsn.0.to_le_bytes()
                && filling.iter().all(|&byte| byte == FILLING);
            if !right {
                return Err(format!("record {} is out of order or changed", record.lsn).into());
            }
            count += 1;
        }
    }
    if count != lengths.len() {
        return Err(format!("{} records are durable, {count} are there", lengths.len()).into());
    }
    Ok(())
}
