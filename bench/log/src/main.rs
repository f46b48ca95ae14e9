//! Measures the log, and the bare device beside it, when told to by bench/run.mjs.
//!
//! `elgate-bench-log DIRECTORY` reads one request per line and answers each with one line of JSON,
//! so that its rounds alternate with those of its peers in other processes:
//!
//! | request | answer |
//! |---|---|
//! | `floor-single SECONDS` | bare 4 KiB writes, `O_DIRECT` and `RWF_DSYNC`, into a zero-filled file |
//! | `floor-volume SECONDS` | the same with 256 KiB |
//! | `log-single SECONDS` | 128-byte records through elgate-log, each durable before the next |
//! | `log-volume SECONDS` | 4 KiB records as fast as they go |
//!
//! Each round of the log is read back, and compared for count, order and bytes.
//!
//! Latencies are of a closed loop with one operation outstanding, every sample kept.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to its user")]

mod floor;
mod log;
mod samples;

use floor::Floor;
use log::LogBench;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

fn serve(directory: PathBuf) -> Result<(), Box<dyn Error>> {
    let mut floor = Floor::prepare(&directory)?;
    let mut log = LogBench::prepare(&directory)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("floor-single", seconds) => floor.single(duration(seconds)?)?,
            ("floor-volume", seconds) => floor.volume(duration(seconds)?)?,
            ("log-single", seconds) => log.single(duration(seconds)?)?,
            ("log-volume", seconds) => log.volume(duration(seconds)?)?,
            _ => return Err(format!("unknown request {line:?}").into()),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn duration(seconds: &str) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::try_from_secs_f64(seconds.parse()?)?)
}

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: elgate-bench-log DIRECTORY");
        return ExitCode::from(2);
    };
    match serve(directory.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("elgate-bench-log: {error}");
            ExitCode::FAILURE
        }
    }
}
