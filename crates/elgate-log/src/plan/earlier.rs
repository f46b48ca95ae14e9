//! Looking back from where recovery's walk began: for logged submissions that a ring may still
//! hold.

use super::Walk;
use crate::damage::{Aftermath, Suspicion};
use crate::error::{AtPath, IoFault};
use crate::index::{Footer, SparseIndex};
use crate::segment_file::SegmentFile;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use crate::sources::{SOURCES_BYTES_MAX, Sources};
use elgate_types::Lsn;
use std::ops::Range;

/// Nor any further than this, if no record there has come through a ring.
const SOURCES_BYTES_WITHOUT_RING: u64 = 16 * 1024 * 1024;

/// They are searched backwards in pieces of about this size.
const SOURCES_PIECE_BYTES: u64 = 1024 * 1024;

impl Walk<'_> {
    /// Looks for logged submissions before the place where the walk began, until a ring's worth
    /// is known.
    pub(super) fn earlier_sources(
        &mut self,
        start: usize,
        checkpoint: (u64, Option<SparseIndex>),
    ) -> Result<(), IoFault> {
        let mut searched = 0;
        let (end, known) = checkpoint;
        if let Some(known) = known {
            self.sources_before(start, end, &known, &mut searched)?;
        }
        for index in (0..start).rev() {
            if self.has_sources(searched) {
                break;
            }
            let Some(mut file) = self.open(index)? else { continue };
            let footer = file.footer(self.platform).at("read", &file.path)?;
            let footer =
                footer.unwrap_or_else(|| Footer { end: file.end(), ..Footer::new(&file.header) });
            self.sources_before(index, footer.end.min(file.end()), &footer.index, &mut searched)?;
        }
        Ok(())
    }

    fn has_sources(&self, searched: u64) -> bool {
        searched >= SOURCES_BYTES_MAX
            || self.plan.sources.is_complete()
            || (self.plan.sources.is_empty() && searched >= SOURCES_BYTES_WITHOUT_RING)
    }

    /// Looks for them in the segment at `index` backwards from offset `end`, from one batch that
    /// the segment's index knows to the next.
    fn sources_before(
        &mut self,
        index: usize,
        mut end: u64,
        known: &SparseIndex,
        searched: &mut u64,
    ) -> Result<(), IoFault> {
        let superseded = self.catalog.superseded_from(self.platform, index)?;
        let Some(mut file) = self.open(index)? else { return Ok(()) };
        while end > SEGMENT_HEADER_BYTES as u64 && !self.has_sources(*searched) {
            let before = known.up_to_offset(end.saturating_sub(SOURCES_PIECE_BYTES));
            let entry = file.follow(self.platform, before).at("read", &file.path)?;
            let begin = entry.map_or(SEGMENT_HEADER_BYTES as u64, |entry| entry.offset);
            let earlier = self.sources_in(&mut file, begin..end, superseded)?;
            self.plan.sources.prepend(earlier);
            *searched += end - begin;
            end = begin;
        }
        Ok(())
    }

    fn sources_in(
        &self,
        file: &mut SegmentFile,
        range: Range<u64>,
        superseded: Option<Lsn>,
    ) -> Result<Sources, IoFault> {
        let path = file.path.clone();
        let mut found = Sources::default();
        let (mut at, mut next) = (range.start, Lsn(1));
        while at < range.end {
            let batch = match file.batch_at(self.platform, at).at("read", &path)? {
                Some(header) if header.first_lsn >= next => Some((at, header)),
                _ => {
                    let place =
                        Suspicion { offset: at, expected: next, epoch: 0, reach: range.end };
                    Aftermath::survey(self.platform, file, place).at("read", &path)?.later
                }
            };
            let is_within = |offset: u64, first: Lsn| {
                offset < range.end && superseded.is_none_or(|superseded| first < superseded)
            };
            let Some((offset, header)) = batch.filter(|(at, it)| is_within(*at, it.first_lsn))
            else {
                break;
            };
            let bytes = file.read(self.platform, offset, header.batch_bytes as usize);
            found.take(&header, bytes.at("read", &path)?);
            next = header.next_lsn();
            at = offset + u64::from(header.batch_bytes);
        }
        Ok(found)
    }
}
