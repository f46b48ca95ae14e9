//! Finding what is at the reader's position: in the open segment, in a later one, in a damaged
//! range, or not there yet.

use super::{GapReason, Limit, LogReader, OpenSegment, ReadBatch, RecordBatch};
use crate::batch::BatchHeader;
use crate::catalog::Entry;
use crate::damage::{Aftermath, missing, salvage};
use crate::error::{AtPath, IoFault, ReadError};
use crate::head::HeadView;
use crate::segment_file::SegmentFile;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use elgate_io::Platform;
use elgate_types::Lsn;
use std::ops::Range;

/// Small batches are handed on together up to this size.
const GATHER_BYTES: usize = 128 * 1024;

impl LogReader {
    /// One step: finds what is at the position.
    pub(super) fn advance(&mut self) -> Result<ReadBatch, ReadError> {
        let mut limit = self.limit();
        let mut is_fresh = false;
        loop {
            if limit.is_live && self.position > limit.promised {
                return Ok(ReadBatch::CaughtUp);
            }
            if self.open.is_none()
                && let Some(gap) = self.locate()?
            {
                return Ok(gap);
            }
            if let Some(batch) = self.read_here(limit)? {
                let again = if limit.is_live { limit } else { self.limit() };
                if again.is_live == limit.is_live {
                    return Ok(ReadBatch::Records(batch));
                }
                // A writer has come meanwhile, and this may be what it is just writing.
                limit = again;
                self.open = None;
                continue;
            }
            if !is_fresh {
                // What was read ahead may be older than the watermark, and the log may have gone
                // on in another segment.
                is_fresh = true;
                self.refresh()?;
                continue;
            }
            if let Some(batch) = self.explain(limit)? {
                return Ok(batch);
            }
            is_fresh = false;
        }
    }

    fn refresh(&mut self) -> Result<(), ReadError> {
        let sequence = self.open.as_ref().map(|open| open.file.header.sequence);
        self.catalog.refresh(&*self.platform, &self.dir)?;
        let index =
            self.catalog.entries.iter().position(|entry| Some(entry.header.sequence) == sequence);
        match (&mut self.open, index) {
            (Some(open), Some(index)) => {
                open.index = index;
                open.file.forget();
            }
            // The segment was removed beneath us.
            _ => self.open = None,
        }
        if self.superseding(self.position) {
            self.open = None;
        }
        Ok(())
    }

    /// Whether a later segment than the open one has the record `lsn`.
    fn superseding(&self, lsn: Lsn) -> bool {
        let Some(open) = &self.open else { return false };
        self.catalog.superseded_from(open.index).is_some_and(|first| first <= lsn)
    }

    /// Opens the segment that holds the position: the last one that begins at or before it.
    fn locate(&mut self) -> Result<Option<ReadBatch>, ReadError> {
        let entries = &self.catalog.entries;
        let begins_before = |first: Option<Lsn>| first.is_some_and(|first| first <= self.position);
        let found = entries.iter().rposition(|entry| begins_before(entry.first_lsn));
        let index = match found {
            Some(index) => index,
            None => {
                let used = |entry: &Entry| entry.first_lsn.is_some() || entry.begins_damaged;
                let Some(index) = entries.iter().position(used) else { return Ok(None) };
                if let (false, Some(first)) =
                    (entries[index].begins_damaged, entries[index].first_lsn)
                {
                    let (from, to) = (self.position, Lsn(first.0 - 1));
                    return Ok(Some(ReadBatch::Gap { from, to, reason: GapReason::Removed }));
                }
                index
            }
        };
        self.enter(index)?;
        Ok(None)
    }

    fn enter(&mut self, index: usize) -> Result<(), IoFault> {
        let entry = &self.catalog.entries[index];
        // A log that lives in the page cache is read from there: a direct read would force it out.
        let direct = !self.head.as_ref().is_some_and(HeadView::is_cached);
        let file = match SegmentFile::open(&*self.platform, &entry.path, direct) {
            // Retention has removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            result => result.at("read", &entry.path)?.ok(),
        };
        self.open = file.map(|file| OpenSegment {
            file,
            index,
            offset: SEGMENT_HEADER_BYTES as u64,
            epoch: 0,
        });
        Ok(())
    }

    /// Reads on in the open segment. `None`: what comes next is not there.
    fn read_here(&mut self, limit: Limit) -> Result<Option<RecordBatch>, IoFault> {
        let mut gathered: Option<RecordBatch> = None;
        let Some(open) = &mut self.open else { return Ok(None) };
        let ceiling = self.catalog.superseded_from(open.index).unwrap_or(Lsn(u64::MAX));
        let last_allowed = if limit.is_live { limit.promised } else { Lsn(u64::MAX) };
        while open.offset < open.file.end() {
            let next = gathered.as_ref().map_or(self.position, |batch| batch.last.next());
            if next >= ceiling || next > last_allowed {
                break;
            }
            let Some(header) = open.next_batch(&*self.platform)? else { break };
            if header.first_lsn > next {
                break;
            }
            let last = Lsn(header.next_lsn().0 - 1).min(Lsn(ceiling.0 - 1)).min(last_allowed);
            if header.next_lsn() > next && last >= next {
                let path = &open.file.path.clone();
                let bytes =
                    open.file.read(&*self.platform, open.offset, header.batch_bytes as usize);
                let body = header.body(bytes.at("read", path)?);
                match &mut gathered {
                    Some(batch) => {
                        batch.framed.extend_from_slice(body);
                        batch.last = last;
                    }
                    None => {
                        let framed = body.to_vec();
                        gathered = Some(RecordBatch { framed, first: next, last });
                    }
                }
            }
            if last.next() < header.next_lsn() {
                break;
            }
            open.offset += u64::from(header.batch_bytes);
            open.epoch = header.epoch;
            if gathered.as_ref().is_some_and(|batch| batch.framed.len() >= GATHER_BYTES) {
                break;
            }
        }
        Ok(gathered)
    }

    /// The position is not where it should be: at the end, in a later segment, or damaged.
    /// `None`: look again, there.
    fn explain(&mut self, limit: Limit) -> Result<Option<ReadBatch>, ReadError> {
        let Some(open) = &mut self.open else {
            return Ok(Some(self.nothing_open(limit)));
        };
        let path = open.file.path.clone();
        let place = (open.file.header.sequence, open.offset);
        let is_promised = limit.promised >= self.position;
        if !is_promised
            && self.known_end == Some(place)
            && self.catalog.next_used(open.index).is_none()
            && open.file.is_blank(&*self.platform, open.offset).at("read", &path)?
        {
            return Ok(Some(ReadBatch::CaughtUp));
        }
        let (offset, epoch) = (open.offset, open.epoch);
        let after =
            Aftermath::survey(&*self.platform, &mut open.file, offset, self.position, epoch)
                .at("read", &path)?;
        let next_used = self.catalog.next_used(open.index);
        if let Some(next) = next_used.filter(|next| self.catalog.entries[*next].begins_damaged)
            && after.dirty_end == offset
        {
            // This segment ends here; whatever is wrong is wrong with the next one.
            self.enter(next)?;
            return Ok(None);
        }
        let ceiling = self.catalog.superseded_from(open.index);
        let later = after.later.filter(|(_, it)| ceiling.is_none_or(|end| it.first_lsn < end));
        let goes_on = next_used.is_some_and(|next| !self.catalog.entries[next].begins_damaged);
        if !(is_promised || after.states >= self.position || goes_on) {
            self.known_end = Some(place);
            return Ok(Some(ReadBatch::CaughtUp));
        }
        let next = match (later, ceiling) {
            (Some((_, header)), _) => header.first_lsn,
            (None, Some(ceiling)) => ceiling,
            (None, None) => limit.promised.max(after.states).next(),
        };
        let damage_end = later.map_or(after.dirty_end, |(offset, _)| offset);
        self.salvage(offset..damage_end, self.position..next)?;
        match &mut self.open {
            Some(_) if later.is_none() && ceiling.is_some() => self.open = None,
            Some(open) => open.offset = damage_end,
            None => {}
        }
        Ok(self.salvaged.pop_front())
    }

    /// No segment begins at or before the position.
    fn nothing_open(&self, limit: Limit) -> ReadBatch {
        let nothing_begins = self.catalog.entries.iter().all(|entry| entry.first_lsn.is_none());
        if nothing_begins && limit.promised >= self.position {
            // Every segment that could hold it is gone or blank.
            return ReadBatch::Gap {
                from: self.position,
                to: limit.promised,
                reason: GapReason::Damaged,
            };
        }
        ReadBatch::CaughtUp
    }

    /// Queues what a damaged range still holds, and the gaps between.
    fn salvage(&mut self, range: Range<u64>, lsns: Range<Lsn>) -> Result<(), ReadError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let path = open.file.path.clone();
        let runs = salvage(&*self.platform, &mut open.file, range, lsns.clone());
        let runs = runs.at("read", &path)?;
        let mut gaps = missing(lsns, &runs).into_iter().peekable();
        let gap = |lsns: Range<Lsn>| ReadBatch::Gap {
            from: lsns.start,
            to: Lsn(lsns.end.0 - 1),
            reason: GapReason::Damaged,
        };
        for run in runs {
            while let Some(lsns) = gaps.next_if(|lsns| lsns.start < run.first) {
                self.salvaged.push_back(gap(lsns));
            }
            let batch = RecordBatch { framed: run.bytes, first: run.first, last: run.last };
            self.salvaged.push_back(ReadBatch::Records(batch));
        }
        self.salvaged.extend(gaps.map(gap));
        Ok(())
    }
}

impl OpenSegment {
    /// The header of the next batch, if it is valid and of no lower epoch.
    fn next_batch(&mut self, platform: &dyn Platform) -> Result<Option<BatchHeader>, IoFault> {
        let header =
            self.file.batch_at(platform, self.offset).at("read", &self.file.path.clone())?;
        Ok(header.filter(|header| header.epoch >= self.epoch))
    }
}
