//! Walking a log from its first batch to its last, both copies of every segment side by side.
//!
//! Where no copy holds the batch that should be there, the log goes on at the batch with the
//! lowest LSN that is expected or later; what lies between is lost, except the records in it that
//! validate by themselves.
//!
//! Nothing is believed that does not validate under the segment's salt, so stale bytes of an
//! earlier life of the file are nothing.

use super::check::{Check, Lag};
use super::footer::Witness;
use super::image::Image;
use super::mend::Judged;
use super::report::{FindingKind, FindingOutcome};
use super::segments::Pair;
use super::settle::{Expected, Place};
use crate::batch::{BatchHeader, WINDOW_BYTES};
use crate::damage::{missing, salvage};
use crate::error::IoFault;
use crate::segment_file::SegmentFile;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use elgate_types::Lsn;
use elgate_types::limits::BLOCK_BYTES;
use std::ops::Range;
use std::path::PathBuf;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Where the first batch of a segment is.
pub(super) const BEGIN: u64 = SEGMENT_HEADER_BYTES as u64;
/// Beyond every record.
const ALL: Lsn = Lsn(u64::MAX / 2);

/// How far the walk has come.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The LSN that comes next, if it can be told.
    pub(super) next: Option<Lsn>,
    pub(super) epoch: u64,
}

/// Where the records of a segment end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ceiling {
    /// A later segment begins with this LSN, so everything before it must be here.
    Sealed(Lsn),
    /// A writer goes on here; everything before this LSN must be here, the rest is not looked at.
    Live(Lsn),
    /// The log ends here; this LSN and those after it were promised by nobody.
    Last(Lsn),
}

impl Ceiling {
    fn lsn(self) -> Lsn {
        let (Self::Sealed(lsn) | Self::Live(lsn) | Self::Last(lsn)) = self;
        lsn
    }
}

impl Check<'_> {
    /// Walks one segment. `next_begins_damaged`: what is missing at its end may be missing at the
    /// beginning of the next one instead.
    pub(super) fn walk(
        &mut self,
        pair: &mut Pair,
        position: &mut Position,
        ceiling: Ceiling,
        next_begins_damaged: bool,
    ) -> Result<(), IoFault> {
        let mut witness = Witness::new(self.platform, pair)?;
        let ceiling = match (ceiling, witness.footer()) {
            // A footer is written when all before it is stable.
            (Ceiling::Last(lsn), Some(footer)) => Ceiling::Last(lsn.max(footer.next_lsn)),
            (ceiling, _) => ceiling,
        };
        let lag = (!pair.twin_is_complete).then(Lag::default);
        let end = witness.end().unwrap_or(u64::MAX).min(pair.end());
        let salt = pair.header.salt;
        let copies = pair.copies();
        let mut here = Place { pair, at: BEGIN, end, salt, lag };
        self.advance(BEGIN * copies);
        let damage = (self.report.left, self.report.lost_records);
        loop {
            let before = here.at;
            let next = position.next.unwrap_or(Lsn(1));
            let is_over = position.next.is_some_and(|next| next >= ceiling.lsn());
            if is_over && matches!(ceiling, Ceiling::Live(_)) {
                break;
            }
            let is_sealed = matches!(ceiling, Ceiling::Sealed(_));
            let expected = Expected { only_marker: is_over && is_sealed, is_proven: !is_over };
            if let Some((header, batch)) = self.settle(&mut here, position, expected)? {
                witness.take(here.at, &header, &batch);
                self.take(&header, position);
                here.at += u64::from(header.batch_bytes);
            } else if is_over && is_sealed {
                self.leftover(&mut here, "what an abandoned write has left")?;
                break;
            } else {
                let mut later = self.find_later(here.pair, here.at, next, position.epoch)?;
                if later.is_some_and(|(at, it)| at == here.at && it.first_lsn == next) {
                    // That has just been refused.
                    later = self.find_later(here.pair, here.at + BLOCK, next, position.epoch)?;
                }
                let is_last = matches!(ceiling, Ceiling::Last(_));
                let later = later.filter(|(_, it)| is_last || it.first_lsn < ceiling.lsn());
                let Some((offset, header)) = later else {
                    self.ends(&mut here, position, ceiling.lsn(), next_begins_damaged)?;
                    break;
                };
                let is_promised = next < ceiling.lsn();
                // Several writes may be under way at once, and complete in any order.
                if is_last
                    && !is_promised
                    && self.stated_from(here.pair, offset, next, position.epoch)? < next
                {
                    self.leftover(&mut here, "an unfinished write: the next start cuts it")?;
                    break;
                }
                let range = here.at..offset;
                self.damaged(&mut here, range, position.next, header.first_lsn)?;
                position.next = Some(header.first_lsn);
                here.at = offset;
            }
            self.advance((here.at - before) * copies);
        }
        self.advance(here.pair.header.segment_bytes.saturating_sub(here.at) * copies);
        self.report_lag(&here, matches!(ceiling, Ceiling::Sealed(_)));
        if damage == (self.report.left, self.report.lost_records) && self.live.is_none() {
            self.footers(pair, witness, matches!(ceiling, Ceiling::Sealed(_)))?;
        }
        Ok(())
    }

    fn take(&mut self, header: &BatchHeader, position: &mut Position) {
        position.next = Some(header.next_lsn());
        position.epoch = header.epoch;
        self.report.batches += 1;
        self.report.records += u64::from(header.record_count);
        if header.record_count > 0 {
            self.report.first_lsn.get_or_insert(header.first_lsn);
            self.report.last_lsn = Some(Lsn(header.next_lsn().0 - 1));
        }
    }

    fn report_lag(&mut self, here: &Place<'_>, is_sealed: bool) {
        let (Some(lag), Some(there)) = (&here.lag, &here.pair.there) else { return };
        if lag.batches == 0 {
            return;
        }
        let (outcome, advice) = match self.options.repair {
            _ if lag.stays => (FindingOutcome::Note, "it stays so: records before them are lost"),
            true => (FindingOutcome::Repaired, "they were copied"),
            false => (FindingOutcome::Repairable, "the next start copies them, or --repair now"),
        };
        let outcome = if is_sealed { outcome } else { FindingOutcome::Note };
        let what = format!(
            "the mirror lacked {} batches, {} bytes, of the segment",
            lag.batches, lag.bytes
        );
        let path = there.path.clone();
        self.report(FindingKind::Mirror, outcome, &path, what, advice);
    }

    /// Of the batches at or behind `from` that any copy holds, the one with the lowest LSN not
    /// below `expected`: a batch that was written to the wrong place does not hide those it
    /// jumped over.
    pub(super) fn find_later(
        &mut self,
        pair: &mut Pair,
        from: u64,
        expected: Lsn,
        epoch: u64,
    ) -> Result<Option<(u64, BatchHeader)>, IoFault> {
        let mut best: Option<(u64, BatchHeader)> = None;
        let (mut at, mut stop) = (from, pair.end());
        while at < stop {
            for header in self.batches_at(pair, at)? {
                let is_later = header.first_lsn >= expected && header.epoch >= epoch;
                let is_lower = best.is_none_or(|(_, best)| header.first_lsn < best.first_lsn);
                if is_later && is_lower {
                    best = Some((at, header));
                    stop = stop.min(at.saturating_add(WINDOW_BYTES));
                }
            }
            if best.is_some_and(|(_, header)| header.first_lsn == expected) {
                break;
            }
            at += BLOCK;
        }
        Ok(best)
    }

    /// The batches that the copies have at `at`, as far as they can be told to be of this log: a
    /// mirror that may be behind says only, where there is a copy here, what it states itself.
    pub(super) fn batches_at(&self, pair: &mut Pair, at: u64) -> Result<Vec<BatchHeader>, IoFault> {
        let (salt, end) = (pair.header.salt, pair.end());
        let is_behind = pair.here.is_some() && !pair.twin_is_complete;
        let believed = if is_behind { pair.twin_stated } else { ALL };
        let mut found = Vec::new();
        for (image, believed) in [(&mut pair.here, ALL), (&mut pair.there, believed)] {
            let Some(image) = image else { continue };
            if let Judged::Whole(header) | Judged::Mended(header, _) =
                image.judge(self.platform, at, end, salt)?
                && header.reaches() <= believed
            {
                found.push(header);
            }
        }
        Ok(found)
    }

    /// The highest durable watermark that a batch from `from` on states, of those with an LSN not
    /// below `expected` and no lower epoch than any before: others were left behind by a crash.
    pub(super) fn stated_from(
        &self,
        pair: &mut Pair,
        from: u64,
        expected: Lsn,
        mut epoch: u64,
    ) -> Result<Lsn, IoFault> {
        let (mut at, mut stated) = (from, Lsn::ZERO);
        while at < pair.end() {
            for header in self.batches_at(pair, at)? {
                if header.first_lsn >= expected && header.epoch >= epoch {
                    epoch = header.epoch;
                    stated = stated.max(header.durable_lsn);
                }
            }
            at += BLOCK;
        }
        Ok(stated)
    }

    /// The highest durable watermark that a batch of the mirror's copy states. Whatever became of
    /// that batch: what was durable then still is.
    pub(super) fn twin_states(&self, pair: &mut Pair) -> Result<Lsn, IoFault> {
        let (mut at, end, mut stated) = (BEGIN, pair.end(), Lsn::ZERO);
        let Some(twin) = &mut pair.there else { return Ok(stated) };
        while at < end {
            let found = twin.judge(self.platform, at, end, pair.header.salt)?;
            if let Judged::Whole(header) | Judged::Mended(header, _) = found {
                stated = stated.max(header.durable_lsn);
            }
            at += BLOCK;
        }
        Ok(stated)
    }

    /// Reports a range that no copy holds whole, and what it costs.
    fn damaged(
        &mut self,
        here: &mut Place<'_>,
        range: Range<u64>,
        next: Option<Lsn>,
        later: Lsn,
    ) -> Result<(), IoFault> {
        let path = here.pair.path().to_owned();
        if let Some(lag) = &mut here.lag {
            lag.stays = true;
        }
        let copy = self.keep_damage(here, range.clone())?;
        let bytes = (!range.is_empty()).then(|| range.clone());
        let unreadable = here.pair.here.as_ref().is_some_and(Image::has_unreadable);
        let why = if unreadable { "; the device cannot read parts of it" } else { "" };
        let Some(next) = next else {
            let what = format!("no batch validates here{why}; what was in it cannot be told");
            self.lost(&path, bytes, None, what, copy);
            return Ok(());
        };
        let runs = match SegmentFile::open(self.platform, &path, true) {
            // What the device cannot read now is as good as lost, and no reason to give up.
            Ok(Ok(file)) if !range.is_empty() => {
                let mut file = file.read_around();
                salvage(self.platform, &mut file, range, next..later).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let gaps = missing(next..later, &runs);
        if gaps.is_empty() {
            let what = if next == later {
                format!("there is something here that is no part of the log{why}")
            } else {
                format!("a batch does not validate here{why}; its records do, and are served")
            };
            self.lost(&path, bytes, None, what, copy);
            return Ok(());
        }
        for gap in gaps {
            let lsns = (gap.start, Lsn(gap.end.0 - 1));
            let what = format!("acknowledged records cannot be read{why}");
            self.lost(&path, bytes.clone(), Some(lsns), what, copy.clone());
        }
        Ok(())
    }

    /// Copies what is left of a damaged range aside, if anything is and repairing is wanted.
    fn keep_damage(
        &mut self,
        here: &mut Place<'_>,
        range: Range<u64>,
    ) -> Result<Option<PathBuf>, IoFault> {
        let Some(image) = &mut here.pair.here else { return Ok(None) };
        if !self.options.repair || image.is_blank(self.platform, range.clone())? {
            return Ok(None);
        }
        image.keep(self.platform, range).map(Some)
    }

    /// No batch follows in this segment, and those before `until` should.
    fn ends(
        &mut self,
        here: &mut Place<'_>,
        position: &mut Position,
        until: Lsn,
        next_begins_damaged: bool,
    ) -> Result<(), IoFault> {
        let at = here.at;
        if position.next.is_some_and(|next| until <= next) {
            return self.leftover(here, "an unfinished write: the next start cuts it");
        }
        let dirty_end = match &mut here.pair.here {
            // What is not blank may be of an earlier life; the next segment is a better guess.
            _ if here.pair.header.is_recycled && next_begins_damaged => at,
            Some(_) if here.pair.header.is_recycled => here.end.min(at + WINDOW_BYTES),
            Some(image) => image.dirty_end(self.platform, at..here.end)?,
            None => at,
        };
        if dirty_end == at && next_begins_damaged {
            // This segment ends here; whatever is wrong is wrong with the next one.
            return Ok(());
        }
        self.damaged(here, at..dirty_end.max(at), position.next, until)?;
        position.next = Some(until);
        Ok(())
    }

    /// Takes note of what lies in a segment to which no batch was written.
    pub(super) fn unused(&mut self, pair: &mut Pair) -> Result<(), IoFault> {
        let (end, salt) = (pair.end(), pair.header.salt);
        let mut here = Place { pair, at: BEGIN, end, salt, lag: None };
        self.leftover(&mut here, "something that is no batch")
    }

    /// Takes note of what lies behind the last batch, unless it may be of an earlier life.
    fn leftover(&mut self, here: &mut Place<'_>, what: &str) -> Result<(), IoFault> {
        let (at, end) = (here.at, here.pair.end());
        let may_be_older = here.pair.header.is_recycled;
        let Some(image) = &mut here.pair.here else { return Ok(()) };
        if self.live.is_some() || may_be_older || image.is_blank(self.platform, at..end)? {
            return Ok(());
        }
        let what = format!("behind byte {at} lies {what}");
        let path = image.path.clone();
        self.report(FindingKind::UnfinishedWrite, FindingOutcome::Note, &path, what, "");
        Ok(())
    }
}
