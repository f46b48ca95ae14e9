//! One place in a segment where a batch should be: which copy holds it, and setting right those
//! that do not.
//!
//! A copy that holds it whole counts before one that is whole after a correction. But a mirror that
//! does not claim to be complete may hold a whole batch that is none of the log's: an attempt that
//! came to nothing while the two were apart, with a number that another record has now. So of its
//! batches only those count that somebody vouches for ([`is_vouched_for`](Check::is_vouched_for)).

use super::check::{Check, Lag, Wrong};
use super::image::Image;
use super::mend::{Judged, Mend};
use super::report::FindingKind;
use super::segments::Pair;
use super::walk::Position;
use crate::batch::BatchHeader;
use crate::error::IoFault;
use crate::head::Watermarks;
use elgate_types::Lsn;
use elgate_types::limits::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A place in a segment.
pub(super) struct Place<'p> {
    pub(super) pair: &'p mut Pair,
    pub(super) at: u64,
    /// Where batches end at the latest.
    pub(super) end: u64,
    pub(super) salt: u32,
    /// What the mirror lacks, if it does not claim to be complete.
    pub(super) lag: Option<Lag>,
}

/// What may be in a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// Only a batch without records can be there.
    pub(super) only_marker: bool,
    /// Somebody says that a batch was acknowledged there.
    pub(super) is_proven: bool,
}

impl Check<'_> {
    /// Finds the batch that should be here, and sets right the copies that do not hold it.
    /// Returns it with its bytes; `None`: no copy holds it.
    pub(super) fn settle(
        &mut self,
        here: &mut Place<'_>,
        position: &Position,
        expected: Expected,
    ) -> Result<Option<(BatchHeader, Vec<u8>)>, IoFault> {
        let fits = |header: &BatchHeader| {
            header.epoch >= position.epoch
                && position.next.is_none_or(|next| header.first_lsn == next)
                && !(expected.only_marker && header.record_count > 0)
        };
        let (at, end, salt) = (here.at, here.end, here.salt);
        let judge = |image: &mut Option<Image>| match image {
            Some(image) => self.judge(image, at, end, salt, fits),
            None => Ok(Judged::Bad),
        };
        let (first, second) = (judge(&mut here.pair.here)?, judge(&mut here.pair.there)?);
        let own_counts_first = match (&first, &second) {
            // A batch without records that landed where one with records was: their LSN is the same.
            (Judged::Whole(own), Judged::Whole(theirs)) => {
                own.record_count > 0 || theirs.record_count == 0
            }
            (first, _) => matches!(first, Judged::Whole(_)),
        };
        let may_repair = match &second {
            Judged::Whole(header) | Judged::Mended(header, _) if !own_counts_first => {
                // What was promised to nobody may be such an attempt, too.
                here.pair.twin_is_complete
                    || here.pair.here.is_none()
                    || (expected.is_proven && self.is_vouched_for(here, &first, header, fits)?)
            }
            _ => false,
        };
        let source = if may_repair { &second } else { &Judged::Bad };
        let own =
            if may_repair && matches!(first, Judged::Whole(_)) { &Judged::Bad } else { &first };
        let (header, right) = match (own, source) {
            (Judged::Whole(header), _) => {
                (*header, self.bytes_of(&mut here.pair.here, at, header)?)
            }
            (_, Judged::Whole(header)) => {
                (*header, self.bytes_of(&mut here.pair.there, at, header)?)
            }
            (Judged::Mended(header, mend), _) | (_, Judged::Mended(header, mend)) => {
                (*header, mend.bytes.clone())
            }
            (Judged::Bad, Judged::Bad) => return Ok(None),
        };
        if let Some(image) = &mut here.pair.here {
            self.settle_one(image, at, &header, (&first, &right))?;
        }
        if let Some(image) = &mut here.pair.there {
            match &mut here.lag {
                Some(lag) if second == Judged::Bad => {
                    // Nobody said that anything was there.
                    lag.batches += 1;
                    lag.bytes += u64::from(header.batch_bytes);
                    if self.options.repair && !lag.stays {
                        image.write(self.platform, at, &right)?;
                    }
                }
                Some(lag)
                    if lag.stays
                        && !matches!(&second, Judged::Mended(theirs, _) if *theirs == header) => {}
                _ => self.settle_one(image, at, &header, (&second, &right))?,
            }
        }
        Ok(Some((header, right)))
    }

    /// Whether an unfinished twin's batch is the one that the log had here. `first` is what the log
    /// itself has here now.
    ///
    /// A writer numbers records anew only after it was opened anew, which raises the epoch; within
    /// one epoch a number and a place in a segment are given away once. So the batch is right if the
    /// one that was here is known to be of no later epoch, or if the two copies were the same later.
    fn is_vouched_for(
        &self,
        here: &mut Place<'_>,
        first: &Judged,
        theirs: &BatchHeader,
        fits: impl Fn(&BatchHeader) -> bool,
    ) -> Result<bool, IoFault> {
        let (at, end, salt) = (here.at, here.end, here.salt);
        let Some(own) = &mut here.pair.here else { return Ok(false) };
        // What a batch of the twin states to be durable was the same in both when that was written.
        let reaches = theirs.reaches();
        if reaches <= here.pair.twin_stated {
            return Ok(true);
        }
        // The header that is left of the log's own copy names the batch, records and all.
        let left = match first {
            Judged::Whole(header) | Judged::Mended(header, _) => Some(*header),
            Judged::Bad => own.header(self.platform, at, salt)?.filter(fits),
        };
        if let Some(left) = left {
            return Ok(left == *theirs);
        }
        let is_of_last_writer =
            |marks: &Watermarks| marks.epoch == theirs.epoch && reaches <= marks.durable;
        if self.last_writer.as_ref().is_some_and(is_of_last_writer) {
            return Ok(true);
        }
        // Epochs never fall: what follows in the log is of no earlier one than what was here.
        for behind in (at + BLOCK..end).step_by(BLOCK_BYTES) {
            if let Some(header) = own.header(self.platform, behind, salt)?
                && header.first_lsn >= theirs.next_lsn()
            {
                return Ok(header.epoch <= theirs.epoch);
            }
        }
        Ok(here.pair.next_epoch.is_some_and(|epoch| epoch <= theirs.epoch))
    }

    /// Sets right one copy of a batch whose right bytes are known.
    fn settle_one(
        &mut self,
        image: &mut Image,
        offset: u64,
        header: &BatchHeader,
        (found, right): (&Judged, &[u8]),
    ) -> Result<(), IoFault> {
        if image.read(self.platform, offset, right.len())? == right {
            return Ok(());
        }
        let (kind, what) = explain(found, right);
        let last = Lsn(header.next_lsn().0 - 1);
        let lsns = (header.record_count > 0).then_some((header.first_lsn, last));
        self.set_right(image, Wrong { kind, offset, lsns, what, is_error: true }, right)
    }

    fn judge(
        &self,
        image: &mut Image,
        at: u64,
        end: u64,
        salt: u32,
        fits: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Judged, IoFault> {
        let mut judged = image.judge(self.platform, at, end, salt)?;
        if self.live.is_some() && !matches!(judged, Judged::Whole(_)) {
            // What was read ahead may be older than what a writer has promised since.
            image.forget(self.platform)?;
            judged = image.judge(self.platform, at, end, salt)?;
        }
        let is_right = match &judged {
            Judged::Whole(header) | Judged::Mended(header, _) => fits(header),
            Judged::Bad => false,
        };
        Ok(if is_right { judged } else { Judged::Bad })
    }

    fn bytes_of(
        &self,
        image: &mut Option<Image>,
        at: u64,
        header: &BatchHeader,
    ) -> Result<Vec<u8>, IoFault> {
        let Some(image) = image else { return Ok(Vec::new()) };
        Ok(image.read(self.platform, at, header.batch_bytes as usize)?.to_vec())
    }
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
        Judged::Whole(_) => {
            (FindingKind::Batch, "another batch stands where the other copy has it".to_owned())
        }
        _ => (FindingKind::Batch, "the batch does not validate; the other copy's does".to_owned()),
    }
}
