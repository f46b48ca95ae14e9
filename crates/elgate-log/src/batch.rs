//! The batch: what one group commit writes. Its header, and how a whole one is validated.
//!
//! ```text
//! byte 0x00  magic u32 "EBAT" │ crc32c u32 (salted; over bytes 0x08..0x40)
//!      0x08  batch_bytes u32 (whole blocks, padding included) │ body_bytes u32 (records only)
//!      0x10  first_lsn u64
//!      0x18  record_count u32 (0: an idle marker) │ records_crc u32 (over the records' CRCs)
//!      0x20  epoch u64
//!      0x28  durable_lsn u64      durable when this batch was built
//!      0x30  ring_id u64          ring that its records came from, 0 if none did
//!      0x38  ring_position u64    position of the last such record's submission
//!      0x40  records, then zeros to the end of the block
//! ```

use crate::bytes::{checksum, get_u32, get_u64, put};
use crate::record::{self, RECORD_HEADER_BYTES, framed_bytes};
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{Lsn, WallTime};
use std::ops::Range;

/// Size of a batch's header.
pub(crate) const BATCH_HEADER_BYTES: usize = 64;

/// Largest batch, padding included: an open batch of the usual size and then one whole
/// submission of the largest kind.
pub(crate) const BATCH_BYTES_MAX: usize = 5 * 512 * 1024;

/// Most bytes of one log that may be under way to the device, or written and not yet known to be
/// stable, at any time. Recovery looks this far beyond the first batch that is not whole.
pub(crate) const WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// LSNs, sequences and epochs beyond this are nobody's counting: whatever says so is damaged, or
/// was made to harm, and none of them ever comes near the end of its 64 bits.
pub(crate) const COUNT_MAX: u64 = u64::MAX / 4;

const MAGIC: u32 = u32::from_le_bytes(*b"EBAT");
const _: () = assert!(BATCH_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(3 * BATCH_BYTES_MAX as u64 <= WINDOW_BYTES);

/// A batch's header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) batch_bytes: u32,
    pub(crate) body_bytes: u32,
    pub(crate) first_lsn: Lsn,
    pub(crate) record_count: u32,
    pub(crate) records_crc: u32,
    pub(crate) epoch: u64,
    pub(crate) durable_lsn: Lsn,
    pub(crate) ring_id: u64,
    pub(crate) ring_position: u64,
}

impl BatchHeader {
    /// The LSN after its last record.
    pub(crate) fn next_lsn(&self) -> Lsn {
        self.first_lsn.plus(u64::from(self.record_count))
    }

    /// Its last record; of an idle marker, the one that comes next: with that durable, the marker
    /// has been passed.
    pub(crate) fn reaches(&self) -> Lsn {
        self.first_lsn.max(Lsn(self.next_lsn().0 - 1))
    }

    /// The records' part of the whole batch's bytes.
    pub(crate) fn body<'a>(&self, batch: &'a [u8]) -> &'a [u8] {
        batch.get(BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + self.body_bytes as usize).unwrap_or(&[])
    }

    /// Its records' LSNs.
    pub(crate) fn lsns(&self) -> Range<Lsn> {
        self.first_lsn..self.next_lsn()
    }

    /// When the first and the last record of the whole batch's bytes were taken.
    pub(crate) fn times(&self, batch: &[u8]) -> (WallTime, WallTime) {
        let mut times = None;
        let mut body = self.body(batch);
        while let Some((record, _)) = record::decode(body) {
            times = Some((times.map_or(record.time, |(first, _)| first), record.time));
            body = &body[framed_bytes(record.length)..];
        }
        times.unwrap_or((WallTime(0), WallTime(0)))
    }

    /// Writes the header into the first bytes of `target`.
    pub(crate) fn encode(&self, target: &mut [u8], salt: u32) {
        put(target, 0x00, &MAGIC.to_le_bytes());
        put(target, 0x08, &self.batch_bytes.to_le_bytes());
        put(target, 0x0c, &self.body_bytes.to_le_bytes());
        put(target, 0x10, &self.first_lsn.0.to_le_bytes());
        put(target, 0x18, &self.record_count.to_le_bytes());
        put(target, 0x1c, &self.records_crc.to_le_bytes());
        put(target, 0x20, &self.epoch.to_le_bytes());
        put(target, 0x28, &self.durable_lsn.0.to_le_bytes());
        put(target, 0x30, &self.ring_id.to_le_bytes());
        put(target, 0x38, &self.ring_position.to_le_bytes());
        let crc = checksum(salt, &target[0x08..BATCH_HEADER_BYTES]);
        put(target, 0x04, &crc.to_le_bytes());
    }

    /// Decodes and checks a header at the start of `bytes`; says nothing about the records.
    pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..BATCH_HEADER_BYTES)?;
        if get_u32(bytes, 0) != MAGIC || checksum(salt, &bytes[0x08..]) != get_u32(bytes, 0x04) {
            return None;
        }
        let header = Self {
            batch_bytes: get_u32(bytes, 0x08),
            body_bytes: get_u32(bytes, 0x0c),
            first_lsn: Lsn(get_u64(bytes, 0x10)),
            record_count: get_u32(bytes, 0x18),
            records_crc: get_u32(bytes, 0x1c),
            epoch: get_u64(bytes, 0x20),
            durable_lsn: Lsn(get_u64(bytes, 0x28)),
            ring_id: get_u64(bytes, 0x30),
            ring_position: get_u64(bytes, 0x38),
        };
        header.is_plausible().then_some(header)
    }

    fn is_plausible(&self) -> bool {
        let (batch, body) = (self.batch_bytes as usize, self.body_bytes as usize);
        batch.is_multiple_of(BLOCK_BYTES)
            && (BLOCK_BYTES..=BATCH_BYTES_MAX).contains(&batch)
            && body <= batch - BATCH_HEADER_BYTES
            && body.is_multiple_of(8)
            && self.record_count as usize <= body / RECORD_HEADER_BYTES
            && (self.record_count == 0) == (body == 0)
            && self.first_lsn > Lsn::ZERO
            && [self.first_lsn.0, self.durable_lsn.0, self.epoch].iter().all(|it| *it < COUNT_MAX)
    }

    /// Whether every record of the whole batch's bytes is intact and none is missing.
    pub(crate) fn records_are_valid(&self, batch: &[u8], salt: u32) -> bool {
        let mut body = self.body(batch);
        if body.len() != self.body_bytes as usize {
            return false;
        }
        let mut records_crc = 0;
        for number in 0..u64::from(self.record_count) {
            let Some((header, _)) = record::decode_valid(body, salt) else { return false };
            if header.lsn != self.first_lsn.plus(number) {
                return false;
            }
            records_crc = checksum(records_crc, &header.crc.to_le_bytes());
            body = &body[framed_bytes(header.length)..];
        }
        body.is_empty() && records_crc == self.records_crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn header_round_trips(
            salt in any::<u32>(), blocks in 1u32..600, lsn in 1u64..1_000_000, epoch in 0..COUNT_MAX,
            durable in 0..COUNT_MAX, ring_id in any::<u64>(), ring_position in any::<u64>(),
        ) {
            let header = BatchHeader {
                batch_bytes: blocks * 4_096, body_bytes: 320, first_lsn: Lsn(lsn), record_count: 7,
                records_crc: 5, epoch, durable_lsn: Lsn(durable), ring_id, ring_position,
            };
            let mut bytes = [0; BATCH_HEADER_BYTES];
            header.encode(&mut bytes, salt);
            prop_assert_eq!(BatchHeader::decode(&bytes, salt), Some(header));
            prop_assert_eq!(BatchHeader::decode(&bytes, !salt), None);
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            prop_assert_eq!(BatchHeader::decode(&bytes, 3), None);
        }
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_noticed() {
        let header = BatchHeader {
            batch_bytes: 4_096,
            body_bytes: 0,
            first_lsn: Lsn(1),
            record_count: 0,
            records_crc: 0,
            epoch: 1,
            durable_lsn: Lsn(0),
            ring_id: 0,
            ring_position: 0,
        };
        let mut good = [0; BATCH_HEADER_BYTES];
        header.encode(&mut good, 3);
        for bit in 0..good.len() * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&bytes, 3), None, "bit {bit}");
        }
    }
}
