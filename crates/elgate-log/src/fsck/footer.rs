//! A segment's footer against what the segment holds.
//!
//! A footer only saves time, but it also says that its segment is complete. One that is damaged is
//! set right from its checksum or the other copy, and else written anew from the batches.

use super::check::{Check, Wrong};
use super::image::Image;
use super::report::{FindingKind, FindingOutcome};
use super::segments::Pair;
use super::syndrome::{Bit, Culprit, find};
use crate::batch::BatchHeader;
use crate::bytes::{checksum, get_u32, get_u64, is_blank};
use crate::error::IoFault;
use crate::index::{FOOTER_BYTES, Footer};
use crate::record::{self, framed_bytes};
use crate::segment_header::SegmentHeader;
use elgate_io::{Buffer, Platform};
use elgate_types::WallTime;

const MAGIC: u64 = u64::from_le_bytes(*b"ELGFOOT1");
const AT_CRC: usize = 0x08;
const CHECKED_FROM: usize = 0x0c;
const AT_SEQUENCE: usize = 0x10;
/// What a device writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// Damage changes a few bytes of a sector; what was never written differs in more.
const DAMAGED_BYTES_MAX: usize = 8;

/// What is where a footer should be.
#[derive(Debug)]
pub(super) enum FoundFooter {
    Whole(Footer),
    /// Whole after a correction: these are the right bytes.
    Mended(Footer, Vec<u8>),
    Damaged,
    /// Nothing was written there in this life of the file.
    Missing,
}

impl FoundFooter {
    pub(super) fn examine(
        platform: &dyn Platform,
        image: &mut Image,
        header: &SegmentHeader,
    ) -> Result<Self, IoFault> {
        let bytes = image.read(platform, header.usable_end(), FOOTER_BYTES)?;
        if bytes.len() < FOOTER_BYTES || is_blank(bytes) {
            return Ok(Self::Missing);
        }
        if let Some(footer) = Footer::decode(bytes, header) {
            return Ok(Self::Whole(footer));
        }
        if let Some(found) = mend(bytes, header) {
            return Ok(found);
        }
        let is_stale = header.is_recycled && get_u64(bytes, AT_SEQUENCE) != header.sequence;
        Ok(if is_stale { Self::Missing } else { Self::Damaged })
    }
}

fn mend(bytes: &[u8], header: &SegmentHeader) -> Option<FoundFooter> {
    let wrong_magic = get_u64(bytes, 0) ^ MAGIC;
    let covered = &bytes[CHECKED_FROM..];
    let flip = if wrong_magic.is_power_of_two() {
        Bit(u64::from(wrong_magic.trailing_zeros()))
    } else if wrong_magic == 0 {
        let stored = get_u32(bytes, AT_CRC);
        match find(checksum(header.salt, covered), stored, covered.len())? {
            Culprit::Checksum(bit) => bit.after(AT_CRC),
            Culprit::Message(bit) => bit.after(CHECKED_FROM),
        }
    } else {
        return None;
    };
    let mut right = bytes.to_vec();
    flip.flip(&mut right);
    Footer::decode(&right, header).map(|footer| FoundFooter::Mended(footer, right))
}

/// Compares a segment's footer with the batches that are walked over.
#[derive(Debug)]
pub(super) struct Witness {
    here: FoundFooter,
    there: FoundFooter,
    /// What the footer should say.
    built: Footer,
    /// Entries of the index that were met, of the footer that counts.
    met: usize,
    contradicted: bool,
}

impl Witness {
    pub(super) fn new(platform: &dyn Platform, pair: &mut Pair) -> Result<Self, IoFault> {
        let header = pair.header.clone();
        let found = |image: Option<&mut Image>| match image {
            Some(image) => FoundFooter::examine(platform, image, &header),
            None => Ok(FoundFooter::Missing),
        };
        Ok(Self {
            here: found(pair.here.as_mut())?,
            there: found(pair.there.as_mut())?,
            built: Footer::new(&header),
            met: 0,
            contradicted: false,
        })
    }

    /// The footer that counts: a whole one before one that was set right.
    pub(super) fn footer(&self) -> Option<&Footer> {
        match (&self.here, &self.there) {
            (FoundFooter::Whole(footer), _)
            | (_, FoundFooter::Whole(footer))
            | (FoundFooter::Mended(footer, _), _)
            | (_, FoundFooter::Mended(footer, _)) => Some(footer),
            _ => None,
        }
    }

    /// Where batches end, as a whole footer says.
    pub(super) fn end(&self) -> Option<u64> {
        match (&self.here, &self.there) {
            (FoundFooter::Whole(footer), _) | (_, FoundFooter::Whole(footer)) => Some(footer.end),
            _ => None,
        }
    }

    /// Takes a batch into account.
    pub(super) fn take(&mut self, offset: u64, header: &BatchHeader, batch: &[u8]) {
        let times = times(header.body(batch));
        let range = offset..offset + u64::from(header.batch_bytes);
        self.built.take(range, header.first_lsn..header.next_lsn(), times);
        let Some(footer) = self.footer() else { return };
        match footer.index.entries().get(self.met) {
            Some(entry) if entry.offset == offset => {
                let is_right = entry.first_lsn == header.first_lsn && entry.time == times.0;
                self.met += 1;
                self.contradicted |= !is_right;
            }
            Some(entry) => self.contradicted |= entry.offset < offset,
            None => {}
        }
    }

    /// Whether bytes that are no footer are what a crash leaves of one that was being written: each
    /// sector as it should be, or as it was before. That is blank, or in a file used again something
    /// else altogether, of its earlier life.
    fn is_unfinished(&self, found: &[u8], header: &SegmentHeader) -> bool {
        let uncounted = Footer { counts: None, ..self.built.clone() };
        let wanted = [&self.built, &uncounted].map(|footer| {
            let mut bytes = Buffer::with_capacity(FOOTER_BYTES);
            footer.encode(header.salt, &mut bytes);
            bytes
        });
        found.chunks(SECTOR_BYTES).enumerate().all(|(index, sector)| {
            let differing = |wanted: &Buffer| {
                let wanted = &wanted[index * SECTOR_BYTES..][..sector.len()];
                sector.iter().zip(wanted).filter(|(found, wanted)| found != wanted).count()
            };
            let differs = wanted.iter().map(differing).min().unwrap_or_default();
            let is_old = header.is_recycled && differs > DAMAGED_BYTES_MAX;
            differs == 0 || is_old || is_blank(sector)
        })
    }

    /// Whether the footer that counts says what the batches say.
    fn holds(&self, footer: &Footer) -> bool {
        let built = &self.built;
        let same_counts = footer.counts.is_none()
            || (footer.counts == built.counts
                && (footer.first_time, footer.last_time) == (built.first_time, built.last_time));
        !self.contradicted
            && self.met == footer.index.entries().len()
            && (footer.first_lsn, footer.next_lsn, footer.end)
                == (built.first_lsn, built.next_lsn, built.end)
            && same_counts
    }
}

/// When the first and the last of these records were taken.
fn times(mut body: &[u8]) -> (WallTime, WallTime) {
    let mut times = None;
    while let Some((record, _)) = record::decode(body) {
        times = Some((times.map_or(record.time, |(first, _)| first), record.time));
        body = &body[framed_bytes(record.length)..];
    }
    times.unwrap_or_default()
}

impl Check<'_> {
    /// Sets a segment's footers right. `is_sealed`: another segment follows, so there should be
    /// one. Only for segments in which no batch is lost.
    pub(super) fn footers(
        &mut self,
        pair: &mut Pair,
        witness: Witness,
        is_sealed: bool,
    ) -> Result<(), IoFault> {
        let right = match (&witness.here, &witness.there, witness.footer()) {
            (_, _, Some(footer)) if !witness.holds(footer) => None,
            (FoundFooter::Whole(_), _, _) => self.bytes_at_end(pair.here.as_mut(), &pair.header)?,
            (_, FoundFooter::Whole(_), _) => {
                self.bytes_at_end(pair.there.as_mut(), &pair.header)?
            }
            (FoundFooter::Mended(_, right), _, _) | (_, FoundFooter::Mended(_, right), _) => {
                Some(right.clone())
            }
            _ => None,
        };
        let had_none =
            matches!((&witness.here, &witness.there), (FoundFooter::Missing, FoundFooter::Missing));
        let right = match right {
            Some(right) => right,
            None if !is_sealed => {
                if matches!((&witness.here, &pair.here), (FoundFooter::Damaged, Some(_))) {
                    let what = "something that is no footer lies at the end".to_owned();
                    let path = pair.path().to_owned();
                    self.report(FindingKind::Footer, FindingOutcome::Note, &path, what, "");
                }
                return Ok(());
            }
            None => {
                let mut right = Buffer::with_capacity(FOOTER_BYTES);
                witness.built.encode(pair.header.salt, &mut right);
                right.to_vec()
            }
        };
        let offset = pair.header.usable_end();
        let copies = [(pair.here.as_mut(), &witness.here), (pair.there.as_mut(), &witness.there)];
        for (image, found) in copies {
            let Some(image) = image else { continue };
            let there_is = image.read(self.platform, offset, FOOTER_BYTES)?;
            if there_is == &right[..] {
                continue;
            }
            let was_begun = matches!(found, FoundFooter::Damaged)
                && witness.is_unfinished(there_is, &pair.header);
            let (kind, what) = match found {
                FoundFooter::Mended(_, bytes) if *bytes == right => {
                    (FindingKind::FlippedBits, "one bit of the segment's footer is flipped")
                }
                FoundFooter::Missing => (
                    FindingKind::Footer,
                    "the segment has no footer; finding a record in it takes longer",
                ),
                _ if was_begun => {
                    (FindingKind::Footer, "the segment's footer was begun when the power failed")
                }
                _ => (FindingKind::Footer, "the segment's footer does not say what it holds"),
            };
            let what = what.to_owned();
            self.set_right(
                image,
                Wrong { kind, offset, lsns: None, what, is_error: !had_none && !was_begun },
                &right,
            )?;
        }
        Ok(())
    }

    fn bytes_at_end(
        &self,
        image: Option<&mut Image>,
        header: &SegmentHeader,
    ) -> Result<Option<Vec<u8>>, IoFault> {
        let Some(image) = image else { return Ok(None) };
        image
            .read(self.platform, header.usable_end(), FOOTER_BYTES)
            .map(|bytes| Some(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elgate_types::{Lsn, WallTime};

    #[test]
    fn a_footer_that_was_begun_is_told_from_a_damaged_one() {
        let mut header = crate::segment_header::tests::header();
        header.is_recycled = false;
        let mut built = Footer::new(&header);
        for number in 0..400 {
            let range = (1 + number) * 8_192..(1 + number) * 8_192 + 4_096;
            let lsns = Lsn(number + 1)..Lsn(number + 2);
            built.take(range, lsns, (WallTime(number), WallTime(number)));
        }
        let mut whole = Buffer::with_capacity(FOOTER_BYTES);
        built.encode(header.salt, &mut whole);
        let witness = Witness {
            here: FoundFooter::Damaged,
            there: FoundFooter::Missing,
            built,
            met: 0,
            contradicted: false,
        };
        let with = |at: usize, piece: &[u8]| {
            let mut bytes = whole.to_vec();
            bytes[at..at + piece.len()].copy_from_slice(piece);
            bytes
        };
        let (blank, other, few) =
            (with(1_024, &[0; 512]), with(1_024, &[7; 512]), with(1_100, &[9; 3]));
        assert!(witness.is_unfinished(&blank, &header));
        assert!(!witness.is_unfinished(&other, &header) && !witness.is_unfinished(&few, &header));
        header.is_recycled = true;
        assert!(witness.is_unfinished(&blank, &header) && witness.is_unfinished(&other, &header));
        assert!(!witness.is_unfinished(&few, &header));
    }
}
