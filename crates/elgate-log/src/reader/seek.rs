//! Where to begin: by number, by time, or at the end. Indexes say where to look, so that nothing
//! is read that lies far before; what they say is checked against the batch it points to.

use super::{LogReader, OpenSegment, ReadBatch};
use crate::error::{AtPath, IoFault, ReadError};
use crate::head::HeadView;
use crate::index::SparseIndex;
use crate::record;
use crate::segment_file::SegmentFile;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use elgate_io::Platform;
use elgate_types::{Lsn, WallTime};

impl LogReader {
    /// The first record still kept.
    pub(super) fn first_kept(&mut self) -> Result<Lsn, IoFault> {
        let Some(index) = self.catalog.first_used(&*self.platform)? else { return Ok(Lsn(1)) };
        let first_valid = self.catalog.first_lsn(&*self.platform, index)?.unwrap_or(Lsn(u64::MAX));
        if !self.catalog.begins_damaged(index) {
            return Ok(first_valid);
        }
        let is_first =
            self.catalog.entries[index].header().is_some_and(|header| header.sequence == 1);
        if is_first {
            return Ok(Lsn(1));
        }
        let marks = self.catalog.log_id.and_then(|log_id| self.head.as_ref()?.watermarks(log_id));
        Ok(marks.map_or(first_valid, |marks| marks.first).clamp(Lsn(1), first_valid))
    }

    pub(super) fn seek_end(&mut self) -> Result<(), ReadError> {
        let limit = self.limit();
        if limit.is_live {
            self.position = limit.promised.next();
            return Ok(());
        }
        self.position = self.first_kept()?;
        if let Some(last) = self.catalog.last_begun() {
            let first = self.catalog.first_lsn(&*self.platform, last)?;
            self.position = first.unwrap_or(self.position);
            if let Some(mut file) = self.catalog.open(&*self.platform, last)? {
                let index = self.index_of(&mut file)?;
                let known = index.up_to_lsn(limit.promised);
                let entry = file.follow(&*self.platform, known).at("read", &file.path)?;
                self.position = entry.map_or(self.position, |entry| entry.first_lsn);
            }
        }
        while !matches!(self.next_batch()?, ReadBatch::CaughtUp) {}
        Ok(())
    }

    /// Begins at the last batch known that is older, in the last segment that begins with one,
    /// and skips from there.
    pub(super) fn seek_time(&mut self, time: WallTime) -> Result<(), ReadError> {
        let platform = self.platform.clone();
        let found = self.catalog.last_where(|catalog, index| {
            let Some(mut file) = catalog.open(&*platform, index)? else { return Ok(None) };
            Ok(first_time(&*platform, &mut file)?.map(|first| first < time))
        })?;
        self.position = self.first_kept()?;
        self.since = Some(time);
        let Some(found) = found else { return Ok(()) };
        let first = self.catalog.first_lsn(&*self.platform, found)?;
        self.position = first.unwrap_or(self.position);
        let Some(mut file) = self.catalog.open(&*self.platform, found)? else { return Ok(()) };
        let index = self.index_of(&mut file)?;
        let entry = file.follow(&*self.platform, index.before_time(time)).at("read", &file.path)?;
        self.position = entry.map_or(self.position, |entry| entry.first_lsn);
        Ok(())
    }

    /// Opens a segment at the position, or at the last batch before it that is known.
    pub(super) fn enter(&mut self, index: usize) -> Result<(), IoFault> {
        // A log that lives in the page cache is read from there: a direct read would force it out.
        let direct = !self.head.as_ref().is_some_and(HeadView::is_cached);
        self.open = None;
        let Some(mut file) = self.catalog.open_with(&*self.platform, index, direct)? else {
            return Ok(());
        };
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        let first = self.catalog.first_lsn(&*self.platform, index)?;
        if first.is_some_and(|first| first < self.position) {
            let known = self.index_of(&mut file)?;
            let entry = file.follow(&*self.platform, known.up_to_lsn(self.position));
            offset = entry.at("read", &file.path)?.map_or(offset, |entry| entry.offset);
        }
        self.open = Some(OpenSegment { file, index, offset, epoch: 0 });
        Ok(())
    }

    /// What is known of where batches are in a segment: by the head file, while it is written, or
    /// by its footer.
    fn index_of(&self, file: &mut SegmentFile) -> Result<SparseIndex, IoFault> {
        let header = file.header.clone();
        let live = self.head.as_ref().and_then(|head| head.index(header.log_id, header.sequence));
        if let Some(entries) = live {
            return Ok(SparseIndex::from_entries(header.segment_bytes, entries));
        }
        let footer = file.footer(&*self.platform).at("read", &file.path)?;
        Ok(footer.map_or_else(|| SparseIndex::new(header.segment_bytes), |footer| footer.index))
    }
}

/// When the first record of a segment was taken, if it begins with a valid batch of records.
fn first_time(
    platform: &dyn Platform,
    file: &mut SegmentFile,
) -> Result<Option<WallTime>, IoFault> {
    let footer = file.footer(platform).at("read", &file.path)?;
    if let Some(footer) = footer {
        return Ok(Some(footer.first_time).filter(|time| *time > WallTime(0)));
    }
    let path = file.path.clone();
    let begin = SEGMENT_HEADER_BYTES as u64;
    let Some(header) = file.batch_at(platform, begin).at("read", &path)? else { return Ok(None) };
    let bytes = file.read(platform, begin, header.batch_bytes as usize).at("read", &path)?;
    Ok(record::decode(header.body(bytes)).map(|(record, _)| record.time))
}
