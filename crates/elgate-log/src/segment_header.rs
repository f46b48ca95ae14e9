//! The first block of a segment: whose it is, which it is, and the salt of its checksums. And
//! where in a segment the batches end, and its footer begins.
//!
//! ```text
//! byte 0x00  magic u64 "ELGSEG01" │ version u32 │ header_bytes u32 = 4096
//!      0x10  log_id u128          random per log
//!      0x20  sequence u64         1, 2, 3, ... within the log
//!      0x28  segment_bytes u64
//!      0x30  salt u32 │ flags u32 (bit 0: recycled)
//!      0x38  created_us u64
//!      0x40  route_bytes u16, route name (64)
//!      0x90  crc32c u32           of bytes 0x00..0x90
//!      0x800 the same 0x94 bytes once more
//! ```
//!
//! The second copy is there because the salt is: without it not one record of the segment could
//! be checked any more, and a single flipped bit would cost 64 MiB.
//!
//! A *recycled* segment's file has been a segment before: what lies behind its last batch are
//! batches of that life, which another salt makes invalid here. In any other segment, what was
//! never written reads as zeros.

use crate::batch::COUNT_MAX;
use crate::bytes::{checksum, get_u16, get_u32, get_u64, get_u128, is_blank, put};
use crate::index::FOOTER_BYTES;
use crate::options::SEGMENT_BYTES_MAX;
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{RouteName, WallTime};

/// Size of the header block; the first batch follows it.
pub(crate) const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;

const MAGIC: u64 = u64::from_le_bytes(*b"ELGSEG01");
const VERSION: u32 = 2;
const COPY_BYTES: usize = 0x94;
const COPY_OFFSETS: [usize; 2] = [0, 0x800];
const _: () = assert!(COPY_OFFSETS[1] + COPY_BYTES <= SEGMENT_HEADER_BYTES);

/// The file has been a segment before.
const FLAG_RECYCLED: u32 = 1;
/// Header, one block for batches, footer.
const SEGMENT_BYTES_FLOOR: u64 = (SEGMENT_HEADER_BYTES + BLOCK_BYTES + FOOTER_BYTES) as u64;

/// A segment's header, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: u128,
    pub(crate) sequence: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) salt: u32,
    /// Whether stale bytes of an earlier life may lie where nothing was written yet.
    pub(crate) is_recycled: bool,
    pub(crate) created: WallTime,
    pub(crate) route: RouteName,
}

/// Why a file's first block is not a segment header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderFault {
    #[error("it holds {0} bytes, less than a segment header; nothing was ever logged in it")]
    Short(usize),
    #[error("its first block is all zeros: it was never finished, or it was overwritten")]
    Blank,
    #[error("it does not begin as a log segment does; it was not written by Elgate")]
    Foreign,
    #[error("its version is {0}, and this Elgate reads version {VERSION}")]
    Version(u32),
    #[error("both copies of its header are damaged, so nothing in it can be verified")]
    Damaged,
}

impl SegmentHeader {
    /// Where batches end at the latest: where the footer begins.
    pub(crate) fn usable_end(&self) -> u64 {
        self.segment_bytes - FOOTER_BYTES as u64
    }

    /// The header block.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut block = [0; SEGMENT_HEADER_BYTES];
        let name = self.route.as_str().as_bytes();
        let name_bytes = u16::try_from(name.len()).expect("route names are at most 64 bytes");
        put(&mut block, 0x00, &MAGIC.to_le_bytes());
        put(&mut block, 0x08, &VERSION.to_le_bytes());
        put(&mut block, 0x0c, &(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        put(&mut block, 0x10, &self.log_id.to_le_bytes());
        put(&mut block, 0x20, &self.sequence.to_le_bytes());
        put(&mut block, 0x28, &self.segment_bytes.to_le_bytes());
        put(&mut block, 0x30, &self.salt.to_le_bytes());
        let flags = if self.is_recycled { FLAG_RECYCLED } else { 0 };
        put(&mut block, 0x34, &flags.to_le_bytes());
        put(&mut block, 0x38, &self.created.0.to_le_bytes());
        put(&mut block, 0x40, &name_bytes.to_le_bytes());
        put(&mut block, 0x42, name);
        let crc = checksum(0, &block[..0x90]);
        put(&mut block, 0x90, &crc.to_le_bytes());
        block.copy_within(..COPY_BYTES, COPY_OFFSETS[1]);
        block
    }

    /// Decodes the first block of a file, from whichever copy is whole.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, HeaderFault> {
        if block.len() < SEGMENT_HEADER_BYTES {
            return Err(HeaderFault::Short(block.len()));
        }
        let [first, second] = COPY_OFFSETS.map(|offset| Self::decode_copy(&block[offset..]));
        first.or_else(|fault| {
            second.map_err(|other| if other == HeaderFault::Damaged { other } else { fault })
        })
    }

    fn decode_copy(copy: &[u8]) -> Result<Self, HeaderFault> {
        if get_u64(copy, 0) != MAGIC {
            return Err(if is_blank(&copy[..COPY_BYTES]) {
                HeaderFault::Blank
            } else {
                HeaderFault::Foreign
            });
        }
        if checksum(0, &copy[..0x90]) != get_u32(copy, 0x90) {
            return Err(HeaderFault::Damaged);
        }
        let version = get_u32(copy, 0x08);
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        let name = copy[0x42..].get(..usize::from(get_u16(copy, 0x40)).min(64)).unwrap_or_default();
        let route = std::str::from_utf8(name).ok().and_then(|name| RouteName::new(name).ok());
        let header = Self {
            log_id: get_u128(copy, 0x10),
            sequence: get_u64(copy, 0x20),
            segment_bytes: get_u64(copy, 0x28),
            salt: get_u32(copy, 0x30),
            is_recycled: get_u32(copy, 0x34) & FLAG_RECYCLED != 0,
            created: WallTime(get_u64(copy, 0x38)),
            route: route.ok_or(HeaderFault::Damaged)?,
        };
        let is_plausible = (1..COUNT_MAX).contains(&header.sequence)
            && header.segment_bytes.is_multiple_of(BLOCK_BYTES as u64)
            && (SEGMENT_BYTES_FLOOR..=SEGMENT_BYTES_MAX).contains(&header.segment_bytes);
        if is_plausible { Ok(header) } else { Err(HeaderFault::Damaged) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn header() -> SegmentHeader {
        SegmentHeader {
            log_id: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321,
            sequence: 9,
            segment_bytes: 1 << 26,
            salt: 77,
            is_recycled: true,
            created: WallTime(1_790_000_000_000_000),
            route: RouteName::new("orders").expect("valid"),
        }
    }

    #[test]
    fn survives_any_flipped_bit_and_the_loss_of_either_copy() {
        let block = header().encode();
        assert_eq!(SegmentHeader::decode(&block), Ok(header()));
        for bit in 0..block.len() * 8 {
            let mut bytes = block;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), Ok(header()), "bit {bit}");
        }
        for offset in COPY_OFFSETS {
            let mut bytes = block;
            bytes[offset..offset + 512].fill(0);
            assert_eq!(SegmentHeader::decode(&bytes), Ok(header()));
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let block = header().encode();
        assert_eq!(SegmentHeader::decode(&block[..100]), Err(HeaderFault::Short(100)));
        assert_eq!(SegmentHeader::decode(&[0; 4096]), Err(HeaderFault::Blank));
        assert_eq!(SegmentHeader::decode(&[b'x'; 4096]), Err(HeaderFault::Foreign));
        let mut both = block;
        both[0x11] ^= 1;
        both[0x811] ^= 1;
        assert_eq!(SegmentHeader::decode(&both), Err(HeaderFault::Damaged));
    }
}
