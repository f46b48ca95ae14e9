//! One batch: is it whole, and if not, does setting right single flipped bits make it whole?
//!
//! A correction stands only if everything validates afterwards: every record's checksum, the
//! batch's checksum over those checksums, and the header's. A record's own checksum finds the bit;
//! that the checksum itself is the right one is witnessed by the batch. Each record and the header
//! may have one flipped bit of its own.
//!
//! What no checksum covers, the padding, is zeros by the format; anything else there is set right
//! too.

use super::syndrome::{Bit, Culprit, find};
use crate::batch::{BATCH_HEADER_BYTES, BatchHeader};
use crate::bytes::{checksum, get_u32};
use crate::record::{self, RECORD_HEADER_BYTES, framed_bytes};
use elgate_types::Lsn;
use elgate_types::limits::{BLOCK_BYTES, PAYLOAD_BYTES_MAX};
use std::borrow::Cow;

/// A wild error of many bits looks like one flipped bit of an n-bit record with a probability of
/// n / 2^31. Up to this size that is less than one in 4,000; beyond it a correction needs a
/// second copy to agree.
const CERTAIN_BYTES_MAX: usize = 64 * 1024;

const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"EBAT");
/// Of the batch's header: its checksum, and where what that covers begins.
const HEADER_CRC: usize = 0x04;
const HEADER_CHECKED: usize = 0x08;
/// Of a record: its length, and where what its checksum (at 0) covers begins.
const RECORD_LENGTH: usize = 0x04;
const RECORD_CHECKED: usize = 0x04;

/// What is where a batch should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    /// A whole batch, to the last byte of padding.
    Whole(BatchHeader),
    /// A batch that is whole again after a correction.
    Mended(BatchHeader, Mend),
    /// Nothing that can be made sense of.
    Bad,
}

/// A correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mend {
    /// The batch as it was written.
    pub(super) bytes: Vec<u8>,
    /// The bits that were flipped.
    pub(super) flips: Vec<Bit>,
    /// Bytes of padding that were not zero.
    pub(super) padding_bytes: u32,
}

/// A batch's header as found, or with its one flipped bit set right.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundHeader {
    pub(super) header: BatchHeader,
    pub(super) flip: Option<Bit>,
}

/// Finds a batch's header at the start of a block.
pub(super) fn header(block: &[u8], salt: u32) -> Option<FoundHeader> {
    if let Some(header) = BatchHeader::decode(block, salt) {
        return Some(FoundHeader { header, flip: None });
    }
    let found = block.get(..BATCH_HEADER_BYTES)?;
    let covered = &found[HEADER_CHECKED..];
    let wrong_magic = get_u32(found, 0) ^ HEADER_MAGIC;
    let flip = if wrong_magic.is_power_of_two() {
        Bit(u64::from(wrong_magic.trailing_zeros()))
    } else if wrong_magic == 0 {
        match find(checksum(salt, covered), get_u32(found, HEADER_CRC), covered.len())? {
            Culprit::Checksum(bit) => bit.after(HEADER_CRC),
            Culprit::Message(bit) => bit.after(HEADER_CHECKED),
        }
    } else {
        return None;
    };
    let mut fixed = [0; BATCH_HEADER_BYTES];
    fixed.copy_from_slice(found);
    flip.flip(&mut fixed);
    let header = BatchHeader::decode(&fixed, salt)?;
    Some(FoundHeader { header, flip: Some(flip) })
}

/// Judges the whole batch in `bytes`, whose header was found by [`header`].
pub(super) fn batch(bytes: &[u8], found: FoundHeader, salt: u32) -> Judged {
    let header = found.header;
    if bytes.len() != header.batch_bytes as usize {
        return Judged::Bad;
    }
    let mut work = Cow::Borrowed(bytes);
    let mut flips = Vec::new();
    if let Some(bit) = found.flip {
        bit.flip(work.to_mut());
        flips.push(bit);
    }
    let body_end = BATCH_HEADER_BYTES + header.body_bytes as usize;
    let mut padding_bytes = 0;
    let (mut at, mut records_crc) = (BATCH_HEADER_BYTES, 0);
    for number in 0..u64::from(header.record_count) {
        let lsn = header.first_lsn.plus(number);
        let valid = record::decode_valid(&work[at..body_end], salt).map(|(record, _)| record);
        let record = match valid {
            Some(record) => record,
            None => {
                let Some(bit) = mend_record(&mut work.to_mut()[at..body_end], salt, lsn) else {
                    return Judged::Bad;
                };
                flips.push(bit.after(at));
                match record::decode_valid(&work[at..body_end], salt) {
                    Some((record, _)) => record,
                    None => return Judged::Bad,
                }
            }
        };
        if record.lsn != lsn {
            return Judged::Bad;
        }
        records_crc = checksum(records_crc, &record.crc.to_le_bytes());
        let end = at + framed_bytes(record.length);
        padding_bytes += blank(&mut work, at + RECORD_HEADER_BYTES + record.length, end);
        at = end;
    }
    if at != body_end || records_crc != header.records_crc {
        return Judged::Bad;
    }
    padding_bytes += blank(&mut work, body_end, bytes.len());
    match work {
        Cow::Borrowed(_) => Judged::Whole(header),
        Cow::Owned(bytes) => Judged::Mended(header, Mend { bytes, flips, padding_bytes }),
    }
}

/// Sets padding to zeros; returns how many bytes were not.
fn blank(work: &mut Cow<'_, [u8]>, from: usize, to: usize) -> u32 {
    if crate::bytes::is_blank(&work[from..to]) {
        return 0;
    }
    let padding = &mut work.to_mut()[from..to];
    let dirty = padding.iter().filter(|byte| **byte != 0).count();
    padding.fill(0);
    dirty as u32
}

/// Sets right the one flipped bit of the record at the start of `bytes`, if that is what is wrong.
fn mend_record(bytes: &mut [u8], salt: u32, lsn: Lsn) -> Option<Bit> {
    let length = get_u32(bytes.get(..RECORD_HEADER_BYTES)?, RECORD_LENGTH);
    let fits = |length: u32| {
        let length = length as usize;
        (length <= PAYLOAD_BYTES_MAX && framed_bytes(length) <= bytes.len()).then_some(length)
    };
    let by_checksum = fits(length).and_then(|length| {
        let framed = &bytes[..RECORD_HEADER_BYTES + length];
        let covered = &framed[RECORD_CHECKED..];
        match find(checksum(salt, covered), get_u32(framed, 0), covered.len())? {
            Culprit::Checksum(bit) => Some(bit),
            Culprit::Message(bit) => is_certain(framed).then(|| bit.after(RECORD_CHECKED)),
        }
    });
    // With a wrong length, the checksum was taken over the wrong bytes and says nothing: every
    // length that one bit makes is tried.
    let by_length = (0..u32::BITS)
        .filter(|bit| fits(length ^ (1 << bit)).is_some())
        .map(|bit| Bit(u64::from(bit)).after(RECORD_LENGTH));
    let candidates: Vec<Bit> = by_checksum.into_iter().chain(by_length).collect();
    candidates.into_iter().find(|bit| {
        bit.flip(bytes);
        let is_right =
            record::decode_valid(bytes, salt).is_some_and(|(record, _)| record.lsn == lsn);
        if !is_right {
            bit.flip(bytes);
        }
        is_right
    })
}

/// Whether a single bit that explains a wrong checksum can be believed without a second copy: the
/// record is not too long, and has no block's worth of zeros in it, which would rather be a block
/// that was lost.
fn is_certain(framed: &[u8]) -> bool {
    framed.len() <= CERTAIN_BYTES_MAX
        && !framed.chunks_exact(BLOCK_BYTES / 2).any(crate::bytes::is_blank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_builder::{Batch, BufferPool, Source};
    use elgate_types::WallTime;
    use proptest::prelude::*;

    const SALT: u32 = 0x1234_5678;

    fn built(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut pool = BufferPool::default();
        let mut batch = Batch::new(pool.take(1), SALT, Lsn(10));
        for payload in payloads {
            batch.push(payload, Source { ring_id: 3, position: 8 }, WallTime(5), &mut pool);
        }
        batch.seal(SALT, 3, Lsn(9)).to_vec()
    }

    fn judge(bytes: &[u8]) -> Judged {
        match header(bytes, SALT) {
            Some(found) => batch(bytes, found, SALT),
            None => Judged::Bad,
        }
    }

    fn sample() -> Vec<u8> {
        built(&[vec![1; 13], Vec::new(), vec![0xa5; 700], (0..=255).collect()])
    }

    #[test]
    fn every_flipped_bit_of_a_batch_is_set_right() {
        let good = sample();
        assert!(matches!(judge(&good), Judged::Whole(_)));
        for bit in (0..good.len() as u64 * 8).map(Bit) {
            let mut bad = good.clone();
            bit.flip(&mut bad);
            let Judged::Mended(_, mend) = judge(&bad) else { panic!("{bit:?}") };
            assert_eq!(mend.bytes, good, "{bit:?}");
            assert!(mend.flips == [bit] || (mend.padding_bytes == 1 && mend.flips.is_empty()));
        }
    }

    #[test]
    fn records_are_set_right_each_by_itself() {
        let good = sample();
        let mut bad = good.clone();
        for byte in [0x11, 64 + 40, 64 + 32 + 16 + 4, 64 + 48 + 32 + 100] {
            bad[byte] ^= 4;
        }
        let Judged::Mended(_, mend) = judge(&bad) else { panic!("not mended") };
        assert_eq!(mend.bytes, good);
        assert_eq!(mend.flips.len(), 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn two_flipped_bits_of_one_record_are_never_set_wrong(
            first in 0u64..32 * 8 + 700 * 8, second in 0u64..32 * 8 + 700 * 8,
        ) {
            let good = sample();
            let record = 64 + 48 + 32;
            let mut bad = good.clone();
            Bit(first).after(record).flip(&mut bad);
            Bit(second).after(record).flip(&mut bad);
            match judge(&bad) {
                Judged::Mended(_, mend) => prop_assert_eq!(mend.bytes, good),
                Judged::Whole(_) => prop_assert_eq!(bad, good),
                Judged::Bad => {}
            }
        }

        #[test]
        fn scribbled_bytes_are_never_taken_for_something_else(
            at in 0usize..1_200, scribble in proptest::collection::vec(any::<u8>(), 1..600),
        ) {
            let good = sample();
            let mut bad = good.clone();
            bad[at..at + scribble.len()].copy_from_slice(&scribble);
            match judge(&bad) {
                Judged::Mended(_, mend) => prop_assert_eq!(mend.bytes, good),
                Judged::Whole(_) => prop_assert_eq!(bad, good),
                Judged::Bad => {}
            }
        }
    }

    #[test]
    fn a_long_record_needs_a_second_copy() {
        let payload = |bytes: usize| (0..bytes).map(|at| at as u8 | 1).collect::<Vec<_>>();
        for (bytes, is_mended) in [(CERTAIN_BYTES_MAX - 32, true), (CERTAIN_BYTES_MAX, false)] {
            let mut bad = built(&[payload(bytes)]);
            bad[5_000] ^= 1;
            assert_eq!(matches!(judge(&bad), Judged::Mended(..)), is_mended, "{bytes}");
        }
        let mut bad = built(&[vec![0; 20_000]]);
        bad[5_000] ^= 1;
        assert_eq!(judge(&bad), Judged::Bad, "zeros may be a lost block");
    }
}
