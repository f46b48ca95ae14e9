//! The reader: follows a log from any process, live or offline, blocking.
//!
//! While a writer lives, the head file says how far may be read, and everything up to there must
//! be in the files: what does not read is damaged, or has been removed. Without a writer, the
//! valid prefix is read, by the rules of recovery, so a torn tail is never served.
//!
//! Reads go past the page cache where that works, so that they leave nothing in it for the
//! writer's direct writes to stumble over.

use crate::batch::BatchHeader;
use crate::catalog::{Catalog, Entry, reopen};
use crate::damage::{Aftermath, missing, salvage};
use crate::error::{AtPath, IoFault, ReadError};
use crate::head::HeadView;
use crate::record::{self, Records};
use crate::segment_file::SegmentFile;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use elgate_io::{Platform, futex};
use elgate_types::{Lsn, WallTime};
use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the first record still kept.
    Start,
    /// Behind the last record there is now.
    End,
    /// At this record. Records before the first one kept are reported as a gap.
    Lsn(Lsn),
    /// At the first record not older than this. Exact as long as the wall clock has not been set
    /// back.
    Time(WallTime),
}

/// What comes next in the log.
#[derive(Debug)]
pub enum ReadBatch {
    /// Records, contiguous.
    Records(RecordBatch),
    /// Records that cannot be served: removed by retention, or damaged.
    Gap {
        /// The first of them.
        from: Lsn,
        /// The last of them.
        to: Lsn,
        /// Why.
        reason: GapReason,
    },
    /// There is nothing further at present; see [`LogReader::wait`].
    CaughtUp,
}

/// Why records cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Retention has removed them.
    Removed,
    /// They are damaged; recovery copies what is left of them to the quarantine folder.
    Damaged,
}

impl std::fmt::Display for GapReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Removed => "removed by retention",
            Self::Damaged => "damaged on disk",
        })
    }
}

/// Records in memory of their own.
#[derive(Debug, Clone)]
pub struct RecordBatch {
    framed: Vec<u8>,
    first: Lsn,
    last: Lsn,
}

impl RecordBatch {
    /// Its first LSN.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.first
    }

    /// Its last LSN.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.last
    }

    /// Its records, in order, without copying.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.framed, self.first, self.last)
    }
}

impl<'a> IntoIterator for &'a RecordBatch {
    type Item = crate::Record<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.records()
    }
}

/// Small batches are handed on together up to this size.
const GATHER_BYTES: usize = 128 * 1024;

/// Reads a log in order of LSN. Used from one thread at a time; moves between threads.
#[derive(Debug)]
pub struct LogReader {
    platform: Arc<dyn Platform>,
    dir: PathBuf,
    catalog: Catalog,
    head: Option<HeadView>,
    open: Option<OpenSegment>,
    position: Lsn,
    /// Records older than this are skipped until one is not.
    since: Option<WallTime>,
    /// What a damaged range has left, to be handed out first.
    salvaged: VecDeque<ReadBatch>,
    /// A place that was looked at in vain, so that an offline log is not searched again and
    /// again.
    known_end: Option<(u64, u64)>,
}

#[derive(Debug)]
struct OpenSegment {
    file: SegmentFile,
    index: usize,
    offset: u64,
    epoch: u64,
}

/// How far may be read.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// The last record that must be there, as far as anybody has said.
    promised: Lsn,
    /// Whether nothing beyond it may be served.
    is_live: bool,
}

impl LogReader {
    /// Opens the log in `dir`.
    ///
    /// # Errors
    /// [`ReadError::NoLog`] if there is none, or what the operating system refused.
    pub fn open(
        platform: Arc<dyn Platform>,
        dir: &Path,
        from: ReadFrom,
    ) -> Result<Self, ReadError> {
        let head = HeadView::open(&*platform, dir);
        let preferred = head.as_ref().and_then(HeadView::log_id);
        let mut catalog = match Catalog::load(&*platform, dir, preferred, None) {
            Err(fault) if fault.error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ReadError::NoLog { dir: dir.to_owned() });
            }
            result => result?,
        };
        if catalog.entries.is_empty() {
            return Err(ReadError::NoLog { dir: dir.to_owned() });
        }
        catalog.find_damaged_firsts(&*platform)?;
        let first = first_kept(&catalog, head.as_ref());
        let mut reader = Self {
            platform,
            dir: dir.to_owned(),
            catalog,
            head,
            open: None,
            position: first,
            since: None,
            salvaged: VecDeque::new(),
            known_end: None,
        };
        match from {
            ReadFrom::Start => {}
            ReadFrom::Lsn(lsn) => reader.position = lsn.max(Lsn(1)),
            ReadFrom::End => reader.seek_end()?,
            ReadFrom::Time(time) => reader.seek_time(time)?,
        }
        Ok(reader)
    }

    /// The LSN that the next record returned will have, if nothing is missing.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// The next records, or why there are none.
    ///
    /// # Errors
    /// [`ReadError`]; the position stays, so the call may be repeated.
    pub fn next_batch(&mut self) -> Result<ReadBatch, ReadError> {
        loop {
            let batch = match self.salvaged.pop_front() {
                Some(batch) => batch,
                None => self.advance()?,
            };
            match &batch {
                ReadBatch::Records(records) => self.position = records.last.next(),
                ReadBatch::Gap { to, .. } => self.position = to.next(),
                ReadBatch::CaughtUp => return Ok(batch),
            }
            match self.since {
                None => return Ok(batch),
                Some(since) => {
                    if let Some(batch) = not_older(batch, since) {
                        self.since = None;
                        return Ok(batch);
                    }
                }
            }
        }
    }

    /// Waits until there may be something further, at most `timeout`. Returns whether there is,
    /// as far as the head file knows. Wakes for a writer that comes later, too.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        if self.head.is_none() {
            self.head = HeadView::open(&*self.platform, &self.dir);
        }
        let Some(head) = &self.head else {
            // Nobody wakes this word: a pause that needs no clock of our own.
            futex::wait(&AtomicU32::new(0), 0, Some(timeout));
            return false;
        };
        let log_id = self.catalog.log_id.unwrap_or_default();
        let position = self.position;
        head.wait_until(timeout, || {
            head.watermarks(log_id).is_some_and(|marks| head.readable(&marks) >= position)
        })
    }

    fn limit(&mut self) -> Limit {
        if self.head.is_none() {
            self.head = HeadView::open(&*self.platform, &self.dir);
        }
        let log_id = self.catalog.log_id.unwrap_or_default();
        let Some(head) = &self.head else { return Limit { promised: Lsn::ZERO, is_live: false } };
        let is_live = head.writer_is_alive(&*self.platform);
        let promised = head
            .watermarks(log_id)
            .map_or(Lsn::ZERO, |marks| if is_live { head.readable(&marks) } else { marks.durable });
        Limit { promised, is_live }
    }

    /// One step: finds what is at the position.
    fn advance(&mut self) -> Result<ReadBatch, ReadError> {
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

    fn seek_end(&mut self) -> Result<(), ReadError> {
        let limit = self.limit();
        if limit.is_live {
            self.position = limit.promised.next();
            return Ok(());
        }
        if let Some(first) = self.catalog.entries.iter().rev().find_map(|entry| entry.first_lsn) {
            self.position = first;
        }
        while !matches!(self.next_batch()?, ReadBatch::CaughtUp) {}
        Ok(())
    }

    /// Begins in the last segment whose first record is older, and skips from there.
    fn seek_time(&mut self, time: WallTime) -> Result<(), ReadError> {
        self.since = Some(time);
        for entry in self.catalog.entries.iter().rev() {
            let Some(first) = entry.first_lsn else { continue };
            let Some(mut file) = reopen(&*self.platform, entry)? else { continue };
            let begin = SEGMENT_HEADER_BYTES as u64;
            let Some(header) = file.batch_at(&*self.platform, begin).at("read", &entry.path)?
            else {
                continue;
            };
            let bytes = file.read(&*self.platform, begin, header.batch_bytes as usize);
            let body = header.body(bytes.at("read", &entry.path)?);
            if record::decode(body).is_some_and(|(record, _)| record.time < time) {
                self.position = first;
                return Ok(());
            }
        }
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

/// The first record still kept.
fn first_kept(catalog: &Catalog, head: Option<&HeadView>) -> Lsn {
    let used = |entry: &&Entry| entry.first_lsn.is_some() || entry.begins_damaged;
    let Some(entry) = catalog.entries.iter().find(used) else { return Lsn(1) };
    let first_valid = entry.first_lsn.unwrap_or(Lsn(u64::MAX));
    if !entry.begins_damaged {
        return first_valid;
    }
    if entry.header.sequence == 1 {
        return Lsn(1);
    }
    let marks = catalog.log_id.and_then(|log_id| head?.watermarks(log_id));
    marks.map_or(first_valid, |marks| marks.first).clamp(Lsn(1), first_valid)
}

/// The part of a batch from the first record that is not older than `since`.
fn not_older(batch: ReadBatch, since: WallTime) -> Option<ReadBatch> {
    match batch {
        ReadBatch::Records(mut records) => {
            let first = records.records().find(|record| record.time >= since)?.lsn;
            records.first = first;
            Some(ReadBatch::Records(records))
        }
        // Whatever was lost before the time asked for was not asked for.
        _ => None,
    }
}
