//! The record: one payload with its LSN, framed and checksummed.
//!
//! ```text
//! byte 0x00  crc32c u32           salted; over everything behind it, padding left out
//!      0x04  length u32           payload bytes
//!      0x08  lsn u64
//!      0x10  time_us u64          wall clock when Elgate took it
//!      0x18  kind u8 (1 data) │ flags u8 (bit 0: `source` is set) │ reserved u16
//!      0x1c  source u32           low half of the submission's ring position
//!      0x20  payload, zero-padded to 8
//! ```

use crate::bytes::{checksum, get_u32, get_u64, put};
use elgate_types::limits::PAYLOAD_BYTES_MAX;
use elgate_types::{Lsn, WallTime, seeded_bug};

/// Size of a record's header.
pub(crate) const RECORD_HEADER_BYTES: usize = 32;
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(8));

const KIND_DATA: u8 = 1;
const FLAG_FROM_RING: u8 = 1;

/// Bytes that a payload takes in a batch.
pub(crate) const fn framed_bytes(payload_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(8)
}

/// One record, borrowed from the batch that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number in the log.
    pub lsn: Lsn,
    /// When Elgate took it.
    pub time: WallTime,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// A record's header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) length: usize,
    pub(crate) crc: u32,
    pub(crate) lsn: Lsn,
    pub(crate) time: WallTime,
    /// Low half of the ring position of the submission, if it came through a ring.
    pub(crate) source: Option<u32>,
}

/// Where the checksummed part begins.
const CHECKED_FROM: usize = 4;

/// The checksum of a framed record with a payload of that length. One pass over one range.
fn seal(salt: u32, framed: &[u8], length: usize) -> u32 {
    checksum(salt, &framed[CHECKED_FROM..RECORD_HEADER_BYTES + length])
}

/// Writes a record at the start of `target`, which is exactly its framed size, and returns its
/// checksum.
pub(crate) fn encode(
    target: &mut [u8],
    salt: u32,
    lsn: Lsn,
    time: WallTime,
    source: Option<u32>,
    payload: &[u8],
) -> u32 {
    let length = u32::try_from(payload.len()).expect("the caller bounds payloads");
    let (header, body) = target.split_at_mut(RECORD_HEADER_BYTES);
    put(header, 0x04, &length.to_le_bytes());
    put(header, 0x08, &lsn.0.to_le_bytes());
    put(header, 0x10, &time.0.to_le_bytes());
    let flags = if source.is_some() { FLAG_FROM_RING } else { 0 };
    put(header, 0x18, &[KIND_DATA, flags, 0, 0]);
    put(header, 0x1c, &source.unwrap_or(0).to_le_bytes());
    body[..payload.len()].copy_from_slice(payload);
    body[payload.len()..].fill(0);
    let crc = seal(salt, target, payload.len());
    put(target, 0x00, &crc.to_le_bytes());
    crc
}

/// Writes the checksum of an encoded record anew, for a segment with another salt.
pub(crate) fn reseal(framed: &mut [u8], salt: u32) -> u32 {
    let crc = seal(salt, framed, get_u32(framed, 0x04) as usize);
    put(framed, 0x00, &crc.to_le_bytes());
    crc
}

/// The LSN and the framed size of what would be a record at the start of `bytes`, if its header can
/// be one's.
pub(crate) fn claim(bytes: &[u8]) -> Option<(Lsn, usize)> {
    let header = bytes.get(..RECORD_HEADER_BYTES)?;
    let length = get_u32(header, 0x04) as usize;
    let is_possible = length <= PAYLOAD_BYTES_MAX && header[0x18] == KIND_DATA;
    is_possible.then(|| (Lsn(get_u64(header, 0x08)), framed_bytes(length)))
}

/// Decodes the record at the start of `bytes` without checking its checksum. `None` if its frame
/// does not fit there or is not a record's.
pub(crate) fn decode(bytes: &[u8]) -> Option<(RecordHeader, &[u8])> {
    let (lsn, framed) = claim(bytes)?;
    if bytes.len() < framed {
        return None;
    }
    let header = &bytes[..RECORD_HEADER_BYTES];
    let length = get_u32(header, 0x04) as usize;
    let from_ring = header[0x19] & FLAG_FROM_RING != 0;
    let decoded = RecordHeader {
        length,
        crc: get_u32(header, 0x00),
        lsn,
        time: WallTime(get_u64(header, 0x10)),
        source: from_ring.then(|| get_u32(header, 0x1c)),
    };
    Some((decoded, &bytes[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + length]))
}

/// Decodes the record at the start of `bytes` and checks its checksum.
pub(crate) fn decode_valid(bytes: &[u8], salt: u32) -> Option<(RecordHeader, &[u8])> {
    let (header, payload) = decode(bytes)?;
    let is_trusted = seeded_bug::is("skip-checksum-on-read");
    (is_trusted || seal(salt, bytes, header.length) == header.crc).then_some((header, payload))
}

/// Iterates over records in bytes that have been validated. Ends early, never panics, should they
/// not be what they were.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
    from: Lsn,
    to: Lsn,
}

impl<'a> Records<'a> {
    /// The records of `bytes` whose LSN lies in `from..=to`.
    pub(crate) fn new(bytes: &'a [u8], from: Lsn, to: Lsn) -> Self {
        Self { bytes, from, to }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            let (header, payload) = decode(self.bytes)?;
            if header.lsn > self.to {
                return None;
            }
            self.bytes = &self.bytes[framed_bytes(header.length)..];
            if header.lsn >= self.from {
                return Some(Record { lsn: header.lsn, time: header.time, payload });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(salt: u32, lsn: Lsn, source: Option<u32>, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff; framed_bytes(payload.len())];
        encode(&mut bytes, salt, lsn, WallTime(7), source, payload);
        bytes
    }

    proptest! {
        #[test]
        fn round_trips(
            salt in any::<u32>(),
            lsn in 1u64..,
            source in any::<Option<u32>>(),
            payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = encoded(salt, Lsn(lsn), source, &payload);
            let (header, found) = decode_valid(&bytes, salt).expect("valid");
            prop_assert_eq!(found, &payload[..]);
            prop_assert_eq!((header.lsn, header.time, header.source), (Lsn(lsn), WallTime(7), source));
            prop_assert!(decode_valid(&bytes, salt ^ 1).is_none());
            reseal(&mut bytes, salt ^ 1);
            prop_assert!(decode_valid(&bytes, salt ^ 1).is_some());
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_valid(&bytes, 1).is_none());
            prop_assert!(Records::new(&bytes, Lsn(0), Lsn(u64::MAX)).count() <= 6);
        }
    }

    #[test]
    fn every_flipped_bit_that_counts_is_noticed() {
        let good = encoded(9, Lsn(3), Some(4), b"thirteen byte");
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let in_padding = bit / 8 >= RECORD_HEADER_BYTES + 13;
            assert_eq!(decode_valid(&bytes, 9).is_some(), in_padding, "bit {bit}");
        }
    }

    #[test]
    fn iterates_over_a_range() {
        let bytes: Vec<u8> =
            (1..=5).flat_map(|lsn| encoded(1, Lsn(lsn), None, &[lsn as u8; 11])).collect();
        let found: Vec<u64> =
            Records::new(&bytes, Lsn(2), Lsn(4)).map(|record| record.lsn.0).collect();
        assert_eq!(found, [2, 3, 4]);
    }
}
