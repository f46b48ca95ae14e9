//! Blocks that the device cannot read (EIO, and EIO again): taken for zeros by those who look
//! around them. They prove nothing, neither that something was there nor that nothing was.
//!
//! A few bad blocks are damage. A device that reads next to nothing is away or dying, and what it
//! holds is not lost for that: then the error stays an error, or a log would be taken for empty.

use elgate_io::{File, Platform};
use elgate_types::limits::BLOCK_BYTES;
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

/// A device may read at the second attempt what it could not at the first.
const ATTEMPTS: usize = 3;

/// So many blocks of one file may be bad: 512 KiB.
const BLOCKS_MAX: usize = 128;

const EIO: i32 = 5;

/// Whether the device could not read what it holds. Every other error is no fault of a block.
pub(crate) fn is_media_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
}

/// Reads, again if the device could not.
pub(crate) fn insist(
    platform: &dyn Platform,
    file: &File,
    offset: u64,
    bytes: &mut [u8],
) -> io::Result<usize> {
    for _ in 1..ATTEMPTS {
        match platform.read_at(file, offset, bytes) {
            Err(error) if is_media_error(&error) => {}
            result => return result,
        }
    }
    platform.read_at(file, offset, bytes)
}

/// The blocks of one file found unreadable, by offset. One that is among them is not tried again:
/// each attempt may take a device seconds.
#[derive(Debug)]
pub(crate) struct Unreadable {
    blocks: BTreeSet<u64>,
    blocks_max: usize,
}

impl Unreadable {
    /// For whoever goes on without the file's records if need be.
    pub(crate) fn few() -> Self {
        Self { blocks: BTreeSet::new(), blocks_max: BLOCKS_MAX }
    }

    /// For whoever only looks, and may have another copy.
    pub(crate) fn any_number() -> Self {
        Self { blocks: BTreeSet::new(), blocks_max: usize::MAX }
    }

    /// Tries every block again from now on.
    pub(crate) fn forget(&mut self) {
        self.blocks.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Whether any block of a range is among them.
    pub(crate) fn is_in(&self, range: Range<u64>) -> bool {
        !range.is_empty() && self.blocks.range(range).next().is_some()
    }

    /// Fills `window`, whole blocks, from `offset`: in one read if that works, else block by
    /// block. Returns how many bytes there are.
    pub(crate) fn read(
        &mut self,
        platform: &dyn Platform,
        file: &File,
        offset: u64,
        window: &mut [u8],
    ) -> io::Result<usize> {
        if !self.is_in(offset..offset + window.len() as u64) {
            match platform.read_at(file, offset, window) {
                Err(error) if is_media_error(&error) => {}
                result => return result,
            }
        }
        let mut count = 0;
        for (at, block) in (offset..).step_by(BLOCK_BYTES).zip(window.chunks_mut(BLOCK_BYTES)) {
            count += self.read_block(platform, file, at, block)?;
        }
        Ok(count)
    }

    fn read_block(
        &mut self,
        platform: &dyn Platform,
        file: &File,
        at: u64,
        block: &mut [u8],
    ) -> io::Result<usize> {
        if !self.blocks.contains(&at) {
            match insist(platform, file, at, block) {
                Err(error) if is_media_error(&error) && self.blocks.len() < self.blocks_max => {}
                result => return result,
            }
        }
        self.blocks.insert(at);
        block.fill(0);
        Ok(block.len())
    }
}
