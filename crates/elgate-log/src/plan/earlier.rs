//! Looking back from where recovery's walk began: for logged submissions that a ring may hand over
//! again.

use super::Walk;
use crate::batch::{BatchHeader, WINDOW_BYTES};
use crate::error::{AtPath, IoFault};
use crate::index::{Footer, SparseIndex};
use crate::segment_file::SegmentFile;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use crate::sources::{SOURCES_BYTES_MAX, Sources};
use elgate_types::Lsn;
use elgate_types::limits::BLOCK_BYTES;
use std::ops::Range;

/// They are searched backwards in pieces of about this size.
const SOURCES_PIECE_BYTES: u64 = 1024 * 1024;

/// Where the walk began.
pub(super) struct Checkpoint {
    /// Its offset.
    pub(super) end: u64,
    /// The LSN there.
    pub(super) before: Lsn,
    /// What the index of its segment knows of what comes before, if there is one.
    pub(super) known: Option<SparseIndex>,
}

impl Walk<'_> {
    /// Looks for logged submissions before the place where the walk began, until all are known that
    /// a ring may hand over again.
    pub(super) fn earlier_sources(
        &mut self,
        start: usize,
        checkpoint: &Checkpoint,
    ) -> Result<(), IoFault> {
        let mut searched_bytes = 0;
        if let Some(known) = &checkpoint.known {
            let place = (checkpoint.end, checkpoint.before);
            self.sources_before(start, place, known, &mut searched_bytes)?;
        }
        for index in (0..start).rev() {
            if self.has_sources(searched_bytes) {
                break;
            }
            let superseded = self.catalog.superseded_from(self.platform, index)?;
            let Some(mut file) = self.open(index)? else { continue };
            let footer = file.footer(self.platform).at("read", &file.path)?;
            let footer =
                footer.unwrap_or_else(|| Footer { end: file.end(), ..Footer::new(&file.header) });
            let place = (footer.end.min(file.end()), superseded.unwrap_or(checkpoint.before));
            self.sources_before(index, place, &footer.index, &mut searched_bytes)?;
        }
        Ok(())
    }

    fn has_sources(&self, searched_bytes: u64) -> bool {
        searched_bytes >= SOURCES_BYTES_MAX || self.plan.sources.are_complete()
    }

    /// Looks for them in the segment at `index` backwards from a place, an offset and the LSN
    /// there, from one batch that the segment's index knows to the next.
    fn sources_before(
        &mut self,
        index: usize,
        (mut end, mut before): (u64, Lsn),
        known: &SparseIndex,
        searched_bytes: &mut u64,
    ) -> Result<(), IoFault> {
        let first = self.catalog.first_lsn(self.platform, index)?.unwrap_or(Lsn(1));
        let Some(mut file) = self.open(index)? else { return Ok(()) };
        while end > SEGMENT_HEADER_BYTES as u64 && !self.has_sources(*searched_bytes) {
            let entries = known.up_to_offset(end.saturating_sub(SOURCES_PIECE_BYTES));
            let entry = file.follow(self.platform, entries).at("read", &file.path)?;
            let (begin, first) = match entry {
                Some(entry) => (entry.offset, entry.first_lsn),
                // What stands at the beginning may be a later batch that landed there.
                None if first < before => (SEGMENT_HEADER_BYTES as u64, first),
                None => (SEGMENT_HEADER_BYTES as u64, Lsn(1)),
            };
            let (earlier, batches_end) = self.sources_in(&mut file, begin..end, first..before)?;
            self.plan.sources.prepend(earlier);
            // What was never written in a segment that was left early counts for nothing.
            *searched_bytes += batches_end - begin;
            (end, before) = (begin, first);
        }
        Ok(())
    }

    /// Of the batches in a range those that are of the log: the LSNs say which. And where the last
    /// of them ends.
    fn sources_in(
        &self,
        file: &mut SegmentFile,
        range: Range<u64>,
        mut lsns: Range<Lsn>,
    ) -> Result<(Sources, u64), IoFault> {
        let path = file.path.clone();
        let mut found = self.plan.sources.elsewhere();
        let mut at = range.start;
        while let Some((offset, header)) = self.next_batch(file, at..range.end, &lsns)? {
            let bytes = file.read(self.platform, offset, header.batch_bytes as usize);
            found.take(&header, bytes.at("read", &path)?);
            lsns.start = header.next_lsn();
            at = offset + u64::from(header.batch_bytes);
        }
        Ok((found, at))
    }

    /// The batch with the lowest of these LSNs; where the first of them stands at the beginning of
    /// the range, that is it. A batch that was written to the wrong place does not hide those that
    /// it jumped over.
    fn next_batch(
        &self,
        file: &mut SegmentFile,
        range: Range<u64>,
        lsns: &Range<Lsn>,
    ) -> Result<Option<(u64, BatchHeader)>, IoFault> {
        if lsns.is_empty() {
            return Ok(None);
        }
        let mut lowest: Option<(u64, BatchHeader)> = None;
        let (mut at, mut end) = (range.start, range.end);
        while at < end && lowest.is_none_or(|(_, lowest)| lowest.first_lsn > lsns.start) {
            if let Some(header) = file.batch_at(self.platform, at).at("read", &file.path)?
                && lsns.contains(&header.first_lsn)
                && lowest.is_none_or(|(_, lowest)| header.first_lsn < lowest.first_lsn)
            {
                lowest = Some((at, header));
                end = end.min(at + WINDOW_BYTES);
            }
            at += BLOCK_BYTES as u64;
        }
        Ok(lowest)
    }
}
