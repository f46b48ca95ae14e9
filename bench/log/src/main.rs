//! Measures the log, the engine, and the bare device beside them, when told to by bench/run.mjs.
//!
//! `elgate-bench-log DIRECTORY SEGMENT_MIB OPEN_MIB` reads one request per line and answers each
//! with one line of JSON, so that its rounds alternate with those of its peers in other processes:
//!
//! | request | answer |
//! |---|---|
//! | `backends` | which I/O backends run here, and why others do not |
//! | `floor-single SECONDS` | bare 4 KiB writes, one at a time, then four |
//! | `floor-paced RATE BYTES SECONDS` | bare writes of what comes due, in an open loop |
//! | `floor-volume SECONDS` | bare 256 KiB writes |
//! | `log-single BACKEND SECONDS` | 128-byte records, each durable before the next; then 16 at once |
//! | `log-paced BACKEND RATE BYTES SECONDS` | records in an open loop |
//! | `log-volume BACKEND SECONDS` | 4 KiB records as fast as they go, segments used again |
//! | `log-growing BACKEND SECONDS` | the same, nothing ever removed |
//! | `engine-paced SECONDS` | a million records a second through the ring of an engine |
//! | `engine-volume SECONDS` | as many as go through |
//! | `crash` | a log of OPEN_MIB whose writer is killed (the first time; then more of it) |
//! | `open` | opening that |
//! | `rest SECONDS` | waits until the device is as fast as it was at best, at most so long |
//! | `log-prepare BACKEND`, `engine-prepare` | reach the steady state |
//!
//! `elgate-bench-log --write DIRECTORY BYTES` is that writer.
//!
//! | file | what it is |
//! |---|---|
//! | `floor.rs` | the bare device |
//! | `session.rs`, `log.rs` | the log through its Rust interface |
//! | `packed.rs`, `engine.rs` | producer, ring, engine |
//! | `reopen.rs` | the killed writer |
//! | `samples.rs`, `offered.rs`, `core.rs` | time: latencies, open loops, cores |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to its user")]

mod core;
mod engine;
mod floor;
mod log;
mod offered;
mod packed;
mod reopen;
mod samples;
mod session;

use crate::core::wake_on_time;
use elgate_io::{BackendChoice, DriverOptions, open_driver};
use engine::EngineBench;
use floor::Floor;
use log::LogBench;
use offered::Load;
use reopen::Reopen;
use samples::Samples;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

const USAGE: &str = "usage: elgate-bench-log DIRECTORY SEGMENT_MIB OPEN_MIB";

/// Every backend that an engine may be told to use.
const BACKENDS: [&str; 3] = ["uring", "poll", "tokio-uring"];

struct Bench {
    directory: PathBuf,
    segment_bytes: u64,
    floor: Floor,
    /// By backend, made when first asked for.
    logs: BTreeMap<String, LogBench>,
    engine: Option<EngineBench>,
    reopen: Reopen,
}

impl Bench {
    fn answer(&mut self, request: &str) -> Result<Value, Box<dyn Error>> {
        let words: Vec<&str> = request.split_whitespace().collect();
        match *words.as_slice() {
            ["backends"] => Ok(backends()),
            ["floor-single", time] => {
                let mut figures = self.floor.single(seconds(time)?)?;
                merge(&mut figures, self.floor.overlapping(seconds(time)?)?);
                Ok(figures)
            }
            ["floor-paced", rate, bytes, time] => {
                Ok(latencies(self.floor.paced(&load(rate, bytes, time)?)?))
            }
            ["floor-volume", time] => Ok(self.floor.volume(seconds(time)?)?),
            ["log-single", backend, time] => self.log(backend)?.single(seconds(time)?),
            ["log-paced", backend, rate, bytes, time] => {
                Ok(latencies(self.log(backend)?.paced(&load(rate, bytes, time)?)?))
            }
            ["log-volume", backend, time] => self.log(backend)?.volume(seconds(time)?),
            ["log-growing", backend, time] => self.log(backend)?.growing(seconds(time)?),
            ["engine-paced", time] => self.engine()?.steady_rate(seconds(time)?),
            ["engine-volume", time] => self.engine()?.full_speed(seconds(time)?),
            ["crash"] => self.reopen.crash(),
            ["open"] => self.reopen.measure(),
            ["rest", time] => Ok(self.floor.rest(seconds(time)?)?),
            ["log-prepare", backend] => self.log(backend)?.prepare(),
            ["engine-prepare"] => {
                self.engine()?;
                Ok(json!({}))
            }
            _ => Err(format!("unknown request {request:?}").into()),
        }
    }

    fn log(&mut self, backend: &str) -> Result<&mut LogBench, Box<dyn Error>> {
        if !self.logs.contains_key(backend) {
            let directory = self.directory.join(format!("log-{backend}"));
            let bench = LogBench::new(choice(backend)?, directory, self.segment_bytes);
            self.logs.insert(backend.into(), bench);
        }
        self.logs.get_mut(backend).ok_or_else(|| "it was put there".into())
    }

    fn engine(&mut self) -> Result<&EngineBench, Box<dyn Error>> {
        let engine = match self.engine.take() {
            Some(engine) => engine,
            None => EngineBench::start(&self.directory, self.segment_bytes)?,
        };
        Ok(self.engine.insert(engine))
    }
}

/// By the name it has in the configuration. A backend that this build lacks is an error.
fn choice(backend: &str) -> Result<BackendChoice, Box<dyn Error>> {
    serde_json::from_value(backend.into())
        .map_err(|_| format!("built without the backend {backend}").into())
}

/// `{"auto": NAME, "uring": null, "poll": "why not", ...}`
fn backends() -> Value {
    let trial = |name: &str| -> Result<&'static str, String> {
        let choice = choice(name).map_err(|error| error.to_string())?;
        let driver = open_driver(choice, &DriverOptions::default());
        driver.map(|driver| driver.info().backend).map_err(|error| error.to_string())
    };
    let mut found = json!({ "auto": trial("auto").unwrap_or("none") });
    for name in BACKENDS {
        found[name] = trial(name).err().into();
    }
    found
}

fn latencies(mut samples: Samples) -> Value {
    json!({
        "count": samples.count(),
        "mean_us": samples.mean_us(),
        "p50_us": samples.percentile_us(50.0),
        "p95_us": samples.percentile_us(95.0),
        "p99_us": samples.percentile_us(99.0),
    })
}

fn merge(into: &mut Value, figures: Value) {
    if let (Value::Object(into), Value::Object(mut figures)) = (into, figures) {
        into.append(&mut figures);
    }
}

fn load(rate: &str, bytes: &str, time: &str) -> Result<Load, Box<dyn Error>> {
    Ok(Load { per_second: number(rate)?, bytes: number(bytes)?, time: seconds(time)? })
}

fn seconds(text: &str) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::try_from_secs_f64(number(text)?)?)
}

fn number<T: FromStr>(text: &str) -> Result<T, Box<dyn Error>> {
    text.parse().map_err(|_| format!("{text:?} is not a number").into())
}

fn serve(directory: &Path, segment_mib: u64, open_mib: u64) -> Result<(), Box<dyn Error>> {
    wake_on_time()?;
    let mut bench = Bench {
        directory: directory.to_owned(),
        segment_bytes: segment_mib << 20,
        floor: Floor::prepare(directory)?,
        logs: BTreeMap::new(),
        engine: None,
        reopen: Reopen::new(directory.join("reopened"), open_mib << 20),
    };
    for line in std::io::stdin().lock().lines() {
        let answer = bench.answer(&line?)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    bench.engine.map_or(Ok(()), EngineBench::close)
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    match arguments {
        [flag, directory, bytes] if flag == "--write" => {
            reopen::write_until_killed(Path::new(directory), number(bytes)?)
        }
        [directory, segment, open] => serve(Path::new(directory), number(segment)?, number(open)?),
        _ => Err(USAGE.into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("elgate-bench-log: {error}");
            ExitCode::FAILURE
        }
    }
}
