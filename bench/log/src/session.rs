//! A log on a driver of its own, driven as a shard drives it: append, hand its operations to the
//! driver, hand back the completions, until the records are durable.

use elgate_io::{
    BackendChoice, Completion, Driver, DriverOptions, Platform, Wait, open_driver, probe_commit,
};
use elgate_log::{
    AppendError, LogEvent, LogOptions, LogReader, LogWriter, ReadBatch, ReadFrom, Recovery, Source,
};
use elgate_types::{Lsn, RouteName};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Every record begins with its own number; the rest is this.
pub(crate) const NUMBER_BYTES: usize = size_of::<u64>();
pub(crate) const FILLING: u8 = 0xe1;

/// Largest record of any measurement.
pub(crate) const RECORD_BYTES_MAX: usize = 4 << 10;

/// Records of no ring.
const NO_SOURCE: Source = Source { ring_id: 0, position: 0 };

/// How long at most a chore (preparing a segment, removing one) goes unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(crate) struct Session {
    driver: Box<dyn Driver>,
    log: LogWriter,
    directory: PathBuf,
    completions: Vec<Completion>,
    payload: Vec<u8>,
    retired: u64,
    rolled_since_retired: bool,
}

/// A driver that commits in the way that is fastest on a file system, found out as an engine does
/// at its start.
pub(crate) struct TunedDriver {
    driver: Box<dyn Driver>,
    /// Small writes that are worth having under way at once, if that could be measured.
    writes_in_flight: Option<usize>,
    /// The way it commits, and what else was found.
    pub(crate) how: String,
}

impl TunedDriver {
    /// Tries out the file system of `directory`, which is created.
    pub(crate) fn open(backend: BackendChoice, directory: &Path) -> Result<Self, Box<dyn Error>> {
        let mut driver = open_driver(backend, &DriverOptions::default())?;
        std::fs::create_dir_all(directory)?;
        let probe = probe_commit(&mut *driver, directory, None)?;
        driver.set_commit(probe.commit);
        let how = format!(
            "commits with {} ({}); each of so many at once: {}",
            probe.commit.name(),
            probe.ways_text(),
            probe.depths_text()
        );
        Ok(Self { driver, writes_in_flight: probe.writes_in_flight, how })
    }
}

impl Session {
    /// Opens the log in `directory`.
    pub(crate) fn open(
        tuned: TunedDriver,
        directory: &Path,
        options: LogOptions,
    ) -> Result<(Self, Recovery), Box<dyn Error>> {
        let TunedDriver { driver, writes_in_flight, .. } = tuned;
        let small_writes_in_flight_max =
            writes_in_flight.unwrap_or(options.small_writes_in_flight_max);
        let options = LogOptions { small_writes_in_flight_max, ..options };
        let route = RouteName::new("bench")?;
        let (log, recovery) = elgate_log::open(driver.platform(), directory, &route, options)?;
        let session = Self {
            driver,
            log,
            directory: directory.to_owned(),
            completions: Vec::new(),
            payload: vec![FILLING; RECORD_BYTES_MAX],
            retired: 0,
            rolled_since_retired: false,
        };
        Ok((session, recovery))
    }

    /// Appends a record of `bytes` that carries its own number.
    pub(crate) fn append(&mut self, bytes: usize) -> Result<Lsn, AppendError> {
        let number = self.log.next_lsn().0.to_le_bytes();
        self.payload[..NUMBER_BYTES].copy_from_slice(&number);
        self.log.append(&self.payload[..bytes], NO_SOURCE, self.driver.wall_time())
    }

    /// Appends a record and waits until it is durable.
    pub(crate) fn append_durably(&mut self, bytes: usize) -> Result<(), Box<dyn Error>> {
        let lsn = self.append(bytes)?;
        while self.log.durable() < lsn {
            self.turn(Wait::Forever)?;
        }
        Ok(())
    }

    /// One turn of the loop.
    pub(crate) fn turn(&mut self, wait: Wait) -> Result<(), Box<dyn Error>> {
        self.submit();
        self.driver.poll(wait, &mut self.completions)?;
        let now = self.driver.now();
        for completion in self.completions.drain(..) {
            let token = u32::try_from(completion.token)?;
            self.log.handle(token, completion, now);
        }
        self.submit();
        while let Some(event) = self.log.poll_event() {
            match event {
                LogEvent::Parked { error } | LogEvent::Abandoned { error, .. } => {
                    return Err(error.into());
                }
                LogEvent::Retired { .. } => {
                    self.retired += 1;
                    self.rolled_since_retired = false;
                }
                LogEvent::Rolled { .. } => self.rolled_since_retired = self.retired > 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// As [`turn`](Self::turn), waiting at most `time`.
    pub(crate) fn turn_for(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        self.turn(Wait::Until(self.driver.now().after(time)))
    }

    fn submit(&mut self) {
        while let Some((token, op)) = self.log.poll_op(self.driver.now()) {
            self.driver.submit(u64::from(token), op);
        }
    }

    /// Waits until everything appended is durable.
    pub(crate) fn drain(&mut self) -> Result<(), Box<dyn Error>> {
        while self.log.durable().next() < self.log.next_lsn() {
            self.turn(Wait::Forever)?;
        }
        Ok(())
    }

    /// Waits until the log is at rest: nobody else's turn is disturbed by its chores.
    pub(crate) fn settle(&mut self) -> Result<(), Box<dyn Error>> {
        loop {
            self.turn_for(LOOK_EVERY)?;
            if self.log.is_idle() {
                return Ok(());
            }
        }
    }

    /// Whether old segments go as new ones come: the steady state of a log with retention. It is
    /// reached with the first segment entered after one was given up.
    pub(crate) fn is_steady(&self) -> bool {
        self.rolled_since_retired
    }

    pub(crate) fn durable(&self) -> Lsn {
        self.log.durable()
    }

    pub(crate) fn next_lsn(&self) -> Lsn {
        self.log.next_lsn()
    }

    /// Whether a record has not become durable yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.log.durable().next() < self.log.next_lsn()
    }

    /// Name of the backend that runs.
    pub(crate) fn backend(&self) -> &'static str {
        self.driver.info().backend
    }

    /// Reads back what was written since `first`, as far as retention has left it. All records
    /// have `bytes`. A fast wrong answer is a failure.
    pub(crate) fn verify(&self, first: Lsn, bytes: usize) -> Result<(), Box<dyn Error>> {
        let first = first.max(self.log.first_lsn());
        let last = Lsn(self.log.next_lsn().0 - 1);
        verify(self.driver.platform(), &self.directory, first..=last, bytes)
    }

    /// Ends properly.
    pub(crate) fn close(mut self) -> Result<(), Box<dyn Error>> {
        self.log.close();
        self.submit();
        while !self.log.is_idle() {
            self.turn_for(LOOK_EVERY)?;
        }
        Ok(())
    }
}

/// Reads a stretch of a log back, and compares count, order and bytes: each record has `bytes`,
/// begins with its LSN, and goes on with the filling.
pub(crate) fn verify(
    platform: Arc<dyn Platform>,
    directory: &Path,
    lsns: std::ops::RangeInclusive<Lsn>,
    bytes: usize,
) -> Result<(), Box<dyn Error>> {
    let (first, last) = lsns.into_inner();
    let filling = vec![FILLING; RECORD_BYTES_MAX];
    let mut reader = LogReader::open(platform, directory, ReadFrom::Lsn(first))?;
    let mut expected = first;
    while expected <= last {
        let batch = match reader.next_batch()? {
            ReadBatch::Records(batch) => batch,
            ReadBatch::Gap { from, to, .. } => {
                return Err(format!("records {from} to {to} cannot be read").into());
            }
            ReadBatch::CaughtUp => {
                return Err(format!("{last} is durable, the log ends before {expected}").into());
            }
        };
        let wanted = batch.records().skip_while(|record| record.lsn < first);
        for record in wanted.take_while(|record| record.lsn <= last) {
            let right = record.lsn == expected
                && record.payload.len() == bytes
                && record.payload[..NUMBER_BYTES] == expected.0.to_le_bytes()
                && record.payload[NUMBER_BYTES..] == filling[NUMBER_BYTES..bytes];
            if !right {
                return Err(format!("record {expected} is out of order or changed").into());
            }
            expected = expected.next();
        }
    }
    Ok(())
}
