//! Which LSNs are in which segment.

use super::{Begin, Catalog, Look};
use crate::damage::{Aftermath, Suspicion};
use crate::error::{AtPath, IoFault};
use crate::segment_header::SEGMENT_HEADER_BYTES;
use elgate_io::Platform;
use elgate_types::Lsn;

impl Catalog {
    /// Whether a segment holds anything: batches, or damage where they should be.
    fn is_used(&self, index: usize) -> bool {
        match self.entries[index].seen().map(|segment| segment.begin) {
            Some(Begin::Batch(_) | Begin::Damaged(_) | Begin::Other) => true,
            Some(Begin::Blank) => self.last_begun.is_some_and(|last| index < last),
            None => false,
        }
    }

    /// Whether something other than a batch is where a segment's first batch should be.
    pub(crate) fn begins_damaged(&self, index: usize) -> bool {
        self.is_used(index) && self.entries[index].begins_at().is_none()
    }

    /// The first LSN of a segment: of its first valid batch, or of the next segment if that comes
    /// first, or this one has none any more. `None`: nothing is in it. Never falls from one
    /// segment to the next.
    pub(crate) fn first_lsn(
        &mut self,
        platform: &dyn Platform,
        index: usize,
    ) -> Result<Option<Lsn>, IoFault> {
        self.see(platform, index)?;
        if !self.is_used(index) {
            return Ok(None);
        }
        match self.entries[index].seen().map(|segment| segment.begin) {
            Some(Begin::Batch(first)) => Ok(Some(first)),
            Some(Begin::Damaged(first)) => {
                // Nothing was acknowledged in a segment that failed from its first write on; the
                // next one has its LSNs.
                let next = self.superseded_from(platform, index)?;
                Ok(first.into_iter().chain(next).min())
            }
            _ => {
                self.find_damaged_first(platform, index)?;
                self.first_lsn(platform, index)
            }
        }
    }

    /// Finds where a segment begins whose first batch is not valid, by its first valid one.
    /// Returns whether it holds any.
    fn find_damaged_first(
        &mut self,
        platform: &dyn Platform,
        index: usize,
    ) -> Result<bool, IoFault> {
        let mut first = None;
        if let Some(mut file) = self.open(platform, index)? {
            let offset = SEGMENT_HEADER_BYTES as u64;
            let place = Suspicion { offset, expected: Lsn(1), epoch: 0, reach: 0 };
            let found = Aftermath::survey(platform, &mut file, place).at("read", &file.path)?;
            first = found.later.map(|(_, header)| header.first_lsn);
        }
        if let Look::At(segment) = &mut self.entries[index].look {
            segment.begin = Begin::Damaged(first);
        }
        Ok(first.is_some())
    }

    /// Looks into segments behind the last that has begun: with the block of their first batch
    /// zeroed they look as if they were only prepared. Returns whether one holds batches.
    pub(crate) fn find_hidden(&mut self, platform: &dyn Platform) -> Result<bool, IoFault> {
        let mut is_found = false;
        for index in self.last_begun.map_or(0, |last| last + 1)..self.entries.len() {
            let begin = self.entries[index].seen().map(|segment| segment.begin);
            if begin == Some(Begin::Blank) {
                is_found |= self.find_damaged_first(platform, index)?;
                if let Look::At(segment) = &mut self.entries[index].look
                    && segment.begin == Begin::Damaged(None)
                {
                    segment.begin = Begin::Blank;
                }
            }
        }
        Ok(is_found)
    }

    /// The first segment behind the one at `index` that holds anything.
    pub(crate) fn next_used(
        &mut self,
        platform: &dyn Platform,
        index: usize,
    ) -> Result<Option<usize>, IoFault> {
        for next in index + 1..self.entries.len() {
            self.see(platform, next)?;
            if self.is_used(next) {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    /// Where the LSNs of the segment at `index` end: where the next one begins. Of two batches
    /// with the same LSNs, the one in the later segment has the higher epoch.
    pub(crate) fn superseded_from(
        &mut self,
        platform: &dyn Platform,
        index: usize,
    ) -> Result<Option<Lsn>, IoFault> {
        match self.next_used(platform, index)? {
            Some(next) => self.first_lsn(platform, next),
            None => Ok(None),
        }
    }

    /// The first segment that holds anything.
    pub(crate) fn first_used(&mut self, platform: &dyn Platform) -> Result<Option<usize>, IoFault> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        self.see(platform, 0)?;
        if self.is_used(0) { Ok(Some(0)) } else { self.next_used(platform, 0) }
    }

    /// The last segment that begins with a batch.
    pub(crate) fn last_begun(&self) -> Option<usize> {
        self.last_begun
    }

    /// The last segment that begins at or before `lsn`. Looks at a few, however many there are.
    pub(crate) fn last_up_to(
        &mut self,
        platform: &dyn Platform,
        lsn: Lsn,
    ) -> Result<Option<usize>, IoFault> {
        self.last_where(|catalog, index| {
            let first = catalog.first_lsn(platform, index)?;
            Ok(first.map(|first| first <= lsn))
        })
    }

    /// The last segment for which `holds`, which holds for all before one for which it does.
    /// `None` from it: that cannot be told of this one.
    pub(crate) fn last_where(
        &mut self,
        mut holds: impl FnMut(&mut Self, usize) -> Result<Option<bool>, IoFault>,
    ) -> Result<Option<usize>, IoFault> {
        let mut found = None;
        let (mut low, mut high) = (0, self.entries.len());
        // The end is asked for most.
        let mut probe = self.last_begun.unwrap_or(0);
        while low < high {
            let mut answer = None;
            let mut at = probe;
            while at < high && answer.is_none() {
                answer = holds(self, at)?;
                at += usize::from(answer.is_none());
            }
            if answer == Some(true) {
                found = Some(at);
                low = at + 1;
            } else {
                high = probe;
            }
            probe = low + (high - low) / 2;
        }
        Ok(found)
    }
}
