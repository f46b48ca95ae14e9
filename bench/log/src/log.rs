//! The log through its Rust interface, in the steady state of a log with retention, where old
//! segments go as new ones come; and beside it, one that only grows.
//!
//! After each measurement what it wrote is read back and compared, before the figure counts.

use crate::core::{on_one_core, spin_for};
use crate::offered::{Load, Offered};
use crate::samples::{Clock, Samples, VOLUME_BYTES_MAX};
use crate::session::{RECORD_BYTES_MAX, Session, TunedDriver};
use elgate_io::BackendChoice;
use elgate_log::{AppendError, LogOptions, Retention};
use elgate_types::Lsn;
use elgate_types::limits::RING_BATCH_SLOTS_MAX;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const SMALL_BYTES: usize = 128;
const LARGE_BYTES: usize = RECORD_BYTES_MAX;

/// Appends outstanding in the measurement between one and as many as fit.
const DEPTH: usize = 16;

/// Segments that retention leaves.
pub(crate) const KEPT_SEGMENTS: u64 = 8;

/// As much as a shard takes from a full ring before it turns to its other work.
const TURN_BYTES_MAX: usize = RING_BATCH_SLOTS_MAX * 4096;

pub(crate) struct LogBench {
    backend: BackendChoice,
    directory: PathBuf,
    segment_bytes: u64,
    steady: Option<Session>,
    /// How its driver commits.
    how: String,
}

impl LogBench {
    pub(crate) fn new(backend: BackendChoice, directory: PathBuf, segment_bytes: u64) -> Self {
        Self { backend, directory, segment_bytes, steady: None, how: String::new() }
    }

    /// Reaches the steady state.
    pub(crate) fn prepare(&mut self) -> Result<Value, Box<dyn Error>> {
        self.measure(SMALL_BYTES, |_| Ok(()))?;
        Ok(json!({ "how": self.how }))
    }

    /// Small records: each durable before the next, then 16 outstanding.
    pub(crate) fn single(&mut self, time: Duration) -> Result<Value, Box<dyn Error>> {
        let mut single = self.measure(SMALL_BYTES, |session| {
            Samples::collect(time, usize::MAX, || session.append_durably(SMALL_BYTES))
        })?;
        let (mut deep, deep_per_s) =
            self.measure(SMALL_BYTES, |session| outstanding(session, DEPTH, time))?;
        Ok(json!({
            "append_p50_us": single.percentile_us(50.0),
            "append_p95_us": single.percentile_us(95.0),
            "append_mean_us": single.mean_us(),
            "append_per_s": single.per_second(),
            "append_16_p50_us": deep.percentile_us(50.0),
            "append_16_per_s": deep_per_s,
            "latency_us": single.distribution(),
        }))
    }

    /// A load in an open loop, on one core.
    pub(crate) fn paced(&mut self, load: &Load) -> Result<Samples, Box<dyn Error>> {
        self.measure(load.bytes, |session| on_one_core(|| paced(session, load))?)
    }

    /// Large records as fast as they go, into segments that are used again.
    pub(crate) fn volume(&mut self, time: Duration) -> Result<Value, Box<dyn Error>> {
        let bytes_per_s = self.measure(LARGE_BYTES, |session| bulk(session, time))?;
        Ok(json!({ "bulk_mb_s": bytes_per_s / 1e6 }))
    }

    /// The same in a new log that keeps everything, so that every segment is a new file.
    pub(crate) fn growing(&self, time: Duration) -> Result<Value, Box<dyn Error>> {
        let directory = self.directory.join("growing");
        let options = self.options(None);
        let driver = TunedDriver::open(self.backend, &self.directory)?;
        let (mut session, _) = Session::open(driver, &directory, options)?;
        let bytes_per_s = bulk(&mut session, time)?;
        session.verify(Lsn(1), LARGE_BYTES)?;
        session.close()?;
        std::fs::remove_dir_all(&directory)?;
        Ok(json!({ "bulk_growing_mb_s": bytes_per_s / 1e6 }))
    }

    /// Measures on the log in its steady state, and checks what was written.
    fn measure<T>(
        &mut self,
        bytes: usize,
        work: impl FnOnce(&mut Session) -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        let mut session = match self.steady.take() {
            Some(session) => session,
            None => self.open_steady()?,
        };
        let first = session.next_lsn();
        let figure = work(&mut session)?;
        session.drain()?;
        session.settle()?;
        if session.next_lsn() > first {
            session.verify(first, bytes)?;
        }
        self.steady = Some(session);
        Ok(figure)
    }

    /// Writes until the log has begun to give up old segments.
    fn open_steady(&mut self) -> Result<Session, Box<dyn Error>> {
        let directory = self.directory.join("steady");
        let options = self.options(Some(KEPT_SEGMENTS * self.segment_bytes));
        let driver = TunedDriver::open(self.backend, &self.directory)?;
        self.how.clone_from(&driver.how);
        let (mut session, _) = Session::open(driver, &directory, options)?;
        eprintln!("warming up the log on {} until segments go", session.backend());
        while !session.is_steady() {
            append_a_turn(&mut session, LARGE_BYTES, usize::MAX)?;
            session.turn_for(Duration::from_millis(1))?;
        }
        session.drain()?;
        session.settle()?;
        Ok(session)
    }

    fn options(&self, max_bytes: Option<u64>) -> LogOptions {
        let retain = Retention { max_bytes, max_age: None };
        LogOptions { segment_bytes: self.segment_bytes, retain, ..LogOptions::default() }
    }
}

/// Appends up to `count_max` records, as much as a shard takes between two turns. Fewer, when the
/// log has a backlog.
fn append_a_turn(
    session: &mut Session,
    bytes: usize,
    count_max: usize,
) -> Result<usize, Box<dyn Error>> {
    let count_max = count_max.min(TURN_BYTES_MAX / bytes);
    for count in 0..count_max {
        match session.append(bytes) {
            Ok(_) => {}
            Err(AppendError::Backlogged { .. }) => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count_max)
}

/// Returns payload bytes a second, from the first append until the last is durable.
pub(crate) fn bulk(session: &mut Session, time: Duration) -> Result<f64, Box<dyn Error>> {
    let per_turn = TURN_BYTES_MAX / LARGE_BYTES;
    let clock = Clock::start();
    let mut bytes = 0;
    while clock.elapsed() < time && bytes < VOLUME_BYTES_MAX {
        let count = append_a_turn(session, LARGE_BYTES, per_turn)?;
        bytes += count * LARGE_BYTES;
        let wait = if count == per_turn { Duration::ZERO } else { Duration::from_millis(100) };
        session.turn_for(wait)?;
    }
    session.drain()?;
    Ok(bytes as f64 / clock.elapsed().as_secs_f64())
}

/// Keeps `depth` small records outstanding. Returns their latencies, and how many a second.
fn outstanding(
    session: &mut Session,
    depth: usize,
    time: Duration,
) -> Result<(Samples, f64), Box<dyn Error>> {
    let clock = Clock::start();
    let mut samples = Samples::with_capacity(1 << 20);
    let mut since = VecDeque::with_capacity(depth);
    let mut through = session.durable();
    while clock.elapsed() < time || !since.is_empty() {
        while since.len() < depth && clock.elapsed() < time {
            session.append(SMALL_BYTES)?;
            since.push_back(clock.elapsed());
        }
        session.turn_for(Duration::from_millis(100))?;
        let now = clock.elapsed();
        let durable = session.durable();
        for begin in since.drain(..(durable.0 - through.0) as usize) {
            samples.push(now - begin);
        }
        through = durable;
    }
    let per_s = samples.count() as f64 / clock.elapsed().as_secs_f64();
    Ok((samples, per_s))
}

/// A load in an open loop. While a write is under way, sleeps until it is back or the next record
/// is due, as a shard sleeps until a producer wakes it; with nothing under way, waits spinning.
fn paced(session: &mut Session, load: &Load) -> Result<Samples, Box<dyn Error>> {
    let first = session.next_lsn();
    let mut appended = 0;
    let mut offered = Offered::start(load);
    while !offered.is_over() {
        let due = offered.due();
        appended += append_a_turn(session, load.bytes, due - appended)?;
        if appended < due {
            session.turn_for(Duration::ZERO)?;
        } else if appended == offered.total() {
            session.turn_for(Duration::from_millis(100))?;
        } else if session.is_busy() {
            session.turn_for(offered.until(appended))?;
        } else {
            spin_for(offered.until(appended));
            continue;
        }
        offered.complete((session.durable().0 + 1 - first.0) as usize);
    }
    Ok(offered.into_samples())
}
