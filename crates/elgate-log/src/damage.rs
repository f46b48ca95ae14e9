//! Telling a torn tail from rot, and finding what still reads in a damaged range.
//!
//! A batch that is not whole where one should be is *rot* if something proves that its records
//! were durable: a later valid batch of no lower epoch that says so, the segment's footer, or the
//! head file. Without proof it is the trace of a crash: *torn*. A valid batch further on proves
//! nothing by itself, for several writes are under way at once and complete in any order.
//!
//! A block that the device cannot read proves nothing, neither way. Where it lies in what would
//! else be torn, somebody may have been told of records there that a later attempt can read again:
//! nothing is cut, and their numbers are not given to others.
//!
//! In a file that was used before, batches of that life may lie anywhere behind what was written
//! in this one. They do not validate under this segment's salt, so they are nothing: neither torn
//! nor damaged, and not worth a zero. Of this life are batches and single records that validate,
//! so that what recovery cuts leaves no record that could be taken for another of its number.

use crate::batch::{BatchHeader, WINDOW_BYTES};
use crate::bytes::{get_u64, is_blank};
use crate::record::{self, RECORD_HEADER_BYTES, framed_bytes};
use crate::segment_file::SegmentFile;
use elgate_io::Platform;
use elgate_types::Lsn;
use elgate_types::limits::{BLOCK_BYTES, PAYLOAD_BYTES_MAX};
use std::io;
use std::ops::Range;

/// A place where a batch should be, and is not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Suspicion {
    pub(crate) offset: u64,
    /// The LSN that should be there.
    pub(crate) expected: Lsn,
    /// The epoch of the batch before.
    pub(crate) epoch: u64,
    /// Acknowledged batches went at least so far, as somebody says: a reason to look further.
    pub(crate) reach: u64,
}

/// What lies at and beyond a batch that is not whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aftermath {
    /// The first valid batch that fits behind: its offset and header.
    pub(crate) later: Option<(u64, BatchHeader)>,
    /// The highest durable watermark that a valid batch there states.
    pub(crate) states: Lsn,
    /// Where the last bytes end that may have been written in this life of the file, in whole
    /// blocks; the place itself if there are none.
    pub(crate) dirty_end: u64,
    /// No record here that this life of the file has given a number has this one or a later one.
    pub(crate) beyond: Lsn,
}

impl Aftermath {
    /// Looks as far as writes can have been under way, counted from the last thing found.
    pub(crate) fn survey(
        platform: &dyn Platform,
        file: &mut SegmentFile,
        place: Suspicion,
    ) -> io::Result<Self> {
        let is_recycled = file.header.is_recycled;
        let mut found = Self {
            later: None,
            states: Lsn::ZERO,
            dirty_end: place.offset,
            beyond: place.expected,
        };
        let mut at = place.offset;
        let mut budget = CHECKED_BYTES_MAX;
        while at < file.end() && at < (found.dirty_end + WINDOW_BYTES).max(place.reach) {
            let Some(header) = file.header_at(platform, at)? else {
                let next = at + BLOCK_BYTES as u64;
                let end = if file.has_unreadable(at..next) {
                    // Behind nothing it cannot be a batch that was ever acknowledged.
                    (found.dirty_end == at || found.dirty_end > place.offset).then_some(next)
                } else if is_recycled {
                    record_end(platform, file, at, place.expected, &mut budget)?
                } else {
                    (!is_blank(file.read(platform, at, BLOCK_BYTES)?)).then_some(next)
                };
                if let Some(end) = end {
                    found.beyond = Lsn(found.beyond.0.saturating_add(BLOCK_RECORDS_MAX));
                    found.dirty_end = end.min(file.end()).max(found.dirty_end);
                }
                at = next;
                continue;
            };
            let fits = header.first_lsn >= place.expected && header.epoch >= place.epoch;
            if fits {
                found.beyond = found.beyond.max(header.next_lsn());
            }
            if fits && file.batch_at(platform, at)?.is_some() {
                found.later.get_or_insert((at, header));
                found.states = found.states.max(header.durable_lsn);
            }
            // The header has its own checksum: its length holds though its records may not.
            at += u64::from(header.batch_bytes);
            found.dirty_end = at.min(file.end()).max(found.dirty_end);
        }
        Ok(found)
    }
}

/// More records do not begin in a block, or end in it.
const BLOCK_RECORDS_MAX: u64 = (BLOCK_BYTES / RECORD_HEADER_BYTES) as u64 + 1;

/// Most bytes checksummed in one survey to tell stale bytes from records. Only bytes that were
/// made to look like records take more; they then count as records.
const CHECKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where a record of this segment's life ends, in whole blocks, that begins in the block at
/// `offset` and is `expected` or follows it: what a batch has left whose header is lost.
fn record_end(
    platform: &dyn Platform,
    file: &mut SegmentFile,
    offset: u64,
    expected: Lsn,
    budget: &mut usize,
) -> io::Result<Option<u64>> {
    let salt = file.header.salt;
    let mut within = 0;
    while within < BLOCK_BYTES {
        let bytes = file.read(platform, offset, BLOCK_BYTES + RECORD_HEADER_BYTES)?;
        let claim = |at: usize| {
            let (lsn, framed) = record::claim(bytes.get(at..)?)?;
            (lsn >= expected).then_some((at, at + framed))
        };
        let mut places = (within..BLOCK_BYTES).step_by(8);
        let Some((at, end)) = places.find_map(claim) else { break };
        let Some(left) = budget.checked_sub(end - at) else {
            return Ok(Some(offset + BLOCK_BYTES as u64));
        };
        *budget = left;
        let bytes = file.read(platform, offset, end)?;
        if bytes.get(at..).is_some_and(|bytes| record::decode_valid(bytes, salt).is_some()) {
            return Ok(Some(offset + (end as u64).next_multiple_of(BLOCK_BYTES as u64)));
        }
        within = at + 8;
    }
    Ok(None)
}

/// A run of consecutive records that validate inside a damaged range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
    /// Their framed bytes.
    pub(crate) bytes: Vec<u8>,
}

/// Runs are cut at this size, so that one is a reasonable piece to hand on.
const RUN_BYTES_MAX: usize = 1024 * 1024;
const RECORD_BYTES_MAX: usize = framed_bytes(PAYLOAD_BYTES_MAX);
/// A damaged range is looked through in pieces that overlap by the largest record.
const PIECE_BYTES: usize = (4 * 1024 * 1024_usize).next_multiple_of(BLOCK_BYTES);
const _: () = assert!(PIECE_BYTES > 2 * RECORD_BYTES_MAX);

/// Finds every valid record with an LSN in `lsns` in a range of a segment, in order.
///
/// Lengths cannot be trusted where something is damaged, so every place where a record can begin
/// is tried. LSNs below the range are ignored: a payload may quote an earlier part of its own log.
pub(crate) fn salvage(
    platform: &dyn Platform,
    file: &mut SegmentFile,
    range: Range<u64>,
    lsns: Range<Lsn>,
) -> io::Result<Vec<Run>> {
    let salt = file.header.salt;
    let mut runs: Vec<Run> = Vec::new();
    let mut next = lsns.start;
    let mut at = range.start;
    while at < range.end && next < lsns.end {
        let piece = usize::try_from(range.end - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let is_last = at + piece as u64 >= range.end;
        let bytes = file.read(platform, at, piece)?;
        let mut within = 0;
        // In all but the last piece, the largest record must fit behind every place tried.
        let limit =
            if is_last { bytes.len() } else { bytes.len().saturating_sub(RECORD_BYTES_MAX) };
        while within + RECORD_HEADER_BYTES <= limit && next < lsns.end {
            let lsn = Lsn(get_u64(bytes, within + 8));
            let valid = if lsn >= next && lsn < lsns.end {
                record::decode_valid(&bytes[within..], salt)
            } else {
                None
            };
            let Some((header, _)) = valid else {
                within += 8;
                continue;
            };
            let end = within + framed_bytes(header.length);
            push(&mut runs, lsn, &bytes[within..end]);
            within = end;
            next = lsn.next();
        }
        let step = (within as u64 / BLOCK_BYTES as u64) * BLOCK_BYTES as u64;
        if is_last || step == 0 {
            break;
        }
        at += step;
    }
    Ok(runs)
}

fn push(runs: &mut Vec<Run>, lsn: Lsn, framed: &[u8]) {
    match runs.last_mut() {
        Some(run) if run.last.next() == lsn && run.bytes.len() < RUN_BYTES_MAX => {
            run.last = lsn;
            run.bytes.extend_from_slice(framed);
        }
        _ => runs.push(Run { first: lsn, last: lsn, bytes: framed.to_vec() }),
    }
}

/// The parts of `lsns` that no run covers.
pub(crate) fn missing(lsns: Range<Lsn>, runs: &[Run]) -> Vec<Range<Lsn>> {
    let mut gaps = Vec::new();
    let mut next = lsns.start;
    for run in runs {
        if run.first > next {
            gaps.push(next..run.first);
        }
        next = run.last.next();
    }
    if next < lsns.end {
        gaps.push(next..lsns.end);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_what_no_run_covers() {
        let run = |first, last| Run { first: Lsn(first), last: Lsn(last), bytes: Vec::new() };
        let gaps = missing(Lsn(1)..Lsn(11), &[run(2, 3), run(4, 4), run(7, 9)]);
        assert_eq!(gaps, [Lsn(1)..Lsn(2), Lsn(5)..Lsn(7), Lsn(10)..Lsn(11)]);
        assert_eq!(missing(Lsn(1)..Lsn(3), &[run(1, 2)]), []);
    }
}
