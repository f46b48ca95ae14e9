//! A segment's header block: two copies of the same bytes, and zeros around them.
//!
//! A copy that does not validate is set right from the other one. With both damaged, each may have
//! one flipped bit, found by its checksum; what comes out is believed if both copies then agree,
//! or if a batch of the segment validates under the salt.

use super::image::Image;
use super::mend::Judged;
use super::syndrome::{Culprit, find};
use crate::batch::WINDOW_BYTES;
use crate::bytes::{checksum, get_u32};
use crate::error::IoFault;
use crate::segment_header::{HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader};
use elgate_io::Platform;
use elgate_types::limits::BLOCK_BYTES;

const COPY_BYTES: usize = 0x94;
const COPY_CRC: usize = 0x90;
const COPY_OFFSETS: [usize; 2] = [0, 0x800];

/// What a header block is worth.
#[derive(Debug)]
pub(super) enum FoundHeader {
    /// Nothing is wrong with it.
    Sound(SegmentHeader),
    /// It should be this block.
    Repairable(SegmentHeader, Box<[u8; SEGMENT_HEADER_BYTES]>, String),
    /// It cannot be told whose segment this is.
    Hopeless(HeaderFault),
}

/// Looks at the header of a segment.
pub(super) fn examine(platform: &dyn Platform, image: &mut Image) -> Result<FoundHeader, IoFault> {
    let mut block = [0; SEGMENT_HEADER_BYTES];
    let found = image.read(platform, 0, SEGMENT_HEADER_BYTES)?;
    if found.len() < SEGMENT_HEADER_BYTES {
        return Ok(FoundHeader::Hopeless(HeaderFault::Short(found.len())));
    }
    block.copy_from_slice(found);
    let copies = COPY_OFFSETS.map(|offset| copy_at(&block, offset));
    let decoded = copies.map(|copy| decode(&copy));
    let unknown = decoded.iter().find(|it| matches!(it, Err(HeaderFault::Version(_))));
    if let Some(Err(fault)) = unknown {
        return Ok(FoundHeader::Hopeless(fault.clone()));
    }
    let (header, copy, what) = match decoded {
        [Ok(header), Ok(_)] if copies[0] == copies[1] => {
            (header, copies[0], "there are bytes beside the two copies of the header")
        }
        [Ok(header), Err(_)] => (header, copies[0], "the second copy of the header is damaged"),
        [Err(_), Ok(header)] => (header, copies[1], "the first copy of the header is damaged"),
        [first, second] => {
            let fault = first.err().or(second.err()).unwrap_or(HeaderFault::Damaged);
            let Some((header, copy)) = reconcile(platform, image, copies)? else {
                return Ok(FoundHeader::Hopeless(fault));
            };
            (header, copy, "both copies of the header are damaged")
        }
    };
    let right = block_of(&copy);
    Ok(if *right == block {
        FoundHeader::Sound(header)
    } else {
        FoundHeader::Repairable(header, right, what.to_owned())
    })
}

fn copy_at(block: &[u8; SEGMENT_HEADER_BYTES], offset: usize) -> [u8; COPY_BYTES] {
    let mut copy = [0; COPY_BYTES];
    copy.copy_from_slice(&block[offset..offset + COPY_BYTES]);
    copy
}

fn block_of(copy: &[u8; COPY_BYTES]) -> Box<[u8; SEGMENT_HEADER_BYTES]> {
    let mut block = Box::new([0; SEGMENT_HEADER_BYTES]);
    for offset in COPY_OFFSETS {
        block[offset..offset + COPY_BYTES].copy_from_slice(copy);
    }
    block
}

/// Decodes one copy by itself.
fn decode(copy: &[u8; COPY_BYTES]) -> Result<SegmentHeader, HeaderFault> {
    let mut block = [0; SEGMENT_HEADER_BYTES];
    block[..COPY_BYTES].copy_from_slice(copy);
    SegmentHeader::decode(&block)
}

/// Finds the header that two copies, each of which may be damaged, were.
fn reconcile(
    platform: &dyn Platform,
    image: &mut Image,
    copies: [[u8; COPY_BYTES]; 2],
) -> Result<Option<(SegmentHeader, [u8; COPY_BYTES])>, IoFault> {
    let mended = copies.map(mend);
    if let [Some(first), Some(second)] = &mended
        && first.1 == second.1
    {
        return Ok(Some(first.clone()));
    }
    for (header, copy) in mended.into_iter().flatten() {
        if has_a_batch(platform, image, &header)? {
            return Ok(Some((header, copy)));
        }
    }
    Ok(None)
}

/// Sets right the one flipped bit of a copy, if that is what is wrong with it.
fn mend(mut copy: [u8; COPY_BYTES]) -> Option<(SegmentHeader, [u8; COPY_BYTES])> {
    let computed = checksum(0, &copy[..COPY_CRC]);
    match find(computed, get_u32(&copy, COPY_CRC), COPY_CRC) {
        Some(Culprit::Message(bit)) => bit.flip(&mut copy),
        Some(Culprit::Checksum(bit)) => bit.after(COPY_CRC).flip(&mut copy),
        None => {}
    }
    decode(&copy).ok().map(|header| (header, copy))
}

/// Whether a batch near the beginning validates under this header's salt.
fn has_a_batch(
    platform: &dyn Platform,
    image: &mut Image,
    header: &SegmentHeader,
) -> Result<bool, IoFault> {
    let end = header.segment_bytes.min(image.bytes);
    let mut at = SEGMENT_HEADER_BYTES as u64;
    while at < end.min(WINDOW_BYTES) {
        if matches!(image.judge(platform, at, end, header.salt)?, Judged::Whole(_)) {
            return Ok(true);
        }
        at += BLOCK_BYTES as u64;
    }
    Ok(false)
}
