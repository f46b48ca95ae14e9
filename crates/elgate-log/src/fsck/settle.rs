//! One place in a segment where a batch should be: which copy holds it, and setting right those
//! that do not.
//!
//! A copy that holds it whole counts before one that is whole after a correction.

use super::check::{Check, Lag, Wrong};
use super::image::Image;
use super::mend::{Judged, Mend};
use super::report::FindingKind;
use super::segments::Pair;
use super::walk::Position;
use crate::batch::BatchHeader;
use crate::error::IoFault;
use elgate_types::Lsn;

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
        // What was promised to nobody may be there from an attempt that came to nothing.
        let may_repair =
            here.pair.twin_is_complete || expected.is_proven || here.pair.here.is_none();
        let source = if may_repair { &second } else { &Judged::Bad };
        let (header, right) = match (&first, source) {
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
                    if self.options.repair {
                        image.write(self.platform, at, &right)?;
                    }
                }
                _ => self.settle_one(image, at, &header, (&second, &right))?,
            }
        }
        Ok(Some((header, right)))
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
        _ => (FindingKind::Batch, "the batch does not validate; the other copy's does".to_owned()),
    }
}
