//! Walking a log from its first batch to its last, both copies of every segment side by side.
//!
//! Where a batch should be, a copy that holds it whole counts before one that is whole after a
//! correction, and either before none. Where no copy does, the log goes on at the batch with the
//! lowest LSN that is expected or later; what lies between is lost, except the records in it that
//! validate by themselves.
//!
//! Nothing is believed that does not validate under the segment's salt, so stale bytes of an
//! earlier life of the file are nothing.

use super::check::{Check, Wrong};
use super::image::Image;
use super::mend::{Judged, Mend};
use super::report::{FindingKind, Outcome};
use super::segments::Pair;
use crate::batch::{BatchHeader, WINDOW_BYTES};
use crate::damage::{missing, salvage};
use crate::error::{AtPath, IoFault};
use crate::segment_file::SegmentFile;
use crate::segment_header::SEGMENT_HEADER_BYTES;
use elgate_types::Lsn;
use elgate_types::limits::BLOCK_BYTES;
use std::ops::Range;
use std::path::PathBuf;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// How far the walk has come.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The LSN that comes next, if it can be told.
    pub(super) next: Option<Lsn>,
    pub(super) epoch: u64,
    /// The highest durable watermark that a batch states.
    pub(super) stated: Lsn,
}

/// Where the records of a segment end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ceiling {
    /// A later segment begins with this LSN, so everything before it must be here.
    Sealed(Lsn),
    /// A writer goes on here; everything before this LSN must be here, the rest is not looked at.
    Live(Lsn),
    /// The log ends here; this LSN and those after it were promised by nobody but batches.
    Last(Lsn),
}

/// A place in a segment, and what is expected there.
struct Here<'p> {
    pair: &'p mut Pair,
    at: u64,
    end: u64,
    salt: u32,
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
        let (end, salt) = (pair.end(), pair.header.salt);
        let mut here = Here { pair, at: SEGMENT_HEADER_BYTES as u64, end, salt };
        loop {
            let before = here.at;
            let is_over = |position: &Position| match ceiling {
                Ceiling::Sealed(lsn) | Ceiling::Live(lsn) => {
                    position.next.is_some_and(|next| next >= lsn)
                }
                Ceiling::Last(_) => false,
            };
            if is_over(position) && matches!(ceiling, Ceiling::Live(_)) {
                break;
            }
            let batch = self.settle(&mut here, position, is_over(position))?;
            if let Some(header) = batch {
                self.take(&header, position);
                here.at += u64::from(header.batch_bytes);
            } else if is_over(position) {
                self.leftover(
                    &mut here,
                    "an abandoned segment goes on with what was never acknowledged",
                )?;
                break;
            } else {
                let expected = position.next.unwrap_or(Lsn(1));
                let later = self.find_later(here.pair, here.at, expected, position.epoch)?;
                let is_ours = |(_, header): &(u64, BatchHeader)| match ceiling {
                    Ceiling::Sealed(lsn) | Ceiling::Live(lsn) => header.first_lsn < lsn,
                    Ceiling::Last(_) => true,
                };
                match later.filter(is_ours) {
                    Some((offset, header)) => {
                        let at = here.at;
                        self.damaged(&mut here, at..offset, position.next, header.first_lsn)?;
                        position.next = Some(header.first_lsn);
                        here.at = offset;
                    }
                    None => {
                        self.ends(&mut here, position, ceiling, next_begins_damaged)?;
                        break;
                    }
                }
            }
            self.advance(here.at - before);
        }
        self.advance(here.end.saturating_sub(here.at));
        Ok(())
    }

    fn take(&mut self, header: &BatchHeader, position: &mut Position) {
        position.next = Some(header.next_lsn());
        position.epoch = header.epoch;
        position.stated = position.stated.max(header.durable_lsn);
        self.report.batches += 1;
        self.report.records += u64::from(header.record_count);
        if header.record_count > 0 {
            self.report.first_lsn.get_or_insert(header.first_lsn);
            self.report.last_lsn = Some(Lsn(header.next_lsn().0 - 1));
        }
    }

    /// Finds the batch that should be here, and sets right the copies that do not hold it.
    /// `None`: no copy does. With `only_marker`, only a batch without records can be here.
    fn settle(
        &mut self,
        here: &mut Here<'_>,
        position: &Position,
        only_marker: bool,
    ) -> Result<Option<BatchHeader>, IoFault> {
        let fits = |header: &BatchHeader| {
            header.epoch >= position.epoch
                && position.next.is_none_or(|next| header.first_lsn == next)
                && !(only_marker && header.record_count > 0)
        };
        let (at, end, salt) = (here.at, here.end, here.salt);
        let first = self.judge(here.pair.here.as_mut(), at, end, salt, fits)?;
        let second = self.judge(here.pair.there.as_mut(), at, end, salt, fits)?;
        let header = match (&first, &second) {
            (Judged::Whole(header), _)
            | (_, Judged::Whole(header))
            | (Judged::Mended(header, _), _)
            | (_, Judged::Mended(header, _)) => *header,
            (Judged::Bad, Judged::Bad) => return Ok(None),
        };
        let both = here.pair.here.is_some() && here.pair.there.is_some();
        if matches!(first, Judged::Whole(_)) && !both {
            return Ok(Some(header));
        }
        let bytes = header.batch_bytes as usize;
        let right = match (&first, &second) {
            (Judged::Whole(_), _) => self.bytes_of(here.pair.here.as_mut(), here.at, bytes)?,
            (_, Judged::Whole(_)) => self.bytes_of(here.pair.there.as_mut(), here.at, bytes)?,
            (Judged::Mended(_, mend), _) | (_, Judged::Mended(_, mend)) => mend.bytes.clone(),
            (Judged::Bad, Judged::Bad) => return Ok(None),
        };
        for (image, judged) in
            [(here.pair.here.as_mut(), first), (here.pair.there.as_mut(), second)]
        {
            let Some(image) = image else { continue };
            if image.read(self.platform, at, bytes)? == &right[..] {
                continue;
            }
            let (kind, what) = explain(&judged, &right);
            let lsns = lsns_of(&header);
            self.set_right(image, Wrong { kind, offset: at, lsns, what }, &right)?;
        }
        Ok(Some(header))
    }

    fn judge(
        &self,
        image: Option<&mut Image>,
        at: u64,
        end: u64,
        salt: u32,
        fits: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Judged, IoFault> {
        let Some(image) = image else { return Ok(Judged::Bad) };
        for is_second_look in [false, true] {
            if is_second_look {
                // What was read ahead may be older than what a writer has promised since.
                image.forget(self.platform)?;
            }
            let judged = image.judge(self.platform, at, end, salt)?;
            let is_right = match &judged {
                Judged::Whole(header) | Judged::Mended(header, _) => fits(header),
                Judged::Bad => false,
            };
            if is_right {
                return Ok(judged);
            }
            if self.live.is_none() {
                break;
            }
        }
        Ok(Judged::Bad)
    }

    fn bytes_of(
        &self,
        image: Option<&mut Image>,
        at: u64,
        bytes: usize,
    ) -> Result<Vec<u8>, IoFault> {
        let Some(image) = image else { return Ok(Vec::new()) };
        Ok(image.read(self.platform, at, bytes)?.to_vec())
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
        let (salt, end) = (pair.header.salt, pair.end());
        let mut best: Option<(u64, BatchHeader)> = None;
        let (mut at, mut stop) = (from, end);
        while at < stop {
            for image in [&mut pair.here, &mut pair.there].into_iter().flatten() {
                let (Judged::Whole(header) | Judged::Mended(header, _)) =
                    image.judge(self.platform, at, end, salt)?
                else {
                    continue;
                };
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

    /// Reports a range that no copy holds whole, and what it costs.
    fn damaged(
        &mut self,
        here: &mut Here<'_>,
        range: Range<u64>,
        next: Option<Lsn>,
        later: Lsn,
    ) -> Result<(), IoFault> {
        let path = here.pair.path().to_owned();
        let copy = self.keep_damage(here, range.clone())?;
        let bytes = (!range.is_empty()).then(|| range.clone());
        let unreadable = here.pair.here.as_ref().is_some_and(|image| image.unreadable_blocks() > 0);
        let why = if unreadable { "; the device cannot read parts of it" } else { "" };
        let Some(next) = next else {
            let what = format!("no batch validates here{why}; what was in it cannot be told");
            self.lost(&path, bytes, None, what, copy);
            return Ok(());
        };
        let runs = match SegmentFile::open(self.platform, &path, true).at("read", &path)? {
            Ok(mut file) if !range.is_empty() => {
                salvage(self.platform, &mut file, range, next..later).at("read", &path)?
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
        here: &mut Here<'_>,
        range: Range<u64>,
    ) -> Result<Option<PathBuf>, IoFault> {
        let Some(image) = &mut here.pair.here else { return Ok(None) };
        if !self.options.repair || image.is_blank(self.platform, range.clone())? {
            return Ok(None);
        }
        image.keep(self.platform, range).map(Some)
    }

    /// No batch follows in this segment.
    fn ends(
        &mut self,
        here: &mut Here<'_>,
        position: &mut Position,
        ceiling: Ceiling,
        next_begins_damaged: bool,
    ) -> Result<(), IoFault> {
        let at = here.at;
        let until = match ceiling {
            Ceiling::Sealed(lsn) | Ceiling::Live(lsn) => lsn,
            Ceiling::Last(promised) => promised.max(position.stated.next()),
        };
        if position.next.is_some_and(|next| until <= next) {
            return self.leftover(here, "an unfinished write: the next start cuts it");
        }
        let dirty_end = match &mut here.pair.here {
            Some(image) => image.dirty_end(self.platform, at..here.end)?,
            None => at,
        };
        if dirty_end == at && next_begins_damaged {
            // This segment ends here; whatever is wrong is wrong with the next one.
            return Ok(());
        }
        self.damaged(here, at..dirty_end, position.next, until)?;
        position.next = Some(until);
        Ok(())
    }

    /// Takes note of what lies behind the last batch.
    pub(super) fn leftover_from(
        &mut self,
        pair: &mut Pair,
        at: u64,
        what: &str,
    ) -> Result<(), IoFault> {
        let (end, salt) = (pair.end(), pair.header.salt);
        self.leftover(&mut Here { pair, at, end, salt }, what)
    }

    fn leftover(&mut self, here: &mut Here<'_>, what: &str) -> Result<(), IoFault> {
        let (at, end) = (here.at, here.end);
        let Some(image) = &mut here.pair.here else { return Ok(()) };
        if self.live.is_some() || image.is_blank(self.platform, at..end)? {
            return Ok(());
        }
        let what = format!("behind byte {at} lies {what}");
        let path = image.path.clone();
        self.report(FindingKind::UnfinishedWrite, Outcome::Note, &path, what, "");
        Ok(())
    }
}

fn lsns_of(header: &BatchHeader) -> Option<(Lsn, Lsn)> {
    (header.record_count > 0).then(|| (header.first_lsn, Lsn(header.next_lsn().0 - 1)))
}

/// What is wrong with a copy of a batch whose right bytes are known.
fn explain(judged: &Judged, right: &[u8]) -> (FindingKind, String) {
    match judged {
        Judged::Mended(_, Mend { bytes, flips, padding_bytes }) if bytes == right => {
            if flips.is_empty() {
                let what = format!("{padding_bytes} bytes of padding are not zero");
                return (FindingKind::Padding, what);
            }
            let list: Vec<String> = flips
                .iter()
                .take(8)
                .map(|bit| format!("bit {} of byte {}", bit.0 % 8, bit.byte()))
                .collect();
            let more = if flips.len() > 8 { ", ..." } else { "" };
            (FindingKind::FlippedBits, format!("flipped in the batch: {}{more}", list.join(", ")))
        }
        _ => (FindingKind::Batch, "the batch does not validate; the other copy's does".to_owned()),
    }
}
