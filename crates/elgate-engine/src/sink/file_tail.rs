//! Finds, after a crash, which records a file already holds.
//!
//! The cursor says: at record L the file was N bytes long. What lies beyond N was written from
//! the records after L, in order, by us: so the log is read from L + 1 and compared, byte by byte,
//! until the file ends. A record that is there in part is cut off and written again.

use crate::config::Framing;
use elgate_io::{File, FileIdentity, Platform};
use elgate_log::{LogReader, ReadBatch, ReadError};
use elgate_types::Lsn;
use std::io;

/// Where a file sink goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePosition {
    /// The last record the file holds.
    pub(crate) delivered: Lsn,
    /// The file's length with it.
    pub(crate) length: u64,
    /// Why the file may hold a record twice, if it may.
    pub(crate) doubt: Option<String>,
}

/// What the cursor remembers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remembered {
    pub(crate) lsn: Lsn,
    pub(crate) length: u64,
    pub(crate) identity: FileIdentity,
}

/// Why the position could not be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocateError {
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("{0}")]
    Log(#[from] ReadError),
}

/// Works out where to go on. May cut a partial record off the file's end.
///
/// `open_log` opens a reader of the route's log at a record; it is called only if needed.
pub(crate) fn locate(
    platform: &dyn Platform,
    file: &File,
    framing: Framing,
    remembered: Option<Remembered>,
    open_log: &mut dyn FnMut(Lsn) -> Result<LogReader, ReadError>,
) -> Result<FilePosition, LocateError> {
    let length = platform.size(file)?;
    let Some(remembered) = remembered else {
        return Ok(FilePosition { delivered: Lsn::ZERO, length, doubt: None });
    };
    if remembered.identity != platform.identity(file)? || length < remembered.length {
        // Rotated or truncated by somebody: a new file, whose content is not ours to judge.
        return Ok(FilePosition { delivered: remembered.lsn, length, doubt: None });
    }
    let mut position =
        FilePosition { delivered: remembered.lsn, length: remembered.length, doubt: None };
    if length == remembered.length {
        return Ok(position);
    }
    let mut log = open_log(remembered.lsn.next())?;
    let mut found = Vec::new();
    'log: loop {
        match log.next_batch()? {
            ReadBatch::Records(batch) => {
                let remembered = remembered.lsn;
                for record in batch.records().filter(|record| record.lsn > remembered) {
                    match compare(
                        platform,
                        file,
                        position.length,
                        record.payload,
                        framing,
                        &mut found,
                    )? {
                        Match::Whole(bytes) => {
                            position.delivered = record.lsn;
                            position.length += bytes;
                        }
                        Match::Part => {
                            platform.set_size(file, position.length)?;
                            platform.sync(file)?;
                            return Ok(position);
                        }
                        Match::Differs => break 'log,
                    }
                    if position.length == length {
                        return Ok(position);
                    }
                }
            }
            ReadBatch::Gap { to, .. } => position.delivered = position.delivered.max(to),
            ReadBatch::CaughtUp => break 'log,
        }
    }
    position.doubt = Some(format!(
        "{} bytes at its end were not written by this route; somebody else writes this file too, \
         so a record may appear twice after a crash",
        length - position.length
    ));
    position.length = length;
    Ok(position)
}

enum Match {
    Whole(u64),
    Part,
    Differs,
}

fn compare(
    platform: &dyn Platform,
    file: &File,
    offset: u64,
    payload: &[u8],
    framing: Framing,
    found: &mut Vec<u8>,
) -> io::Result<Match> {
    let framed = payload.len() + usize::from(framing == Framing::Newline);
    found.resize(framed, 0);
    let read = platform.read_at(file, offset, found)?;
    let in_payload = read.min(payload.len());
    let same = found[..in_payload] == payload[..in_payload]
        && (read <= payload.len() || found[payload.len()] == b'\n');
    Ok(match (same, read == framed) {
        (true, true) => Match::Whole(framed as u64),
        (true, false) => Match::Part,
        (false, _) => Match::Differs,
    })
}
