//! The whole way of a record: a producer's thread, the packed ring, the shard of an embedded
//! engine, the device, and back as an acknowledgement.
//!
//! Producer and shard are pinned to different cores. The route keeps as many segments as the log
//! in `log.rs` and is warmed up in the same way. After each measurement everything that was
//! acknowledged is read back and compared.

use crate::core::{ThreadTime, spin_for};
use crate::log::{KEPT_SEGMENTS, SMALL_BYTES};
use crate::offered::{Load, Offered};
use crate::packed::Packed;
use crate::samples::{Clock, Samples, VOLUME_BYTES_MAX};
use crate::session::verify;
use elgate_client::{Acknowledgement, Client, ConnectOptions, RouteHandle, SubmitError};
use elgate_engine::{Engine, EngineConfig, cores_of_current_thread, pin_current_thread};
use elgate_io::OsPlatform;
use elgate_types::{Level, Lsn, RouteName};
use serde_json::{Value, json};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const ROUTE: &str = "bench";

/// Records of one submission at full speed: a run of ring slots that is a small part of the ring.
const RECORDS_AT_FULL_SPEED: u32 = 1_024;

/// The rate at which the shard's CPU time is measured, and the records of one submission then.
const STEADY_PER_S: f64 = 1e6;
const RECORDS_AT_STEADY_RATE: u32 = 100;

/// How long the engine may take for anything before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

pub(crate) struct EngineBench {
    engine: Engine,
    log_directory: PathBuf,
    ring: PathBuf,
    route: RouteName,
    shard_core: usize,
}

impl EngineBench {
    /// Starts the engine, and writes until its log has begun to give up old segments.
    pub(crate) fn start(
        directory: &std::path::Path,
        segment_bytes: u64,
    ) -> Result<Self, Box<dyn Error>> {
        let data = directory.join("engine");
        let ring: PathBuf = format!("/dev/shm/elgate-bench-{}", std::process::id()).into();
        let config = json!({
            "data_dir": data,
            "ring": { "path": ring, "remove_on_close": true },
            "runtime": { "mode": "pinned-sharded", "shards": 1 },
            "files": { "root": directory.join("files") },
            "routes": { ROUTE: {
                "sink": "none",
                "segment_bytes": segment_bytes,
                "retain": { "max_bytes": KEPT_SEGMENTS * segment_bytes, "max_age_s": null },
            } },
        });
        let engine = Engine::open(&EngineConfig::from_json(&config.to_string())?)?;
        let shard_core = engine.status()?.shards.first().and_then(|shard| shard.pinned_core);
        let bench = Self {
            engine,
            log_directory: data.join(ROUTE),
            ring,
            route: RouteName::new(ROUTE)?,
            shard_core: shard_core.ok_or("the kernel refuses to pin the shard to a core")?,
        };
        eprintln!("warming up the engine until segments go");
        while bench.first_kept()? == Lsn(1) {
            bench.produce(|producer| producer.full_speed(STUCK_AFTER))?;
        }
        Ok(bench)
    }

    /// As many records as go through.
    pub(crate) fn full_speed(&self, time: Duration) -> Result<Value, Box<dyn Error>> {
        let speed = self.checked(|producer| producer.full_speed(time))?;
        let records = speed.records as f64;
        Ok(json!({
            "records_per_s": records / speed.took.as_secs_f64(),
            "records_shard_ns": speed.shard.as_secs_f64() * 1e9 / records,
            "records_producer_ns": speed.producer.as_secs_f64() * 1e9 / records,
        }))
    }

    /// What a record costs the shard while a million a second are offered.
    pub(crate) fn steady_rate(&self, time: Duration) -> Result<Value, Box<dyn Error>> {
        let (mut samples, speed) = self.checked(|producer| producer.steady_rate(time))?;
        Ok(json!({
            "cpu_us_per_record": speed.shard.as_secs_f64() * 1e6 / speed.records as f64,
            "latency_1m_p50_us": samples.percentile_us(50.0),
        }))
    }

    /// Ends properly.
    pub(crate) fn close(self) -> Result<(), Box<dyn Error>> {
        self.engine.close(STUCK_AFTER)?;
        Ok(())
    }

    /// Measures, then reads back what was acknowledged.
    fn checked<T>(
        &self,
        work: impl FnOnce(&mut Producer<'_>) -> Result<T, Box<dyn Error + Send + Sync>> + Send,
    ) -> Result<T, Box<dyn Error>>
    where
        T: Send,
    {
        let first = self.next_lsn()?;
        let result = self.produce(work)?;
        let last = Lsn(self.next_lsn()?.0 - 1);
        let first = first.max(self.first_kept()?);
        verify(Arc::new(OsPlatform::new()), &self.log_directory, first..=last, SMALL_BYTES)?;
        Ok(result)
    }

    /// Runs a producer on a thread of its own, on another core than the shard's.
    fn produce<T: Send>(
        &self,
        work: impl FnOnce(&mut Producer<'_>) -> Result<T, Box<dyn Error + Send + Sync>> + Send,
    ) -> Result<T, Box<dyn Error>> {
        let shard = ThreadTime::of("elgate-shard-0")?;
        let next = self.next_lsn()?;
        let run = || {
            let other = cores_of_current_thread().into_iter().find(|core| *core != self.shard_core);
            // On a single core they share it.
            if let Some(core) = other {
                pin_current_thread(core).ok_or("the kernel refuses to pin the producer")?;
            }
            let client = Client::connect(&self.ring, ConnectOptions { wait: STUCK_AFTER })?;
            let route = client.route(&self.route);
            let mut producer = Producer {
                client: &client,
                route,
                shard: &shard,
                next: next.0,
                acknowledged: next.0,
                arrived: Vec::new(),
            };
            work(&mut producer)
        };
        let result = std::thread::scope(|scope| scope.spawn(run).join());
        match result.map_err(|_| "the producer panicked")? {
            Ok(result) => Ok(result),
            Err(error) => Err(error),
        }
    }

    fn first_kept(&self) -> Result<Lsn, Box<dyn Error>> {
        let status = self.engine.status()?;
        Ok(status.routes.first().ok_or("the route is gone")?.first_lsn)
    }

    fn next_lsn(&self) -> Result<Lsn, Box<dyn Error>> {
        let status = self.engine.status()?;
        Ok(status.routes.first().ok_or("the route is gone")?.next_lsn)
    }
}

/// What a measurement took.
struct Speed {
    records: u64,
    took: Duration,
    shard: Duration,
    producer: Duration,
}

type Produced<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The producer's thread. It is the route's only one, so it knows the number each record gets.
struct Producer<'a> {
    client: &'a Client,
    route: RouteHandle,
    shard: &'a ThreadTime,
    /// Number of the next record.
    next: u64,
    /// Every record before this one is acknowledged as durable.
    acknowledged: u64,
    arrived: Vec<Acknowledgement>,
}

impl Producer<'_> {
    fn full_speed(&mut self, time: Duration) -> Produced<Speed> {
        let mut packed = Packed::new(RECORDS_AT_FULL_SPEED);
        let records_max = (VOLUME_BYTES_MAX / SMALL_BYTES) as u64;
        let meter = Meter::start(self)?;
        while meter.clock.elapsed() < time && self.next - meter.first < records_max {
            if !self.try_submit(&mut packed)? {
                self.take_acknowledgements()?;
                self.client.wait_for_space(self.route, Duration::from_millis(10));
            }
        }
        self.drain()?;
        meter.stop(self)
    }

    /// Latencies are those of whole submissions.
    fn steady_rate(&mut self, time: Duration) -> Produced<(Samples, Speed)> {
        let mut packed = Packed::new(RECORDS_AT_STEADY_RATE);
        let each = u64::from(RECORDS_AT_STEADY_RATE);
        let per_second = STEADY_PER_S / each as f64;
        let meter = Meter::start(self)?;
        let mut offered = Offered::start(&Load { per_second, bytes: SMALL_BYTES, time });
        let mut submitted = 0;
        while !offered.is_over() {
            if submitted < offered.due() {
                submitted += usize::from(self.try_submit(&mut packed)?);
            } else if submitted < offered.total() {
                spin_for(offered.until(submitted).min(Duration::from_micros(5)));
            }
            self.take_acknowledgements()?;
            offered.complete(((self.acknowledged - meter.first) / each) as usize);
        }
        Ok((offered.into_samples(), meter.stop(self)?))
    }

    /// `false`: there is no room at the moment.
    fn try_submit(&mut self, packed: &mut Packed) -> Produced<bool> {
        let count = packed.count();
        let body = packed.numbered(self.next);
        match self.client.submit_encoded(self.route, count, body) {
            Ok(_) => {
                self.next += u64::from(count);
                Ok(true)
            }
            Err(SubmitError::Backpressure) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn drain(&mut self) -> Produced<()> {
        let clock = Clock::start();
        while self.acknowledged < self.next {
            self.client.wait_acks(Duration::from_millis(10));
            self.take_acknowledgements()?;
            if clock.elapsed() > STUCK_AFTER {
                return Err(format!("no acknowledgement for record {}", self.acknowledged).into());
            }
        }
        Ok(())
    }

    /// They come in order and without gaps, each at level durable.
    fn take_acknowledgements(&mut self) -> Produced<()> {
        self.client.drain(&mut self.arrived);
        for arrived in self.arrived.drain(..) {
            let right = arrived.status.is_none()
                && arrived.level == Level::Durable
                && arrived.first_lsn == Lsn(self.acknowledged);
            if !right {
                return Err(format!("{arrived:?} where {} is due", self.acknowledged).into());
            }
            self.acknowledged += u64::from(arrived.record_count);
        }
        Ok(())
    }
}

/// Reads the clocks before and after.
struct Meter {
    clock: Clock,
    first: u64,
    shard: Duration,
    producer: Duration,
}

impl Meter {
    fn start(producer: &Producer<'_>) -> Produced<Self> {
        Ok(Self {
            first: producer.next,
            shard: producer.shard.used()?,
            producer: ThreadTime::own().used()?,
            clock: Clock::start(),
        })
    }

    fn stop(&self, producer: &Producer<'_>) -> Produced<Speed> {
        Ok(Speed {
            took: self.clock.elapsed(),
            records: producer.next - self.first,
            shard: producer.shard.used()?.saturating_sub(self.shard),
            producer: ThreadTime::own().used()?.saturating_sub(self.producer),
        })
    }
}
