//! Finding what is at the reader's position: in the open segment, in a later one, in a damaged
//! range, or not there yet.

use super::{GapReason, Limit, LogReader, OpenSegment, ReadBatch, RecordBatch};
use crate::batch::BatchHeader;
use crate::damage::{Aftermath, Suspicion, missing, salvage};
use crate::error::{AtPath, IoFault, ReadError};
use crate::head::HeadView;
use elgate_io::Platform;
use elgate_types::Lsn;
use std::ops::Range;
use std::time::Duration;

/// Small batches are handed on together up to this size.
const GATHER_BYTES: usize = 128 * 1024;

/// What was written but not synced is lost if it cannot be found for so long.
const ABSENT_FOR: Duration = Duration::from_secs(1);

/// How far the search for what is at the position has come.
#[derive(Clone, Copy)]
enum Search {
    /// In what was read already.
    Held,
    /// In the open segment, read anew.
    Reread,
    /// In every segment there is.
    Everywhere,
}

impl LogReader {
    /// One step: finds what is at the position.
    pub(super) fn advance(&mut self) -> Result<ReadBatch, ReadError> {
        let mut limit = self.limit();
        let mut search = Search::Held;
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
            search = match search {
                Search::Held => {
                    // What was read ahead may be older than the watermark.
                    if let Some(open) = &mut self.open {
                        open.file.forget();
                    }
                    Search::Reread
                }
                Search::Reread => {
                    // The log may have gone on in another segment.
                    self.refresh()?;
                    Search::Everywhere
                }
                Search::Everywhere => {
                    if let Some(batch) = self.explain(limit)? {
                        return Ok(batch);
                    }
                    Search::Held
                }
            };
        }
    }

    fn refresh(&mut self) -> Result<(), ReadError> {
        self.catalog.refresh(&*self.platform, &self.dir)?;
        let Some(open) = &mut self.open else { return Ok(()) };
        let mut entries = self.catalog.entries.iter();
        let Some(index) = entries.position(|entry| entry.path == open.file.path) else {
            // The segment was removed beneath us.
            self.open = None;
            return Ok(());
        };
        open.index = index;
        open.file.forget();
        // A later segment than the open one may have the record.
        let superseded = self.catalog.superseded_from(&*self.platform, index)?;
        if superseded.is_some_and(|first| first <= self.position) {
            self.open = None;
        }
        Ok(())
    }

    /// Opens the segment that holds the position: the last one that begins at or before it.
    fn locate(&mut self) -> Result<Option<ReadBatch>, ReadError> {
        let platform = self.platform.clone();
        let index = match self.catalog.last_up_to(&*platform, self.position)? {
            Some(index) => index,
            None => {
                let Some(index) = self.catalog.first_used(&*platform)? else { return Ok(None) };
                let first = self.catalog.first_lsn(&*platform, index)?;
                if let (false, Some(first)) = (self.catalog.begins_damaged(index), first) {
                    let (from, to) = (self.position, Lsn(first.0 - 1));
                    return Ok(Some(ReadBatch::Gap { from, to, reason: GapReason::Removed }));
                }
                index
            }
        };
        self.enter(index)?;
        Ok(None)
    }

    /// Reads on in the open segment. `None`: what comes next is not there.
    fn read_here(&mut self, limit: Limit) -> Result<Option<RecordBatch>, IoFault> {
        let mut gathered: Option<RecordBatch> = None;
        let Some(open) = &mut self.open else { return Ok(None) };
        let ceiling = self.catalog.superseded_from(&*self.platform, open.index)?;
        let ceiling = ceiling.unwrap_or(Lsn(u64::MAX));
        let is_cached = self.head.as_ref().is_some_and(HeadView::is_cached);
        let is_written = limit.is_live && limit.active.0 == open.file.header.sequence;
        let ahead_end = if is_written && !is_cached { limit.active.1 } else { u64::MAX };
        open.file.limit_read_ahead(ahead_end);
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
    /// `None`: look again.
    fn explain(&mut self, limit: Limit) -> Result<Option<ReadBatch>, ReadError> {
        let platform = self.platform.clone();
        let lost_to = self.lost_to(limit);
        let is_lost = lost_to >= self.position;
        let Some(open) = &mut self.open else { return self.nothing_open(lost_to) };
        let (index, offset, epoch) = (open.index, open.offset, open.epoch);
        let sequence = open.file.header.sequence;
        let path = open.file.path.clone();
        let mut next_used = self.catalog.next_used(&*platform, index)?;
        if next_used.is_none() && is_lost && self.catalog.find_hidden(&*platform)? {
            next_used = self.catalog.next_used(&*platform, index)?;
        }
        if next_used.is_none() && !is_lost && self.known_end == Some((sequence, offset)) {
            return Ok(Some(ReadBatch::CaughtUp));
        }

        let footer = open.file.footer(&*platform).at("read", &path)?;
        let durable_end = if limit.active.0 == sequence { limit.active.1 } else { 0 };
        let reach = footer.as_ref().map_or(durable_end, |footer| footer.end).min(open.file.end());
        let place = Suspicion { offset, expected: self.position, epoch, reach };
        let after = Aftermath::survey(&*platform, &mut open.file, place).at("read", &path)?;
        let ceiling = self.catalog.superseded_from(&*platform, index)?;
        let later = after.later.filter(|(_, it)| ceiling.is_none_or(|end| it.first_lsn < end));
        let is_over = match &footer {
            Some(footer) => offset >= footer.end,
            None => after.dirty_end.max(reach) <= offset,
        };
        if let Some(next) = next_used.filter(|next| self.catalog.begins_damaged(*next))
            && is_over
        {
            // This segment ends here; whatever is wrong is wrong with the next one.
            self.enter(next)?;
            return Ok(None);
        }
        let sealed = footer.map_or(Lsn::ZERO, |footer| Lsn(footer.next_lsn.0 - 1));
        let known = lost_to.max(after.states).max(sealed);
        let goes_on = next_used.is_some_and(|next| !self.catalog.begins_damaged(next));
        if !(known >= self.position || goes_on) {
            self.known_end = Some((sequence, offset));
            return Ok(Some(ReadBatch::CaughtUp));
        }
        let next = match (later, ceiling) {
            (Some((_, header)), _) => header.first_lsn,
            (None, Some(ceiling)) => ceiling,
            (None, None) => known.next(),
        };
        let damage_end = match later {
            Some((offset, _)) => offset,
            None if is_over => offset,
            None => after.dirty_end.max(reach),
        };
        self.salvage(offset..damage_end, self.position..next)?;
        let Some(open) = &mut self.open else { return Ok(None) };
        if !open.file.is_in_place(&*platform).at("open", &path)? {
            // Not damage: retention has taken it away, and it may be written again by now.
            self.open = None;
            self.salvaged.clear();
            return Ok(None);
        }
        if later.is_none() && ceiling.is_some() {
            self.open = None;
        } else {
            open.offset = damage_end;
        }
        Ok(self.salvaged.pop_front())
    }

    /// The last record whose absence is a loss. What a live writer has written without a sync, it may
    /// just be writing again elsewhere, before its watermark says so.
    fn lost_to(&mut self, limit: Limit) -> Lsn {
        let position = self.position;
        if !(limit.durable..limit.promised).contains(&Lsn(position.0 - 1)) {
            self.absent = None;
            return limit.durable;
        }
        let now = self.platform.now();
        let (_, since) = *self.absent.insert(match self.absent {
            Some((absent, since)) if absent == position => (absent, since),
            _ => (position, now),
        });
        if now.since(since) >= ABSENT_FOR { limit.promised } else { limit.durable }
    }

    /// No segment begins at or before the position. `None`: look again.
    fn nothing_open(&mut self, lost_to: Lsn) -> Result<Option<ReadBatch>, ReadError> {
        let nothing_begins = self.catalog.first_used(&*self.platform)?.is_none();
        if !(nothing_begins && lost_to >= self.position) {
            return Ok(Some(ReadBatch::CaughtUp));
        }
        if self.catalog.find_hidden(&*self.platform)? {
            return Ok(None);
        }
        // Every segment that could hold it is gone or blank.
        let (from, to) = (self.position, lost_to);
        Ok(Some(ReadBatch::Gap { from, to, reason: GapReason::Damaged }))
    }

    /// Queues what a damaged range still holds, and the gaps between.
    fn salvage(&mut self, range: Range<u64>, lsns: Range<Lsn>) -> Result<(), ReadError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let path = open.file.path.clone();
        let runs = salvage(&*self.platform, &mut open.file, range.clone(), lsns.clone());
        let runs = runs.at("read", &path)?;
        let is_unreadable = open.file.has_unreadable(range);
        let reason = if is_unreadable { GapReason::Unreadable } else { GapReason::Damaged };
        let mut gaps = missing(lsns, &runs).into_iter().peekable();
        let gap =
            |lsns: Range<Lsn>| ReadBatch::Gap { from: lsns.start, to: Lsn(lsns.end.0 - 1), reason };
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
