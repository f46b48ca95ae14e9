//! Opening a large log whose writer was killed.
//!
//! A child process writes the log and is killed by SIGKILL in the middle of it; the kernel then
//! forgets what it has cached of the files; the opening is timed. The log is built once; further
//! rounds write on for a while, and are killed again.

use crate::samples::Clock;
use crate::session::{RECORD_BYTES_MAX, Session, TunedDriver, verify};
use elgate_io::{BackendChoice, OsPlatform};
use elgate_log::LogOptions;
use elgate_types::Lsn;
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const RECORD_BYTES: usize = RECORD_BYTES_MAX;

/// What each round but the first adds.
const MORE_BYTES: u64 = 16 << 20;

/// Read back in every round but the first, which reads everything.
const TAIL_RECORDS: u64 = 2_000;

pub(crate) struct Reopen {
    directory: PathBuf,
    bytes: u64,
    /// How far the log has been read back.
    verified: Lsn,
    /// What the writer had reported durable when it was killed.
    acknowledged: Lsn,
}

impl Reopen {
    pub(crate) fn new(directory: PathBuf, bytes: u64) -> Self {
        Self { directory, bytes, verified: Lsn::ZERO, acknowledged: Lsn::ZERO }
    }

    /// Has a child write the log, or more of it, and kills it.
    pub(crate) fn crash(&mut self) -> Result<Value, Box<dyn Error>> {
        let more = if self.verified == Lsn::ZERO { self.bytes } else { MORE_BYTES };
        self.acknowledged = self.write_and_kill(more)?;
        Ok(json!({ "acknowledged": self.acknowledged.0 }))
    }

    /// Opens what the child has left.
    pub(crate) fn measure(&mut self) -> Result<Value, Box<dyn Error>> {
        let is_first = self.verified == Lsn::ZERO;
        let driver = TunedDriver::open(BackendChoice::Auto, &self.directory)?;
        let log_bytes = drop_from_page_cache(&self.directory)?;

        let clock = Clock::start();
        let (mut session, recovery) =
            Session::open(driver, &self.directory, LogOptions::default())?;
        let opened = clock.elapsed();
        if recovery.durable < self.acknowledged || !recovery.quarantined.is_empty() {
            return Err(format!(
                "{} was durable before the kill; recovery found {recovery:?}",
                self.acknowledged
            )
            .into());
        }
        let first = if is_first {
            Lsn(1)
        } else {
            self.verified.next().max(Lsn(recovery.durable.0.saturating_sub(TAIL_RECORDS)))
        };
        let platform = Arc::new(OsPlatform::new());
        verify(platform, &self.directory, first..=recovery.durable, RECORD_BYTES)?;
        self.verified = session.next_lsn();
        session.append_durably(RECORD_BYTES)?;
        session.close()?;
        Ok(json!({
            "open_ms": opened.as_secs_f64() * 1e3,
            "open_log_bytes": log_bytes,
        }))
    }

    /// Lets a child write so many bytes, and kills it while it goes on. Returns what it had
    /// reported durable.
    fn write_and_kill(&self, bytes: u64) -> Result<Lsn, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--write")
            .arg(&self.directory)
            .arg(bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let read = match child.stdout.take() {
            Some(stdout) => BufReader::new(stdout).read_line(&mut line),
            None => Ok(0),
        };
        child.kill()?;
        let status = child.wait()?;
        read?;
        let acknowledged = line
            .trim()
            .parse()
            .map_err(|_| format!("the writer said {line:?} and ended: {status}"))?;
        Ok(Lsn(acknowledged))
    }
}

/// The child: writes `bytes`, reports what is durable, and goes on until it is killed, at the
/// latest by the end of whoever started it.
pub(crate) fn write_until_killed(directory: &Path, bytes: u64) -> Result<(), Box<dyn Error>> {
    die_with_parent()?;
    let driver = TunedDriver::open(BackendChoice::Auto, directory)?;
    let (mut session, _) = Session::open(driver, directory, LogOptions::default())?;
    let first = session.next_lsn().0;
    let mut is_reported = false;
    loop {
        if session.append(RECORD_BYTES).is_err() {
            session.turn_for(Duration::from_millis(100))?;
        } else if (session.next_lsn().0).is_multiple_of(64) {
            session.turn_for(Duration::ZERO)?;
        }
        let durable = session.durable();
        if !is_reported && (durable.0 + 1 - first) * RECORD_BYTES as u64 >= bytes {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", durable.0)?;
            out.flush()?;
            is_reported = true;
        }
    }
}

fn die_with_parent() -> Result<(), Box<dyn Error>> {
    let signal = libc::SIGKILL as libc::c_ulong;
    // SAFETY: PR_SET_PDEATHSIG takes one number and touches no memory.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// Makes the kernel forget what it has cached of every file in `directory`, so that opening reads
/// from the device. Returns how large they are together.
fn drop_from_page_cache(directory: &Path) -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if !path.is_file() {
            continue;
        }
        let file = std::fs::File::open(&path)?;
        bytes += file.metadata()?.len();
        // What is dirty is not dropped.
        file.sync_all()?;
        // SAFETY: the descriptor is open for the call, which touches no memory of ours.
        let refused =
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if refused != 0 {
            return Err(std::io::Error::from_raw_os_error(refused).into());
        }
    }
    Ok(bytes)
}
